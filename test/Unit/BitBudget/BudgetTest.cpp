//===- BudgetTest.cpp - Budgets of a small language model -------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Predictions against what the interpreter finds for a model with the formats
// of the solved recipe.
//
//===----------------------------------------------------------------------===//

#include "quench/BitBudget/Budget.h"
#include "../Training/Model.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Quantization/Format.h"
#include "quench/Training/Loss.h"
#include <cmath>

using namespace mlir;
using namespace quench;

namespace {

constexpr StringRef kBase = R"(
name: base
rules:
  - role: embedding, head
    format: int<8, group = 32>
    quantizer: rtn<search>
  - role: linear
    format: int<4, group = 32>
    quantizer: rtn<search>
)";

/// The logits of the first sample with a recipe, or of the float model.
HostTensor logitsOf(const CalibrationData &data, const Recipe *recipe) {
  std::unique_ptr<TestModel> model = TestModel::load("models/llm-stories260k");
  if (recipe)
    llvm::cantFail(quantizeLayers(model->module(), *recipe));
  model->reset();
  auto inputs = llvm::cantFail(data.inputs(model->main(), 0));
  auto results = llvm::cantFail(model->interpreter().run("main", inputs));
  return results[llvm::cantFail(Objective::of(model->main())).results[0]];
}

int64_t bitsOf(const BudgetPlan &plan, ArrayRef<BudgetLayer> layers) {
  int64_t bits = 0;
  for (auto [layer, choice] : llvm::zip(layers, plan.choice))
    bits += layer.options[choice].bits;
  return bits;
}

class Budget : public ::testing::Test {
protected:
  void SetUp() override {
    model = TestModel::load("models/llm-stories260k");
    if (!model)
      GTEST_SKIP() << "no shared folder of models";
    std::vector<int64_t> ids = model->tokens(128);
    data.emplace(llvm::cantFail(
        CalibrationData::ofTokens(model->main(), {ids}, "memory")));
    base = llvm::cantFail(parseRecipe(kBase, "base"));
    for (const char *bits : {"2", "3", "4", "5", "6", "8"})
      options.formats.push_back(std::string("int<") + bits + ", group = 32>");
    options.tableFormats = options.formats;
    options.samples = 1;
  }
  std::unique_ptr<TestModel> model;
  std::optional<CalibrationData> data;
  Recipe base;
  BudgetOptions options;
};

TEST_F(Budget, PredictsWhatIsMeasured) {
  BudgetTarget target;
  target.bitsPerWeight = 4.5;
  SolvedBudget solved = llvm::cantFail(solveBudget(
      model->module(), model->files(), *data, base, target, options));
  EXPECT_EQ(solved.layers.size(), 37u); // seven in each block, table and head
  double weights = 0;
  for (const BudgetLayer &layer : solved.layers) {
    weights += layer.weights();
    EXPECT_GT(layer.sensitivity, 0) << layer.readers.front().name;
    EXPECT_EQ(layer.options.size(), 6u);
  }
  int64_t bits = bitsOf(solved.plan, solved.layers);
  EXPECT_LE(bits, 4.5 * weights);
  EXPECT_GT(bits, 4.45 * weights);
  EXPECT_NEAR(solved.plan.bitsPerWeight, bits / weights, 1e-12);
  // Errors add up, more or less.
  EXPECT_GT(solved.scale, 0.6);
  EXPECT_LT(solved.scale, 1.6);

  // The recipe survives its text, and gives each layer its format.
  Recipe recipe =
      llvm::cantFail(parseRecipe(printRecipe(solved.recipe), "text"));
  HostTensor reference = logitsOf(*data, nullptr);
  double measured =
      llvm::cantFail(divergence(reference, logitsOf(*data, &recipe))).value;
  EXPECT_LT(measured, 1.5 * solved.plan.divergence);
  EXPECT_GT(measured, solved.plan.divergence / 1.5);

  // Better than one format for all layers of as many bits.
  Recipe uniform = base;
  for (RecipeRule &rule : uniform.rules)
    rule.format = "int<4, group = 32>"; // 4.5 bits a weight
  double even =
      llvm::cantFail(divergence(reference, logitsOf(*data, &uniform))).value;
  EXPECT_LT(measured, 0.9 * even);

  // For that divergence the budget is found again.
  BudgetTarget limit;
  limit.divergence = solved.plan.divergence;
  BudgetPlan back =
      llvm::cantFail(planBudget(solved.layers, limit, solved.scale));
  EXPECT_LE(back.divergence, limit.divergence * (1 + 1e-9));
  EXPECT_NEAR(back.bitsPerWeight, solved.plan.bitsPerWeight, 0.02);

  // The curve falls.
  ASSERT_GT(solved.plan.curve.size(), 10u);
  for (size_t i = 1; i < solved.plan.curve.size(); ++i) {
    EXPECT_GT(solved.plan.curve[i].first, solved.plan.curve[i - 1].first);
    EXPECT_LT(solved.plan.curve[i].second, solved.plan.curve[i - 1].second);
  }
}

