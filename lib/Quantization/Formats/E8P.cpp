//===- E8P.cpp - The 2-bit code of the E8 lattice -------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// e8p: 8 weights in a 16-bit code. The high byte names one of 256 rows of
// magnitudes 1/2, 3/2, 5/2; the low byte holds the signs of coordinates 0, 2,
// 4, 6, 1, 3, 5, 7 (bit 0 first). A row of odd sum stands for its pattern with
// coordinate 7 negated. The parity of the sign bits says whether 1/4 is added
// (even) or subtracted (odd) everywhere; odd signs are made even by flipping
// bit 0.
//
// The 29 rows of norm 12 are the published ones in their order, with pattern
// 145 in place of the one that the published table holds twice.
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"
#include <cmath>

using namespace quench;

/// The three coordinates that are 1/2 in the rows of norm 12.
static const char kNorm12[] = "123023013012367357347356346345267257247256246245"
                              "167157147156146045067057047"
                              "056046145237";

/// Sign bit of each coordinate.
static const unsigned kSignBit[8] = {0, 4, 1, 5, 2, 6, 3, 7};

/// A weight of variance 1 meets the code scaled by this.
static constexpr float kSpread = 1.03f;

namespace {

constexpr int kRows = 256, kLanes = 8;

/// The rows, and the rows of even sum, then those of odd sum, by coordinate:
/// what the search for the nearest codeword walks over. Either part is filled
/// up to whole vectors with copies of its last row.
struct Tables {
  uint8_t magnitude[kRows][8]; // e of e + 1/2
  bool odd[kRows];
  float sorted[8][kRows + 2 * kLanes];
  float halfNorm[kRows + 2 * kLanes];
  uint8_t row[kRows + 2 * kLanes];
  int oddBegin = 0, end = 0;

  Tables() {
    int count = 0;
    for (int pattern = 0; pattern < 6561; ++pattern) { // lexicographic
      int norm = 8;                                    // 4 * |row|^2
      for (int j = 7, rest = pattern; j >= 0; --j, rest /= 3) {
        magnitude[count][j] = rest % 3;
        norm += 4 * (rest % 3) * (rest % 3 + 1);
      }
      if (norm <= 40)
        ++count;
    }
    for (const char *half = kNorm12; *half; half += 3, ++count) {
      std::fill(magnitude[count], magnitude[count] + 8, 1);
      for (int i = 0; i < 3; ++i)
        magnitude[count][half[i] - '0'] = 0;
    }
    for (int r = 0; r < kRows; ++r) {
      int sum = 0;
      for (uint8_t e : magnitude[r])
        sum += e;
      odd[r] = sum & 1;
    }
    for (int part = 0; part < 2; ++part) {
      if (part == 1)
        oddBegin = end;
      for (int r = 0; r < kRows; ++r)
        if (odd[r] == (part == 1))
          place(end++, r);
      for (; end % kLanes != 0; ++end)
        place(end, row[end - 1]);
    }
  }

private:
  void place(int at, int r) {
    row[at] = r;
    halfNorm[at] = 0;
    for (int j = 0; j < 8; ++j) {
      float value = magnitude[r][j] + 0.5f;
      sorted[j][at] = value;
      halfNorm[at] += 0.5f * value * value;
    }
  }
};

class E8PFormat : public Format {
public:
  E8PFormat();
  std::string spec() const override { return "e8p"; }
  int64_t group() const override { return 0; }
  int64_t codeLength() const override { return 8; }
  unsigned codeBits() const override { return 16; }
  const BlockLayout &layout() const override { return blockLayout; }
  bool isInteger() const override { return true; }
  int64_t bias() const override { return 32; }
  float unit() const override { return 0.25f; }

  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &options) const override;
  uint32_t nearest(const float *values, GroupParams params) const override;
  void decode(uint32_t code, GroupParams params, float *values) const override {
    int quarters[8];
    decodeQuarters(code, quarters);
    float scale = halfToFloat(params.scale);
    for (int j = 0; j < 8; ++j)
      values[j] = scale * (0.25f * static_cast<float>(quarters[j]));
  }
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool inPlace,
                  llvm::SmallVectorImpl<Plane> &planes) const override;

private:
  void decodeQuarters(uint32_t code, int *quarters) const;
  double error(const float *values, int64_t n, GroupParams params,
               int64_t stride) const;

  Tables tables;
  /// Coordinates 0..3 and 4..7 of each row as 2-bit fields.
  uint8_t low[kRows] = {}, high[kRows] = {};
  BlockLayout blockLayout;
};

} // namespace

