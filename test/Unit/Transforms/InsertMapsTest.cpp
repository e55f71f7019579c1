//===- InsertMapsTest.cpp - Maps leave functions as they are ----*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A decoder of two blocks with random weights, before and after maps: the
// interpreter must find the same results, and other weights.
//
//===----------------------------------------------------------------------===//

#include "quench/Dialect/Quench/Transforms/InsertMaps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "quench/Interpreter/Interpreter.h"
#include "llvm/ADT/StringExtras.h"
#include "gtest/gtest.h"
#include <random>

using namespace mlir;
using namespace quench;

namespace {

/// What the decoder looks like.
struct Shape {
  int64_t width = 24, heads = 4, kvHeads = 2, headSize = 4, inner = 20;
  int64_t vocabulary = 17;
  bool tied = false, biases = false, cache = false;
  /// Elements of the stored matrices: f32, f16 or bf16.
  const char *stored = "f32";
};

class Decoder {
public:
  explicit Decoder(Shape shape) : shape(shape) {}
  std::string text();

private:
  /// An initializer of random numbers around `mean`.
  void initializer(const std::string &name, ArrayRef<int64_t> sizes,
                   double mean = 0);
  std::string weight(const std::string &name, int64_t n, int64_t k);
  std::string vector(const std::string &name, int64_t n, double mean = 0);
  std::string linear(const std::string &name, const std::string &x, int64_t k,
                     int64_t n, StringRef role, bool bias);
  std::string norm(const std::string &name, const std::string &x);
  std::string add(const std::string &a, const std::string &b);
  std::string activation(int64_t n) {
    return "tensor<?x?x" + std::to_string(n) + "xf32>";
  }
  std::string fresh() { return "%" + std::to_string(next++); }

  Shape shape;
  std::string symbols, body;
  std::mt19937 random{7};
  int next = 0;
};

} // namespace

void Decoder::initializer(const std::string &name, ArrayRef<int64_t> sizes,
                          double mean) {
  int64_t count = 1;
  std::string dims, numbers;
  for (int64_t size : sizes) {
    count *= size;
    dims += std::to_string(size) + "x";
  }
  std::normal_distribution<float> normal(mean, 0.3f);
  std::string stored = sizes.size() == 2 ? shape.stored : "f32";
  const llvm::fltSemantics &semantics =
      stored == "f16"    ? llvm::APFloat::IEEEhalf()
      : stored == "bf16" ? llvm::APFloat::BFloat()
                         : llvm::APFloat::IEEEsingle();
  for (int64_t i = 0; i < count; ++i) {
    llvm::APFloat number(normal(random));
    bool inexact;
    number.convert(semantics, llvm::APFloat::rmNearestTiesToEven, &inexact);
    uint64_t bits = number.bitcastToAPInt().getZExtValue();
    for (unsigned b = 0; b < (stored == "f32" ? 4 : 2); ++b)
      numbers += llvm::utohexstr((bits >> (8 * b)) & 255, false, 2);
  }
  std::string type = "tensor<" + dims + stored + ">";
  symbols += "quench.initializer @" + name + " source(dense<\"0x" + numbers +
             "\"> : " + type + ") : " + type + "\n";
}

std::string Decoder::weight(const std::string &name, int64_t n, int64_t k) {
  // Every second one is stored as ONNX's MatMul has it.
  bool transposed = next % 2;
  if (transposed)
    initializer(name, {k, n});
  else
    initializer(name, {n, k});
  std::string value = fresh();
  body += value + " = quench.weight @" + name +
          (transposed ? " transpose" : "") + " : tensor<" + std::to_string(n) +
          "x" + std::to_string(k) + "x" + shape.stored + ">\n";
  return value;
}

std::string Decoder::vector(const std::string &name, int64_t n, double mean) {
  initializer(name, {n}, mean);
  std::string value = fresh();
  body += value + " = quench.weight @" + name + " : tensor<" +
          std::to_string(n) + "xf32>\n";
  return value;
}

