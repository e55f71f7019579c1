//===- TrellisCode.cpp - Values of trellis states -------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// lin: the index of a level is linear over GF(2) in the state. Its matrices
// were searched for the least error on Gaussian weights; the levels are
// quantiles of N(0, 1), times 40.
//
// 1mad and hyb are the computed codes of QTIP (arXiv 2406.11235), in bytes: the
// sum of the four bytes of a linear congruence, and a table at bits 14..8 of
// s (s + 1). 3inst is the third one as it is: the sum of the two halves that
// the bits of a linear congruence make.
//
//===----------------------------------------------------------------------===//

#include "TrellisCode.h"
#include "quench/Quantization/Half.h"
#include <array>
#include <cmath>

using namespace quench;

TrellisCode::~TrellisCode() = default;

/// round(40 q(0.5 + (i + 0.5) / 256)) for the quantiles q of N(0, 1).
static const uint8_t kMagnitudes128[128] = {
    0,  1,  1,  1,  2,  2,  3,  3,  3,  4,  4,  5,  5,   5,  6,  6,  6,  7,  7,
    8,  8,  8,  9,  9,  10, 10, 10, 11, 11, 12, 12, 13,  13, 13, 14, 14, 15, 15,
    15, 16, 16, 17, 17, 18, 18, 18, 19, 19, 20, 20, 21,  21, 22, 22, 22, 23, 23,
    24, 24, 25, 25, 26, 26, 27, 27, 28, 28, 29, 29, 30,  30, 31, 31, 32, 32, 33,
    33, 34, 35, 35, 36, 36, 37, 38, 38, 39, 39, 40, 41,  41, 42, 43, 43, 44, 45,
    46, 46, 47, 48, 49, 50, 50, 51, 52, 53, 54, 55, 56,  57, 58, 60, 61, 62, 63,
    65, 66, 68, 70, 71, 73, 76, 78, 81, 84, 88, 93, 101, 115};

/// round(40 q(0.5 + (i + 0.5) / 128)).
static const uint8_t kMagnitudes64[64] = {
    0,  1,  2,  3,  4,  4,  5,  6,  7,  7,  8,  9,  10, 11, 12, 12,
    13, 14, 15, 16, 17, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 26,
    27, 28, 29, 31, 32, 33, 34, 35, 36, 37, 38, 40, 41, 42, 44, 45,
    47, 48, 50, 52, 54, 56, 58, 60, 63, 65, 69, 72, 77, 83, 91, 106};

/// round(34 q(0.5 + (i + 0.5) / 256)), and what three more bits add to the last
/// eight: at five and six bits 256 quantiles are too few in the tails.
static const uint8_t kNarrow128[128] = {
    0,  0,  1,  1,  1,  2,  2,  2,  3,  3,  4,  4,  4,  5,  5,  5,  6,  6,  6,
    7,  7,  7,  8,  8,  8,  9,  9,  9,  10, 10, 10, 11, 11, 11, 12, 12, 12, 13,
    13, 13, 14, 14, 15, 15, 15, 16, 16, 16, 17, 17, 18, 18, 18, 19, 19, 19, 20,
    20, 21, 21, 21, 22, 22, 23, 23, 24, 24, 24, 25, 25, 26, 26, 27, 27, 28, 28,
    28, 29, 29, 30, 30, 31, 31, 32, 32, 33, 34, 34, 35, 35, 36, 36, 37, 38, 38,
    39, 39, 40, 41, 41, 42, 43, 44, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54,
    55, 56, 58, 59, 61, 62, 64, 66, 69, 72, 75, 79, 86, 98};
static const uint8_t kTail[8] = {0, 0, 1, 2, 4, 7, 14, 29};

//===----------------------------------------------------------------------===//
// Windows
//===----------------------------------------------------------------------===//

/// 32 if no register has them all.
unsigned TrellisWindows::find(unsigned first, unsigned count, Reg &word) {
  unsigned number = first / 32, bit = first % 32;
  word = words[number];
  if (bit + count <= 32)
    return bit;
  if (bit < 16 || bit + count > 48)
    return 32;
  auto [found, isNew] = halves.try_emplace(number);
  if (isNew)
    found->second =
        builder.window(word, &words[number + 1], 32, {16, 24, 32, 40});
  word = found->second;
  return bit - 16;
}

