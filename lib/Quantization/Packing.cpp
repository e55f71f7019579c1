//===- Packing.cpp - From rows of numbers to a packed stream --------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/Packing.h"
#include "quench/Quantization/Tail.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/MathExtras.h"
#include <cstring>

using namespace quench;

/// What lies in a header begins at multiples of it.
constexpr int64_t kHeaderUnit = 64;

StreamShape::StreamShape(const Format &format, int64_t rows, int64_t cols) {
  const BlockLayout &layout = format.layout();
  passes = (rows + kPassRows - 1) / kPassRows;
  if (layout.groupColumns == 0) {
    blocks = (cols + layout.columns - 1) / layout.columns;
  } else {
    int64_t perBlock = layout.groupsPerBlock();
    blocks = (format.groupsPerRow(cols) + perBlock - 1) / perBlock;
  }
  paddedCols = blocks * layout.columns;
  passBytes = blocks * kPassBlocks * layout.bytes;
  sharedPasses = layout.sharedPasses;
  sharedOffset = kPassBlocks * layout.parts.front().unit;
  rowScaleOffset = rowZeroOffset = -1;
  rowScaleStride = 2 * kBlockRows * sharedPasses;
  if (format.hasScale() && format.group() == 0) {
    rowScaleOffset = sharedPasses * passBytes;
    passBytes += 2 * kPassRows;
    if (format.hasZeroPoint()) {
      rowZeroOffset = passBytes;
      passBytes += 2 * kPassRows; // half of it padding where they are bytes
    }
  }
  tableOffset = format.hasTensorScale() ? kHeaderUnit : 0;
  headerBytes =
      tableOffset + llvm::alignTo(format.tableBytes(), uint64_t(kHeaderUnit));
  bytes = headerBytes +
          llvm::alignTo(passes, uint64_t(sharedPasses)) * passBytes +
          kStreamPadding;
  tailOffset = indexOffset = codesOffset = -1;
  if (format.codedField().bits != 0) {
    tailOffset = bytes;
    indexOffset = tailOffset + sizeof(ExponentCode::Tables);
    codesOffset =
        llvm::alignTo(indexOffset + 4 * passes * kPassBlocks * kCodedStreams,
                      uint64_t(kHeaderUnit));
  }
}

int64_t quench::interleavedOffset(const BlockLayout &layout, int64_t half,
                                  int64_t offset) {
  for (const Part &part : layout.parts) {
    int64_t within = offset - part.offset;
    if (within < 0 || within >= part.length)
      continue;
    int64_t piece = within / part.unit;
    return layout.rowBlocks() * part.offset +
           (piece * layout.rowBlocks() + half) * part.unit + within % part.unit;
  }
  return layout.rowBlocks() * layout.bytes;
}

/// Column of the weight at column `column` of block `block`, or -1.
static int64_t weightColumn(const Format &format, int64_t cols, int64_t block,
                            int64_t column) {
  const BlockLayout &layout = format.layout();
  int64_t result = block * layout.columns + column;
  if (layout.groupColumns != 0) {
    int64_t within = column % layout.groupColumns;
    if (within >= format.group())
      return -1;
    result = (block * layout.groupsPerBlock() + column / layout.groupColumns) *
                 format.group() +
             within;
  }
  return result < cols ? result : -1;
}

std::vector<int32_t> quench::stagedOrder(const Format &format, int64_t cols) {
  const BlockLayout &layout = format.layout();
  StreamShape shape(format, 0, cols);
  std::vector<int32_t> order(shape.paddedCols);
  for (int64_t position = 0; position < shape.paddedCols; ++position) {
    int64_t column = position % layout.columns;
    if (!layout.xOrder.empty())
      column = layout.xOrder[column];
    order[position] =
        weightColumn(format, cols, position / layout.columns, column);
  }
  return order;
}

/// Codewords of `cols` columns that begin a group.
static int64_t codesOf(const Format &format, int64_t cols) {
  if (format.hasTiles())
    return llvm::alignTo(cols, uint64_t(format.tileColumns()));
  int64_t stride = format.layout().codeStride;
  int64_t span = stride * format.codeLength();
  return (cols + span - 1) / span * stride;
}

/// The columns that share a scale: the group, or the whole row.
static int64_t groupOf(const Format &format, int64_t cols) {
  return format.group() == 0 ? cols : format.group();
}

int64_t quench::codesPerRow(const Format &format, int64_t cols) {
  if (cols == 0)
    return 0;
  int64_t group = groupOf(format, cols), rest = cols % group;
  return cols / group * codesOf(format, group) + codesOf(format, rest);
}

