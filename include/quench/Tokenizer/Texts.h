//===- Texts.h - Texts and token ids from files --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOKENIZER_TEXTS_H
#define QUENCH_TOKENIZER_TEXTS_H

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

/// The integers of an .npy file [n] or [rows, n] as rows.
llvm::Expected<TokenRows> readTokenIds(llvm::StringRef path);
/// The tokens of a text: all of it as one row, or a row for each line that is
/// not empty.
TokenRows tokenize(const Tokenizer &tokenizer, llvm::StringRef text,
                   bool byLine);

/// Reads token ids: the integers of an .npy file, each row of a matrix by
/// itself, or the tokens of a text file.
llvm::Expected<TokenRows> readTokens(llvm::StringRef path,
                                     llvm::StringRef tokenizer,
                                     llvm::StringRef model);

} // namespace quench

#endif // QUENCH_TOKENIZER_TEXTS_H
