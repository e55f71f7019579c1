//===- Scales.h - How scales are stored -------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Scales of groups are halves, or bytes of one of three kinds. Small floats of
// any shape (the elements of fp8 and of microscaling formats) are here too.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_SCALES_H
#define QUENCH_QUANTIZATION_SCALES_H

#include "quench/Quantization/Half.h"
#include <algorithm>
#include <cmath>

namespace quench {

/// How the scale of a group is stored.
enum class ScaleKind {
  Half, // IEEE half; may be negative
  E8M0, // a power of two, 2^(code - 127): OCP microscaling
  E4M3, // OCP E4M3FN without sign, at most 448; for formats with tensor scale
  E3M5, // 3 bits of exponent (bias 3), 5 of mantissa, no sign, at most 31.5:
        // 1.6 % apart over 7 octaves; for formats with tensor scale
};

/// Bits that a scale takes in a stream.
constexpr unsigned scaleBits(ScaleKind kind) {
  return kind == ScaleKind::Half ? 16 : 8;
}

/// E4M3 and E3M5 are the upper mantissa bits of halves: half(code << shift) *
/// factor.
constexpr unsigned scaleShift(ScaleKind kind) {
  return kind == ScaleKind::E4M3 ? 7 : kind == ScaleKind::E3M5 ? 5 : 0;
}
constexpr float scaleFactor(ScaleKind kind) {
  return kind == ScaleKind::E4M3   ? 256.0f
         : kind == ScaleKind::E3M5 ? 4096.0f
                                   : 1.0f;
}

/// Bits of exponent and mantissa of a small float, below a sign bit. The bias
/// of the exponent is 2^(exponent - 1) - 1; exponent 0 is subnormal. There are
/// no infinities: codes above those that a format uses are plain numbers.
struct Minifloat {
  unsigned exponent, mantissa;

  constexpr unsigned bits() const { return 1 + exponent + mantissa; }
  constexpr int bias() const { return (1 << (exponent - 1)) - 1; }
  /// The number of a code. Bits above bits() do not count.
  float decode(uint32_t code) const {
    int e = code >> mantissa & ((1u << exponent) - 1);
    float m = static_cast<float>(code & ((1u << mantissa) - 1));
    float value =
        e == 0 ? std::ldexp(m, 1 - bias() - int(mantissa))
               : std::ldexp(m + (1u << mantissa), e - bias() - int(mantissa));
    return code >> (exponent + mantissa) & 1 ? -value : value;
  }
  /// The nearest code of value >= 0, ties to even, at most `top`.
  uint32_t encode(float value, uint32_t top) const {
    float most = decode(top);
    if (!(value < most))
      return value > 0 ? top : 0;
    if (!(value > 0))
      return 0;
    int power = std::max(std::ilogb(value), 1 - bias()) - int(mantissa);
    // The product is exact, and small enough for a rounding by addition.
    float steps = (std::ldexp(value, -power) + 12582912.0f) - 12582912.0f;
    // Steps that reach the next power of two carry into the exponent.
    uint32_t exponentCode = power + int(mantissa) - (1 - bias());
    return static_cast<uint32_t>(steps) + (exponentCode << mantissa);
  }
};

constexpr Minifloat kBFloat16{8, 7};
constexpr Minifloat kE2M1{2, 1}, kE2M3{2, 3}, kE3M2{3, 2}, kE4M3{4, 3},
    kE5M2{5, 2};

/// What a stored scale is worth.
inline float scaleToFloat(ScaleKind kind, uint16_t code) {
  switch (kind) {
  case ScaleKind::Half:
    break;
  case ScaleKind::E8M0:
    return std::ldexp(1.0f, int(code & 255) - 127);
  case ScaleKind::E4M3:
    return kE4M3.decode(code & 127);
  case ScaleKind::E3M5:
    return scaleFactor(kind) * halfToFloat((code & 255) << scaleShift(kind));
  }
  return halfToFloat(code);
}

/// The nearest scale that can be stored (E8M0: the ratio decides): finite, and
/// not 0 unless `scale` is no positive number.
inline uint16_t floatToScale(ScaleKind kind, float scale) {
  if (kind == ScaleKind::Half)
    return scaleToHalf(scale);
  if (!(scale > 0))
    return 0;
  if (kind == ScaleKind::E8M0) {
    scale = std::fmax(0x1p-120f, std::fmin(scale, 0x1p120f));
    int power = std::ilogb(scale);
    if (std::ldexp(scale, -power) > 1.41421356f)
      ++power;
    return power + 127;
  }
  uint32_t code = kind == ScaleKind::E4M3 ? kE4M3.encode(scale, 0x7e)
                                          : Minifloat{3, 5}.encode(scale, 255);
  return code == 0 ? 1 : code;
}

} // namespace quench

#endif // QUENCH_QUANTIZATION_SCALES_H
