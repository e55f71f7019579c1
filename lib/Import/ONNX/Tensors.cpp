//===- Tensors.cpp - The contents of ONNX tensors -------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Tensors.h"
#include "google/protobuf/unknown_field_set.h"
#include "llvm/Support/MathExtras.h"
#include <cstring>
#include <limits>
#include <system_error>

using namespace quench;
using llvm::ArrayRef;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
using ::onnx::TensorProto;

Error quench::modelError(const Twine &message) {
  return llvm::createStringError(
      std::make_error_code(std::errc::invalid_argument), message);
}

unsigned quench::elementBits(int32_t elementType) {
  switch (elementType) {
  case TensorProto::DOUBLE:
  case TensorProto::INT64:
  case TensorProto::UINT64:
    return 64;
  case TensorProto::FLOAT:
  case TensorProto::INT32:
  case TensorProto::UINT32:
    return 32;
  case TensorProto::FLOAT16:
  case TensorProto::BFLOAT16:
  case TensorProto::INT16:
  case TensorProto::UINT16:
    return 16;
  case TensorProto::INT8:
  case TensorProto::UINT8:
  case TensorProto::BOOL:
  case TensorProto::FLOAT8E4M3FN:
  case TensorProto::FLOAT8E4M3FNUZ:
  case TensorProto::FLOAT8E5M2:
  case TensorProto::FLOAT8E5M2FNUZ:
  case TensorProto::FLOAT8E8M0:
    return 8;
  case TensorProto::INT4:
  case TensorProto::UINT4:
  case TensorProto::FLOAT4E2M1:
    return 4;
  default:
    return 0;
  }
}

std::string quench::elementTypeName(int32_t elementType) {
  if (::onnx::TensorProto_DataType_IsValid(elementType))
    return StringRef(
               ::onnx::TensorProto_DataType_Name(
                   static_cast<::onnx::TensorProto_DataType>(elementType)))
        .lower();
  return "number " + std::to_string(elementType);
}

/// The number of the blob that holds a tensor's contents, or -1.
static int64_t blobOf(const TensorProto &tensor) {
  const auto &fields = tensor.unknown_fields();
  for (int i = 0; i < fields.field_count(); ++i)
    if (fields.field(i).number() == static_cast<int>(kBlobField) &&
        fields.field(i).type() == google::protobuf::UnknownField::TYPE_VARINT)
      return static_cast<int64_t>(fields.field(i).varint());
  return -1;
}

bool quench::isBlob(const TensorProto &tensor) { return blobOf(tensor) >= 0; }

namespace {
/// Describes one tensor; messages begin with its name.
class Describer {
public:
  Describer(const TensorProto &tensor, ArrayRef<Blob> blobs)
      : tensor(tensor), blobs(blobs) {}
  Expected<TensorData> run();

private:
  Error fail(const Twine &what) {
    return modelError("tensor '" + tensor.name() + "' " + what);
  }
  Error shape();
  Error external();
  Error typedFields();
  /// Appends each number of a field as a T.
  template <typename T, typename Field> void append(const Field &field) {
    data.contents.reserve(field.size() * sizeof(T));
    for (auto value : field) {
      char bytes[sizeof(T)];
      T narrow = static_cast<T>(value);
      std::memcpy(bytes, &narrow, sizeof(T));
      data.contents.append(bytes, sizeof(T));
    }
  }

  const TensorProto &tensor;
  ArrayRef<Blob> blobs;
  TensorData data;
};
} // namespace

Error Describer::shape() {
  data.elementType = tensor.data_type();
  unsigned bits = elementBits(data.elementType);
  if (bits == 0)
    return fail("has the element type " + elementTypeName(data.elementType) +
                ", which is not supported");
  if (tensor.dims_size() > 32)
    return fail("has " + Twine(tensor.dims_size()) +
                " dimensions; at most 32 are supported");
  if (tensor.has_segment())
    return fail("is stored in segments, which is not supported");
  // Zero-sized tensors must not hide an overflow of the other dimensions: later
  // code multiplies any of them.
  uint64_t product = 1;
  bool empty = false;
  for (int64_t dim : tensor.dims()) {
    if (dim < 0)
      return fail("has the negative dimension " + Twine(dim));
    data.dims.push_back(dim);
    if (dim == 0) {
      empty = true;
      continue;
    }
    bool overflow = false;
    product = llvm::SaturatingMultiply<uint64_t>(product, dim, &overflow);
    if (overflow || product > std::numeric_limits<int64_t>::max() / 64)
      return fail("has dimensions whose product is too large");
  }
  data.elements = empty ? 0 : product;
  data.bytes = (data.elements * bits + 7) / 8;
  return Error::success();
}

