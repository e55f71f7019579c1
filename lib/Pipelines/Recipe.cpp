//===- Recipe.cpp - Recipes on a module -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Pipelines/Compile.h"

using namespace quench;

llvm::Error quench::applyRecipeToModule(mlir::ModuleOp module,
                                        llvm::StringRef recipe) {
  if (recipe == "f32")
    return llvm::Error::success();
  return llvm::createStringError("no recipe '" + recipe + "'");
}
