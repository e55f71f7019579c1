//===- Tail.h - Parts of codes of variable length ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What lies behind the passes of formats with Format::codedField(): for each
// row block kCodedStreams streams of exponent codes (ExponentCode.h); stream s
// codes the columns of the padded row with column % kCodedStreams == s.
//
//   [code tables][where each stream begins][streams][kStreamPadding]
//
// Begins are counted in halfwords from the first stream on (32 bits each), by
// row block, then stream.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_TAIL_H
#define QUENCH_QUANTIZATION_TAIL_H

#include "quench/Quantization/ExponentCode.h"
#include "quench/Quantization/Packing.h"
#include <optional>

namespace quench {

/// Makes the tail of a weight. The code is made for all its rows.
class TailPacker {
public:
  /// Of no use (and empty) for formats without codedField().
  TailPacker(const Format &format, int64_t rows, int64_t cols);
  /// Rows [begin, begin + encoded.rows); calls for different row blocks may
  /// come from several threads.
  void add(int64_t begin, const EncodedRows &encoded);
  /// The tail; once, at the end.
  std::vector<uint8_t> finish(int threads);

private:
  CodeField field;
  StreamShape shape;
  int64_t rows, cols;
  std::vector<int32_t> order;
  std::vector<uint8_t> symbols; // [row blocks][padded columns][kBlockRows]
};

/// Reads fields back, one row block at a time.
class TailReader {
public:
  TailReader(const Format &format, const uint8_t *stream, int64_t rows,
             int64_t cols);
  /// The field, at its place in the code, of a row and a column of the padded
  /// row. Rows of one row block are best asked for together.
  uint32_t at(int64_t row, int64_t column);
  /// The symbols of a row block, [padded columns][kBlockRows].
  llvm::ArrayRef<uint8_t> block(int64_t rowBlock);

private:
  CodeField field;
  StreamShape shape;
  const uint8_t *stream;
  std::optional<ExponentCode> code;
  int64_t current = -1;
  std::vector<uint8_t> symbols;
};

/// Bits that a weight's stream of `bytes` bytes stores, without padding:
/// Format::bits with the true length of coded fields.
int64_t storedBits(const Format &format, int64_t rows, int64_t cols,
                   int64_t bytes);

} // namespace quench

#endif // QUENCH_QUANTIZATION_TAIL_H
