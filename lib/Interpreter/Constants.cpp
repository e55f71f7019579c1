//===- Constants.cpp - Attributes as host tensors ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Engine.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include <cstring>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

Expected<HostTensor> quench::toTypeOf(const HostTensor &tensor, Type type) {
  QUENCH_TRY(kind, elementKindOf(type));
  return tensor.convertTo(kind);
}

/// Borrows aligned bytes, copies others.
static Expected<HostTensor> fromBytes(ElementKind kind, ArrayRef<int64_t> shape,
                                      ArrayRef<char> bytes) {
  QUENCH_TRY(count, countElements(shape, elementBytes(kind)));
  if (static_cast<int64_t>(bytes.size()) != count * elementBytes(kind))
    return createStringError("a constant of " + Twine(bytes.size()) +
                             " bytes, its type needs " +
                             Twine(count * elementBytes(kind)));
  if (reinterpret_cast<uintptr_t>(bytes.data()) % elementBytes(kind) == 0)
    return HostTensor::view(kind, shape, bytes.data(), nullptr);
  QUENCH_TRY(result, HostTensor::allocate(kind, shape));
  std::memcpy(result.mutableRaw(), bytes.data(), bytes.size());
  return result;
}

Expected<HostTensor> quench::constantTensor(Attribute value, Type type) {
  QUENCH_TRY(kind, elementKindOf(type));
  if (auto number = dyn_cast<IntegerAttr>(value)) {
    const APInt &bits = number.getValue();
    bool isUnsigned = type.isUnsignedInteger();
    return HostTensor::scalar(kind, kind == ElementKind::I1
                                        ? int64_t(bits.getBoolValue())
                                    : isUnsigned ? int64_t(bits.getZExtValue())
                                                 : bits.getSExtValue());
  }
  if (auto number = dyn_cast<FloatAttr>(value))
    return HostTensor::scalar(kind, number.getValueAsDouble());
  auto shaped = dyn_cast<RankedTensorType>(type);
  if (!shaped || !shaped.hasStaticShape())
    return createStringError("a constant that is neither a number nor a tensor "
                             "of static shape");
  ArrayRef<int64_t> shape = shaped.getShape();
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(value)) {
    AsmResourceBlob *blob = resource.getRawHandle().getBlob();
    if (!blob)
      return createStringError("resource '" + resource.getRawHandle().getKey() +
                               "' has no data");
    return fromBytes(kind, shape, blob->getData());
  }
  auto dense = dyn_cast<DenseElementsAttr>(value);
  if (!dense)
    return createStringError("a constant of an unknown kind of attribute");
  if (!dense.isSplat() && kind != ElementKind::I1)
    return fromBytes(kind, shape, dense.getRawData());
  QUENCH_TRY(result, HostTensor::allocate(kind, shape));
  int64_t count = result.getNumElements();
  char *to = result.mutableData<char>();
  if (kind == ElementKind::I1) {
    for (bool bit : dense.getValues<bool>())
      *to++ = bit;
    return result;
  }
  int64_t bytes = elementBytes(kind);
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(to + i * bytes, dense.getRawData().data(), bytes);
  return result;
}

Expected<std::vector<double>> quench::toDoubles(const HostTensor &tensor) {
  QUENCH_TRY(twice, tensor.convertTo(ElementKind::F64));
  ArrayRef<double> values = twice.values<double>();
  return std::vector<double>(values.begin(), values.end());
}

Expected<HostTensor> quench::fromDoubles(ArrayRef<double> numbers,
                                         ElementKind kind,
                                         ArrayRef<int64_t> shape) {
  HostTensor view =
      HostTensor::view(ElementKind::F64, shape, numbers.data(), nullptr);
  if (kind == ElementKind::F64)
    if (Error error = view.detach())
      return std::move(error);
  return view.convertTo(kind);
}

Expected<std::vector<double>> quench::applyMap(const Map &map,
                                               std::vector<double> numbers,
                                               ArrayRef<int64_t> shape,
                                               int64_t axis) {
  if (axis < 0 || axis >= static_cast<int64_t>(shape.size()) ||
      shape[axis] != map.in())
    return createStringError("map " + map.spec() + " takes " + Twine(map.in()) +
                             " numbers");
  int64_t outer = 1, inner = 1, in = map.in(), out = map.out();
  for (int64_t d = 0; d < axis; ++d)
    outer *= shape[d];
  for (size_t d = axis + 1; d < shape.size(); ++d)
    inner *= shape[d];
  std::vector<double> result(outer * out * inner);
  if (inner == 1) {
    map.apply(numbers.data(), outer, result.data());
    return result;
  }
  // Vectors with a stride are brought together for the map.
  std::vector<double> rows(inner * in), mapped(inner * out);
  for (int64_t o = 0; o < outer; ++o) {
    const double *from = numbers.data() + o * in * inner;
    double *to = result.data() + o * out * inner;
    for (int64_t i = 0; i < in; ++i)
      for (int64_t j = 0; j < inner; ++j)
        rows[j * in + i] = from[i * inner + j];
    map.apply(rows.data(), inner, mapped.data());
    for (int64_t i = 0; i < out; ++i)
      for (int64_t j = 0; j < inner; ++j)
        to[i * inner + j] = mapped[j * out + i];
  }
  return result;
}
