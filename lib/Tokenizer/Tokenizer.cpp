//===- Tokenizer.cpp - Texts to tokens and back ---------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Tokenizer/Tokenizer.h"
#include "AddedTokens.h"
#include "PostProcessor.h"
#include "quench/Tokenizer/Unicode.h"
#include "llvm/Support/MemoryBuffer.h"
#include <algorithm>

using namespace quench;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

struct quench::TokenizerData {
  std::unique_ptr<Normalizer> normalizer;
  std::unique_ptr<PreTokenizer> preTokenizer;
  std::unique_ptr<Model> model;
  std::unique_ptr<Decoder> decoder;
  PostProcessor postProcessor;
  AddedTokens added;
  std::vector<std::string> warnings;

  Error read(const JsonNode &root);

  /// The token as decoders see it.
  std::optional<StringRef> shownToken(int32_t id) const {
    if (const AddedToken *token = added.tokenOf(id))
      return StringRef(token->shown);
    return model->tokenOf(id);
  }
};

Error TokenizerData::read(const JsonNode &root) {
  if (auto node = root.find("normalizer"))
    if (Error error = Normalizer::create(*node).moveInto(normalizer))
      return error;
  if (auto node = root.find("pre_tokenizer"))
    if (Error error = PreTokenizer::create(*node).moveInto(preTokenizer))
      return error;
  if (auto node = root.find("decoder"))
    if (Error error = Decoder::create(*node).moveInto(decoder))
      return error;
  if (auto node = root.find("post_processor"))
    if (Error error = postProcessor.read(*node))
      return error;
  for (const char *key : {"truncation", "padding"})
    if (auto node = root.find(key))
      warnings.push_back(node->where() + " is not followed");
  Expected<JsonNode> node = root.get("model");
  if (!node)
    return node.takeError();
  if (Error error = Model::create(*node).moveInto(model))
    return error;
  return added.read(root, *model, normalizer.get(), warnings);
}

Expected<Tokenizer> Tokenizer::load(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return llvm::createStringError(buffer.getError(),
                                   "cannot read the tokenizer '" + path +
                                       "': " + buffer.getError().message());
  return parse((*buffer)->getBuffer(), path);
}

Expected<Tokenizer> Tokenizer::parse(StringRef json, StringRef name) {
  Expected<llvm::json::Value> document = parseJson(json, name);
  if (!document)
    return document.takeError();
  JsonNode root(*document, name.str());
  auto data = std::make_shared<TokenizerData>();
  if (Error error = data->read(root))
    return std::move(error);
  Tokenizer tokenizer;
  tokenizer.data = std::move(data);
  return tokenizer;
}

std::vector<int32_t> Tokenizer::encode(StringRef text, bool addSpecial) const {
  std::vector<Piece> pieces = data->added.extract(
      unicode::isValid(text) ? text.str() : unicode::repair(text),
      data->normalizer.get());
  if (data->preTokenizer)
    data->preTokenizer->apply(pieces);

  // Words come again and again: the place of their ids in `ids`.
  llvm::StringMap<std::pair<uint32_t, uint32_t>> seen;
  std::vector<int32_t> ids;
  for (const Piece &piece : pieces) {
    if (piece.id >= 0) {
      ids.push_back(piece.id);
      continue;
    }
    auto [entry, isNew] = seen.try_emplace(piece.text);
    if (isNew) {
      size_t first = ids.size();
      data->model->encode(piece.text, ids);
      entry->second = {uint32_t(first), uint32_t(ids.size() - first)};
    } else {
      auto [first, count] = entry->second;
      for (uint32_t i = 0; i < count; ++i) {
        int32_t id = ids[first + i];
        ids.push_back(id);
      }
    }
  }
  if (addSpecial)
    data->postProcessor.apply(ids);
  return ids;
}

std::string Tokenizer::decode(llvm::ArrayRef<int32_t> ids,
                              bool skipSpecial) const {
  StreamDecoder decoder(*this, skipSpecial);
  std::string text;
  for (int32_t id : ids)
    text += decoder.push(id);
  return text + decoder.finish();
}

size_t Tokenizer::vocabSize() const {
  size_t count = data->model->size();
  for (const auto &[id, token] : data->added.all())
    count += !data->model->idOf(token.content);
  return count;
}

int32_t Tokenizer::idLimit() const {
  int32_t limit = data->model->idLimit();
  if (!data->added.all().empty())
    limit = std::max(limit, data->added.all().rbegin()->first + 1);
  return limit;
}

std::optional<int32_t> Tokenizer::idOf(StringRef token) const {
  if (std::optional<int32_t> id = data->added.idOf(token))
    return id;
  return data->model->idOf(token);
}

std::optional<StringRef> Tokenizer::tokenOf(int32_t id) const {
  if (const AddedToken *token = data->added.tokenOf(id))
    return StringRef(token->content);
  return data->model->tokenOf(id);
}

std::vector<int32_t> Tokenizer::specialTokens() const {
  std::vector<int32_t> ids;
  for (const auto &[id, token] : data->added.all())
    if (token.special)
      ids.push_back(id);
  return ids;
}

bool Tokenizer::isSpecial(int32_t id) const {
  const AddedToken *token = data->added.tokenOf(id);
  return token && token->special;
}

llvm::ArrayRef<std::string> Tokenizer::warnings() const {
  return data->warnings;
}

struct StreamDecoder::State {
  std::shared_ptr<const TokenizerData> data;
  bool skipSpecial;
  bool isFirst = true;
  std::vector<std::unique_ptr<DecodeStage>> stages;

  /// Sends fragments through the stages from `stage` on.
  std::string run(std::vector<Fragment> fragments, size_t stage) {
    for (; stage < stages.size(); ++stage) {
      std::vector<Fragment> out;
      for (Fragment &fragment : fragments)
        stages[stage]->push(std::move(fragment), out);
      fragments = std::move(out);
    }
    std::string text;
    for (const Fragment &fragment : fragments)
      text += fragment.text;
    return text;
  }
};

StreamDecoder::StreamDecoder(const Tokenizer &tokenizer, bool skipSpecial)
    : state(std::make_unique<State>()) {
  state->data = tokenizer.data;
  state->skipSpecial = skipSpecial;
  if (tokenizer.data->decoder)
    tokenizer.data->decoder->start(state->stages);
}

StreamDecoder::StreamDecoder(StreamDecoder &&) = default;
StreamDecoder &StreamDecoder::operator=(StreamDecoder &&) = default;
StreamDecoder::~StreamDecoder() = default;

std::string StreamDecoder::push(int32_t id) {
  std::optional<StringRef> token = state->data->shownToken(id);
  if (!token || (state->skipSpecial && state->data->added.isSpecial(*token)))
    return "";
  bool isFirst = std::exchange(state->isFirst, false);
  if (!state->data->decoder)
    return (isFirst ? "" : " ") + token->str();
  std::vector<Fragment> fragments(1);
  fragments.front().text = token->str();
  return state->run(std::move(fragments), 0);
}

std::string StreamDecoder::finish() {
  std::string text;
  for (size_t i = 0; i < state->stages.size(); ++i) {
    std::vector<Fragment> rest;
    state->stages[i]->finish(rest);
    text += state->run(std::move(rest), i + 1);
  }
  return text;
}
