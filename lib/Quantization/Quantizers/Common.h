//===- Common.h - What quantizers share -------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_QUANTIZERS_COMMON_H
#define QUENCH_LIB_QUANTIZATION_QUANTIZERS_COMMON_H

#include "quench/Quantization/Parallel.h"
#include "quench/Quantization/Quantizer.h"

namespace quench {

/// fitShared with the diagonal of the second moments and the threads of the
/// problem.
EncodedRows fitSharedOf(const QuantizeProblem &problem, FitOptions options);

/// Each group fitted, each codeword the nearest one; with the loss.
QuantizeResult roundToNearest(const QuantizeProblem &problem,
                              const FitOptions &options);

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_QUANTIZERS_COMMON_H
