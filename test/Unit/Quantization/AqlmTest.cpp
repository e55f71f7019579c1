//===- AqlmTest.cpp - Sums of learned codewords ---------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Problems.h"
#include "quench/Quantization/Codebook.h"
#include "quench/Quantization/Packing.h"
#include <numeric>

using namespace quench;

static double meanSquare(llvm::ArrayRef<float> a, llvm::ArrayRef<float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += double(a[i] - b[i]) * (a[i] - b[i]);
  return sum / a.size();
}

/// Mean squared error of rounding N(0, 1) to nearest: of the numbers that the
/// table was learned from, or of others.
static double gaussianError(llvm::StringRef spec, int64_t rows, int64_t cols,
                            bool others = false) {
  const Format &f = format(spec);
  Samples samples(7);
  std::vector<float> weight = samples.gaussians(rows * cols), back;
  EncodedRows shared = fitShared(f, weight.data(), rows, cols, FitOptions());
  if (others) {
    rows = std::min<int64_t>(rows, 64);
    weight = samples.gaussians(rows * cols);
  }
  back.resize(rows * cols);
  decodeRows(f,
             encodeNearest(f, weight.data(), rows, cols, FitOptions(), &shared),
             back.data());
  return meanSquare(weight, back);
}

TEST(Codebook, ClustersAreFoundAgain) {
  // Well apart, k-means++ finds them all.
  Samples samples(3);
  std::vector<float> points;
  for (int i = 0; i < 2000; ++i) {
    int c = i % 20;
    points.push_back(10 * (c % 5) + 0.1f * samples.gaussian());
    points.push_back(10 * (c / 5) + 0.1f * samples.gaussian());
  }
  KMeansOptions options;
  options.clusters = 20;
  options.restarts = 3;
  std::vector<float> centers = kMeans(points, 2, nullptr, options);
  for (int c = 0; c < 20; ++c) {
    float least = 1e9f;
    for (int i = 0; i < 20; ++i)
      least = std::min(least, std::hypot(centers[2 * i] - 10 * (c % 5),
                                         centers[2 * i + 1] - 10 * (c / 5)));
    EXPECT_LT(least, 0.1f) << c;
  }
  EXPECT_EQ(centers, kMeans(points, 2, nullptr, options)); // every time
}

TEST(Codebook, WeightsCount) {
  // Two clusters for three points: the light one shares.
  std::vector<float> points{0, 1, 10, 0, 1, 10, 0, 1, 10},
      weights{1, 3, 1, 1, 3, 1, 1, 3, 1};
  KMeansOptions options;
  options.clusters = 2;
  options.restarts = 4;
  std::vector<float> centers = kMeans(points, 1, weights.data(), options);
  std::sort(centers.begin(), centers.end());
  EXPECT_FLOAT_EQ(centers[0], 0.75f);
  EXPECT_FLOAT_EQ(centers[1], 10.0f);
}

TEST(Codebook, FewPoints) {
  KMeansOptions options;
  options.clusters = 8;
  std::vector<float> points{1, 2, 3};
  std::vector<float> centers = kMeans(points, 1, nullptr, options);
  EXPECT_EQ(centers, (std::vector<float>{1, 2, 3, 1, 2, 3, 1, 2}));
  EXPECT_EQ(kMeans({}, 4, nullptr, options), std::vector<float>(32));
}

TEST(Codebook, WholeBeamFindsTheNearestSum) {
  Samples samples(5);
  for (int64_t entries : {4, 13, 32}) {
    AdditiveCodebook book(2, entries, 5, samples.gaussians(2 * entries * 5));
    for (int trial = 0; trial < 20; ++trial) {
      std::vector<float> point = samples.gaussians(5), sum(5);
      double least = 1e9;
      for (uint32_t a = 0; a < entries; ++a)
        for (uint32_t b = 0; b < entries; ++b) {
          uint32_t codes[2] = {a, b};
          book.sum(codes, sum.data());
          least = std::min(least, meanSquare(point, sum));
        }
      uint32_t codes[2];
      book.find(point.data(), entries, codes);
      book.sum(codes, sum.data());
      EXPECT_NEAR(meanSquare(point, sum), least, 1e-6);
      // A small beam is no worse than none.
      double last = 1e9;
      for (int64_t beam : {1, 4, 32}) {
        book.find(point.data(), beam, codes);
        book.sum(codes, sum.data());
        EXPECT_GE(meanSquare(point, sum), least - 1e-6);
        last = meanSquare(point, sum);
      }
      EXPECT_NEAR(last, least, 1e-6);
    }
  }
}

