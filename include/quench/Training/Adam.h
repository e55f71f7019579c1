//===- Adam.h - A first-order optimizer -------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TRAINING_ADAM_H
#define QUENCH_TRAINING_ADAM_H

#include "llvm/ADT/ArrayRef.h"
#include <vector>

namespace quench {

/// Adam (Kingma and Ba, 2014) for one vector of numbers.
class Adam {
public:
  explicit Adam(size_t size, double beta1 = 0.9, double beta2 = 0.99)
      : beta1(beta1), beta2(beta2), mean(size, 0), square(size, 0) {}
  /// Moves `values` by at most about `rate` against the gradient.
  void step(llvm::MutableArrayRef<float> values, llvm::ArrayRef<float> gradient,
            double rate);

private:
  double beta1, beta2;
  int64_t steps = 0;
  std::vector<float> mean, square;
};

/// The rate of step `step` of `steps`: a rise over the first twentieth, then a
/// cosine from `rate` down to a tenth of it.
double rateAt(double rate, int64_t step, int64_t steps);

} // namespace quench

#endif // QUENCH_TRAINING_ADAM_H
