//===- VptqTest.cpp - Learned vectors along the outputs -------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Problems.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Packing.h"

using namespace quench;

static double errorOf(llvm::StringRef spec, int64_t rows, int64_t cols) {
  const Format &f = format(spec);
  Samples samples(7);
  std::vector<float> weight = samples.gaussians(rows * cols), back(rows * cols);
  decodeRows(f, encodeNearest(f, weight.data(), rows, cols, FitOptions()),
             back.data());
  double sum = 0;
  for (size_t i = 0; i < back.size(); ++i)
    sum += double(back[i] - weight[i]) * (back[i] - weight[i]);
  return sum / back.size();
}

TEST(Vptq, Bits) {
  const Format &f = format("vptq<1x8, rows = 4>");
  EXPECT_EQ(f.bits(64, 96), 64 * 96 * 2 + 64 * 16 + 8 * (256 * 4 + 4));
  EXPECT_EQ(f.tileRows(), 4);
  EXPECT_EQ(format("vptq<2x8>").spec(), "vptq<2x8, rows = 8>");
  for (const char *wrong : {"vptq<1x8, rows = 16>", "vptq<1x8, rows = 6>",
                            "vptq<4x8, rows = 2>", "vptq<1x8, rows = 1>",
                            "vptq<1x12, rows = 8>", "vptq<1x16, rows = 2>"}) {
    auto made = getFormat(wrong);
    ASSERT_FALSE(bool(made)) << wrong;
    EXPECT_NE(llvm::toString(made.takeError()).find("power of two"),
              std::string::npos);
  }
}

/// The code of a tile against all others, with rows that count differently.
TEST(Vptq, NearestOfAll) {
  const Format &f = format("vptq<1x8, rows = 4>");
  Samples samples(4);
  std::vector<float> weight = samples.gaussians(32 * 64);
  EncodedRows shared = fitShared(f, weight.data(), 32, 64, FitOptions());
  std::unique_ptr<Format> bound = f.bind(shared.table);
  for (int trial = 0; trial < 50; ++trial) {
    float values[4], weights[4], decoded[4];
    GroupParams params[4];
    uint32_t codes[4];
    for (int r = 0; r < 4; ++r) {
      values[r] = samples.gaussian();
      weights[r] = trial % 3 == 0 ? 1 : samples.uniform();
      params[r].scale = floatToHalf(0.5f + samples.uniform());
    }
    auto error = [&] {
      bound->decodeTile(codes, params, decoded);
      double sum = 0;
      for (int r = 0; r < 4; ++r)
        sum += weights[r] * (values[r] - decoded[r]) * (values[r] - decoded[r]);
      return sum;
    };
    bound->nearestTile(values, params, trial % 3 == 0 ? nullptr : weights,
                       codes);
    double found = error();
    for (uint32_t code = 0; code < 256; ++code) {
      for (int r = 0; r < 4; ++r)
        codes[r] = code >> (2 * r) & 3;
      EXPECT_GE(error(), found - 1e-5);
    }
  }
}

/// More than a byte: all codes of 9 bits of a tile, dealt out to its rows and
/// put together again.
TEST(Vptq, WideCodes) {
  const Format &f = format("vptq<1x12, rows = 4>");
  EXPECT_EQ(f.codeBits(), 3u);
  EXPECT_EQ(f.bits(64, 96), 64 * 96 * 3 + 64 * 16 + 8 * (4096 * 4 + 4));
  Samples samples(4);
  std::vector<uint8_t> table(f.tableBytes());
  for (uint8_t &byte : table)
    byte = samples.below(256);
  std::unique_ptr<Format> bound = f.bind(table);
  GroupParams params[4];
  for (GroupParams &row : params)
    row.scale = floatToHalf(1);
  for (uint32_t code = 0; code < 4096; code += 37) {
    uint32_t codes[4];
    float values[4];
    for (int r = 0; r < 4; ++r)
      codes[r] = code >> (3 * r) & 7;
    bound->decodeTile(codes, params, values);
    for (int r = 0; r < 4; ++r)
      EXPECT_EQ(values[r], (table[4 * code + r] - 128) * bound->unit());
  }
}

/// Clusters, then feedback, then a second table for what is left.
TEST(Vptq, ErrorFallsAtEachStage) {
  Problem problem(64, 96, 6);
  const Format &one = format("vptq<1x8, rows = 4>");
  const Format &two = format("vptq<2x8, rows = 4>");
  double clusters = quantize("rtn", problem.with(one)).loss;
  double feedback = quantize("ldlq", problem.with(one)).loss;
  double residual = quantize("ldlq", problem.with(two)).loss;
  EXPECT_LT(feedback, 0.9 * clusters);
  EXPECT_LT(residual, 0.2 * feedback);
  QuantizeResult again = quantize("ldlq", problem.with(one, 3));
  EXPECT_EQ(again.loss, feedback); // every time, on any number of threads
}

TEST(Vptq, GaussianError) {
  // Longer vectors are better at the same rate; all below scalar codes.
  double four = errorOf("vptq<1x8, rows = 4>", 128, 1024);
  double eight = errorOf("vptq<2x8, rows = 8>", 128, 1024);
  EXPECT_LT(four, 0.1175);
  EXPECT_LT(eight, 0.098);
  EXPECT_LT(eight, four);
}
