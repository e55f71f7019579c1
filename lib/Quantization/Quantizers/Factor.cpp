//===- Factor.cpp - Second moments as feedback ----------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Quantizers/Factor.h"
#include "Quantizers/Common.h"
#include "Quantizers/Gemm.h"
#include <atomic>
#include <cmath>

using namespace quench;

Moments::Moments(const double *hessian, int64_t n)
    : hessian(hessian), n(n), cut(n, 0) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    double diagonal = hessian[i * n + i];
    bool finite = true;
    for (int64_t j = 0; j < n; ++j)
      finite &= std::isfinite(hessian[i * n + j]);
    // A column of NaN has them in all rows, so each row would look bad: only
    // the diagonal tells whose fault it is, and single numbers are both's.
    cut[i] = !std::isfinite(diagonal) || !(diagonal > 0);
    dead += diagonal == 0;
    bad += cut[i];
    sum += cut[i] ? 0 : diagonal;
    if (!finite && !cut[i])
      cut[i] = 2; // to be looked at again
  }
  for (int64_t i = 0; i < n; ++i) {
    if (cut[i] != 2)
      continue;
    cut[i] = 0;
    for (int64_t j = 0; j < n; ++j)
      if (!std::isfinite(hessian[i * n + j]) && cut[j] != 1)
        cut[i] = 2;
    if (cut[i] == 2) {
      ++bad;
      sum -= hessian[i * n + i];
    }
  }
  int64_t good = n - bad;
  double mean = good > 0 ? sum / good : 1;
  factor = mean > 0 && std::isfinite(1 / mean) ? 1 / mean : 1;
}

//===----------------------------------------------------------------------===//
// Cholesky factorization, from the last column to the first
//===----------------------------------------------------------------------===//

/// Columns that are factorized together.
static constexpr int64_t kPanel = 128;
/// Rows that a thread takes at a time.
static constexpr int64_t kStrip = 64;

/// The diagonal block [first, end), whose later columns are done.
static bool factorizeBlock(double *matrix, int64_t n, int64_t first,
                           int64_t end) {
  for (int64_t j = end - 1; j >= first; --j) {
    const double *right = matrix + j * n;
    for (int64_t i = j; i >= first; --i) {
      double *row = matrix + i * n, sum = row[j];
      for (int64_t k = j + 1; k < end; ++k)
        sum -= row[k] * right[k];
      if (i == j && !(sum > 0 && std::isfinite(sum)))
        return false;
      row[j] = i == j ? std::sqrt(sum) : sum / right[j];
    }
  }
  return true;
}

bool quench::factorize(double *matrix, int64_t n, int threads) {
  std::vector<double> turned; // the columns of the panel, negated, as rows
  for (int64_t end = n; end > 0;) {
    int64_t first = std::max<int64_t>(0, (end - 1) / kPanel * kPanel);
    int64_t width = end - first, strips = (first + kStrip - 1) / kStrip;
    if (!factorizeBlock(matrix, n, first, end))
      return false;
    turned.resize(width * first);
    forEachIndex(strips, threads, [&](int64_t strip) {
      int64_t row = strip * kStrip, count = std::min(kStrip, first - row);
      for (int64_t j = width - 1; j >= 0; --j) {
        double *to = turned.data() + j * first + row;
        for (int64_t i = 0; i < count; ++i)
          to[i] = -matrix[(row + i) * n + first + j];
        const double *right = matrix + (first + j) * n + first;
        for (int64_t k = j + 1; k < width; ++k) {
          const double *from = turned.data() + k * first + row;
          for (int64_t i = 0; i < count; ++i)
            to[i] -= right[k] * from[i];
        }
        for (int64_t i = 0; i < count; ++i) {
          to[i] /= right[j];
          matrix[(row + i) * n + first + j] = -to[i];
        }
      }
    });
    forEachIndex(strips, threads, [&](int64_t strip) {
      int64_t row = strip * kStrip, count = std::min(kStrip, first - row);
      multiplyAdd(matrix + row * n + row, n, matrix + row * n + first, n,
                  turned.data() + row, first, count, first - row, width);
    });
    end = first;
  }
  return true;
}

//===----------------------------------------------------------------------===//
// Feedback
//===----------------------------------------------------------------------===//

void quench::invertUpper(const double *upper, int64_t stride, int64_t n,
                         std::vector<double> &inverse) {
  inverse.assign(n * n, 0.0);
  for (int64_t j = n - 1; j >= 0; --j) {
    inverse[j * n + j] = 1 / upper[j * stride + j];
    for (int64_t k = j + 1; k < n; ++k) {
      double sum = 0;
      for (int64_t l = j + 1; l <= k; ++l)
        sum += upper[j * stride + l] * inverse[l * n + k];
      inverse[j * n + k] = -sum * inverse[j * n + j];
    }
  }
}

