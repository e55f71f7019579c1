//===- ViterbiMetric.cpp - Trellis paths that carry their errors ----------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// As in Viterbi.cpp, but each overlap has the targets of its own path for the
// values of the run that are still to come: those of the overlap that it
// follows, and the newest error times the feedback.
//
//===----------------------------------------------------------------------===//

#include "Viterbi.h"
#include "ViterbiLanes.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

using namespace quench;

bool RunMetric::set(const float *matrix) {
  constexpr int64_t n = kTrellisRun;
  double d[n], unit[n][n];
  for (int64_t c = 0; c < n; ++c)
    for (int64_t j = c; j < n; ++j) {
      double sum = matrix[j * n + c];
      for (int64_t q = 0; q < c; ++q)
        sum -= unit[j][q] * unit[c][q] * d[q];
      if (j == c && !(sum > 0 && std::isfinite(sum)))
        return false;
      if (j == c)
        d[c] = sum;
      unit[j][c] = sum / d[c];
    }
  // Only their ratios matter.
  double most = *std::max_element(d, d + n);
  for (int64_t c = 0; c < n; ++c) {
    cost[c] = static_cast<float>(d[c] / most);
    for (int64_t j = 0; j < n; ++j)
      feedback[j][c] = j > c ? static_cast<float>(unit[j][c]) : 0.0f;
  }
  return true;
}

