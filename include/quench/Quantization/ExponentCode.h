//===- ExponentCode.h - Prefix codes of exponents ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Exponents of trained weights carry between two and three bits, signs and
// mantissas all theirs (DFloat11, arXiv 2504.11651; ECF8, arXiv 2510.02676). A
// prefix code for them that sixteen lanes of a register read side by side: a
// symbol is found in one of two tables of 16 entries, each by four bits.
//
// Lanes (rows) have bits of their own. They are refilled from one stream of
// halfwords: before each symbol, every lane with fewer than kMostBits bits left
// takes the next halfword, lower lanes first. So the order of the halfwords
// follows from the symbols alone, and no lane needs a place of its own.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_EXPONENTCODE_H
#define QUENCH_QUANTIZATION_EXPONENTCODE_H

#include "quench/Quantization/Registers.h"
#include <array>
#include <vector>

namespace quench {

/// A prefix code of 256 symbols. The first bit of a code is the low one.
///
/// The entry of the first table at the next four bits is a symbol and the
/// length of its code, or kNextTable: then that of the second table at the four
/// bits behind them is. If that is kNextTable too, the eight bits behind them
/// are the symbol.
class ExponentCode {
public:
  static constexpr unsigned kIndexBits = 4, kEntries = 1 << kIndexBits;
  static constexpr unsigned kMostBits = 2 * kIndexBits + 8;
  /// An entry: the length in the low bits, the symbol where a float has its
  /// exponent.
  static constexpr uint32_t kLengthMask = 31, kSymbolShift = 23,
                            kNextTable = 1u << 31;
  using Tables = std::array<uint32_t, 2 * kEntries>;

  /// The shortest such code for symbols with these counts (256); those with
  /// count 0 may have none.
  static ExponentCode make(llvm::ArrayRef<uint64_t> counts);
  explicit ExponentCode(const Tables &tables);

  const Tables &tables() const { return entries; }
  unsigned length(uint8_t symbol) const { return lengths[symbol]; }
  uint32_t code(uint8_t symbol) const { return codes[symbol]; }
  /// The entry for the next bits, kMostBits of which count.
  uint32_t entry(uint32_t bits) const;

private:
  Tables entries;
  std::array<uint8_t, 256> lengths;
  std::array<uint32_t, 256> codes;
};

/// The halfwords of `symbols`, [count][kBlockRows]; those that are refilled at
/// the end and hold nothing are left out.
std::vector<uint16_t> encodeLanes(const ExponentCode &code,
                                  llvm::ArrayRef<uint8_t> symbols);

/// Reads them back, column by column.
class LaneReader {
public:
  /// `halfwords`: little-endian; kBlockRows more than those of encodeLanes can
  /// be read.
  LaneReader(const ExponentCode &code, const uint8_t *halfwords)
      : code(code), at(halfwords) {}
  /// The next kBlockRows symbols.
  void next(uint8_t *symbols);

private:
  const ExponentCode &code;
  const uint8_t *at;
  uint32_t window[kBlockRows] = {}, left[kBlockRows] = {};
};

/// Bits of a symbol with these counts.
double entropyOf(llvm::ArrayRef<uint64_t> counts);

} // namespace quench

#endif // QUENCH_QUANTIZATION_EXPONENTCODE_H
