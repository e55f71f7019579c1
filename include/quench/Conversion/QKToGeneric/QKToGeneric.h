//===- QKToGeneric.h - qk to plain vector code ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_CONVERSION_QKTOGENERIC_QKTOGENERIC_H
#define QUENCH_CONVERSION_QKTOGENERIC_QKTOGENERIC_H

#include "mlir/IR/PatternMatch.h"
#include "mlir/Pass/Pass.h"
#include <memory>

namespace quench {

/// Lowers every qk op to arith, math, vector and (for tables) memref, for any
/// target of LLVM. Tables become private memref.global ops of the module.
void populateQKToGenericPatterns(mlir::RewritePatternSet &patterns);

/// Pass `convert-qk-to-generic` on a module.
std::unique_ptr<mlir::Pass> createConvertQKToGenericPass();
void registerConvertQKToGenericPass();

/// Rewrites all qk ops of a module by the patterns; an error names the first op
/// that no pattern takes.
mlir::LogicalResult lowerQKOps(mlir::Operation *module,
                               mlir::RewritePatternSet &&patterns);

} // namespace quench

#endif // QUENCH_CONVERSION_QKTOGENERIC_QKTOGENERIC_H
