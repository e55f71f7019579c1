//===- TokenizerTest.cpp - Tests of tokenizers ----------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Expected ids and texts are those of the Python package `tokenizers`, written
// by make-golden.py.
//
//===----------------------------------------------------------------------===//

#include "quench/Tokenizer/Tokenizer.h"
#include "quench/Tokenizer/Unicode.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "gtest/gtest.h"
#include <chrono>

using namespace quench;
using llvm::StringRef;

namespace {

std::string inputPath(const std::string &name) {
  return std::string(QUENCH_TOKENIZER_INPUTS) + "/" + name + ".json";
}

std::string readInput(const std::string &name) {
  auto buffer = llvm::MemoryBuffer::getFile(inputPath(name));
  return buffer ? (*buffer)->getBuffer().str() : "";
}

Tokenizer loadInput(const std::string &name) {
  llvm::Expected<Tokenizer> tokenizer = Tokenizer::load(inputPath(name));
  if (!tokenizer) {
    ADD_FAILURE() << llvm::toString(tokenizer.takeError());
    llvm::cantFail(Tokenizer::parse("").takeError());
  }
  return *tokenizer;
}

/// The message of the error that parsing gives; empty if it gives none.
std::string errorOf(StringRef json) {
  llvm::Expected<Tokenizer> tokenizer = Tokenizer::parse(json, "t.json");
  return tokenizer ? "" : llvm::toString(tokenizer.takeError());
}

std::vector<int32_t> numbers(const llvm::json::Value &value) {
  std::vector<int32_t> out;
  for (const llvm::json::Value &number : *value.getAsArray())
    out.push_back(*number.getAsInteger());
  return out;
}

class Golden : public testing::TestWithParam<const char *> {};

TEST_P(Golden, EqualsThePackage) {
  Tokenizer tokenizer = loadInput(GetParam());
  llvm::json::Value golden = llvm::cantFail(
      llvm::json::parse(readInput(GetParam() + std::string(".golden"))));
  const llvm::json::Object &root = *golden.getAsObject();
  EXPECT_EQ(int64_t(tokenizer.vocabSize()), *root.getInteger("size"));
  for (const llvm::json::Value &entry : *root.getArray("encode")) {
    const llvm::json::Array &fields = *entry.getAsArray();
    StringRef text = *fields[0].getAsString();
    EXPECT_EQ(tokenizer.encode(text, false), numbers(fields[1])) << text.str();
    EXPECT_EQ(tokenizer.encode(text, true), numbers(fields[2])) << text.str();
  }
  for (const llvm::json::Value &entry : *root.getArray("decode")) {
    const llvm::json::Array &fields = *entry.getAsArray();
    std::vector<int32_t> ids = numbers(fields[0]);
    for (bool skip : {false, true}) {
      std::string text = fields[skip ? 2 : 1].getAsString()->str();
      EXPECT_EQ(tokenizer.decode(ids, skip), text);
      StreamDecoder stream(tokenizer, skip);
      std::string streamed;
      for (int32_t id : ids) {
        std::string part = stream.push(id);
        EXPECT_TRUE(unicode::isValid(part));
        streamed += part;
        EXPECT_TRUE(StringRef(text).starts_with(streamed));
      }
      EXPECT_EQ(streamed + stream.finish(), text);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, Golden,
                         testing::Values("gpt2", "smollm2", "llama3", "llama2",
                                         "mistral", "bert"));

TEST(Tokenizer, NamesOfTokens) {
  Tokenizer tokenizer = loadInput("gpt2");
  std::optional<int32_t> id = tokenizer.idOf("<|end|>");
  ASSERT_TRUE(id);
  EXPECT_EQ(*id, 420);
  EXPECT_EQ(tokenizer.tokenOf(*id), StringRef("<|end|>"));
  EXPECT_TRUE(tokenizer.isSpecial(*id));
  EXPECT_FALSE(tokenizer.isSpecial(*tokenizer.idOf("word")));
  EXPECT_FALSE(tokenizer.idOf("no such token"));
  EXPECT_FALSE(tokenizer.tokenOf(-1));
  EXPECT_FALSE(tokenizer.tokenOf(tokenizer.idLimit()));
  EXPECT_EQ(tokenizer.idLimit(), 423);
  EXPECT_EQ(tokenizer.specialTokens(), (std::vector<int32_t>{0, 1, 420, 421}));
  EXPECT_EQ(tokenizer.decode({-5, 1 << 30, *tokenizer.idOf("a")}), "a");
}

TEST(Tokenizer, StreamWaitsForWholeCharacters) {
  Tokenizer tokenizer = loadInput("gpt2");
  std::vector<int32_t> ids = tokenizer.encode("ß", false);
  ASSERT_EQ(ids.size(), 2u);
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.push(ids[1]), "ß");
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

TEST(Tokenizer, InvalidTextIsRepaired) {
  Tokenizer tokenizer = loadInput("gpt2");
  EXPECT_EQ(tokenizer.encode("a\xFFz", false),
            tokenizer.encode("a\uFFFDz", false));
}

TEST(Tokenizer, LongWordsAreFast) {
  Tokenizer tokenizer = loadInput("llama2");
  std::string text;
  while (text.size() < 1000000)
    text += "Alice was beginning ";
  auto start = std::chrono::steady_clock::now();
  size_t count = tokenizer.encode(text, false).size();
  std::chrono::duration<double> seconds =
      std::chrono::steady_clock::now() - start;
  EXPECT_GT(count, 100000u);
  EXPECT_LT(seconds.count(), 10); // without optimization too
}

TEST(TokenizerErrors, EveryTruncation) {
  for (const char *name : {"gpt2", "llama2", "bert"}) {
    std::string json = readInput(name);
    ASSERT_FALSE(json.empty());
    while (json.back() != '}')
      json.pop_back();
    for (size_t size = 0; size < json.size(); size += 1 + size / 50)
      EXPECT_NE(errorOf(StringRef(json).take_front(size)), "");
  }
}

/// Damaged bytes are errors or other tokenizers, but never a crash.
TEST(TokenizerErrors, ChangedBytes) {
  std::string json = readInput("llama2");
  uint64_t state = 1;
  for (int i = 0; i < 300; ++i) {
    std::string changed = json;
    for (int k = 0; k < 3; ++k) {
      state = state * 6364136223846793005 + 1442695040888963407;
      changed[(state >> 33) % changed.size()] =
          "{}[]\",:0-9ex\\utf"[state >> 60];
    }
    llvm::Expected<Tokenizer> tokenizer = Tokenizer::parse(changed);
    if (!tokenizer) {
      llvm::consumeError(tokenizer.takeError());
      continue;
    }
    tokenizer->decode(tokenizer->encode("Alice was </s> beginning", true));
  }
}

struct BadFile {
  const char *json;
  std::vector<const char *> parts; // of the message
};

TEST(TokenizerErrors, NameTheField) {
  std::string deep(100000, '[');
  const BadFile files[] = {
      {"", {"t.json", "JSON"}},
      {"[]", {"expected an object"}},
      {"{}", {"'model' is missing"}},
      {R"({"model":3})", {"t.json.model", "the number 3"}},
      {R"({"model":{"type":"Unigram"}})",
       {"'Unigram' is not supported", "BPE"}},
      {R"({"model":{"type":"BPE","merges":[]}})", {"'vocab' is missing"}},
      {R"({"model":{"type":"BPE","vocab":[],"merges":[]}})",
       {"t.json.model.vocab: expected an object, found an array"}},
      {R"({"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}})",
       {"vocab[\"a\"]", "the number -1"}},
      {R"({"model":{"type":"BPE","vocab":{"a":1e30},"merges":[]}})",
       {"vocab[\"a\"]", "a whole number from 0 to"}},
      {R"({"model":{"type":"BPE","vocab":{"a":4000000000},"merges":[]}})",
       {"vocab[\"a\"]"}},
      {R"({"model":{"type":"BPE","vocab":{"a":"0"},"merges":[]}})",
       {"the text \"0\""}},
      {R"({"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}})",
       {"same id 0"}},
      {R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}})",
       {"merges[0]", "'b' is not in the vocabulary"}},
      {R"({"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[["a","b"]]}})",
       {"merges[0]", "'ab' is not in the vocabulary"}},
      {R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["a"]}})",
       {"merges[0]", "two tokens"}},
      {R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}})",
       {"merges[0]", "found 1"}},
      {R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[7]}})",
       {"merges[0]", "an array", "the number 7"}},
      {R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"u"}})",
       {"unk_token 'u'"}},
      {R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[],"dropout":0.1}})",
       {"dropout"}},
      {R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[],)"
       R"("byte_fallback":1}})",
       {"byte_fallback: expected true or false"}},
      {R"({"model":{"type":"WordPiece","vocab":{"a":0}}})",
       {"unk_token '[UNK]'"}},
      {R"({"normalizer":{"type":"Precompiled"},"model":{}})",
       {"t.json.normalizer", "'Precompiled' is not supported", "NFC"}},
      {R"({"normalizer":{"type":"Sequence","normalizers":[{"type":"X"}]}})",
       {"normalizer.normalizers[0]", "'X'"}},
      {R"({"normalizer":{"type":"Replace","pattern":"a","content":""}})",
       {"normalizer.pattern", "{\"String\": ...}"}},
      {R"({"pre_tokenizer":{"type":"UnicodeScripts"}})",
       {"pre_tokenizer", "'UnicodeScripts' is not supported"}},
      {R"({"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(?<=a)b"},)"
       R"("behavior":"Isolated"}})",
       {"pre_tokenizer.pattern", "kind of group is not supported", "(?<=a)b"}},
      {R"({"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\p{Han}"},)"
       R"("behavior":"Isolated"}})",
       {"\\p{Han}"}},
      {R"({"pre_tokenizer":{"type":"Split","pattern":{"Regex":"a"},)"
       R"("behavior":"Wrong"}})",
       {"behavior", "'Wrong'", "MergedWithNext"}},
      {R"({"pre_tokenizer":{"type":"Metaspace","replacement":"ab"}})",
       {"replacement", "one character"}},
      {R"({"decoder":{"type":"CTC"}})", {"decoder", "'CTC' is not supported"}},
      {R"({"post_processor":{"type":"Other"}})", {"post_processor", "'Other'"}},
      {R"({"post_processor":{"type":"TemplateProcessing","single":[)"
       R"({"SpecialToken":{"id":"<s>"}}],"special_tokens":{}}})",
       {"post_processor.special_tokens", "'<s>' is missing"}},
      {R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]},)"
       R"("added_tokens":[{"content":3}]})",
       {"added_tokens[0].content", "the number 3"}},
      {R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]},)"
       R"("added_tokens":[{"content":"b","id":99999999999}]})",
       {"added_tokens[0].id"}},
      {deep.c_str(), {"nested"}},
  };
  for (const BadFile &file : files) {
    std::string message = errorOf(file.json);
    for (const char *part : file.parts)
      EXPECT_NE(message.find(part), std::string::npos)
          << StringRef(file.json).take_front(100).str() << "\n gives '"
          << message << "', which lacks '" << part << "'";
  }
}

