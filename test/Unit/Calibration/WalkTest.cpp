//===- WalkTest.cpp - Layers and their inputs, against loops --------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Models.h"
#include "Targets.h"
#include <cmath>

using namespace mlir;
using namespace quench;
using namespace calibration;

namespace {
/// What a walk showed of one layer.
struct Seen {
  InputMoments moments;
  std::vector<float> values;
  int64_t block;
  std::string role;
};
using AllSeen = std::vector<std::pair<std::string, Seen>>;

/// Half of the weight, to see that it goes on with it.
HostTensor halved(const float *values, int64_t rows, int64_t cols) {
  std::vector<float> half(values, values + rows * cols);
  for (float &value : half)
    value *= 0.5f;
  return HostTensor::ofFloats({rows, cols}, half);
}

AllSeen walk(TwoBlocks &model, ArrayRef<std::vector<int64_t>> samples,
             WalkOptions options, bool replace,
             const std::string &stopAt = "") {
  AllSeen seen;
  auto data = CalibrationData::ofTokens(model.main(), samples, "data");
  EXPECT_TRUE(bool(data)) << takeMessage(data.takeError());
  llvm::Error error = walkLayers(
      model.module(), model.files(), *data, options,
      [&](LayerProblem &problem) -> llvm::Expected<HostTensor> {
        if (problem.name == stopAt)
          return llvm::createStringError("stopped");
        auto values = problem.values();
        if (!values)
          return values.takeError();
        auto moments = problem.inputs();
        if (!moments)
          return moments.takeError();
        Seen &layer = seen.emplace_back(problem.name, Seen()).second;
        layer.moments = **moments;
        layer.values.assign(*values, *values + problem.rows * problem.cols);
        layer.block = problem.block;
        layer.role = problem.role;
        if (!replace)
          return HostTensor();
        return halved(*values, problem.rows, problem.cols);
      });
  EXPECT_EQ(takeMessage(std::move(error)), stopAt.empty() ? "" : "stopped");
  return seen;
}

void expectMoments(const InputMoments &found, const Matrix &x,
                   const std::string &name) {
  ASSERT_EQ(found.cols, x.cols) << name;
  EXPECT_EQ(found.count, x.rows) << name;
  EXPECT_EQ(found.skipped, 0) << name;
  double scale = 0, worst = 0;
  for (int64_t i = 0; i < x.cols; ++i) {
    double mean = 0, maximum = 0;
    for (int64_t r = 0; r < x.rows; ++r) {
      mean += x.at(r, i);
      maximum = std::max(maximum, std::fabs(x.at(r, i)));
    }
    EXPECT_NEAR(found.mean[i], mean / x.rows, 1e-5 * (1 + maximum)) << name;
    EXPECT_NEAR(found.maximum[i], maximum, 1e-5 * (1 + maximum)) << name;
    for (int64_t j = 0; j < x.cols; ++j) {
      double sum = 0;
      for (int64_t r = 0; r < x.rows; ++r)
        sum += x.at(r, i) * x.at(r, j);
      scale = std::max(scale, std::fabs(sum));
      worst = std::max(worst, std::fabs(sum - found.second[i * x.cols + j]));
      EXPECT_EQ(found.second[i * x.cols + j], found.second[j * x.cols + i]);
    }
  }
  EXPECT_LT(worst, 2e-6 * scale) << name;
}
} // namespace

static const std::vector<std::string> kOrder = {"a0", "b0", "c0", "d0",
                                                "a1", "b1", "c1", "d1"};

TEST(Walk, FloatInputsAreThoseOfTheModel) {
  TwoBlocks model;
  auto samples = someTokens(9, 150);
  WalkOptions options;
  options.floatInputs = true;
  AllSeen seen = walk(model, samples, options, /*replace=*/true);
  auto expected = model.inputs(samples);
  ASSERT_EQ(seen.size(), kOrder.size());
  for (auto &[name, layer] : seen) {
    expectMoments(layer.moments, expected[name], name);
    const Matrix &weight = model.weight(name);
    ASSERT_EQ(layer.values.size(), weight.v.size());
    for (size_t i = 0; i < weight.v.size(); ++i)
      ASSERT_EQ(layer.values[i], weight.v[i]) << name;
    EXPECT_EQ(layer.block, name[1] - '0');
    EXPECT_EQ(layer.role, "up");
  }
}