Reg TrellisWindows::bits(std::array<unsigned, 4> from) {
  Reg word;
  unsigned bit = find(from[0], from[3] - from[0] + 8, word);
  const Reg *next = nullptr;
  if (bit == 32) {
    bit = from[0] % 32;
    next = &words[from[0] / 32 + 1];
  }
  std::array<uint8_t, 4> pos;
  for (unsigned i = 0; i < 4; ++i)
    pos[i] = from[i] - from[0] + bit;
  return builder.window(word, next, 32, pos);
}

Reg TrellisWindows::bytes(unsigned quad, unsigned at) {
  unsigned first = 4 * k * quad + at;
  auto [found, isNew] = known.try_emplace(first);
  if (isNew)
    found->second = bits({first, first + k, first + 2 * k, first + 3 * k});
  return found->second;
}

Reg TrellisWindows::pair(unsigned quad, unsigned column) {
  unsigned first = k * (4 * quad + column), second = first + 2 * k;
  return bits({first, first + 8, second, second + 8});
}

Reg TrellisWindows::single(unsigned quad, unsigned column) {
  unsigned first = k * (4 * quad + column);
  Reg word;
  unsigned bit = find(first, 16, word);
  if (bit == 32) {
    Reg window = bits({first, first + 8, first + 8, first + 8});
    return builder.bitAnd(window, builder.splat(0xffff));
  }
  if (bit == 16)
    return builder.shiftRight(word, 16);
  // Windows that begin at the same bit of a byte share a shift.
  if (unsigned within = bit % 8) {
    auto [found, isNew] = shifted.try_emplace({word.handle, within});
    if (isNew)
      found->second = builder.shiftRight(word, within);
    word = found->second;
  }
  if (bit < 8)
    return builder.bitAnd(word, builder.splat(0xffff));
  std::array<uint8_t, 64> order;
  for (unsigned i = 0; i < 64; ++i)
    order[i] = i % 4 < 2 ? i + 1 : 64;
  return builder.permute(word, builder.splat(0), order);
}

//===----------------------------------------------------------------------===//
// Codes
//===----------------------------------------------------------------------===//

float TrellisCode::rms() const {
  double sum = 0;
  for (float value : values)
    sum += double(value) * value;
  return std::sqrt(sum / values.size());
}

double TrellisCode::bestScale(unsigned k) const {
  // Measured on Gaussian tiles.
  static const double scales[3][6] = {
      {1.145, 0.961, 0.885, 0.833, 0.80, 0.78},
      {1.13, 0.98, 0.93, 0.865, 0.83, 0.79},
      {1.145, 1.004, 0.946, 0.876, 0.83, 0.80},
  };
  return scales[bits <= 8 ? 0 : bits <= 12 ? 1 : 2][k - 1];
}

FloatReg TrellisCode::decodeFloats(TrellisWindows &, unsigned, unsigned) const {
  return FloatReg();
}

namespace {

/// The parities of rows[i] & bits, as bits.
template <typename T> uint32_t product(llvm::ArrayRef<T> rows, uint32_t bits) {
  uint32_t result = 0;
  for (auto [i, row] : llvm::enumerate(rows))
    result |= uint32_t(__builtin_parity(row & bits)) << i;
  return result;
}

/// A lookup by an index that is linear in the state: `rows` give its 7 or 8
/// bits, `entry` its values. It is decoded in a normal form: the top bits of
/// the state, as many as the index has, xor a linear map of those below; the
/// table is in the order of this index. The map of the top bits to the index
/// must be one to one.
class LinearLookup {
public:
  LinearLookup(unsigned bits, llvm::ArrayRef<uint16_t> rows,
               llvm::function_ref<uint8_t(uint32_t)> entry)
      : low(bits - rows.size()) {
    std::vector<uint8_t> topOf(size_t(1) << rows.size());
    for (uint32_t top = 0; top < topOf.size(); ++top) {
      uint32_t index = product(rows, top << low);
      topOf[index] = top;
      table.push_back(entry(index));
    }
    for (unsigned bit = 0; bit < low; ++bit) {
      unsigned top = topOf[product(rows, 1u << bit)];
      for (unsigned i = 0; i < rows.size(); ++i)
        map[i] |= (top >> i & 1) << (8 - low + bit);
    }
  }

