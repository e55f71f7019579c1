//===- Plan.h - Where a run over samples is cut -----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_CALIBRATION_PLAN_H
#define QUENCH_LIB_CALIBRATION_PLAN_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include <functional>

namespace quench {

/// A weight and the layers that read it.
struct PlannedLayer {
  std::string key;                            // WeightEvaluator::key
  llvm::SmallVector<mlir::Value, 1> weights;  // equal expressions
  llvm::SmallVector<qn::LinearOp, 1> readers; // in their order
  int64_t lastRead = -1; // number of the last op that is run and reads it
};

/// An input that linear layers share.
struct PlannedSite {
  mlir::Value input; // before it is quantized
  llvm::SmallVector<unsigned, 3> layers;
};

/// A place between two ops of the block where all samples are waited for, and
/// how they come there from the one before.
struct PlannedCut {
  int64_t position = 0; // number of the op behind it
  llvm::SmallVector<unsigned, 1> sites;
  /// What is run for each sample, in order; then these values are there.
  std::vector<mlir::Operation *> ops;
  llvm::SmallVector<mlir::Value> read; // of those that live at the cut before
  llvm::SmallVector<mlir::Value> written; // new ones
  llvm::SmallVector<mlir::Value> live;    // all that are needed from here on
};

/// The cuts of @main's only block. Ops that no site depends on are not run.
struct WalkPlan {
  std::vector<PlannedLayer> layers;
  std::vector<PlannedSite> sites;
  std::vector<PlannedCut> cuts;

  WalkPlan(mlir::func::FuncOp main,
           llvm::function_ref<bool(qn::LinearOp)> isWanted);

  /// A name for a value that is the same in another process.
  std::string nameOf(mlir::Value value) const;

private:
  void findSites(llvm::function_ref<bool(qn::LinearOp)> isWanted);
  void findNeeded();
  void findCuts();
  void fillCut(PlannedCut &cut, int64_t begin);
  int64_t definedAt(mlir::Value value) const;

  mlir::Block *block;
  llvm::DenseMap<mlir::Operation *, int64_t> numbers;
  std::vector<mlir::Operation *> ops;
  std::vector<bool> needed, cheap;
  llvm::DenseMap<mlir::Value, int64_t> lastUse; // by ops that are run, or sites
};

/// The values of an op and its regions that are defined outside of it.
llvm::SmallVector<mlir::Value> valuesReadBy(mlir::Operation *op);

} // namespace quench

#endif // QUENCH_LIB_CALIBRATION_PLAN_H
