//===- GradientTest.cpp - Gradients of each op ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GradientCheck.h"
#include <cmath>

using namespace quench;

TEST(Gradients, Linear) {
  checkGradients(R"(
    func.func @main(%x: tensor<?x?x5xf32>, %w: tensor<7x5xf32>, %b: tensor<7xf32>) -> tensor<?x?x7xf32> {
      %0 = quench.linear %x, %w bias(%b : tensor<7xf32>) : (tensor<?x?x5xf32>, tensor<7x5xf32>) -> tensor<?x?x7xf32>
      return %0 : tensor<?x?x7xf32>
    })",
                 {randomFloats({2, 3, 5}, 1), randomFloats({7, 5}, 2),
                  randomFloats({7}, 3)});
}

TEST(Gradients, ValuesWithSeveralUses) {
  checkGradients(R"(
    func.func @main(%x: tensor<3x5xf32>, %w: tensor<5x5xf32>) -> (tensor<3x5xf32>, tensor<3x5xf32>) {
      %0 = quench.linear %x, %w : (tensor<3x5xf32>, tensor<5x5xf32>) -> tensor<3x5xf32>
      %1 = quench.linear %0, %w : (tensor<3x5xf32>, tensor<5x5xf32>) -> tensor<3x5xf32>
      %2 = arith.addf %0, %1 : tensor<3x5xf32>
      %3 = arith.mulf %2, %2 : tensor<3x5xf32>
      return %3, %0 : tensor<3x5xf32>, tensor<3x5xf32>
    })",
                 {randomFloats({3, 5}, 1), randomFloats({5, 5}, 2)});
}

TEST(Gradients, Norms) {
  const char *text = R"(
    func.func @main(%x: tensor<?x?x5xf32>, %g: tensor<5xf32>, %b: tensor<5xf32>) -> (tensor<?x?x5xf32>, tensor<?x?x5xf32>, tensor<?x?x5xf32>) {
      %0 = quench.norm "rms" %x gain(%g : tensor<5xf32>) {epsilon = 0.125 : f32} : tensor<?x?x5xf32> -> tensor<?x?x5xf32>
      %1 = quench.norm "layer" %x gain(%g : tensor<5xf32>) bias(%b : tensor<5xf32>) {epsilon = 0.25 : f32} : tensor<?x?x5xf32> -> tensor<?x?x5xf32>
      %2 = quench.norm "layer" %x bias(%b : tensor<5xf32>) {epsilon = 0.0625 : f32} : tensor<?x?x5xf32> -> tensor<?x?x5xf32>
      return %0, %1, %2 : tensor<?x?x5xf32>, tensor<?x?x5xf32>, tensor<?x?x5xf32>
    })";
  checkGradients(text, {randomFloats({2, 40, 5}, 1), randomFloats({5}, 2),
                        randomFloats({5}, 3)});
}

TEST(Gradients, Rotary) {
  checkGradients(R"(
    func.func @main(%x: tensor<?x?x12xf32>, %p: tensor<?x?xi64>) -> (tensor<?x?x12xf32>, tensor<?x?x12xf32>) {
      %0 = quench.rotary %x at %p {head_size = 6 : i64, frequencies = array<f32: 1.0, 0.1>} : tensor<?x?x12xf32>, tensor<?x?xi64> -> tensor<?x?x12xf32>
      %1 = quench.rotary %x at %p {head_size = 6 : i64, frequencies = array<f32: 1.0, 0.1>, pairs = "adjacent"} : tensor<?x?x12xf32>, tensor<?x?xi64> -> tensor<?x?x12xf32>
      return %0, %1 : tensor<?x?x12xf32>, tensor<?x?x12xf32>
    })",
                 {randomFloats({2, 3, 12}, 4),
                  HostTensor::ofInts({2, 3}, {0, 1, 2, 7, 8, 300})});
}

/// Grouped heads with each kind of mask.
static void checkAttention(const std::string &attributes, bool keep, bool split,
                           int64_t sequence) {
  std::string kv = split ? "tensor<?x2x?x6xf32>" : "tensor<?x?x12xf32>";
  std::string vv = split ? "tensor<?x2x?x5xf32>" : "tensor<?x?x10xf32>";
  std::string text =
      "func.func @main(%q: tensor<?x?x24xf32>, %k: " + kv + ", %v: " + vv +
      ", %keep: tensor<?x?xi64>) -> tensor<?x?x20xf32> {\n"
      "%0 = quench.attention %q, %k, %v" +
      (keep ? " keep(%keep : tensor<?x?xi64>)" : "") +
      " {heads = 4 : i64, kv_heads = 2 : i64, scale = 0.5 : f32" + attributes +
      "} : tensor<?x?x24xf32>, " + kv + ", " + vv +
      " -> tensor<?x?x20xf32>\n return %0 : tensor<?x?x20xf32> }";
  HostTensor q = randomFloats({2, sequence, 24}, 5);
  HostTensor k = randomFloats({2, 5, 12}, 6), v = randomFloats({2, 5, 10}, 7);
  if (split) {
    k = k.reshaped({2, 2, 5, 6});
    v = v.reshaped({2, 2, 5, 5});
  }
  checkGradients(
      text,
      {q, k, v, HostTensor::ofInts({2, 5}, {0, 1, 1, 0, 1, 0, 0, 0, 0, 0})});
}

