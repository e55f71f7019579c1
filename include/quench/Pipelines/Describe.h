//===- Describe.h - What the runtime is told of a compiled model -*- C++
//-*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_PIPELINES_DESCRIBE_H
#define QUENCH_PIPELINES_DESCRIBE_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "quench/Pipelines/Compile.h"
#include "quench/Target/CPU/Program.h"
#include "quench/Target/CPU/WeightsObject.h"

namespace quench {

/// The names of the sizes that a function depends on: the attribute
/// quench.symbols, else the named dimensions of its inputs, in order.
std::vector<std::string> symbolsOf(mlir::func::FuncOp function);

/// Describes the entries that a lowered module has.
llvm::Expected<ProgramDescription>
describeProgram(mlir::ModuleOp module, const CPUTarget &target,
                const WeightsResult &weights, const CompileOptions &options,
                const CompileReport &report);

} // namespace quench

#endif // QUENCH_PIPELINES_DESCRIBE_H
