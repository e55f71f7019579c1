//===- LayersTest.cpp - The layer ops against plain loops -------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Run.h"
#include <cmath>

using namespace quench;

TEST(Layers, Norms) {
  const char *text = R"(
    func.func @main(%x: tensor<?x?x5xf32>, %g: tensor<5xf32>, %b: tensor<5xf32>) -> (tensor<?x?x5xf32>, tensor<?x?x5xf32>, tensor<?x?x5xf32>) {
      %0 = quench.norm "rms" %x gain(%g : tensor<5xf32>) {epsilon = 0.5 : f32} : tensor<?x?x5xf32> -> tensor<?x?x5xf32>
      %1 = quench.norm "layer" %x gain(%g : tensor<5xf32>) bias(%b : tensor<5xf32>) {epsilon = 0.25 : f32} : tensor<?x?x5xf32> -> tensor<?x?x5xf32>
      %2 = quench.norm "layer" %x bias(%b : tensor<5xf32>) {epsilon = 0.0 : f32} : tensor<?x?x5xf32> -> tensor<?x?x5xf32>
      return %0, %1, %2 : tensor<?x?x5xf32>, tensor<?x?x5xf32>, tensor<?x?x5xf32>
    })";
  HostTensor x = randomFloats({2, 3, 5}, 1), g = randomFloats({5}, 2),
             b = randomFloats({5}, 3);
  auto results = run(text, {x, g, b});
  ASSERT_EQ(results.size(), 3u);
  for (int r = 0; r < 6; ++r) {
    double mean = 0, square = 0, variance = 0;
    for (int i = 0; i < 5; ++i) {
      mean += x.at(r * 5 + i) / 5;
      square += x.at(r * 5 + i) * x.at(r * 5 + i) / 5;
    }
    for (int i = 0; i < 5; ++i)
      variance += std::pow(x.at(r * 5 + i) - mean, 2) / 5;
    for (int i = 0; i < 5; ++i) {
      double v = x.at(r * 5 + i);
      EXPECT_NEAR(results[0].at(r * 5 + i),
                  v / std::sqrt(square + 0.5) * g.at(i), 1e-6);
      EXPECT_NEAR(results[1].at(r * 5 + i),
                  (v - mean) / std::sqrt(variance + 0.25) * g.at(i) + b.at(i),
                  1e-6);
      EXPECT_NEAR(results[2].at(r * 5 + i),
                  (v - mean) / std::sqrt(variance) + b.at(i), 1e-5);
    }
  }
}

TEST(Layers, Rotary) {
  const char *text = R"(
    func.func @main(%x: tensor<?x?x12xf32>, %p: tensor<?x?xi64>, %q: tensor<1x?xi64>) -> (tensor<?x?x12xf32>, tensor<?x?x12xf32>) {
      %0 = quench.rotary %x at %p {head_size = 6 : i64, frequencies = array<f32: 1.0, 0.1>} : tensor<?x?x12xf32>, tensor<?x?xi64> -> tensor<?x?x12xf32>
      %1 = quench.rotary %x at %q {head_size = 6 : i64, frequencies = array<f32: 1.0, 0.1>, pairs = "adjacent"} : tensor<?x?x12xf32>, tensor<1x?xi64> -> tensor<?x?x12xf32>
      return %0, %1 : tensor<?x?x12xf32>, tensor<?x?x12xf32>
    })";
  HostTensor x = randomFloats({2, 3, 12}, 4);
  HostTensor p = HostTensor::ofInts({2, 3}, {0, 1, 2, 7, 8, 300});
  HostTensor q = HostTensor::ofInts({1, 3}, {4, 5, 6});
  auto results = run(text, {x, p, q});
  ASSERT_EQ(results.size(), 2u);
  double frequencies[2] = {1, 0.1f};
  for (int row = 0; row < 6; ++row)
    for (int h = 0; h < 2; ++h)
      for (int kind = 0; kind < 2; ++kind) {
        double expected[6];
        int at = row * 12 + h * 6;
        for (int i = 0; i < 6; ++i)
          expected[i] = x.at(at + i);
        for (int i = 0; i < 2; ++i) {
          double angle = frequencies[i] * (kind ? q.at(row % 3) : p.at(row));
          int a = kind ? 2 * i : i, b = kind ? 2 * i + 1 : i + 2;
          expected[a] =
              x.at(at + a) * std::cos(angle) - x.at(at + b) * std::sin(angle);
          expected[b] =
              x.at(at + a) * std::sin(angle) + x.at(at + b) * std::cos(angle);
        }
        for (int i = 0; i < 6; ++i)
          EXPECT_NEAR(results[kind].at(at + i), expected[i], 1e-5);
      }
}