TEST(Gradients, Attention) {
  checkAttention("", false, false, 3);
  checkAttention(", causal", false, true, 5);
  checkAttention(", causal, window = 2 : i64", false, false, 3);
  checkAttention(", soft_cap = 0.5 : f32", true, true, 3);
}

/// One elementwise body of x (and y).
static void checkBody(const std::string &body, bool positive = false) {
  std::string text =
      "#m = affine_map<(d0, d1) -> (d0, d1)>\n"
      "func.func @main(%x: tensor<?x4xf32>, %y: tensor<?x4xf32>) -> "
      "tensor<?x4xf32> {\n"
      "%one = arith.constant 1.0 : f32\n"
      "%c = arith.constant 0.25 : f32\n"
      "%0 = linalg.generic {indexing_maps = [#m, #m, #m], iterator_types = "
      "[\"parallel\", \"parallel\"]} ins(%x, %y : tensor<?x4xf32>, "
      "tensor<?x4xf32>) outs(%x : tensor<?x4xf32>) {\n"
      "^bb0(%a: f32, %b: f32, %out: f32):\n" +
      body +
      "linalg.yield %r : f32 } -> tensor<?x4xf32>\n"
      "return %0 : tensor<?x4xf32> }";
  HostTensor x = randomFloats({3, 4}, 1), y = randomFloats({3, 4}, 2);
  if (positive)
    for (HostTensor *tensor : {&x, &y})
      for (int i = 0; i < 12; ++i) {
        float &value = tensor->mutableData<float>()[i];
        value = 0.5f + std::fabs(value);
      }
  SCOPED_TRACE(body);
  checkGradients(text, {x, y}, 1.0 / 256);
}

TEST(Gradients, ScalarOps) {
  for (const char *op : {"addf", "subf", "mulf", "divf", "maximumf", "minimumf",
                         "maxnumf", "minnumf"})
    checkBody("%r = arith." + std::string(op) + " %a, %b : f32\n",
              /*positive=*/std::string(op) == "divf");
  for (const char *op : {"exp", "expm1", "exp2", "log", "log2", "log1p", "tanh",
                         "sqrt", "rsqrt", "erf", "sin", "cos", "absf"})
    checkBody("%s = math." + std::string(op) +
                  " %a : f32\n"
                  "%r = arith.mulf %s, %b : f32\n",
              /*positive=*/true);
  checkBody("%r = math.powf %a, %b : f32\n", true);
  checkBody("%s = arith.negf %a : f32\n%r = math.fma %s, %b, %a : f32\n");
  checkBody("%p = arith.cmpf ogt, %a, %c : f32\n"
            "%s = arith.mulf %a, %a : f32\n"
            "%r = arith.select %p, %s, %b : f32\n");
}

TEST(Gradients, SwiGLU) {
  checkBody("%n = arith.negf %a : f32\n%e = math.exp %n : f32\n"
            "%s = arith.addf %e, %one : f32\n%d = arith.divf %one, %s : f32\n"
            "%g = arith.mulf %a, %d : f32\n%r = arith.mulf %g, %b : f32\n");
}

TEST(Gradients, GELU) {
  checkBody("%e = math.erf %a : f32\n%s = arith.addf %e, %one : f32\n"
            "%h = arith.mulf %s, %a : f32\n%r = arith.addf %h, %b : f32\n");
}

TEST(Gradients, SigmoidFarBelowZero) {
  const char *text = R"(
    func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
      %n = arith.negf %x : tensor<2xf32>
      %e = math.exp %n : tensor<2xf32>
      %one = arith.constant dense<1.0> : tensor<2xf32>
      %s = arith.addf %e, %one : tensor<2xf32>
      %d = arith.divf %one, %s : tensor<2xf32>
      return %d : tensor<2xf32>
    })";
  auto gradients =
      gradientsOf(text, {HostTensor::ofFloats({2}, {-100.0f, 100.0f})});
  ASSERT_TRUE(static_cast<bool>(gradients));
  EXPECT_EQ((*gradients)[0].at(0), 0);
  EXPECT_NEAR((*gradients)[0].at(1), 0, 1e-37);
}

