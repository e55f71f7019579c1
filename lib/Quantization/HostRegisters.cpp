//===- HostRegisters.cpp - Registers evaluated on the host ----------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/HostRegisters.h"
#include "quench/Quantization/Half.h"

using namespace quench;

Reg HostRegisters::make(const HostReg &value) {
  registers.push_back(value);
  return {&registers.back()};
}

Reg HostRegisters::load(int64_t offset) {
  HostReg result;
  for (int64_t i = 0; i < 64; ++i)
    result[i] = byteAt(block, offset + i);
  return make(result);
}

Reg HostRegisters::loadTable(int64_t offset, unsigned entries) {
  HostReg result;
  for (int64_t i = 0; i < 64; ++i)
    result[i] = byteAt(table, offset + i % entries);
  return make(result);
}

FloatReg HostRegisters::loadFloats(int64_t offset, FloatKind kind) {
  return floatsAt(block, offset, kind);
}

FloatReg HostRegisters::loadTableFloats(int64_t offset, FloatKind kind) {
  return floatsAt(table, offset, kind);
}

FloatReg HostRegisters::floatsAt(llvm::ArrayRef<uint8_t> bytes, int64_t offset,
                                 FloatKind kind) {
  HostFloatReg result;
  int64_t size = kind == FloatKind::F32 ? 4 : 2;
  for (int64_t i = 0; i < 16; ++i) {
    uint32_t bits = 0;
    for (int64_t byte = 0; byte < size; ++byte)
      bits |= uint32_t(byteAt(bytes, offset + size * i + byte)) << (8 * byte);
    result[i] = kind == FloatKind::F32   ? bitsFloat(bits)
                : kind == FloatKind::F16 ? halfToFloat(bits)
                                         : bfloatToFloat(bits);
  }
  floatRegisters.push_back(result);
  return {&floatRegisters.back()};
}

Reg HostRegisters::field(Reg value, unsigned off, unsigned width, unsigned at) {
  HostReg result = bytes(value);
  for (uint8_t &byte : result)
    byte = (byte >> off & ((1u << width) - 1)) << at;
  return make(result);
}

Reg HostRegisters::window(Reg lo, const Reg *hi, unsigned unit,
                          llvm::ArrayRef<uint8_t> pos) {
  HostReg result;
  unsigned size = unit / 8;
  for (unsigned i = 0; i < 64; ++i) {
    unsigned lane = i / size * size;
    auto byteOfLane = [&](unsigned byte) -> unsigned {
      if (byte < size)
        return bytes(lo)[lane + byte];
      return hi && byte < 2 * size ? bytes(*hi)[lane + byte - size] : 0;
    };
    unsigned from = pos[i % size];
    unsigned two = byteOfLane(from / 8) | byteOfLane(from / 8 + 1) << 8;
    result[i] = two >> (from % 8);
  }
  return make(result);
}

Reg HostRegisters::permute(Reg value, llvm::ArrayRef<uint8_t> index) {
  HostReg result;
  for (unsigned i = 0; i < 64; ++i)
    result[i] = bytes(value)[index[i] % 64];
  return make(result);
}

Reg HostRegisters::permute(Reg a, Reg b, llvm::ArrayRef<uint8_t> index) {
  HostReg result;
  for (unsigned i = 0; i < 64; ++i)
    result[i] = bytes(index[i] & 64 ? b : a)[index[i] % 64];
  return make(result);
}

Reg HostRegisters::lookup(llvm::ArrayRef<uint8_t> table, Reg index) {
  HostReg result = bytes(index);
  for (uint8_t &byte : result)
    byte = table[byte % table.size()];
  return make(result);
}

Reg HostRegisters::lookup(llvm::ArrayRef<Reg> table, Reg index) {
  HostReg result = bytes(index);
  for (uint8_t &byte : result) {
    unsigned at = byte % (64 * table.size());
    byte = bytes(table[at / 64])[at % 64];
  }
  return make(result);
}

Reg HostRegisters::add(Reg a, Reg b) {
  HostReg result = bytes(a);
  for (unsigned i = 0; i < 64; ++i)
    result[i] += bytes(b)[i];
  return make(result);
}

Reg HostRegisters::affine(Reg value, llvm::ArrayRef<uint8_t> rows,
                          uint8_t constant) {
  HostReg result = bytes(value);
  for (uint8_t &byte : result) {
    unsigned mapped = constant;
    for (unsigned bit = 0; bit < 8; ++bit)
      mapped ^= unsigned(__builtin_parity(rows[bit] & byte)) << bit;
    byte = mapped;
  }
  return make(result);
}

Reg HostRegisters::bitXor(Reg a, Reg b) {
  HostReg result = bytes(a);
  for (unsigned i = 0; i < 64; ++i)
    result[i] ^= bytes(b)[i];
  return make(result);
}

Reg HostRegisters::bitOr(Reg a, Reg b) {
  HostReg result = bytes(a);
  for (unsigned i = 0; i < 64; ++i)
    result[i] |= bytes(b)[i];
  return make(result);
}

