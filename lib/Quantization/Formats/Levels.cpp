//===- Levels.cpp - Tables of 16 levels -----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// 16 levels between -1 and 1 from a table of floats, met by float activations:
//
//   nf4      quantiles of a normal distribution (QLoRA)
//   af4      the least absolute error of normal numbers in groups of 64
//   bnb-fp4  the "fp4" of bitsandbytes: a sign, and 0, 1/192, 1/6 ... 1
//   levels   those that are given
//   lut4     those that fit the weight best, stored in front of it
//
// With `bytes`, the levels are rounded to 1/123, so that a byte table serves
// integer dot products; 123 costs 0.02 % of NF4's error, 127 0.6 %. With
// `double`, the scales of groups are bytes (E3M5) beside one float for the
// weight.
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "LevelFormat.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>

using namespace quench;

/// 8 quantiles below and 9 from 0 on, over the largest one.
static const float kNF4[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

/// Medians of the values nearest to them (arXiv 2306.06965, groups of 64).
static const float kAF4[16] = {
    -1.0f,        -0.69441008f, -0.51243739f, -0.3736951f,
    -0.25607552f, -0.14982478f, -0.04934812f, 0.0f,
    0.04273164f,  0.12934483f,  0.21961274f,  0.31675666f,
    0.42563882f,  0.55496234f,  0.72424863f,  1.0f,
};

/// By code; code 8 is -0.
static const float kBnbFP4[16] = {
    0.0f, 1.0f / 192,  2.0f / 3,  1.0f,  1.0f / 3,  0.5f,  1.0f / 6,  0.25f,
    0.0f, -1.0f / 192, -2.0f / 3, -1.0f, -1.0f / 3, -0.5f, -1.0f / 6, -0.25f,
};

static constexpr int kByteUnits = 123;
static constexpr int kByteBias = 128;

/// Reads what all of these formats take.
static llvm::Expected<std::unique_ptr<Format>>
make(FormatArgReader &reader, llvm::StringRef name,
     llvm::ArrayRef<float> levels, std::vector<std::string> arguments = {}) {
  LevelSpec spec;
  spec.levels = levels;
  spec.group = reader.option("group", 1, kMaxGroup, 64);
  arguments.push_back("group = " + std::to_string(spec.group));
  if (reader.flag("double")) {
    spec.scaleKind = ScaleKind::E3M5;
    arguments.push_back("double");
  }
  if (!levels.empty() && reader.flag("bytes")) {
    arguments.push_back("bytes");
    spec.unit = 1.0f / kByteUnits;
    spec.bias = kByteBias;
    for (float &level : spec.levels)
      level = static_cast<float>(std::lrint(kByteUnits * level)) / kByteUnits;
  }
  if (llvm::Error error = reader.finish())
    return std::move(error);
  spec.text = formatSpec(name, arguments);
  return std::make_unique<LevelFormat>(std::move(spec));
}

static FormatRegistration
    nf4("nf4",
        "16 quantiles of a normal distribution: nf4<group = G, double, bytes>",
        [](const FormatArgs &args) {
          FormatArgReader reader(args);
          return make(reader, "nf4", kNF4);
        });

static FormatRegistration
    af4("af4",
        "16 levels of least absolute error of normal numbers: "
        "af4<group = G, double, bytes>",
        [](const FormatArgs &args) {
          FormatArgReader reader(args);
          return make(reader, "af4", kAF4);
        });

static FormatRegistration bnbFP4(
    "bnb-fp4",
    "the 4-bit floats of bitsandbytes: bnb-fp4<group = G, double, bytes>",
    [](const FormatArgs &args) {
      FormatArgReader reader(args);
      return make(reader, "bnb-fp4", kBnbFP4);
    });

static FormatRegistration
    lut4("lut4", "16 levels fitted to each weight: lut4<group = G, double>",
         [](const FormatArgs &args) {
           FormatArgReader reader(args);
           return make(reader, "lut4", {});
         });

static FormatRegistration levelTable(
    "levels",
    "16 levels, the largest magnitude 1, by code: "
    "levels<L0, L1, ..., L15, group = G, double, bytes>",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      FormatArgReader reader(args);
      std::vector<float> levels = reader.numbers("16 levels");
      float most = 0;
      for (float level : levels)
        most = std::max(most, std::fabs(level));
      if (levels.size() != 16 || most != 1.0f)
        return llvm::createStringError(
            "expected 16 levels from -1 to 1, the largest magnitude of them 1");
      std::vector<std::string> arguments;
      for (float level : levels) {
        arguments.emplace_back();
        llvm::raw_string_ostream(arguments.back())
            << llvm::format("%.9g", level);
      }
      return make(reader, "levels", levels, arguments);
    });

QUENCH_BUILTIN_FORMAT(Levels)
