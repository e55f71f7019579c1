//===- ChatTemplate.cpp - Prompts of chat models --------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Tokenizer/ChatTemplate.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include <algorithm>

using namespace quench;
using llvm::ArrayRef;
using llvm::Expected;
using llvm::StringRef;

namespace {

/// The text around a message.
struct Frame {
  StringRef before, behind;
};

struct Form {
  ChatTemplate info;
  Frame system, user, assistant;
  /// Where the answer begins.
  StringRef open;
  /// The system message of a conversation that has none.
  StringRef defaultSystem = "";
  /// The system message stands at the beginning of the first user message.
  bool systemInUser = false;
  /// White space around contents is removed.
  bool trims = false;
  /// Contents follow each other as they are.
  bool isRaw = false;
};

Form chatml(StringRef name, StringRef help, StringRef defaultSystem) {
  return {{name, help, "", {"<|im_end|>", "<|endoftext|>"}},
          {"<|im_start|>system\n", "<|im_end|>\n"},
          {"<|im_start|>user\n", "<|im_end|>\n"},
          {"<|im_start|>assistant\n", "<|im_end|>\n"},
          "<|im_start|>assistant\n",
          defaultSystem};
}

std::vector<Form> makeForms() {
  std::vector<Form> forms;
  forms.push_back(
      chatml("chatml", "<|im_start|>role ... <|im_end|>; many models", ""));
  forms.push_back(chatml("smollm2",
                         "SmolLM2: chatml with its own system message",
                         "You are a helpful AI assistant named SmolLM, trained "
                         "by Hugging Face"));
  forms.push_back(chatml("qwen", "Qwen 2.5: chatml with its own system message",
                         "You are Qwen, created by Alibaba Cloud. You are a "
                         "helpful assistant."));
  forms.push_back(chatml("qwen3", "Qwen 3: chatml", ""));

  Form llama2 = {
      {"llama2", "Llama 2: [INST] <<SYS>> ... [/INST]", "<s>", {"</s>"}},
      {"<<SYS>>\n", "\n<</SYS>>\n\n"},
      {"<s>[INST] ", " [/INST]"},
      {" ", " </s>"},
      ""};
  llama2.systemInUser = llama2.trims = true;
  forms.push_back(llama2);

  Form llama3 = {
      {"llama3",
       "Llama 3 and later: <|start_header_id|>role",
       "<|begin_of_text|>",
       {"<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"}},
      {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"},
      {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},
      {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"},
      "<|start_header_id|>assistant<|end_header_id|>\n\n"};
  llama3.trims = true;
  forms.push_back(llama3);

  Form mistral = {
      {"mistral", "Mistral 7B, Mixtral: [INST] ... [/INST]", "<s>", {"</s>"}},
      {"", "\n\n"},
      {" [INST] ", " [/INST]"},
      {" ", "</s>"},
      ""};
  mistral.systemInUser = true;
  forms.push_back(mistral);

  forms.push_back({{"zephyr",
                    "Zephyr, TinyLlama chat: <|user|> ... </s>",
                    "",
                    {"</s>", "<|user|>", "<|system|>"}},
                   {"<|system|>\n", "</s>\n"},
                   {"<|user|>\n", "</s>\n"},
                   {"<|assistant|>\n", "</s>\n"},
                   "<|assistant|>\n"});

  Form gemma = {{"gemma",
                 "Gemma: <start_of_turn>role ... <end_of_turn>",
                 "<bos>",
                 {"<end_of_turn>", "<eos>"}},
                {"", "\n\n"},
                {"<start_of_turn>user\n", "<end_of_turn>\n"},
                {"<start_of_turn>model\n", "<end_of_turn>\n"},
                "<start_of_turn>model\n"};
  gemma.systemInUser = gemma.trims = true;
  forms.push_back(gemma);

  forms.push_back({{"phi3",
                    "Phi 3: <|user|> ... <|end|>",
                    "",
                    {"<|end|>", "<|endoftext|>"}},
                   {"<|system|>\n", "<|end|>\n"},
                   {"<|user|>\n", "<|end|>\n"},
                   {"<|assistant|>\n", "<|end|>\n"},
                   "<|assistant|>\n"});
  forms.push_back({{"phi4",
                    "Phi 4: <|im_start|>role<|im_sep|> ...",
                    "",
                    {"<|im_end|>", "<|endoftext|>"}},
                   {"<|im_start|>system<|im_sep|>", "<|im_end|>"},
                   {"<|im_start|>user<|im_sep|>", "<|im_end|>"},
                   {"<|im_start|>assistant<|im_sep|>", "<|im_end|>"},
                   "<|im_start|>assistant<|im_sep|>"});
  forms.push_back({{"deepseek",
                    "DeepSeek V3 and R1: <｜User｜> ...",
                    "<｜begin▁of▁sentence｜>",
                    {"<｜end▁of▁sentence｜>", "<｜User｜>"}},
                   {"", ""},
                   {"<｜User｜>", ""},
                   {"<｜Assistant｜>", "<｜end▁of▁sentence｜>"},
                   "<｜Assistant｜>"});
  forms.push_back(
      {{"vicuna", "Vicuna: USER: ... ASSISTANT: ...", "<s>", {"</s>", "USER:"}},
       {"", " "},
       {"USER: ", " "},
       {"ASSISTANT: ", "</s>"},
       "ASSISTANT:",
       "A chat between a curious user and an artificial intelligence "
       "assistant. The assistant gives helpful, detailed, and polite answers "
       "to the user's questions."});
  forms.push_back(
      {{"alpaca",
        "Alpaca: ### Instruction: ... ### Response: ...",
        "",
        {"</s>", "### Instruction:"}},
       {"", "\n\n"},
       {"### Instruction:\n", "\n\n"},
       {"### Response:\n", "\n\n"},
       "### Response:\n",
       "Below is an instruction that describes a task. Write a response that "
       "appropriately completes the request."});

  Form raw = {{"raw", "the texts as they are", "", {}}, {}, {}, {}, ""};
  raw.isRaw = true;
  forms.push_back(raw);
  return forms;
}

const std::vector<Form> &allForms() {
  static const std::vector<Form> forms = makeForms();
  return forms;
}

Expected<const Form *> findForm(StringRef name) {
  std::string names;
  for (const Form &form : allForms()) {
    if (form.info.name == name)
      return &form;
    names += (names.empty() ? "" : ", ") + form.info.name.str();
  }
  return llvm::createStringError("unknown chat template '" + name +
                                 "' (known: " + names + ")");
}

llvm::Error checkMessages(const Form &form, ArrayRef<ChatMessage> messages) {
  if (messages.empty())
    return llvm::createStringError("a chat without messages");
  for (size_t i = 0; i < messages.size(); ++i) {
    StringRef role = messages[i].role;
    if (role != "system" && role != "user" && role != "assistant")
      return llvm::createStringError("message " + llvm::Twine(i + 1) +
                                     " has the role '" + role +
                                     "' (accepted: system, user, assistant)");
    if (role == "system" && i && !form.isRaw)
      return llvm::createStringError("message " + llvm::Twine(i + 1) +
                                     " is a system message; only the first "
                                     "one may be");
  }
  if (messages.back().role != "user" && !form.isRaw)
    return llvm::createStringError("the last message is of the role '" +
                                   messages.back().role +
                                   "', it must be the user's");
  return llvm::Error::success();
}

std::string framed(const Frame &frame, StringRef content) {
  return (frame.before + content + frame.behind).str();
}

} // namespace

ArrayRef<ChatTemplate> quench::chatTemplates() {
  static const std::vector<ChatTemplate> infos = [] {
    std::vector<ChatTemplate> infos;
    for (const Form &form : allForms())
      infos.push_back(form.info);
    return infos;
  }();
  return infos;
}

Expected<const ChatTemplate *> quench::findChatTemplate(StringRef name) {
  Expected<const Form *> form = findForm(name);
  if (!form)
    return form.takeError();
  return &(*form)->info;
}

Expected<std::string>
quench::applyChatTemplate(StringRef name, ArrayRef<ChatMessage> messages) {
  Expected<const Form *> found = findForm(name);
  if (!found)
    return found.takeError();
  const Form &form = **found;
  if (llvm::Error error = checkMessages(form, messages))
    return std::move(error);

  std::string text, pending;
  auto addSystem = [&](StringRef content) {
    (form.systemInUser ? pending : text) += framed(form.system, content);
  };
  if (messages.front().role != "system" && !form.defaultSystem.empty())
    addSystem(form.defaultSystem);
  for (const ChatMessage &message : messages) {
    StringRef content = message.content;
    if (form.trims)
      content = content.trim();
    if (message.role == "system") {
      addSystem(content);
    } else if (message.role == "user") {
      text += framed(form.user, pending + content.str());
      pending.clear();
    } else {
      text += framed(form.assistant, content);
    }
  }
  text += form.open;
  if (StringRef rest = text; rest.consume_front(form.info.first))
    return rest.str();
  return text;
}

Expected<std::vector<int32_t>>
quench::encodeChat(const Tokenizer &tokenizer, StringRef name,
                   ArrayRef<ChatMessage> messages) {
  Expected<const ChatTemplate *> form = findChatTemplate(name);
  if (!form)
    return form.takeError();
  Expected<std::string> text = applyChatTemplate(name, messages);
  if (!text)
    return text.takeError();
  std::vector<int32_t> ids = tokenizer.encode(*text, false);
  std::vector<int32_t> whole = tokenizer.encode(*text, true);
  auto place = std::search(whole.begin(), whole.end(), ids.begin(), ids.end());
  std::vector<int32_t> before(whole.begin(), place);
  std::optional<int32_t> first;
  if (!(*form)->first.empty())
    first = tokenizer.idOf((*form)->first);
  if (first && !llvm::is_contained(before, *first))
    before.push_back(*first);
  ids.insert(ids.begin(), before.begin(), before.end());
  return ids;
}

Expected<std::vector<int32_t>> quench::stopIds(const Tokenizer &tokenizer,
                                               StringRef name) {
  std::vector<StringRef> tokens = {"</s>",
                                   "<eos>",
                                   "<|endoftext|>",
                                   "<|im_end|>",
                                   "<|eot_id|>",
                                   "<|end_of_text|>",
                                   "<|eom_id|>",
                                   "<end_of_turn>",
                                   "<|end|>",
                                   "<|EOT|>",
                                   "<|eot|>",
                                   "<|end_of_turn|>",
                                   "<|return|>",
                                   "<|end_of_role|>",
                                   "<|END_OF_TURN_TOKEN|>",
                                   "<｜end▁of▁sentence｜>"};
  if (!name.empty()) {
    Expected<const ChatTemplate *> form = findChatTemplate(name);
    if (!form)
      return form.takeError();
    tokens.insert(tokens.end(), (*form)->stops.begin(), (*form)->stops.end());
  }
  std::vector<int32_t> ids;
  for (StringRef token : tokens)
    if (std::optional<int32_t> id = tokenizer.idOf(token))
      ids.push_back(*id);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

StopStrings::StopStrings(ArrayRef<StringRef> texts) {
  for (StringRef text : texts)
    if (!text.empty())
      stops.push_back(text.str());
}

std::string StopStrings::push(StringRef part) {
  if (isStopped)
    return "";
  held += part;
  size_t found = std::string::npos;
  for (const std::string &stop : stops)
    found = std::min(found, held.find(stop));
  if (found != std::string::npos) {
    isStopped = true;
    held.resize(found);
    return std::exchange(held, "");
  }
  // The longest end of the text that begins a stop.
  size_t open = 0;
  for (StringRef stop : stops)
    for (size_t length = std::min(stop.size() - 1, held.size()); length > open;
         --length)
      if (StringRef(held).ends_with(stop.take_front(length)))
        open = length;
  std::string text = held.substr(0, held.size() - open);
  held.erase(0, text.size());
  return text;
}

std::string StopStrings::finish() { return std::exchange(held, ""); }
