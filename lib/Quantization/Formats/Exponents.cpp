//===- Exponents.cpp - Floats whose exponents are coded -------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   dfloat11               float<bf16>
//   ecf8<group = G | tensor>  fp8<e4m3, group = G | tensor>
//
// The numbers of another format, in fewer bits: sign and mantissa lie in the
// blocks, exponents behind them in codes of variable length (Tail.h). A code
// here has the exponent in its high bits, then sign, then mantissa.
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "quench/Quantization/ExponentCode.h"
#include "quench/Quantization/Layout.h"

using namespace quench;

namespace {

class ExponentFormat : public Format {
public:
  /// `base` has codes of `shape`: sign, exponent, mantissa.
  ExponentFormat(std::string text, const Format &base, Minifloat shape)
      : text(std::move(text)), base(base), shape(shape),
        rest(1 + shape.mantissa) {
    // Lines of sign and mantissa, quads side by side in a byte. Short steps
    // leave registers to the decoder; chains of sums (Kernels/Float.cpp) are
    // those of the format itself.
    int64_t perByte = 8 / rest;
    lines = perByte;
    StepLayout step;
    step.columns = 4 * perByte * lines;
    step.bytes = 64 * lines;
    Component part{"code[0:" + std::to_string(rest - 1) + "]",
                   rest,
                   0,
                   {{'r', kBlockRows, 1, 32}, {'k', 4, 1, 8}},
                   0};
    if (perByte > 1)
      part.digits.push_back({'k', perByte, 4, rest});
    if (lines > 1)
      part.digits.push_back({'k', lines, 4 * perByte, 512});
    step.components.push_back(std::move(part));
    blockLayout =
        makeBlockLayout(step, base.group(), 0, scaleBits(base.scaleKind()) / 8);
  }

  std::string spec() const override { return text; }
  int64_t group() const override { return base.group(); }
  bool hasScale() const override { return base.hasScale(); }
  ScaleKind scaleKind() const override { return base.scaleKind(); }
  bool hasTensorScale() const override { return base.hasTensorScale(); }
  unsigned codeBits() const override { return base.codeBits(); }
  CodeField codedField() const override { return {rest, shape.exponent}; }
  float unit() const override { return base.unit(); }
  const BlockLayout &layout() const override { return blockLayout; }

  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &options) const override {
    return base.fit(values, n, options);
  }
  uint16_t roundScale(float scale) const override {
    return base.roundScale(scale);
  }
  float fitTensor(const float *values, int64_t n,
                  const FitOptions &options) const override {
    return base.fitTensor(values, n, options);
  }
  uint32_t nearest(const float *values, GroupParams params) const override {
    return fromBase(base.nearest(values, params));
  }
  void nearestAll(const float *values, int64_t count, GroupParams params,
                  uint32_t *codes) const override {
    base.nearestAll(values, count, params, codes);
    for (int64_t i = 0; i < count; ++i)
      codes[i] = fromBase(codes[i]);
  }
  void decode(uint32_t code, GroupParams params, float *values) const override {
    base.decode(toBase(code), params, values);
  }
  void
  decodeFloatStep(RegisterBuilder &builder, int64_t offset,
                  llvm::SmallVectorImpl<FloatPlane> &planes) const override {
    unsigned position = 0;
    for (int64_t line = 0; line < lines; ++line) {
      Reg value = builder.load(offset + 64 * line);
      for (unsigned at = 0; at < 8; at += rest) {
        // The sign becomes the high bit of the byte.
        Reg bytes =
            rest == 8 ? value : builder.field(value, at, rest, 8 - rest);
        for (unsigned column = 0; column < 4; ++column)
          planes.push_back(
              {builder.joinExponents(bytes, column, shape), position++});
      }
    }
  }

private:
  uint32_t fromBase(uint32_t code) const {
    uint32_t mantissa = code & ((1u << shape.mantissa) - 1);
    uint32_t exponent = code >> shape.mantissa & ((1u << shape.exponent) - 1);
    uint32_t sign = code >> (shape.bits() - 1) & 1;
    return exponent << rest | sign << shape.mantissa | mantissa;
  }
  uint32_t toBase(uint32_t code) const {
    uint32_t mantissa = code & ((1u << shape.mantissa) - 1);
    uint32_t sign = code >> shape.mantissa & 1;
    return sign << (shape.bits() - 1) | code >> rest << shape.mantissa |
           mantissa;
  }

  std::string text;
  const Format &base;
  Minifloat shape;
  unsigned rest; // bits of sign and mantissa
  int64_t lines; // of a step
  BlockLayout blockLayout;
};

} // namespace

static FormatRegistration dfloat11(
    "dfloat11", "bf16 with coded exponents, about 10.6 bits: dfloat11",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      FormatArgReader reader(args);
      if (llvm::Error error = reader.finish())
        return std::move(error);
      llvm::Expected<const Format *> base = getFormat("float<bf16>");
      if (!base)
        return base.takeError();
      return std::make_unique<ExponentFormat>("dfloat11", **base, kBFloat16);
    });

static FormatRegistration
    ecf8("ecf8", "fp8<e4m3> with coded exponents: ecf8<group = G | tensor>",
         [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
           FormatArgReader reader(args);
           int64_t group = reader.option("group", 0, kMaxGroup, 0);
           bool isTensor = reader.flag("tensor");
           if (isTensor && group)
             reader.fail("'tensor' and 'group' exclude each other");
           if (llvm::Error error = reader.finish())
             return std::move(error);
           std::vector<std::string> arguments;
           if (group)
             arguments.push_back("group = " + std::to_string(group));
           if (isTensor)
             arguments.push_back("tensor");
           std::string text = formatSpec("ecf8", arguments);
           arguments.insert(arguments.begin(), "e4m3");
           llvm::Expected<const Format *> base =
               getFormat(formatSpec("fp8", arguments));
           if (!base)
             return base.takeError();
           return std::make_unique<ExponentFormat>(std::move(text), **base,
                                                   kE4M3);
         });

QUENCH_BUILTIN_FORMAT(Exponents)
