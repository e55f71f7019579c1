//===- ExponentCode.h - Floats with their exponents compressed --*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Exponents of trained weights carry between two and three bits, signs and
// mantissas all theirs. The exponents of a weight get a Huffman code; sign and
// mantissa are stored as they are. All bits come back, those of NaN, -0 and
// subnormal numbers too (DFloat11, arXiv 2504.11651; ECF8, arXiv 2510.02676).
// Panels of some rows and columns are coded one by one, so that none needs the
// others.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_EXPONENTCODE_H
#define QUENCH_QUANTIZATION_EXPONENTCODE_H

#include "quench/Quantization/Scales.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <vector>

namespace quench {

constexpr Minifloat kBFloat16{8, 7};

/// A prefix code of up to 256 symbols, canonical: shorter codes first, then by
/// symbol. Codes have at most kMostBits bits.
class PrefixCode {
public:
  static constexpr unsigned kMostBits = 12;
  /// The best code of that length for symbols with these counts; symbols that
  /// do not occur have none. A lone symbol has one bit.
  static PrefixCode make(llvm::ArrayRef<uint64_t> counts);
  /// From the lengths alone. Error: they are those of no prefix code.
  static llvm::Expected<PrefixCode> read(llvm::ArrayRef<uint8_t> lengths);

  llvm::ArrayRef<uint8_t> lengths() const { return length; }
  uint32_t code(unsigned symbol) const {
    return codes[symbol];
  } // high bit first
  /// The symbol of the code that begins in the high ones of kMostBits bits.
  uint8_t symbol(uint32_t window) const { return symbols[window]; }

private:
  bool assign();
  std::vector<uint8_t> length;  // by symbol; 0: none
  std::vector<uint32_t> codes;  // by symbol
  std::vector<uint8_t> symbols; // by the next kMostBits bits
};

/// A rows x cols weight of such floats.
class ExponentCodedWeight {
public:
  static constexpr int64_t kPanelRows = 32, kPanelColumns = 256;

  /// `numbers`: [rows][cols] bits of floats.
  static ExponentCodedWeight encode(Minifloat shape,
                                    llvm::ArrayRef<uint16_t> numbers,
                                    int64_t rows, int64_t cols);
  /// The numbers of panel (row / kPanelRows, column / kPanelColumns),
  /// [kPanelRows][kPanelColumns], 0 past the ends of the weight.
  void decodePanel(int64_t row, int64_t column, uint16_t *numbers) const;
  std::vector<uint16_t> decode() const;
  /// All that is stored: code lengths, where panels begin, both streams.
  int64_t bits() const;

private:
  int64_t panelsPerRow() const {
    return (cols + kPanelColumns - 1) / kPanelColumns;
  }

  Minifloat shape{};
  int64_t rows = 0, cols = 0;
  PrefixCode code;
  std::vector<uint32_t> begins;         // of each panel, in bits of `exponents`
  std::vector<uint8_t> exponents, rest; // `rest`: sign and mantissa
};

/// Bits of a symbol with these counts.
double entropyOf(llvm::ArrayRef<uint64_t> counts);

} // namespace quench

#endif // QUENCH_QUANTIZATION_EXPONENTCODE_H
