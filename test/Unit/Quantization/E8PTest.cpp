//===- E8PTest.cpp - The E8 lattice code ----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "E8Lattice.h"
#include "Samples.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Packing.h"
#include <array>
#include <map>
#include <set>

using namespace quench;

static const GroupParams kOne{0x3c00, 0};

static std::array<float, 8> decoded(const Format &f, uint32_t code) {
  std::array<float, 8> values;
  f.decode(code, kOne, values.data());
  return values;
}

TEST(E8P, GoldenVectors) {
  const Format &f = format("e8p");
  using V = std::array<float, 8>;
  EXPECT_EQ(decoded(f, 0x0000), (V{.75, .75, .75, .75, .75, .75, .75, .75}));
  EXPECT_EQ(decoded(f, 0x0001), (V{.25, .25, .25, .25, .25, .25, .25, .25}));
  EXPECT_EQ(decoded(f, 0x0003), (V{-.25, .75, -.25, .75, .75, .75, .75, .75}));
  EXPECT_EQ(decoded(f, 0x0100), (V{.75, .75, .75, .75, .75, .75, .75, -1.25}));
  EXPECT_EQ(decoded(f, 0x1234),
            (V{-.75, -.75, .25, -.75, -1.75, .25, .25, 1.25}));
  EXPECT_EQ(decoded(f, 0xE300),
            (V{1.75, .75, .75, .75, 1.75, 1.75, 1.75, -1.25}));
  EXPECT_EQ(decoded(f, 0xFF00),
            (V{1.75, 1.75, .75, .75, 1.75, 1.75, 1.75, -.25}));
  EXPECT_EQ(decoded(f, 0xFFFF),
            (V{-1.25, -1.25, -.25, -.25, -1.25, -1.25, -1.25, .75}));
}

// Acceptance Q1.
TEST(E8P, Codebook) {
  const Format &f = format("e8p");
  std::set<std::array<float, 8>> points;
  double squares = 0, sum = 0;
  for (uint32_t code = 0; code < 65536; ++code) {
    std::array<float, 8> point = decoded(f, code);
    points.insert(point);
    for (float value : point) {
      squares += value * value;
      sum += value;
    }
    // Each codeword is its own nearest one.
    ASSERT_EQ(f.nearest(point.data(), kOne), code);
  }
  EXPECT_EQ(points.size(), 65536u);
  EXPECT_EQ(squares / 65536, 9.5703125);
  EXPECT_EQ(sum, 0);
  for (std::array<float, 8> point : points) {
    for (float &value : point)
      value = -value;
    ASSERT_TRUE(points.count(point));
  }
  // The least distance of all pairs: every difference lies in E8 (all integers
  // or all halves, an even sum), so does that of any two, and E8's shortest
  // vectors have the square 2. One pair has it.
  std::array<float, 8> origin = decoded(f, 0);
  double least = 100;
  for (const std::array<float, 8> &point : points) {
    int twice[8], sum = 0, distance = 0;
    for (int j = 0; j < 8; ++j) {
      twice[j] = std::lrint(2 * (point[j] - origin[j]));
      ASSERT_EQ(twice[j], 2 * (point[j] - origin[j]));
      ASSERT_EQ((twice[j] ^ twice[0]) & 1, 0);
      sum += twice[j];
      distance += twice[j] * twice[j];
    }
    ASSERT_EQ(sum & 3, 0);
    if (distance > 0)
      least = std::min(least, distance / 4.0);
  }
  EXPECT_EQ(least, 2);
}

TEST(E8P, NearestIsNearest) {
  const Format &f = format("e8p");
  // Coordinate by coordinate, so that the search over all points is quick.
  std::vector<float> points[8], norms(65536);
  for (std::vector<float> &axis : points)
    axis.resize(65536);
  for (uint32_t code = 0; code < 65536; ++code) {
    std::array<float, 8> point = decoded(f, code);
    for (int j = 0; j < 8; ++j) {
      points[j][code] = point[j];
      norms[code] += point[j] * point[j];
    }
  }
  Samples samples(2);
  std::vector<float> distance(65536);
  for (int trial = 0; trial < 4000; ++trial) {
    float spread = trial % 4 == 0 ? 3.0f : 1.03f, x[8];
    for (float &value : x)
      value = spread * samples.gaussian();
    distance = norms;
    for (int j = 0; j < 8; ++j)
      for (int code = 0; code < 65536; ++code)
        distance[code] -= 2 * x[j] * points[j][code];
    float least = *std::min_element(distance.begin(), distance.end());
    uint32_t code = f.nearest(x, kOne);
    ASSERT_LE(distance[code], least + 1e-5f) << "sample " << trial;
  }
}

