//===- RegisterBuilder.h - Decodes become qk ops ----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_KERNELS_REGISTERBUILDER_H
#define QUENCH_LIB_KERNELS_REGISTERBUILDER_H

#include "Emitter.h"
#include "Exponents.h"
#include "quench/Quantization/Format.h"
#include <deque>
#include <map>

namespace quench {

/// Collects what a step loads, to fetch its successor: in one place and in the
/// order of memory, whatever the order of the loads.
class FetchAhead {
public:
  FetchAhead(Emitter &emitter, mlir::Value memref, mlir::Value base,
             bool enabled)
      : e(emitter), memref(memref), base(base), enabled(enabled) {}
  void add(int64_t offset) { offsets.push_back(offset); }
  void emit();

private:
  Emitter &e;
  mlir::Value memref, base;
  bool enabled;
  llvm::SmallVector<int64_t, 32> offsets;
};

/// Emits the ops of a decode: loads come from row block `half` of the block at
/// byte `base` of `memref`, those of the weight's table from byte `table` on.
/// `exponents`: where joinExponents finds them.
class QKRegisterBuilder : public RegisterBuilder {
public:
  QKRegisterBuilder(Emitter &emitter, const BlockLayout &layout,
                    mlir::Value memref, mlir::Value base, mlir::Value table,
                    int64_t half, FetchAhead *fetchAhead = nullptr,
                    ExponentStreams *exponents = nullptr);

  Reg load(int64_t offset) override;
  FloatReg loadFloats(int64_t offset, FloatKind kind) override;
  Reg field(Reg value, unsigned off, unsigned width, unsigned at) override;
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
  FloatReg lookupFloats(FloatReg table, Reg index, unsigned column) override;
  FloatReg minifloats(Reg value, unsigned column, Minifloat shape) override;
  FloatReg joinExponents(Reg value, unsigned column, Minifloat shape) override;
  FloatReg sumHalves(Reg value) override;

  static mlir::Value value(Reg reg);
  static mlir::Value value(FloatReg reg);

private:
  mlir::Value address(int64_t offset, bool newLine);
  /// A line of the row blocks of a pass, from byte `at` on: 64 bytes, or two
  /// halves of lines that passes share.
  mlir::Value passLine(mlir::Value at, const Part &part);
  mlir::Value column(Reg value, unsigned column, bool clean);
  mlir::Value lanes(Reg value, unsigned unit);
  FloatReg floatsAt(mlir::Value at, FloatKind kind);
  mlir::Value gatherEntries(int64_t offset, mlir::Value index, unsigned stride,
                            mlir::VectorType type);

  Emitter &e;
  const BlockLayout &layout;
  mlir::Value memref, base, table;
  /// By offset and index: what has been gathered along with its neighbour.
  std::map<std::pair<int64_t, const void *>, Reg> gathered;
  int64_t half;
  FetchAhead *fetchAhead;
  ExponentStreams *exponents;
};

/// Emits nothing; remembers which registers are plain loads.
class ProbeRegisterBuilder : public RegisterBuilder {
public:
  Reg load(int64_t offset) override;
  FloatReg loadFloats(int64_t offset, FloatKind kind) override;
  Reg field(Reg, unsigned, unsigned, unsigned) override { return made(); }
  Reg window(Reg, const Reg *, unsigned, llvm::ArrayRef<uint8_t>) override {
    return made();
  }
  Reg permute(Reg, llvm::ArrayRef<uint8_t>) override { return made(); }
  Reg permute(Reg, Reg, llvm::ArrayRef<uint8_t>) override { return made(); }
  Reg lookup(llvm::ArrayRef<uint8_t>, Reg) override { return made(); }
  Reg lookup(llvm::ArrayRef<Reg>, Reg) override { return made(); }
  Reg loadTable(int64_t, unsigned) override { return made(); }
  FloatReg loadTableFloats(int64_t, FloatKind) override {
    return {made().handle};
  }
  Reg gatherTable(int64_t, Reg, unsigned) override { return made(); }
  Reg add(Reg, Reg) override { return made(); }
  Reg affine(Reg, llvm::ArrayRef<uint8_t>, uint8_t) override { return made(); }
  Reg bitXor(Reg, Reg) override { return made(); }
  Reg bitOr(Reg, Reg) override { return made(); }
  Reg bitAnd(Reg, Reg) override { return made(); }
  Reg splat(uint32_t) override { return made(); }
  Reg addLanes(Reg, Reg, unsigned) override { return made(); }
  Reg multiply(Reg, Reg, unsigned) override { return made(); }
  Reg shiftRight(Reg, unsigned) override { return made(); }
  Reg sumBytes(Reg, unsigned) override { return made(); }
  FloatReg toFloats(Reg, unsigned, float) override { return {made().handle}; }
  FloatReg lookupFloats(llvm::ArrayRef<float>, Reg, unsigned) override {
    return {made().handle};
  }
  FloatReg minifloats(Reg, unsigned, Minifloat) override {
    return {made().handle};
  }
  FloatReg joinExponents(Reg, unsigned, Minifloat) override {
    return {made().handle};
  }
  FloatReg lookupFloats(FloatReg, Reg, unsigned) override {
    return {made().handle};
  }
  FloatReg sumHalves(Reg) override { return {made().handle}; }

  /// The offset from which `handle` was loaded as it is, or -1.
  int64_t loadedFrom(const void *handle) const;

private:
  Reg made(int64_t offset = -1);
  std::deque<int64_t> offsets;
};

} // namespace quench

#endif // QUENCH_LIB_KERNELS_REGISTERBUILDER_H
