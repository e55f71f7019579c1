//===- Problems.h - Weights with second moments for tests -------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TEST_UNIT_QUANTIZATION_PROBLEMS_H
#define QUENCH_TEST_UNIT_QUANTIZATION_PROBLEMS_H

#include "Samples.h"
#include "quench/Quantization/Quantizer.h"

namespace quench {

using Matrix = std::vector<double>; // n x n, row major

/// Gaussian weights and the second moments of correlated inputs.
struct Problem {
  int64_t rows, cols;
  std::vector<float> weight;
  Matrix hessian;

  /// Inputs are sums of `cols` Gaussian sources whose standard deviations fall
  /// from 1 to 1/spread; a column listens to a source by a Gaussian weight.
  Problem(int64_t rows, int64_t cols, uint64_t seed, double spread = 10,
          int64_t samples = 0)
      : rows(rows), cols(cols), hessian(cols * cols) {
    Samples random(seed);
    weight = random.gaussians(rows * cols);
    std::vector<float> mix = random.gaussians(cols * cols);
    int64_t count = samples ? samples : 2 * cols;
    std::vector<double> x(cols);
    for (int64_t sample = 0; sample < count; ++sample) {
      std::fill(x.begin(), x.end(), 0.0);
      for (int64_t i = 0; i < cols; ++i) {
        double source = random.gaussian() * std::pow(spread, -double(i) / cols);
        for (int64_t j = 0; j < cols; ++j)
          x[j] += source * mix[i * cols + j];
      }
      for (int64_t i = 0; i < cols; ++i)
        for (int64_t j = 0; j < cols; ++j)
          hessian[i * cols + j] += x[i] * x[j];
    }
  }

  QuantizeProblem with(const Format &format, int threads = 1) const {
    return {&format, weight.data(), rows, cols, hessian.data(), threads};
  }
  /// The moments as a quantizer sees them, over the mean of their diagonal.
  Matrix damped(double amount) const {
    Matrix result(hessian);
    double mean = 0;
    for (int64_t i = 0; i < cols; ++i)
      mean += hessian[i * cols + i] / cols;
    for (double &value : result)
      value /= mean;
    for (int64_t i = 0; i < cols; ++i)
      result[i * cols + i] += amount;
    return result;
  }
};

/// A quantizer that must exist, and what it makes of a problem.
inline QuantizeResult quantize(llvm::StringRef spec,
                               const QuantizeProblem &problem) {
  llvm::Expected<const Quantizer *> quantizer = getQuantizer(spec);
  if (!quantizer) {
    ADD_FAILURE() << llvm::toString(quantizer.takeError());
    return {};
  }
  llvm::Expected<QuantizeResult> result = (*quantizer)->quantize(problem);
  if (!result) {
    ADD_FAILURE() << llvm::toString(result.takeError());
    return {};
  }
  return std::move(*result);
}

inline std::vector<float> decodedRows(const Format &format,
                                      const EncodedRows &encoded) {
  std::vector<float> values(encoded.rows * encoded.cols);
  decodeRows(format, encoded, values.data());
  return values;
}

/// tr(E H E^T) for E = weight - decoded.
inline double lossOf(const Problem &problem, const Matrix &hessian,
                     const std::vector<float> &decoded) {
  double sum = 0;
  for (int64_t row = 0; row < problem.rows; ++row)
    for (int64_t i = 0; i < problem.cols; ++i) {
      auto error = [&](int64_t k) {
        int64_t at = row * problem.cols + k;
        return double(problem.weight[at]) - decoded[at];
      };
      for (int64_t j = 0; j < problem.cols; ++j)
        sum += error(i) * hessian[i * problem.cols + j] * error(j);
    }
  return sum;
}

/// H = (I + U) D (I + U)^T by the definition, column after column from the
/// last: `unit` is I + U.
struct LdlFactors {
  Matrix unit;
  std::vector<double> d;
  LdlFactors(const Matrix &hessian, int64_t n) : unit(n * n), d(n) {
    for (int64_t j = n - 1; j >= 0; --j)
      for (int64_t i = j; i >= 0; --i) {
        double sum = hessian[i * n + j];
        for (int64_t k = j + 1; k < n; ++k)
          sum -= unit[i * n + k] * d[k] * unit[j * n + k];
        if (i == j)
          d[j] = sum;
        unit[i * n + j] = i == j ? 1 : sum / d[j];
      }
  }
  double trace() const {
    double sum = 0;
    for (double value : d)
      sum += value;
    return sum;
  }
};

} // namespace quench

#endif // QUENCH_TEST_UNIT_QUANTIZATION_PROBLEMS_H
