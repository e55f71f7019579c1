//===- TrellisTest.cpp - Trellis codes and their encoder ------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Samples.h"
#include "TrellisCode.h"
#include "Viterbi.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Packing.h"
#include <chrono>
#include <set>

using namespace quench;

static double squareError(const Trellis &t, const std::vector<float> &x,
                          const std::vector<float> &weights,
                          const std::vector<uint32_t> &states) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    double error = double(x[i]) - t.levels[states[i]];
    sum += (weights.empty() ? 1.0 : weights[i / kTrellisRun]) * error * error;
  }
  return sum;
}

/// Neighbours share bits; with `circular` the ends do as well.
static int brokenLinks(const Trellis &t, const std::vector<uint32_t> &states,
                       bool circular) {
  int broken = 0;
  uint32_t mask = (1u << (t.stateBits - t.bits)) - 1;
  for (size_t i = 0; i + !circular < states.size(); ++i)
    broken += states[i] >> t.bits != (states[(i + 1) % states.size()] & mask);
  return broken;
}

/// The least error of all paths of 16 values, by brute force: the last 8 values
/// of every start state, then the first 8 of every state that follows.
static double leastError(const Trellis &t, const std::vector<float> &x,
                         const std::vector<float> &weights) {
  uint32_t count = 1u << t.stateBits;
  std::vector<double> best(count, 0);
  // best[s]: the least error of the values behind position i if its state is s.
  for (int64_t i = int64_t(x.size()) - 1; i >= 0; --i) {
    std::vector<double> next(count, 1e300);
    for (uint32_t s = 0; s < count; ++s) {
      double error = double(x[i]) - t.levels[s];
      double own =
          (weights.empty() ? 1.0 : weights[i / kTrellisRun]) * error * error;
      // The states that may precede s in the encoder's order.
      double before = 1e300;
      if (i + 1 == int64_t(x.size()))
        before = 0;
      else
        for (uint32_t top = 0; top < 1u << t.bits; ++top)
          before = std::min(before,
                            best[top << (t.stateBits - t.bits) | s >> t.bits]);
      next[s] = before + own;
    }
    best = next;
  }
  return *std::min_element(best.begin(), best.end());
}

/// All paths, one by one.
static double leastOfAll(const Trellis &t, const std::vector<float> &x,
                         uint32_t state, int64_t i) {
  double error = double(x[i]) - t.levels[state], rest = 0;
  if (i > 0) {
    rest = 1e300;
    for (uint32_t add = 0; add < 1u << t.bits; ++add)
      rest = std::min(
          rest,
          leastOfAll(t, x, (state << t.bits | add) & ((1u << t.stateBits) - 1),
                     i - 1));
  }
  return error * error + rest;
}

TEST(Viterbi, FindsTheBestOfAllPaths) {
  Samples samples(1);
  for (unsigned bits : {1u, 2u, 3u})
    for (unsigned stateBits : {4u, 5u, 6u}) {
      std::vector<float> levels = samples.gaussians(1u << stateBits);
      Trellis t{bits, stateBits, levels.data()};
      // Sixteen values, of which only the last count: the sum over all paths of
      // the last eight (six, four) is then the whole.
      int64_t free = bits == 1 ? 8 : bits == 2 ? 6 : 4;
      std::vector<float> x = samples.gaussians(free);
      double least = 1e300;
      for (uint32_t state = 0; state < levels.size(); ++state)
        least = std::min(least, leastOfAll(t, x, state, free - 1));
      EXPECT_NEAR(leastError(t, x, {}), least, 1e-9);
    }
  for (unsigned bits : {1u, 2u, 3u, 4u, 5u, 6u})
    for (unsigned stateBits : {4u, 5u, 6u, 7u, 8u, 10u}) {
      if (stateBits <= bits)
        continue;
      std::vector<float> levels = samples.gaussians(1u << stateBits);
      Trellis t{bits, stateBits, levels.data()};
      for (int64_t n : {16, 32, 48}) {
        std::vector<float> x = samples.gaussians(n), weights;
        if (n != 16)
          for (int64_t run = 0; run < n / kTrellisRun; ++run)
            weights.push_back(0.01f + 3 * samples.uniform());
        std::vector<uint32_t> states(n);
        viterbi(t, x.data(), n, weights.empty() ? nullptr : weights.data(),
                states.data());
        EXPECT_EQ(brokenLinks(t, states, false), 0);
        double least = leastError(t, x, weights);
        EXPECT_NEAR(squareError(t, x, weights, states), least, 1e-5 * least);
      }
    }
}

