//===- Unicode.cpp - Properties of characters -----------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Tokenizer/Unicode.h"
#include "UnicodeTables.h"
#include "llvm/ADT/StringSwitch.h"

using namespace quench;
using namespace quench::unicode;

namespace {
#include "UnicodeData.inc"

/// Reads the numbers of a packed table.
class Unpacker {
public:
  explicit Unpacker(llvm::StringRef text) : text(text) {}

  bool atEnd() const { return at == text.size(); }

  uint32_t number() {
    uint32_t value = 0;
    for (unsigned shift = 0; at != text.size(); shift += 5) {
      unsigned low = digit(text[at++]);
      value |= (low & 31) << shift;
      if (!(low & 32))
        break;
    }
    return value;
  }

  uint32_t signedFrom(uint32_t base) {
    uint32_t value = number();
    return value & 1 ? base - (value + 1) / 2 : base + value / 2;
  }

private:
  static unsigned digit(char c) {
    if (c >= 'A' && c <= 'Z')
      return c - 'A';
    if (c >= 'a' && c <= 'z')
      return c - 'a' + 26;
    if (c >= '0' && c <= '9')
      return c - '0' + 52;
    return c == '+' ? 62 : 63;
  }

  llvm::StringRef text;
  size_t at = 0;
};

constexpr uint32_t limit = 0x110000;

/// One byte for each code point.
struct ByteTable {
  std::vector<uint8_t> values = std::vector<uint8_t>(limit, 0);

  void fill(uint32_t first, uint32_t count, uint8_t value) {
    for (uint32_t i = first; i < first + count && i < limit; ++i)
      values[i] = value;
  }
};

ByteTable unpackCategories() {
  ByteTable table;
  Unpacker in(CategoryRuns);
  for (uint32_t code = 0; !in.atEnd();) {
    uint32_t count = in.number();
    table.fill(code, count, in.number());
    code += count;
  }
  return table;
}

ByteTable unpackRecent() {
  ByteTable table;
  Unpacker in(RecentRuns);
  bool inside = false;
  for (uint32_t code = 0; !in.atEnd(); inside = !inside) {
    uint32_t count = in.number();
    table.fill(code, count, inside);
    code += count;
  }
  return table;
}

ByteTable unpackClasses() {
  ByteTable table;
  Unpacker in(CombiningClasses);
  for (uint32_t code = 0; !in.atEnd();) {
    code += in.number();
    uint32_t count = in.number();
    table.fill(code, count, in.number());
    code += count;
  }
  return table;
}

std::vector<uint32_t> unpackTarget(Unpacker &in, uint32_t code,
                                   uint32_t count) {
  std::vector<uint32_t> target;
  for (uint32_t i = 0; i < count; ++i)
    target.push_back(code = in.signedFrom(code));
  return target;
}

using LowerTable = llvm::DenseMap<uint32_t, std::vector<uint32_t>>;

const LowerTable &lowerTable() {
  static const LowerTable table = [] {
    LowerTable table;
    Unpacker in(LowerCase);
    for (uint32_t code = 0; !in.atEnd();) {
      code += in.number();
      uint32_t count = in.number();
      table[code] = unpackTarget(in, code, count);
    }
    return table;
  }();
  return table;
}

/// The character that stands for all its case variants.
uint32_t fold(uint32_t code) {
  switch (code) {
  case 0x17F: // long s
    return 's';
  case 0x3C2: // final sigma
    return 0x3C3;
  case 0xB5: // micro sign
    return 0x3BC;
  default:
    break;
  }
  auto found = lowerTable().find(code);
  if (found == lowerTable().end() || found->second.size() != 1)
    return code;
  return found->second.front();
}

} // namespace

Category unicode::category(uint32_t code) {
  static const ByteTable table = unpackCategories();
  return code < limit ? Category(table.values[code]) : Cn;
}

bool unicode::isInOld(uint32_t code, CategorySet set) {
  static const ByteTable recent = unpackRecent();
  return isIn(code, set) && !(code < limit && recent.values[code]);
}

uint8_t unicode::combiningClass(uint32_t code) {
  static const ByteTable table = unpackClasses();
  return code < limit ? table.values[code] : 0;
}

const DecompositionTable &unicode::decompositions() {
  static const DecompositionTable table = [] {
    DecompositionTable table;
    Unpacker in(::Decompositions);
    for (uint32_t code = 0; !in.atEnd();) {
      code += in.number();
      uint32_t head = in.number();
      Decomposition &entry = table.entries[code];
      entry.compatible = head & 2;
      entry.target = unpackTarget(in, code, head / 4);
      if (head & 1)
        table.pairs[{entry.target.front(), entry.target.back()}] = code;
    }
    return table;
  }();
  return table;
}

bool unicode::isSpace(uint32_t code) {
  return code == ' ' || (code >= 9 && code <= 13) || code == 0x85 ||
         (code >= 0xA0 && isIn(code, separators));
}

bool unicode::isWord(uint32_t code) {
  auto within = [code](uint32_t first, uint32_t last) {
    return code >= first && code <= last;
  };
  return isIn(code, letters | marks | bit(Nd) | bit(Nl) | bit(Pc)) ||
         within(0x24B6, 0x24E9) || within(0x1F130, 0x1F149) ||
         within(0x1F150, 0x1F169) || within(0x1F170, 0x1F189);
}

