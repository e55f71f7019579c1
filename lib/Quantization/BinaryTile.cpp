//===- BinaryTile.cpp - Signs with few magnitudes -------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BinaryTile.h"
#include "Quantizers/Factor.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace quench;

int BinaryTile::level(const BinaryShape &shape, int64_t row,
                      int64_t column) const {
  unsigned code = codes[row * shape.columns + column];
  int64_t first = salient[column] ? shape.perKind() : 0;
  int size = magnitudes[row][first + (shape.bits() == 2 ? code & 1 : 0)];
  return code >> (shape.bits() - 1) & 1 ? -size : size;
}

namespace {

/// A magnitude and how much it counts.
struct Sized {
  float size;
  double count;
};

/// Two magnitudes (of MagnitudeRule::One both the same) and their error.
struct Pair {
  double low = 0, high = 0, error = 0;
};

/// Rounds of choosing codes and fitting magnitudes to them again.
constexpr int kRounds = 6;

/// The metric of a tile, taken apart: e M e^T = sum of cost[j] (e_j + sum of
/// e_i feedback[i][j] over i < j)^2.
class TileMetric {
public:
  /// False: not positive definite.
  bool set(const float *metric, int64_t n);

  std::vector<double> cost;    // [n]
  std::vector<double> inverse; // [n], the diagonal of the inverse
  std::vector<float> feedback; // [n][n], above the diagonal
};

class TileEncoder {
public:
  TileEncoder(const BinaryShape &shape, const float *metric,
              const float *values, const float *scales, const float *weights);
  BinaryTile run();

private:
  const float *row(int64_t r) const { return units.data() + r * n; }
  double rowWeight(int64_t r) const { return rowWeights[r]; }
  void sortRows();
  void chooseSalient();
  double errorWith(const std::vector<uint8_t> &salient);
  Pair fit(int64_t r, uint8_t kind, const std::vector<uint8_t> &salient);
  void setMagnitudes(int64_t r, const double *found);
  unsigned nearest(int64_t r, int64_t j, float goal) const;
  void code(int64_t r);
  double pull(int64_t r);
  void descend(int64_t r);
  void refit(int64_t r);
  void improve(int64_t r);

  const BinaryShape &shape;
  int64_t n;
  const float *matrix;
  TileMetric metric;
  std::vector<float> units;   // [kBlockRows][n], in units of the scales
  std::vector<double> counts; // [n], of the error of each column
  double rowWeights[kBlockRows];
  std::vector<uint16_t> order; // [kBlockRows][n], by magnitude
  std::vector<Sized> sized;
  std::vector<float> goals, errors, pulls;
  BinaryTile tile;
};

} // namespace

bool TileMetric::set(const float *matrix, int64_t n) {
  std::vector<double> factor(matrix, matrix + n * n), inverted;
  for (int64_t i = 0; i < n; ++i)
    if (factor[i * (n + 1)] == 0)
      factor[i * (n + 1)] = 1; // a column that does not count
  if (!factorize(factor.data(), n, 1))
    return false;
  invertUpper(factor.data(), n, n, inverted);
  cost.resize(n);
  inverse.assign(n, 0.0);
  feedback.assign(n * n, 0.0f);
  for (int64_t i = 0; i < n; ++i) {
    cost[i] = factor[i * n + i] * factor[i * n + i];
    for (int64_t j = i; j < n; ++j) {
      inverse[j] += inverted[i * n + j] * inverted[i * n + j];
      if (j > i)
        feedback[i * n + j] =
            static_cast<float>(factor[i * n + j] / factor[j * n + j]);
    }
  }
  return true;
}

