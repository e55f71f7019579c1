//===- LevelFormat.cpp - Formats of a table of levels ---------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LevelFormat.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>
#include <numeric>

using namespace quench;

/// The largest scale that can be stored.
static float mostScale(ScaleKind kind) {
  return kind == ScaleKind::E4M3   ? 448.0f
         : kind == ScaleKind::E3M5 ? 31.5f
                                   : 1.0f;
}

LevelFormat::LevelFormat(LevelSpec spec) : s(std::move(spec)) {
  isLearned = s.levels.empty();
  width = isLearned ? 4 : llvm::Log2_64_Ceil(s.levels.size());
  if (s.tensor)
    s.group = 0;
  blockLayout = makeBlockLayout(bitStepLayout(width), s.group, 0,
                                scaleBits(s.scaleKind) / 8);
  if (!isLearned)
    setLevels();
}

void LevelFormat::setLevels() {
  std::vector<unsigned> order(s.levels.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](unsigned a, unsigned b) {
    return std::make_pair(s.levels[a], a) < std::make_pair(s.levels[b], b);
  });
  sorted.clear();
  codes.clear();
  limits.clear();
  for (unsigned code : order)
    if (sorted.empty() || s.levels[code] != sorted.back()) {
      sorted.push_back(s.levels[code]);
      codes.push_back(code);
    }
  for (size_t i = 0; i + 1 < sorted.size(); ++i) {
    float middle = 0.5f * (sorted[i] + sorted[i + 1]);
    // Ratios above the limit belong to the next level.
    if (s.tiesToEven && codes[i] % 2)
      middle = std::nextafter(middle, sorted[0]);
    limits.push_back(middle);
  }
  if (!isLearned)
    range = std::max(std::fabs(sorted.front()), std::fabs(sorted.back()));

  bytes.clear();
  factors.clear();
  halves.clear();
  bool fitsHalves = s.shape && s.shape->bits() < 8;
  for (float level : s.levels) {
    factors.push_back(level / unit());
    if (s.unit != 0) {
      factors.back() = std::nearbyint(factors.back());
      bytes.push_back(static_cast<uint8_t>(factors.back() + s.bias));
    }
    uint32_t code = kE5M2.encode(std::fabs(level), 0x7f);
    halves.push_back(code | (level < 0 ? 0x80 : 0));
    fitsHalves = fitsHalves && kE5M2.decode(halves.back()) == level;
  }
  if (!fitsHalves)
    halves.clear();
}

bool LevelFormat::hasTensorScale() const {
  return s.tensor || s.scaleKind == ScaleKind::E4M3 ||
         s.scaleKind == ScaleKind::E3M5;
}

//===----------------------------------------------------------------------===//
// Host codec
//===----------------------------------------------------------------------===//

void LevelFormat::ranksOf(const float *values, int64_t n, float scale,
                          int32_t *ranks) const {
  float ratios[kChunk];
  for (int64_t i = 0; i < n; ++i)
    ratios[i] = values[i] / scale;
  std::fill(ranks, ranks + n, 0);
  if (limits.size() <= 16) {
    for (float limit : limits)
      for (int64_t i = 0; i < n; ++i)
        ranks[i] += ratios[i] > limit;
    return;
  }
  for (int64_t i = 0; i < n; ++i)
    ranks[i] = std::lower_bound(limits.begin(), limits.end(), ratios[i]) -
               limits.begin();
}

uint32_t LevelFormat::nearest(const float *values, GroupParams params) const {
  uint32_t code;
  nearestAll(values, 1, params, &code);
  return code;
}

void LevelFormat::nearestAll(const float *values, int64_t count,
                             GroupParams params, uint32_t *out) const {
  float scale = scaleFor(params);
  int32_t ranks[kChunk];
  for (int64_t first = 0; first < count; first += kChunk) {
    int64_t n = std::min(kChunk, count - first);
    ranksOf(values + first, n, scale, ranks);
    for (int64_t i = 0; i < n; ++i)
      out[first + i] = codes[ranks[i]];
  }
}

void LevelFormat::decode(uint32_t code, GroupParams params,
                         float *values) const {
  values[0] = scaleFor(params) * s.levels[code & (s.levels.size() - 1)];
}

float LevelFormat::fitTensor(const float *values, int64_t n,
                             const FitOptions &) const {
  float most = maxMagnitude(values, n) / range;
  float scale = s.tensor ? most : most / mostScale(s.scaleKind);
  return scale > 0 && std::isfinite(scale) ? scale : 1.0f;
}

