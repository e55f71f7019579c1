//===- LevelFormatTest.cpp - Small floats, tables of levels ---------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Samples.h"
#include "quench/Quantization/Packing.h"
#include <algorithm>

using namespace quench;

/// The levels of a format at scale 1, by code.
static std::vector<float> levelsOf(llvm::StringRef spec) {
  const Format &f = format(spec);
  std::vector<float> levels(1u << f.codeBits());
  GroupParams one{floatToScale(f.scaleKind(), 1.0f), 0};
  for (uint32_t code = 0; code < levels.size(); ++code)
    f.decode(code, one, &levels[code]);
  return levels;
}

TEST(Minifloats, BitPatternsOfTheStandards) {
  // OCP microscaling formats 1.0, tables of E2M1, E2M3, E3M2; OCP FP8 1.0.
  const std::vector<float> e2m1{0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  std::vector<float> levels = levelsOf("mxfp<4>");
  for (int code = 0; code < 8; ++code) {
    EXPECT_EQ(levels[code], e2m1[code]);
    EXPECT_EQ(levels[code + 8], -e2m1[code]);
  }
  const std::vector<float> e2m3{
      0, 0.125f, 0.25f, 0.375f, 0.5f, 0.625f, 0.75f, 0.875f,
      1, 1.125f, 1.25f, 1.375f, 1.5f, 1.625f, 1.75f, 1.875f,
      2, 2.25f,  2.5f,  2.75f,  3,    3.25f,  3.5f,  3.75f,
      4, 4.5f,   5,     5.5f,   6,    6.5f,   7,     7.5f};
  const std::vector<float> e3m2{
      0,    0.0625f, 0.125f, 0.1875f, 0.25f, 0.3125f, 0.375f, 0.4375f,
      0.5f, 0.625f,  0.75f,  0.875f,  1,     1.25f,   1.5f,   1.75f,
      2,    2.5f,    3,      3.5f,    4,     5,       6,      7,
      8,    10,      12,     14,      16,    20,      24,     28};
  for (int code = 0; code < 32; ++code) {
    EXPECT_EQ(levelsOf("mxfp<6>")[code], e2m3[code]);
    EXPECT_EQ(levelsOf("mxfp<6, e3m2>")[code + 32], -e3m2[code]);
  }
  levels = levelsOf("mxfp<8>");
  EXPECT_EQ(levels[0x00], 0.0f);
  EXPECT_EQ(levels[0x01], 0x1p-9f);
  EXPECT_EQ(levels[0x07], 7 * 0x1p-9f);
  EXPECT_EQ(levels[0x08], 0x1p-6f);
  EXPECT_EQ(levels[0x38], 1.0f);
  EXPECT_EQ(levels[0x7e], 448.0f);
  EXPECT_EQ(levels[0xfe], -448.0f);
  EXPECT_EQ(levels[0xb9], -1.125f);
  levels = levelsOf("mxfp<8, e5m2>");
  EXPECT_EQ(levels[0x01], 0x1p-16f);
  EXPECT_EQ(levels[0x04], 0x1p-14f);
  EXPECT_EQ(levels[0x3c], 1.0f);
  EXPECT_EQ(levels[0x7b], 57344.0f);
  EXPECT_EQ(levels[0xbd], -1.25f);
  // E5M2 is the upper byte of a half.
  for (uint32_t code = 0; code < 0x7c; ++code)
    EXPECT_EQ(levels[code], halfToFloat(code << 8));
}

TEST(Minifloats, EncodeInvertsDecodeAndRoundsTiesToEven) {
  for (Minifloat shape : {kE2M1, kE2M3, kE3M2, kE4M3, kE5M2, Minifloat{3, 5}}) {
    uint32_t top = (1u << (shape.bits() - 1)) - 1;
    for (uint32_t code = 0; code <= top; ++code) {
      float value = shape.decode(code);
      EXPECT_EQ(shape.encode(value, top), code);
      if (code == top)
        break;
      float next = shape.decode(code + 1), middle = 0.5f * (value + next);
      EXPECT_LT(value, next);
      EXPECT_EQ(shape.encode(middle, top), code + (code & 1));
      EXPECT_EQ(shape.encode(std::nextafter(middle, value), top), code);
      EXPECT_EQ(shape.encode(std::nextafter(middle, next), top), code + 1);
    }
    EXPECT_EQ(shape.encode(1e30f, top), top);
    EXPECT_EQ(shape.encode(1e-30f, top), 0u);
  }
}

TEST(Minifloats, FormatsRoundAsTheirElements) {
  Samples samples(21);
  struct {
    const char *spec;
    Minifloat shape;
    uint32_t top;
  } cases[] = {{"mxfp<4>", kE2M1, 7},
               {"mxfp<6>", kE2M3, 31},
               {"mxfp<6, e3m2>", kE3M2, 31},
               {"mxfp<8>", kE4M3, 0x7e},
               {"mxfp<8, e5m2>", kE5M2, 0x7b}};
  for (auto &c : cases) {
    const Format &f = format(c.spec);
    GroupParams one{127, 0};
    for (int trial = 0; trial < 5000; ++trial) {
      float value = samples.gaussian() * std::exp2(samples.gaussian() * 3);
      if (trial % 4 == 0) // ties and exact levels
        value = 0.25f * std::nearbyint(8 * value);
      uint32_t code = f.nearest(&value, one);
      uint32_t want = c.shape.encode(std::fabs(value), c.top);
      if (value < 0 && want)
        want |= 1u << (c.shape.bits() - 1);
      ASSERT_EQ(code, want) << c.spec << " " << value;
    }
  }
}

TEST(Scales, Kinds) {
  EXPECT_EQ(scaleToFloat(ScaleKind::E8M0, 127), 1.0f);
  EXPECT_EQ(scaleToFloat(ScaleKind::E8M0, 1), 0x1p-126f);
  EXPECT_EQ(scaleToFloat(ScaleKind::E8M0, 254), 0x1p127f);
  EXPECT_EQ(scaleToFloat(ScaleKind::E4M3, 0x7e), 448.0f);
  EXPECT_EQ(scaleToFloat(ScaleKind::E4M3, 1), 0x1p-9f);
  EXPECT_EQ(scaleToFloat(ScaleKind::E3M5, 0xff), 31.5f);
  EXPECT_EQ(scaleToFloat(ScaleKind::E3M5, 0x60), 1.0f);
  for (ScaleKind kind :
       {ScaleKind::Half, ScaleKind::E8M0, ScaleKind::E4M3, ScaleKind::E3M5}) {
    uint16_t least = kind == ScaleKind::E8M0 ? 7 : 1;
    uint16_t most = kind == ScaleKind::Half   ? 0x7bff
                    : kind == ScaleKind::E8M0 ? 247
                    : kind == ScaleKind::E4M3 ? 0x7e
                                              : 0xff;
    for (uint32_t code = least; code <= most; ++code) {
      float value = scaleToFloat(kind, code);
      ASSERT_EQ(floatToScale(kind, value), code);
      if (code < most)
        ASSERT_LT(value, scaleToFloat(kind, code + 1));
    }
    EXPECT_EQ(floatToScale(kind, 0), 0);
    EXPECT_EQ(floatToScale(kind, -1), 0);
    EXPECT_EQ(floatToScale(kind, 1e-38f), least);
    EXPECT_EQ(floatToScale(kind, 1e38f), most);
    EXPECT_EQ(floatToScale(kind, std::nanf("")), 0);
  }
}

/// The scale of OCP microscaling: 2^(floor(log2(max)) - emax).
TEST(Microscaling, ScaleRule) {
  struct {
    const char *spec;
    int power; // of the largest power of two of the element
  } cases[] = {{"mxfp<4>", 2},
               {"mxfp<6>", 2},
               {"mxfp<6, e3m2>", 4},
               {"mxfp<8>", 8},
               {"mxfp<8, e5m2>", 15}};
  Samples samples(22);
  for (auto &c : cases)
    for (int trial = 0; trial < 200; ++trial) {
      std::vector<float> w = samples.gaussians(32);
      float most = 0;
      for (float v : w)
        most = std::max(most, std::fabs(v));
      int floor = 0;
      while (std::ldexp(1.0f, floor + 1) <= most)
        ++floor;
      while (std::ldexp(1.0f, floor) > most)
        --floor;
      GroupParams params = format(c.spec).fit(w.data(), 32, FitOptions());
      EXPECT_EQ(params.scale, 127 + floor - c.power) << c.spec;
    }
}

/// NVFP4 by its definition: the largest magnitude of all is 448 * 6 steps.
TEST(Microscaling, NVFP4) {
  Samples samples(23);
  const Format &f = format("nvfp4");
  std::vector<float> w = samples.gaussians(4 * 64), back(w.size());
  EncodedRows encoded = encodeNearest(f, w.data(), 4, 64, FitOptions());
  float most = 0;
  for (float v : w)
    most = std::max(most, std::fabs(v));
  EXPECT_FLOAT_EQ(encoded.tensorScale, most / (448 * 6));
  uint16_t top = 0;
  for (GroupParams params : encoded.params)
    top = std::max(top, params.scale);
  EXPECT_EQ(top, 0x7e);
  decodeRows(f, encoded, back.data());
  for (size_t g = 0; g < encoded.params.size(); ++g) {
    float scale = kE4M3.decode(encoded.params[g].scale) * encoded.tensorScale;
    for (size_t i = 16 * g; i < 16 * g + 16; ++i) {
      float magnitude =
          kE2M1.decode(kE2M1.encode(std::fabs(w[i]) / encoded.tensorScale /
                                        kE4M3.decode(encoded.params[g].scale),
                                    7));
      EXPECT_NEAR(back[i], std::copysign(magnitude * scale, w[i]),
                  1e-6 * scale);
    }
  }
}

TEST(Levels, TablesByCode) {
  // The arms of bitsandbytes' fp4: sign, then one of 8 magnitudes.
  const float fp4[8] = {0,           0.0052083333f, 0.6666667f,  1.0f,
                        0.33333333f, 0.5f,          0.16666667f, 0.25f};
  std::vector<float> levels = levelsOf("bnb-fp4");
  for (int code = 0; code < 8; ++code) {
    EXPECT_FLOAT_EQ(levels[code], fp4[code]);
    EXPECT_FLOAT_EQ(levels[code + 8], -fp4[code]);
  }
  std::string spec = "levels<1, 0, -1";
  for (int i = 3; i < 16; ++i)
    spec += ", " + std::to_string(i / 16.0);
  levels = levelsOf(spec + ", group = 8>");
  EXPECT_EQ(levels[0], 1.0f);
  EXPECT_EQ(levels[2], -1.0f);
  EXPECT_EQ(levels[15], 15.0f / 16);
}

/// Scales in bytes: at most half a step of 1/32 away, above an eighth of the
/// largest, and all of them at most 1.6 % off in the middle.
TEST(Levels, DoubleQuantizedScales) {
  Samples samples(24);
  std::vector<float> w = samples.gaussians(256 * 1024);
  EncodedRows plain =
      encodeNearest(format("nf4"), w.data(), 256, 1024, FitOptions());
  EncodedRows twice =
      encodeNearest(format("nf4<double>"), w.data(), 256, 1024, FitOptions());
  std::vector<double> changes;
  for (size_t i = 0; i < plain.params.size(); ++i) {
    double before = halfToFloat(plain.params[i].scale);
    double after = twice.tensorScale *
                   scaleToFloat(ScaleKind::E3M5, twice.params[i].scale);
    changes.push_back(std::fabs(after / before - 1));
  }
  std::sort(changes.begin(), changes.end());
  EXPECT_LT(changes.back(), 0.0165);
  EXPECT_LT(changes[changes.size() / 2], 0.008);
}

/// A table fitted to the weight beats each that is not, and finds levels that
/// are there.
TEST(Levels, LearnedTable) {
  Samples samples(25);
  auto errorOf = [](llvm::StringRef spec, const std::vector<float> &w,
                    int64_t cols, bool search) {
    const Format &f = format(spec);
    std::vector<float> back(w.size());
    FitOptions options;
    options.search = search;
    decodeRows(f, encodeNearest(f, w.data(), w.size() / cols, cols, options),
               back.data());
    double error = 0, square = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      error += double(back[i] - w[i]) * (back[i] - w[i]);
      square += double(w[i]) * w[i];
    }
    return error / square;
  };
  std::vector<float> w = samples.gaussians(64 * 1024);
  for (bool search : {false, true})
    EXPECT_LT(errorOf("lut4", w, 1024, search),
              errorOf("nf4", w, 1024, search));
  // Of 16 levels nothing is left over.
  for (float &v : w)
    v = std::pow(samples.below(16) / 15.0f, 3.0f) * 2 - 1;
  EXPECT_LT(errorOf("lut4", w, 1024, false), 1e-6);
  // Deterministic.
  std::vector<float> again = samples.gaussians(64 * 1024);
  EXPECT_EQ(fitShared(format("lut4"), again.data(), 64, 1024, {}).table,
            fitShared(format("lut4"), again.data(), 64, 1024, {}).table);
}