TileEncoder::TileEncoder(const BinaryShape &shape, const float *given,
                         const float *values, const float *scales,
                         const float *weights)
    : shape(shape), n(shape.columns), matrix(given), units(kBlockRows * n),
      counts(n, 1.0), goals(n), errors(n), pulls(n), tile(shape) {
  if (matrix && !metric.set(matrix, n))
    matrix = nullptr;
  std::vector<bool> isUsed(n, false);
  for (int64_t r = 0; r < kBlockRows; ++r) {
    double weight = weights ? weights[r] : 1.0;
    rowWeights[r] = weight * scales[r] * scales[r];
    for (int64_t j = 0; j < n && rowWeights[r] > 0; ++j) {
      float value = values[r * n + j] / scales[r];
      value = value > -1e6f ? value : -1e6f; // NaN, too
      units[r * n + j] = value < 1e6f ? value : 1e6f;
      if (value != 0)
        isUsed[j] = true;
    }
  }
  for (int64_t j = 0; j < n; ++j)
    if (matrix)
      counts[j] = matrix[j * (n + 1)] == 0 ? 0.0 : metric.cost[j];
    else if (!isUsed[j])
      counts[j] = 0.0;
}

/// The columns of each row by their magnitudes.
void TileEncoder::sortRows() {
  order.resize(kBlockRows * n);
  for (int64_t r = 0; r < kBlockRows; ++r) {
    uint16_t *first = order.data() + r * n;
    std::iota(first, first + n, uint16_t(0));
    const float *from = row(r);
    std::sort(first, first + n, [&](uint16_t a, uint16_t b) {
      float x = std::fabs(from[a]), y = std::fabs(from[b]);
      return x != y ? x < y : a < b;
    });
  }
}

/// The magnitudes of row r for its columns of one kind.
Pair TileEncoder::fit(int64_t r, uint8_t kind,
                      const std::vector<uint8_t> &salient) {
  const float *from = row(r);
  sized.clear();
  double count = 0, sum = 0, square = 0;
  for (int64_t i = 0; i < n; ++i) {
    uint16_t j = order[r * n + i];
    if (salient[j] != kind || !(counts[j] > 0))
      continue;
    float size = std::fabs(from[j]);
    sized.push_back({size, counts[j]});
    count += counts[j];
    sum += counts[j] * size;
    square += counts[j] * size * size;
  }
  Pair best;
  if (sized.empty())
    return best;
  double mean = sum / count;
  best = {mean, mean, square - mean * sum};
  MagnitudeRule rule = kind ? shape.salient : shape.common;
  if (rule == MagnitudeRule::One)
    return best;
  if (rule == MagnitudeRule::Residual) {
    double rest = 0;
    for (const Sized &each : sized)
      rest += each.count * std::fabs(each.size - mean);
    rest /= count;
    best = {std::fabs(mean - rest), mean + rest, 0};
    for (const Sized &each : sized) {
      double miss = std::min(std::fabs(each.size - best.low),
                             std::fabs(each.size - best.high));
      best.error += each.count * miss * miss;
    }
    return best;
  }
  // All thresholds between neighbours.
  double below = 0, countBelow = 0;
  for (size_t i = 0; i + 1 < sized.size(); ++i) {
    below += sized[i].count * sized[i].size;
    countBelow += sized[i].count;
    double above = sum - below, countAbove = count - countBelow;
    double error =
        square - below * below / countBelow - above * above / countAbove;
    if (error < best.error)
      best = {below / countBelow, above / countAbove, error};
  }
  return best;
}

/// What the best magnitudes cost if these columns are salient.
double TileEncoder::errorWith(const std::vector<uint8_t> &salient) {
  double error = 0;
  for (int64_t r = 0; r < kBlockRows; ++r)
    if (rowWeight(r) > 0)
      for (uint8_t kind = 0; kind < 2; ++kind)
        error += rowWeight(r) * fit(r, kind, salient).error;
  return error;
}

