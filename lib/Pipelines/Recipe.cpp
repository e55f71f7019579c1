//===- Recipe.cpp - Recipes on a module -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Recipe/Recipe.h"
#include "quench/Dialect/Quench/Transforms/InsertMaps.h"
#include "quench/Pipelines/Compile.h"

using namespace quench;

llvm::Error quench::insertRecipeMaps(mlir::ModuleOp module,
                                     const Recipe &recipe) {
  const Rotate &rotate = recipe.rotate;
  if (rotate.stream || rotate.values || rotate.o || rotate.down) {
    InsertMapsOptions options;
    options.rotateStream = rotate.stream;
    options.rotateValues = rotate.values;
    options.rotateO = rotate.o;
    options.rotateDown = rotate.down;
    options.seed = recipe.seed;
    llvm::SmallVector<MapDecision> decisions;
    if (mlir::failed(insertMaps(module, options, &decisions)))
      return llvm::createStringError("'" + recipe.origin +
                                     "': the rotations cannot be inserted");
    // What the recipe asked for and the model does not allow.
    for (const MapDecision &decision : decisions)
      if (!decision.done)
        module.emitWarning() << decision.what << ": " << decision.text;
  }
  return llvm::Error::success();
}

llvm::Error quench::applyRecipeToModule(mlir::ModuleOp module,
                                        llvm::StringRef name) {
  llvm::Expected<Recipe> recipe = loadRecipe(name);
  if (!recipe)
    return recipe.takeError();
  if (llvm::Error error = insertRecipeMaps(module, *recipe))
    return error;
  return quantizeLayers(module, *recipe);
}