int64_t quench::codedRows(const Format &format, int64_t rows) {
  return llvm::alignTo(rows, uint64_t(format.tileRows()));
}

/// Column, from the group's start, of value `i` of codeword `code`.
static int64_t valueColumn(const Format &format, int64_t code, int64_t i) {
  int64_t stride = format.layout().codeStride;
  return code / stride * stride * format.codeLength() + code % stride +
         i * stride;
}

std::vector<int32_t> quench::codeColumns(const Format &format, int64_t cols) {
  std::vector<int32_t> columns;
  int64_t length = format.codeLength();
  columns.reserve(codesPerRow(format, cols) * length);
  for (int64_t first = 0, group = groupOf(format, cols); first < cols;
       first += group) {
    int64_t n = std::min(group, cols - first);
    for (int64_t code = 0, codes = codesOf(format, n); code < codes; ++code)
      for (int64_t i = 0; i < length; ++i) {
        int64_t column = valueColumn(format, code, i);
        columns.push_back(column < n ? first + column : -1);
      }
  }
  return columns;
}

//===----------------------------------------------------------------------===//
// Formats with tiles
//===----------------------------------------------------------------------===//

namespace {
/// Walks the tiles of some rows. Values outside of the weight are 0 and do not
/// count.
class Tiles {
public:
  Tiles(const Format &format, int64_t rows, int64_t cols)
      : format(format), rows(rows), cols(cols), tileRows(format.tileRows()),
        tileColumns(format.tileColumns()), perRow(codesPerRow(format, cols)),
        values(tileRows * tileColumns), codes(values.size()) {}

  /// `params`: one for each coded row, or null.
  void encode(const float *from, const GroupParams *params, uint32_t *to) {
    std::vector<float> weights(tileRows);
    forEach([&](int64_t row, int64_t column, int64_t height, int64_t width) {
      std::fill(values.begin(), values.end(), 0.0f);
      for (int64_t r = 0; r < tileRows; ++r)
        weights[r] = r < height ? 1.0f : 0.0f;
      for (int64_t r = 0; r < height; ++r)
        std::copy_n(from + (row + r) * cols + column, width,
                    values.begin() + r * tileColumns);
      format.nearestTile(values.data(), params ? params + row : nullptr,
                         height == tileRows ? nullptr : weights.data(),
                         codes.data());
      for (int64_t r = 0; r < tileRows; ++r)
        std::copy_n(codes.begin() + r * tileColumns, tileColumns,
                    to + (row + r) * perRow + column);
    });
  }

  void decode(const uint32_t *from, const GroupParams *params, float *to) {
    forEach([&](int64_t row, int64_t column, int64_t height, int64_t width) {
      for (int64_t r = 0; r < tileRows; ++r)
        std::copy_n(from + (row + r) * perRow + column, tileColumns,
                    codes.begin() + r * tileColumns);
      format.decodeTile(codes.data(), params ? params + row : nullptr,
                        values.data());
      for (int64_t r = 0; r < height; ++r)
        std::copy_n(values.begin() + r * tileColumns, width,
                    to + (row + r) * cols + column);
    });
  }

private:
  template <typename Fn> void forEach(Fn fn) {
    for (int64_t row = 0; row < rows; row += tileRows)
      for (int64_t column = 0; column < cols; column += tileColumns)
        fn(row, column, std::min(tileRows, rows - row),
           std::min(tileColumns, cols - column));
  }

  const Format &format;
  int64_t rows, cols, tileRows, tileColumns, perRow;
  std::vector<float> values;
  std::vector<uint32_t> codes;
};
} // namespace

static void encodeTiles(const Format &format, const float *values,
                        const FitOptions &options, EncodedRows &encoded) {
  int64_t rows = encoded.rows, cols = encoded.cols;
  int64_t coded = codedRows(format, rows);
  encoded.codes.resize(coded * codesPerRow(format, cols));
  if (format.hasScale()) {
    encoded.params.resize(coded);
    for (int64_t row = 0; row < rows; ++row)
      encoded.params[row] = format.fit(values + row * cols, cols, options);
  }
  Tiles(format, rows, cols)
      .encode(values, encoded.params.empty() ? nullptr : encoded.params.data(),
              encoded.codes.data());
}

//===----------------------------------------------------------------------===//
// Encode and decode
//===----------------------------------------------------------------------===//