TEST(Codebook, LeastSquaresFindsWhatMadeThePoints) {
  Samples samples(9);
  constexpr int64_t kWords = 400, kEntries = 8, kWidth = 3;
  std::vector<float> truth = samples.gaussians(2 * kEntries * kWidth);
  std::vector<uint32_t> codes;
  std::vector<float> scales, errors;
  for (int64_t i = 0; i < kWords; ++i) {
    scales.push_back(0.5f + samples.uniform());
    codes.push_back(samples.below(kEntries));
    codes.push_back(samples.below(kEntries));
    for (int64_t j = 0; j < kWidth; ++j)
      errors.push_back(scales[i] *
                       (truth[codes[2 * i] * kWidth + j] +
                        truth[(kEntries + codes[2 * i + 1]) * kWidth + j]));
  }
  // Coordinates count differently, and neighbours together.
  auto weigh = [](std::vector<float> &v) {
    std::vector<float> old = v;
    for (size_t i = 0; i < v.size(); ++i)
      v[i] = (1 + i % 3) * old[i] + (i ? 0.3f * old[i - 1] : 0) +
             (i + 1 < v.size() ? 0.3f * old[i + 1] : 0);
  };
  auto norm = [&](std::vector<float> v) {
    std::vector<float> w = v;
    weigh(w);
    return std::inner_product(v.begin(), v.end(), w.begin(), 0.0);
  };
  std::vector<float> vectors(truth.size());
  CodebookFit fit{2,    kEntries, kWidth, kWords, codes.data(), scales.data(),
                  weigh};
  double before = norm(errors), first = before;
  for (int i = 0; i < 12; ++i) {
    fit.improve(vectors, errors, 4);
    double now = norm(errors);
    EXPECT_LE(now, before * (1 + 1e-6));
    before = now;
  }
  EXPECT_LT(before, 1e-6 * first);
}

TEST(Aqlm, GaussianError) {
  // Lloyd-Max quantizers of a normal distribution.
  EXPECT_NEAR(gaussianError("aqlm<1x1, group = 1>", 32, 1024), 0.3634, 0.008);
  EXPECT_NEAR(gaussianError("aqlm<1x2, group = 1>", 32, 1024), 0.1175, 0.003);
  EXPECT_NEAR(gaussianError("aqlm<1x4, group = 1>", 32, 1024), 0.0095, 0.0005);
}

TEST(Aqlm, BitsCountTheTable) {
  const Format &f = format("aqlm<2x8, group = 8>");
  EXPECT_EQ(f.tableBytes(), 2 * 256 * 8 + 4);
  EXPECT_EQ(f.bits(4096, 4096),
            4096 * 4096 * 2 + 4096 * 16 + 8 * f.tableBytes());
  // 3 bits for two weights, and tables that are repeated to 16 entries.
  EXPECT_EQ(format("aqlm<1x3, group = 2>").bits(2, 5),
            2 * (3 * 3 + 16) + 8 * (2 * 16 + 4));
}

TEST(Aqlm, StrangeWeights) {
  const Format &f = format("aqlm<2x4, group = 4>");
  auto check = [&](std::vector<float> w, int64_t rows, double most) {
    std::vector<float> back(w.size());
    int64_t cols = w.size() / rows;
    decodeRows(f, encodeNearest(f, w.data(), rows, cols, FitOptions()),
               back.data());
    double error = 0, all = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      EXPECT_TRUE(std::isfinite(back[i]));
      error += (back[i] - w[i]) * (back[i] - w[i]);
      all += w[i] * w[i];
    }
    EXPECT_LE(error, most * all);
  };
  check(std::vector<float>(60), 3, 0); // zeros stay zeros
  check({1, -2, 3}, 1, 1e-3);
  check(std::vector<float>(64, 2.5f), 4, 1e-3);
  std::vector<float> spike(64, 0.0f);
  spike[17] = 1e4f;
  check(spike, 1, 1e-3);
  check({1e-8f, -1e-8f, 3e-8f, 0}, 1, 16); // scales are halves
  check({1e30f, -1e30f, 2e30f, 0}, 1, 1);
}

// Large tables: every vector is tried, in blocks of points.
TEST(Codebook, NearestOfAllInLargeTables) {
  Samples samples(15);
  constexpr int64_t kEntries = 4096, kWidth = 8, kPoints = 83;
  std::vector<float> vectors = samples.gaussians(kEntries * kWidth);
  // Two that are the same: the first one is found.
  std::copy_n(vectors.begin(), kWidth, vectors.end() - kWidth);
  std::vector<float> points = samples.gaussians(kPoints * kWidth);
  std::copy_n(vectors.begin(), kWidth, points.begin() + kWidth);
  NearestVector nearest(vectors, kWidth);
  AdditiveCodebook book(1, kEntries, kWidth, vectors);
  std::vector<uint32_t> found(kPoints), again(kPoints);
  nearest.findAll(points.data(), kPoints, found.data());
  book.findAll(points.data(), kPoints, 16, again.data());
  EXPECT_EQ(found, again);
  EXPECT_EQ(found[1], 0u);
  for (int64_t i = 0; i < kPoints; ++i) {
    EXPECT_EQ(found[i], nearest.find(points.data() + i * kWidth));
    auto distance = [&](int64_t e) {
      double sum = 0;
      for (int64_t j = 0; j < kWidth; ++j) {
        double d = double(points[i * kWidth + j]) - vectors[e * kWidth + j];
        sum += d * d;
      }
      return sum;
    };
    double least = 1e9;
    for (int64_t e = 0; e < kEntries; ++e)
      least = std::min(least, distance(e));
    EXPECT_NEAR(distance(found[i]), least, 1e-5);
  }
}

