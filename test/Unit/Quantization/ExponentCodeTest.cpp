//===- ExponentCodeTest.cpp - Floats with their exponents coded -----------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/ExponentCode.h"
#include "Samples.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/PackedWeight.h"
#include "quench/Quantization/Tail.h"
#include <queue>

using namespace quench;

/// Total length of the best code without a limit, by Huffman's own way.
static uint64_t huffman(const std::vector<uint64_t> &counts) {
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> queue;
  for (uint64_t count : counts)
    if (count)
      queue.push(count);
  uint64_t total = 0;
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

static uint64_t totalOf(const ExponentCode &code,
                        const std::vector<uint64_t> &counts) {
  uint64_t total = 0;
  for (size_t i = 0; i < counts.size(); ++i)
    total += counts[i] * code.length(i);
  return total;
}

TEST(ExponentCode, CodesLeadBackToSymbols) {
  Samples samples(2);
  for (int trial = 0; trial < 60; ++trial) {
    std::vector<uint64_t> counts(256);
    int64_t used = 1 + samples.below(trial % 2 ? 256 : 20);
    for (int64_t i = 0; i < used; ++i)
      counts[samples.below(256)] += 1 + (1 << samples.below(20));
    ExponentCode code = ExponentCode::make(counts);
    double kraft = 0;
    for (unsigned symbol = 0; symbol < 256; ++symbol) {
      if (!counts[symbol])
        continue;
      unsigned length = code.length(symbol);
      ASSERT_LE(length, ExponentCode::kMostBits);
      kraft += std::ldexp(1.0, -int(length));
      for (uint32_t behind : {0u, ~0u, uint32_t(samples.next())}) {
        uint64_t bits = uint64_t(behind) << length | code.code(symbol);
        uint32_t entry = code.entry(uint32_t(bits));
        EXPECT_EQ(entry >> ExponentCode::kSymbolShift & 255, symbol);
        EXPECT_EQ(entry & ExponentCode::kLengthMask, length);
        EXPECT_EQ(entry & ExponentCode::kNextTable, 0u);
      }
    }
    EXPECT_LE(kraft, 1.0);
    EXPECT_GE(totalOf(code, counts), huffman(counts));
    // The tables say all.
    ExponentCode again(code.tables());
    for (unsigned symbol = 0; symbol < 256; ++symbol)
      if (counts[symbol])
        EXPECT_EQ(again.code(symbol), code.code(symbol));
  }
}

TEST(ExponentCode, ShortWherePossible) {
  // Few symbols, or counts whose best code has its long words at one end.
  for (int symbols : {1, 2, 3, 4, 5, 8}) {
    std::vector<uint64_t> counts(256);
    for (int i = 0; i < symbols; ++i)
      counts[7 * i + 3] = 1u << (symbols - i);
    EXPECT_EQ(totalOf(ExponentCode::make(counts), counts), huffman(counts))
        << symbols;
    for (int i = 0; i < symbols; ++i)
      counts[7 * i + 3] = 5;
    EXPECT_EQ(totalOf(ExponentCode::make(counts), counts), huffman(counts))
        << symbols;
  }
}

TEST(ExponentCode, LanesComeBack) {
  Samples samples(3);
  for (int trial = 0; trial < 30; ++trial) {
    std::vector<uint8_t> symbols(kBlockRows * samples.below(200));
    std::vector<uint64_t> counts(256);
    for (uint8_t &symbol : symbols) {
      symbol = trial % 3 == 0   ? samples.below(256)
               : trial % 3 == 1 ? 120 + samples.below(1 + samples.below(30))
                                : 9;
      ++counts[symbol];
    }
    counts[9] += 1;
    ExponentCode code = ExponentCode::make(counts);
    std::vector<uint16_t> stream = encodeLanes(code, symbols);
    stream.resize(stream.size() + kBlockRows, 0xabcd);
    std::vector<uint8_t> bytes;
    for (uint16_t halfword : stream) {
      bytes.push_back(halfword & 255);
      bytes.push_back(halfword >> 8);
    }
    LaneReader reader(code, bytes.data());
    for (size_t i = 0; i < symbols.size(); i += kBlockRows) {
      uint8_t got[kBlockRows];
      reader.next(got);
      ASSERT_TRUE(std::equal(got, got + kBlockRows, symbols.data() + i)) << i;
    }
  }
}

/// Packs such bits of bf16 numbers and reads them back.
static void expectBack(const std::vector<uint16_t> &numbers, int64_t rows,
                       int64_t cols) {
  const Format &f = format("dfloat11");
  std::vector<float> values;
  for (uint16_t number : numbers)
    values.push_back(bfloatToFloat(number));
  EncodedRows encoded =
      encodeNearest(f, values.data(), rows, cols, FitOptions());
  // Rounding makes quiet NaN of all; the codes are those of any bits.
  for (size_t i = 0; i < numbers.size(); ++i)
    encoded.codes[i] = (numbers[i] >> 7 & 255) << 8 | (numbers[i] >> 15) << 7 |
                       (numbers[i] & 127);
  std::vector<uint8_t> stream = packWeight(f, encoded);
  EncodedRows back = unpackWeight(f, stream.data(), rows, cols);
  EXPECT_EQ(back.codes, encoded.codes);
  std::vector<float> row(cols);
  for (int64_t r = rows; r-- > 0;) {
    unpackRow(f, stream.data(), rows, cols, r, row.data());
    for (int64_t c = 0; c < cols; ++c)
      ASSERT_EQ(floatBits(row[c]), uint32_t(numbers[r * cols + c]) << 16)
          << rows << "x" << cols << " row " << r << " column " << c;
  }
}

TEST(DFloat11, AllBitsComeBack) {
  // Every number there is: NaN with all payloads, infinity, -0, subnormals.
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i)
    all[i] = i;
  expectBack(all, 128, 512);
  expectBack(std::vector<uint16_t>(1000, 0x8000), 10, 100);
  expectBack(std::vector<uint16_t>(100, 0x7fc1), 10, 10); // NaN alone
  Samples samples(1);
  for (int trial = 0; trial < 30; ++trial) {
    int64_t rows = trial < 5 ? 1 : 1 + samples.below(80);
    int64_t cols = 1 + samples.below(trial < 20 ? 70 : 600);
    std::vector<uint16_t> numbers(rows * cols);
    for (uint16_t &number : numbers)
      number = trial % 2 ? samples.next() >> 48
                         : floatToBfloat(0.02f * samples.gaussian());
    expectBack(numbers, rows, cols);
  }
}

