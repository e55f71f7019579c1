//===- Hadamard.cpp - Hadamard matrices of many orders --------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Orders n = K * 2^p: H_K (x) H_{2^p}, where K is the smallest odd(n) * 2^j
// that has a construction of Paley's, and H_{2^p} Sylvester's. With q a prime
// power and A the bordered matrix of quadratic characters of GF(q):
//   Paley I   order q + 1, q = 3 mod 4:     I + A, A skew
//   Paley II  order 2 (q + 1), q = 1 mod 4: A (x) [+ +; + -] + I (x) [+ -; - -]
//
//===----------------------------------------------------------------------===//

#include "Maps.h"
#include <cmath>

using namespace quench;

/// The largest factor K that is multiplied as a matrix.
static constexpr int64_t kMaxPaley = 2048;
static constexpr int64_t kMaxMatrix = 8192;

//===----------------------------------------------------------------------===//
// Finite fields
//===----------------------------------------------------------------------===//

/// q = p^k with p prime; p = 0 if q is no prime power.
struct PrimePower {
  int64_t p = 0;
  int k = 0;
};

static PrimePower primePower(int64_t q) {
  if (q < 2)
    return {};
  int64_t p = 2;
  while (p * p <= q && q % p != 0)
    ++p;
  if (p * p > q)
    return {q, 1};
  int k = 0;
  for (; q % p == 0; q /= p)
    ++k;
  return q == 1 ? PrimePower{p, k} : PrimePower{};
}

namespace {

/// GF(p^k); element e stands for the polynomial whose coefficients are its
/// digits in base p.
class Field {
public:
  using Polynomial = std::vector<int64_t>; // lowest power first

  Field(int64_t p, int k) : p(p), k(k), q(1) {
    for (int i = 0; i < k; ++i)
      q *= p;
    if (k > 1)
      modulus = irreducible();
  }

  int64_t size() const { return q; }
  int64_t subtract(int64_t a, int64_t b) const {
    int64_t result = 0;
    for (int64_t place = 1; place < q; place *= p, a /= p, b /= p)
      result += (a % p - b % p + p) % p * place;
    return result;
  }
  int64_t square(int64_t a) const {
    if (k == 1)
      return a * a % p;
    Polynomial digits = polynomial(a), product(2 * k - 1);
    for (int i = 0; i < k; ++i)
      for (int j = 0; j < k; ++j)
        product[i + j] = (product[i + j] + digits[i] * digits[j]) % p;
    reduce(product, modulus);
    int64_t result = 0;
    for (int i = k - 1; i >= 0; --i)
      result = result * p + product[i];
    return result;
  }
  /// 0, 1 for squares, -1 for the others.
  std::vector<int8_t> characters() const {
    std::vector<int8_t> chi(q, -1);
    for (int64_t a = 1; a < q; ++a)
      chi[square(a)] = 1;
    chi[0] = 0;
    return chi;
  }

private:
  Polynomial polynomial(int64_t a) const {
    Polynomial digits(k);
    for (int64_t &digit : digits) {
      digit = a % p;
      a /= p;
    }
    return digits;
  }
  /// value mod divisor, a monic polynomial.
  void reduce(Polynomial &value, const Polynomial &divisor) const {
    int64_t degree = divisor.size() - 1;
    for (int64_t top = value.size() - 1; top >= degree; --top) {
      int64_t factor = value[top];
      for (int64_t i = 0; i <= degree; ++i)
        value[top - degree + i] =
            (value[top - degree + i] + (p - factor) * divisor[i]) % p;
    }
    value.resize(std::min<size_t>(value.size(), degree));
  }
  /// The monic polynomial of this degree whose low coefficients are `low`.
  Polynomial monic(int degree, int64_t low) const {
    Polynomial result(degree + 1);
    for (int i = 0; i < degree; ++i, low /= p)
      result[i] = low % p;
    result[degree] = 1;
    return result;
  }
  bool isIrreducible(const Polynomial &candidate) const {
    int64_t count = 1;
    for (int degree = 1; 2 * degree <= k; ++degree) {
      count *= p;
      for (int64_t low = 0; low < count; ++low) {
        Polynomial rest = candidate;
        reduce(rest, monic(degree, low));
        if (llvm::all_of(rest, [](int64_t digit) { return digit == 0; }))
          return false;
      }
    }
    return true;
  }
  Polynomial irreducible() const {
    int64_t low = 0;
    while (!isIrreducible(monic(k, low)))
      ++low; // there is one of each degree
    return monic(k, low);
  }

