//===- E8P.cpp - Codes of the E8 lattice
//-----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// e8p: 8 weights in a 16-bit code (E8Lattice.h). e8p<3> adds a vector of the
// ball, at half the size, in another 8 bits; e8p<4> adds a second E8P code at a
// quarter of the size. Scales between the parts that are powers of two keep all
// sums integers.
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "E8Lattice.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"
#include <cmath>

using namespace quench;

namespace {

class E8PFormat : public Format {
public:
  E8PFormat(unsigned bits, bool tensorScale);
  std::string spec() const override;
  int64_t group() const override { return 0; }
  bool hasScale() const override { return !tensorScale; }
  bool hasTensorScale() const override { return tensorScale; }
  int64_t codeLength() const override { return 8; }
  unsigned codeBits() const override { return 8 * bits; }
  const BlockLayout &layout() const override { return blockLayout; }
  bool isInteger() const override { return true; }
  int64_t bias() const override {
    return bits == 2 ? 32 : bits == 3 ? 36 : 160;
  }
  float unit() const override { return bits == 4 ? 0.0625f : 0.25f; }

  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &options) const override;
  float fitTensor(const float *values, int64_t n,
                  const FitOptions &options) const override;
  uint32_t nearest(const float *values, GroupParams params) const override;
  void decode(uint32_t code, GroupParams params, float *values) const override;
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool inPlace,
                  llvm::SmallVectorImpl<Plane> &planes) const override;

private:
  float scaleOfRow(GroupParams params) const {
    return tensorScale ? 1.0f : halfToFloat(params.scale);
  }
  uint32_t nearestCode(const float *values, float scale) const;
  void decodeCode(uint32_t code, float scale, float *values) const;
  double error(const float *values, int64_t n, float scale,
               int64_t stride) const;
  float fittedScale(const float *values, int64_t n, bool search) const;

  unsigned bits;
  bool tensorScale;
  const E8P &lattice = E8P::get();
  const E8Ball &ball = E8Ball::get();
  BlockLayout blockLayout;
};

} // namespace

/// A weight of variance 1 meets the code scaled by this.
static float spread(unsigned bits) {
  return bits == 2 ? 1.03f : bits == 3 ? 0.99f : 0.88f;
}

E8PFormat::E8PFormat(unsigned bits, bool tensorScale)
    : bits(bits), tensorScale(tensorScale) {
  StepLayout step;
  // Bytes of a code, each in a line of its own: row, signs, then the rest.
  for (unsigned part : bits == 2 ? std::initializer_list<unsigned>{8, 0}
                       : bits == 3
                           ? std::initializer_list<unsigned>{8, 0, 16}
                           : std::initializer_list<unsigned>{8, 0, 24, 16}) {
    step.components.push_back(
        {"code[" + std::to_string(part) + ":" + std::to_string(part + 7) + "]",
         8,
         step.bytes,
         {{'r', kBlockRows, 1, 32}, {'k', 4, 8, 8}},
         part});
    step.bytes += 64;
  }
  // Plane j takes coordinate j of the four codewords.
  for (int j = 0; j < 8; ++j)
    for (int word = 0; word < 4; ++word)
      step.xOrder.push_back(8 * word + j);
  blockLayout = makeBlockLayout(step, 0, 0);
}

std::string E8PFormat::spec() const {
  std::vector<std::string> arguments;
  if (bits != 2)
    arguments.push_back(std::to_string(bits));
  if (tensorScale)
    arguments.push_back("scale = tensor");
  return formatSpec("e8p", arguments);
}

//===----------------------------------------------------------------------===//
// Encode and decode on the host
//===----------------------------------------------------------------------===//

void E8PFormat::decodeCode(uint32_t code, float scale, float *values) const {
  int lanes[8], rest[8];
  lattice.decode(code & 0xffff, lanes);
  if (bits == 4)
    lattice.decode(code >> 16, rest);
  for (int j = 0; j < 8; ++j) {
    if (bits == 3) // half of the ball's vector: quarters are twice its numbers
      lanes[j] += ball.twice(code >> 16 & 0xff, j);
    if (bits == 4)
      lanes[j] = 4 * lanes[j] + rest[j];
    values[j] = scale * (unit() * static_cast<float>(lanes[j]));
  }
}

