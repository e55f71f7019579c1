//===- LossTest.cpp - Losses and their gradients ----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Training/Loss.h"
#include "../Interpreter/Run.h"
#include <cmath>

using namespace quench;

/// softmax of one row, in double.
static std::vector<double> softmax(const HostTensor &logits, int64_t row) {
  int64_t n = logits.dim(logits.getRank() - 1);
  std::vector<double> p(n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum += p[i] = std::exp(logits.at(row * n + i));
  for (double &value : p)
    value /= sum;
  return p;
}

static HostTensor scaled(HostTensor tensor, float by) {
  for (int64_t i = 0; i < tensor.getNumElements(); ++i)
    tensor.mutableData<float>()[i] *= by;
  return tensor;
}

TEST(Losses, Divergence) {
  HostTensor p = scaled(randomFloats({1, 5, 37}, 1), 6),
             q = scaled(randomFloats({1, 5, 37}, 2), 6);
  Loss loss = llvm::cantFail(divergence(p, q));
  double expected = 0;
  for (int r = 0; r < 5; ++r) {
    std::vector<double> a = softmax(p, r), b = softmax(q, r);
    for (int i = 0; i < 37; ++i) {
      expected += a[i] * std::log(a[i] / b[i]) / 5;
      EXPECT_NEAR(loss.gradient.at(r * 37 + i), (b[i] - a[i]) / 5, 1e-7);
    }
  }
  EXPECT_NEAR(loss.value, expected, 1e-6);
  EXPECT_NEAR(llvm::cantFail(divergence(p, p)).value, 0, 1e-7);
}

TEST(Losses, DivergenceOfSharpRows) {
  HostTensor p = scaled(randomFloats({3, 8}, 1), 300);
  HostTensor q = scaled(randomFloats({3, 8}, 1), 301);
  Loss loss = llvm::cantFail(divergence(p, q));
  EXPECT_TRUE(std::isfinite(loss.value));
  EXPECT_NEAR(loss.value, 0, 1e-4);
}

TEST(Losses, CrossEntropy) {
  HostTensor q = scaled(randomFloats({4, 9}, 3), 3);
  Loss loss = llvm::cantFail(crossEntropy(q, {0, 8, 3, 3}));
  int64_t targets[] = {0, 8, 3, 3};
  double expected = 0;
  for (int r = 0; r < 4; ++r) {
    std::vector<double> b = softmax(q, r);
    expected -= std::log(b[targets[r]]) / 4;
    for (int i = 0; i < 9; ++i)
      EXPECT_NEAR(loss.gradient.at(r * 9 + i), (b[i] - (i == targets[r])) / 4,
                  1e-7);
  }
  EXPECT_NEAR(loss.value, expected, 1e-6);
}

TEST(Losses, Errors) {
  HostTensor a = randomFloats({4, 9}, 3), b = randomFloats({9, 4}, 3);
  EXPECT_NE(llvm::toString(divergence(a, b).takeError()).find("f32[9,4]"),
            std::string::npos);
  EXPECT_NE(llvm::toString(crossEntropy(a, {0, 1}).takeError())
                .find("2 targets for 4 rows"),
            std::string::npos);
  EXPECT_NE(llvm::toString(crossEntropy(a, {0, 1, 9, 1}).takeError())
                .find("target 9 of 9"),
            std::string::npos);
  a.mutableData<float>()[12] = NAN;
  EXPECT_NE(llvm::toString(divergence(a, randomFloats({4, 9}, 1)).takeError())
                .find("row 1"),
            std::string::npos);
}

/// The mean of sampled gradients is 0, that of their squares p (1 - p).
TEST(Losses, Samples) {
  HostTensor logits = randomFloats({2000, 4}, 5);
  for (int r = 1; r < 2000; ++r)
    for (int i = 0; i < 4; ++i)
      logits.mutableData<float>()[r * 4 + i] = logits.at(i) * 2;
  for (int i = 0; i < 4; ++i)
    logits.mutableData<float>()[i] *= 2;
  HostTensor g = llvm::cantFail(sampledGradient(logits, 7));
  std::vector<double> p = softmax(logits, 0);
  for (int i = 0; i < 4; ++i) {
    double mean = 0, square = 0;
    for (int r = 0; r < 2000; ++r) {
      mean += g.at(r * 4 + i) / 2000;
      square += g.at(r * 4 + i) * g.at(r * 4 + i) / 2000;
    }
    EXPECT_NEAR(mean, 0, 0.03);
    EXPECT_NEAR(square, p[i] * (1 - p[i]), 0.03);
  }
}

TEST(Losses, RowErrors) {
  HostTensor a = randomFloats({2, 3, 4}, 1), b = randomFloats({2, 3, 4}, 2);
  for (int i = 4; i < 8; ++i)
    a.mutableData<float>()[i] = 0; // does not count
  auto value = [&] {
    double sum = 0;
    for (int row = 0; row < 6; ++row) {
      double error = 0, size = 0;
      for (int i = 4 * row; i < 4 * row + 4; ++i) {
        error += std::pow(b.at(i) - a.at(i), 2);
        size += std::pow(a.at(i), 2);
      }
      sum += size ? error / size : 0;
    }
    return sum / 6;
  };
  Loss loss = llvm::cantFail(rowErrors(a, b));
  EXPECT_NEAR(loss.value, value(), 1e-9 * value());
  for (int i = 0; i < 24; ++i) {
    float *at = b.mutableData<float>() + i, was = *at;
    constexpr float step = 1.0f / 64;
    *at = was + step;
    double up = value();
    *at = was - step;
    double down = value();
    *at = was;
    EXPECT_NEAR(loss.gradient.at(i), (up - down) / (2 * step), 1e-5) << i;
  }
}

TEST(Losses, RelativeError) {
  HostTensor a = randomFloats({3, 4}, 1), b = randomFloats({3, 4}, 2);
  double error = 0, size = 0;
  for (int i = 0; i < 12; ++i) {
    error += std::pow(a.at(i) - b.at(i), 2);
    size += a.at(i) * a.at(i);
  }
  Loss loss = llvm::cantFail(relativeError(a, b));
  EXPECT_NEAR(loss.value, error / size, 1e-9);
  for (int i = 0; i < 12; ++i)
    EXPECT_NEAR(loss.gradient.at(i), 2 * (b.at(i) - a.at(i)) / size, 1e-6);
}