// A weight of bf16 numbers is that of float<bf16>, and any other one too.
TEST(DFloat11, RoundsAsBFloat) {
  Samples samples(4);
  std::vector<float> weight = samples.gaussians(50 * 60), a(3000), b(3000);
  const char *pairs[][2] = {{"dfloat11", "float<bf16>"},
                            {"ecf8", "fp8<e4m3>"},
                            {"ecf8<tensor>", "fp8<e4m3, tensor>"},
                            {"ecf8<group = 20>", "fp8<e4m3, group = 20>"}};
  for (auto [coded, plain] : pairs)
    for (bool search : {false, true}) {
      FitOptions options;
      options.search = search;
      decodeRows(format(coded),
                 encodeNearest(format(coded), weight.data(), 50, 60, options),
                 a.data());
      decodeRows(format(plain),
                 encodeNearest(format(plain), weight.data(), 50, 60, options),
                 b.data());
      for (size_t i = 0; i < a.size(); ++i)
        ASSERT_EQ(floatBits(a[i]), floatBits(b[i])) << coded << " " << i;
    }
}

// Acceptance X1: entropy 2.545 +- 0.005 for N(0, 0.02), and the numbers come
// back. Huffman: 2.591.
TEST(DFloat11, BitsOfAGaussian) {
  Samples samples(5);
  constexpr int64_t kRows = 512, kCols = 2048;
  std::vector<float> weight(kRows * kCols);
  std::vector<uint64_t> counts(256);
  for (float &value : weight) {
    uint16_t number = floatToBfloat(0.02f * samples.gaussian());
    value = bfloatToFloat(number);
    ++counts[number >> 7 & 255];
  }
  EXPECT_NEAR(entropyOf(counts), 2.545, 0.005);
  double coded = double(totalOf(ExponentCode::make(counts), counts)) /
                 static_cast<double>(weight.size());
  EXPECT_NEAR(coded, 2.591, 0.01);

  const Format &f = format("dfloat11");
  const Quantizer *rtn = llvm::cantFail(getQuantizer("rtn"));
  QuantizeProblem problem;
  problem.format = &f;
  problem.rows = kRows;
  problem.cols = kCols;
  llvm::Expected<PackedWeight> packed = quantizeWeight(
      *rtn, problem,
      [&](int64_t begin, int64_t) -> llvm::Expected<const float *> {
        return weight.data() + begin * kCols;
      });
  ASSERT_TRUE(bool(packed));
  EXPECT_EQ(packed->relativeError, 0);
  double bits = double(storedBits(f, kRows, kCols, packed->stream.size())) /
                static_cast<double>(weight.size());
  EXPECT_NEAR(bits, 8 + coded, 0.02);
  EXPECT_NEAR(double(f.bits(kRows, kCols)) / (kRows * kCols), bits, 0.03);
  EXPECT_EQ(packed->stream.vec(),
            packWeight(f, encodeNearest(f, weight.data(), kRows, kCols, {})));
  std::vector<float> back(weight.size());
  decodeWeight(*packed, back.data(), 2);
  EXPECT_EQ(back, weight);
}
