//===- OutliersTest.cpp - Columns with a second code ----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Problems.h"
#include "quench/Quantization/PackedWeight.h"
#include <algorithm>

using namespace quench;

/// x with a x = b, by elimination with pivots. [n][n], [n].
static std::vector<double> solve(std::vector<double> a, std::vector<double> b) {
  int64_t n = b.size();
  for (int64_t k = 0; k < n; ++k) {
    int64_t best = k;
    for (int64_t i = k; i < n; ++i)
      if (std::fabs(a[i * n + k]) > std::fabs(a[best * n + k]))
        best = i;
    for (int64_t j = 0; j < n; ++j)
      std::swap(a[k * n + j], a[best * n + j]);
    std::swap(b[k], b[best]);
    for (int64_t i = k + 1; i < n; ++i) {
      double factor = a[i * n + k] / a[k * n + k];
      for (int64_t j = k; j < n; ++j)
        a[i * n + j] -= factor * a[k * n + j];
      b[i] -= factor * b[k];
    }
  }
  for (int64_t k = n; k-- > 0;) {
    for (int64_t j = k + 1; j < n; ++j)
      b[k] -= a[k * n + j] * b[j];
    b[k] /= a[k * n + k];
  }
  return b;
}

/// What all codes of a result say.
static std::vector<float> decodedAll(const Format &format,
                                     const QuantizeResult &result) {
  std::vector<float> values = decodedRows(format, result.encoded);
  if (!result.outliers)
    return values;
  std::vector<float> more =
      decodedRows(*result.outliers->format, result.outliers->encoded);
  int64_t n = result.outliers->columns.size(), cols = result.encoded.cols;
  for (int64_t r = 0; r < result.encoded.rows; ++r)
    for (int64_t i = 0; i < n; ++i)
      values[r * cols + result.outliers->columns[i]] += more[r * n + i];
  return values;
}

/// `decoded` with what least squares puts into columns: no other numbers there
/// have less loss.
static std::vector<float> bestColumns(const Problem &problem,
                                      const std::vector<int32_t> &columns,
                                      const std::vector<float> &decoded) {
  int64_t n = columns.size(), cols = problem.cols;
  std::vector<float> best = decoded;
  std::vector<double> square(n * n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      square[i * n + j] = problem.hessian[columns[i] * cols + columns[j]];
  for (int64_t r = 0; r < problem.rows; ++r) {
    std::vector<double> right(n, 0);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < cols; ++j)
        right[i] +=
            (double(problem.weight[r * cols + j]) - decoded[r * cols + j]) *
            problem.hessian[j * cols + columns[i]];
    std::vector<double> step = solve(square, right);
    for (int64_t i = 0; i < n; ++i)
      best[r * cols + columns[i]] += step[i];
  }
  return best;
}

/// Columns in floats hold what least squares makes of the others' errors.
TEST(Outliers, ColumnsAreLeastSquares) {
  Problem problem(24, 160, 3);
  const Format &f = format("int<2, group = 32>");
  QuantizeResult result =
      quantize("outliers<float<32>, gptq, percent = 10>", problem.with(f));
  ASSERT_TRUE(result.outliers);
  const std::vector<int32_t> &columns = result.outliers->columns;
  int64_t cols = problem.cols;
  EXPECT_EQ(columns.size(), 16u);
  EXPECT_TRUE(llvm::is_sorted(columns));
  // They have the largest moments.
  double least = 1e300, greatest = 0;
  for (int64_t i = 0; i < cols; ++i) {
    double h = problem.hessian[i * cols + i];
    if (llvm::is_contained(columns, i))
      least = std::min(least, h);
    else
      greatest = std::max(greatest, h);
  }
  EXPECT_GE(least, greatest);

  std::vector<float> decoded = decodedAll(f, result);
  std::vector<float> best = bestColumns(problem, columns, decoded);
  double found = lossOf(problem, problem.hessian, decoded);
  double optimum = lossOf(problem, problem.hessian, best);
  EXPECT_GE(found, optimum);
  EXPECT_LT(found, 1.02 * optimum); // H_SS is damped by a hundredth
  std::vector<float> nothing(decoded.size(), 0);
  EXPECT_NEAR(result.loss, found / lossOf(problem, problem.hessian, nothing),
              1e-9);
}

