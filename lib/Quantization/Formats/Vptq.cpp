//===- Vptq.cpp - Learned vectors along the outputs -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// vptq<Kx8, rows = V>: V weights below each other in a column are the sum of K
// vectors, one from each of K tables of 256 (the second one codes what the
// first one leaves), each times the scale of its row. Columns are coded one by
// one, so feedback works as for scalar codes. The tables are learned for a
// weight and stored in its header (CodebookTable.h).
//
// The 8 K bits of the codes of a vector are dealt out to its rows, 8 K / V bits
// each, those of the first table first: in a block they lie side by side again.
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "CodebookTable.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"
#include <cmath>

using namespace quench;

namespace {

class VptqFormat : public Format {
public:
  VptqFormat(int64_t tables, int64_t length)
      : tables(tables), length(length), share(8 * tables / length),
        shape{tables, 8, length} {
    // Byte `tile * 4 length + column` of the line of a table.
    StepLayout step;
    step.columns = 4 * length;
    step.bytes = 64 * tables;
    Component code{"code", share, 0, {}};
    int64_t rowsOfTable = length / tables;
    code.digits.push_back({'r', rowsOfTable, 1, share});
    if (tables > 1)
      code.digits.push_back({'r', tables, rowsOfTable, 512});
    if (length < kBlockRows)
      code.digits.push_back(
          {'r', kBlockRows / length, length, 8 * step.columns});
    code.digits.push_back({'k', step.columns, 1, 8});
    step.components.push_back(std::move(code));
    blockLayout = makeBlockLayout(step, 0, 0);
  }

  std::string spec() const override {
    return formatSpec("vptq", {std::to_string(tables) + "x8",
                               "rows = " + std::to_string(length)});
  }
  int64_t group() const override { return 0; }
  unsigned codeBits() const override { return share; }
  int64_t tileRows() const override { return length; }
  int64_t tileColumns() const override { return 1; }
  int64_t tableBytes() const override { return shape.bytes(); }
  const BlockLayout &layout() const override { return blockLayout; }
  bool isInteger() const override { return true; }
  int64_t bias() const override { return tables * shape.bias(); }
  float unit() const override { return CodebookShape::kUnit; }

  std::unique_ptr<Format> bind(llvm::ArrayRef<uint8_t> table) const override {
    if (static_cast<int64_t>(table.size()) != tableBytes())
      return nullptr;
    auto bound = std::make_unique<VptqFormat>(tables, length);
    bound->book = shape.vectors(table);
    bound->spread = CodebookShape::spread(table);
    return bound;
  }
  std::vector<uint8_t> fitTable(const float *values, int64_t rows, int64_t cols,
                                const FitOptions &options) const override;
  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &) const override {
    GroupParams params;
    params.scale = scaleToHalf(rootMeanSquare(values, n) / spread);
    return params;
  }
  // Codes belong to tiles.
  uint32_t nearest(const float *, GroupParams) const override { return 0; }
  void decode(uint32_t, GroupParams, float *values) const override {
    values[0] = 0;
  }
  void nearestTile(const float *values, const GroupParams *params,
                   const float *weights, uint32_t *codes) const override;
  void decodeTile(const uint32_t *codes, const GroupParams *params,
                  float *values) const override;
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool inPlace,
                  llvm::SmallVectorImpl<Plane> &planes) const override;

private:
  int64_t tables, length;
  unsigned share; // bits of a row
  CodebookShape shape;
  BlockLayout blockLayout;
  std::unique_ptr<AdditiveCodebook> book; // of a bound format
  float spread = 1;
};

} // namespace

std::vector<uint8_t> VptqFormat::fitTable(const float *values, int64_t rows,
                                          int64_t cols,
                                          const FitOptions &) const {
  int64_t tiles = (rows + length - 1) / length, all = tiles * cols;
  std::vector<double> inverse(rows);
  for (int64_t row = 0; row < rows; ++row) {
    double spread = rootMeanSquare(values + row * cols, cols);
    inverse[row] = spread > 0 ? 1 / spread : 0;
  }
  std::vector<float> points;
  for (int64_t i = 0, stride = sampleStride(all); i < all; i += stride) {
    int64_t first = i / cols * length, column = i % cols;
    for (int64_t row = first; row < first + length; ++row) {
      double value =
          row < rows ? values[row * cols + column] * inverse[row] : 0;
      points.push_back(std::isfinite(value) ? value : 0);
    }
  }
  return shape.learn(points);
}

