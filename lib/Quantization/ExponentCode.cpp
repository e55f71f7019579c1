//===- ExponentCode.cpp - Floats with their exponents compressed ----------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/ExponentCode.h"
#include "llvm/ADT/STLExtras.h"
#include <algorithm>
#include <cmath>

using namespace quench;

//===----------------------------------------------------------------------===//
// Prefix codes
//===----------------------------------------------------------------------===//

double quench::entropyOf(llvm::ArrayRef<uint64_t> counts) {
  double total = 0, sum = 0;
  for (uint64_t count : counts)
    total += count;
  for (uint64_t count : counts)
    if (count != 0)
      sum -= count / total * std::log2(count / total);
  return sum;
}

/// Lengths by package-merge: a symbol's length is the number of the packages it
/// is in, of the cheapest 2 n - 2 packages of kMostBits rounds.
PrefixCode PrefixCode::make(llvm::ArrayRef<uint64_t> counts) {
  struct Package {
    uint64_t count;
    std::vector<uint8_t> symbols;
  };
  std::vector<Package> leaves;
  for (size_t symbol = 0; symbol < counts.size(); ++symbol)
    if (counts[symbol] != 0)
      leaves.push_back({counts[symbol], {static_cast<uint8_t>(symbol)}});
  PrefixCode code;
  code.length.assign(counts.size(), 0);
  if (leaves.size() == 1)
    code.length[leaves[0].symbols[0]] = 1;
  auto cheaper = [](const Package &a, const Package &b) {
    return a.count < b.count;
  };
  llvm::sort(leaves, [](const Package &a, const Package &b) {
    return a.count != b.count ? a.count < b.count : a.symbols < b.symbols;
  });
  std::vector<Package> packages;
  for (unsigned round = 0; leaves.size() > 1 && round < kMostBits; ++round) {
    std::vector<Package> pairs, merged;
    for (size_t i = 0; i + 1 < packages.size(); i += 2) {
      pairs.push_back(packages[i]);
      pairs.back().count += packages[i + 1].count;
      pairs.back().symbols.insert(pairs.back().symbols.end(),
                                  packages[i + 1].symbols.begin(),
                                  packages[i + 1].symbols.end());
    }
    std::merge(leaves.begin(), leaves.end(), pairs.begin(), pairs.end(),
               std::back_inserter(merged), cheaper);
    packages = std::move(merged);
  }
  for (size_t i = 0; leaves.size() > 1 && i < 2 * leaves.size() - 2; ++i)
    for (uint8_t symbol : packages[i].symbols)
      ++code.length[symbol];
  code.assign();
  return code;
}

llvm::Expected<PrefixCode> PrefixCode::read(llvm::ArrayRef<uint8_t> lengths) {
  PrefixCode code;
  code.length = lengths.vec();
  if (!code.assign())
    return llvm::createStringError(
        "these lengths are those of no prefix code of at most " +
        llvm::Twine(kMostBits) + " bits");
  return std::move(code);
}

/// Codes and the table of the decoder; false: the lengths fit no code.
bool PrefixCode::assign() {
  codes.assign(length.size(), 0);
  symbols.assign(size_t(1) << kMostBits, 0);
  uint64_t next = 0; // as a code of kMostBits bits
  for (unsigned bits = 1; bits <= kMostBits; ++bits)
    for (size_t symbol = 0; symbol < length.size(); ++symbol) {
      if (length[symbol] != bits)
        continue;
      uint64_t span = uint64_t(1) << (kMostBits - bits);
      if (next + span > symbols.size())
        return false;
      codes[symbol] = next >> (kMostBits - bits);
      std::fill_n(symbols.begin() + next, span, symbol);
      next += span;
    }
  return length.size() <= 256 &&
         llvm::all_of(length, [](uint8_t l) { return l <= kMostBits; });
}

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

namespace {

/// Streams of bits, the high bit of a byte first.
class BitWriter {
public:
  explicit BitWriter(std::vector<uint8_t> &bytes) : bytes(bytes) {}
  void write(uint32_t value, unsigned count) {
    for (unsigned i = count; i-- > 0; ++at) {
      if (at % 8 == 0)
        bytes.push_back(0);
      bytes.back() |= (value >> i & 1) << (7 - at % 8);
    }
  }
  uint64_t at = 0;

private:
  std::vector<uint8_t> &bytes;
};

/// `count` (at most 24) bits from bit `at` on; 0 past the end.
uint32_t bitsAt(llvm::ArrayRef<uint8_t> bytes, uint64_t at, unsigned count) {
  uint32_t window = 0;
  for (uint64_t byte = at / 8; byte < at / 8 + 4; ++byte)
    window = window << 8 | (byte < bytes.size() ? bytes[byte] : 0);
  return window << (at % 8) >> (32 - count);
}

} // namespace

