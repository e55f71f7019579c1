//===- Plan.cpp - From measured layers to a recipe --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/BitBudget/Allocate.h"
#include "quench/BitBudget/Budget.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Format.h"
#include <cmath>

using namespace quench;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

bool BudgetLayer::isTable() const {
  return llvm::any_of(readers, [](const Reader &reader) {
    return reader.role == "head" || reader.role == "embedding";
  });
}

static std::string number(const char *format, double value) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format(format, value);
  return text;
}

namespace {
/// The layers that a target counts, as the allocator takes them.
struct Counted {
  std::vector<unsigned> index;
  std::vector<LayerOptions> options;
  double weights = 0;
  int64_t least = 0, most = 0; // bits
  double best = 0;             // the least divergence
  double fixed = 0;            // divergence of layers that are not counted

  Counted(ArrayRef<BudgetLayer> layers, bool linearOnly, double scale) {
    for (auto [i, layer] : llvm::enumerate(layers)) {
      if (linearOnly && layer.isTable()) {
        // The recipe decides; its own format stands first.
        if (!layer.options.empty())
          fixed += scale * layer.divergence(layer.options.front());
        continue;
      }
      index.push_back(i);
      weights += layer.weights();
      LayerOptions &made = options.emplace_back();
      for (const FormatLoss &option : layer.options)
        made.push_back({option.bits, scale * layer.divergence(option)});
      llvm::SmallVector<unsigned> hull = lowerHull(made);
      if (hull.empty())
        continue;
      least += made[hull.front()].bits;
      most += made[hull.back()].bits;
      best += made[hull.back()].distortion;
    }
  }
};
} // namespace

Expected<BudgetPlan> quench::planBudget(ArrayRef<BudgetLayer> layers,
                                        const BudgetTarget &target,
                                        double scale) {
  Counted counted(layers, target.linearOnly, scale);
  if (counted.weights == 0)
    return createStringError("no layer has weights that a budget counts");
  StringRef what = target.linearOnly ? "the linear layers" : "all weights";
  Expected<Allocation> found = Allocation();
  if (target.bitsPerWeight > 0) {
    auto budget = static_cast<int64_t>(
        std::floor(target.bitsPerWeight * counted.weights));
    if (budget < counted.least)
      return createStringError(
          "a budget of " + number("%g", target.bitsPerWeight) +
          " bits a weight for " + what + ": the smallest formats need " +
          number("%.4g", counted.least / counted.weights));
    found = allocateBits(counted.options, budget);
  } else {
    if (counted.best + counted.fixed > target.divergence)
      return createStringError(
          "a divergence of at most " + number("%g", target.divergence) +
          ": the best formats for " + what + " are predicted to have " +
          number("%.3g", counted.best + counted.fixed));
    found =
        allocateDistortion(counted.options, target.divergence - counted.fixed);
  }
  if (!found)
    return found.takeError();
  BudgetPlan plan;
  plan.choice.assign(layers.size(), 0);
  for (auto [i, choice] : llvm::zip(counted.index, found->choice))
    plan.choice[i] = choice;
  plan.bitsPerWeight = found->bits / counted.weights;
  plan.divergence = found->distortion + counted.fixed;
  constexpr int kPoints = 40;
  for (int i = 0; i <= kPoints && counted.most > counted.least; ++i) {
    int64_t budget =
        counted.least + (counted.most - counted.least) * i / kPoints;
    Expected<Allocation> other = allocateBits(counted.options, budget);
    if (!other)
      return other.takeError();
    std::pair<double, double> point = {other->bits / counted.weights,
                                       other->distortion + counted.fixed};
    if (plan.curve.empty() || point.first > plan.curve.back().first)
      plan.curve.push_back(point);
  }
  return plan;
}

/// A name as a pattern that matches nothing else.
static std::string patternOf(StringRef name) {
  std::string pattern;
  for (char c : name) {
    if (StringRef("*?[]{}\\").contains(c))
      pattern += '\\';
    pattern += c;
  }
  return pattern;
}

Recipe quench::recipeOf(const BudgetPlan &plan, ArrayRef<BudgetLayer> layers,
                        const Recipe &base, const BudgetTarget &target) {
  Recipe recipe = base;
  recipe.name = "budget";
  recipe.origin = "the bit budget";
  recipe.description = number("%.4g bits a weight of ", plan.bitsPerWeight) +
                       (target.linearOnly ? "linear layers" : "all weights") +
                       number(", predicted divergence %.3g", plan.divergence);
  std::vector<RecipeRule> rules;
  llvm::StringMap<unsigned> seen;
  for (const BudgetLayer &layer : layers)
    for (const BudgetLayer::Reader &reader : layer.readers)
      ++seen[reader.role + " " + reader.name];
  for (auto [layer, choice] : llvm::zip(layers, plan.choice)) {
    if (layer.options.size() < 2 || (target.linearOnly && layer.isTable()))
      continue;
    for (const BudgetLayer::Reader &reader : layer.readers) {
      if (reader.name.empty())
        continue;
      RecipeRule &rule = rules.emplace_back();
      rule.role = reader.role;
      rule.name = patternOf(reader.name);
      rule.format = layer.options[choice].format;
      rule.quantizer = layer.quantizer;
      if (reader.role != "embedding")
        rule.activations = layer.activations;
      // The first rule decides about all layers of a name.
      rule.optional = seen[reader.role + " " + reader.name] > 1;
    }
  }
  for (RecipeRule rule : base.rules) {
    rule.optional = true;
    rules.push_back(std::move(rule));
  }
  recipe.rules = std::move(rules);
  return recipe;
}
