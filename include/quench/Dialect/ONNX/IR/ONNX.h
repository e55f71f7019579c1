//===- ONNX.h - The onnx dialect ------------------------------ -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Ops that carry ONNX nodes as they are. `onnx.MatMul` is MatMul of the default
// domain, `onnx.com.microsoft.MatMulNBits` is an operator of another domain.
// Ops are registered at run time, one for each operator that has a schema, and
// verified by ONNX's schema of the version that the module's attribute
// `onnx.opset_import` names (the newest version without it).
//
//   %y = "onnx.MatMul"(%x, %w) : (tensor<?x8xf32>, tensor<8x4xf32>)
//       -> tensor<?x4xf32>
//
// An absent optional input is a value of type `none` made by "onnx.NoValue"; an
// absent output has type `none`. Attributes: INT is an i64, FLOAT an f32,
// STRING a string, INTS array<i64>, FLOATS array<f32>, STRINGS an array of
// strings, TENSOR an elements attribute. The name of a node is in its location.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_ONNX_IR_ONNX_H
#define QUENCH_DIALECT_ONNX_IR_ONNX_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/ExtensibleDialect.h"
#include <string>
#include <utility>

namespace quench::onnx {

/// The dialect. All its ops are registered when it is loaded.
class ONNXDialect : public mlir::ExtensibleDialect {
public:
  explicit ONNXDialect(mlir::MLIRContext *context);
  static constexpr llvm::StringLiteral getDialectNamespace() {
    return llvm::StringLiteral("onnx");
  }
  mlir::LogicalResult
  verifyOperationAttribute(mlir::Operation *op,
                           mlir::NamedAttribute attribute) override;
};

/// The module attribute with the imported operator sets: a dictionary from
/// domain ("ai.onnx" for the default one) to an i64.
inline constexpr llvm::StringLiteral kOpsetImportAttr = "onnx.opset_import";
/// The op whose result stands for an absent input.
inline constexpr llvm::StringLiteral kNoValueOp = "onnx.NoValue";

/// The name of the op that carries an operator.
std::string getOpName(llvm::StringRef domain, llvm::StringRef opType);

/// Domain and operator of an op of this dialect ("onnx." is taken off).
std::pair<llvm::StringRef, llvm::StringRef> getOperator(mlir::Operation *op);

/// The version of the operator set an op belongs to: what the enclosing module
/// imports, or the newest one.
int64_t getOpset(mlir::Operation *op);

/// Whether a value is there, as opposed to the `none` of an absent input.
inline bool isPresent(mlir::Value value) {
  return !mlir::isa<mlir::NoneType>(value.getType());
}

} // namespace quench::onnx

MLIR_DECLARE_EXPLICIT_TYPE_ID(quench::onnx::ONNXDialect)

#endif // QUENCH_DIALECT_ONNX_IR_ONNX_H
