//===- FormatRegistry.cpp - Names of formats ------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "SpecRegistry.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

using namespace quench;

/// Made on first use, since static objects register formats; never destroyed.
static SpecRegistry<Format> &registry() {
  static auto *instance =
      new SpecRegistry<Format>("format", "int<4, group = 32>");
  return *instance;
}

FormatRegistration::FormatRegistration(llvm::StringRef name,
                                       llvm::StringRef help,
                                       FormatFactory factory) {
  registry().add(name, help, std::move(factory));
}

std::vector<std::pair<std::string, std::string>> quench::listFormats() {
  linkBuiltinFormats();
  return registry().list();
}

llvm::Expected<const Format *> quench::getFormat(llvm::StringRef spec) {
  linkBuiltinFormats();
  return registry().get(spec);
}

/// Where `what` first stands outside of brackets, or the length of `text`.
static size_t topLevel(llvm::StringRef text, char what) {
  int64_t depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (depth == 0 && text[i] == what)
      return i;
    depth += text[i] == '<' ? 1 : text[i] == '>' ? -1 : 0;
  }
  return text.size();
}

/// Whether an argument is "name<...>" itself, its brackets in pairs.
static bool isNested(llvm::StringRef text) {
  size_t open = text.find('<');
  return open != 0 && text.ends_with(">") &&
         topLevel(text.drop_front(open + 1), '>') == text.size() - open - 2;
}

llvm::Expected<FormatArgs> quench::parseSpec(llvm::StringRef spec) {
  FormatArgs args;
  llvm::StringRef rest = spec.trim();
  llvm::StringRef name = rest.take_while(
      [](char c) { return llvm::isAlnum(c) || c == '_' || c == '-'; });
  if (name.empty())
    return llvm::createStringError("expected a name");
  args.name = name.str();
  rest = rest.drop_front(name.size()).ltrim();
  if (rest.empty())
    return args;
  llvm::StringRef whole = rest;
  if (!rest.consume_front("<") || !rest.consume_back(">"))
    return llvm::createStringError("found '" + whole.substr(0, 40) +
                                   "' after the name; arguments stand between "
                                   "'<' and '>' at the end");
  if (rest.trim().empty())
    return args;
  for (llvm::StringRef left = rest; !left.empty();) {
    llvm::StringRef part = left.take_front(topLevel(left, ','));
    left = left.drop_front(part.size());
    // A comma at the end stands before an argument that is missing.
    bool isLast = !left.consume_front(",");
    if (!isLast && left.empty())
      part = "";
    size_t equals = topLevel(part, '=');
    bool isNamed = equals != part.size();
    llvm::StringRef key = part.take_front(equals).trim();
    llvm::StringRef value = part.drop_front(equals).drop_front(isNamed).trim();
    bool nests = key.find_first_of("<>") != llvm::StringRef::npos;
    if (key.empty() || (isNamed && (nests || value.empty())) ||
        (nests && !isNested(key)))
      return llvm::createStringError("argument '" + part.trim() +
                                     "' is neither a value nor "
                                     "\"key = value\"");
    if (isNamed)
      args.named.push_back({key.str(), value.str()});
    else
      args.positional.push_back(key.str());
  }
  return args;
}

FormatArgReader::FormatArgReader(const FormatArgs &args)
    : args(args), positionalTaken(args.positional.size()),
      namedTaken(args.named.size()) {}

void FormatArgReader::fail(const llvm::Twine &message) {
  if (error.empty())
    error = message.str();
}

/// Reads a number in min..max.
static bool readNumber(llvm::StringRef text, int64_t min, int64_t max,
                       int64_t &value) {
  return !text.getAsInteger(10, value) && value >= min && value <= max;
}

int64_t FormatArgReader::number(llvm::StringRef what, int64_t min,
                                int64_t max) {
  std::string range = what.str() + " (" + std::to_string(min) + " to " +
                      std::to_string(max) + ")";
  accepted.push_back(range);
  if (positionalTaken.empty() || positionalTaken[0]) {
    fail("the first argument must be " + range);
    return min;
  }
  positionalTaken[0] = true;
  int64_t value = min;
  if (!readNumber(args.positional[0], min, max, value)) {
    fail("found '" + args.positional[0] + "' for " + range);
    return min;
  }
  return value;
}

