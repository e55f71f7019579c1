//===- InsertMaps.h - Maps between layers -----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Puts orthogonal maps between layers and folds them into weights. It is done
// before weights are quantized. Why and what: docs/Rationale/Maps.md.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QUENCH_TRANSFORMS_INSERTMAPS_H
#define QUENCH_DIALECT_QUENCH_TRANSFORMS_INSERTMAPS_H

#include "mlir/IR/BuiltinOps.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include <string>

namespace quench {

struct InsertMapsOptions {
  /// Signs and a Hadamard matrix on every residual stream.
  bool rotateStream = false;
  /// A Hadamard matrix on line before layers of role `down`, and of role `o`.
  bool rotateDown = false;
  bool rotateO = false;
  /// A Hadamard matrix on the values of each attention head.
  bool rotateValues = false;
  /// Of the signs; the n-th stream of the module has seed + n.
  uint64_t seed = 0;
};

/// One decision: a remark, and what a driver tells the user.
struct MapDecision {
  bool done = false;
  /// "stream", "down", "o" or "values".
  std::string what;
  /// Which map, or why none. Names the ONNX node.
  std::string text;
};

/// Inserts and folds the maps in all functions of the module. A stream or layer
/// on which a map cannot be put is left alone, which is no failure: see
/// `decisions`. Failure: a map is left on an activation where none was asked
/// for (an error at that op).
mlir::LogicalResult
insertMaps(mlir::ModuleOp module, const InsertMapsOptions &options,
           llvm::SmallVectorImpl<MapDecision> *decisions = nullptr);

/// The normalized Hadamard matrix of order n, or the block-diagonal one of the
/// largest power of two that divides n if there is no construction. Null: n is
/// odd and has none.
qn::MapInterface hadamardFor(mlir::MLIRContext *context, int64_t n);

} // namespace quench

#endif // QUENCH_DIALECT_QUENCH_TRANSFORMS_INSERTMAPS_H
