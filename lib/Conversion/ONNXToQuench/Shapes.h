//===- Shapes.h - Sizes and integers of all values --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Walks a function once and finds, for each value, its dimensions as
// expressions over the named ones of the inputs, and for small integer tensors
// (what Shape, Gather, Concat and arithmetic on sizes give) the elements.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_CONVERSION_ONNXTOQUENCH_SHAPES_H
#define QUENCH_LIB_CONVERSION_ONNXTOQUENCH_SHAPES_H

#include "Constants.h"
#include "Dims.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseMap.h"

namespace quench::onnx_to_quench {

/// Attribute of arguments, results and of ops that this analysis does not know:
/// the dimensions as texts.
inline constexpr llvm::StringLiteral kDimsAttr = "quench.dims";

//===----------------------------------------------------------------------===//
// Reading onnx ops
//===----------------------------------------------------------------------===//

/// "MatMul", "com.microsoft.MatMulNBits"; empty if it is no onnx op.
llvm::StringRef kindOf(mlir::Operation *op);
/// The op that defines the value if it is the onnx op `kind`, otherwise null.
mlir::Operation *definedBy(mlir::Value value, llvm::StringRef kind);
int64_t getInt(mlir::Operation *op, llvm::StringRef name, int64_t otherwise);
double getFloat(mlir::Operation *op, llvm::StringRef name, double otherwise);
std::optional<llvm::SmallVector<int64_t>> getInts(mlir::Operation *op,
                                                  llvm::StringRef name);
/// The operand, or null if the op has fewer or it is absent.
mlir::Value getOperand(mlir::Operation *op, unsigned i);
/// The name of the ONNX node.
std::string nodeName(mlir::Operation *op);

/// Says in attribute `quench.limits` of a function that a size is at most
/// `most`.
void addLimit(mlir::func::FuncOp function, DimContext &names, const Dim &size,
              int64_t most);

class Shapes {
public:
  Shapes(mlir::func::FuncOp function, Constants &constants, DimContext &dims);

  /// The dimensions of a value, or null if they are not known.
  const Dims *get(mlir::Value value) const;
  /// Dimension `i` (negative: from the end) of a value of known shape.
  Dim dim(mlir::Value value, int64_t i) const;
  int64_t rank(mlir::Value value) const; // -1: not known
  /// The elements of a small integer or boolean tensor, row major.
  std::optional<Dims> ints(mlir::Value value) const;
  /// The same, if all are constants.
  std::optional<llvm::SmallVector<int64_t>> constants(mlir::Value value) const;

  /// One number that all elements are: of a constant, or computed from sizes
  /// and constants (1 / sqrt(head size)).
  std::optional<double> scalar(mlir::Value value, unsigned depth = 0) const;

  void set(mlir::Value value, Dims dims);
  /// Why the shape of an op's results is not known; empty if it is or if that
  /// comes from an operand.
  std::string reason(mlir::Operation *op) const;

  /// Axes of an op: attribute, or operand `operand`; made positive. Null: not
  /// constant. `given` tells whether there are any.
  std::optional<llvm::SmallVector<int64_t>> axes(mlir::Operation *op,
                                                 unsigned operand, int64_t rank,
                                                 bool *given = nullptr) const;

  /// Start, size and step for each axis of a Slice; null if not known.
  struct Range {
    Dim start, size;
    int64_t step = 1;
  };
  std::optional<llvm::SmallVector<Range>> slice(mlir::Operation *op);
  /// The sizes of a Split's results.
  std::optional<Dims> split(mlir::Operation *op);

  mlir::RankedTensorType typeOf(llvm::ArrayRef<Dim> dims,
                                mlir::Type element) const;
  /// Writes argument and result dimensions into the function's attributes.
  void annotate();

  DimContext &context() { return names; }
  Constants &constantPool() const { return pool; }
  mlir::func::FuncOp getFunction() const { return function; }

private:
  bool transfer(mlir::Operation *op);
  bool transferQuench(mlir::Operation *op);
  bool transferContrib(mlir::Operation *op, llvm::StringRef kind);
  bool transferMove(mlir::Operation *op, llvm::StringRef kind);
  bool transferShape(mlir::Operation *op, llvm::StringRef kind);
  void transferInts(mlir::Operation *op, llvm::StringRef kind);
  bool reshape(mlir::Operation *op);
  bool matmul(mlir::Operation *op);
  std::optional<Dims> broadcast(llvm::ArrayRef<mlir::Value> values);
  std::optional<Dim> broadcast(const Dim &a, const Dim &b);
  std::optional<Dims> arithmetic(llvm::StringRef kind, mlir::Operation *op);
  bool fail(const llvm::Twine &why) {
    problem = why.str();
    return false;
  }

  mlir::func::FuncOp function;
  Constants &pool;
  DimContext &names;
  llvm::DenseMap<mlir::Value, Dims> shapes;
  llvm::DenseMap<mlir::Value, Dims> values;
  llvm::DenseMap<mlir::Operation *, std::string> problems;
  std::string problem;
};

} // namespace quench::onnx_to_quench

#endif // QUENCH_LIB_CONVERSION_ONNXTOQUENCH_SHAPES_H
