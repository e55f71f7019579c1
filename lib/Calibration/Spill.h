//===- Spill.h - One value of all samples in a file -------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_CALIBRATION_SPILL_H
#define QUENCH_LIB_CALIBRATION_SPILL_H

#include "quench/Support/HostTensor.h"
#include <atomic>

namespace quench {

/// A tensor for each sample, in a file. Threads may write and read different
/// samples at the same time. Host byte order: no file for other machines.
class SpillFile {
public:
  /// A new file; one that is there is replaced.
  static llvm::Expected<std::unique_ptr<SpillFile>> create(llvm::StringRef path,
                                                           int64_t samples);
  /// Error: a file that does not hold all samples.
  static llvm::Expected<std::unique_ptr<SpillFile>> open(llvm::StringRef path,
                                                         int64_t samples);
  ~SpillFile();

  llvm::Error write(int64_t sample, const HostTensor &tensor);
  /// Mapped as long as the tensor lives.
  llvm::Expected<HostTensor> read(int64_t sample) const;
  /// Removes the file from its folder.
  void remove();

private:
  SpillFile(llvm::StringRef path, int descriptor, int64_t samples);

  std::string path;
  int descriptor;
  std::atomic<int64_t> end;
};

} // namespace quench

#endif // QUENCH_LIB_CALIBRATION_SPILL_H
