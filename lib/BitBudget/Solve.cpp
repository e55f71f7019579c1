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
  // much, which depends on the plan: a few rounds.
  constexpr int kRounds = 5;
  for (int round = 0; round != kRounds; ++round) {
    Expected<BudgetPlan> plan = planBudget(solved.layers, target, solved.scale);
    if (!plan)
      return plan.takeError();
    solved.plan = std::move(*plan);
    if (options.progress)
      options.progress("prediction", round, kRounds);
    Expected<double> simulated = simulateChoice(
        module, files, data, solved.layers, solved.plan.choice, options);
    if (!simulated)
      return simulated.takeError();
    double predicted = solved.plan.divergence;
    if (!(predicted > 0) || !(*simulated > 0))
      break;
    double ratio = *simulated / predicted;
    solved.scale *= ratio;
    for (auto &point : solved.plan.curve)
      point.second *= ratio;
    solved.plan.divergence = *simulated;
    bool fits = target.divergence <= 0 || std::fabs(ratio - 1) < 0.02 ||
                (ratio <= 1 && round + 1 == kRounds);
    if (fits)
      break;
  }
  solved.recipe = recipeOf(solved.plan, solved.layers, base, target);
  return solved;
}