  int64_t p;
  int k;
  int64_t q;
  Polynomial modulus;
};

} // namespace

//===----------------------------------------------------------------------===//
// Matrices
//===----------------------------------------------------------------------===//

/// 1 or 2 for Paley's construction of this order, 0 if neither is possible.
static int paleyKind(int64_t order) {
  if (order % 4 != 0 || order > kMaxPaley)
    return 0;
  if (primePower(order - 1).p != 0) // order - 1 = 3 mod 4
    return 1;
  int64_t q = order / 2 - 1;
  return q % 4 == 1 && primePower(q).p != 0 ? 2 : 0;
}

/// The bordered character matrix of order q + 1; `side` is its first column.
static std::vector<int8_t> bordered(int64_t q, int8_t side) {
  PrimePower power = primePower(q);
  Field field(power.p, power.k);
  std::vector<int8_t> chi = field.characters();
  int64_t n = q + 1;
  std::vector<int8_t> result(n * n);
  for (int64_t i = 1; i < n; ++i) {
    result[i] = 1;
    result[i * n] = side;
    for (int64_t j = 1; j < n; ++j)
      result[i * n + j] = chi[field.subtract(i - 1, j - 1)];
  }
  return result;
}

/// The matrix of an order of K: 1, or one with paleyKind != 0.
static std::vector<int8_t> baseMatrix(int64_t order) {
  if (order == 1)
    return {1};
  if (paleyKind(order) == 1) {
    std::vector<int8_t> result = bordered(order - 1, -1);
    for (int64_t i = 0; i < order; ++i)
      result[i * order + i] += 1;
    return result;
  }
  int64_t half = order / 2;
  std::vector<int8_t> a = bordered(half - 1, 1), result(order * order);
  const int8_t times[2][2] = {{1, 1}, {1, -1}},
               plus[2][2] = {{1, -1}, {-1, -1}};
  for (int64_t i = 0; i < order; ++i)
    for (int64_t j = 0; j < order; ++j)
      result[i * order + j] = a[i / 2 * half + j / 2] * times[i % 2][j % 2] +
                              (i / 2 == j / 2 ? plus[i % 2][j % 2] : 0);
  return result;
}

static int64_t powerOfTwoIn(int64_t n) { return n & -n; }

/// The factor K of n, or 0.
static int64_t baseOrder(int64_t n) {
  if (n < 1)
    return 0;
  int64_t power = powerOfTwoIn(n), odd = n / power;
  if (odd == 1)
    return 1;
  for (int64_t factor = 4; factor <= power; factor *= 2)
    if (paleyKind(odd * factor))
      return odd * factor;
  return 0;
}

static llvm::Error noConstruction(int64_t n) {
  if (n < 1)
    return llvm::createStringError("a Hadamard matrix of order " +
                                   llvm::Twine(n) +
                                   " does not exist; orders begin at 1");
  int64_t below = n - 1, above = n + 1;
  while (below > 1 && !baseOrder(below))
    --below;
  while (!baseOrder(above)) // ends at a power of two at the latest
    ++above;
  return llvm::createStringError(
      "no construction of a Hadamard matrix of order " + llvm::Twine(n) +
      " is known here; the nearest orders that have one are " +
      llvm::Twine(below) + " and " + llvm::Twine(above) +
      ", and blocks of up to " + llvm::Twine(powerOfTwoIn(n)) +
      " numbers divide it");
}