TEST(Viterbi, EndsMeet) {
  Samples samples(2);
  for (unsigned bits : {1u, 2u, 3u, 4u, 5u, 6u}) {
    std::vector<float> levels = samples.gaussians(1024);
    Trellis t{bits, 10, levels.data()};
    for (int trial = 0; trial < 4; ++trial) {
      std::vector<float> x = samples.gaussians(256), weights(16, 1.0f);
      std::vector<uint32_t> states(256), again(256), free(256);
      viterbiTailBiting(t, x.data(), 256, nullptr, states.data());
      EXPECT_EQ(brokenLinks(t, states, true), 0);
      viterbiTailBiting(t, x.data(), 256, weights.data(), again.data());
      EXPECT_EQ(states, again);
      // Close to a path with free ends.
      viterbi(t, x.data(), 256, nullptr, free.data());
      EXPECT_LE(squareError(t, x, {}, states),
                1.15 * squareError(t, x, {}, free));
    }
  }
}

/// A step of a quantile of N(0, 1), from the error function.
static double quantile(double u) {
  double low = 0, high = 8;
  for (int i = 0; i < 80; ++i) {
    double x = 0.5 * (low + high);
    (0.5 * std::erfc(-x / std::sqrt(2.0)) < u ? low : high) = x;
  }
  return low;
}

TEST(TrellisCode, LevelsAreQuantiles) {
  for (unsigned k : {2u, 4u}) {
    std::unique_ptr<TrellisCode> code = makeTrellisCode("lin12", k);
    std::multiset<int> levels, wanted;
    for (float level : code->levels())
      levels.insert(level);
    int count = k == 2 ? 128 : 256, each = 4096 / count;
    for (int i = 0; i < count / 2; ++i)
      for (int copy = 0; copy < each; ++copy) {
        int level = std::lrint(40 * quantile(0.5 + (i + 0.5) / count));
        wanted.insert(std::min(127, level));
        wanted.insert(-std::min(127, level));
      }
    EXPECT_EQ(levels, wanted);
  }
}

TEST(TrellisCode, KnownValues) {
  auto check = [](llvm::StringRef name, unsigned k, std::vector<float> want,
                  double squares) {
    std::unique_ptr<TrellisCode> code = makeTrellisCode(name, k);
    llvm::ArrayRef<float> levels = code->levels();
    std::vector<float> found;
    for (size_t state : {size_t(1), size_t(2), size_t(3), size_t(100),
                         size_t(1000), levels.size() - 1})
      found.push_back(levels[state]);
    EXPECT_EQ(found, want) << name.str();
    double sum = 0;
    for (float level : levels)
      sum += level * level;
    EXPECT_EQ(sum, squares) << name.str();
  };
  check("lin12", 3, {32, -17, -46, -21, 13, -73}, 6503424);
  check("lin12", 2, {33, -17, -47, -21, 13, -72}, 6496384);
  check("lin16", 2, {-31, 38, -11, 45, 43, 18}, 104054784);
}

TEST(TrellisCode, ComputedCodes) {
  // Byte sums of 1MAD for states 0, 1, 2, 3 and 65535, and all of them.
  std::unique_ptr<TrellisCode> mad = makeTrellisCode("1mad", 2);
  const int sums[] = {325, 386, 447, 508, 571};
  const uint32_t states[] = {0, 1, 2, 3, 65535};
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(mad->levels()[states[i]], (sums[i] >> 2) - 128);
  double square = 0, mean = 0;
  for (float level : mad->levels()) {
    square += double(level) * level / 65536;
    mean += double(level) / 65536;
  }
  // 147.800537 / 4 units of the published values, whose deviation is 1.00009.
  EXPECT_NEAR(std::sqrt(square - mean * mean) / (147.800537109375 / 4), 1.00009,
              1e-3);
  // HYB with one weight a state: bits 14..8 of s (s + 1).
  std::unique_ptr<TrellisCode> hyb = makeTrellisCode("hyb", 2);
  for (uint32_t s : {0u, 1u, 7u, 100u, 1000u, 65535u}) {
    int index = s * (s + 1) >> 8 & 127;
    double level = 40 * quantile(0.5 + std::fabs(index - 63.5) / 128);
    EXPECT_EQ(hyb->levels()[s], std::lrint(index < 64 ? -level : level));
  }
}

// The published values: methods' golden vectors, their deviation and number.
TEST(TrellisCode, ThreeInstructions) {
  std::unique_ptr<TrellisCode> code = makeTrellisCode("3inst", 2);
  EXPECT_FALSE(code->isInteger());
  llvm::ArrayRef<float> levels = code->levels();
  ASSERT_EQ(levels.size(), 65536u);
  EXPECT_EQ(levels[0], 0.76806640625f);
  EXPECT_EQ(levels[1], -0.91943359375f);
  EXPECT_EQ(levels[2], 0.931640625f);
  EXPECT_EQ(levels[3], 0.29443359375f);
  EXPECT_EQ(levels[65535], -0.158203125f);
  double square = 0, mean = 0;
  for (float level : levels) {
    square += double(level) * level / 65536;
    mean += double(level) / 65536;
  }
  EXPECT_NEAR(std::sqrt(square - mean * mean), 1.24371, 1e-4);
  EXPECT_EQ(std::set<float>(levels.begin(), levels.end()).size(), 10598u);
}

