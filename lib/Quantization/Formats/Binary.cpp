//===- Binary.cpp - Sums and splits of binary codes -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// sum<binary, binary>: a weight is the sum of two signs, each times a scale of
// its own (residual binarization): a sign and one of the magnitudes |a - b| and
// a + b. split<magnitude, binary, binary>: small and large weights are
// binarized on their own (bell split): a sign and one of two magnitudes, named
// by a flag. split<columns, F, G>: some columns are coded by F, the others by G
// (BiLLM, arXiv 2402.04291). All are signs with few magnitudes of their row in
// a tile (BinaryTile.h), so one layout and one decode serve them.
//
// Magnitudes are bytes in units of the row's scale: a weight is an integer in
// the whole row, and sums over it need no scales in between. What the codes of
// a tile share lies in bits above those of the weight: in column k of a row
// bit k mod 8m of its m magnitudes, then whether column k is one of the
// salient ones, the same in all rows. A block holds each of these bits once:
//
//   codes, as in any format of so many bits; magnitudes, m bytes a row; the
//   set of columns, bit q mod 8 of byte 4 (q / 8) + j for column 4 q + j
//
//===----------------------------------------------------------------------===//

#include "BinaryTile.h"
#include "BuiltinFormats.h"
#include "SpecRegistry.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>

using namespace quench;

/// Bytes of the set of salient columns with what fills them up, and the least
/// that the magnitudes take: row blocks come in pairs and fill lines.
static constexpr int64_t kHalfLine = 32;

/// A quarter more than a row's magnitudes ask for: feedback moves the weights.
static constexpr float kHeadroom = 1.25f;

namespace {

class BinaryFormat : public Format {
public:
  /// `text`: the name and the arguments without the group.
  BinaryFormat(std::string name, std::vector<std::string> arguments,
               const BinaryShape &shape);

  std::string spec() const override { return text; }
  int64_t group() const override { return 0; }
  unsigned codeBits() const override {
    return shape.bits() + 1 + (shape.hasSalient ? 1 : 0);
  }
  unsigned symbolBits() const override { return shape.bits(); }
  int64_t bits(int64_t rows, int64_t cols) const override;
  int64_t tileRows() const override { return kBlockRows; }
  int64_t tileColumns() const override { return shape.columns; }
  bool codesInMetric() const override { return true; }
  const BlockLayout &layout() const override { return blockLayout; }
  bool isInteger() const override { return true; }
  int64_t bias() const override { return 128; }

  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &options) const override;
  // Codes belong to tiles.
  uint32_t nearest(const float *, GroupParams) const override { return 0; }
  void decode(uint32_t, GroupParams, float *value) const override {
    *value = 0;
  }
  void nearestTile(const float *values, const GroupParams *params,
                   const float *weights, uint32_t *codes) const override {
    nearestTileIn(nullptr, values, params, weights, codes);
  }
  void nearestTileIn(const float *metric, const float *values,
                     const GroupParams *params, const float *weights,
                     uint32_t *codes) const override;
  void decodeTile(const uint32_t *codes, const GroupParams *params,
                  float *values) const override;
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool inPlace,
                  llvm::SmallVectorImpl<Plane> &planes) const override;

private:
  void makeLayout();
  int64_t codeBytes() const { return 2 * shape.bits() * shape.columns; }
  llvm::SmallVector<Reg, 2> levelTable(RegisterBuilder &builder,
                                       int64_t offset) const;

  std::string text;
  BinaryShape shape;
  BlockLayout blockLayout;
  int64_t setOffset = 0; // of the set of columns in a block
};

} // namespace

BinaryFormat::BinaryFormat(std::string name, std::vector<std::string> arguments,
                           const BinaryShape &shape)
    : shape(shape) {
  arguments.push_back("group = " + std::to_string(shape.columns));
  text = formatSpec(name, arguments);
  makeLayout();
}