/// Calls fn(row, column) for the numbers of a panel in the order of the
/// streams.
template <typename Fn>
static void forEachOfPanel(int64_t row, int64_t column, int64_t rows,
                           int64_t cols, Fn fn) {
  using Weight = ExponentCodedWeight;
  for (int64_t r = row; r < std::min(rows, row + Weight::kPanelRows); ++r)
    for (int64_t k = column; k < std::min(cols, column + Weight::kPanelColumns);
         ++k)
      fn(r, k);
}

ExponentCodedWeight
ExponentCodedWeight::encode(Minifloat shape, llvm::ArrayRef<uint16_t> numbers,
                            int64_t rows, int64_t cols) {
  ExponentCodedWeight weight;
  weight.shape = shape;
  weight.rows = rows;
  weight.cols = cols;
  unsigned mantissa = shape.mantissa, most = (1u << shape.exponent) - 1;
  std::vector<uint64_t> counts(most + 1, 0);
  for (uint16_t number : numbers)
    ++counts[number >> mantissa & most];
  weight.code = PrefixCode::make(counts);

  BitWriter exponents(weight.exponents), rest(weight.rest);
  for (int64_t row = 0; row < rows; row += kPanelRows)
    for (int64_t column = 0; column < cols; column += kPanelColumns) {
      weight.begins.push_back(exponents.at);
      forEachOfPanel(row, column, rows, cols, [&](int64_t r, int64_t k) {
        uint16_t number = numbers[r * cols + k];
        unsigned exponent = number >> mantissa & most;
        exponents.write(weight.code.code(exponent),
                        weight.code.lengths()[exponent]);
        unsigned sign = number >> (shape.bits() - 1) & 1;
        rest.write(sign << mantissa | (number & ((1u << mantissa) - 1)),
                   1 + mantissa);
      });
    }
  return weight;
}

void ExponentCodedWeight::decodePanel(int64_t row, int64_t column,
                                      uint16_t *numbers) const {
  std::fill_n(numbers, kPanelRows * kPanelColumns, 0);
  int64_t firstRow = row * kPanelRows, firstColumn = column * kPanelColumns;
  // Sign and mantissa take as many bits everywhere: panels of rows above, then
  // those to the left.
  int64_t height = std::min(kPanelRows, rows - firstRow);
  unsigned mantissa = shape.mantissa;
  uint64_t restAt =
      (firstRow * cols + height * firstColumn) * uint64_t(1 + mantissa);
  uint64_t at = begins[row * panelsPerRow() + column];
  forEachOfPanel(firstRow, firstColumn, rows, cols, [&](int64_t r, int64_t k) {
    uint8_t exponent =
        code.symbol(bitsAt(exponents, at, PrefixCode::kMostBits));
    at += code.lengths()[exponent];
    uint32_t low = bitsAt(rest, restAt, 1 + mantissa);
    restAt += 1 + mantissa;
    numbers[(r - firstRow) * kPanelColumns + k - firstColumn] =
        (low >> mantissa) << (shape.bits() - 1) | exponent << mantissa |
        (low & ((1u << mantissa) - 1));
  });
}

std::vector<uint16_t> ExponentCodedWeight::decode() const {
  std::vector<uint16_t> numbers(rows * cols), panel(kPanelRows * kPanelColumns);
  for (int64_t row = 0; row < rows; row += kPanelRows)
    for (int64_t column = 0; column < cols; column += kPanelColumns) {
      decodePanel(row / kPanelRows, column / kPanelColumns, panel.data());
      forEachOfPanel(row, column, rows, cols, [&](int64_t r, int64_t k) {
        numbers[r * cols + k] = panel[(r - row) * kPanelColumns + k - column];
      });
    }
  return numbers;
}

int64_t ExponentCodedWeight::bits() const {
  return 8 * (code.lengths().size() + exponents.size() + rest.size()) +
         32 * begins.size();
}
