//===- Decoder.cpp - Tokens to text ---------------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Stages.h"
#include "quench/Tokenizer/Unicode.h"

using namespace quench;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

namespace {

using Fragments = std::vector<Fragment>;

/// A stage that looks at whole tokens. Fragments are kept until their token is
/// complete.
class TokenStage : public DecodeStage {
public:
  void push(Fragment in, Fragments &out) final {
    if (in.begins)
      kept.clear();
    kept += in.text;
    if (!in.ends)
      return;
    std::string token;
    std::swap(token, kept);
    pushToken(std::move(token), out);
  }

  void finish(Fragments &) override {}

protected:
  virtual void pushToken(std::string token, Fragments &out) = 0;

  static void emit(std::string text, Fragments &out) {
    Fragment made;
    made.text = std::move(text);
    out.push_back(std::move(made));
  }

private:
  std::string kept;
};

/// Makes one token of all bytes, which it gives away character by character.
class ByteLevelStage final : public TokenStage {
  void pushToken(std::string token, Fragments &out) override {
    std::string bytes;
    bool known = true;
    StringRef text = token;
    for (size_t at = 0; known && at < text.size();) {
      int byte = byteOfCharacter(unicode::decode(text, at));
      known = byte >= 0;
      bytes += char(byte);
    }
    pending += known ? bytes : token;
    size_t open = unicode::incompleteTail(pending);
    std::string complete = unicode::repair(StringRef(pending).drop_back(open));
    pending.erase(0, pending.size() - open);
    give(std::move(complete), false, out);
  }

  void finish(Fragments &out) override {
    give(unicode::repair(pending), true, out);
  }

  void give(std::string text, bool ends, Fragments &out) {
    Fragment made;
    made.text = std::move(text);
    made.begins = !begun;
    made.ends = ends;
    begun = true;
    out.push_back(std::move(made));
  }

  std::string pending;
  bool begun = false;
};

/// Runs of tokens such as <0x0A> become characters if all of the run is valid,
/// otherwise a U+FFFD for each.
class ByteFallbackStage final : public TokenStage {
  void pushToken(std::string token, Fragments &out) override {
    uint8_t byte;
    StringRef text = token;
    if (text.size() == 6 && text.consume_front("<0x") &&
        text.consume_back(">") && !text.getAsInteger(16, byte)) {
      run += char(byte);
      return;
    }
    finish(out);
    emit(std::move(token), out);
  }

  void finish(Fragments &out) override {
    if (run.empty())
      return;
    if (unicode::isValid(run)) {
      emit(std::move(run), out);
    } else {
      for (size_t i = 0; i < run.size(); ++i)
        emit("\xEF\xBF\xBD", out);
    }
    run.clear();
  }

  std::string run;
};

class FuseStage final : public DecodeStage {
  void push(Fragment in, Fragments &out) override {
    in.begins = !begun;
    in.ends = false;
    begun = true;
    out.push_back(std::move(in));
  }

  void finish(Fragments &out) override {
    Fragment last;
    last.begins = !begun;
    out.push_back(std::move(last));
  }

  bool begun = false;
};

class ReplaceStage final : public TokenStage {
public:
  ReplaceStage(Regex pattern, std::string content)
      : pattern(std::move(pattern)), content(std::move(content)) {}

private:
  void pushToken(std::string token, Fragments &out) override {
    std::string text;
    size_t last = 0;
    if (!token.empty())
      for (auto [first, end] : pattern.findAll(token)) {
        text.append(token, last, first - last);
        text += content;
        last = end;
      }
    text.append(token, last);
    emit(std::move(text), out);
  }

  Regex pattern;
  std::string content;
};

/// Removes up to `start` and `stop` characters at the ends of each token.
class StripStage final : public DecodeStage {
public:
  StripStage(uint32_t content, int64_t start, int64_t stop)
      : start(start), stop(stop) {
    unicode::append(character, content);
  }

private:
  void push(Fragment in, Fragments &out) override {
    if (in.begins) {
      left = start;
      held = 0;
    }
    StringRef text = in.text;
    std::string kept;
    while (!text.empty()) {
      if (text.consume_front(character)) {
        if (left > 0)
          --left;
        else if (held < stop)
          ++held; // perhaps at the end
        else
          kept += character;
        continue;
      }
      left = 0;
      for (; held; --held)
        kept += character;
      size_t at = 0;
      unicode::decode(text, at);
      kept += text.take_front(at);
      text = text.drop_front(at);
    }
    in.text = std::move(kept);
    out.push_back(std::move(in));
  }

  void finish(Fragments &) override {}

  std::string character;
  int64_t start, stop;
  int64_t left = 0, held = 0;
};

class MetaspaceStage final : public TokenStage {
public:
  explicit MetaspaceStage(MetaspaceOptions options) : options(options) {}

private:
  void pushToken(std::string token, Fragments &out) override {
    bool drops = isFirst && options.scheme != MetaspaceOptions::Never;
    isFirst = false;
    std::string text;
    StringRef in = token;
    for (size_t at = 0; at < in.size();) {
      uint32_t code = unicode::decode(in, at);
      if (code != options.replacement)
        unicode::append(text, code);
      else if (!drops)
        text += ' ';
    }
    emit(std::move(text), out);
  }

