//===- OpsTest.cpp - arith, linalg, tensor, scf -----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Run.h"
#include <cmath>

using namespace quench;

TEST(Interpreter, SwigluOfManyNumbers) {
  const char *text = R"(
    func.func @main(%g: tensor<?x?xf32>, %u: tensor<?x?xf32>) -> tensor<?x?xf32> {
      %0 = arith.negf %g : tensor<?x?xf32>
      %1 = math.exp %0 : tensor<?x?xf32>
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %m = tensor.dim %g, %c0 : tensor<?x?xf32>
      %n = tensor.dim %g, %c1 : tensor<?x?xf32>
      %one = arith.constant 1.0 : f32
      %ones = tensor.splat %one[%m, %n] : tensor<?x?xf32>
      %2 = arith.addf %1, %ones : tensor<?x?xf32>
      %3 = arith.divf %g, %2 : tensor<?x?xf32>
      %4 = arith.mulf %3, %u : tensor<?x?xf32>
      return %4 : tensor<?x?xf32>
    })";
  HostTensor g = randomFloats({37, 41}, 1), u = randomFloats({37, 41}, 2);
  std::vector<double> found = numbers(text, {g, u}), expected;
  for (int i = 0; i < 37 * 41; ++i)
    expected.push_back(g.at(i) / (1 + std::exp(-g.at(i))) * u.at(i));
  expectNear(found, expected, 1e-6);
  // Inputs belong to the caller.
  EXPECT_EQ(g.at(5), randomFloats({37, 41}, 1).at(5));
}

TEST(Interpreter, NarrowIntegersWrap) {
  const char *text = R"(
    func.func @main(%x: tensor<3xi8>, %y: tensor<3xi8>) -> (tensor<3xi8>, tensor<3xi32>, tensor<3xi1>, tensor<3xi1>) {
      %0 = arith.addi %x, %y : tensor<3xi8>
      %1 = arith.extui %0 : tensor<3xi8> to tensor<3xi32>
      %2 = arith.cmpi ult, %x, %y : tensor<3xi8>
      %3 = arith.cmpi slt, %x, %y : tensor<3xi8>
      return %0, %1, %2, %3 : tensor<3xi8>, tensor<3xi32>, tensor<3xi1>, tensor<3xi1>
    })";
  auto results =
      run(text, {HostTensor::of<int8_t>(ElementKind::I8, {3}, {127, -128, 5}),
                 HostTensor::of<int8_t>(ElementKind::I8, {3}, {1, -1, -6})});
  ASSERT_EQ(results.size(), 4u);
  EXPECT_EQ(results[0].values<int8_t>(),
            llvm::ArrayRef<int8_t>({-128, 127, -1}));
  EXPECT_EQ(results[1].values<int32_t>(),
            llvm::ArrayRef<int32_t>({128, 127, 255}));
  EXPECT_EQ(results[2].values<uint8_t>(), llvm::ArrayRef<uint8_t>({0, 1, 1}));
  EXPECT_EQ(results[3].values<uint8_t>(), llvm::ArrayRef<uint8_t>({0, 1, 0}));
}

TEST(Interpreter, FloatComparisons) {
  const char *text = R"(
    func.func @main(%x: tensor<4xf32>, %y: tensor<4xf32>) -> (tensor<4xi1>, tensor<4xi1>, tensor<4xi1>, tensor<4xf32>) {
      %0 = arith.cmpf ole, %x, %y : tensor<4xf32>
      %1 = arith.cmpf une, %x, %y : tensor<4xf32>
      %2 = arith.cmpf uno, %x, %y : tensor<4xf32>
      %3 = arith.select %0, %x, %y : tensor<4xi1>, tensor<4xf32>
      return %0, %1, %2, %3 : tensor<4xi1>, tensor<4xi1>, tensor<4xi1>, tensor<4xf32>
    })";
  auto results = run(text, {HostTensor::ofFloats({4}, {1, 2, 3, NAN}),
                            HostTensor::ofFloats({4}, {1, 1, 4, 0})});
  ASSERT_EQ(results.size(), 4u);
  EXPECT_EQ(results[0].values<uint8_t>(),
            llvm::ArrayRef<uint8_t>({1, 0, 1, 0}));
  EXPECT_EQ(results[1].values<uint8_t>(),
            llvm::ArrayRef<uint8_t>({0, 1, 1, 1}));
  EXPECT_EQ(results[2].values<uint8_t>(),
            llvm::ArrayRef<uint8_t>({0, 0, 0, 1}));
  EXPECT_EQ(results[3].values<float>(), llvm::ArrayRef<float>({1, 1, 3, 0}));
}

