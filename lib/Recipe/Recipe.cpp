//===- Recipe.cpp - Recipes as YAML -----------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Recipe/Recipe.h"
#include "quench/Quantization/Format.h"
#include "quench/Quantization/Quantizer.h"
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

namespace {
struct RotateName {
  StringLiteral text;
  bool Rotate::*flag;
};
} // namespace
static constexpr RotateName kRotateNames[] = {{"stream", &Rotate::stream},
                                              {"values", &Rotate::values},
                                              {"o", &Rotate::o},
                                              {"down", &Rotate::down}};

static std::string parseRotate(StringRef text, Rotate &rotate) {
  rotate = {};
  if (text == "none")
    return "";
  SmallVector<StringRef> parts;
  text.split(parts, '+');
  for (StringRef part : parts) {
    bool *flag = nullptr;
    for (const RotateName &name : kRotateNames)
      if (part.trim() == name.text)
        flag = &(rotate.*name.flag);
    if (!flag)
      return unknown("rotate", text,
                     "none, or some of stream, values, o and down joined by +");
    *flag = true;
  }
  return "";
}
static std::string printRotate(const Rotate &rotate) {
  SmallVector<StringRef> parts;
  for (const RotateName &name : kRotateNames)
    if (rotate.*name.flag)
      parts.push_back(name.text);
  return parts.empty() ? "none" : join(parts, "+");
}

static std::string checkRole(StringRef text) {
  SmallVector<StringRef> roles;
  text.split(roles, ',', -1, /*KeepEmpty=*/false);
  for (StringRef role : roles)
    if (!is_contained(kRoles, role.trim()))
      return unknown("role", role.trim(),
                     join(std::begin(kRoles), std::end(kRoles), ", "));
  return "";
}

static std::string checkName(StringRef text) {
  Expected<GlobPattern> pattern = GlobPattern::create(text);
  if (pattern)
    return "";
  return ("name: '" + text +
          "' is no pattern: " + toString(pattern.takeError()))
      .str();
}

static std::string checkFormat(StringRef text) {
  if (text == "keep")
    return "";
  Expected<const Format *> format = getFormat(text);
  return format ? "" : "format: " + toString(format.takeError()) + ", or keep";
}

static std::string checkQuantizer(StringRef text) {
  Expected<const Quantizer *> quantizer = getQuantizer(text);
  return quantizer ? "" : toString(quantizer.takeError());
}

static std::string checkActivations(StringRef text) {
  Activations ignored;
  return parseActivations(text, ignored);
}

static std::string checkRotate(StringRef text) {
  Rotate ignored;
  return parseRotate(text, ignored);
}

namespace {
using Check = std::string (*)(StringRef);
/// A text that is checked where it is read, so that errors have its line.
template <Check check> struct Field {
  std::string text;
  bool operator==(const Field &other) const { return text == other.text; }
};
} // namespace

LLVM_YAML_IS_SEQUENCE_VECTOR(quench::RecipeRule)

namespace llvm::yaml {
template <Check check> struct ScalarTraits<Field<check>> {
  static void output(const Field<check> &field, void *, raw_ostream &os) {
    os << field.text;
  }
  /// The message lives in the reader's context, a string.
  static StringRef input(StringRef text, void *context, Field<check> &field) {
    field.text = text.str();
    auto &message = *static_cast<std::string *>(context);
    message = check(text);
    return message;
  }
  static QuotingType mustQuote(StringRef text) { return needsQuotes(text); }
};

/// Maps `value` as a checked text.
template <Check check>
static void mapChecked(IO &io, const char *key, std::string &value,
                       StringRef absent) {
  Field<check> field{value};
  io.mapOptional(key, field, Field<check>{absent.str()});
  value = field.text;
}

template <> struct MappingTraits<RecipeRule> {
  static void mapping(IO &io, RecipeRule &rule) {
    mapChecked<checkRole>(io, "role", rule.role, "");
    mapChecked<checkName>(io, "name", rule.name, "");
    Field<checkFormat> format{rule.format};
    io.mapRequired("format", format);
    mapChecked<checkQuantizer>(io, "quantizer", rule.quantizer, "rtn");
    std::string activations =
        rule.activations ? printActivations(*rule.activations).str() : "";
    mapChecked<checkActivations>(io, "activations", activations, "");
    io.mapOptional("optional", rule.optional, false);
    if (io.outputting())
      return;
    if (!activations.empty())
      parseActivations(activations, rule.activations.emplace());
    rule.format = format.text;
    if (Expected<const Format *> known = getFormat(format.text))
      rule.format = (*known)->spec(); // canonical
    else
      consumeError(known.takeError());
  }
};

template <> struct MappingTraits<Recipe> {
  static void mapping(IO &io, Recipe &recipe) {
    io.mapRequired("name", recipe.name);
    io.mapOptional("description", recipe.description, std::string());
    std::string activations = printActivations(recipe.activations).str();
    mapChecked<checkActivations>(io, "activations", activations, "f32");
    std::string rotate = printRotate(recipe.rotate);
    mapChecked<checkRotate>(io, "rotate", rotate, "none");
    io.mapOptional("seed", recipe.seed, uint64_t(0));
    io.mapRequired("rules", recipe.rules);
    if (io.outputting())
      return;
    parseActivations(activations, recipe.activations);
    parseRotate(rotate, recipe.rotate);
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
  std::string copy = text.str();
  std::string message;
  yaml::Input input(copy, &message, Diagnostics::handle, &diagnostics);
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
