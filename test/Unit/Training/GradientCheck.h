//===- GradientCheck.h - Gradients against differences ----------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TEST_UNIT_TRAINING_GRADIENTCHECK_H
#define QUENCH_TEST_UNIT_TRAINING_GRADIENTCHECK_H

#include "../Interpreter/Run.h"
#include "quench/Training/Gradient.h"

/// The gradients of all f32 arguments of `main` for the sum of all results,
/// each number times a random one.
llvm::Expected<llvm::SmallVector<quench::HostTensor>>
gradientsOf(llvm::StringRef text, llvm::ArrayRef<quench::HostTensor> inputs);

/// Compares them with central differences of the interpreter's results.
/// `tolerance` is relative to the greatest gradient of an argument.
void checkGradients(llvm::StringRef text,
                    llvm::ArrayRef<quench::HostTensor> inputs,
                    double step = 1.0 / 128, double tolerance = 1e-3);

#endif // QUENCH_TEST_UNIT_TRAINING_GRADIENTCHECK_H
