//===- PackedWeight.cpp - A quantized weight in its packed form -----------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/PackedWeight.h"
#include "quench/Quantization/Parallel.h"
#include "quench/Quantization/Tail.h"
#include "quench/Quantization/WeightStatistics.h"
#include <array>
#include <cmath>

using namespace quench;
using llvm::Error;
using llvm::Expected;

/// Rows that are quantized at a time where they do not depend on each other:
/// results must not depend on it, nor it on the number of threads.
static constexpr int64_t kBandRows = 64 * kPassRows;

WeightSource::~WeightSource() = default;

static bool allFinite(const float *values, int64_t count) {
  // A sum of zeros, or of something that is no number.
  float sum = 0;
  for (int64_t i = 0; i < count; ++i)
    sum += values[i] * 0.0f;
  return sum == 0.0f;
}

/// Rows [begin, end) of some rows; begin is a multiple of kPassRows.
static EncodedRows slice(const Format &format, const EncodedRows &all,
                         int64_t begin, int64_t end) {
  EncodedRows part;
  part.rows = end - begin;
  part.cols = all.cols;
  part.tensorScale = all.tensorScale;
  part.table = all.table;
  int64_t perRow = codesPerRow(format, all.cols);
  int64_t groups = format.hasScale() ? format.groupsPerRow(all.cols) : 0;
  int64_t coded = begin + codedRows(format, end - begin);
  part.codes.assign(all.codes.begin() + begin * perRow,
                    all.codes.begin() + coded * perRow);
  if (!all.params.empty())
    part.params.assign(all.params.begin() + begin * groups,
                       all.params.begin() + coded * groups);
  return part;
}

namespace {
/// Packs bands of rows, one after the other.
class Packer {
public:
  Packer(const Format &format, int64_t rows, int64_t cols, int threads,
         float *numbers)
      : format(format), rows(rows), cols(cols), threads(threads),
        numbers(numbers), shape(format, rows, cols), tail(format, rows, cols),
        stream(std::make_shared<std::vector<uint8_t>>(shape.bytes, 0)),
        statistics(format.symbolBits()) {}

  void header(const EncodedRows &encoded) {
    packHeader(format, encoded, stream->data());
  }

  /// Rows [begin, begin + band.rows) from their codes and numbers. `outliers`,
  /// which only a whole weight has, may be null.
  void pack(int64_t begin, const EncodedRows &band, const float *values,
            const OutlierColumns *outliers = nullptr) {
    int64_t count = (band.rows + kPassRows - 1) / kPassRows;
    std::vector<float> more;
    if (outliers) {
      more.resize(rows * outliers->columns.size());
      decodeRows(*outliers->format, outliers->encoded, more.data());
    }
    tail.add(begin, band);
    std::vector<std::array<double, 2>> sums(count);
    std::vector<WeightStatistics> counted(
        count, WeightStatistics(format.symbolBits()));
    forEachIndex(count, threads, [&](int64_t i) {
      int64_t row = i * kPassRows, n = std::min(kPassRows, band.rows - row);
      EncodedRows part = slice(format, band, row, row + n);
      packPass(format, part,
               stream->data() + shape.headerBytes +
                   shape.passOffset(begin / kPassRows + i));
      std::vector<float> memory(numbers ? 0 : n * cols);
      float *decoded = numbers ? numbers + (begin + row) * cols : memory.data();
      decodeRows(format, part, decoded);
      for (int64_t r = 0; outliers && r < n; ++r)
        for (auto [i, column] : llvm::enumerate(outliers->columns))
          decoded[r * cols + column] +=
              more[(row + r) * outliers->columns.size() + i];
      const float *from = values + row * cols;
      double error = 0, norm = 0;
      for (int64_t j = 0; j < n * cols; ++j) {
        double e = double(from[j]) - decoded[j];
        error += e * e;
        norm += double(from[j]) * from[j];
      }
      sums[i] = {error, norm};
      counted[i].addCodes(part.codes);
      for (int64_t r = 0; r < n; ++r)
        counted[i].addRow(from + r * cols, decoded + r * cols, cols);
    });
    for (const WeightStatistics &one : counted)
      statistics.join(one);
    for (auto [error, norm] : sums) {
      errorSum += error;
      normSum += norm;
    }
  }

