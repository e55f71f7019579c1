//===- LanguageModel.h - Windows of tokens through a model ------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_INTERPRETER_LANGUAGEMODEL_H
#define QUENCH_INTERPRETER_LANGUAGEMODEL_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "quench/Interpreter/Interpreter.h"

namespace quench {

/// The inputs of a language model for one sequence of tokens from its start:
/// ids, masks of ones, positions from 0 on, empty caches, and the lengths of
/// GroupQueryAttention; known by their names (`quench.name`) and types. Error:
/// an input that is none of these.
llvm::Expected<llvm::SmallVector<HostTensor>>
languageModelInputs(mlir::func::FuncOp function, llvm::ArrayRef<int64_t> ids);

/// Which result has the logits: the one named `logits`, or the first of rank 3.
llvm::Expected<unsigned> logitsResult(mlir::func::FuncOp function);

/// The logits [1, tokens, vocabulary] of `ids`.
llvm::Expected<HostTensor> runLanguageModel(Interpreter &interpreter,
                                            mlir::func::FuncOp function,
                                            llvm::ArrayRef<int64_t> ids);

} // namespace quench

#endif // QUENCH_INTERPRETER_LANGUAGEMODEL_H
