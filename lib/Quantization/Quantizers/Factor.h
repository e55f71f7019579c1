//===- Factor.h - Second moments as feedback --------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The matrices by which errors that were made are fed to columns that are
// coded. With H the damped second moments in the order of a plan:
//
//   triangular  H = (I + U) D (I + U)^T, U block upper triangular with empty
//               blocks on its diagonal, D block diagonal: LDLQ's feedback
//   full        M_jb = H_jb H_bb^-1 for j outside of block b, 0 inside: where
//               block b is best, given all other errors
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_QUANTIZERS_FACTOR_H
#define QUENCH_LIB_QUANTIZATION_QUANTIZERS_FACTOR_H

#include "Quantizers/Plan.h"

namespace quench {

/// Second moments that can be relied on: a column whose moments are not finite
/// or whose diagonal is not positive is cut off from all others and gets the
/// mean of the diagonal, so that it is rounded to nearest. All is divided by
/// that mean.
class Moments {
public:
  Moments(const double *hessian, int64_t n);
  int64_t size() const { return n; }
  /// Columns that were cut off.
  int64_t badColumns() const { return bad; }
  int64_t deadColumns() const { return dead; } // all 0
  /// Adds so much to the diagonal, in parts of its mean.
  void damp(double amount) { damping = amount; }
  double at(int64_t i, int64_t j) const {
    if (i == j)
      return (cut[i] ? 1.0 : hessian[i * n + i] * factor) + damping;
    return cut[i] || cut[j] ? 0.0 : hessian[i * n + j] * factor;
  }

private:
  const double *hessian;
  int64_t n, bad = 0, dead = 0;
  std::vector<uint8_t> cut;
  double factor = 1, damping = 0;
};

struct Feedback {
  CodePlan plan;
  bool triangular = true;
  /// Of each batch: [plan.columns(), or batch.end() where triangular][width],
  /// the feedback from each place to the places of the batch.
  std::vector<std::vector<float>> panels;
  /// Of each batch, [width][width]. Full: the damped moments of its places.
  /// Triangular: its blocks of D, 0 elsewhere.
  std::vector<std::vector<float>> moments;
  /// What the squared error of a place costs once it is coded and the later
  /// ones make good for it: the diagonal of D. Full: the diagonal of H.
  std::vector<float> weights;
};

/// Upper triangular G with G G^T = `matrix` (n x n, row major, whose lower
/// triangle is not read), in its place. False: not positive definite.
bool factorize(double *matrix, int64_t n, int threads);
/// The inverse of an upper triangular matrix of n x n numbers, whose rows lie
/// `stride` apart.
void invertUpper(const double *upper, int64_t stride, int64_t n,
                 std::vector<double> &inverse);

/// False: the moments with their damping are not positive definite.
bool triangularFeedback(const Moments &moments, CodePlan plan, int threads,
                        Feedback &feedback);
bool fullFeedback(const Moments &moments, CodePlan plan, int threads,
                  Feedback &feedback);
/// For rounding to nearest: no feedback at all, all weights 1.
Feedback noFeedback(CodePlan plan);

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_QUANTIZERS_FACTOR_H
