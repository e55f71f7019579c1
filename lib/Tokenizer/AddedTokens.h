//===- AddedTokens.h - Tokens beside the model ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_TOKENIZER_ADDEDTOKENS_H
#define QUENCH_LIB_TOKENIZER_ADDEDTOKENS_H

#include "Stages.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringSet.h"
#include <array>
#include <map>

namespace quench {

/// A token that is found in the text before the model sees it.
struct AddedToken {
  std::string content;
  std::string shown; // the content behind the normalizer, used in decoding
  bool singleWord = false, stripLeft = false, stripRight = false;
  bool normalized = false, special = false;
};

/// Finds the longest of some words at each place, from left to right.
class WordFinder {
public:
  void add(llvm::StringRef word, int32_t id);
  bool empty() const { return edges.empty(); }

  /// The longest word that begins at `at`; its length is 0 if there is none.
  std::pair<size_t, int32_t> longestAt(llvm::StringRef text, size_t at) const;

private:
  std::array<bool, 256> begins{};
  llvm::DenseMap<uint64_t, uint32_t> edges; // (node << 8 | byte) -> node
  std::vector<int32_t> words = {-1};        // node -> id
};

class AddedTokens {
public:
  /// Reads the list `added_tokens`; ids that differ from the package's own are
  /// told in `warnings`.
  llvm::Error read(const JsonNode &root, const Model &model,
                   const Normalizer *normalizer,
                   std::vector<std::string> &warnings);

  /// The text as pieces: added tokens, and normalized texts between them.
  std::vector<Piece> extract(std::string text,
                             const Normalizer *normalizer) const;

  const AddedToken *tokenOf(int32_t id) const {
    auto found = tokens.find(id);
    return found == tokens.end() ? nullptr : &found->second;
  }
  std::optional<int32_t> idOf(llvm::StringRef content) const;
  const std::map<int32_t, AddedToken> &all() const { return tokens; }
  bool isSpecial(llvm::StringRef content) const {
    return specials.contains(content);
  }

private:
  llvm::Error readToken(const JsonNode &node, const Model &model,
                        const Normalizer *normalizer, int32_t &next,
                        std::vector<std::string> &warnings);
  void split(Piece piece, const WordFinder &finder,
             std::vector<Piece> &out) const;

  std::map<int32_t, AddedToken> tokens;
  llvm::StringMap<int32_t> ids;
  llvm::StringSet<> specials;
  WordFinder plainFinder, normalizedFinder;
};

} // namespace quench

#endif // QUENCH_LIB_TOKENIZER_ADDEDTOKENS_H
