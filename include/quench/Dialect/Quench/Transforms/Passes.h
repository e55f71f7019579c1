//===- Passes.h - Passes on the quench dialect ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QUENCH_TRANSFORMS_PASSES_H
#define QUENCH_DIALECT_QUENCH_TRANSFORMS_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include <memory>

namespace quench {

#define GEN_PASS_DECL
#include "quench/Dialect/Quench/Transforms/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "quench/Dialect/Quench/Transforms/Passes.h.inc"

} // namespace quench

#endif // QUENCH_DIALECT_QUENCH_TRANSFORMS_PASSES_H
