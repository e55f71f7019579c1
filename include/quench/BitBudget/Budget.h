//===- Budget.h - Formats for layers under a budget -------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What each layer's error costs is measured on a few samples: the divergence
// of a model whose layers have small losses is about the sum of
// sensitivity * loss over its layers. What each format would lose comes from
// the recipe's quantizer on some rows of the layer. Both together say which
// formats a budget is spent on best (docs/BitBudget.md).
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_BITBUDGET_BUDGET_H
#define QUENCH_BITBUDGET_BUDGET_H

#include "quench/Calibration/Data.h"
#include "quench/Recipe/Recipe.h"
#include <functional>

namespace quench {

class ModelFiles;

struct BudgetOptions {
  /// Formats that linear layers, and those that embeddings and heads may get.
  /// Empty: defaultBudgetFormats().
  std::vector<std::string> formats, tableFormats;
  /// Samples that sensitivities are measured on, and how often labels are drawn
  /// for each; second moments come from all samples of the data.
  int64_t samples = 2, draws = 2;
  int threads = 1;
  /// What measureLayers found is kept in this folder, for other budgets;
  /// empty: the user's cache folder.
  std::string cache;
  /// Called with the step's name, what it works on, done and total work.
  std::function<void(llvm::StringRef step, llvm::StringRef name, int64_t done,
                     int64_t total)>
      progress;
};

/// What a budget is spent on by default: trellis codes and int8 for linear
/// layers, those and integers of all widths for tables.
std::vector<std::string> defaultBudgetFormats(bool tables);

/// A layer's loss in one format.
struct FormatLoss {
  std::string format;
  int64_t bits = 0; // of the whole layer
  double loss = 0;  // QuantizeResult::loss
};

/// A weight that gets one format, for all layers that read it.
struct BudgetLayer {
  struct Reader {
    std::string name, role;
  };
  std::string key;                      // WeightEvaluator::key
  llvm::SmallVector<Reader, 1> readers; // in the model's order
  std::string quantizer;
  std::optional<Activations> activations;
  int64_t block = -1;
  int64_t rows = 0, cols = 0;
  /// Divergence (nats; for models without logits relative squared error of
  /// their results) for a unit of loss.
  double sensitivity = 0;
  /// Errors of some rows when they were quantized: what errors look like.
  /// [errorRows][cols], of a weight whose loss was errorLoss, and the lengths
  /// of all rows (empty: errors of all rows are equally great).
  std::vector<float> errors;
  int64_t errorRows = 0;
  double errorLoss = 0;
  std::vector<float> rowSizes;
  /// One without loss for weights that the recipe leaves as they are.
  std::vector<FormatLoss> options;
  std::string note;

  bool isTable() const; // head or embedding
  double weights() const { return static_cast<double>(rows) * cols; }
  /// The predicted share of an option in the divergence.
  double divergence(const FormatLoss &option) const {
    return sensitivity * option.loss;
  }
};

/// Measures all weights of @main, maps inserted, no formats yet, that layers
/// of `base` with a format would quantize, and lists the others. Errors: those
/// of running the model, a format or quantizer that does not exist.
llvm::Expected<std::vector<BudgetLayer>>
measureLayers(mlir::ModuleOp module, ModelFiles &files,
              const CalibrationData &data, const Recipe &base,
              const BudgetOptions &options);

/// The divergence of a model whose weights have random errors that look like
/// those of the chosen options: what the sum over layers leaves out is in it. A
/// mean over options.samples samples.
llvm::Expected<double> simulateChoice(mlir::ModuleOp module, ModelFiles &files,
                                      const CalibrationData &data,
                                      llvm::ArrayRef<BudgetLayer> layers,
                                      llvm::ArrayRef<unsigned> choice,
                                      const BudgetOptions &options);

/// What is asked of a plan: one of the two is positive.
struct BudgetTarget {
  double bitsPerWeight = 0;
  double divergence = 0;
  /// Bits a weight of linear layers only; heads and embeddings are left to the
  /// recipe.
  bool linearOnly = false;
};

/// A solved budget.
struct BudgetPlan {
  std::vector<unsigned> choice; // of the options of each layer
  double bitsPerWeight = 0;     // of what the target counts
  double divergence = 0;        // predicted
  /// Predicted divergence over bits a weight of other budgets.
  std::vector<std::pair<double, double>> curve;
};

/// The best formats. `scale` times the sum over layers is the predicted
/// divergence. Errors: a budget below the smallest formats, a limit
/// that the best formats do not keep; they name what is possible.
llvm::Expected<BudgetPlan> planBudget(llvm::ArrayRef<BudgetLayer> layers,
                                      const BudgetTarget &target,
                                      double scale = 1);

/// The plan as a recipe: `base` with a rule by name for each layer before its
/// own ones.
Recipe recipeOf(const BudgetPlan &plan, llvm::ArrayRef<BudgetLayer> layers,
                const Recipe &base, const BudgetTarget &target);

/// measureLayers, then planBudget and simulateChoice until the prediction and
/// the plan fit together.
struct SolvedBudget {
  Recipe recipe;
  BudgetTarget target;
  BudgetPlan plan;
  std::vector<BudgetLayer> layers;
  double scale = 1; // simulated over summed divergence
};
llvm::Expected<SolvedBudget>
solveBudget(mlir::ModuleOp module, ModelFiles &files,
            const CalibrationData &data, const Recipe &base,
            const BudgetTarget &target, const BudgetOptions &options);

} // namespace quench

#endif // QUENCH_BITBUDGET_BUDGET_H
