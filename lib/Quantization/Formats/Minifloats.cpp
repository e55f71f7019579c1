//===- Minifloats.cpp - Floats of 4, 6 and 8 bits -------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   fp4<group = G>                   E2M1 and a half for each group
//   fp6<e2m3 | e3m2>, fp8<e4m3 | e5m2>  a half for each row or group, or
//                                    (`tensor`) one float for the weight
//   mxfp<4 | 6 | 8, ...>             OCP microscaling: a power of two for each
//                                    32 columns
//   nvfp4                            E2M1, an E4M3 for each 16 columns and a
//                                    float for the weight
//
// E2M1 has levels in halves up to 6 and E2M3 in eighths up to 7.5: bytes, which
// integer dot products take. Codes of NaN and infinity are never made.
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "LevelFormat.h"

using namespace quench;

/// The levels of a small float, and how they become integers, if they do.
static LevelSpec specOf(llvm::StringRef shape) {
  LevelSpec spec;
  spec.tiesToEven = true;
  spec.shape = shape == "e2m1"   ? kE2M1
               : shape == "e2m3" ? kE2M3
               : shape == "e3m2" ? kE3M2
               : shape == "e4m3" ? kE4M3
                                 : kE5M2;
  uint32_t count = 1u << spec.shape->bits();
  // OCP: E4M3 ends at 448, E5M2 at 57344; the codes above are no numbers. They
  // are read as the largest one.
  uint32_t top = shape == "e4m3"   ? 0x7e
                 : shape == "e5m2" ? 0x7b
                                   : count / 2 - 1;
  for (uint32_t code = 0; code < count; ++code) {
    float level = spec.shape->decode(std::min(code & (count / 2 - 1), top));
    spec.levels.push_back(code & count / 2 && level != 0 ? -level : level);
  }
  if (spec.shape->exponent == 2) {
    spec.unit = shape == "e2m1" ? 0.5f : 0.125f;
    spec.bias = static_cast<int>(spec.levels[count / 2 - 1] / spec.unit);
  }
  return spec;
}

static FormatRegistration
    fp4("fp4", "floats of 4 bits (E2M1): fp4<group = G, double>",
        [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
          FormatArgReader reader(args);
          LevelSpec spec = specOf("e2m1");
          spec.group = reader.option("group", 1, kMaxGroup, 32);
          std::vector<std::string> arguments{"group = " +
                                             std::to_string(spec.group)};
          if (reader.flag("double")) {
            spec.scaleKind = ScaleKind::E3M5;
            arguments.push_back("double");
          }
          if (llvm::Error error = reader.finish())
            return std::move(error);
          spec.text = formatSpec("fp4", arguments);
          return std::make_unique<LevelFormat>(std::move(spec));
        });

/// fp6 and fp8.
static llvm::Expected<std::unique_ptr<Format>>
makeWide(const FormatArgs &args, llvm::ArrayRef<llvm::StringRef> shapes) {
  FormatArgReader reader(args);
  std::string shape = reader.choice("shape", shapes);
  LevelSpec spec = specOf(shape);
  std::vector<std::string> arguments{shape};
  spec.group = reader.option("group", 0, kMaxGroup, 0);
  spec.tensor = reader.flag("tensor");
  if (spec.tensor && spec.group)
    reader.fail("'tensor' and 'group' exclude each other");
  if (spec.group)
    arguments.push_back("group = " + std::to_string(spec.group));
  if (spec.tensor)
    arguments.push_back("tensor");
  if (llvm::Error error = reader.finish())
    return std::move(error);
  spec.text = formatSpec(args.name, arguments);
  return std::make_unique<LevelFormat>(std::move(spec));
}

static FormatRegistration fp6(
    "fp6", "floats of 6 bits: fp6<e2m3 | e3m2, group = G | tensor>",
    [](const FormatArgs &args) { return makeWide(args, {"e2m3", "e3m2"}); });

static FormatRegistration fp8(
    "fp8", "floats of 8 bits: fp8<e4m3 | e5m2, group = G | tensor>",
    [](const FormatArgs &args) { return makeWide(args, {"e4m3", "e5m2"}); });

static FormatRegistration mxfp(
    "mxfp",
    "OCP microscaling, groups of 32 with a power of two: "
    "mxfp<4 | 6 | 8>, mxfp<6, e3m2>, mxfp<8, e5m2>",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      FormatArgReader reader(args);
      std::string bits = reader.choice("bits", {"4", "6", "8"});
      std::string shape = bits == "4" ? "e2m1" : bits == "6" ? "e2m3" : "e4m3";
      std::string other = bits == "6" ? "e3m2" : "e5m2";
      std::vector<std::string> arguments{bits};
      if (bits != "4" && reader.flag(other)) {
        shape = other;
        arguments.push_back(other);
      }
      if (llvm::Error error = reader.finish())
        return std::move(error);
      LevelSpec spec = specOf(shape);
      spec.group = 32;
      spec.scaleKind = ScaleKind::E8M0;
      spec.text = formatSpec("mxfp", arguments);
      return std::make_unique<LevelFormat>(std::move(spec));
    });

static FormatRegistration nvfp4(
    "nvfp4", "E2M1 in groups of 16 with E4M3 scales: nvfp4",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      FormatArgReader reader(args);
      if (llvm::Error error = reader.finish())
        return std::move(error);
      LevelSpec spec = specOf("e2m1");
      spec.group = 16;
      spec.scaleKind = ScaleKind::E4M3;
      spec.text = "nvfp4";
      return std::make_unique<LevelFormat>(std::move(spec));
    });

QUENCH_BUILTIN_FORMAT(Minifloats)
