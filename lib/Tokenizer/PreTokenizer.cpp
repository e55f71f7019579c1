//===- PreTokenizer.cpp - Splitting into words ----------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Stages.h"
#include "quench/Tokenizer/Unicode.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringExtras.h"
#include <algorithm>
#include <array>

using namespace quench;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

namespace {

/// What happens to the delimiters when a text is split at them.
enum class Behavior {
  Removed,
  Isolated,
  MergedWithPrevious,
  MergedWithNext,
  Contiguous
};

/// A part of a text that is, or is not, a match.
struct Part {
  size_t first, last;
  bool isMatch;
};

std::vector<Part> partsOfRegex(const Regex &regex, StringRef text) {
  std::vector<Part> parts;
  size_t last = 0;
  for (auto [first, end] : regex.findAll(text)) {
    if (first != last)
      parts.push_back({last, first, false});
    parts.push_back({first, end, true});
    last = end;
  }
  if (last != text.size())
    parts.push_back({last, text.size(), false});
  return parts;
}

/// Each character that `matches` is a match of its own.
std::vector<Part>
partsOfCharacters(StringRef text, llvm::function_ref<bool(uint32_t)> matches) {
  std::vector<Part> parts;
  size_t last = 0;
  for (size_t at = 0; at < text.size();) {
    size_t first = at;
    if (!matches(unicode::decode(text, at)))
      continue;
    if (first != last)
      parts.push_back({last, first, false});
    parts.push_back({first, at, true});
    last = at;
  }
  if (last != text.size())
    parts.push_back({last, text.size(), false});
  return parts;
}

/// Merges the parts as the behavior says.
std::vector<Part> mergeParts(std::vector<Part> parts, Behavior behavior) {
  std::vector<Part> out;
  bool previous = false;
  auto push = [&](const Part &part, bool merge) {
    if (merge && !out.empty()) {
      out.back().first = std::min(out.back().first, part.first);
      out.back().last = std::max(out.back().last, part.last);
    } else {
      out.push_back(part);
    }
    previous = part.isMatch;
  };
  switch (behavior) {
  case Behavior::Isolated:
    return parts;
  case Behavior::Removed:
    llvm::erase_if(parts, [](const Part &part) { return part.isMatch; });
    return parts;
  case Behavior::Contiguous:
    for (const Part &part : parts)
      push(part, part.isMatch == previous);
    return out;
  case Behavior::MergedWithPrevious:
    for (const Part &part : parts)
      push(part, part.isMatch && !previous);
    return out;
  case Behavior::MergedWithNext:
    for (const Part &part : llvm::reverse(parts))
      push(part, part.isMatch && !previous);
    std::reverse(out.begin(), out.end());
    return out;
  }
  return parts;
}

void cut(const Piece &piece, std::vector<Part> parts, Behavior behavior,
         std::vector<Piece> &out) {
  for (const Part &part : mergeParts(std::move(parts), behavior)) {
    if (part.first == part.last)
      continue;
    Piece made;
    made.text = piece.text.substr(part.first, part.last - part.first);
    made.atStart = piece.atStart && part.first == 0;
    out.push_back(std::move(made));
  }
}

class ByteLevel final : public PreTokenizer {
public:
  static Expected<std::unique_ptr<PreTokenizer>> create(const JsonNode &node) {
    auto made = std::make_unique<ByteLevel>();
    if (Error error = node.read("add_prefix_space", made->addPrefixSpace))
      return std::move(error);
    bool useRegex = true;
    if (Error error = node.read("use_regex", useRegex))
      return std::move(error);
    if (!useRegex)
      return std::move(made);
    // The words of GPT-2.
    Expected<Regex> regex = Regex::compile(
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
        "\\s+(?!\\S)|\\s+");
    if (!regex)
      return regex.takeError();
    made->words = std::move(*regex);
    return std::move(made);
  }

private:
  void split(Piece piece, std::vector<Piece> &out) const override {
    if (addPrefixSpace && !StringRef(piece.text).starts_with(" "))
      piece.text.insert(0, " ");
    size_t first = out.size();
    if (words)
      cut(piece, partsOfRegex(*words, piece.text), Behavior::Isolated, out);
    else
      out.push_back(std::move(piece));
    for (size_t i = first; i < out.size(); ++i)
      out[i].text = toByteCharacters(out[i].text);
  }

  bool addPrefixSpace = true;
  std::optional<Regex> words;
};

class Metaspace final : public PreTokenizer {
public:
  explicit Metaspace(MetaspaceOptions options) : options(options) {
    unicode::append(replacement, options.replacement);
  }

private:
  void split(Piece piece, std::vector<Piece> &out) const override {
    std::string text;
    for (char c : piece.text)
      if (c == ' ')
        text += replacement;
      else
        text += c;
    bool wanted = options.scheme == MetaspaceOptions::Always ||
                  (options.scheme == MetaspaceOptions::First && piece.atStart);
    if (wanted && !StringRef(text).starts_with(replacement))
      text.insert(0, replacement);
    piece.text = std::move(text);
    if (!options.split) {
      out.push_back(std::move(piece));
      return;
    }
    auto isReplacement = [&](uint32_t code) {
      return code == options.replacement;
    };
    cut(piece, partsOfCharacters(piece.text, isReplacement),
        Behavior::MergedWithNext, out);
  }

