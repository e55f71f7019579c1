//===- Map.cpp - Invertible linear maps -----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/Map.h"
#include "Maps.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace quench;

Map::~Map() = default;

std::unique_ptr<Map> Map::mergedWith(const Map &) const { return nullptr; }

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

/// Unnormalized Hadamard of [size][stride] numbers along the first axis.
static void butterfly(double *v, int64_t size, int64_t stride) {
  for (int64_t distance = 1; distance < size; distance *= 2)
    for (int64_t i = 0; i < size; i += 2 * distance)
      for (int64_t j = i * stride; j < (i + distance) * stride; ++j) {
        double a = v[j], b = v[j + distance * stride];
        v[j] = a + b;
        v[j + distance * stride] = a - b;
      }
}

/// v' = v B along the first axis of [size][stride] numbers.
static void denseStep(double *v, const double *matrix, int64_t size,
                      int64_t stride, std::vector<double> &result) {
  result.assign(size * stride, 0.0);
  for (int64_t i = 0; i < size; ++i)
    for (int64_t j = 0; j < size; ++j) {
      double factor = matrix[i * size + j];
      for (int64_t s = 0; s < stride; ++s)
        result[j * stride + s] += factor * v[i * stride + s];
    }
  std::copy(result.begin(), result.end(), v);
}

static void runStep(const MapStep &step, double *v, int64_t n,
                    std::vector<double> &scratch) {
  int64_t slab = step.size * step.stride;
  switch (step.kind) {
  case MapStep::Scale:
    for (int64_t i = 0; i < n; ++i)
      v[i] *= step.data[0];
    break;
  case MapStep::Diagonal:
    for (int64_t i = 0; i < n; ++i)
      v[i] *= step.data[i];
    break;
  case MapStep::Permute:
    scratch.assign(v, v + n);
    for (int64_t i = 0; i < n; ++i)
      v[i] = scratch[step.index[i]];
    break;
  case MapStep::Butterfly:
    for (int64_t first = 0; first < n; first += slab)
      butterfly(v + first, step.size, step.stride);
    break;
  case MapStep::Dense: {
    int64_t square = step.size * step.size;
    bool many = static_cast<int64_t>(step.data.size()) > square;
    for (int64_t first = 0; first < n; first += slab)
      denseStep(v + first,
                step.data.data() + (many ? first / slab * square : 0),
                step.size, step.stride, scratch);
    break;
  }
  }
}

void Map::apply(const double *values, int64_t rows, double *result) const {
  std::vector<MapStep> list;
  steps(list);
  std::vector<double> scratch;
  int64_t n = in();
  for (int64_t row = 0; row < rows; ++row) {
    double *v = result + row * n;
    std::copy(values + row * n, values + (row + 1) * n, v);
    for (const MapStep &step : list)
      runStep(step, v, n, scratch);
  }
}

int64_t Map::cost() const {
  if (in() != out())
    return 2 * in() * out();
  std::vector<MapStep> list;
  steps(list);
  int64_t n = in(), sum = 0;
  for (const MapStep &step : list) {
    switch (step.kind) {
    case MapStep::Scale:
    case MapStep::Diagonal:
      sum += n;
      break;
    case MapStep::Permute:
      break;
    case MapStep::Butterfly:
      for (int64_t size = step.size; size > 1; size /= 2)
        sum += n;
      break;
    case MapStep::Dense:
      sum += 2 * n * step.size;
      break;
    }
  }
  return sum;
}

//===----------------------------------------------------------------------===//
// Identity, diagonal, permutation
//===----------------------------------------------------------------------===//

static std::string sized(llvm::StringRef name, int64_t n) {
  return name.str() + "<" + std::to_string(n) + ">";
}

