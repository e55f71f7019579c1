//===- WeightsTest.cpp - Lazy weight expressions ----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Run.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "quench/Support/ModelFiles.h"
#include <cmath>
#include <cstring>

using namespace mlir;
using namespace quench;

TEST(Weights, MapsOnBothSidesCancel) {
  // x H (W H)^T = x W^T; signs and a diagonal likewise.
  const char *text = R"(
    quench.initializer @w source(dense<[[1.0, -2.0, 3.0, 0.5], [0.25, 4.0, -1.0, 2.0]]> : tensor<2x4xf32>) : tensor<2x4xf32>
    quench.initializer @d source(dense<[2.0, 0.5, 4.0, -1.0]> : tensor<4xf32>) : tensor<4xf32>
    func.func @main(%x: tensor<?x4xf32>) -> (tensor<?x2xf32>, tensor<?x2xf32>, tensor<?x2xf32>) {
      %w = quench.weight @w : tensor<2x4xf32>
      %0 = quench.linear %x, %w : (tensor<?x4xf32>, tensor<2x4xf32>) -> tensor<?x2xf32>
      %x1 = quench.map #quench.signs<4, seed = 3> %x axis(1) : tensor<?x4xf32> -> tensor<?x4xf32>
      %x2 = quench.map #quench.hadamard<4> %x1 axis(1) : tensor<?x4xf32> -> tensor<?x4xf32>
      %w1 = quench.map #quench.signs<4, seed = 3> %w axis(1) : tensor<2x4xf32> -> tensor<2x4xf32>
      %w2 = quench.map #quench.hadamard<4> %w1 axis(1) : tensor<2x4xf32> -> tensor<2x4xf32>
      %1 = quench.linear %x2, %w2 : (tensor<?x4xf32>, tensor<2x4xf32>) -> tensor<?x2xf32>
      %x3 = quench.map #quench.diag<@d, 4> %x axis(1) : tensor<?x4xf32> -> tensor<?x4xf32>
      %w3 = quench.map #quench.diag<@d, 4, inverted = true> %w axis(1) : tensor<2x4xf32> -> tensor<2x4xf32>
      %w4 = quench.map #quench.hadamard<2> %w3 axis(0) : tensor<2x4xf32> -> tensor<2x4xf32>
      %y = quench.linear %x3, %w4 : (tensor<?x4xf32>, tensor<2x4xf32>) -> tensor<?x2xf32>
      %2 = quench.map #quench.hadamard<2> %y axis(1) : tensor<?x2xf32> -> tensor<?x2xf32>
      return %0, %1, %2 : tensor<?x2xf32>, tensor<?x2xf32>, tensor<?x2xf32>
    })";
  auto results = run(text, {HostTensor::ofFloats({1, 4}, {1, 2, 3, 4})});
  ASSERT_EQ(results.size(), 3u);
  double expected[2] = {1 - 4 + 9 + 2, 0.25 + 8 - 3 + 8};
  for (int i = 0; i < 2; ++i)
    for (int r = 0; r < 3; ++r)
      EXPECT_NEAR(results[r].at(i), expected[i], 1e-5);
}

TEST(Weights, QuantizedRows) {
  // int<8>: scale = max / 127 as f16, codes to nearest.
  const char *text = R"(
    quench.initializer @w source(dense<[[127.0, -3.4, 0.6], [1.0, 0.5, -0.25]]> : tensor<2x3xf32>) : tensor<2x3xf32>
    func.func @main(%ids: tensor<2xi64>) -> (tensor<2x3xf32>, tensor<2x3xf32>) {
      %w = quench.weight @w : tensor<2x3xf32>
      %q = quench.quantize %w using "rtn" : tensor<2x3xf32> -> !quench.tensor<2x3, "int<8>">
      %0 = quench.embedding %ids, %q : (tensor<2xi64>, !quench.tensor<2x3, "int<8>">) -> tensor<2x3xf32>
      %1 = quench.dequantize %q : !quench.tensor<2x3, "int<8>"> -> tensor<2x3xf32>
      return %0, %1 : tensor<2x3xf32>, tensor<2x3xf32>
    })";
  auto results = run(text, {HostTensor::ofInts({2}, {0, 1})});
  ASSERT_EQ(results.size(), 2u);
  // 1 / 127 as IEEE half is 0x2008 = 1032 * 2^-17.
  double scale = 1032 * 0x1p-17;
  double expected[6] = {127, -3, 1, 127 * scale, 63 * scale, -32 * scale};
  for (int i = 0; i < 6; ++i) {
    EXPECT_NEAR(results[0].at(i), expected[i], scale * 1.01) << i;
    EXPECT_EQ(results[0].at(i), results[1].at(i));
  }
  EXPECT_EQ(results[0].at(0), 127);
  EXPECT_EQ(results[0].at(1), -3);
  EXPECT_EQ(results[0].at(2), 1);
  EXPECT_FLOAT_EQ(results[0].at(3), expected[3]);
}

