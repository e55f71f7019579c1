//===- ChatTemplate.h - Prompts of chat models ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// How a conversation is written down for a model that was trained on one of
// the known forms, and where its answer ends.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOKENIZER_CHATTEMPLATE_H
#define QUENCH_TOKENIZER_CHATTEMPLATE_H

#include "quench/Tokenizer/Tokenizer.h"

namespace quench {

/// One message. Roles are "system" (the first message only), "user" and
/// "assistant".
struct ChatMessage {
  std::string role;
  std::string content;
};

struct ChatTemplate {
  llvm::StringRef name;
  /// One line for a list of the templates.
  llvm::StringRef help;
  /// The token every prompt begins with; empty if there is none.
  llvm::StringRef first;
  /// Texts that end the answer; most of them are special tokens.
  std::vector<llvm::StringRef> stops;
};

/// All templates, in the order in which they are to be listed.
llvm::ArrayRef<ChatTemplate> chatTemplates();

/// The template of this name; the error lists the names.
llvm::Expected<const ChatTemplate *> findChatTemplate(llvm::StringRef name);

/// The prompt of a conversation, which ends where the assistant's answer
/// begins. The token `first` is left out, because most tokenizers add it. The
/// last message must be the user's, unless the template is "raw".
llvm::Expected<std::string>
applyChatTemplate(llvm::StringRef name, llvm::ArrayRef<ChatMessage> messages);

/// The ids of the prompt, with what the tokenizer adds before a text, with
/// `first` if the tokenizer has it but does not add it, and without what the
/// tokenizer adds behind a text.
llvm::Expected<std::vector<int32_t>>
encodeChat(const Tokenizer &tokenizer, llvm::StringRef name,
           llvm::ArrayRef<ChatMessage> messages);

/// The ids that end a text: the known tokens of that meaning which the
/// tokenizer has, and the template's (none for an empty name). Ascending.
llvm::Expected<std::vector<int32_t>> stopIds(const Tokenizer &tokenizer,
                                             llvm::StringRef name = "");

/// Finds texts that end an answer in a text that comes in parts.
class StopStrings {
public:
  explicit StopStrings(llvm::ArrayRef<llvm::StringRef> stops);

  /// The text that certainly comes before any stop. A part that may be the
  /// beginning of a stop is held back.
  std::string push(llvm::StringRef part);
  /// What was held back, once the text is over.
  std::string finish();
  /// True once a stop was found; nothing more is returned then.
  bool stopped() const { return isStopped; }

private:
  std::vector<std::string> stops;
  std::string held;
  bool isStopped = false;
};

} // namespace quench

#endif // QUENCH_TOKENIZER_CHATTEMPLATE_H
