//===- NearestVector.cpp - The nearest of some vectors --------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// All vectors are tried, sixteen at a time and several points together, so that
// a table that does not fit the nearest cache is read once for all of them.
// Products are rounded before they are added (no fused multiply-add): every
// machine finds the same.
//
//===----------------------------------------------------------------------===//

#include "ViterbiLanes.h"
#include "quench/Quantization/Codebook.h"
#include <limits>

using namespace quench;

#if defined(__x86_64__)
#define WIDE [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]]
#define MIDDLE [[gnu::target("avx2")]]
#endif
#define ALWAYS_INLINE [[gnu::always_inline]] inline

namespace {

/// What the functions below share.
struct Vectors {
  const float *columns, *halfNorms;
  int64_t width, stride;
};

/// The scores of vectors first .. first + 15 for some points.
template <int Points>
ALWAYS_INLINE void scoresOf(const Vectors &v, const float *points,
                            int64_t first, Floats (&sums)[Points]) {
  Floats norms;
  load(norms, v.halfNorms + first);
  for (int p = 0; p < Points; ++p)
    sums[p] = norms;
  for (int64_t j = 0; j < v.width; ++j) {
    Floats column;
    load(column, v.columns + j * v.stride + first);
    for (int p = 0; p < Points; ++p)
      sums[p] -= column * points[p * v.width + j];
  }
}

template <int Points>
ALWAYS_INLINE void findSome(const Vectors &v, const float *points,
                            uint32_t *indices) {
  Floats best[Points], sums[Points];
  Ints found[Points] = {};
  for (int p = 0; p < Points; ++p)
    best[p] = Floats{} + std::numeric_limits<float>::max();
  for (int64_t first = 0; first < v.stride; first += kLanes) {
    scoresOf(v, points, first, sums);
    for (int p = 0; p < Points; ++p) {
      Ints less = sums[p] < best[p];
      best[p] = less ? sums[p] : best[p];
      found[p] = less ? Ints{} + static_cast<int32_t>(first) : found[p];
    }
  }
  for (int p = 0; p < Points; ++p) {
    uint32_t index = found[p][0];
    float least = best[p][0];
    for (unsigned lane = 1; lane < kLanes; ++lane) {
      uint32_t at = found[p][lane] + lane;
      if (best[p][lane] < least || (best[p][lane] == least && at < index)) {
        least = best[p][lane];
        index = at;
      }
    }
    indices[p] = index;
  }
}

template <int Points>
ALWAYS_INLINE void findEach(const Vectors &v, const float *points,
                            int64_t count, uint32_t *indices) {
  int64_t i = 0;
  for (; i + Points <= count; i += Points)
    findSome<Points>(v, points + i * v.width, indices + i);
  for (; i < count; ++i)
    findSome<1>(v, points + i * v.width, indices + i);
}

ALWAYS_INLINE void scoreAll(const Vectors &v, const float *point,
                            const float *weights, float *scores) {
  for (int64_t first = 0; first < v.stride; first += kLanes) {
    Floats sums[1];
    if (!weights) {
      scoresOf(v, point, first, sums);
    } else {
      // Lanes past the last vector never win.
      Floats most = Floats{} + std::numeric_limits<float>::max(), norms;
      load(norms, v.halfNorms + first);
      sums[0] = norms < most ? Floats{} : most;
      for (int64_t j = 0; j < v.width; ++j) {
        Floats column;
        load(column, v.columns + j * v.stride + first);
        sums[0] += weights[j] * column * (0.5f * column - point[j]);
      }
    }
    std::memcpy(scores + first, &sums[0], sizeof sums[0]);
  }
}

#if defined(__x86_64__)
WIDE void findWide(const Vectors &v, const float *points, int64_t count,
                   uint32_t *indices) {
  findEach<8>(v, points, count, indices);
}
MIDDLE void findMiddle(const Vectors &v, const float *points, int64_t count,
                       uint32_t *indices) {
  findEach<2>(v, points, count, indices);
}
WIDE void scoreWide(const Vectors &v, const float *point, const float *weights,
                    float *scores) {
  scoreAll(v, point, weights, scores);
}
MIDDLE void scoreMiddle(const Vectors &v, const float *point,
                        const float *weights, float *scores) {
  scoreAll(v, point, weights, scores);
}

bool hasWideLanes() {
  return __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

void scoreAny(const Vectors &v, const float *point, const float *weights,
              float *scores) {
#if defined(__x86_64__)
  if (hasWideLanes())
    return scoreWide(v, point, weights, scores);
  if (__builtin_cpu_supports("avx2"))
    return scoreMiddle(v, point, weights, scores);
#endif
  scoreAll(v, point, weights, scores);
}

} // namespace

NearestVector::NearestVector(llvm::ArrayRef<float> vectors, int64_t width)
    : width(width) {
  int64_t count = vectors.size() / width;
  stride = (count + kLanes - 1) / kLanes * kLanes;
  columns.resize(width * stride);
  halfNorms.assign(stride, std::numeric_limits<float>::max());
  for (int64_t i = 0; i < count; ++i) {
    float norm = 0;
    for (int64_t j = 0; j < width; ++j) {
      float value = vectors[i * width + j];
      columns[j * stride + i] = value;
      norm += value * value;
    }
    halfNorms[i] = 0.5f * norm;
  }
}

void NearestVector::scores(const float *point, float *scores) const {
  scoreAny({columns.data(), halfNorms.data(), width, stride}, point, nullptr,
           scores);
}

void NearestVector::scores(const float *point, const float *weights,
                           float *scores) const {
  scoreAny({columns.data(), halfNorms.data(), width, stride}, point, weights,
           scores);
}

void NearestVector::findAll(const float *points, int64_t count,
                            uint32_t *indices) const {
  Vectors v{columns.data(), halfNorms.data(), width, stride};
#if defined(__x86_64__)
  if (hasWideLanes())
    return findWide(v, points, count, indices);
  if (__builtin_cpu_supports("avx2"))
    return findMiddle(v, points, count, indices);
#endif
  findEach<2>(v, points, count, indices);
}