std::string Decoder::linear(const std::string &name, const std::string &x,
                            int64_t k, int64_t n, StringRef role, bool bias) {
  std::string w = weight(name, n, k), b;
  if (bias)
    b = vector(name + "_bias", n);
  std::string value = fresh();
  body += value + " = quench.linear " + x + ", " + w;
  if (bias)
    body += " bias(" + b + " : tensor<" + std::to_string(n) + "xf32>)";
  body += " {role = \"" + role.str() + "\"} : (" + activation(k) + ", tensor<" +
          std::to_string(n) + "x" + std::to_string(k) + "x" + shape.stored +
          ">) -> " + activation(n) + " loc(\"/" + name + "/MatMul\")\n";
  return value;
}

std::string Decoder::norm(const std::string &name, const std::string &x) {
  std::string gain = vector(name, shape.width, 1), value = fresh();
  std::string type = activation(shape.width);
  body += value + " = quench.norm \"rms\" " + x + " gain(" + gain +
          " : tensor<" + std::to_string(shape.width) +
          "xf32>) {epsilon = 1.0e-3 : f32} : " + type + " -> " + type + "\n";
  return value;
}

std::string Decoder::add(const std::string &a, const std::string &b) {
  std::string value = fresh();
  body += value + " = arith.addf " + a + ", " + b + " : " +
          activation(shape.width) + "\n";
  return value;
}

std::string Decoder::text() {
  int64_t c = shape.width, q = shape.heads * shape.headSize,
          kv = shape.kvHeads * shape.headSize;
  std::string ids = "tensor<?x?xi64>";
  std::string caches = "tensor<?x" + std::to_string(shape.kvHeads) + "x?x" +
                       std::to_string(shape.headSize) + "xf32>";
  initializer("embed", {shape.vocabulary, c});
  std::string table = "tensor<" + std::to_string(shape.vocabulary) + "x" +
                      std::to_string(c) + "x" + shape.stored + ">";
  body += "%table = quench.weight @embed : " + table + "\n";
  body += "%embedded = quench.embedding %ids, %table : (" + ids + ", " + table +
          ") -> " + activation(c) + " loc(\"/embed/Gather\")\n";
  std::string h = "%embedded", arguments, results, types, attributes;
  for (int block = 0; block < 2; ++block) {
    std::string at = "l" + std::to_string(block) + "_";
    std::string n = norm(at + "ln1", h);
    std::string query = linear(at + "q", n, c, q, "q", shape.biases);
    std::string key = linear(at + "k", n, c, kv, "k", shape.biases);
    std::string value = linear(at + "v", n, c, kv, "v", shape.biases);
    std::string kvType = activation(kv);
    if (shape.cache) {
      for (std::string *rows : {&key, &value}) {
        std::string past = "%past" + std::to_string(block) +
                           (rows == &key ? "k" : "v"),
                    longer = fresh();
        arguments += ", " + past + ": " + caches;
        body += longer + " = quench.extend " + past + ", " + *rows + " : " +
                caches + ", " + kvType + " -> " + caches + "\n";
        *rows = longer;
        results += ", " + longer;
        types += ", " + caches;
      }
      kvType = caches;
    }
    std::string mixed = fresh();
    body += mixed + " = quench.attention " + query + ", " + key + ", " + value +
            " {heads = " + std::to_string(shape.heads) +
            " : i64, kv_heads = " + std::to_string(shape.kvHeads) +
            " : i64, scale = 0.5 : f32, causal} : " + activation(q) + ", " +
            kvType + ", " + kvType + " -> " + activation(q) + "\n";
    h = add(h, linear(at + "o", mixed, q, c, "o", shape.biases));
    n = norm(at + "ln2", h);
    std::string gate = linear(at + "gate", n, c, shape.inner, "gate", false);
    std::string up = linear(at + "up", n, c, shape.inner, "up", shape.biases);
    std::string t = fresh(), p = fresh(), inner = activation(shape.inner);
    body += t + " = math.tanh " + gate + " : " + inner + "\n";
    body += p + " = arith.mulf " + t + ", " + up + " : " + inner + "\n";
    h = add(linear(at + "down", p, shape.inner, c, "down", shape.biases), h);
  }
  std::string n = norm("ln", h), logits = activation(shape.vocabulary);
  std::string result;
  if (shape.tied) {
    result = fresh();
    body += result + " = quench.linear " + n +
            ", %table {role = \"head\"} : (" + activation(c) + ", " + table +
            ") -> " + logits + "\n";
  } else {
    result = linear("head", n, c, shape.vocabulary, "head", false);
  }
  return symbols + "func.func @main(%ids: " + ids + arguments + ") -> (" +
         logits + types + ") {\n" + body + "return " + result + results +
         " : " + logits + types + "\n}\n";
}

