//===- Kernels.cpp - Scalar ops over chunks ---------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Tape.h"
#include "quench/Quantization/Half.h"
#include "llvm/ADT/StringMap.h"
#include <cmath>
#include <limits>

using namespace llvm;
using namespace quench;

//===----------------------------------------------------------------------===//
// Floats: one template for float and double
//===----------------------------------------------------------------------===//

#define QUENCH_KERNEL_ARGS                                                     \
  void *dst, const void *a, const void *b, const void *c, int64_t n, int64_t imm

#define QUENCH_FLOAT_KERNEL(NAME, EXPR)                                        \
  template <typename T> static void NAME(QUENCH_KERNEL_ARGS) {                 \
    T *out = static_cast<T *>(dst);                                            \
    [[maybe_unused]] const T *pa = static_cast<const T *>(a);                  \
    [[maybe_unused]] const T *pb = static_cast<const T *>(b);                  \
    [[maybe_unused]] const T *pc = static_cast<const T *>(c);                  \
    for (int64_t i = 0; i < n; ++i) {                                          \
      [[maybe_unused]] T x = pa[i];                                            \
      [[maybe_unused]] T y = b ? pb[i] : T(0);                                 \
      [[maybe_unused]] T z = c ? pc[i] : T(0);                                 \
      out[i] = EXPR;                                                           \
    }                                                                          \
  }

template <typename T> static T maximumOf(T x, T y) {
  return std::isnan(x) ? x : std::isnan(y) ? y : x < y ? y : x;
}
template <typename T> static T minimumOf(T x, T y) {
  return std::isnan(x) ? x : std::isnan(y) ? y : y < x ? y : x;
}
template <typename T> static T power(T x, uint64_t e) {
  T result = 1;
  for (; e; e >>= 1, x *= x)
    if (e & 1)
      result *= x;
  return result;
}
template <typename T> static T floatPower(T x, int64_t p) {
  return p < 0 ? T(1) / power(x, 0 - static_cast<uint64_t>(p)) : power(x, p);
}
static int64_t intPower(int64_t x, int64_t p) {
  if (p < 0) // 1 / x^-p, cut off
    return x == 1 ? 1 : x == -1 ? (p % 2 ? -1 : 1) : 0;
  return static_cast<int64_t>(power(static_cast<uint64_t>(x), p));
}

QUENCH_FLOAT_KERNEL(addF, x + y)
QUENCH_FLOAT_KERNEL(subF, x - y)
QUENCH_FLOAT_KERNEL(mulF, x *y)
QUENCH_FLOAT_KERNEL(divF, x / y)
QUENCH_FLOAT_KERNEL(remF, std::fmod(x, y))
QUENCH_FLOAT_KERNEL(negF, -x)
QUENCH_FLOAT_KERNEL(maximumF, maximumOf(x, y))
QUENCH_FLOAT_KERNEL(minimumF, minimumOf(x, y))
QUENCH_FLOAT_KERNEL(maxnumF, std::fmax(x, y))
QUENCH_FLOAT_KERNEL(minnumF, std::fmin(x, y))
QUENCH_FLOAT_KERNEL(fmaF, std::fma(x, y, z))
QUENCH_FLOAT_KERNEL(absF, std::fabs(x))
QUENCH_FLOAT_KERNEL(expF, std::exp(x))
QUENCH_FLOAT_KERNEL(exp2F, std::exp2(x))
QUENCH_FLOAT_KERNEL(expm1F, std::expm1(x))
QUENCH_FLOAT_KERNEL(logF, std::log(x))
QUENCH_FLOAT_KERNEL(log2F, std::log2(x))
QUENCH_FLOAT_KERNEL(log10F, std::log10(x))
QUENCH_FLOAT_KERNEL(log1pF, std::log1p(x))
QUENCH_FLOAT_KERNEL(sqrtF, std::sqrt(x))
QUENCH_FLOAT_KERNEL(rsqrtF, T(1) / std::sqrt(x))
QUENCH_FLOAT_KERNEL(cbrtF, std::cbrt(x))
QUENCH_FLOAT_KERNEL(sinF, std::sin(x))
QUENCH_FLOAT_KERNEL(cosF, std::cos(x))
QUENCH_FLOAT_KERNEL(tanF, std::tan(x))
QUENCH_FLOAT_KERNEL(asinF, std::asin(x))
QUENCH_FLOAT_KERNEL(acosF, std::acos(x))
QUENCH_FLOAT_KERNEL(atanF, std::atan(x))
QUENCH_FLOAT_KERNEL(atan2F, std::atan2(x, y))
QUENCH_FLOAT_KERNEL(sinhF, std::sinh(x))
QUENCH_FLOAT_KERNEL(coshF, std::cosh(x))
QUENCH_FLOAT_KERNEL(tanhF, std::tanh(x))
QUENCH_FLOAT_KERNEL(asinhF, std::asinh(x))
QUENCH_FLOAT_KERNEL(acoshF, std::acosh(x))
QUENCH_FLOAT_KERNEL(atanhF, std::atanh(x))
QUENCH_FLOAT_KERNEL(powF, std::pow(x, y))
QUENCH_FLOAT_KERNEL(erfF, std::erf(x))
QUENCH_FLOAT_KERNEL(erfcF, std::erfc(x))
QUENCH_FLOAT_KERNEL(ceilF, std::ceil(x))
QUENCH_FLOAT_KERNEL(floorF, std::floor(x))
QUENCH_FLOAT_KERNEL(roundF, std::round(x))
QUENCH_FLOAT_KERNEL(roundevenF, std::nearbyint(x))
QUENCH_FLOAT_KERNEL(truncF, std::trunc(x))
QUENCH_FLOAT_KERNEL(copysignF, std::copysign(x, y))

