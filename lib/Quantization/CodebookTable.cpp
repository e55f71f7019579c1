//===- CodebookTable.cpp - Learned vectors as a weight stores them --------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CodebookTable.h"
#include "quench/Quantization/Parallel.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/Endian.h"
#include <algorithm>
#include <cmath>

using namespace quench;

/// The most that a vector's magnitudes may sum to: 127 times this is an int16.
static constexpr int64_t kMostMagnitude = 258;
/// Vectors that a table is learned from (at least so many, and so many for each
/// entry), and those that choose its unit.
static constexpr int64_t kSamples = 32768, kSamplesOfEntry = 8,
                         kUnitSamples = 2048, kWideUnitSamples = 512;
/// Rounds of codes and least squares; for large tables.
static constexpr int kRounds = 8, kWideRounds = 3;
/// Rounds of k-means for large tables.
static constexpr int kWideIterations = 10;
/// Vectors that a thread codes at a time.
static constexpr int64_t kChunk = 64;

/// How far apart the codewords that are learned from lie, of `all`.
static int64_t sampleStride(int64_t all, int64_t entries) {
  int64_t samples = std::max(kSamples, kSamplesOfEntry * entries);
  int64_t stride = std::max<int64_t>(1, all / samples);
  // An even one may meet the same columns again and again.
  return stride > 1 && stride % 2 == 0 ? stride - 1 : stride;
}

/// The root of the mean square; infinities and NaN do not count.
double quench::rootMeanSquare(const float *values, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    if (std::isfinite(values[i]))
      sum += double(values[i]) * values[i];
  return n ? std::sqrt(sum / n) : 0;
}

std::unique_ptr<AdditiveCodebook>
CodebookShape::vectors(llvm::ArrayRef<uint8_t> table) const {
  std::vector<float> result(tables * entries() * length);
  for (int64_t t = 0; t < tables; ++t)
    for (int64_t e = 0; e < entries(); ++e)
      for (int64_t j = 0; j < length; ++j)
        result[(t * entries() + e) * length + j] =
            int64_t(table[place(t, e, j)]) - bias();
  return std::make_unique<AdditiveCodebook>(tables, entries(), length,
                                            std::move(result));
}

float CodebookShape::spread(llvm::ArrayRef<uint8_t> table) {
  float stored = llvm::bit_cast<float>(
      llvm::support::endian::read32le(table.data() + table.size() - 4));
  return stored > 0 && std::isfinite(stored) ? stored : 1.0f;
}

void LearnedTable::sum(const uint32_t *codes, float *values) const {
  for (int64_t j = 0; j < shape.length; ++j) {
    int64_t sum = 0;
    for (int64_t t = 0; t < shape.tables; ++t)
      sum += table[shape.place(t, codes[t], j)] - shape.bias();
    values[j] = sum;
  }
}

const AdditiveCodebook &LearnedTable::book() const {
  std::call_once(isMade, [&] { made = shape.vectors(table); });
  return *made;
}

std::vector<uint8_t> CodebookShape::store(llvm::ArrayRef<float> vectors,
                                          float spread) const {
  std::vector<uint8_t> table(bytes());
  llvm::SmallVector<int64_t, 32> vector(length);
  for (int64_t t = 0; t < tables; ++t)
    for (int64_t e = 0; e < entries(); ++e) {
      int64_t magnitude = 0;
      for (int64_t j = 0; j < length; ++j) {
        float value = vectors[(t * entries() + e) * length + j];
        vector[j] = std::lrint(std::clamp<float>(value, -bias(), bias() - 1));
        magnitude += std::abs(vector[j]);
      }
      // What is too long loses where it is longest.
      for (; !isWide() && magnitude > kMostMagnitude; --magnitude) {
        auto longest = std::max_element(
            vector.begin(), vector.end(),
            [](int64_t a, int64_t b) { return std::abs(a) < std::abs(b); });
        *longest -= *longest > 0 ? 1 : -1;
      }
      for (int64_t j = 0; j < length; ++j)
        for (int64_t copy = e; copy < storedEntries(); copy += entries())
          table[place(t, copy, j)] = vector[j] + bias();
    }
  llvm::support::endian::write32le(table.data() + table.size() - 4,
                                   llvm::bit_cast<uint32_t>(spread));
  return table;
}

