//===- Bufferization.h - From tensors to memrefs ----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QUENCH_TRANSFORMS_BUFFERIZATION_H
#define QUENCH_DIALECT_QUENCH_TRANSFORMS_BUFFERIZATION_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace quench {

/// How upstream's one-shot bufferization treats the quench ops.
void registerQuenchBufferizationModels(mlir::DialectRegistry &registry);

} // namespace quench

#endif // QUENCH_DIALECT_QUENCH_TRANSFORMS_BUFFERIZATION_H