//===----------------------------------------------------------------------===//
// Integers: on int64, narrow ones are wrapped afterwards
//===----------------------------------------------------------------------===//

#define QUENCH_INT_KERNEL(NAME, EXPR)                                          \
  static void NAME(QUENCH_KERNEL_ARGS) {                                       \
    int64_t *out = static_cast<int64_t *>(dst);                                \
    const int64_t *pa = static_cast<const int64_t *>(a);                       \
    const int64_t *pb = static_cast<const int64_t *>(b);                       \
    for (int64_t i = 0; i < n; ++i) {                                          \
      [[maybe_unused]] int64_t x = pa[i];                                      \
      [[maybe_unused]] int64_t y = b ? pb[i] : 0;                              \
      [[maybe_unused]] uint64_t ux = x, uy = y;                                \
      out[i] = EXPR;                                                           \
    }                                                                          \
  }

/// The low `width` bits, unsigned.
static uint64_t low(uint64_t x, int64_t width) {
  return width >= 64 ? x : x & ((uint64_t(1) << width) - 1);
}
static bool divisible(int64_t x, int64_t y) {
  return y != 0 && !(x == std::numeric_limits<int64_t>::min() && y == -1);
}
static int64_t floorDiv(int64_t x, int64_t y) {
  if (!divisible(x, y))
    return 0;
  int64_t q = x / y;
  return q - (x % y != 0 && (x < 0) != (y < 0));
}
static int64_t ceilDiv(int64_t x, int64_t y) {
  if (!divisible(x, y))
    return 0;
  int64_t q = x / y;
  return q + (x % y != 0 && (x < 0) == (y < 0));
}
static int64_t shiftLeft(uint64_t x, uint64_t y) { return y < 64 ? x << y : 0; }

QUENCH_INT_KERNEL(addI, int64_t(ux + uy))
QUENCH_INT_KERNEL(subI, int64_t(ux - uy))
QUENCH_INT_KERNEL(mulI, int64_t(ux *uy))
QUENCH_INT_KERNEL(divsI, divisible(x, y) ? x / y : 0)
QUENCH_INT_KERNEL(remsI, divisible(x, y) ? x % y : 0)
QUENCH_INT_KERNEL(divuI, low(uy, imm) ? low(ux, imm) / low(uy, imm) : 0)
QUENCH_INT_KERNEL(remuI, low(uy, imm) ? low(ux, imm) % low(uy, imm) : 0)
QUENCH_INT_KERNEL(ceildivuI, low(uy, imm)
                                 ? low(ux, imm) / low(uy, imm) +
                                       (low(ux, imm) % low(uy, imm) != 0)
                                 : 0)