GroupParams LevelFormat::plainFit(float magnitude) const {
  GroupParams params;
  if (s.scaleKind != ScaleKind::E8M0) {
    params.scale = floatToScale(s.scaleKind, magnitude / range);
  } else if (magnitude > 0) {
    // The powers of two of the group's and of the table's largest magnitude.
    int power = std::ilogb(std::fmin(magnitude, 3.0e38f)) - std::ilogb(range);
    params.scale = std::clamp(power + 127, 1, mostPower());
  }
  if (params.scale == 0 &&
      std::binary_search(sorted.begin(), sorted.end(), 0.0f))
    params.scale = 1; // all zeros
  return params;
}

namespace {
/// The squared error of a group, and what gives the best scale for its levels.
struct LevelError {
  double error = 0, cross = 0, square = 0;
};
} // namespace

GroupParams LevelFormat::fit(const float *values, int64_t n,
                             const FitOptions &options) const {
  float magnitude = maxMagnitude(values, n);
  GroupParams best = plainFit(magnitude);
  if (!options.search || !(magnitude > 0))
    return best;
  auto errorOf = [&](GroupParams params) {
    LevelError sum;
    float scale = scaleOf(params);
    int32_t ranks[kChunk];
    for (int64_t first = 0; first < n; first += kChunk) {
      int64_t count = std::min(kChunk, n - first);
      ranksOf(values + first, count, scale, ranks);
      for (int64_t i = 0; i < count; ++i) {
        double value = values[first + i], level = sorted[ranks[i]];
        double miss = value - scale * level;
        sum.error += miss * miss;
        sum.cross += value * level;
        sum.square += level * level;
      }
    }
    return sum;
  };
  LevelError least = errorOf(best);
  auto attempt = [&](uint16_t code) {
    if (code == best.scale)
      return;
    GroupParams params;
    params.scale = code;
    LevelError now = errorOf(params);
    if (now.error < least.error) {
      least = now;
      best = params;
    }
  };
  if (s.scaleKind == ScaleKind::E8M0) {
    for (int change : {-1, 1})
      attempt(std::clamp(plainFit(magnitude).scale + change, 1, mostPower()));
    return best;
  }
  // Many levels are as good at one scale as at half of it.
  int tries = width > 4 ? 8 : 32;
  float plain = magnitude / range, step = width > 4 ? 0.06f : 0.015f;
  for (int i = 0; i < tries; ++i)
    attempt(floatToScale(s.scaleKind, plain * (1.08f - step * i)));
  // The best scale for the levels found, as long as that helps.
  for (int round = 0; round < 4 && least.square > 0; ++round) {
    double before = least.error;
    attempt(floatToScale(s.scaleKind,
                         static_cast<float>(least.cross / least.square)));
    if (!(least.error < before))
      break;
  }
  return best;
}

//===----------------------------------------------------------------------===//
// Learned tables
//===----------------------------------------------------------------------===//

std::unique_ptr<Format> LevelFormat::bind(llvm::ArrayRef<uint8_t> table) const {
  if (!isLearned || table.size() < 32)
    return nullptr;
  auto bound = std::make_unique<LevelFormat>(s);
  for (int i = 0; i < 16; ++i)
    bound->s.levels.push_back(
        halfToFloat(table[2 * i] | table[2 * i + 1] << 8));
  bound->setLevels();
  return bound;
}

/// A start for Lloyd's algorithm: as many levels in a place as the cube root of
/// its density asks for.
static std::vector<float> startLevels(llvm::ArrayRef<double> weights,
                                      float end) {
  int64_t bins = weights.size();
  double total = 0, sum = 0;
  for (double weight : weights)
    total += std::cbrt(weight);
  std::vector<float> levels;
  for (int64_t bin = 0; bin < bins; ++bin) {
    sum += std::cbrt(weights[bin]);
    while (levels.size() < 16 && sum > (levels.size() + 0.5) / 16 * total)
      levels.push_back((bin + 0.5f) * (2 * end / bins) - end);
  }
  levels.resize(16, end);
  return levels;
}

static std::vector<uint8_t> tableOf(llvm::ArrayRef<float> levels) {
  std::vector<uint8_t> table;
  for (float level : levels) {
    uint16_t half = floatToHalf(level);
    table.push_back(half & 0xff);
    table.push_back(half >> 8);
  }
  return table;
}