TEST(Interpreter, HalvesRoundAfterEachOp) {
  const char *text = R"(
    func.func @main(%x: tensor<1xf16>, %y: tensor<1xbf16>) -> (tensor<1xf16>, tensor<1xbf16>) {
      %0 = arith.addf %x, %x : tensor<1xf16>
      %one = arith.constant dense<1.0> : tensor<1xf16>
      %1 = arith.addf %0, %one : tensor<1xf16>
      %2 = arith.mulf %y, %y : tensor<1xbf16>
      return %1, %2 : tensor<1xf16>, tensor<1xbf16>
    })";
  HostTensor x = HostTensor::scalar(ElementKind::F16, 1024.0).reshaped({1});
  HostTensor y = HostTensor::scalar(ElementKind::BF16, 1.0078125).reshaped({1});
  auto results = run(text, {x, y});
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].at(0), 2048); // 2049 is a tie, rounded to even
  EXPECT_EQ(results[1].at(0), 1.015625);
}

TEST(Interpreter, GenericBroadcastAndReduction) {
  // Mean of squares over the last dimension, then x * rsqrt(mean) * gain.
  const char *text = R"(
    #id = affine_map<(a, b, c) -> (a, b, c)>
    #rows = affine_map<(a, b, c) -> (a, b)>
    #last = affine_map<(a, b, c) -> (c)>
    func.func @main(%x: tensor<?x?x600xf32>, %g: tensor<600xf32>, %e: tensor<?x?xf32>) -> tensor<?x?x600xf32> {
      %zero = arith.constant 0.0 : f32
      %n = arith.constant 600.0 : f32
      %init = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
      %s = linalg.generic {indexing_maps = [#id, #rows], iterator_types = ["parallel", "parallel", "reduction"]}
        ins(%x : tensor<?x?x600xf32>) outs(%init : tensor<?x?xf32>) {
      ^bb0(%a: f32, %acc: f32):
        %0 = arith.mulf %a, %a : f32
        %1 = arith.addf %acc, %0 : f32
        linalg.yield %1 : f32
      } -> tensor<?x?xf32>
      %y = linalg.generic {indexing_maps = [#id, #rows, #last, #id], iterator_types = ["parallel", "parallel", "parallel"]}
        ins(%x, %s, %g : tensor<?x?x600xf32>, tensor<?x?xf32>, tensor<600xf32>) outs(%x : tensor<?x?x600xf32>) {
      ^bb0(%a: f32, %b: f32, %c: f32, %o: f32):
        %0 = arith.divf %b, %n : f32
        %1 = math.rsqrt %0 : f32
        %2 = arith.mulf %a, %1 : f32
        %3 = arith.mulf %2, %c : f32
        linalg.yield %3 : f32
      } -> tensor<?x?x600xf32>
      return %y : tensor<?x?x600xf32>
    })";
  HostTensor x = randomFloats({2, 3, 600}, 3), g = randomFloats({600}, 4);
  std::vector<double> found = numbers(text, {x, g, randomFloats({2, 3}, 5)});
  std::vector<double> expected;
  for (int r = 0; r < 6; ++r) {
    double sum = 0;
    for (int c = 0; c < 600; ++c)
      sum += x.at(r * 600 + c) * x.at(r * 600 + c);
    for (int c = 0; c < 600; ++c)
      expected.push_back(x.at(r * 600 + c) / std::sqrt(sum / 600) * g.at(c));
  }
  expectNear(found, expected, 2e-6);
}

TEST(Interpreter, GenericWithIndicesAndExtract) {
  // out[i, j] = table[ids[i], j] + j - i, and a map with mod.
  const char *text = R"(
    func.func @main(%t: tensor<4x3xf32>, %ids: tensor<2xi64>, %e: tensor<2x3xf32>, %l: tensor<6xf32>) -> (tensor<2x3xf32>, tensor<6xf32>) {
      %0 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
        ins(%ids : tensor<2xi64>) outs(%e : tensor<2x3xf32>) {
      ^bb0(%id: i64, %o: f32):
        %row = arith.index_cast %id : i64 to index
        %i = linalg.index 0 : index
        %j = linalg.index 1 : index
        %v = tensor.extract %t[%row, %j] : tensor<4x3xf32>
        %d = affine.apply affine_map<(a, b) -> (b - a)>(%i, %j)
        %d32 = arith.index_cast %d : index to i32
        %f = arith.sitofp %d32 : i32 to f32
        %s = arith.addf %v, %f : f32
        linalg.yield %s : f32
      } -> tensor<2x3xf32>
      %1 = linalg.generic {indexing_maps = [affine_map<(i) -> ((i + 1) mod 6)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
        ins(%l : tensor<6xf32>) outs(%l : tensor<6xf32>) {
      ^bb0(%a: f32, %o: f32):
        linalg.yield %a : f32
      } -> tensor<6xf32>
      return %0, %1 : tensor<2x3xf32>, tensor<6xf32>
    })";
  HostTensor t = randomFloats({4, 3}, 6), l = randomFloats({6}, 7);
  HostTensor e = randomFloats({2, 3}, 8);
  auto results = run(text, {t, HostTensor::ofInts({2}, {3, 1}), e, l});
  ASSERT_EQ(results.size(), 2u);
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 3; ++j)
      EXPECT_FLOAT_EQ(results[0].at(i * 3 + j),
                      t.at((i ? 1 : 3) * 3 + j) + j - i);
  for (int i = 0; i < 6; ++i)
    EXPECT_EQ(results[1].at(i), l.at((i + 1) % 6));
  EXPECT_NE(errorOf(text, {t, HostTensor::ofInts({2}, {3, 4}), e, l})
                .find("index 4 of dimension 0 of f32[4,3]"),
            std::string::npos);
}

TEST(Interpreter, NamedLinalg) {
  const char *text = R"(
    func.func @main(%a: tensor<2x5x7xf32>, %b: tensor<2x7x4xf32>) -> (tensor<2x5x4xf32>, tensor<7x2x5xf32>, tensor<2x5xf32>, tensor<2x5x3xf32>) {
      %zero = arith.constant 0.0 : f32
      %e = tensor.empty() : tensor<2x5x4xf32>
      %z = linalg.fill ins(%zero : f32) outs(%e : tensor<2x5x4xf32>) -> tensor<2x5x4xf32>
      %p = linalg.batch_matmul ins(%a, %b : tensor<2x5x7xf32>, tensor<2x7x4xf32>) outs(%z : tensor<2x5x4xf32>) -> tensor<2x5x4xf32>
      %te = tensor.empty() : tensor<7x2x5xf32>
      %t = linalg.transpose ins(%a : tensor<2x5x7xf32>) outs(%te : tensor<7x2x5xf32>) permutation = [2, 0, 1]
      %re = tensor.empty() : tensor<2x5xf32>
      %low = arith.constant 0xFF800000 : f32
      %rf = linalg.fill ins(%low : f32) outs(%re : tensor<2x5xf32>) -> tensor<2x5xf32>
      %r = linalg.reduce ins(%a : tensor<2x5x7xf32>) outs(%rf : tensor<2x5xf32>) dimensions = [2]
        (%in: f32, %acc: f32) { %m = arith.maximumf %in, %acc : f32 linalg.yield %m : f32 }
      %be = tensor.empty() : tensor<2x5x3xf32>
      %bc = linalg.broadcast ins(%r : tensor<2x5xf32>) outs(%be : tensor<2x5x3xf32>) dimensions = [2]
      return %p, %t, %r, %bc : tensor<2x5x4xf32>, tensor<7x2x5xf32>, tensor<2x5xf32>, tensor<2x5x3xf32>
    })";
  HostTensor a = randomFloats({2, 5, 7}, 9), b = randomFloats({2, 7, 4}, 10);
  auto results = run(text, {a, b});
  ASSERT_EQ(results.size(), 4u);
  for (int n = 0; n < 2; ++n)
    for (int i = 0; i < 5; ++i) {
      double greatest = -9;
      for (int k = 0; k < 7; ++k) {
        double x = a.at((n * 5 + i) * 7 + k);
        greatest = std::max(greatest, x);
        EXPECT_EQ(results[1].at((k * 2 + n) * 5 + i), x);
      }
      EXPECT_EQ(results[2].at(n * 5 + i), greatest);
      EXPECT_EQ(results[3].at((n * 5 + i) * 3 + 2), greatest);
      for (int j = 0; j < 4; ++j) {
        double sum = 0;
        for (int k = 0; k < 7; ++k)
          sum += a.at((n * 5 + i) * 7 + k) * b.at((n * 7 + k) * 4 + j);
        EXPECT_NEAR(results[0].at((n * 5 + i) * 4 + j), sum, 1e-6);
      }
    }
}

TEST(Interpreter, TensorOps) {
  const char *text = R"(
    func.func @main(%x: tensor<?x6xf32>, %i: index) -> (tensor<2x?xf32>, tensor<?x6xf32>, tensor<4x8xf32>, tensor<?x2x3xf32>, tensor<6x6xf32>, tensor<2x6xf32>) {
      %c0 = arith.constant 0 : index
      %c3 = arith.constant 3 : index
      %s = tensor.extract_slice %x[1, %i] [2, %c3] [1, 2] : tensor<?x6xf32> to tensor<2x?xf32>
      %row = tensor.extract_slice %x[0, 0] [1, 6] [1, 1] : tensor<?x6xf32> to tensor<6xf32>
      %ins = tensor.insert_slice %row into %x[2, 0] [1, 6] [1, 1] : tensor<6xf32> into tensor<?x6xf32>
      %zero = arith.constant 7.0 : f32
      %cast = tensor.cast %x : tensor<?x6xf32> to tensor<3x6xf32>
      %pad = tensor.pad %cast low[0, 2] high[1, 0] { ^bb0(%a: index, %b: index): tensor.yield %zero : f32 } : tensor<3x6xf32> to tensor<4x8xf32>
      %n = tensor.dim %x, %c0 : tensor<?x6xf32>
      %ex = tensor.expand_shape %x [[0], [1, 2]] output_shape [%n, 2, 3] : tensor<?x6xf32> into tensor<?x2x3xf32>
      %cc = tensor.concat dim(0) %cast, %cast : (tensor<3x6xf32>, tensor<3x6xf32>) -> tensor<6x6xf32>
      %ids = arith.constant dense<[[2], [0]]> : tensor<2x1xindex>
      %g = tensor.gather %cast[%ids] gather_dims([0]) : (tensor<3x6xf32>, tensor<2x1xindex>) -> tensor<2x6xf32>
      return %s, %ins, %pad, %ex, %cc, %g : tensor<2x?xf32>, tensor<?x6xf32>, tensor<4x8xf32>, tensor<?x2x3xf32>, tensor<6x6xf32>, tensor<2x6xf32>
    })";
  std::vector<float> count(18);
  for (int i = 0; i < 18; ++i)
    count[i] = i;
  HostTensor x = HostTensor::ofFloats({3, 6}, count);
  auto results =
      run(text, {x, HostTensor::scalar(ElementKind::I64, int64_t(1))});
  ASSERT_EQ(results.size(), 6u);
  EXPECT_EQ(results[0].values<float>(),
            llvm::ArrayRef<float>({7, 9, 11, 13, 15, 17}));
  EXPECT_EQ(results[1].at(12), 0);
  EXPECT_EQ(results[1].at(6), 6);
  EXPECT_EQ(results[2].at(0), 7);
  EXPECT_EQ(results[2].at(2), 0);
  EXPECT_EQ(results[2].at(31), 7);
  EXPECT_EQ(results[2].at(23), 17);
  EXPECT_EQ(results[3].describe(), "f32[3,2,3]");
  EXPECT_EQ(results[4].at(18), 0);
  EXPECT_EQ(results[5].at(0), 12);
  EXPECT_EQ(results[5].at(11), 5);
  EXPECT_NE(errorOf(text, {x, HostTensor::scalar(ElementKind::I64, int64_t(2))})
                .find("slice"),
            std::string::npos);
}

TEST(Interpreter, ControlFlowAndCalls) {
  const char *text = R"(
    func.func private @twice(%x: tensor<2xf32>) -> tensor<2xf32> {
      %0 = arith.addf %x, %x : tensor<2xf32>
      return %0 : tensor<2xf32>
    }
    func.func @main(%x: tensor<2xf32>, %n: index, %c: i1) -> (tensor<2xf32>, index) {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %r:2 = scf.for %i = %c0 to %n step %c1 iter_args(%a = %x, %s = %c0) -> (tensor<2xf32>, index) {
        %0 = func.call @twice(%a) : (tensor<2xf32>) -> tensor<2xf32>
        %1 = index.add %s, %i
        scf.yield %0, %1 : tensor<2xf32>, index
      }
      %y = scf.if %c -> tensor<2xf32> {
        %0 = arith.subf %r#0, %x : tensor<2xf32>
        scf.yield %0 : tensor<2xf32>
      } else {
        scf.yield %x : tensor<2xf32>
      }
      return %y, %r#1 : tensor<2xf32>, index
    })";
  auto results = run(text, {HostTensor::ofFloats({2}, {1, 3}),
                            HostTensor::scalar(ElementKind::I64, int64_t(4)),
                            HostTensor::scalar(ElementKind::I1, int64_t(1))});
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].values<float>(), llvm::ArrayRef<float>({15, 45}));
  EXPECT_EQ(results[1].intAt(0), 6);
}

