//===- WordPiece.cpp - Longest pieces first -------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The model of BERT: the longest token of the vocabulary that begins the rest
// of the word, again and again.
//
//===----------------------------------------------------------------------===//

#include "Stages.h"
#include "quench/Tokenizer/Unicode.h"

using namespace quench;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

namespace {

class WordPiece final : public Model {
public:
  Error read(const JsonNode &node) {
    if (Error error = readVocabulary(node))
      return error;
    std::string unknown = "[UNK]";
    if (node.find("unk_token"))
      if (Error error = node.read("unk_token", unknown))
        return error;
    if (node.find("continuing_subword_prefix"))
      if (Error error = node.read("continuing_subword_prefix", prefix))
        return error;
    std::optional<int32_t> id = idOf(unknown);
    if (!id)
      return node.fail("unk_token '" + unknown + "' is not in the vocabulary");
    unknownId = *id;
    return node.read("max_input_chars_per_word", maxCharacters, 1, 10000);
  }

  void encode(StringRef word, std::vector<int32_t> &ids) const override {
    size_t start = ids.size();
    std::vector<size_t> ends;
    for (size_t at = 0; at < word.size();) {
      unicode::decode(word, at);
      ends.push_back(at);
    }
    bool known = ends.size() <= size_t(maxCharacters);
    for (size_t first = 0, at = 0; known && first < ends.size();)
      known = encodePiece(word, ends, first, at, ids);
    if (known)
      return;
    ids.resize(start);
    ids.push_back(unknownId);
  }

private:
  /// Appends the longest token at character `first`, byte `at`.
  bool encodePiece(StringRef word, llvm::ArrayRef<size_t> ends, size_t &first,
                   size_t &at, std::vector<int32_t> &ids) const {
    for (size_t last = ends.size(); last > first; --last) {
      std::string piece = at ? prefix : "";
      piece += word.slice(at, ends[last - 1]);
      if (std::optional<int32_t> id = idOf(piece)) {
        ids.push_back(*id);
        at = ends[last - 1];
        first = last;
        return true;
      }
    }
    return false;
  }

  std::string prefix = "##";
  int32_t unknownId = -1;
  int64_t maxCharacters = 100;
};

} // namespace

Expected<std::unique_ptr<Model>> quench::createWordPiece(const JsonNode &node) {
  auto model = std::make_unique<WordPiece>();
  if (Error error = model->read(node))
    return std::move(error);
  return std::move(model);
}
