//===- Moments.cpp - Second moments of an input ---------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The matrix is cut into tiles, and each tile is summed by one thread over the
// samples in their order: the result does not depend on who computes it. Rows
// are taken 512 at a time: products in f32, their sums in double.
//
//===----------------------------------------------------------------------===//

#include "Moments.h"
#include "quench/Interpreter/Interpreter.h"
#include "quench/Quantization/Parallel.h"
#include <cblas.h>
#include <cmath>

using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

static constexpr int64_t kTile = 256;
static constexpr int64_t kRows = 512;
/// Samples are mapped together up to so many bytes. A run of rows ends with
/// them, so it is the same on every machine.
static constexpr int64_t kMappedBytes = int64_t(256) << 20;

namespace {
/// Rows of some samples.
struct Rows {
  std::vector<HostTensor> tensors;
  int64_t bytes = 0;
};

class Summer {
public:
  Summer(InputMoments &moments, int threads)
      : moments(moments), threads(threads) {
    for (int64_t i = 0; i < moments.cols; i += kTile)
      for (int64_t j = i; j < moments.cols; j += kTile)
        tiles.push_back({i, j});
  }

  void add(const Rows &rows) {
    forEachIndex(tiles.size(), threads, [&](int64_t tile) {
      auto [i, j] = tiles[tile];
      addTile(rows, i, j);
      if (i == j)
        addChannels(rows, i);
    });
  }

  void finish() {
    int64_t cols = moments.cols;
    forEachIndex(cols, threads, [&](int64_t i) {
      for (int64_t j = 0; j < i; ++j)
        if (j / kTile != i / kTile)
          moments.second[i * cols + j] = moments.second[j * cols + i];
    });
    for (double &mean : moments.mean)
      mean /= moments.count;
  }

private:
  void addTile(const Rows &rows, int64_t i, int64_t j) {
    int64_t cols = moments.cols;
    int64_t m = std::min(kTile, cols - i), n = std::min(kTile, cols - j);
    std::vector<float> products(m * n, 0.0f);
    int64_t summed = 0;
    auto flush = [&] {
      for (int64_t r = 0; r < m; ++r)
        for (int64_t c = 0; c < n; ++c)
          moments.second[(i + r) * cols + j + c] += products[r * n + c];
      std::fill(products.begin(), products.end(), 0.0f);
      summed = 0;
    };
    for (const HostTensor &tensor : rows.tensors) {
      int64_t count = tensor.getNumElements() / cols;
      const float *x = tensor.data<float>();
      for (int64_t row = 0, taken; row < count; row += taken) {
        taken = std::min(count - row, kRows - summed);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, n, taken, 1.0f,
                    x + row * cols + i, cols, x + row * cols + j, cols, 1.0f,
                    products.data(), n);
        summed += taken;
        if (summed == kRows)
          flush();
      }
    }
    if (summed)
      flush();
    // A product need not be symmetric to the last bit.
    if (i == j)
      for (int64_t r = 0; r < m; ++r)
        for (int64_t c = 0; c < r; ++c)
          moments.second[(i + r) * cols + j + c] =
              moments.second[(j + c) * cols + i + r];
  }

  void addChannels(const Rows &rows, int64_t begin) {
    int64_t cols = moments.cols, end = std::min(begin + kTile, cols);
    for (const HostTensor &tensor : rows.tensors) {
      const float *x = tensor.data<float>();
      for (int64_t row = 0, count = tensor.getNumElements() / cols; row < count;
           ++row, x += cols)
        for (int64_t c = begin; c < end; ++c) {
          moments.mean[c] += x[c];
          moments.maximum[c] = std::max(moments.maximum[c], std::fabs(x[c]));
        }
    }
  }

  InputMoments &moments;
  int threads;
  std::vector<std::pair<int64_t, int64_t>> tiles;
};
} // namespace

/// Squares of larger numbers could not be summed in f32.
static constexpr float kLargest = 1e15f;

static bool isUsable(const float *x, int64_t n) {
  bool usable = true;
  for (int64_t i = 0; i < n; ++i)
    usable &= std::fabs(x[i]) <= kLargest; // false for NaN
  return usable;
}

/// The rows whose numbers can be summed.
static Expected<HostTensor> usableRows(HostTensor tensor, int64_t cols,
                                       int64_t &skipped) {
  const float *x = tensor.data<float>();
  if (isUsable(x, tensor.getNumElements()))
    return tensor;
  std::vector<float> kept;
  for (int64_t row = 0, count = tensor.getNumElements() / cols; row < count;
       ++row, x += cols) {
    if (isUsable(x, cols))
      kept.insert(kept.end(), x, x + cols);
    else
      ++skipped;
  }
  int64_t rows = kept.size() / cols;
  Expected<HostTensor> result =
      HostTensor::allocate(ElementKind::F32, {rows, cols});
  if (result)
    llvm::copy(kept, result->mutableData<float>());
  return result;
}

/// Multiplies the next rows by the roots of their weights.
static Error weigh(HostTensor &tensor, int64_t cols,
                   llvm::ArrayRef<float> &weights) {
  int64_t rows = tensor.getNumElements() / cols;
  if (rows > static_cast<int64_t>(weights.size()))
    return createStringError("fewer weights than rows");
  float *x = tensor.mutableData<float>();
  for (int64_t row = 0; row < rows; ++row) {
    float by = std::sqrt(weights[row]);
    for (int64_t i = 0; i < cols; ++i)
      *x++ *= by;
  }
  weights = weights.drop_front(rows);
  return Error::success();
}

Expected<InputMoments> quench::computeMoments(const SpillFile &file,
                                              int64_t samples, int threads,
                                              llvm::ArrayRef<float> weights) {
  InputMoments moments;
  std::optional<Summer> summer;
  for (int64_t sample = 0; sample < samples;) {
    Rows rows;
    for (; sample < samples && rows.bytes < kMappedBytes; ++sample) {
      Expected<HostTensor> stored = file.read(sample);
      if (!stored)
        return stored.takeError();
      Expected<HostTensor> tensor = stored->convertTo(ElementKind::F32);
      if (!tensor)
        return tensor.takeError();
      int64_t cols = tensor->getRank() ? tensor->dim(tensor->getRank() - 1) : 0;
      if (!summer) {
        moments.cols = cols;
        moments.second.assign(cols * cols, 0);
        moments.mean.assign(cols, 0);
        moments.maximum.assign(cols, 0);
        summer.emplace(moments, threads);
      }
      if (cols == 0 || cols != moments.cols)
        return createStringError("an input " + tensor->describe() +
                                 " of sample " + llvm::Twine(sample) +
                                 " for layers of " + llvm::Twine(moments.cols) +
                                 " channels");
      if (!weights.empty())
        if (Error error = weigh(*tensor, cols, weights))
          return std::move(error);
      tensor = usableRows(std::move(*tensor), cols, moments.skipped);
      if (!tensor)
        return tensor.takeError();
      moments.count += tensor->getNumElements() / cols;
      rows.bytes += tensor->getNumBytes();
      rows.tensors.push_back(std::move(*tensor));
    }
    summer->add(rows);
  }
  if (moments.count)
    summer->finish();
  return moments;
}