TEST(Walk, LayersSeeWhatReplacedOnesDeliver) {
  TwoBlocks model;
  auto samples = someTokens(5, 60);
  AllSeen seen = walk(model, samples, {}, /*replace=*/true);
  std::map<std::string, Matrix> half;
  for (const std::string &name : kOrder) {
    half[name] = model.weight(name);
    for (double &value : half[name].v)
      value *= 0.5;
  }
  auto expected = model.inputs(samples, half);
  ASSERT_EQ(seen.size(), kOrder.size());
  for (size_t i = 0; i < kOrder.size(); ++i) {
    EXPECT_EQ(seen[i].first, kOrder[i]);
    expectMoments(seen[i].second.moments, expected[kOrder[i]], kOrder[i]);
  }
}

TEST(Walk, PairsInputsWithThoseOfTheFloatModel) {
  TwoBlocks model;
  auto samples = someTokens(5, 60);
  auto data = CalibrationData::ofTokens(model.main(), samples, "data");
  ASSERT_TRUE(bool(data));
  std::map<std::string, Matrix> half;
  for (const std::string &name : kOrder) {
    half[name] = model.weight(name);
    for (double &value : half[name].v)
      value *= 0.5;
  }
  auto original = model.inputs(samples), expected = model.inputs(samples, half);
  WalkOptions options;
  options.pairInputs = true;
  options.threads = 2;
  int visits = 0;
  llvm::Error error = walkLayers(
      model.module(), model.files(), *data, options,
      [&](LayerProblem &problem) -> llvm::Expected<HostTensor> {
        ++visits;
        const Matrix &a = original[problem.name], &b = expected[problem.name];
        auto moments = problem.inputs();
        auto products = problem.pairedInputs();
        auto values = problem.values();
        if (!moments || !products || !values)
          return llvm::createStringError("no statistics");
        expectMoments(**moments, b, problem.name);
        EXPECT_EQ(int64_t(products->size()), a.cols * a.cols);
        double scale = 0, worst = 0;
        for (int64_t i = 0; i < a.cols; ++i)
          for (int64_t j = 0; j < a.cols; ++j) {
            double sum = 0;
            for (int64_t r = 0; r < a.rows; ++r)
              sum += a.at(r, i) * b.at(r, j);
            scale = std::max(scale, std::fabs(sum));
            worst =
                std::max(worst, std::fabs(sum - (*products)[i * a.cols + j]));
          }
        EXPECT_LT(worst, 2e-6 * scale) << problem.name;

        // (W' - W) (H + damping) = W (P - H)
        int64_t n = problem.cols;
        std::vector<float> corrected =
            correctedWeights(*values, problem.rows, **moments, *products, 2);
        EXPECT_EQ(int64_t(corrected.size()), problem.rows * n);
        const std::vector<double> &h = (*moments)->second;
        double trace = 0;
        for (int64_t i = 0; i < n; ++i)
          trace += h[i * n + i];
        for (int64_t r = 0; r < problem.rows; ++r)
          for (int64_t j = 0; j < n; ++j) {
            double left = 0, right = 0;
            for (int64_t i = 0; i < n; ++i) {
              double w = (*values)[r * n + i];
              double damped = h[i * n + j] + (i == j ? 0.01 * trace / n : 0);
              left += (corrected[r * n + i] - w) * damped;
              right += w * ((*products)[i * n + j] - h[i * n + j]);
            }
            EXPECT_NEAR(left, right, 1e-5 * (1 + trace)) << problem.name;
          }
        return halved(*values, problem.rows, problem.cols);
      });
  EXPECT_EQ(takeMessage(std::move(error)), "");
  EXPECT_EQ(visits, 8);
}

static void expectEqual(const AllSeen &a, const AllSeen &b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].first, b[i].first);
    EXPECT_EQ(a[i].second.moments.second, b[i].second.moments.second);
    EXPECT_EQ(a[i].second.moments.mean, b[i].second.moments.mean);
    EXPECT_EQ(a[i].second.moments.maximum, b[i].second.moments.maximum);
  }
}

TEST(Walk, ThreadsDoNotChangeAnyBit) {
  TwoBlocks model;
  auto samples = someTokens(7, 700);
  AllSeen one = walk(model, samples, {}, true);
  WalkOptions options;
  options.threads = 3;
  expectEqual(one, walk(model, samples, options, true));
}

TEST(Walk, GoesOnWhereItWasStopped) {
  TwoBlocks model;
  auto samples = someTokens(6, 80);
  AllSeen all = walk(model, samples, {}, false);
  for (std::string stop : {"a0", "b0", "d0", "a1", "d1"}) {
    TemporaryFolder folder;
    WalkOptions options;
    options.folder = folder.path;
    AllSeen before = walk(model, samples, options, false, stop);
    EXPECT_FALSE(filesOf(folder.path).empty());
    options.resume = true;
    AllSeen rest = walk(model, samples, options, false);
    // The layers of the site at which it was stopped come again: c0, d0 and a1
    // share an input.
    ASSERT_LE(rest.size(), all.size() - before.size() + 2) << stop;
    AllSeen tail(all.end() - rest.size(), all.end());
    expectEqual(tail, rest);
    EXPECT_TRUE(filesOf(folder.path).empty());
  }
}

