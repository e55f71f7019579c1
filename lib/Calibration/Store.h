//===- Store.h - Quantized weights in a folder ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One file for each weight, which appears whole or not at all: magic, length of
// the header, header (JSON), padding, packed stream, its hash.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_CALIBRATION_STORE_H
#define QUENCH_LIB_CALIBRATION_STORE_H

#include "quench/Quantization/PackedWeight.h"

namespace quench {

class QuantizedStore : public WeightSource {
public:
  /// Opens a folder, which is made if it is not there, for this process alone.
  /// Error: another process works in it.
  static llvm::Expected<std::unique_ptr<QuantizedStore>>
  open(llvm::StringRef folder);
  ~QuantizedStore() override;

  /// Files that are cut off or altered count as not there.
  llvm::Expected<std::shared_ptr<const PackedWeight>>
  find(llvm::StringRef key) override;
  llvm::Error put(llvm::StringRef key, const PackedWeight &weight);

  llvm::StringRef folder() const { return path; }
  /// Whether anything was put.
  bool hasWeights() const;
  /// Whether a run was finished.
  bool isFinished() const;
  llvm::Error setFinished();
  /// Removes all files of runs.
  llvm::Error clear();

private:
  QuantizedStore(llvm::StringRef path, int lock)
      : path(path.str()), lock(lock) {}
  std::string fileOf(llvm::StringRef key) const;

  std::string path;
  int lock;
};

} // namespace quench

#endif // QUENCH_LIB_CALIBRATION_STORE_H