static std::vector<float> divided(const float *values, int64_t n, float by) {
  std::vector<float> result(values, values + n);
  for (float &value : result)
    value /= by;
  return result;
}

static void encodeWords(const Format &format, const float *values,
                        const FitOptions &options, EncodedRows &encoded) {
  int64_t rows = encoded.rows, cols = encoded.cols;
  int64_t perRow = codesPerRow(format, cols), length = format.codeLength();
  int64_t groups = format.groupsPerRow(cols), group = groupOf(format, cols);
  encoded.codes.resize(rows * perRow);
  encoded.params.resize(rows * groups);
  bool contiguous = length == 1;
  std::vector<int32_t> columns;
  std::vector<float> gathered;
  if (!contiguous) {
    columns = codeColumns(format, cols);
    gathered.resize(columns.size());
  }
  for (int64_t row = 0; row < rows; ++row) {
    const float *source = values + row * cols, *words = source;
    if (!contiguous) {
      for (size_t i = 0; i < columns.size(); ++i)
        gathered[i] = columns[i] < 0 ? 0.0f : source[columns[i]];
      words = gathered.data();
    }
    uint32_t *codes = encoded.codes.data() + row * perRow;
    GroupParams *params = encoded.params.data() + row * groups;
    for (int64_t first = 0; first < cols; first += group) {
      int64_t n = std::min(group, cols - first), count = codesOf(format, n);
      GroupParams fitted;
      if (format.hasScale())
        fitted = *params++ = format.fit(source + first, n, options);
      format.nearestAll(words, count, fitted, codes);
      codes += count;
      words += count * length;
    }
  }
}

EncodedRows quench::fitShared(const Format &format, const float *values,
                              int64_t rows, int64_t cols,
                              const FitOptions &options) {
  EncodedRows shared;
  if (format.hasTensorScale())
    shared.tensorScale = format.fitTensor(values, rows * cols, options);
  if (format.tableBytes() != 0)
    shared.table =
        format.fitTable(divided(values, rows * cols, shared.tensorScale).data(),
                        rows, cols, options);
  return shared;
}

EncodedRows quench::encodeNearest(const Format &format, const float *values,
                                  int64_t rows, int64_t cols,
                                  const FitOptions &options,
                                  const EncodedRows *shared) {
  EncodedRows encoded =
      shared ? EncodedRows{0, 0, shared->tensorScale, shared->table, {}, {}}
             : fitShared(format, values, rows, cols, options);
  encoded.rows = rows;
  encoded.cols = cols;
  std::vector<float> scaled;
  if (encoded.tensorScale != 1.0f) {
    scaled = divided(values, rows * cols, encoded.tensorScale);
    values = scaled.data();
  }
  std::unique_ptr<Format> bound = format.bind(encoded.table);
  const Format &used = bound ? *bound : format;
  if (used.hasTiles())
    encodeTiles(used, values, options, encoded);
  else
    encodeWords(used, values, options, encoded);
  return encoded;
}

static void decodeWords(const Format &format, const EncodedRows &encoded,
                        float *values) {
  int64_t cols = encoded.cols, length = format.codeLength();
  int64_t group = groupOf(format, cols), groups = format.groupsPerRow(cols);
  llvm::SmallVector<float, 8> word(length);
  const uint32_t *codes = encoded.codes.data();
  for (int64_t row = 0; row < encoded.rows; ++row) {
    const GroupParams *params = encoded.params.data() + row * groups;
    for (int64_t first = 0; first < cols; first += group) {
      int64_t n = std::min(group, cols - first);
      GroupParams fitted = format.hasScale() ? *params++ : GroupParams();
      for (int64_t code = 0, count = codesOf(format, n); code < count; ++code) {
        format.decode(*codes++, fitted, word.data());
        for (int64_t i = 0; i < length; ++i)
          if (int64_t column = valueColumn(format, code, i); column < n)
            values[row * cols + first + column] = word[i];
      }
    }
  }
}

void quench::decodeRows(const Format &format, const EncodedRows &encoded,
                        float *values) {
  std::unique_ptr<Format> bound = format.bind(encoded.table);
  const Format &used = bound ? *bound : format;
  if (used.hasTiles())
    Tiles(used, encoded.rows, encoded.cols)
        .decode(encoded.codes.data(),
                encoded.params.empty() ? nullptr : encoded.params.data(),
                values);
  else
    decodeWords(used, encoded, values);
  if (format.hasTensorScale())
    for (int64_t i = 0, n = encoded.rows * encoded.cols; i < n; ++i)
      values[i] *= encoded.tensorScale;
}

