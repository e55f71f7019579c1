//===- Pow2.cpp - Signs and powers of two -----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The code of docs/Tutorials/WriteAFormat.md. Codes of four bits: a sign and an
// exponent. The levels are 0 and plus or minus 1, 1/2, 1/4 .. 1/64, in units of
// 1/64 the integers 0, 1, 2, 4 .. 64.
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/Format.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"
#include <cmath>

using namespace quench;

static constexpr int kUnits = 64;

/// Code: exponent in the low three bits, sign above. In units of 1/64.
static int levelOf(uint32_t code) {
  int magnitude = (code & 7) == 0 ? 0 : 1 << ((code & 7) - 1);
  return code & 8 ? -magnitude : magnitude;
}

namespace {

class Pow2Format : public Format {
public:
  explicit Pow2Format(int64_t groupSize)
      : groupSize(groupSize),
        blockLayout(makeBlockLayout(bitStepLayout(4), groupSize,
                                    /*zeroPoints=*/false)) {
    for (uint32_t code = 0; code < 16; ++code)
      lanes[code] = levelOf(code) + kUnits;
  }

  // What it is.
  std::string spec() const override {
    return formatSpec("pow2", {"group = " + std::to_string(groupSize)});
  }
  int64_t group() const override { return groupSize; }
  unsigned codeBits() const override { return 4; }
  const BlockLayout &layout() const override { return blockLayout; }

  // On the host.
  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &) const override {
    GroupParams params;
    params.scale = scaleToHalf(maxMagnitude(values, n));
    if (params.scale == 0)
      params.scale = 1; // all zeros
    return params;
  }
  uint32_t nearest(const float *values, GroupParams params) const override {
    float ratio = values[0] / halfToFloat(params.scale) * kUnits;
    uint32_t best = 0;
    for (uint32_t code = 1; code < 16; ++code)
      if (std::fabs(ratio - levelOf(code)) < std::fabs(ratio - levelOf(best)))
        best = code;
    return best;
  }
  void decode(uint32_t code, GroupParams params, float *values) const override {
    values[0] = halfToFloat(params.scale) * (float(levelOf(code)) / kUnits);
  }

  // In registers: unsigned bytes, level + 64.
  bool isInteger() const override { return true; }
  int64_t bias() const override { return kUnits; }
  float unit() const override { return 1.0f / kUnits; }
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool,
                  llvm::SmallVectorImpl<Plane> &planes) const override {
    // bitStepLayout(4): each of four lines holds the codes of two quads of
    // columns, one in the low and one in the high bits of its bytes.
    for (unsigned line = 0; line < 4; ++line) {
      Reg low = builder.load(offset + 64 * line);
      Reg high = builder.field(low, /*off=*/4, /*width=*/4, /*at=*/0);
      // A table of 16 entries ignores the high bits of its index.
      planes.push_back({builder.lookup(lanes, low), 2 * line, /*shift=*/0,
                        /*hi=*/2 * kUnits});
      planes.push_back({builder.lookup(lanes, high), 2 * line + 1, /*shift=*/0,
                        /*hi=*/2 * kUnits});
    }
  }

private:
  int64_t groupSize;
  BlockLayout blockLayout;
  uint8_t lanes[16];
};

} // namespace

static FormatRegistration registration(
    "pow2", "signs and powers of two: pow2<group = G>",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      FormatArgReader reader(args);
      int64_t group = reader.option("group", 1, kMaxGroup, /*absent=*/32);
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<Pow2Format>(group);
    });
