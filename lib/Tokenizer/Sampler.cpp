//===- Sampler.cpp - Choosing the next token ------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Compiled without contraction of products and sums, so that every machine
// rounds alike.
//
//===----------------------------------------------------------------------===//

#include "quench/Tokenizer/Sampler.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace quench;
using llvm::ArrayRef;
using llvm::Expected;

RandomNumbers::RandomNumbers(uint64_t seed) {
  for (uint64_t &word : state) {
    seed += 0x9E3779B97F4A7C15;
    uint64_t mixed = seed;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
    word = mixed ^ (mixed >> 31);
  }
}

static uint64_t rotate(uint64_t value, unsigned count) {
  return value << count | value >> (64 - count);
}

uint64_t RandomNumbers::next() {
  uint64_t result = rotate(state[1] * 5, 7) * 9;
  uint64_t shifted = state[1] << 17;
  state[2] ^= state[0];
  state[3] ^= state[1];
  state[1] ^= state[2];
  state[0] ^= state[3];
  state[2] ^= shifted;
  state[3] = rotate(state[3], 45);
  return result;
}

double RandomNumbers::unit() { return double(next() >> 11) * 0x1p-53; }

/// e^x for x <= 0, by additions and products alone. The error is a few units
/// in the last place.
static double exponential(double x) {
  if (x < -700)
    return 0;
  const double log2e = 1.4426950408889634, ln2High = 0x1.62e42fefa3800p-1,
               ln2Low = 0x1.ef35793c76730p-45;
  double scale = std::floor(x * log2e + 0.5);
  double rest = (x - scale * ln2High) - scale * ln2Low;
  double sum = 1;
  for (int i = 14; i > 0; --i)
    sum = 1 + sum * rest / i;
  return std::ldexp(sum, int(scale));
}

Expected<Sampler> Sampler::create(const SamplerOptions &options) {
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature))
    return llvm::createStringError(
        "the temperature %g is not a finite number of at least 0",
        options.temperature);
  if (!(options.topP > 0 && options.topP <= 1))
    return llvm::createStringError("top-p %g is not above 0 and at most 1",
                                   options.topP);
  if (options.topK < 0)
    return llvm::createStringError("top-k %lld is below 0",
                                   (long long)options.topK);
  return Sampler(options);
}

double Sampler::weight(float logit, float largest) const {
  return exponential((double(logit) - double(largest)) / options.temperature);
}

Expected<int32_t> Sampler::next(ArrayRef<float> logits) {
  if (logits.empty())
    return llvm::createStringError("there are no logits to choose from");
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == INFINITY)
      return llvm::createStringError("logit %zu is %s", i,
                                     std::isnan(logits[i]) ? "NaN" : "+inf");
    if (logits[i] > logits[best])
      best = i;
  }
  float largest = logits[best];
  if (largest == -INFINITY)
    return llvm::createStringError("all %zu logits are -inf", logits.size());
  if (options.temperature == 0 || options.topK == 1)
    return int32_t(best);
  bool all = options.topP == 1 &&
             (options.topK == 0 || options.topK >= int64_t(logits.size()));
  return all ? sampleAll(logits, largest) : sampleBest(logits, largest);
}

int32_t Sampler::sampleAll(ArrayRef<float> logits, float largest) {
  double total = 0;
  for (float logit : logits)
    total += weight(logit, largest);
  double target = random.unit() * total, sum = 0;
  int32_t last = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    double w = weight(logits[i], largest);
    if (w == 0)
      continue;
    sum += w;
    last = i;
    if (sum > target)
      break;
  }
  return last;
}

int32_t Sampler::sampleBest(ArrayRef<float> logits, float largest) {
  order.resize(logits.size());
  std::iota(order.begin(), order.end(), 0);
  auto isBetter = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  size_t limit = logits.size();
  if (options.topK && size_t(options.topK) < limit) {
    limit = options.topK;
    std::nth_element(order.begin(), order.begin() + limit, order.end(),
                     isBetter);
    std::sort(order.begin(), order.begin() + limit);
  }
  double total = 0;
  for (size_t i = 0; i < limit; ++i)
    total += weight(logits[order[i]], largest);

  // Sorts only as many as are needed to reach topP.
  std::vector<double> sums;
  double sum = 0;
  for (size_t step = 64; sums.size() < limit && sum < options.topP * total;
       step *= 8) {
    size_t begin = sums.size(), end = std::min(limit, begin + step);
    std::partial_sort(order.begin() + begin, order.begin() + end,
                      order.begin() + limit, isBetter);
    for (size_t i = begin; i < end && sum < options.topP * total; ++i)
      sums.push_back(sum += weight(logits[order[i]], largest));
  }
  double target = random.unit() * sums.back();
  size_t chosen =
      std::upper_bound(sums.begin(), sums.end(), target) - sums.begin();
  return order[std::min(chosen, sums.size() - 1)];
}
