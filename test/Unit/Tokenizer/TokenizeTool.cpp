//===- TokenizeTool.cpp - Encodes and decodes texts -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For the comparison with the package `tokenizers`. Each document of standard
// input is 8 bytes of length (little-endian) and a text. For each one:
//   encode FILE          the number of ids and the ids, without special ones
//   encode-special FILE  the same with special tokens
//   decode FILE          the text is a list of 32-bit ids; answers 8 bytes of
//                        length and the decoded text
//   decode-skip FILE     the same without special tokens
// Numbers of answers are 32-bit, little-endian. Decoding goes id by id and is
// checked against decoding at once.
//
//===----------------------------------------------------------------------===//

#include "quench/Tokenizer/Tokenizer.h"
#include "quench/Tokenizer/Unicode.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/EndianStream.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

using namespace quench;
using llvm::StringRef;

static int fail(const llvm::Twine &what) {
  llvm::errs() << "TokenizeTool: " << what << "\n";
  return 1;
}

static bool decodeDocument(const Tokenizer &tokenizer, StringRef document,
                           bool skip, std::string &text) {
  std::vector<int32_t> ids;
  for (size_t at = 0; at + 4 <= document.size(); at += 4)
    ids.push_back(llvm::support::endian::read32le(document.data() + at));
  StreamDecoder stream(tokenizer, skip);
  bool valid = true;
  auto take = [&](std::string part) {
    valid &= unicode::isValid(part);
    text += part;
  };
  for (int32_t id : ids)
    take(stream.push(id));
  take(stream.finish());
  return valid && text == tokenizer.decode(ids, skip);
}

int main(int argc, char **argv) {
  if (argc != 3)
    return fail("wants encode|encode-special|decode|decode-skip FILE");
  llvm::Expected<Tokenizer> tokenizer = Tokenizer::load(argv[2]);
  if (!tokenizer)
    return fail(llvm::toString(tokenizer.takeError()));
  auto input = llvm::MemoryBuffer::getSTDIN();
  if (!input)
    return fail("cannot read standard input");
  StringRef mode = argv[1], rest = (*input)->getBuffer();
  llvm::support::endian::Writer out(llvm::outs(), llvm::endianness::little);
  while (rest.size() >= 8) {
    uint64_t size = llvm::support::endian::read64le(rest.data());
    if (size > rest.size() - 8)
      return fail("a document is cut off");
    StringRef document = rest.substr(8, size);
    rest = rest.substr(8 + size);
    if (mode.starts_with("encode")) {
      std::vector<int32_t> ids =
          tokenizer->encode(document, mode == "encode-special");
      out.write<uint32_t>(ids.size());
      for (int32_t id : ids)
        out.write<int32_t>(id);
      continue;
    }
    std::string text;
    if (!decodeDocument(*tokenizer, document, mode == "decode-skip", text))
      return fail("decoding id by id gives another text than at once");
    out.write<uint64_t>(text.size());
    llvm::outs() << text;
  }
  return 0;
}