namespace {
struct AttentionCase {
  const char *attributes; // of the op
  bool causal;
  int window; // 0: none
  double cap; // 0: none
  bool keep, bias, split;
};
} // namespace

/// One number of attention, by its definition.
static void checkAttention(const AttentionCase &test) {
  const int batch = 2, sequence = 3, total = 5, heads = 4, kvHeads = 2, d = 6,
            dv = 5;
  std::string kv = test.split ? "tensor<?x2x?x6xf32>" : "tensor<?x?x12xf32>";
  std::string vv = test.split ? "tensor<?x2x?x5xf32>" : "tensor<?x?x10xf32>";
  std::string text =
      "func.func @main(%q: tensor<?x?x24xf32>, %k: " + kv + ", %v: " + vv +
      ", %keep: tensor<?x?xi64>, %bias: tensor<4x1x5xf32>) -> "
      "tensor<?x?x20xf32> {\n"
      "%0 = quench.attention %q, %k, %v" +
      (test.keep ? " keep(%keep : tensor<?x?xi64>)" : "") +
      (test.bias ? " bias(%bias : tensor<4x1x5xf32>)" : "") +
      " {heads = 4 : i64, kv_heads = 2 : i64, scale = 0.5 : f32" +
      test.attributes + "} : tensor<?x?x24xf32>, " + kv + ", " + vv +
      " -> tensor<?x?x20xf32>\n return %0 : tensor<?x?x20xf32> }";
  HostTensor q = randomFloats({batch, sequence, heads * d}, 5);
  HostTensor k = randomFloats({batch, total, kvHeads * d}, 6);
  HostTensor v = randomFloats({batch, total, kvHeads * dv}, 7);
  if (test.split) {
    k = k.reshaped({batch, kvHeads, total, d});
    v = v.reshaped({batch, kvHeads, total, dv});
  }
  HostTensor keep =
      HostTensor::ofInts({batch, total}, {0, 1, 1, 0, 1, 0, 0, 0, 0, 0});
  HostTensor bias = randomFloats({heads, 1, total}, 8);
  std::vector<double> found = numbers(text, {q, k, v, keep, bias}), expected;
  auto at = [&](const HostTensor &t, int b, int j, int h, int i, int size) {
    return test.split ? t.at(((b * kvHeads + h) * total + j) * size + i)
                      : t.at(((b * total + j) * kvHeads + h) * size + i);
  };
  for (int b = 0; b < batch; ++b)
    for (int s = 0; s < sequence; ++s)
      for (int h = 0; h < heads; ++h) {
        double weights[total], sum = 0;
        for (int j = 0; j < total; ++j) {
          int position = s + total - sequence;
          double score = 0;
          for (int i = 0; i < d; ++i)
            score += 0.5 * q.at((b * sequence + s) * heads * d + h * d + i) *
                     at(k, b, j, h / 2, i, d);
          if (test.cap)
            score = test.cap * std::tanh(score / test.cap);
          if (test.bias)
            score += bias.at(h * total + j);
          bool sees = (!test.causal || j <= position) &&
                      (!test.window || j > position - test.window) &&
                      (!test.keep || keep.at(b * total + j) != 0);
          weights[j] = sees ? std::exp(score) : 0;
          sum += weights[j];
        }
        for (int i = 0; i < dv; ++i) {
          double y = 0;
          for (int j = 0; j < total; ++j)
            y += sum ? weights[j] / sum * at(v, b, j, h / 2, i, dv) : 0;
          expected.push_back(y);
        }
      }
  expectNear(found, expected, 1e-5);
}

