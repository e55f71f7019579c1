//===- JsonNode.h - Checked access to JSON ----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A value of a JSON document with its path, so that every complaint says where
// it is, what was found and what would be accepted.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_TOKENIZER_JSONNODE_H
#define QUENCH_LIB_TOKENIZER_JSONNODE_H

#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <optional>
#include <string>

namespace quench {

class JsonNode {
public:
  JsonNode(const llvm::json::Value &value, std::string path)
      : value(&value), path(std::move(path)) {}

  const std::string &where() const { return path; }

  /// An error that begins with the path.
  llvm::Error fail(const llvm::Twine &what) const;

  /// The member `key` of an object; none if it is absent or null.
  std::optional<JsonNode> find(llvm::StringRef key) const;
  /// The member `key` of an object, which must be there.
  llvm::Expected<JsonNode> get(llvm::StringRef key) const;
  /// The elements of an array.
  llvm::Expected<std::vector<JsonNode>> elements() const;
  /// The elements of the array `key`.
  llvm::Expected<std::vector<JsonNode>> elements(llvm::StringRef key) const;

  llvm::Expected<const llvm::json::Object *> object() const;
  llvm::Expected<const llvm::json::Array *> array() const;
  llvm::Expected<llvm::StringRef> text() const;
  llvm::Expected<bool> boolean() const;
  /// A whole number from `low` to `high`.
  llvm::Expected<int64_t> integer(int64_t low, int64_t high) const;
  /// A text of one character, as its code point.
  llvm::Expected<uint32_t> character() const;

  /// Reads the text `key`, which must be there.
  llvm::Error read(llvm::StringRef key, std::string &out) const;
  /// Reads the truth value `key`; `out` stays as it is if it is absent.
  llvm::Error read(llvm::StringRef key, bool &out) const;
  llvm::Error read(llvm::StringRef key, int64_t &out, int64_t low,
                   int64_t high) const;

  /// "an object", "the number 3", `the text "x"`, for messages.
  std::string describe() const;

private:
  llvm::Error expected(llvm::StringRef what) const;

  const llvm::json::Value *value;
  std::string path;
};

/// Parses a document whose nesting stays within bounds. `name` begins the
/// message of an error.
llvm::Expected<llvm::json::Value> parseJson(llvm::StringRef text,
                                            llvm::StringRef name);

} // namespace quench

#endif // QUENCH_LIB_TOKENIZER_JSONNODE_H
