//===- quench-translate.cpp - Translations from and to files --------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/InitAllTranslations.h"
#include "mlir/Support/LogicalResult.h"
#include "mlir/Tools/mlir-translate/MlirTranslateMain.h"
#include "quench/Import/ONNX/Import.h"

int main(int argc, char **argv) {
  mlir::registerAllTranslations();
  quench::registerImportTranslations();
  return mlir::failed(
      mlir::mlirTranslateMain(argc, argv, "Quench translation tool\n"));
}
