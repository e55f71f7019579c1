//===- ExponentCodeTest.cpp - Floats with their exponents compressed ------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/ExponentCode.h"
#include "Samples.h"
#include "quench/Quantization/Half.h"
#include <queue>

using namespace quench;

/// Total length of the best code without a limit, by Huffman's own way.
static uint64_t huffman(const std::vector<uint64_t> &counts) {
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> queue;
  for (uint64_t count : counts)
    if (count)
      queue.push(count);
  uint64_t total = queue.size() == 1 ? queue.top() : 0;
  while (queue.size() > 1) {
    uint64_t sum = queue.top();
    queue.pop();
    sum += queue.top();
    queue.pop();
    queue.push(sum);
    total += sum;
  }
  return total;
}

static uint64_t totalOf(const PrefixCode &code,
                        const std::vector<uint64_t> &counts) {
  uint64_t total = 0;
  for (size_t i = 0; i < counts.size(); ++i)
    total += counts[i] * code.lengths()[i];
  return total;
}

TEST(PrefixCode, AsShortAsHuffman) {
  Samples samples(2);
  for (int trial = 0; trial < 60; ++trial) {
    std::vector<uint64_t> counts(1 + samples.below(256));
    for (uint64_t &count : counts)
      count = samples.below(4) ? 64 + samples.below(960) : 0;
    counts[0] = 64; // one at least; none is rare
    PrefixCode code = PrefixCode::make(counts);
    EXPECT_EQ(totalOf(code, counts), huffman(counts));
    double kraft = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      EXPECT_EQ(counts[i] != 0, code.lengths()[i] != 0);
      if (!counts[i])
        continue;
      kraft += std::ldexp(1.0, -code.lengths()[i]);
      // A code leads back to its symbol, whatever follows.
      unsigned left = PrefixCode::kMostBits - code.lengths()[i];
      for (uint32_t tail : {0u, (1u << left) - 1})
        EXPECT_EQ(code.symbol(code.code(i) << left | tail), i);
    }
    EXPECT_LE(kraft, 1.0);
    auto again = PrefixCode::read(code.lengths());
    ASSERT_TRUE(bool(again));
    for (size_t i = 0; i < counts.size(); ++i)
      EXPECT_EQ(again->code(i), code.code(i));
  }
}

TEST(PrefixCode, LongOnesAreCut) {
  // Fibonacci's numbers want as many bits as there are symbols.
  std::vector<uint64_t> counts{1, 1};
  while (counts.size() < 48)
    counts.push_back(counts.end()[-1] + counts.end()[-2]);
  PrefixCode code = PrefixCode::make(counts);
  unsigned most =
      *std::max_element(code.lengths().begin(), code.lengths().end());
  EXPECT_EQ(most, PrefixCode::kMostBits);
  EXPECT_LT(totalOf(code, counts), 1.001 * huffman(counts));
  for (const std::vector<uint8_t> &lengths :
       {std::vector<uint8_t>{1, 1, 1}, std::vector<uint8_t>{13}}) {
    auto wrong = PrefixCode::read(lengths);
    EXPECT_FALSE(bool(wrong));
    llvm::consumeError(wrong.takeError());
  }
}

static void expectBack(Minifloat shape, const std::vector<uint16_t> &numbers,
                       int64_t rows, int64_t cols) {
  EXPECT_EQ(ExponentCodedWeight::encode(shape, numbers, rows, cols).decode(),
            numbers);
}

TEST(ExponentCode, AllBitsComeBack) {
  // Every number there is: NaN with all payloads, -0, subnormals.
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i)
    all[i] = i;
  expectBack(kBFloat16, all, 128, 512);
  std::vector<uint16_t> bytes(all.begin(), all.begin() + 256);
  for (Minifloat shape : {kE4M3, kE5M2}) {
    expectBack(shape, bytes, 1, 256);
    expectBack(shape, bytes, 256, 1);
  }
  expectBack(kBFloat16, std::vector<uint16_t>(1000, 0x8000), 10, 100);
  expectBack(kBFloat16, {}, 0, 5);
  Samples samples(1);
  for (int trial = 0; trial < 40; ++trial) {
    int64_t rows = 1 + samples.below(80), cols = 1 + samples.below(600);
    std::vector<uint16_t> numbers(rows * cols);
    for (uint16_t &number : numbers)
      number = trial % 2 ? samples.next() >> 48
                         : floatToBfloat(0.02f * samples.gaussian());
    expectBack(kBFloat16, numbers, rows, cols);
    for (uint16_t &number : numbers)
      number &= 255;
    expectBack(trial % 4 < 2 ? kE4M3 : kE5M2, numbers, rows, cols);
  }
}

// methods.md X1: entropy 2.545 +- 0.005 for N(0, 0.02); Huffman 2.591.
TEST(ExponentCode, BitsOfAGaussian) {
  Samples samples(5);
  constexpr int64_t kRows = 512, kCols = 2048;
  std::vector<uint16_t> numbers(kRows * kCols);
  std::vector<uint64_t> counts(256);
  for (uint16_t &number : numbers) {
    number = floatToBfloat(0.02f * samples.gaussian());
    ++counts[number >> 7 & 255];
  }
  EXPECT_NEAR(entropyOf(counts), 2.545, 0.005);
  double coded =
      double(totalOf(PrefixCode::make(counts), counts)) / numbers.size();
  EXPECT_NEAR(coded, 2.591, 0.01);
  ExponentCodedWeight weight =
      ExponentCodedWeight::encode(kBFloat16, numbers, kRows, kCols);
  EXPECT_NEAR(double(weight.bits()) / numbers.size(), 8 + coded, 0.01);
  EXPECT_EQ(weight.decode(), numbers);
}