std::string FormatArgReader::choice(llvm::StringRef what,
                                    llvm::ArrayRef<llvm::StringRef> choices) {
  std::string range = what.str() + " (" + llvm::join(choices, ", ") + ")";
  accepted.push_back(range);
  if (positionalTaken.empty() || positionalTaken[0]) {
    fail("the first argument must be " + range);
    return choices[0].str();
  }
  positionalTaken[0] = true;
  if (!llvm::is_contained(choices, args.positional[0])) {
    fail("found '" + args.positional[0] + "' for " + range);
    return choices[0].str();
  }
  return args.positional[0];
}

int64_t FormatArgReader::option(llvm::StringRef key, int64_t min, int64_t max,
                                int64_t absent) {
  accepted.push_back(key.str() + " = (" + std::to_string(min) + " to " +
                     std::to_string(max) + ")");
  int64_t result = absent;
  bool found = false;
  for (size_t i = 0; i < args.named.size(); ++i) {
    if (args.named[i].first != key)
      continue;
    if (found)
      fail("'" + key + "' is given twice");
    found = namedTaken[i] = true;
    int64_t value = 0;
    if (readNumber(args.named[i].second, min, max, value))
      result = value;
    else
      fail("found '" + args.named[i].second + "' for " + accepted.back());
  }
  return result;
}

double FormatArgReader::real(llvm::StringRef key, double min, double max,
                             double absent) {
  std::string range;
  llvm::raw_string_ostream(range)
      << key << llvm::format(" = (%g to %g)", min, max);
  accepted.push_back(range);
  double result = absent;
  bool found = false;
  for (size_t i = 0; i < args.named.size(); ++i) {
    if (args.named[i].first != key)
      continue;
    if (found)
      fail("'" + key + "' is given twice");
    found = namedTaken[i] = true;
    double value = 0;
    if (llvm::StringRef(args.named[i].second).getAsDouble(value) ||
        !(value >= min && value <= max))
      fail("found '" + args.named[i].second + "' for " + accepted.back());
    else
      result = value;
  }
  return result;
}

std::string
FormatArgReader::choiceOption(llvm::StringRef key,
                              llvm::ArrayRef<llvm::StringRef> choices) {
  std::string range = key.str() + " = (" + llvm::join(choices, ", ") + ")";
  accepted.push_back(range);
  for (size_t i = 0; i < args.positional.size(); ++i)
    if (args.positional[i] == key && !positionalTaken[i]) {
      positionalTaken[i] = true;
      return choices[0].str();
    }
  std::string result;
  for (size_t i = 0; i < args.named.size(); ++i) {
    if (args.named[i].first != key)
      continue;
    if (!result.empty())
      fail("'" + key + "' is given twice");
    namedTaken[i] = true;
    result = args.named[i].second;
    if (!llvm::is_contained(choices, result)) {
      fail("found '" + result + "' for " + range);
      result = choices[0].str();
    }
  }
  return result;
}

std::vector<float> FormatArgReader::numbers(llvm::StringRef what) {
  accepted.push_back(what.str());
  std::vector<float> result;
  for (size_t i = 0; i < args.positional.size(); ++i) {
    double value = 0;
    if (llvm::StringRef(args.positional[i]).getAsDouble(value))
      continue;
    positionalTaken[i] = true;
    result.push_back(static_cast<float>(value));
  }
  return result;
}

bool FormatArgReader::flag(llvm::StringRef key) {
  accepted.push_back(key.str());
  bool found = false;
  for (size_t i = 0; i < args.positional.size(); ++i)
    if (args.positional[i] == key && !positionalTaken[i])
      found = positionalTaken[i] = true;
  return found;
}

llvm::Error FormatArgReader::finish() {
  std::string list = accepted.empty()
                         ? "it has none"
                         : "accepted: " + llvm::join(accepted, ", ");
  for (size_t i = 0; i < args.positional.size(); ++i)
    if (!positionalTaken[i])
      fail("unknown argument '" + args.positional[i] + "'; " + list);
  for (size_t i = 0; i < args.named.size(); ++i)
    if (!namedTaken[i])
      fail("unknown argument '" + args.named[i].first + "'; " + list);
  if (error.empty())
    return llvm::Error::success();
  return llvm::createStringError(error);
}

std::string quench::formatSpec(llvm::StringRef name,
                               llvm::ArrayRef<std::string> arguments) {
  if (arguments.empty())
    return name.str();
  return name.str() + "<" + llvm::join(arguments, ", ") + ">";
}