  Reg decode(TrellisWindows &windows, unsigned quad) const {
    RegisterBuilder &b = windows.builder;
    Reg index = windows.bytes(quad, 8);
    if (low != 0)
      index = b.bitXor(index, b.affine(windows.bytes(quad, 0), map, 0));
    return b.lookup(table, index);
  }

private:
  unsigned low; // bits of the state below the top ones
  std::array<uint8_t, 8> map = {};
  std::vector<uint8_t> table;
};

/// Index bits 0 to 6 name a magnitude, bit 7 is the sign. With 128 levels bit 0
/// plays no part.
class Linear : public TrellisCode {
public:
  Linear(unsigned bits, llvm::ArrayRef<uint16_t> matrix, bool fewLevels)
      : TrellisCode(bits, (fewLevels ? 15 : 16) - bits),
        levels(bits, matrix.drop_front(fewLevels), [&](uint32_t index) {
          return 128 + (fewLevels ? signedLevel(kMagnitudes64, index, 6)
                                  : signedLevel(kMagnitudes128, index, 7));
        }) {
    for (uint32_t state = 0; state < values.size(); ++state) {
      uint32_t index = product(matrix, state);
      values[state] = fewLevels ? signedLevel(kMagnitudes64, index >> 1, 6)
                                : signedLevel(kMagnitudes128, index, 7);
    }
  }
  Reg decode(TrellisWindows &windows, unsigned quad) const override {
    return levels.decode(windows, quad);
  }

  static int signedLevel(const uint8_t *magnitudes, uint32_t index,
                         unsigned signBit) {
    int magnitude = magnitudes[index & ((1u << signBit) - 1)];
    return index >> signBit & 1 ? -magnitude : magnitude;
  }

private:
  LinearLookup levels;
};

/// The same with more levels in the tails: where bits 3 to 6 are ones, three
/// more parities of the state choose what is added.
class LinearWithTails : public TrellisCode {
public:
  LinearWithTails(unsigned bits, llvm::ArrayRef<uint16_t> matrix,
                  llvm::ArrayRef<uint16_t> more)
      : TrellisCode(bits, 16 - bits), levels(bits, matrix, levelOf),
        tails(bits, tailRows(matrix, more), tailOf) {
    for (uint32_t state = 0; state < values.size(); ++state)
      values[state] = static_cast<int8_t>(
          levelOf(product(matrix, state)) - 128 +
          tailOf(product<uint16_t>(tailRows(matrix, more), state)));
  }
  Reg decode(TrellisWindows &windows, unsigned quad) const override {
    return windows.builder.add(levels.decode(windows, quad),
                               tails.decode(windows, quad));
  }
  double bestScale(unsigned k) const override { return k == 5 ? 0.89 : 0.86; }

private:
  static uint8_t levelOf(uint32_t index) {
    return 128 + Linear::signedLevel(kNarrow128, index, 7);
  }
  /// Bits 0 to 2 choose, 3 to 6 and the sign are those of the level's index.
  static uint8_t tailOf(uint32_t index) {
    int add = (index >> 3 & 15) == 15 ? kTail[index & 7] : 0;
    return index & 128 ? -add : add;
  }
  static llvm::SmallVector<uint16_t, 8>
  tailRows(llvm::ArrayRef<uint16_t> matrix, llvm::ArrayRef<uint16_t> more) {
    llvm::SmallVector<uint16_t, 8> rows(more);
    rows.append(matrix.begin() + 3, matrix.end());
    return rows;
  }

