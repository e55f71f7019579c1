//===- Gemm.h - Products of matrices ----------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_QUANTIZERS_GEMM_H
#define QUENCH_LIB_QUANTIZATION_QUANTIZERS_GEMM_H

#include <cstdint>

namespace quench {

/// c[i][j] += sum over l of a[i][l] b[l][j], i < m, j < n, l < k; rows of the
/// matrices lie lda, ldb, ldc numbers apart. Each number of c is a sum in one
/// fixed order (blocks of 256 from l = 0 on), whatever the vectors of the
/// machine and the shape of the rest. T: float or double.
template <typename T>
void multiplyAdd(T *c, int64_t ldc, const T *a, int64_t lda, const T *b,
                 int64_t ldb, int64_t m, int64_t n, int64_t k);

extern template void multiplyAdd(float *, int64_t, const float *, int64_t,
                                 const float *, int64_t, int64_t, int64_t,
                                 int64_t);
extern template void multiplyAdd(double *, int64_t, const double *, int64_t,
                                 const double *, int64_t, int64_t, int64_t,
                                 int64_t);

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_QUANTIZERS_GEMM_H
