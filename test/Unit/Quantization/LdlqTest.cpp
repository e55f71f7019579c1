//===- LdlqTest.cpp - GPTQ and LDLQ against their definitions -------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Problems.h"
#include <numeric>

using namespace quench;

namespace {

/// The inverse of a positive definite matrix, by Gauss-Jordan.
Matrix inverse(Matrix work, int64_t n) {
  Matrix result(n * n);
  for (int64_t i = 0; i < n; ++i)
    result[i * n + i] = 1;
  for (int64_t column = 0; column < n; ++column) {
    double pivot = work[column * n + column];
    for (int64_t j = 0; j < n; ++j) {
      work[column * n + j] /= pivot;
      result[column * n + j] /= pivot;
    }
    for (int64_t i = 0; i < n; ++i) {
      double factor = work[i * n + column];
      for (int64_t j = 0; i != column && j < n; ++j) {
        work[i * n + j] -= factor * work[column * n + j];
        result[i * n + j] -= factor * result[column * n + j];
      }
    }
  }
  return result;
}

/// Upper triangular T with T^T T = matrix.
Matrix cholesky(const Matrix &matrix, int64_t n) {
  Matrix t(n * n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = i; j < n; ++j) {
      double sum = matrix[i * n + j];
      for (int64_t k = 0; k < i; ++k)
        sum -= t[k * n + i] * t[k * n + j];
      t[i * n + j] = i == j ? std::sqrt(sum) : sum / t[i * n + i];
    }
  return t;
}

/// The published recursion of GPTQ for scalar codes: the codes of all rows.
/// Columns come in `order`; scales are given.
std::vector<uint32_t> gptqCodes(const Problem &problem, const Format &format,
                                const EncodedRows &given,
                                const std::vector<int32_t> &order) {
  int64_t n = problem.cols;
  Matrix damped = problem.damped(0.01), ordered(n * n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      ordered[i * n + j] = damped[order[i] * n + order[j]];
  Matrix t = cholesky(inverse(ordered, n), n);
  std::vector<uint32_t> codes(problem.rows * n);
  int64_t groups = format.groupsPerRow(n);
  for (int64_t row = 0; row < problem.rows; ++row) {
    std::vector<double> v(n);
    for (int64_t i = 0; i < n; ++i)
      v[i] = problem.weight[row * n + order[i]];
    for (int64_t i = 0; i < n; ++i) {
      int64_t group = format.group() ? order[i] / format.group() : 0;
      GroupParams params = given.params[row * groups + group];
      float value = v[i], decoded;
      uint32_t code = format.nearest(&value, params);
      format.decode(code, params, &decoded);
      codes[row * n + order[i]] = code;
      double error = (v[i] - decoded) / t[i * n + i];
      for (int64_t j = i; j < n; ++j)
        v[j] -= error * t[i * n + j];
    }
  }
  return codes;
}

std::vector<int32_t> natural(int64_t n) {
  std::vector<int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

/// Columns by falling diagonal.
std::vector<int32_t> byDiagonal(const Matrix &hessian, int64_t n) {
  std::vector<int32_t> order = natural(n);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    double first = hessian[a * n + a], second = hessian[b * n + b];
    return first != second ? first > second : a < b;
  });
  return order;
}

// Acceptance G1.
TEST(Ldlq, EqualsGPTQ) {
  for (int64_t cols : {64, 200, 300}) {
    Problem problem(16, cols, 1);
    for (llvm::StringRef spec :
         {"int<3>", "int<4, group = 32>", "int<4, group = 48, zero>",
          "int<2, group = 64, half>", "nf4<group = 64>", "ternary<2>",
          "int<4, group = 1000>"})
      for (bool actOrder : {false, true}) {
        const Format &used = format(spec);
        QuantizeResult result =
            quantize(actOrder ? "gptq<act-order>" : "gptq", problem.with(used));
        EXPECT_EQ(result.note, "");
        std::vector<int32_t> order =
            actOrder ? byDiagonal(problem.hessian, cols) : natural(cols);
        EXPECT_EQ(result.encoded.codes,
                  gptqCodes(problem, used, result.encoded, order))
            << spec.str() << " " << cols << " " << actOrder;
      }
  }
}

/// Scales of groups are fitted to the values that feedback has made of them:
/// with other scales in them, the oracle's values would differ.
TEST(Ldlq, ScalesComeFromPresentValues) {
  Problem problem(8, 96, 2);
  const Format &used = format("int<4, group = 32>");
  int64_t n = problem.cols;
  EncodedRows encoded = quantize("gptq", problem.with(used)).encoded;
  Matrix unit = LdlFactors(problem.damped(0.01), n).unit;
  std::vector<float> decoded = decodedRows(used, encoded);
  for (int64_t row = 0; row < problem.rows; ++row)
    for (int64_t group = 0; group < 3; ++group) {
      std::vector<float> values;
      for (int64_t k = 32 * group; k < 32 * (group + 1); ++k) {
        double value = problem.weight[row * n + k];
        for (int64_t j = 0; j < 32 * group; ++j)
          value +=
              (double(problem.weight[row * n + j]) - decoded[row * n + j]) *
              unit[j * n + k];
        values.push_back(value);
      }
      EXPECT_EQ(encoded.params[row * 3 + group].scale,
                used.fit(values.data(), 32, {}).scale);
    }
  EncodedRows fixed =
      quantize("gptq<static-groups>", problem.with(used)).encoded;
  for (int64_t row = 0; row < problem.rows; ++row)
    for (int64_t group = 0; group < 3; ++group)
      EXPECT_EQ(fixed.params[row * 3 + group].scale,
                used.fit(&problem.weight[row * n + 32 * group], 32, {}).scale);
}

/// Acceptance G2, G3: the loss is the sum of D_k e_k^2, exactly, and so below
/// (delta / 2)^2 tr D.
TEST(Ldlq, ErrorIdentityAndBound) {
  Problem problem(16, 64, 3);
  const Format &used = format("int<8>");
  int64_t n = problem.cols;
  Matrix hessian = problem.damped(0.01);
  LdlFactors ldl(hessian, n);
  QuantizeResult result = quantize("gptq", problem.with(used));
  std::vector<float> decoded = decodedRows(used, result.encoded);
  double sum = 0, bound = 0;
  for (int64_t row = 0; row < problem.rows; ++row) {
    double delta = used.scaleOf(result.encoded.params[row]);
    for (int64_t k = 0; k < n; ++k) {
      double target = 0;
      for (int64_t j = 0; j <= k; ++j)
        target += (double(problem.weight[row * n + j]) - decoded[row * n + j]) *
                  ldl.unit[j * n + k];
      sum += ldl.d[k] * target * target; // target less its code
      bound += 0.25 * delta * delta * ldl.d[k];
    }
  }
  double loss = lossOf(problem, hessian, decoded);
  EXPECT_NEAR(sum / loss, 1, 1e-6);
  EXPECT_LE(loss, bound);
  // As if errors were uniform in a step.
  EXPECT_NEAR(loss / (bound / 3), 1, 0.15);
  double trace = 0;
  for (int64_t k = 0; k < n; ++k)
    trace += hessian[k * n + k];
  EXPECT_LT(ldl.trace(), trace);
  // The loss that the result reports is that of the moments as given.
  std::vector<float> zeros(decoded.size());
  EXPECT_NEAR(result.loss,
              lossOf(problem, problem.hessian, decoded) /
                  lossOf(problem, problem.hessian, zeros),
              1e-9 * result.loss + 1e-15);
}

// Acceptance G4.
TEST(Ldlq, StochasticTwiceTheLoss) {
  Problem problem(64, 128, 4);
  const Format &used = format("int<6>");
  double nearest = quantize("gptq", problem.with(used)).loss, random = 0;
  for (int seed = 1; seed <= 4; ++seed)
    random += quantize("gptq<stochastic, seed = " + std::to_string(seed) + ">",
                       problem.with(used))
                  .loss /
              4;
  EXPECT_NEAR(random / nearest, 2.0, 0.2);
}

/// Unbiased: the mean over many seeds comes to the weights.
TEST(Ldlq, StochasticIsUnbiased) {
  Problem problem(4, 16, 5);
  for (llvm::StringRef spec : {"int<6>", "int<6, group = 8, zero>"}) {
    const Format &used = format(spec);
    std::vector<double> mean(64, 0.0);
    constexpr int kRuns = 400;
    float step = 0;
    for (int seed = 1; seed <= kRuns; ++seed) {
      EncodedRows encoded =
          quantize("gptq<stochastic, static-groups, seed = " +
                       std::to_string(seed) + ">",
                   {&used, problem.weight.data(), 4, 16, nullptr, 1})
              .encoded;
      for (GroupParams params : encoded.params)
        step = std::max(step, used.scaleOf(params));
      std::vector<float> decoded = decodedRows(used, encoded);
      for (int i = 0; i < 64; ++i)
        mean[i] += decoded[i] / kRuns;
    }
    for (int i = 0; i < 64; ++i) {
      // The ends of a range may be cut.
      int group = used.group() ? used.group() : 16;
      const float *values = &problem.weight[i / group * group];
      auto [low, high] = std::minmax_element(values, values + group);
      if (problem.weight[i] != *low && problem.weight[i] != *high)
        EXPECT_NEAR(mean[i], problem.weight[i], 0.13 * step) << spec.str();
    }
  }
}

// Acceptance G5.
TEST(Ldlq, ActOrderTraces) {
  // A few columns are much larger than the others.
  Problem problem(16, 64, 6);
  int64_t n = problem.cols;
  Samples random(7);
  for (int k = 0; k < 6; ++k) {
    int64_t column = random.below(n);
    for (int64_t i = 0; i < n; ++i) {
      problem.hessian[i * n + column] *= 8;
      problem.hessian[column * n + i] *= 8;
    }
  }
  auto trace = [&](const std::vector<int32_t> &order) {
    Matrix ordered(n * n);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        ordered[i * n + j] = problem.hessian[order[i] * n + order[j]];
    return LdlFactors(ordered, n).trace();
  };
  std::vector<int32_t> falling = byDiagonal(problem.hessian, n);
  std::vector<int32_t> rising(falling.rbegin(), falling.rend());
  EXPECT_LT(trace(falling), trace(natural(n)));
  EXPECT_LT(trace(natural(n)), trace(rising));
  const Format &used = format("int<4>");
  EXPECT_LT(quantize("gptq<act-order>", problem.with(used)).loss,
            quantize("gptq", problem.with(used)).loss);
}

/// BlockLDLQ by its definition: each block's code is no worse for its target,
/// in the metric of D, than the one nearest to it.
TEST(Ldlq, VectorCodes) {
  for (llvm::StringRef spec : {"e8p", "ternary<5, group = 40>", "ternary<5>"}) {
    Problem problem(6, 80, 8);
    const Format &used = format(spec);
    int64_t n = problem.cols, length = used.codeLength();
    EncodedRows encoded =
        quantize("ldlq<static-groups>", problem.with(used)).encoded;
    std::vector<int32_t> columns = codeColumns(used, n), order;
    for (int32_t column : columns)
      if (column >= 0)
        order.push_back(column);
    Matrix damped = problem.damped(0.01), ordered(n * n);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        ordered[i * n + j] = damped[order[i] * n + order[j]];
    // The target of block b given the errors before it and none after is
    // where the loss is least over all later columns too: w_b + E_<b (H_<b,>=b
    // H_>=b,>=b^-1)_b.
    int64_t perRow = codesPerRow(used, n);
    ASSERT_EQ(perRow * length, n);
    std::vector<float> decoded = decodedRows(used, encoded);
    for (int64_t place = 0; place < n; place += length) {
      int64_t rest = n - place;
      Matrix tail(rest * rest);
      for (int64_t i = 0; i < rest; ++i)
        for (int64_t j = 0; j < rest; ++j)
          tail[i * rest + j] = ordered[(place + i) * n + place + j];
      tail = inverse(tail, rest);
      Matrix metric(length * length);
      for (int64_t i = 0; i < length; ++i)
        for (int64_t j = 0; j < length; ++j)
          metric[i * length + j] = tail[i * rest + j];
      metric = inverse(metric, length);
      int64_t improved = 0;
      for (int64_t row = 0; row < problem.rows; ++row) {
        std::vector<double> pull(rest);
        for (int64_t j = 0; j < place; ++j) {
          int64_t at = row * n + order[j];
          for (int64_t i = 0; i < rest; ++i)
            pull[i] += (double(problem.weight[at]) - decoded[at]) *
                       ordered[j * n + place + i];
        }
        std::vector<float> target(length), code(length);
        for (int64_t k = 0; k < length; ++k) {
          double value = problem.weight[row * n + order[place + k]];
          for (int64_t i = 0; i < rest; ++i)
            value += pull[i] * tail[i * rest + k];
          target[k] = value;
        }
        int64_t group = used.group() ? order[place] / used.group() : 0;
        GroupParams params = encoded.params[row * used.groupsPerRow(n) + group];
        auto distance = [&](uint32_t word) {
          used.decode(word, params, code.data());
          double sum = 0;
          for (int64_t i = 0; i < length; ++i)
            for (int64_t j = 0; j < length; ++j)
              sum += (target[i] - code[i]) * metric[i * length + j] *
                     (target[j] - code[j]);
          return sum;
        };
        uint32_t chosen = encoded.codes[row * perRow + place / length];
        uint32_t nearest = used.nearest(target.data(), params);
        EXPECT_LE(distance(chosen), distance(nearest) * (1 + 1e-5))
            << spec.str();
        improved += chosen != nearest;
      }
      EXPECT_LE(improved, problem.rows / 2) << spec.str();
    }
  }
}

/// Passes of coordinate descent and fitted scales never raise the loss, and
/// end where no single code can be changed to lower it.
TEST(Ldlq, Descent) {
  for (llvm::StringRef spec : {"int<2, group = 8, half>", "int<3, group = 12>",
                               "ternary<5, group = 20>",
                               "int<3, group = 16, zero>", "int<2>", "e8p"}) {
    Problem problem(5, 40, 9);
    const Format &used = format(spec);
    Matrix hessian = problem.damped(0.01);
    double last = HUGE_VAL;
    for (llvm::StringRef how :
         {"ldlq", "ldlq<cd = 1>", "ldlq<cd = 2>", "ldlq<cd = 30>"}) {
      std::vector<float> decoded =
          decodedRows(used, quantize(how, problem.with(used)).encoded);
      double loss = lossOf(problem, hessian, decoded);
      EXPECT_LE(loss, last * (1 + 1e-6)) << spec.str() << " " << how.str();
      last = loss;
    }
    double descended = last;
    last = HUGE_VAL;
    for (llvm::StringRef how : {"ldlq", "ldlq<refit>"}) {
      double loss =
          lossOf(problem, hessian,
                 decodedRows(used, quantize(how, problem.with(used)).encoded));
      EXPECT_LE(loss, last * (1 + 1e-6)) << spec.str() << " " << how.str();
      last = loss;
    }
    double both = lossOf(
        problem, hessian,
        decodedRows(
            used,
            quantize("ldlq<cd = 30, refit>", problem.with(used)).encoded));
    EXPECT_LT(both, descended) << spec.str();
    if (used.codeBits() > 4)
      continue;
    // Brute force over single codes.
    EncodedRows encoded = quantize("ldlq<cd = 30>", problem.with(used)).encoded;
    for (uint32_t &code : encoded.codes) {
      uint32_t found = code;
      for (code = 0; code < 1u << used.codeBits(); ++code)
        EXPECT_GE(lossOf(problem, hessian, decodedRows(used, encoded)),
                  descended * (1 - 1e-6))
            << spec.str();
      code = found;
    }
  }
}

/// The fitted scale is the best of all that can be stored, near it.
TEST(Ldlq, RefitIsBest) {
  for (llvm::StringRef spec : {"int<4>", "e8p", "int<3, group = 64>"}) {
    Problem problem(3, 64, 10);
    const Format &used = format(spec);
    Matrix hessian = problem.damped(0.01);
    EncodedRows encoded = quantize("ldlq<refit>", problem.with(used)).encoded;
    double loss = lossOf(problem, hessian, decodedRows(used, encoded));
    for (GroupParams &params : encoded.params)
      for (int step : {-2, -1, 1, 2}) {
        params.scale += step;
        EXPECT_GE(lossOf(problem, hessian, decodedRows(used, encoded)),
                  loss * (1 - 1e-6));
        params.scale -= step;
      }
  }
}

TEST(Ldlq, SameOnAnyNumberOfThreads) {
  Problem problem(70, 136, 11);
  for (llvm::StringRef spec : {"int<4, group = 32>", "e8p", "ternary<5>"})
    for (llvm::StringRef how :
         {"rtn<search>", "gptq<search>", "ldlq<best-scale, cd = 1, refit>",
          "ldlq<act-order>"}) {
      const Format &used = format(spec);
      QuantizeResult one = quantize(how, problem.with(used, 1)),
                     three = quantize(how, problem.with(used, 3));
      EXPECT_EQ(one.encoded.codes, three.encoded.codes);
      EXPECT_EQ(one.loss, three.loss);
      for (size_t i = 0; i < one.encoded.params.size(); ++i)
        EXPECT_EQ(one.encoded.params[i].scale, three.encoded.params[i].scale);
    }
}

//===----------------------------------------------------------------------===//
// Feedback between rows
//===----------------------------------------------------------------------===//

/// Gradients by the outputs: as correlated as inputs are.
std::vector<float> outputMoments(int64_t rows, uint64_t seed) {
  Problem other(1, rows, seed);
  return {other.hessian.begin(), other.hessian.end()};
}

/// tr(G E H E^T) / tr(W H W^T) from its definition.
double coupledLoss(const Problem &problem, const std::vector<float> &moments,
                   const std::vector<float> &decoded) {
  int64_t rows = problem.rows, cols = problem.cols;
  double lost = 0, whole = 0, trace = 0;
  for (int64_t i = 0; i < rows; ++i) {
    trace += moments[i * rows + i];
    for (int64_t j = 0; j < rows; ++j)
      for (int64_t k = 0; k < cols; ++k)
        for (int64_t l = 0; l < cols; ++l) {
          double wi = problem.weight[i * cols + k],
                 wj = problem.weight[j * cols + l],
                 h = problem.hessian[k * cols + l];
          lost += moments[i * rows + j] * (wi - decoded[i * cols + k]) * h *
                  (wj - decoded[j * cols + l]);
          whole += i == j ? wi * h * wj : 0;
        }
  }
  return lost / (trace / rows) / whole;
}

/// Row after row is coded by GPTQ's published recursion, after the errors of
/// the rows before were added with the factors of G, damped by 1 % or, for few
/// tokens, by half of outputs over tokens.
TEST(Ldlq, TwoSidedEqualsDefinition) {
  Problem problem(70, 48, 11);
  int64_t rows = problem.rows, cols = problem.cols;
  std::vector<float> moments = outputMoments(rows, 12);
  Problem other(1, rows, 12);
  for (llvm::StringRef spec :
       {"int<3>", "int<4, group = 16, zero>", "nf4<group = 16>"})
    for (auto [actOrder, tokens] : std::vector<std::pair<bool, int64_t>>{
             {false, 0}, {true, 20000}, {true, 1000}}) {
      LdlFactors outputs(other.damped(tokens == 1000 ? 0.035 : 0.01), rows);
      const Format &used = format(spec);
      QuantizeProblem given = problem.with(used, 3);
      given.outputMoments = moments.data();
      given.outputTokens = tokens;
      QuantizeResult result =
          quantize(actOrder ? "ldlq<two-sided, static-groups, act-order>"
                            : "ldlq<two-sided, static-groups>",
                   given);
      EXPECT_EQ(result.note, "");
      std::vector<float> decoded = decodedRows(used, result.encoded);
      std::vector<int32_t> order =
          actOrder ? byDiagonal(problem.hessian, cols) : natural(cols);
      int64_t groups = used.groupsPerRow(cols), wrong = 0;
      for (int64_t row = 0; row < rows; ++row) {
        Problem single = problem;
        single.rows = 1;
        single.weight.resize(cols);
        for (int64_t k = 0; k < cols; ++k) {
          double value = problem.weight[row * cols + k];
          for (int64_t j = 0; j < row; ++j)
            value +=
                outputs.unit[j * rows + row] *
                (double(problem.weight[j * cols + k]) - decoded[j * cols + k]);
          single.weight[k] = value;
        }
        EncodedRows scales;
        scales.params.assign(result.encoded.params.begin() + row * groups,
                             result.encoded.params.begin() +
                                 (row + 1) * groups);
        std::vector<uint32_t> codes = gptqCodes(single, used, scales, order);
        for (int64_t k = 0; k < cols; ++k)
          wrong += codes[k] != result.encoded.codes[row * cols + k];
      }
      // Sums in floats may take another side of a middle.
      EXPECT_LE(wrong, 2) << spec.str() << " " << actOrder;
      EXPECT_NEAR(result.loss, coupledLoss(problem, moments, decoded),
                  1e-4 * result.loss);
    }
}

/// Less of what errors cost at the model's end, for every kind of code; the
/// same on any number of threads.
TEST(Ldlq, TwoSidedLowersTheCost) {
  Problem problem(80, 64, 13);
  std::vector<float> moments = outputMoments(problem.rows, 14);
  for (llvm::StringRef spec :
       {"int<3>", "int<2, group = 32, zero>", "nvfp4", "ternary<5>", "e8p",
        "trellis<2, code = lin8>", "vptq<1x8, rows = 4>",
        "sum<binary, binary, group = 32>"})
    for (llvm::StringRef more :
         {"", "act-order", "cd = 1, refit", "tile-metric"}) {
      const Format &used = format(spec);
      std::string arguments = more.empty() ? "" : ", " + more.str();
      QuantizeProblem given = problem.with(used);
      QuantizeResult oneSided =
          quantize("ldlq<search" + arguments + ">", given);
      given.outputMoments = moments.data();
      double before =
          quantizationLoss(given, decodedRows(used, oneSided.encoded).data());
      std::string both = "ldlq<two-sided, search" + arguments + ">";
      QuantizeResult result = quantize(both, given);
      EXPECT_EQ(result.note, "");
      std::vector<float> decoded = decodedRows(used, result.encoded);
      EXPECT_NEAR(result.loss, coupledLoss(problem, moments, decoded),
                  1e-4 * result.loss);
      EXPECT_LT(result.loss, 0.9 * before) << spec.str() << " " << both;
      std::printf("%-32s %-45s %.5f, one-sided %.5f\n", spec.str().c_str(),
                  both.c_str(), result.loss, before);
      given.threads = 3;
      QuantizeResult again = quantize(both, given);
      EXPECT_EQ(result.encoded.codes, again.encoded.codes) << both;
    }
}

/// Rows of a tile that cost more are coded more closely; nothing is fed from
/// row to row here.
TEST(Ldlq, TilesFollowTheCostsOfRows) {
  Problem problem(32, 64, 17);
  std::vector<float> moments(32 * 32);
  for (int64_t i = 0; i < 32; ++i)
    moments[i * 32 + i] = i % 2 == 0 ? 1 : 50;
  for (llvm::StringRef spec :
       {"trellis<2, code = lin8>", "vptq<1x8, rows = 4>"})
    for (llvm::StringRef more : {"act-order", "tile-metric"}) {
      const Format &used = format(spec);
      QuantizeProblem given = problem.with(used);
      std::vector<float> plain = decodedRows(
          used, quantize("ldlq<" + more.str() + ">", given).encoded);
      given.outputMoments = moments.data();
      QuantizeResult result =
          quantize("ldlq<two-sided, " + more.str() + ">", given);
      EXPECT_LT(result.loss, 0.8 * quantizationLoss(given, plain.data()))
          << spec.str() << " " << more.str();
    }
}

/// Moments that do not serve, or are not there: what is said, and the codes of
/// the one-sided way.
TEST(Ldlq, TwoSidedWithoutMoments) {
  Problem problem(16, 32, 15);
  QuantizeProblem given = problem.with(format("int<3>"));
  QuantizeResult plain = quantize("ldlq", given);
  QuantizeResult none = quantize("ldlq<two-sided>", given);
  EXPECT_EQ(none.note, "no second moments of the outputs: one-sided");
  EXPECT_EQ(none.encoded.codes, plain.encoded.codes);
  std::vector<float> zeros(16 * 16);
  given.outputMoments = zeros.data();
  none = quantize("ldlq<two-sided>", given);
  EXPECT_EQ(none.note,
            "the second moments of the outputs do not serve: one-sided");
  EXPECT_EQ(none.encoded.codes, plain.encoded.codes);
  // An output that nothing depends on is left out.
  std::vector<float> some = outputMoments(16, 16);
  for (int64_t i = 0; i < 16; ++i)
    some[5 * 16 + i] = some[i * 16 + 5] = 0;
  given.outputMoments = some.data();
  QuantizeResult result = quantize("ldlq<two-sided>", given);
  EXPECT_EQ(result.note, "");
  for (int64_t k = 0; k < 32; ++k)
    EXPECT_EQ(result.encoded.codes[5 * 32 + k],
              plain.encoded.codes[5 * 32 + k]);
}

} // namespace
