//===- Gradient.h - Reverse-mode gradients of IR ----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Gradients of what the interpreter computes: a run of ops of one block
// forward, then backward. Ops on whole tensors (linear, norm, rotary,
// attention, ...) have rules of their own; elementwise ops and linalg bodies
// get theirs from the reverse mode of their scalar ops. Rounded activations
// pass their gradient through unchanged (straight-through).
//
// Memory: values inside of a segment (a decoder block) are kept up to a limit;
// beyond it only what crosses the segments' ends is kept, and a segment is run
// again before its gradients are taken.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TRAINING_GRADIENT_H
#define QUENCH_TRAINING_GRADIENT_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "quench/Interpreter/Interpreter.h"
#include "llvm/ADT/DenseSet.h"

namespace quench {

class Adjoints;

/// Ops that follow each other in one block.
using OpRun = llvm::ArrayRef<mlir::Operation *>;

/// All ops of the function's block but its terminator.
std::vector<mlir::Operation *> opsOf(mlir::func::FuncOp function);

/// Where the numbered blocks of the model (`block` of quench.linear) begin:
/// indices into `ops`, in order, without 0. A cut is where the fewest values
/// are alive between the last layer of a block and the first one of the next.
std::vector<size_t> blockCuts(OpRun ops);

/// Where what follows the last numbered block begins, at a place that few
/// values cross: the index of an op.
size_t tailBegin(OpRun ops);

class GradientTape {
public:
  using Values = Interpreter::Values;
  /// Gets each wanted value with its gradient (f32, of the value's shape),
  /// once, when it is complete: for weights after all their users, for results
  /// of ops before the op that makes them.
  using Sink =
      llvm::function_ref<llvm::Error(mlir::Value value, HostTensor gradient)>;

  /// `wanted`: weight expressions, results of ops of the run, or values that
  /// are defined before it. `cuts`: the segments' ends (blockCuts). The
  /// interpreter must outlive the tape.
  GradientTape(Interpreter &interpreter, OpRun ops, llvm::ArrayRef<size_t> cuts,
               llvm::ArrayRef<mlir::Value> wanted,
               int64_t keptBytes = int64_t(2) << 30);
  GradientTape(GradientTape &&);
  ~GradientTape();

  /// Runs the ops. `inputs` has the values that are defined before the run and
  /// are no weights. Error: the interpreter's.
  llvm::Error forward(Values inputs);
  /// A value after forward(): one of the inputs, or one that is used behind the
  /// run (the operands of the terminator).
  llvm::Expected<HostTensor> output(mlir::Value value);

  /// From the gradients of outputs (f32) to those of the wanted values. Wanted
  /// values that the outputs do not depend on are not given to the sink. Error:
  /// an op that has no gradient; names it and its location.
  llvm::Error
  backward(llvm::ArrayRef<std::pair<mlir::Value, HostTensor>> gradients,
           Sink sink);

  /// A value of the segment whose gradients are taken now: for sinks.
  llvm::Expected<HostTensor> value(mlir::Value value);

private:
  struct Segment {
    size_t begin = 0, end = 0;
    llvm::SmallVector<mlir::Value> liveIn; // not weights
    Values values;                         // all of them, or of liveIn
    bool complete = false;
  };
  llvm::Error runSegment(Segment &segment);
  llvm::Error backwardThrough(Segment &segment, Sink sink);
  llvm::Error backwardOp(mlir::Operation *op);
  llvm::Error give(mlir::Value value, Sink sink);
  void add(mlir::Value value, HostTensor gradient);

  Interpreter &interpreter;
  std::vector<mlir::Operation *> ops;
  std::vector<Segment> segments;
  llvm::DenseSet<mlir::Value> wanted, active, outside;
  llvm::DenseMap<mlir::Value, mlir::Operation *> firstUser; // of wanted ones
  llvm::DenseMap<mlir::Value, HostTensor> gradients;
  Values outputs;
  Values *current = nullptr;
  int64_t keptBytes;
  std::unique_ptr<Adjoints> adjoints;
};

} // namespace quench

#endif // QUENCH_TRAINING_GRADIENT_H