namespace {

/// What one thread needs, kept from call to call.
struct Scratch {
  std::vector<float> costs[2], targets[2]; // [overlaps], [run][overlaps]
  std::vector<float> errors;               // [overlaps]
  std::vector<uint32_t> sources;           // [overlaps]
  std::vector<uint8_t> choices;            // [steps][overlaps]
};

struct Paths {
  const Trellis &trellis;
  const RunMetric &metric;
  size_t overlaps, stride; // of targets: no power of two
  bool wide = false;       // AVX-512
  Scratch &scratch;
};

#if defined(__x86_64__)
#define WIDE [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]]

/// What p .. p + 15 may follow: 2^Bits choices for each of their 16 >> Bits
/// values of p >> Bits, 16 numbers in all. At most three bits.
template <unsigned Bits>
WIDE inline __m512 candidates(const float *from, size_t overlaps, size_t p) {
  const float *at = from + (p >> Bits);
  size_t step = overlaps >> Bits;
  if constexpr (Bits == 1) {
    __m512 all = _mm512_castps256_ps512(_mm256_loadu_ps(at));
    return _mm512_insertf32x8(all, _mm256_loadu_ps(at + step), 1);
  } else {
    __m128 quarter[4];
    for (size_t i = 0; i < 4; ++i) {
      if constexpr (Bits == 2) {
        quarter[i] = _mm_loadu_ps(at + i * step);
      } else {
        double low, high;
        std::memcpy(&low, at + 2 * i * step, sizeof low);
        std::memcpy(&high, at + (2 * i + 1) * step, sizeof high);
        quarter[i] = _mm_castpd_ps(_mm_set_pd(high, low));
      }
    }
    __m512 all = _mm512_castps128_ps512(quarter[0]);
    all = _mm512_insertf32x4(all, quarter[1], 1);
    all = _mm512_insertf32x4(all, quarter[2], 2);
    return _mm512_insertf32x4(all, quarter[3], 3);
  }
}

/// The targets of the columns before `column`: those of the sources, and the
/// newest errors times the feedback.
template <unsigned Bits>
WIDE void feedWide(const Paths &paths, int64_t column, const float *targets,
                   float *nextTargets, const uint8_t *choices) {
  const uint32_t *sources = paths.scratch.sources.data();
  const float *errors = paths.scratch.errors.data();
  const __m512i lanes = _mm512_srli_epi32(
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
      Bits);
  for (size_t p = 0; p < paths.overlaps; p += kLanes) {
    __m512 error = _mm512_loadu_ps(errors + p);
    __m512i source = _mm512_loadu_si512(sources + p), pick = source;
    if constexpr (Bits <= 3) {
      __m128i narrow;
      std::memcpy(&narrow, choices + p, sizeof narrow);
      pick = _mm512_or_si512(
          _mm512_slli_epi32(_mm512_cvtepu8_epi32(narrow), 4 - Bits), lanes);
    }
    for (int64_t c = 0; c < column; ++c) {
      const float *from = targets + c * paths.stride;
      __m512 value;
      if constexpr (Bits <= 3)
        value = _mm512_permutexvar_ps(
            pick, candidates<Bits>(from, paths.overlaps, p));
      else
        value = _mm512_i32gather_ps(source, from, sizeof(float));
      __m512 fed = _mm512_mul_ps(
          error, _mm512_set1_ps(paths.metric.feedback[column][c]));
      _mm512_storeu_ps(nextTargets + c * paths.stride + p,
                       _mm512_add_ps(value, fed));
    }
  }
}
#endif

/// One value of a run, by all overlaps. `x` is the value itself, `column` its
/// place in the run.
template <unsigned Bits>
[[gnu::always_inline]] inline void
advance(const Paths &paths, float x, float weight, int64_t column,
        const float *costs, float *next, const float *targets,
        float *nextTargets, uint8_t *choices) {
  size_t overlaps = paths.overlaps;
  const float *levels = paths.trellis.levels;
  const float *own = targets + column * paths.stride;
  float *errors = paths.scratch.errors.data();
  uint32_t *sources = paths.scratch.sources.data();
  Ints lanes;
  for (unsigned lane = 0; lane < kLanes; ++lane)
    lanes[lane] = lane;
  for (size_t p = 0; p < overlaps; p += kLanes) {
    Floats best = Floats{} + std::numeric_limits<float>::max();
    Floats found{};
    Ints choice{};
#pragma GCC unroll 64
    for (unsigned j = 0; j < 1u << Bits; ++j) {
      size_t state = j * overlaps + p;
      Floats level;
      load(level, levels + state);
      Floats error = spread<Bits>(own + (state >> Bits)) - level;
      Floats cost =
          spread<Bits>(costs + (state >> Bits)) + weight * (error * error);
      Ints less = cost < best;
      best = less ? cost : best;
      found = less ? level : found;
      choice = less ? Ints{} + static_cast<int32_t>(j) : choice;
    }
    std::memcpy(next + p, &best, sizeof best);
    Bytes narrow = __builtin_convertvector(choice, Bytes);
    std::memcpy(choices + p, &narrow, sizeof narrow);
    found = x - found;
    std::memcpy(errors + p, &found, sizeof found);
    choice = (choice * static_cast<int32_t>(overlaps) +
              static_cast<int32_t>(p) + lanes) >>
             static_cast<int32_t>(Bits);
    std::memcpy(sources + p, &choice, sizeof choice);
  }
  if (column == 0)
    return;
#if defined(__x86_64__)
  if (paths.wide)
    return feedWide<Bits>(paths, column, targets, nextTargets, choices);
#endif
  for (int64_t c = 0; c < column; ++c) {
    float feedback = paths.metric.feedback[column][c];
    const float *from = targets + c * paths.stride;
    float *to = nextTargets + c * paths.stride;
    for (size_t p = 0; p < overlaps; ++p)
      to[p] = from[sources[p]] + feedback * errors[p];
  }
}

/// Some runs, from the last to the first.
struct Runs {
  const float *x;
  const float *weights; // of runs, or null
  int64_t begin, end;
};

template <unsigned Bits>
[[gnu::always_inline]] inline void follow(const Paths &paths, const Runs &runs,
                                          size_t step) {
  size_t overlaps = paths.overlaps;
  Scratch &scratch = paths.scratch;
  for (int64_t run = runs.end; run-- > runs.begin;) {
    const float *x = runs.x + run * kTrellisRun;
    float weight = runs.weights ? runs.weights[run] : 1.0f;
    float *targets = scratch.targets[step % 2].data();
    for (int64_t c = 0; c < kTrellisRun; ++c)
      std::fill_n(targets + c * paths.stride, overlaps, x[c]);
    for (int64_t c = kTrellisRun; c-- > 0; ++step)
      advance<Bits>(paths, x[c], weight * paths.metric.cost[c], c,
                    scratch.costs[step % 2].data(),
                    scratch.costs[(step + 1) % 2].data(),
                    scratch.targets[step % 2].data(),
                    scratch.targets[(step + 1) % 2].data(),
                    scratch.choices.data() + step * overlaps);
  }
}

[[gnu::always_inline]] inline void followAny(const Paths &paths,
                                             const Runs &runs, size_t step) {
  switch (paths.trellis.bits) {
  case 1:
    return follow<1>(paths, runs, step);
  case 2:
    return follow<2>(paths, runs, step);
  case 3:
    return follow<3>(paths, runs, step);
  case 4:
    return follow<4>(paths, runs, step);
  case 5:
    return follow<5>(paths, runs, step);
  case 6:
    return follow<6>(paths, runs, step);
  }
}

#if defined(__x86_64__)
WIDE void followAVX512(const Paths &paths, const Runs &runs, size_t step) {
  followAny(paths, runs, step);
}
#endif

bool hasWideLanes() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

void followAll(const Paths &paths, const Runs &runs, size_t step) {
#if defined(__x86_64__)
  if (paths.wide)
    return followAVX512(paths, runs, step);
#endif
  followAny(paths, runs, step);
}

} // namespace