  MetaspaceOptions options;
  std::string replacement;
};

class RegexSplit final : public PreTokenizer {
public:
  RegexSplit(Regex regex, Behavior behavior, bool invert)
      : regex(std::move(regex)), behavior(behavior), invert(invert) {}

private:
  void split(Piece piece, std::vector<Piece> &out) const override {
    std::vector<Part> parts = partsOfRegex(regex, piece.text);
    if (invert)
      for (Part &part : parts)
        part.isMatch = !part.isMatch;
    cut(piece, std::move(parts), behavior, out);
  }

  Regex regex;
  Behavior behavior;
  bool invert;
};

class CharacterSplit final : public PreTokenizer {
public:
  using Test = bool (*)(uint32_t);
  CharacterSplit(Test test, Behavior behavior)
      : test(test), behavior(behavior) {}

private:
  void split(Piece piece, std::vector<Piece> &out) const override {
    cut(piece, partsOfCharacters(piece.text, test), behavior, out);
  }

  Test test;
  Behavior behavior;
};

/// Runs of word characters, and runs of what is neither word nor space.
class Whitespace final : public PreTokenizer {
  static int kindOf(uint32_t code) {
    if (unicode::isSpace(code))
      return 0;
    return unicode::isWord(code) || code == 0x200C || code == 0x200D ? 1 : 2;
  }

  void split(Piece piece, std::vector<Piece> &out) const override {
    std::vector<Part> parts;
    int kind = 0;
    StringRef text = piece.text;
    for (size_t at = 0; at < text.size();) {
      size_t first = at;
      int next = kindOf(unicode::decode(text, at));
      if (next && next == kind)
        parts.back().last = at;
      else if (next)
        parts.push_back({first, at, false});
      kind = next;
    }
    cut(piece, std::move(parts), Behavior::Isolated, out);
  }
};

bool isNumber(uint32_t code) { return unicode::isIn(code, unicode::numbers); }

bool isPunctuation(uint32_t code) {
  if (code < 128)
    return code > ' ' && code != 127 && !llvm::isAlnum(char(code));
  return unicode::isInOld(code, unicode::punctuation);
}

Expected<Behavior> readBehavior(const JsonNode &node) {
  Expected<JsonNode> member = node.get("behavior");
  if (!member)
    return member.takeError();
  Expected<StringRef> name = member->text();
  if (!name)
    return name.takeError();
  static const std::pair<StringRef, Behavior> names[] = {
      {"Removed", Behavior::Removed},
      {"Isolated", Behavior::Isolated},
      {"MergedWithPrevious", Behavior::MergedWithPrevious},
      {"MergedWithNext", Behavior::MergedWithNext},
      {"Contiguous", Behavior::Contiguous}};
  for (auto [known, behavior] : names)
    if (*name == known)
      return behavior;
  return member->fail("unknown behavior '" + *name +
                      "' (known: Removed, Isolated, MergedWithPrevious, "
                      "MergedWithNext, Contiguous)");
}

Expected<std::unique_ptr<PreTokenizer>> createSplit(const JsonNode &node) {
  Expected<Regex> regex = readPattern(node);
  if (!regex)
    return regex.takeError();
  Expected<Behavior> behavior = readBehavior(node);
  if (!behavior)
    return behavior.takeError();
  bool invert = false;
  if (Error error = node.read("invert", invert))
    return std::move(error);
  return std::make_unique<RegexSplit>(std::move(*regex), *behavior, invert);
}

} // namespace

namespace quench {

/// Not in the unnamed namespace: a friend of PreTokenizer.
class PreTokenizerSequence final : public PreTokenizer {
public:
  static Expected<std::unique_ptr<PreTokenizer>> create(const JsonNode &node) {
    Expected<std::vector<JsonNode>> parts = node.elements("pretokenizers");
    if (!parts)
      return parts.takeError();
    auto sequence = std::make_unique<PreTokenizerSequence>();
    for (const JsonNode &part : *parts) {
      Expected<std::unique_ptr<PreTokenizer>> made = PreTokenizer::create(part);
      if (!made)
        return made.takeError();
      sequence->parts.push_back(std::move(*made));
    }
    return std::move(sequence);
  }

  void add(std::unique_ptr<PreTokenizer> part) {
    parts.push_back(std::move(part));
  }

private:
  void split(Piece piece, std::vector<Piece> &out) const override {
    std::vector<Piece> pieces;
    pieces.push_back(std::move(piece));
    for (const auto &part : parts)
      part->apply(pieces);
    std::move(pieces.begin(), pieces.end(), std::back_inserter(out));
  }

  std::vector<std::unique_ptr<PreTokenizer>> parts;
};

} // namespace quench

void PreTokenizer::apply(std::vector<Piece> &pieces) const {
  std::vector<Piece> out;
  out.reserve(pieces.size());
  for (Piece &piece : pieces) {
    if (piece.id >= 0)
      out.push_back(std::move(piece));
    else if (!piece.text.empty())
      split(std::move(piece), out);
  }
  pieces = std::move(out);
}

