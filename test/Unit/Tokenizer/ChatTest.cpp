//===- ChatTest.cpp - Tests of templates, stops and sampling --------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Tokenizer/ChatTemplate.h"
#include "quench/Tokenizer/Sampler.h"
#include "quench/Tokenizer/Unicode.h"
#include "gtest/gtest.h"
#include <cmath>

using namespace quench;
using llvm::StringRef;

namespace {

const ChatMessage systemMessage = {"system", "Be brief."};
const ChatMessage first = {"user", "Hi"}, answer = {"assistant", "Hello!"},
                  second = {"user", "Bye "};

std::string prompt(StringRef name, llvm::ArrayRef<ChatMessage> messages) {
  llvm::Expected<std::string> text = applyChatTemplate(name, messages);
  return text ? *text : "error: " + llvm::toString(text.takeError());
}

// Expected texts follow the templates that are published with the models.
TEST(ChatTemplate, Prompts) {
  EXPECT_EQ(prompt("chatml", {systemMessage, first, answer, second}),
            "<|im_start|>system\nBe brief.<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nHello!<|im_end|>\n"
            "<|im_start|>user\nBye <|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(prompt("smollm2", {first}),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
            "trained by Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>"
            "\n<|im_start|>assistant\n");
  EXPECT_EQ(prompt("smollm2", {systemMessage, first}),
            prompt("chatml", {systemMessage, first}));
  EXPECT_EQ(prompt("llama2", {systemMessage, first, answer, second}),
            "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello! </s>"
            "<s>[INST] Bye [/INST]");
  EXPECT_EQ(prompt("llama3", {systemMessage, first, answer, second}),
            "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(prompt("mistral", {systemMessage, first, answer, second}),
            " [INST] Be brief.\n\nHi [/INST] Hello!</s> [INST] Bye  [/INST]");
  EXPECT_EQ(prompt("zephyr", {systemMessage, first}),
            "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\n");
  EXPECT_EQ(prompt("gemma", {first, answer, second}),
            "<start_of_turn>user\nHi<end_of_turn>\n"
            "<start_of_turn>model\nHello!<end_of_turn>\n"
            "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n");
  EXPECT_EQ(prompt("phi3", {systemMessage, first}),
            "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n"
            "<|assistant|>\n");
  EXPECT_EQ(prompt("deepseek", {systemMessage, first}),
            "Be brief.<｜User｜>Hi<｜Assistant｜>");
  EXPECT_EQ(prompt("vicuna", {systemMessage, first, answer, second}),
            "Be brief. USER: Hi ASSISTANT: Hello!</s>USER: Bye  ASSISTANT:");
  EXPECT_EQ(prompt("alpaca", {first}),
            "Below is an instruction that describes a task. Write a response "
            "that appropriately completes the request.\n\n### Instruction:\nHi"
            "\n\n### Response:\n");
  EXPECT_EQ(prompt("raw", {answer}), "Hello!");
}

TEST(ChatTemplate, Errors) {
  std::string message = prompt("klingon", {first});
  for (const ChatTemplate &info : chatTemplates()) {
    EXPECT_NE(message.find(info.name.str()), std::string::npos);
    EXPECT_FALSE(info.help.empty());
  }
  EXPECT_NE(prompt("chatml", {}).find("without messages"), std::string::npos);
  EXPECT_NE(prompt("chatml", {{"tool", "x"}}).find("'tool'"),
            std::string::npos);
  EXPECT_NE(prompt("chatml", {first, systemMessage}).find("only the first"),
            std::string::npos);
  EXPECT_NE(prompt("chatml", {first, answer}).find("must be the user's"),
            std::string::npos);
}

TEST(ChatTemplate, IdsAndStops) {
  llvm::Expected<Tokenizer> tokenizer =
      Tokenizer::load(std::string(QUENCH_TOKENIZER_INPUTS) + "/llama2.json");
  ASSERT_TRUE(bool(tokenizer));
  llvm::Expected<std::vector<int32_t>> ids =
      encodeChat(*tokenizer, "llama2", {first});
  ASSERT_TRUE(bool(ids));
  EXPECT_EQ(*ids, tokenizer->encode("[INST] Hi [/INST]", true));
  EXPECT_EQ(ids->front(), 1);
  llvm::Expected<std::vector<int32_t>> stops = stopIds(*tokenizer, "phi3");
  ASSERT_TRUE(bool(stops));
  EXPECT_EQ(*stops, (std::vector<int32_t>{2, *tokenizer->idOf("<|end|>")}));
  llvm::Expected<std::vector<int32_t>> unknown = stopIds(*tokenizer, "x");
  EXPECT_FALSE(bool(unknown));
  llvm::consumeError(unknown.takeError());
}

TEST(StopStrings, HoldsBackBeginnings) {
  StopStrings stops({"</s>", "<|end|>"});
  EXPECT_EQ(stops.push("ab<"), "ab");
  EXPECT_EQ(stops.push("x</"), "<x");
  EXPECT_EQ(stops.push("s"), "");
  EXPECT_FALSE(stops.stopped());
  EXPECT_EQ(stops.push("> rest"), "");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.push("more"), "");
  EXPECT_EQ(stops.finish(), "");
  StopStrings other({"stop"});
  EXPECT_EQ(other.push("a sto"), "a ");
  EXPECT_EQ(other.finish(), "sto");
}