// Two large tables have no products that are made before; the sums found are as
// good as with them.
TEST(Codebook, LargeTablesAddUp) {
  Samples samples(16);
  constexpr int64_t kEntries = 1024, kWidth = 4;
  std::vector<float> vectors = samples.gaussians(2 * kEntries * kWidth);
  AdditiveCodebook book(2, kEntries, kWidth, vectors);
  std::vector<float> sum(kWidth);
  for (int trial = 0; trial < 3; ++trial) {
    std::vector<float> point = samples.gaussians(kWidth);
    double least = 1e9;
    for (uint32_t a = 0; a < kEntries; ++a)
      for (uint32_t b = 0; b < kEntries; ++b) {
        double square = 0;
        for (int64_t j = 0; j < kWidth; ++j) {
          double d =
              double(point[j]) - book.vector(0, a)[j] - book.vector(1, b)[j];
          square += d * d;
        }
        least = std::min(least, square / kWidth);
      }
    uint32_t codes[2];
    book.find(point.data(), kEntries, codes);
    book.sum(codes, sum.data());
    EXPECT_NEAR(meanSquare(point, sum), least, 1e-6);
  }
}

TEST(Codebook, ManyClusters) {
  // From points chosen at random, in any number of threads.
  Samples samples(17);
  std::vector<float> points = samples.gaussians(6000 * 2);
  KMeansOptions options;
  options.clusters = 2000;
  options.iterations = 5;
  std::vector<float> centers = kMeans(points, 2, nullptr, options);
  options.threads = 3;
  EXPECT_EQ(centers, kMeans(points, 2, nullptr, options));
  // Points that are all alike leave clusters without any.
  std::vector<float> alike(6000, 1.5f);
  for (float center : kMeans(alike, 1, nullptr, options))
    EXPECT_EQ(center, 1.5f);
}

// At a high rate the error of the best N vectors of k normal numbers is
// G 2 pi ((k + 2) / k)^((k + 2) / 2) N^(-2 / k) (Zador), G = 0.0766 for k = 4;
// few vectors are a little worse, those learned from the numbers themselves
// better.
TEST(Aqlm, LargeTablesNearTheLimit) {
  double zador = 0.0766 * 6.2832 * std::pow(1.5, 3) / std::sqrt(1024.0);
  EXPECT_NEAR(gaussianError("aqlm<1x10, group = 4>", 64, 2048, true), zador,
              0.1 * zador);
}

TEST(Aqlm, MoreEntriesThanVectors) {
  // Each vector has an entry of its own: only its rounding to bytes is lost.
  EXPECT_LT(gaussianError("aqlm<1x12, group = 8>", 32, 256), 4e-4);
  const Format &f = format("aqlm<1x16, group = 8>");
  EXPECT_EQ(f.bits(32, 256), 32 * 256 * 2 + 32 * 16 + 8 * (65536 * 8 + 4));
  auto wrong = getFormat("aqlm<1x12, group = 6>");
  ASSERT_FALSE(bool(wrong));
  EXPECT_NE(llvm::toString(wrong.takeError()).find("multiple of 4"),
            std::string::npos);
}

// Columns that count more lie nearer to the table's vectors.
TEST(Aqlm, TablesFollowTheWeightsOfColumns) {
  for (const char *spec : {"aqlm<1x6, group = 4>", "aqlm<2x4, group = 4>",
                           "vptq<1x8, rows = 8>"}) {
    const Format &f = format(spec);
    constexpr int64_t kRows = 64, kCols = 256;
    Samples samples(18);
    std::vector<float> weight = samples.gaussians(kRows * kCols);
    // Other shapes in the first quarter, which counts.
    std::vector<double> counts(kCols, 0.01);
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t col = 0; col < kCols / 4; ++col) {
        counts[col] = 1;
        weight[row * kCols + col] = std::fabs(weight[row * kCols + col]);
      }
    auto errorOf = [&](const FitOptions &options) {
      EncodedRows shared = fitShared(f, weight.data(), kRows, kCols, options);
      std::vector<float> back(weight.size());
      decodeRows(
          f, encodeNearest(f, weight.data(), kRows, kCols, options, &shared),
          back.data());
      double sum = 0;
      for (size_t i = 0; i < back.size(); ++i) {
        double error = weight[i] - back[i];
        sum += counts[i % kCols] * error * error;
      }
      return sum;
    };
    FitOptions options;
    double plain = errorOf(options);
    options.columnWeights = counts;
    double weighted = errorOf(options);
    EXPECT_LT(weighted, 0.95 * plain) << spec;
    options.threads = 3;
    EXPECT_EQ(errorOf(options), weighted) << spec;
  }
}