void E8PFormat::decode(uint32_t code, GroupParams params, float *values) const {
  decodeCode(code, scaleOfRow(params), values);
}

/// The first part is the best one of either shift; the rest decides.
uint32_t E8PFormat::nearestCode(const float *values, float scale) const {
  if (scale == 0)
    return 0;
  float x[8];
  for (int j = 0; j < 8; ++j) {
    float value = values[j] / scale;
    // Far outside, the codeword depends on the direction only.
    value = value > -1e6f ? value : -1e6f;
    x[j] = value < 1e6f ? value : 1e6f;
  }
  float factor = bits == 3 ? 2.0f : 4.0f; // of the rest
  float least = 0;
  uint32_t best = 0;
  for (unsigned shift = 0; shift < 2; ++shift) {
    float distance;
    uint32_t code = lattice.nearest(x, shift, distance);
    if (bits != 2) {
      int quarters[8];
      float rest[8];
      lattice.decode(code, quarters);
      for (int j = 0; j < 8; ++j) {
        rest[j] = factor * (x[j] - 0.25f * static_cast<float>(quarters[j]));
      }
      uint32_t second;
      if (bits == 3) {
        second = ball.nearest(rest, distance);
      } else {
        float other;
        second = lattice.nearest(rest, 0, distance);
        uint32_t negative = lattice.nearest(rest, 1, other);
        if (other < distance) {
          second = negative;
          distance = other;
        }
      }
      code |= second << 16;
    }
    if (shift == 0 || distance < least) {
      least = distance;
      best = code;
    }
  }
  return best;
}

uint32_t E8PFormat::nearest(const float *values, GroupParams params) const {
  return nearestCode(values, scaleOfRow(params));
}

double E8PFormat::error(const float *values, int64_t n, float scale,
                        int64_t stride) const {
  double sum = 0;
  for (int64_t first = 0; first < n; first += 8 * stride) {
    float word[8] = {}, decoded[8];
    int64_t length = std::min<int64_t>(8, n - first);
    std::copy(values + first, values + first + length, word);
    decodeCode(nearestCode(word, scale), scale, decoded);
    for (int64_t j = 0; j < length; ++j)
      sum += double(word[j] - decoded[j]) * (word[j] - decoded[j]);
  }
  return sum;
}

/// Candidates of a search are compared on some codewords of long rows, the
/// winner with the plain scale on all of them (of a row).
float E8PFormat::fittedScale(const float *values, int64_t n,
                             bool search) const {
  double square = 0;
  for (int64_t i = 0; i < n; ++i)
    if (std::isfinite(values[i]))
      square += double(values[i]) * values[i];
  float plain =
      n ? static_cast<float>(std::sqrt(square / n)) / spread(bits) : 0;
  if (!search || !(plain > 0) || !std::isfinite(plain))
    return plain;
  int64_t stride = std::max<int64_t>(1, n / (8 * 32));
  // A whole matrix has enough words for a closer look.
  int64_t close = tensorScale ? std::max<int64_t>(1, n / (8 * 4096)) : 1;
  float best = plain;
  double least = error(values, n, plain, stride);
  for (float factor : {0.85f, 0.92f, 0.96f, 1.04f, 1.08f, 1.16f, 1.3f}) {
    double now = error(values, n, plain * factor, stride);
    if (now < least) {
      least = now;
      best = plain * factor;
    }
  }
  return error(values, n, best, close) < error(values, n, plain, close) ? best
                                                                        : plain;
}

GroupParams E8PFormat::fit(const float *values, int64_t n,
                           const FitOptions &options) const {
  GroupParams params;
  params.scale = scaleToHalf(fittedScale(values, n, options.search));
  return params;
}

float E8PFormat::fitTensor(const float *values, int64_t n,
                           const FitOptions &options) const {
  float scale = fittedScale(values, n, options.search);
  // There is no level 0: zeros need a scale that makes next to nothing of it.
  return scale > 1e-30f ? std::min(scale, 1e30f) : 1e-30f;
}