TEST(Interpreter, NamedDimensions) {
  const char *text = R"(
    func.func @main(%x: tensor<?x?xf32> {quench.dims = ["batch", "s"]}, %y: tensor<?xf32> {quench.dims = ["s"]}) -> index {
      %0 = quench.dim "s"
      return %0 : index
    })";
  auto results = run(text, {randomFloats({2, 3}, 1), randomFloats({3}, 1)});
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].intAt(0), 3);
  EXPECT_NE(errorOf(text, {randomFloats({2, 3}, 1), randomFloats({4}, 1)})
                .find("dimension 's' is 3 in input 0 and 4 in input 1"),
            std::string::npos);
}

TEST(Interpreter, Errors) {
  const char *text = R"(
    func.func @main(%x: tensor<?xf32>, %y: tensor<?xf32>) -> tensor<?xf32> {
      %0 = arith.addf %x, %y : tensor<?xf32>
      return %0 : tensor<?xf32>
    })";
  EXPECT_NE(errorOf(text, {randomFloats({2}, 1), randomFloats({3}, 1)})
                .find("operands of different shapes"),
            std::string::npos);
  EXPECT_NE(errorOf(text, {randomFloats({2}, 1)}).find("takes 2 inputs"),
            std::string::npos);
  EXPECT_NE(
      errorOf(text, {randomFloats({2}, 1), HostTensor::ofInts({2}, {1, 2})})
          .find("input 1 of 'main' is tensor<?xf32>, found i64[2]"),
      std::string::npos);
  const char *unknown = R"(
    func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
      %0 = scf.while (%a = %x) : (tensor<2xf32>) -> tensor<2xf32> {
        %c = arith.constant false
        scf.condition(%c) %a : tensor<2xf32>
      } do { ^bb0(%a: tensor<2xf32>): scf.yield %a : tensor<2xf32> }
      return %0 : tensor<2xf32>
    })";
  EXPECT_NE(errorOf(unknown, {randomFloats({2}, 1)})
                .find("does not know these ops: scf.while"),
            std::string::npos);
}

TEST(Interpreter, ComparesModules) {
  const char *before = R"(func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
      %0 = arith.addf %x, %x : tensor<3xf32>
      return %0 : tensor<3xf32>
    })";
  const char *after = R"(func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
      %c = arith.constant dense<[2.0, 2.0, 2.5]> : tensor<3xf32>
      %0 = arith.mulf %x, %c : tensor<3xf32>
      return %0 : tensor<3xf32>
    })";
  auto a = parse(before), b = parse(after);
  HostTensor x = HostTensor::ofFloats({3}, {1, 5, 2});
  EXPECT_EQ(llvm::cantFail(maxDifference(*a, *a, {x})), 0);
  EXPECT_DOUBLE_EQ(llvm::cantFail(maxDifference(*a, *b, {x})), 0.1);
}