TEST_F(Budget, LinearLayersOnly) {
  std::vector<BudgetLayer> layers = llvm::cantFail(
      measureLayers(model->module(), model->files(), *data, base, options));
  BudgetTarget target;
  target.bitsPerWeight = 3.5;
  target.linearOnly = true;
  BudgetPlan plan = llvm::cantFail(planBudget(layers, target));
  EXPECT_LE(plan.bitsPerWeight, 3.5);
  Recipe recipe = recipeOf(plan, layers, base, target);
  // A rule for each linear layer, then those of the base.
  EXPECT_EQ(recipe.rules.size(), 35u + 2u);
  std::unique_ptr<TestModel> other = TestModel::load("models/llm-stories260k");
  LayerPlans plans = llvm::cantFail(planLayers(other->module(), recipe));
  double bits = 0, weights = 0;
  for (auto &[op, layerPlan] : plans) {
    if (layerRole(op) == "head" || layerRole(op) == "embedding") {
      EXPECT_EQ(layerPlan.format, "int<8, group = 32>");
      continue;
    }
    auto type = cast<ShapedType>(op->getOperand(1).getType());
    bits += llvm::cantFail(getFormat(layerPlan.format))
                ->bits(type.getDimSize(0), type.getDimSize(1));
    weights += static_cast<double>(type.getNumElements());
  }
  EXPECT_NEAR(bits / weights, plan.bitsPerWeight, 1e-12);

  auto message = [&](BudgetTarget wrong) {
    llvm::Expected<BudgetPlan> found = planBudget(layers, wrong);
    return found ? "" : llvm::toString(found.takeError());
  };
  target.bitsPerWeight = 1;
  EXPECT_EQ(message(target),
            "a budget of 1 bits a weight for the linear layers: the smallest "
            "formats need 2.514");
  target.bitsPerWeight = 0;
  target.divergence = 1e-12;
  EXPECT_NE(message(target).find("the best formats"), std::string::npos);
}

TEST(Recipes, NamesAreNoPatterns) {
  BudgetLayer layer;
  layer.readers.push_back({"a[0]*\\b", "q"});
  layer.options = {{"int<8>", 8, 0}, {"int<4>", 4, 1}};
  layer.rows = layer.cols = 1;
  layer.sensitivity = 1;
  BudgetTarget target;
  target.bitsPerWeight = 8;
  BudgetPlan plan = llvm::cantFail(planBudget(layer, target));
  Recipe recipe = recipeOf(plan, layer, Recipe(), target);
  ASSERT_EQ(recipe.rules.size(), 1u);
  EXPECT_EQ(recipe.rules[0].name, "a\\[0\\]\\*\\\\b");
  EXPECT_EQ(recipe.rules[0].format, "int<8>");
}

} // namespace