TEST(RandomNumbers, KnownSequence) {
  // Computed with whole numbers of Python from the definition; the first one
  // is the test vector of Rust's rand_xoshiro for the seed 0.
  RandomNumbers zero(0);
  for (uint64_t expected : {0x99ec5f36cb75f2b4u, 0xbf6e1f784956452au,
                            0x1a5f849d4933e6e0u, 0x6aa594f1262d2d2cu})
    EXPECT_EQ(zero.next(), expected);
  RandomNumbers other(42);
  EXPECT_EQ(other.next(), 0x15780b2e0c2ec716u);
}

int32_t draw(SamplerOptions options, llvm::ArrayRef<float> logits) {
  llvm::Expected<Sampler> sampler = Sampler::create(options);
  EXPECT_TRUE(bool(sampler));
  llvm::Expected<int32_t> id = sampler->next(logits);
  EXPECT_TRUE(bool(id));
  return *id;
}

std::vector<int> histogram(SamplerOptions options, llvm::ArrayRef<float> logits,
                           int count) {
  llvm::Expected<Sampler> sampler = Sampler::create(options);
  EXPECT_TRUE(bool(sampler));
  std::vector<int> counts(logits.size());
  for (int i = 0; i < count; ++i)
    ++counts[*sampler->next(logits)];
  return counts;
}

TEST(Sampler, LargestLogit) {
  SamplerOptions options;
  options.temperature = 0;
  EXPECT_EQ(draw(options, {1, 3, 3, 2}), 1);
  EXPECT_EQ(draw(options, {-INFINITY, -5}), 1);
  EXPECT_EQ(draw(options, {7}), 0);
}

TEST(Sampler, FollowsTheProbabilities) {
  const float logits[] = {0.5f, -1.0f, 2.0f, 1.0f, -INFINITY, 0.0f};
  const int count = 40000;
  for (double temperature : {0.5, 1.0, 2.0})
    for (double topP : {1.0, 0.9, 0.6}) {
      for (int topK : {0, 3}) {
        SamplerOptions options;
        options.temperature = temperature;
        options.topP = topP;
        options.topK = topK;
        options.seed = 11;
        std::vector<int> counts = histogram(options, logits, count);
        // By the definition, with std::exp.
        std::vector<std::pair<double, int>> best;
        for (int i = 0; i < 6; ++i)
          best.push_back({std::exp(logits[i] / temperature), i});
        std::sort(best.rbegin(), best.rend());
        if (topK)
          best.resize(topK);
        double total = 0, sum = 0, kept = 0;
        for (auto [weight, id] : best)
          total += weight;
        std::vector<double> expected(6);
        for (auto [weight, id] : best) {
          if (sum >= topP * total)
            break;
          sum += weight;
          expected[id] = weight;
          kept += weight;
        }
        for (int i = 0; i < 6; ++i) {
          double p = expected[i] / kept;
          double deviation = std::sqrt(count * p * (1 - p));
          EXPECT_NEAR(counts[i], count * p, 5 * deviation + 1e-9)
              << "T " << temperature << " p " << topP << " k " << topK;
        }
      }
    }
}

