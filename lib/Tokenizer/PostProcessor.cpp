//===- PostProcessor.cpp - Tokens around a text ---------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PostProcessor.h"

using namespace quench;
using llvm::Error;
using llvm::Expected;

/// The ids that stand for a special token of a template.
static Error readSpecial(const JsonNode &node, llvm::StringRef name,
                         std::vector<int32_t> &out) {
  Expected<JsonNode> table = node.get("special_tokens");
  if (!table)
    return table.takeError();
  Expected<JsonNode> entry = table->get(name);
  if (!entry)
    return entry.takeError();
  Expected<std::vector<JsonNode>> ids = entry->elements("ids");
  if (!ids)
    return ids.takeError();
  for (const JsonNode &id : *ids) {
    Expected<int64_t> number = id.integer(0, INT32_MAX);
    if (!number)
      return number.takeError();
    out.push_back(*number);
  }
  return Error::success();
}

Error PostProcessor::readTemplate(const JsonNode &node) {
  Expected<std::vector<JsonNode>> parts = node.elements("single");
  if (!parts)
    return parts.takeError();
  std::vector<int32_t> left, right;
  bool haveText = false;
  for (const JsonNode &part : *parts) {
    std::string name;
    if (auto special = part.find("SpecialToken")) {
      if (Error error = special->read("id", name))
        return error;
      if (Error error = readSpecial(node, name, haveText ? right : left))
        return error;
      continue;
    }
    Expected<JsonNode> sequence = part.get("Sequence");
    if (!sequence)
      return sequence.takeError();
    if (Error error = sequence->read("id", name))
      return error;
    if (name != "A" || haveText)
      return part.fail("expected the text 'A' once in a template for one text");
    haveText = true;
  }
  if (!haveText)
    return node.fail("the template 'single' lacks the text 'A'");
  before.insert(before.begin(), left.begin(), left.end());
  behind.insert(behind.end(), right.begin(), right.end());
  return Error::success();
}

/// Reads "cls" and "sep" of the processors of BERT and RoBERTa.
Error PostProcessor::readEnds(const JsonNode &node) {
  auto readId = [&](llvm::StringRef key, int32_t &id) -> Error {
    Expected<std::vector<JsonNode>> pair = node.elements(key);
    if (!pair)
      return pair.takeError();
    if (pair->size() != 2)
      return node.fail("'" + key + "' is not a token and its id");
    Expected<int64_t> number = (*pair)[1].integer(0, INT32_MAX);
    if (!number)
      return number.takeError();
    id = *number;
    return Error::success();
  };
  int32_t first, last;
  if (Error error = readId("cls", first))
    return error;
  if (Error error = readId("sep", last))
    return error;
  before.insert(before.begin(), first);
  behind.push_back(last);
  return Error::success();
}

Error PostProcessor::read(const JsonNode &node) {
  std::string type;
  if (Error error = node.read("type", type))
    return error;
  if (type == "ByteLevel")
    return Error::success(); // changes offsets only
  if (type == "TemplateProcessing")
    return readTemplate(node);
  if (type == "BertProcessing" || type == "RobertaProcessing")
    return readEnds(node);
  if (type != "Sequence")
    return node.fail("the post-processor '" + type +
                     "' is not supported (supported: Sequence, ByteLevel, "
                     "TemplateProcessing, BertProcessing, RobertaProcessing)");
  Expected<std::vector<JsonNode>> parts = node.elements("processors");
  if (!parts)
    return parts.takeError();
  for (const JsonNode &part : *parts)
    if (Error error = read(part))
      return error;
  return Error::success();
}

void PostProcessor::apply(std::vector<int32_t> &ids) const {
  ids.insert(ids.begin(), before.begin(), before.end());
  ids.insert(ids.end(), behind.begin(), behind.end());
}
