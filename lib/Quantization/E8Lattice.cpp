//===- E8Lattice.cpp - Codebooks of the E8 lattice -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "E8Lattice.h"
#include <algorithm>
#include <cmath>

using namespace quench;

//===----------------------------------------------------------------------===//
// E8P
//===----------------------------------------------------------------------===//

/// The three coordinates that are 1/2 in the rows of norm 12.
static const char kNorm12[] = "123023013012367357347356346345267257247256246245"
                              "167157147156146045067057047"
                              "056046145237";

const E8P &E8P::get() {
  static const E8P codebook;
  return codebook;
}

E8P::E8P() {
  int count = 0;
  for (int pattern = 0; pattern < 6561; ++pattern) { // lexicographic
    int norm = 8;                                    // 4 * |row|^2
    for (int j = 7, rest = pattern; j >= 0; --j, rest /= 3) {
      magnitude[count][j] = rest % 3;
      norm += 4 * (rest % 3) * (rest % 3 + 1);
    }
    if (norm <= 40)
      ++count;
  }
  for (const char *half = kNorm12; *half; half += 3, ++count) {
    std::fill(magnitude[count], magnitude[count] + 8, 1);
    for (int i = 0; i < 3; ++i)
      magnitude[count][half[i] - '0'] = 0;
  }
  for (int r = 0; r < kRows; ++r) {
    int sum = 0;
    for (uint8_t e : magnitude[r])
      sum += e;
    odd[r] = sum & 1;
  }
  for (int part = 0; part < 2; ++part) {
    if (part == 1)
      oddBegin = end;
    for (int r = 0; r < kRows; ++r)
      if (odd[r] == (part == 1))
        place(end++, r);
    for (; end % kLanes != 0; ++end)
      place(end, row[end - 1]);
  }
  for (int r = 0; r < kRows; ++r)
    for (int j = 0; j < 4; ++j) {
      low[r] |= magnitude[r][j] << (2 * j);
      high[r] |= magnitude[r][4 + j] << (2 * j);
    }
}

void E8P::place(int at, int r) {
  row[at] = r;
  halfNorm[at] = 0;
  for (int j = 0; j < 8; ++j) {
    float value = magnitude[r][j] + 0.5f;
    sorted[j][at] = value;
    halfNorm[at] += 0.5f * value * value;
  }
}

void E8P::decode(uint32_t code, int *quarters) const {
  unsigned row = code >> 8 & 0xff, signs = code & 0xff;
  unsigned parity = __builtin_parity(signs);
  signs ^= parity;
  for (int j = 0; j < 8; ++j) {
    bool negative = signs >> kSignBit[j] & 1;
    if (j == 7)
      negative ^= odd[row];
    int value = 4 * magnitude[row][j] + 2;
    quarters[j] = (negative ? -value : value) + (parity ? -1 : 1);
  }
}

/// The best row for one of the two shifts: its score, v.y - |v|^2 / 2.
struct E8P::Candidate {
  float score;
  int at;
};

/// The best of the rows in [begin, end). The signs of a codeword of these rows
/// either can all agree with y's, or (`Flip`) one must not: the one that costs
/// least.
template <bool Flip>
void E8P::bestRow(const float *y, int begin, int end, Candidate &best) const {
  float most[kLanes];
  int at[kLanes];
  std::fill(most, most + kLanes, -1e30f);
  std::fill(at, at + kLanes, begin);
  for (int first = begin; first < end; first += kLanes) {
    float sum[kLanes], least[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      least[lane] = sum[lane] = sorted[0][first + lane] * y[0];
      sum[lane] -= halfNorm[first + lane];
    }
    for (int j = 1; j < 8; ++j)
      for (int lane = 0; lane < kLanes; ++lane) {
        float product = sorted[j][first + lane] * y[j];
        sum[lane] += product;
        if (Flip)
          least[lane] = product < least[lane] ? product : least[lane];
      }
    for (int lane = 0; lane < kLanes; ++lane) {
      float score = Flip ? sum[lane] - 2.0f * least[lane] : sum[lane];
      at[lane] = score > most[lane] ? first : at[lane];
      most[lane] = score > most[lane] ? score : most[lane];
    }
  }
  for (int lane = 0; lane < kLanes; ++lane)
    if (most[lane] > best.score)
      best = {most[lane], at[lane] + lane};
}

uint32_t E8P::nearest(const float *x, unsigned shift, float &distance) const {
  float y[8], square = 0;
  unsigned negative = 0; // by coordinate
  for (int j = 0; j < 8; ++j) {
    float value = x[j] + (shift ? 0.25f : -0.25f);
    negative |= unsigned(value < 0) << j;
    y[j] = std::fabs(value);
    square += value * value;
  }
  bool isOdd = __builtin_parity(negative);
  Candidate best{-1e30f, 0};
  if (isOdd) {
    bestRow<true>(y, 0, oddBegin, best);
    bestRow<false>(y, oddBegin, end, best);
  } else {
    bestRow<false>(y, 0, oddBegin, best);
    bestRow<true>(y, oddBegin, end, best);
  }
  distance = square - 2 * best.score;
  unsigned found = row[best.at];
  if (odd[found] != isOdd) {
    int flip = 0;
    for (int j = 1; j < 8; ++j)
      if (sorted[j][best.at] * y[j] < sorted[flip][best.at] * y[flip])
        flip = j;
    negative ^= 1u << flip;
  }
  if (odd[found])
    negative ^= 1u << 7;
  unsigned signs = shift; // odd signs mean - 1/4
  for (int j = 0; j < 8; ++j)
    signs ^= (negative >> j & 1) << kSignBit[j];
  return found << 8 | signs;
}

//===----------------------------------------------------------------------===//
// The ball
//===----------------------------------------------------------------------===//

const E8Ball &E8Ball::get() {
  static const E8Ball codebook;
  return codebook;
}

E8Ball::E8Ball() : points{} {
  // All halves: the signs of coordinates 0 to 6 are free, the last one makes
  // their number even.
  int count = 0;
  for (; count < 128; ++count)
    for (int j = 0; j < 8; ++j) {
      bool negative = j < 7 ? count >> j & 1 : __builtin_parity(count);
      points[count][j] = negative ? -1 : 1;
    }
  ++count; // zero
  for (int i = 0; i < 8; ++i)
    for (int j = i + 1; j < 8; ++j)
      for (int signs = 0; signs < 4; ++signs, ++count) {
        points[count][i] = signs & 1 ? -2 : 2;
        points[count][j] = signs & 2 ? -2 : 2;
      }
  for (int i = 0; count < 256; ++i, ++count)
    points[count][i / 2] = i % 2 ? -4 : 4;
  for (int code = 0; code < 256; ++code) {
    halfNorm[code] = 0;
    for (int j = 0; j < 8; ++j) {
      float value = 0.5f * points[code][j];
      columns[j][code] = value;
      halfNorm[code] += 0.5f * value * value;
    }
  }
}

uint32_t E8Ball::nearest(const float *x, float &distance) const {
  float score[256];
  for (int code = 0; code < 256; ++code)
    score[code] = -halfNorm[code];
  for (int j = 0; j < 8; ++j)
    for (int code = 0; code < 256; ++code)
      score[code] += columns[j][code] * x[j];
  uint32_t best = std::max_element(score, score + 256) - score;
  distance = -2 * score[best];
  for (int j = 0; j < 8; ++j)
    distance += x[j] * x[j];
  return best;
}
