//===- QKOps.cpp - Verifiers and folders of the qk ops --------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/OpImplementation.h"
#include "quench/Dialect/QK/IR/QK.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace quench;
using namespace quench::qk;

#define GET_OP_CLASSES
#include "quench/Dialect/QK/IR/QKOps.cpp.inc"

static int64_t lanes(Value value) {
  return cast<VectorType>(value.getType()).getNumElements();
}

uint8_t qk::fieldOf(uint8_t byte, unsigned off, unsigned width, unsigned at) {
  return ((byte >> off) & ((1u << width) - 1)) << at;
}

uint8_t qk::affineOf(uint8_t byte, ArrayRef<int32_t> rows, uint8_t constant) {
  uint8_t result = 0;
  for (auto [n, row] : llvm::enumerate(rows))
    result |= (llvm::popcount(uint8_t(row & byte)) & 1) << n;
  return result ^ constant;
}

/// Applies a function to every byte of a constant; null if it is none.
static OpFoldResult foldBytes(Attribute operand, Type type,
                              llvm::function_ref<uint8_t(uint8_t)> function) {
  auto constant = dyn_cast_or_null<DenseIntElementsAttr>(operand);
  if (!constant)
    return {};
  SmallVector<APInt> values;
  for (APInt byte : constant.getValues<APInt>())
    values.push_back(APInt(8, function(byte.getZExtValue())));
  return DenseElementsAttr::get(cast<ShapedType>(type), values);
}

//===----------------------------------------------------------------------===//
// WindowOp
//===----------------------------------------------------------------------===//

LogicalResult WindowOp::verify() {
  int32_t unit = getUnit();
  if (unit != 16 && unit != 32 && unit != 64)
    return emitOpError("unit is ")
           << unit << ", only lanes of 16, 32 or 64 bits can be read";
  if (lanes(getLo()) % (unit / 8))
    return emitOpError("a vector of ")
           << lanes(getLo()) << " bytes does not consist of lanes of " << unit
           << " bits";
  if (getHi() && getHi().getType() != getLo().getType())
    return emitOpError("hi has type ")
           << getHi().getType() << ", lo has " << getLo().getType();
  if (int64_t(getPos().size()) != unit / 8)
    return emitOpError("has ") << getPos().size() << " positions, a lane of "
                               << unit << " bits has " << unit / 8 << " bytes";
  int32_t width = getWidth().value_or(1);
  if (width < 1 || width > 8)
    return emitOpError("width is ") << width << ", it must lie in 1..8";
  int32_t end = getHi() ? 2 * unit : unit;
  for (int32_t pos : getPos())
    if (pos < 0 || pos + width > end)
      return emitOpError("position ")
             << pos << " is outside of the " << end << " bits of a lane";
  return success();
}

//===----------------------------------------------------------------------===//
// FieldOp
//===----------------------------------------------------------------------===//

LogicalResult FieldOp::verify() {
  auto outside = [](int64_t begin, int64_t width) {
    return begin < 0 || width < 1 || begin + width > 8;
  };
  if (outside(getOff(), getWidth()))
    return emitOpError("bits [")
           << getOff() << ", " << int64_t(getOff()) + getWidth()
           << ") are not a field of a byte";
  if (outside(getAt(), getWidth()))
    return emitOpError("a field of ")
           << getWidth() << " bits does not fit at bit " << getAt();
  return success();
}

OpFoldResult FieldOp::fold(FoldAdaptor adaptor) {
  if (getOff() == 0 && getWidth() == 8 && getAt() == 0)
    return getValue();
  return foldBytes(adaptor.getValue(), getType(), [&](uint8_t byte) {
    return fieldOf(byte, getOff(), getWidth(), getAt());
  });
}

//===----------------------------------------------------------------------===//
// LookupOp
//===----------------------------------------------------------------------===//

LogicalResult LookupOp::verify() {
  auto type = cast<VectorType>(getResult().getType());
  int64_t size = getTable().getNumElements();
  Type element = getTable().getElementType();
  if (lanes(getIndex()) != type.getNumElements())
    return emitOpError("has ") << lanes(getIndex()) << " indices and "
                               << type.getNumElements() << " results";
  if (element != type.getElementType())
    return emitOpError("has a table of ")
           << element << " and a result of " << type.getElementType();
  if (element.isF32()) {
    if (size != 16)
      return emitOpError("has a table of ")
             << size << " floats, only 16 are supported";
    return success();
  }
  if (size != 16 && size != 32 && size != 64 && size != 128 && size != 256)
    return emitOpError("has a table of ")
           << size << " bytes, it must have 16, 32, 64, 128 or 256";
  if (cast<VectorType>(getIndex().getType()).getElementType() != element)
    return emitOpError("looks bytes up with an index of ")
           << getIndex().getType() << ", which must be bytes too";
  return success();
}