void TileEncoder::chooseSalient() {
  std::vector<double> salience(n, 0.0);
  for (int64_t r = 0; r < kBlockRows; ++r)
    for (int64_t j = 0; j < n; ++j)
      salience[j] += rowWeight(r) * row(r)[j] * row(r)[j];
  for (int64_t j = 0; matrix && j < n; ++j)
    salience[j] /= metric.inverse[j] * metric.inverse[j];
  std::vector<uint16_t> columns(n);
  std::iota(columns.begin(), columns.end(), uint16_t(0));
  std::sort(columns.begin(), columns.end(), [&](uint16_t a, uint16_t b) {
    return salience[a] != salience[b] ? salience[a] > salience[b] : a < b;
  });

  std::vector<uint8_t> tried(n, 0);
  double least = errorWith(tried);
  int64_t done = 0;
  for (int64_t number : {1, 2, 3, 4, 6, 8, 11, 14, 18, 24, 32, 40, 50}) {
    if (number > std::min(kMostSalient, n / 2))
      break;
    for (; done < number; ++done)
      tried[columns[done]] = 1;
    double error = errorWith(tried);
    if (error < least) {
      least = error;
      tile.salient = tried;
    }
  }
}

void TileEncoder::setMagnitudes(int64_t r, const double *found) {
  for (int64_t i = 0; i < shape.magnitudes(); ++i) {
    double size = std::min<double>(std::fabs(found[i]), kMostMagnitude);
    tile.magnitudes[r][i] = static_cast<uint8_t>(std::lround(size));
  }
  for (int64_t i = 0; shape.bits() == 2 && i < shape.magnitudes(); i += 2)
    if (tile.magnitudes[r][i] > tile.magnitudes[r][i + 1])
      std::swap(tile.magnitudes[r][i], tile.magnitudes[r][i + 1]);
}

/// The code of row r and column j that is nearest to a goal.
unsigned TileEncoder::nearest(int64_t r, int64_t j, float goal) const {
  unsigned code = goal < 0;
  if (shape.bits() == 1)
    return code;
  const uint8_t *sizes = tile.magnitudes[r] + (tile.salient[j] ? 2 : 0);
  return 2 * code + (2 * std::fabs(goal) > float(sizes[0] + sizes[1]));
}

/// Gives a row its codes, column by column.
void TileEncoder::code(int64_t r) {
  std::copy_n(row(r), n, goals.begin());
  for (int64_t j = 0; j < n; ++j) {
    tile.codes[r * n + j] = nearest(r, j, goals[j]);
    if (!matrix)
      continue;
    float miss = row(r)[j] - static_cast<float>(tile.level(shape, r, j));
    const float *from = metric.feedback.data() + j * n;
    for (int64_t k = j + 1; k < n; ++k)
      goals[k] += miss * from[k];
  }
}

/// The errors of row r and their products with the metric; returns what they
/// cost.
double TileEncoder::pull(int64_t r) {
  std::fill(pulls.begin(), pulls.end(), 0.0f);
  for (int64_t j = 0; j < n; ++j) {
    errors[j] = row(r)[j] - static_cast<float>(tile.level(shape, r, j));
    for (int64_t k = 0; k < n; ++k)
      pulls[k] += errors[j] * matrix[j * n + k];
  }
  double cost = 0;
  for (int64_t j = 0; j < n; ++j)
    cost += double(errors[j]) * pulls[j];
  return cost;
}

/// Gives each column the level nearest to its best value, all others being
/// what they are.
void TileEncoder::descend(int64_t r) {
  for (int64_t j = 0; j < n; ++j) {
    if (!(counts[j] > 0))
      continue;
    float own = matrix[j * (n + 1)];
    float goal = row(r)[j] + (pulls[j] - errors[j] * own) / own;
    unsigned code = nearest(r, j, goal);
    if (code == tile.codes[r * n + j])
      continue;
    tile.codes[r * n + j] = code;
    float error = row(r)[j] - static_cast<float>(tile.level(shape, r, j));
    float change = error - errors[j];
    errors[j] = error;
    for (int64_t k = 0; k < n; ++k)
      pulls[k] += change * matrix[j * n + k];
  }
}

/// Codes and magnitudes by turns, as long as that helps.
void TileEncoder::improve(int64_t r) {
  double least = pull(r);
  for (int round = 0; round < kRounds; ++round) {
    uint8_t sizes[4];
    std::copy_n(tile.magnitudes[r], 4, sizes);
    std::vector<uint8_t> codes(tile.codes.begin() + r * n,
                               tile.codes.begin() + (r + 1) * n);
    descend(r);
    refit(r);
    double cost = pull(r);
    if (!(cost < least)) {
      std::copy_n(sizes, 4, tile.magnitudes[r]);
      std::copy(codes.begin(), codes.end(), tile.codes.begin() + r * n);
      return;
    }
    least = cost;
  }
}

