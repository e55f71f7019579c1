//===- Texts.cpp - Texts and token ids from files -------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Tokenizer/Texts.h"
#include "quench/Support/HostTensor.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace quench;

Expected<Tokenizer> quench::openTokenizer(StringRef path, StringRef model,
                                          StringRef purpose) {
  SmallString<256> found(path);
  if (found.empty()) {
    found = sys::path::parent_path(model);
    sys::path::append(found, "tokenizer.json");
    if (!sys::fs::exists(found))
      return createStringError(purpose +
                               " needs --tokenizer FILE, a tokenizer.json; "
                               "there is no '" +
                               found + "'");
  }
  Expected<Tokenizer> tokenizer = Tokenizer::load(found);
  if (tokenizer)
    for (const std::string &warning : tokenizer->warnings())
      errs() << "warning: '" << found << "': " << warning << '\n';
  return tokenizer;
}

Expected<std::string> quench::readText(StringRef path) {
  ErrorOr<std::unique_ptr<MemoryBuffer>> buffer =
      MemoryBuffer::getFileOrSTDIN(path, /*IsText=*/false,
                                   /*RequiresNullTerminator=*/false);
  if (!buffer)
    return createFileError(path, buffer.getError());
  // Lines end in \n, whatever the file has: Python reads texts so, and a
  // perplexity is only comparable over the same tokens.
  std::string text;
  text.reserve((*buffer)->getBufferSize());
  StringRef bytes = (*buffer)->getBuffer();
  for (size_t i = 0; i != bytes.size(); ++i) {
    if (bytes[i] != '\r')
      text += bytes[i];
    else if (i + 1 == bytes.size() || bytes[i + 1] != '\n')
      text += '\n';
  }
  return text;
}

Expected<TokenRows> quench::readTokenIds(StringRef path) {
  Expected<HostTensor> tensor = HostTensor::loadNpy(path);
  if (!tensor)
    return tensor.takeError();
  if (isFloatKind(tensor->getKind()) || tensor->getKind() == ElementKind::I1 ||
      tensor->getRank() < 1 || tensor->getRank() > 2)
    return createStringError("'" + path + "': " + tensor->describe() +
                             " found; token ids are integers [n] or "
                             "[rows,n]");
  TokenRows result;
  int64_t columns = tensor->getShape().back();
  int64_t rows = tensor->getRank() == 2 ? tensor->dim(0) : 1;
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<int64_t> &row = result.rows.emplace_back();
    for (int64_t c = 0; c < columns; ++c)
      row.push_back(tensor->intAt(r * columns + c));
  }
  return result;
}

TokenRows quench::tokenize(const Tokenizer &tokenizer, StringRef text,
                           bool byLine) {
  SmallVector<StringRef> parts = {text};
  if (byLine) {
    parts.clear();
    text.split(parts, '\n');
    erase_if(parts, [](StringRef line) { return line.trim().empty(); });
  }
  TokenRows result;
  for (StringRef part : parts) {
    std::vector<int32_t> ids = tokenizer.encode(part);
    result.rows.emplace_back(ids.begin(), ids.end());
  }
  return result;
}

Expected<TokenRows> quench::readTokens(StringRef path, StringRef tokenizerPath,
                                       StringRef model) {
  if (path.ends_with_insensitive(".npy"))
    return readTokenIds(path);
  Expected<std::string> text = readText(path);
  if (!text)
    return text.takeError();
  Expected<Tokenizer> tokenizer =
      openTokenizer(tokenizerPath, model, "a text as --data");
  if (!tokenizer)
    return tokenizer.takeError();
  return tokenize(*tokenizer, *text, /*byLine=*/false);
}
