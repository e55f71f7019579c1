//===- TrellisCode.h - Values of trellis states -----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tile of 16 x 16 weights is a circular string of 256 k bits, bit i being bit
// i mod 8 of byte i / 8. The window of weight t = 16 row + column is the 16
// bits from bit k t on; the value of the weight depends on stateBits bits of
// it.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_TRELLISCODE_H
#define QUENCH_LIB_QUANTIZATION_TRELLISCODE_H

#include "quench/Quantization/Registers.h"
#include "llvm/ADT/StringRef.h"
#include <map>
#include <memory>
#include <vector>

namespace quench {

constexpr int64_t kTileSide = 16, kTileSize = kTileSide * kTileSide;

/// The windows of a tile of k-bit codes, from registers whose 32-bit lane r
/// holds bits 32 j .. 32 j + 31 of row r (and of the rows after it) for j = 0,
/// 1, ...
class TrellisWindows {
public:
  TrellisWindows(RegisterBuilder &builder, unsigned k, std::vector<Reg> words)
      : builder(builder), k(k), words(std::move(words)) {}
  /// The 8 bits from bit `at` (0 or 8) of the windows of columns 4 quad ..
  /// 4 quad + 3.
  Reg bytes(unsigned quad, unsigned at);
  /// The windows of columns 4 quad + column and + column + 2, in 16-bit lanes.
  Reg pair(unsigned quad, unsigned column);
  /// The window of column 4 quad + column, in 32-bit lanes.
  Reg single(unsigned quad, unsigned column);

  RegisterBuilder &builder;

private:
  /// Bits `first` .. `first` + count - 1 of each row lie in one register, from
  /// the returned bit on: one of `words`, or the halves of two.
  unsigned find(unsigned first, unsigned count, Reg &word);
  /// Bytes of each lane: the 8 bits from these bits of the row on, ascending.
  Reg bits(std::array<unsigned, 4> from);

  unsigned k;
  std::vector<Reg> words;
  std::map<unsigned, Reg> known, halves;
  /// Words (by their handle) without some of their low bits.
  std::map<std::pair<const void *, unsigned>, Reg> shifted;
};

class TrellisCode {
public:
  virtual ~TrellisCode();
  unsigned stateBits() const { return bits; }
  /// The state is (window >> offset()) mod 2^stateBits.
  unsigned offset() const { return shift; }
  /// The levels are integers from -128 to 127; else halves.
  virtual bool isInteger() const { return true; }
  /// What a level is worth at scale 1.
  float unit() const { return isInteger() ? 1.0f / 32 : 1.0f; }
  /// The levels of the states.
  llvm::ArrayRef<float> levels() const { return values; }
  float rms() const;
  /// rms of Gaussian weights over that of the levels for the least error.
  virtual double bestScale(unsigned k) const;
  /// The levels plus 128 of columns 4 quad .. 4 quad + 3, if they are integers.
  virtual Reg decode(TrellisWindows &windows, unsigned quad) const = 0;
  /// The levels of column 4 quad + column, if they are none.
  virtual FloatReg decodeFloats(TrellisWindows &windows, unsigned quad,
                                unsigned column) const;

protected:
  TrellisCode(unsigned bits, unsigned shift)
      : bits(bits), shift(shift), values(size_t(1) << bits) {}
  unsigned bits, shift;
  std::vector<float> values;
};

/// The codes: lin8, lin10, lin12, lin14, lin16, 1mad, 3inst, hyb.
llvm::ArrayRef<llvm::StringRef> trellisCodeNames();
/// One of them for k bits a weight.
std::unique_ptr<TrellisCode> makeTrellisCode(llvm::StringRef name, unsigned k);

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_TRELLISCODE_H
