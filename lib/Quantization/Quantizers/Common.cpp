//===- Common.cpp - What quantizers share ---------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Quantizers/Common.h"
#include "Quantizers/Gemm.h"
#include <atomic>
#include <cmath>
#include <thread>

using namespace quench;

Quantizer::~Quantizer() = default;

void quench::forEachIndex(int64_t count, int threads,
                          llvm::function_ref<void(int64_t)> fn) {
  std::atomic<int64_t> next{0};
  auto work = [&] {
    for (int64_t i; (i = next++) < count;)
      fn(i);
  };
  std::vector<std::thread> others;
  for (int64_t i = 1; i < std::min<int64_t>(threads, count); ++i)
    others.emplace_back(work);
  work();
  for (std::thread &thread : others)
    thread.join();
}

/// tr(E H E^T) for E = a - b (b may be null). Columns are taken in panels:
/// each counts the ones before it twice, since H is symmetric.
static double weightedSquare(const float *a, const float *b, int64_t rows,
                             int64_t cols, const double *hessian, int threads) {
  constexpr int64_t kPanel = 128, kRows = 32;
  int64_t panels = (cols + kPanel - 1) / kPanel;
  std::vector<double> sums(panels, 0.0);
  forEachIndex(panels, threads, [&](int64_t p) {
    int64_t first = p * kPanel, width = std::min(kPanel, cols - first);
    int64_t end = first + width;
    std::vector<double> errors(kRows * end), product(kRows * width);
    for (int64_t row = 0; row < rows; row += kRows) {
      int64_t count = std::min(kRows, rows - row);
      for (int64_t r = 0; r < count; ++r)
        for (int64_t k = 0; k < end; ++k) {
          int64_t at = (row + r) * cols + k;
          errors[r * end + k] = b ? double(a[at]) - double(b[at]) : a[at];
        }
      std::fill(product.begin(), product.end(), 0.0);
      multiplyAdd(product.data(), width, errors.data(), end, hessian + first,
                  cols, count, width, first);
      for (double &value : product)
        value *= 2;
      multiplyAdd(product.data(), width, errors.data() + first, end,
                  hessian + first * cols + first, cols, count, width, width);
      for (int64_t r = 0; r < count; ++r)
        for (int64_t k = 0; k < width; ++k)
          sums[p] += product[r * width + k] * errors[r * end + first + k];
    }
  });
  double sum = 0;
  for (double part : sums)
    sum += part;
  return sum;
}

/// tr(G E H E^T), G over the mean of its diagonal.
static double coupledSquare(const QuantizeProblem &problem,
                            const float *decoded) {
  constexpr int64_t kPanel = 256;
  int64_t rows = problem.rows, cols = problem.cols;
  const float *moments = problem.outputMoments;
  double trace = 0;
  for (int64_t i = 0; i < rows; ++i)
    trace += moments[i * rows + i];
  if (!(trace > 0))
    return weightedSquare(problem.weight, decoded, rows, cols, problem.hessian,
                          problem.threads);
  std::vector<float> errors(rows * cols);
  for (int64_t i = 0; i < rows * cols; ++i)
    errors[i] = problem.weight[i] - decoded[i];
  int64_t panels = (cols + kPanel - 1) / kPanel;
  std::vector<double> sums(panels, 0.0);
  forEachIndex(panels, problem.threads, [&](int64_t p) {
    int64_t first = p * kPanel, width = std::min(kPanel, cols - first);
    std::vector<float> square(cols * width), byInputs(rows * width),
        byOutputs(rows * width);
    for (int64_t k = 0; k < cols; ++k)
      for (int64_t i = 0; i < width; ++i)
        square[k * width + i] =
            static_cast<float>(problem.hessian[k * cols + first + i]);
    multiplyAdd(byInputs.data(), width, errors.data(), cols, square.data(),
                width, rows, width, cols);
    multiplyAdd(byOutputs.data(), width, moments, rows, errors.data() + first,
                cols, rows, width, rows);
    for (int64_t i = 0; i < rows * width; ++i)
      sums[p] += double(byInputs[i]) * byOutputs[i];
  });
  double sum = 0;
  for (double part : sums)
    sum += part;
  return sum * rows / trace;
}

double quench::quantizationLoss(const QuantizeProblem &problem,
                                const float *decoded) {
  int64_t n = problem.rows * problem.cols;
  double lost = 0, whole = 0;
  if (problem.hessian) {
    lost = problem.outputMoments
               ? coupledSquare(problem, decoded)
               : weightedSquare(problem.weight, decoded, problem.rows,
                                problem.cols, problem.hessian, problem.threads);
    whole = weightedSquare(problem.weight, nullptr, problem.rows, problem.cols,
                           problem.hessian, problem.threads);
  } else {
    for (int64_t i = 0; i < n; ++i) {
      double weight = problem.weight[i], error = weight - decoded[i];
      lost += error * error;
      whole += weight * weight;
    }
  }
  return lost == 0 ? 0 : lost / whole;
}

EncodedRows quench::fitSharedOf(const QuantizeProblem &problem,
                                FitOptions options) {
  std::vector<double> weights;
  for (int64_t i = 0; problem.hessian && i < problem.cols; ++i)
    weights.push_back(problem.hessian[i * problem.cols + i]);
  options.columnWeights = weights;
  options.threads = problem.threads;
  return fitShared(*problem.format, problem.weight, problem.rows, problem.cols,
                   options);
}

QuantizeResult quench::roundToNearest(const QuantizeProblem &problem,
                                      const FitOptions &options) {
  const Format &format = *problem.format;
  int64_t rows = problem.rows, cols = problem.cols;
  QuantizeResult result;
  EncodedRows &encoded = result.encoded;
  encoded = fitSharedOf(problem, options);
  encoded.rows = rows;
  encoded.cols = cols;
  int64_t perRow = codesPerRow(format, cols),
          groups = format.groupsPerRow(cols);
  encoded.codes.resize(codedRows(format, rows) * perRow);
  encoded.params.resize(codedRows(format, rows) * groups);
  std::vector<float> decoded(rows * cols);
  const int64_t chunk = codedRows(format, kPassRows);
  forEachIndex((rows + chunk - 1) / chunk, problem.threads, [&](int64_t i) {
    int64_t row = i * chunk, count = std::min(chunk, rows - row);
    EncodedRows part = encodeNearest(format, problem.weight + row * cols, count,
                                     cols, options, &encoded);
    std::copy(part.codes.begin(), part.codes.end(),
              encoded.codes.begin() + row * perRow);
    std::copy(part.params.begin(), part.params.end(),
              encoded.params.begin() + row * groups);
    decodeRows(format, part, decoded.data() + row * cols);
  });
  result.loss = quantizationLoss(problem, decoded.data());
  return result;
}