TEST(Walk, SharedWeightsComeOnceAndAgainAfterAStop) {
  TwoBlocks model("", /*tied=*/true);
  auto samples = someTokens(6, 40);
  auto data = CalibrationData::ofTokens(model.main(), samples, "data");
  ASSERT_TRUE(bool(data));
  TemporaryFolder folder;
  WalkOptions options;
  options.folder = folder.path;
  std::vector<std::string> visited;
  std::map<std::string, InputMoments> seen;
  auto run = [&](const std::string &stopAt) {
    visited.clear();
    return takeMessage(
        walkLayers(model.module(), model.files(), *data, options,
                   [&](LayerProblem &problem) -> llvm::Expected<HostTensor> {
                     visited.push_back(problem.name);
                     if (problem.name == stopAt)
                       return llvm::createStringError("stopped");
                     if (problem.name != "a0" || !options.resume) {
                       auto moments = problem.inputs();
                       if (!moments)
                         return moments.takeError();
                       seen[problem.name] = **moments;
                     }
                     auto values = problem.values();
                     if (!values)
                       return values.takeError();
                     return halved(*values, problem.rows, problem.cols);
                   }));
  };
  EXPECT_EQ(run("d0"), "stopped");
  options.resume = true;
  EXPECT_EQ(run(""), "");
  EXPECT_EQ(visited,
            (std::vector<std::string>{"a0", "c0", "d0", "b1", "c1", "d1"}));
  std::map<std::string, Matrix> half;
  for (const std::string &name : kOrder) {
    half[name] = model.weight(name);
    for (double &value : half[name].v)
      value *= 0.5;
  }
  auto expected = model.inputs(samples, half);
  for (auto &[name, moments] : seen)
    expectMoments(moments, expected[name], name);
}

TEST(Walk, BeginsAnewWhereFilesAreBroken) {
  TwoBlocks model;
  auto samples = someTokens(4, 40);
  AllSeen all = walk(model, samples, {}, false);
  TemporaryFolder folder;
  WalkOptions options;
  options.folder = folder.path;
  walk(model, samples, options, false, "a1");
  for (auto &[name, contents] : filesOf(folder.path))
    if (llvm::StringRef(name).ends_with(".spill"))
      EXPECT_EQ(truncate((folder.path + "/" + name).c_str(), 100), 0);
  options.resume = true;
  expectEqual(all, walk(model, samples, options, false));
}

TEST(Walk, VisitsOnlyWhatIsAskedFor) {
  TwoBlocks model;
  auto samples = someTokens(3, 30);
  WalkOptions options;
  options.layers = [](qn::LinearOp op) { return op.getBlock() == 1; };
  AllSeen seen = walk(model, samples, options, false);
  auto expected = model.inputs(samples);
  ASSERT_EQ(seen.size(), 4u);
  for (auto &[name, layer] : seen)
    expectMoments(layer.moments, expected[name], name);
  options.layers = [](qn::LinearOp) { return false; };
  EXPECT_TRUE(walk(model, samples, options, false).empty());
}

TEST(Walk, LeavesRowsOutThatAreNotFinite) {
  TwoBlocks model;
  auto samples = someTokens(3, 50);
  auto data = CalibrationData::ofTokens(model.main(), samples, "data");
  ASSERT_TRUE(bool(data));
  int64_t skipped = -1, count = -1, tokens = data->tokens(), with = 0;
  llvm::Error error = walkLayers(
      model.module(), model.files(), *data, {},
      [&](LayerProblem &problem) -> llvm::Expected<HostTensor> {
        auto moments = problem.inputs();
        if (!moments)
          return moments.takeError();
        if (problem.name == "a0") {
          // A weight that makes the next input infinite for some rows.
          std::vector<float> bad(problem.rows * problem.cols, 1e30f);
          return HostTensor::ofFloats({problem.rows, problem.cols}, bad);
        }
        if (problem.name == "b0") {
          skipped = (*moments)->skipped;
          count = (*moments)->count;
          for (double value : (*moments)->second)
            with += !std::isfinite(value);
        }
        return HostTensor();
      });
  EXPECT_EQ(takeMessage(std::move(error)), "");
  EXPECT_EQ(skipped + count, tokens);
  EXPECT_GT(skipped, 0);
  EXPECT_EQ(with, 0);
}