llvm::Expected<std::vector<int8_t>> quench::hadamardMatrix(int64_t n) {
  int64_t base = baseOrder(n);
  if (!base)
    return noConstruction(n);
  if (n > kMaxMatrix)
    return llvm::createStringError(
        "a Hadamard matrix of order " + llvm::Twine(n) +
        " is not written out; the largest has order " +
        llvm::Twine(kMaxMatrix));
  std::vector<int8_t> matrix = baseMatrix(base), result(n * n);
  int64_t inner = n / base;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      bool negative = __builtin_parityll((i % inner) & (j % inner));
      int8_t entry = matrix[i / inner * base + j / inner];
      result[i * n + j] = negative ? -entry : entry;
    }
  return result;
}

//===----------------------------------------------------------------------===//
// Maps
//===----------------------------------------------------------------------===//

namespace {

/// H_K (x) H_{2^p} / sqrt(K 2^p) on each block of K * 2^p numbers.
class HadamardMap : public SquareMap {
public:
  using Matrix = std::shared_ptr<const std::vector<int8_t>>;

  HadamardMap(int64_t n, int64_t block, int64_t base, Matrix matrix,
              bool flipped)
      : SquareMap(n), block(block), base(base), matrix(std::move(matrix)),
        flipped(flipped) {}

  std::string spec() const override {
    std::string text = block == n ? "hadamard<" : "block-hadamard<";
    text += std::to_string(n);
    if (block != n)
      text += ", " + std::to_string(block);
    return text + (flipped ? ", transposed>" : ">");
  }
  std::unique_ptr<Map> clone() const override {
    return std::make_unique<HadamardMap>(*this);
  }
  std::unique_ptr<Map> inverse() const override { return transposed(); }
  std::unique_ptr<Map> transposed() const override {
    // Sylvester's matrices are symmetric, Paley's are not.
    return std::make_unique<HadamardMap>(n, block, base, matrix,
                                         base > 1 && !flipped);
  }
  bool isIdentity() const override { return block == 1; }
  bool isOrthogonal() const override { return true; }
  bool isDiagonal() const override { return block == 1; }
  bool isPermutation() const override { return block == 1; }
  void steps(std::vector<MapStep> &steps) const override {
    int64_t inner = block / base;
    if (inner > 1)
      steps.push_back({MapStep::Butterfly, inner, 1, {}, {}});
    if (base > 1) {
      MapStep step{MapStep::Dense, base, inner, {}, {}};
      step.data.reserve(base * base);
      for (int64_t i = 0; i < base; ++i)
        for (int64_t j = 0; j < base; ++j)
          step.data.push_back((*matrix)[flipped ? j * base + i : i * base + j]);
      steps.push_back(std::move(step));
    }
    if (block > 1)
      steps.push_back(
          {MapStep::Scale, 0, 1, {1 / std::sqrt(double(block))}, {}});
  }
  std::unique_ptr<Map> mergedWith(const Map &next) const override {
    const auto *other = dynamic_cast<const HadamardMap *>(&next);
    if (other && other->n == n && other->block == block &&
        other->flipped == (base > 1 && !flipped))
      return identityMap(n);
    return nullptr;
  }

private:
  int64_t block, base;
  Matrix matrix;
  bool flipped;
};

} // namespace

llvm::Expected<std::unique_ptr<Map>> quench::hadamardMap(int64_t n) {
  int64_t base = baseOrder(n);
  if (!base)
    return noConstruction(n);
  auto matrix = std::make_shared<const std::vector<int8_t>>(baseMatrix(base));
  return std::make_unique<HadamardMap>(n, n, base, std::move(matrix), false);
}

llvm::Expected<std::unique_ptr<Map>> quench::blockHadamardMap(int64_t n,
                                                              int64_t block) {
  if (n < 1 || block < 1 || powerOfTwoIn(block) != block || n % block != 0)
    return llvm::createStringError(
        "Hadamard blocks of " + llvm::Twine(block) + " for " + llvm::Twine(n) +
        " numbers; a block is a power of two that divides them" +
        (n > 0 ? ", up to " + std::to_string(powerOfTwoIn(n)) : ""));
  auto matrix = std::make_shared<const std::vector<int8_t>>(baseMatrix(1));
  return std::make_unique<HadamardMap>(n, block, 1, std::move(matrix), false);
}
