//===- Model.cpp - Vocabulary of a tokenizer ------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Stages.h"

using namespace quench;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

// Ids above this are taken for damage; no known vocabulary comes near.
static constexpr int64_t maxId = (int64_t(1) << 24) - 1;

std::optional<int32_t> Model::idOf(StringRef token) const {
  auto found = vocabulary.find(token);
  if (found == vocabulary.end())
    return std::nullopt;
  return found->second;
}

std::optional<StringRef> Model::tokenOf(int32_t id) const {
  if (id < 0 || id >= idLimit() || !tokens[id].data())
    return std::nullopt;
  return tokens[id];
}

Error Model::readVocabulary(const JsonNode &node) {
  Expected<JsonNode> member = node.get("vocab");
  if (!member)
    return member.takeError();
  Expected<const llvm::json::Object *> object = member->object();
  if (!object)
    return object.takeError();
  for (const auto &[key, value] : **object) {
    StringRef token = key;
    Expected<int64_t> id =
        JsonNode(value, (member->where() + "[\"" + token + "\"]").str())
            .integer(0, maxId);
    if (!id)
      return id.takeError();
    if (*id >= idLimit())
      tokens.resize(*id + 1);
    if (tokens[*id].data())
      return member->fail("the tokens '" + tokens[*id] + "' and '" + token +
                          "' have the same id " + llvm::Twine(*id));
    tokens[*id] = vocabulary.try_emplace(token, *id).first->first();
  }
  return Error::success();
}

Expected<std::unique_ptr<Model>> Model::create(JsonNode node) {
  if (Expected<const llvm::json::Object *> object = node.object(); !object)
    return object.takeError();
  std::string type;
  if (node.find("type")) {
    if (Error error = node.read("type", type))
      return std::move(error);
  } else if (node.find("merges")) {
    type = "BPE"; // files of the first versions have no type
  }
  if (type == "BPE")
    return createBpe(node);
  if (type == "WordPiece")
    return createWordPiece(node);
  return node.fail("the model '" + type +
                   "' is not supported (supported: BPE, WordPiece)");
}
