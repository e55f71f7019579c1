//===- QKLoweringTest.cpp - Lowerings of qk against their meaning ---------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every op is compiled for this processor, for subsets of its features and by
// the generic lowering, and run on all 256 values of a byte. What is expected
// is worked out here bit by bit.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Parser/Parser.h"
#include "quench/Dialect/QK/IR/QK.h"
#include "quench/Kernels/Lowering.h"
#include "gtest/gtest.h"
#include <cmath>
#include <cstring>
#include <random>

using namespace mlir;
using namespace quench;

namespace {

using Bytes = std::vector<uint8_t>;
using Function = void(const void *a, const void *b, const void *c, void *out);

/// One op: its text on %a, %b, %c (64 bytes each) and what it must give.
struct Case {
  std::string name, text;
  std::function<Bytes(const Bytes &a, const Bytes &b, const Bytes &c)> expect;
};

std::string list(llvm::ArrayRef<int> values) {
  std::string text;
  for (int value : values)
    text += (text.empty() ? "" : ", ") + std::to_string(value);
  return "[" + text + "]";
}

Case fieldCase(unsigned off, unsigned width, unsigned at) {
  std::string text = "%r = qk.field %a off " + std::to_string(off) + " width " +
                     std::to_string(width) + " at " + std::to_string(at) +
                     " : vector<64xi8>\n";
  return {"field_" + std::to_string(off) + std::to_string(width) +
              std::to_string(at),
          text, [=](const Bytes &a, const Bytes &, const Bytes &) {
            Bytes r(64, 0);
            for (int i = 0; i < 64; ++i)
              for (unsigned bit = 0; bit < width; ++bit)
                if (a[i] >> (off + bit) & 1)
                  r[i] |= 1 << (at + bit);
            return r;
          }};
}

/// Bit `at` of the lane of `unit` bits that holds byte `byte`, continued in hi.
int laneBit(const Bytes &lo, const Bytes *hi, int unit, int byte, int at) {
  int first = byte / (unit / 8) * unit;
  if (at < unit)
    return lo[(first + at) / 8] >> ((first + at) % 8) & 1;
  at -= unit;
  return at < unit && hi ? (*hi)[(first + at) / 8] >> ((first + at) % 8) & 1
                         : 0;
}

Case windowCase(std::string name, int unit, bool hi, std::vector<int> pos,
                int width) {
  std::string text =
      std::string("%r = qk.window %a") + (hi ? ", %b" : "") + " unit " +
      std::to_string(unit) + " pos " + list(pos) + " width " +
      std::to_string(width) +
      (hi ? " : vector<64xi8>, vector<64xi8>\n" : " : vector<64xi8>\n");
  return {name, text, [=](const Bytes &a, const Bytes &b, const Bytes &) {
            Bytes r(64, 0);
            for (int i = 0; i < 64; ++i)
              for (int bit = 0; bit < width; ++bit)
                r[i] |= laneBit(a, hi ? &b : nullptr, unit, i,
                                pos[i % pos.size()] + bit)
                        << bit;
            return r;
          }};
}

Case lookupCase(int size) {
  std::vector<int> table;
  std::string hex;
  for (int i = 0; i < size; ++i) {
    table.push_back((i * 167 + 13) & 255);
    hex += llvm::utohexstr(table.back(), false, 2);
  }
  std::string text = "%r = qk.lookup %a, dense<\"0x" + hex + "\"> : tensor<" +
                     std::to_string(size) +
                     "xi8>, vector<64xi8> -> vector<64xi8>\n";
  return {"lookup_" + std::to_string(size), text,
          [=](const Bytes &a, const Bytes &, const Bytes &) {
            Bytes r(64);
            for (int i = 0; i < 64; ++i)
              r[i] = table[a[i] % size];
            return r;
          }};
}

/// A table in registers: those of b, c, a and b.
Case lookupValuesCase(int tables) {
  const char *names[] = {"%b", "%c", "%a", "%b"};
  std::string in, types;
  for (int i = 0; i < tables; ++i) {
    in += std::string(i ? ", " : "") + names[i];
    types += "vector<64xi8>, ";
  }
  types.resize(types.size() - 2);
  return {"lookup_values_" + std::to_string(tables),
          "%r = qk.lookup_values %a in " + in + " : vector<64xi8>, " + types +
              " -> vector<64xi8>\n",
          [=](const Bytes &a, const Bytes &b, const Bytes &c) {
            const Bytes *table[] = {&b, &c, &a, &b};
            Bytes r(64);
            for (int i = 0; i < 64; ++i) {
              int at = a[i] % (64 * tables);
              r[i] = (*table[at / 64])[at % 64];
            }
            return r;
          }};
}

Case floatLookupValuesCase() {
  return {"lookup_values_float",
          "%i = vector.bitcast %a : vector<64xi8> to vector<16xi32>\n"
          "%t = vector.bitcast %b : vector<64xi8> to vector<16xf32>\n"
          "%f = qk.lookup_values %i in %t : vector<16xi32>, vector<16xf32> -> "
          "vector<16xf32>\n"
          "%r = vector.bitcast %f : vector<16xf32> to vector<64xi8>\n",
          [](const Bytes &a, const Bytes &b, const Bytes &) {
            Bytes r(64);
            for (int i = 0; i < 16; ++i)
              std::memcpy(&r[4 * i], &b[4 * (a[4 * i] & 15)], 4);
            return r;
          }};
}

Case floatLookupCase() {
  return {"lookup_float",
          "%i = vector.bitcast %a : vector<64xi8> to vector<16xi32>\n"
          "%f = qk.lookup %i, dense<[0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, "
          "8.5, 9.5, 10.5, 11.5, 12.5, 13.5, 14.5, 15.5]> : tensor<16xf32>, "
          "vector<16xi32> -> vector<16xf32>\n"
          "%r = vector.bitcast %f : vector<16xf32> to vector<64xi8>\n",
          [](const Bytes &a, const Bytes &, const Bytes &) {
            Bytes r(64);
            for (int i = 0; i < 16; ++i) {
              float f = (a[4 * i] & 15) + 0.5f;
              std::memcpy(&r[4 * i], &f, 4);
            }
            return r;
          }};
}

Case affineCase(std::vector<int> rows, int constant) {
  std::string text = "%r = qk.affine %a rows " + list(rows) + " constant " +
                     std::to_string(constant) + " : vector<64xi8>\n";
  return {"affine_" + std::to_string(constant), text,
          [=](const Bytes &a, const Bytes &, const Bytes &) {
            Bytes r(64, 0);
            for (int i = 0; i < 64; ++i)
              for (int n = 0; n < 8; ++n) {
                int bit = constant >> n & 1;
                for (int j = 0; j < 8; ++j)
                  bit ^= (rows[n] >> j & 1) & (a[i] >> j & 1);
                r[i] |= bit << n;
              }
            return r;
          }};
}

Case dot4Case() {
  return {"dot4",
          "%acc = vector.bitcast %b : vector<64xi8> to vector<16xi32>\n"
          "%words = vector.bitcast %c : vector<64xi8> to vector<16xi32>\n"
          "%x = vector.extract %words[3] : i32 from vector<16xi32>\n"
          "%d = qk.dot4 %acc, %a, %x : vector<16xi32>, vector<64xi8>\n"
          "%r = vector.bitcast %d : vector<16xi32> to vector<64xi8>\n",
          [](const Bytes &a, const Bytes &b, const Bytes &c) {
            Bytes r(64);
            for (int i = 0; i < 16; ++i) {
              uint32_t sum;
              std::memcpy(&sum, &b[4 * i], 4);
              for (int j = 0; j < 4; ++j)
                sum += uint32_t(int(a[4 * i + j]) * int8_t(c[12 + j]));
              std::memcpy(&r[4 * i], &sum, 4);
            }
            return r;
          }};
}

Case addWideCase() {
  return {"add_wide",
          "%e = vector.bitcast %b : vector<64xi8> to vector<32xi16>\n"
          "%o = vector.bitcast %c : vector<64xi8> to vector<32xi16>\n"
          "%p, %q = qk.add_wide %e, %o, %a : vector<32xi16>, vector<64xi8>\n"
          "%s = arith.muli %q, %q : vector<32xi16>\n"
          "%t = arith.xori %p, %s : vector<32xi16>\n"
          "%r = vector.bitcast %t : vector<32xi16> to vector<64xi8>\n",
          [](const Bytes &a, const Bytes &b, const Bytes &c) {
            Bytes r(64);
            for (int i = 0; i < 32; ++i) {
              uint16_t even, odd;
              std::memcpy(&even, &b[2 * i], 2);
              std::memcpy(&odd, &c[2 * i], 2);
              even += a[2 * i];
              odd += a[2 * i + 1];
              uint16_t both = even ^ uint16_t(uint32_t(odd) * odd);
              std::memcpy(&r[2 * i], &both, 2);
            }
            return r;
          }};
}

/// Bytes as quarters: ties to even and both limits are met.
Case quantizeCase() {
  return {"quantize",
          "%s = vector.extract_strided_slice %a {offsets = [0], sizes = [16], "
          "strides = [1]} : vector<64xi8> to vector<16xi8>\n"
          "%i = arith.extsi %s : vector<16xi8> to vector<16xi32>\n"
          "%f = arith.sitofp %i : vector<16xi32> to vector<16xf32>\n"
          "%k = arith.constant 1.25 : f32\n"
          "%h = arith.constant dense<0.8> : vector<16xf32>\n"
          "%l = arith.mulf %f, %h : vector<16xf32>\n"
          "%q = qk.quantize %l, %k : vector<16xf32> -> vector<16xi8>\n"
          "%half = arith.constant 0.5 : f32\n"
          "%q2 = qk.quantize %f, %half : vector<16xf32> -> vector<16xi8>\n"
          "%big = arith.constant 1.0e8 : f32\n"
          "%q3 = qk.quantize %f, %big : vector<16xf32> -> vector<16xi8>\n"
          "%u = vector.shuffle %q, %q2 [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, "
          "12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, "
          "29, 30, 31] : vector<16xi8>, vector<16xi8>\n"
          "%y = vector.insert_strided_slice %u, %a {offsets = [0], strides = "
          "[1]} : vector<32xi8> into vector<64xi8>\n"
          "%r = vector.insert_strided_slice %q3, %y {offsets = [32], strides = "
          "[1]} : vector<16xi8> into vector<64xi8>\n",
          [](const Bytes &a, const Bytes &, const Bytes &) {
            Bytes r = a;
            auto round = [](float v) {
              v = std::nearbyint(v);
              return uint8_t(int8_t(v > 127 ? 127 : v < -127 ? -127 : v));
            };
            for (int i = 0; i < 16; ++i) {
              float f = int8_t(a[i]);
              r[i] = round(f * 0.8f * 1.25f);
              r[16 + i] = round(f * 0.5f);
              r[32 + i] = round(f * 1e8f);
            }
            return r;
          }};
}

Case butterflyCase(int distance) {
  std::string d = std::to_string(distance);
  return {"butterfly_" + d,
          "%s = vector.extract_strided_slice %a {offsets = [0], sizes = [16], "
          "strides = [1]} : vector<64xi8> to vector<16xi8>\n"
          "%i = arith.extsi %s : vector<16xi8> to vector<16xi32>\n"
          "%f = arith.sitofp %i : vector<16xi32> to vector<16xf32>\n"
          "%g = qk.butterfly %f distance " +
              d +
              " : vector<16xf32>\n"
              "%r = vector.bitcast %g : vector<16xf32> to vector<64xi8>\n",
          [=](const Bytes &a, const Bytes &, const Bytes &) {
            Bytes r(64);
            for (int i = 0; i < 16; ++i) {
              float own = int8_t(a[i]), other = int8_t(a[i ^ distance]);
              float f = i & distance ? other - own : own + other;
              std::memcpy(&r[4 * i], &f, 4);
            }
            return r;
          }};
}

std::vector<Case> allCases() {
  std::vector<Case> cases;
  for (unsigned width = 1; width <= 8; ++width)
    for (unsigned off = 0; off + width <= 8; ++off)
      for (unsigned at = 0; at + width <= 8; ++at)
        cases.push_back(fieldCase(off, width, at));
  cases.push_back(windowCase("window_16", 16, false, {3, 9}, 5));
  cases.push_back(windowCase("window_32", 32, false, {0, 7, 14, 27}, 5));
  cases.push_back(
      windowCase("window_64", 64, false, {0, 5, 10, 15, 20, 25, 30, 56}, 8));
  cases.push_back(windowCase("funnel", 32, true, {20, 22, 24, 44}, 8));
  cases.push_back(windowCase("funnel_whole", 32, true, {16, 24, 32, 40}, 8));
  cases.push_back(windowCase("funnel_low", 32, true, {0, 8, 16, 24}, 8));
  cases.push_back(windowCase("funnel_high", 32, true, {32, 40, 50, 56}, 8));
  cases.push_back(windowCase("funnel_wide", 32, true, {1, 30, 31, 50}, 8));
  cases.push_back(
      windowCase("funnel_64", 64, true, {1, 30, 57, 63, 64, 80, 100, 120}, 8));
  for (int size : {16, 32, 64, 128, 256})
    cases.push_back(lookupCase(size));
  for (int tables : {1, 2, 4})
    cases.push_back(lookupValuesCase(tables));
  cases.push_back(floatLookupCase());
  cases.push_back(floatLookupValuesCase());
  cases.push_back(affineCase({255, 1, 3, 128, 0, 85, 170, 240}, 0));
  cases.push_back(affineCase({1, 2, 4, 8, 16, 32, 64, 128}, 255));
  cases.push_back(affineCase({128, 64, 32, 16, 8, 4, 2, 1}, 35));
  cases.push_back(dot4Case());
  cases.push_back(addWideCase());
  cases.push_back(quantizeCase());
  for (int distance : {1, 2, 4, 8})
    cases.push_back(butterflyCase(distance));
  return cases;
}

void check(const CPUTarget &target, bool genericOps, const std::string &what) {
  std::vector<Case> cases = allCases();
  std::string text;
  for (const Case &c : cases)
    text += "func.func @" + c.name +
            "(%pa : memref<?xi8>, %pb : memref<?xi8>, %pc : memref<?xi8>, "
            "%out : memref<?xi8>) {\n%z = arith.constant 0 : index\n"
            "%a = vector.load %pa[%z] : memref<?xi8>, vector<64xi8>\n"
            "%b = vector.load %pb[%z] : memref<?xi8>, vector<64xi8>\n"
            "%c = vector.load %pc[%z] : memref<?xi8>, vector<64xi8>\n" +
            c.text +
            "vector.store %r, %out[%z] : memref<?xi8>, vector<64xi8>\n"
            "return\n}\n";
  MLIRContext context;
  context.loadDialect<arith::ArithDialect, func::FuncDialect, qk::QKDialect,
                      memref::MemRefDialect, vector::VectorDialect>();
  auto module = parseSourceString<ModuleOp>(text, &context);
  ASSERT_TRUE(module) << text;
  auto loaded = compileAndLoad(*module, target, genericOps);
  ASSERT_TRUE(bool(loaded)) << llvm::toString(loaded.takeError());
  std::mt19937 random(3);
  Bytes a(64), b(64), c(64), out(64);
  for (const Case &test : cases) {
    auto function = (*loaded)->function<Function>(test.name);
    ASSERT_TRUE(bool(function)) << llvm::toString(function.takeError());
    // Each lane of `a` takes many values, and all lanes together all of them.
    for (int round = 0; round < 256; round += 16) {
      for (int i = 0; i < 64; ++i) {
        a[i] = (i + round) & 255;
        b[i] = random();
        c[i] = random();
      }
      (*function)(a.data(), b.data(), c.data(), out.data());
      ASSERT_EQ(out, test.expect(a, b, c)) << what << ": " << test.name;
    }
  }
}

TEST(QKLowering, AllBytesOnEveryTarget) {
  CPUTarget target = llvm::cantFail(resolveCPU("native"));
  check(target, false, "this processor");
  check(target, true, "generic");
  for (bool CPUTarget::*feature :
       {&CPUTarget::avx512vbmi, &CPUTarget::gfni, &CPUTarget::avx512vnni}) {
    CPUTarget less = target;
    less.*feature = false;
    check(less, false, "without a feature");
  }
}

} // namespace
