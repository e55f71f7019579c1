//===- StatePlan.h - What is known of caches and steps ----------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_DIALECT_QUENCH_TRANSFORMS_STATEPLAN_H
#define QUENCH_LIB_DIALECT_QUENCH_TRANSFORMS_STATEPLAN_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringMap.h"
#include <optional>
#include <string>

namespace quench {

/// A cache input of @main.
struct StateCache {
  mlir::BlockArgument past;
  qn::ExtendOp extend;
  mlir::StringAttr name;
  bool keys = false;
};

/// What a dimension of @main is in a step.
enum class StepDim { One, Sequence, Past, Total };

/// All that is to be known about @main before it is copied.
struct StatePlan {
  mlir::func::FuncOp main;
  /// Token ids; positions and mask are null where there are none.
  mlir::BlockArgument ids, positions, mask;
  llvm::SmallVector<StateCache> caches;
  llvm::StringMap<StepDim> dims;
  mlir::Value logits;
  /// What the logits need, in order, without the tail.
  llvm::SetVector<mlir::Operation *> live;
  /// A chain of ops from `cut` to the logits whose rows do not depend on each
  /// other, so that the last rows of `cut` are enough. It may be empty.
  llvm::SetVector<mlir::Operation *> tail;
  mlir::Value cut;
};

/// The plan for a function in tensor form. Nothing, and the reason, if its
/// caches are not understood; an empty reason if there are none.
std::optional<StatePlan> planState(mlir::func::FuncOp main,
                                   std::string &reason);

/// What a value was before casts of its type.
mlir::Value throughCasts(mlir::Value value);

} // namespace quench

#endif // QUENCH_LIB_DIALECT_QUENCH_TRANSFORMS_STATEPLAN_H