OpFoldResult LookupOp::fold(FoldAdaptor adaptor) {
  auto table = dyn_cast<DenseIntElementsAttr>(getTable());
  if (!table)
    return {};
  auto entries = table.getValues<APInt>();
  return foldBytes(adaptor.getIndex(), getType(), [&](uint8_t index) {
    return entries[index % table.getNumElements()].getZExtValue();
  });
}

//===----------------------------------------------------------------------===//
// LookupValuesOp
//===----------------------------------------------------------------------===//

LogicalResult LookupValuesOp::verify() {
  auto type = cast<VectorType>(getResult().getType());
  Type element = type.getElementType();
  size_t count = getTables().size();
  if (count != 1 && count != 2 && count != 4)
    return emitOpError("has ") << count << " tables, it must have 1, 2 or 4";
  for (Value table : getTables())
    if (table.getType() != type)
      return emitOpError("has a table of type ")
             << table.getType() << " and a result of " << type;
  if (lanes(getIndex()) != type.getNumElements())
    return emitOpError("has ") << lanes(getIndex()) << " indices and "
                               << type.getNumElements() << " results";
  int64_t size = count * type.getNumElements();
  if (!llvm::isPowerOf2_64(size) || size > (element.isF32() ? 16 : 256))
    return emitOpError("has a table of ")
           << size << " entries, it must be a power of two, at most "
           << (element.isF32() ? "16 floats" : "256 bytes");
  Type index = cast<VectorType>(getIndex().getType()).getElementType();
  if (index.isInteger(8) != element.isInteger(8))
    return emitOpError("looks ") << element << " up with an index of " << index
                                 << ", bytes need bytes and floats need words";
  return success();
}

//===----------------------------------------------------------------------===//
// AffineOp
//===----------------------------------------------------------------------===//

LogicalResult AffineOp::verify() {
  if (getRows().size() != 8)
    return emitOpError("has ") << getRows().size() << " rows, a byte needs 8";
  for (int32_t row : getRows())
    if (row < 0 || row > 255)
      return emitOpError("row ") << row << " is not a byte (0..255)";
  if (int32_t(getConstant()) < 0 || getConstant() > 255)
    return emitOpError("constant ")
           << int32_t(getConstant()) << " is not a byte (0..255)";
  return success();
}

OpFoldResult AffineOp::fold(FoldAdaptor adaptor) {
  return foldBytes(adaptor.getValue(), getType(), [&](uint8_t byte) {
    return affineOf(byte, getRows(), getConstant());
  });
}

//===----------------------------------------------------------------------===//
// Dot4Op, AddWideOp, QuantizeOp, ButterflyOp
//===----------------------------------------------------------------------===//

LogicalResult Dot4Op::verify() {
  if (lanes(getW()) != 4 * lanes(getAcc()))
    return emitOpError("needs four bytes of w for each sum: has ")
           << lanes(getW()) << " bytes and " << lanes(getAcc()) << " sums";
  if (int32_t(getHi()) < 0 || getHi() > 255)
    return emitOpError("hi ")
           << int32_t(getHi()) << " is not an unsigned byte (0..255)";
  return success();
}

LogicalResult AddWideOp::verify() {
  if (lanes(getV()) != 2 * lanes(getEven()))
    return emitOpError("needs two bytes for each pair of sums: has ")
           << lanes(getV()) << " bytes and " << lanes(getEven()) << " pairs";
  return success();
}

LogicalResult QuantizeOp::verify() {
  if (lanes(getValue()) != lanes(getResult()))
    return emitOpError("has ") << lanes(getValue()) << " floats and "
                               << lanes(getResult()) << " bytes";
  return success();
}

LogicalResult ButterflyOp::verify() {
  int32_t distance = getDistance();
  if (distance < 1 || !llvm::isPowerOf2_32(distance) ||
      lanes(getValue()) % (2 * int64_t(distance)))
    return emitOpError("distance ")
           << distance << " must be a power of two, twice of which divides the "
           << lanes(getValue()) << " lanes";
  return success();
}
