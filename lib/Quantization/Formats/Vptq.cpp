//===- Vptq.cpp - Learned vectors along the outputs -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// vptq<KxB, rows = V>: V weights below each other in a column are the sum of K
// vectors, one from each of K tables of 2^B (the second one codes what the
// first one leaves), each times the scale of its row. Columns are coded one by
// one, so feedback works as for scalar codes. The tables are learned for a
// weight and stored in its header (CodebookTable.h).
//
// The K B bits of the codes of a vector are dealt out to its rows, K B / V bits
// each, those of the first table first: in a block they lie side by side again.
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

namespace {

class VptqFormat : public Format {
public:
  VptqFormat(int64_t tables, unsigned bits, int64_t length)
      : tables(tables), length(length), share(bits * tables / length),
        shape{tables, bits, length}, wide{bits} {
    // Strings of indices of a table: in bytes one for each column and tile,
    // else one for each column of a step of `length` and each tile.
    StepLayout step;
    bool isWide = shape.isWide();
    int64_t strings = isWide ? length : 4 * length;
    int64_t stringBits = isWide ? wide.laneBits() : 8;
    int64_t ofTable = isWide ? wide.bytes() : 64;
    step.columns = isWide ? length * wide.count() : strings;
    step.bytes = ofTable * tables;
    if (isWide)
      step.unit = step.bytes; // codes cross lines
    Component code{"code", share, 0, {}};
    int64_t rowsOfTable = length / tables;
    code.digits.push_back({'r', rowsOfTable, 1, share});
    if (tables > 1)
      code.digits.push_back({'r', tables, rowsOfTable, 8 * ofTable});
    if (length < kBlockRows)
      code.digits.push_back(
          {'r', kBlockRows / length, length, stringBits * strings});
    code.digits.push_back({'k', strings, 1, stringBits});
    if (isWide)
      code.digits.push_back({'k', wide.count(), length, bits});
    step.components.push_back(std::move(code));
    blockLayout = makeBlockLayout(step, 0, 0);
  }

  std::string spec() const override {
    return formatSpec(
        "vptq", {std::to_string(tables) + "x" + std::to_string(shape.bits),
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
    auto bound = std::make_unique<VptqFormat>(tables, shape.bits, length);
    bound->learned.emplace(shape, table);
    return bound;
  }
  std::vector<uint8_t> fitTable(const float *values, int64_t rows, int64_t cols,
                                const FitOptions &options) const override {
    return shape.fit(values, rows, cols, /*down=*/true, options);
  }
  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &) const override {
    GroupParams params;
    params.scale = scaleToHalf(rootMeanSquare(values, n) / spread());
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
  float spread() const { return learned ? learned->spread() : 1.0f; }
  void decodeWideStep(RegisterBuilder &builder, int64_t offset,
                      llvm::SmallVectorImpl<Plane> &planes) const;

  int64_t tables, length;
  unsigned share; // bits of a row
  CodebookShape shape;
  WideCodes wide; // if shape.isWide()
  BlockLayout blockLayout;
  std::optional<LearnedTable> learned; // of a bound format
};

} // namespace

void VptqFormat::nearestTile(const float *values, const GroupParams *params,
                             const float *weights, uint32_t *codes) const {
  std::fill_n(codes, length, 0);
  if (!learned)
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
  learned->book().find(point, counts, kCodebookBeam / 2, chosen);
  for (int64_t t = 0; t < tables; ++t)
    all |= chosen[t] << (shape.bits * t);
  for (int64_t r = 0; r < length; ++r)
    codes[r] = all >> (r * share) & ((1u << share) - 1);
}

void VptqFormat::decodeTile(const uint32_t *codes, const GroupParams *params,
                            float *values) const {
  uint32_t all = 0, chosen[4] = {};
  for (int64_t r = 0; r < length; ++r)
    all |= codes[r] << (r * share);
  for (int64_t t = 0; t < tables; ++t)
    chosen[t] = all >> (shape.bits * t) & (shape.entries() - 1);
  std::fill_n(values, length, 0.0f);
  if (!learned)
    return;
  learned->sum(chosen, values);
  for (int64_t r = 0; r < length; ++r)
    values[r] = halfToFloat(params[r].scale) * (unit() * values[r]);
}

void VptqFormat::decodeStep(RegisterBuilder &builder, int64_t offset, bool,
                            llvm::SmallVectorImpl<Plane> &planes) const {
  if (shape.isWide())
    return decodeWideStep(builder, offset, planes);
  // Coordinate j of the vectors of all tiles: words of four columns, `length`
  // of them for each tile.
  llvm::SmallVector<Reg, 16> regs(length);
  for (int64_t t = 0; t < tables; ++t) {
    Reg codes = builder.load(offset + 64 * t);
    for (int64_t j = 0; j < length; ++j) {
      Reg value = builder.lookup(shape.load(builder, t, j), codes);
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

/// Lane length * tile + column of each index.
void VptqFormat::decodeWideStep(RegisterBuilder &builder, int64_t offset,
                                llvm::SmallVectorImpl<Plane> &planes) const {
  llvm::SmallVector<llvm::SmallVector<Reg, 32>, 4> codes;
  for (int64_t t = 0; t < tables; ++t)
    codes.push_back(wide.load(builder, offset + t * wide.bytes()));
  unsigned hi = tables * (2 * shape.bias() - 1);
  for (int64_t part = 0; part < wide.count(); ++part) {
    llvm::SmallVector<Reg, 4> indices, fours;
    for (int64_t t = 0; t < tables; ++t)
      indices.push_back(codes[t][part]);
    for (int64_t four = 0; four < length / 4; ++four)
      fours.push_back(shape.gather(builder, indices, four));
    for (int64_t quad = 0; quad < length / 4; ++quad) {
      llvm::SmallVector<int64_t, 64> places;
      for (int64_t row = 0; row < kBlockRows; ++row)
        for (int64_t column = 4 * quad; column < 4 * quad + 4; ++column) {
          int64_t lane = row / length * length + column, j = row % length;
          places.push_back(64 * (j / 4) + 4 * lane + j % 4);
        }
      planes.push_back({permuteLines(builder, fours, places),
                        unsigned(part * length / 4 + quad), 0, hi});
    }
  }
}

static FormatRegistration registration(
    "vptq",
    "learned vectors of V rows of a column: vptq<KxB, rows = V> adds one from "
    "each of K tables of 2^B",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      std::vector<std::string> names;
      for (int k : {1, 2, 4})
        for (int b = 8; b <= 16 && k * b <= 32; ++b)
          names.push_back(std::to_string(k) + "x" + std::to_string(b));
      std::vector<llvm::StringRef> choices(names.begin(), names.end());
      FormatArgReader reader(args);
      std::string text = reader.choice("tables x bits", choices);
      int64_t tables = text[0] - '0', bits = 8;
      llvm::StringRef(text).drop_front(2).getAsInteger(10, bits);
      int64_t length = reader.option("rows", 1, kBlockRows, 8);
      int64_t least = bits > 8 ? 4 : 2;
      if (length < std::max(least, tables) || (length & (length - 1)) ||
          tables * bits % length != 0)
        reader.fail("rows must be a power of two, at least the number of "
                    "tables and 2 (4 with more than 8 bits), and a divisor of "
                    "the bits of all tables; found " +
                    llvm::Twine(length));
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<VptqFormat>(tables, bits, length);
    });

QUENCH_BUILTIN_FORMAT(Vptq)
