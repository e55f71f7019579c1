//===- Maps.h - What kinds of maps share ------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_MAPS_H
#define QUENCH_LIB_QUANTIZATION_MAPS_H

#include "quench/Quantization/Map.h"

namespace quench {

/// A map of n numbers to n numbers.
class SquareMap : public Map {
public:
  explicit SquareMap(int64_t n) : n(n) {}
  int64_t in() const override { return n; }
  int64_t out() const override { return n; }

protected:
  int64_t n;
};

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_MAPS_H
