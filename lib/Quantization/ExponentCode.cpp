//===- ExponentCode.cpp - Prefix codes of exponents -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/ExponentCode.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Endian.h"
#include <algorithm>
#include <cmath>
#include <limits>

using namespace quench;

double quench::entropyOf(llvm::ArrayRef<uint64_t> counts) {
  double total = 0, sum = 0;
  for (uint64_t count : counts)
    total += count;
  for (uint64_t count : counts)
    if (count != 0)
      sum -= count / total * std::log2(count / total);
  return sum;
}

//===----------------------------------------------------------------------===//
// The best code
//===----------------------------------------------------------------------===//

namespace {

constexpr unsigned kEntries = ExponentCode::kEntries;
constexpr unsigned kIndexBits = ExponentCode::kIndexBits;
constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max() / 2;

/// The symbols of one table and the lengths of their codes there.
struct Table {
  uint64_t cost = kNever; // bits of all its symbols, here
  std::vector<unsigned> lengths;
};

/// The cheapest lengths for 0, 1, 2 ... kEntries of the next counts. A code of
/// l bits takes 2^(kIndexBits - l) entries. `all`: every entry may be taken,
/// else one is left for the way to what follows.
std::vector<Table> bestTables(llvm::ArrayRef<uint64_t> counts, bool all) {
  constexpr unsigned kStates = kEntries + 1;
  size_t most = std::min<size_t>(counts.size(), kEntries);
  // [symbols][entries taken] -> bits, and the length of the last symbol.
  std::vector<std::array<uint64_t, kStates>> cost(most + 1);
  std::vector<std::array<unsigned, kStates>> last(most + 1);
  for (auto &row : cost)
    row.fill(kNever);
  cost[0][0] = 0;
  for (size_t i = 0; i < most; ++i)
    for (unsigned taken = 0; taken < kStates; ++taken)
      for (unsigned length = 0; length <= kIndexBits; ++length) {
        unsigned now = taken + (kEntries >> length);
        if (cost[i][taken] == kNever || now > kEntries)
          continue;
        uint64_t bits = cost[i][taken] + counts[i] * length;
        if (bits < cost[i + 1][now]) {
          cost[i + 1][now] = bits;
          last[i + 1][now] = length;
        }
      }
  std::vector<Table> tables(most + 1);
  for (size_t n = 0; n <= most; ++n) {
    unsigned best = 0;
    for (unsigned taken = 0; taken <= (all ? kEntries : kEntries - 1); ++taken)
      if (cost[n][taken] < cost[n][best])
        best = taken;
    tables[n].cost = cost[n][best];
    if (cost[n][best] == kNever)
      continue;
    for (size_t i = n; i > 0; --i) {
      unsigned length = last[i][best];
      tables[n].lengths.insert(tables[n].lengths.begin(), length);
      best -= kEntries >> length;
    }
  }
  return tables;
}

/// The four bits of an index, the first of the code as the low one.
unsigned reversed(unsigned index) {
  unsigned result = 0;
  for (unsigned bit = 0; bit < kIndexBits; ++bit)
    result |= (index >> bit & 1) << (kIndexBits - 1 - bit);
  return result;
}

/// Fills the 16 entries of a table whose symbols have `before` bits before it.
void fill(llvm::ArrayRef<unsigned> symbols, const Table &table, unsigned before,
          uint32_t *entries) {
  std::fill_n(entries, kEntries, ExponentCode::kNextTable);
  std::vector<std::pair<unsigned, unsigned>> order; // by length, then symbol
  for (auto [symbol, length] : llvm::zip(symbols, table.lengths))
    order.push_back({length, symbol});
  llvm::sort(order);
  unsigned at = 0;
  for (auto [length, symbol] : order)
    for (unsigned i = 0; i < kEntries >> length; ++i)
      entries[reversed(at++)] =
          symbol << ExponentCode::kSymbolShift | (before + length);
}

} // namespace

