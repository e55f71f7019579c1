//===- Tail.cpp - Parts of codes of variable length -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/Tail.h"
#include "quench/Quantization/Parallel.h"
#include "llvm/Support/Endian.h"

using namespace quench;
namespace endian = llvm::support::endian;

TailPacker::TailPacker(const Format &format, int64_t rows, int64_t cols)
    : field(format.codedField()), shape(format, rows, cols), rows(rows),
      cols(cols) {
  if (field.bits == 0)
    return;
  order = stagedOrder(format, cols);
  symbols.resize(shape.passes * kPassRows * shape.paddedCols);
}

void TailPacker::add(int64_t begin, const EncodedRows &encoded) {
  if (field.bits == 0)
    return;
  for (int64_t r = 0; r < encoded.rows; ++r) {
    int64_t row = begin + r;
    const uint32_t *codes = encoded.codes.data() + r * cols;
    uint8_t *to = symbols.data() +
                  row / kBlockRows * kBlockRows * shape.paddedCols +
                  row % kBlockRows;
    for (int64_t column = 0; column < shape.paddedCols; ++column)
      if (order[column] >= 0)
        to[column * kBlockRows] =
            codes[order[column]] >> field.shift & ((1u << field.bits) - 1);
  }
}

std::vector<uint8_t> TailPacker::finish(int threads) {
  if (field.bits == 0)
    return {};
  int64_t blocks = shape.passes * kPassBlocks, columns = shape.paddedCols;
  auto isReal = [&](int64_t block, int64_t column, int64_t lane) {
    return order[column] >= 0 && block * kBlockRows + lane < rows;
  };
  auto forEach = [&](llvm::function_ref<void(bool, uint8_t &)> fn) {
    size_t at = 0;
    for (int64_t block = 0; block < blocks; ++block)
      for (int64_t column = 0; column < columns; ++column)
        for (int64_t lane = 0; lane < kBlockRows; ++lane)
          fn(isReal(block, column, lane), symbols[at++]);
  };
  std::vector<uint64_t> counts(256);
  forEach([&](bool real, uint8_t &symbol) { counts[symbol] += real; });
  // Padding is coded as what is most frequent, but as no infinity: that times 0
  // is no number.
  auto end = counts.begin() + ((1u << field.bits) - 1);
  uint8_t padding = std::max_element(counts.begin(), end) - counts.begin();
  counts[padding] = std::max<uint64_t>(counts[padding], 1);
  ExponentCode code = ExponentCode::make(counts);
  forEach(
      [&](bool real, uint8_t &symbol) { symbol = real ? symbol : padding; });

  std::vector<std::vector<uint16_t>> streams(blocks * kCodedStreams);
  forEachIndex(blocks, threads, [&](int64_t block) {
    const uint8_t *from = symbols.data() + block * columns * kBlockRows;
    for (int64_t s = 0; s < kCodedStreams; ++s) {
      std::vector<uint8_t> own;
      for (int64_t column = s; column < columns; column += kCodedStreams)
        own.insert(own.end(), from + column * kBlockRows,
                   from + (column + 1) * kBlockRows);
      streams[block * kCodedStreams + s] = encodeLanes(code, own);
    }
  });
  symbols.clear();

  int64_t begin = shape.codesOffset - shape.tailOffset, halfwords = 0;
  for (const std::vector<uint16_t> &stream : streams)
    halfwords += stream.size();
  std::vector<uint8_t> tail(begin + 2 * halfwords + kStreamPadding);
  uint8_t *tables = tail.data();
  for (uint32_t entry : code.tables()) {
    endian::write32le(tables, entry);
    tables += 4;
  }
  uint8_t *index = tail.data() + shape.indexOffset - shape.tailOffset;
  uint8_t *at = tail.data() + begin, *first = at;
  for (const std::vector<uint16_t> &stream : streams) {
    endian::write32le(index, (at - first) / 2);
    index += 4;
    for (uint16_t halfword : stream) {
      endian::write16le(at, halfword);
      at += 2;
    }
  }
  return tail;
}

TailReader::TailReader(const Format &format, const uint8_t *stream,
                       int64_t rows, int64_t cols)
    : field(format.codedField()), shape(format, rows, cols), stream(stream) {
  if (field.bits == 0)
    return;
  ExponentCode::Tables tables;
  for (size_t i = 0; i < tables.size(); ++i)
    tables[i] = endian::read32le(stream + shape.tailOffset + 4 * i);
  code.emplace(tables);
}

llvm::ArrayRef<uint8_t> TailReader::block(int64_t rowBlock) {
  if (rowBlock == current)
    return symbols;
  current = rowBlock;
  symbols.resize(shape.paddedCols * kBlockRows);
  for (int64_t s = 0; s < kCodedStreams; ++s) {
    uint64_t begin = endian::read32le(stream + shape.indexOffset +
                                      4 * (rowBlock * kCodedStreams + s));
    LaneReader reader(*code, stream + shape.codesOffset + 2 * begin);
    for (int64_t column = s; column < shape.paddedCols; column += kCodedStreams)
      reader.next(symbols.data() + column * kBlockRows);
  }
  return symbols;
}

uint32_t TailReader::at(int64_t row, int64_t column) {
  if (field.bits == 0)
    return 0;
  return uint32_t(
             block(row / kBlockRows)[column * kBlockRows + row % kBlockRows])
         << field.shift;
}

int64_t quench::storedBits(const Format &format, int64_t rows, int64_t cols,
                           int64_t bytes) {
  int64_t bits = format.bits(rows, cols);
  if (format.codedField().bits == 0)
    return bits;
  int64_t tail =
      bytes - StreamShape(format, rows, cols).tailOffset - kStreamPadding;
  return bits - format.typicalFieldBits(rows, cols) + 8 * tail;
}
