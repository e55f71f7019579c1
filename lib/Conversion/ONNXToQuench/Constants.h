//===- Constants.h - Numbers known at compile time --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Reads what the conversion must know of a model's constants: axes, epsilons,
// masks, rotary tables. Weights of layers are never read.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_CONVERSION_ONNXTOQUENCH_CONSTANTS_H
#define QUENCH_LIB_CONVERSION_ONNXTOQUENCH_CONSTANTS_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/SymbolTable.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Support/ModelFiles.h"
#include <memory>
#include <optional>
#include <vector>

namespace quench::onnx_to_quench {

/// The module attribute with the path of the model file; the names in
/// `#quench.file` are relative to its folder.
inline constexpr llvm::StringLiteral kModelPathAttr = "quench.model_path";

class Constants {
public:
  explicit Constants(mlir::ModuleOp module);

  /// Makes a new initializer known.
  void add(qn::InitializerOp op) { symbols.insert(op); }
  /// The initializer that a value reads, or null.
  qn::InitializerOp initializer(mlir::Value value);
  /// A `quench.weight` or another constant.
  bool isConstant(mlir::Value value);

  /// All numbers of a constant of at most `limit` elements, row major. Null if
  /// the value is no such constant or cannot be read.
  std::optional<std::vector<double>> numbers(mlir::Value value,
                                             int64_t limit = 4096);
  std::optional<std::vector<int64_t>> integers(mlir::Value value,
                                               int64_t limit = 4096);
  /// The number of a constant whose elements are all the same one (at most 64
  /// elements, so that nothing big is read).
  std::optional<double> scalar(mlir::Value value);

private:
  /// The elements of small constants that are held in attributes.
  mlir::ElementsAttr elements(mlir::Value value);

  mlir::ModuleOp module;
  mlir::SymbolTable symbols;
  std::unique_ptr<ModelFiles> files;
};

/// The constant attribute of an onnx.Constant in any of its forms, or null.
mlir::ElementsAttr getConstantValue(mlir::Operation *op);

} // namespace quench::onnx_to_quench

#endif // QUENCH_LIB_CONVERSION_ONNXTOQUENCH_CONSTANTS_H
