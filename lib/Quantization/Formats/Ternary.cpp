//===- Ternary.cpp - Levels -1, 0 and 1 -----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// ternary<2>: a trit in 2 bits. ternary<5>: five trits in a byte, those of
// columns k, k + 4, ... k + 16; the code is 84 * t4 + 27 * t3 + 9 * t2 + 3 * t1
// + t0. 84 rather than 81 makes t4 a function of code >> 2, a table of 64.
// ternary<3>: three trits in five bits, those of columns k, k + 4 and k + 8:
// the magnitude of 9 * t0 + 3 * t1 + t2 and its sign.
//
// The scale belongs to a row, a group, or (`tensor`) to the weight.
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"
#include "llvm/ADT/SmallVector.h"
#include <algorithm>
#include <cmath>

using namespace quench;

namespace {

struct TernaryOptions {
  int64_t group = 0;
  bool absmean = false, tensor = false;
};

class TernaryFormat : public Format {
public:
  explicit TernaryFormat(const TernaryOptions &options) : o(options) {}

  int64_t group() const override { return o.group; }
  bool hasScale() const override { return !o.tensor; }
  bool hasTensorScale() const override { return o.tensor; }
  bool isInteger() const override { return true; }
  int64_t bias() const override { return 1; }
  const BlockLayout &layout() const override { return blockLayout; }
  float fitTensor(const float *values, int64_t n,
                  const FitOptions &options) const override;
  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &options) const override;

protected:
  std::string specOf(llvm::StringRef packing) const {
    std::vector<std::string> arguments{packing.str()};
    if (o.group)
      arguments.push_back("group = " + std::to_string(o.group));
    if (o.absmean)
      arguments.push_back("absmean");
    if (o.tensor)
      arguments.push_back("tensor");
    return formatSpec("ternary", arguments);
  }
  /// 0, 1, 2 for -1, 0, 1.
  static uint32_t trit(float value, float threshold) {
    return 1 + (value > threshold) - (value < -threshold);
  }
  float scaleFor(GroupParams params) const {
    return o.tensor ? 1.0f : halfToFloat(params.scale);
  }
  float threshold(GroupParams params) const { return 0.5f * scaleFor(params); }

  TernaryOptions o;
  BlockLayout blockLayout;
};

/// A trit in two bits.
class TernaryBits : public TernaryFormat {
public:
  explicit TernaryBits(const TernaryOptions &options) : TernaryFormat(options) {
    blockLayout = makeBlockLayout(bitStepLayout(2), o.group, 0);
  }
  std::string spec() const override { return specOf("2"); }
  unsigned codeBits() const override { return 2; }
  uint32_t nearest(const float *values, GroupParams params) const override {
    return trit(values[0], threshold(params));
  }
  void nearestAll(const float *values, int64_t count, GroupParams params,
                  uint32_t *codes) const override {
    float limit = threshold(params);
    for (int64_t i = 0; i < count; ++i)
      codes[i] = trit(values[i], limit);
  }
  void decode(uint32_t code, GroupParams params, float *values) const override {
    values[0] = scaleFor(params) * (static_cast<float>(code) - 1.0f);
  }
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool inPlace,
                  llvm::SmallVectorImpl<Plane> &planes) const override {
    size_t first = planes.size();
    decodeBitStep(builder, offset, 2, 0, inPlace, planes);
    for (Plane &plane : llvm::MutableArrayRef<Plane>(planes).drop_front(first))
      plane.hi = 2u << plane.shift;
  }
};

/// Five trits in a byte.
class TernaryBytes : public TernaryFormat {
public:
  explicit TernaryBytes(const TernaryOptions &options)
      : TernaryFormat(options) {
    StepLayout step;
    step.columns = step.groupUnit = 20;
    step.bytes = 64;
    step.codeStride = 4;
    step.components.push_back(
        {"code", 8, 0, {{'r', kBlockRows, 1, 32}, {'k', 4, 1, 8}}, 0});
    blockLayout = makeBlockLayout(step, o.group, 0);
    // Four trits as 2-bit fields; the fifth from code >> 2.
    for (unsigned code = 0; code < 256; ++code)
      for (unsigned i = 0, rest = code % 84; i < 4; ++i, rest /= 3)
        four[code] |= rest % 3 << (2 * i);
    for (unsigned i = 0; i < 64; ++i)
      fifth[i] = std::min(i / 21, 2u);
  }
  std::string spec() const override { return specOf("5"); }
  unsigned codeBits() const override { return 8; }
  int64_t codeLength() const override { return 5; }
  uint32_t nearest(const float *values, GroupParams params) const override {
    float limit = threshold(params);
    return 84 * trit(values[4], limit) + 27 * trit(values[3], limit) +
           9 * trit(values[2], limit) + 3 * trit(values[1], limit) +
           trit(values[0], limit);
  }
  void decode(uint32_t code, GroupParams params, float *values) const override {
    float scale = scaleFor(params);
    code &= 0xff;
    for (unsigned i = 0; i < 4; ++i)
      values[i] =
          scale * (static_cast<float>(four[code] >> (2 * i) & 3) - 1.0f);
    values[4] = scale * (static_cast<float>(fifth[code >> 2]) - 1.0f);
  }
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool inPlace,
                  llvm::SmallVectorImpl<Plane> &planes) const override {
    Reg code = builder.load(offset);
    Reg trits = builder.lookup(four, code);
    for (unsigned i = 0; i < 4; ++i) {
      unsigned shift = inPlace ? 2 * i : 0;
      planes.push_back(
          {builder.field(trits, 2 * i, 2, shift), i, shift, 2u << shift});
    }
    Reg high = builder.field(code, 2, 6, 0);
    planes.push_back({builder.lookup(fifth, high), 4, 0, 2});
  }

