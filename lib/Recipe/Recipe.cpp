//===- Recipe.cpp - Recipes as YAML -----------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Recipe/Recipe.h"
#include "quench/Quantization/Format.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/GlobPattern.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/YAMLTraits.h"

using namespace llvm;
using namespace quench;

static constexpr StringLiteral kRoles[] = {
    "q",  "k",    "v",     "qkv",  "o",         "gate",
    "up", "down", "other", "head", "embedding", "linear"};

//===----------------------------------------------------------------------===//
// The YAML form
//===----------------------------------------------------------------------===//

static std::string unknown(StringRef field, StringRef found,
                           StringRef accepted) {
  return (field + ": '" + found + "', accepted are " + accepted).str();
}

static std::string parseActivations(StringRef text, Activations &activations) {
  if (text != "f32" && text != "int8")
    return unknown("activations", text, "f32 and int8");
  activations = text == "int8" ? Activations::Int8 : Activations::F32;
  return "";
}
static StringRef printActivations(Activations activations) {
  return activations == Activations::Int8 ? "int8" : "f32";
}

static std::string parseRotate(StringRef text, Rotate &rotate) {
  if (text == "none")
    rotate = Rotate::None;
  else if (text == "stream")
    rotate = Rotate::Stream;
  else if (text == "stream+down")
    rotate = Rotate::StreamAndDown;
  else
    return unknown("rotate", text, "none, stream and stream+down");
  return "";
}
static StringRef printRotate(Rotate rotate) {
  return rotate == Rotate::None     ? "none"
         : rotate == Rotate::Stream ? "stream"
                                    : "stream+down";
}

/// Checks the texts of a rule and makes the format's text canonical.
static std::string checkRule(RecipeRule &rule) {
  SmallVector<StringRef> roles;
  StringRef(rule.role).split(roles, ',', -1, /*KeepEmpty=*/false);
  for (StringRef role : roles)
    if (!is_contained(kRoles, role.trim()))
      return unknown("role", role.trim(), join(std::begin(kRoles), std::end(kRoles), ", "));
  if (!rule.role.empty() && roles.empty())
    return unknown("role", rule.role, join(std::begin(kRoles), std::end(kRoles), ", "));
  if (!rule.name.empty())
    if (Expected<GlobPattern> pattern = GlobPattern::create(rule.name);
        !pattern)
      return "name: '" + rule.name +
             "' is no pattern: " + toString(pattern.takeError());
  if (rule.quantizer != "rtn" && rule.quantizer != "rtn<search>")
    return unknown("quantizer", rule.quantizer, "rtn and rtn<search>");
  if (rule.format != "keep") {
    Expected<const Format *> format = getFormat(rule.format);
    if (!format)
      return "format: " + toString(format.takeError()) + ", or keep";
    rule.format = (*format)->spec();
  }
  return "";
}

LLVM_YAML_IS_SEQUENCE_VECTOR(quench::RecipeRule)

namespace llvm::yaml {
template <> struct MappingTraits<RecipeRule> {
  static void mapping(IO &io, RecipeRule &rule) {
    io.mapOptional("role", rule.role, std::string());
    io.mapOptional("name", rule.name, std::string());
    io.mapRequired("format", rule.format);
    io.mapOptional("quantizer", rule.quantizer, std::string("rtn"));
    std::string activations =
        rule.activations ? printActivations(*rule.activations).str() : "";
    io.mapOptional("activations", activations, std::string());
    io.mapOptional("optional", rule.optional, false);
    if (io.outputting())
      return;
    std::string error;
    if (!activations.empty())
      error = parseActivations(activations, rule.activations.emplace());
    if (error.empty())
      error = checkRule(rule);
    if (!error.empty())
      io.setError(error);
  }
};

template <> struct MappingTraits<Recipe> {
  static void mapping(IO &io, Recipe &recipe) {
    io.mapRequired("name", recipe.name);
    io.mapOptional("description", recipe.description, std::string());
    std::string activations = printActivations(recipe.activations).str();
    io.mapOptional("activations", activations, std::string("f32"));
    std::string rotate = printRotate(recipe.rotate).str();
    io.mapOptional("rotate", rotate, std::string("none"));
    io.mapOptional("seed", recipe.seed, uint64_t(0));
    io.mapRequired("rules", recipe.rules);
    if (io.outputting())
      return;
    std::string error = parseActivations(activations, recipe.activations);
    if (error.empty())
      error = parseRotate(rotate, recipe.rotate);
    if (!error.empty())
      io.setError(error);
  }
};
} // namespace llvm::yaml

