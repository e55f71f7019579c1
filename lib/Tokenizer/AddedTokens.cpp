//===- AddedTokens.cpp - Tokens beside the model --------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "AddedTokens.h"
#include "quench/Tokenizer/Unicode.h"
#include <algorithm>

using namespace quench;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

void WordFinder::add(StringRef word, int32_t id) {
  if (word.empty())
    return;
  begins[uint8_t(word[0])] = true;
  uint64_t node = 0;
  for (char c : word) {
    auto [edge, isNew] =
        edges.try_emplace(node << 8 | uint8_t(c), uint32_t(words.size()));
    if (isNew)
      words.push_back(-1);
    node = edge->second;
  }
  words[node] = id;
}

std::pair<size_t, int32_t> WordFinder::longestAt(StringRef text,
                                                 size_t at) const {
  std::pair<size_t, int32_t> best = {0, -1};
  if (!begins[uint8_t(text[at])])
    return best;
  uint64_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    auto edge = edges.find(node << 8 | uint8_t(text[i]));
    if (edge == edges.end())
      break;
    node = edge->second;
    if (words[node] >= 0)
      best = {i + 1 - at, words[node]};
  }
  return best;
}

Error AddedTokens::readToken(const JsonNode &node, const Model &model,
                             const Normalizer *normalizer, int32_t &next,
                             std::vector<std::string> &warnings) {
  AddedToken token;
  if (Error error = node.read("content", token.content))
    return error;
  token.normalized = true;
  for (auto [key, out] : {std::pair{"single_word", &token.singleWord},
                          std::pair{"lstrip", &token.stripLeft},
                          std::pair{"rstrip", &token.stripRight},
                          std::pair{"normalized", &token.normalized},
                          std::pair{"special", &token.special}})
    if (Error error = node.read(key, *out))
      return error;
  int64_t stated = -1;
  if (Error error = node.read("id", stated, 0, INT32_MAX - 1))
    return error;
  if (token.content.empty())
    return Error::success();

  int32_t id;
  if (std::optional<int32_t> known = idOf(token.content))
    id = *known;
  else if (std::optional<int32_t> inModel = model.idOf(token.content))
    id = *inModel;
  else
    id = next++;
  if (stated >= 0 && stated != id)
    warnings.push_back(node.where() + ": the token '" + token.content +
                       "' is given the id " + std::to_string(id) +
                       ", the file says " + std::to_string(stated));

  token.shown = token.content;
  if (token.normalized && normalizer) {
    bool atStart = true;
    normalizer->apply(token.shown, atStart);
  }
  ids[token.content] = id;
  if (token.special)
    specials.insert(token.content);
  tokens[id] = std::move(token);
  return Error::success();
}

Error AddedTokens::read(const JsonNode &root, const Model &model,
                        const Normalizer *normalizer,
                        std::vector<std::string> &warnings) {
  if (!root.find("added_tokens"))
    return Error::success();
  Expected<std::vector<JsonNode>> entries = root.elements("added_tokens");
  if (!entries)
    return entries.takeError();
  int32_t next = model.size();
  for (const JsonNode &entry : *entries)
    if (Error error = readToken(entry, model, normalizer, next, warnings))
      return error;
  for (const auto &[id, token] : tokens) {
    if (token.normalized)
      normalizedFinder.add(token.shown, id);
    else
      plainFinder.add(token.content, id);
  }
  return Error::success();
}

std::optional<int32_t> AddedTokens::idOf(StringRef content) const {
  auto found = ids.find(content);
  if (found == ids.end())
    return std::nullopt;
  return found->second;
}

static bool isWordAt(StringRef text, size_t at) {
  uint32_t code = unicode::decode(text, at);
  return unicode::isWord(code) || code == 0x200C || code == 0x200D;
}

/// True if a word goes on over the left or the right end of a match.
static bool isWithinWord(StringRef text, size_t first, size_t last) {
  if (last < text.size() && isWordAt(text, last))
    return true;
  if (!first)
    return false;
  size_t before = first - 1;
  while (before && (uint8_t(text[before]) & 0xC0) == 0x80)
    --before;
  return isWordAt(text, before);
}

void AddedTokens::split(Piece piece, const WordFinder &finder,
                        std::vector<Piece> &out) const {
  StringRef text = piece.text;
  size_t done = 0;
  auto pushText = [&](size_t last) {
    if (last <= done)
      return;
    Piece part;
    part.text = text.slice(done, last).str();
    part.atStart = piece.atStart && done == 0;
    out.push_back(std::move(part));
  };
  if (finder.empty()) {
    pushText(text.size());
    return;
  }
  for (size_t at = 0; at < text.size();) {
    auto [length, id] = finder.longestAt(text, at);
    if (!length) {
      ++at;
      continue;
    }
    size_t first = at, last = at + length;
    at = last;
    const AddedToken &token = tokens.find(id)->second;
    if (token.singleWord && isWithinWord(text, first, last))
      continue;
    if (token.stripLeft)
      first = std::max(done,
                       first - unicode::trailingSpace(text.take_front(first)));
    if (token.stripRight)
      last += unicode::leadingSpace(text.substr(last));
    pushText(first);
    Piece made;
    made.id = id;
    out.push_back(std::move(made));
    done = last;
  }
  pushText(text.size());
}

std::vector<Piece> AddedTokens::extract(std::string text,
                                        const Normalizer *normalizer) const {
  Piece whole;
  whole.text = std::move(text);
  whole.atStart = true;
  std::vector<Piece> plain, out;
  split(std::move(whole), plainFinder, plain);
  for (Piece &piece : plain) {
    if (piece.id >= 0) {
      out.push_back(std::move(piece));
      continue;
    }
    if (normalizer)
      normalizer->apply(piece.text, piece.atStart);
    split(std::move(piece), normalizedFinder, out);
  }
  return out;
}
