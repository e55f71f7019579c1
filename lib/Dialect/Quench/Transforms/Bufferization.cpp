//===- Bufferization.cpp - From tensors to memrefs -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One-shot bufferization of the quench ops: an op in tensor form becomes the
// same op in buffer form, whose `outs` are new allocations. Operands are read;
// nothing is written in place.
//
//===----------------------------------------------------------------------===//

#include "quench/Dialect/Quench/Transforms/Bufferization.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Kernels/Contract.h"

using namespace mlir;
using namespace mlir::bufferization;
using namespace quench::qn;

namespace {

/// Sizes of the results of an op whose operands are memrefs already.
using Sizes = SmallVector<OpFoldResult>;

Sizes mixedSizes(OpBuilder &b, Location loc, Value memref) {
  return memref::getMixedSizes(b, loc, memref);
}

Sizes outSizes(OpBuilder &b, MapOp op, ValueRange in) {
  Sizes sizes = mixedSizes(b, op.getLoc(), in[0]);
  sizes[op.getAxis()] = b.getIndexAttr(op.getMapInterface().getOut());
  return sizes;
}
Sizes outSizes(OpBuilder &b, NormOp op, ValueRange in) {
  return mixedSizes(b, op.getLoc(), in[0]);
}
Sizes outSizes(OpBuilder &b, RotaryOp op, ValueRange in) {
  return mixedSizes(b, op.getLoc(), in[0]);
}
Sizes outSizes(OpBuilder &b, AttentionOp op, ValueRange in) {
  Sizes sizes = mixedSizes(b, op.getLoc(), in[0]);
  sizes[2] = b.getIndexAttr(
      cast<RankedTensorType>(op.getResult().getType()).getDimSize(2));
  return sizes;
}
Sizes outSizes(OpBuilder &b, ExtendOp op, ValueRange in) {
  Sizes sizes = mixedSizes(b, op.getLoc(), in[0]);
  OpFoldResult more = memref::getMixedSize(b, op.getLoc(), in[1], 1);
  AffineExpr s0, s1;
  bindSymbols(b.getContext(), s0, s1);
  sizes[2] = affine::makeComposedFoldedAffineApply(b, op.getLoc(), s0 + s1,
                                                   {sizes[2], more});
  return sizes;
}
Sizes outSizes(OpBuilder &b, LastRowsOp op, ValueRange in) {
  Sizes sizes = mixedSizes(b, op.getLoc(), in[0]);
  sizes[1] = getAsOpFoldResult(op.getCount());
  return sizes;
}
Sizes outSizes(OpBuilder &b, ContractOp op, ValueRange in) {
  return {getAsOpFoldResult(op.getRows()), b.getIndexAttr(op.getN())};
}
Sizes outSizes(OpBuilder &b, LookupRowsOp op, ValueRange in) {
  return {memref::getMixedSize(b, op.getLoc(), in[0], 0),
          b.getIndexAttr(op.getK())};
}

/// A memref of the identity layout with a tensor's static sizes where they are
/// known.
Value allocate(OpBuilder &b, Location loc, RankedTensorType type, Sizes sizes) {
  SmallVector<int64_t> shape(type.getShape());
  SmallVector<Value> dynamic;
  for (auto [i, size] : llvm::enumerate(sizes)) {
    if (std::optional<int64_t> c = getConstantIntValue(size))
      shape[i] = *c;
    else if (ShapedType::isDynamic(shape[i]))
      dynamic.push_back(getValueOrCreateConstantIndexOp(b, loc, size));
  }
  return memref::AllocOp::create(
      b, loc, MemRefType::get(shape, type.getElementType()), dynamic);
}

/// Makes a memref contiguous: kernels take no strides.
Value contiguous(OpBuilder &b, Location loc, Value memref) {
  auto type = cast<MemRefType>(memref.getType());
  if (type.getLayout().isIdentity())
    return memref;
  SmallVector<Value> dynamic;
  for (int64_t i = 0; i != type.getRank(); ++i)
    if (type.isDynamicDim(i))
      dynamic.push_back(memref::DimOp::create(b, loc, memref, i));
  Value copy = memref::AllocOp::create(
      b, loc, MemRefType::get(type.getShape(), type.getElementType()), dynamic);
  memref::CopyOp::create(b, loc, memref, copy);
  return copy;
}

/// The tensor operands as memrefs; others as they are.
FailureOr<SmallVector<Value>>
bufferOperands(Operation *op, RewriterBase &rewriter,
               const BufferizationOptions &options, BufferizationState &state) {
  SmallVector<Value> operands;
  for (Value operand : op->getOperands()) {
    if (!isa<TensorType>(operand.getType())) {
      operands.push_back(operand);
      continue;
    }
    FailureOr<Value> buffer = getBuffer(rewriter, operand, options, state);
    if (failed(buffer))
      return failure();
    operands.push_back(contiguous(rewriter, op->getLoc(), *buffer));
  }
  return operands;
}

template <typename Model, typename OpTy>
struct ReadOnly : BufferizableOpInterface::ExternalModel<Model, OpTy> {
  bool bufferizesToMemoryRead(Operation *, OpOperand &,
                              const AnalysisState &) const {
    return true;
  }
  bool bufferizesToMemoryWrite(Operation *, OpOperand &,
                               const AnalysisState &) const {
    return false;
  }
  AliasingValueList getAliasingValues(Operation *, OpOperand &,
                                      const AnalysisState &) const {
    return {};
  }
  bool bufferizesToAllocation(Operation *, Value) const { return true; }
};

/// Rebuilds an op with one result as its buffer form.
template <typename OpTy> struct LayerModel : ReadOnly<LayerModel<OpTy>, OpTy> {
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    rewriter.setInsertionPoint(op);
    auto layer = cast<OpTy>(op);
    FailureOr<SmallVector<Value>> operands =
        bufferOperands(op, rewriter, options, state);
    if (failed(operands))
      return failure();
    auto type = cast<RankedTensorType>(layer.getResult().getType());
    Value out = allocate(rewriter, op->getLoc(), type,
                         outSizes(rewriter, layer, *operands));
    // `outs` has its place among the operands: clone with the memrefs, then
    // assign it.
    OperationState made(op->getLoc(), op->getName());
    made.addOperands(*operands);
    made.addAttributes(op->getAttrs());
    made.propertiesAttr = op->getPropertiesAsAttribute();
    auto buffer = cast<OpTy>(rewriter.create(made));
    buffer.getOutMutable().assign(out);
    replaceOpWithBufferizedValues(rewriter, op, out);
    return success();
  }
};

