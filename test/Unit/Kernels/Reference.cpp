//===- Reference.cpp - Scalar contractions --------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Reference.h"
#include <cmath>
#include <random>

using namespace quench;
using namespace quench::test;

/// A float of `e` bits of exponent and `m` of mantissa.
static float smallFloat(int bits, int e, int m, int bias) {
  int exponent = bits >> m & ((1 << e) - 1), mantissa = bits & ((1 << m) - 1);
  float value =
      exponent ? std::ldexp(float((1 << m) + mantissa), exponent - bias - m)
               : std::ldexp(float(mantissa), 1 - bias - m);
  return bits >> (e + m) & 1 ? -value : value;
}

static float halfOf(uint16_t half) { return smallFloat(half, 5, 10, 15); }

static float scaleOf(ScaleKind kind, uint16_t code) {
  switch (kind) {
  case ScaleKind::Half:
    break;
  case ScaleKind::E8M0:
    return std::ldexp(1.0f, code - 127);
  case ScaleKind::E4M3:
    return smallFloat(code, 4, 3, 7);
  case ScaleKind::E3M5:
    return smallFloat(code, 3, 5, 3);
  }
  return halfOf(code);
}

/// The code of scale 1.
static uint16_t oneOf(ScaleKind kind) {
  return kind == ScaleKind::Half   ? 0x3c00
         : kind == ScaleKind::E8M0 ? 127
         : kind == ScaleKind::E4M3 ? 0x38
                                   : 0x60;
}

Weight::Weight(const Format &format, int64_t n, int64_t k, uint32_t seed)
    : format(format), n(n), k(k), values(n * k) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  groups = format.hasScale() ? format.groupsPerRow(k) : 1;
  std::vector<float> real(n * k);
  for (float &v : real)
    v = 0.02f * normal(random);
  EncodedRows encoded = encodeNearest(format, real.data(), n, k, FitOptions());
  stream = packWeight(format, encoded);
  decodeRows(format, encoded, values.data());
  if (!format.isInteger())
    return;
  EncodedRows units = encoded;
  units.tensorScale = 1;
  tensorScale = encoded.tensorScale;
  for (GroupParams &params : units.params) {
    scales.push_back(scaleOf(format.scaleKind(), params.scale));
    if (format.hasFloatZero()) {
      zeros.push_back(halfOf(params.zero));
      params.zero = 0;
    }
    params.scale = oneOf(format.scaleKind());
  }
  decodeRows(format, units, real.data());
  for (float v : real)
    lanes.push_back(std::lround(v / format.unit()));
}

std::vector<float> test::randomRows(int64_t m, int64_t k, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(m * k);
  for (float &v : x)
    v = normal(random) * (random() % 97 ? 1 : 9);
  return x;
}

std::vector<float> test::referenceInt(const Weight &weight,
                                      const std::vector<float> &x, int64_t m) {
  const Format &format = weight.format;
  int64_t n = weight.n, k = weight.k;
  int64_t group = format.group() ? format.group() : k;
  std::vector<float> y(m * n);
  std::vector<int32_t> codes(k);
  for (int64_t i = 0; i < m; ++i) {
    float most = 1e-30f;
    for (int64_t c = 0; c < k; ++c)
      most = std::max(most, std::fabs(x[i * k + c]));
    float scale = most / 127.0f, inverse = 127.0f / most;
    for (int64_t c = 0; c < k; ++c)
      codes[c] = int32_t(std::nearbyint(x[i * k + c] * inverse));
    for (int64_t r = 0; r < n; ++r) {
      float sum = 0;
      for (int64_t g = 0; g * group < k; ++g) {
        int64_t total = 0, ones = 0;
        for (int64_t c = g * group; c < std::min(k, (g + 1) * group); ++c) {
          total += int64_t(weight.lanes[r * k + c]) * codes[c];
          ones -= codes[c];
        }
        float value = float(total);
        if (!weight.zeros.empty())
          value =
              std::fma(weight.zeros[r * weight.groups + g], float(ones), value);
        sum = format.group()
                  ? std::fma(value, weight.scales[r * weight.groups + g], sum)
                  : value;
      }
      sum *= scale * (weight.tensorScale * format.unit());
      if (!format.group() && format.hasScale())
        sum *= weight.scales[r];
      y[i * n + r] = sum;
    }
  }
  return y;
}

void test::referenceFloat(const Weight &weight, const std::vector<float> &x,
                          int64_t m, std::vector<double> &y,
                          std::vector<double> &magnitude) {
  int64_t n = weight.n, k = weight.k;
  y.assign(m * n, 0);
  magnitude.assign(m * n, 0);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t r = 0; r < n; ++r)
      for (int64_t c = 0; c < k; ++c) {
        double product = double(weight.values[r * k + c]) * x[i * k + c];
        y[i * n + r] += product;
        magnitude[i * n + r] += std::fabs(product);
      }
}
