//===- WeightStatistics.cpp - What is known of a quantized weight ---------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/WeightStatistics.h"
#include "Quantizers/Factor.h"
#include <cmath>

using namespace quench;

void WeightStatistics::addCodes(llvm::ArrayRef<uint32_t> codes) {
  count += codes.size();
  for (unsigned byte = 0; 8 * byte < codeBits && byte < 4; ++byte) {
    uint32_t mask = (1u << std::min(8u, codeBits - 8 * byte)) - 1;
    for (uint32_t code : codes)
      ++histograms[byte][code >> (8 * byte) & mask];
  }
}

void WeightStatistics::addRow(const float *values, const float *decoded,
                              int64_t cols) {
  double error = 0, length = 0;
  for (int64_t c = 0; c != cols; ++c) {
    double e = double(values[c]) - decoded[c];
    error += e * e;
    length += double(values[c]) * values[c];
  }
  ++rows;
  greatestError = std::max(greatestError, error);
  lengths += length;
}

void WeightStatistics::join(const WeightStatistics &other) {
  count += other.count;
  rows += other.rows;
  for (unsigned byte = 0; byte != histograms.size(); ++byte)
    for (unsigned i = 0; i != 256; ++i)
      histograms[byte][i] += other.histograms[byte][i];
  greatestError = std::max(greatestError, other.greatestError);
  lengths += other.lengths;
}

double WeightStatistics::entropyOfCodes() const {
  double sum = 0;
  if (count == 0)
    return 0;
  for (const auto &histogram : histograms)
    for (int64_t number : histogram)
      if (number > 0 && number < count)
        sum -= number * std::log2(static_cast<double>(number) / count);
  return sum / count;
}

double WeightStatistics::errorBound() const {
  return lengths > 0 ? std::sqrt(greatestError * rows / lengths) : 0;
}

/// The geometric mean of the eigenvalues, over the mean of the diagonal; a
/// little damping where it must be. 0: not known.
static double geometricMean(Moments moments, int threads) {
  constexpr int64_t kMost = 4096;
  int64_t n = moments.size();
  if (n > kMost || n == 0 || moments.badColumns())
    return 0;
  std::vector<double> matrix(n * n);
  for (double damping = 1e-4; damping <= 0.1; damping *= 10) {
    moments.damp(damping);
    for (int64_t i = 0; i != n; ++i)
      for (int64_t j = 0; j != n; ++j)
        matrix[i * n + j] = moments.at(i, j);
    if (!factorize(matrix.data(), n, threads))
      continue;
    double logs = 0;
    for (int64_t i = 0; i != n; ++i)
      logs += 2 * std::log2(matrix[i * n + i]);
    return std::exp2(logs / n);
  }
  return 0;
}

double quench::gaussianLossLimit(const QuantizeProblem &problem, double bits) {
  double rate = std::exp2(-2 * bits);
  if (!problem.hessian)
    return rate;
  int64_t n = problem.cols;
  Moments moments(problem.hessian, n);
  double mean = geometricMean(moments, problem.threads);
  if (mean != 0 && problem.outputMoments) {
    int64_t rows = problem.rows;
    std::vector<double> copy(problem.outputMoments,
                             problem.outputMoments + rows * rows);
    mean *= geometricMean(Moments(copy.data(), rows), problem.threads);
  }
  if (mean == 0)
    return 0;
  // tr(W H W^T) in the units of `moments`, undamped.
  double weighted = 0, square = 0;
  // Some rows of many: they are taken as alike.
  int64_t stride = std::max<int64_t>(1, problem.rows / 16);
  for (int64_t r = 0; r < problem.rows; r += stride) {
    const float *w = problem.weight + r * n;
    for (int64_t i = 0; i != n; ++i) {
      double sum = 0;
      for (int64_t j = 0; j != n; ++j)
        sum += moments.at(i, j) * w[j];
      weighted += sum * w[i];
      square += double(w[i]) * w[i];
    }
  }
  return weighted > 0 ? rate * mean * square / weighted : 0;
}
