//===- Samples.h - Random numbers for tests ---------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TEST_UNIT_QUANTIZATION_SAMPLES_H
#define QUENCH_TEST_UNIT_QUANTIZATION_SAMPLES_H

#include "quench/Quantization/Format.h"
#include "gtest/gtest.h"
#include <cmath>
#include <cstdint>
#include <vector>

namespace quench {

/// The same numbers everywhere and every time.
class Samples {
public:
  explicit Samples(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15 + 1) {}
  uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
  }
  int64_t below(int64_t n) { return (next() >> 20) % n; }
  double uniform() { return ((next() >> 11) + 0.5) * 0x1p-53; }
  float gaussian() {
    return std::sqrt(-2 * std::log(uniform())) *
           std::cos(6.283185307179586 * uniform());
  }
  std::vector<float> gaussians(size_t n) {
    std::vector<float> values(n);
    for (float &value : values)
      value = gaussian();
    return values;
  }

private:
  uint64_t state;
};

/// A format that must exist.
inline const Format &format(llvm::StringRef spec) {
  llvm::Expected<const Format *> found = getFormat(spec);
  if (!found) {
    std::string message = llvm::toString(found.takeError());
    ADD_FAILURE() << message;
    return **getFormat("float<32>");
  }
  return **found;
}

} // namespace quench

#endif // QUENCH_TEST_UNIT_QUANTIZATION_SAMPLES_H
