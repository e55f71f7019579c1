//===- BinaryTile.h - Signs with few magnitudes -----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tile of kBlockRows rows whose weights are a sign times one of the few
// magnitudes of its row: one, or two between which each weight chooses by a
// flag. Some columns, the same ones for all rows, may have magnitudes of their
// own (BiLLM, arXiv 2402.04291). Magnitudes are integers up to kMostMagnitude
// in units of the scale of their row.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_BINARYTILE_H
#define QUENCH_LIB_QUANTIZATION_BINARYTILE_H

#include "quench/Quantization/Registers.h"
#include <cstdint>
#include <vector>

namespace quench {

constexpr int kMostMagnitude = 127;
/// Columns of a tile that may have magnitudes of their own, at most.
constexpr int64_t kMostSalient = 50;

/// How the magnitudes of a row are found.
enum class MagnitudeRule {
  One,      // the mean magnitude
  Residual, // a - b and a + b: a the mean magnitude, b that of what a leaves
  Bell,     // the two of the least error
};

struct BinaryShape {
  int64_t columns = 128; // at most 256
  MagnitudeRule common = MagnitudeRule::Bell;
  /// Of columns that are chosen to have magnitudes of their own, if any.
  MagnitudeRule salient = MagnitudeRule::Residual;
  bool hasSalient = false;

  /// Bits of a weight: its sign above its flag.
  unsigned bits() const { return common == MagnitudeRule::One ? 1 : 2; }
  /// Magnitudes of each kind of column.
  int64_t perKind() const { return int64_t(1) << (bits() - 1); }
  int64_t magnitudes() const { return (hasSalient ? 2 : 1) * perKind(); }
};

struct BinaryTile {
  explicit BinaryTile(const BinaryShape &shape)
      : codes(kBlockRows * shape.columns), salient(shape.columns) {}

  std::vector<uint8_t> codes;   // [kBlockRows][columns], shape.bits() bits
  std::vector<uint8_t> salient; // [columns], 0 or 1
  /// Of common, then of salient columns; smaller, then larger.
  uint8_t magnitudes[kBlockRows][4] = {};

  /// The integer that a code of row `row` and column `column` stands for.
  int level(const BinaryShape &shape, int64_t row, int64_t column) const;
};

/// The tile for values[kBlockRows][columns]. An error vector e of a row costs
/// weights[row] (null: 1) times e metric e^T; null, or not positive definite:
/// the sum of its squares. With a metric codes are chosen in order, the errors
/// of each column fed to those after it; then codes one by one and magnitudes
/// by turns, as long as that helps. Columns whose row and column of the metric
/// are 0 do not count, nor, without a metric, those that are all 0: they fill a
/// ragged tile up. Salient columns are those with the largest sums of
/// (w / [metric^-1]_jj)^2; their number is searched.
BinaryTile encodeBinaryTile(const BinaryShape &shape, const float *metric,
                            const float *values, const float *scales,
                            const float *weights);

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_BINARYTILE_H