//===----------------------------------------------------------------------===//
// Places in a block
//===----------------------------------------------------------------------===//

/// Bits from the start of the block to the entry of (row, column).
static int64_t entryBit(const Component &component, int64_t row,
                        int64_t column) {
  int64_t bit = 8 * component.offset;
  for (const Digit &digit : component.digits)
    bit += (digit.axis == 'r' ? row : column) / digit.stride % digit.count *
           digit.bits;
  return bit;
}

/// Writes `bits` bits (the place is 0 before).
static void writeBits(uint8_t *bytes, int64_t bit, unsigned bits,
                      uint32_t value) {
  bytes += bit >> 3;
  uint64_t shifted = uint64_t(value) << (bit & 7);
  for (int64_t left = (bit & 7) + bits; left > 0; left -= 8) {
    *bytes++ |= static_cast<uint8_t>(shifted);
    shifted >>= 8;
  }
}

static uint32_t lowBits(uint32_t value, unsigned bits) {
  return bits >= 32 ? value : value & ((1u << bits) - 1);
}

static bool isCode(const Component &component) {
  return llvm::StringRef(component.name).starts_with("code");
}

namespace {
/// Bit offsets of the entries of a component for each column and each row of a
/// block: an entry's place is their sum.
struct Places {
  const Component *component;
  std::vector<int64_t> columns;
  int64_t rows[kBlockRows];

  Places(const Component &component, int64_t count) : component(&component) {
    for (int64_t column = 0; column < count; ++column)
      columns.push_back(entryBit(component, 0, column));
    for (int64_t row = 0; row < kBlockRows; ++row)
      rows[row] = entryBit(component, row, 0) - 8 * component.offset;
  }
};

/// A codeword of a row in its block.
struct Word {
  int64_t block, column;
};
} // namespace

/// Where the codewords of a row lie.
static std::vector<Word> rowWords(const Format &format, int64_t cols) {
  const BlockLayout &layout = format.layout();
  std::vector<Word> words;
  words.reserve(codesPerRow(format, cols));
  for (int64_t first = 0, group = groupOf(format, cols), g = 0; first < cols;
       first += group, ++g) {
    int64_t start = 0;
    if (layout.groupColumns != 0)
      start = g / layout.groupsPerBlock() * layout.columns +
              g % layout.groupsPerBlock() * layout.groupColumns;
    int64_t codes = codesOf(format, std::min(group, cols - first));
    for (int64_t code = 0; code < codes; ++code) {
      int64_t column = start + valueColumn(format, code, 0);
      words.push_back({column / layout.columns, column % layout.columns});
    }
  }
  return words;
}

/// The first byte of each entry of a scale or zero point of group `g` in the
/// pass is at the result, for row 0 of `half`; rows follow one another.
static int64_t paramPlace(const BlockLayout &layout, int64_t half, int64_t g,
                          llvm::ArrayRef<int64_t> offsets) {
  int64_t perBlock = layout.groupsPerBlock();
  return g / perBlock * layout.rowBlocks() * layout.bytes +
         interleavedOffset(layout, half, offsets[g % perBlock]);
}

namespace {
/// Where scale and zero point (-1: none) of a group of a row lie in a pass.
struct ParamPlaces {
  int64_t scale, zero;
  int64_t scaleBytes, zeroBytes;
};
} // namespace

/// For row `lane` of row block `half` and group `g` of the row.
static ParamPlaces paramPlaces(const Format &format, const StreamShape &shape,
                               int64_t half, int64_t lane, int64_t g) {
  const BlockLayout &layout = format.layout();
  ParamPlaces at{0, -1, 2, format.hasFloatZero() ? 2 : 1};
  int64_t row = half * kBlockRows + lane;
  if (shape.rowScaleOffset >= 0) {
    at.scale = shape.rowScaleOffset + half * shape.rowScaleStride + 2 * lane;
    if (shape.rowZeroOffset >= 0)
      at.zero = shape.rowZeroOffset + at.zeroBytes * row;
    return at;
  }
  at.scaleBytes = scaleBits(format.scaleKind()) / 8;
  at.scale =
      paramPlace(layout, half, g, layout.scaleOffsets) + at.scaleBytes * lane;
  if (!layout.zeroOffsets.empty())
    at.zero =
        paramPlace(layout, half, g, layout.zeroOffsets) + at.zeroBytes * lane;
  return at;
}

static void writeParam(uint8_t *at, int64_t bytes, uint16_t value) {
  at[0] = value & 0xff;
  if (bytes == 2)
    at[1] = value >> 8;
}

