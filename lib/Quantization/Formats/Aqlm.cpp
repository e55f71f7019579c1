//===- Aqlm.cpp - Sums of learned codewords -------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// aqlm<KxB, group = G>: G weights in a row are the sum of K vectors, one from
// each of K tables of 2^B, times the scale of the row. The tables are learned
// for a weight and stored in its header (CodebookTable.h). Up to eight bits the
// entries are looked up in registers, coordinate by coordinate; above, four
// coordinates at a time are gathered from memory.
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "CodebookTable.h"
#include "WideCodes.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"
#include <cmath>
#include <optional>

using namespace quench;

/// Widths of the parts of B bits, widest first.
static llvm::SmallVector<unsigned, 4> widthsOf(unsigned bits) {
  llvm::SmallVector<unsigned, 4> widths;
  for (unsigned width : {8u, 4u, 2u, 1u})
    if (bits & width)
      widths.push_back(width);
  return widths;
}

namespace {

class AqlmFormat : public Format {
public:
  AqlmFormat(int64_t tables, unsigned bits, int64_t length)
      : tables(tables), bits(bits), length(length),
        shape{tables, bits, length} {
    makeLayout();
  }

  std::string spec() const override {
    return formatSpec("aqlm",
                      {std::to_string(tables) + "x" + std::to_string(bits),
                       "group = " + std::to_string(length)});
  }
  int64_t group() const override { return 0; }
  int64_t codeLength() const override { return length; }
  unsigned codeBits() const override { return tables * bits; }
  int64_t tableBytes() const override { return shape.bytes(); }
  const BlockLayout &layout() const override { return blockLayout; }
  bool isInteger() const override { return true; }
  int64_t bias() const override { return tables * shape.bias(); }
  float unit() const override { return CodebookShape::kUnit; }

  int64_t sumTables() const override {
    return bits == 8 && length % 4 == 0 ? tables : 0;
  }

  std::unique_ptr<Format> bind(llvm::ArrayRef<uint8_t> table) const override;
  std::vector<uint8_t> fitTable(const float *values, int64_t rows, int64_t cols,
                                const FitOptions &options) const override {
    return shape.fit(values, rows, cols, /*down=*/false, options);
  }
  const AdditiveCodebook *codebook() const override {
    return learned ? &learned->book() : nullptr;
  }
  std::vector<uint8_t>
  storeCodebook(llvm::ArrayRef<float> vectors) const override {
    return shape.store(vectors, spread());
  }
  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &options) const override;
  uint32_t nearest(const float *values, GroupParams params) const override {
    uint32_t code;
    nearestAll(values, 1, params, &code);
    return code;
  }
  void nearestAll(const float *values, int64_t count, GroupParams params,
                  uint32_t *codes) const override;
  void decode(uint32_t code, GroupParams params, float *values) const override;
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool inPlace,
                  llvm::SmallVectorImpl<Plane> &planes) const override;

private:
  float spread() const { return learned ? learned->spread() : 1.0f; }
  /// Codewords of a step: four for each field of a byte.
  int64_t stepWords() const { return 4 * (8 / widthsOf(bits).back()); }
  void makeLayout();
  void makeWideLayout();
  void decodeWideStep(RegisterBuilder &builder, int64_t offset,
                      llvm::SmallVectorImpl<Plane> &planes) const;
  /// What a component with these bits of a code is called.
  std::string partName(unsigned shift, unsigned width) const {
    if (width == codeBits())
      return "code";
    return "code[" + std::to_string(shift) + ":" +
           std::to_string(shift + width - 1) + "]";
  }
  void unpackCode(uint32_t code, uint32_t *codes) const {
    for (int64_t t = 0; t < tables; ++t)
      codes[t] = code >> (t * bits) & (shape.entries() - 1);
  }

  int64_t tables;
  unsigned bits;
  int64_t length;
  CodebookShape shape;
  BlockLayout blockLayout;
  std::optional<LearnedTable> learned; // of a bound format
};

} // namespace

