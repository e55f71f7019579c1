//===- EvalTest.cpp - Perplexity, divergence, agreement ---------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Analysis/Eval.h"
#include "gtest/gtest.h"
#include <cmath>

using namespace llvm;
using namespace quench;

TEST(Eval, UniformModel) {
  Evaluation evaluation;
  HostTensor logits =
      HostTensor::ofFloats({1, 6, 4}, std::vector<float>(24, 3));
  ASSERT_FALSE(evaluation.addWindow({0, 1, 2, 3, 0, 1}, logits));
  // Positions 3 and 4 of 0 .. 5.
  EXPECT_EQ(evaluation.tokens(), 2);
  EXPECT_NEAR(evaluation.perplexity(), 4, 1e-12);
  EXPECT_FALSE(evaluation.hasReference());
}

TEST(Eval, DivergenceByHand) {
  // Probabilities (1/2, 1/4, 1/4) and (1/4, 1/2, 1/4) at the one position, 2.
  float l = std::log(2.0f);
  std::vector<float> p(12, 9), q(12, -9);
  p[6] = l, p[7] = 0, p[8] = 0;
  q[6] = 1, q[7] = 1 + l, q[8] = 1;
  HostTensor reference = HostTensor::ofFloats({4, 3}, p);
  HostTensor logits = HostTensor::ofFloats({1, 4, 3}, q);
  Evaluation evaluation;
  ASSERT_FALSE(evaluation.addWindow({0, 0, 0, 1}, logits, &reference));
  EXPECT_EQ(evaluation.tokens(), 1);
  EXPECT_NEAR(evaluation.perplexity(), 2, 1e-6);
  EXPECT_NEAR(evaluation.referencePerplexity(), 4, 1e-6);
  // 1/2 log 2 + 1/4 log 1/2.
  EXPECT_NEAR(evaluation.divergence(), std::log(2) / 4, 1e-6);
  EXPECT_EQ(evaluation.agreement(), 0);
  ASSERT_FALSE(evaluation.addWindow({0, 0, 0, 1}, reference, &reference));
  EXPECT_EQ(evaluation.agreement(), 0.5);
  EXPECT_NEAR(evaluation.divergence(), std::log(2) / 8, 1e-6);
}

TEST(Eval, Windows) {
  std::vector<int64_t> ids(23);
  for (int i = 0; i < 23; ++i)
    ids[i] = i;
  auto windows = cantFail(evaluationWindows(ids, 5));
  ASSERT_EQ(windows.size(), 4u);
  EXPECT_EQ(windows[3][0], 15);
  EXPECT_EQ(cantFail(evaluationWindows(ids, 5, 2)).size(), 2u);
  for (int64_t context : {3, 24}) {
    auto none = evaluationWindows(ids, context);
    ASSERT_FALSE(static_cast<bool>(none));
    consumeError(none.takeError());
  }
}

TEST(Eval, Errors) {
  auto message = [](ArrayRef<int64_t> ids, HostTensor logits,
                    const HostTensor *reference = nullptr) {
    Evaluation evaluation;
    Error error = evaluation.addWindow(ids, logits, reference);
    EXPECT_EQ(evaluation.tokens(), error ? 0 : 1);
    return error ? toString(std::move(error)) : "";
  };
  HostTensor good = HostTensor::ofFloats({4, 2}, std::vector<float>(8, 1));
  EXPECT_EQ(message({0, 1, 0, 1}, good), "");
  EXPECT_NE(message({0, 1, 0, 2}, good).find("outside of the vocabulary"),
            std::string::npos);
  EXPECT_NE(message({0, 1, 0, 1, 0}, good).find("wanted are floats [1, 5"),
            std::string::npos);
  std::vector<float> nan(8, 1);
  nan[5] = NAN;
  EXPECT_NE(message({0, 1, 0, 1}, HostTensor::ofFloats({4, 2}, nan))
                .find("position 2: token 1"),
            std::string::npos);
  HostTensor other = HostTensor::ofFloats({4, 3}, std::vector<float>(12, 1));
  EXPECT_NE(message({0, 1, 0, 1}, good, &other).find("vocabularies"),
            std::string::npos);
}