TEST(Gradients, Broadcasts) {
  checkGradients(R"(
    #full = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
    #last = affine_map<(d0, d1, d2) -> (d2)>
    #some = affine_map<(d0, d1, d2) -> (d1, 0)>
    func.func @main(%x: tensor<2x3x4xf32>, %b: tensor<4xf32>, %s: tensor<3x1xf32>) -> tensor<2x3x4xf32> {
      %e = tensor.empty() : tensor<2x3x4xf32>
      %0 = linalg.generic {indexing_maps = [#full, #last, #some, #full], iterator_types = ["parallel", "parallel", "parallel"]}
        ins(%x, %b, %s : tensor<2x3x4xf32>, tensor<4xf32>, tensor<3x1xf32>) outs(%e : tensor<2x3x4xf32>) {
      ^bb0(%a: f32, %c: f32, %d: f32, %o: f32):
        %1 = arith.mulf %a, %c : f32
        %2 = arith.mulf %1, %d : f32
        %3 = arith.addf %2, %c : f32
        linalg.yield %3 : f32
      } -> tensor<2x3x4xf32>
      return %0 : tensor<2x3x4xf32>
    })",
                 {randomFloats({2, 3, 4}, 1), randomFloats({4}, 2),
                  randomFloats({3, 1}, 3)});
}

TEST(Gradients, Sums) {
  checkGradients(R"(
    #full = affine_map<(d0, d1) -> (d0, d1)>
    #row = affine_map<(d0, d1) -> (d0)>
    func.func @main(%x: tensor<3x4xf32>, %i: tensor<3xf32>) -> (tensor<3xf32>, tensor<3x3xf32>) {
      %0 = linalg.generic {indexing_maps = [#full, #row], iterator_types = ["parallel", "reduction"]}
        ins(%x : tensor<3x4xf32>) outs(%i : tensor<3xf32>) {
      ^bb0(%a: f32, %o: f32):
        %1 = arith.mulf %a, %a : f32
        %2 = arith.addf %o, %1 : f32
        linalg.yield %2 : f32
      } -> tensor<3xf32>
      %e = tensor.empty() : tensor<4x3xf32>
      %t = linalg.transpose ins(%x : tensor<3x4xf32>) outs(%e : tensor<4x3xf32>) permutation = [1, 0]
      %z = arith.constant dense<0.0> : tensor<3x3xf32>
      %m = linalg.matmul ins(%x, %t : tensor<3x4xf32>, tensor<4x3xf32>) outs(%z : tensor<3x3xf32>) -> tensor<3x3xf32>
      return %0, %m : tensor<3xf32>, tensor<3x3xf32>
    })",
                 {randomFloats({3, 4}, 1), randomFloats({3}, 2)});
}

TEST(Gradients, Movement) {
  checkGradients(R"(
    func.func @main(%x: tensor<2x6xf32>, %past: tensor<1x2x1x3xf32>, %rows: tensor<1x2x6xf32>) -> (tensor<2x2xf32>, tensor<4x6xf32>, tensor<1x2x3x3xf32>, tensor<1x1x6xf32>) {
      %0 = tensor.extract_slice %x[0, 1] [2, 2] [1, 3] : tensor<2x6xf32> to tensor<2x2xf32>
      %y = arith.mulf %x, %x : tensor<2x6xf32>
      %1 = tensor.concat dim(0) %x, %y : (tensor<2x6xf32>, tensor<2x6xf32>) -> tensor<4x6xf32>
      %2 = quench.extend %past, %rows : tensor<1x2x1x3xf32>, tensor<1x2x6xf32> -> tensor<1x2x3x3xf32>
      %c = arith.constant 1 : index
      %3 = quench.last_rows %rows, %c : tensor<1x2x6xf32> -> tensor<1x1x6xf32>
      return %0, %1, %2, %3 : tensor<2x2xf32>, tensor<4x6xf32>, tensor<1x2x3x3xf32>, tensor<1x1x6xf32>
    })",
                 {randomFloats({2, 6}, 1), randomFloats({1, 2, 1, 3}, 2),
                  randomFloats({1, 2, 6}, 3)});
}

TEST(Gradients, EmbeddingAndMap) {
  checkGradients(
      R"(
    func.func @main(%ids: tensor<1x4xi64>, %t: tensor<5x12xf32>) -> tensor<1x4x12xf32> {
      %0 = quench.embedding %ids, %t : (tensor<1x4xi64>, tensor<5x12xf32>) -> tensor<1x4x12xf32>
      %1 = quench.map #quench.hadamard<12> %0 axis(2) : tensor<1x4x12xf32> -> tensor<1x4x12xf32>
      return %1 : tensor<1x4x12xf32>
    })",
      {HostTensor::ofInts({1, 4}, {3, 0, 3, 1}), randomFloats({5, 12}, 1)});
}

TEST(Gradients, ErrorsNameTheOp) {
  auto gradients = gradientsOf(R"(
    #full = affine_map<(d0, d1) -> (d0, d1)>
    #row = affine_map<(d0, d1) -> (d0)>
    func.func @main(%x: tensor<3x4xf32>) -> tensor<3xf32> {
      %i = arith.constant dense<-9.0> : tensor<3xf32>
      %0 = linalg.generic {indexing_maps = [#full, #row], iterator_types = ["parallel", "reduction"]}
        ins(%x : tensor<3x4xf32>) outs(%i : tensor<3xf32>) {
      ^bb0(%a: f32, %o: f32):
        %2 = arith.maximumf %o, %a : f32
        linalg.yield %2 : f32
      } -> tensor<3xf32>
      return %0 : tensor<3xf32>
    })",
                               {randomFloats({3, 4}, 1)});
  ASSERT_FALSE(static_cast<bool>(gradients));
  std::string message = llvm::toString(gradients.takeError());
  EXPECT_NE(message.find("linalg.generic"), std::string::npos);
  EXPECT_NE(message.find("no sum"), std::string::npos);
}