TEST(Sampler, SeedsDecide) {
  std::vector<float> logits(1000);
  for (int i = 0; i < 1000; ++i)
    logits[i] = float(i * 7919 % 1000) / 200;
  SamplerOptions options;
  options.topP = 0.95;
  options.seed = 5;
  std::vector<std::vector<int32_t>> runs;
  for (uint64_t seed : {5, 5, 6}) {
    options.seed = seed;
    llvm::Expected<Sampler> sampler = Sampler::create(options);
    ASSERT_TRUE(bool(sampler));
    std::vector<int32_t> run;
    for (int i = 0; i < 50; ++i)
      run.push_back(*sampler->next(logits));
    runs.push_back(run);
  }
  EXPECT_EQ(runs[0], runs[1]);
  EXPECT_NE(runs[0], runs[2]);
}

TEST(Sampler, Errors) {
  auto messageOf = [](double temperature, double topP, int64_t topK) {
    SamplerOptions options;
    options.temperature = temperature;
    options.topP = topP;
    options.topK = topK;
    llvm::Expected<Sampler> sampler = Sampler::create(options);
    return sampler ? "" : llvm::toString(sampler.takeError());
  };
  EXPECT_EQ(messageOf(0, 1, 0), "");
  EXPECT_NE(messageOf(-1, 1, 0).find("temperature -1"), std::string::npos);
  EXPECT_NE(messageOf(NAN, 1, 0), "");
  EXPECT_NE(messageOf(INFINITY, 1, 0), "");
  EXPECT_NE(messageOf(1, 0, 0).find("top-p 0"), std::string::npos);
  EXPECT_NE(messageOf(1, NAN, 0), "");
  EXPECT_NE(messageOf(1, 1, -1).find("top-k -1"), std::string::npos);

  llvm::Expected<Sampler> sampler = Sampler::create({});
  ASSERT_TRUE(bool(sampler));
  auto errorOf = [&](llvm::ArrayRef<float> logits) {
    llvm::Expected<int32_t> id = sampler->next(logits);
    return id ? "" : llvm::toString(id.takeError());
  };
  EXPECT_NE(errorOf({}).find("no logits"), std::string::npos);
  EXPECT_NE(errorOf({1, NAN, 2}).find("logit 1 is NaN"), std::string::npos);
  EXPECT_NE(errorOf({INFINITY}).find("+inf"), std::string::npos);
  EXPECT_NE(errorOf({-INFINITY, -INFINITY}).find("all 2"), std::string::npos);
  EXPECT_EQ(errorOf({3.4e38f, -3.4e38f}), "");
}

// The examples of Unicode Standard Annex 15, figures 3 to 6.
TEST(Unicode, NormalForms) {
  using unicode::Form;
  auto form = [](const char *text, Form form) {
    return unicode::normalize(text, form);
  };
  EXPECT_EQ(form("\u212B", Form::NFC), "\u00C5");
  EXPECT_EQ(form("\u212B", Form::NFD), "A\u030A");
  EXPECT_EQ(form("\u1E0B\u0323", Form::NFC), "\u1E0D\u0307");
  EXPECT_EQ(form("\u1E0B\u0323", Form::NFD), "d\u0323\u0307");
  EXPECT_EQ(form("q\u0307\u0323", Form::NFC), "q\u0323\u0307");
  EXPECT_EQ(form("\uFB01", Form::NFC), "\uFB01");
  EXPECT_EQ(form("\uFB01", Form::NFKC), "fi");
  EXPECT_EQ(form("2\u2075", Form::NFKD), "25");
  EXPECT_EQ(form("\u1E9B\u0323", Form::NFKC), "\u1E69");
  EXPECT_EQ(form("\u1E9B\u0323", Form::NFKD), "s\u0323\u0307");
  EXPECT_EQ(form("\u1112\u1161\u11AB", Form::NFC), "\uD55C");
  EXPECT_EQ(form("\uD55C", Form::NFD), "\u1112\u1161\u11AB");
}

TEST(Unicode, BrokenText) {
  EXPECT_TRUE(unicode::isValid("aé日👍\uFFFD"));
  for (const char *bad : {"\x80", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80",
                          "\xF4\x90\x80\x80", "\xF5", "\xE2\x82", "a\xFF"})
    EXPECT_FALSE(unicode::isValid(bad));
  EXPECT_EQ(unicode::repair("a\xE2\x82z\xF0\x9F\x91"), "a\uFFFDz\uFFFD");
  EXPECT_EQ(unicode::incompleteTail("a\xE2\x82"), 2u);
  EXPECT_EQ(unicode::incompleteTail("\xF0\x9F\x91"), 3u);
  EXPECT_EQ(unicode::incompleteTail("\xE0\x80"), 0u);
  EXPECT_EQ(unicode::incompleteTail("é"), 0u);
}

} // namespace
