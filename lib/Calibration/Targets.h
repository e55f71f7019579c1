//===- Targets.h - Weights for other inputs ---------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_CALIBRATION_TARGETS_H
#define QUENCH_LIB_CALIBRATION_TARGETS_H

#include "quench/Calibration/Walk.h"

namespace quench {

/// The weights [rows][cols] that make of the inputs x what `weights` make of
/// the float model's inputs x', as well as it can be done:
///
///   W + W D (H + 0.01 mean(diag H) I)^-1,  D = sum (x' - x) x^T
///
/// `products` is sum x' x^T. Empty: H with its damping is not positive
/// definite.
std::vector<float> correctedWeights(const float *weights, int64_t rows,
                                    const InputMoments &moments,
                                    llvm::ArrayRef<double> products,
                                    int threads);

} // namespace quench

#endif // QUENCH_LIB_CALIBRATION_TARGETS_H