bool quench::triangularFeedback(const Moments &moments, CodePlan plan,
                                int threads, Feedback &feedback) {
  int64_t n = plan.columns();
  const std::vector<int32_t> &order = plan.order;
  std::vector<double> factor(n * n);
  forEachIndex(n, threads, [&](int64_t i) {
    for (int64_t j = i; j < n; ++j)
      factor[i * n + j] = moments.at(order[i], order[j]);
  });
  if (!factorize(factor.data(), n, threads))
    return false;

  feedback.triangular = true;
  feedback.panels.assign(plan.batches.size(), {});
  feedback.moments.assign(plan.batches.size(), {});
  feedback.weights.assign(n, 0.0f);
  std::atomic<bool> finite{true};
  forEachIndex(plan.batches.size(), threads, [&](int64_t at) {
    const CodeBatch &batch = plan.batches[at];
    std::vector<float> &panel = feedback.panels[at];
    panel.assign(batch.end() * batch.width, 0.0f);
    feedback.moments[at].assign(batch.width * batch.width, 0.0f);
    std::vector<double> inverse;
    for (int64_t b = batch.firstBlock; b < batch.endBlock; ++b) {
      const CodeBlock &block = plan.blocks[b];
      const double *diagonal = &factor[block.place * n + block.place];
      invertUpper(diagonal, n, block.width, inverse);
      float *to = panel.data() + block.place - batch.place;
      for (int64_t j = 0; j < block.place; ++j, to += batch.width)
        for (int64_t k = 0; k < block.width; ++k) {
          double sum = 0;
          for (int64_t l = 0; l <= k; ++l)
            sum +=
                factor[j * n + block.place + l] * inverse[l * block.width + k];
          to[k] = static_cast<float>(sum);
        }
      // The block of D.
      float *moments = feedback.moments[at].data() +
                       (block.place - batch.place) * (batch.width + 1);
      for (int64_t i = 0; i < block.width; ++i)
        for (int64_t j = 0; j < block.width; ++j) {
          double sum = 0;
          for (int64_t l = std::max(i, j); l < block.width; ++l)
            sum += diagonal[i * n + l] * diagonal[j * n + l];
          moments[i * batch.width + j] = static_cast<float>(sum);
          if (i == j)
            feedback.weights[block.place + i] = static_cast<float>(sum);
        }
    }
    for (float value : panel)
      if (!std::isfinite(value))
        finite = false;
  });
  feedback.plan = std::move(plan);
  return finite;
}

bool quench::fullFeedback(const Moments &moments, CodePlan plan, int threads,
                          Feedback &feedback) {
  int64_t n = plan.columns();
  const std::vector<int32_t> &order = plan.order;
  feedback.triangular = false;
  feedback.panels.assign(plan.batches.size(), {});
  feedback.moments.assign(plan.batches.size(), {});
  feedback.weights.assign(n, 0.0f);
  std::atomic<bool> good{true};
  forEachIndex(plan.batches.size(), threads, [&](int64_t at) {
    const CodeBatch &batch = plan.batches[at];
    std::vector<float> &panel = feedback.panels[at];
    std::vector<float> &square = feedback.moments[at];
    panel.assign(n * batch.width, 0.0f);
    square.resize(batch.width * batch.width);
    for (int64_t i = 0; i < batch.width; ++i) {
      const int32_t *column = order.data() + batch.place;
      for (int64_t j = 0; j < batch.width; ++j)
        square[i * batch.width + j] = moments.at(column[i], column[j]);
      feedback.weights[batch.place + i] = square[i * batch.width + i];
    }
    std::vector<double> upper, inverse, solved;
    for (int64_t b = batch.firstBlock; b < batch.endBlock; ++b) {
      const CodeBlock &block = plan.blocks[b];
      const int32_t *columns = order.data() + block.place;
      int64_t width = block.width;
      // H_bb^-1 = R^T R for the inverse R of the factor.
      upper.assign(width * width, 0.0);
      for (int64_t i = 0; i < width; ++i)
        for (int64_t j = i; j < width; ++j)
          upper[i * width + j] = moments.at(columns[i], columns[j]);
      if (!factorize(upper.data(), width, 1)) {
        good = false;
        return;
      }
      invertUpper(upper.data(), width, width, inverse);
      solved.assign(width * width, 0.0);
      for (int64_t l = 0; l < width; ++l)
        for (int64_t i = 0; i < width; ++i)
          for (int64_t j = 0; j < width; ++j)
            solved[i * width + j] +=
                inverse[l * width + i] * inverse[l * width + j];
      float *to = panel.data() + block.place - batch.place;
      for (int64_t j = 0; j < n; ++j, to += batch.width) {
        if (j >= block.place && j < block.end())
          continue;
        for (int64_t k = 0; k < width; ++k) {
          double sum = 0;
          for (int64_t l = 0; l < width; ++l)
            sum += moments.at(order[j], columns[l]) * solved[l * width + k];
          to[k] = static_cast<float>(sum);
        }
      }
    }
    for (float value : panel)
      if (!std::isfinite(value))
        good = false;
  });
  feedback.plan = std::move(plan);
  return good;
}

Feedback quench::noFeedback(CodePlan plan) {
  Feedback feedback;
  feedback.weights.assign(plan.columns(), 1.0f);
  feedback.panels.resize(plan.batches.size());
  feedback.plan = std::move(plan);
  return feedback;
}