struct StageModel : ReadOnly<StageModel, StageOp> {
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    rewriter.setInsertionPoint(op);
    auto stage = cast<StageOp>(op);
    Location loc = op->getLoc();
    FailureOr<SmallVector<Value>> operands =
        bufferOperands(op, rewriter, options, state);
    if (failed(operands))
      return failure();
    auto in = cast<MemRefType>((*operands)[0].getType());
    quench::StageSpec spec;
    spec.format = &stage.getFormat().getFormat();
    spec.k = in.getDimSize(1);
    spec.integer = stage.getInteger();
    spec.tiled = stage.getTiled();
    int64_t tile = spec.tileRows();
    OpFoldResult rows = memref::getMixedSize(rewriter, loc, (*operands)[0], 0);
    AffineExpr tiles = rewriter.getAffineSymbolExpr(0).ceilDiv(tile);
    SmallVector<Value> outs;
    const int64_t elementsOfTile[] = {
        spec.xElements(tile), spec.scaleElements(tile), spec.sumElements(tile)};
    for (auto [result, elements] :
         llvm::zip(op->getResults(), elementsOfTile)) {
      OpFoldResult size = affine::makeComposedFoldedAffineApply(
          rewriter, loc, tiles * elements, {rows});
      outs.push_back(allocate(
          rewriter, loc, cast<RankedTensorType>(result.getType()), {size}));
    }
    StageOp::create(rewriter, loc, Type(), Type(), Type(), (*operands)[0], outs,
                    stage.getFormat(), stage.getInteger(), stage.getTiled());
    replaceOpWithBufferizedValues(rewriter, op, outs);
    return success();
  }
};

/// An op without results that reads tensors (append).
struct AppendModel : ReadOnly<AppendModel, AppendOp> {
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    rewriter.setInsertionPoint(op);
    FailureOr<SmallVector<Value>> operands =
        bufferOperands(op, rewriter, options, state);
    if (failed(operands))
      return failure();
    rewriter.modifyOpInPlace(op, [&] { op->setOperands(*operands); });
    return success();
  }
};

/// Weights lie in memory that is only read.
struct PackedModel
    : BufferizableOpInterface::ExternalModel<PackedModel, PackedOp> {
  bool isWritable(Operation *, Value, const AnalysisState &) const {
    return false;
  }
  AliasingValueList getAliasingValues(Operation *, OpOperand &,
                                      const AnalysisState &) const {
    return {};
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    rewriter.setInsertionPoint(op);
    auto packed = cast<PackedOp>(op);
    auto type = cast<RankedTensorType>(packed.getResult().getType());
    Value memref = PackedOp::create(
        rewriter, op->getLoc(),
        MemRefType::get(type.getShape(), type.getElementType()),
        packed.getSection());
    replaceOpWithBufferizedValues(rewriter, op, memref);
    return success();
  }
};

} // namespace

void quench::registerQuenchBufferizationModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, QuenchDialect *) {
    MapOp::attachInterface<LayerModel<MapOp>>(*context);
    NormOp::attachInterface<LayerModel<NormOp>>(*context);
    RotaryOp::attachInterface<LayerModel<RotaryOp>>(*context);
    AttentionOp::attachInterface<LayerModel<AttentionOp>>(*context);
    ExtendOp::attachInterface<LayerModel<ExtendOp>>(*context);
    LastRowsOp::attachInterface<LayerModel<LastRowsOp>>(*context);
    ContractOp::attachInterface<LayerModel<ContractOp>>(*context);
    LookupRowsOp::attachInterface<LayerModel<LookupRowsOp>>(*context);
    StageOp::attachInterface<StageModel>(*context);
    AppendOp::attachInterface<AppendModel>(*context);
    PackedOp::attachInterface<PackedModel>(*context);
  });
}