private:
  uint8_t four[256] = {}, fifth[64] = {};
};

/// Three trits in five bits. A step has eight sets of 12 columns: four lines of
/// magnitudes, two sets in each, then a line of signs.
class TernaryTriples : public TernaryFormat {
public:
  explicit TernaryTriples(const TernaryOptions &options)
      : TernaryFormat(options) {
    StepLayout step;
    step.columns = 96;
    step.groupUnit = 12;
    step.bytes = 320;
    step.codeStride = 4;
    step.components.push_back({"code[0:3]",
                               4,
                               0,
                               {{'r', kBlockRows, 1, 32},
                                {'k', 4, 1, 8},
                                {'k', 2, 12, 4},
                                {'k', 4, 24, 512}},
                               0});
    step.components.push_back(
        {"code[4:4]",
         1,
         256,
         {{'r', kBlockRows, 1, 32}, {'k', 4, 1, 8}, {'k', 8, 12, 1}},
         4});
    blockLayout = makeBlockLayout(step, o.group, 0);
    for (int code = 0; code < 32; ++code) {
      int rest = std::min(code % 16, 13) * (code < 16 ? 1 : -1);
      for (int i = 0; i < 3; ++i) {
        // The nearest multiple of 9, 3, 1: what follows is less than half.
        int power = i == 0 ? 9 : i == 1 ? 3 : 1;
        int digit = rest > power / 2 ? 1 : rest < -(power / 2) ? -1 : 0;
        rest -= digit * power;
        three[code] |= (digit + 1) << (2 * i);
      }
    }
  }
  std::string spec() const override { return specOf("3"); }
  unsigned codeBits() const override { return 5; }
  int64_t codeLength() const override { return 3; }
  uint32_t nearest(const float *values, GroupParams params) const override {
    float limit = threshold(params);
    int sum = 0;
    for (int i = 0; i < 3; ++i)
      sum = 3 * sum + static_cast<int>(trit(values[i], limit)) - 1;
    return sum < 0 ? 16 - sum : sum;
  }
  void decode(uint32_t code, GroupParams params, float *values) const override {
    float scale = scaleFor(params);
    for (unsigned i = 0; i < 3; ++i)
      values[i] =
          scale * (static_cast<float>(three[code & 31] >> (2 * i) & 3) - 1.0f);
  }
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool inPlace,
                  llvm::SmallVectorImpl<Plane> &planes) const override {
    Reg signs = builder.load(offset + 256);
    for (unsigned set = 0; set < 8; ++set) {
      Reg line = builder.load(offset + 64 * (set / 2));
      Reg code = builder.bitOr(builder.field(line, set % 2 * 4, 4, 0),
                               builder.field(signs, set, 1, 4));
      Reg trits = builder.lookup(three, code);
      for (unsigned i = 0; i < 3; ++i) {
        unsigned shift = inPlace ? 2 * i : 0;
        planes.push_back({builder.field(trits, 2 * i, 2, shift), 3 * set + i,
                          shift, 2u << shift});
      }
    }
  }

private:
  uint8_t three[32] = {}; // 2 bits for each trit
};

} // namespace

/// The scale of the best ternary code. If the k largest magnitudes are the ones
/// that do not become 0, their mean is the best scale and the error falls by
/// (their sum)^2 / k: the best k is found by trying all.
static float optimalScale(const float *values, int64_t n) {
  llvm::SmallVector<float, 256> magnitudes;
  for (int64_t i = 0; i < n; ++i)
    magnitudes.push_back(std::isnan(values[i]) ? 0.0f : std::fabs(values[i]));
  std::sort(magnitudes.begin(), magnitudes.end(), std::greater<float>());
  double sum = 0, best = 0, scale = 0;
  for (int64_t k = 0; k < n; ++k) {
    sum += magnitudes[k];
    double gain = sum * sum / (k + 1);
    if (gain > best) {
      best = gain;
      scale = sum / (k + 1);
    }
  }
  return static_cast<float>(scale);
}

GroupParams TernaryFormat::fit(const float *values, int64_t n,
                               const FitOptions &) const {
  GroupParams params;
  params.scale = scaleToHalf(o.absmean ? meanMagnitude(values, n)
                                       : optimalScale(values, n));
  if (params.scale == 0)
    params.scale = 1;
  return params;
}

float TernaryFormat::fitTensor(const float *values, int64_t n,
                               const FitOptions &) const {
  float scale = o.absmean ? meanMagnitude(values, n) : optimalScale(values, n);
  return scale > 0 && std::isfinite(scale) ? scale : 1.0f;
}

static FormatRegistration registration(
    "ternary",
    "-1, 0, 1 in 2 bits, 3 of them in 5 bits or 5 in a byte: "
    "ternary<2 | 3 | 5, group = G | tensor, absmean>",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      FormatArgReader reader(args);
      std::string packing = reader.choice("packing", {"2", "3", "5"});
      TernaryOptions options;
      options.group = reader.option("group", 0, kMaxGroup, 0);
      options.absmean = reader.flag("absmean");
      options.tensor = reader.flag("tensor");
      if (options.tensor && options.group)
        reader.fail("'tensor' and 'group' exclude each other");
      if (llvm::Error error = reader.finish())
        return std::move(error);
      if (packing == "5")
        return std::make_unique<TernaryBytes>(options);
      if (packing == "3")
        return std::make_unique<TernaryTriples>(options);
      return std::make_unique<TernaryBits>(options);
    });

QUENCH_BUILTIN_FORMAT(Ternary)
