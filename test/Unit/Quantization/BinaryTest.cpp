//===- BinaryTest.cpp - Sums and splits of binary codes -------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BinaryTile.h"
#include "Problems.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Packing.h"
#include <algorithm>
#include <cmath>
#include <set>

using namespace quench;

static const char kSum[] = "sum<binary, binary, group = 256>";
static const char kBell[] = "split<magnitude, binary, binary, group = 256>";
static const char kBillm[] =
    "split<columns, sum<binary, binary>, split<magnitude, binary, binary>, "
    "group = 128>";

static std::vector<float> decoded(const Format &f,
                                  const std::vector<float> &weight,
                                  int64_t rows, int64_t cols) {
  std::vector<float> back(rows * cols);
  decodeRows(f, encodeNearest(f, weight.data(), rows, cols, {}), back.data());
  return back;
}

static double meanSquare(const std::vector<float> &a,
                         const std::vector<float> &b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += double(a[i] - b[i]) * (a[i] - b[i]);
  return sum / a.size();
}

TEST(Binary, Names) {
  EXPECT_EQ(format("sum<binary,binary>").spec(),
            "sum<binary, binary, group = 128>");
  EXPECT_EQ(format(kBillm).spec(), kBillm);
  EXPECT_EQ(format("split<columns,sum< binary,binary >,"
                   "split<magnitude,binary,binary>>")
                .spec(),
            kBillm);
  struct {
    const char *spec, *message;
  } wrong[] = {
      {"sum<binary>", "found 'sum<binary>'; accepted are sum<binary, binary>"},
      {"sum<int<4, group = 32>, binary>", "accepted are"},
      {"split<columns, binary, sum<binary, binary>>", "equally many bits"},
      {"split<columns, binary, e8p>", "found 'e8p'"},
      {"sum<binary, binary, group = 100>", "multiple of 32"},
      {"sum<binary, binary, group = 512>", "32 to 256"},
      {"sum<binary, binary<>", "is neither a value nor"},
      {"sum<binary, binary, x<y> = 3>", "is neither a value nor"},
      {"sum<binary, binary,>", "is neither a value nor"},
      {"int<4<5>>", "found '4<5>'"},
  };
  for (const auto &each : wrong) {
    auto made = getFormat(each.spec);
    ASSERT_FALSE(bool(made)) << each.spec;
    std::string message = llvm::toString(made.takeError());
    EXPECT_NE(message.find(each.message), std::string::npos) << message;
  }
}

/// Everything that is stored: two bits, two or four bytes for each row and
/// group, the scales of rows; the set of columns for each 16 rows.
TEST(Binary, Bits) {
  EXPECT_EQ(format(kSum).bits(64, 512), 64 * (512 * 2 + 2 * 16 + 16));
  EXPECT_EQ(format(kBell).bits(64, 300), 64 * (300 * 2 + 2 * 16 + 16));
  EXPECT_EQ(format(kBillm).bits(40, 512),
            40 * (512 * 2 + 4 * 32 + 16) + 3 * 512);
  EXPECT_EQ(format("split<columns, binary, binary>").bits(16, 128),
            16 * (128 + 16 + 16) + 128);
}