/// A codeword of each row of each table, one after the other.
void AqlmFormat::makeWideLayout() {
  WideCodes wide{bits};
  StepLayout step;
  step.columns = wide.count() * length;
  step.bytes = tables * wide.bytes();
  step.unit = step.bytes; // codes cross lines
  for (int64_t t = 0; t < tables; ++t) {
    unsigned shift = t * bits;
    Component part{partName(shift, bits), bits, t * wide.bytes(), {}, shift};
    part.digits.push_back({'r', kBlockRows, 1, wide.laneBits()});
    part.digits.push_back({'k', wide.count(), length, bits});
    step.components.push_back(std::move(part));
  }
  blockLayout = makeBlockLayout(step, 0, 0);
}

void AqlmFormat::decodeWideStep(RegisterBuilder &builder, int64_t offset,
                                llvm::SmallVectorImpl<Plane> &planes) const {
  WideCodes wide{bits};
  llvm::SmallVector<llvm::SmallVector<Reg, 32>, 4> codes;
  for (int64_t t = 0; t < tables; ++t)
    codes.push_back(wide.load(builder, offset + t * wide.bytes()));
  unsigned hi = tables * (2 * shape.bias() - 1);
  for (int64_t word = 0; word < wide.count(); ++word) {
    llvm::SmallVector<Reg, 4> indices;
    for (int64_t t = 0; t < tables; ++t)
      indices.push_back(codes[t][word]);
    for (int64_t four = 0; four < length / 4; ++four)
      planes.push_back({shape.gather(builder, indices, four),
                        unsigned(word * length / 4 + four), 0, hi});
  }
}

void AqlmFormat::makeLayout() {
  if (shape.isWide())
    return makeWideLayout();
  llvm::SmallVector<unsigned, 4> widths = widthsOf(bits);
  StepLayout step;
  step.columns = stepWords() * length;
  // A line holds 16 rows of one codeword after the other: with the lines of a
  // pass interleaved in these pieces, the rows of a pass lie side by side; with
  // those of two passes, the 64 rows that sums are looked up for at once.
  step.unit = kBlockRows;
  step.sharedPasses = sumTables() ? 2 : 1;
  for (int64_t t = 0; t < tables; ++t) {
    unsigned shift = t * bits;
    for (unsigned width : widths) {
      Component part{partName(shift, width), width, step.bytes, {}, shift};
      int64_t perByte = 8 / width, lines = stepWords() / (4 * perByte);
      part.digits.push_back({'r', kBlockRows, 1, 8});
      part.digits.push_back({'k', 4, length, 8 * kBlockRows});
      if (perByte > 1)
        part.digits.push_back({'k', perByte, 4 * length, width});
      if (lines > 1)
        part.digits.push_back({'k', lines, 4 * perByte * length, 512});
      step.components.push_back(std::move(part));
      step.bytes += 64 * lines;
      shift += width;
    }
  }
  // Plane (four, coordinate) takes that coordinate of four codewords.
  if (length > 1)
    for (int64_t four = 0; four < stepWords(); four += 4)
      for (int64_t j = 0; j < length; ++j)
        for (int64_t word = four; word < four + 4; ++word)
          step.xOrder.push_back(word * length + j);
  blockLayout = makeBlockLayout(step, 0, 0);
}