/// Mean squared error of N(0, 1).
static double gaussianError(llvm::StringRef spec, int64_t rows) {
  const Format &f = format(spec);
  Samples samples(3);
  int64_t cols = 8000;
  std::vector<float> weight = samples.gaussians(rows * cols), back(rows * cols);
  decodeRows(f, encodeNearest(f, weight.data(), rows, cols, FitOptions()),
             back.data());
  double error = 0;
  for (size_t i = 0; i < back.size(); ++i)
    error += (back[i] - weight[i]) * (back[i] - weight[i]);
  return error / back.size();
}

// Acceptance Q2: at scale 1.03, and at the scale that the format finds.
TEST(E8P, ErrorOfAGaussian) {
  Samples samples(6);
  const Format &f = format("e8p");
  constexpr int kVectors = 50000;
  double error = 0;
  for (int i = 0; i < kVectors; ++i) {
    float x[8], back[8];
    for (float &value : x)
      value = 1.03f * samples.gaussian();
    f.decode(f.nearest(x, kOne), kOne, back);
    for (int j = 0; j < 8; ++j)
      error += (x[j] - back[j]) * (x[j] - back[j]);
  }
  EXPECT_NEAR(error / (1.03 * 1.03 * 8 * kVectors), 0.0915, 0.0008);
  EXPECT_NEAR(gaussianError("e8p", 200), 0.0915, 0.0008);
  EXPECT_NEAR(gaussianError("e8p<scale = tensor>", 50), 0.0915, 0.0012);
  // Published parts at retuned scales: 0.0294 and 0.0085.
  EXPECT_LE(gaussianError("e8p<3>", 50), 0.0296);
  EXPECT_LE(gaussianError("e8p<4>", 50), 0.0082);
}

/// The ball is the first two shells of the lattice, but for one vector.
TEST(E8P, Ball) {
  const E8Ball &ball = E8Ball::get();
  std::set<std::array<int, 8>> points;
  std::map<int, int> shells; // by squared norm of twice the vector
  for (uint32_t code = 0; code < 256; ++code) {
    std::array<int, 8> point;
    int norm = 0, sum = 0;
    for (int j = 0; j < 8; ++j) {
      point[j] = ball.twice(code, j);
      norm += point[j] * point[j];
      sum += point[j];
      EXPECT_EQ((point[j] ^ point[0]) & 1, 0); // all integers or all halves
    }
    EXPECT_EQ(sum % 4, 0); // an even sum
    ++shells[norm];
    points.insert(point);
    float x[8], distance;
    for (int j = 0; j < 8; ++j)
      x[j] = 0.5f * point[j];
    EXPECT_EQ(ball.nearest(x, distance), code);
    EXPECT_EQ(distance, 0);
  }
  EXPECT_EQ(points.size(), 256u);
  EXPECT_EQ(shells, (std::map<int, int>{{0, 1}, {8, 240}, {16, 15}}));
}

/// Two parts are worth what their sum is.
TEST(E8P, Residuals) {
  Samples samples(4);
  const Format &two = format("e8p"), &three = format("e8p<3>"),
               &four = format("e8p<4>");
  for (int trial = 0; trial < 1000; ++trial) {
    uint32_t code = samples.next() >> 20;
    std::array<float, 8> first = decoded(two, code & 0xffff),
                         second = decoded(two, code >> 16),
                         sum4 = decoded(four, code),
                         sum3 = decoded(three, code & 0xffffff);
    for (int j = 0; j < 8; ++j) {
      EXPECT_EQ(sum4[j], first[j] + second[j] / 4);
      EXPECT_EQ(sum3[j],
                first[j] + E8Ball::get().twice(code >> 16 & 255, j) / 4.0f);
    }
    // At least as near as the first part's best and the rest's best.
    float x[8], rest[8], error = 0, greedy = 0;
    for (float &value : x)
      value = 0.94f * samples.gaussian();
    std::array<float, 8> base = decoded(two, two.nearest(x, kOne));
    for (int j = 0; j < 8; ++j)
      rest[j] = 4 * (x[j] - base[j]);
    std::array<float, 8> more = decoded(two, two.nearest(rest, kOne)),
                         found = decoded(four, four.nearest(x, kOne));
    for (int j = 0; j < 8; ++j) {
      error += (x[j] - found[j]) * (x[j] - found[j]);
      greedy += (rest[j] - more[j]) * (rest[j] - more[j]) / 16;
    }
    EXPECT_LE(error, greedy + 1e-5f);
  }
}
