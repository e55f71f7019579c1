//===- UnicodeNormalize.cpp - Normal forms of Unicode ---------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "UnicodeTables.h"
#include "quench/Tokenizer/Unicode.h"
#include <algorithm>

using namespace quench;
using namespace quench::unicode;

namespace {

// Hangul syllables are composed by arithmetic (chapter 3.12 of the standard).
constexpr uint32_t firstSyllable = 0xAC00, firstLead = 0x1100,
                   firstVowel = 0x1161, firstTail = 0x11A7, leads = 19,
                   vowels = 21, tails = 28, syllables = leads * vowels * tails;

void decompose(uint32_t code, bool compatible, std::vector<uint32_t> &out) {
  if (code >= firstSyllable && code < firstSyllable + syllables) {
    uint32_t index = code - firstSyllable;
    out.push_back(firstLead + index / (vowels * tails));
    out.push_back(firstVowel + index % (vowels * tails) / tails);
    if (index % tails)
      out.push_back(firstTail + index % tails);
    return;
  }
  const DecompositionTable &table = decompositions();
  auto found = table.entries.find(code);
  if (code < 0xA0 || found == table.entries.end() ||
      (found->second.compatible && !compatible)) {
    out.push_back(code);
    return;
  }
  for (uint32_t part : found->second.target)
    decompose(part, compatible, out);
}

/// Brings runs of marks into the order of their classes.
void reorder(std::vector<uint32_t> &codes) {
  for (size_t first = 0; first < codes.size();) {
    if (!combiningClass(codes[first])) {
      ++first;
      continue;
    }
    size_t last = first;
    while (last < codes.size() && combiningClass(codes[last]))
      ++last;
    // The place in the low half keeps the order of equal classes.
    std::vector<std::pair<uint64_t, uint32_t>> run;
    for (size_t i = first; i < last; ++i)
      run.push_back({uint64_t(combiningClass(codes[i])) << 32 | i, codes[i]});
    std::sort(run.begin(), run.end());
    for (size_t i = first; i < last; ++i)
      codes[i] = run[i - first].second;
    first = last;
  }
}

/// The character two characters compose to, or 0.
uint32_t composePair(uint32_t first, uint32_t second) {
  if (first >= firstLead && first < firstLead + leads && second >= firstVowel &&
      second < firstVowel + vowels)
    return firstSyllable +
           ((first - firstLead) * vowels + second - firstVowel) * tails;
  if (first >= firstSyllable && first < firstSyllable + syllables &&
      (first - firstSyllable) % tails == 0 && second > firstTail &&
      second < firstTail + tails)
    return first + second - firstTail;
  const DecompositionTable &table = decompositions();
  auto found = table.pairs.find({first, second});
  return found == table.pairs.end() ? 0 : found->second;
}

std::vector<uint32_t> compose(const std::vector<uint32_t> &codes) {
  std::vector<uint32_t> out;
  size_t starter = 0;
  bool haveStarter = false;
  for (uint32_t code : codes) {
    uint8_t order = combiningClass(code);
    if (haveStarter) {
      bool adjacent = out.size() == starter + 1;
      uint8_t before = adjacent ? 0 : combiningClass(out.back());
      bool blocked = !adjacent && before >= order;
      if (!blocked)
        if (uint32_t composed = composePair(out[starter], code)) {
          out[starter] = composed;
          continue;
        }
    }
    if (!order) {
      starter = out.size();
      haveStarter = true;
    }
    out.push_back(code);
  }
  return out;
}

} // namespace

std::string unicode::normalize(llvm::StringRef text, Form form) {
  auto isAscii = [](char c) { return uint8_t(c) < 0x80; };
  if (std::all_of(text.begin(), text.end(), isAscii))
    return text.str();
  bool compatible = form == Form::NFKC || form == Form::NFKD;
  std::vector<uint32_t> codes;
  codes.reserve(text.size());
  for (size_t at = 0; at < text.size();)
    decompose(decode(text, at), compatible, codes);
  reorder(codes);
  if (form == Form::NFC || form == Form::NFKC)
    codes = compose(codes);
  std::string out;
  out.reserve(text.size());
  for (uint32_t code : codes)
    append(out, code);
  return out;
}
