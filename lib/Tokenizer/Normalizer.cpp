//===- Normalizer.cpp - Changes before splitting --------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Stages.h"
#include "quench/Tokenizer/Unicode.h"
#include "llvm/ADT/StringSwitch.h"

using namespace quench;
using llvm::Error;
using llvm::Expected;

namespace {

struct NormalizerSequence final : Normalizer {
  std::vector<std::unique_ptr<Normalizer>> parts;

  void apply(std::string &text, bool &atStart) const override {
    for (const auto &part : parts)
      part->apply(text, atStart);
  }
};

struct NormalForm final : Normalizer {
  unicode::Form form;
  explicit NormalForm(unicode::Form form) : form(form) {}

  void apply(std::string &text, bool &) const override {
    text = unicode::normalize(text, form);
  }
};

struct Lowercase final : Normalizer {
  void apply(std::string &text, bool &) const override {
    text = unicode::toLower(text);
  }
};

struct Prepend final : Normalizer {
  std::string prefix;

  void apply(std::string &text, bool &) const override {
    if (!text.empty())
      text.insert(0, prefix);
  }
};

struct ReplaceNormalizer final : Normalizer {
  Regex pattern;
  std::string content;
  ReplaceNormalizer(Regex pattern, std::string content)
      : pattern(std::move(pattern)), content(std::move(content)) {}

  void apply(std::string &text, bool &atStart) const override {
    if (text.empty())
      return;
    std::vector<ByteRange> matches = pattern.findAll(text);
    if (matches.empty())
      return;
    std::string out;
    size_t last = 0;
    for (auto [first, end] : matches) {
      out.append(text, last, first - last);
      out += content;
      last = end;
    }
    out.append(text, last);
    if (content.empty() && matches.front().first == 0 &&
        matches.front().second > 0)
      atStart = false;
    text = std::move(out);
  }
};

struct StripNormalizer final : Normalizer {
  bool left = true, right = true;

  void apply(std::string &text, bool &atStart) const override {
    if (right)
      text.resize(text.size() - unicode::trailingSpace(text));
    if (!left)
      return;
    if (size_t count = unicode::leadingSpace(text)) {
      text.erase(0, count);
      atStart = false;
    }
  }
};

/// Drops the characters of some categories.
void dropCategories(std::string &text, unicode::CategorySet set) {
  std::string out;
  llvm::StringRef in = text;
  for (size_t at = 0; at < in.size();) {
    uint32_t code = unicode::decode(in, at);
    if (!unicode::isInOld(code, set))
      unicode::append(out, code);
  }
  text = std::move(out);
}

struct StripAccents final : Normalizer {
  void apply(std::string &text, bool &) const override {
    dropCategories(text, unicode::marks);
  }
};

struct ByteLevelNormalizer final : Normalizer {
  void apply(std::string &text, bool &) const override {
    text = toByteCharacters(text);
  }
};

struct BertNormalizer final : Normalizer {
  bool cleanText = true, chineseCharacters = true, lowercase = true;
  bool stripAccents = true;

  static bool isChinese(uint32_t code) {
    static const std::pair<uint32_t, uint32_t> ranges[] = {
        {0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
        {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
        {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (auto [first, last] : ranges)
      if (code >= first && code <= last)
        return true;
    return false;
  }

  static bool isDropped(uint32_t code) {
    using namespace unicode;
    return code == 0 || code == 0xFFFD ||
           (code != '\t' && code != '\n' && code != '\r' &&
            isInOld(code, bit(Cc) | bit(Cf) | bit(Co)));
  }

  void apply(std::string &text, bool &) const override {
    std::string out;
    llvm::StringRef in = text;
    for (size_t at = 0; at < in.size();) {
      uint32_t code = unicode::decode(in, at);
      if (cleanText && isDropped(code))
        continue;
      if (cleanText && unicode::isSpace(code))
        code = ' ';
      bool spaced = chineseCharacters && isChinese(code);
      if (spaced)
        out += ' ';
      unicode::append(out, code);
      if (spaced)
        out += ' ';
    }
    if (stripAccents) {
      out = unicode::normalize(out, unicode::Form::NFD);
      dropCategories(out, unicode::bit(unicode::Mn));
    }
    text = lowercase ? unicode::toLower(out) : std::move(out);
  }
};

Expected<std::unique_ptr<Normalizer>> createSequence(const JsonNode &node) {
  Expected<std::vector<JsonNode>> parts = node.elements("normalizers");
  if (!parts)
    return parts.takeError();
  auto sequence = std::make_unique<NormalizerSequence>();
  for (const JsonNode &part : *parts) {
    Expected<std::unique_ptr<Normalizer>> made = Normalizer::create(part);
    if (!made)
      return made.takeError();
    sequence->parts.push_back(std::move(*made));
  }
  return std::move(sequence);
}

Expected<std::unique_ptr<Normalizer>> createReplace(const JsonNode &node) {
  Expected<Regex> pattern = readPattern(node);
  if (!pattern)
    return pattern.takeError();
  std::string content;
  if (Error error = node.read("content", content))
    return std::move(error);
  return std::make_unique<ReplaceNormalizer>(std::move(*pattern),
                                             std::move(content));
}

Expected<std::unique_ptr<Normalizer>> createBert(const JsonNode &node) {
  auto bert = std::make_unique<BertNormalizer>();
  if (Error error = node.read("clean_text", bert->cleanText))
    return std::move(error);
  if (Error error = node.read("handle_chinese_chars", bert->chineseCharacters))
    return std::move(error);
  if (Error error = node.read("lowercase", bert->lowercase))
    return std::move(error);
  bert->stripAccents = bert->lowercase;
  if (Error error = node.read("strip_accents", bert->stripAccents))
    return std::move(error);
  return std::move(bert);
}

} // namespace

Expected<std::unique_ptr<Normalizer>> Normalizer::create(JsonNode node) {
  std::string type;
  if (Error error = node.read("type", type))
    return std::move(error);
  if (type == "Sequence")
    return createSequence(node);
  if (type == "NFC")
    return std::make_unique<NormalForm>(unicode::Form::NFC);
  if (type == "NFD")
    return std::make_unique<NormalForm>(unicode::Form::NFD);
  if (type == "NFKC")
    return std::make_unique<NormalForm>(unicode::Form::NFKC);
  if (type == "NFKD")
    return std::make_unique<NormalForm>(unicode::Form::NFKD);
  if (type == "Lowercase")
    return std::make_unique<Lowercase>();
  if (type == "StripAccents")
    return std::make_unique<StripAccents>();
  if (type == "ByteLevel")
    return std::make_unique<ByteLevelNormalizer>();
  if (type == "Replace")
    return createReplace(node);
  if (type == "BertNormalizer")
    return createBert(node);
  if (type == "Prepend") {
    auto prepend = std::make_unique<Prepend>();
    if (Error error = node.read("prepend", prepend->prefix))
      return std::move(error);
    return std::move(prepend);
  }
  if (type == "Strip") {
    auto strip = std::make_unique<StripNormalizer>();
    if (Error error = node.read("strip_left", strip->left))
      return std::move(error);
    if (Error error = node.read("strip_right", strip->right))
      return std::move(error);
    return std::move(strip);
  }
  return node.fail("the normalizer '" + type +
                   "' is not supported (supported: Sequence, NFC, NFD, NFKC, "
                   "NFKD, Lowercase, Prepend, Replace, Strip, StripAccents, "
                   "ByteLevel, BertNormalizer)");
}
