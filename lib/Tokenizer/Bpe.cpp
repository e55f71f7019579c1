//===- Bpe.cpp - Byte pair encoding ---------------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Sennrich, Haddow, Birch: Neural Machine Translation of Rare Words with
// Subword Units (2016). The pair with the lowest rank is merged first, the
// leftmost one of equals.
//
//===----------------------------------------------------------------------===//

#include "Stages.h"
#include "quench/Tokenizer/Unicode.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/StringExtras.h"
#include <algorithm>

using namespace quench;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

namespace {

struct Merge {
  uint32_t rank;
  int32_t id;
};

/// A token of the word; removed ones have the id -1.
struct Symbol {
  int32_t id;
  int32_t previous, next;
};

/// A pair that can be merged, as it was when it was found.
struct Candidate {
  uint32_t rank;
  uint32_t position;
  int32_t id;

  bool operator<(const Candidate &other) const {
    // The heap has its largest element in front.
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

class Bpe final : public Model {
public:
  Error read(const JsonNode &node);
  void encode(StringRef word, std::vector<int32_t> &ids) const override;

private:
  Error readMerge(const JsonNode &node, StringRef left, StringRef right,
                  uint32_t rank);
  Error readMerges(const JsonNode &node);
  Error readUnknown(const JsonNode &node);
  std::vector<int32_t> symbolsOf(StringRef word) const;
  bool appendBytes(StringRef symbol, std::vector<int32_t> &ids) const;
  std::vector<StringRef> segmentsOf(StringRef word) const;
  void encodeSegment(StringRef segment, std::vector<int32_t> &ids) const;
  void merge(std::vector<int32_t> &ids) const;

  const Merge *mergeOf(int32_t left, int32_t right) const {
    auto found = merges.find({left, right});
    return found == merges.end() ? nullptr : &found->second;
  }

  llvm::DenseMap<std::pair<int32_t, int32_t>, Merge> merges;
  /// The characters (left, right) between which some merge can happen.
  llvm::DenseSet<std::pair<uint32_t, uint32_t>> joints;
  int32_t byteIds[256];
  int32_t unknownId = -1;
  std::string prefix, suffix;
  bool fuseUnknown = false, byteFallback = false, ignoreMerges = false;
};

} // namespace

Error Bpe::readMerge(const JsonNode &node, StringRef left, StringRef right,
                     uint32_t rank) {
  auto find = [&](StringRef token) -> Expected<int32_t> {
    if (std::optional<int32_t> id = idOf(token))
      return *id;
    return node.fail("the token '" + token + "' is not in the vocabulary");
  };
  Expected<int32_t> leftId = find(left);
  if (!leftId)
    return leftId.takeError();
  Expected<int32_t> rightId = find(right);
  if (!rightId)
    return rightId.takeError();
  if (right.size() < prefix.size())
    return node.fail("'" + right + "' lacks the prefix '" + prefix + "'");
  Expected<int32_t> id = find((left + right.drop_front(prefix.size())).str());
  if (!id)
    return id.takeError();
  merges[{*leftId, *rightId}] = {rank, *id};
  if (!left.empty() && !right.empty()) {
    size_t last = left.size() - 1, first = 0;
    while (last && (uint8_t(left[last]) & 0xC0) == 0x80)
      --last;
    uint32_t before = unicode::decode(left, last);
    joints.insert({before, unicode::decode(right, first)});
  }
  return Error::success();
}

Error Bpe::readMerges(const JsonNode &node) {
  Expected<std::vector<JsonNode>> entries = node.elements("merges");
  if (!entries)
    return entries.takeError();
  merges.reserve(entries->size());
  uint32_t rank = 0;
  for (const JsonNode &entry : *entries) {
    Expected<StringRef> line = entry.text();
    if (line) {
      if (line->starts_with("#version"))
        continue;
      auto [left, right] = line->split(' ');
      if (line->count(' ') != 1)
        return entry.fail("expected two tokens with a space between, found '" +
                          *line + "'");
      if (Error error = readMerge(entry, left, right, rank++))
        return error;
      continue;
    }
    llvm::consumeError(line.takeError());
    Expected<std::vector<JsonNode>> pair = entry.elements();
    if (!pair)
      return pair.takeError();
    if (pair->size() != 2)
      return entry.fail("expected two tokens, found " +
                        llvm::Twine(pair->size()));
    Expected<StringRef> left = (*pair)[0].text();
    if (!left)
      return left.takeError();
    Expected<StringRef> right = (*pair)[1].text();
    if (!right)
      return right.takeError();
    if (Error error = readMerge(entry, *left, *right, rank++))
      return error;
  }
  return Error::success();
}

Error Bpe::readUnknown(const JsonNode &node) {
  if (!node.find("unk_token"))
    return Error::success();
  std::string token;
  if (Error error = node.read("unk_token", token))
    return error;
  std::optional<int32_t> id = idOf(token);
  if (!id)
    return node.fail("unk_token '" + token + "' is not in the vocabulary");
  unknownId = *id;
  return Error::success();
}

Error Bpe::read(const JsonNode &node) {
  if (std::optional<JsonNode> dropout = node.find("dropout")) {
    Expected<int64_t> zero = dropout->integer(0, 0);
    if (!zero) {
      llvm::consumeError(zero.takeError());
      return dropout->fail("random dropout is not supported (null and 0 are)");
    }
  }
  for (auto [key, out] : {std::pair{"fuse_unk", &fuseUnknown},
                          std::pair{"byte_fallback", &byteFallback},
                          std::pair{"ignore_merges", &ignoreMerges}})
    if (Error error = node.read(key, *out))
      return error;
  for (auto [key, out] : {std::pair{"continuing_subword_prefix", &prefix},
                          std::pair{"end_of_word_suffix", &suffix}})
    if (node.find(key))
      if (Error error = node.read(key, *out))
        return error;
  if (Error error = readVocabulary(node))
    return error;
  if (Error error = readUnknown(node))
    return error;
  for (unsigned byte = 0; byte < 256; ++byte)
    byteIds[byte] =
        idOf("<0x" + llvm::utohexstr(byte, /*LowerCase=*/false, 2) + ">")
            .value_or(-1);
  return readMerges(node);
}

/// Appends a token for each byte; false if one of them has none.
bool Bpe::appendBytes(StringRef symbol, std::vector<int32_t> &ids) const {
  for (char c : symbol)
    if (byteIds[uint8_t(c)] < 0)
      return false;
  for (char c : symbol)
    ids.push_back(byteIds[uint8_t(c)]);
  return true;
}

/// The characters of a word as tokens. A pending unknown token is written
/// before the next known one, behind bytes of the fallback between them: the
/// order of the original.
std::vector<int32_t> Bpe::symbolsOf(StringRef word) const {
  std::vector<int32_t> ids;
  ids.reserve(word.size());
  bool pending = false;
  auto flush = [&] {
    if (pending)
      ids.push_back(unknownId);
    pending = false;
  };
  std::string decorated;
  for (size_t at = 0; at < word.size();) {
    size_t first = at;
    unicode::decode(word, at);
    StringRef symbol = word.slice(first, at);
    bool hasPrefix = first && !prefix.empty();
    bool hasSuffix = at == word.size() && !suffix.empty();
    if (hasPrefix || hasSuffix) {
      decorated = hasPrefix ? prefix : "";
      decorated += symbol;
      if (hasSuffix)
        decorated += suffix;
      symbol = decorated;
    }
    if (std::optional<int32_t> id = idOf(symbol)) {
      flush();
      ids.push_back(*id);
      continue;
    }
    if (byteFallback && appendBytes(symbol, ids))
      continue;
    if (unknownId < 0)
      continue;
    if (!fuseUnknown)
      flush();
    pending = true;
  }
  flush();
  return ids;
}

void Bpe::merge(std::vector<int32_t> &ids) const {
  std::vector<Symbol> symbols;
  symbols.reserve(ids.size());
  for (int32_t i = 0, n = ids.size(); i < n; ++i)
    symbols.push_back({ids[i], i - 1, i + 1 < n ? i + 1 : -1});

  std::vector<Candidate> heap;
  auto candidate = [&](int32_t left, int32_t right) {
    const Merge *found = mergeOf(symbols[left].id, symbols[right].id);
    if (found)
      heap.push_back({found->rank, uint32_t(left), found->id});
    return found != nullptr;
  };
  for (size_t i = 1; i < symbols.size(); ++i)
    candidate(i - 1, i);
  std::make_heap(heap.begin(), heap.end());
  auto push = [&](int32_t left, int32_t right) {
    if (candidate(left, right))
      std::push_heap(heap.begin(), heap.end());
  };

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    Candidate top = heap.back();
    heap.pop_back();
    Symbol &left = symbols[top.position];
    if (left.id < 0 || left.next < 0)
      continue;
    Symbol &right = symbols[left.next];
    const Merge *current = mergeOf(left.id, right.id);
    if (!current || current->id != top.id)
      continue; // one of the two was merged with another since
    left.id = top.id;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) {
      symbols[left.next].previous = top.position;
      push(top.position, left.next);
    }
    if (left.previous >= 0)
      push(left.previous, top.position);
  }