/// Solves the k x k system a x = b (a symmetric, positive definite, k <= 4).
/// False: it is singular.
static bool solveSmall(double a[4][4], double *b, int64_t k) {
  for (int64_t i = 0; i < k; ++i) {
    double pivot = a[i][i];
    if (!(pivot > 0) || !std::isfinite(pivot))
      return false;
    for (int64_t j = i + 1; j < k; ++j) {
      double factor = a[j][i] / pivot;
      for (int64_t l = i; l < k; ++l)
        a[j][l] -= factor * a[i][l];
      b[j] -= factor * b[i];
    }
  }
  for (int64_t i = k - 1; i >= 0; --i) {
    for (int64_t l = i + 1; l < k; ++l)
      b[i] -= a[i][l] * b[l];
    b[i] /= a[i][i];
  }
  return true;
}

/// The best magnitudes for the codes at hand, in the metric.
void TileEncoder::refit(int64_t r) {
  // Columns of a magnitude that no code names leave the system alone.
  int64_t all = shape.magnitudes(), used = 0, place[4];
  std::vector<float> signs(all * n, 0.0f), pulled(n);
  bool isNamed[4] = {};
  for (int64_t j = 0; j < n; ++j) {
    unsigned code = tile.codes[r * n + j];
    int64_t i = (tile.salient[j] ? shape.perKind() : 0) +
                (shape.bits() == 2 ? code & 1 : 0);
    signs[i * n + j] = code >> (shape.bits() - 1) & 1 ? -1.0f : 1.0f;
    if (counts[j] > 0)
      isNamed[i] = true;
  }
  double a[4][4], b[4], found[4];
  for (int64_t i = 0; i < all; ++i) {
    found[i] = tile.magnitudes[r][i];
    if (isNamed[i])
      place[used++] = i;
  }
  for (int64_t i = 0; i < used; ++i) {
    const float *mine = signs.data() + place[i] * n;
    std::fill(pulled.begin(), pulled.end(), 0.0f);
    for (int64_t j = 0; j < n; ++j)
      if (mine[j] != 0)
        for (int64_t k = 0; k < n; ++k)
          pulled[k] += mine[j] * matrix[j * n + k];
    b[i] = 0;
    for (int64_t k = 0; k < n; ++k)
      b[i] += double(pulled[k]) * row(r)[k];
    for (int64_t l = 0; l < used; ++l) {
      a[i][l] = 0;
      for (int64_t k = 0; k < n; ++k)
        a[i][l] += double(pulled[k]) * signs[place[l] * n + k];
    }
  }
  if (!solveSmall(a, b, used))
    return;
  for (int64_t i = 0; i < used; ++i)
    if (std::isfinite(b[i]))
      found[place[i]] = b[i];
  setMagnitudes(r, found);
}

BinaryTile TileEncoder::run() {
  sortRows();
  if (shape.hasSalient)
    chooseSalient();
  for (int64_t r = 0; r < kBlockRows; ++r) {
    if (!(rowWeight(r) > 0))
      continue;
    double found[4];
    for (uint8_t kind = 0; kind < (shape.hasSalient ? 2 : 1); ++kind) {
      Pair pair = fit(r, kind, tile.salient);
      found[kind * shape.perKind()] = pair.low;
      found[kind * shape.perKind() + shape.perKind() - 1] = pair.high;
    }
    setMagnitudes(r, found);
    code(r);
    if (matrix)
      improve(r);
  }
  return std::move(tile);
}

BinaryTile quench::encodeBinaryTile(const BinaryShape &shape,
                                    const float *metric, const float *values,
                                    const float *scales, const float *weights) {
  return TileEncoder(shape, metric, values, scales, weights).run();
}
