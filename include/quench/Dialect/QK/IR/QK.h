//===- QK.h - The qk dialect ------------------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QK_IR_QK_H
#define QUENCH_DIALECT_QK_IR_QK_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "quench/Dialect/QK/IR/QKDialect.h.inc"

#define GET_OP_CLASSES
#include "quench/Dialect/QK/IR/QKOps.h.inc"

namespace quench::qk {

/// The values the ops compute for one byte; the folders, the lowerings' tests
/// and the verifiers share them.
uint8_t fieldOf(uint8_t byte, unsigned off, unsigned width, unsigned at);
uint8_t affineOf(uint8_t byte, llvm::ArrayRef<int32_t> rows, uint8_t constant);

} // namespace quench::qk

#endif // QUENCH_DIALECT_QK_IR_QK_H
