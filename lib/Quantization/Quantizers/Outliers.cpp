//===- Outliers.cpp - A second code for the columns that count most -------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// outliers<FORMAT, QUANTIZER, percent = P>: the columns S whose inputs have the
// largest second moments get a code of their own (VPTQ, arXiv 2409.17066). They
// come last: whatever the errors E of the other columns R do to the output
// through inputs that those of S can speak for, they make good for. Least
// squares gives what they are to hold,
//
//   C = W_S + E H_RS H_SS^-1,
//
// and leaves of the second moments that count for R the Schur complement
// H_RR - H_RS H_SS^-1 H_SR, with which QUANTIZER codes R in the weight's format
// and then, with H_SS, C in FORMAT.
//
//===----------------------------------------------------------------------===//

#include "BuiltinQuantizers.h"
#include "Quantizers/Factor.h"
#include "Quantizers/Gemm.h"
#include "quench/Quantization/Quantizer.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>
#include <numeric>

using namespace quench;
using llvm::Expected;

/// Added to the diagonal of H_SS, in parts of the mean of all of H's.
static constexpr double kDamping = 0.01;
/// What is left of a diagonal entry at least, in parts of it: the complement
/// may be a difference of nearly equal numbers.
static constexpr double kLeastLeft = 1e-6;

namespace {

class Outliers : public Quantizer {
public:
  Outliers(const Format &format, const Quantizer &quantizer, int64_t percent)
      : format(format), quantizer(quantizer), percent(percent) {}
  std::string spec() const override {
    std::vector<std::string> arguments = {format.spec(), quantizer.spec()};
    if (percent != 1)
      arguments.push_back("percent = " + std::to_string(percent));
    return formatSpec("outliers", arguments);
  }
  bool usesHessian() const override { return true; }
  bool usesOutputMoments() const override {
    return quantizer.usesOutputMoments();
  }
  Expected<QuantizeResult>
  quantize(const QuantizeProblem &problem) const override;

private:
  std::vector<int32_t> choose(const QuantizeProblem &problem) const;

  const Format &format;
  const Quantizer &quantizer;
  int64_t percent;
};

/// What columns S can speak for: [cols][n], H_.S (H_SS + d)^-1, 0 in rows of S.
std::vector<double> projection(const QuantizeProblem &problem,
                               llvm::ArrayRef<int32_t> columns,
                               double damping) {
  int64_t cols = problem.cols, n = columns.size();
  const double *h = problem.hessian;
  std::vector<double> square(n * n), across(cols * n), inverse, upper;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      square[i * n + j] =
          h[columns[i] * cols + columns[j]] + (i == j ? damping : 0);
  if (!factorize(square.data(), n, problem.threads))
    return {};
  // M = G G^T, so M^-1 = U^T U with U = G^-1.
  invertUpper(square.data(), n, n, upper);
  inverse.assign(n * n, 0);
  std::vector<double> turned(n * n, 0);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = i; j < n; ++j)
      turned[j * n + i] = upper[i * n + j];
  multiplyAdd(inverse.data(), n, turned.data(), n, upper.data(), n, n, n, n);
  for (int64_t r = 0; r < cols; ++r)
    for (int64_t i = 0; i < n; ++i)
      across[r * n + i] = h[r * cols + columns[i]];
  for (int32_t column : columns)
    std::fill_n(&across[column * n], n, 0.0);
  std::vector<double> result(cols * n, 0);
  multiplyAdd(result.data(), n, across.data(), n, inverse.data(), n, cols, n,
              n);
  return result;
}

} // namespace

/// The columns with the largest moments, as many as fill whole steps of the
/// format; none where the weight has too few.
std::vector<int32_t> Outliers::choose(const QuantizeProblem &problem) const {
  int64_t cols = problem.cols;
  int64_t wanted = (cols * percent + 99) / 100;
  int64_t count = llvm::alignTo(wanted, format.layout().stepColumns);
  if (!problem.hessian || count > cols / 2)
    return {};
  auto moment = [&](int32_t i) {
    double h = problem.hessian[i * cols + i];
    return std::isfinite(h) ? h : 0;
  };
  std::vector<int32_t> order(cols);
  std::iota(order.begin(), order.end(), 0);
  llvm::sort(order, [&](int32_t a, int32_t b) {
    return std::pair(-moment(a), a) < std::pair(-moment(b), b);
  });
  order.resize(count);
  llvm::sort(order);
  return order;
}

