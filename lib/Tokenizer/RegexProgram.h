//===- RegexProgram.h - Compiled regular expressions ------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_TOKENIZER_REGEXPROGRAM_H
#define QUENCH_LIB_TOKENIZER_REGEXPROGRAM_H

#include "quench/Tokenizer/Unicode.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Error.h"
#include <vector>

namespace quench {

/// A set of characters: the union of its items, perhaps negated.
struct CharSet {
  struct Item {
    enum Kind { Range, Categories, Space, Word } kind = Range;
    bool negated = false;
    uint32_t first = 0, last = 0;
    unicode::CategorySet categories = 0;

    bool has(uint32_t code) const;
  };

  std::vector<Item> items;
  bool negated = false;
  uint64_t ascii[2] = {0, 0};

  bool slowHas(uint32_t code) const;
  bool has(uint32_t code) const {
    return code < 128 ? (ascii[code >> 6] >> (code & 63)) & 1 : slowHas(code);
  }
  void addRange(uint32_t first, uint32_t last);
  /// Fills the table of the ASCII characters; call when all items are there.
  void seal();
};

/// One instruction of the matcher.
struct RegexStep {
  enum Kind : uint8_t {
    Char,       // the character `a`
    Set,        // a character of set `a`
    Loop,       // `min` to `max` characters of set `a`, as many as possible
    LoopLocked, // the same, never giving one back
    Split,      // goes on at `a`, and at `b` if that fails
    Jump,       // goes on at `a`
    Look,       // steps up to `a` must match here; nothing is consumed
    LookNot,    // steps up to `a` must not match here
    Atomic,     // steps up to `a`, whose first match is final
    LineStart,
    LineEnd,
    TextStart,
    TextEnd,
    WordBorder,
    NoWordBorder,
    Done
  } kind;
  uint32_t a = 0, b = 0;
  uint32_t min = 0, max = 0;
};

struct RegexProgram {
  std::vector<RegexStep> steps;
  std::vector<CharSet> sets;
};

/// Word characters as Oniguruma has them: some Latin-1 numbers are among them.
bool isRegexWord(uint32_t code);

llvm::Expected<RegexProgram> compileRegex(llvm::StringRef pattern);

} // namespace quench

#endif // QUENCH_LIB_TOKENIZER_REGEXPROGRAM_H