void BinaryFormat::makeLayout() {
  StepLayout step;
  step.columns = shape.columns;
  step.bytes = codeBytes();
  unsigned width = shape.bits();
  int64_t perByte = 8 / width, lines = step.bytes / 64;
  Component code{"code", width, 0, {}};
  code.name += width == 1 ? "[0]" : "[0:1]";
  code.digits = {{'r', kBlockRows, 1, 32},
                 {'k', 4, 1, 8},
                 {'k', perByte, 4, width},
                 {'k', lines, 4 * perByte, 512}};
  step.components.push_back(code);
  blockLayout = makeBlockLayout(step, 0, 0);

  auto addPart = [&](int64_t bytes) {
    int64_t length = std::max(bytes, kHalfLine);
    blockLayout.parts.push_back({blockLayout.bytes, length, length});
    blockLayout.bytes += length;
  };
  int64_t m = shape.magnitudes();
  Component magnitude{
      "code[" + std::to_string(width) + "]", 1, blockLayout.bytes, {}, width};
  magnitude.digits = {
      {'k', 8, 1, 1}, {'k', m, 8, 8}, {'r', kBlockRows, 1, 8 * m}};
  blockLayout.components.push_back(magnitude);
  addPart(m * kBlockRows);
  if (!shape.hasSalient)
    return;
  setOffset = blockLayout.bytes;
  Component set{
      "code[" + std::to_string(width + 1) + "]", 1, setOffset, {}, width + 1};
  set.digits = {{'k', 4, 1, 8}, {'k', 8, 4, 1}, {'k', 8, 32, 32}};
  blockLayout.components.push_back(set);
  addPart(shape.columns / 8);
}

int64_t BinaryFormat::bits(int64_t rows, int64_t cols) const {
  int64_t tiles = (cols + shape.columns - 1) / shape.columns;
  int64_t sets = shape.hasSalient ? (rows + kBlockRows - 1) / kBlockRows : 0;
  return rows * (cols * shape.bits() + tiles * 8 * shape.magnitudes() + 16) +
         sets * cols;
}

//===----------------------------------------------------------------------===//
// Host codec
//===----------------------------------------------------------------------===//

/// The largest magnitude that a tile of this row may ask for: about the mean
/// of one in 32 of its values, the largest ones.
GroupParams BinaryFormat::fit(const float *values, int64_t n,
                              const FitOptions &) const {
  double most = 0;
  std::vector<float> sizes;
  for (int64_t first = 0; first < n; first += shape.columns) {
    int64_t count = std::min(shape.columns, n - first);
    sizes.clear();
    for (int64_t i = first; i < first + count; ++i)
      if (std::isfinite(values[i]))
        sizes.push_back(std::fabs(values[i]));
    std::sort(sizes.begin(), sizes.end(), std::greater<float>());
    int64_t used = std::min<int64_t>(sizes.size(), (count + 31) / 32);
    double sum = 0;
    for (int64_t i = 0; i < used; ++i)
      sum += sizes[i];
    if (used > 0)
      most = std::max(most, sum / used);
  }
  GroupParams params;
  params.scale =
      scaleToHalf(static_cast<float>(kHeadroom * most / kMostMagnitude));
  return params;
}

void BinaryFormat::nearestTileIn(const float *metric, const float *values,
                                 const GroupParams *params,
                                 const float *weights, uint32_t *codes) const {
  float scales[kBlockRows];
  for (int64_t r = 0; r < kBlockRows; ++r)
    scales[r] = halfToFloat(params[r].scale);
  BinaryTile tile = encodeBinaryTile(shape, metric, values, scales, weights);
  unsigned width = shape.bits();
  int64_t magnitudeBits = 8 * shape.magnitudes();
  for (int64_t r = 0; r < kBlockRows; ++r)
    for (int64_t k = 0; k < shape.columns; ++k) {
      int64_t bit = k % magnitudeBits;
      uint32_t size = tile.magnitudes[r][bit / 8] >> (bit % 8) & 1;
      uint32_t kind = tile.salient[k];
      *codes++ = tile.codes[r * shape.columns + k] | size << width |
                 kind << (width + 1);
    }
}

