//===- AllocateTest.cpp - Bits for layers -----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/BitBudget/Allocate.h"
#include "gtest/gtest.h"
#include <cmath>
#include <random>

using namespace quench;

namespace {

/// All choices, one after the other.
template <typename F>
void forEachChoice(llvm::ArrayRef<LayerOptions> layers, F &&body) {
  std::vector<unsigned> choice(layers.size(), 0);
  while (true) {
    int64_t bits = 0;
    double distortion = 0;
    for (size_t i = 0; i != layers.size(); ++i) {
      bits += layers[i][choice[i]].bits;
      distortion += layers[i][choice[i]].distortion;
    }
    body(bits, distortion);
    size_t i = 0;
    while (i != layers.size() && ++choice[i] == layers[i].size())
      choice[i++] = 0;
    if (i == layers.size())
      return;
  }
}

/// The least distortion for each budget, exactly: best[b] with at most b bits.
std::vector<double> dynamicProgram(llvm::ArrayRef<LayerOptions> layers,
                                   int64_t budget) {
  std::vector<double> best(budget + 1, 0);
  for (const LayerOptions &options : layers) {
    std::vector<double> next(budget + 1, INFINITY);
    for (int64_t b = 0; b <= budget; ++b)
      for (const BitOption &option : options)
        if (option.bits <= b)
          next[b] =
              std::min(next[b], best[b - option.bits] + option.distortion);
    best = std::move(next);
  }
  return best;
}

std::vector<LayerOptions> randomLayers(std::mt19937 &random, unsigned count,
                                       unsigned options) {
  std::vector<LayerOptions> layers(count);
  for (LayerOptions &layer : layers)
    for (unsigned o = 0; o != options; ++o)
      layer.push_back({static_cast<int64_t>(random() % 40),
                       static_cast<double>(random() % 1000) / 7});
  return layers;
}

/// Layers as they are: k bits for each weight, about 4^-k.
std::vector<LayerOptions> realisticLayers(std::mt19937 &random,
                                          unsigned count) {
  static const double mse[] = {0.2678,  0.0689, 0.01808,
                               0.00468, 0.0012, 0.0003};
  std::vector<LayerOptions> layers(count);
  for (LayerOptions &layer : layers) {
    int64_t weights = 3 * (1 + random() % 4);
    double scale = std::exp2(static_cast<double>(random() % 1000) / 100);
    for (int64_t k = 1; k <= 6; ++k)
      layer.push_back({weights * k, scale * mse[k - 1]});
  }
  return layers;
}

void expectConsistent(llvm::ArrayRef<LayerOptions> layers,
                      const Allocation &found) {
  ASSERT_EQ(found.choice.size(), layers.size());
  int64_t bits = 0;
  double distortion = 0;
  for (size_t i = 0; i != layers.size(); ++i) {
    bits += layers[i][found.choice[i]].bits;
    distortion += layers[i][found.choice[i]].distortion;
  }
  EXPECT_EQ(bits, found.bits);
  EXPECT_EQ(distortion, found.distortion);
}

TEST(LowerHull, KeepsConvexCornersOnly) {
  LayerOptions options = {{4, 1}, {1, 10}, {2, 9}, {3, 2},
                          {3, 5}, {5, 1},  {1, 12}};
  EXPECT_EQ(lowerHull(options), (llvm::SmallVector<unsigned>{1, 3, 0}));
  EXPECT_EQ(lowerHull(LayerOptions{{7, 3}}), (llvm::SmallVector<unsigned>{0}));
  // Three on a line: the middle one is no corner.
  EXPECT_EQ(lowerHull(LayerOptions{{1, 3}, {2, 2}, {3, 1}}),
            (llvm::SmallVector<unsigned>{0, 2}));
}

TEST(AllocateBits, EqualsTheBestOfAllChoices) {
  std::mt19937 random(1);
  for (unsigned round = 0; round != 60; ++round) {
    std::vector<LayerOptions> layers = randomLayers(random, 5, 4);
    int64_t budget = 20 + random() % 120;
    double best = INFINITY;
    forEachChoice(layers, [&](int64_t bits, double distortion) {
      if (bits <= budget)
        best = std::min(best, distortion);
    });
    llvm::Expected<Allocation> found = allocateBits(layers, budget);
    if (!std::isfinite(best)) {
      EXPECT_FALSE(static_cast<bool>(found));
      llvm::consumeError(found.takeError());
      continue;
    }
    ASSERT_TRUE(static_cast<bool>(found));
    expectConsistent(layers, *found);
    EXPECT_LE(found->bits, budget);
    EXPECT_GE(found->distortion, best - 1e-9);
    EXPECT_LE(found->bound, best + 1e-9);
    EXPECT_LE(found->distortion, best + 1e-9);
  }
}

TEST(AllocateBits, EqualsTheDynamicProgram) {
  std::mt19937 random(2);
  for (unsigned round = 0; round != 8; ++round) {
    std::vector<LayerOptions> layers = realisticLayers(random, 60);
    std::vector<double> best = dynamicProgram(layers, 3000);
    for (int64_t budget : {700, 1000, 1333, 1500, 2000, 2500, 3000}) {
      llvm::Expected<Allocation> found = allocateBits(layers, budget);
      if (!std::isfinite(best[budget])) {
        EXPECT_FALSE(static_cast<bool>(found));
        llvm::consumeError(found.takeError());
        continue;
      }
      ASSERT_TRUE(static_cast<bool>(found));
      expectConsistent(layers, *found);
      EXPECT_LE(found->bits, budget);
      EXPECT_GE(found->distortion, best[budget] * (1 - 1e-12));
      EXPECT_LE(found->distortion, best[budget] * (1 + 1e-12)) << budget;
      EXPECT_LE(found->bound, best[budget] * (1 + 1e-12));
    }
  }
}

TEST(AllocateDistortion, FewestBits) {
  std::mt19937 random(3);
  for (unsigned round = 0; round != 8; ++round) {
    std::vector<LayerOptions> layers = realisticLayers(random, 40);
    std::vector<double> best = dynamicProgram(layers, 2500);
    for (double limit : {100.0, 30.0, 10.0, 2.0}) {
      int64_t fewest = 0;
      while (fewest <= 2500 && !(best[fewest] <= limit))
        ++fewest;
      llvm::Expected<Allocation> found = allocateDistortion(layers, limit);
      if (!found) {
        EXPECT_GT(fewest, 2500);
        llvm::consumeError(found.takeError());
        continue;
      }
      expectConsistent(layers, *found);
      EXPECT_LE(found->distortion, limit * (1 + 1e-9));
      EXPECT_GE(found->bits, fewest);
      EXPECT_EQ(found->bits, fewest) << limit;
      EXPECT_LE(found->bound, fewest + 0.5);
    }
  }
}

TEST(AllocateBits, RichBudgetTakesTheBest) {
  std::vector<LayerOptions> layers = {{{1, 5}, {2, 1}}, {{3, 4}}};
  llvm::Expected<Allocation> found = allocateBits(layers, 1000);
  ASSERT_TRUE(static_cast<bool>(found));
  EXPECT_EQ(found->choice, (std::vector<unsigned>{1, 0}));
  EXPECT_EQ(found->slope, 0);
  EXPECT_EQ(found->distortion, 5);
}

TEST(AllocateBits, Errors) {
  auto message = [](llvm::Expected<Allocation> found) {
    return found ? "" : llvm::toString(found.takeError());
  };
  EXPECT_EQ(message(allocateBits({LayerOptions{{10, 1}}}, 9)),
            "the smallest options need 10 bits, the budget has 9");
  EXPECT_EQ(message(allocateBits({LayerOptions{}}, 9)),
            "layer 0 has no options");
  EXPECT_NE(message(allocateBits({LayerOptions{{1, NAN}}}, 9)), "");
  EXPECT_NE(message(allocateDistortion({LayerOptions{{1, 2}}}, 1)), "");
  EXPECT_NE(message(allocateDistortion({LayerOptions{{1, 2}}}, NAN)), "");
}

// Acceptance W1.
TEST(FillWater, ReferenceVectors) {
  double variances[] = {4, 1, 0.25, 0.0625, 0.001}, sizes[] = {1, 1, 1, 1, 1};
  WaterLevel one = fillWater(variances, sizes, 1);
  EXPECT_NEAR(one.theta, 0.0992, 1e-4);
  double bits[] = {2.667, 1.667, 0.667, 0, 0};
  for (int i = 0; i != 5; ++i)
    EXPECT_NEAR(one.bits[i], bits[i], 1e-3);
  EXPECT_NEAR(one.distortion, 0.0722, 1e-4);
  WaterLevel two = fillWater(variances, sizes, 2);
  EXPECT_NEAR(two.theta, 1.0 / 64, 1e-6);
  for (int i = 0; i != 5; ++i)
    EXPECT_NEAR(two.bits[i], 4 - i, 1e-3);
  EXPECT_NEAR(two.distortion, 0.0127, 1e-4);
}

/// Many fine steps of 4^-b approach the water level.
TEST(FillWater, AgreesWithTheAllocator) {
  double variances[] = {4, 1, 0.25, 0.0625, 0.001}, sizes[] = {3, 1, 2, 5, 1};
  std::vector<LayerOptions> layers;
  for (int i = 0; i != 5; ++i) {
    LayerOptions &layer = layers.emplace_back();
    for (int64_t b = 0; b <= 600; ++b)
      layer.push_back({static_cast<int64_t>(sizes[i]) * b,
                       sizes[i] * variances[i] * std::exp2(-0.02 * b)});
  }
  WaterLevel level = fillWater(variances, sizes, 1.5);
  llvm::Expected<Allocation> found = allocateBits(layers, 1800);
  ASSERT_TRUE(static_cast<bool>(found));
  EXPECT_NEAR(found->distortion / 12, level.distortion,
              1e-3 * level.distortion);
}

} // namespace