TEST(Weights, AssembledCodes) {
  // 4 bits, low first, groups of 2; and codes of a byte without zero points.
  const char *text = R"(
    quench.initializer @c source(dense<[[0x21, 0x43], [0x65, 0x87]]> : tensor<2x2xui8>) : tensor<2x2xui8>
    quench.initializer @s source(dense<[[1.0, 0.5], [2.0, 4.0]]> : tensor<2x2xf32>) : tensor<2x2xf32>
    quench.initializer @z source(dense<[[0x10], [0x32]]> : tensor<2x1xui8>) : tensor<2x1xui8>
    quench.initializer @b source(dense<[[1, -2, 3, -4], [5, -6, 7, -8]]> : tensor<2x4xi8>) : tensor<2x4xi8>
    func.func @main(%ids: tensor<2xi64>) -> (tensor<2x4xf32>, tensor<2x4xf32>) {
      %c = quench.weight @c : tensor<2x2xui8>
      %s = quench.weight @s : tensor<2x2xf32>
      %z = quench.weight @z : tensor<2x1xui8>
      %b = quench.weight @b : tensor<2x4xi8>
      %w = quench.assemble codes(%c : tensor<2x2xui8>) scales(%s : tensor<2x2xf32>) zeros(%z : tensor<2x1xui8>) {bits = 4 : i64, group = 2 : i64} -> tensor<2x4xf32>
      %v = quench.assemble codes(%b : tensor<2x4xi8>) scales(%s : tensor<2x2xf32>) {bits = 8 : i64, group = 2 : i64} -> tensor<2x4xf32>
      %0 = quench.embedding %ids, %w : (tensor<2xi64>, tensor<2x4xf32>) -> tensor<2x4xf32>
      %1 = quench.embedding %ids, %v : (tensor<2xi64>, tensor<2x4xf32>) -> tensor<2x4xf32>
      return %0, %1 : tensor<2x4xf32>, tensor<2x4xf32>
    })";
  auto results = run(text, {HostTensor::ofInts({2}, {0, 1})});
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].values<float>(),
            llvm::ArrayRef<float>({1, 2, 1, 1.5, 6, 8, 16, 20}));
  EXPECT_EQ(results[1].values<float>(),
            llvm::ArrayRef<float>({1, -2, 1.5, -2, 10, -12, 28, -32}));
}

TEST(Weights, FilesAndCache) {
  // The second tensor lies at an odd offset.
  std::vector<char> bytes(17 + 16);
  float numbers[4] = {1, 2, 3, 4};
  uint16_t halves[8] = {0x3c00, 0x4000, 0xc000, 0x3800, 0, 0, 0, 0};
  std::memcpy(bytes.data(), halves, 16);
  std::memcpy(bytes.data() + 17, numbers, 16);
  const char *text = R"(
    quench.initializer @h source(#quench.file<"w.data", 0, 8>) : tensor<2x2xf16>
    quench.initializer @f source(#quench.file<"w.data", 17, 16>) : tensor<2x2xf32>
    func.func @main(%ids: tensor<2xi64>) -> (tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf16>) {
      %h = quench.weight @h transpose : tensor<2x2xf32>
      %f = quench.weight @f : tensor<2x2xf32>
      %g = quench.weight @h : tensor<2x2xf16>
      %0 = quench.embedding %ids, %h : (tensor<2xi64>, tensor<2x2xf32>) -> tensor<2x2xf32>
      %1 = quench.embedding %ids, %f : (tensor<2xi64>, tensor<2x2xf32>) -> tensor<2x2xf32>
      %2 = arith.addf %g, %g : tensor<2x2xf16>
      return %0, %1, %2 : tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf16>
    })";
  auto module = parse(text);
  ASSERT_TRUE(module);
  ModelFiles files("");
  files.addBuffer("w.data", bytes);
  for (int64_t limit : {0, 20, 1 << 20}) {
    InterpreterOptions options;
    options.files = &files;
    options.weightCacheBytes = limit;
    unsigned observed = 0;
    options.observe = [&](Operation *, ArrayRef<HostTensor>) { ++observed; };
    Interpreter interpreter =
        llvm::cantFail(Interpreter::create(*module, options));
    for (int i = 0; i < 2; ++i) {
      auto results = interpreter.run("main", {HostTensor::ofInts({2}, {0, 1})});
      ASSERT_TRUE(static_cast<bool>(results));
      EXPECT_EQ((*results)[0].values<float>(),
                ArrayRef<float>({1, -2, 2, 0.5}));
      EXPECT_EQ((*results)[1].values<float>(), ArrayRef<float>({1, 2, 3, 4}));
      EXPECT_EQ((*results)[2].at(3), 1);
    }
    EXPECT_EQ(observed, 6u);
  }
  Interpreter none = llvm::cantFail(Interpreter::create(*module, {}));
  auto results = none.run("main", {HostTensor::ofInts({2}, {0, 1})});
  ASSERT_FALSE(static_cast<bool>(results));
  EXPECT_NE(llvm::toString(results.takeError()).find("w.data"),
            std::string::npos);
}