void quench::viterbiTailBiting(const Trellis &trellis, const float *x,
                               int64_t n, const float *weights,
                               const RunMetric &metric, uint32_t *states) {
  size_t overlaps = size_t(1) << (trellis.stateBits - trellis.bits);
  if (overlaps < kLanes)
    return viterbiTailBiting(trellis, x, n, weights, states);
  static thread_local Scratch scratch;
  size_t stride = overlaps + 3 * kLanes;
  for (int side = 0; side < 2; ++side) {
    scratch.costs[side].resize(overlaps);
    scratch.targets[side].resize(kTrellisRun * stride);
  }
  scratch.errors.resize(overlaps);
  scratch.sources.resize(overlaps);
  Paths paths{trellis, metric, overlaps, stride, hasWideLanes(), scratch};
  float *costs = scratch.costs[0].data();
  // A path over the junction of both ends says where they meet.
  int64_t span = (trellis.stateBits + trellis.bits - 1) / trellis.bits;
  int64_t total = n / kTrellisRun;
  int64_t reach = (12 * span + kTrellisRun - 1) / kTrellisRun;
  reach = std::min(reach, std::max<int64_t>(total / 2, 1));
  scratch.choices.resize(std::max(n, 2 * reach * kTrellisRun) * overlaps);
  std::fill_n(costs, overlaps, 0.0f);
  followAll(paths, {x, weights, 0, reach}, 0);
  followAll(paths, {x, weights, total - reach, total}, reach * kTrellisRun);
  size_t count = 2 * reach * kTrellisRun;
  const float *last = scratch.costs[count % 2].data();
  size_t overlap = std::min_element(last, last + overlaps) - last;
  size_t state = 0;
  for (size_t i = count; i-- > size_t(reach * kTrellisRun);) {
    state = scratch.choices[i * overlaps + overlap] * overlaps + overlap;
    overlap = state >> trellis.bits;
  }

  size_t junction = overlap;
  std::fill_n(costs, overlaps, 1e30f);
  costs[junction] = 0;
  followAll(paths, {x, weights, 0, total}, 0);
  for (size_t i = n; i-- > 0;) {
    state = scratch.choices[i * overlaps + overlap] * overlaps + overlap;
    states[n - 1 - i] = state;
    overlap = state >> trellis.bits;
  }
}