TEST(TokenizerErrors, NoSuchFile) {
  llvm::Expected<Tokenizer> tokenizer = Tokenizer::load("/no/such/file.json");
  ASSERT_FALSE(tokenizer);
  std::string message = llvm::toString(tokenizer.takeError());
  EXPECT_NE(message.find("/no/such/file.json"), std::string::npos);
}

TEST(Tokenizer, EscapedCharactersOfAllPlanes) {
  llvm::Expected<Tokenizer> tokenizer = Tokenizer::parse(
      R"({"model":{"type":"BPE","vocab":{"\ud83d\ude00":0,"\ud840\udc00":1,)"
      R"("\udbff\udfff":2,"\\ud840":3,"\u00e9":4},"merges":[]}})");
  ASSERT_TRUE(bool(tokenizer));
  EXPECT_EQ(tokenizer->tokenOf(0), StringRef("\U0001F600"));
  EXPECT_EQ(tokenizer->tokenOf(1), StringRef("\U00020000"));
  EXPECT_EQ(tokenizer->tokenOf(2), StringRef("\U0010FFFF"));
  EXPECT_EQ(tokenizer->tokenOf(3), StringRef("\\ud840"));
  EXPECT_EQ(tokenizer->tokenOf(4), StringRef("é"));
}

TEST(Tokenizer, OddThingsAreWarnings) {
  llvm::Expected<Tokenizer> tokenizer = Tokenizer::parse(
      R"({"truncation":{"max_length":3},)"
      R"("model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]},)"
      R"("added_tokens":[{"content":"b","id":7}]})");
  ASSERT_TRUE(bool(tokenizer));
  ASSERT_EQ(tokenizer->warnings().size(), 2u);
  EXPECT_NE(tokenizer->warnings()[0].find("truncation"), std::string::npos);
  EXPECT_NE(tokenizer->warnings()[1].find("'b' is given the id 1"),
            std::string::npos);
}

} // namespace
