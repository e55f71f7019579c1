//===- RefiningCloner.h - Copies ops with better known sizes ----*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_DIALECT_QUENCH_TRANSFORMS_REFININGCLONER_H
#define QUENCH_LIB_DIALECT_QUENCH_TRANSFORMS_REFININGCLONER_H

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/StringMap.h"

namespace quench {

/// Copies ops of the quench level one by one, in order, to where more is known
/// about sizes: named dimensions become given values, index arithmetic is
/// folded, and result types are inferred again from the copied operands. An op
/// of an unknown kind gets its operands cast to the types it had and keeps its
/// result types.
class RefiningCloner {
public:
  explicit RefiningCloner(mlir::OpBuilder &builder) : builder(builder) {}

  /// `to` stands for `from`; a tensor of the same rank, or another type.
  void map(mlir::Value from, mlir::Value to) { mapping.map(from, to); }
  mlir::Value lookup(mlir::Value from) { return mapping.lookupOrDefault(from); }

  /// What quench.dim of this name becomes.
  void setDim(llvm::StringRef name, mlir::Value value) { dims[name] = value; }
  /// What tensor.dim of an original value becomes; for values without a copy.
  void setSizes(mlir::Value from, llvm::ArrayRef<mlir::Value> sizes) {
    knownSizes[from].assign(sizes.begin(), sizes.end());
  }

  /// Copies an op and maps its results. Operands must be mapped.
  void clone(mlir::Operation *op);

  /// The value, cast if its type is another one.
  mlir::Value castTo(mlir::Value value, mlir::Type type);

private:
  mlir::OpFoldResult resolve(mlir::OpFoldResult size);
  llvm::SmallVector<mlir::OpFoldResult>
  resolve(llvm::ArrayRef<mlir::OpFoldResult> sizes);
  void cloneScalar(mlir::Operation *op);
  void cloneUnknown(mlir::Operation *op);
  bool cloneTensorOp(mlir::Operation *op);
  mlir::Value expandShape(mlir::tensor::ExpandShapeOp op);
  mlir::Type resultType(mlir::Operation *op);

  mlir::OpBuilder &builder;
  mlir::IRMapping mapping;
  llvm::StringMap<mlir::Value> dims;
  llvm::DenseMap<mlir::Value, llvm::SmallVector<mlir::Value, 4>> knownSizes;
};

} // namespace quench

#endif // QUENCH_LIB_DIALECT_QUENCH_TRANSFORMS_REFININGCLONER_H
