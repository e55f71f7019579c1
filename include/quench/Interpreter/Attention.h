//===- Attention.h - The parts of softmax attention -------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What running quench.attention and its gradient have in common: the shapes,
// the mask, and the weights of one head.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_INTERPRETER_ATTENTION_H
#define QUENCH_INTERPRETER_ATTENTION_H

#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Support/HostTensor.h"

namespace quench {

/// Keys or values of all heads: [batch, total, heads * size] or [batch, heads,
/// total, size].
struct HeadRows {
  int64_t batch = 0, total = 0, size = 0;
  int64_t batchStride = 0, headStride = 0, rowStride = 0;
  int64_t at(int64_t b, int64_t head) const {
    return b * batchStride + head * headStride;
  }
};

/// One quench.attention with its operands as f32.
class AttentionProblem {
public:
  /// Error: operands that do not fit together.
  static llvm::Expected<AttentionProblem>
  create(qn::AttentionOp op, llvm::ArrayRef<HostTensor> operands);

  HostTensor query, key, value; // f32
  HeadRows k, v;
  int64_t batch = 0, sequence = 0, total = 0, heads = 0, kvHeads = 0;
  float scale = 1;

  int64_t queryWidth() const { return heads * k.size; }
  int64_t resultWidth() const { return heads * v.size; }
  int64_t queryAt(int64_t b, int64_t h) const {
    return b * sequence * queryWidth() + h * k.size;
  }
  int64_t resultAt(int64_t b, int64_t h) const {
    return b * sequence * resultWidth() + h * v.size;
  }
  int64_t kvHead(int64_t h) const { return h / (heads / kvHeads); }

  /// The weights [sequence, total] of one head: softmax of the masked scores.
  /// `slopes`, if given, gets the derivative of each capped score by the score
  /// (1 without a cap).
  void weights(int64_t b, int64_t h, float *weights,
               float *slopes = nullptr) const;

private:
  llvm::Error fitBias(const HostTensor &tensor);
  void softmax(int64_t b, int64_t h, float *scores, float *slopes) const;

  HostTensor keep, bias;
  int64_t biasStrides[4] = {0, 0, 0, 0};
  bool causal = false;
  int64_t window = 0; // 0: none
  float cap = 0;      // 0: none
};

} // namespace quench

#endif // QUENCH_INTERPRETER_ATTENTION_H
