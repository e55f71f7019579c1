//===- Int.cpp - Integers of 1 to 8 bits ----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// int<B>: codes 0 .. 2^B - 1, one scale for a group or a row.
//
//   symmetric  level = code - 2^(B-1); plain fitting uses +-(2^(B-1) - 1), a
//              searched scale may also use -2^(B-1), and may be negative to
//              have that level on the other side
//   half       level = code - (2^B - 1) / 2, half-odd numbers: no zero, but no
//              level wasted either
//   zero       level = code, and an unsigned zero point for each group
//   zero = float  the same with a half for the zero point
//   int<1>     level = -1 or 1
//
// With `tensor`, symmetric and half-odd levels have one float for the weight.
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"
#include <algorithm>
#include <cmath>

using namespace quench;

namespace {

/// What an integer grid looks like: code = clamp(round(w / scale + offset),
/// low, high), w' = scale * (code - offset). The offset of half-odd levels is
/// half-odd, so that adding it before rounding puts ties where they belong.
struct Grid {
  float low, high, offset;
};

/// Round half to even for |value| < 2^22, in a form that vectorizes.
inline float roundEven(float value) {
  constexpr float big = 12582912.0f; // 1.5 * 2^23
  return (value + big) - big;
}

/// Which numbers the levels of a grid are.
enum class Levels { Whole, HalfOdd, Free };

/// The code of w / scale. Clamped first, so that any number (NaN too) is safe.
template <Levels Kind> inline float gridCode(float ratio, const Grid &grid) {
  if (Kind == Levels::Free)
    ratio += grid.offset;
  // Integer offsets are added after rounding: adding first would round twice.
  float offset = Kind == Levels::Free ? 0 : grid.offset;
  float low = grid.low - offset, high = grid.high - offset;
  ratio = ratio > low ? ratio : low;
  ratio = ratio < high ? ratio : high;
  float code = roundEven(ratio);
  if (Kind != Levels::HalfOdd)
    return code + offset;
  // ratio lies in [-offset, offset]; floor, then the upper cell's code.
  code = code > ratio ? code - 1.0f : code; // floor(ratio)
  code += offset + 0.5f;
  return code < grid.high ? code : grid.high;
}

/// |miss| to the power of what a search minimizes.
template <SearchNorm Norm, typename Real> Real lossOf(Real miss) {
  return Norm == SearchNorm::Squares ? miss * miss
                                     : miss * miss * std::fabs(miss);
}

/// Loss of a group on a grid; also the sums that give the scale of the least
/// squared error for these codes: dot(w, level) and dot(level, level). Eight
/// partial sums in a fixed order.
struct GridError {
  float error, cross, square;
};
template <Levels Kind, SearchNorm Norm>
GridError gridError(const float *values, int64_t n, float scale,
                    const Grid &grid) {
  float error[8] = {}, cross[8] = {}, square[8] = {};
  auto add = [&](float value, int lane) {
    float code = gridCode<Kind>(value / scale, grid);
    float level = code - grid.offset, miss = value - scale * level;
    error[lane] += lossOf<Norm>(miss);
    cross[lane] += value * level;
    square[lane] += level * level;
  };
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int lane = 0; lane < 8; ++lane)
      add(values[i + lane], lane);
  for (int lane = 0; i < n; ++i, ++lane)
    add(values[i], lane);
  for (int lane = 1; lane < 8; ++lane) {
    error[0] += error[lane];
    cross[0] += cross[lane];
    square[0] += square[lane];
  }
  return {error[0], cross[0], square[0]};
}

/// The same in double and without vectors: the last word between two fits.
template <Levels Kind, SearchNorm Norm>
double exactError(const float *values, int64_t n, float scale,
                  const Grid &grid) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    float code = gridCode<Kind>(values[i] / scale, grid);
    double miss = values[i] - scale * (code - grid.offset);
    sum += lossOf<Norm>(miss);
  }
  return sum;
}

/// What an int format may have beside its codes.
struct IntOptions {
  int64_t group = 0;
  bool zero = false, floatZero = false, half = false, tensor = false;
};

class IntFormat : public Format {
public:
  IntFormat(unsigned width, const IntOptions &options)
      : width(width), o(options), halfOdd(o.half || (width == 1 && !o.zero)),
        top((1 << width) - 1),
        blockLayout(makeBlockLayout(bitStepLayout(width), o.group,
                                    o.floatZero ? 2
                                    : o.zero    ? 1
                                                : 0)) {}

