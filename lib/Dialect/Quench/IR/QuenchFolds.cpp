//===- QuenchFolds.cpp - Canonical forms of the quench ops -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Two rules carry all folding of maps:
//   linear(map M x, w)   = linear(x, map M^T w axis(1))
//   map M linear(x, w)   = linear(x, map M w axis(0))
// The first is local and canonical; the second is applied by the pass that
// inserts pairs of maps on a stream, since at an addition a local rule would
// turn one side only.
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/PatternMatch.h"
#include "quench/Dialect/Quench/IR/Quench.h"

using namespace mlir;
using namespace quench::qn;

namespace {

/// map B (map A x) = map (A B) x; x if they cancel.
struct ComposeMaps : OpRewritePattern<MapOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(MapOp op,
                                PatternRewriter &rewriter) const override {
    auto inner = op.getInput().getDefiningOp<MapOp>();
    if (!inner || !op.getResult() || !inner.getResult())
      return rewriter.notifyMatchFailure(op,
                                         "input is not a map in tensor form");
    if (inner.getAxis() != op.getAxis())
      return rewriter.notifyMatchFailure(op, "maps of different axes");
    MapInterface both =
        ProductMapAttr::compose(inner.getMapInterface(), op.getMapInterface());
    if (!both) {
      if (inner.getInput().getType() != op.getResult().getType())
        return rewriter.notifyMatchFailure(op, "types differ");
      rewriter.replaceOp(op, inner.getInput());
      return success();
    }
    rewriter.replaceOpWithNewOp<MapOp>(op, op->getResultTypes(), both,
                                       inner.getInput(), op.getAxisAttr(),
                                       Value());
    return success();
  }
};

} // namespace

void MapOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                        MLIRContext *context) {
  patterns.add<ComposeMaps>(context);
}