/// Lloyd's algorithm on a histogram of all values over their scales, each
/// counting with the square of its scale; with a search of the scales, both
/// alternate.
std::vector<uint8_t> LevelFormat::fitTable(const float *values, int64_t rows,
                                           int64_t cols,
                                           const FitOptions &options) const {
  if (!isLearned)
    return {};
  constexpr int64_t kBins = 8192;
  constexpr int64_t kMostValues = 1 << 20;
  constexpr float kEnd = 1.25f; // of the histogram
  std::vector<float> levels(16, 1.0f);
  int64_t span = s.group == 0 ? cols : s.group;
  int64_t every = std::max<int64_t>(1, rows * cols / kMostValues);
  for (int round = 0; round < (options.search ? 3 : 1); ++round) {
    std::unique_ptr<Format> bound = bind(tableOf(levels));
    std::vector<double> weights(kBins), sums(kBins);
    FitOptions used = options;
    used.search = options.search && round > 0;
    for (int64_t row = 0; row < rows; row += every)
      for (int64_t first = 0; first < cols; first += span) {
        const float *group = values + row * cols + first;
        int64_t n = std::min(span, cols - first);
        float scale = bound->scaleOf(bound->fit(group, n, used));
        if (!(scale > 0))
          continue;
        double weight = double(scale) * scale;
        for (int64_t i = 0; i < n; ++i) {
          float ratio = std::fmax(-kEnd, std::fmin(kEnd, group[i] / scale));
          int64_t bin = std::min<int64_t>(kBins - 1, (ratio + kEnd) *
                                                         (kBins / (2 * kEnd)));
          weights[bin] += weight;
          sums[bin] += weight * ratio;
        }
      }
    if (round == 0)
      levels = startLevels(weights, kEnd);
    for (int iteration = 0; iteration < 200; ++iteration) {
      double moved = 0;
      int64_t bin = 0;
      for (int i = 0; i < 16; ++i) {
        double limit = i < 15 ? 0.5 * (levels[i] + levels[i + 1]) : 2 * kEnd;
        double weight = 0, sum = 0;
        for (; bin < kBins; ++bin) {
          if ((bin + 0.5) * (2 * kEnd / kBins) - kEnd > limit)
            break;
          weight += weights[bin];
          sum += sums[bin];
        }
        if (weight > 0) {
          moved = std::max(moved, std::fabs(sum / weight - levels[i]));
          levels[i] = static_cast<float>(sum / weight);
        }
      }
      if (moved < 1e-6)
        break;
    }
  }
  return tableOf(levels);
}

//===----------------------------------------------------------------------===//
// Decode in registers
//===----------------------------------------------------------------------===//

void LevelFormat::decodeStep(RegisterBuilder &builder, int64_t offset, bool,
                             llvm::SmallVectorImpl<Plane> &planes) const {
  if (s.unit == 0)
    return;
  unsigned hi = *std::max_element(bytes.begin(), bytes.end());
  if (width == 4) {
    for (unsigned line = 0; line < 4; ++line) {
      // A lookup of 16 entries ignores the high bits of its index.
      Reg low = builder.load(offset + 64 * line);
      Reg high = builder.field(low, 4, 4, 0);
      planes.push_back({builder.lookup(bytes, low), 2 * line, 0, hi});
      planes.push_back({builder.lookup(bytes, high), 2 * line + 1, 0, hi});
    }
    return;
  }
  size_t first = planes.size();
  decodeBitStep(builder, offset, width, 0, /*inPlace=*/false, planes);
  for (Plane &plane : llvm::MutableArrayRef<Plane>(planes).drop_front(first)) {
    plane.value = builder.lookup(bytes, plane.value);
    plane.hi = hi;
  }
}

void LevelFormat::decodeFloatStep(
    RegisterBuilder &builder, int64_t offset,
    llvm::SmallVectorImpl<FloatPlane> &planes) const {
  if (width == 4) {
    FloatReg table;
    if (isLearned)
      table = builder.loadTableFloats(0, FloatKind::F16);
    for (unsigned line = 0; line < 4; ++line) {
      Reg low = builder.load(offset + 64 * line);
      Reg high = builder.field(low, 4, 4, 0);
      for (unsigned half = 0; half < 2; ++half)
        for (unsigned column = 0; column < 4; ++column) {
          Reg index = half ? high : low;
          planes.push_back({isLearned
                                ? builder.lookupFloats(table, index, column)
                                : builder.lookupFloats(factors, index, column),
                            8 * line + 4 * half + column});
        }
    }
    return;
  }
  if (!s.shape)
    return Format::decodeFloatStep(builder, offset, planes);
  llvm::SmallVector<Plane, 16> quads;
  decodeBitStep(builder, offset, width, 0, /*inPlace=*/false, quads);
  bool isScaled = s.unit != 0;
  for (Plane &quad : quads) {
    Reg value = quad.value;
    if (isScaled)
      value = builder.lookup(bytes, value);
    else if (!halves.empty())
      value = builder.lookup(halves, value);
    for (unsigned column = 0; column < 4; ++column) {
      FloatReg floats =
          isScaled ? builder.toFloats(value, column, s.bias)
                   : builder.minifloats(value, column,
                                        halves.empty() ? *s.shape : kE5M2);
      planes.push_back({floats, 4 * quad.quad + column});
    }
  }
}
