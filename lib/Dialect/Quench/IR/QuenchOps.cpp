//===- QuenchOps.cpp - Verifiers and effects of the quench ops -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/TypeUtilities.h"
#include "quench/Dialect/Quench/IR/Quench.h"

using namespace mlir;
using namespace quench::qn;

#define GET_OP_CLASSES
#include "quench/Dialect/Quench/IR/QuenchOps.cpp.inc"

//===----------------------------------------------------------------------===//
// Effects: the tensor form has none, the buffer form reads and writes memrefs
//===----------------------------------------------------------------------===//

using Effects =
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>;

/// Operands that are memrefs are read, those of `outs` written (and not read).
static void bufferEffects(Operation *op, OperandRange outs, Effects &effects) {
  auto *resource = SideEffects::DefaultResource::get();
  unsigned first =
      outs.empty() ? op->getNumOperands() : outs.getBeginOperandIndex();
  unsigned last = first + outs.size();
  for (OpOperand &operand : op->getOpOperands()) {
    if (!isa<BaseMemRefType>(operand.get().getType()))
      continue;
    unsigned i = operand.getOperandNumber();
    if (i >= first && i < last)
      effects.emplace_back(MemoryEffects::Write::get(), &operand, resource);
    else
      effects.emplace_back(MemoryEffects::Read::get(), &operand, resource);
  }
}

