//===- Float.cpp - The numbers themselves ---------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// float<32>, float<16>, float<bf16>: no scale; a block holds 16 columns, the 16
// rows of a column side by side.
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"

using namespace quench;

namespace {

class FloatFormat : public Format {
public:
  explicit FloatFormat(FloatKind kind) : kind(kind) {
    StepLayout step;
    step.columns = 16;
    step.bytes = 16 * columnBytes();
    step.unit = columnBytes();
    step.components.push_back(
        {"code",
         codeBits(),
         0,
         {{'r', kBlockRows, 1, codeBits()}, {'k', 16, 1, 8 * columnBytes()}},
         0});
    blockLayout = makeBlockLayout(step, 0, false);
  }

  std::string spec() const override {
    return kind == FloatKind::F32   ? "float<32>"
           : kind == FloatKind::F16 ? "float<16>"
                                    : "float<bf16>";
  }
  int64_t group() const override { return 0; }
  bool hasScale() const override { return false; }
  unsigned codeBits() const override {
    return kind == FloatKind::F32 ? 32 : 16;
  }
  const BlockLayout &layout() const override { return blockLayout; }

  GroupParams fit(const float *, int64_t, const FitOptions &) const override {
    return {floatToHalf(1.0f), 0};
  }
  uint32_t nearest(const float *values, GroupParams) const override {
    switch (kind) {
    case FloatKind::F16:
      return floatToHalf(values[0]);
    case FloatKind::BF16:
      return floatToBfloat(values[0]);
    case FloatKind::F32:
      break;
    }
    return floatBits(values[0]);
  }
  void decode(uint32_t code, GroupParams, float *values) const override {
    switch (kind) {
    case FloatKind::F16:
      values[0] = halfToFloat(code);
      return;
    case FloatKind::BF16:
      values[0] = bfloatToFloat(code);
      return;
    case FloatKind::F32:
      break;
    }
    values[0] = bitsFloat(code);
  }
  void
  decodeFloatStep(RegisterBuilder &builder, int64_t offset,
                  llvm::SmallVectorImpl<FloatPlane> &planes) const override {
    for (unsigned column = 0; column < 16; ++column)
      planes.push_back(
          {builder.loadFloats(offset + column * columnBytes(), kind), column});
  }

private:
  int64_t columnBytes() const { return kBlockRows * codeBits() / 8; }

  FloatKind kind;
  BlockLayout blockLayout;
};

} // namespace

static FormatRegistration registration(
    "float", "the numbers themselves: float<32 | 16 | bf16>",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      FormatArgReader reader(args);
      std::string kind = reader.choice("kind", {"32", "16", "bf16"});
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<FloatFormat>(kind == "32"   ? FloatKind::F32
                                           : kind == "16" ? FloatKind::F16
                                                          : FloatKind::BF16);
    });

QUENCH_BUILTIN_FORMAT(Float)