QUENCH_INT_KERNEL(ceildivsI, ceilDiv(x, y))
QUENCH_INT_KERNEL(floordivsI, floorDiv(x, y))
QUENCH_INT_KERNEL(andI, x &y)
QUENCH_INT_KERNEL(orI, x | y)
QUENCH_INT_KERNEL(xorI, x ^ y)
QUENCH_INT_KERNEL(shlI, shiftLeft(ux, uy))
QUENCH_INT_KERNEL(shrsI, x >> (uy < 63 ? uy : 63))
QUENCH_INT_KERNEL(shruI, uy < 64 ? int64_t(low(ux, imm) >> uy) : 0)
QUENCH_INT_KERNEL(minsI, x < y ? x : y)
QUENCH_INT_KERNEL(maxsI, x < y ? y : x)
QUENCH_INT_KERNEL(minuI, low(ux, imm) < low(uy, imm) ? x : y)
QUENCH_INT_KERNEL(maxuI, low(ux, imm) < low(uy, imm) ? y : x)
QUENCH_INT_KERNEL(absI, x < 0 ? int64_t(0 - ux) : x)
QUENCH_INT_KERNEL(copyI, x)
QUENCH_INT_KERNEL(zextI, int64_t(low(ux, imm)))
QUENCH_INT_KERNEL(negateI, -x)
QUENCH_INT_KERNEL(wrapI,
                  imm == 1 ? x & 1 : int64_t(ux << (64 - imm)) >> (64 - imm))
QUENCH_INT_KERNEL(powI, intPower(x, y))

// Euclidean remainder, of affine expressions.
QUENCH_INT_KERNEL(modI, x - floorDiv(x, y) * y)

//===----------------------------------------------------------------------===//
// Casts, comparisons, select
//===----------------------------------------------------------------------===//

#define QUENCH_CAST_KERNEL(NAME, FROM, TO, EXPR)                               \
  static void NAME(QUENCH_KERNEL_ARGS) {                                       \
    TO *out = static_cast<TO *>(dst);                                          \
    const FROM *pa = static_cast<const FROM *>(a);                             \
    for (int64_t i = 0; i < n; ++i) {                                          \
      FROM x = pa[i];                                                          \
      out[i] = EXPR;                                                           \
    }                                                                          \
  }

/// To an integer of `width` bits: cut off, saturated, NaN is 0.
template <typename T> static int64_t toSigned(T x, int64_t width) {
  double d = x, bound = std::ldexp(1.0, width - 1);
  if (std::isnan(d))
    return 0;
  if (d >= bound)
    return width >= 64 ? std::numeric_limits<int64_t>::max()
                       : (int64_t(1) << (width - 1)) - 1;
  if (d <= -bound)
    return width >= 64 ? std::numeric_limits<int64_t>::min()
                       : -(int64_t(1) << (width - 1));
  return static_cast<int64_t>(d);
}
template <typename T> static int64_t toUnsigned(T x, int64_t width) {
  double d = x;
  if (std::isnan(d) || d <= 0)
    return 0;
  if (d >= std::ldexp(1.0, width))
    return low(~uint64_t(0), width);
  return static_cast<int64_t>(static_cast<uint64_t>(d));
}

QUENCH_CAST_KERNEL(copyFloat, float, float, x)
QUENCH_CAST_KERNEL(copyDouble, double, double, x)
QUENCH_CAST_KERNEL(floatToDouble, float, double, x)
QUENCH_CAST_KERNEL(doubleToFloat, double, float, static_cast<float>(x))
QUENCH_CAST_KERNEL(floatToSigned, float, int64_t, toSigned(x, imm))
QUENCH_CAST_KERNEL(doubleToSigned, double, int64_t, toSigned(x, imm))
QUENCH_CAST_KERNEL(floatToUnsigned, float, int64_t, toUnsigned(x, imm))
QUENCH_CAST_KERNEL(doubleToUnsigned, double, int64_t, toUnsigned(x, imm))
QUENCH_CAST_KERNEL(signedToFloat, int64_t, float, static_cast<float>(x))
QUENCH_CAST_KERNEL(signedToDouble, int64_t, double, static_cast<double>(x))
QUENCH_CAST_KERNEL(bitToFloat, int64_t, float, static_cast<float>(-x))
QUENCH_CAST_KERNEL(bitToDouble, int64_t, double, static_cast<double>(-x))
QUENCH_CAST_KERNEL(unsignedToFloat, int64_t, float,
                   static_cast<float>(low(x, imm)))
