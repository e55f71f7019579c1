//===- HostRegistersTest.cpp - Meaning of register operations -------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/HostRegisters.h"
#include "Samples.h"

using namespace quench;

namespace {
class HostRegistersTest : public ::testing::Test {
protected:
  HostRegistersTest() : registers(block()) {
    value = registers.load(0);
    other = registers.load(36);
  }
  static llvm::ArrayRef<uint8_t> block() {
    static const std::vector<uint8_t> bytes = [] {
      Samples samples(1);
      std::vector<uint8_t> values(100);
      for (uint8_t &byte : values)
        byte = samples.next() >> 30;
      return values;
    }();
    return bytes;
  }
  uint8_t at(Reg reg, int i) const { return HostRegisters::bytes(reg)[i]; }

  HostRegisters registers;
  Reg value, other;
};
} // namespace

TEST_F(HostRegistersTest, Loads) {
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(at(value, i), block()[i]);
    EXPECT_EQ(at(other, i), block()[36 + i]);
    EXPECT_EQ(at(registers.load(64), i), i < 36 ? block()[64 + i] : 0xcc);
  }
}

TEST_F(HostRegistersTest, LoadsFloats) {
  std::vector<uint8_t> bytes(64);
  bytes[3] = 0xc0; // f32 -2, the high half of the first number
  HostRegisters words(bytes);
  EXPECT_EQ(HostRegisters::floats(words.loadFloats(0, FloatKind::F32))[0], -2);
  EXPECT_EQ(HostRegisters::floats(words.loadFloats(2, FloatKind::BF16))[0], -2);
  EXPECT_EQ(HostRegisters::floats(words.loadFloats(2, FloatKind::F16))[0], -2);
  EXPECT_EQ(HostRegisters::floats(words.loadFloats(0, FloatKind::F16))[1], -2);
}

TEST_F(HostRegistersTest, Fields) {
  for (unsigned off = 0; off < 8; ++off)
    for (unsigned width = 1; off + width <= 8; ++width)
      for (unsigned to = 0; to + width <= 8; ++to) {
        Reg field = registers.field(value, off, width, to);
        for (int i = 0; i < 64; ++i)
          for (unsigned bit = 0; bit < 8; ++bit) {
            bool inside = bit >= to && bit < to + width;
            bool want = inside && (at(value, i) >> (off + bit - to) & 1);
            ASSERT_EQ(at(field, i) >> bit & 1, want);
          }
      }
}

TEST_F(HostRegistersTest, Windows) {
  for (unsigned unit : {32u, 64u})
    for (bool wide : {false, true}) {
      std::vector<uint8_t> pos;
      for (unsigned n = 0; n < unit / 8; ++n)
        pos.push_back(n * 5 + 3);
      Reg window = registers.window(value, wide ? &other : nullptr, unit, pos);
      for (unsigned i = 0; i < 64; ++i)
        for (unsigned bit = 0; bit < 8; ++bit) {
          unsigned size = unit / 8, lane = i / size;
          unsigned from = pos[i % size] + bit;
          bool want = false;
          if (from < unit)
            want = at(value, lane * size + from / 8) >> (from % 8) & 1;
          else if (wide)
            want = at(other, lane * size + (from - unit) / 8) >> (from % 8) & 1;
          ASSERT_EQ(at(window, i) >> bit & 1, want);
        }
    }
}

TEST_F(HostRegistersTest, TablesAndBits) {
  std::vector<uint8_t> reversed(64), table(16);
  for (int i = 0; i < 64; ++i)
    reversed[i] = 63 - i;
  for (int i = 0; i < 16; ++i)
    table[i] = 100 + i;
  Reg permuted = registers.permute(value, reversed);
  Reg looked = registers.lookup(table, value);
  Reg both = registers.bitXor(value, other),
      either = registers.bitOr(value, other);
  // Bits in reverse order, and the parity of all in bit 0.
  Reg mirrored = registers.affine(value, {128, 64, 32, 16, 8, 4, 2, 1}, 0);
  Reg parity = registers.affine(value, {255, 0, 0, 0, 0, 0, 0, 0}, 0x81);
  for (int i = 0; i < 64; ++i) {
    uint8_t byte = at(value, i);
    EXPECT_EQ(at(permuted, i), at(value, 63 - i));
    EXPECT_EQ(at(looked, i), 100 + byte % 16);
    EXPECT_EQ(at(both, i), byte ^ at(other, i));
    EXPECT_EQ(at(either, i), byte | at(other, i));
    for (int bit = 0; bit < 8; ++bit)
      EXPECT_EQ(at(mirrored, i) >> bit & 1, byte >> (7 - bit) & 1);
    EXPECT_EQ(at(parity, i), 0x81 ^ __builtin_parity(byte));
  }
}

TEST_F(HostRegistersTest, Floats) {
  std::vector<float> table(16);
  for (int i = 0; i < 16; ++i)
    table[i] = 0.1f * i;
  for (unsigned column = 0; column < 4; ++column) {
    HostFloatReg plain =
        HostRegisters::floats(registers.toFloats(value, column, 8));
    HostFloatReg looked =
        HostRegisters::floats(registers.lookupFloats(table, value, column));
    for (int row = 0; row < 16; ++row) {
      uint8_t byte = at(value, 4 * row + column);
      EXPECT_EQ(plain[row], byte - 8.0f);
      EXPECT_EQ(looked[row], table[byte % 16]);
    }
  }
}

TEST_F(HostRegistersTest, SumsOfHalves) {
  std::vector<uint8_t> bytes(64);
  // 1.115234375 in the low half of lane 1, 0.1959228515625 in its high one: the
  // sum lies between two halves, nearer to -0.91943359375.
  const uint32_t word = 0x3245bc76;
  for (int i = 0; i < 4; ++i)
    bytes[4 + i] = word >> (8 * i);
  HostRegisters words(bytes);
  const HostFloatReg &sums =
      HostRegisters::floats(words.sumHalves(words.load(0)));
  EXPECT_EQ(sums[0], 0);
  EXPECT_EQ(sums[1], -0.91943359375f);
}

TEST_F(HostRegistersTest, Gathers) {
  Samples samples(5);
  std::vector<uint8_t> table(12 * 300), indices(64);
  for (uint8_t &byte : table)
    byte = samples.below(256);
  for (int lane = 0; lane < 16; ++lane) {
    indices[4 * lane] = 15 * lane;
    indices[4 * lane + 1] = lane == 3; // more than a byte
  }
  HostRegisters registers(indices, table);
  Reg found = registers.gatherTable(4, registers.load(0), 12);
  for (int lane = 0; lane < 15; ++lane)
    for (int byte = 0; byte < 4; ++byte) {
      int64_t index = 15 * lane + 256 * (lane == 3);
      size_t place = 4 + 12 * index + byte;
      EXPECT_EQ(at(found, 4 * lane + byte),
                place < table.size() ? table[place] : 0xcc);
    }
}
