//===- Recognizer.h - What the recognizers share ----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_CONVERSION_ONNXTOQUENCH_RECOGNIZER_H
#define QUENCH_LIB_CONVERSION_ONNXTOQUENCH_RECOGNIZER_H

#include "Shapes.h"

namespace quench::onnx_to_quench {

/// Erases onnx and quench ops without uses, last one first.
void eraseDead(mlir::func::FuncOp function);

/// One function that is being raised. Each stage calls `refresh` first.
class Recognizer {
public:
  Recognizer(mlir::func::FuncOp function, Constants &constants,
             DimContext &names)
      : function(function), pool(constants), names(names),
        builder(function.getContext()) {
    refresh();
  }

  /// Drops dead ops and computes all shapes anew.
  void refresh();

  /// Replaces `old`; the new value has its shape. New ops are made at the place
  /// of the builder.
  void replace(mlir::Value old, mlir::Value with);
  /// Says in a remark that an op was not raised.
  void missed(mlir::Operation *op, const llvm::Twine &why);
  /// Moves the builder to `op`.
  mlir::Location at(mlir::Operation *op) {
    builder.setInsertionPoint(op);
    return op->getLoc();
  }
  /// The only user of a value, or null.
  mlir::Operation *onlyUser(mlir::Value value) const;
  /// The operand of a two-operand op that is not `value`; null if neither is.
  mlir::Value otherOperand(mlir::Operation *op, mlir::Value value) const;
  /// For Mul and Div by a constant: the other factor, and the factor itself.
  std::optional<std::pair<mlir::Value, double>> scaled(mlir::Value value);
  /// A vector of `size` floats, rank 1; of constants, if so asked.
  bool isVector(mlir::Value value, const Dim &size, bool constant = true);
  /// The elements of an op's result of this type and shape.
  mlir::RankedTensorType typeOf(mlir::Value like) {
    return shapes->typeOf(*shapes->get(like), elementType(like));
  }
  static mlir::Type elementType(mlir::Value value) {
    return llvm::cast<mlir::ShapedType>(value.getType()).getElementType();
  }
  /// [1, count] of i64: first, first + 1, ...; made once at the beginning.
  mlir::Value positions(const Dim &first, const Dim &count);
  /// Copies of the initializer's value with the last dimensions exchanged.
  mlir::Value transposedWeight(qn::WeightOp weight, mlir::Location loc);

  mlir::func::FuncOp function;
  Constants &pool;
  DimContext &names;
  std::unique_ptr<Shapes> shapes;
  mlir::OpBuilder builder;

private:
  std::map<std::pair<Dim, Dim>, mlir::Value> positionValues;
};

/// [batch, sequence, heads * size] seen as heads: the rows behind a Reshape to
/// [batch, sequence, heads, size] and, if `transposed`, a Transpose to [batch,
/// heads, sequence, size].
struct HeadsView {
  mlir::Value rows;
  int64_t heads = 0, size = 0;
  bool transposed = false;
  mlir::Operation *reshape = nullptr, *transpose = nullptr;
};
std::optional<HeadsView> matchHeads(Recognizer &r, mlir::Value value);

/// Frequencies of rotary tables, cos and sin of [rows, n]: cos(p f_i) and
/// sin(p f_i) in each row p to the rounding of f32 angles. Null if there are
/// none.
std::optional<std::vector<float>> fitFrequencies(llvm::ArrayRef<double> cos,
                                                 llvm::ArrayRef<double> sin,
                                                 int64_t rows, int64_t n);

/// An integer tensor that counts along its axes: constant + sum of
/// coefficients[i] * index i, where axes are those of some bigger tensor.
struct Iota {
  Dim constant;
  llvm::SmallVector<int64_t> coefficients;
};
/// `axes[i]` is the axis of the bigger tensor, of rank `rank`, that axis i of
/// the value is.
std::optional<Iota> matchIota(Recognizer &r, mlir::Value value,
                              llvm::ArrayRef<int64_t> axes, int64_t rank);

// The stages, in this order.
void foldWeights(Recognizer &r);
void recognizeNorms(Recognizer &r);
void recognizeContrib(Recognizer &r);
void recognizeRotary(Recognizer &r);
void recognizeCaches(Recognizer &r);
void recognizeAttention(Recognizer &r);
void recognizeLinears(Recognizer &r);
void recognizeEmbeddings(Recognizer &r);
void assignRoles(Recognizer &r);

} // namespace quench::onnx_to_quench

#endif // QUENCH_LIB_CONVERSION_ONNXTOQUENCH_RECOGNIZER_H
