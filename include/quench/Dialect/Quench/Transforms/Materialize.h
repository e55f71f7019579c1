//===- Materialize.h - From lazy weights to packed bytes --------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QUENCH_TRANSFORMS_MATERIALIZE_H
#define QUENCH_DIALECT_QUENCH_TRANSFORMS_MATERIALIZE_H

#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "quench/Quantization/PackedWeight.h"

namespace quench {

/// Where packed weights go: the weight section of the output.
class SectionSink {
public:
  virtual ~SectionSink();
  /// Appends bytes at the next multiple of `align`; returns their offset in the
  /// section.
  virtual llvm::Expected<uint64_t> append(llvm::ArrayRef<uint8_t> bytes,
                                          uint64_t align) = 0;
};

/// What became of one weight; the report's rows.
struct WeightReport {
  std::string name; // of the ONNX node, else of the initializer
  std::string role;
  std::string format;
  int64_t rows = 0, cols = 0;
  int64_t bits = 0;         // codes, scales, zero points
  int64_t packedBytes = 0;  // with padding
  double relativeError = 0; // |w - w^|^2 / |w|^2
  /// As in PackedWeight.
  double errorBound = 0, lossLimit = 0, entropy = -1;
  std::string quantizer; // empty: none was asked
  /// tr(E H E^T) / tr(W H W^T) with the second moments H of the inputs; without
  /// them relativeError.
  double loss = 0;
  /// What was done instead where something did not work out.
  std::string note;
  int64_t block = -1; // number of the decoder block, -1: none
};

struct MaterializeOptions {
  int threads = 1;
  /// Rows of the tables of rotary embeddings.
  int64_t maxPositions = 2048;
  /// Weights that are quantized already; may be null.
  WeightSource *quantized = nullptr;
  /// Called before each weight with its name, number and the total.
  std::function<void(llvm::StringRef, int64_t, int64_t)> progress;
};

/// Evaluates every weight expression of the module once: read, map, quantize,
/// pack, append, release. Linear layers become stage and contract, embeddings
/// lookup_rows, other weights plain bytes; no quantized tensor is left.
mlir::LogicalResult materialize(mlir::ModuleOp module, ModelFiles &files,
                                SectionSink &sink,
                                const MaterializeOptions &options,
                                std::vector<WeightReport> &report);

} // namespace quench

#endif // QUENCH_DIALECT_QUENCH_TRANSFORMS_MATERIALIZE_H
