//===- RecipeTest.cpp - Recipes and what they decide ------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Recipe/Recipe.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace quench;

static std::string errorOf(StringRef text) {
  llvm::Expected<Recipe> recipe = parseRecipe(text, "my.yaml");
  return recipe ? "" : llvm::toString(recipe.takeError());
}

#define EXPECT_CONTAINS(TEXT, PART)                                            \
  EXPECT_NE((TEXT).find(PART), std::string::npos) << TEXT

TEST(Recipe, BuiltinOnes) {
  auto list = listRecipes();
  std::vector<std::string> names;
  for (auto &[name, description] : list) {
    names.push_back(name);
    llvm::Expected<Recipe> recipe = loadRecipe(name);
    ASSERT_TRUE(static_cast<bool>(recipe))
        << llvm::toString(recipe.takeError());
    EXPECT_EQ(recipe->name, name);
    EXPECT_EQ(recipe->description, description);
    EXPECT_FALSE(description.empty());
    // What is printed is read again as the same.
    std::string text = printRecipe(*recipe);
    llvm::Expected<Recipe> again = parseRecipe(text, "again");
    ASSERT_TRUE(static_cast<bool>(again))
        << llvm::toString(again.takeError()) << text;
    EXPECT_EQ(printRecipe(*again), text);
    EXPECT_EQ(again->rules.size(), recipe->rules.size());
  }
  EXPECT_EQ(names, std::vector<std::string>({"f32",
                                             "w8",
                                             "w4",
                                             "w4-zp",
                                             "w3",
                                             "w2",
                                             "nf4",
                                             "ternary",
                                             "e8p",
                                             "a8",
                                             "w8a8",
                                             "w4a8",
                                             "quarot-a8",
                                             "quarot-w4a8",
                                             "gptq4",
                                             "gptq3",
                                             "e8p-ldlq",
                                             "trellis4",
                                             "trellis3",
                                             "trellis2",
                                             "billm",
                                             "budget",
                                             "budget-two-sided"}));
  Recipe recipe = llvm::cantFail(loadRecipe("quarot-w4a8"));
  EXPECT_TRUE(recipe.rotate.stream && recipe.rotate.down);
  EXPECT_FALSE(recipe.rotate.values || recipe.rotate.o);
  EXPECT_EQ(recipe.activations, Activations::Int8);
  EXPECT_EQ(recipe.rules.back().format, "int<4, group = 32>");
}

TEST(Recipe, Errors) {
  EXPECT_CONTAINS(errorOf("name: x\nrules:\n  - role: qq\n    format: keep\n"),
                  "role: 'qq', accepted are q, k, v");
  EXPECT_CONTAINS(errorOf("name: x\nrules:\n  - role: qq\n    format: keep\n"),
                  "'my.yaml', line 3");
  EXPECT_CONTAINS(errorOf("name: x\nrules:\n  - format: int<9>\n"), "line 3");
  EXPECT_CONTAINS(errorOf("name: x\nrules:\n  - format: int<9>\n"), "int<9>");
  EXPECT_CONTAINS(
      errorOf("name: x\nrules:\n  - format: keep\n    quantizer: magic\n"),
      "line 4: quantizer 'magic': there is no quantizer 'magic'; there are: ");
  EXPECT_CONTAINS(
      errorOf("name: x\nrotate: all\nrules: []\n"),
      "rotate: 'all', accepted are none, or some of stream, values, o "
      "and down joined by +");
  EXPECT_CONTAINS(errorOf("name: x\nactivations: f16\nrules: []\n"),
                  "activations: 'f16'");
  EXPECT_CONTAINS(errorOf("name: x\nrules: []\ncolour: red\n"),
                  "unknown key 'colour'");
  EXPECT_CONTAINS(errorOf("rules: []\n"), "missing required key 'name'");
  EXPECT_CONTAINS(errorOf("name: x\n"), "missing required key 'rules'");
  EXPECT_CONTAINS(
      errorOf("name: x\nrules:\n  - format: keep\n    name: \"[a\"\n"),
      "no pattern");
  for (const char *text :
       {"", "[", "a: [b", "- 1", "name: {", "\x01\x02", "name: x\nrules: 3\n",
        "name: x\nseed: -1\nrules: []", "name: x\nrules:\n  - 3\n"})
    EXPECT_CONTAINS(errorOf(text), "my.yaml");
  EXPECT_CONTAINS(llvm::toString(loadRecipe("w5").takeError()),
                  "no recipe 'w5'; there are f32, w8");
  EXPECT_CONTAINS(llvm::toString(loadRecipe("no/such.yaml").takeError()),
                  "'no/such.yaml': cannot read");
}

