//===- Aqlm.cpp - Sums of learned codewords -------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// aqlm<KxB, group = G>: G weights in a row are the sum of K vectors, one from
// each of K tables of 2^B, times the scale of the row. The tables are learned
// for a weight and stored in its header (CodebookTable.h).
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "CodebookTable.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"
#include <cmath>

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
                                const FitOptions &options) const override;
  const AdditiveCodebook *codebook() const override { return book.get(); }
  std::vector<uint8_t>
  storeCodebook(llvm::ArrayRef<float> vectors) const override {
    return shape.store(vectors, spread);
  }
  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &options) const override;
  uint32_t nearest(const float *values, GroupParams params) const override;
  void decode(uint32_t code, GroupParams params, float *values) const override;
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool inPlace,
                  llvm::SmallVectorImpl<Plane> &planes) const override;

private:
  /// Codewords of a step: four for each field of a byte.
  int64_t stepWords() const { return 4 * (8 / widthsOf(bits).back()); }
  void makeLayout();
  void unpackCode(uint32_t code, uint32_t *codes) const {
    for (int64_t t = 0; t < tables; ++t)
      codes[t] = code >> (t * bits) & (shape.entries() - 1);
  }

  int64_t tables;
  unsigned bits;
  int64_t length;
  CodebookShape shape;
  BlockLayout blockLayout;
  /// Of a bound format: vectors in units of a lane, and what they code at scale
  /// 1.
  std::unique_ptr<AdditiveCodebook> book;
  float spread = 1;
};

} // namespace

void AqlmFormat::makeLayout() {
  llvm::SmallVector<unsigned, 4> widths = widthsOf(bits);
  StepLayout step;
  step.columns = stepWords() * length;
  // A line holds 16 rows of one codeword after the other: with the lines of a
  // pass interleaved in these pieces, the rows of a pass lie side by side.
  step.unit = kBlockRows;
  for (int64_t t = 0; t < tables; ++t) {
    unsigned shift = t * bits;
    for (unsigned width : widths) {
      std::string name = "code";
      if (width != codeBits())
        name += "[" + std::to_string(shift) + ":" +
                std::to_string(shift + width - 1) + "]";
      Component part{name, width, step.bytes, {}, shift};
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
  // Lane 16 * word + row to lane 4 * row + word.
  uint8_t order[64];
  for (unsigned lane = 0; lane < 64; ++lane)
    order[lane] = lane % 4 * 16 + lane / 4;
  llvm::SmallVector<unsigned, 4> widths = widthsOf(bits);
  int64_t fours = stepWords() / 4;
  unsigned count = shape.storedEntries() < 64 ? shape.storedEntries() : 64;

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
      llvm::SmallVector<Reg, 4> table;
      int64_t at = (t * length + j) * shape.storedEntries();
      for (int64_t part = 0; part < shape.storedEntries(); part += 64)
        table.push_back(builder.loadTable(at + part, count));
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
  bound->book = shape.vectors(table);
  bound->spread = CodebookShape::spread(table);
  return bound;
}

std::vector<uint8_t> AqlmFormat::fitTable(const float *values, int64_t rows,
                                          int64_t cols,
                                          const FitOptions &) const {
  // Vectors from everywhere, over the spread of their row.
  int64_t perRow = (cols + length - 1) / length, all = rows * perRow;
  std::vector<double> inverse(rows);
  for (int64_t row = 0; row < rows; ++row) {
    double spread = rootMeanSquare(values + row * cols, cols);
    inverse[row] = spread > 0 ? 1 / spread : 0;
  }
  std::vector<float> points;
  for (int64_t i = 0, stride = sampleStride(all); i < all; i += stride) {
    int64_t row = i / perRow, first = i % perRow * length;
    for (int64_t j = first; j < first + length; ++j) {
      double value = j < cols ? values[row * cols + j] * inverse[row] : 0;
      points.push_back(std::isfinite(value) ? value : 0);
    }
  }
  return shape.learn(points);
}

//===----------------------------------------------------------------------===//
// Codes
//===----------------------------------------------------------------------===//

GroupParams AqlmFormat::fit(const float *values, int64_t n,
                            const FitOptions &) const {
  GroupParams params;
  params.scale = scaleToHalf(rootMeanSquare(values, n) / spread);
  return params;
}

uint32_t AqlmFormat::nearest(const float *values, GroupParams params) const {
  float scale = halfToFloat(params.scale) * unit();
  if (scale == 0 || !book)
    return 0;
  llvm::SmallVector<float, 32> point(length);
  for (int64_t j = 0; j < length; ++j) {
    float value = values[j] / scale;
    // Far outside, the codeword depends on the direction only.
    value = value > -1e6f ? value : -1e6f;
    point[j] = value < 1e6f ? value : 1e6f;
  }
  uint32_t codes[32], code = 0;
  book->find(point.data(), kCodebookBeam, codes);
  for (int64_t t = 0; t < tables; ++t)
    code |= codes[t] << (t * bits);
  return code;
}

void AqlmFormat::decode(uint32_t code, GroupParams params,
                        float *values) const {
  uint32_t codes[32];
  unpackCode(code, codes);
  if (!book) {
    std::fill_n(values, length, 0.0f);
    return;
  }
  book->sum(codes, values);
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
        for (int b = 1; b <= 8; ++b)
          names.push_back(std::to_string(k) + "x" + std::to_string(b));
      std::vector<llvm::StringRef> choices(names.begin(), names.end());
      FormatArgReader reader(args);
      std::string text = reader.choice("tables x bits", choices);
      int64_t length = reader.option("group", 1, 32, 8);
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<AqlmFormat>(text[0] - '0', text[2] - '0', length);
    });

QUENCH_BUILTIN_FORMAT(Aqlm)
