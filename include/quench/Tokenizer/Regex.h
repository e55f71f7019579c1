//===- Regex.h - Regular expressions of tokenizers --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The part of Oniguruma's (Ruby's) syntax that the splitting patterns of
// tokenizers use: literals, escapes, classes with \p{..}, \s, \d, \w, groups,
// (?i:...), alternation, greedy, lazy and possessive quantifiers, lookahead,
// atomic groups and simple anchors. Lookbehind, back references, set
// operations and scripts are refused when the pattern is compiled.
//
// Matching backtracks, so that the first alternative that fits wins, but
// remembers dead ends once a match becomes long: a hostile pattern costs at
// most (size of the pattern) x (length of the text) for each start.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOKENIZER_REGEX_H
#define QUENCH_TOKENIZER_REGEX_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <memory>
#include <utility>
#include <vector>

namespace quench {

struct RegexProgram;

/// Half-open range of bytes [first, second).
using ByteRange = std::pair<size_t, size_t>;

class Regex {
public:
  /// Compiles a pattern. The error names the place and what is not supported.
  static llvm::Expected<Regex> compile(llvm::StringRef pattern);

  /// A pattern that matches exactly this text.
  static Regex literal(llvm::StringRef text);

  /// All matches from left to right, without overlaps. An empty match right
  /// behind the match before it is left out. `text` must be valid UTF-8.
  std::vector<ByteRange> findAll(llvm::StringRef text) const;

private:
  std::shared_ptr<const RegexProgram> program;
};

} // namespace quench

#endif // QUENCH_TOKENIZER_REGEX_H