llvm::SmallVector<Reg, 4> CodebookShape::load(RegisterBuilder &builder,
                                              int64_t table, int64_t j) const {
  llvm::SmallVector<Reg, 4> parts;
  unsigned count = std::min<int64_t>(storedEntries(), 64);
  for (int64_t part = 0; part < storedEntries(); part += 64)
    parts.push_back(builder.loadTable(place(table, part, j), count));
  return parts;
}

Reg CodebookShape::gather(RegisterBuilder &builder, llvm::ArrayRef<Reg> indices,
                          int64_t four) const {
  Reg sum;
  for (auto [table, index] : llvm::enumerate(indices)) {
    Reg part = builder.gatherTable(place(table, 0, 4 * four), index, length);
    sum = table == 0 ? part : builder.add(sum, part);
  }
  return sum;
}

namespace {
/// A table while it is learned.
class Learner {
public:
  Learner(const CodebookShape &shape, llvm::ArrayRef<float> points,
          llvm::ArrayRef<float> weights, int threads)
      : shape(shape), points(points), weights(weights), threads(threads),
        length(shape.length), count(points.size() / shape.length),
        codes(count * shape.tables), errors(points.size()) {}

  std::vector<uint8_t> run() {
    startVectors();
    int rounds = shape.isWide() ? kWideRounds : kRounds;
    double least = 0;
    for (int round = 0; shape.tables > 1 && round < rounds; ++round) {
      AdditiveCodebook book(shape.tables, shape.entries(), length, vectors);
      double error = encode(book, 1, 1.0f);
      if (round > 0 && !(error < 0.998 * least))
        break;
      least = error;
      improve();
    }
    return withBestUnit();
  }

private:
  double weight(int64_t i) const { return weights.empty() ? 1 : weights[i]; }

  /// Each table begins with clusters of what the ones before it leave.
  void startVectors() {
    std::vector<float> left = points.vec();
    for (int64_t t = 0; t < shape.tables; ++t) {
      KMeansOptions options;
      options.clusters = shape.entries();
      options.seed = t + 1;
      options.threads = threads;
      if (shape.isWide())
        options.iterations = kWideIterations;
      std::vector<float> centers = kMeans(
          left, length, weights.empty() ? nullptr : weights.data(), options);
      if (t + 1 < shape.tables) {
        NearestVector nearest(centers, length);
        forEachChunk([&](int64_t first, int64_t end) {
          uint32_t found[kChunk];
          nearest.findAll(left.data() + first * length, end - first, found);
          for (int64_t i = first; i < end; ++i)
            for (int64_t j = 0; j < length; ++j)
              left[i * length + j] -= centers[found[i - first] * length + j];
        });
      }
      vectors.insert(vectors.end(), centers.begin(), centers.end());
    }
  }

  /// Codes and errors of every step-th point; the weighted error.
  double encode(const AdditiveCodebook &book, int64_t step, float unit) {
    std::vector<double> squares(count);
    int64_t beam = shape.isWide() ? kCodebookBeam / 4 : kCodebookBeam;
    forEachChunk([&](int64_t first, int64_t end) {
      std::vector<float> some, sum(length);
      std::vector<int64_t> which;
      for (int64_t i = (first + step - 1) / step * step; i < end; i += step) {
        which.push_back(i);
        for (int64_t j = 0; j < length; ++j)
          some.push_back(points[i * length + j] * unit);
      }
      std::vector<uint32_t> found(which.size() * shape.tables);
      book.findAll(some.data(), which.size(), beam, found.data());
      for (auto [n, i] : llvm::enumerate(which)) {
        const uint32_t *own = found.data() + n * shape.tables;
        std::copy_n(own, shape.tables, codes.begin() + i * shape.tables);
        book.sum(own, sum.data());
        for (int64_t j = 0; j < length; ++j) {
          float error = some[n * length + j] - sum[j];
          errors[i * length + j] = error;
          squares[i] += double(error) * error;
        }
      }
    });
    double error = 0;
    for (int64_t i = 0; i < count; i += step)
      error += weight(i) * squares[i];
    return error / (unit * unit);
  }

