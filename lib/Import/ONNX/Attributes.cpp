//===- Attributes.cpp - Types and attributes of ONNX ----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GraphImporter.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/APInt.h"

using namespace quench;
using llvm::ArrayRef;
using llvm::Error;
using llvm::Expected;
using llvm::SmallVector;
using llvm::StringRef;
using ::onnx::AttributeProto;
using ::onnx::TensorProto;

mlir::Type GraphImporter::elementType(int32_t type) {
  mlir::MLIRContext *context = builder.getContext();
  auto unsignedType = [&](unsigned bits) {
    return mlir::IntegerType::get(context, bits, mlir::IntegerType::Unsigned);
  };
  switch (type) {
  case TensorProto::FLOAT:
    return builder.getF32Type();
  case TensorProto::DOUBLE:
    return builder.getF64Type();
  case TensorProto::FLOAT16:
    return builder.getF16Type();
  case TensorProto::BFLOAT16:
    return builder.getBF16Type();
  case TensorProto::FLOAT8E4M3FN:
    return mlir::Float8E4M3FNType::get(context);
  case TensorProto::FLOAT8E4M3FNUZ:
    return mlir::Float8E4M3FNUZType::get(context);
  case TensorProto::FLOAT8E5M2:
    return mlir::Float8E5M2Type::get(context);
  case TensorProto::FLOAT8E5M2FNUZ:
    return mlir::Float8E5M2FNUZType::get(context);
  case TensorProto::FLOAT8E8M0:
    return mlir::Float8E8M0FNUType::get(context);
  case TensorProto::FLOAT4E2M1:
    return mlir::Float4E2M1FNType::get(context);
  case TensorProto::BOOL:
    return builder.getI1Type();
  case TensorProto::INT4:
    return builder.getIntegerType(4);
  case TensorProto::INT8:
    return builder.getIntegerType(8);
  case TensorProto::INT16:
    return builder.getIntegerType(16);
  case TensorProto::INT32:
    return builder.getIntegerType(32);
  case TensorProto::INT64:
    return builder.getIntegerType(64);
  case TensorProto::UINT4:
    return unsignedType(4);
  case TensorProto::UINT8:
    return unsignedType(8);
  case TensorProto::UINT16:
    return unsignedType(16);
  case TensorProto::UINT32:
    return unsignedType(32);
  case TensorProto::UINT64:
    return unsignedType(64);
  default:
    return {}; // not reached: types are checked when the model is read
  }
}

mlir::Type GraphImporter::valueType(const ::onnx::TypeProto *type) {
  if (!type || !type->has_tensor_type())
    return {};
  mlir::Type element = elementType(type->tensor_type().elem_type());
  if (!element)
    return {};
  if (!type->tensor_type().has_shape())
    return mlir::UnrankedTensorType::get(element);
  SmallVector<int64_t> dims;
  for (const auto &dim : type->tensor_type().shape().dim())
    dims.push_back(dim.has_dim_value() ? dim.dim_value()
                                       : mlir::ShapedType::kDynamic);
  return mlir::RankedTensorType::get(dims, element);
}

bool GraphImporter::isSmall(const TensorData &data, mlir::Type element) const {
  if (static_cast<int64_t>(data.elements) <= options.smallElements)
    return true;
  return element.isIntOrIndex() &&
         static_cast<int64_t>(data.bytes) <= options.smallBytes;
}

Expected<ArrayRef<char>> GraphImporter::contents(const TensorData &data) {
  switch (data.kind) {
  case TensorData::InModel:
    return files.get(files.getModelName(), data.offset, data.bytes);
  case TensorData::InFile:
    return files.get(data.file, data.offset, data.bytes);
  case TensorData::Inline:
    break;
  }
  return ArrayRef<char>(data.contents.data(), data.contents.size());
}

Expected<mlir::DenseElementsAttr>
GraphImporter::elements(const TensorData &data, mlir::RankedTensorType type) {
  Expected<ArrayRef<char>> bytes = contents(data);
  if (!bytes)
    return bytes.takeError();
  unsigned bits = elementBits(data.elementType);
  if (type.getElementType().isInteger(1)) {
    SmallVector<bool> values;
    for (char byte : *bytes)
      values.push_back(byte != 0);
    return mlir::DenseElementsAttr::get(type, ArrayRef<bool>(values));
  }
  if (bits < 8) {
    // Two elements a byte, the first one in the low half.
    std::vector<llvm::APInt> values;
    for (uint64_t i = 0; i < data.elements; ++i) {
      uint8_t byte = static_cast<uint8_t>((*bytes)[i / 2]);
      values.emplace_back(bits, i % 2 ? byte >> 4 : byte & 15);
    }
    if (!mlir::isa<mlir::FloatType>(type.getElementType()))
      return mlir::DenseElementsAttr::get(type, ArrayRef<llvm::APInt>(values));
    std::vector<llvm::APFloat> floats;
    const auto &semantics =
        mlir::cast<mlir::FloatType>(type.getElementType()).getFloatSemantics();
    for (const llvm::APInt &value : values)
      floats.emplace_back(semantics, value);
    return mlir::DenseElementsAttr::get(type, ArrayRef<llvm::APFloat>(floats));
  }
  bool isSplat = false;
  if (!mlir::DenseElementsAttr::isValidRawBuffer(type, *bytes, isSplat))
    return modelError("a constant of " + elementTypeName(data.elementType) +
                      " has contents of a wrong length");
  return mlir::DenseElementsAttr::getFromRawBuffer(type, *bytes);
}

Expected<mlir::Attribute>
GraphImporter::attribute(const AttributeProto &proto) {
  switch (proto.type()) {
  case AttributeProto::FLOAT:
    return builder.getF32FloatAttr(proto.f());
  case AttributeProto::INT:
    return builder.getI64IntegerAttr(proto.i());
  case AttributeProto::STRING:
    return builder.getStringAttr(proto.s());
  case AttributeProto::FLOATS:
    return builder.getDenseF32ArrayAttr(
        SmallVector<float>(proto.floats().begin(), proto.floats().end()));
  case AttributeProto::INTS:
    return builder.getDenseI64ArrayAttr(
        SmallVector<int64_t>(proto.ints().begin(), proto.ints().end()));
  case AttributeProto::STRINGS: {
    SmallVector<mlir::Attribute> strings;
    for (const std::string &text : proto.strings())
      strings.push_back(builder.getStringAttr(text));
    return builder.getArrayAttr(strings);
  }
  case AttributeProto::TENSOR: {
    Expected<TensorData> data = describeTensor(proto.t(), model.blobs);
    if (!data)
      return data.takeError();
    if (data->bytes > (1 << 16))
      return modelError("attribute '" + proto.name() +
                        "' is a tensor of more than 64 KiB");
    auto type =
        mlir::RankedTensorType::get(data->dims, elementType(data->elementType));
    return elements(*data, type);
  }
  default:
    return modelError("attribute '" + proto.name() +
                      "' is of a kind that is not supported");
  }
}
