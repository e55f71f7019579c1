//===- OpGradient.h - The gradient of one op --------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_TRAINING_OPGRADIENT_H
#define QUENCH_LIB_TRAINING_OPGRADIENT_H

#include "Adjoint.h"
#include "quench/Support/Try.h"
#include "quench/Training/Gradient.h"
#include "llvm/ADT/StringMap.h"

namespace quench {

/// One op between the gradients of its results and those of its operands.
struct OpGradient {
  Interpreter &interpreter;
  Interpreter::Values &values;
  Adjoints &adjoints;
  mlir::Operation *op;
  /// f32; no tensor: nothing depends on this result.
  llvm::ArrayRef<HostTensor> results;
  /// By operand; rules fill in the wanted ones (f32).
  llvm::SmallVector<bool> wants;
  llvm::SmallVector<HostTensor> operands;

  /// The forward value of an operand, as f32.
  llvm::Expected<HostTensor> operand(unsigned i);
};

using GradientRule = llvm::Error (*)(OpGradient &);
using GradientRules = llvm::StringMap<GradientRule>;
void addLayerGradients(GradientRules &rules);
void addTensorGradients(GradientRules &rules);
llvm::Error attentionGradient(OpGradient &step);

/// f32 zeros of a shape.
llvm::Expected<HostTensor> zeros(llvm::ArrayRef<int64_t> shape);

} // namespace quench

#endif // QUENCH_LIB_TRAINING_OPGRADIENT_H
