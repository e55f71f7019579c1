//===- Packing.h - From rows of numbers to a packed stream ------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The one pack routine, and everything that must agree with it. The packed form
// of a weight is one byte stream:
//
//   [header] pass 0: [block 0][block 1]...[block B-1][row scales] pass 1: ...
//
// The header of formats with a tensor scale or a table holds the scale (f32,
// in 64 bytes), then the table (padded to 64 bytes).
//
// A pass holds kPassBlocks row blocks, interleaved part by part
// (BlockLayout::parts). Where two passes share their lines
// (BlockLayout::sharedPasses) the row blocks of both are interleaved: the
// second one is read as the first, from one unit for each row block further on.
// Row scales (formats with group() == 0 and hasScale())
// are kPassRows halves; with zero points, kPassRows bytes and as many of
// padding follow. After the last pass come kStreamPadding bytes, which kernels
// may read and never use; formats with Format::codedField() have a tail behind
// them (Tail.h).
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_PACKING_H
#define QUENCH_QUANTIZATION_PACKING_H

#include "quench/Quantization/Format.h"

namespace quench {

constexpr int64_t kStreamPadding = 64;

/// The geometry of the packed stream of a rows x cols weight.
struct StreamShape {
  StreamShape(const Format &format, int64_t rows, int64_t cols);
  int64_t passes; // ceil(rows / kPassRows)
  int64_t blocks; // blocks of columns in a row
  int64_t
      paddedCols; // blocks * layout.columns: length of a staged activation row
  int64_t passBytes;      // of one pass, row scales included
  int64_t rowScaleOffset; // in a pass; -1 without row scales
  int64_t rowScaleStride; // from those of a row block to the next one's
  int64_t rowZeroOffset;  // in a pass; -1 without row zero points
  int64_t tableOffset;    // of the table in the stream
  int64_t headerBytes;    // where pass 0 begins
  int64_t bytes;          // of the whole stream, kStreamPadding included

  /// Of formats with codedField(), else -1: where the tail begins (then `bytes`
  /// is without it), where its index, and where the first stream of codes.
  int64_t tailOffset, indexOffset, codesOffset;

  /// Passes that share their lines, and bytes from one of them to the next.
  int64_t sharedPasses, sharedOffset;
  /// Where pass `pass` begins, from the first one.
  int64_t passOffset(int64_t pass) const {
    return pass / sharedPasses * sharedPasses * passBytes +
           pass % sharedPasses * sharedOffset;
  }
};

/// Place in the pass of byte `offset` of row block `half` (0 or 1) of a block.
int64_t interleavedOffset(const BlockLayout &layout, int64_t half,
                          int64_t offset);

/// Position in a staged (padded, reordered) activation row -> input column, or
/// -1 for padding.
std::vector<int32_t> stagedOrder(const Format &format, int64_t cols);

/// The codes of some rows of a weight before packing: per row
/// groupsPerRow(cols) params (1 for row scales, 0 without scales) and
/// codesPerRow codes, group after group; a codeword never crosses a group's
/// end. codeColumns says which columns a codeword holds.
///
/// Formats with tiles: codes and params are those of whole tiles; `rows` and
/// `cols` do not count the padding.
struct EncodedRows {
  int64_t rows = 0, cols = 0;
  float tensorScale = 1;           // of formats that have one
  std::vector<uint8_t> table;      // of formats that have one
  std::vector<uint32_t> codes;     // [rows][codesPerRow(format, cols)]
  std::vector<GroupParams> params; // [rows][groupsPerRow]
};
int64_t codesPerRow(const Format &format, int64_t cols);
/// `rows`, or with those of the last tile.
int64_t codedRows(const Format &format, int64_t rows);

/// [codesPerRow][codeLength]: the column of each value of each codeword, or -1
/// past the end of a group or of the row (those values are encoded as 0).
std::vector<int32_t> codeColumns(const Format &format, int64_t cols);

/// Tensor scale and table for a whole weight; no codes yet.
EncodedRows fitShared(const Format &format, const float *values, int64_t rows,
                      int64_t cols, const FitOptions &options);

/// Round to nearest: fits each group, then takes the nearest code of each
/// codeword. Tensor scale and table belong to the whole weight: where the rows
/// are only a part of it, those of `shared` are used; null: they are fitted.
EncodedRows encodeNearest(const Format &format, const float *values,
                          int64_t rows, int64_t cols, const FitOptions &options,
                          const EncodedRows *shared = nullptr);
/// Back to numbers, [rows][cols].
void decodeRows(const Format &format, const EncodedRows &encoded,
                float *values);

/// Packs rows (at most kPassRows, beginning at a multiple of kPassRows) into
/// a pass of zeros. Missing rows are left zeros.
void packPass(const Format &format, const EncodedRows &encoded, uint8_t *pass);

/// Rows [first, first + count) of an encoding; `first` begins a tile.
EncodedRows sliceRows(const Format &format, const EncodedRows &encoded,
                      int64_t first, int64_t count);
/// The whole stream of a whole weight: StreamShape::bytes bytes and the tail.
std::vector<uint8_t> packWeight(const Format &format,
                                const EncodedRows &encoded);

/// Writes the header: StreamShape::headerBytes bytes.
void packHeader(const Format &format, const EncodedRows &encoded,
                uint8_t *header);

/// Reads a whole weight back: what packWeight got.
EncodedRows unpackWeight(const Format &format, const uint8_t *stream,
                         int64_t rows, int64_t cols);
/// Reads rows [begin, end) back from the stream: [end - begin][cols] numbers,
/// equal to decodeRows bit for bit.
void unpackRows(const Format &format, const uint8_t *stream, int64_t rows,
                int64_t cols, int64_t begin, int64_t end, float *values);
/// The same for one row.
void unpackRow(const Format &format, const uint8_t *stream, int64_t rows,
               int64_t cols, int64_t row, float *values);

} // namespace quench

#endif // QUENCH_QUANTIZATION_PACKING_H