TEST(AqlmQuantizer, OneLargeTable) {
  const Format &f = format("aqlm<1x10, group = 4>");
  Problem problem(64, 128, 5);
  double rounded = quantize("rtn", problem.with(f)).loss;
  double feedback = quantize("ldlq", problem.with(f)).loss;
  QuantizeResult searched = quantize("aqlm", problem.with(f));
  EXPECT_LT(feedback, rounded);
  EXPECT_LT(searched.loss, feedback);
  EXPECT_EQ(quantize("aqlm", problem.with(f, 3)).encoded.codes,
            searched.encoded.codes);
}

/// What a decode in registers gives is what the host decodes.
TEST(Aqlm, NegativeCodesAreTheLastEntries) {
  const Format &f = format("aqlm<1x8, group = 1>");
  std::vector<uint8_t> table(f.tableBytes());
  table[255] = 200;
  table[table.size() - 1] = 0x3f; // 0.5
  std::unique_ptr<Format> bound = f.bind(table);
  float value;
  GroupParams params;
  params.scale = 0x3c00;
  bound->decode(uint32_t(int8_t(-1)) & 0xff, params, &value);
  EXPECT_EQ(value, (200 - 128) * f.unit());
}

TEST(AqlmQuantizer, EachRoundHelps) {
  for (const char *spec : {"aqlm<2x4, group = 4>", "aqlm<1x8, group = 8>"}) {
    const Format &f = format(spec);
    Problem problem(48, 96, 5);
    for (bool known : {true, false}) {
      QuantizeProblem given = problem.with(f);
      if (!known)
        given.hessian = nullptr;
      double last = quantize("rtn", given).loss;
      EXPECT_NEAR(quantize("aqlm<rounds = 0>", given).loss, last, 1e-12);
      for (const char *rounds : {"1", "2", "4"}) {
        std::string name =
            std::string("aqlm<damp = 0, rounds = ") + rounds + ">";
        double now = quantize(name, given).loss;
        EXPECT_LE(now, last * (1 + 1e-6)) << spec << name << known;
        last = now;
      }
      if (known) // not a little
        EXPECT_LT(last, 0.6 * quantize("rtn", given).loss) << spec;
    }
  }
}

TEST(AqlmQuantizer, BeatsFeedback) {
  const Format &f = format("aqlm<2x4, group = 4>");
  Problem problem(64, 96, 8);
  QuantizeProblem given = problem.with(f);
  double rounded = quantize("rtn", given).loss;
  double feedback = quantize("ldlq", given).loss;
  double searched = quantize("aqlm", given).loss;
  EXPECT_LT(feedback, rounded);
  EXPECT_LT(searched, feedback);
}

TEST(AqlmQuantizer, AnyNumberOfThreads) {
  const Format &f = format("aqlm<2x4, group = 8>");
  Problem problem(70, 60, 3); // neither whole chunks nor whole codewords
  QuantizeResult one = quantize("aqlm", problem.with(f, 1));
  QuantizeResult three = quantize("aqlm", problem.with(f, 3));
  EXPECT_EQ(one.encoded.codes, three.encoded.codes);
  EXPECT_EQ(one.encoded.table, three.encoded.table);
  EXPECT_EQ(one.loss, three.loss);
  EXPECT_LT(one.loss, quantize("rtn", problem.with(f)).loss);
}

TEST(AqlmQuantizer, StrangeProblems) {
  const Format &f = format("aqlm<1x4, group = 4>");
  Problem problem(4, 16, 2);
  std::fill(problem.hessian.begin(), problem.hessian.end(), 0.0);
  EXPECT_EQ(quantize("aqlm", problem.with(f)).loss, 0);
  std::fill(problem.weight.begin(), problem.weight.end(), 0.0f);
  QuantizeProblem zeros = problem.with(f);
  zeros.hessian = nullptr;
  EXPECT_EQ(quantize("aqlm", zeros).loss, 0);
  // Other formats.
  Problem other(4, 16, 2);
  auto result = (*getQuantizer("aqlm"))->quantize(other.with(format("int<4>")));
  ASSERT_FALSE(bool(result));
  EXPECT_NE(llvm::toString(result.takeError()).find("found int<4>"),
            std::string::npos);
}
