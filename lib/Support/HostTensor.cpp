//===- HostTensor.cpp - Dense arrays on the host ----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Support/HostTensor.h"
#include "quench/Quantization/Half.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

using namespace llvm;
using namespace quench;

int64_t quench::elementBytes(ElementKind kind) {
  switch (kind) {
  case ElementKind::I1:
  case ElementKind::I8:
  case ElementKind::U8:
    return 1;
  case ElementKind::I16:
  case ElementKind::U16:
  case ElementKind::F16:
  case ElementKind::BF16:
    return 2;
  case ElementKind::I32:
  case ElementKind::U32:
  case ElementKind::F32:
    return 4;
  case ElementKind::I64:
  case ElementKind::U64:
  case ElementKind::F64:
    return 8;
  }
  return 1;
}

StringRef quench::elementName(ElementKind kind) {
  static const char *const names[] = {"i1",   "i8",   "ui8", "i16",  "ui16",
                                      "i32",  "ui32", "i64", "ui64", "f16",
                                      "bf16", "f32",  "f64"};
  return names[static_cast<unsigned>(kind)];
}

Expected<int64_t> quench::countElements(ArrayRef<int64_t> shape,
                                        int64_t elementSize) {
  int64_t count = 1;
  bool empty = false, overflow = false;
  for (int64_t size : shape) {
    if (size < 0)
      return createStringError("a dimension of " + Twine(size) +
                               ", sizes are at least 0");
    empty |= size == 0;
    overflow |= MulOverflow(count, size ? size : 1, count);
  }
  int64_t bytes;
  if (overflow || MulOverflow(count, elementSize, bytes))
    return createStringError("a tensor of more bytes than can be counted");
  return empty ? 0 : count;
}

Expected<HostTensor> HostTensor::allocate(ElementKind kind,
                                          ArrayRef<int64_t> shape) {
  Expected<int64_t> count = countElements(shape, elementBytes(kind));
  if (!count)
    return count.takeError();
  int64_t bytes = *count * elementBytes(kind);
  void *data = nullptr;
  if (bytes > std::numeric_limits<int64_t>::max() - 64 ||
      posix_memalign(&data, 64, std::max<int64_t>(bytes, 1)) != 0)
    return createStringError("no memory for a tensor of " + Twine(bytes) +
                             " bytes");
  HostTensor result;
  result.kind = kind;
  result.owned = true;
  result.count = *count;
  result.shape.assign(shape.begin(), shape.end());
  result.memory = std::shared_ptr<void>(data, std::free);
  return result;
}

/// As operator new ends the program.
[[noreturn]] static void outOfMemory(Error error) {
  consumeError(std::move(error));
  report_bad_alloc_error("no memory for a few numbers");
}

HostTensor HostTensor::make(ElementKind kind, ArrayRef<int64_t> shape) {
  Expected<HostTensor> result = allocate(kind, shape);
  if (!result)
    outOfMemory(result.takeError());
  return std::move(*result);
}

HostTensor HostTensor::view(ElementKind kind, ArrayRef<int64_t> shape,
                            const void *data,
                            std::shared_ptr<const void> owner) {
  HostTensor result;
  result.kind = kind;
  result.count = 1;
  for (int64_t size : shape)
    result.count *= size;
  result.shape.assign(shape.begin(), shape.end());
  static const char none[64] = {};
  void *address = const_cast<void *>(data ? data : none);
  result.memory = std::shared_ptr<void>(address, [owner](void *) {});
  return result;
}

std::string HostTensor::describe() const {
  std::string text = elementName(kind).str() + "[";
  for (auto [i, size] : enumerate(shape))
    text += (i ? "," : "") + std::to_string(size);
  return text + "]";
}

Error HostTensor::detach() {
  if (isUnique())
    return Error::success();
  Expected<HostTensor> copy = allocate(kind, shape);
  if (!copy)
    return copy.takeError();
  if (int64_t bytes = getNumBytes())
    std::memcpy(copy->memory.get(), memory.get(), bytes);
  *this = std::move(*copy);
  return Error::success();
}

void *HostTensor::mutableRaw() {
  if (Error error = detach())
    outOfMemory(std::move(error));
  return memory.get();
}

HostTensor HostTensor::reshaped(ArrayRef<int64_t> newShape) const {
  HostTensor result = *this;
  result.shape.assign(newShape.begin(), newShape.end());
  return result;
}

HostTensor HostTensor::bitcast(ElementKind newKind) const {
  HostTensor result = *this;
  result.kind = newKind;
  return result;
}

//===----------------------------------------------------------------------===//
// Conversions
//===----------------------------------------------------------------------===//

namespace {
struct HalfBits {
  uint16_t bits;
};
struct BfloatBits {
  uint16_t bits;
};
} // namespace