  std::string spec() const override {
    std::vector<std::string> arguments{std::to_string(width)};
    if (o.group)
      arguments.push_back("group = " + std::to_string(o.group));
    if (o.zero)
      arguments.push_back(o.floatZero ? "zero = float" : "zero");
    if (o.half)
      arguments.push_back("half");
    if (o.tensor)
      arguments.push_back("tensor");
    return formatSpec("int", arguments);
  }
  int64_t group() const override { return o.group; }
  bool hasZeroPoint() const override { return o.zero; }
  bool hasFloatZero() const override { return o.floatZero; }
  bool hasScale() const override { return !o.tensor; }
  bool hasTensorScale() const override { return o.tensor; }
  unsigned codeBits() const override { return width; }
  const BlockLayout &layout() const override { return blockLayout; }

  bool isInteger() const override { return true; }
  int64_t bias() const override {
    return o.zero ? 0 : halfOdd ? top : 1 << (width - 1);
  }
  float unit() const override { return halfOdd && width > 1 ? 0.5f : 1.0f; }
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool inPlace,
                  llvm::SmallVectorImpl<Plane> &planes) const override {
    decodeBitStep(builder, offset, width, halfOdd, inPlace, planes);
  }

  float fitTensor(const float *values, int64_t n,
                  const FitOptions &options) const override;
  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &options) const override;
  uint32_t nearest(const float *values, GroupParams params) const override {
    uint32_t code;
    nearestAll(values, 1, params, &code);
    return code;
  }
  void nearestAll(const float *values, int64_t count, GroupParams params,
                  uint32_t *codes) const override;
  void decode(uint32_t code, GroupParams params, float *values) const override {
    values[0] =
        scaleFor(params) *
        ((static_cast<float>(code) - offset(params.zero)) * levelStep());
  }

private:
  /// Distance of two levels: int<1> counts its two as -1 and 1.
  float levelStep() const { return halfOdd && width == 1 ? 2.0f : 1.0f; }
  float scaleFor(GroupParams params) const {
    return o.tensor ? 1.0f : halfToFloat(params.scale);
  }
  /// The code that stands for 0 (a half-odd one where there is no zero).
  float offset(uint16_t zero) const {
    if (o.floatZero)
      return halfToFloat(zero);
    return o.zero ? zero : halfOdd ? 0.5f * top : 1 << (width - 1);
  }
  Grid grid(uint16_t zero) const {
    return {0.0f, static_cast<float>(top), offset(zero)};
  }
  GroupParams plainFit(const float *values, int64_t n) const;
  template <Levels Kind, SearchNorm Norm>
  GroupParams searchFit(const float *values, int64_t n,
                        GroupParams plain) const;
  GroupParams freeParams(float low, float high) const;
  template <SearchNorm Norm>
  GroupParams freeFit(const float *values, int64_t n, bool search) const;

  unsigned width;
  IntOptions o;
  bool halfOdd;
  int top;
  BlockLayout blockLayout;
};

} // namespace

/// Least and greatest value, 0 included. NaN is skipped.
static std::pair<float, float> rangeOf(const float *values, int64_t n) {
  float low = 0, high = 0;
  for (int64_t i = 0; i < n; ++i) {
    low = values[i] < low ? values[i] : low;
    high = values[i] > high ? values[i] : high;
  }
  constexpr float most = 3.0e38f;
  return {std::max(low, -most), std::min(high, most)};
}

/// The stored zero point for a group whose least value is `low`.
static uint8_t zeroFor(float low, float scale, int top) {
  float zero = -low / scale;
  return zero >= top ? top
         : zero > 0  ? static_cast<uint8_t>(roundEven(zero))
                     : 0;
}

GroupParams IntFormat::plainFit(const float *values, int64_t n) const {
  GroupParams params;
  if (o.zero) {
    auto [low, high] = rangeOf(values, n);
    // Halved first: the range may exceed the largest float.
    params.scale = scaleToHalf((0.5f * high - 0.5f * low) / (0.5f * top));
    if (params.scale)
      params.zero = zeroFor(low, halfToFloat(params.scale), top);
  } else if (width == 1) {
    params.scale = scaleToHalf(meanMagnitude(values, n));
  } else {
    float most = halfOdd ? 0.5f * top : (1 << (width - 1)) - 1;
    params.scale = scaleToHalf(maxMagnitude(values, n) / most);
  }
  // All zeros: any scale serves, but half-odd levels have no zero of their own.
  if (params.scale == 0 && !halfOdd)
    params.scale = 1;
  return params;
}

