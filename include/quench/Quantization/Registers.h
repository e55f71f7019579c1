//===- Registers.h - Register-level building blocks of a decode -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A format writes its decode once, against this interface. Two classes
// implement it: one evaluates it on the host, byte by byte (the unit tests
// compare it with the format's scalar decode), one emits ops of the qk dialect.
// No MLIR is known here.
//
// A register holds 64 bytes: 16 rows by 4 columns, lane 4 * row + column.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_REGISTERS_H
#define QUENCH_QUANTIZATION_REGISTERS_H

#include "quench/Quantization/Scales.h"
#include "llvm/ADT/ArrayRef.h"
#include <cstdint>

namespace quench {

/// Rows of a row block: the 32-bit lanes of a 512-bit register.
constexpr int64_t kBlockRows = 16;
/// Row blocks that one pass of a kernel interleaves.
constexpr int64_t kPassBlocks = 2;
/// Rows of a pass; the number of rows of a packed weight is padded to it.
constexpr int64_t kPassRows = kBlockRows * kPassBlocks;
/// Streams of a row block in which exponents are coded (Tail.h): lanes wait for
/// their own bits, so that two of them fill the time.
constexpr int64_t kCodedStreams = 2;

/// 64 bytes, an opaque handle.
struct Reg {
  const void *handle = nullptr;
};
/// 16 floats, one for each row, an opaque handle.
struct FloatReg {
  const void *handle = nullptr;
};

enum class FloatKind { F16, BF16, F32 };

class RegisterBuilder {
public:
  virtual ~RegisterBuilder();

  /// 64 bytes from byte `offset` of the current block (before row blocks are
  /// interleaved; bytes past the block's end are unspecified).
  virtual Reg load(int64_t offset) = 0;
  /// 16 values of `kind` from byte `offset` of the current block, widened.
  virtual FloatReg loadFloats(int64_t offset, FloatKind kind) = 0;

  /// qk.field: bits [off, off + width) of each byte, at bit `at`; others 0.
  virtual Reg field(Reg value, unsigned off, unsigned width, unsigned at) = 0;
  /// qk.window: for each lane of `unit` bits (32 or 64) of `lo`, byte n of the
  /// result is the 8 bits from bit pos[n] on, n < unit / 8; the lane is
  /// extended by `hi` if given.
  virtual Reg window(Reg lo, const Reg *hi, unsigned unit,
                     llvm::ArrayRef<uint8_t> pos) = 0;
  /// Bytes of `value` at the 64 places of `index` (a constant byte
  /// permutation).
  virtual Reg permute(Reg value, llvm::ArrayRef<uint8_t> index) = 0;
  /// The same from `a` (places 0 to 63) and `b` (64 to 127).
  virtual Reg permute(Reg a, Reg b, llvm::ArrayRef<uint8_t> index) = 0;
  /// qk.lookup: table[index mod size]; 16, 32, 64, 128 or 256 entries.
  virtual Reg lookup(llvm::ArrayRef<uint8_t> table, Reg index) = 0;
  /// The same in 64, 128 or 256 bytes that lie in 1, 2 or 4 registers.
  virtual Reg lookup(llvm::ArrayRef<Reg> table, Reg index) = 0;
  /// 64 bytes from byte `offset` of the weight's table (Format::tableBytes());
  /// with `entries` = 16 or 32 that many bytes, repeated.
  virtual Reg loadTable(int64_t offset, unsigned entries = 64) = 0;
  /// 16 values of `kind` of the weight's table, widened.
  virtual FloatReg loadTableFloats(int64_t offset, FloatKind kind) = 0;
  /// For each 32-bit lane the four bytes from byte offset + stride * lane of
  /// the weight's table on; both are multiples of 4.
  virtual Reg gatherTable(int64_t offset, Reg index, unsigned stride) = 0;
  /// Sums of bytes; they wrap.
  virtual Reg add(Reg a, Reg b) = 0;
  /// qk.affine: for each byte over GF(2), bit n = parity(rows[n] & byte) xor
  /// bit n of `constant`.
  virtual Reg affine(Reg value, llvm::ArrayRef<uint8_t> rows,
                     uint8_t constant) = 0;
  virtual Reg bitXor(Reg a, Reg b) = 0;
  virtual Reg bitOr(Reg a, Reg b) = 0;
  virtual Reg bitAnd(Reg a, Reg b) = 0;

  /// The same 32-bit lane 16 times.
  virtual Reg splat(uint32_t value) = 0;
  /// Sums and products of lanes of `unit` bits (16 or 32); they wrap.
  virtual Reg addLanes(Reg a, Reg b, unsigned unit) = 0;
  virtual Reg multiply(Reg a, Reg b, unsigned unit) = 0;
  /// 32-bit lanes, as unsigned numbers.
  virtual Reg shiftRight(Reg value, unsigned by) = 0;
  /// For each 32-bit lane the sum of its unsigned bytes times `factor` (at most
  /// 127).
  virtual Reg sumBytes(Reg value, unsigned factor) = 0;

  /// Column `column` (0..3) of a register of unsigned bytes as 16 floats, less
  /// `bias`.
  virtual FloatReg toFloats(Reg value, unsigned column, float bias) = 0;
  /// The same through a table of 16 floats (high index bits are ignored).
  virtual FloatReg lookupFloats(llvm::ArrayRef<float> table, Reg index,
                                unsigned column) = 0;
  /// The same in a register of 16 floats.
  virtual FloatReg lookupFloats(FloatReg table, Reg index, unsigned column) = 0;
  /// Column `column` as 16 floats of `shape` (Minifloat::decode): the low bits
  /// of each byte count.
  virtual FloatReg minifloats(Reg value, unsigned column, Minifloat shape) = 0;
  /// Column `column` as 16 floats of `shape`: the high bit of a byte is the
  /// sign, the mantissa follows (the rest is 0), and the exponents are the next
  /// ones of the row block's coded fields (Format::codedField()). So columns
  /// must be asked for in order, each once.
  virtual FloatReg joinExponents(Reg value, unsigned column,
                                 Minifloat shape) = 0;
  /// For each 32-bit lane the sum of the two halves (IEEE) that it holds,
  /// rounded to a half, widened.
  virtual FloatReg sumHalves(Reg value) = 0;
};

/// What a decode hands to an integer dot product: unsigned bytes
/// (w + bias) << shift, each at most `hi`, to be multiplied with the
/// activations at positions 4 * quad .. 4 * quad + 3 of the step's (reordered)
/// columns.
struct Plane {
  Reg value;
  unsigned quad = 0;
  unsigned shift = 0;
  unsigned hi = 255;
};

/// What a decode hands to a float FMA: the weights (without scale) of 16 rows
/// at position `column` of the step's (reordered) columns.
struct FloatPlane {
  FloatReg value;
  unsigned column = 0;
};

} // namespace quench

#endif // QUENCH_QUANTIZATION_REGISTERS_H
