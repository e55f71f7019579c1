//===- Targets.cpp - Weights for other inputs -----------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Targets.h"
#include "Quantizers/Factor.h"
#include "quench/Quantization/Parallel.h"
#include <cblas.h>

using namespace quench;

std::vector<float> quench::correctedWeights(const float *weights, int64_t rows,
                                            const InputMoments &moments,
                                            llvm::ArrayRef<double> products,
                                            int threads) {
  constexpr double kDamping = 0.01;
  constexpr int64_t kRows = 64;
  int64_t n = moments.cols;
  std::vector<double> factor = moments.second, difference(n * n);
  double trace = 0;
  for (int64_t i = 0; i < n; ++i)
    trace += factor[i * n + i];
  for (int64_t i = 0; i < n; ++i)
    factor[i * n + i] += kDamping * trace / n;
  for (int64_t i = 0; i < n * n; ++i)
    difference[i] = products[i] - moments.second[i];
  if (!(trace > 0) || !factorize(factor.data(), n, threads))
    return {};
  std::vector<float> result(rows * n);
  forEachIndex((rows + kRows - 1) / kRows, threads, [&](int64_t band) {
    int64_t begin = band * kRows, m = std::min(kRows, rows - begin);
    const float *from = weights + begin * n;
    std::vector<double> w(from, from + m * n), x(m * n);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, n, 1, w.data(),
                n, difference.data(), n, 0, x.data(), n);
    // x (G G^T)^-1
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasUpper, CblasTrans, CblasNonUnit,
                m, n, 1, factor.data(), n, x.data(), n);
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasUpper, CblasNoTrans,
                CblasNonUnit, m, n, 1, factor.data(), n, x.data(), n);
    for (int64_t i = 0; i < m * n; ++i)
      result[begin * n + i] = static_cast<float>(w[i] + x[i]);
  });
  return result;
}
