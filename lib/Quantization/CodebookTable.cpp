//===- CodebookTable.cpp - Learned vectors as a weight stores them --------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CodebookTable.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/Endian.h"
#include <algorithm>
#include <cmath>

using namespace quench;

/// The most that a vector's magnitudes may sum to: 127 times this is an int16.
static constexpr int64_t kMostMagnitude = 258;
/// Vectors that a table is learned from, and those that choose its unit.
static constexpr int64_t kSamples = 32768, kUnitSamples = 2048;
/// Rounds of codes and least squares.
static constexpr int kRounds = 8;

int64_t quench::sampleStride(int64_t all) {
  int64_t stride = std::max<int64_t>(1, all / kSamples);
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
            int64_t(table[(t * length + j) * storedEntries() + e]) - bias();
  return std::make_unique<AdditiveCodebook>(tables, entries(), length,
                                            std::move(result));
}

float CodebookShape::spread(llvm::ArrayRef<uint8_t> table) {
  float stored = llvm::bit_cast<float>(
      llvm::support::endian::read32le(table.data() + table.size() - 4));
  return stored > 0 && std::isfinite(stored) ? stored : 1.0f;
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
      for (; magnitude > kMostMagnitude; --magnitude) {
        auto longest = std::max_element(
            vector.begin(), vector.end(),
            [](int64_t a, int64_t b) { return std::abs(a) < std::abs(b); });
        *longest -= *longest > 0 ? 1 : -1;
      }
      for (int64_t j = 0; j < length; ++j)
        for (int64_t copy = e; copy < storedEntries(); copy += entries())
          table[(t * length + j) * storedEntries() + copy] = vector[j] + bias();
    }
  llvm::support::endian::write32le(table.data() + table.size() - 4,
                                   llvm::bit_cast<uint32_t>(spread));
  return table;
}

std::vector<uint8_t> CodebookShape::learn(llvm::ArrayRef<float> points) const {
  int64_t count = points.size() / length;

  // Each table begins with clusters of what the ones before it leave.
  std::vector<float> vectors, left = points.vec();
  for (int64_t t = 0; t < tables; ++t) {
    KMeansOptions options;
    options.clusters = entries();
    options.seed = t + 1;
    std::vector<float> centers = kMeans(left, length, nullptr, options);
    NearestVector nearest(centers, length);
    std::vector<float> scratch(nearest.padded());
    for (int64_t i = 0; t + 1 < tables && i < count; ++i) {
      int64_t code = nearest.find(left.data() + i * length, scratch.data());
      for (int64_t j = 0; j < length; ++j)
        left[i * length + j] -= centers[code * length + j];
    }
    vectors.insert(vectors.end(), centers.begin(), centers.end());
  }

  // Codes and vectors in turn.
  std::vector<uint32_t> codes(count * tables);
  std::vector<float> errors(points.size());
  llvm::SmallVector<float, 32> sum(length);
  auto encode = [&](const AdditiveCodebook &book, int64_t step, float unit) {
    double error = 0;
    llvm::SmallVector<float, 32> point(length);
    for (int64_t i = 0; i < count; i += step) {
      for (int64_t j = 0; j < length; ++j)
        point[j] = points[i * length + j] * unit;
      book.find(point.data(), kCodebookBeam, codes.data() + i * tables);
      book.sum(codes.data() + i * tables, sum.data());
      for (int64_t j = 0; j < length; ++j) {
        errors[i * length + j] = point[j] - sum[j];
        error += double(errors[i * length + j]) * errors[i * length + j];
      }
    }
    return error / (unit * unit);
  };
  double least = 0;
  for (int round = 0; tables > 1 && round < kRounds; ++round) {
    AdditiveCodebook book(tables, entries(), length, vectors);
    double error = encode(book, 1, 1.0f);
    if (round > 0 && !(error < 0.998 * least))
      break;
    least = error;
    CodebookFit fit{tables,       entries(), length, count,
                    codes.data(), nullptr,   nullptr};
    fit.improve(vectors, errors, 12);
  }

  // The unit: the longest vectors may be cut off where that serves the others.
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
  float plain =
      std::min((bias() - 0.5f) / longest, kMostMagnitude / sumOfMagnitudes);
  std::vector<uint8_t> best;
  double bestError = 0;
  for (float factor : {1.0f, 1.4f, 2.0f, 2.8f, 4.0f, 8.0f}) {
    std::vector<float> scaled = vectors;
    for (float &value : scaled)
      value *= plain * factor;
    std::vector<uint8_t> table = store(scaled, plain * factor * kUnit);
    double error =
        encode(*this->vectors(table),
               std::max<int64_t>(1, count / kUnitSamples), plain * factor);
    if (best.empty() || error < bestError) {
      best = std::move(table);
      bestError = error;
    }
  }
  return best;
}