  ids.clear();
  for (const Symbol &symbol : symbols)
    if (symbol.id >= 0)
      ids.push_back(symbol.id);
}

/// Cuts a word between characters that no merge ever joins. Both must be
/// tokens themselves: other tokens stand for bytes and unknown characters.
std::vector<StringRef> Bpe::segmentsOf(StringRef word) const {
  std::vector<StringRef> segments;
  size_t begin = 0, previous = 0, at = 0;
  uint32_t before = 0;
  while (at < word.size()) {
    size_t first = at;
    uint32_t code = unicode::decode(word, at);
    if (first && !joints.contains({before, code}) &&
        idOf(word.slice(previous, first)) && idOf(word.slice(first, at))) {
      segments.push_back(word.slice(begin, first));
      begin = first;
    }
    before = code;
    previous = first;
  }
  segments.push_back(word.substr(begin));
  return segments;
}

void Bpe::encodeSegment(StringRef segment, std::vector<int32_t> &ids) const {
  std::vector<int32_t> symbols = symbolsOf(segment);
  if (symbols.size() > 1)
    merge(symbols);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

void Bpe::encode(StringRef word, std::vector<int32_t> &ids) const {
  if (ignoreMerges)
    if (std::optional<int32_t> id = idOf(word)) {
      ids.push_back(*id);
      return;
    }
  // Long words come from tokenizers that do not split texts.
  const size_t longWord = 256;
  if (word.size() < longWord || !prefix.empty() || !suffix.empty()) {
    encodeSegment(word, ids);
    return;
  }
  llvm::StringMap<std::vector<int32_t>> seen;
  for (StringRef segment : segmentsOf(word)) {
    if (segment.size() >= longWord) {
      encodeSegment(segment, ids);
      continue;
    }
    auto [entry, isNew] = seen.try_emplace(segment);
    if (isNew)
      encodeSegment(segment, entry->second);
    ids.insert(ids.end(), entry->second.begin(), entry->second.end());
  }
}

Expected<std::unique_ptr<Model>> quench::createBpe(const JsonNode &node) {
  auto model = std::make_unique<Bpe>();
  if (Error error = model->read(node))
    return std::move(error);
  return std::move(model);
}