/// Mean squared error of N(0, 1) and its standard error.
static std::pair<double, double> gaussianError(llvm::StringRef spec,
                                               int64_t tiles) {
  const Format &f = format(spec);
  Samples samples(5);
  std::vector<float> weight = samples.gaussians(tiles * 256);
  std::vector<float> back(weight.size());
  decodeRows(f, encodeNearest(f, weight.data(), 16, tiles * 16, {}),
             back.data());
  double sum = 0, squares = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    double error = 0;
    for (int64_t r = 0; r < 16; ++r)
      for (int64_t c = 0; c < 16; ++c) {
        int64_t at = r * tiles * 16 + tile * 16 + c;
        error += (weight[at] - back[at]) * (weight[at] - back[at]) / 256;
      }
    sum += error;
    squares += error * error;
  }
  double mean = sum / tiles;
  return {mean, std::sqrt((squares / tiles - mean * mean) / tiles)};
}

TEST(Trellis, ErrorsOfAGaussian) {
  auto check = [](llvm::StringRef spec, double want, int64_t tiles) {
    auto [error, deviation] = gaussianError(spec, tiles);
    EXPECT_NEAR(error, want, 3 * deviation + 0.005 * want) << spec.str();
  };
  // Tables of QTIP-like codes with 12 and 16 bits of state, tail-biting.
  check("trellis<1>", 0.2678, 200);
  check("trellis<2>", 0.0689, 400);
  check("trellis<3>", 0.01808, 200);
  check("trellis<4>", 0.00468, 200);
  // Near the same distance to 4^-k.
  check("trellis<5>", 1.20 * std::pow(4, -5), 60);
  check("trellis<6>", 1.29 * std::pow(4, -6), 60);
  check("trellis<2, scale = tensor>", 0.0689, 200);
  check("trellis<2, code = lin8>", 0.0779, 100);
  check("trellis<3, code = lin10>", 0.01862, 100);
  check("trellis<2, code = lin16>", 0.0669, 16);
  check("trellis<2, code = 1mad>", 0.0687, 16);
  check("trellis<2, code = hyb>", 0.0687, 16);
  check("trellis<1, code = 3inst>", 0.2668, 16);
  check("trellis<2, code = 3inst>", 0.0690, 16);
  check("trellis<3, code = 3inst>", 0.0178, 16);
}

TEST(Trellis, RowsThatDoNotCount) {
  // The error of rows with a large weight falls, that of the others rises.
  const Format &f = format("trellis<2, scale = tensor>");
  Samples samples(6);
  double plain[2] = {}, weighted[2] = {};
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<float> x = samples.gaussians(256), back(256), weights(16);
    for (int r = 0; r < 16; ++r)
      weights[r] = r % 2 ? 1.0f : 0.01f;
    std::vector<uint32_t> codes(256);
    for (bool useWeights : {false, true}) {
      f.nearestTile(x.data(), nullptr, useWeights ? weights.data() : nullptr,
                    codes.data());
      f.decodeTile(codes.data(), nullptr, back.data());
      for (int i = 0; i < 256; ++i)
        (useWeights ? weighted : plain)[i / 16 % 2] +=
            (x[i] - back[i]) * (x[i] - back[i]);
    }
  }
  EXPECT_LT(weighted[1], 0.97 * plain[1]);
  EXPECT_GT(weighted[0], plain[0]);
}

TEST(Trellis, OddWeights) {
  const Format &f = format("trellis<2>");
  // Zeros, an infinite number, NaN, a row of tiny ones, a single column.
  std::vector<float> w(20 * 3, 0.0f), back(w.size());
  w[3] = std::numeric_limits<float>::infinity();
  w[4] = std::numeric_limits<float>::quiet_NaN();
  w[10] = 1e-30f;
  w[20] = 2.0f;
  decodeRows(f, encodeNearest(f, w.data(), 20, 3, {}), back.data());
  for (float value : back)
    EXPECT_TRUE(std::isfinite(value));
  for (int i = 12; i < 18; ++i)
    EXPECT_EQ(back[i], 0);
}

TEST(Trellis, Bits) {
  EXPECT_EQ(format("trellis<2, scale = tensor>").bits(4096, 4096),
            2 * 4096 * 4096 + 32);
  EXPECT_EQ(format("trellis<3>").bits(64, 48), 3 * 64 * 48 + 16 * 64);
  EXPECT_EQ(format("trellis<2, code = lin12, scale = row>").spec(),
            "trellis<2>");
  EXPECT_EQ(format("trellis<5,scale=tensor,code=lin16>").spec(),
            "trellis<5, code = lin16, scale = tensor>");
}
