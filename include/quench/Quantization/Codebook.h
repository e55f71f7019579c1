//===- Codebook.h - Learned tables of vectors -------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What formats with codebooks share: clusters of vectors, the search for sums
// of codewords, and codewords that fit given codes best. Everything is
// deterministic: random choices come from a seed, sums have a fixed order.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_CODEBOOK_H
#define QUENCH_QUANTIZATION_CODEBOOK_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include <cstdint>
#include <mutex>
#include <vector>

namespace quench {

struct KMeansOptions {
  int64_t clusters = 256;
  uint64_t seed = 1;
  /// Starts from k-means++; the best one counts.
  int restarts = 1;
  int iterations = 20;
  /// Ends when the error falls by less than this share of it.
  double tolerance = 1e-3;
  int threads = 1; // at most; the centers do not depend on it
};

/// Centers, [clusters][width], of points [n][width] with `weights` (null: all
/// equal). Clusters that lose all points get the point that is worst off. With
/// no more points than clusters, the points (repeated) are the centers. More
/// than 1024 clusters start from points chosen at random, not from k-means++.
std::vector<float> kMeans(llvm::ArrayRef<float> points, int64_t width,
                          const float *weights, const KMeansOptions &options);

/// Which of some vectors is the nearest to a point.
class NearestVector {
public:
  /// vectors: [count][width].
  NearestVector(llvm::ArrayRef<float> vectors, int64_t width);
  /// |vector|^2 / 2 - vector * point for each vector, to scores[0 .. padded).
  void scores(const float *point, float *scores) const;
  /// The same where coordinate j counts weights[j] times.
  void scores(const float *point, const float *weights, float *scores) const;
  /// The least score's index; the first one of equals.
  uint32_t find(const float *point) const {
    uint32_t index;
    findAll(point, 1, &index);
    return index;
  }
  /// The same for `count` points one after the other, several at a time.
  void findAll(const float *points, int64_t count, uint32_t *indices) const;
  /// Floats that `scores` must hold.
  int64_t padded() const { return stride; }

private:
  int64_t width, stride;
  std::vector<float> columns, halfNorms; // [width][stride]
};

/// Sums of one vector from each of several tables.
class AdditiveCodebook {
public:
  /// vectors: [tables][entries][width].
  AdditiveCodebook(int64_t tables, int64_t entries, int64_t width,
                   std::vector<float> vectors);

  int64_t tables() const { return tableCount; }
  int64_t entries() const { return entryCount; }
  llvm::ArrayRef<float> vectors() const { return all; }
  const float *vector(int64_t table, uint32_t code) const {
    return all.data() + (table * entryCount + code) * width;
  }
  void sum(const uint32_t *codes, float *values) const;

  /// Codes, one for each table, of a sum near `point`: the best `beam` partial
  /// sums are kept from table to table, then single codes are exchanged as long
  /// as that helps. With two tables and beam = entries: the nearest sum.
  void find(const float *point, int64_t beam, uint32_t *codes) const;
  /// The same for `count` points one after the other.
  void findAll(const float *points, int64_t count, int64_t beam,
               uint32_t *codes) const;
  /// The same where the error of coordinate j counts weights[j] times, without
  /// exchanges.
  void find(const float *point, const float *weights, int64_t beam,
            uint32_t *codes) const;

private:
  /// Of a vector of table `first` with all those of table `second`.
  float *products(int64_t first, uint32_t code, int64_t second) const {
    return cross.data() +
           ((first * tableCount + second) * entryCount + code) * stride;
  }
  void prepare() const;
  /// Scores of the vectors of `table` where the other tables in `chosen` add
  /// codes[other] to the sum. `single`: the scores without the others.
  void scoresBeside(int64_t table, const float *point, const float *single,
                    llvm::ArrayRef<int64_t> chosen, const uint32_t *codes,
                    float *scores) const;

  int64_t tableCount, entryCount, width, stride;
  std::vector<float> all;
  /// Made by the first search: by table; products of the vectors of two tables,
  /// [table][other table][entry][entry of the other], unless the tables are
  /// large.
  mutable std::vector<NearestVector> nearest;
  mutable std::vector<float> cross;
  mutable std::once_flag prepared;
};

/// Improves the vectors of a codebook for given codes by conjugate gradients on
/// the weighted squared error (a quadratic form of the vectors).
struct CodebookFit {
  int64_t tables, entries, width;
  int64_t words;         // codewords
  const uint32_t *codes; // [words][tables]
  const float *scales;   // [words], of the sums; null: 1
  /// Adds nothing to its argument if null, else multiplies [words][width]
  /// numbers with the weights of the error (a positive semidefinite matrix).
  llvm::function_ref<void(std::vector<float> &)> weigh;

  /// `errors`: what the present vectors miss, [words][width]. Changes `vectors`
  /// and `errors`.
  void improve(std::vector<float> &vectors, std::vector<float> &errors,
               int iterations) const;
};

} // namespace quench

#endif // QUENCH_QUANTIZATION_CODEBOOK_H
