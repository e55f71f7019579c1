//===- JsonNode.cpp - Checked access to JSON ------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "JsonNode.h"
#include "quench/Tokenizer/Unicode.h"

using namespace quench;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;

Error JsonNode::fail(const Twine &what) const {
  return llvm::createStringError(path + ": " + what);
}

Error JsonNode::expected(StringRef what) const {
  return fail("expected " + what + ", found " + describe());
}

std::string JsonNode::describe() const {
  switch (value->kind()) {
  case llvm::json::Value::Null:
    return "null";
  case llvm::json::Value::Boolean:
    return *value->getAsBoolean() ? "true" : "false";
  case llvm::json::Value::Number: {
    std::string out = "the number ";
    llvm::raw_string_ostream(out) << *value;
    return out;
  }
  case llvm::json::Value::String: {
    StringRef text = *value->getAsString();
    if (text.size() > 60)
      return "a text of " + std::to_string(text.size()) + " bytes";
    return ("the text \"" + text + "\"").str();
  }
  case llvm::json::Value::Array:
    return "an array";
  case llvm::json::Value::Object:
    return "an object";
  }
  return "something else";
}

std::optional<JsonNode> JsonNode::find(StringRef key) const {
  const llvm::json::Object *members = value->getAsObject();
  const llvm::json::Value *member = members ? members->get(key) : nullptr;
  if (!member || member->kind() == llvm::json::Value::Null)
    return std::nullopt;
  return JsonNode(*member, (path + "." + key).str());
}

Expected<JsonNode> JsonNode::get(StringRef key) const {
  if (!value->getAsObject())
    return expected("an object");
  if (std::optional<JsonNode> member = find(key))
    return *member;
  return fail("'" + key + "' is missing");
}

Expected<std::vector<JsonNode>> JsonNode::elements() const {
  Expected<const llvm::json::Array *> values = array();
  if (!values)
    return values.takeError();
  std::vector<JsonNode> nodes;
  for (size_t i = 0; i < (*values)->size(); ++i)
    nodes.emplace_back((**values)[i], path + "[" + std::to_string(i) + "]");
  return nodes;
}

Expected<std::vector<JsonNode>> JsonNode::elements(StringRef key) const {
  Expected<JsonNode> member = get(key);
  if (!member)
    return member.takeError();
  return member->elements();
}

Expected<const llvm::json::Object *> JsonNode::object() const {
  if (const llvm::json::Object *members = value->getAsObject())
    return members;
  return expected("an object");
}

Expected<const llvm::json::Array *> JsonNode::array() const {
  if (const llvm::json::Array *values = value->getAsArray())
    return values;
  return expected("an array");
}

Expected<StringRef> JsonNode::text() const {
  if (std::optional<StringRef> found = value->getAsString())
    return *found;
  return expected("a text");
}

Expected<bool> JsonNode::boolean() const {
  if (std::optional<bool> found = value->getAsBoolean())
    return *found;
  return expected("true or false");
}

Expected<int64_t> JsonNode::integer(int64_t low, int64_t high) const {
  std::optional<int64_t> found = value->getAsInteger();
  if (found && *found >= low && *found <= high)
    return *found;
  return expected("a whole number from " + std::to_string(low) + " to " +
                  std::to_string(high));
}

Expected<uint32_t> JsonNode::character() const {
  if (std::optional<StringRef> found = value->getAsString()) {
    std::vector<uint32_t> codes = unicode::codePoints(*found);
    if (codes.size() == 1)
      return codes.front();
  }
  return expected("a text of one character");
}

Error JsonNode::read(StringRef key, std::string &out) const {
  Expected<JsonNode> member = get(key);
  if (!member)
    return member.takeError();
  Expected<StringRef> found = member->text();
  if (!found)
    return found.takeError();
  out = found->str();
  return Error::success();
}

Error JsonNode::read(StringRef key, bool &out) const {
  std::optional<JsonNode> member = find(key);
  if (!member)
    return Error::success();
  return member->boolean().moveInto(out);
}

Error JsonNode::read(StringRef key, int64_t &out, int64_t low,
                     int64_t high) const {
  std::optional<JsonNode> member = find(key);
  if (!member)
    return Error::success();
  return member->integer(low, high).moveInto(out);
}

/// The parser recurses, so the depth is checked before it runs.
static bool isTooDeep(StringRef text) {
  unsigned depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (quoted) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > 200)
        return true;
    } else if ((c == ']' || c == '}') && depth) {
      --depth;
    }
  }
  return false;
}

/// The number of an escape such as \u00e9 at `at`; none if there is no escape.
static std::optional<uint32_t> escapedUnit(StringRef text, size_t at) {
  StringRef digits = text.substr(at);
  uint32_t unit;
  if (!digits.consume_front("\\u") || digits.size() < 4 ||
      digits.take_front(4).getAsInteger(16, unit))
    return std::nullopt;
  return unit;
}

/// Writes escaped pairs of surrogates as UTF-8: the parser of LLVM 22 takes
/// those beyond U+1FFFF for other characters.
static std::string withoutPairs(StringRef text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    if (text[at] != '\\') {
      out += text[at++];
      continue;
    }
    std::optional<uint32_t> high = escapedUnit(text, at);
    std::optional<uint32_t> low = escapedUnit(text, at + 6);
    if (high && low && *high >> 10 == 0xD800 >> 10 &&
        *low >> 10 == 0xDC00 >> 10) {
      unicode::append(out, 0x10000 + ((*high & 0x3FF) << 10) + (*low & 0x3FF));
      at += 12;
      continue;
    }
    out += text.substr(at, 2);
    at += 2;
  }
  return out;
}

Expected<llvm::json::Value> quench::parseJson(StringRef text, StringRef name) {
  if (isTooDeep(text))
    return llvm::createStringError(name +
                                   ": JSON nested more than 200 levels deep");
  Expected<llvm::json::Value> value =
      llvm::json::parse(text.contains("\\u") ? withoutPairs(text) : text.str());
  if (!value)
    return llvm::createStringError(
        name + ": not valid JSON: " + llvm::toString(value.takeError()));
  return value;
}
