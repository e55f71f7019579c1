//===- Adjoint.h - Gradients as IR ------------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The gradient of many ops is an op again. For each such op a function is built
// once, in a module of its own, and interpreted:
//
//   (values that the op reads, gradients of its results, zeros for each wanted
//    operand) -> gradients of the wanted operands
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_TRAINING_ADJOINT_H
#define QUENCH_LIB_TRAINING_ADJOINT_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/OwningOpRef.h"
#include "quench/Interpreter/Interpreter.h"

namespace quench {

struct OpGradient;

class Adjoints {
public:
  /// What a builder of an adjoint works on. Gradients are f32 tensors.
  struct Frame {
    mlir::OpBuilder &builder;
    mlir::Operation *op;
    mlir::IRMapping &mapping;        // what the op reads -> arguments
    mlir::ValueRange results;        // their gradients
    llvm::ArrayRef<unsigned> wanted; // operands
    mlir::ValueRange zeros;          // one for each wanted operand
  };
  /// Gives a gradient for each wanted operand.
  using Build =
      llvm::function_ref<llvm::Expected<llvm::SmallVector<mlir::Value>>(
          Frame &)>;

  /// Fills in the wanted operands' gradients of `step`.
  llvm::Error run(OpGradient &step, Build build);

private:
  struct Adjoint {
    mlir::OwningOpRef<mlir::ModuleOp> module;
    std::optional<Interpreter> interpreter;
    llvm::SmallVector<mlir::Value> inputs; // what the op reads
    llvm::SmallVector<unsigned> wanted;
  };
  llvm::Error make(OpGradient &step, Build build, Adjoint &adjoint);
  llvm::DenseMap<mlir::Operation *, std::unique_ptr<Adjoint>> adjoints;
};

/// The adjoint of a linalg op on tensors, or of an arith or math op on them.
llvm::Error structuredGradient(OpGradient &step);

/// Emits the reverse mode of the scalar ops of `block`, which were cloned by
/// `mapping`: `adjoints` holds gradients by original value, at first those of
/// the terminator's operands, in the end those of the values in `wanted` that
/// anything depends on. Error: an op without a rule.
llvm::Error reverseScalars(mlir::OpBuilder &builder, mlir::Block &block,
                           const mlir::IRMapping &mapping,
                           llvm::ArrayRef<mlir::Value> wanted,
                           llvm::DenseMap<mlir::Value, mlir::Value> &adjoints);

} // namespace quench

#endif // QUENCH_LIB_TRAINING_ADJOINT_H
