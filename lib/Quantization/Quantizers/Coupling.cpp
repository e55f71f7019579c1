//===- Coupling.cpp - Feedback between rows -------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Quantizers/Coupling.h"
#include "Quantizers/Gemm.h"
#include <numeric>

using namespace quench;

RowCoupling::RowCoupling(int64_t rows, int64_t cols, int64_t chunk)
    : rows(rows), cols(cols), chunk(chunk), feedback(rows * rows), costs(rows),
      all(rows * cols), ends((rows + chunk - 1) / chunk, 0) {}

std::unique_ptr<RowCoupling> RowCoupling::create(const Moments &moments,
                                                 int64_t cols, int64_t tileRows,
                                                 int64_t chunk, int threads) {
  int64_t rows = moments.size();
  CodePlan plan;
  plan.order.resize(rows);
  std::iota(plan.order.begin(), plan.order.end(), 0);
  for (int64_t row = 0, i = 0; row < rows; row += tileRows, ++i) {
    int64_t count = std::min(tileRows, rows - row);
    plan.blocks.push_back({row, count, i, 0});
    plan.batches.push_back({i, i + 1, row, count});
  }
  Feedback triangular;
  if (!triangularFeedback(moments, std::move(plan), threads, triangular))
    return nullptr;
  std::unique_ptr<RowCoupling> made(new RowCoupling(rows, cols, chunk));
  float most =
      *std::max_element(triangular.weights.begin(), triangular.weights.end());
  for (auto [i, block] : llvm::enumerate(triangular.plan.blocks))
    for (int64_t r = 0; r < block.width; ++r) {
      float *to = made->feedback.data() + (block.place + r) * rows;
      for (int64_t j = 0; j < block.place; ++j)
        to[j] = triangular.panels[i][j * block.width + r];
      made->costs[block.place + r] = triangular.weights[block.place + r] / most;
    }
  return made;
}

void RowCoupling::await(int64_t row, int64_t end) {
  if (row == 0)
    return;
  std::unique_lock<std::mutex> lock(mutex);
  changed.wait(lock, [&] { return ends[row / chunk - 1] >= end; });
}

void RowCoupling::publish(int64_t row, int64_t end) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    ends[row / chunk] = end;
  }
  changed.notify_all();
}

void RowCoupling::feed(int64_t row, int64_t count, int64_t first, int64_t end,
                       int64_t place, int64_t width, float *to,
                       int64_t stride) {
  if (first < end)
    multiplyAdd(to, stride, feedback.data() + row * rows + first, rows,
                errors(first) + place, cols, count, width, end - first);
}