void BinaryFormat::decodeTile(const uint32_t *codes, const GroupParams *params,
                              float *values) const {
  BinaryTile tile(shape);
  unsigned width = shape.bits();
  for (int64_t r = 0; r < kBlockRows; ++r) {
    const uint32_t *row = codes + r * shape.columns;
    for (int64_t bit = 0; bit < 8 * shape.magnitudes(); ++bit)
      tile.magnitudes[r][bit / 8] |= (row[bit] >> width & 1) << (bit % 8);
    for (int64_t k = 0; k < shape.columns; ++k) {
      tile.codes[r * shape.columns + k] = row[k] & ((1u << width) - 1);
      tile.salient[k] = shape.hasSalient ? row[k] >> (width + 1) & 1 : 0;
    }
    float scale = halfToFloat(params[r].scale);
    for (int64_t k = 0; k < shape.columns; ++k)
      values[r * shape.columns + k] =
          scale * static_cast<float>(tile.level(shape, r, k));
  }
}

//===----------------------------------------------------------------------===//
// Decode in registers
//===----------------------------------------------------------------------===//

/// 128 plus or minus the magnitudes of each row, by code in the four lanes of
/// the row: of one register, both kinds of columns where they need no more than
/// four lanes; else of one register for each kind.
llvm::SmallVector<Reg, 2> BinaryFormat::levelTable(RegisterBuilder &builder,
                                                   int64_t offset) const {
  Reg sizes = builder.load(offset + codeBytes());
  bool hasFlag = shape.bits() == 2;
  int64_t m = shape.magnitudes();
  llvm::SmallVector<Reg, 2> tables;
  for (int64_t kind = 0; kind < std::max<int64_t>(1, m / 2); ++kind) {
    uint8_t places[64];
    for (int64_t lane = 0; lane < 64; ++lane) {
      int64_t entry = lane % 4;
      int64_t i = hasFlag ? 2 * kind + entry % 2 : std::min(entry / 2, m - 1);
      places[lane] = lane / 4 * m + i;
    }
    // In the lanes of negative codes 128 - x, which is (x xor 255) + 129.
    Reg table = builder.permute(sizes, places);
    table = builder.bitXor(table,
                           builder.splat(hasFlag ? 0xffff0000u : 0xff00ff00u));
    tables.push_back(
        builder.add(table, builder.splat(hasFlag ? 0x81818080u : 0x81808180u)));
  }
  return tables;
}

/// Four times the row, in each lane.
static Reg rowBase(RegisterBuilder &builder) {
  Reg quarters[4];
  for (uint32_t i = 0; i < 4; ++i)
    quarters[i] = builder.splat(0x0c080400u + 0x10101010u * i);
  uint8_t pair[64], all[64];
  for (int64_t lane = 0; lane < 64; ++lane) {
    pair[lane] = lane / 16 % 2 * 64 + lane / 4 % 4;
    all[lane] = lane / 32 * 64 + lane;
  }
  return builder.permute(builder.permute(quarters[0], quarters[1], pair),
                         builder.permute(quarters[2], quarters[3], pair), all);
}