QUENCH_CAST_KERNEL(unsignedToDouble, int64_t, double,
                   static_cast<double>(low(x, imm)))
QUENCH_CAST_KERNEL(isnanFloat, float, int64_t, std::isnan(x))
QUENCH_CAST_KERNEL(isnanDouble, double, int64_t, std::isnan(x))
QUENCH_CAST_KERNEL(isinfFloat, float, int64_t, std::isinf(x))
QUENCH_CAST_KERNEL(isinfDouble, double, int64_t, std::isinf(x))
QUENCH_CAST_KERNEL(isfiniteFloat, float, int64_t, std::isfinite(x))
QUENCH_CAST_KERNEL(isfiniteDouble, double, int64_t, std::isfinite(x))
QUENCH_CAST_KERNEL(floatBitsOf, float, int64_t, int32_t(floatBits(x)))
QUENCH_CAST_KERNEL(floatOfBits, int64_t, float, bitsFloat(uint32_t(x)))

template <typename T> static void floatPowI(QUENCH_KERNEL_ARGS) {
  for (int64_t i = 0; i < n; ++i)
    static_cast<T *>(dst)[i] = floatPower(static_cast<const T *>(a)[i],
                                          static_cast<const int64_t *>(b)[i]);
}

/// imm: the predicate of arith.cmpf.
template <typename T> static void compareF(QUENCH_KERNEL_ARGS) {
  const T *pa = static_cast<const T *>(a), *pb = static_cast<const T *>(b);
  int64_t *out = static_cast<int64_t *>(dst);
  // Bits: equal 1, greater 2, less 4, unordered 8, as in the order of arith's
  // ordered (1 to 7) and unordered (8 to 14) predicates.
  static const uint8_t masks[16] = {0, 1,  2,  3,  4,  5,  6, 7,
                                    9, 10, 11, 12, 13, 14, 8, 15};
  uint8_t mask = masks[imm & 15];
  for (int64_t i = 0; i < n; ++i) {
    T x = pa[i], y = pb[i];
    uint8_t relation = x == y ? 1 : x > y ? 2 : x < y ? 4 : 8;
    out[i] = (relation & mask) != 0;
  }
}

/// imm: the predicate of arith.cmpi, and the width in the bits above.
static void compareI(QUENCH_KERNEL_ARGS) {
  const int64_t *pa = static_cast<const int64_t *>(a),
                *pb = static_cast<const int64_t *>(b);
  int64_t *out = static_cast<int64_t *>(dst);
  int64_t predicate = imm & 15, width = imm >> 4;
  bool isUnsigned = predicate >= 6;
  static const uint8_t masks[10] = {1, 6, 4, 5, 2, 3, 4, 5, 2, 3};
  uint8_t mask = predicate < 10 ? masks[predicate] : 0;
  for (int64_t i = 0; i < n; ++i) {
    int64_t x = pa[i], y = pb[i];
    if (isUnsigned) {
      // Order of unsigned numbers on signed ones.
      x = int64_t(low(x, width) ^ (uint64_t(1) << 63));
      y = int64_t(low(y, width) ^ (uint64_t(1) << 63));
    } else if (width == 1) {
      x = -x, y = -y; // a set bit is -1
    }
    uint8_t relation = x == y ? 1 : x > y ? 2 : 4;
    out[i] = (relation & mask) != 0;
  }
}

template <typename T> static void selectOf(QUENCH_KERNEL_ARGS) {
  const int64_t *condition = static_cast<const int64_t *>(a);
  for (int64_t i = 0; i < n; ++i)
    static_cast<T *>(dst)[i] = condition[i] ? static_cast<const T *>(b)[i]
                                            : static_cast<const T *>(c)[i];
}

QUENCH_CAST_KERNEL(roundHalf, float, float, halfToFloat(floatToHalf(x)))
QUENCH_CAST_KERNEL(roundBfloat, float, float, bfloatToFloat(floatToBfloat(x)))

//===----------------------------------------------------------------------===//
// Tables
//===----------------------------------------------------------------------===//

