//===- NF4.cpp - Quantiles of a normal distribution -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// nf4: 16 levels between -1 and 1 from a table of floats, met by float
// activations. With `bytes`, the levels are rounded to 1/123, so that a byte
// table serves integer dot products; 123 costs 0.02 % of the error, 127 0.6 %.
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"
#include <cmath>

using namespace quench;

/// 8 quantiles below and 9 from 0 on, over the largest one.
static const float kLevels[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

static constexpr int kByteUnits = 123;
static constexpr int kByteBias = 128;

namespace {

class NF4Format : public Format {
public:
  NF4Format(int64_t groupSize, bool inBytes)
      : groupSize(groupSize), inBytes(inBytes),
        blockLayout(makeBlockLayout(bitStepLayout(4), groupSize, false)) {
    for (int i = 0; i < 16; ++i) {
      int units = std::lrint(kByteUnits * kLevels[i]);
      bytes[i] = units + kByteBias;
      levels[i] = inBytes ? static_cast<float>(units) / kByteUnits : kLevels[i];
    }
    for (int i = 0; i < 15; ++i)
      middles[i] = 0.5f * (levels[i] + levels[i + 1]);
  }

  std::string spec() const override {
    std::vector<std::string> arguments{"group = " + std::to_string(groupSize)};
    if (inBytes)
      arguments.push_back("bytes");
    return formatSpec("nf4", arguments);
  }
  int64_t group() const override { return groupSize; }
  unsigned codeBits() const override { return 4; }
  const BlockLayout &layout() const override { return blockLayout; }
  bool isInteger() const override { return inBytes; }
  int64_t bias() const override { return inBytes ? kByteBias : 0; }
  float unit() const override { return inBytes ? 1.0f / kByteUnits : 1.0f; }

  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &options) const override;
  uint32_t nearest(const float *values, GroupParams params) const override {
    return nearestLevel(values[0] / halfToFloat(params.scale));
  }
  void nearestAll(const float *values, int64_t count, GroupParams params,
                  uint32_t *codes) const override {
    float scale = halfToFloat(params.scale);
    for (int64_t i = 0; i < count; ++i)
      codes[i] = nearestLevel(values[i] / scale);
  }
  void decode(uint32_t code, GroupParams params, float *values) const override {
    values[0] = halfToFloat(params.scale) * levels[code & 15];
  }

  void decodeStep(RegisterBuilder &builder, int64_t offset, bool,
                  llvm::SmallVectorImpl<Plane> &planes) const override {
    if (!inBytes)
      return;
    unsigned hi = bytes[15];
    for (unsigned line = 0; line < 4; ++line) {
      // A lookup of 16 entries ignores the high bits of its index.
      Reg low = builder.load(offset + 64 * line);
      Reg high = builder.field(low, 4, 4, 0);
      planes.push_back({builder.lookup(bytes, low), 2 * line, 0, hi});
      planes.push_back({builder.lookup(bytes, high), 2 * line + 1, 0, hi});
    }
  }
  void
  decodeFloatStep(RegisterBuilder &builder, int64_t offset,
                  llvm::SmallVectorImpl<FloatPlane> &planes) const override {
    if (inBytes)
      return Format::decodeFloatStep(builder, offset, planes);
    for (unsigned line = 0; line < 4; ++line) {
      Reg low = builder.load(offset + 64 * line);
      Reg high = builder.field(low, 4, 4, 0);
      for (unsigned half = 0; half < 2; ++half)
        for (unsigned column = 0; column < 4; ++column)
          planes.push_back(
              {builder.lookupFloats(kLevels, half ? high : low, column),
               8 * line + 4 * half + column});
    }
  }

private:
  /// Ties go down. NaN becomes the least level.
  uint32_t nearestLevel(float ratio) const {
    uint32_t code = 0;
    for (float middle : middles)
      code += ratio > middle;
    return code;
  }
  double error(const float *values, int64_t n, float scale) const {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) {
      double miss = values[i] - scale * levels[nearestLevel(values[i] / scale)];
      sum += miss * miss;
    }
    return sum;
  }

  int64_t groupSize;
  bool inBytes;
  float levels[16], middles[15];
  uint8_t bytes[16];
  BlockLayout blockLayout;
};

} // namespace

GroupParams NF4Format::fit(const float *values, int64_t n,
                           const FitOptions &options) const {
  GroupParams best;
  float plain = maxMagnitude(values, n);
  best.scale = scaleToHalf(plain);
  if (best.scale == 0) {
    best.scale = 1; // all zeros
    return best;
  }
  if (!options.search)
    return best;
  double least = error(values, n, halfToFloat(best.scale));
  for (int i = 1; i < 32; ++i) {
    GroupParams params;
    params.scale = scaleToHalf(plain * (1.08f - 0.015f * i));
    double now = error(values, n, halfToFloat(params.scale));
    if (now < least) {
      least = now;
      best = params;
    }
  }
  return best;
}

static FormatRegistration registration(
    "nf4", "16 quantiles of a normal distribution: nf4<group = G, bytes>",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      FormatArgReader reader(args);
      int64_t group = reader.option("group", 1, kMaxGroup, 64);
      bool bytes = reader.flag("bytes");
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<NF4Format>(group, bytes);
    });

QUENCH_BUILTIN_FORMAT(NF4)
