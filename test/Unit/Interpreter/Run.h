//===- Run.h - Interprets a text --------------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TEST_UNIT_INTERPRETER_RUN_H
#define QUENCH_TEST_UNIT_INTERPRETER_RUN_H

#include "mlir/IR/OwningOpRef.h"
#include "quench/Interpreter/Interpreter.h"
#include "gtest/gtest.h"

/// A context with the dialects that the tests use.
mlir::MLIRContext &testContext();

mlir::OwningOpRef<mlir::ModuleOp> parse(llvm::StringRef text);

/// Runs `main` of the module in `text`.
llvm::Expected<llvm::SmallVector<quench::HostTensor>>
tryRun(llvm::StringRef text, llvm::ArrayRef<quench::HostTensor> inputs);

/// The same; an error fails the test and gives nothing.
llvm::SmallVector<quench::HostTensor>
run(llvm::StringRef text, llvm::ArrayRef<quench::HostTensor> inputs);

/// The first result's numbers.
std::vector<double> numbers(llvm::StringRef text,
                            llvm::ArrayRef<quench::HostTensor> inputs);

/// The message of the error that `text` ends with.
std::string errorOf(llvm::StringRef text,
                    llvm::ArrayRef<quench::HostTensor> inputs);

void expectNear(llvm::ArrayRef<double> found, llvm::ArrayRef<double> expected,
                double tolerance);

/// Numbers between -1 and 1 from a seed.
quench::HostTensor randomFloats(llvm::ArrayRef<int64_t> shape, unsigned seed);

#endif // QUENCH_TEST_UNIT_INTERPRETER_RUN_H