void BinaryFormat::decodeStep(RegisterBuilder &builder, int64_t offset, bool,
                              llvm::SmallVectorImpl<Plane> &planes) const {
  unsigned width = shape.bits(), perLine = 8 / width;
  llvm::SmallVector<Reg, 2> tables = levelTable(builder, offset);
  Reg base = rowBase(builder), set, line, word;
  if (shape.hasSalient)
    set = builder.load(offset + setOffset);
  for (unsigned quad = 0, quads = shape.columns / 4; quad < quads; ++quad) {
    if (quad % perLine == 0)
      line = builder.load(offset + 64 * (quad / perLine));
    if (shape.hasSalient && quad % 8 == 0) {
      uint8_t places[64];
      for (unsigned lane = 0; lane < 64; ++lane)
        places[lane] = quad / 8 * 4 + lane % 4;
      word = builder.permute(set, places);
    }
    Reg index = builder.field(line, quad % perLine * width, width, 0);
    if (shape.hasSalient)
      index = builder.bitOr(
          index, builder.field(word, quad % 8, 1, width == 2 ? 6 : 1));
    index = builder.bitOr(index, base);
    planes.push_back({builder.lookup(tables, index), quad, 0, 255});
  }
}

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

/// The rule of a format that has one kind of columns, and its name and
/// arguments.
static llvm::Expected<MagnitudeRule> readRule(const FormatArgs &args,
                                              std::string &text) {
  llvm::ArrayRef<std::string> given = args.positional;
  bool isSum = args.name == "sum", isSplit = args.name == "split";
  auto areBinary = [](llvm::ArrayRef<std::string> terms) {
    return terms.size() == 2 && terms[0] == "binary" && terms[1] == "binary";
  };
  text = formatSpec(args.name, given);
  if (args.named.empty()) {
    if (args.name == "binary" && given.empty())
      return MagnitudeRule::One;
    if (isSum && areBinary(given))
      return MagnitudeRule::Residual;
    if (isSplit && !given.empty() && given[0] == "magnitude" &&
        areBinary(given.drop_front()))
      return MagnitudeRule::Bell;
  }
  return llvm::createStringError(
      "found '" + text +
      "'; accepted are sum<binary, binary> and split<magnitude, binary, "
      "binary>, split<columns, F, G> of two of these or of binary and binary, "
      "and group = (32 to 256, a multiple of 32) behind them");
}

static llvm::Expected<std::unique_ptr<Format>> make(const FormatArgs &args) {
  BinaryShape shape;
  FormatArgs rest{args.name, {}, args.named},
      codes{args.name, args.positional, {}};
  FormatArgReader reader(rest);
  shape.columns = reader.option("group", 32, 256, 128);
  if (shape.columns % 32 != 0)
    reader.fail("group must be a multiple of 32; found " +
                llvm::Twine(shape.columns));
  if (llvm::Error error = reader.finish())
    return std::move(error);

  std::string text;
  std::vector<std::string> arguments = args.positional;
  if (args.name == "split" && args.positional.size() == 3 &&
      args.positional[0] == "columns") {
    MagnitudeRule rules[2];
    for (int i = 0; i < 2; ++i) {
      llvm::Expected<FormatArgs> part = parseSpec(args.positional[1 + i]);
      if (!part)
        return part.takeError();
      llvm::Expected<MagnitudeRule> rule = readRule(*part, text);
      if (!rule)
        return rule.takeError();
      rules[i] = *rule;
      arguments[1 + i] = text;
    }
    if ((rules[0] == MagnitudeRule::One) != (rules[1] == MagnitudeRule::One))
      return llvm::createStringError(
          "both kinds of columns must take equally many bits; found " +
          arguments[1] + " and " + arguments[2]);
    shape.hasSalient = true;
    shape.salient = rules[0];
    shape.common = rules[1];
  } else {
    llvm::Expected<MagnitudeRule> rule = readRule(codes, text);
    if (!rule)
      return rule.takeError();
    shape.common = *rule;
  }
  return std::make_unique<BinaryFormat>(args.name, arguments, shape);
}

static FormatRegistration
    sum("sum",
        "signs in two orders, each with a magnitude for each row and group: "
        "sum<binary, binary, group = G>",
        make);
static FormatRegistration
    split("split",
          "signs with magnitudes by a flag: split<magnitude, binary, binary, "
          "group = G>; some columns with their own: split<columns, F, G, "
          "group = G>",
          make);

QUENCH_BUILTIN_FORMAT(Binary)