void VptqFormat::nearestTile(const float *values, const GroupParams *params,
                             const float *weights, uint32_t *codes) const {
  std::fill_n(codes, length, 0);
  if (!book)
    return;
  // Errors count in the rows' own sizes; the largest counts 1.
  float point[kBlockRows], counts[kBlockRows], most = 0;
  for (int64_t r = 0; r < length; ++r)
    most = std::max(most, std::fabs(halfToFloat(params[r].scale)));
  if (most == 0)
    return;
  for (int64_t r = 0; r < length; ++r) {
    float scale = halfToFloat(params[r].scale), size = scale / most;
    counts[r] = size * size * (weights ? weights[r] : 1.0f);
    float value = scale == 0 ? 0 : values[r] / (scale * unit());
    value = value > -1e6f ? value : -1e6f;
    point[r] = value < 1e6f ? value : 1e6f;
  }
  uint32_t chosen[4] = {}, all = 0;
  book->find(point, counts, kCodebookBeam / 2, chosen);
  for (int64_t t = 0; t < tables; ++t)
    all |= chosen[t] << (8 * t);
  for (int64_t r = 0; r < length; ++r)
    codes[r] = all >> (r * share) & ((1u << share) - 1);
}

void VptqFormat::decodeTile(const uint32_t *codes, const GroupParams *params,
                            float *values) const {
  uint32_t all = 0, chosen[4] = {};
  for (int64_t r = 0; r < length; ++r)
    all |= codes[r] << (r * share);
  for (int64_t t = 0; t < tables; ++t)
    chosen[t] = all >> (8 * t) & 255;
  std::fill_n(values, length, 0.0f);
  if (!book)
    return;
  book->sum(chosen, values);
  for (int64_t r = 0; r < length; ++r)
    values[r] = halfToFloat(params[r].scale) * (unit() * values[r]);
}

void VptqFormat::decodeStep(RegisterBuilder &builder, int64_t offset, bool,
                            llvm::SmallVectorImpl<Plane> &planes) const {
  // Coordinate j of the vectors of all tiles: words of four columns, `length`
  // of them for each tile.
  llvm::SmallVector<Reg, 16> regs(length);
  for (int64_t t = 0; t < tables; ++t) {
    Reg codes = builder.load(offset + 64 * t);
    for (int64_t j = 0; j < length; ++j) {
      llvm::SmallVector<Reg, 4> table;
      for (int64_t part = 0; part < 256; part += 64)
        table.push_back(builder.loadTable((t * length + j) * 256 + part));
      Reg value = builder.lookup(table, codes);
      regs[j] = t == 0 ? value : builder.add(regs[j], value);
    }
  }
  // Register and word change places: one bit of their numbers after the other.
  for (int64_t bit = 1; bit < length; bit *= 2) {
    uint8_t low[64], high[64];
    for (int64_t i = 0; i < 64; ++i) {
      bool second = i / 4 & bit;
      low[i] = second ? 64 + (i ^ 4 * bit) : i;
      high[i] = second ? 64 + i : (i ^ 4 * bit);
    }
    for (int64_t r = 0; r < length; ++r) {
      if (r & bit)
        continue;
      Reg a = regs[r], b = regs[r | bit];
      regs[r] = builder.permute(a, b, low);
      regs[r | bit] = builder.permute(a, b, high);
    }
  }
  unsigned hi = tables * (2 * shape.bias() - 1);
  for (int64_t quad = 0; quad < length; ++quad)
    planes.push_back({regs[quad], unsigned(quad), 0, hi});
}

static FormatRegistration registration(
    "vptq",
    "learned vectors of V rows of a column: vptq<Kx8, rows = V> adds one from "
    "each of K tables of 256",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      FormatArgReader reader(args);
      int64_t tables =
          reader.choice("tables x bits", {"1x8", "2x8", "4x8"})[0] - '0';
      int64_t length = reader.option("rows", 1, kBlockRows, 8);
      if (length < std::max<int64_t>(2, tables) || (length & (length - 1)) ||
          8 * tables < length)
        reader.fail("rows must be a power of two, at least 2 and the number of "
                    "tables, at most 8 for each table; found " +
                    llvm::Twine(length));
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<VptqFormat>(tables, length);
    });

QUENCH_BUILTIN_FORMAT(Vptq)
