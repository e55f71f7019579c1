//===- FormatRegistry.cpp - Names of formats ------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "quench/Quantization/Format.h"
#include "llvm/ADT/StringExtras.h"
#include <algorithm>
#include <map>
#include <mutex>

using namespace quench;

namespace {
struct Entry {
  std::string help;
  FormatFactory factory;
};
struct Registry {
  std::mutex mutex;
  std::map<std::string, Entry> entries;
  /// By canonical text. Formats live as long as the process.
  std::map<std::string, std::unique_ptr<Format>> formats;
};
} // namespace

/// Made on first use, since static objects register formats; never destroyed.
static Registry &registry() {
  static Registry *instance = new Registry;
  return *instance;
}

FormatRegistration::FormatRegistration(llvm::StringRef name,
                                       llvm::StringRef help,
                                       FormatFactory factory) {
  std::lock_guard<std::mutex> lock(registry().mutex);
  registry().entries.try_emplace(name.str(),
                                 Entry{help.str(), std::move(factory)});
}

std::vector<std::pair<std::string, std::string>> quench::listFormats() {
  linkBuiltinFormats();
  std::lock_guard<std::mutex> lock(registry().mutex);
  std::vector<std::pair<std::string, std::string>> list;
  for (const auto &[name, entry] : registry().entries)
    list.push_back({name, entry.help});
  return list;
}

static llvm::Error formatError(llvm::StringRef spec,
                               const llvm::Twine &message) {
  return llvm::createStringError("format '" + spec.substr(0, 200) +
                                 "': " + message);
}

/// Cuts "name<a, key = b>" into its arguments.
static llvm::Expected<FormatArgs> parseSpec(llvm::StringRef spec) {
  FormatArgs args;
  llvm::StringRef rest = spec.trim();
  llvm::StringRef name = rest.take_while(
      [](char c) { return llvm::isAlnum(c) || c == '_' || c == '-'; });
  if (name.empty())
    return formatError(spec, "expected a name, as in \"int<4, group = 32>\"");
  args.name = name.str();
  rest = rest.drop_front(name.size()).ltrim();
  if (rest.empty())
    return args;
  llvm::StringRef whole = rest;
  if (!rest.consume_front("<") || !rest.consume_back(">"))
    return formatError(spec, "found '" + whole.substr(0, 40) +
                                 "' after the name; arguments stand between "
                                 "'<' and '>' at the end");
  if (rest.trim().empty())
    return args;
  llvm::SmallVector<llvm::StringRef, 4> parts;
  rest.split(parts, ',');
  for (llvm::StringRef part : parts) {
    auto [key, value] = part.split('=');
    key = key.trim();
    value = value.trim();
    if (key.empty() || key.find_first_of("<>") != llvm::StringRef::npos ||
        (part.contains('=') && value.empty()))
      return formatError(spec, "argument '" + part.trim() +
                                   "' is neither a value nor \"key = value\"");
    if (part.contains('='))
      args.named.push_back({key.str(), value.str()});
    else
      args.positional.push_back(key.str());
  }
  return args;
}

llvm::Expected<const Format *> quench::getFormat(llvm::StringRef spec) {
  linkBuiltinFormats();
  llvm::Expected<FormatArgs> args = parseSpec(spec);
  if (!args)
    return args.takeError();
  FormatFactory factory;
  {
    std::lock_guard<std::mutex> lock(registry().mutex);
    auto it = registry().entries.find(args->name);
    if (it == registry().entries.end()) {
      std::string names;
      for (const auto &entry : registry().entries)
        names += (names.empty() ? "" : ", ") + entry.first;
      return formatError(spec, "there is no format '" + args->name +
                                   "'; there are: " + names);
    }
    factory = it->second.factory;
  }
  llvm::Expected<std::unique_ptr<Format>> format = factory(*args);
  if (!format)
    return formatError(spec, llvm::toString(format.takeError()));
  if (!*format)
    return formatError(spec, "its factory made nothing");
  std::string text = (*format)->spec();
  std::lock_guard<std::mutex> lock(registry().mutex);
  return registry()
      .formats.try_emplace(std::move(text), std::move(*format))
      .first->second.get();
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