void AqlmFormat::decodeStep(RegisterBuilder &builder, int64_t offset, bool,
                            llvm::SmallVectorImpl<Plane> &planes) const {
  if (shape.isWide())
    return decodeWideStep(builder, offset, planes);
  // Lane 16 * word + row to lane 4 * row + word.
  uint8_t order[64];
  for (unsigned lane = 0; lane < 64; ++lane)
    order[lane] = lane % 4 * 16 + lane / 4;
  llvm::SmallVector<unsigned, 4> widths = widthsOf(bits);
  int64_t fours = stepWords() / 4;

  llvm::SmallVector<Reg, 8> sums(fours * length);
  for (int64_t t = 0; t < tables; ++t) {
    // The codes of each four, put together of their parts.
    llvm::SmallVector<Reg, 8> codes(fours);
    unsigned shift = 0;
    for (unsigned width : widths) {
      int64_t perByte = 8 / width;
      for (int64_t four = 0; four < fours; four += perByte, offset += 64) {
        Reg line = builder.permute(builder.load(offset), order);
        for (int64_t i = 0; i < perByte; ++i) {
          Reg part =
              width == 8 ? line : builder.field(line, i * width, width, shift);
          Reg &code = codes[four + i];
          code = shift == 0 ? part : builder.bitOr(code, part);
        }
      }
      shift += width;
    }
    for (int64_t j = 0; j < length; ++j) {
      llvm::SmallVector<Reg, 4> table = shape.load(builder, t, j);
      for (int64_t four = 0; four < fours; ++four) {
        Reg value = builder.lookup(table, codes[four]);
        Reg &sum = sums[four * length + j];
        sum = t == 0 ? value : builder.add(sum, value);
      }
    }
  }
  unsigned hi = tables * (2 * shape.bias() - 1);
  for (auto [quad, sum] : llvm::enumerate(sums))
    planes.push_back({sum, unsigned(quad), 0, hi});
}

//===----------------------------------------------------------------------===//
// The table
//===----------------------------------------------------------------------===//

std::unique_ptr<Format> AqlmFormat::bind(llvm::ArrayRef<uint8_t> table) const {
  if (static_cast<int64_t>(table.size()) != tableBytes())
    return nullptr;
  auto bound = std::make_unique<AqlmFormat>(tables, bits, length);
  bound->learned.emplace(shape, table);
  return bound;
}

//===----------------------------------------------------------------------===//
// Codes
//===----------------------------------------------------------------------===//

GroupParams AqlmFormat::fit(const float *values, int64_t n,
                            const FitOptions &) const {
  GroupParams params;
  params.scale = scaleToHalf(rootMeanSquare(values, n) / spread());
  return params;
}

void AqlmFormat::nearestAll(const float *values, int64_t count,
                            GroupParams params, uint32_t *codes) const {
  std::fill_n(codes, count, 0);
  float scale = halfToFloat(params.scale) * unit();
  if (scale == 0 || !learned)
    return;
  std::vector<float> points(count * length);
  for (int64_t i = 0; i < count * length; ++i) {
    float value = values[i] / scale;
    // Far outside, the codeword depends on the direction only.
    value = value > -1e6f ? value : -1e6f;
    points[i] = value < 1e6f ? value : 1e6f;
  }
  std::vector<uint32_t> found(count * tables);
  learned->book().findAll(points.data(), count, kCodebookBeam, found.data());
  for (int64_t i = 0; i < count; ++i)
    for (int64_t t = 0; t < tables; ++t)
      codes[i] |= found[i * tables + t] << (t * bits);
}

void AqlmFormat::decode(uint32_t code, GroupParams params,
                        float *values) const {
  uint32_t codes[32];
  unpackCode(code, codes);
  if (!learned) {
    std::fill_n(values, length, 0.0f);
    return;
  }
  learned->sum(codes, values);
  float scale = halfToFloat(params.scale);
  for (int64_t j = 0; j < length; ++j)
    values[j] = scale * (unit() * values[j]);
}

static FormatRegistration registration(
    "aqlm",
    "sums of vectors from learned tables: aqlm<KxB, group = G> takes one from "
    "each of K tables of 2^B for G weights",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      std::vector<std::string> names;
      for (int k = 1; k <= 4; ++k)
        for (int b = 1; b <= 16 && k * b <= 32; ++b)
          names.push_back(std::to_string(k) + "x" + std::to_string(b));
      std::vector<llvm::StringRef> choices(names.begin(), names.end());
      FormatArgReader reader(args);
      std::string text = reader.choice("tables x bits", choices);
      int64_t length = reader.option("group", 1, 32, 8), bits = 1;
      llvm::StringRef(text).drop_front(2).getAsInteger(10, bits);
      if (bits > 8 && length % 4 != 0)
        reader.fail("with more than 8 bits of a table the group must be a "
                    "multiple of 4; found " +
                    llvm::Twine(length));
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<AqlmFormat>(text[0] - '0', bits, length);
    });

QUENCH_BUILTIN_FORMAT(Aqlm)
