//===- Coupling.h - Feedback between rows -----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The other side of LDLQ (YAQA, arXiv 2505.22988). Errors E of a weight cost
// tr(G E H E^T), G the second moments of gradients by the layer's outputs. With
// G = (I + U) D (I + U)^T as for H, row i is coded as if it were
//
//   w_i + sum_{j<i} U_ji (w_j - w^_j),
//
// and the cost is sum_i D_i e_i H e_i^T, e_i what the coding of that row
// misses. Rows of a tile are taken together.
//
// Columns are coded in batches, and a row needs of the rows before it only the
// errors of its own batch. So rows are coded on several threads, each chunk of
// them some batches behind the one before.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_QUANTIZERS_COUPLING_H
#define QUENCH_LIB_QUANTIZATION_QUANTIZERS_COUPLING_H

#include "Quantizers/Factor.h"
#include <condition_variable>
#include <mutex>

namespace quench {

class RowCoupling {
public:
  /// `moments`: G with its damping. Chunks have `chunk` rows, tiles `tileRows`
  /// of them. Null: G is not positive definite.
  static std::unique_ptr<RowCoupling> create(const Moments &moments,
                                             int64_t cols, int64_t tileRows,
                                             int64_t chunk, int threads);

  /// Waits until the places [.., end) of all rows before `row`, the first one
  /// of a chunk, have their errors.
  void await(int64_t row, int64_t end);
  /// The chunk that begins at `row` has all its errors of the places
  /// [.., end).
  void publish(int64_t row, int64_t end);

  /// The errors of a row, [cols] in places: those that were published, or of
  /// the own chunk.
  float *errors(int64_t row) { return all.data() + row * cols; }
  /// Adds what the errors of rows [first, end) do to `rows` rows from `row` on,
  /// in the places [place, place + width): to [rows][stride].
  void feed(int64_t row, int64_t rows, int64_t first, int64_t end,
            int64_t place, int64_t width, float *to, int64_t stride);
  /// What the squared error of a row costs, at most 1.
  float cost(int64_t row) const { return costs[row]; }

private:
  RowCoupling(int64_t rows, int64_t cols, int64_t chunk);

  int64_t rows, cols, chunk;
  std::vector<float> feedback; // [rows][rows]: to the row, from each one before
  std::vector<float> costs;
  std::vector<float> all;    // errors, [rows][cols]
  std::vector<int64_t> ends; // of each chunk
  std::mutex mutex;
  std::condition_variable changed;
};

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_QUANTIZERS_COUPLING_H