CategorySet unicode::categoryByName(llvm::StringRef name) {
  static const char names[] = "CnCcCfCoCsLlLmLoLtLuMcMeMnNdNl"
                              "NoPcPdPePfPiPoPsScSkSmSoZlZpZs";
  if (name.size() == 2)
    for (unsigned i = 0; i < 30; ++i)
      if (name == llvm::StringRef(names + 2 * i, 2))
        return 1u << i;
  return llvm::StringSwitch<CategorySet>(name)
      .Cases({"L", "Letter"}, letters)
      .Cases({"M", "Mark"}, marks)
      .Cases({"N", "Number"}, numbers)
      .Cases({"P", "Punctuation"}, punctuation)
      .Cases({"S", "Symbol"}, symbols)
      .Cases({"Z", "Separator"}, separators)
      .Cases({"C", "Other"}, others)
      .Case("L&", bit(Ll) | bit(Lt) | bit(Lu))
      .Case("Any", ~0u >> 2)
      .Default(0);
}

std::vector<uint32_t> unicode::caseVariants(uint32_t code) {
  uint32_t folded = fold(code);
  std::vector<uint32_t> variants = {code};
  auto add = [&](uint32_t candidate) {
    if (candidate != code && fold(candidate) == folded)
      variants.push_back(candidate);
  };
  add(folded);
  for (uint32_t candidate : {0x17F, 0x3C2, 0xB5})
    if (candidate != folded)
      add(candidate);
  for (const auto &entry : lowerTable())
    if (entry.first != folded)
      add(entry.first);
  return variants;
}

void unicode::append(std::string &out, uint32_t code) {
  if (code < 0x80) {
    out += char(code);
  } else if (code < 0x800) {
    out += char(0xC0 | (code >> 6));
    out += char(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    out += char(0xE0 | (code >> 12));
    out += char(0x80 | ((code >> 6) & 0x3F));
    out += char(0x80 | (code & 0x3F));
  } else {
    out += char(0xF0 | (code >> 18));
    out += char(0x80 | ((code >> 12) & 0x3F));
    out += char(0x80 | ((code >> 6) & 0x3F));
    out += char(0x80 | (code & 0x3F));
  }
}

/// What a first byte says: how many bytes follow and the range of the second.
/// `follow` is 0 for a byte that cannot begin a longer sequence.
static void classifyLead(uint8_t lead, unsigned &follow, uint8_t &low,
                         uint8_t &high) {
  low = 0x80;
  high = 0xBF;
  follow = lead >= 0xC2 && lead <= 0xDF   ? 1
           : lead >= 0xE0 && lead <= 0xEF ? 2
           : lead >= 0xF0 && lead <= 0xF4 ? 3
                                          : 0;
  if (lead == 0xE0)
    low = 0xA0;
  else if (lead == 0xED)
    high = 0x9F;
  else if (lead == 0xF0)
    low = 0x90;
  else if (lead == 0xF4)
    high = 0x8F;
}

uint32_t unicode::decode(llvm::StringRef text, size_t &at) {
  uint8_t lead = text[at++];
  if (lead < 0x80)
    return lead;
  unsigned follow;
  uint8_t low, high;
  classifyLead(lead, follow, low, high);
  if (!follow)
    return 0xFFFD;
  uint32_t code = lead & (0x3F >> follow);
  for (unsigned i = 0; i < follow; ++i) {
    if (at == text.size() || uint8_t(text[at]) < low ||
        uint8_t(text[at]) > high)
      return 0xFFFD;
    code = code << 6 | (uint8_t(text[at++]) & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return code;
}

std::vector<uint32_t> unicode::codePoints(llvm::StringRef text) {
  std::vector<uint32_t> codes;
  codes.reserve(text.size());
  for (size_t at = 0; at < text.size();)
    codes.push_back(decode(text, at));
  return codes;
}

size_t unicode::incompleteTail(llvm::StringRef text) {
  for (size_t length = 1; length <= 3 && length <= text.size(); ++length) {
    llvm::StringRef tail = text.take_back(length);
    if ((uint8_t(tail[0]) & 0xC0) == 0x80)
      continue;
    unsigned follow;
    uint8_t low, high;
    classifyLead(tail[0], follow, low, high);
    bool open =
        follow >= length &&
        (length < 2 || (uint8_t(tail[1]) >= low && uint8_t(tail[1]) <= high));
    return open ? length : 0;
  }
  return 0;
}

bool unicode::isValid(llvm::StringRef text) {
  for (size_t at = 0; at < text.size();) {
    size_t start = at;
    if (decode(text, at) == 0xFFFD && text.slice(start, at) != "\xEF\xBF\xBD")
      return false;
  }
  return true;
}

std::string unicode::repair(llvm::StringRef text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();)
    append(out, decode(text, at));
  return out;
}

size_t unicode::leadingSpace(llvm::StringRef text) {
  size_t at = 0;
  while (at < text.size()) {
    size_t next = at;
    if (!isSpace(decode(text, next)))
      break;
    at = next;
  }
  return at;
}

size_t unicode::trailingSpace(llvm::StringRef text) {
  size_t end = text.size();
  while (end) {
    size_t start = end - 1;
    while (start && (uint8_t(text[start]) & 0xC0) == 0x80)
      --start;
    size_t at = start;
    if (!isSpace(decode(text, at)) || at != end)
      break;
    end = start;
  }
  return text.size() - end;
}

std::string unicode::toLower(llvm::StringRef text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    uint32_t code = decode(text, at);
    if (code < 0x80) {
      out += char(code >= 'A' && code <= 'Z' ? code + 32 : code);
      continue;
    }
    auto found = lowerTable().find(code);
    if (found == lowerTable().end()) {
      append(out, code);
      continue;
    }
    for (uint32_t lower : found->second)
      append(out, lower);
  }
  return out;
}
