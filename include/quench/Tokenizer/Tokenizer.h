//===- Tokenizer.h - Texts to tokens and back -------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tokenizer as a Hugging Face tokenizer.json describes it. Its results are
// those of the Python package `tokenizers`, whose offsets, padding and
// truncation have no place here. Objects are small handles to shared data that
// never changes: copies are cheap, and threads may use one at the same time.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOKENIZER_TOKENIZER_H
#define QUENCH_TOKENIZER_TOKENIZER_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace quench {

struct TokenizerData;

class Tokenizer {
public:
  /// Reads a tokenizer.json. Errors name the file, the field, what was found
  /// and what would be accepted.
  static llvm::Expected<Tokenizer> load(llvm::StringRef path);

  /// Parses the text of a tokenizer.json; `name` begins messages.
  static llvm::Expected<Tokenizer>
  parse(llvm::StringRef json, llvm::StringRef name = "tokenizer.json");

  /// The ids of a text. `addSpecial` adds what the file's post-processor adds,
  /// such as a token for the beginning of the text. Special tokens that stand
  /// in the text become their ids. Bytes that are not valid UTF-8 are read as
  /// U+FFFD.
  std::vector<int32_t> encode(llvm::StringRef text,
                              bool addSpecial = true) const;

  /// The text of the ids. Ids without a token are left out, special tokens too
  /// if `skipSpecial` is set.
  std::string decode(llvm::ArrayRef<int32_t> ids,
                     bool skipSpecial = true) const;

  /// The number of tokens, added ones included.
  size_t vocabSize() const;
  /// The largest id plus 1: the fewest logits a model for it must give.
  int32_t idLimit() const;

  std::optional<int32_t> idOf(llvm::StringRef token) const;
  /// The token as it stands in the file ("Ġthe"), not as a part of a text.
  std::optional<llvm::StringRef> tokenOf(int32_t id) const;

  /// The ids of all special tokens, ascending.
  std::vector<int32_t> specialTokens() const;
  bool isSpecial(int32_t id) const;

  /// What is odd about the file, but does not keep it from being used.
  llvm::ArrayRef<std::string> warnings() const;

private:
  friend class StreamDecoder;
  std::shared_ptr<const TokenizerData> data;
};

/// Decodes ids one by one. The texts that push() and finish() return, one
/// behind the other, are what decode() returns for all ids; each is valid
/// UTF-8. A text comes as soon as no later id can change it.
class StreamDecoder {
public:
  explicit StreamDecoder(const Tokenizer &tokenizer, bool skipSpecial = true);
  StreamDecoder(StreamDecoder &&);
  StreamDecoder &operator=(StreamDecoder &&);
  ~StreamDecoder();

  /// The text that is complete with this id; often empty.
  std::string push(int32_t id);

  /// The rest of the text. The decoder is used up then.
  std::string finish();

private:
  struct State;
  std::unique_ptr<State> state;
};

} // namespace quench

#endif // QUENCH_TOKENIZER_TOKENIZER_H
