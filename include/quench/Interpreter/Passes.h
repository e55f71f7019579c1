//===- Passes.h - Passes that interpret -------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_INTERPRETER_PASSES_H
#define QUENCH_INTERPRETER_PASSES_H

#include "mlir/Pass/Pass.h"
#include "quench/Interpreter/Interpreter.h"

namespace quench {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "quench/Interpreter/Passes.h.inc"

/// Random inputs for the function `name`: named dimensions get small sizes, all
/// different, and sums of names their sum. Error: no such function, a type that
/// host tensors do not have.
llvm::Expected<llvm::SmallVector<HostTensor>>
randomInputs(mlir::ModuleOp module, llvm::StringRef name, unsigned seed);

} // namespace quench

#endif // QUENCH_INTERPRETER_PASSES_H