namespace {
struct FloatKernels {
  Kernel single, twice;
};
} // namespace

#define QUENCH_BOTH(NAME)                                                      \
  FloatKernels { NAME<float>, NAME<double> }

static const StringMap<FloatKernels> &floatTable() {
  static const StringMap<FloatKernels> table = {
      {"arith.addf", QUENCH_BOTH(addF)},
      {"arith.subf", QUENCH_BOTH(subF)},
      {"arith.mulf", QUENCH_BOTH(mulF)},
      {"arith.divf", QUENCH_BOTH(divF)},
      {"arith.remf", QUENCH_BOTH(remF)},
      {"arith.negf", QUENCH_BOTH(negF)},
      {"arith.maximumf", QUENCH_BOTH(maximumF)},
      {"arith.minimumf", QUENCH_BOTH(minimumF)},
      {"arith.maxnumf", QUENCH_BOTH(maxnumF)},
      {"arith.minnumf", QUENCH_BOTH(minnumF)},
      {"math.fma", QUENCH_BOTH(fmaF)},
      {"math.absf", QUENCH_BOTH(absF)},
      {"math.exp", QUENCH_BOTH(expF)},
      {"math.exp2", QUENCH_BOTH(exp2F)},
      {"math.expm1", QUENCH_BOTH(expm1F)},
      {"math.log", QUENCH_BOTH(logF)},
      {"math.log2", QUENCH_BOTH(log2F)},
      {"math.log10", QUENCH_BOTH(log10F)},
      {"math.log1p", QUENCH_BOTH(log1pF)},
      {"math.sqrt", QUENCH_BOTH(sqrtF)},
      {"math.rsqrt", QUENCH_BOTH(rsqrtF)},
      {"math.cbrt", QUENCH_BOTH(cbrtF)},
      {"math.sin", QUENCH_BOTH(sinF)},
      {"math.cos", QUENCH_BOTH(cosF)},
      {"math.tan", QUENCH_BOTH(tanF)},
      {"math.asin", QUENCH_BOTH(asinF)},
      {"math.acos", QUENCH_BOTH(acosF)},
      {"math.atan", QUENCH_BOTH(atanF)},
      {"math.atan2", QUENCH_BOTH(atan2F)},
      {"math.sinh", QUENCH_BOTH(sinhF)},
      {"math.cosh", QUENCH_BOTH(coshF)},
      {"math.tanh", QUENCH_BOTH(tanhF)},
      {"math.asinh", QUENCH_BOTH(asinhF)},
      {"math.acosh", QUENCH_BOTH(acoshF)},
      {"math.atanh", QUENCH_BOTH(atanhF)},
      {"math.powf", QUENCH_BOTH(powF)},
      {"math.fpowi", QUENCH_BOTH(floatPowI)},
      {"math.erf", QUENCH_BOTH(erfF)},
      {"math.erfc", QUENCH_BOTH(erfcF)},
      {"math.ceil", QUENCH_BOTH(ceilF)},
      {"math.floor", QUENCH_BOTH(floorF)},
      {"math.round", QUENCH_BOTH(roundF)},
      {"math.roundeven", QUENCH_BOTH(roundevenF)},
      {"math.trunc", QUENCH_BOTH(truncF)},
      {"math.copysign", QUENCH_BOTH(copysignF)},
      {"math.isnan", {isnanFloat, isnanDouble}},
      {"math.isinf", {isinfFloat, isinfDouble}},
      {"math.isfinite", {isfiniteFloat, isfiniteDouble}},
  };
  return table;
}

