//===- E8PTest.cpp - The E8 lattice code ----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Samples.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Packing.h"
#include <array>
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
  // Distances from some points to all others.
  Samples samples(1);
  float least = 100;
  for (int trial = 0; trial < 100; ++trial) {
    uint32_t code = samples.below(65536);
    std::array<float, 8> a = decoded(f, code);
    for (const std::array<float, 8> &b : points) {
      float distance = 0;
      for (int j = 0; j < 8; ++j)
        distance += (a[j] - b[j]) * (a[j] - b[j]);
      if (distance > 0)
        least = std::min(least, distance);
    }
  }
  EXPECT_EQ(least, 2.0f);
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
  for (int trial = 0; trial < 10000; ++trial) {
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

TEST(E8P, ErrorOfAGaussian) {
  const Format &f = format("e8p");
  Samples samples(3);
  int64_t rows = 200, cols = 8000;
  std::vector<float> weight = samples.gaussians(rows * cols), back(rows * cols);
  decodeRows(f, encodeNearest(f, weight.data(), rows, cols, FitOptions()),
             back.data());
  double error = 0;
  for (size_t i = 0; i < back.size(); ++i)
    error += (back[i] - weight[i]) * (back[i] - weight[i]);
  EXPECT_NEAR(error / back.size(), 0.0915, 0.0008);
}