Error Describer::external() {
  data.kind = TensorData::InFile;
  bool hasLocation = false;
  for (const auto &entry : tensor.external_data()) {
    if (entry.key() == "location") {
      if (hasLocation)
        return fail("names two files of external data");
      hasLocation = true;
      data.file = entry.value();
    } else if (entry.key() == "offset" || entry.key() == "length") {
      uint64_t number = 0;
      if (StringRef(entry.value()).getAsInteger(10, number))
        return fail("has the external data " + entry.key() + " '" +
                    entry.value() + "'; a number of bytes is needed");
      if (entry.key() == "offset")
        data.offset = number;
      else if (number != data.bytes)
        return fail("needs " + Twine(data.bytes) +
                    " bytes, its external data "
                    "has the length " +
                    Twine(number));
    }
  }
  if (!hasLocation)
    return fail("has external data without a location");
  if (data.offset > uint64_t(std::numeric_limits<int64_t>::max()) - data.bytes)
    return fail("has the external data offset " + Twine(data.offset) +
                ", which is too large");
  return Error::success();
}

Error Describer::typedFields() {
  switch (data.elementType) {
  case TensorProto::FLOAT:
    append<float>(tensor.float_data());
    break;
  case TensorProto::DOUBLE:
    append<double>(tensor.double_data());
    break;
  case TensorProto::INT64:
    append<int64_t>(tensor.int64_data());
    break;
  case TensorProto::UINT64:
    append<uint64_t>(tensor.uint64_data());
    break;
  case TensorProto::UINT32:
    append<uint32_t>(tensor.uint64_data());
    break;
  case TensorProto::INT32:
    append<int32_t>(tensor.int32_data());
    break;
  default:
    // Everything of 16 bits or less is in int32_data, one entry an element or,
    // for types of 4 bits, a byte.
    if (elementBits(data.elementType) == 16)
      append<uint16_t>(tensor.int32_data());
    else
      append<uint8_t>(tensor.int32_data());
  }
  if (data.contents.size() != data.bytes)
    return fail("needs " + Twine(data.bytes) + " bytes of " +
                elementTypeName(data.elementType) + ", it holds " +
                Twine(data.contents.size()));
  return Error::success();
}

Expected<TensorData> Describer::run() {
  if (Error error = shape())
    return std::move(error);
  int64_t blob = blobOf(tensor);
  bool isExternal = tensor.data_location() == TensorProto::EXTERNAL;
  if (blob >= 0) {
    if (blob >= static_cast<int64_t>(blobs.size()))
      return fail("refers to contents that are not there");
    if (tensor.external_data_size() != 0)
      return fail("has contents of its own and external data");
    data.kind = TensorData::InModel;
    data.offset = blobs[blob].offset;
    unsigned field = blobs[blob].field;
    if ((field == TensorProto::kFloatDataFieldNumber &&
         data.elementType != TensorProto::FLOAT) ||
        (field == TensorProto::kDoubleDataFieldNumber &&
         data.elementType != TensorProto::DOUBLE))
      return fail("of " + elementTypeName(data.elementType) +
                  " holds numbers of another type");
    if (blobs[blob].bytes != data.bytes)
      return fail("needs " + Twine(data.bytes) + " bytes of " +
                  elementTypeName(data.elementType) + ", it holds " +
                  Twine(blobs[blob].bytes));
  } else if (isExternal) {
    if (tensor.has_raw_data())
      return fail("has contents of its own and external data");
    if (Error error = external())
      return std::move(error);
  } else if (tensor.has_raw_data()) {
    data.contents = tensor.raw_data();
    if (data.contents.size() != data.bytes)
      return fail("needs " + Twine(data.bytes) + " bytes of " +
                  elementTypeName(data.elementType) + ", it holds " +
                  Twine(data.contents.size()));
  } else if (Error error = typedFields()) {
    return std::move(error);
  }
  return std::move(data);
}

Expected<TensorData> quench::describeTensor(const TensorProto &tensor,
                                            ArrayRef<Blob> blobs) {
  return Describer(tensor, blobs).run();
}
