//===- Half.h - 16-bit floats -----------------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// IEEE half and bfloat16, rounded to nearest, ties to even. The same on every
// machine.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_HALF_H
#define QUENCH_QUANTIZATION_HALF_H

#include <cstdint>
#include <cstring>

namespace quench {

inline uint32_t floatBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float bitsFloat(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// The half nearest to `value`; overflow gives infinity, NaN stays NaN.
inline uint16_t floatToHalf(float value) {
  uint32_t bits = floatBits(value);
  uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x477ff000) // rounds to 2^16, infinite, or NaN
    return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (magnitude < 0x38800000) // subnormal: the addition rounds at 2^-24
    return sign | (floatBits(bitsFloat(magnitude) + 0.5f) - 0x3f000000);
  magnitude += 0xfff + (magnitude >> 13 & 1);
  return sign | (magnitude - 0x38000000) >> 13;
}

inline float halfToFloat(uint16_t half) {
  uint32_t sign = uint32_t(half & 0x8000) << 16, magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00)
    return bitsFloat(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  if (magnitude < 0x400) {
    float value = float(magnitude) * 0x1p-24f;
    return sign ? -value : value;
  }
  return bitsFloat(sign | ((magnitude << 13) + 0x38000000));
}

/// The bfloat16 nearest to `value`; NaN stays NaN.
inline uint16_t floatToBfloat(float value) {
  uint32_t bits = floatBits(value);
  if ((bits & 0x7fffffff) > 0x7f800000)
    return bits >> 16 | 0x40;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline float bfloatToFloat(uint16_t bits) {
  return bitsFloat(uint32_t(bits) << 16);
}

/// The half that is stored as a scale: finite, and not 0 unless `scale` is 0.
inline uint16_t scaleToHalf(float scale) {
  if (!(scale > 0))
    return 0;
  uint16_t half = floatToHalf(scale);
  return half == 0 ? 1 : half > 0x7bff ? 0x7bff : half;
}

} // namespace quench

#endif // QUENCH_QUANTIZATION_HALF_H
