//===- Stages.h - Stages of a tokenizer -------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a tokenizer.json is made of. A text goes through added tokens,
// normalizers, added tokens again, pre-tokenizers and the model; ids go back
// through the decoders.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_TOKENIZER_STAGES_H
#define QUENCH_LIB_TOKENIZER_STAGES_H

#include "JsonNode.h"
#include "quench/Tokenizer/Regex.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringMap.h"
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace quench {

/// A part of the text on its way to the model, or a token found in it.
struct Piece {
  std::string text;
  int32_t id = -1;      // of an added token, otherwise -1
  bool atStart = false; // the part begins where the whole text begins
};

/// Changes a text before it is split.
class Normalizer {
public:
  virtual ~Normalizer() = default;
  /// Sets `atStart` to false when the beginning of the text is removed.
  virtual void apply(std::string &text, bool &atStart) const = 0;

  static llvm::Expected<std::unique_ptr<Normalizer>> create(JsonNode node);
};

/// Splits pieces into words.
class PreTokenizer {
public:
  virtual ~PreTokenizer() = default;
  /// Replaces the pieces without an id; none of them is empty.
  void apply(std::vector<Piece> &pieces) const;

  static llvm::Expected<std::unique_ptr<PreTokenizer>> create(JsonNode node);

protected:
  /// Appends the parts of one piece; empty parts are dropped later.
  virtual void split(Piece piece, std::vector<Piece> &out) const = 0;
  friend class PreTokenizerSequence;
};

/// Makes ids of words.
class Model {
public:
  virtual ~Model() = default;
  /// Appends the ids of a word that is not empty.
  virtual void encode(llvm::StringRef word,
                      std::vector<int32_t> &ids) const = 0;

  std::optional<int32_t> idOf(llvm::StringRef token) const;
  std::optional<llvm::StringRef> tokenOf(int32_t id) const;
  size_t size() const { return vocabulary.size(); }
  /// The largest id plus 1.
  int32_t idLimit() const { return tokens.size(); }

  static llvm::Expected<std::unique_ptr<Model>> create(JsonNode node);

protected:
  llvm::Error readVocabulary(const JsonNode &node);

  llvm::StringMap<int32_t> vocabulary;
  std::vector<llvm::StringRef> tokens; // by id; no data where there is none
};

llvm::Expected<std::unique_ptr<Model>> createBpe(const JsonNode &node);
llvm::Expected<std::unique_ptr<Model>> createWordPiece(const JsonNode &node);

/// A part of a token's text on its way through the decoders.
struct Fragment {
  std::string text;
  bool begins = true; // the first part of its token
  bool ends = true;   // the last part of its token
};

/// One decoder at work on one stream of tokens.
class DecodeStage {
public:
  virtual ~DecodeStage() = default;
  virtual void push(Fragment in, std::vector<Fragment> &out) = 0;
  /// The stream is over.
  virtual void finish(std::vector<Fragment> &out) = 0;
};

/// The decoders of a tokenizer, as makers of their stages.
class Decoder {
public:
  virtual ~Decoder() = default;
  virtual void
  start(std::vector<std::unique_ptr<DecodeStage>> &stages) const = 0;

  static llvm::Expected<std::unique_ptr<Decoder>> create(JsonNode node);
};

/// The pattern of Split and Replace: {"String": ..} or {"Regex": ..}.
llvm::Expected<Regex> readPattern(const JsonNode &node);

/// The characters that stand for bytes in byte-level tokenizers, and back
/// (-1 for a character that stands for none).
llvm::StringRef byteCharacter(uint8_t byte);
int byteOfCharacter(uint32_t code);
std::string toByteCharacters(llvm::StringRef text);

/// The options of Metaspace, which is a pre-tokenizer and a decoder.
struct MetaspaceOptions {
  enum Scheme { Always, First, Never } scheme = Always;
  uint32_t replacement = 0x2581;
  bool split = true;

  static llvm::Expected<MetaspaceOptions> read(const JsonNode &node);
};

} // namespace quench

#endif // QUENCH_LIB_TOKENIZER_STAGES_H
