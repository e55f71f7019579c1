//===- Adam.cpp - A first-order optimizer -----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Training/Adam.h"
#include <cmath>

using namespace quench;

void Adam::step(llvm::MutableArrayRef<float> values,
                llvm::ArrayRef<float> gradient, double rate) {
  ++steps;
  double byMean = 1 / (1 - std::pow(beta1, steps));
  double bySquare = 1 / (1 - std::pow(beta2, steps));
  for (size_t i = 0; i < values.size(); ++i) {
    double g = gradient[i];
    double m = beta1 * mean[i] + (1 - beta1) * g;
    double s = beta2 * square[i] + (1 - beta2) * g * g;
    mean[i] = static_cast<float>(m);
    square[i] = static_cast<float>(s);
    if (s > 0)
      values[i] -= static_cast<float>(rate * m * byMean /
                                      (std::sqrt(s * bySquare) + 1e-20));
  }
}

double quench::rateAt(double rate, int64_t step, int64_t steps) {
  double rise = std::max(1.0, steps / 20.0);
  double warm = std::min(1.0, (step + 1) / rise);
  double done = steps > 1 ? double(step) / (steps - 1) : 0;
  return rate * warm * (0.55 + 0.45 * std::cos(3.14159265358979324 * done));
}