namespace {

class IdentityMap : public SquareMap {
public:
  using SquareMap::SquareMap;
  std::string spec() const override { return sized("identity", n); }
  std::unique_ptr<Map> clone() const override { return identityMap(n); }
  std::unique_ptr<Map> inverse() const override { return clone(); }
  std::unique_ptr<Map> transposed() const override { return clone(); }
  bool isIdentity() const override { return true; }
  bool isOrthogonal() const override { return true; }
  bool isDiagonal() const override { return true; }
  bool isPermutation() const override { return true; }
  void steps(std::vector<MapStep> &) const override {}
};

class DiagonalMap : public SquareMap {
public:
  DiagonalMap(std::vector<double> diagonal, std::string text)
      : SquareMap(diagonal.size()), diagonal(std::move(diagonal)),
        text(std::move(text)) {}
  std::string spec() const override { return text; }
  std::unique_ptr<Map> clone() const override {
    return std::make_unique<DiagonalMap>(diagonal, text);
  }
  std::unique_ptr<Map> inverse() const override {
    if (isOrthogonal())
      return clone();
    std::vector<double> inverted;
    for (double value : diagonal) {
      if (value == 0 || !std::isfinite(1 / value))
        return nullptr;
      inverted.push_back(1 / value);
    }
    return std::make_unique<DiagonalMap>(std::move(inverted), text);
  }
  std::unique_ptr<Map> transposed() const override { return clone(); }
  bool isIdentity() const override {
    return llvm::all_of(diagonal, [](double value) { return value == 1; });
  }
  bool isOrthogonal() const override {
    return llvm::all_of(diagonal,
                        [](double value) { return std::fabs(value) == 1; });
  }
  bool isDiagonal() const override { return true; }
  bool isPermutation() const override { return isIdentity(); }
  void steps(std::vector<MapStep> &steps) const override {
    steps.push_back({MapStep::Diagonal, 0, 1, diagonal, {}});
  }
  std::unique_ptr<Map> mergedWith(const Map &next) const override {
    const auto *other = dynamic_cast<const DiagonalMap *>(&next);
    if (!other)
      return nullptr;
    std::vector<double> product(diagonal);
    for (int64_t i = 0; i < n; ++i) {
      product[i] *= other->diagonal[i];
      // d times 1 / d may miss 1 by a rounding.
      if (std::fabs(product[i] - 1) < 4e-16)
        product[i] = 1;
    }
    return diagonalMap(std::move(product));
  }

private:
  std::vector<double> diagonal;
  std::string text;
};

class PermutationMap : public SquareMap {
public:
  explicit PermutationMap(std::vector<int32_t> index)
      : SquareMap(index.size()), index(std::move(index)) {}
  std::string spec() const override { return sized("permutation", n); }
  std::unique_ptr<Map> clone() const override {
    return std::make_unique<PermutationMap>(index);
  }
  std::unique_ptr<Map> inverse() const override {
    std::vector<int32_t> inverted(n);
    for (int64_t i = 0; i < n; ++i)
      inverted[index[i]] = i;
    return std::make_unique<PermutationMap>(std::move(inverted));
  }
  std::unique_ptr<Map> transposed() const override { return inverse(); }
  bool isIdentity() const override {
    for (int64_t i = 0; i < n; ++i)
      if (index[i] != i)
        return false;
    return true;
  }
  bool isOrthogonal() const override { return true; }
  bool isDiagonal() const override { return isIdentity(); }
  bool isPermutation() const override { return true; }
  void steps(std::vector<MapStep> &steps) const override {
    steps.push_back({MapStep::Permute, 0, 1, {}, index});
  }
  std::unique_ptr<Map> mergedWith(const Map &next) const override {
    const auto *other = dynamic_cast<const PermutationMap *>(&next);
    if (!other)
      return nullptr;
    std::vector<int32_t> product(n);
    for (int64_t i = 0; i < n; ++i)
      product[i] = index[other->index[i]];
    return std::make_unique<PermutationMap>(std::move(product));
  }

private:
  std::vector<int32_t> index;
};

} // namespace

std::unique_ptr<Map> quench::identityMap(int64_t n) {
  return std::make_unique<IdentityMap>(n);
}

std::unique_ptr<Map> quench::diagonalMap(std::vector<double> diagonal) {
  std::string text = sized("diagonal", diagonal.size());
  return std::make_unique<DiagonalMap>(std::move(diagonal), std::move(text));
}

llvm::Expected<std::unique_ptr<Map>>
quench::permutationMap(std::vector<int32_t> index) {
  std::vector<bool> seen(index.size());
  for (size_t i = 0; i < index.size(); ++i) {
    bool inside = index[i] >= 0 && index[i] < static_cast<int64_t>(seen.size());
    if (!inside || seen[index[i]])
      return llvm::createStringError(
          "entry " + llvm::Twine(i) + " of a permutation of " +
          llvm::Twine(index.size()) + " is " + llvm::Twine(index[i]) +
          (inside ? ", which it holds twice" : ", which is out of range"));
    seen[index[i]] = true;
  }
  return std::make_unique<PermutationMap>(std::move(index));
}