static uint16_t readParam(const uint8_t *at, int64_t bytes) {
  return bytes == 2 ? at[0] | at[1] << 8 : at[0];
}

void quench::packPass(const Format &format, const EncodedRows &encoded,
                      uint8_t *pass) {
  const BlockLayout &layout = format.layout();
  StreamShape shape(format, encoded.rows, encoded.cols);
  std::vector<Word> words = rowWords(format, encoded.cols);
  int64_t perRow = words.size(), groups = format.groupsPerRow(encoded.cols);
  std::vector<Places> places;
  for (const Component &component : layout.components)
    if (isCode(component))
      places.emplace_back(component, layout.columns);

  std::vector<uint8_t> block(layout.bytes);
  for (int64_t half = 0; half < kPassBlocks; ++half) {
    int64_t firstRow = half * kBlockRows;
    int64_t rows =
        std::min(kBlockRows, codedRows(format, encoded.rows) - firstRow);
    if (rows <= 0)
      break;
    for (int64_t begin = 0, end; begin < perRow; begin = end) {
      for (end = begin; end < perRow && words[end].block == words[begin].block;)
        ++end;
      std::fill(block.begin(), block.end(), 0);
      for (int64_t row = 0; row < rows; ++row) {
        const uint32_t *codes =
            encoded.codes.data() + (firstRow + row) * perRow;
        for (const Places &place : places) {
          unsigned bits = place.component->bits;
          unsigned shift = place.component->codeShift;
          int64_t rowBit = place.rows[row];
          for (int64_t i = begin; i < end; ++i) {
            int64_t bit = rowBit + place.columns[words[i].column];
            uint32_t value = lowBits(codes[i] >> shift, bits);
            if (bits <= 8 && 8 % bits == 0) // never crosses a byte
              block[bit >> 3] |= value << (bit & 7);
            else
              writeBits(block.data(), bit, bits, value);
          }
        }
      }
      uint8_t *target =
          pass + words[begin].block * layout.rowBlocks() * layout.bytes;
      for (const Part &part : layout.parts)
        for (int64_t at = 0; at < part.length; at += part.unit)
          std::memcpy(target + layout.rowBlocks() * (part.offset + at) +
                          half * part.unit,
                      block.data() + part.offset + at, part.unit);
    }
    for (int64_t row = 0; row < rows && groups != 0; ++row) {
      const GroupParams *params =
          encoded.params.data() + (firstRow + row) * groups;
      for (int64_t g = 0; g < groups; ++g) {
        ParamPlaces at = paramPlaces(format, shape, half, row, g);
        writeParam(pass + at.scale, at.scaleBytes, params[g].scale);
        if (at.zero >= 0)
          writeParam(pass + at.zero, at.zeroBytes, params[g].zero);
      }
    }
  }
}

EncodedRows quench::sliceRows(const Format &format, const EncodedRows &encoded,
                              int64_t first, int64_t count) {
  EncodedRows slice;
  slice.rows = count;
  slice.cols = encoded.cols;
  slice.tensorScale = encoded.tensorScale;
  slice.table = encoded.table;
  int64_t perRow = codesPerRow(format, encoded.cols);
  int64_t groups = format.groupsPerRow(encoded.cols);
  int64_t last = first + codedRows(format, count);
  slice.codes.assign(encoded.codes.begin() + first * perRow,
                     encoded.codes.begin() + last * perRow);
  slice.params.assign(encoded.params.begin() + first * groups,
                      encoded.params.begin() + last * groups);
  return slice;
}

std::vector<uint8_t> quench::packWeight(const Format &format,
                                        const EncodedRows &encoded) {
  StreamShape shape(format, encoded.rows, encoded.cols);
  std::vector<uint8_t> stream(shape.bytes, 0);
  packHeader(format, encoded, stream.data());
  for (int64_t pass = 0; pass < shape.passes; ++pass) {
    int64_t first = pass * kPassRows;
    packPass(format,
             sliceRows(format, encoded, first,
                       std::min(kPassRows, encoded.rows - first)),
             stream.data() + shape.headerBytes + shape.passOffset(pass));
  }
  TailPacker tail(format, encoded.rows, encoded.cols);
  tail.add(0, encoded);
  std::vector<uint8_t> bytes = tail.finish(1);
  stream.insert(stream.end(), bytes.begin(), bytes.end());
  return stream;
}

