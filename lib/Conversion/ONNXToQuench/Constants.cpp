//===- Constants.cpp - Numbers known at compile time ------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Constants.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/Support/Endian.h"

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

Constants::Constants(ModuleOp module) : module(module), symbols(module) {
  std::string path;
  if (auto attr = module->getAttrOfType<StringAttr>(kModelPathAttr))
    path = attr.getValue().str();
  files = std::make_unique<ModelFiles>(path);
}

ElementsAttr quench::onnx_to_quench::getConstantValue(Operation *op) {
  if (auto value = op->getAttrOfType<ElementsAttr>("value"))
    return value;
  Builder b(op->getContext());
  if (auto number = op->getAttrOfType<FloatAttr>("value_float"))
    return DenseElementsAttr::get(RankedTensorType::get({}, b.getF32Type()),
                                  number.getValue());
  if (auto number = op->getAttrOfType<IntegerAttr>("value_int"))
    return DenseElementsAttr::get(RankedTensorType::get({}, b.getI64Type()),
                                  number.getValue());
  if (auto numbers = op->getAttrOfType<DenseF32ArrayAttr>("value_floats"))
    return DenseElementsAttr::get(
        RankedTensorType::get({numbers.size()}, b.getF32Type()),
        numbers.asArrayRef());
  if (auto numbers = op->getAttrOfType<DenseI64ArrayAttr>("value_ints"))
    return DenseElementsAttr::get(
        RankedTensorType::get({numbers.size()}, b.getI64Type()),
        numbers.asArrayRef());
  return {};
}

qn::InitializerOp Constants::initializer(Value value) {
  auto weight = value.getDefiningOp<qn::WeightOp>();
  if (!weight)
    return {};
  return symbols.lookup<qn::InitializerOp>(weight.getInitializer());
}

ElementsAttr Constants::elements(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return {};
  if (auto constant = dyn_cast<arith::ConstantOp>(op))
    return dyn_cast<ElementsAttr>(constant.getValue());
  if (op->getName().getStringRef() == "onnx.Constant")
    return getConstantValue(op);
  if (auto init = initializer(value))
    return dyn_cast<ElementsAttr>(init.getSource());
  return {};
}

bool Constants::isConstant(Value value) {
  return initializer(value) || elements(value);
}

/// Decodes little-endian elements. False for types that are not plain numbers.
static bool decode(ArrayRef<char> bytes, Type type, std::vector<double> &out) {
  unsigned width = type.getIntOrFloatBitWidth();
  unsigned size = std::max(width, 8u) / 8;
  for (size_t i = 0; i + size <= bytes.size(); i += size) {
    uint64_t bits = 0;
    for (unsigned b = 0; b < size; ++b)
      bits |= uint64_t(uint8_t(bytes[i + b])) << (8 * b);
    if (auto floats = dyn_cast<FloatType>(type)) {
      llvm::APFloat number(floats.getFloatSemantics(),
                           llvm::APInt(width, bits));
      bool lost;
      number.convert(llvm::APFloat::IEEEdouble(),
                     llvm::APFloat::rmNearestTiesToEven, &lost);
      out.push_back(number.convertToDouble());
    } else if (width == 1 || type.isUnsignedInteger()) {
      out.push_back(double(bits));
    } else {
      out.push_back(double(llvm::SignExtend64(bits, 8 * size)));
    }
  }
  return true;
}

std::optional<std::vector<double>> Constants::numbers(Value value,
                                                      int64_t limit) {
  std::vector<double> out;
  RankedTensorType stored;
  if (ElementsAttr attr = elements(value)) {
    stored = dyn_cast<RankedTensorType>(attr.getShapedType());
    if (!stored || attr.getNumElements() > limit)
      return std::nullopt;
    if (isa<FloatType>(stored.getElementType())) {
      auto range = attr.tryGetValues<APFloat>();
      if (!range)
        return std::nullopt;
      for (APFloat number : *range) {
        bool lost;
        number.convert(llvm::APFloat::IEEEdouble(),
                       llvm::APFloat::rmNearestTiesToEven, &lost);
        out.push_back(number.convertToDouble());
      }
    } else {
      auto range = attr.tryGetValues<APInt>();
      if (!range)
        return std::nullopt;
      bool isUnsigned = stored.getElementType().isUnsignedInteger() ||
                        stored.getElementType().isInteger(1);
      for (APInt number : *range)
        out.push_back(isUnsigned ? double(number.getZExtValue())
                                 : double(number.getSExtValue()));
    }
  } else if (auto init = initializer(value)) {
    stored = init.getTensorType();
    auto file = dyn_cast<qn::FileAttr>(init.getSource());
    if (!file || !stored || stored.getNumElements() > limit ||
        !stored.getElementType().isIntOrFloat() ||
        stored.getElementTypeBitWidth() > 64)
      return std::nullopt;
    auto bytes = files->get(file.getPath(), file.getOffset(), file.getBytes());
    if (!bytes) {
      llvm::consumeError(bytes.takeError());
      return std::nullopt;
    }
    decode(*bytes, stored.getElementType(), out);
    if (int64_t(out.size()) != stored.getNumElements())
      return std::nullopt;
  } else {
    return std::nullopt;
  }
  auto weight = value.getDefiningOp<qn::WeightOp>();
  if (weight && weight.getTranspose() && stored.getRank() >= 2) {
    int64_t rows = stored.getDimSize(stored.getRank() - 2);
    int64_t columns = stored.getDimSize(stored.getRank() - 1);
    std::vector<double> turned(out.size());
    int64_t matrix = rows * columns;
    for (int64_t i = 0; i < int64_t(out.size()); ++i) {
      int64_t row = i % matrix / columns, column = i % columns;
      turned[i / matrix * matrix + column * rows + row] = out[i];
    }
    out = std::move(turned);
  }
  return out;
}

std::optional<std::vector<int64_t>> Constants::integers(Value value,
                                                        int64_t limit) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (!type || !type.getElementType().isInteger())
    return std::nullopt;
  if (ElementsAttr attr = elements(value)) { // exact beyond 2^53
    if (attr.getNumElements() > limit)
      return std::nullopt;
    auto range = attr.tryGetValues<APInt>();
    if (!range)
      return std::nullopt;
    std::vector<int64_t> out;
    for (APInt number : *range)
      out.push_back(type.getElementType().isInteger(1) ||
                            type.getElementType().isUnsignedInteger()
                        ? int64_t(number.getZExtValue())
                        : number.getSExtValue());
    return out;
  }
  auto real = numbers(value, limit);
  if (!real)
    return std::nullopt;
  std::vector<int64_t> out;
  for (double number : *real) {
    if (!(number >= -9.0e18 && number <= 9.0e18))
      return std::nullopt;
    out.push_back(int64_t(number));
  }
  return out;
}

std::optional<double> Constants::scalar(Value value) {
  auto all = numbers(value, 64);
  if (!all || all->empty() ||
      !llvm::all_of(*all, [&](double x) { return x == all->front(); }))
    return std::nullopt;
  return all->front();
}