static const StringMap<Kernel> &intTable() {
  static const StringMap<Kernel> table = {
      {"arith.addi", addI},
      {"arith.subi", subI},
      {"arith.muli", mulI},
      {"arith.divsi", divsI},
      {"arith.divui", divuI},
      {"arith.remsi", remsI},
      {"arith.remui", remuI},
      {"arith.ceildivsi", ceildivsI},
      {"arith.ceildivui", ceildivuI},
      {"arith.floordivsi", floordivsI},
      {"arith.andi", andI},
      {"arith.ori", orI},
      {"arith.xori", xorI},
      {"arith.shli", shlI},
      {"arith.shrsi", shrsI},
      {"arith.shrui", shruI},
      {"arith.minsi", minsI},
      {"arith.maxsi", maxsI},
      {"arith.minui", minuI},
      {"arith.maxui", maxuI},
      {"arith.extui", zextI},
      {"arith.trunci", copyI},
      {"arith.index_cast", copyI},
      {"arith.index_castui", zextI},
      {"math.absi", absI},
      {"math.ipowi", powI},
      {"index.add", addI},
      {"index.sub", subI},
      {"index.mul", mulI},
      {"index.divs", divsI},
      {"index.divu", divuI},
      {"index.ceildivs", ceildivsI},
      {"index.ceildivu", ceildivuI},
      {"index.floordivs", floordivsI},
      {"index.rems", remsI},
      {"index.remu", remuI},
      {"index.maxs", maxsI},
      {"index.maxu", maxuI},
      {"index.mins", minsI},
      {"index.minu", minuI},
      {"index.and", andI},
      {"index.or", orI},
      {"index.xor", xorI},
      {"index.shl", shlI},
      {"index.shrs", shrsI},
      {"index.shru", shruI},
      {"index.casts", copyI},
      {"index.castu", zextI},
      {"affine.mod", modI},
  };
  return table;
}

Kernel quench::findKernel(StringRef name, ElementKind operandKind,
                          ElementKind resultKind) {
  bool twice = operandKind == ElementKind::F64;
  bool twiceResult = resultKind == ElementKind::F64;
  if (name == "arith.select") {
    switch (registerKind(resultKind)) {
    case RegisterKind::Float:
      return selectOf<float>;
    case RegisterKind::Double:
      return selectOf<double>;
    case RegisterKind::Int:
      return selectOf<int64_t>;
    }
  }
  if (isFloatKind(operandKind)) {
    if (name == "arith.extf" || name == "arith.truncf") {
      if (twice)
        return twiceResult ? copyDouble : doubleToFloat;
      return twiceResult ? floatToDouble : copyFloat;
    }
    if (name == "arith.fptosi")
      return twice ? doubleToSigned : floatToSigned;
    if (name == "arith.fptoui")
      return twice ? doubleToUnsigned : floatToUnsigned;
    if (name == "arith.bitcast" && operandKind == ElementKind::F32 &&
        resultKind == ElementKind::I32)
      return floatBitsOf;
    auto found = floatTable().find(name);
    if (found == floatTable().end())
      return nullptr;
    return twice ? found->second.twice : found->second.single;
  }
  bool bit = operandKind == ElementKind::I1;
  if (name == "builtin.unrealized_conversion_cast" &&
      elementBytes(operandKind) == elementBytes(resultKind) &&
      !isFloatKind(resultKind))
    return resultKind == ElementKind::U8 || resultKind == ElementKind::U16 ||
                   resultKind == ElementKind::U32
               ? zextI
               : copyI;
  if (name == "arith.extsi")
    return bit ? negateI : copyI;
  if (name == "arith.sitofp") {
    if (bit)
      return twiceResult ? bitToDouble : bitToFloat;
    return twiceResult ? signedToDouble : signedToFloat;
  }
  if (name == "arith.uitofp")
    return twiceResult ? unsignedToDouble : unsignedToFloat;
  if (name == "arith.bitcast" && operandKind == ElementKind::I32 &&
      resultKind == ElementKind::F32)
    return floatOfBits;
  auto found = intTable().find(name);
  return found == intTable().end() ? nullptr : found->second;
}

Kernel quench::findCompare(StringRef name, RegisterKind kind) {
  if (name == "arith.cmpf")
    return kind == RegisterKind::Float    ? compareF<float>
           : kind == RegisterKind::Double ? compareF<double>
                                          : nullptr;
  return kind == RegisterKind::Int ? compareI : nullptr;
}

Kernel quench::findNarrow(ElementKind kind, int64_t &imm) {
  switch (kind) {
  case ElementKind::F16:
    return roundHalf;
  case ElementKind::BF16:
    return roundBfloat;
  case ElementKind::I1:
    imm = 1;
    return wrapI;
  case ElementKind::I8:
    imm = 8;
    return wrapI;
  case ElementKind::I16:
    imm = 16;
    return wrapI;
  case ElementKind::I32:
    imm = 32;
    return wrapI;
  default:
    return nullptr;
  }
}

