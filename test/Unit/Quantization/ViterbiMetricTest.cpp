//===- ViterbiMetricTest.cpp - Trellis paths that carry their errors ------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Problems.h"
#include "Viterbi.h"

using namespace quench;

namespace {

/// M = A A^T / 16 + shift I, for a Gaussian A.
std::vector<float> randomMetric(Samples &random, float shift) {
  std::vector<float> a = random.gaussians(256), metric(256);
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) {
      for (int k = 0; k < 16; ++k)
        metric[i * 16 + j] += a[i * 16 + k] * a[j * 16 + k] / 16;
      metric[i * 16 + j] += i == j ? shift : 0;
    }
  return metric;
}

/// What states cost; also that they are a circular path.
double costOf(const Trellis &trellis, const std::vector<float> &x,
              const std::vector<float> &metric, const float *weights,
              const std::vector<uint32_t> &states) {
  uint32_t mask = (1u << trellis.stateBits) - 1;
  double sum = 0;
  for (size_t t = 0; t < x.size(); ++t) {
    uint32_t next = states[(t + 1) % x.size()];
    EXPECT_EQ(states[t] >> trellis.bits,
              (next << trellis.bits & mask) >> trellis.bits);
    size_t run = t / 16 * 16;
    auto error = [&](size_t i) {
      return double(x[run + i]) - trellis.levels[states[run + i]];
    };
    for (size_t j = 0; j < 16; ++j)
      sum += (weights ? weights[t / 16] : 1) * error(t % 16) *
             metric[t % 16 * 16 + j] * error(j);
  }
  return sum;
}

TEST(ViterbiMetric, FactorsGiveTheMetric) {
  Samples random(1);
  std::vector<float> matrix = randomMetric(random, 0.1f);
  RunMetric metric;
  ASSERT_TRUE(metric.set(matrix.data()));
  double ratio = 0;
  for (int sample = 0; sample < 5; ++sample) {
    std::vector<float> r = random.gaussians(16);
    double direct = 0, factors = 0;
    for (int c = 0; c < 16; ++c) {
      double fed = r[c];
      for (int j = 0; j < 16; ++j) {
        direct += double(r[c]) * matrix[c * 16 + j] * r[j];
        fed += j > c ? metric.feedback[j][c] * double(r[j]) : 0;
      }
      factors += metric.cost[c] * fed * fed;
    }
    if (sample == 0)
      ratio = direct / factors;
    EXPECT_NEAR(direct / factors, ratio, 1e-4 * ratio);
  }
  matrix[5 * 17] = -1;
  EXPECT_FALSE(metric.set(matrix.data()));
}

/// All 2^16 sequences of one run: never below the best, and near it.
TEST(ViterbiMetric, NearTheBestOfAll) {
  Samples random(2);
  std::vector<float> levels = random.gaussians(32);
  Trellis trellis{1, 5, levels.data()};
  double found = 0, best = 0, plain = 0;
  for (int sample = 0; sample < 6; ++sample) {
    std::vector<float> x = random.gaussians(16),
                       matrix = randomMetric(random, 0.05f);
    RunMetric metric;
    ASSERT_TRUE(metric.set(matrix.data()));
    std::vector<uint32_t> states(16);
    viterbiTailBiting(trellis, x.data(), 16, nullptr, metric, states.data());
    found += costOf(trellis, x, matrix, nullptr, states);
    viterbiTailBiting(trellis, x.data(), 16, nullptr, states.data());
    plain += costOf(trellis, x, matrix, nullptr, states);
    double least = HUGE_VAL;
    for (uint32_t string = 0; string < 1u << 16; ++string) {
      double errors[16], sum = 0;
      for (int t = 0; t < 16; ++t)
        errors[t] = x[t] - levels[(string >> t | string << (16 - t)) & 31];
      for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 16; ++j)
          sum += errors[i] * matrix[i * 16 + j] * errors[j];
      least = std::min(least, sum);
    }
    EXPECT_GE(costOf(trellis, x, matrix, nullptr, states), least * (1 - 1e-6));
    best += least;
  }
  EXPECT_GE(found, best * (1 - 1e-6));
  EXPECT_LT(found, plain);
  EXPECT_LT(found - best, 0.6 * (plain - best));
}

/// Whole tiles of all widths, rows of unequal weight; and without correlation
/// it is the plain search.
TEST(ViterbiMetric, Tiles) {
  Samples random(3);
  for (unsigned bits = 1; bits <= 6; ++bits) {
    std::vector<float> levels = random.gaussians(1 << 12);
    Trellis trellis{bits, 12, levels.data()};
    std::vector<float> x = random.gaussians(256), weights(16),
                       matrix = randomMetric(random, 0.1f), unit(256);
    for (int i = 0; i < 16; ++i) {
      weights[i] = 0.5f + random.uniform();
      unit[i * 17] = 1;
    }
    std::vector<uint32_t> states(256), plain(256);
    RunMetric metric;
    ASSERT_TRUE(metric.set(matrix.data()));
    viterbiTailBiting(trellis, x.data(), 256, weights.data(), metric,
                      states.data());
    viterbiTailBiting(trellis, x.data(), 256, weights.data(), plain.data());
    EXPECT_LT(costOf(trellis, x, matrix, weights.data(), states),
              costOf(trellis, x, matrix, weights.data(), plain));
    ASSERT_TRUE(metric.set(unit.data()));
    viterbiTailBiting(trellis, x.data(), 256, weights.data(), metric,
                      states.data());
    double ratio = costOf(trellis, x, unit, weights.data(), states) /
                   costOf(trellis, x, unit, weights.data(), plain);
    EXPECT_NEAR(ratio, 1, 0.03) << bits;
  }
}

/// In the whole quantizer.
TEST(ViterbiMetric, LowersTheLoss) {
  Problem problem(32, 64, 4);
  for (llvm::StringRef spec : {"trellis<2>", "trellis<4>"}) {
    double plain = quantize("ldlq", problem.with(format(spec))).loss;
    double metric =
        quantize("ldlq<tile-metric>", problem.with(format(spec))).loss;
    EXPECT_LT(metric, 0.97 * plain) << spec.str();
  }
}

} // namespace
