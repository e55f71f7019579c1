//===- Allocate.h - Bits for layers -----------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Which of its options each layer gets, so that the sum of the distortions is
// least under a budget of bits, or the sum of the bits under a limit of the
// distortion. Distortions of layers must be in one unit (a predicted
// divergence, say); here they are just numbers that are added.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_BITBUDGET_ALLOCATE_H
#define QUENCH_BITBUDGET_ALLOCATE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <vector>

namespace quench {

/// One way to store a layer.
struct BitOption {
  int64_t bits = 0; // of the whole layer, not negative
  double distortion = 0;
};
/// The options of one layer, in any order; at least one.
using LayerOptions = std::vector<BitOption>;

struct Allocation {
  /// For each layer the index of its option.
  std::vector<unsigned> choice;
  int64_t bits = 0;
  double distortion = 0;
  /// What one more bit would save at the end of the budget; 0: all layers have
  /// their best option.
  double slope = 0;
  /// No choice within the budget has less distortion (allocateBits), or no
  /// choice within the limit has fewer bits (allocateDistortion).
  double bound = 0;
};

/// The indexes of the options on the lower convex hull of distortion over bits,
/// with strictly growing bits and strictly falling distortion and slope.
llvm::SmallVector<unsigned> lowerHull(llvm::ArrayRef<BitOption> options);

/// The least distortion with at most `budget` bits: along the hulls by falling
/// slope, which is optimal at each corner, then what still fits, then a search
/// of all choices that the relaxed problem does not rule out (exact unless
/// there are thousands of equally good partial ones). Ties are broken by the
/// order of layers and options. Errors: a layer without options, numbers that
/// are not finite, a budget below the smallest options (names the least that
/// would do).
llvm::Expected<Allocation> allocateBits(llvm::ArrayRef<LayerOptions> layers,
                                        int64_t budget);

/// The fewest bits with at most `limit` distortion, by the same means. Error:
/// even the best options have more (names what they have).
llvm::Expected<Allocation>
allocateDistortion(llvm::ArrayRef<LayerOptions> layers, double limit);

/// Reverse water-filling: component i has size sizes[i] and, at b bits a
/// number, the distortion sizes[i] * variances[i] * 4^-b. The bits of least
/// distortion whose mean over all numbers is `rate`.
struct WaterLevel {
  double theta = 0;         // the level: what lies below it gets no bits
  std::vector<double> bits; // a number of each component
  double distortion = 0;    // mean over all numbers
};
/// Variances and sizes are positive, the rate not negative.
WaterLevel fillWater(llvm::ArrayRef<double> variances,
                     llvm::ArrayRef<double> sizes, double rate);

} // namespace quench

#endif // QUENCH_BITBUDGET_ALLOCATE_H