namespace {

class InsertMaps : public testing::Test {
protected:
  InsertMaps() {
    context.loadDialect<arith::ArithDialect, func::FuncDialect,
                        linalg::LinalgDialect, math::MathDialect,
                        tensor::TensorDialect, qn::QuenchDialect>();
  }

  /// Transforms the decoder and compares its results. Counts maps on line.
  void check(const Shape &shape, const InsertMapsOptions &options,
             int64_t onLine, bool fresh = true);

  HostTensor ids(int64_t count) {
    std::vector<int64_t> values;
    for (int64_t i = 0; i < count; ++i)
      values.push_back((5 * i + 3) % 17);
    return HostTensor::ofInts({1, count}, values);
  }

  MLIRContext context{MLIRContext::Threading::DISABLED};
  OwningOpRef<ModuleOp> before, after;
  SmallVector<MapDecision> decisions;
};

} // namespace

void InsertMaps::check(const Shape &shape, const InsertMapsOptions &options,
                       int64_t onLine, bool fresh) {
  std::string text = Decoder(shape).text();
  before = parseSourceString<ModuleOp>(text, &context);
  after = parseSourceString<ModuleOp>(text, &context);
  ASSERT_TRUE(before && after) << text;
  decisions.clear();
  ASSERT_TRUE(succeeded(insertMaps(*after, options, &decisions)));
  for (const MapDecision &decision : decisions)
    EXPECT_TRUE(decision.done) << decision.text;
  for (bool canonical : {false, true}) {
    if (canonical) {
      PassManager manager(&context);
      manager.addPass(createCanonicalizerPass());
      ASSERT_TRUE(succeeded(manager.run(*after)));
    }
    ASSERT_TRUE(succeeded(verify(*after)));
    int64_t found = 0;
    after->walk([&](qn::MapOp op) {
      found += cast<ShapedType>(op.getInput().getType()).getRank() == 3;
    });
    EXPECT_EQ(found, onLine);
    SmallVector<HostTensor> inputs = {ids(9)};
    if (shape.cache)
      for (int i = 0; i < 4; ++i)
        inputs.push_back(
            HostTensor::ofFloats({1, shape.kvHeads, 0, shape.headSize}, {}));
    if (!fresh)
      continue;
    llvm::Expected<double> difference = maxDifference(*before, *after, inputs);
    ASSERT_TRUE(bool(difference)) << llvm::toString(difference.takeError());
    EXPECT_LT(*difference, 1e-5);
  }
}

// Acceptance H3, as all tests below: outputs within 1e-5 of their largest.
TEST_F(InsertMaps, StreamIsFolded) {
  check({}, {true, false, false, false, 1}, 0);
  EXPECT_EQ(decisions.size(), 1u);
  // The gains are gone, and weights are others.
  after->walk([](qn::NormOp norm) { EXPECT_FALSE(norm.getGain()); });
  auto a = Interpreter::create(*before, {}),
       b = Interpreter::create(*after, {});
  ASSERT_TRUE(a && b);
  SmallVector<Value> weights[2];
  before->walk([&](qn::LinearOp op) { weights[0].push_back(op.getWeight()); });
  after->walk([&](qn::LinearOp op) { weights[1].push_back(op.getWeight()); });
  ASSERT_EQ(weights[0].size(), 15u);
  ASSERT_EQ(weights[1].size(), 15u);
  for (auto [x, y] : llvm::zip(weights[0], weights[1])) {
    auto difference = maxDifference(llvm::cantFail(a->evaluateWeight(x)),
                                    llvm::cantFail(b->evaluateWeight(y)));
    EXPECT_GT(llvm::cantFail(std::move(difference)), 0.05);
  }
}