Expected<QuantizeResult>
Outliers::quantize(const QuantizeProblem &problem) const {
  if (problem.format->codedField().bits != 0)
    return llvm::createStringError(
        spec() + ": takes formats whose codes have one length; " +
        problem.format->spec() + " is none");
  std::vector<int32_t> columns = choose(problem);
  int64_t rows = problem.rows, cols = problem.cols, n = columns.size();
  const double *h = problem.hessian;
  std::vector<double> speaks;
  double mean = 0;
  if (n != 0) {
    for (int64_t i = 0; i < cols; ++i)
      mean += h[i * cols + i] / cols;
    if (mean > 0 && std::isfinite(mean))
      speaks = projection(problem, columns, kDamping * mean);
  }
  if (speaks.empty()) {
    Expected<QuantizeResult> result = quantizer.quantize(problem);
    if (result)
      result->note += (result->note.empty() ? "" : "; ") +
                      std::string("no outlier columns: ") +
                      (n == 0 ? "too few columns, or no second moments"
                              : "their second moments are of no use");
    return result;
  }

  // The other columns, with what is left of their moments.
  std::vector<double> left(h, h + cols * cols), from(n * cols);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < cols; ++j)
      from[i * cols + j] = -h[columns[i] * cols + j];
  multiplyAdd(left.data(), cols, speaks.data(), n, from.data(), cols, cols,
              cols, n);
  for (int64_t i = 0; i < cols; ++i)
    left[i * cols + i] =
        std::max(left[i * cols + i], kLeastLeft * h[i * cols + i]);
  std::vector<float> weight(problem.weight, problem.weight + rows * cols);
  for (int32_t column : columns) {
    for (int64_t i = 0; i < cols; ++i)
      left[column * cols + i] = left[i * cols + column] = 0;
    left[column * cols + column] = kLeastLeft * mean;
    for (int64_t r = 0; r < rows; ++r)
      weight[r * cols + column] = 0;
  }
  QuantizeProblem rest = problem;
  rest.weight = weight.data();
  rest.hessian = left.data();
  Expected<QuantizeResult> result = quantizer.quantize(rest);
  if (!result)
    return result;

  // Then the columns themselves.
  std::vector<float> decoded(rows * cols);
  decodeRows(*problem.format, result->encoded, decoded.data());
  std::vector<double> errors(rows * cols), wanted(rows * n, 0);
  for (int64_t i = 0; i < rows * cols; ++i)
    errors[i] = double(problem.weight[i]) - decoded[i];
  multiplyAdd(wanted.data(), n, errors.data(), cols, speaks.data(), n, rows, n,
              cols);
  std::vector<float> second(rows * n);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < n; ++i)
      second[r * n + i] =
          static_cast<float>(wanted[r * n + i] + errors[r * cols + columns[i]]);
  std::vector<double> own(n * n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      own[i * n + j] = h[columns[i] * cols + columns[j]];
  QuantizeProblem last;
  last.format = &format;
  last.weight = second.data();
  last.rows = rows;
  last.cols = n;
  last.hessian = own.data();
  last.outputMoments = problem.outputMoments;
  last.outputTokens = problem.outputTokens;
  last.threads = problem.threads;
  Expected<QuantizeResult> coded = quantizer.quantize(last);
  if (!coded)
    return coded;
  std::vector<float> more(rows * n);
  decodeRows(format, coded->encoded, more.data());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < n; ++i)
      decoded[r * cols + columns[i]] += more[r * n + i];
  result->loss = quantizationLoss(problem, decoded.data());
  result->note += (result->note.empty() ? "" : "; ") + std::to_string(n) +
                  " outlier columns in " + format.spec();
  if (!coded->note.empty())
    result->note += " (" + coded->note + ")";
  result->outliers =
      OutlierColumns{&format, std::move(columns), std::move(coded->encoded)};
  return result;
}

static Expected<std::unique_ptr<Quantizer>>
makeOutliers(const FormatArgs &args) {
  if (args.positional.size() != 2)
    return llvm::createStringError(
        "outliers takes a format and a quantizer, as in outliers<int<8>, "
        "ldlq<act-order>, percent = 1>; found " +
        llvm::Twine(args.positional.size()) + " arguments without a name");
  Expected<const Format *> format = getFormat(args.positional[0]);
  if (!format)
    return format.takeError();
  Expected<const Quantizer *> quantizer = getQuantizer(args.positional[1]);
  if (!quantizer)
    return quantizer.takeError();
  FormatArgs named{args.name, {}, args.named};
  FormatArgReader reader(named);
  int64_t percent = reader.option("percent", 1, 25, 1);
  if (!(*quantizer)->usesHessian() ||
      llvm::StringRef((*quantizer)->spec()).starts_with("outliers"))
    reader.fail("takes a quantizer with second moments of the inputs that is "
                "not 'outliers' itself; found " +
                (*quantizer)->spec());
  if ((*format)->codedField().bits != 0)
    reader.fail("the columns' format has codes of different lengths: " +
                (*format)->spec());
  if (llvm::Error error = reader.finish())
    return std::move(error);
  return std::make_unique<Outliers>(**format, **quantizer, percent);
}

static QuantizerRegistration
    registration("outliers",
                 "a second code for the columns whose inputs are largest: "
                 "outliers<FORMAT, QUANTIZER, percent = P>",
                 makeOutliers);

QUENCH_BUILTIN_QUANTIZER(Outliers)