/// The figures of a Gaussian. Magnitudes are fitted to 256 numbers, which is
/// worth one or two percent.
TEST(Binary, Gaussian) {
  constexpr int64_t rows = 1024, cols = 256;
  Samples samples(3);
  std::vector<float> weight = samples.gaussians(rows * cols);
  auto check = [&](const char *spec, double error, double low, double high) {
    std::vector<float> back = decoded(format(spec), weight, rows, cols);
    EXPECT_NEAR(meanSquare(weight, back), error, 0.02 * error);
    double sums[2] = {}, inner = 0;
    for (int64_t r = 0; r < rows; ++r) {
      float least = HUGE_VALF, most = 0;
      for (int64_t j = 0; j < cols; ++j) {
        least = std::min(least, std::fabs(back[r * cols + j]));
        most = std::max(most, std::fabs(back[r * cols + j]));
      }
      sums[0] += least / rows;
      sums[1] += most / rows;
      for (int64_t j = 0; j < cols; ++j)
        inner += std::fabs(back[r * cols + j]) == least;
    }
    EXPECT_NEAR(sums[0], low, 0.01);
    EXPECT_NEAR(sums[1], high, 0.015);
    return inner / (rows * cols);
  };
  // Lloyd's and Max's levels; the threshold lies between them.
  double inner = check(kBell, 0.1175, 0.4528, 1.5104);
  EXPECT_NEAR(inner, 0.674, 0.005);
  // 0.798 and 0.482.
  check(kSum, 0.1305, 0.798 - 0.482, 0.798 + 0.482);
  std::vector<float> signs =
      decoded(format("int<1, group = 256>"), weight, rows, cols);
  EXPECT_NEAR(meanSquare(weight, signs), 0.3634, 0.01 * 0.3634);
}

/// The two magnitudes against all ways to part the numbers by size.
TEST(Binary, BestOfAllThresholds) {
  constexpr int64_t n = 32;
  const Format &f = format("split<magnitude, binary, binary, group = 32>");
  Samples samples(8);
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<float> row = samples.gaussians(n), sizes;
    for (float value : row)
      sizes.push_back(std::fabs(value));
    std::sort(sizes.begin(), sizes.end());
    double least = HUGE_VAL;
    for (int64_t cut = 0; cut < n; ++cut) {
      double error = 0;
      for (auto [first, last] :
           {std::pair<int64_t, int64_t>{0, cut}, {cut, n}}) {
        double mean = 0;
        for (int64_t i = first; i < last; ++i)
          mean += sizes[i] / (last - first);
        for (int64_t i = first; i < last; ++i)
          error += (sizes[i] - mean) * (sizes[i] - mean);
      }
      least = std::min(least, error / n);
    }
    double found = meanSquare(row, decoded(f, row, 1, n));
    EXPECT_GE(found, least * 0.9999);
    EXPECT_LE(found, least + 1e-3); // magnitudes are rounded
  }
}

/// Columns that have magnitudes of their own are found.
TEST(Binary, SalientColumns) {
  constexpr int64_t rows = 32, cols = 256;
  const Format &f = format(kBillm);
  Samples samples(5);
  // Of the second group and the last 16 rows.
  const std::set<int64_t> salient{131, 140, 177, 255};
  std::vector<float> weight(rows * cols);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < cols; ++j) {
      float size = samples.below(2) ? 2.0f : 1.0f;
      if (r >= 16 && salient.count(j))
        size = samples.below(2) ? 9.0f : 6.0f;
      weight[r * cols + j] = samples.below(2) ? size : -size;
    }
  EncodedRows encoded = encodeNearest(f, weight.data(), rows, cols, {});
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < cols; ++j)
      EXPECT_EQ(encoded.codes[r * cols + j] >> 3,
                uint32_t(r >= 16 && salient.count(j)))
          << r << " " << j;
  std::vector<float> back(rows * cols);
  decodeRows(f, encoded, back.data());
  // The common ones all but exactly, by half a step of 11 / 127; the salient
  // ones, of which a row has four, by the rule of a sum.
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < cols; ++j)
      if (encoded.codes[r * cols + j] >> 3 == 0)
        EXPECT_NEAR(back[r * cols + j], weight[r * cols + j], 0.06);
  // Without them the larger numbers spoil the magnitudes of their rows.
  double plain =
      meanSquare(weight, decoded(format("split<magnitude, binary, binary>"),
                                 weight, rows, cols));
  EXPECT_LT(meanSquare(weight, back), 0.5 * plain);
}