#define QUENCH_OUT_EFFECTS(OP)                                                 \
  void OP::getEffects(Effects &effects) {                                      \
    auto [start, size] = getODSOperandIndexAndLength(kOut##OP);                \
    bufferEffects(*this, getOperands().slice(start, size), effects);           \
  }
// The position of `outs` among each op's operands.
static constexpr unsigned kOutMapOp = 1, kOutNormOp = 3, kOutRotaryOp = 3,
                          kOutAttentionOp = 6, kOutExtendOp = 2,
                          kOutLastRowsOp = 2, kOutStageOp = 1,
                          kOutContractOp = 5, kOutLookupRowsOp = 2;
QUENCH_OUT_EFFECTS(MapOp)
QUENCH_OUT_EFFECTS(NormOp)
QUENCH_OUT_EFFECTS(RotaryOp)
QUENCH_OUT_EFFECTS(AttentionOp)
QUENCH_OUT_EFFECTS(ExtendOp)
QUENCH_OUT_EFFECTS(LastRowsOp)
QUENCH_OUT_EFFECTS(StageOp)
QUENCH_OUT_EFFECTS(ContractOp)
QUENCH_OUT_EFFECTS(LookupRowsOp)
#undef QUENCH_OUT_EFFECTS

void AppendOp::getEffects(Effects &effects) {
  bufferEffects(*this, getOperands().slice(1, 1), effects);
}

//===----------------------------------------------------------------------===//
// Verifiers
//===----------------------------------------------------------------------===//

/// The shape of a tensor, a memref or a quantized tensor.
static ArrayRef<int64_t> shapeOf(Type type) {
  if (auto q = dyn_cast<QTensorType>(type))
    return q.getShape();
  if (auto shaped = dyn_cast<ShapedType>(type); shaped && shaped.hasRank())
    return shaped.getShape();
  return {};
}

static bool compatible(int64_t a, int64_t b) {
  return a == b || ShapedType::isDynamic(a) || ShapedType::isDynamic(b);
}

/// An op has either a result or `outs`.
static LogicalResult verifyForm(Operation *op, bool hasOut) {
  if (hasOut == (op->getNumResults() != 0))
    return op->emitOpError("has either a result (tensor form) or outs (buffer "
                           "form), found ")
           << (hasOut ? "both" : "neither");
  return success();
}

RankedTensorType InitializerOp::getTensorType() {
  return dyn_cast<RankedTensorType>(getType());
}

LogicalResult InitializerOp::verify() {
  RankedTensorType type = getTensorType();
  if (!type || !type.hasStaticShape())
    return emitOpError("C1: the type is a tensor of static shape, found ")
           << getType();
  if (auto elements = dyn_cast<ElementsAttr>(getSource())) {
    if (elements.getShapedType() != type)
      return emitOpError("C1: the source has type ")
             << elements.getShapedType() << ", the initializer " << type;
    return success();
  }
  int64_t bytes;
  if (auto file = dyn_cast<FileAttr>(getSource()))
    bytes = file.getBytes();
  else if (auto section = dyn_cast<SectionAttr>(getSource()))
    bytes = section.getBytes();
  else
    return emitOpError(
               "C1: the source is a file, a section or elements, found ")
           << getSource();
  if (!type.getElementType().isIntOrFloat())
    return emitOpError("C1: elements are integers or floats, found ") << type;
  int64_t width = std::max<int64_t>(type.getElementTypeBitWidth(), 8) / 8;
  if (bytes != type.getNumElements() * width)
    return emitOpError("C1: the source has ")
           << bytes << " bytes, the type needs "
           << type.getNumElements() * width;
  return success();
}

LogicalResult WeightOp::verifySymbolUses(SymbolTableCollection &tables) {
  auto initializer = tables.lookupNearestSymbolFrom<InitializerOp>(
      getOperation(), getInitializerAttr());
  if (!initializer)
    return emitOpError("C1: ")
           << getInitializerAttr() << " is no quench.initializer";
  RankedTensorType stored = initializer.getTensorType();
  auto type = cast<RankedTensorType>(getType());
  if (!stored)
    return success(); // the initializer says what is wrong
  SmallVector<int64_t> shape(stored.getShape());
  if (getTranspose()) {
    if (shape.size() < 2)
      return emitOpError("C1: only tensors of rank 2 or more are transposed, "
                         "the initializer is ")
             << stored;
    std::swap(shape[shape.size() - 1], shape[shape.size() - 2]);
  }
  if (type.getShape() != ArrayRef(shape))
    return emitOpError("C1: has the type ")
           << type << ", the initializer is " << stored
           << (getTranspose() ? ", transposed" : "");
  Type from = stored.getElementType(), to = type.getElementType();
  if (from != to && !(to.isF32() && (from.isF16() || from.isBF16())))
    return emitOpError("C2: has elements of ")
           << to << ", the initializer of " << from
           << " (f16 and bf16 may be read as f32)";
  return success();
}

LogicalResult AssembleOp::verify() {
  auto type = cast<RankedTensorType>(getType());
  if (type.getRank() != 2 || !type.hasStaticShape() ||
      !isa<FloatType>(type.getElementType()))
    return emitOpError("C1: the result is [n, k] of floats, found ") << type;
  int64_t bits = getBits(), group = getGroup();
  if (bits != 2 && bits != 4 && bits != 8)
    return emitOpError("C2: codes have 2, 4 or 8 bits, found ") << bits;
  if (group < 0)
    return emitOpError("C2: the group is not negative, found ") << group;
  int64_t n = type.getDimSize(0), k = type.getDimSize(1);
  if (group == 0 || group > k)
    group = std::max<int64_t>(k, 1);
  int64_t groups = llvm::divideCeil(k, group);
  auto countOf = [](Type t) {
    auto tensor = cast<RankedTensorType>(t);
    return tensor.hasStaticShape() ? tensor.getNumElements() : -1;
  };
  // Bytes that hold `perRow` codes of each row.
  auto packed = [&](int64_t perRow) -> int64_t {
    return n * ((perRow * bits + 7) / 8);
  };
  Type codes = getCodes().getType(), scales = getScales().getType();
  int64_t found = countOf(codes);
  if (!getElementTypeOrSelf(codes).isInteger(8) ||
      (found != n * k && found != packed(groups * group)))
    return emitOpError("C3: codes are ")
           << n * k << " bytes, or " << packed(groups * group)
           << " if packed, found " << codes;
  found = countOf(scales);
  if (!isa<FloatType>(getElementTypeOrSelf(scales)) ||
      (found != 1 && found != n * groups))
    return emitOpError("C4: scales are ")
           << n * groups << " floats, or 1, found " << scales;
  if (auto levels = getLevels())
    if (levels->size() != 16 || bits != 4 || getZeros())
      return emitOpError("C6: levels are 16 for codes of 4 bits without zeros, "
                         "found ")
             << levels->size();
  if (!getZeros())
    return success();
  Type zeros = getZeros().getType(), element = getElementTypeOrSelf(zeros);
  found = countOf(zeros);
  bool isRight = found == 1 || found == n * groups;
  isRight |= element.isInteger(8) && found == packed(groups);
  if (!isRight || !(isa<FloatType>(element) || element.isInteger(8)))
    return emitOpError("C5: zeros are ")
           << n * groups << " bytes or floats, or 1, or " << packed(groups)
           << " bytes if packed, found " << zeros;
  return success();
}

MapInterface MapOp::getMapInterface() { return cast<MapInterface>(getMap()); }

LogicalResult MapOp::verify() {
  auto map = dyn_cast<MapInterface>(getMap());
  if (!map)
    return emitOpError("needs a map attribute, found ") << getMap();
  ArrayRef<int64_t> shape = shapeOf(getInput().getType());
  int64_t axis = getAxis();
  if (axis < 0 || axis >= static_cast<int64_t>(shape.size()))
    return emitOpError("C1: axis ")
           << axis << " of a tensor of rank " << shape.size();
  if (!compatible(shape[axis], map.getIn()))
    return emitOpError("C1: the map takes ") << map.getIn() << " numbers, axis "
                                             << axis << " has " << shape[axis];
  Type out = getOut() ? getOut().getType() : Type();
  if (failed(verifyForm(*this, getOut() != nullptr)))
    return failure();
  if (!out)
    out = getResult().getType();
  ArrayRef<int64_t> outShape = shapeOf(out);
  if (outShape.size() != shape.size() ||
      !compatible(outShape[axis], map.getOut()))
    return emitOpError("C1: the map gives ")
           << map.getOut() << " numbers, the result is " << out;
  return success();
}

LogicalResult QuantizeOp::verify() {
  if (getInput().getType().getShape() != getResult().getType().getShape())
    return emitOpError("changes the shape from ")
           << getInput().getType() << " to " << getResult().getType();
  return success();
}

LogicalResult LinearOp::verify() {
  ArrayRef<int64_t> x = shapeOf(getInput().getType());
  ArrayRef<int64_t> w = shapeOf(getWeight().getType());
  ArrayRef<int64_t> y = getResult().getType().getShape();
  if (w.size() != 2)
    return emitOpError("C1: the weight has rank 2, found ")
           << getWeight().getType();
  if (x.empty() || !compatible(x.back(), w[1]))
    return emitOpError("C2: x ends in ")
           << getInput().getType() << ", the weight is "
           << getWeight().getType();
  if (y.size() != x.size() || !compatible(y.back(), w[0]))
    return emitOpError("C2: the result is ")
           << getResult().getType() << ", the weight " << getWeight().getType();
  if (getBias()) {
    ArrayRef<int64_t> b = shapeOf(getBias().getType());
    if (b.size() != 1 || !compatible(b[0], w[0]))
      return emitOpError("C3: the bias has ")
             << w[0] << " numbers, found " << getBias().getType();
  }
  return success();
}

LogicalResult EmbeddingOp::verify() {
  auto ids = cast<RankedTensorType>(getIds().getType());
  auto type = cast<RankedTensorType>(getType());
  if (!ids.getElementType().isIntOrIndex())
    return emitOpError("C1: ids are integers, found ") << ids;
  ArrayRef<int64_t> table = shapeOf(getTable().getType());
  if (table.size() != 2)
    return emitOpError("C2: the table is [vocabulary, width], found ")
           << getTable().getType();
  bool fits = type.getRank() == ids.getRank() + 1 &&
              compatible(type.getShape().back(), table[1]);
  for (int64_t i = 0; fits && i != ids.getRank(); ++i)
    fits = compatible(type.getDimSize(i), ids.getDimSize(i));
  if (!fits)
    return emitOpError("C3: the result is ")
           << type << ", ids are " << ids << ", the table is "
           << getTable().getType();
  return success();
}

LogicalResult NormOp::verify() {
  if (getKind() != "rms" && getKind() != "layer")
    return emitOpError("kind is \"rms\" or \"layer\", found \"")
           << getKind() << "\"";
  return verifyForm(*this, getOut() != nullptr);
}

LogicalResult RotaryOp::verify() {
  ArrayRef<int64_t> x = shapeOf(getInput().getType());
  if (x.size() != 3)
    return emitOpError("x is [batch, sequence, heads * head_size], found ")
           << getInput().getType();
  if (getHeadSize() <= 0 ||
      (!ShapedType::isDynamic(x[2]) && x[2] % getHeadSize()))
    return emitOpError("the last dimension of ")
           << getInput().getType() << " is no multiple of the head size "
           << getHeadSize();
  if (2 * getFrequencies().size() > getHeadSize())
    return emitOpError("has ")
           << getFrequencies().size()
           << " frequencies, at most half the head size " << getHeadSize();
  if (getPairs() != "half" && getPairs() != "adjacent")
    return emitOpError("pairs are \"half\" or \"adjacent\", found \"")
           << getPairs() << "\"";
  return verifyForm(*this, getOut() != nullptr);
}

LogicalResult AttentionOp::verify() {
  if (getHeads() <= 0 || getKvHeads() <= 0 || getHeads() % getKvHeads())
    return emitOpError("heads (")
           << getHeads() << ") are a multiple of kv_heads (" << getKvHeads()
           << ")";
  ArrayRef<int64_t> q = shapeOf(getQuery().getType());
  if (q.size() != 3 || (!ShapedType::isDynamic(q[2]) && q[2] % getHeads()))
    return emitOpError("query is [batch, sequence, heads * D], found ")
           << getQuery().getType();
  for (Value v : {getKey(), getValue()}) {
    size_t rank = shapeOf(v.getType()).size();
    if (rank != 3 && rank != 4)
      return emitOpError("key and value are [batch, total, kv_heads * D] or "
                         "[batch, kv_heads, total, D], found ")
             << v.getType();
  }
  return verifyForm(*this, getOut() != nullptr);
}

LogicalResult ExtendOp::verify() {
  ArrayRef<int64_t> past = shapeOf(getPast().getType());
  ArrayRef<int64_t> rows = shapeOf(getRows().getType());
  if (past.size() != 4)
    return emitOpError("C1: past is [batch, kv_heads, P, D], found ")
           << getPast().getType();
  auto product = [](int64_t a, int64_t b) {
    return ShapedType::isDynamic(a) || ShapedType::isDynamic(b)
               ? ShapedType::kDynamic
               : a * b;
  };
  if (rows.size() != 3 || !compatible(rows[0], past[0]) ||
      !compatible(rows[2], product(past[1], past[3])))
    return emitOpError("C2: rows are [batch, S, kv_heads * D] of past ")
           << getPast().getType() << ", found " << getRows().getType();
  if (failed(verifyForm(*this, getOut() != nullptr)))
    return failure();
  Type type = getOut() ? Type(getOut().getType()) : getResult().getType();
  ArrayRef<int64_t> out = shapeOf(type);
  int64_t total =
      ShapedType::isDynamic(past[2]) || ShapedType::isDynamic(rows[1])
          ? ShapedType::kDynamic
          : past[2] + rows[1];
  if (out.size() != 4 || !compatible(out[0], past[0]) ||
      !compatible(out[1], past[1]) || !compatible(out[2], total) ||
      !compatible(out[3], past[3]))
    return emitOpError("C3: the result is [batch, kv_heads, P + S, D], found ")
           << type << " of " << getPast().getType() << " and "
           << getRows().getType();
  return success();
}

LogicalResult AppendOp::verify() {
  constexpr int64_t tile = 16, block = 64;
  ArrayRef<int64_t> rows = shapeOf(getRows().getType());
  ArrayRef<int64_t> cache = shapeOf(getCache().getType());
  if (rows.size() != 3 || !compatible(rows[0], 1))
    return emitOpError("C1: rows are [1, S, kv_heads * D], found ")
           << getRows().getType();
  if (getKeys() && (cache.size() != 4 || cache[3] != tile))
    return emitOpError("C2: a cache of keys is [kv_heads, capacity / 16, D, "
                       "16], found ")
           << getCache().getType();
  if (!getKeys() && cache.size() != 3)
    return emitOpError(
               "C2: a cache of values is [kv_heads, capacity, D], found ")
           << getCache().getType();
  int64_t heads = cache[0], depth = cache[2];
  if (!ShapedType::isDynamic(heads) && !ShapedType::isDynamic(depth) &&
      !compatible(rows[2], heads * depth))
    return emitOpError("C3: rows have kv_heads * D = ")
           << heads * depth << " numbers, found " << getRows().getType();
  int64_t unit = getKeys() ? block / tile : block;
  if (!ShapedType::isDynamic(cache[1]) && cache[1] % unit)
    return emitOpError("C4: the capacity is a multiple of 64, found ")
           << (getKeys() ? cache[1] * tile : cache[1]);
  return success();
}
