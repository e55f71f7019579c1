//===- Attention.cpp - Softmax attention ------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Engine.h"
#include <cblas.h>
#include <cmath>
#include <cstring>
#include <limits>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
/// Keys or values of all heads: [batch, total, heads * size] or [batch, heads,
/// total, size].
struct HeadRows {
  const float *data = nullptr;
  int64_t batch = 0, total = 0, size = 0;
  int64_t batchStride = 0, headStride = 0, rowStride = 0;
};

/// Which keys a query sees, and what is added to its scores.
struct Mask {
  const HostTensor *keep = nullptr;
  const float *bias = nullptr;
  int64_t biasStrides[4] = {0, 0, 0, 0};
  bool causal = false;
  int64_t window = 0; // 0: none
  float cap = 0;      // 0: none
};
} // namespace

static Expected<HeadRows> headRows(const HostTensor &tensor, int64_t heads) {
  HeadRows rows;
  rows.data = tensor.data<float>();
  bool split = tensor.getRank() == 4;
  if ((!split && tensor.getRank() != 3) || heads <= 0 ||
      (split ? tensor.dim(1) != heads : tensor.dim(2) % heads != 0))
    return createStringError("keys or values " + tensor.describe() + " of " +
                             Twine(heads) + " heads");
  rows.batch = tensor.dim(0);
  rows.total = tensor.dim(split ? 2 : 1);
  rows.size = split ? tensor.dim(3) : tensor.dim(2) / heads;
  rows.batchStride = rows.total * rows.size * heads;
  rows.headStride = split ? rows.total * rows.size : rows.size;
  rows.rowStride = split ? rows.size : rows.size * heads;
  return rows;
}

/// Scores [sequence, total] to weights, in place.
static void softmaxRows(float *scores, int64_t sequence, int64_t total,
                        int64_t b, int64_t h, const Mask &mask) {
  for (int64_t i = 0; i < sequence; ++i, scores += total) {
    int64_t at = i + total - sequence;
    int64_t first =
        mask.window > 0 ? std::max<int64_t>(0, at - mask.window + 1) : 0;
    int64_t end = mask.causal ? std::min(total, at + 1) : total;
    const float *bias = mask.bias ? mask.bias + b * mask.biasStrides[0] +
                                        h * mask.biasStrides[1] +
                                        i * mask.biasStrides[2]
                                  : nullptr;
    constexpr float hidden = -std::numeric_limits<float>::infinity();
    float greatest = hidden;
    for (int64_t j = first; j < end; ++j) {
      float score = scores[j];
      if (mask.cap > 0)
        score = mask.cap * std::tanh(score / mask.cap);
      if (bias)
        score += bias[j * mask.biasStrides[3]];
      if (mask.keep && mask.keep->at(b * total + j) == 0)
        score = hidden;
      scores[j] = score;
      greatest = std::max(greatest, score);
    }
    std::fill(scores, scores + std::min(first, total), 0.0f);
    std::fill(scores + std::max(end, int64_t(0)), scores + total, 0.0f);
    if (first >= end)
      continue;
    if (greatest == hidden) {
      std::fill(scores + first, scores + end, 0.0f);
      continue;
    }
    double sum = 0;
    for (int64_t j = first; j < end; ++j) {
      scores[j] = std::exp(scores[j] - greatest);
      sum += scores[j];
    }
    float factor = static_cast<float>(1 / sum);
    for (int64_t j = first; j < end; ++j)
      scores[j] *= factor;
  }
}

/// Strides of a bias that is broadcast to [batch, heads, sequence, total].
static Error biasStrides(const HostTensor &bias, ArrayRef<int64_t> sizes,
                         Mask &mask) {
  int64_t rank = bias.getRank(), stride = 1;
  bool fits = rank <= 4;
  for (int64_t d = 0; fits && d < rank; ++d) {
    int64_t size = bias.dim(rank - 1 - d);
    fits = size == 1 || size == sizes[3 - d];
    mask.biasStrides[3 - d] = size == 1 ? 0 : stride;
    stride *= size;
  }
  if (fits)
    return Error::success();
  return createStringError("a bias " + bias.describe() +
                           " cannot be broadcast to [" + Twine(sizes[0]) + "," +
                           Twine(sizes[1]) + "," + Twine(sizes[2]) + "," +
                           Twine(sizes[3]) + "]");
}

Error quench::runAttention(Step &step) {
  auto op = cast<qn::AttentionOp>(step.op);
  int64_t heads = op.getHeads(), kvHeads = op.getKvHeads();
  QUENCH_TRY(query, toF32(step.operands[0]));
  QUENCH_TRY(key, toF32(step.operands[1]));
  QUENCH_TRY(value, toF32(step.operands[2]));
  QUENCH_TRY(k, headRows(key, kvHeads));
  QUENCH_TRY(v, headRows(value, kvHeads));
  if (query.getRank() != 3 || heads <= 0 || heads % kvHeads != 0 ||
      query.dim(2) != heads * k.size || query.dim(0) != k.batch ||
      k.batch != v.batch || k.total != v.total)
    return createStringError(
        "query " + query.describe() + ", key " + key.describe() +
        " and value " + value.describe() + " of " + Twine(heads) +
        " heads and " + Twine(kvHeads) + " heads of keys do not fit together");
  int64_t batch = k.batch, sequence = query.dim(1), total = k.total;

  Mask mask;
  mask.causal = op.getCausal();
  mask.window = op.getWindow().value_or(0);
  if (op.getSoftCap())
    mask.cap = op.getSoftCap()->convertToFloat();
  unsigned next = 3;
  if (op.getKeep()) {
    mask.keep = &step.operands[next++];
    if (mask.keep->getNumElements() != batch * total)
      return createStringError("keep " + mask.keep->describe() + " for " +
                               Twine(batch) + " x " + Twine(total) + " keys");
  }
  HostTensor bias;
  if (op.getBias()) {
    QUENCH_TRY(numbers, toF32(step.operands[next++]));
    bias = std::move(numbers);
    QUENCH_CHECK(biasStrides(bias, {batch, heads, sequence, total}, mask));
    mask.bias = bias.data<float>();
  }
  if (op.getLength() && step.operands[next].intAt(0) != total)
    return createStringError("a length that is not the number of keys");

  QUENCH_TRY(scores, HostTensor::allocate(ElementKind::F32, {sequence, total}));
  QUENCH_TRY(result, HostTensor::allocate(ElementKind::F32,
                                          {batch, sequence, heads * v.size}));
  float *s = scores.mutableData<float>();
  float *to = result.mutableData<float>();
  std::memset(to, 0, result.getNumBytes());
  int64_t width = heads * k.size, outWidth = heads * v.size;
  for (int64_t b = 0; b < batch && sequence > 0 && total > 0; ++b)
    for (int64_t h = 0; h < heads; ++h) {
      int64_t kv = h / (heads / kvHeads);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, sequence, total,
                  k.size, op.getScale().convertToFloat(),
                  query.data<float>() + b * sequence * width + h * k.size,
                  width, k.data + b * k.batchStride + kv * k.headStride,
                  k.rowStride, 0.0f, s, total);
      softmaxRows(s, sequence, total, b, h, mask);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, sequence, v.size,
                  total, 1.0f, s, total,
                  v.data + b * v.batchStride + kv * v.headStride, v.rowStride,
                  0.0f, to + b * sequence * outWidth + h * v.size, outWidth);
    }
  Type type = op.getResult().getType();
  QUENCH_TRY(converted, toTypeOf(result, type));
  step.results.push_back(std::move(converted));
  return Error::success();
}
