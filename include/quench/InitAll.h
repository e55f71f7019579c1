//===- InitAll.h - All dialects and passes ----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_INITALL_H
#define QUENCH_INITALL_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace quench {

/// Adds the dialects of the project, those of upstream that its pipelines use,
/// and the external models of their interfaces.
void registerAllDialects(mlir::DialectRegistry &registry);

/// Registers all passes and pipelines by name.
void registerAllPasses();

} // namespace quench

#endif // QUENCH_INITALL_H
