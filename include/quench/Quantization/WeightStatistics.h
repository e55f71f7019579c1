//===- WeightStatistics.h - What is known of a quantized weight -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_WEIGHTSTATISTICS_H
#define QUENCH_QUANTIZATION_WEIGHTSTATISTICS_H

#include "quench/Quantization/Quantizer.h"
#include <array>

namespace quench {

/// Codes and errors of a weight, counted in parts that are joined in any order.
class WeightStatistics {
public:
  /// The low `codeBits` bits of codes are counted.
  explicit WeightStatistics(unsigned codeBits = 0) : codeBits(codeBits) {}

  void addCodes(llvm::ArrayRef<uint32_t> codes);
  void addRow(const float *values, const float *decoded, int64_t cols);
  void join(const WeightStatistics &other);

  /// Entropy of a code, each on its own, in bits. Codes of more than 8 bits
  /// count as the sum of their bytes, of which each is taken on its own.
  double entropyOfCodes() const;
  int64_t codes() const { return count; }
  /// The greatest length of a row's error over the root mean square of the
  /// lengths of the rows: no output moves by more, relative to those, for an
  /// input of length one.
  double errorBound() const;

private:
  unsigned codeBits;
  int64_t count = 0, rows = 0;
  std::array<std::array<int64_t, 256>, 4> histograms = {};
  double greatestError = 0, lengths = 0; // squared
};

/// Shannon's lower bound of the loss (tr(E H E^T) / tr(W H W^T)) of any code of
/// so many bits a weight, if weights were Gaussian and all alike: with the
/// eigenvalues l_i of H (a little damped, if it must be) it is
/// 4^-bits |W|^2 (product of l_i)^(1/n) / tr(W H W^T). Without a Hessian
/// 4^-bits. With moments of outputs (loss tr(G E H E^T) / tr(W H W^T)) times
/// the same mean of G's eigenvalues. 0: not known, as the moments are too many
/// (over 4096 columns or rows) or not positive definite.
double gaussianLossLimit(const QuantizeProblem &problem, double bits);

} // namespace quench

#endif // QUENCH_QUANTIZATION_WEIGHTSTATISTICS_H