E8PFormat::E8PFormat() {
  for (int r = 0; r < kRows; ++r)
    for (int j = 0; j < 4; ++j) {
      low[r] |= tables.magnitude[r][j] << (2 * j);
      high[r] |= tables.magnitude[r][4 + j] << (2 * j);
    }
  StepLayout step;
  step.bytes = 128;
  for (unsigned part : {8u, 0u})
    step.components.push_back({part ? "code[8:15]" : "code[0:7]",
                               8,
                               part ? 0 : 64,
                               {{'r', kBlockRows, 1, 32}, {'k', 4, 8, 8}},
                               part});
  // Plane j takes coordinate j of the four codewords.
  for (int j = 0; j < 8; ++j)
    for (int word = 0; word < 4; ++word)
      step.xOrder.push_back(8 * word + j);
  blockLayout = makeBlockLayout(step, 0, false);
}

void E8PFormat::decodeQuarters(uint32_t code, int *quarters) const {
  unsigned row = code >> 8 & 0xff, signs = code & 0xff;
  unsigned parity = __builtin_parity(signs);
  signs ^= parity;
  for (int j = 0; j < 8; ++j) {
    bool negative = signs >> kSignBit[j] & 1;
    if (j == 7)
      negative ^= tables.odd[row];
    int value = 4 * tables.magnitude[row][j] + 2;
    quarters[j] = (negative ? -value : value) + (parity ? -1 : 1);
  }
}

namespace {
/// The best row for one of the two shifts: its score, v.y - |v|^2 / 2.
struct Candidate {
  float score;
  int at;
};
} // namespace

/// The best of the rows in [begin, end). The signs of a codeword of these rows
/// either can all agree with y's, or (`flip`) one must not: the one that costs
/// least.
template <bool Flip>
static void bestRow(const Tables &tables, const float *y, int begin, int end,
                    Candidate &best) {
  float most[kLanes];
  int at[kLanes];
  std::fill(most, most + kLanes, -1e30f);
  std::fill(at, at + kLanes, begin);
  for (int first = begin; first < end; first += kLanes) {
    float sum[kLanes], least[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      least[lane] = sum[lane] = tables.sorted[0][first + lane] * y[0];
      sum[lane] -= tables.halfNorm[first + lane];
    }
    for (int j = 1; j < 8; ++j)
      for (int lane = 0; lane < kLanes; ++lane) {
        float product = tables.sorted[j][first + lane] * y[j];
        sum[lane] += product;
        if (Flip)
          least[lane] = product < least[lane] ? product : least[lane];
      }
    for (int lane = 0; lane < kLanes; ++lane) {
      float score = Flip ? sum[lane] - 2.0f * least[lane] : sum[lane];
      at[lane] = score > most[lane] ? first : at[lane];
      most[lane] = score > most[lane] ? score : most[lane];
    }
  }
  for (int lane = 0; lane < kLanes; ++lane)
    if (most[lane] > best.score)
      best = {most[lane], at[lane] + lane};
}

uint32_t E8PFormat::nearest(const float *values, GroupParams params) const {
  float scale = halfToFloat(params.scale);
  if (scale == 0)
    return 0;
  float bestScore = -1e30f;
  uint32_t bestCode = 0;
  for (unsigned shift = 0; shift < 2; ++shift) { // + 1/4, - 1/4
    float y[8], square = 0;
    unsigned negative = 0; // by coordinate
    for (int j = 0; j < 8; ++j) {
      float value = values[j] / scale;
      // Far outside, the codeword depends on the direction only.
      value = value > -1e6f ? value : -1e6f;
      value = value < 1e6f ? value : 1e6f;
      value += shift ? 0.25f : -0.25f;
      negative |= unsigned(value < 0) << j;
      y[j] = std::fabs(value);
      square += value * value;
    }
    bool odd = __builtin_parity(negative);
    Candidate best{-1e30f, 0};
    if (odd) {
      bestRow<true>(tables, y, 0, tables.oddBegin, best);
      bestRow<false>(tables, y, tables.oddBegin, tables.end, best);
    } else {
      bestRow<false>(tables, y, 0, tables.oddBegin, best);
      bestRow<true>(tables, y, tables.oddBegin, tables.end, best);
    }
    float score = best.score - 0.5f * square;
    if (shift != 0 && !(score > bestScore))
      continue;
    bestScore = score;
    unsigned row = tables.row[best.at];
    if (tables.odd[row] != odd) {
      int flip = 0;
      for (int j = 1; j < 8; ++j)
        if (tables.sorted[j][best.at] * y[j] <
            tables.sorted[flip][best.at] * y[flip])
          flip = j;
      negative ^= 1u << flip;
    }
    if (tables.odd[row])
      negative ^= 1u << 7;
    unsigned signs = shift; // odd signs mean - 1/4
    for (int j = 0; j < 8; ++j)
      signs ^= (negative >> j & 1) << kSignBit[j];
    bestCode = row << 8 | signs;
  }
  return bestCode;
}

