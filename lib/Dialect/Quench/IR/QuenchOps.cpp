//===- QuenchOps.cpp - Verifiers and effects of the quench ops -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/OpImplementation.h"
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
