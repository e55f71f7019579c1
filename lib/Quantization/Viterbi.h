//===- Viterbi.h - The best path through a bitshift trellis -----*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A sequence of n values is coded in n * bits bits; the value at t depends on
// the stateBits bits from bit bits * t on, its state. Neighbours share all bits
// but `bits`:
//
//   states[t] = (states[t + 1] << bits | new) mod 2^stateBits
//
// The encoder runs in this direction (falling t): the states that may precede
// one then lie side by side. Results are the same on every machine.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_VITERBI_H
#define QUENCH_LIB_QUANTIZATION_VITERBI_H

#include <cstdint>

namespace quench {

/// The values of n = 16 `runs` numbers that share a weight; the sequence is
/// made of such runs.
constexpr int64_t kTrellisRun = 16;

struct Trellis {
  unsigned bits;       // of one value, 1 to 6
  unsigned stateBits;  // more than `bits`, at most 20
  const float *levels; // [2^stateBits], finite
};

/// Finds the states [n] that minimize the sum of
///   weights[t / kTrellisRun] * (x[t] - levels[states[t]])^2.
/// n is a multiple of kTrellisRun, x finite, weights positive (null: equal). Of
/// paths of equal cost one is chosen, always the same.
void viterbi(const Trellis &trellis, const float *x, int64_t n,
             const float *weights, uint32_t *states);

/// The same for circular sequences: states[n - 1] precedes states[0]. In two
/// passes: the bits that both ends share come from the middle of a path over
/// the junction, so the result is close to the best one.
void viterbiTailBiting(const Trellis &trellis, const float *x, int64_t n,
                       const float *weights, uint32_t *states);

/// How the errors r = x - level of a run count together:
///   sum over c of cost[c] * (r_c + sum over j > c of feedback[j][c] r_j)^2.
struct RunMetric {
  float cost[kTrellisRun], feedback[kTrellisRun][kTrellisRun];
  /// For r M r^T, M ([kTrellisRun][kTrellisRun], symmetric). False: M is not
  /// positive definite.
  bool set(const float *matrix);
};

/// viterbiTailBiting with the errors of each run counted by a metric. A path
/// takes along what its errors do to the values of its run that come after; of
/// paths that meet the cheaper one stays, as ever, so the result is close to
/// the best one. About three times as long.
void viterbiTailBiting(const Trellis &trellis, const float *x, int64_t n,
                       const float *weights, const RunMetric &metric,
                       uint32_t *states);

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_VITERBI_H
