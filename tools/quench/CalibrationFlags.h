//===- CalibrationFlags.h - Options of calibration -----------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOOLS_QUENCH_CALIBRATIONFLAGS_H
#define QUENCH_TOOLS_QUENCH_CALIBRATIONFLAGS_H

#include "Driver.h"
#include "quench/Calibration/Calibration.h"

namespace quench {

/// The options --calib... of a subcommand. A static object of it.
class CalibrationFlags {
public:
  explicit CalibrationFlags(llvm::cl::SubCommand &command);

  bool isGiven() const { return !data.empty(); }
  /// Empty, or what is wrong with the options.
  std::string check() const;
  /// What they ask for; data.tokenizer, threads and progress are left out.
  CalibrationOptions options() const;

private:
  llvm::cl::opt<std::string> data;
  NumberOption<int64_t> samples, context, tune, tuneBlocks;
  llvm::cl::opt<std::string> inputs, targets, weights, cache;
  llvm::cl::opt<bool> resume;
};

} // namespace quench

#endif // QUENCH_TOOLS_QUENCH_CALIBRATIONFLAGS_H