  MetaspaceOptions options;
  bool isFirst = true;
};

std::string replaceAll(StringRef text, StringRef from, StringRef to) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t found = text.find(from, at);
    out += text.slice(at, found);
    if (found == StringRef::npos)
      break;
    out += to;
    at = found + from.size();
  }
  return out;
}

class WordPieceStage final : public TokenStage {
public:
  WordPieceStage(std::string prefix, bool cleanUp)
      : prefix(std::move(prefix)), cleanUp(cleanUp) {}

private:
  void pushToken(std::string token, Fragments &out) override {
    StringRef text = token;
    if (!isFirst && text.consume_front(prefix))
      token = text.str();
    else if (!isFirst)
      token.insert(0, " ");
    isFirst = false;
    static const std::pair<StringRef, StringRef> changes[] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    if (cleanUp)
      for (auto [from, to] : changes)
        token = replaceAll(token, from, to);
    emit(std::move(token), out);
  }

  std::string prefix;
  bool cleanUp, isFirst = true;
};

/// The end of a word becomes a space, except in the last token.
class WordEndStage final : public TokenStage {
public:
  explicit WordEndStage(std::string suffix) : suffix(std::move(suffix)) {}

private:
  void pushToken(std::string token, Fragments &out) override {
    if (last)
      emit(replaceAll(*last, suffix, " "), out);
    last = std::move(token);
  }

  void finish(Fragments &out) override {
    if (last)
      emit(replaceAll(*last, suffix, ""), out);
  }

  std::string suffix;
  std::optional<std::string> last;
};

/// A decoder whose stages are copies of one.
template <typename Stage> class DecoderOf final : public Decoder {
public:
  explicit DecoderOf(Stage prototype) : prototype(std::move(prototype)) {}

  void start(std::vector<std::unique_ptr<DecodeStage>> &stages) const override {
    stages.push_back(std::make_unique<Stage>(prototype));
  }

private:
  Stage prototype;
};

template <typename Stage> std::unique_ptr<Decoder> decoderOf(Stage prototype) {
  return std::make_unique<DecoderOf<Stage>>(std::move(prototype));
}

class DecoderSequence final : public Decoder {
public:
  void start(std::vector<std::unique_ptr<DecodeStage>> &stages) const override {
    for (const auto &part : parts)
      part->start(stages);
  }

  std::vector<std::unique_ptr<Decoder>> parts;
};

Expected<std::unique_ptr<Decoder>> createSequence(const JsonNode &node) {
  Expected<std::vector<JsonNode>> parts = node.elements("decoders");
  if (!parts)
    return parts.takeError();
  auto sequence = std::make_unique<DecoderSequence>();
  for (const JsonNode &part : *parts) {
    Expected<std::unique_ptr<Decoder>> made = Decoder::create(part);
    if (!made)
      return made.takeError();
    sequence->parts.push_back(std::move(*made));
  }
  return std::move(sequence);
}

Expected<std::unique_ptr<Decoder>> createStrip(const JsonNode &node) {
  Expected<JsonNode> content = node.get("content");
  if (!content)
    return content.takeError();
  Expected<uint32_t> code = content->character();
  if (!code)
    return code.takeError();
  int64_t start = 0, stop = 0;
  if (Error error = node.read("start", start, 0, INT32_MAX))
    return std::move(error);
  if (Error error = node.read("stop", stop, 0, INT32_MAX))
    return std::move(error);
  return decoderOf(StripStage(*code, start, stop));
}

Expected<std::unique_ptr<Decoder>> createReplace(const JsonNode &node) {
  Expected<Regex> pattern = readPattern(node);
  if (!pattern)
    return pattern.takeError();
  std::string content;
  if (Error error = node.read("content", content))
    return std::move(error);
  return decoderOf(ReplaceStage(std::move(*pattern), std::move(content)));
}

} // namespace

Expected<std::unique_ptr<Decoder>> Decoder::create(JsonNode node) {
  std::string type;
  if (Error error = node.read("type", type))
    return std::move(error);
  if (type == "Sequence")
    return createSequence(node);
  if (type == "ByteLevel")
    return decoderOf(ByteLevelStage());
  if (type == "ByteFallback")
    return decoderOf(ByteFallbackStage());
  if (type == "Fuse")
    return decoderOf(FuseStage());
  if (type == "Strip")
    return createStrip(node);
  if (type == "Replace")
    return createReplace(node);
  if (type == "Metaspace") {
    Expected<MetaspaceOptions> options = MetaspaceOptions::read(node);
    if (!options)
      return options.takeError();
    return decoderOf(MetaspaceStage(*options));
  }
  if (type == "WordPiece") {
    std::string prefix;
    bool cleanUp = true;
    if (Error error = node.read("prefix", prefix))
      return std::move(error);
    if (Error error = node.read("cleanup", cleanUp))
      return std::move(error);
    return decoderOf(WordPieceStage(std::move(prefix), cleanUp));
  }
  if (type == "BPEDecoder") {
    std::string suffix;
    if (Error error = node.read("suffix", suffix))
      return std::move(error);
    if (suffix.empty())
      return node.fail("the suffix is empty");
    return decoderOf(WordEndStage(std::move(suffix)));
  }
  return node.fail("the decoder '" + type +
                   "' is not supported (supported: Sequence, ByteLevel, "
                   "Metaspace, Replace, ByteFallback, Fuse, Strip, WordPiece, "
                   "BPEDecoder)");
}