std::unique_ptr<Map> quench::signsMap(int64_t n, uint64_t seed) {
  std::vector<double> signs(n);
  uint64_t state = seed;
  for (double &sign : signs) {
    state += 0x9e3779b97f4a7c15; // splitmix64
    uint64_t z = state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    sign = (z ^ z >> 31) >> 63 ? -1 : 1;
  }
  return std::make_unique<DiagonalMap>(
      std::move(signs),
      "signs<" + std::to_string(n) + ", seed = " + std::to_string(seed) + ">");
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

namespace {

class ProductMap : public Map {
public:
  explicit ProductMap(std::vector<std::unique_ptr<Map>> factors)
      : factors(std::move(factors)) {}
  int64_t in() const override { return factors.front()->in(); }
  int64_t out() const override { return factors.back()->out(); }
  std::string spec() const override {
    std::string text;
    for (const std::unique_ptr<Map> &factor : factors)
      text += (text.empty() ? "" : " * ") + factor->spec();
    return text;
  }
  std::unique_ptr<Map> clone() const override {
    std::vector<std::unique_ptr<Map>> copies;
    for (const std::unique_ptr<Map> &factor : factors)
      copies.push_back(factor->clone());
    return std::make_unique<ProductMap>(std::move(copies));
  }
  std::unique_ptr<Map> inverse() const override {
    std::vector<std::unique_ptr<Map>> reversed;
    for (const std::unique_ptr<Map> &factor : llvm::reverse(factors)) {
      reversed.push_back(factor->inverse());
      if (!reversed.back())
        return nullptr;
    }
    return std::make_unique<ProductMap>(std::move(reversed));
  }
  std::unique_ptr<Map> transposed() const override {
    std::vector<std::unique_ptr<Map>> reversed;
    for (const std::unique_ptr<Map> &factor : llvm::reverse(factors))
      reversed.push_back(factor->transposed());
    return std::make_unique<ProductMap>(std::move(reversed));
  }
  bool isOrthogonal() const override {
    return llvm::all_of(factors, [](const std::unique_ptr<Map> &factor) {
      return factor->isOrthogonal();
    });
  }
  bool isDiagonal() const override {
    return llvm::all_of(factors, [](const std::unique_ptr<Map> &factor) {
      return factor->isDiagonal();
    });
  }
  bool isPermutation() const override {
    return llvm::all_of(factors, [](const std::unique_ptr<Map> &factor) {
      return factor->isPermutation();
    });
  }
  void steps(std::vector<MapStep> &steps) const override {
    if (in() != out())
      return;
    for (const std::unique_ptr<Map> &factor : factors)
      factor->steps(steps);
  }
  void apply(const double *values, int64_t rows,
             double *result) const override {
    std::vector<double> from(values, values + rows * in()), to;
    for (const std::unique_ptr<Map> &factor : factors) {
      to.resize(rows * factor->out());
      factor->apply(from.data(), rows, to.data());
      from.swap(to);
    }
    std::copy(from.begin(), from.end(), result);
  }

  std::vector<std::unique_ptr<Map>> factors;
};

} // namespace

/// Appends a factor to a list that has no identities and no neighbours that
/// merge.
static void append(std::vector<std::unique_ptr<Map>> &list,
                   std::unique_ptr<Map> factor) {
  if (auto *product = dynamic_cast<ProductMap *>(factor.get())) {
    for (std::unique_ptr<Map> &part : product->factors)
      append(list, std::move(part));
    return;
  }
  if (factor->isIdentity())
    return;
  if (!list.empty() && list.back()->out() == factor->in())
    if (std::unique_ptr<Map> merged = list.back()->mergedWith(*factor)) {
      list.pop_back();
      return append(list, std::move(merged));
    }
  list.push_back(std::move(factor));
}

std::unique_ptr<Map>
quench::productMap(std::vector<std::unique_ptr<Map>> factors) {
  if (factors.empty())
    return identityMap(0);
  int64_t n = factors.front()->in();
  std::vector<std::unique_ptr<Map>> list;
  for (std::unique_ptr<Map> &factor : factors)
    append(list, std::move(factor));
  if (list.empty())
    return identityMap(n);
  if (list.size() == 1)
    return std::move(list.front());
  return std::make_unique<ProductMap>(std::move(list));
}
