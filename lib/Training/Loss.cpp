//===- Loss.cpp - What training makes small ---------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Training/Loss.h"
#include "OpGradient.h"
#include "llvm/Support/Parallel.h"
#include <cmath>
#include <cstring>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
struct Rows {
  int64_t rows = 0, width = 0;
  explicit Rows(const HostTensor &tensor) {
    width = tensor.getRank() ? tensor.dim(tensor.getRank() - 1) : 1;
    rows = width ? tensor.getNumElements() / width : 0;
  }
};
} // namespace

static Error check(const HostTensor &a, const HostTensor &b) {
  if (a.getShape() == b.getShape() && a.getKind() == ElementKind::F32 &&
      b.getKind() == ElementKind::F32 && a.getNumElements() > 0)
    return Error::success();
  return createStringError("numbers " + a.describe() +
                           " are compared with numbers " + b.describe());
}

/// e^x for float x <= 0, relative error below 4e-7; a loop over it becomes
/// vector code.
static inline float expNegative(float x) {
  x = std::max(x, -87.0f);
  float steps = x * 1.44269504f + 12582912.0f;
  int32_t n;
  std::memcpy(&n, &steps, 4);
  n -= 0x4b400000;
  float k = steps - 12582912.0f;
  float r = x - k * 0.693359375f + k * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  float value = p * r * r + r + 1.0f;
  int32_t bits;
  std::memcpy(&bits, &value, 4);
  bits += n << 23;
  std::memcpy(&value, &bits, 4);
  return value;
}

/// The logarithm of the sum of exponentials of a row; `exponentials` gets
/// softmax times its inverse factor.
static double logSum(const float *row, int64_t n, float *exponentials) {
  float greatest = row[0];
  for (int64_t i = 1; i < n; ++i)
    greatest = std::max(greatest, row[i]);
  for (int64_t i = 0; i < n; ++i)
    exponentials[i] = expNegative(row[i] - greatest);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum += exponentials[i];
  return greatest + std::log(sum);
}

/// The sum of what rows gave, in their order. Error: one that is not finite.
static Expected<double> sumOf(ArrayRef<double> rows) {
  double sum = 0;
  for (auto [i, value] : llvm::enumerate(rows)) {
    if (!std::isfinite(value))
      return createStringError("a loss that is not finite at row " + Twine(i));
    sum += value;
  }
  return sum;
}

Expected<Loss> quench::divergence(const HostTensor &reference,
                                  const HostTensor &logits) {
  QUENCH_CHECK(check(reference, logits));
  Rows shape(logits);
  int64_t n = shape.width;
  Loss loss;
  QUENCH_TRY(gradient, zeros(logits.getShape()));
  float *to = gradient.mutableData<float>();
  std::vector<double> values(shape.rows);
  llvm::parallelFor(0, shape.rows, [&](size_t r) {
    const float *p = reference.data<float>() + r * n;
    const float *q = logits.data<float>() + r * n;
    float *g = to + r * n;
    std::vector<float> truth(n);
    double logP = logSum(p, n, truth.data()), logQ = logSum(q, n, g);
    // Sums in f32 over a few numbers, then in double.
    double total = 0, mass = 0, massQ = 0;
    for (int64_t i = 0; i < n; i += 16) {
      float part = 0, all = 0, allQ = 0;
      for (int64_t j = i; j < std::min(n, i + 16); ++j) {
        part += truth[j] * (p[j] - q[j]);
        all += truth[j];
        allQ += g[j];
      }
      total += part;
      mass += all;
      massQ += allQ;
    }
    values[r] = total / mass - logP + logQ;
    float byP = static_cast<float>(1 / (mass * shape.rows));
    float byQ = static_cast<float>(1 / (massQ * shape.rows));
    for (int64_t i = 0; i < n; ++i)
      g[i] = g[i] * byQ - truth[i] * byP;
  });
  QUENCH_TRY(sum, sumOf(values));
  loss.value = sum / shape.rows;
  loss.gradient = std::move(gradient);
  return loss;
}

Expected<Loss> quench::crossEntropy(const HostTensor &logits,
                                    ArrayRef<int64_t> targets) {
  QUENCH_CHECK(check(logits, logits));
  Rows shape(logits);
  int64_t n = shape.width;
  if (static_cast<int64_t>(targets.size()) != shape.rows)
    return createStringError(Twine(targets.size()) + " targets for " +
                             Twine(shape.rows) + " rows");
  for (int64_t target : targets)
    if (target < 0 || target >= n)
      return createStringError("target " + Twine(target) + " of " + Twine(n));
  QUENCH_TRY(gradient, zeros(logits.getShape()));
  float *to = gradient.mutableData<float>();
  std::vector<double> values(shape.rows);
  llvm::parallelFor(0, shape.rows, [&](size_t r) {
    const float *q = logits.data<float>() + r * n;
    float *g = to + r * n;
    double log = logSum(q, n, g), sum = 0;
    values[r] = log - q[targets[r]];
    for (int64_t i = 0; i < n; ++i)
      sum += g[i];
    float by = static_cast<float>(1 / (sum * shape.rows));
    for (int64_t i = 0; i < n; ++i)
      g[i] *= by;
    g[targets[r]] -= 1.0f / shape.rows;
  });
  QUENCH_TRY(sum, sumOf(values));
  Loss loss;
  loss.value = sum / shape.rows;
  loss.gradient = std::move(gradient);
  return loss;
}

