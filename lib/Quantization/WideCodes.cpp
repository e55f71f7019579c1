//===- WideCodes.cpp - Indices of more than a byte ------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "WideCodes.h"
#include "quench/Quantization/Layout.h"
#include <numeric>

using namespace quench;

int64_t WideCodes::count() const { return 32 / std::gcd(32u, bits); }

llvm::SmallVector<Reg, 32> WideCodes::load(RegisterBuilder &builder,
                                           int64_t offset) const {
  llvm::SmallVector<Reg, 16> lines;
  for (int64_t at = 0; at < bytes(); at += 64)
    lines.push_back(builder.load(offset + at));
  llvm::SmallVector<Reg, 32> indices;
  for (int64_t i = 0; i < count(); ++i) {
    // The word with the index: a line, or four bytes of each string.
    int64_t first = i * bits;
    Reg word = lines[0];
    if (laneBits() != 32) {
      llvm::SmallVector<int64_t, 64> places;
      for (int64_t lane = 0; lane < 16; ++lane)
        for (int64_t byte = 0; byte < 4; ++byte)
          places.push_back((lane * laneBits() / 8 + first / 8 + byte) %
                           bytes());
      word = permuteLines(builder, lines, places);
      first %= 8;
    }
    if (first)
      word = builder.shiftRight(word, first);
    if (first + bits < 32)
      word = builder.bitAnd(word, builder.splat((1u << bits) - 1));
    indices.push_back(word);
  }
  return indices;
}
