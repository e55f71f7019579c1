//===- Recipes.cpp - quench recipes -----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Driver.h"
#include "quench/Recipe/Recipe.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace quench;

static cl::SubCommand options("recipes", "List or print the built-in recipes");

static cl::opt<std::string> name(cl::Positional, cl::desc("NAME"),
                                 cl::sub(options));
static cl::opt<bool> asJSON("json", cl::sub(options),
                            cl::desc("Print one JSON object"));

static int run() {
  if (!name.empty()) {
    if (std::optional<StringRef> text = builtinRecipe(name)) {
      if (asJSON)
        printJSON(json::Object{{"name", name}, {"text", *text}});
      else
        outs() << *text;
      return Done;
    }
    // Tells the names that exist; also prints a recipe of a file in full.
    Expected<Recipe> recipe = loadRecipe(name);
    if (!recipe)
      return fail(recipe.takeError());
    std::string text = printRecipe(*recipe);
    if (asJSON)
      printJSON(json::Object{{"name", recipe->name}, {"text", text}});
    else
      outs() << text;
    return Done;
  }
  json::Array list;
  for (const auto &[name, description] : listRecipes()) {
    list.push_back(json::Object{{"name", name}, {"description", description}});
    if (!asJSON)
      outs() << name
             << std::string(name.size() < 14 ? 14 - name.size() : 1, ' ')
             << description << '\n';
  }
  if (asJSON)
    printJSON(json::Object{{"recipes", std::move(list)}});
  return Done;
}

static std::string notes() {
  return "\nA recipe says which format the weights of which layers get. "
         "Print one into a file,\nchange it, and give the file to 'quench "
         "compile --recipe'.\n\nExamples:\n\n  quench recipes\n  quench "
         "recipes w4a8 > mine.yaml\n";
}

const Command quench::recipesCommand = {options, "[NAME] [--json]", notes, run};