//===----------------------------------------------------------------------===//
// Decode in registers
//===----------------------------------------------------------------------===//

/// Quarters plus 32 of coordinate j of four codewords, shifted left.
namespace {
class E8PDecoder {
public:
  E8PDecoder(RegisterBuilder &builder, int64_t offset)
      : b(builder), signs(b.load(offset + 64)) {
    Reg row = b.load(offset);
    const E8P &lattice = E8P::get();
    halves[0] = b.lookup({lattice.lowFields(), E8P::kRows}, row);
    halves[1] = b.lookup({lattice.highFields(), E8P::kRows}, row);
    // The sum of a row is odd when the low bits of its magnitudes have odd
    // parity.
    fold = b.bitXor(halves[0], halves[1]);
  }

  Reg lane(unsigned j, unsigned shift) {
    Reg magnitude = b.field(halves[j / 4], 2 * (j % 4), 2, 2 + shift);
    // 4 e + 2 +- 1 is e, a 1, and the parity bit: value bit 0 is 1, bit 1 says
    // that 1/4 is added. Half-odd magnitudes are negated by complement, so the
    // sign goes to bits 2 to 5; the bias 32 is bit 5 flipped. Coordinate 0 is
    // flipped when the signs are odd: all bits but its own decide.
    uint8_t mask = j == 0 ? 0xfe : 1 << E8P::kSignBit[j];
    uint8_t rows[8] = {};
    rows[shift + 1] = 0xff;
    for (unsigned bit = 2; bit < 6; ++bit)
      rows[shift + bit] = mask;
    Reg lane = b.bitXor(magnitude, b.affine(signs, rows, 0x23 << shift));
    if (j == 7) {
      uint8_t parity[8] = {};
      for (unsigned bit = 2; bit < 6; ++bit)
        parity[shift + bit] = 0x55;
      lane = b.bitXor(lane, b.affine(fold, parity, 0));
    }
    return lane;
  }

private:
  RegisterBuilder &b;
  Reg signs, halves[2], fold;
};
} // namespace

void E8PFormat::decodeStep(RegisterBuilder &builder, int64_t offset,
                           bool inPlace,
                           llvm::SmallVectorImpl<Plane> &planes) const {
  E8PDecoder first(builder, offset);
  if (bits == 2) {
    for (unsigned j = 0; j < 8; ++j) {
      // Magnitudes 0 and 1 of a half come to bits 2 and 3, 2 and 3 to bits 4
      // and 5: two shifts a table.
      unsigned shift = inPlace && j % 4 >= 2 ? 2 : 0;
      planes.push_back({first.lane(j, shift), j, shift, 43u << shift});
    }
    return;
  }
  if (bits == 4) {
    E8PDecoder second(builder, offset + 128);
    for (unsigned j = 0; j < 8; ++j)
      planes.push_back(
          {builder.add(first.lane(j, 2), second.lane(j, 0)), j, 0, 215});
    return;
  }
  // Two coordinates of the ball in a lookup.
  Reg code = builder.load(offset + 128);
  for (unsigned j = 0; j < 8; j += 2) {
    uint8_t table[256];
    for (unsigned i = 0; i < 256; ++i)
      table[i] = (ball.twice(i, j) + 4) | (ball.twice(i, j + 1) + 4) << 4;
    Reg pair = builder.lookup(table, code);
    for (unsigned i = 0; i < 2; ++i)
      planes.push_back(
          {builder.add(first.lane(j + i, 0), builder.field(pair, 4 * i, 4, 0)),
           j + i, 0, 51});
  }
}

static FormatRegistration registration(
    "e8p",
    "8 weights in 16, 24 or 32 bits (2 by default) from the E8 lattice, a "
    "scale "
    "for each row",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      FormatArgReader reader(args);
      unsigned bits = 2;
      if (!args.positional.empty())
        bits = reader.number("bits", 2, 4);
      bool tensor = reader.choiceOption("scale", {"tensor", "row"}) == "tensor";
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<E8PFormat>(bits, tensor);
    });

QUENCH_BUILTIN_FORMAT(E8P)
