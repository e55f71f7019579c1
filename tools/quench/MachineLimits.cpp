//===- MachineLimits.cpp - How fast the memory is
//-----------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MachineLimits.h"
#include "Driver.h"
#include <cstdlib>
#include <cstring>
#include <thread>

using namespace quench;

static constexpr size_t kBytes = size_t(256) << 20;
static constexpr int kRounds = 10;

/// Many sums, so that additions do not wait for each other. The next page is
/// fetched ahead: the processor's own prefetch ends with a page.
static uint64_t readAll(const uint64_t *data, size_t count) {
  constexpr size_t line = 8, page = 512;
  uint64_t sums[2 * line] = {};
  for (size_t i = 0; i + 2 * line <= count; i += 2 * line) {
    __builtin_prefetch(data + i + page);
    __builtin_prefetch(data + i + page + line);
    for (size_t j = 0; j < 2 * line; ++j)
      sums[j] += data[i + j];
  }
  uint64_t sum = 0;
  for (uint64_t part : sums)
    sum += part;
  return sum;
}

double quench::readBandwidth(int threads) {
  std::unique_ptr<uint64_t, decltype(&free)> memory(
      static_cast<uint64_t *>(malloc(kBytes)), free);
  if (!memory)
    return 0;
  // Pages that were never written share one page of zeros.
  memset(memory.get(), 1, kBytes);
  size_t part = kBytes / sizeof(uint64_t) / threads;
  volatile uint64_t sink = 0;
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<uint64_t> sums(threads);
    auto work = [&](int t) {
      sums[t] = readAll(memory.get() + t * part, part);
    };
    Stopwatch watch;
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t)
      others.emplace_back(work, t);
    work(0);
    for (std::thread &other : others)
      other.join();
    double seconds = watch.seconds();
    for (uint64_t sum : sums)
      sink = sink + sum;
    best = std::max(best, double(part) * sizeof(uint64_t) * threads / seconds);
  }
  return best;
}