TEST(Layers, Attention) {
  checkAttention({"", false, 0, 0, false, false, false});
  checkAttention({", causal", true, 0, 0, false, false, true});
  checkAttention(
      {", causal, window = 2 : i64", true, 2, 0, false, false, false});
  checkAttention({", causal", true, 0, 0, true, false, false});
  checkAttention({", soft_cap = 0.3 : f32", false, 0, 0.3, true, true, true});
}

TEST(Layers, LinearEmbeddingExtendLastRows) {
  const char *text = R"(
    quench.initializer @w source(dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xf32>) : tensor<3x2xf32>
    quench.initializer @wt source(dense<[[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]> : tensor<2x3xf32>) : tensor<2x3xf32>
    func.func @main(%ids: tensor<1x?xi64>, %b: tensor<3xf32>, %past: tensor<1x2x?x1xf32>) -> (tensor<1x?x2xf32>, tensor<1x?x3xf32>, tensor<1x?x3xf32>, tensor<1x2x?x1xf32>, tensor<1x?x2xf32>) {
      %w = quench.weight @w : tensor<3x2xf32>
      %x = quench.embedding %ids, %w : (tensor<1x?xi64>, tensor<3x2xf32>) -> tensor<1x?x2xf32>
      %0 = quench.linear %x, %w bias(%b : tensor<3xf32>) {role = "up"} : (tensor<1x?x2xf32>, tensor<3x2xf32>) -> tensor<1x?x3xf32>
      %wt = quench.weight @wt transpose : tensor<3x2xf32>
      %1 = quench.linear %x, %wt : (tensor<1x?x2xf32>, tensor<3x2xf32>) -> tensor<1x?x3xf32>
      %2 = quench.extend %past, %x : tensor<1x2x?x1xf32>, tensor<1x?x2xf32> -> tensor<1x2x?x1xf32>
      %c1 = arith.constant 1 : index
      %3 = quench.last_rows %x, %c1 : tensor<1x?x2xf32> -> tensor<1x?x2xf32>
      return %x, %0, %1, %2, %3 : tensor<1x?x2xf32>, tensor<1x?x3xf32>, tensor<1x?x3xf32>, tensor<1x2x?x1xf32>, tensor<1x?x2xf32>
    })";
  HostTensor bias = HostTensor::ofFloats({3}, {10, 20, 30});
  HostTensor past = HostTensor::ofFloats({1, 2, 1, 1}, {-1, -2});
  auto results = run(text, {HostTensor::ofInts({1, 2}, {2, 0}), bias, past});
  ASSERT_EQ(results.size(), 5u);
  EXPECT_EQ(results[0].values<float>(), llvm::ArrayRef<float>({5, 6, 1, 2}));
  EXPECT_EQ(results[1].values<float>(),
            llvm::ArrayRef<float>({27, 59, 91, 15, 31, 47}));
  EXPECT_EQ(results[2].values<float>(),
            llvm::ArrayRef<float>({17, 39, 61, 5, 11, 17}));
  EXPECT_EQ(results[3].values<float>(),
            llvm::ArrayRef<float>({-1, 5, 1, -2, 6, 2}));
  EXPECT_EQ(results[4].values<float>(), llvm::ArrayRef<float>({1, 2}));
  EXPECT_NE(errorOf(text, {HostTensor::ofInts({1, 2}, {2, 3}), bias, past})
                .find("id 3 at 1 is outside of the vocabulary of 3"),
            std::string::npos);
}

TEST(Layers, ActivationsInInt8) {
  const char *text = R"(
    func.func @main(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
      %q = quench.quantize %x using "rtn" : tensor<?x4xf32> -> !quench.tensor<?x4, "int<8>">
      %0 = quench.dequantize %q : !quench.tensor<?x4, "int<8>"> -> tensor<?x4xf32>
      return %0 : tensor<?x4xf32>
    })";
  std::vector<double> found =
      numbers(text, {HostTensor::ofFloats({3, 4}, {1, -2, 254, 3, 0, 0, 0, 0,
                                                   127, 0.5f, 1.5f, -2.5f})});
  // 254 / 127 = 2; ties of the last row go to even.
  expectNear(found, {0, -2, 254, 4, 0, 0, 0, 0, 127, 0, 2, -2}, 0);
}
