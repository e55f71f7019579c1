//===- CodebookTable.h - Learned vectors as a weight stores them -*- C++
//-*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Formats whose codewords are sums of learned vectors store them in the header
// of a weight:
//
//   [table][coordinate][entry] bytes, entries repeated up to 16;
//   the root of the mean square of a row at scale 1 (f32).
//
// An entry is an unsigned byte with bias 128 / tables (rounded down), so that a
// sum is an unsigned byte too. The magnitudes of a vector sum to 258 at most:
// its product with int8 activations then fits 16 bits.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_CODEBOOKTABLE_H
#define QUENCH_LIB_QUANTIZATION_CODEBOOKTABLE_H

#include "quench/Quantization/Codebook.h"
#include <memory>

namespace quench {

/// Sums that are kept from table to table when a code is chosen.
constexpr int64_t kCodebookBeam = 16;

struct CodebookShape {
  int64_t tables;
  unsigned bits;  // of a code of one table
  int64_t length; // of a vector

  int64_t entries() const { return int64_t(1) << bits; }
  /// Shorter tables are repeated, so that high bits of an index do not matter.
  int64_t storedEntries() const { return std::max<int64_t>(16, entries()); }
  int64_t bias() const { return 128 / tables; } // of a vector
  int64_t bytes() const { return tables * length * storedEntries() + 4; }
  /// What a lane is worth at scale 1.
  static constexpr float kUnit = 1.0f / 32;

  /// Vectors in lane units become a table; what is too large is cut off.
  std::vector<uint8_t> store(llvm::ArrayRef<float> vectors, float spread) const;
  std::unique_ptr<AdditiveCodebook>
  vectors(llvm::ArrayRef<uint8_t> table) const;
  static float spread(llvm::ArrayRef<uint8_t> table);

  /// The table for points, [count][length], of rows of mean square 1.
  std::vector<uint8_t> learn(llvm::ArrayRef<float> points) const;
};

/// The root of the mean square; infinities and NaN do not count.
double rootMeanSquare(const float *values, int64_t n);

/// How far apart the codewords that are learned from lie, of `all`.
int64_t sampleStride(int64_t all);

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_CODEBOOKTABLE_H
