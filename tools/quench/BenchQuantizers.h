//===- BenchQuantizers.h - Quantizers timed on one layer ------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOOLS_QUENCH_BENCHQUANTIZERS_H
#define QUENCH_TOOLS_QUENCH_BENCHQUANTIZERS_H

#include "llvm/Support/Error.h"
#include "llvm/Support/raw_ostream.h"
#include <string>
#include <utility>
#include <vector>

namespace quench {

struct BenchQuantizersOptions {
  /// "FORMAT by QUANTIZER"; empty: a representative list.
  std::vector<std::string> cases;
  /// Outputs x inputs.
  std::vector<std::pair<int64_t, int64_t>> shapes = {{4096, 4096}};
  int threads = 1;
  bool json = false;
};

/// Quantizes normal weights whose inputs are correlated (H_ij = s_i s_j
/// 0.9^|i-j|, s log-normal) and prints time, memory and loss of each case.
/// Error: a format or quantizer that does not exist or fails.
llvm::Error benchQuantizers(const BenchQuantizersOptions &options,
                            llvm::raw_ostream &out);

} // namespace quench

#endif // QUENCH_TOOLS_QUENCH_BENCHQUANTIZERS_H
