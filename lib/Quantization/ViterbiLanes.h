//===- ViterbiLanes.h - Vectors of a trellis search -------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Written in vectors of 16 lanes; the compiler splits them where a machine has
// shorter ones. No fused multiply-add: every machine computes the same.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_VITERBILANES_H
#define QUENCH_LIB_QUANTIZATION_VITERBILANES_H

#include <cstdint>
#include <cstring>

namespace quench {

constexpr unsigned kLanes = 16;
typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint8_t Bytes __attribute__((vector_size(kLanes)));

template <typename T>
[[gnu::always_inline]] inline void load(T &to, const void *from) {
  std::memcpy(&to, from, sizeof to);
}

/// Sixteen costs of states j P + p .. + 15, from costs[(j P + p) >> bits] on.
template <unsigned Bits>
[[gnu::always_inline]] inline Floats spread(const float *costs) {
  if constexpr (Bits >= 4) {
    return Floats{} + costs[0];
  } else if constexpr (Bits == 3) {
    typedef float Two __attribute__((vector_size(8)));
    Two v;
    load(v, costs);
    return __builtin_shufflevector(v, v, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1,
                                   1, 1, 1);
  } else if constexpr (Bits == 2) {
    typedef float Four __attribute__((vector_size(16)));
    Four v;
    load(v, costs);
    return __builtin_shufflevector(v, v, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3,
                                   3, 3, 3);
  } else {
    typedef float Eight __attribute__((vector_size(32)));
    Eight v;
    load(v, costs);
    return __builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6,
                                   6, 7, 7);
  }
}

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_VITERBILANES_H