  LinearLookup levels, tails;
};

class Mad : public TrellisCode {
public:
  Mad() : TrellisCode(16, 0) {
    for (uint32_t state = 0; state < values.size(); ++state) {
      uint32_t y = kFactor * state + kAddend;
      uint32_t sum = (y & 255) + (y >> 8 & 255) + (y >> 16 & 255) + (y >> 24);
      values[state] = static_cast<int>(sum >> 2) - 128;
    }
  }
  Reg decode(TrellisWindows &windows, unsigned quad) const override {
    RegisterBuilder &b = windows.builder;
    Reg states[4], sums[4]; // in units of 1/64: byte 1 is the level
    for (unsigned column = 0; column < 4; ++column)
      states[column] = windows.single(quad, column);
    for (unsigned column = 0; column < 4; ++column) {
      Reg y = b.multiply(states[column], b.splat(kFactor), 32);
      sums[column] = b.sumBytes(b.addLanes(y, b.splat(kAddend), 32), 64);
    }
    // Bytes 1 of two columns side by side, twice; then a blend.
    std::array<uint8_t, 64> first, second;
    for (unsigned i = 0; i < 64; ++i) {
      first[i] = i / 4 * 4 + 1 + (i % 2 ? 64 : 0);
      second[i] = i + (i % 4 < 2 ? 0 : 64);
    }
    return b.permute(b.permute(sums[0], sums[1], first),
                     b.permute(sums[2], sums[3], first), second);
  }

private:
  static constexpr uint32_t kFactor = 34038481, kAddend = 76625530;
};

class ThreeInstructions : public TrellisCode {
public:
  ThreeInstructions() : TrellisCode(16, 0) {
    for (uint32_t state = 0; state < values.size(); ++state) {
      uint32_t word = ((kFactor * state + kAddend) & kKept) ^ kExponents;
      float sum = halfToFloat(word >> 16) + halfToFloat(word & 0xffff);
      values[state] = halfToFloat(floatToHalf(sum));
    }
  }
  bool isInteger() const override { return false; }
  Reg decode(TrellisWindows &, unsigned) const override { return Reg(); }
  FloatReg decodeFloats(TrellisWindows &windows, unsigned quad,
                        unsigned column) const override {
    RegisterBuilder &b = windows.builder;
    Reg y = b.multiply(windows.single(quad, column), b.splat(kFactor), 32);
    y = b.bitAnd(b.addLanes(y, b.splat(kAddend), 32), b.splat(kKept));
    return b.sumHalves(b.bitXor(y, b.splat(kExponents)));
  }

private:
  static constexpr uint32_t kFactor = 89226354, kAddend = 64248484;
  /// Of each half the sign, two bits of the exponent and the mantissa.
  static constexpr uint32_t kKept = 0x8fff8fff, kExponents = 0x3b603b60;
};

class Hybrid : public TrellisCode {
public:
  Hybrid() : TrellisCode(16, 0) {
    for (int i = 0; i < 128; ++i)
      table.push_back(
          128 + (i < 64 ? -kMagnitudes64[63 - i] : kMagnitudes64[i - 64]));
    for (uint32_t state = 0; state < values.size(); ++state)
      values[state] = table[state * (state + 1) >> 8 & 127] - 128;
  }
  Reg decode(TrellisWindows &windows, unsigned quad) const override {
    RegisterBuilder &b = windows.builder;
    Reg products[2];
    for (unsigned column = 0; column < 2; ++column) {
      Reg s = windows.pair(quad, column);
      products[column] = b.addLanes(b.multiply(s, s, 16), s, 16);
    }
    // The high bytes of columns 0, 2 and of 1, 3.
    std::array<uint8_t, 64> order;
    for (unsigned i = 0; i < 64; ++i)
      order[i] = 64 * (i % 2) + i / 2 * 2 + 1;
    return b.lookup(table, b.permute(products[0], products[1], order));
  }

private:
  std::vector<uint8_t> table;
};

const uint16_t kMatrices[5][8] = {
    {0xb4, 0xe6, 0x8b, 0x71, 0x14, 0x5d, 0xc6, 0x77},
    {0x042, 0x226, 0x367, 0x320, 0x0d5, 0x0a1, 0x157, 0x31d},
    {0xcec, 0x0d3, 0x460, 0x97b, 0xd84, 0x94a, 0xf3d, 0x806},
    {0x1a37, 0x1550, 0x0def, 0x1d4e, 0x1955, 0x07f2, 0x16dd, 0x2016},
    {0xe52e, 0xa2d2, 0x0348, 0xe0c9, 0x73ba, 0x2a18, 0xcd67, 0x8089},
};

/// For 12, 14 and 16 bits.
const uint16_t kMore[3][3] = {
    {0xcd7, 0xc39, 0x103}, {0xe31, 0x30e1, 0x1c07}, {0xd47e, 0xe902, 0xab9a}};

} // namespace

llvm::ArrayRef<llvm::StringRef> quench::trellisCodeNames() {
  static const llvm::StringRef names[] = {"lin8",  "lin10", "lin12", "lin14",
                                          "lin16", "1mad",  "3inst", "hyb"};
  return names;
}

std::unique_ptr<TrellisCode> quench::makeTrellisCode(llvm::StringRef name,
                                                     unsigned k) {
  if (name == "1mad")
    return std::make_unique<Mad>();
  if (name == "3inst")
    return std::make_unique<ThreeInstructions>();
  if (name == "hyb")
    return std::make_unique<Hybrid>();
  for (unsigned i = 0; i < 5; ++i)
    if (name == trellisCodeNames()[i]) {
      // Up to two bits 128 levels are as good as 256, and faster.
      bool fewLevels = name == "lin12" && k <= 2;
      if (k >= 5 && i >= 2)
        return std::make_unique<LinearWithTails>(8 + 2 * i, kMatrices[i],
                                                 kMore[i - 2]);
      return std::make_unique<Linear>(8 + 2 * i, kMatrices[i], fewLevels);
    }
  return nullptr;
}
