//===- Errors.cpp - What errors of weights look like ------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Errors.h"
#include <cblas.h>
#include <cmath>
#include <cstring>
#include <random>

using namespace quench;

// Rows of a product that are in memory at once.
static constexpr int64_t kBand = 4096;

double quench::meanSquareProduct(const HostTensor &gradient,
                                 const BudgetLayer &layer) {
  int64_t n = layer.errorRows;
  double sum = 0;
  std::vector<float> products(std::min(kBand, layer.rows) * n);
  for (int64_t r0 = 0; r0 < layer.rows; r0 += kBand) {
    int64_t rows = std::min(kBand, layer.rows - r0);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n, layer.cols,
                1.0f, gradient.data<float>() + r0 * layer.cols, layer.cols,
                layer.errors.data(), layer.cols, 0.0f, products.data(), n);
    for (int64_t r = 0; r != rows; ++r) {
      double row = 0;
      for (int64_t i = 0; i != n; ++i)
        row += double(products[r * n + i]) * products[r * n + i];
      double size = layer.rowSizes.empty() ? 1 : layer.rowSizes[r0 + r];
      sum += row * size * size;
    }
  }
  return layer.errorLoss > 0 ? 0.5 * sum / n / layer.errorLoss : 0;
}

llvm::Expected<HostTensor> quench::withRandomErrors(const HostTensor &weight,
                                                    const BudgetLayer &layer,
                                                    double loss,
                                                    uint64_t seed) {
  llvm::Expected<HostTensor> made =
      HostTensor::allocate(ElementKind::F32, weight.getShape());
  if (!made)
    return made;
  float *to = made->mutableData<float>();
  std::memcpy(to, weight.raw(), weight.getNumBytes());
  if (!(layer.errorLoss > 0) || !(loss > 0))
    return made;
  int64_t n = layer.errorRows;
  double scale = std::sqrt(loss / layer.errorLoss / n);
  // The standard library's normal numbers differ between libraries.
  std::mt19937_64 random(0x9e3779b97f4a7c15 + seed);
  auto uniform = [&] { return (double(random() >> 11) + 0.5) * 0x1p-53; };
  std::vector<float> factors(std::min(kBand, layer.rows) * n);
  for (int64_t r0 = 0; r0 < layer.rows; r0 += kBand) {
    int64_t rows = std::min(kBand, layer.rows - r0);
    for (int64_t r = 0; r != rows; ++r) {
      double size =
          scale * (layer.rowSizes.empty() ? 1 : layer.rowSizes[r0 + r]);
      for (int64_t i = 0; i != n; ++i)
        factors[r * n + i] =
            static_cast<float>(size * std::sqrt(-2 * std::log(uniform())) *
                               std::cos(6.28318530717958648 * uniform()));
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, layer.cols, n,
                1.0f, factors.data(), n, layer.errors.data(), layer.cols, 1.0f,
                to + r0 * layer.cols, layer.cols);
  }
  return made;
}
