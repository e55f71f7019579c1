//===- Streams.h - Residual streams of a function ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A stream is a class of activations of one width that additions join: what
// turns the coordinates of one of them must turn those of all. Whoever writes
// into the class and whoever reads it decide together whether it can be turned
// (docs/Rationale/Maps.md).
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_ANALYSIS_STREAMS_H
#define QUENCH_ANALYSIS_STREAMS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include <string>
#include <vector>

namespace quench {

/// A norm that reads a stream, and who reads the norm.
struct StreamNorm {
  qn::NormOp norm;
  /// The layers whose input is the norm's result.
  llvm::SmallVector<qn::LinearOp, 3> linears;
  /// One of these layers shares its stored weight with an embedding that writes
  /// the stream. Such a norm reads the stream in its original coordinates.
  bool tied = false;
};

/// A class of activations joined by additions.
struct Stream {
  /// The size of the last dimension.
  int64_t width = 0;
  /// The members in program order.
  llvm::SmallVector<mlir::Value> values;
  /// Layers whose results are members.
  llvm::SmallVector<qn::LinearOp> writers;
  llvm::SmallVector<qn::EmbeddingOp> embeddings;
  /// Of these, the ones whose table is also a weight of a reading layer.
  llvm::SmallPtrSet<mlir::Operation *, 1> tiedEmbeddings;
  llvm::SmallVector<StreamNorm> norms;
  /// Layers that read a member without a norm before them.
  llvm::SmallVector<qn::LinearOp> readers;
  /// Null if an orthogonal map can be folded into all writers and readers;
  /// otherwise the first op that stands in the way, and why.
  mlir::Operation *blocker = nullptr;
  std::string reason;
};

/// The streams of a function: classes with at least one addition and one norm
/// that reads them. In program order.
std::vector<Stream> findStreams(mlir::func::FuncOp function);

/// The operands whose linear image along the last dimension an op's only result
/// is, the same for each position of that dimension (additions, scaling by one
/// number, casts, reshapes and slices that leave the last dimension whole).
/// Empty: another kind of op.
llvm::SmallVector<mlir::Value, 2> streamOperands(mlir::Operation *op);

/// Empty if maps can be put on this weight: it is made of initializers by
/// `quench.weight` and `quench.map` only. Otherwise why not.
std::string whyNotFoldable(mlir::Value weight);

/// The name of the ONNX node that an op was made from, in quotes with the op's
/// name behind it; without one, the op's name alone.
std::string describeNode(mlir::Operation *op);

} // namespace quench

#endif // QUENCH_ANALYSIS_STREAMS_H
