//===- Sampler.h - Choosing the next token ----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOKENIZER_SAMPLER_H
#define QUENCH_TOKENIZER_SAMPLER_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <vector>

namespace quench {

/// Random numbers that are the same everywhere: xoshiro256**, whose state is
/// filled by splitmix64 (Blackman, Vigna: Scrambled Linear Pseudorandom Number
/// Generators, 2021).
class RandomNumbers {
public:
  explicit RandomNumbers(uint64_t seed);
  uint64_t next();
  /// At least 0, below 1, a multiple of 2^-53.
  double unit();

private:
  uint64_t state[4];
};

struct SamplerOptions {
  /// Logits are divided by it; 0 takes the largest logit.
  double temperature = 1.0;
  /// Only the most likely tokens that reach this probability together remain.
  double topP = 1.0;
  /// Only that many of the most likely tokens remain; 0 for all. It works
  /// before topP.
  int64_t topK = 0;
  uint64_t seed = 0;
};

/// Chooses tokens from logits. The same options and logits give the same
/// tokens on every machine: the exponential function is its own.
class Sampler {
public:
  /// Errors name the option, its value and what is accepted.
  static llvm::Expected<Sampler> create(const SamplerOptions &options);

  /// The index of the chosen logit; of equal ones, the first comes first.
  /// NaN, +inf, no logits or nothing but -inf is an error.
  llvm::Expected<int32_t> next(llvm::ArrayRef<float> logits);

private:
  explicit Sampler(const SamplerOptions &options)
      : options(options), random(options.seed) {}

  int32_t sampleAll(llvm::ArrayRef<float> logits, float largest);
  int32_t sampleBest(llvm::ArrayRef<float> logits, float largest);
  /// The likelihood of a logit, where that of the largest is 1.
  double weight(float logit, float largest) const;

  SamplerOptions options;
  RandomNumbers random;
  std::vector<int32_t> order;
};

} // namespace quench

#endif // QUENCH_TOKENIZER_SAMPLER_H
