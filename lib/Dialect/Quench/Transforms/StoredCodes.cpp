//===- StoredCodes.cpp - Codes that a model brings ------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StoredCodes.h"
#include "quench/Quantization/Half.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>

using namespace quench;
using llvm::Expected;

/// Scales that models bring may be negative.
static uint16_t signedHalf(float scale) {
  return scaleToHalf(std::fabs(scale)) | (std::signbit(scale) ? 0x8000 : 0);
}

/// Scales fit a half, and (`exact`) become the same number.
static bool scalesFit(const AssembledWeight &w, bool exact) {
  return llvm::all_of(w.scales, [&](float scale) {
    return std::isfinite(scale) &&
           (!exact || halfToFloat(signedHalf(scale)) == scale);
  });
}

/// The format of a weight whose levels are a table: one that is known, or one
/// that has the table in its name.
static std::optional<StoredCodes> keepTable(const AssembledWeight &w,
                                            bool exact) {
  if (!scalesFit(w, exact))
    return std::nullopt;
  std::string group = "group = " + std::to_string(w.group) + ">";
  std::string levels = "levels<";
  for (float level : w.table)
    llvm::raw_string_ostream(levels) << llvm::format("%.9g, ", level);
  GroupParams one{0x3c00, 0};
  for (std::string name :
       {std::string("nf4<"), std::string("bnb-fp4<"), levels}) {
    Expected<const Format *> format = getFormat(name + group);
    if (!format) {
      llvm::consumeError(format.takeError());
      continue;
    }
    // The code of each level; a second zero has that of the first.
    uint32_t codes[16];
    bool holds = true;
    for (int i = 0; i < 16; ++i) {
      float level;
      codes[i] = (*format)->nearest(&w.table[i], one);
      (*format)->decode(codes[i], one, &level);
      holds &= level == w.table[i];
    }
    if (!holds)
      continue;
    StoredCodes stored;
    stored.format = *format;
    for (float level : w.levels)
      stored.codes.push_back(
          codes[llvm::find(w.table, level) - w.table.begin()]);
    for (float scale : w.scales)
      stored.params.push_back({signedHalf(scale), 0});
    return stored;
  }
  return std::nullopt;
}

std::optional<StoredCodes> quench::keepCodes(const AssembledWeight &w,
                                             bool exact) {
  if (!w.table.empty())
    return keepTable(w, exact);
  float low = 0, high = 0;
  for (float level : w.levels) {
    if (level != std::floor(level))
      return std::nullopt;
    low = std::min(low, level);
    high = std::max(high, level);
  }
  if (!scalesFit(w, exact))
    return std::nullopt;
  std::string group =
      w.groups > 1 ? ", group = " + std::to_string(w.group) : "";
  std::string spec;
  int64_t offset = 0; // the code of level 0, or -1: each group's zero point
  if (low >= -1 && high <= 1) {
    spec =
        "ternary<2, group = " + std::to_string(w.groups > 1 ? w.group : 128) +
        ">";
    offset = 1;
  } else {
    for (int64_t bits : {2, 3, 4, 8})
      if (!offset && low >= -(1 << (bits - 1)) && high < 1 << (bits - 1) &&
          bits <= int64_t(w.bits)) {
        spec = "int<" + std::to_string(bits) + group + ">";
        offset = 1 << (bits - 1);
      }
    if (!offset) {
      // Zero points lie beside the scales of groups: there is one in any case.
      spec = "int<" + std::to_string(w.bits) +
             ", group = " + std::to_string(w.groups > 1 ? w.group : 128) +
             ", zero>";
      offset = -1;
    }
  }
  Expected<const Format *> format = getFormat(spec);
  if (!format) {
    llvm::consumeError(format.takeError());
    return std::nullopt;
  }
  StoredCodes stored;
  stored.format = *format;
  int64_t span = (*format)->group() ? (*format)->group() : w.cols;
  int64_t groups = (*format)->groupsPerRow(w.cols);
  stored.codes.resize(w.rows * w.cols);
  stored.params.resize(w.rows * groups);
  for (int64_t r = 0; r != w.rows; ++r)
    for (int64_t g = 0; g != groups; ++g) {
      int64_t from = r * w.groups + std::min(g * span / w.group, w.groups - 1);
      GroupParams &params = stored.params[r * groups + g];
      params.scale = signedHalf(w.scales[from]);
      params.zero = offset < 0 ? static_cast<uint8_t>(w.zeros[from]) : 0;
      int64_t zero = offset < 0 ? params.zero : offset;
      for (int64_t c = g * span; c != std::min((g + 1) * span, w.cols); ++c)
        stored.codes[r * w.cols + c] =
            static_cast<uint8_t>(w.levels[r * w.cols + c] + zero);
    }
  return stored;
}