template <Levels Kind, SearchNorm Norm>
GroupParams IntFormat::searchFit(const float *values, int64_t n,
                                 GroupParams plain) const {
  float widest = halfToFloat(plain.scale);
  GroupParams best = plain;
  float least =
      gridError<Kind, Norm>(values, n, widest * levelStep(), grid(plain.zero))
          .error;
  auto attempt = [&](GroupParams params) {
    GridError result = gridError<Kind, Norm>(
        values, n, halfToFloat(params.scale) * levelStep(), grid(params.zero));
    if (result.error < least) {
      least = result.error;
      best = params;
    }
    return result;
  };

  // A coarse walk over shrinking ranges (and, with zero points, the zeros that
  // fit a range clipped on either side), ...
  const int steps = o.zero ? 12 : 20;
  const float narrowest = width <= 2 ? 0.25f : width <= 4 ? 0.4f : 0.6f;
  float low = o.zero ? rangeOf(values, n).first : 0;
  for (int i = 0; i < steps; ++i) {
    float factor = 1.0f - (1.0f - narrowest) * i / steps;
    GroupParams params;
    params.scale = scaleToHalf(widest * factor);
    if (!o.zero) {
      attempt(params);
      params.scale |= 0x8000;
      if (Kind == Levels::Whole)
        attempt(params);
      continue;
    }
    float scale = halfToFloat(params.scale);
    // Zeros from "all of the low side kept" to "all of the high side kept".
    int most = zeroFor(low, scale, top);
    int fewest = zeroFor(low + (widest - scale) * top, scale, top);
    int last = -1;
    for (int j = 0; j <= 4; ++j) {
      params.zero = fewest + ((most - fewest) * j + 2) / 4;
      if (params.zero != last)
        attempt(params);
      last = params.zero;
    }
  }
  // ... then scales near the best one, and the least-squares scale of the codes
  // found, as long as that helps.
  for (int round = 0; round < 8; ++round) {
    float before = least;
    GroupParams params = best;
    GridError now = attempt(params);
    uint16_t sign = best.scale & 0x8000;
    if (float ratio = std::fabs(now.cross) / levelStep() / now.square;
        now.square > 0 && ratio > 0) {
      params.scale = scaleToHalf(ratio) | sign;
      attempt(params);
    }
    for (int zero : {best.zero - 1, best.zero + 1}) {
      if (!o.zero || zero < 0 || zero > top)
        continue;
      params = best;
      params.zero = zero;
      attempt(params);
    }
    for (float factor : {0.99f, 1.01f}) {
      params = best;
      sign = best.scale & 0x8000;
      params.scale = scaleToHalf(std::fabs(halfToFloat(best.scale)) * factor);
      params.scale |= sign;
      attempt(params);
    }
    if (!(least < before))
      break;
  }
  float scale = halfToFloat(best.scale) * levelStep();
  return exactError<Kind, Norm>(values, n, scale, grid(best.zero)) <
                 exactError<Kind, Norm>(values, n, widest * levelStep(),
                                        grid(plain.zero))
             ? best
             : plain;
}

/// Scale and zero point of levels from low to high.
GroupParams IntFormat::freeParams(float low, float high) const {
  GroupParams params;
  float scale = (0.5f * high - 0.5f * low) / (0.5f * top);
  // Far from 0, a half is too coarse for a zero point: 0 becomes a level.
  if (!(std::fabs(low) <= 256 * scale)) {
    low = std::min(low, 0.0f);
    high = std::max(high, 0.0f);
    scale = (0.5f * high - 0.5f * low) / (0.5f * top);
  }
  params.scale = scaleToHalf(scale);
  if (params.scale)
    params.zero = floatToHalf(
        std::clamp(-low / halfToFloat(params.scale), -512.0f, 512.0f));
  else
    params.scale = 1;
  return params;
}

template <SearchNorm Norm>
GroupParams IntFormat::freeFit(const float *values, int64_t n,
                               bool search) const {
  constexpr float most = 3.0e38f;
  float low = most, high = -most;
  for (int64_t i = 0; i < n; ++i) {
    low = values[i] < low ? values[i] : low;
    high = values[i] > high ? values[i] : high;
  }
  if (low > high)
    low = high = 0; // no numbers
  low = std::max(low, -most);
  high = std::min(high, most);
  GroupParams best = freeParams(low, high);
  if (!search)
    return best;
  auto errorOf = [&](GroupParams params) {
    return exactError<Levels::Free, Norm>(values, n, halfToFloat(params.scale),
                                          grid(params.zero));
  };
  double least = errorOf(best);
  auto attempt = [&](GroupParams params) {
    double error = errorOf(params);
    if (!(error < least))
      return false;
    least = error;
    best = params;
    return true;
  };
  // Ranges clipped on either side, ...
  constexpr int kSteps = 6;
  float narrowest = width <= 2 ? 0.6f : width <= 4 ? 0.3f : 0.15f;
  float middle = 0.5f * low + 0.5f * high;
  for (int a = 0; a < kSteps; ++a)
    for (int b = 0; b < kSteps; ++b)
      attempt(
          freeParams(low + (middle - low) * narrowest * a / (kSteps - 1),
                     high - (high - middle) * narrowest * b / (kSteps - 1)));
  // ... then the line through codes and values, as long as that helps.
  for (int round = 0; round < 12; ++round) {
    double code = 0, value = 0, square = 0, cross = 0;
    float scale = halfToFloat(best.scale);
    for (int64_t i = 0; i < n; ++i) {
      double q = gridCode<Levels::Free>(values[i] / scale, grid(best.zero));
      code += q;
      value += values[i];
      square += q * q;
      cross += q * values[i];
    }
    double spread = square - code * code / n;
    double slope = (cross - code * value / n) / spread;
    if (!(spread > 0) || !(slope > 0) || !std::isfinite(slope))
      break;
    GroupParams params;
    params.scale = scaleToHalf(static_cast<float>(slope));
    double zero = code / n - value / n / halfToFloat(params.scale);
    if (!(std::fabs(zero) < 512))
      break;
    params.zero = floatToHalf(static_cast<float>(zero));
    if (!attempt(params))
      break;
  }
  return best;
}

