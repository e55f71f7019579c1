//===- DenseMap.cpp - Dense and block-diagonal maps -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Maps.h"
#include <cmath>

using namespace quench;

/// Transposes each rows x cols matrix of `data`.
static std::vector<double> transposeEach(const std::vector<double> &data,
                                         int64_t rows, int64_t cols) {
  std::vector<double> result(data.size());
  int64_t size = rows * cols;
  for (int64_t at = 0; at < static_cast<int64_t>(data.size()); at += size)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j)
        result[at + j * rows + i] = data[at + i * cols + j];
  return result;
}

/// Gauss-Jordan with row pivots on one n x n matrix; false if it is singular
/// to working precision.
static bool invert(const double *matrix, int64_t n, double *inverse) {
  std::vector<double> work(matrix, matrix + n * n);
  double largest = 0;
  for (double value : work)
    largest = std::max(largest, std::fabs(value));
  for (int64_t i = 0; i < n * n; ++i)
    inverse[i] = i % (n + 1) == 0;
  for (int64_t column = 0; column < n; ++column) {
    int64_t pivot = column;
    for (int64_t i = column + 1; i < n; ++i)
      if (std::fabs(work[i * n + column]) > std::fabs(work[pivot * n + column]))
        pivot = i;
    double value = work[pivot * n + column];
    if (!(std::fabs(value) > 1e-14 * largest))
      return false;
    for (int64_t j = 0; j < n; ++j) {
      std::swap(work[pivot * n + j], work[column * n + j]);
      std::swap(inverse[pivot * n + j], inverse[column * n + j]);
      work[column * n + j] /= value;
      inverse[column * n + j] /= value;
    }
    for (int64_t i = 0; i < n; ++i) {
      double factor = work[i * n + column];
      if (i == column || factor == 0)
        continue;
      for (int64_t j = 0; j < n; ++j) {
        work[i * n + j] -= factor * work[column * n + j];
        inverse[i * n + j] -= factor * inverse[column * n + j];
      }
    }
  }
  return true;
}

/// Whether the rows of each n x n matrix are orthonormal.
static bool orthonormal(const std::vector<double> &data, int64_t n) {
  for (int64_t at = 0; at < static_cast<int64_t>(data.size()); at += n * n)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j <= i; ++j) {
        double dot = 0;
        for (int64_t k = 0; k < n; ++k)
          dot += data[at + i * n + k] * data[at + j * n + k];
        if (!(std::fabs(dot - (i == j)) < 1e-9))
          return false;
      }
  return true;
}

/// Whether an entry of each n x n matrix off its diagonal is not 0.
static bool diagonal(const std::vector<double> &data, int64_t n) {
  for (int64_t i = 0; i < static_cast<int64_t>(data.size()); ++i)
    if (i % (n * n) % (n + 1) != 0 && data[i] != 0)
      return false;
  return true;
}

static bool identity(const std::vector<double> &data, int64_t n) {
  if (!diagonal(data, n))
    return false;
  for (int64_t i = 0; i < static_cast<int64_t>(data.size()); ++i)
    if (i % (n * n) % (n + 1) == 0 && data[i] != 1)
      return false;
  return true;
}

namespace {

/// Blocks along the diagonal, equal ones (one matrix) or one for each; a dense
/// square map is one block. A map and its inverse know each other by the
/// shared matrices of the one that was made first.
class BlocksMap : public SquareMap {
public:
  using Data = std::shared_ptr<const std::vector<double>>;

  BlocksMap(int64_t n, int64_t block, Data data, Data origin, bool inverted)
      : SquareMap(n), block(block), data(std::move(data)),
        origin(std::move(origin)), inverted(inverted) {}

