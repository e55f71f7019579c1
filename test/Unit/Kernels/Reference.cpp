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

static float halfToFloat(uint16_t half) {
  int exponent = half >> 10 & 31, mantissa = half & 1023;
  float value = exponent ? std::ldexp(1024.0f + mantissa, exponent - 25)
                         : std::ldexp(float(mantissa), -24);
  return half & 0x8000 ? -value : value;
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
  for (GroupParams &params : units.params) {
    scales.push_back(halfToFloat(params.scale) * encoded.tensorScale);
    params.scale = 0x3c00; // 1
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
        int64_t total = 0;
        for (int64_t c = g * group; c < std::min(k, (g + 1) * group); ++c)
          total += int64_t(weight.lanes[r * k + c]) * codes[c];
        if (format.group())
          sum =
              std::fma(float(total), weight.scales[r * weight.groups + g], sum);
        else
          sum = float(total);
      }
      sum *= scale * format.unit();
      if (!format.group())
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
