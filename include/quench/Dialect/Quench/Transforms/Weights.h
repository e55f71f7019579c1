//===- Weights.h - Evaluating lazy weight expressions -----------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QUENCH_TRANSFORMS_WEIGHTS_H
#define QUENCH_DIALECT_QUENCH_TRANSFORMS_WEIGHTS_H

#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Support/ModelFiles.h"
#include <map>

namespace quench {

/// What a quench.assemble op stands for: weight = scale * level, where
/// level = code - zero point.
struct AssembledWeight {
  int64_t rows = 0, cols = 0, group = 0; // columns that share a scale
  int64_t groups = 0;                    // of a row
  unsigned bits = 0;                     // of a code
  std::vector<float> table;              // the levels by code, if they are no
                                         // differences of codes
  std::vector<float> levels;             // [rows][cols]
  std::vector<float> scales, zeros;      // [rows][groups]; zeros of signed
                                         // codes count from the lowest code
};

/// Evaluates the expressions of weight, map, dequantize and assemble ops that
/// end in initializers. Nothing is kept between calls but the mapped files.
class WeightEvaluator {
public:
  WeightEvaluator(mlir::ModuleOp module, ModelFiles &files);

  /// True if the value depends on initializers only.
  static bool isWeight(mlir::Value value);

  /// A text that is equal for equal expressions: initializer names, maps,
  /// formats.
  static std::string key(mlir::Value value);

  /// Rows [begin, end) of a weight of rank 2, as f32, row major. Errors name
  /// the initializer.
  llvm::Error rows(mlir::Value value, int64_t begin, int64_t end,
                   std::vector<float> &result);

  /// True if rows() evaluates the whole weight whatever rows are asked for: a
  /// map runs along the rows, or the weight is assembled.
  static bool needsAllRows(mlir::Value value);

  /// All numbers of a weight of any rank, row major.
  llvm::Expected<std::vector<float>> all(mlir::Value value);

  /// Levels, scales and zero points of an assembled weight.
  llvm::Expected<AssembledWeight> assembled(qn::AssembleOp op);

  /// The bytes of an initializer as they are stored.
  llvm::Expected<llvm::ArrayRef<char>> bytes(llvm::StringRef initializer);

  /// The numbers of an initializer.
  llvm::Expected<std::vector<double>> numbers(llvm::StringRef initializer);

private:
  qn::InitializerOp lookup(llvm::StringRef name);
  llvm::Expected<std::shared_ptr<Map>> instantiate(qn::MapInterface map);

  mlir::ModuleOp module;
  mlir::SymbolTable symbols;
  ModelFiles &files;
  std::map<const void *, std::shared_ptr<Map>> maps;
};

/// Gives rows of a weight as f32, to quantize them: ReadRows. A weight that can
/// only be evaluated as a whole is evaluated once.
class WeightRows {
public:
  WeightRows(WeightEvaluator &evaluator, mlir::Value value);
  /// Rows [begin, end); valid until the next call.
  llvm::Expected<const float *> operator()(int64_t begin, int64_t end);

  int64_t rows() const;
  int64_t cols() const;

private:
  WeightEvaluator &evaluator;
  mlir::Value value;
  bool isWhole;
  std::vector<float> numbers;
};

} // namespace quench

#endif // QUENCH_DIALECT_QUENCH_TRANSFORMS_WEIGHTS_H
