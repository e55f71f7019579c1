//===- HostRegisters.h - Registers evaluated on the host --------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Runs the decode of a format byte by byte: the meaning of each operation of
// RegisterBuilder, and the oracle of what a backend makes of it.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_HOSTREGISTERS_H
#define QUENCH_QUANTIZATION_HOSTREGISTERS_H

#include "quench/Quantization/Registers.h"
#include <array>
#include <deque>

namespace quench {

using HostReg = std::array<uint8_t, 64>;
using HostFloatReg = std::array<float, 16>;

class HostRegisters : public RegisterBuilder {
public:
  /// Loads come from `block`, one row block that is not interleaved, and from
  /// the table of the weight; bytes past their ends read as 0xcc.
  explicit HostRegisters(llvm::ArrayRef<uint8_t> block,
                         llvm::ArrayRef<uint8_t> table = {})
      : block(block), table(table) {}
  /// What joinExponents takes: [columns][16].
  void setExponents(llvm::ArrayRef<uint8_t> symbols) { exponents = symbols; }

  static const HostReg &bytes(Reg reg) {
    return *static_cast<const HostReg *>(reg.handle);
  }
  static const HostFloatReg &floats(FloatReg reg) {
    return *static_cast<const HostFloatReg *>(reg.handle);
  }
  /// A register that holds `value`.
  Reg make(const HostReg &value);

  Reg load(int64_t offset) override;
  FloatReg loadFloats(int64_t offset, FloatKind kind) override;
  Reg field(Reg value, unsigned off, unsigned width, unsigned at) override;
  /// Bits above (hi:)lo are 0.
  Reg window(Reg lo, const Reg *hi, unsigned unit,
             llvm::ArrayRef<uint8_t> pos) override;
  Reg permute(Reg value, llvm::ArrayRef<uint8_t> index) override;
  Reg permute(Reg a, Reg b, llvm::ArrayRef<uint8_t> index) override;
  Reg lookup(llvm::ArrayRef<uint8_t> table, Reg index) override;
  Reg lookup(llvm::ArrayRef<Reg> table, Reg index) override;
  Reg loadTable(int64_t offset, unsigned entries) override;
  FloatReg loadTableFloats(int64_t offset, FloatKind kind) override;
  Reg gatherTable(int64_t offset, Reg index, unsigned stride) override;
  Reg add(Reg a, Reg b) override;
  Reg affine(Reg value, llvm::ArrayRef<uint8_t> rows,
             uint8_t constant) override;
  Reg bitXor(Reg a, Reg b) override;
  Reg bitOr(Reg a, Reg b) override;
  Reg bitAnd(Reg a, Reg b) override;
  Reg splat(uint32_t value) override;
  Reg addLanes(Reg a, Reg b, unsigned unit) override;
  Reg multiply(Reg a, Reg b, unsigned unit) override;
  Reg shiftRight(Reg value, unsigned by) override;
  Reg sumBytes(Reg value, unsigned factor) override;
  FloatReg toFloats(Reg value, unsigned column, float bias) override;
  FloatReg lookupFloats(llvm::ArrayRef<float> table, Reg index,
                        unsigned column) override;
  FloatReg minifloats(Reg value, unsigned column, Minifloat shape) override;
  FloatReg joinExponents(Reg value, unsigned column, Minifloat shape) override;
  FloatReg lookupFloats(FloatReg table, Reg index, unsigned column) override;
  FloatReg sumHalves(Reg value) override;

private:
  /// The lane of `unit` bits that begins at byte `at`.
  static uint32_t lane(const HostReg &reg, unsigned at, unsigned unit);
  static void setLane(HostReg &reg, unsigned at, unsigned unit, uint32_t value);
  static uint8_t byteAt(llvm::ArrayRef<uint8_t> bytes, int64_t offset) {
    return offset >= 0 && offset < static_cast<int64_t>(bytes.size())
               ? bytes[offset]
               : 0xcc;
  }
  FloatReg floatsAt(llvm::ArrayRef<uint8_t> bytes, int64_t offset,
                    FloatKind kind);

  llvm::ArrayRef<uint8_t> block, table, exponents;
  std::deque<HostReg> registers;
  std::deque<HostFloatReg> floatRegisters;
};

} // namespace quench

#endif // QUENCH_QUANTIZATION_HOSTREGISTERS_H
