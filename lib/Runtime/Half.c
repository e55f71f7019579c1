/*===- Half.c - Conversions that LLVM calls on old processors -----*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

/* Without F16C, LLVM turns conversions of 16-bit floats into calls. Values
   cross in the low 16 bits of a vector register, for which _Float16 stands
   here; the arithmetic is on integers. */

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)

static _Float16 as_half(uint16_t bits) {
  _Float16 half;
  memcpy(&half, &bits, 2);
  return half;
}

/* value / 2^shift, to the nearest, ties to even. */
static uint64_t round_shift(uint64_t value, int shift) {
  if (shift > 62)
    return 0;
  uint64_t rest = value & ((1ull << shift) - 1), half = 1ull << (shift - 1);
  value >>= shift;
  return value + (rest > half || (rest == half && (value & 1)));
}

/* The narrow float with `mantissa` and `exponent` bits nearest to a double. */
static uint16_t narrow(double wide, int exponent, int mantissa) {
  uint64_t bits;
  memcpy(&bits, &wide, 8);
  uint16_t sign = (uint16_t)(bits >> 63 << 15);
  uint64_t fraction = bits & ((1ull << 52) - 1);
  int field = (int)(bits >> 52 & 0x7ff);
  int bias = (1 << (exponent - 1)) - 1;
  uint16_t infinity = (uint16_t)(((1 << exponent) - 1) << mantissa);
  if (field == 0x7ff)
    return sign | infinity |
           (fraction
                ? (uint16_t)(1 << (mantissa - 1) | fraction >> (52 - mantissa))
                : 0);
  if (!field)
    return sign; /* below the smallest of any narrow format */
  int power = field - 1023;
  if (power > bias)
    return sign | infinity;
  uint64_t significand = fraction | 1ull << 52;
  if (power < 1 - bias)
    return sign | (uint16_t)round_shift(significand,
                                        52 - mantissa + (1 - bias - power));
  /* A carry out of the fraction goes into the exponent, as it must. */
  return sign | (uint16_t)(((uint64_t)(power + bias - 1) << mantissa) +
                           round_shift(significand, 52 - mantissa));
}

float __extendhfsf2(_Float16 half) {
  uint16_t bits;
  memcpy(&bits, &half, 2);
  uint32_t sign = (uint32_t)(bits >> 15) << 31, field = bits >> 10 & 31,
           fraction = bits & 1023;
  float result;
  if (!field) {
    result = (float)fraction * 0x1p-24f;
    return sign ? -result : result;
  }
  uint32_t wide =
      sign | fraction << 13 | (field == 31 ? 255 : field + 112) << 23;
  if (field == 31 && fraction)
    wide |= 1u << 22;
  memcpy(&result, &wide, 4);
  return result;
}

_Float16 __truncsfhf2(float value) { return as_half(narrow(value, 5, 10)); }
_Float16 __truncdfhf2(double value) { return as_half(narrow(value, 5, 10)); }
_Float16 __truncsfbf2(float value) { return as_half(narrow(value, 8, 7)); }
_Float16 __truncdfbf2(double value) { return as_half(narrow(value, 8, 7)); }

#endif