float IntFormat::fitTensor(const float *values, int64_t n,
                           const FitOptions &options) const {
  float most = maxMagnitude(values, n);
  if (!(most > 0) || !std::isfinite(most))
    return 1.0f;
  if (width == 1)
    return meanMagnitude(values, n);
  if (!options.search)
    return most / (halfOdd ? 0.5f * top : (1 << (width - 1)) - 1);
  std::vector<float> ratios(values, values + n);
  for (float &ratio : ratios)
    ratio /= most;
  // A mirrored scale serves as well: the sign goes with it.
  return most * halfToFloat(fit(ratios.data(), n, options).scale);
}

GroupParams IntFormat::fit(const float *values, int64_t n,
                           const FitOptions &options) const {
  if (options.search && options.norm == SearchNorm::ByLength) {
    FitOptions chosen = options;
    bool isLong = o.group == 0 || o.group > kLongestOfSquares;
    chosen.norm = isLong && width > 1 ? SearchNorm::Cubes : SearchNorm::Squares;
    return fit(values, n, chosen);
  }
  bool cubes = options.norm == SearchNorm::Cubes;
  if (o.floatZero)
    return cubes ? freeFit<SearchNorm::Cubes>(values, n, options.search)
                 : freeFit<SearchNorm::Squares>(values, n, options.search);
  GroupParams plain = plainFit(values, n);
  if (!options.search || plain.scale == 0)
    return plain;
  if (halfOdd)
    return cubes
               ? searchFit<Levels::HalfOdd, SearchNorm::Cubes>(values, n, plain)
               : searchFit<Levels::HalfOdd, SearchNorm::Squares>(values, n,
                                                                 plain);
  return cubes
             ? searchFit<Levels::Whole, SearchNorm::Cubes>(values, n, plain)
             : searchFit<Levels::Whole, SearchNorm::Squares>(values, n, plain);
}

void IntFormat::nearestAll(const float *values, int64_t count,
                           GroupParams params, uint32_t *codes) const {
  float scale = scaleFor(params) * levelStep();
  Grid levels = grid(params.zero);
  auto all = [&](auto code) {
    for (int64_t i = 0; i < count; ++i)
      codes[i] = static_cast<int32_t>(code(values[i] / scale, levels));
  };
  if (scale == 0) // only of groups that are all 0
    std::fill(codes, codes + count, static_cast<uint32_t>(levels.offset));
  else if (o.floatZero)
    all(gridCode<Levels::Free>);
  else if (halfOdd)
    all(gridCode<Levels::HalfOdd>);
  else
    all(gridCode<Levels::Whole>);
}

static FormatRegistration registration(
    "int",
    "integers of 1 to 8 bits: "
    "int<B, group = G, zero | zero = float | half, tensor>",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      FormatArgReader reader(args);
      IntOptions options;
      int64_t bits = reader.number("bits", 1, 8);
      options.group = reader.option("group", 0, kMaxGroup, 0);
      std::string zero = reader.choiceOption("zero", {"int", "float"});
      options.zero = !zero.empty();
      options.floatZero = zero == "float";
      options.half = reader.flag("half");
      options.tensor = reader.flag("tensor");
      if (options.zero && options.half)
        reader.fail("'zero' and 'half' exclude each other");
      if (options.half && (bits == 1 || bits == 8))
        reader.fail("'half' takes 2 to 7 bits");
      if (options.tensor && (options.zero || options.group))
        reader.fail("'tensor' takes neither 'group' nor 'zero'");
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<IntFormat>(bits, options);
    });

QUENCH_BUILTIN_FORMAT(Int)