static const char *kModel = R"(
  quench.initializer @embed source(dense<0.5> : tensor<6x4xf32>) : tensor<6x4xf32>
  quench.initializer @"blk.0.gate" source(dense<0.5> : tensor<8x4xf32>) : tensor<8x4xf32>
  quench.initializer @up source(dense<0.5> : tensor<4x8xf32>) : tensor<4x8xf32>
  quench.initializer @down source(dense<0.5> : tensor<4x8xf32>) : tensor<4x8xf32>
  func.func @main(%ids: tensor<?xi64>) -> tensor<?x6xf32> {
    %e = quench.weight @embed : tensor<6x4xf32>
    %x = quench.embedding %ids, %e : (tensor<?xi64>, tensor<6x4xf32>) -> tensor<?x4xf32>
    %wg = quench.weight @"blk.0.gate" : tensor<8x4xf32>
    %g = quench.linear %x, %wg {role = "gate"} : (tensor<?x4xf32>, tensor<8x4xf32>) -> tensor<?x8xf32> loc("node/gate")
    %wu = quench.weight @up transpose : tensor<8x4xf32>
    %u = quench.linear %x, %wu {role = "up"} : (tensor<?x4xf32>, tensor<8x4xf32>) -> tensor<?x8xf32>
    %p = arith.mulf %g, %u : tensor<?x8xf32>
    %wd = quench.weight @down : tensor<4x8xf32>
    %d = quench.linear %p, %wd {role = "down"} : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
    %y = quench.linear %d, %e {role = "head"} : (tensor<?x4xf32>, tensor<6x4xf32>) -> tensor<?x6xf32>
    return %y : tensor<?x6xf32>
  })";

static MLIRContext &context() {
  static auto *made = [] {
    auto *context = new MLIRContext(MLIRContext::Threading::DISABLED);
    context->loadDialect<arith::ArithDialect, func::FuncDialect,
                         qn::QuenchDialect>();
    return context;
  }();
  return *made;
}

TEST(Recipe, AppliesSharedAndTied) {
  auto module = parseSourceString<ModuleOp>(kModel, &context());
  ASSERT_TRUE(module);
  ASSERT_TRUE(
      succeeded(applyRecipe(*module, llvm::cantFail(loadRecipe("w4a8")))));
  ASSERT_TRUE(succeeded(verify(*module)));
  unsigned weights = 0, activations = 0;
  module->walk([&](qn::QuantizeOp op) {
    bool isWeight = op.getInput().getDefiningOp<qn::WeightOp>() != nullptr;
    ++(isWeight ? weights : activations);
    StringRef spec = op.getType().getFormat().getSpec();
    if (!isWeight)
      EXPECT_EQ(spec, "int<8>");
    else
      EXPECT_EQ(spec, op.getType().getShape()[0] == 6 ? "int<8, group = 32>"
                                                      : "int<4, group = 32>");
  });
  // The table and the head are one; gate and up read one input.
  EXPECT_EQ(weights, 4u);
  EXPECT_EQ(activations, 3u);
  // Applied twice nothing more is quantized.
  ASSERT_TRUE(
      succeeded(applyRecipe(*module, llvm::cantFail(loadRecipe("w4a8")))));
  unsigned all = 0;
  module->walk([&](qn::QuantizeOp) { ++all; });
  EXPECT_EQ(all, 7u);
}

TEST(Recipe, RulesInOrder) {
  auto module = parseSourceString<ModuleOp>(kModel, &context());
  ASSERT_TRUE(module);
  Recipe recipe = llvm::cantFail(parseRecipe(R"(
name: mine
activations: int8
rules:
  - name: "*0.gate"
    format: int<3,group=32,zero>
    quantizer: rtn<search>
    activations: f32
  - role: gate, down
    format: nf4
  - role: linear
    format: keep
)",
                                             "mine.yaml"));
  LayerPlans plans = llvm::cantFail(planLayers(*module, recipe));
  ASSERT_EQ(plans.size(), 5u);
  for (auto &[op, plan] : plans) {
    StringRef role = layerRole(op);
    if (role == "gate") {
      EXPECT_EQ(plan.format, "int<3, group = 32, zero>");
      EXPECT_EQ(plan.quantizer, "rtn<search>");
      EXPECT_EQ(plan.activations, Activations::F32);
      EXPECT_EQ(layerName(op), "node/gate");
    } else if (role == "down") {
      EXPECT_EQ(plan.format, "nf4<group = 64>");
      EXPECT_EQ(plan.activations, Activations::Int8);
    } else {
      EXPECT_EQ(plan.format, "");
      EXPECT_EQ(plan.activations == Activations::Int8, role == "up");
    }
  }
}

TEST(Recipe, RulesWithoutLayers) {
  auto module = parseSourceString<ModuleOp>(kModel, &context());
  ASSERT_TRUE(module);
  auto message = [&](StringRef rules) {
    Recipe recipe = llvm::cantFail(
        parseRecipe(("name: mine\nrules:\n" + rules).str(), "mine.yaml"));
    auto plans = planLayers(*module, recipe);
    return plans ? std::string() : llvm::toString(plans.takeError());
  };
  EXPECT_CONTAINS(message("  - role: q\n    format: keep\n"),
                  "'mine.yaml': rule 1 (role: q) matches no layer of the "
                  "model; it has 1 embedding, 1 gate, 1 up, 1 down, 1 head");
  EXPECT_EQ(message("  - role: q\n    format: keep\n    optional: true\n"), "");
  EXPECT_CONTAINS(message("  - role: linear\n    format: keep\n"
                          "  - role: up\n    name: \"*\"\n    format: nf4\n"),
                  "rule 2 (role: up, name: *) decides about no layer");
}