//===----------------------------------------------------------------------===//
// Reading and writing
//===----------------------------------------------------------------------===//

namespace {
/// Collects what LLVM's YAML reader has to say.
struct Diagnostics {
  StringRef origin;
  std::string first;

  static void handle(const SMDiagnostic &diagnostic, void *context) {
    auto &self = *static_cast<Diagnostics *>(context);
    if (!self.first.empty() || diagnostic.getKind() != SourceMgr::DK_Error)
      return;
    self.first =
        ("'" + self.origin + "', line " + Twine(diagnostic.getLineNo()) + ": " +
         diagnostic.getMessage())
            .str();
    StringRef line = diagnostic.getLineContents().trim();
    if (!line.empty())
      self.first += " (" + line.str() + ")";
  }
};
} // namespace

Expected<Recipe> quench::parseRecipe(StringRef text, StringRef origin) {
  Diagnostics diagnostics{origin, ""};
  if (text.contains('\0'))
    return createStringError("'" + origin + "': a zero byte in the text");
  // The reader wants a text that ends in a zero byte.
  std::string copy = text.str();
  yaml::Input input(copy, nullptr, Diagnostics::handle, &diagnostics);
  Recipe recipe;
  input >> recipe;
  if (input.error() || !diagnostics.first.empty()) {
    if (diagnostics.first.empty())
      diagnostics.first = ("'" + origin + "': not a recipe").str();
    return createStringError(diagnostics.first);
  }
  if (recipe.name.empty())
    return createStringError("'" + origin + "': not a recipe: it has no name");
  recipe.origin = origin.str();
  return recipe;
}

static const struct {
  StringLiteral name;
  StringLiteral text;
} kBuiltin[] = {
#include "Builtin.inc"
};

std::optional<StringRef> quench::builtinRecipe(StringRef name) {
  for (const auto &builtin : kBuiltin)
    if (builtin.name == name)
      return StringRef(builtin.text);
  return std::nullopt;
}

std::vector<std::pair<std::string, std::string>> quench::listRecipes() {
  std::vector<std::pair<std::string, std::string>> list;
  for (const auto &builtin : kBuiltin) {
    Expected<Recipe> recipe =
        parseRecipe(builtin.text, "built-in " + builtin.name.str());
    if (recipe)
      list.emplace_back(recipe->name, recipe->description);
    else
      list.emplace_back(builtin.name.str(), toString(recipe.takeError()));
  }
  return list;
}

Expected<Recipe> quench::loadRecipe(StringRef nameOrPath) {
  if (std::optional<StringRef> text = builtinRecipe(nameOrPath))
    return parseRecipe(*text, "built-in " + nameOrPath.str());
  bool isPath = nameOrPath.ends_with(".yaml") || nameOrPath.ends_with(".yml") ||
                nameOrPath.contains('/');
  if (!isPath) {
    SmallVector<StringRef> names;
    for (const auto &builtin : kBuiltin)
      names.push_back(builtin.name);
    return createStringError("no recipe '" + nameOrPath + "'; there are " +
                             join(names, ", ") +
                             ", and files that end in .yaml");
  }
  ErrorOr<std::unique_ptr<MemoryBuffer>> file =
      MemoryBuffer::getFile(nameOrPath);
  if (!file)
    return createStringError("'" + nameOrPath + "': cannot read the recipe: " +
                             file.getError().message());
  return parseRecipe((*file)->getBuffer(), nameOrPath);
}

std::string quench::printRecipe(const Recipe &recipe) {
  std::string text;
  raw_string_ostream os(text);
  yaml::Output output(os, nullptr, /*WrapColumn=*/0);
  Recipe copy = recipe;
  output << copy;
  // Without the marks of a document.
  StringRef body = text;
  body.consume_front("---\n");
  body.consume_back("...\n");
  return body.str();
}

Error quench::saveRecipe(const Recipe &recipe, StringRef path) {
  std::error_code code;
  raw_fd_ostream file(path, code, sys::fs::OF_Text);
  if (!code) {
    file << printRecipe(recipe);
    file.close();
    code = file.error();
    file.clear_error();
  }
  if (code)
    return createStringError("'" + path +
                             "': cannot write the recipe: " + code.message());
  return Error::success();
}
