//===- Lowering.h - onnx ops to linalg on tensors ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_CONVERSION_ONNXTOQUENCH_LOWERING_H
#define QUENCH_LIB_CONVERSION_ONNXTOQUENCH_LOWERING_H

#include "Shapes.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"

namespace quench::onnx_to_quench {

/// Converts one function. Handlers make their ops at the place of the node and
/// call `set`; on failure they leave a reason.
class Lowering {
public:
  Lowering(mlir::func::FuncOp function, Constants &constants,
           DimContext &names);

  /// Converts everything. What could not be converted is appended to
  /// `problems`, one line a node.
  void run(std::vector<std::string> &problems);

private:
  using Handler = mlir::LogicalResult (Lowering::*)(mlir::Operation *);
  static const llvm::StringMap<Handler> &handlers();

  //===--- What handlers use (Convert.cpp) --------------------------------===//

  /// The value as a tensor whose type says all that is known of its shape.
  /// Null if it could not be converted.
  mlir::Value tensor(mlir::Value value);
  void set(mlir::Value old, mlir::Value with) { converted[old] = with; }
  mlir::LogicalResult fail(const llvm::Twine &why) {
    reason = why.str();
    return mlir::failure();
  }
  /// A size as an index value or attribute.
  mlir::OpFoldResult size(const Dim &dim);
  llvm::SmallVector<mlir::OpFoldResult> sizes(llvm::ArrayRef<Dim> dims);
  mlir::Value index(const Dim &dim);
  mlir::Value empty(llvm::ArrayRef<Dim> dims, mlir::Type element);
  mlir::Value filled(llvm::ArrayRef<Dim> dims, mlir::TypedAttr number);
  Dims dimsOf(mlir::Value value) const;
  mlir::Type elementOf(mlir::Value value) const;
  /// The other view of the same elements; null if the sizes do not fit.
  mlir::Value reshaped(mlir::Value value, llvm::ArrayRef<Dim> from,
                       llvm::ArrayRef<Dim> to);

  using Body = llvm::function_ref<mlir::Value(mlir::OpBuilder &, mlir::Location,
                                              mlir::ValueRange)>;
  /// A linalg.generic whose loops are the result's dimensions.
  mlir::Value parallel(llvm::ArrayRef<Dim> dims, mlir::Type element,
                       llvm::ArrayRef<mlir::Value> inputs,
                       llvm::ArrayRef<mlir::AffineMap> maps, Body body);
  /// The map by which an operand of these dimensions broadcasts.
  mlir::AffineMap broadcastMap(llvm::ArrayRef<Dim> from,
                               llvm::ArrayRef<Dim> to);
  /// One number of a constant or a size, as a scalar; null if it is neither.
  mlir::Value scalar(mlir::Value value);
  /// body(operands) at each element, operands broadcast.
  mlir::LogicalResult elementwise(mlir::Operation *op,
                                  llvm::ArrayRef<mlir::Value> operands,
                                  mlir::Type element, Body body);
  /// A reduction over `axes`; the result lacks them.
  mlir::Value reduce(mlir::Value input, llvm::ArrayRef<Dim> dims,
                     llvm::ArrayRef<int64_t> axes, mlir::TypedAttr start,
                     Body combine);

  //===--- Handlers
  //---------------------------------------------------------===//

  mlir::LogicalResult forward(mlir::Operation *op); // the first operand itself
  mlir::LogicalResult dropout(mlir::Operation *op);
  mlir::LogicalResult unary(mlir::Operation *op);
  mlir::LogicalResult binary(mlir::Operation *op);
  mlir::LogicalResult comparison(mlir::Operation *op);
  mlir::LogicalResult logical(mlir::Operation *op);
  mlir::LogicalResult variadic(mlir::Operation *op);
  mlir::LogicalResult where(mlir::Operation *op);
  mlir::LogicalResult cast(mlir::Operation *op);
  mlir::LogicalResult clip(mlir::Operation *op);
  mlir::LogicalResult gelu(mlir::Operation *op);
  mlir::LogicalResult
  quantizedOperands(mlir::Operation *op,
                    llvm::SmallVectorImpl<mlir::Value> &inputs,
                    llvm::SmallVectorImpl<mlir::AffineMap> &maps);
  mlir::LogicalResult dequantize(mlir::Operation *op);
  mlir::LogicalResult quantize(mlir::Operation *op);

  mlir::LogicalResult reduction(mlir::Operation *op);
  mlir::LogicalResult softmax(mlir::Operation *op);
  mlir::LogicalResult norm(mlir::Operation *op);
  mlir::LogicalResult matmul(mlir::Operation *op);
  mlir::LogicalResult gemm(mlir::Operation *op);
  mlir::LogicalResult argMax(mlir::Operation *op);

  mlir::LogicalResult reshape(mlir::Operation *op);
  mlir::LogicalResult transpose(mlir::Operation *op);
  mlir::LogicalResult expand(mlir::Operation *op);
  mlir::LogicalResult tile(mlir::Operation *op);
  mlir::LogicalResult concat(mlir::Operation *op);
  mlir::LogicalResult slice(mlir::Operation *op);
  mlir::LogicalResult split(mlir::Operation *op);
  mlir::LogicalResult gather(mlir::Operation *op);
  mlir::LogicalResult range(mlir::Operation *op);
  mlir::LogicalResult constantOfShape(mlir::Operation *op);
  mlir::LogicalResult constant(mlir::Operation *op);
  mlir::LogicalResult trilu(mlir::Operation *op);

  //===--- The walk
  //---------------------------------------------------------===//

  void markNeeded();
  void convert(mlir::Operation *op, std::vector<std::string> &problems);
  void finish();
  mlir::Value sizesTensor(mlir::Value value, const Dims &elements);

  mlir::func::FuncOp function;
  Constants &pool;
  DimContext &names;
  Shapes shapes;
  mlir::OpBuilder builder;
  mlir::Location loc;
  llvm::DenseMap<mlir::Value, mlir::Value> converted;
  llvm::DenseSet<mlir::Operation *> needed, failed;
  std::string reason;
};

} // namespace quench::onnx_to_quench

#endif // QUENCH_LIB_CONVERSION_ONNXTOQUENCH_LOWERING_H
