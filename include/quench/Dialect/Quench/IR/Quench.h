//===- Quench.h - The quench dialect ----------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QUENCH_IR_QUENCH_H
#define QUENCH_DIALECT_QUENCH_IR_QUENCH_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "quench/Quantization/Format.h"
#include "quench/Quantization/Map.h"

#include "quench/Dialect/Quench/IR/QuenchDialect.h.inc"

#include "quench/Dialect/Quench/IR/QuenchAttrInterfaces.h.inc"

#define GET_ATTRDEF_CLASSES
#include "quench/Dialect/Quench/IR/QuenchAttrs.h.inc"

#define GET_TYPEDEF_CLASSES
#include "quench/Dialect/Quench/IR/QuenchTypes.h.inc"

#define GET_OP_CLASSES
#include "quench/Dialect/Quench/IR/QuenchOps.h.inc"

#endif // QUENCH_DIALECT_QUENCH_IR_QUENCH_H
