//===- Compile.h - From an ONNX file to a native one -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_PIPELINES_COMPILE_H
#define QUENCH_PIPELINES_COMPILE_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "quench/BitBudget/Budget.h"
#include "quench/Calibration/Calibration.h"
#include "quench/Dialect/Quench/Transforms/Materialize.h"
#include "llvm/Support/Error.h"
#include <functional>
#include <string>
#include <vector>

namespace quench {

struct CompileOptions {
  std::string model;  // path of the ONNX file
  std::string output; // path of what is written
  std::string recipe =
      "w4a8"; // name of a built-in recipe, or path of a YAML file
  std::string cpu = "native";
  std::string emit = "so"; // so, obj, asm, llvm, mlir
  /// Writes the IR after this stage instead: onnx, quench, contract, qk, llvm.
  /// Empty: run to the end.
  std::string stopAfter;
  /// A folder for the IR after every pass. Empty: none.
  std::string printTree;
  int threads = 0; // 0: one for each processor
  /// Keeps the names of hidden functions in the file, for profilers.
  bool keepSymbols = false;
  int64_t maxPositions = 2048;
  /// Without data there is no calibration. Threads and progress are those of
  /// the compilation.
  CalibrationOptions calibration;
  /// Formats are chosen for the best divergence under this budget, measured on
  /// the calibration data; the recipe says everything else.
  std::optional<BudgetTarget> budget;
  /// What the budget is spent on; threads and progress are those of the
  /// compilation.
  BudgetOptions budgeting;
  /// Called with the solved budget before the long work that follows.
  std::function<llvm::Error(const SolvedBudget &)> solved;
  /// Step's name, what it works on now (may be empty), how much is done of how
  /// much.
  std::function<void(llvm::StringRef step, llvm::StringRef name, int64_t done,
                     int64_t total)>
      progress;
};

struct CompileReport {
  std::string recipe, cpu;
  std::vector<WeightReport> weights;
  std::vector<std::pair<std::string, double>> seconds; // by step
  int64_t fileBytes = 0; // of the output and a file of weights beside it
  int64_t weightsBytes = 0;
  int64_t codeBytes = 0; // of the object of generated code
  bool hasState = false; // quench_step works
  /// Of the calibration; 0: none was made.
  int64_t calibrationSamples = 0, calibrationTokens = 0;
  /// The solved budget, if there was one.
  std::shared_ptr<const SolvedBudget> budget;
  /// What was odd about it.
  std::vector<std::string> notes;

  /// Bits a weight of the layers with these roles (empty: all), scales counted.
  double
  bitsPerWeight(llvm::function_ref<bool(const WeightReport &)> which) const;
  /// The JSON object that reports and compiled files carry.
  std::string toJSON() const;
};

/// Adds what the pipelines below need to a context.
void registerPipelineDialects(mlir::DialectRegistry &registry);

/// An ONNX file as a module of the quench dialect. Errors name the file and all
/// nodes that have no lowering.
llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
importModel(mlir::MLIRContext &context, llvm::StringRef path);

/// Inserts the maps of a recipe.
llvm::Error insertRecipeMaps(mlir::ModuleOp module, const Recipe &recipe);
/// Inserts the maps and formats of a recipe.
llvm::Error applyRecipeToModule(mlir::ModuleOp module, llvm::StringRef recipe);

/// Compiles a model; `report` is filled as far as it came. The output appears
/// whole or not at all.
llvm::Error compileModel(const CompileOptions &options, CompileReport &report);

} // namespace quench

#endif // QUENCH_PIPELINES_COMPILE_H
