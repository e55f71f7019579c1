//===- QKDialect.cpp - The qk dialect -------------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "quench/Dialect/QK/IR/QK.h"

using namespace mlir;
using namespace quench::qk;

#include "quench/Dialect/QK/IR/QKDialect.cpp.inc"

void QKDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "quench/Dialect/QK/IR/QKOps.cpp.inc"
      >();
}

Operation *QKDialect::materializeConstant(OpBuilder &builder, Attribute value,
                                          Type type, Location loc) {
  return arith::ConstantOp::materialize(builder, value, type, loc);
}
