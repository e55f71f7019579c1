//===- Import.h - Import of ONNX models ----------------------- -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Reads an .onnx file into a module: one function `main` of onnx ops with the
// graph's signature, and one quench.initializer for each initializer and each
// tensor of a Constant node. Weights stay in their files.
//
//   module attributes {onnx.opset_import = {"ai.onnx" = 17 : i64},
//                      quench.model_path = "model.onnx"} {
//     quench.initializer @w source(#quench.file<"model.onnx.data", 0, 128>)
//         : tensor<8x4xf32>
//     func.func @main(%x: tensor<?x8xf32> {quench.name = "x",
//                                          quench.dims = ["batch", "8"]})
//         -> (tensor<?x4xf32> {quench.name = "y",
//                              quench.dims = ["batch", "4"]}) { ... }
//   }
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_IMPORT_ONNX_IMPORT_H
#define QUENCH_IMPORT_ONNX_IMPORT_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <string>

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace quench {

/// Choices of an import.
struct ImportOptions {
  /// Tensors of at most so many elements become elements attributes, which
  /// patterns can read.
  int64_t smallElements = 64;
  /// So do integer tensors of at most so many bytes.
  int64_t smallBytes = 1024;
  /// Contents of tensors inside of the model of more bytes than this are
  /// referred to by #quench.file; the file must stay.
  uint64_t referFrom = 1024;
};

/// Imports the model at `path`. Files of external data are looked for in its
/// folder and checked, not read. Loads the dialects that the module needs into
/// the context. The error's message begins with the path; unsupported nodes
/// are all named in it.
llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
importONNX(llvm::StringRef path, mlir::MLIRContext &context,
           const ImportOptions &options = {});

/// Imports a model from memory. `name` stands for the file in messages and in
/// #quench.file; big weights inside of `bytes` are referred to by offset.
/// External data is looked for in the folder of `name`; without a name there is
/// none.
llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
importONNX(llvm::ArrayRef<char> bytes, llvm::StringRef name,
           mlir::MLIRContext &context, const ImportOptions &options = {});

/// The bytes of the model that `text`, in ONNX's text syntax, stands for
/// (https://onnx.ai/onnx/repo-docs/Syntax.html).
llvm::Expected<std::string> parseONNXText(llvm::StringRef text);

/// Adds the dialects that imported modules are made of.
void registerImportDialects(mlir::DialectRegistry &registry);

/// Registers the translations --import-onnx, --import-onnx-text and
/// --onnx-text-to-onnx.
void registerImportTranslations();

} // namespace quench

#endif // QUENCH_IMPORT_ONNX_IMPORT_H
