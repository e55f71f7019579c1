//===- WeightStatisticsTest.cpp - What is known of a weight -----*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/WeightStatistics.h"
#include "gtest/gtest.h"
#include <cmath>

using namespace quench;

TEST(WeightStatistics, Entropy) {
  WeightStatistics even(2), skewed(2), wide(16), joined(2);
  std::vector<uint32_t> codes;
  for (uint32_t i = 0; i != 400; ++i)
    codes.push_back(i % 4);
  even.addCodes(codes);
  EXPECT_DOUBLE_EQ(even.entropyOfCodes(), 2);
  // Half, a quarter, a quarter.
  skewed.addCodes({0, 0, 1, 2});
  EXPECT_DOUBLE_EQ(skewed.entropyOfCodes(), 1.5);
  joined.addCodes({0, 0});
  joined.join(skewed);
  EXPECT_NEAR(joined.entropyOfCodes(),
              -(4.0 / 6 * std::log2(4.0 / 6) + 2.0 / 6 * std::log2(1.0 / 6)),
              1e-12);
  EXPECT_EQ(joined.codes(), 6);
  // Two bytes of one bit each, though they are always equal.
  wide.addCodes({0x0101, 0, 0x0101, 0});
  EXPECT_DOUBLE_EQ(wide.entropyOfCodes(), 2);
  EXPECT_EQ(WeightStatistics(4).entropyOfCodes(), 0);
}

TEST(WeightStatistics, NoOutputPassesTheErrorBound) {
  const float values[] = {3, 0, 0, 4, 1, 1}, decoded[] = {3, 1, 0, 2, 1, 1};
  WeightStatistics statistics(4);
  for (int r = 0; r != 3; ++r)
    statistics.addRow(values + 2 * r, decoded + 2 * r, 2);
  // The second row moves by 2; the lengths' mean square is (9 + 16 + 2) / 3.
  EXPECT_DOUBLE_EQ(statistics.errorBound(), 2 / 3.0);
}

TEST(WeightStatistics, LimitOfADiagonal) {
  // Columns of very different weight: 4^-R times the geometric mean over the
  // mean of the diagonal.
  const double diagonal[] = {4, 1, 0.25, 1};
  std::vector<double> hessian(16, 0);
  for (int i = 0; i != 4; ++i)
    hessian[5 * i] = diagonal[i];
  std::vector<float> weight(8, 1.0f);
  QuantizeProblem problem;
  problem.weight = weight.data();
  problem.rows = 2;
  problem.cols = 4;
  EXPECT_DOUBLE_EQ(gaussianLossLimit(problem, 2), 1.0 / 16);
  problem.hessian = hessian.data();
  EXPECT_NEAR(gaussianLossLimit(problem, 2), 1.0 / 16 / (6.25 / 4), 1e-4);
  // Outputs with the moments 1 and 9, alike for rows: sqrt(9) of a mean of 5.
  std::vector<float> moments = {1, 0, 0, 9};
  problem.outputMoments = moments.data();
  EXPECT_NEAR(gaussianLossLimit(problem, 2), 3.0 / 5 / 16 / (6.25 / 4), 1e-4);
  problem.outputMoments = nullptr;
  hessian[0] = NAN;
  EXPECT_EQ(gaussianLossLimit(problem, 2), 0);
}