void quench::packHeader(const Format &format, const EncodedRows &encoded,
                        uint8_t *header) {
  StreamShape shape(format, 0, encoded.cols);
  std::memset(header, 0, shape.headerBytes);
  if (format.hasTensorScale())
    llvm::support::endian::write32le(
        header, llvm::bit_cast<uint32_t>(encoded.tensorScale));
  std::copy_n(encoded.table.begin(),
              std::min<int64_t>(encoded.table.size(), format.tableBytes()),
              header + shape.tableOffset);
}

/// Codes and params of row `row` of the stream, appended to `encoded`.
static void readRow(const Format &format, const StreamShape &shape,
                    llvm::ArrayRef<Word> words, const uint8_t *stream,
                    int64_t row, TailReader &tail, EncodedRows &encoded) {
  const BlockLayout &layout = format.layout();
  const uint8_t *pass =
      stream + shape.headerBytes + shape.passOffset(row / kPassRows);
  int64_t half = row % kPassRows / kBlockRows, lane = row % kBlockRows;
  for (const Word &word : words) {
    const uint8_t *block =
        pass + word.block * layout.rowBlocks() * layout.bytes;
    uint32_t code = tail.at(row, word.block * layout.columns + word.column);
    for (const Component &component : layout.components) {
      if (!isCode(component))
        continue;
      // An entry of several bytes lies within one piece of its part.
      int64_t bit = entryBit(component, lane, word.column);
      const uint8_t *byte = block + interleavedOffset(layout, half, bit >> 3);
      uint64_t value = 0;
      for (unsigned read = 0; read < (bit & 7) + component.bits; read += 8)
        value |= uint64_t(*byte++) << read;
      code |= lowBits(static_cast<uint32_t>(value >> (bit & 7)), component.bits)
              << component.codeShift;
    }
    encoded.codes.push_back(code);
  }
  for (int64_t g = 0, groups = format.groupsPerRow(encoded.cols); g < groups;
       ++g) {
    ParamPlaces at = paramPlaces(format, shape, half, lane, g);
    GroupParams params;
    params.scale = readParam(pass + at.scale, at.scaleBytes);
    if (at.zero >= 0)
      params.zero = readParam(pass + at.zero, at.zeroBytes);
    encoded.params.push_back(params);
  }
}

/// The header of a stream.
static void readHeader(const Format &format, const StreamShape &shape,
                       const uint8_t *stream, EncodedRows &encoded) {
  if (format.hasTensorScale())
    encoded.tensorScale =
        llvm::bit_cast<float>(llvm::support::endian::read32le(stream));
  encoded.table.assign(stream + shape.tableOffset,
                       stream + shape.tableOffset + format.tableBytes());
}

EncodedRows quench::unpackWeight(const Format &format, const uint8_t *stream,
                                 int64_t rows, int64_t cols) {
  StreamShape shape(format, rows, cols);
  std::vector<Word> words = rowWords(format, cols);
  EncodedRows encoded;
  encoded.rows = rows;
  encoded.cols = cols;
  readHeader(format, shape, stream, encoded);
  TailReader tail(format, stream, rows, cols);
  for (int64_t row = 0, end = codedRows(format, rows); row < end; ++row)
    readRow(format, shape, words, stream, row, tail, encoded);
  return encoded;
}

void quench::unpackRows(const Format &format, const uint8_t *stream,
                        int64_t rows, int64_t cols, int64_t begin, int64_t end,
                        float *values) {
  StreamShape shape(format, rows, cols);
  std::vector<Word> words = rowWords(format, cols);
  EncodedRows encoded;
  encoded.cols = cols;
  encoded.rows = format.tileRows();
  readHeader(format, shape, stream, encoded);
  std::vector<float> decoded(encoded.rows * cols);
  TailReader tail(format, stream, rows, cols);
  for (int64_t first = begin / encoded.rows * encoded.rows; first < end;
       first += encoded.rows) {
    encoded.codes.clear();
    encoded.params.clear();
    for (int64_t r = 0; r < encoded.rows; ++r)
      readRow(format, shape, words, stream, first + r, tail, encoded);
    decodeRows(format, encoded, decoded.data());
    int64_t from = std::max(first, begin),
            to = std::min(first + encoded.rows, end);
    std::copy(decoded.begin() + (from - first) * cols,
              decoded.begin() + (to - first) * cols,
              values + (from - begin) * cols);
  }
}

void quench::unpackRow(const Format &format, const uint8_t *stream,
                       int64_t rows, int64_t cols, int64_t row, float *values) {
  unpackRows(format, stream, rows, cols, row, row + 1, values);
}