  /// `outliers`: null, there are none.
  PackedWeight finish(const OutlierColumns *outliers = nullptr) {
    PackedWeight weight;
    weight.format = &format;
    weight.rows = rows;
    weight.cols = cols;
    std::vector<uint8_t> bytes = tail.finish(threads);
    stream->insert(stream->end(), bytes.begin(), bytes.end());
    if (outliers)
      weight.outliers = appendOutliers(*outliers, *stream);
    weight.stream = *stream;
    weight.owner = stream;
    weight.relativeError = normSum > 0 ? errorSum / normSum : 0;
    weight.loss = weight.relativeError;
    weight.errorBound = statistics.errorBound();
    double numbersOfAll = static_cast<double>(rows) * cols;
    bool isCoded = format.hasScale() || format.hasTensorScale();
    // Tiles have a code for each weight, and for what fills them up.
    double codes = format.hasTiles() ? numbersOfAll : statistics.codes();
    if (isCoded && numbersOfAll > 0)
      weight.entropy = statistics.entropyOfCodes() * codes / numbersOfAll;
    return weight;
  }

private:
  const Format &format;
  int64_t rows, cols;
  int threads;
  float *numbers; // null: nobody wants them
  StreamShape shape;
  TailPacker tail;
  std::shared_ptr<std::vector<uint8_t>> stream;
  WeightStatistics statistics;
  double errorSum = 0, normSum = 0;
};
} // namespace

Expected<PackedWeight> quench::quantizeWeight(const Quantizer &quantizer,
                                              const QuantizeProblem &problem,
                                              ReadRows read, float *decoded) {
  const Format &format = *problem.format;
  int64_t rows = problem.rows, cols = problem.cols;
  bool isWhole = problem.hessian || problem.outputMoments ||
                 format.hasTensorScale() || format.tableBytes() != 0;
  int64_t band = isWhole ? std::max<int64_t>(rows, 1) : kBandRows;
  Packer packer(format, rows, cols, problem.threads, decoded);
  std::optional<OutlierColumns> outliers;
  std::string note;
  double loss = 0, limit = 0;
  for (int64_t begin = 0; begin < rows; begin += band) {
    int64_t end = std::min(begin + band, rows);
    Expected<const float *> values = read(begin, end);
    if (!values)
      return values.takeError();
    if (!allFinite(*values, (end - begin) * cols))
      return llvm::createStringError(
          "the weight has numbers that are infinite or not numbers; nothing "
          "can be quantized from them");
    QuantizeProblem part = problem;
    part.weight = *values;
    part.rows = end - begin;
    Expected<QuantizeResult> result = quantizer.quantize(part);
    if (!result)
      return result.takeError();
    if (begin == 0)
      packer.header(result->encoded);
    outliers = std::move(result->outliers);
    packer.pack(begin, result->encoded, *values,
                outliers ? &*outliers : nullptr);
    if (note.empty())
      note = result->note;
    loss = result->loss;
    if (isWhole) {
      double bits = format.bits(rows, cols);
      if (outliers)
        bits +=
            OutlierPlace(*outliers->format, rows, outliers->columns.size(), 0)
                .bits(rows);
      limit =
          gaussianLossLimit(part, bits / (static_cast<double>(rows) * cols));
    }
  }
  PackedWeight weight = packer.finish(outliers ? &*outliers : nullptr);
  weight.quantizer = quantizer.spec();
  weight.note = std::move(note);
  if (isWhole)
    weight.loss = loss;
  if (problem.hessian)
    weight.lossLimit = limit;
  return weight;
}

Expected<PackedWeight> quench::packCodes(
    const Format &format, int64_t rows, int64_t cols, int threads,
    ReadRows read,
    llvm::function_ref<EncodedRows(int64_t begin, int64_t end)> encode) {
  Packer packer(format, rows, cols, threads, nullptr);
  packer.header({});
  for (int64_t begin = 0; begin < rows; begin += kBandRows) {
    int64_t end = std::min(begin + kBandRows, rows);
    Expected<const float *> values = read(begin, end);
    if (!values)
      return values.takeError();
    packer.pack(begin, encode(begin, end), *values);
  }
  return packer.finish();
}

void quench::decodeWeight(const PackedWeight &weight, float *values,
                          int threads) {
  constexpr int64_t kRows = 64;
  forEachIndex((weight.rows + kRows - 1) / kRows, threads, [&](int64_t i) {
    int64_t begin = i * kRows, end = std::min(begin + kRows, weight.rows);
    float *to = values + begin * weight.cols;
    unpackRows(*weight.format, weight.stream.data(), weight.rows, weight.cols,
               begin, end, to);
    addOutliers(weight.outliers, weight.stream.data(), weight.rows, weight.cols,
                begin, end, to);
  });
}
