//===- Outliers.cpp - Columns that are coded a second time ----------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/Outliers.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/MathExtras.h"

using namespace quench;

/// Parts of a stream begin at multiples of it.
static constexpr uint64_t kPartUnit = 64;

OutlierPlace::OutlierPlace(const Format &format, int64_t rows, int64_t count,
                           int64_t bytes)
    : format(&format), count(count), columnsAt(llvm::alignTo(bytes, kPartUnit)),
      codesAt(llvm::alignTo(columnsAt + 4 * count, kPartUnit)),
      end(codesAt + StreamShape(format, rows, count).bytes) {}

OutlierPlace quench::appendOutliers(const OutlierColumns &outliers,
                                    std::vector<uint8_t> &stream) {
  OutlierPlace place(*outliers.format, outliers.encoded.rows,
                     outliers.columns.size(), stream.size());
  stream.resize(place.codesAt);
  for (auto [i, column] : llvm::enumerate(outliers.columns))
    llvm::support::endian::write32le(&stream[place.columnsAt + 4 * i], column);
  std::vector<uint8_t> codes = packWeight(*outliers.format, outliers.encoded);
  stream.insert(stream.end(), codes.begin(), codes.end());
  return place;
}

void quench::addOutliers(const OutlierPlace &place, const uint8_t *stream,
                         int64_t rows, int64_t cols, int64_t begin, int64_t end,
                         float *values) {
  if (!place.format)
    return;
  std::vector<float> more((end - begin) * place.count);
  unpackRows(*place.format, stream + place.codesAt, rows, place.count, begin,
             end, more.data());
  for (int64_t i = 0; i < place.count; ++i) {
    int64_t column =
        llvm::support::endian::read32le(stream + place.columnsAt + 4 * i);
    for (int64_t r = 0; r < end - begin; ++r)
      values[r * cols + column] += more[r * place.count + i];
  }
}
