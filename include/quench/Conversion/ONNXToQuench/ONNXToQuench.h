//===- ONNXToQuench.h - From onnx to quench ---------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Two steps: `onnx-recognize` raises groups of onnx ops to layers of the quench
// dialect, `convert-onnx-to-quench` turns the rest into linalg on tensors.
// Afterwards no onnx op is left.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_CONVERSION_ONNXTOQUENCH_ONNXTOQUENCH_H
#define QUENCH_CONVERSION_ONNXTOQUENCH_ONNXTOQUENCH_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include <memory>

namespace quench {

#define GEN_PASS_DECL
#include "quench/Conversion/ONNXToQuench/Passes.h.inc"

/// Recognize, convert, canonicalize, share equal values, drop unused
/// initializers: from the importer's module to the quench level.
void buildImportPipeline(mlir::OpPassManager &manager);

/// Registers the passes, and the pipeline as `quench-import`.
void registerONNXToQuenchPasses();

} // namespace quench

#endif // QUENCH_CONVERSION_ONNXTOQUENCH_ONNXTOQUENCH_H
