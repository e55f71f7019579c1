//===- Moments.h - Second moments of an input -------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_CALIBRATION_MOMENTS_H
#define QUENCH_LIB_CALIBRATION_MOMENTS_H

#include "Spill.h"
#include "quench/Calibration/Walk.h"

namespace quench {

/// The statistics of [.., cols] tensors of floats. Sums have one order whatever
/// the number of threads. Rows with numbers above 1e15 or not finite are left
/// out.
///
/// `weights`, if not empty, has a number for each row of all samples: the row
/// counts so often.
llvm::Expected<InputMoments> computeMoments(const SpillFile &file,
                                            int64_t samples, int threads,
                                            llvm::ArrayRef<float> weights = {});

/// Sum of a b^T, [cols][cols], for rows a of one file and b of the other, with
/// their weights. Empty: rows of one of them are left out.
llvm::Expected<std::vector<double>>
computeProducts(const SpillFile &a, const SpillFile &b, int64_t samples,
                int threads, llvm::ArrayRef<float> weights = {});

} // namespace quench

#endif // QUENCH_LIB_CALIBRATION_MOMENTS_H
