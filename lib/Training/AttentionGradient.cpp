//===- AttentionGradient.cpp - Gradient of softmax attention ----*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpGradient.h"
#include "quench/Interpreter/Attention.h"
#include <cblas.h>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

/// With P = softmax(scale Q K^T) and O = P V:
///   dV = P^T dO,  dP = dO V^T,  dS = P (dP - rowsum(P dP)) slope,
///   dQ = scale dS K,  dK = scale dS^T Q;
/// keys and values that several heads share sum over them.
Error quench::attentionGradient(OpGradient &step) {
  auto op = cast<qn::AttentionOp>(step.op);
  for (unsigned i = 3; i < step.wants.size(); ++i)
    if (step.wants[i])
      return createStringError("no gradient for the bias of attention");
  SmallVector<HostTensor> operands;
  for (Value value : op->getOperands()) {
    QUENCH_TRY(tensor, step.interpreter.valueOf(value, step.values));
    operands.push_back(std::move(tensor));
  }
  QUENCH_TRY(problem, AttentionProblem::create(op, operands));
  int64_t sequence = problem.sequence, total = problem.total;
  const HeadRows &k = problem.k, &v = problem.v;
  QUENCH_TRY(dQuery, zeros(problem.query.getShape()));
  QUENCH_TRY(dKey, zeros(problem.key.getShape()));
  QUENCH_TRY(dValue, zeros(problem.value.getShape()));
  std::vector<float> p(sequence * total), ds(sequence * total),
      slopes(sequence * total);
  int64_t width = problem.queryWidth(), outWidth = problem.resultWidth();
  for (int64_t b = 0; b < problem.batch && sequence > 0 && total > 0; ++b)
    for (int64_t h = 0; h < problem.heads; ++h) {
      int64_t kv = problem.kvHead(h);
      const float *dOut =
          step.results[0].data<float>() + problem.resultAt(b, h);
      problem.weights(b, h, p.data(), slopes.data());
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, total, v.size,
                  sequence, 1.0f, p.data(), total, dOut, outWidth, 1.0f,
                  dValue.mutableData<float>() + v.at(b, kv), v.rowStride);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, sequence, total,
                  v.size, 1.0f, dOut, outWidth,
                  problem.value.data<float>() + v.at(b, kv), v.rowStride, 0.0f,
                  ds.data(), total);
      for (int64_t i = 0; i < sequence; ++i) {
        float *row = ds.data() + i * total;
        const float *weights = p.data() + i * total;
        double mean = 0;
        for (int64_t j = 0; j < total; ++j)
          mean += double(row[j]) * weights[j];
        for (int64_t j = 0; j < total; ++j)
          row[j] = weights[j] * (row[j] - static_cast<float>(mean)) *
                   slopes[i * total + j];
      }
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, sequence, k.size,
                  total, problem.scale, ds.data(), total,
                  problem.key.data<float>() + k.at(b, kv), k.rowStride, 0.0f,
                  dQuery.mutableData<float>() + problem.queryAt(b, h), width);
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, total, k.size,
                  sequence, problem.scale, ds.data(), total,
                  problem.query.data<float>() + problem.queryAt(b, h), width,
                  1.0f, dKey.mutableData<float>() + k.at(b, kv), k.rowStride);
    }
  HostTensor all[] = {std::move(dQuery), std::move(dKey), std::move(dValue)};
  for (unsigned i = 0; i < 3; ++i)
    if (step.wants[i])
      step.operands[i] = std::move(all[i]);
  return Error::success();
}
