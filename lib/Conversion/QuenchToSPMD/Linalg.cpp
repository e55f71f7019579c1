//===- Linalg.cpp - Workers' shares of linalg ops -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Parallel loops outside, reductions inside with their value in registers.
// Workers split the outer parallel loops, or the innermost where the outer ones
// are too short. The innermost loop is left to the vectorizer.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Affine/Utils.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace quench;

namespace {

class LinalgLoops {
public:
  LinalgLoops(WorkerBuilder &w, linalg::LinalgOp op) : w(w), op(op) {
    // Dimensions of all operands, as the op's own map from shapes to loops
    // takes them.
    SmallVector<Value> dims;
    for (Value operand : op->getOperands())
      if (auto type = dyn_cast<MemRefType>(operand.getType()))
        for (int64_t i = 0; i != type.getRank(); ++i)
          dims.push_back(w.dim(operand, i));
    for (AffineExpr expr : op.getShapesToLoopsMap().getResults())
      sizes.push_back(affine::expandAffineExpr(w.b, w.loc, expr, dims, {}));
    op.getParallelDims(parallel);
    op.getReductionDims(reduction);
    ivs.resize(sizes.size());
  }

  void emit() {
    SmallVector<unsigned> outer(parallel.begin(), parallel.end());
    std::optional<unsigned> inner;
    if (!outer.empty())
      inner = outer.pop_back_val();
    // Static sizes tell whether the outer loops are worth splitting.
    bool splitOuter = llvm::any_of(outer, [&](unsigned d) {
      std::optional<int64_t> size = getConstantIntValue(sizes[d]);
      return !size || *size >= 8;
    });
    SmallVector<Value> outerSizes;
    for (unsigned d : outer)
      outerSizes.push_back(sizes[d]);
    Value total = w.product(outerSizes), zero = w.index(0);
    auto outerRange = splitOuter ? w.share(total) : std::make_pair(zero, total);
    loop(outerRange.first, outerRange.second, [&](Value linear) {
      Value rest = linear;
      for (unsigned d : llvm::reverse(outer)) {
        if (d == outer.front()) {
          ivs[d] = rest;
          continue;
        }
        ivs[d] = arith::RemUIOp::create(w.b, w.loc, rest, sizes[d]);
        rest = w.div(rest, sizes[d]);
      }
      if (!inner) {
        auto range = w.share(w.index(1));
        loop(range.first, range.second, [&](Value) { point(); });
        return;
      }
      auto range = splitOuter ? std::make_pair(zero, sizes[*inner])
                              : w.share(sizes[*inner]);
      loop(range.first, range.second, [&](Value iv) {
        ivs[*inner] = iv;
        point();
      });
    });
  }

private:
  void loop(Value lo, Value hi, llvm::function_ref<void(Value)> body) {
    auto forOp = scf::ForOp::create(w.b, w.loc, lo, hi, w.index(1));
    OpBuilder::InsertionGuard guard(w.b);
    w.b.setInsertionPointToStart(forOp.getBody());
    body(forOp.getInductionVar());
  }

  SmallVector<Value> indices(AffineMap map) {
    SmallVector<Value> result;
    for (AffineExpr expr : map.getResults())
      result.push_back(affine::expandAffineExpr(w.b, w.loc, expr, ivs, {}));
    return result;
  }
  Value read(OpOperand &operand) {
    Value v = operand.get();
    if (!isa<MemRefType>(v.getType()))
      return v;
    return w.load(v, indices(op.getMatchingIndexingMap(&operand)));
  }
  void write(Value value, OpOperand &out) {
    w.store(value, out.get(), indices(op.getMatchingIndexingMap(&out)));
  }

  bool isRead(OpOperand &out) {
    return !reduction.empty() || !op.getMatchingBlockArgument(&out).use_empty();
  }
  /// Outs of a reduction that are as long as its loops (fusion leaves such
  /// where others read what the reduction reads) are stored at every step.
  bool isInRegister(OpOperand &out) {
    AffineMap map = op.getMatchingIndexingMap(&out);
    return llvm::none_of(reduction,
                         [&](unsigned d) { return map.isFunctionOfDim(d); });
  }
  Value zeroOf(OpOperand &out) {
    Type type = getElementTypeOrSelf(out.get().getType());
    return arith::ConstantOp::create(w.b, w.loc, w.b.getZeroAttr(type));
  }

