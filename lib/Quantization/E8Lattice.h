//===- E8Lattice.h - Codebooks of the E8 lattice ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Two sets of vectors of 8 numbers.
//
// E8P, a 16-bit code: the high byte names one of 256 rows of magnitudes 1/2,
// 3/2, 5/2; the low byte holds the signs of coordinates 0, 2, 4, 6, 1, 3, 5, 7
// (bit 0 first). A row of odd sum stands for its pattern with coordinate 7
// negated. The parity of the sign bits says whether 1/4 is added (even) or
// subtracted (odd) everywhere; odd signs are made even by flipping bit 0.
//
// The 29 rows of norm 12 are the published ones in their order, with pattern
// 145 in place of the one that the published table holds twice.
//
// The ball, an 8-bit code: 0, the 240 shortest vectors of the lattice, and all
// but one of the 16 vectors with a single coordinate +-2.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_E8LATTICE_H
#define QUENCH_LIB_QUANTIZATION_E8LATTICE_H

#include <cstdint>

namespace quench {

class E8P {
public:
  static constexpr int kRows = 256, kLanes = 8;
  static const E8P &get();

  /// The nearest code to 8 numbers, with 1/4 added (shift 0) or subtracted (1);
  /// `distance` is the squared distance.
  uint32_t nearest(const float *x, unsigned shift, float &distance) const;
  /// The vector of a code, in quarters: odd numbers from -11 to 11.
  void decode(uint32_t code, int *quarters) const;

  /// For a decode by lookups: coordinates 0..3 and 4..7 of each row's
  /// magnitudes e (of e + 1/2) as 2-bit fields.
  const uint8_t *lowFields() const { return low; }
  const uint8_t *highFields() const { return high; }
  /// The bit of each coordinate's sign.
  static constexpr unsigned kSignBit[8] = {0, 4, 1, 5, 2, 6, 3, 7};

private:
  E8P();
  void place(int at, int r);
  struct Candidate;
  template <bool Flip>
  void bestRow(const float *y, int begin, int end, Candidate &best) const;

  uint8_t magnitude[kRows][8]; // e of e + 1/2
  bool odd[kRows];
  uint8_t low[kRows] = {}, high[kRows] = {};
  /// The rows of even sum, then those of odd sum, by coordinate: what the
  /// search for the nearest codeword walks over. Either part is filled up to
  /// whole vectors with copies of its last row.
  float sorted[8][kRows + 2 * kLanes];
  float halfNorm[kRows + 2 * kLanes];
  uint8_t row[kRows + 2 * kLanes];
  int oddBegin = 0, end = 0;
};

class E8Ball {
public:
  static const E8Ball &get();
  /// The nearest code to 8 numbers; `distance` as in E8P.
  uint32_t nearest(const float *x, float &distance) const;
  /// Twice coordinate j of a code: 0, +-1, +-2 or +-4.
  int twice(uint32_t code, int j) const { return points[code][j]; }

private:
  E8Ball();
  int8_t points[256][8];
  float columns[8][256], halfNorm[256];
};

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_E8LATTICE_H
