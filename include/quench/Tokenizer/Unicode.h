//===- Unicode.h - Properties of characters ---------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Categories, lower case and the four normal forms of Unicode, and UTF-8 to
// code points and back. The tables lie compressed in UnicodeData.inc and are
// unpacked at the first use.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOKENIZER_UNICODE_H
#define QUENCH_TOKENIZER_UNICODE_H

#include "llvm/ADT/StringRef.h"
#include <cstdint>
#include <string>
#include <vector>

namespace quench {
namespace unicode {

/// The general categories, in the order of the tables.
enum Category : uint8_t {
  Cn,
  Cc,
  Cf,
  Co,
  Cs,
  Ll,
  Lm,
  Lo,
  Lt,
  Lu,
  Mc,
  Me,
  Mn,
  Nd,
  Nl,
  No,
  Pc,
  Pd,
  Pe,
  Pf,
  Pi,
  Po,
  Ps,
  Sc,
  Sk,
  Sm,
  So,
  Zl,
  Zp,
  Zs
};

/// Sets of categories, one bit each.
using CategorySet = uint32_t;
constexpr CategorySet bit(Category category) { return 1u << category; }
constexpr CategorySet letters = bit(Ll) | bit(Lm) | bit(Lo) | bit(Lt) | bit(Lu);
constexpr CategorySet marks = bit(Mc) | bit(Me) | bit(Mn);
constexpr CategorySet numbers = bit(Nd) | bit(Nl) | bit(No);
constexpr CategorySet punctuation =
    bit(Pc) | bit(Pd) | bit(Pe) | bit(Pf) | bit(Pi) | bit(Po) | bit(Ps);
constexpr CategorySet symbols = bit(Sc) | bit(Sk) | bit(Sm) | bit(So);
constexpr CategorySet separators = bit(Zl) | bit(Zp) | bit(Zs);
constexpr CategorySet others = bit(Cn) | bit(Cc) | bit(Cf) | bit(Co) | bit(Cs);

/// The category of a code point; Cn for what is beyond U+10FFFF.
Category category(uint32_t code);

inline bool isIn(uint32_t code, CategorySet set) {
  return (set >> category(code)) & 1;
}

/// The same for tables of Unicode 8: characters that came later are in no set.
/// The normalizer and the punctuation of BERT use them.
bool isInOld(uint32_t code, CategorySet set);

/// The property White_Space.
bool isSpace(uint32_t code);

/// What \w matches: letters, marks, decimal digits, letter numbers, connectors
/// and circled letters.
bool isWord(uint32_t code);

/// A category or group of categories by its short name ("L", "Lu", "P", "L&",
/// "Any"); 0 when there is none of that name.
CategorySet categoryByName(llvm::StringRef name);

/// All characters whose simple lower case is that of `code`, `code` included.
std::vector<uint32_t> caseVariants(uint32_t code);

/// Appends the UTF-8 form of a code point.
void append(std::string &out, uint32_t code);

/// Decodes the character at `text[at]` and moves `at` behind it. A broken
/// sequence gives U+FFFD and moves behind its longest valid beginning.
uint32_t decode(llvm::StringRef text, size_t &at);

/// The code points of a text.
std::vector<uint32_t> codePoints(llvm::StringRef text);

/// True if every sequence in the text is complete and valid.
bool isValid(llvm::StringRef text);

/// The text with every broken sequence replaced by U+FFFD.
std::string repair(llvm::StringRef text);

/// How many bytes at the end of `text` may be the beginning of a character
/// that is not complete yet (0 to 3).
size_t incompleteTail(llvm::StringRef text);

/// The number of leading or trailing bytes that are white space.
size_t leadingSpace(llvm::StringRef text);
size_t trailingSpace(llvm::StringRef text);

/// Full lower case of each character, without regard to its neighbours.
std::string toLower(llvm::StringRef text);

enum class Form { NFC, NFD, NFKC, NFKD };

/// One of the normal forms of Unicode Standard Annex 15.
std::string normalize(llvm::StringRef text, Form form);

} // namespace unicode
} // namespace quench

#endif // QUENCH_TOKENIZER_UNICODE_H
