//===- Gemm.cpp - Products of matrices ------------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Tiles of c in registers, vectors along the columns. The same source is
// compiled for several vector widths; products are rounded before they are
// added (no fused multiply-add), so that all give the same numbers.
//
//===----------------------------------------------------------------------===//

#include "Quantizers/Gemm.h"
#include <algorithm>
#include <cstring>

using namespace quench;

#define ALWAYS_INLINE inline __attribute__((always_inline))

/// Rows of b that are summed before c is touched.
static constexpr int64_t kDepth = 256;

namespace {
template <typename T> struct Matrices {
  T *c;
  int64_t ldc;
  const T *a;
  int64_t lda;
  const T *b;
  int64_t ldb;
};
} // namespace

/// A tile of Rows x (Vectors * Width) at row i, column j.
template <typename T, int Width, int Vectors, int Rows>
static ALWAYS_INLINE void multiplyTile(const Matrices<T> &mats, int64_t i,
                                       int64_t j, int64_t k) {
  typedef T Vec __attribute__((vector_size(Width * sizeof(T))));
  Vec sum[Rows][Vectors] = {};
  const T *a = mats.a + i * mats.lda, *b = mats.b + j;
  for (int64_t l = 0; l < k; ++l, b += mats.ldb) {
    Vec right[Vectors];
    std::memcpy(right, b, sizeof(right));
    for (int r = 0; r < Rows; ++r)
      for (int v = 0; v < Vectors; ++v)
        sum[r][v] += a[r * mats.lda + l] * right[v];
  }
  for (int r = 0; r < Rows; ++r) {
    T *c = mats.c + (i + r) * mats.ldc + j;
    Vec old[Vectors];
    std::memcpy(old, c, sizeof(old));
    for (int v = 0; v < Vectors; ++v)
      old[v] += sum[r][v];
    std::memcpy(c, old, sizeof(old));
  }
}

template <typename T, int Width, int Vectors, int Rows>
static ALWAYS_INLINE void multiplyStrip(const Matrices<T> &mats, int64_t j,
                                        int64_t m, int64_t k) {
  int64_t i = 0;
  for (; i + Rows <= m; i += Rows)
    multiplyTile<T, Width, Vectors, Rows>(mats, i, j, k);
  for (; i < m; ++i)
    multiplyTile<T, Width, Vectors, 1>(mats, i, j, k);
}

template <typename T, int Width, int Rows>
static ALWAYS_INLINE void multiplyAll(Matrices<T> mats, int64_t m, int64_t n,
                                      int64_t k) {
  for (int64_t l = 0; l < k; l += kDepth) {
    int64_t depth = std::min(kDepth, k - l), j = 0;
    for (; j + 2 * Width <= n; j += 2 * Width)
      multiplyStrip<T, Width, 2, Rows>(mats, j, m, depth);
    for (; j + Width <= n; j += Width)
      multiplyStrip<T, Width, 1, Rows>(mats, j, m, depth);
    for (; j < n; ++j)
      multiplyStrip<T, 1, 1, Rows>(mats, j, m, depth);
    mats.a += depth;
    mats.b += depth * mats.ldb;
  }
}

#ifdef __x86_64__
template <typename T>
__attribute__((target("avx512f"))) static void
multiplyWide(const Matrices<T> &mats, int64_t m, int64_t n, int64_t k) {
  multiplyAll<T, 64 / sizeof(T), 8>(mats, m, n, k);
}
template <typename T>
__attribute__((target("avx2"))) static void
multiplyMiddle(const Matrices<T> &mats, int64_t m, int64_t n, int64_t k) {
  multiplyAll<T, 32 / sizeof(T), 4>(mats, m, n, k);
}
#endif

template <typename T>
void quench::multiplyAdd(T *c, int64_t ldc, const T *a, int64_t lda, const T *b,
                         int64_t ldb, int64_t m, int64_t n, int64_t k) {
  Matrices<T> mats{c, ldc, a, lda, b, ldb};
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f"))
    return multiplyWide(mats, m, n, k);
  if (__builtin_cpu_supports("avx2"))
    return multiplyMiddle(mats, m, n, k);
#endif
  multiplyAll<T, 16 / sizeof(T), 4>(mats, m, n, k);
}

template void quench::multiplyAdd(float *, int64_t, const float *, int64_t,
                                  const float *, int64_t, int64_t, int64_t,
                                  int64_t);
template void quench::multiplyAdd(double *, int64_t, const double *, int64_t,
                                  const double *, int64_t, int64_t, int64_t,
                                  int64_t);