  /// The body of the op at the current indices; `accumulators` are the outs in
  /// registers, returned anew.
  SmallVector<Value> inlined(ValueRange accumulators) {
    IRMapping mapping;
    for (OpOperand *operand : op.getDpsInputOperands())
      mapping.map(op.getMatchingBlockArgument(operand), read(*operand));
    unsigned n = 0;
    for (OpOperand &out : op.getDpsInitsMutable()) {
      BlockArgument argument = op.getMatchingBlockArgument(&out);
      if (isInRegister(out))
        mapping.map(argument, accumulators[n++]);
      else if (!argument.use_empty())
        mapping.map(argument, read(out));
    }
    Block *body = op.getBlock();
    for (Operation &inner : body->without_terminator()) {
      if (auto index = dyn_cast<linalg::IndexOp>(inner)) {
        mapping.map(index.getResult(), ivs[index.getDim()]);
        continue;
      }
      w.b.clone(inner, mapping);
    }
    SmallVector<Value> next;
    for (auto [out, v] : llvm::zip(op.getDpsInitsMutable(),
                                   body->getTerminator()->getOperands())) {
      Value value = mapping.lookupOrDefault(v);
      if (isInRegister(out))
        next.push_back(value);
      else
        write(value, out);
    }
    return next;
  }

  SmallVector<Value> reduce(ArrayRef<unsigned> dims, ValueRange init) {
    if (dims.empty())
      return inlined(init);
    auto forOp = scf::ForOp::create(w.b, w.loc, w.index(0), sizes[dims.front()],
                                    w.index(1), init);
    OpBuilder::InsertionGuard guard(w.b);
    w.b.setInsertionPointToStart(forOp.getBody());
    ivs[dims.front()] = forOp.getInductionVar();
    SmallVector<Value> next =
        reduce(dims.drop_front(), forOp.getRegionIterArgs());
    // A loop that carries nothing is made with its terminator.
    if (!next.empty())
      scf::YieldOp::create(w.b, w.loc, next);
    return SmallVector<Value>(forOp.getResults());
  }

  /// All indices of parallel loops are set.
  void point() {
    SmallVector<Value> init;
    for (OpOperand &out : op.getDpsInitsMutable())
      if (isInRegister(out))
        init.push_back(isRead(out) ? read(out) : zeroOf(out));
    SmallVector<Value> results = reduce(reduction, init);
    unsigned n = 0;
    for (OpOperand &out : op.getDpsInitsMutable())
      if (isInRegister(out))
        write(results[n++], out);
  }

  WorkerBuilder &w;
  linalg::LinalgOp op;
  SmallVector<Value> sizes, ivs;
  SmallVector<unsigned> parallel, reduction;
};

} // namespace

LogicalResult quench::lowerLinalg(WorkerBuilder &w, linalg::LinalgOp op) {
  if (op.getNumParallelLoops() + op.getNumReductionLoops() != op.getNumLoops())
    return op.emitError("has loops that are neither parallel nor reductions");
  LinalgLoops(w, op).emit();
  return success();
}

void quench::lowerCopy(WorkerBuilder &w, Value source, Value target) {
  int64_t rank = cast<MemRefType>(source.getType()).getRank();
  MLIRContext *context = w.b.getContext();
  AffineMap map = AffineMap::getMultiDimIdentityMap(rank, context);
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  auto copy = linalg::GenericOp::create(
      w.b, w.loc, ValueRange{source}, ValueRange{target},
      ArrayRef<AffineMap>{map, map}, iterators,
      [](OpBuilder &b, Location l, ValueRange args) {
        linalg::YieldOp::create(b, l, args[0]);
      });
  w.b.setInsertionPoint(copy);
  LinalgLoops(w, cast<linalg::LinalgOp>(copy.getOperation())).emit();
  w.b.setInsertionPointAfter(copy);
  copy.erase();
}