/// In the metric of the inputs a tile is never worse than without it.
TEST(Binary, FeedbackInsideOfATile) {
  constexpr int64_t n = 64;
  Problem problem(kBlockRows, n, 9, 20);
  Matrix moments = problem.damped(0.01);
  std::vector<float> metric(moments.begin(), moments.end());
  for (const char *spec :
       {"sum<binary, binary, group = 64>",
        "split<magnitude, binary, binary, group = 64>",
        "split<columns, sum<binary, binary>, split<magnitude, binary, binary>, "
        "group = 64>",
        "split<columns, binary, binary, group = 64>"}) {
    const Format &f = format(spec);
    GroupParams params[kBlockRows];
    for (int64_t r = 0; r < kBlockRows; ++r)
      params[r] = f.fit(problem.weight.data() + r * n, n, {});
    std::vector<uint32_t> codes(kBlockRows * n);
    std::vector<float> back(kBlockRows * n);
    auto loss = [&] {
      f.decodeTile(codes.data(), params, back.data());
      double sum = 0;
      for (int64_t r = 0; r < kBlockRows; ++r)
        for (int64_t i = 0; i < n; ++i)
          for (int64_t j = 0; j < n; ++j)
            sum += (problem.weight[r * n + i] - back[r * n + i]) *
                   moments[i * n + j] *
                   (problem.weight[r * n + j] - back[r * n + j]);
      return sum;
    };
    f.nearestTile(problem.weight.data(), params, nullptr, codes.data());
    double plain = loss();
    f.nearestTileIn(metric.data(), problem.weight.data(), params, nullptr,
                    codes.data());
    EXPECT_LT(loss(), 0.6 * plain) << spec;
    // A metric that is none leaves the tile as it is without.
    std::vector<float> none(n * n, -1.0f);
    f.nearestTileIn(none.data(), problem.weight.data(), params, nullptr,
                    codes.data());
    EXPECT_EQ(loss(), plain);
  }
}

TEST(Binary, OddWeights) {
  const Format &f = format(kBillm);
  std::vector<float> zeros(20 * 200, 0.0f);
  EXPECT_EQ(decoded(f, zeros, 20, 200), zeros);
  Samples samples(2);
  std::vector<float> weight = samples.gaussians(20 * 200);
  weight[3] = NAN;
  weight[500] = INFINITY;
  weight[700] = 3e38f;
  for (float value : decoded(f, weight, 20, 200))
    EXPECT_TRUE(std::isfinite(value));
  // A ragged end does not see what fills its tile up.
  std::vector<float> two = {1.0f, -2.0f};
  std::vector<float> back = decoded(f, two, 1, 2);
  EXPECT_NEAR(back[0], 1.0f, 0.02);
  EXPECT_NEAR(back[1], -2.0f, 0.02);
}

/// What fills a tile up does not count: 64 columns are coded in a tile of 128
/// as in one of their own.
TEST(Binary, RaggedTiles) {
  Problem problem(32, 64, 4, 20);
  auto loss = [&](const char *how, const std::string &group) {
    const Format &f = format("split<columns, sum<binary, binary>, "
                             "split<magnitude, binary, binary>, group = " +
                             group + ">");
    return quantize(how, problem.with(f)).loss;
  };
  for (const char *how : {"rtn", "ldlq"})
    EXPECT_NEAR(loss(how, "128"), loss(how, "64"), 0.1 * loss(how, "64"))
        << how;
}

/// Codes, bit for bit, on any number of threads; scales and codes by turns.
TEST(Binary, Feedback) {
  Problem problem(48, 200, 6, 20);
  const Format &f = format(kBillm);
  double nearest = quantize("rtn", problem.with(f)).loss;
  QuantizeResult one = quantize("ldlq", problem.with(f));
  QuantizeResult more = quantize("ldlq", problem.with(f, 3));
  EXPECT_EQ(one.encoded.codes, more.encoded.codes);
  EXPECT_LT(one.loss, 0.4 * nearest);
  EXPECT_LE(quantize("ldlq<cd = 2, refit>", problem.with(f)).loss, one.loss);
}
