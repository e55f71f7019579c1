//===- OutputMoments.h - Second moments of outputs' gradients ---*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_CALIBRATION_OUTPUTMOMENTS_H
#define QUENCH_LIB_CALIBRATION_OUTPUTMOMENTS_H

#include "mlir/IR/Value.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/Support/FileOutputBuffer.h"
#include "llvm/Support/MemoryBuffer.h"

namespace quench {

/// A matrix [n][n] of floats for each of some weights (n outputs), in a mapped
/// file: they may be more than the memory holds. Host byte order: no file for
/// other machines.
class OutputMoments {
public:
  /// Layers with more outputs are left out: a head's matrix would be greater
  /// than all others.
  static constexpr int64_t kMostOutputs = 16384;

  /// For these quantized weights.
  explicit OutputMoments(llvm::ArrayRef<mlir::Value> weights);

  /// Whether the file was there, whole, and can be read now.
  bool open(llvm::StringRef path);
  /// A new file of zeros, to be written. Error: no space.
  llvm::Error create(llvm::StringRef path);
  /// The file gets its name, and can be read.
  llvm::Error finish();

  /// Null: a weight that has none.
  const float *of(mlir::Value weight) const;
  float *toWrite(mlir::Value weight);

private:
  std::string path;
  llvm::DenseMap<mlir::Value, uint64_t> places; // in bytes
  uint64_t size = 0;
  std::unique_ptr<llvm::FileOutputBuffer> written;
  std::unique_ptr<llvm::MemoryBuffer> read;
};

} // namespace quench

#endif // QUENCH_LIB_CALIBRATION_OUTPUTMOMENTS_H