//===----------------------------------------------------------------------===//
// Loads and stores
//===----------------------------------------------------------------------===//

template <typename Mem, typename Reg, typename Convert, typename At>
static void load(const void *base, int64_t n, void *reg, Convert convert,
                 At at) {
  const Mem *from = static_cast<const Mem *>(base);
  Reg *to = static_cast<Reg *>(reg);
  for (int64_t i = 0; i < n; ++i)
    to[i] = convert(from[at(i)]);
}

template <typename At>
static void loadAny(ElementKind kind, const void *base, int64_t n, void *reg,
                    At at) {
  auto same = [](auto x) { return x; };
  switch (kind) {
  case ElementKind::I1:
  case ElementKind::U8:
    return load<uint8_t, int64_t>(base, n, reg, same, at);
  case ElementKind::I8:
    return load<int8_t, int64_t>(base, n, reg, same, at);
  case ElementKind::I16:
    return load<int16_t, int64_t>(base, n, reg, same, at);
  case ElementKind::U16:
    return load<uint16_t, int64_t>(base, n, reg, same, at);
  case ElementKind::I32:
    return load<int32_t, int64_t>(base, n, reg, same, at);
  case ElementKind::U32:
    return load<uint32_t, int64_t>(base, n, reg, same, at);
  case ElementKind::I64:
  case ElementKind::U64:
    return load<int64_t, int64_t>(base, n, reg, same, at);
  case ElementKind::F16:
    return load<uint16_t, float>(base, n, reg, halfToFloat, at);
  case ElementKind::BF16:
    return load<uint16_t, float>(base, n, reg, bfloatToFloat, at);
  case ElementKind::F32:
    return load<float, float>(base, n, reg, same, at);
  case ElementKind::F64:
    return load<double, double>(base, n, reg, same, at);
  }
}

void quench::loadRegister(ElementKind kind, const void *base, int64_t offset,
                          int64_t stride, int64_t n, void *reg) {
  const char *start =
      static_cast<const char *>(base) + offset * elementBytes(kind);
  if (stride == 1)
    return loadAny(kind, start, n, reg, [](int64_t i) { return i; });
  loadAny(kind, start, n, reg, [stride](int64_t i) { return i * stride; });
}

void quench::gatherRegister(ElementKind kind, const void *base,
                            const int64_t *offsets, int64_t n, void *reg) {
  loadAny(kind, base, n, reg, [offsets](int64_t i) { return offsets[i]; });
}

template <typename Mem, typename Reg, typename Convert>
static void store(void *start, int64_t stride, int64_t n, const void *reg,
                  Convert convert) {
  Mem *to = static_cast<Mem *>(start);
  const Reg *from = static_cast<const Reg *>(reg);
  if (stride == 1) {
    for (int64_t i = 0; i < n; ++i)
      to[i] = convert(from[i]);
    return;
  }
  for (int64_t i = 0; i < n; ++i)
    to[i * stride] = convert(from[i]);
}

void quench::storeRegister(ElementKind kind, void *base, int64_t offset,
                           int64_t stride, int64_t n, const void *reg) {
  char *start = static_cast<char *>(base) + offset * elementBytes(kind);
  auto same = [](auto x) { return x; };
  switch (kind) {
  case ElementKind::I1:
  case ElementKind::I8:
  case ElementKind::U8:
    return store<uint8_t, int64_t>(start, stride, n, reg, same);
  case ElementKind::I16:
  case ElementKind::U16:
    return store<uint16_t, int64_t>(start, stride, n, reg, same);
  case ElementKind::I32:
  case ElementKind::U32:
    return store<uint32_t, int64_t>(start, stride, n, reg, same);
  case ElementKind::I64:
  case ElementKind::U64:
    return store<int64_t, int64_t>(start, stride, n, reg, same);
  case ElementKind::F16:
    return store<uint16_t, float>(start, stride, n, reg, floatToHalf);
  case ElementKind::BF16:
    return store<uint16_t, float>(start, stride, n, reg, floatToBfloat);
  case ElementKind::F32:
    return store<float, float>(start, stride, n, reg, same);
  case ElementKind::F64:
    return store<double, double>(start, stride, n, reg, same);
  }
}
