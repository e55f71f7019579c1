//===- BenchKernels.h - Kernels timed beside the machine's limits -*- C++
//-*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOOLS_QUENCH_BENCHKERNELS_H
#define QUENCH_TOOLS_QUENCH_BENCHKERNELS_H

#include "llvm/Support/raw_ostream.h"
#include <string>
#include <utility>
#include <vector>

namespace quench {

struct BenchKernelsOptions {
  /// Specs of formats; empty: a representative list.
  std::vector<std::string> formats;
  /// N x K.
  std::vector<std::pair<int64_t, int64_t>> shapes = {{768, 768}, {4096, 4096}};
  /// Activation rows; 1 is the gemv.
  std::vector<int64_t> rows = {1, 16, 128};
  /// Weights in cache; every run on another copy, 300 MB of them.
  bool hot = true, cold = true;
  /// int8 activations; float activations.
  bool integer = true, floats = true;
  /// Processor to compile for.
  std::string cpu = "native";
  int repetitions = 7;
  bool json = false;
};

/// Times every kernel on one thread and checks its result against a scalar
/// reference made from the host codec. Returns the exit code: 1 if a result is
/// wrong or nothing could be run (the reason goes to `err`).
int benchKernels(const BenchKernelsOptions &options, llvm::raw_ostream &out,
                 llvm::raw_ostream &err);

} // namespace quench

#endif // QUENCH_TOOLS_QUENCH_BENCHKERNELS_H