template <typename T> static double toDouble(T value) { return value; }
static double toDouble(HalfBits value) { return halfToFloat(value.bits); }
static double toDouble(BfloatBits value) { return bfloatToFloat(value.bits); }

/// Calls fn with a null pointer to the type of the elements.
template <typename Fn> static auto dispatch(ElementKind kind, Fn fn) {
  switch (kind) {
  case ElementKind::I1:
  case ElementKind::U8:
    return fn(static_cast<uint8_t *>(nullptr));
  case ElementKind::I8:
    return fn(static_cast<int8_t *>(nullptr));
  case ElementKind::I16:
    return fn(static_cast<int16_t *>(nullptr));
  case ElementKind::U16:
    return fn(static_cast<uint16_t *>(nullptr));
  case ElementKind::I32:
    return fn(static_cast<int32_t *>(nullptr));
  case ElementKind::U32:
    return fn(static_cast<uint32_t *>(nullptr));
  case ElementKind::I64:
    return fn(static_cast<int64_t *>(nullptr));
  case ElementKind::U64:
    return fn(static_cast<uint64_t *>(nullptr));
  case ElementKind::F16:
    return fn(static_cast<HalfBits *>(nullptr));
  case ElementKind::BF16:
    return fn(static_cast<BfloatBits *>(nullptr));
  case ElementKind::F32:
    return fn(static_cast<float *>(nullptr));
  case ElementKind::F64:
    break;
  }
  return fn(static_cast<double *>(nullptr));
}

template <typename To> static To fromDouble(double value, To *) {
  if constexpr (std::is_floating_point_v<To>) {
    return static_cast<To>(value);
  } else {
    if (std::isnan(value))
      return 0;
    // Both bounds are exact as doubles, or the upper one rounds up.
    if (value <= static_cast<double>(std::numeric_limits<To>::min()))
      return std::numeric_limits<To>::min();
    if (value >= static_cast<double>(std::numeric_limits<To>::max()))
      return std::numeric_limits<To>::max();
    return static_cast<To>(value);
  }
}
static HalfBits fromDouble(double value, HalfBits *) {
  return {floatToHalf(static_cast<float>(value))};
}
static BfloatBits fromDouble(double value, BfloatBits *) {
  return {floatToBfloat(static_cast<float>(value))};
}

template <typename To, typename From> static To convertOne(From value) {
  if constexpr (std::is_integral_v<To> && std::is_integral_v<From>)
    return static_cast<To>(value);
  else
    return fromDouble(toDouble(value), static_cast<To *>(nullptr));
}

Expected<HostTensor> HostTensor::convertTo(ElementKind newKind) const {
  if (newKind == kind)
    return *this;
  Expected<HostTensor> result = allocate(newKind, shape);
  if (!result)
    return result;
  bool toBool = newKind == ElementKind::I1;
  dispatch(kind, [&](auto *fromNull) {
    using From = std::remove_pointer_t<decltype(fromNull)>;
    const From *from = data<From>();
    dispatch(newKind, [&](auto *toNull) {
      using To = std::remove_pointer_t<decltype(toNull)>;
      To *to = result->template mutableData<To>();
      for (int64_t i = 0; i < count; ++i)
        to[i] = convertOne<To>(from[i]);
    });
    if (toBool) {
      uint8_t *to = result->mutableData<uint8_t>();
      for (int64_t i = 0; i < count; ++i)
        to[i] = toDouble(from[i]) != 0;
    }
  });
  return result;
}

double HostTensor::at(int64_t index) const {
  return dispatch(kind, [&](auto *null) -> double {
    using T = std::remove_pointer_t<decltype(null)>;
    return toDouble(data<T>()[index]);
  });
}

int64_t HostTensor::intAt(int64_t index) const {
  return dispatch(kind, [&](auto *null) -> int64_t {
    using T = std::remove_pointer_t<decltype(null)>;
    return convertOne<int64_t>(data<T>()[index]);
  });
}

HostTensor HostTensor::scalar(ElementKind kind, int64_t value) {
  HostTensor result = make(kind, {});
  dispatch(kind, [&](auto *null) {
    using T = std::remove_pointer_t<decltype(null)>;
    *result.mutableData<T>() = convertOne<T>(value);
  });
  if (kind == ElementKind::I1)
    *result.mutableData<uint8_t>() = value & 1;
  return result;
}

HostTensor HostTensor::scalar(ElementKind kind, double value) {
  HostTensor result = make(kind, {});
  dispatch(kind, [&](auto *null) {
    using T = std::remove_pointer_t<decltype(null)>;
    *result.mutableData<T>() = convertOne<T>(value);
  });
  return result;
}
