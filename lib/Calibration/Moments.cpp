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

/// Sums a b^T over rows; of equal a and b only the upper tiles are computed.
class Summer {
public:
  Summer(std::vector<double> &sum, int64_t cols, bool symmetric, int threads)
      : sum(sum), cols(cols), symmetric(symmetric), threads(threads) {
    sum.assign(cols * cols, 0);
    for (int64_t i = 0; i < cols; i += kTile)
      for (int64_t j = symmetric ? i : 0; j < cols; j += kTile)
        tiles.push_back({i, j});
  }

  void add(const Rows &a, const Rows &b) {
    forEachIndex(tiles.size(), threads, [&](int64_t tile) {
      addTile(a, b, tiles[tile].first, tiles[tile].second);
    });
  }

  /// Fills what follows from symmetry.
  void finish() {
    forEachIndex(symmetric ? cols : 0, threads, [&](int64_t i) {
      for (int64_t j = 0; j < i; ++j)
        sum[i * cols + j] = sum[j * cols + i];
    });
  }

private:
  void addTile(const Rows &a, const Rows &b, int64_t i, int64_t j) {
    int64_t m = std::min(kTile, cols - i), n = std::min(kTile, cols - j);
    std::vector<float> products(m * n, 0.0f);
    int64_t summed = 0;
    auto flush = [&] {
      for (int64_t r = 0; r < m; ++r)
        for (int64_t c = 0; c < n; ++c)
          sum[(i + r) * cols + j + c] += products[r * n + c];
      std::fill(products.begin(), products.end(), 0.0f);
      summed = 0;
    };
    for (size_t t = 0; t < a.tensors.size(); ++t) {
      int64_t count = a.tensors[t].getNumElements() / cols;
      const float *x = a.tensors[t].data<float>();
      const float *y = b.tensors[t].data<float>();
      for (int64_t row = 0, taken; row < count; row += taken) {
        taken = std::min(count - row, kRows - summed);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, n, taken, 1.0f,
                    x + row * cols + i, cols, y + row * cols + j, cols, 1.0f,
                    products.data(), n);
        summed += taken;
        if (summed == kRows)
          flush();
      }
    }
    if (summed)
      flush();
  }

  std::vector<double> &sum;
  int64_t cols;
  bool symmetric;
  int threads;
  std::vector<std::pair<int64_t, int64_t>> tiles;
};
} // namespace

/// Adds to means and maxima.
static void addChannels(InputMoments &moments, const Rows &rows, int threads) {
  int64_t cols = moments.cols;
  forEachIndex((cols + kTile - 1) / kTile, threads, [&](int64_t tile) {
    int64_t begin = tile * kTile, end = std::min(begin + kTile, cols);
    for (const HostTensor &tensor : rows.tensors) {
      const float *x = tensor.data<float>();
      for (int64_t row = 0, count = tensor.getNumElements() / cols; row < count;
           ++row, x += cols)
        for (int64_t c = begin; c < end; ++c) {
          moments.mean[c] += x[c];
          moments.maximum[c] = std::max(moments.maximum[c], std::fabs(x[c]));
        }
    }
  });
}

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

namespace {
/// Reads the rows of a file, some samples at a time.
class RowReader {
public:
  RowReader(const SpillFile &file, int64_t samples,
            llvm::ArrayRef<float> weights)
      : file(file), samples(samples), weights(weights) {}

  int64_t cols = 0, skipped = 0;

  bool isDone() const { return sample == samples; }
  Expected<Rows> next() {
    Rows rows;
    for (; sample < samples && rows.bytes < kMappedBytes; ++sample) {
      Expected<HostTensor> stored = file.read(sample);
      if (!stored)
        return stored.takeError();
      Expected<HostTensor> tensor = stored->convertTo(ElementKind::F32);
      if (!tensor)
        return tensor.takeError();
      int64_t width =
          tensor->getRank() ? tensor->dim(tensor->getRank() - 1) : 0;
      if (cols == 0)
        cols = width;
      if (width == 0 || cols != width)
        return createStringError("an input " + tensor->describe() +
                                 " of sample " + llvm::Twine(sample) +
                                 " for layers of " + llvm::Twine(cols) +
                                 " channels");
      if (!weights.empty())
        if (Error error = weigh(*tensor, cols, weights))
          return std::move(error);
      tensor = usableRows(std::move(*tensor), cols, skipped);
      if (!tensor)
        return tensor.takeError();
      rows.bytes += tensor->getNumBytes();
      rows.tensors.push_back(std::move(*tensor));
    }
    return rows;
  }

private:
  const SpillFile &file;
  int64_t sample = 0, samples;
  llvm::ArrayRef<float> weights;
};
} // namespace

Expected<InputMoments> quench::computeMoments(const SpillFile &file,
                                              int64_t samples, int threads,
                                              llvm::ArrayRef<float> weights) {
  InputMoments moments;
  RowReader reader(file, samples, weights);
  std::optional<Summer> summer;
  while (!reader.isDone()) {
    Expected<Rows> rows = reader.next();
    if (!rows)
      return rows.takeError();
    if (!summer) {
      moments.cols = reader.cols;
      moments.mean.assign(moments.cols, 0);
      moments.maximum.assign(moments.cols, 0);
      summer.emplace(moments.second, moments.cols, /*symmetric=*/true, threads);
    }
    for (const HostTensor &tensor : rows->tensors)
      moments.count += tensor.getNumElements() / moments.cols;
    summer->add(*rows, *rows);
    addChannels(moments, *rows, threads);
  }
  moments.skipped = reader.skipped;
  if (moments.count) {
    summer->finish();
    for (double &mean : moments.mean)
      mean /= moments.count;
  }
  return moments;
}

Expected<std::vector<double>>
quench::computeProducts(const SpillFile &a, const SpillFile &b, int64_t samples,
                        int threads, llvm::ArrayRef<float> weights) {
  std::vector<double> sum;
  RowReader first(a, samples, weights), second(b, samples, weights);
  std::optional<Summer> summer;
  while (!first.isDone()) {
    Expected<Rows> x = first.next();
    if (!x)
      return x.takeError();
    Expected<Rows> y = second.next();
    if (!y)
      return y.takeError();
    if (first.skipped || second.skipped || first.cols != second.cols ||
        x->tensors.size() != y->tensors.size())
      return std::vector<double>();
    if (!summer)
      summer.emplace(sum, first.cols, /*symmetric=*/false, threads);
    summer->add(*x, *y);
  }
  return sum;
}
