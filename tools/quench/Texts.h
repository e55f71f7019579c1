//===- Texts.h - Texts and token ids from files --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOOLS_QUENCH_TEXTS_H
#define QUENCH_TOOLS_QUENCH_TEXTS_H

#include "quench/Tokenizer/Tokenizer.h"

namespace quench {

/// The tokenizer at `path`, or if that is empty, tokenizer.json in the folder
/// of the model. Its warnings go to standard error. `purpose` ("a prompt of
/// text") is for the message if there is none.
llvm::Expected<Tokenizer> openTokenizer(llvm::StringRef path,
                                        llvm::StringRef model,
                                        llvm::StringRef purpose);

/// The contents of a text file, its lines ending in \n; "-" is standard input.
llvm::Expected<std::string> readText(llvm::StringRef path);

/// Token ids, whose windows do not reach over the ends of rows.
struct TokenRows {
  std::vector<std::vector<int64_t>> rows;
};

/// Reads token ids: the integers of an .npy file, each row of a matrix by
/// itself, or the tokens of a text file.
llvm::Expected<TokenRows> readTokens(llvm::StringRef path,
                                     llvm::StringRef tokenizer,
                                     llvm::StringRef model);

} // namespace quench

#endif // QUENCH_TOOLS_QUENCH_TEXTS_H