ExponentCode ExponentCode::make(llvm::ArrayRef<uint64_t> counts) {
  std::vector<unsigned> symbols;
  for (unsigned symbol = 0; symbol < counts.size(); ++symbol)
    if (counts[symbol] != 0)
      symbols.push_back(symbol);
  llvm::stable_sort(
      symbols, [&](unsigned a, unsigned b) { return counts[a] > counts[b]; });
  std::vector<uint64_t> sorted;
  for (unsigned symbol : symbols)
    sorted.push_back(counts[symbol]);
  size_t count = sorted.size();
  std::vector<uint64_t> tail(count + 1, 0); // counts of a symbol and the rest
  for (size_t i = count; i-- > 0;)
    tail[i] = tail[i + 1] + sorted[i];

  // The best division of the symbols from `begin` on: some in a table, each of
  // the rest by four bits and what `rest` says.
  auto divide = [&](size_t begin, llvm::function_ref<uint64_t(size_t)> rest) {
    llvm::ArrayRef<uint64_t> own = llvm::ArrayRef(sorted).drop_front(begin);
    std::vector<Table> some = bestTables(own, false),
                       all = bestTables(own, true);
    Table best;
    for (size_t n = 0; n < some.size(); ++n) {
      bool isAll = n == own.size();
      Table &table = isAll ? all[n] : some[n];
      if (table.cost == kNever)
        continue;
      uint64_t bits = table.cost;
      if (!isAll)
        bits += kIndexBits * tail[begin + n] + rest(begin + n);
      if (bits < best.cost)
        best = {bits, table.lengths};
    }
    return best;
  };
  std::vector<Table> second(std::min<size_t>(count, kEntries) + 1);
  for (size_t begin = 0; begin < second.size(); ++begin)
    second[begin] = divide(begin, [&](size_t from) { return 8 * tail[from]; });
  Table first = divide(0, [&](size_t from) { return second[from].cost; });
  size_t inFirst = first.lengths.size();
  Tables tables;
  fill(symbols, first, 0, tables.data());
  fill(llvm::ArrayRef(symbols).drop_front(inFirst), second[inFirst], kIndexBits,
       tables.data() + kEntries);
  return ExponentCode(tables);
}

ExponentCode::ExponentCode(const Tables &tables) : entries(tables) {
  constexpr uint32_t kEscapes = kEntries * kEntries - 1;
  for (unsigned symbol = 0; symbol < 256; ++symbol) {
    lengths[symbol] = kMostBits;
    codes[symbol] = symbol << (2 * kIndexBits) | kEscapes;
  }
  for (unsigned i = 0; i < entries.size(); ++i) {
    if (entries[i] & kNextTable)
      continue;
    unsigned length = entries[i] & kLengthMask,
             symbol = entries[i] >> kSymbolShift;
    uint32_t bits =
        i < kEntries ? i : (i - kEntries) << kIndexBits | (kEntries - 1);
    lengths[symbol] = length;
    codes[symbol] = bits & ((1u << length) - 1);
  }
}

uint32_t ExponentCode::entry(uint32_t bits) const {
  uint32_t found = entries[bits % kEntries];
  if (found & kNextTable)
    found = entries[kEntries + (bits >> kIndexBits) % kEntries];
  if (found & kNextTable)
    found = (bits >> (2 * kIndexBits) & 255) << kSymbolShift | kMostBits;
  return found;
}

//===----------------------------------------------------------------------===//
// Lanes
//===----------------------------------------------------------------------===//

std::vector<uint16_t> quench::encodeLanes(const ExponentCode &code,
                                          llvm::ArrayRef<uint8_t> symbols) {
  constexpr unsigned kUnit = 16;
  std::vector<uint16_t> lanes[kBlockRows];
  for (int64_t lane = 0; lane < kBlockRows; ++lane) {
    uint64_t bits = 0;
    unsigned count = 0;
    for (size_t i = lane; i < symbols.size(); i += kBlockRows) {
      bits |= uint64_t(code.code(symbols[i])) << count;
      count += code.length(symbols[i]);
      for (; count >= kUnit; count -= kUnit, bits >>= kUnit)
        lanes[lane].push_back(bits & 0xffff);
    }
    if (count != 0)
      lanes[lane].push_back(bits & 0xffff);
  }
  std::vector<uint16_t> stream;
  size_t needed = 0, taken[kBlockRows] = {};
  unsigned left[kBlockRows] = {};
  for (size_t i = 0; i < symbols.size(); ++i) {
    int64_t lane = i % kBlockRows;
    if (left[lane] < ExponentCode::kMostBits) {
      bool isReal = taken[lane] < lanes[lane].size();
      stream.push_back(isReal ? lanes[lane][taken[lane]++] : 0);
      left[lane] += kUnit;
      if (isReal)
        needed = stream.size();
    }
    left[lane] -= code.length(symbols[i]);
  }
  stream.resize(needed);
  return stream;
}

void LaneReader::next(uint8_t *symbols) {
  for (int64_t lane = 0; lane < kBlockRows; ++lane) {
    if (left[lane] < ExponentCode::kMostBits) {
      window[lane] |= uint32_t(llvm::support::endian::read16le(at))
                      << left[lane];
      left[lane] += 16;
      at += 2;
    }
    uint32_t entry = code.entry(window[lane]);
    symbols[lane] = entry >> ExponentCode::kSymbolShift;
    window[lane] >>= entry & ExponentCode::kLengthMask;
    left[lane] -= entry & ExponentCode::kLengthMask;
  }
}
