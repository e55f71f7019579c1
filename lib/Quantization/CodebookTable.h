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
//   [table][coordinate][entry] bytes, entries repeated up to 16; where an index
//   is wider than a byte [table][entry][coordinate];
//   the root of the mean square of a row at scale 1 (f32).
//
// An entry is an unsigned byte with bias 128 / tables (rounded down), so that a
// sum is an unsigned byte too. With indices of a byte or less the magnitudes of
// a vector sum to 258 at most: its product with int8 activations then fits 16
// bits.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_CODEBOOKTABLE_H
#define QUENCH_LIB_QUANTIZATION_CODEBOOKTABLE_H

#include "quench/Quantization/Codebook.h"
#include "quench/Quantization/Format.h"
#include <memory>

namespace quench {

/// Sums that are kept from table to table when a code is chosen.
constexpr int64_t kCodebookBeam = 16;

struct CodebookShape {
  int64_t tables;
  unsigned bits;  // of a code of one table, at most 16
  int64_t length; // of a vector; a multiple of 4 if isWide()

  /// Whether entries are gathered one by one, and not looked up in registers.
  bool isWide() const { return bits > 8; }

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

  /// The byte of coordinate j of an entry.
  int64_t place(int64_t table, int64_t entry, int64_t j) const {
    return isWide() ? (table * entries() + entry) * length + j
                    : (table * length + j) * storedEntries() + entry;
  }
  /// The registers of all entries of a coordinate, for
  /// RegisterBuilder::lookup; not if isWide().
  llvm::SmallVector<Reg, 4> load(RegisterBuilder &builder, int64_t table,
                                 int64_t j) const;
  /// Coordinates 4 four .. 4 four + 3 of the sums of the vectors with these
  /// indices, one register for each table; if isWide().
  Reg gather(RegisterBuilder &builder, llvm::ArrayRef<Reg> indices,
             int64_t four) const;

  /// The table for a rows x cols weight. `down`: vectors lie in columns, else
  /// in rows. Past the ends of the weight they are 0.
  std::vector<uint8_t> fit(const float *values, int64_t rows, int64_t cols,
                           bool down, const FitOptions &options) const;
};

/// The table of a weight.
class LearnedTable {
public:
  /// table: shape.bytes() bytes.
  LearnedTable(const CodebookShape &shape, llvm::ArrayRef<uint8_t> table)
      : shape(shape), table(table), spreadOfRow(CodebookShape::spread(table)) {}
  /// The sum of the vectors with these codes, in lane units.
  void sum(const uint32_t *codes, float *values) const;
  /// What vectors are searched in; made when it is first asked for.
  const AdditiveCodebook &book() const;
  float spread() const { return spreadOfRow; }

private:
  CodebookShape shape;
  std::vector<uint8_t> table;
  float spreadOfRow;
  mutable std::unique_ptr<AdditiveCodebook> made;
  mutable std::once_flag isMade;
};

/// The root of the mean square; infinities and NaN do not count.
double rootMeanSquare(const float *values, int64_t n);

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_CODEBOOKTABLE_H
