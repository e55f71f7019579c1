//===- GraphImporter.h - Makes a module of a model ------------ -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_IMPORT_ONNX_GRAPHIMPORTER_H
#define QUENCH_LIB_IMPORT_ONNX_GRAPHIMPORTER_H

#include "Reader.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "quench/Import/ONNX/Import.h"
#include "quench/Support/ModelFiles.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

namespace quench {

/// Makes a module of one checked model. Errors are about what only shows when
/// files are looked at or types are made.
class GraphImporter {
public:
  GraphImporter(const LoadedModel &model, ModelFiles &files,
                mlir::MLIRContext &context, const ImportOptions &options);
  llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>> run();

private:
  // Types and attributes; Attributes.cpp.
  mlir::Type elementType(int32_t type);
  mlir::Type valueType(const ::onnx::TypeProto *type);
  llvm::Expected<mlir::Attribute>
  attribute(const ::onnx::AttributeProto &proto);
  llvm::Expected<mlir::DenseElementsAttr> elements(const TensorData &data,
                                                   mlir::RankedTensorType type);
  llvm::Expected<llvm::ArrayRef<char>> contents(const TensorData &data);
  bool isSmall(const TensorData &data, mlir::Type element) const;

  // Constants; GraphImporter.cpp.
  llvm::Error initializer(const ::onnx::TensorProto &tensor,
                          llvm::StringRef name);
  llvm::Error constantNode(const ::onnx::NodeProto &node);
  llvm::Expected<mlir::Value> value(llvm::StringRef name);
  mlir::Value noValue();

  // The function.
  void moduleAttributes();
  llvm::Error startFunction();
  llvm::Error node(const ::onnx::NodeProto &node);
  llvm::Error finishFunction();
  mlir::DictionaryAttr signatureAttrs(const ::onnx::ValueInfoProto &value,
                                      mlir::Type type);
  mlir::Location location(llvm::StringRef name);

  const LoadedModel &model;
  const ::onnx::GraphProto &graph;
  ModelFiles &files;
  const ImportOptions &options;
  mlir::OpBuilder builder;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  mlir::func::FuncOp function;
  /// Values of inputs and nodes by their names.
  llvm::StringMap<mlir::Value> values;
  /// Initializers by the names of their values: symbol and type.
  struct Constant {
    std::string symbol;
    mlir::RankedTensorType type;
  };
  llvm::StringMap<Constant> constants;
  llvm::StringSet<> symbols;
  llvm::StringMap<const ::onnx::TypeProto *> types;
  mlir::Value none;
  mlir::Operation *lastInitializer = nullptr;
};

} // namespace quench

#endif // QUENCH_LIB_IMPORT_ONNX_GRAPHIMPORTER_H
