//===- Solve.cpp - From a model to a recipe under a budget ------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/BitBudget/Budget.h"
#include <cmath>

using namespace quench;
using llvm::Error;
using llvm::Expected;

Expected<SolvedBudget>
quench::solveBudget(mlir::ModuleOp module, ModelFiles &files,
                    const CalibrationData &data, const Recipe &base,
                    const BudgetTarget &target, const BudgetOptions &options) {
  SolvedBudget solved;
  solved.target = target;
  Expected<std::vector<BudgetLayer>> layers =
      measureLayers(module, files, data, base, options);
  if (!layers)
    return layers.takeError();
  solved.layers = std::move(*layers);
  // Layers' errors do not quite add up. The plan for a limit depends on by how
  // much, which depends on the plan: a few rounds, of which the smallest plan
  // counts that keeps the limit.
  constexpr int kRounds = 6;
  std::optional<BudgetPlan> best;
  double scale = 1;
  for (int round = 0; round != kRounds; ++round) {
    Expected<BudgetPlan> plan = planBudget(solved.layers, target, scale);
    if (!plan && best) {
      llvm::consumeError(plan.takeError());
      break;
    }
    if (!plan)
      return plan.takeError();
    if (options.progress)
      options.progress("prediction", "", round, kRounds);
    Expected<double> simulated = simulateChoice(
        module, files, data, solved.layers, plan->choice, options);
    if (!simulated)
      return simulated.takeError();
    double ratio = 1;
    if (plan->divergence > 0 && *simulated > 0)
      ratio = *simulated / plan->divergence;
    scale *= ratio;
    for (auto &point : plan->curve)
      point.second *= ratio;
    plan->divergence *= ratio;
    bool keeps =
        target.divergence <= 0 || plan->divergence <= target.divergence;
    bool kept = best && best->divergence <= target.divergence;
    if (!best ||
        (keeps && (!kept || plan->bitsPerWeight < best->bitsPerWeight)) ||
        (!kept && plan->divergence < best->divergence)) {
      best = std::move(*plan);
      solved.scale = scale;
    }
    if (target.divergence <= 0 || (keeps && ratio > 0.97))
      break;
    // A little more than asked: the next plan may err to the other side.
    if (!keeps)
      scale *= 1.01;
  }
  solved.plan = std::move(*best);
  solved.recipe = recipeOf(solved.plan, solved.layers, base, target);
  return solved;
}
