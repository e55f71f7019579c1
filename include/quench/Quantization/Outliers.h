//===- Outliers.h - Columns that are coded a second time --------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A few columns of a weight may have a second code, in a format of their own
// (VPTQ's outlier columns, arXiv 2409.17066, with a codebook and shorter
// vectors of their own; those of LLM.int8(), arXiv 2208.07339, are in halves).
// The weight is then what its codes say plus what those of the columns say:
//
//   y = x W^T + x[columns] C^T
//
// Behind the packed stream of the weight lie, each padded to 64 bytes, the
// columns (32 bits each, ascending) and the packed stream of C [rows][columns].
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_OUTLIERS_H
#define QUENCH_QUANTIZATION_OUTLIERS_H

#include "quench/Quantization/Packing.h"

namespace quench {

struct OutlierColumns {
  const Format *format = nullptr; // not bound to a table
  std::vector<int32_t> columns;   // ascending
  EncodedRows encoded;            // [rows][columns.size()]
};

/// Where they lie in the stream of a weight.
struct OutlierPlace {
  const Format *format = nullptr; // null: there are none
  int64_t count = 0;
  int64_t columnsAt = 0, codesAt = 0; // bytes from the start of the stream
  int64_t end = 0;                    // of the stream

  OutlierPlace() = default;
  /// Of `count` columns behind a stream of `bytes` bytes.
  OutlierPlace(const Format &format, int64_t rows, int64_t count,
               int64_t bytes);
  /// Of a weight with so many rows: columns, codes, scales and tables.
  int64_t bits(int64_t rows) const {
    return format ? 32 * count + format->bits(rows, count) : 0;
  }
};

/// Puts them behind a stream; gives their place. Formats whose streams have a
/// tail (Tail.h) cannot be theirs.
OutlierPlace appendOutliers(const OutlierColumns &outliers,
                            std::vector<uint8_t> &stream);

/// Adds what they say to rows [begin, end) of the numbers of a weight of
/// rows x cols: [end - begin][cols].
void addOutliers(const OutlierPlace &place, const uint8_t *stream, int64_t rows,
                 int64_t cols, int64_t begin, int64_t end, float *values);

} // namespace quench

#endif // QUENCH_QUANTIZATION_OUTLIERS_H