/// The other columns are coded for what the precise ones cannot make good for:
/// with their own moments, and least squares after that, more is lost.
TEST(Outliers, TheOthersKnowOfThem) {
  const Format &f = format("int<3, group = 32>");
  double ratio = 1;
  for (uint64_t seed : {11, 12, 13}) {
    Problem problem(24, 160, seed, 100);
    int64_t cols = problem.cols;
    QuantizeResult result =
        quantize("outliers<float<32>, gptq, percent = 20>", problem.with(f));
    ASSERT_TRUE(result.outliers);
    const std::vector<int32_t> &columns = result.outliers->columns;
    Problem alone = problem;
    for (int32_t column : columns) {
      for (int64_t i = 0; i < cols; ++i)
        alone.hessian[column * cols + i] = alone.hessian[i * cols + column] = 0;
      alone.hessian[column * cols + column] = 1e-6;
      for (int64_t r = 0; r < problem.rows; ++r)
        alone.weight[r * cols + column] = 0;
    }
    std::vector<float> best =
        bestColumns(problem, columns,
                    decodedRows(f, quantize("gptq", alone.with(f)).encoded));
    ratio *= lossOf(problem, problem.hessian, decodedAll(f, result)) /
             lossOf(problem, problem.hessian, best);
  }
  EXPECT_LT(std::cbrt(ratio), 0.97);
}

/// Inputs of which some are thirty times as large: what outlier columns are
/// for. Learned codebooks are another matter: where a few columns count for
/// all, their entries serve these few.
TEST(Outliers, LargeInputs) {
  Problem problem(32, 256, 5);
  for (int64_t i : {7, 100, 133, 250})
    for (int64_t j = 0; j < problem.cols; ++j) {
      problem.hessian[i * problem.cols + j] *= 30;
      problem.hessian[j * problem.cols + i] *= 30;
    }
  for (const char *spec :
       {"int<3, group = 32>", "e8p", "vptq<1x8, rows = 4>", "trellis<2>",
        "ternary<5, group = 160>", "nf4<group = 64, bytes>"}) {
    SCOPED_TRACE(spec);
    const Format &f = format(spec);
    double plain = quantize("ldlq<cd = 1>", problem.with(f)).loss;
    for (const char *own : {"int<8>", "vptq<1x8, rows = 2>", "float<16>"}) {
      std::string text =
          "outliers<" + std::string(own) + ", ldlq<cd = 1>, percent = 2>";
      QuantizeResult result = quantize(text, problem.with(f));
      ASSERT_TRUE(result.outliers) << own;
      EXPECT_TRUE(llvm::is_contained(result.outliers->columns, 133));
      if (f.tableBytes() == 0)
        EXPECT_LT(result.loss, 0.6 * plain) << own;
      // Deterministic on any number of threads.
      QuantizeResult other = quantize(text, problem.with(f, 3));
      EXPECT_EQ(other.encoded.codes, result.encoded.codes);
      EXPECT_EQ(other.outliers->encoded.codes, result.outliers->encoded.codes);
    }
  }
}