Reg HostRegisters::bitAnd(Reg a, Reg b) {
  HostReg result = bytes(a);
  for (unsigned i = 0; i < 64; ++i)
    result[i] &= bytes(b)[i];
  return make(result);
}

uint32_t HostRegisters::lane(const HostReg &reg, unsigned at, unsigned unit) {
  uint32_t value = 0;
  for (unsigned bit = 0; bit < unit; bit += 8)
    value |= uint32_t(reg[at++]) << bit;
  return value;
}

void HostRegisters::setLane(HostReg &reg, unsigned at, unsigned unit,
                            uint32_t value) {
  for (unsigned bit = 0; bit < unit; bit += 8)
    reg[at++] = value >> bit;
}

Reg HostRegisters::splat(uint32_t value) {
  HostReg result;
  for (unsigned at = 0; at < 64; at += 4)
    setLane(result, at, 32, value);
  return make(result);
}

Reg HostRegisters::addLanes(Reg a, Reg b, unsigned unit) {
  HostReg result;
  for (unsigned at = 0; at < 64; at += unit / 8)
    setLane(result, at, unit,
            lane(bytes(a), at, unit) + lane(bytes(b), at, unit));
  return make(result);
}

Reg HostRegisters::multiply(Reg a, Reg b, unsigned unit) {
  HostReg result;
  for (unsigned at = 0; at < 64; at += unit / 8)
    setLane(result, at, unit,
            lane(bytes(a), at, unit) * lane(bytes(b), at, unit));
  return make(result);
}

Reg HostRegisters::shiftRight(Reg value, unsigned by) {
  HostReg result;
  for (unsigned at = 0; at < 64; at += 4)
    setLane(result, at, 32, lane(bytes(value), at, 32) >> by);
  return make(result);
}

Reg HostRegisters::sumBytes(Reg value, unsigned factor) {
  HostReg result;
  for (unsigned at = 0; at < 64; at += 4) {
    uint32_t sum = 0;
    for (unsigned i = 0; i < 4; ++i)
      sum += bytes(value)[at + i];
    setLane(result, at, 32, sum * factor);
  }
  return make(result);
}

FloatReg HostRegisters::toFloats(Reg value, unsigned column, float bias) {
  HostFloatReg result;
  for (unsigned row = 0; row < 16; ++row)
    result[row] = static_cast<float>(bytes(value)[4 * row + column]) - bias;
  floatRegisters.push_back(result);
  return {&floatRegisters.back()};
}

FloatReg HostRegisters::lookupFloats(llvm::ArrayRef<float> table, Reg index,
                                     unsigned column) {
  HostFloatReg result;
  for (unsigned row = 0; row < 16; ++row)
    result[row] = table[bytes(index)[4 * row + column] % table.size()];
  floatRegisters.push_back(result);
  return {&floatRegisters.back()};
}

FloatReg HostRegisters::lookupFloats(FloatReg table, Reg index,
                                     unsigned column) {
  HostFloatReg entries = floats(table);
  return lookupFloats(llvm::ArrayRef<float>(entries.data(), entries.size()),
                      index, column);
}

FloatReg HostRegisters::minifloats(Reg value, unsigned column,
                                   Minifloat shape) {
  HostFloatReg result;
  for (unsigned row = 0; row < 16; ++row)
    result[row] = shape.decode(bytes(value)[4 * row + column]);
  floatRegisters.push_back(result);
  return {&floatRegisters.back()};
}

FloatReg HostRegisters::sumHalves(Reg value) {
  HostFloatReg result;
  for (unsigned row = 0; row < 16; ++row) {
    uint32_t word = lane(bytes(value), 4 * row, 32);
    float sum = halfToFloat(word >> 16) + halfToFloat(word & 0xffff);
    result[row] = halfToFloat(floatToHalf(sum));
  }
  floatRegisters.push_back(result);
  return {&floatRegisters.back()};
}

Reg HostRegisters::gatherTable(int64_t offset, Reg index, unsigned stride) {
  HostReg result;
  for (unsigned at = 0; at < 64; ++at) {
    int64_t entry = lane(bytes(index), at / 4 * 4, 32);
    result[at] = byteAt(table, offset + entry * stride + at % 4);
  }
  return make(result);
}

FloatReg HostRegisters::joinExponents(Reg value, unsigned column,
                                      Minifloat shape) {
  HostFloatReg result;
  for (unsigned row = 0; row < 16; ++row) {
    uint32_t byte = bytes(value)[4 * row + column];
    uint32_t bits = (byte & 0x80) << 24 | (byte & 0x7f) << 16 |
                    uint32_t(byteAt(exponents, row)) << 23;
    result[row] = bitsFloat(bits);
    // The product with 1 would change a signaling NaN.
    if (int power = 127 - shape.bias())
      result[row] *= std::ldexp(1.0f, power);
  }
  exponents = exponents.drop_front(std::min<size_t>(16, exponents.size()));
  floatRegisters.push_back(result);
  return {&floatRegisters.back()};
}