Expected<Loss> quench::relativeError(const HostTensor &reference,
                                     const HostTensor &value) {
  QUENCH_CHECK(check(reference, value));
  double error = 0, size = 0;
  int64_t n = value.getNumElements();
  const float *a = reference.data<float>(), *b = value.data<float>();
  for (int64_t i = 0; i < n; ++i) {
    error += (double(b[i]) - a[i]) * (double(b[i]) - a[i]);
    size += double(a[i]) * a[i];
  }
  if (!std::isfinite(error) || !std::isfinite(size))
    return createStringError("a loss that is not finite");
  size = std::max(size, 1e-30);
  QUENCH_TRY(gradient, zeros(value.getShape()));
  for (int64_t i = 0; i < n; ++i)
    gradient.mutableData<float>()[i] =
        static_cast<float>(2 * (double(b[i]) - a[i]) / size);
  Loss loss;
  loss.value = error / size;
  loss.gradient = std::move(gradient);
  return loss;
}

Expected<Loss> quench::rowErrors(const HostTensor &reference,
                                 const HostTensor &value) {
  QUENCH_CHECK(check(reference, value));
  Rows shape(value);
  QUENCH_TRY(gradient, zeros(value.getShape()));
  double sum = 0;
  for (int64_t row = 0; row < shape.rows; ++row) {
    const float *a = reference.data<float>() + row * shape.width;
    const float *b = value.data<float>() + row * shape.width;
    float *to = gradient.mutableData<float>() + row * shape.width;
    double error = 0, size = 0;
    for (int64_t i = 0; i < shape.width; ++i) {
      error += (double(b[i]) - a[i]) * (double(b[i]) - a[i]);
      size += double(a[i]) * a[i];
    }
    if (!std::isfinite(error) || !std::isfinite(size))
      return createStringError("a loss that is not finite");
    if (size == 0)
      continue;
    double by = 1 / (size * shape.rows);
    sum += error * by;
    for (int64_t i = 0; i < shape.width; ++i)
      to[i] = static_cast<float>(2 * by * (double(b[i]) - a[i]));
  }
  Loss loss;
  loss.value = sum;
  loss.gradient = std::move(gradient);
  return loss;
}

//===----------------------------------------------------------------------===//
// Samples
//===----------------------------------------------------------------------===//

/// Random bits of a place (splitmix64).
static uint64_t bitsAt(uint64_t seed, uint64_t place) {
  uint64_t z = (seed * 0x100000001b3u + place + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}
/// A number in [0, 1).
static double uniformAt(uint64_t seed, uint64_t place) {
  return (bitsAt(seed, place) >> 11) * 0x1p-53;
}

Expected<HostTensor> quench::sampledGradient(const HostTensor &logits,
                                             uint64_t seed) {
  QUENCH_CHECK(check(logits, logits));
  Rows shape(logits);
  int64_t n = shape.width;
  QUENCH_TRY(gradient, zeros(logits.getShape()));
  float *to = gradient.mutableData<float>();
  llvm::parallelFor(0, shape.rows, [&](size_t r) {
    float *g = to + r * n;
    logSum(logits.data<float>() + r * n, n, g);
    double sum = 0, before = 0;
    for (int64_t i = 0; i < n; ++i)
      sum += g[i];
    double drawn = uniformAt(seed, r) * sum;
    int64_t label = 0;
    for (int64_t i = 0; i < n && before + g[i] <= drawn; ++i) {
      before += g[i];
      label = std::min(i + 1, n - 1);
    }
    float by = static_cast<float>(1 / sum);
    for (int64_t i = 0; i < n; ++i)
      g[i] *= by;
    g[label] -= 1;
  });
  return gradient;
}

//===----------------------------------------------------------------------===//
// Objectives
//===----------------------------------------------------------------------===//

Expected<Objective> Objective::of(func::FuncOp function) {
  Objective objective;
  for (auto [i, type] : llvm::enumerate(function.getResultTypes())) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (!tensor || !isa<FloatType>(tensor.getElementType()))
      continue;
    auto attribute = function.getResultAttrOfType<StringAttr>(i, "quench.name");
    StringRef name = attribute ? attribute.getValue() : "";
    if (name == "logits") {
      objective.results = {static_cast<unsigned>(i)};
      objective.logits = true;
      return objective;
    }
    if (!name.contains("present"))
      objective.results.push_back(i);
  }
  if (objective.results.empty())
    return createStringError("'" + function.getName() +
                             "' has no result of floats to compare");
  return objective;
}

Expected<Loss> Objective::compare(const HostTensor &reference,
                                  const HostTensor &value) const {
  return logits ? divergence(reference, value)
                : relativeError(reference, value);
}

Expected<HostTensor> Objective::sample(const HostTensor &value,
                                       uint64_t seed) const {
  if (logits)
    return sampledGradient(value, seed);
  double size = 0;
  for (float number : value.values<float>())
    size += double(number) * number;
  double by = std::sqrt(2 / std::max(size, 1e-30));
  QUENCH_TRY(gradient, zeros(value.getShape()));
  for (int64_t i = 0; i < value.getNumElements(); ++i) {
    // Box and Muller.
    double radius = std::sqrt(-2 * std::log1p(-uniformAt(seed, 2 * i)));
    double angle = 6.28318530717958648 * uniformAt(seed, 2 * i + 1);
    gradient.mutableData<float>()[i] =
        static_cast<float>(by * radius * std::cos(angle));
  }
  return gradient;
}
