//===- Import.cpp - Import of ONNX models ---------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Import/ONNX/Import.h"
#include "GraphImporter.h"
#include "Reader.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Tools/mlir-translate/Translation.h"
#include "quench/Dialect/ONNX/IR/ONNX.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Support/ModelFiles.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SourceMgr.h"

using namespace quench;
using llvm::ArrayRef;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

using ModuleRef = mlir::OwningOpRef<mlir::ModuleOp>;

/// Puts the model's path before a message.
static Error withPath(StringRef path, Error error) {
  if (path.empty())
    return error;
  return modelError(path + ": " + llvm::toString(std::move(error)));
}

static Expected<ModuleRef> importFrom(ArrayRef<char> bytes, ModelFiles &files,
                                      mlir::MLIRContext &context,
                                      const ImportOptions &options) {
  mlir::DialectRegistry registry;
  registerImportDialects(registry);
  context.appendDialectRegistry(registry);
  context.loadDialect<quench::onnx::ONNXDialect, qn::QuenchDialect,
                      mlir::func::FuncDialect>();
  Expected<std::unique_ptr<LoadedModel>> model =
      readModel(bytes, files, options.referFrom);
  if (!model)
    return withPath(files.getModelPath(), model.takeError());
  Expected<ModuleRef> module =
      GraphImporter(**model, files, context, options).run();
  if (!module)
    return withPath(files.getModelPath(), module.takeError());
  return module;
}

Expected<ModuleRef> quench::importONNX(StringRef path,
                                       mlir::MLIRContext &context,
                                       const ImportOptions &options) {
  ModelFiles files(path);
  Expected<ArrayRef<char>> bytes = files.getAll(files.getModelName());
  if (!bytes)
    return bytes.takeError();
  return importFrom(*bytes, files, context, options);
}

Expected<ModuleRef> quench::importONNX(ArrayRef<char> bytes, StringRef name,
                                       mlir::MLIRContext &context,
                                       const ImportOptions &options) {
  ModelFiles files(name);
  files.addBuffer(files.getModelName(), bytes);
  return importFrom(bytes, files, context, options);
}

Expected<std::string> quench::parseONNXText(StringRef text) {
  return parseModelText(text);
}

void quench::registerImportDialects(mlir::DialectRegistry &registry) {
  registry.insert<quench::onnx::ONNXDialect, qn::QuenchDialect,
                  mlir::func::FuncDialect>();
}

/// Reports an import's error as a diagnostic.
static mlir::OwningOpRef<mlir::Operation *> report(Expected<ModuleRef> module,
                                                   mlir::MLIRContext *context) {
  if (module)
    return mlir::OwningOpRef<mlir::Operation *>(module->release());
  mlir::emitError(mlir::UnknownLoc::get(context))
      << llvm::toString(module.takeError());
  return {};
}

void quench::registerImportTranslations() {
  static mlir::TranslateToMLIRRegistration binary(
      "import-onnx", "import an ONNX model",
      [](llvm::SourceMgr &sources, mlir::MLIRContext *context) {
        const llvm::MemoryBuffer *buffer =
            sources.getMemoryBuffer(sources.getMainFileID());
        StringRef name = buffer->getBufferIdentifier();
        if (name == "<stdin>" || name == "-") {
          ImportOptions options;
          options.referFrom = UINT64_MAX; // there is no file to refer to
          return report(importONNX(ArrayRef<char>(buffer->getBufferStart(),
                                                  buffer->getBufferSize()),
                                   "", *context, options),
                        context);
        }
        return report(importONNX(name, *context), context);
      },
      registerImportDialects);
  static mlir::TranslateRegistration convert(
      "onnx-text-to-onnx", "write a model in ONNX's text syntax as binary",
      [](const std::shared_ptr<llvm::SourceMgr> &sources, llvm::raw_ostream &os,
         mlir::MLIRContext *context) {
        const llvm::MemoryBuffer *buffer =
            sources->getMemoryBuffer(sources->getMainFileID());
        Expected<std::string> bytes = parseONNXText(buffer->getBuffer());
        if (!bytes) {
          mlir::emitError(mlir::UnknownLoc::get(context)) << llvm::toString(
              withPath(buffer->getBufferIdentifier(), bytes.takeError()));
          return mlir::failure();
        }
        os << *bytes;
        return mlir::success();
      });
  static mlir::TranslateToMLIRRegistration text(
      "import-onnx-text", "import an ONNX model in ONNX's text syntax",
      [](llvm::SourceMgr &sources, mlir::MLIRContext *context) {
        const llvm::MemoryBuffer *buffer =
            sources.getMemoryBuffer(sources.getMainFileID());
        Expected<std::string> bytes = parseONNXText(buffer->getBuffer());
        StringRef name = buffer->getBufferIdentifier();
        if (!bytes)
          return report(withPath(name, bytes.takeError()), context);
        ImportOptions options;
        options.referFrom = UINT64_MAX; // the bytes are gone after the import
        return report(importONNX(*bytes, name, *context, options), context);
      },
      registerImportDialects);
}
