//===- Attention.cpp - Softmax attention ------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Interpreter/Attention.h"
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

static Expected<HeadRows> headRows(const HostTensor &tensor, int64_t heads) {
  HeadRows rows;
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

/// Strides of a bias that is broadcast to [batch, heads, sequence, total].
Error AttentionProblem::fitBias(const HostTensor &tensor) {
  int64_t sizes[4] = {batch, heads, sequence, total};
  int64_t rank = tensor.getRank(), stride = 1;
  bool fits = rank <= 4;
  for (int64_t d = 0; fits && d < rank; ++d) {
    int64_t size = tensor.dim(rank - 1 - d);
    fits = size == 1 || size == sizes[3 - d];
    biasStrides[3 - d] = size == 1 ? 0 : stride;
    stride *= size;
  }
  if (fits)
    return Error::success();
  return createStringError("a bias " + tensor.describe() +
                           " cannot be broadcast to [" + Twine(sizes[0]) + "," +
                           Twine(sizes[1]) + "," + Twine(sizes[2]) + "," +
                           Twine(sizes[3]) + "]");
}

Expected<AttentionProblem>
AttentionProblem::create(qn::AttentionOp op, ArrayRef<HostTensor> operands) {
  AttentionProblem problem;
  problem.heads = op.getHeads();
  problem.kvHeads = op.getKvHeads();
  problem.scale = op.getScale().convertToFloat();
  QUENCH_TRY(query, toF32(operands[0]));
  QUENCH_TRY(key, toF32(operands[1]));
  QUENCH_TRY(value, toF32(operands[2]));
  QUENCH_TRY(k, headRows(key, problem.kvHeads));
  QUENCH_TRY(v, headRows(value, problem.kvHeads));
  if (query.getRank() != 3 || problem.heads <= 0 ||
      problem.heads % problem.kvHeads != 0 ||
      query.dim(2) != problem.heads * k.size || query.dim(0) != k.batch ||
      k.batch != v.batch || k.total != v.total)
    return createStringError("query " + query.describe() + ", key " +
                             key.describe() + " and value " + value.describe() +
                             " of " + Twine(problem.heads) + " heads and " +
                             Twine(problem.kvHeads) +
                             " heads of keys do not fit together");
  problem.k = k;
  problem.v = v;
  problem.batch = k.batch;
  problem.sequence = query.dim(1);
  problem.total = k.total;
  problem.causal = op.getCausal();
  problem.window = op.getWindow().value_or(0);
  if (op.getSoftCap())
    problem.cap = op.getSoftCap()->convertToFloat();
  unsigned next = 3;
  if (op.getKeep()) {
    problem.keep = operands[next++];
    if (problem.keep.getNumElements() != k.batch * k.total)
      return createStringError("keep " + problem.keep.describe() + " for " +
                               Twine(k.batch) + " x " + Twine(k.total) +
                               " keys");
  }
  if (op.getBias()) {
    QUENCH_TRY(numbers, toF32(operands[next++]));
    QUENCH_CHECK(problem.fitBias(numbers));
    problem.bias = std::move(numbers);
  }
  if (op.getLength() && operands[next].intAt(0) != k.total)
    return createStringError("a length that is not the number of keys");
  problem.query = std::move(query);
  problem.key = std::move(key);
  problem.value = std::move(value);
  return problem;
}

/// Scores [sequence, total] to weights, in place.
void AttentionProblem::softmax(int64_t b, int64_t h, float *scores,
                               float *slopes) const {
  for (int64_t i = 0; i < sequence; ++i, scores += total) {
    int64_t at = i + total - sequence;
    int64_t first = window > 0 ? std::max<int64_t>(0, at - window + 1) : 0;
    int64_t end = causal ? std::min(total, at + 1) : total;
    const float *added = bias ? bias.data<float>() + b * biasStrides[0] +
                                    h * biasStrides[1] + i * biasStrides[2]
                              : nullptr;
    constexpr float hidden = -std::numeric_limits<float>::infinity();
    float greatest = hidden;
    for (int64_t j = first; j < end; ++j) {
      float score = scores[j];
      if (cap > 0) {
        float turned = std::tanh(score / cap);
        score = cap * turned;
        if (slopes)
          slopes[i * total + j] = 1 - turned * turned;
      }
      if (added)
        score += added[j * biasStrides[3]];
      if (keep && keep.at(b * total + j) == 0)
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

void AttentionProblem::weights(int64_t b, int64_t h, float *weights,
                               float *slopes) const {
  if (slopes)
    std::fill(slopes, slopes + sequence * total, 1.0f);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, sequence, total, k.size,
              scale, query.data<float>() + queryAt(b, h), queryWidth(),
              key.data<float>() + k.at(b, kvHead(h)), k.rowStride, 0.0f,
              weights, total);
  softmax(b, h, weights, slopes);
}

Error quench::runAttention(Step &step) {
  auto op = cast<qn::AttentionOp>(step.op);
  QUENCH_TRY(problem, AttentionProblem::create(op, step.operands));
  int64_t sequence = problem.sequence, total = problem.total;
  const HeadRows &v = problem.v;
  QUENCH_TRY(scores, HostTensor::allocate(ElementKind::F32, {sequence, total}));
  QUENCH_TRY(result,
             HostTensor::allocate(ElementKind::F32, {problem.batch, sequence,
                                                     problem.resultWidth()}));
  float *s = scores.mutableData<float>();
  float *to = result.mutableData<float>();
  std::memset(to, 0, result.getNumBytes());
  for (int64_t b = 0; b < problem.batch && sequence > 0 && total > 0; ++b)
    for (int64_t h = 0; h < problem.heads; ++h) {
      problem.weights(b, h, s);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, sequence, v.size,
                  total, 1.0f, s, total,
                  problem.value.data<float>() + v.at(b, problem.kvHead(h)),
                  v.rowStride, 0.0f, to + problem.resultAt(b, h),
                  problem.resultWidth());
    }
  Type type = op.getResult().getType();
  QUENCH_TRY(converted, toTypeOf(result, type));
  step.results.push_back(std::move(converted));
  return Error::success();
}
