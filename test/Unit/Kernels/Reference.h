//===- Reference.h - Scalar contractions ------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TEST_UNIT_KERNELS_REFERENCE_H
#define QUENCH_TEST_UNIT_KERNELS_REFERENCE_H

#include "quench/Quantization/Packing.h"
#include <cstdint>
#include <vector>

namespace quench::test {

/// A random weight in a format: the packed stream and what it means.
struct Weight {
  Weight(const Format &format, int64_t n, int64_t k, uint32_t seed);

  const Format &format;
  int64_t n, k;
  std::vector<uint8_t> stream;
  std::vector<float> values; // [n][k], scales and zero points included
  // Integer formats: level - zero in units of unit(), and the scale of each.
  std::vector<int32_t> lanes; // [n][k]
  std::vector<float> scales;  // [n][groups]
  std::vector<float> zeros;   // the same, if they are floats (not in lanes)
  float tensorScale = 1;
  int64_t groups;
};

/// [m][k] floats with an outlier here and there.
std::vector<float> randomRows(int64_t m, int64_t k, uint32_t seed);

/// What an integer contraction must give, bit for bit: codes by absmax / 127,
/// exact sums, one fused multiply-add for each group in order.
std::vector<float> referenceInt(const Weight &weight,
                                const std::vector<float> &x, int64_t m);

/// Sums in double, and the sum of magnitudes that bounds the rounding.
void referenceFloat(const Weight &weight, const std::vector<float> &x,
                    int64_t m, std::vector<double> &y,
                    std::vector<double> &magnitude);

} // namespace quench::test

#endif // QUENCH_TEST_UNIT_KERNELS_REFERENCE_H
