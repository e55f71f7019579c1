//===- SpecRegistry.h - Things that are made from a text --------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the registries of formats and of quantizers share: names with their
// helps and factories, and the objects made from "name<a, key = b>", interned
// by their canonical text.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_SPECREGISTRY_H
#define QUENCH_LIB_QUANTIZATION_SPECREGISTRY_H

#include "quench/Quantization/Format.h"
#include <map>
#include <mutex>

namespace quench {

/// Cuts "name<a, key = b>" into its arguments.
llvm::Expected<FormatArgs> parseSpec(llvm::StringRef spec);

/// A registry of T, which has spec().
template <typename T> class SpecRegistry {
public:
  using Factory =
      std::function<llvm::Expected<std::unique_ptr<T>>(const FormatArgs &)>;

  /// `kind` and `example` are for messages.
  SpecRegistry(std::string kind, std::string example)
      : kind(std::move(kind)), example(std::move(example)) {}

  /// The first one of a name stays.
  void add(llvm::StringRef name, llvm::StringRef help, Factory factory) {
    std::lock_guard<std::mutex> lock(mutex);
    entries.try_emplace(name.str(), Entry{help.str(), std::move(factory)});
  }

  std::vector<std::pair<std::string, std::string>> list() {
    std::lock_guard<std::mutex> lock(mutex);
    std::vector<std::pair<std::string, std::string>> result;
    for (const auto &[name, entry] : entries)
      result.push_back({name, entry.help});
    return result;
  }

  llvm::Expected<const T *> get(llvm::StringRef spec) {
    auto fail = [&](const llvm::Twine &message) {
      return llvm::createStringError(kind + " '" + spec.substr(0, 200) +
                                     "': " + message);
    };
    llvm::Expected<FormatArgs> args = parseSpec(spec);
    if (!args) {
      std::string message = llvm::toString(args.takeError());
      return fail(message + ", as in \"" + example + "\"");
    }
    Factory factory;
    {
      std::lock_guard<std::mutex> lock(mutex);
      auto it = entries.find(args->name);
      if (it == entries.end()) {
        std::string names;
        for (const auto &entry : entries)
          names += (names.empty() ? "" : ", ") + entry.first;
        return fail("there is no " + kind + " '" + args->name +
                    "'; there are: " + names);
      }
      factory = it->second.factory;
    }
    llvm::Expected<std::unique_ptr<T>> made = factory(*args);
    if (!made)
      return fail(llvm::toString(made.takeError()));
    if (!*made)
      return fail("its factory made nothing");
    std::string text = (*made)->spec();
    std::lock_guard<std::mutex> lock(mutex);
    return objects.try_emplace(std::move(text), std::move(*made))
        .first->second.get();
  }

private:
  struct Entry {
    std::string help;
    Factory factory;
  };
  std::string kind, example;
  std::mutex mutex;
  std::map<std::string, Entry> entries;
  /// By canonical text; they live as long as the process.
  std::map<std::string, std::unique_ptr<T>> objects;
};

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_SPECREGISTRY_H