TEST_F(InsertMaps, AllWidths) {
  // Of a power of two; with a construction; blocks only (of 2, of 4).
  for (int64_t width : {16, 20, 24, 6, 92}) {
    Shape shape;
    shape.width = width;
    check(shape, {true, true, false, true, 3}, 2);
  }
}

TEST_F(InsertMaps, Biases) {
  Shape shape;
  shape.biases = true;
  check(shape, {true, true, false, true, 5}, 2);
}

TEST_F(InsertMaps, HalfPrecisionWeights) {
  for (const char *stored : {"f16", "bf16"}) {
    Shape shape;
    shape.stored = stored;
    check(shape, {true, true, false, true, 5}, 2);
  }
}

TEST_F(InsertMaps, TiedHeadStaysTied) {
  Shape shape;
  shape.tied = true;
  check(shape, {true, true, false, false, 5}, 4);
  // Embedding and head read the same expression.
  SmallVector<Value> tables;
  after->walk([&](qn::EmbeddingOp op) { tables.push_back(op.getTable()); });
  after->walk([&](qn::LinearOp op) {
    if (op.getRole() == "head")
      tables.push_back(op.getWeight());
  });
  ASSERT_EQ(tables.size(), 2u);
  EXPECT_EQ(tables[0], tables[1]);
}

TEST_F(InsertMaps, DownAndValues) {
  check({}, {false, true, false, false, 0}, 2);
  check({}, {false, true, true, false, 0}, 4);
  check({}, {false, false, false, true, 0}, 0);
  Shape shape;
  shape.headSize = 6; // blocks of two
  check(shape, {false, false, false, true, 0}, 0);
  shape.biases = true;
  check(shape, {false, false, false, true, 0}, 0);
}

/// Token by token with the caches that the function gave back.
TEST_F(InsertMaps, CachesHoldTurnedValues) {
  Shape shape;
  shape.cache = true;
  check(shape, {true, false, false, true, 0}, 0, /*fresh=*/false);
  auto function = after->lookupSymbol<func::FuncOp>("main");
  for (int i = 1; i <= 4; ++i) {
    EXPECT_EQ(bool(function.getArgAttr(i, "quench.map")), i % 2 == 0);
    EXPECT_EQ(bool(function.getResultAttr(i, "quench.map")), i % 2 == 0);
  }
  auto a = Interpreter::create(*before, {}),
       b = Interpreter::create(*after, {});
  ASSERT_TRUE(a && b);
  SmallVector<HostTensor> caches[2];
  for (int i = 0; i < 4; ++i)
    for (auto &cache : caches)
      cache.push_back(
          HostTensor::ofFloats({1, shape.kvHeads, 0, shape.headSize}, {}));
  for (int step = 0; step < 4; ++step) {
    HostTensor logits[2];
    for (int side = 0; side < 2; ++side) {
      SmallVector<HostTensor> inputs = {ids(step + 1)};
      inputs.append(caches[side]);
      auto results = (side ? *b : *a).run("main", inputs);
      ASSERT_TRUE(bool(results)) << llvm::toString(results.takeError());
      logits[side] = (*results)[0];
      caches[side].assign(results->begin() + 1, results->end());
    }
    EXPECT_LT(llvm::cantFail(maxDifference(logits[0], logits[1])), 1e-5);
    EXPECT_LT(llvm::cantFail(maxDifference(caches[0][0], caches[1][0])), 1e-5);
    EXPECT_GT(llvm::cantFail(maxDifference(caches[0][1], caches[1][1])), 1e-2);
  }
}