double E8PFormat::error(const float *values, int64_t n, GroupParams params,
                        int64_t stride) const {
  double sum = 0;
  for (int64_t first = 0; first < n; first += 8 * stride) {
    float word[8] = {}, decoded[8];
    int64_t length = std::min<int64_t>(8, n - first);
    std::copy(values + first, values + first + length, word);
    decode(nearest(word, params), params, decoded);
    for (int64_t j = 0; j < length; ++j)
      sum += double(word[j] - decoded[j]) * (word[j] - decoded[j]);
  }
  return sum;
}

GroupParams E8PFormat::fit(const float *values, int64_t n,
                           const FitOptions &options) const {
  double square = 0;
  for (int64_t i = 0; i < n; ++i)
    if (std::isfinite(values[i]))
      square += double(values[i]) * values[i];
  GroupParams plain;
  float scale = n ? static_cast<float>(std::sqrt(square / n)) / kSpread : 0;
  plain.scale = scaleToHalf(scale);
  if (!options.search || plain.scale == 0)
    return plain;
  // Candidates are compared on some codewords of long rows, the winner with
  // the plain scale on all of them.
  int64_t stride = std::max<int64_t>(1, n / (8 * 32));
  GroupParams best = plain;
  double least = error(values, n, plain, stride);
  for (float factor : {0.85f, 0.92f, 0.96f, 1.04f, 1.08f, 1.16f, 1.3f}) {
    GroupParams params;
    params.scale = scaleToHalf(scale * factor);
    double now = error(values, n, params, stride);
    if (now < least) {
      least = now;
      best = params;
    }
  }
  if (best.scale == plain.scale ||
      !(error(values, n, best, 1) < error(values, n, plain, 1)))
    return plain;
  return best;
}

void E8PFormat::decodeStep(RegisterBuilder &builder, int64_t offset,
                           bool inPlace,
                           llvm::SmallVectorImpl<Plane> &planes) const {
  Reg row = builder.load(offset), signs = builder.load(offset + 64);
  Reg halves[2] = {builder.lookup(low, row), builder.lookup(high, row)};
  // The sum of a row is odd when the low bits of its magnitudes have odd
  // parity.
  Reg fold = builder.bitXor(halves[0], halves[1]);
  for (unsigned j = 0; j < 8; ++j) {
    // Magnitudes 0 and 1 of a half come to bits 2 and 3, 2 and 3 to bits 4 and
    // 5: two shifts a table. A lane is in quarters and has `shift` zeros below.
    unsigned shift = inPlace && j % 4 >= 2 ? 2 : 0;
    Reg magnitude = builder.field(halves[j / 4], 2 * (j % 4), 2, 2 + shift);
    // 4 e + 2 +- 1 is e, a 1, and the parity bit: value bit 0 is 1, bit 1 says
    // that 1/4 is added. Half-odd magnitudes are negated by complement, so the
    // sign goes to bits 2 to 5; the bias 32 is bit 5 flipped. Coordinate 0 is
    // flipped when the signs are odd: all bits but its own decide.
    uint8_t mask = j == 0 ? 0xfe : 1 << kSignBit[j];
    uint8_t rows[8] = {};
    rows[shift + 1] = 0xff;
    for (unsigned bit = 2; bit < 6; ++bit)
      rows[shift + bit] = mask;
    Reg sign = builder.affine(signs, rows, 0x23 << shift);
    Reg lane = builder.bitXor(magnitude, sign);
    if (j == 7) {
      uint8_t parity[8] = {};
      for (unsigned bit = 2; bit < 6; ++bit)
        parity[shift + bit] = 0x55;
      lane = builder.bitXor(lane, builder.affine(fold, parity, 0));
    }
    planes.push_back({lane, j, shift, 43u << shift});
  }
}

static FormatRegistration registration(
    "e8p", "8 weights in 16 bits from the E8 lattice, a scale for each row",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      FormatArgReader reader(args);
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<E8PFormat>();
    });

QUENCH_BUILTIN_FORMAT(E8P)