  std::string spec() const override {
    if (block == n)
      return "dense<" + std::to_string(n) + ", " + std::to_string(n) + ">";
    return "block-diagonal<" + std::to_string(n) + ", " +
           std::to_string(block) + ">";
  }
  std::unique_ptr<Map> clone() const override {
    return std::make_unique<BlocksMap>(*this);
  }
  std::unique_ptr<Map> inverse() const override {
    Data result;
    if (isOrthogonal()) {
      result = std::make_shared<std::vector<double>>(
          transposeEach(*data, block, block));
    } else {
      std::vector<double> inverses(data->size());
      int64_t size = block * block;
      for (int64_t at = 0; at < static_cast<int64_t>(data->size()); at += size)
        if (!invert(data->data() + at, block, inverses.data() + at))
          return nullptr;
      result = std::make_shared<std::vector<double>>(std::move(inverses));
    }
    return std::make_unique<BlocksMap>(n, block, std::move(result), origin,
                                       !inverted);
  }
  std::unique_ptr<Map> transposed() const override {
    if (isOrthogonal())
      return inverse();
    Data result = std::make_shared<std::vector<double>>(
        transposeEach(*data, block, block));
    return std::make_unique<BlocksMap>(n, block, result, result, false);
  }
  bool isIdentity() const override { return identity(*data, block); }
  bool isOrthogonal() const override { return orthonormal(*data, block); }
  bool isDiagonal() const override { return diagonal(*data, block); }
  void steps(std::vector<MapStep> &steps) const override {
    steps.push_back({MapStep::Dense, block, 1, *data, {}});
  }
  std::unique_ptr<Map> mergedWith(const Map &next) const override {
    const auto *other = dynamic_cast<const BlocksMap *>(&next);
    if (other && other->n == n && other->origin == origin &&
        other->inverted != inverted)
      return identityMap(n);
    return nullptr;
  }

private:
  int64_t block;
  Data data, origin;
  bool inverted;
};

/// in() and out() differ: no steps and no inverse.
class RectangularMap : public Map {
public:
  RectangularMap(int64_t rows, int64_t cols, std::vector<double> data)
      : rows(rows), cols(cols), data(std::move(data)) {}
  int64_t in() const override { return rows; }
  int64_t out() const override { return cols; }
  std::string spec() const override {
    return "dense<" + std::to_string(rows) + ", " + std::to_string(cols) + ">";
  }
  std::unique_ptr<Map> clone() const override {
    return std::make_unique<RectangularMap>(*this);
  }
  std::unique_ptr<Map> inverse() const override { return nullptr; }
  std::unique_ptr<Map> transposed() const override {
    return std::make_unique<RectangularMap>(cols, rows,
                                            transposeEach(data, rows, cols));
  }
  void steps(std::vector<MapStep> &) const override {}
  void apply(const double *values, int64_t count,
             double *result) const override {
    std::fill(result, result + count * cols, 0.0);
    for (int64_t row = 0; row < count; ++row)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < cols; ++j)
          result[row * cols + j] += values[row * rows + i] * data[i * cols + j];
  }

private:
  int64_t rows, cols;
  std::vector<double> data;
};

} // namespace

static std::unique_ptr<Map> makeBlocks(int64_t n, int64_t block,
                                       std::vector<double> data) {
  auto shared = std::make_shared<const std::vector<double>>(std::move(data));
  return std::make_unique<BlocksMap>(n, block, shared, shared, false);
}

std::unique_ptr<Map> quench::denseMap(int64_t in, int64_t out,
                                      std::vector<double> data) {
  data.resize(in * out);
  if (in != out)
    return std::make_unique<RectangularMap>(in, out, std::move(data));
  return makeBlocks(in, in, std::move(data));
}

llvm::Expected<std::unique_ptr<Map>>
quench::blockDiagonalMap(int64_t n, int64_t block, std::vector<double> data) {
  if (n < 1 || block < 1 || n % block != 0)
    return llvm::createStringError("blocks of " + llvm::Twine(block) +
                                   " do not divide a map of " + llvm::Twine(n) +
                                   " numbers");
  int64_t size = data.size(), one = block * block, all = n * block;
  if (size != one && size != all)
    return llvm::createStringError("a block-diagonal map of " + llvm::Twine(n) +
                                   " in blocks of " + llvm::Twine(block) +
                                   " has " + llvm::Twine(size) +
                                   " entries; it takes " + llvm::Twine(one) +
                                   " (equal blocks) or " + llvm::Twine(all));
  return makeBlocks(n, block, std::move(data));
}
