//===- Recipe.h - What becomes of each layer --------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A recipe says in YAML which layers get which format, what is done to their
// inputs, and which rotations stand before them:
//
//   name: w4a8
//   description: 4-bit weights in groups of 32, int8 activations
//   activations: int8   # of all rules' layers: f32 (default) or int8
//   rotate: stream+down # none (default), or some of stream, values, o, down
//   seed: 0             # of the rotations' signs
//   rules:              # the first one that matches a layer counts
//     - role: embedding, head
//       format: int<8, group = 32>
//       optional: true         # a model without such layers is no error
//     - role: linear           # q k v qkv o gate up down other
//       name: "*layers.0.*"    # pattern of the node's or the weight's name
//       format: keep           # as it is
//     - role: linear
//       format: int<4, group = 32>
//       quantizer: rtn         # or rtn<search>
//       activations: f32       # for this rule
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_RECIPE_RECIPE_H
#define QUENCH_RECIPE_RECIPE_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/Error.h"
#include <optional>
#include <string>
#include <vector>

namespace quench {

/// In what numbers the input of a layer comes.
enum class Activations { F32, Int8 };

/// Which rotations stand before layers; the pass that inserts maps reads it.
struct Rotate {
  bool stream = false; // residual streams, folded into weights
  bool values = false; // the values of each attention head, folded likewise
  bool o = false;      // the input of attention's output projection, on line
  bool down = false;   // the input of the down projection, on line
};

struct RecipeRule {
  /// Roles, separated by commas: q, k, v, qkv, o, gate, up, down, other, head,
  /// embedding, and linear for all but the last two. Empty: all.
  std::string role;
  /// A glob pattern for the name of the layer's node or of its weight. Empty:
  /// all.
  std::string name;
  /// The canonical text of a format, or "keep".
  std::string format = "keep";
  std::string quantizer = "rtn";
  std::optional<Activations> activations;
  bool optional = false;
};

struct Recipe {
  std::string name, description;
  Activations activations = Activations::F32;
  Rotate rotate;
  uint64_t seed = 0;
  std::vector<RecipeRule> rules;
  /// Where it was read from, for messages; "built-in NAME" or a path.
  std::string origin;
};

/// A built-in recipe by name, or the file `nameOrPath` if it ends in .yaml or
/// .yml or has a slash. Errors name the file, the line, the field, what was
/// found and what would be accepted.
llvm::Expected<Recipe> loadRecipe(llvm::StringRef nameOrPath);
/// The recipe in `text`; `origin` is for messages.
llvm::Expected<Recipe> parseRecipe(llvm::StringRef text,
                                   llvm::StringRef origin);
std::string printRecipe(const Recipe &recipe);
llvm::Error saveRecipe(const Recipe &recipe, llvm::StringRef path);
/// Name and description of the built-in recipes, in the order of documentation.
std::vector<std::pair<std::string, std::string>> listRecipes();
/// The text of a built-in recipe, or nothing.
std::optional<llvm::StringRef> builtinRecipe(llvm::StringRef name);

/// What a recipe decides about one quench.linear or quench.embedding.
struct LayerPlan {
  /// The format of its weight; empty: as it is.
  std::string format;
  std::string quantizer = "rtn";
  /// Codes that the model brought are packed as they are, with scales rounded
  /// to halves; else they become floats where a scale is no half.
  bool keepCodes = false;
  Activations activations = Activations::F32;
};
using LayerPlans = llvm::MapVector<mlir::Operation *, LayerPlan>;

/// "q", "head", "embedding", ...: linear layers without a role are "other".
llvm::StringRef layerRole(mlir::Operation *op);
/// The name of the node that a layer comes from; empty: it has none.
std::string layerName(mlir::Operation *op);

/// The plans of all layers with a constant weight. Weights that the model
/// brings in codes keep them. Error: a rule that is not optional and decides
/// about no layer.
llvm::Expected<LayerPlans> planLayers(mlir::ModuleOp module,
                                      const Recipe &recipe);

/// Puts quench.quantize before the weights and the inputs of the layers, as
/// planned. Layers that read one input share its quantization. Maps are not
/// inserted here. Errors are those of planLayers.
llvm::Error quantizeLayers(mlir::ModuleOp module, const Recipe &recipe);
/// The same; errors are reported at the module.
llvm::LogicalResult applyRecipe(mlir::ModuleOp module, const Recipe &recipe);

} // namespace quench

#endif // QUENCH_RECIPE_RECIPE_H
