//===- Viterbi.cpp - The best path through a bitshift trellis -------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Costs are kept for the bits that neighbours share (an overlap), not for
// states. With P overlaps, state j P + p follows overlap (j P + p) >> bits and
// leads to overlap p; j is all that a step must remember.
//
//===----------------------------------------------------------------------===//

#include "Viterbi.h"
#include "ViterbiLanes.h"
#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

using namespace quench;

namespace {

/// One value to code, in the encoder's order.
struct Step {
  float x;
  float rescale; // of all costs before this step
};

/// What one thread needs, kept from call to call.
struct Scratch {
  std::vector<Step> steps;
  std::vector<float> costs[2];
  std::vector<uint8_t> choices; // [steps][overlaps]
};

/// One step over all overlaps, at least kLanes of them.
template <unsigned Bits>
[[gnu::always_inline]] inline void advance(const float *levels, size_t overlaps,
                                           float x, const float *costs,
                                           float *next, uint8_t *choices) {
  for (size_t p = 0; p < overlaps; p += kLanes) {
    Floats best = Floats{} + std::numeric_limits<float>::max();
    Ints choice{};
#pragma GCC unroll 64
    for (unsigned j = 0; j < 1u << Bits; ++j) {
      size_t state = j * overlaps + p;
      Floats level;
      load(level, levels + state);
      Floats error = x - level;
      Floats cost = spread<Bits>(costs + (state >> Bits)) + error * error;
      Ints less = cost < best;
      best = less ? cost : best;
      choice = less ? Ints{} + static_cast<int32_t>(j) : choice;
    }
    std::memcpy(next + p, &best, sizeof best);
    Bytes narrow = __builtin_convertvector(choice, Bytes);
    std::memcpy(choices + p, &narrow, sizeof narrow);
  }
}

/// The same for few overlaps.
void advanceSlowly(const Trellis &t, size_t overlaps, float x,
                   const float *costs, float *next, uint8_t *choices) {
  for (size_t p = 0; p < overlaps; ++p) {
    next[p] = std::numeric_limits<float>::max();
    choices[p] = 0;
    for (unsigned j = 0; j < 1u << t.bits; ++j) {
      size_t state = j * overlaps + p;
      float error = x - t.levels[state];
      float cost = costs[state >> t.bits] + error * error;
      if (cost < next[p]) {
        next[p] = cost;
        choices[p] = j;
      }
    }
  }
}

/// What advanceAll works on: `count` steps; the last costs are in `costs` or,
/// for an odd number of steps, in `next`.
struct Advance {
  const Trellis &trellis;
  size_t overlaps;
  const Step *steps;
  size_t count;
  float *costs, *next;
  uint8_t *choices;
};

template <unsigned Bits>
[[gnu::always_inline]] inline void advanceBits(const Advance &a) {
  float *costs = a.costs, *next = a.next;
  for (size_t i = 0; i < a.count; ++i) {
    const Step &step = a.steps[i];
    if (step.rescale != 1)
      for (size_t p = 0; p < a.overlaps; ++p)
        costs[p] *= step.rescale;
    uint8_t *choices = a.choices + i * a.overlaps;
    if (a.overlaps >= kLanes)
      advance<Bits>(a.trellis.levels, a.overlaps, step.x, costs, next, choices);
    else
      advanceSlowly(a.trellis, a.overlaps, step.x, costs, next, choices);
    float *last = costs;
    costs = next;
    next = last;
  }
}

[[gnu::always_inline]] inline void advanceAny(const Advance &a) {
  switch (a.trellis.bits) {
  case 1:
    return advanceBits<1>(a);
  case 2:
    return advanceBits<2>(a);
  case 3:
    return advanceBits<3>(a);
  case 4:
    return advanceBits<4>(a);
  case 5:
    return advanceBits<5>(a);
  case 6:
    return advanceBits<6>(a);
  }
}

#if defined(__x86_64__)
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] void
advanceAVX512(const Advance &a) {
  advanceAny(a);
}
[[gnu::target("avx2")]] void advanceAVX2(const Advance &a) { advanceAny(a); }

void advanceAll(const Advance &a) {
  if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return advanceAVX512(a);
  if (__builtin_cpu_supports("avx2"))
    return advanceAVX2(a);
  advanceAny(a);
}
#else
void advanceAll(const Advance &a) { advanceAny(a); }
#endif

} // namespace

/// Runs over scratch.steps; `forced` is the overlap at both ends, or -1. Writes
/// the states of the steps from `last` down to `first`.
static void run(const Trellis &t, Scratch &scratch, int64_t forced,
                size_t first, size_t last, uint32_t *states) {
  size_t overlaps = size_t(1) << (t.stateBits - t.bits);
  size_t count = scratch.steps.size();
  for (std::vector<float> &costs : scratch.costs)
    costs.resize(std::max<size_t>(overlaps, kLanes));
  scratch.choices.resize(count * overlaps);
  float *costs = scratch.costs[0].data();
  std::fill_n(costs, overlaps, forced < 0 ? 0.0f : 1e30f);
  if (forced >= 0)
    costs[forced] = 0;
  advanceAll({t, overlaps, scratch.steps.data(), count, costs,
              scratch.costs[1].data(), scratch.choices.data()});
  costs = scratch.costs[count % 2].data();
  size_t overlap =
      forced >= 0 ? forced : std::min_element(costs, costs + overlaps) - costs;
  for (size_t i = count; i-- > first;) {
    size_t state = scratch.choices[i * overlaps + overlap] * overlaps + overlap;
    if (i <= last)
      states[i - first] = state;
    overlap = state >> t.bits;
  }
}

static Scratch &scratchOfThread() {
  static thread_local Scratch scratch;
  return scratch;
}

/// Adds x[begin .. end) from its end on. `previous` is the weight of the steps
/// before, 0 if there are none.
static void addSteps(const float *x, const float *weights, int64_t begin,
                     int64_t end, float &previous, std::vector<Step> &steps) {
  for (int64_t t = end; t-- > begin;) {
    float weight = weights ? weights[t / kTrellisRun] : 1.0f;
    // Costs count in units of the current weight.
    float rescale =
        previous == 0 || previous == weight ? 1.0f : previous / weight;
    steps.push_back({x[t], rescale});
    previous = weight;
  }
}

void quench::viterbi(const Trellis &trellis, const float *x, int64_t n,
                     const float *weights, uint32_t *states) {
  Scratch &scratch = scratchOfThread();
  scratch.steps.clear();
  float previous = 0;
  addSteps(x, weights, 0, n, previous, scratch.steps);
  run(trellis, scratch, -1, 0, n - 1, states);
  std::reverse(states, states + n);
}

void quench::viterbiTailBiting(const Trellis &trellis, const float *x,
                               int64_t n, const float *weights,
                               uint32_t *states) {
  Scratch &scratch = scratchOfThread();
  // A path forgets its ends after some spans of a state.
  int64_t span = (trellis.stateBits + trellis.bits - 1) / trellis.bits;
  int64_t reach = (20 * span + kTrellisRun - 1) / kTrellisRun * kTrellisRun;
  reach = std::min(reach, n / 2);
  scratch.steps.clear();
  float previous = 0;
  addSteps(x, weights, 0, reach, previous, scratch.steps);
  addSteps(x, weights, n - reach, n, previous, scratch.steps);
  uint32_t junction;
  run(trellis, scratch, -1, reach, reach, &junction);

  scratch.steps.clear();
  previous = 0;
  addSteps(x, weights, 0, n, previous, scratch.steps);
  run(trellis, scratch, junction >> trellis.bits, 0, n - 1, states);
  std::reverse(states, states + n);
}