Expected<std::unique_ptr<PreTokenizer>> PreTokenizer::create(JsonNode node) {
  std::string type;
  if (Error error = node.read("type", type))
    return std::move(error);
  if (type == "Sequence")
    return PreTokenizerSequence::create(node);
  if (type == "ByteLevel")
    return ByteLevel::create(node);
  if (type == "Split")
    return createSplit(node);
  if (type == "Whitespace")
    return std::make_unique<Whitespace>();
  if (type == "WhitespaceSplit")
    return std::make_unique<CharacterSplit>(unicode::isSpace,
                                            Behavior::Removed);
  if (type == "BertPreTokenizer") {
    auto sequence = std::make_unique<PreTokenizerSequence>();
    sequence->add(
        std::make_unique<CharacterSplit>(unicode::isSpace, Behavior::Removed));
    sequence->add(
        std::make_unique<CharacterSplit>(isPunctuation, Behavior::Isolated));
    return std::move(sequence);
  }
  if (type == "Metaspace") {
    Expected<MetaspaceOptions> options = MetaspaceOptions::read(node);
    if (!options)
      return options.takeError();
    return std::make_unique<Metaspace>(*options);
  }
  if (type == "Digits") {
    bool individual = false;
    if (Error error = node.read("individual_digits", individual))
      return std::move(error);
    return std::make_unique<CharacterSplit>(
        isNumber, individual ? Behavior::Isolated : Behavior::Contiguous);
  }
  if (type == "Punctuation") {
    Behavior behavior = Behavior::Isolated;
    if (node.find("behavior"))
      if (Error error = readBehavior(node).moveInto(behavior))
        return std::move(error);
    return std::make_unique<CharacterSplit>(isPunctuation, behavior);
  }
  return node.fail("the pre-tokenizer '" + type +
                   "' is not supported (supported: Sequence, ByteLevel, Split, "
                   "Digits, Metaspace, Whitespace, WhitespaceSplit, "
                   "Punctuation, BertPreTokenizer)");
}

Expected<MetaspaceOptions> MetaspaceOptions::read(const JsonNode &node) {
  MetaspaceOptions options;
  Expected<JsonNode> replacement = node.get("replacement");
  if (!replacement)
    return replacement.takeError();
  if (Error error = replacement->character().moveInto(options.replacement))
    return std::move(error);
  if (Error error = node.read("split", options.split))
    return std::move(error);
  bool prefix = true;
  if (Error error = node.read("add_prefix_space", prefix))
    return std::move(error);
  if (node.find("prepend_scheme")) {
    std::string scheme;
    if (Error error = node.read("prepend_scheme", scheme))
      return std::move(error);
    if (scheme == "first")
      options.scheme = First;
    else if (scheme == "never")
      options.scheme = Never;
    else if (scheme != "always")
      return node.fail("unknown prepend_scheme '" + scheme +
                       "' (known: always, first, never)");
    if (!prefix && options.scheme != Never)
      return node.fail("add_prefix_space is false, but prepend_scheme is '" +
                       scheme + "'");
  } else if (!prefix) {
    options.scheme = Never;
  }
  return options;
}

Expected<Regex> quench::readPattern(const JsonNode &node) {
  Expected<JsonNode> pattern = node.get("pattern");
  if (!pattern)
    return pattern.takeError();
  std::string text;
  if (pattern->find("String")) {
    if (Error error = pattern->read("String", text))
      return std::move(error);
    return Regex::literal(text);
  }
  if (!pattern->find("Regex"))
    return pattern->fail("expected {\"String\": ...} or {\"Regex\": ...}, "
                         "found " +
                         pattern->describe());
  if (Error error = pattern->read("Regex", text))
    return std::move(error);
  Expected<Regex> regex = Regex::compile(text);
  if (!regex)
    return pattern->fail(llvm::toString(regex.takeError()));
  return regex;
}

namespace {

/// Bytes that print as themselves keep their character; the others follow each
/// other from U+0100 on.
struct ByteCharacters {
  std::array<std::string, 256> characters;
  std::array<int16_t, 512> bytes;

  ByteCharacters() {
    bytes.fill(-1);
    uint32_t next = 256;
    for (unsigned byte = 0; byte < 256; ++byte) {
      bool prints = (byte >= '!' && byte <= '~') ||
                    (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      uint32_t code = prints ? byte : next++;
      unicode::append(characters[byte], code);
      bytes[code] = byte;
    }
  }
};

const ByteCharacters &byteCharacters() {
  static const ByteCharacters table;
  return table;
}

} // namespace

StringRef quench::byteCharacter(uint8_t byte) {
  return byteCharacters().characters[byte];
}

int quench::byteOfCharacter(uint32_t code) {
  return code < 512 ? byteCharacters().bytes[code] : -1;
}

std::string quench::toByteCharacters(StringRef text) {
  const ByteCharacters &table = byteCharacters();
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  for (char c : text)
    out += table.characters[uint8_t(c)];
  return out;
}