  /// The best vectors for the codes.
  void improve() {
    auto weigh = [&](std::vector<float> &values) {
      for (size_t i = 0; i < values.size(); ++i)
        values[i] *= weights[i / length];
    };
    CodebookFit fit{shape.tables, shape.entries(), length, count,
                    codes.data(), nullptr,         nullptr};
    if (!weights.empty())
      fit.weigh = weigh;
    fit.improve(vectors, errors, 12);
  }

  /// The longest vectors may be cut off where that serves the others.
  std::vector<uint8_t> withBestUnit() {
    float longest = 1e-6f, sumOfMagnitudes = 1e-6f;
    for (size_t first = 0; first < vectors.size(); first += length) {
      float magnitude = 0;
      for (int64_t j = 0; j < length; ++j) {
        float value = std::fabs(vectors[first + j]);
        longest = std::max(longest, value);
        magnitude += value;
      }
      sumOfMagnitudes = std::max(sumOfMagnitudes, magnitude);
    }
    float plain = (shape.bias() - 0.5f) / longest;
    if (!shape.isWide())
      plain = std::min(plain, kMostMagnitude / sumOfMagnitudes);
    std::vector<uint8_t> best;
    double bestError = 0;
    int64_t samples = shape.isWide() ? kWideUnitSamples : kUnitSamples;
    for (float factor : {1.0f, 1.4f, 2.0f, 2.8f, 4.0f, 8.0f}) {
      std::vector<float> scaled = vectors;
      for (float &value : scaled)
        value *= plain * factor;
      std::vector<uint8_t> table =
          shape.store(scaled, plain * factor * CodebookShape::kUnit);
      double error =
          encode(*shape.vectors(table), std::max<int64_t>(1, count / samples),
                 plain * factor);
      if (best.empty() || error < bestError) {
        best = std::move(table);
        bestError = error;
      } else if (shape.isWide()) {
        break; // in a byte little is rounded, more is cut off
      }
    }
    return best;
  }

  template <typename Fn> void forEachChunk(Fn fn) {
    forEachIndex((count + kChunk - 1) / kChunk, threads, [&](int64_t i) {
      fn(i * kChunk, std::min((i + 1) * kChunk, count));
    });
  }

  const CodebookShape &shape;
  llvm::ArrayRef<float> points, weights;
  int threads;
  int64_t length, count;
  std::vector<float> vectors;
  std::vector<uint32_t> codes;
  std::vector<float> errors;
};
} // namespace

std::vector<uint8_t> CodebookShape::fit(const float *values, int64_t rows,
                                        int64_t cols, bool down,
                                        const FitOptions &options) const {
  std::vector<double> spreads(rows);
  for (int64_t row = 0; row < rows; ++row)
    spreads[row] = rootMeanSquare(values + row * cols, cols);
  // Vectors from everywhere, over the spread of their row.
  int64_t perRow = down ? cols : (cols + length - 1) / length;
  int64_t all = (down ? (rows + length - 1) / length : rows) * perRow;
  std::vector<float> points, weights;
  for (int64_t i = 0, stride = sampleStride(all, entries()); i < all;
       i += stride) {
    double weight = 0;
    for (int64_t j = 0; j < length; ++j) {
      int64_t row = down ? i / perRow * length + j : i / perRow;
      int64_t col = down ? i % perRow : i % perRow * length + j;
      bool isReal = row < rows && col < cols && spreads[row] > 0;
      double value = isReal ? values[row * cols + col] * (1 / spreads[row]) : 0;
      points.push_back(std::isfinite(value) ? value : 0);
      if (isReal && !options.columnWeights.empty())
        weight += spreads[row] * spreads[row] * options.columnWeights[col];
    }
    weights.push_back(weight);
  }
  // Only their ratios matter; what counts nothing still has a place.
  double most = 0;
  for (float weight : weights)
    most = std::max<double>(most, weight);
  if (!(most > 0) || !std::isfinite(most))
    weights.clear();
  for (float &weight : weights)
    weight = std::max(weight / static_cast<float>(most), 1e-6f);
  return Learner(*this, points, weights, options.threads).run();
}