TEST(Outliers, Packed) {
  Problem problem(70, 200, 6);
  for (const char *own : {"int<8>", "float<16>", "vptq<1x8, rows = 2>"}) {
    SCOPED_TRACE(own);
    const Format &f = format("int<4, group = 64>"), &g = format(own);
    std::string text = "outliers<" + std::string(own) + ", gptq>";
    const Quantizer *quantizer = llvm::cantFail(getQuantizer(text));
    auto read = [&](int64_t begin, int64_t) -> llvm::Expected<const float *> {
      return problem.weight.data() + begin * problem.cols;
    };
    std::vector<float> decoded(problem.weight.size()), back = decoded;
    auto packed =
        quantizeWeight(*quantizer, problem.with(f), read, decoded.data());
    ASSERT_TRUE(bool(packed));
    decodeWeight(*packed, back.data(), 2);
    EXPECT_EQ(decoded, back);
    QuantizeResult result = quantize(text, problem.with(f));
    EXPECT_EQ(decodedAll(f, result), back);
    EXPECT_EQ(packed->loss, result.loss);
    double error = 0, norm = 0;
    for (size_t i = 0; i < back.size(); ++i) {
      error += std::pow(double(problem.weight[i]) - back[i], 2);
      norm += std::pow(double(problem.weight[i]), 2);
    }
    EXPECT_NEAR(packed->relativeError, error / norm, 1e-12);

    int64_t n = result.outliers->columns.size();
    EXPECT_EQ(packed->outliers.count, n);
    EXPECT_EQ(packed->outliers.bits(70), 32 * n + g.bits(70, n));
    EXPECT_EQ(int64_t(packed->stream.size()), packed->outliers.end);
    // The weight's own codes lie where they always do.
    std::vector<uint8_t> alone = packWeight(f, result.encoded);
    EXPECT_TRUE(packed->stream.take_front(alone.size()).equals(alone));
    EXPECT_EQ(packed->outliers.columnsAt % 64, 0);
    EXPECT_EQ(packed->outliers.codesAt % 64, 0);
    EXPECT_NE(packed->note.find(std::to_string(n) + " outlier columns in " +
                                g.spec()),
              std::string::npos);
  }
}

/// Without moments, or with too few columns, the quantizer inside does it all.
TEST(Outliers, Without) {
  const Format &f = format("int<4, group = 32>");
  Problem problem(16, 96, 8);
  auto check = [&](const QuantizeProblem &given) {
    QuantizeResult result = quantize("outliers<int<8>, gptq>", given);
    EXPECT_FALSE(result.outliers);
    EXPECT_NE(result.note.find("no outlier columns"), std::string::npos);
    EXPECT_EQ(result.encoded.codes, quantize("gptq", given).encoded.codes);
  };
  QuantizeProblem given = problem.with(f);
  given.hessian = nullptr;
  check(given);
  Matrix wrong = problem.hessian;
  wrong[5 * problem.cols + 5] = NAN;
  given.hessian = wrong.data();
  check(given);
  Matrix zeros(problem.hessian.size(), 0);
  given.hessian = zeros.data();
  check(given);
  Problem narrow(16, 40, 9);
  check(narrow.with(f));
}

TEST(Outliers, Messages) {
  auto message = [](llvm::StringRef text) -> std::string {
    auto made = getQuantizer(text);
    if (!made)
      return llvm::toString(made.takeError());
    return "";
  };
  auto has = [&](llvm::StringRef text, llvm::StringRef part) {
    EXPECT_NE(message(text).find(part.str()), std::string::npos)
        << text.str() << ": " << message(text);
  };
  has("outliers<int<8>>", "takes a format and a quantizer");
  has("outliers<int<9>, gptq>", "int");
  has("outliers<int<8>, gtpq>", "gtpq");
  has("outliers<int<8>, rtn>", "second moments");
  has("outliers<int<8>, outliers<int<8>, gptq>>", "not 'outliers' itself");
  has("outliers<int<8>, gptq, percent = 0>", "percent");
  has("outliers<int<8>, gptq, percent = 26>", "percent");
  has("outliers<int<8>, gptq, permille = 3>", "permille");
  has("outliers<dfloat11, gptq>", "codes of different lengths");
  Problem problem(16, 96, 8);
  auto result = llvm::cantFail(getQuantizer("outliers<int<8>, gptq>"))
                    ->quantize(problem.with(format("dfloat11")));
  ASSERT_FALSE(bool(result));
  EXPECT_NE(llvm::toString(result.takeError()).find("dfloat11 is none"),
            std::string::npos);
  EXPECT_EQ(
      llvm::cantFail(getQuantizer("outliers<int<8>,ldlq<cd=1>,percent=1>"))
          ->spec(),
      "outliers<int<8>, ldlq<cd = 1>>");
}
