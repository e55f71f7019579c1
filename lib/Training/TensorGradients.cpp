//===- TensorGradients.cpp - Gradients of ops that move numbers -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpGradient.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include <cstring>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

/// The same numbers in the operand's shape.
static Error reshape(OpGradient &step) {
  QUENCH_TRY(input,
             step.interpreter.valueOf(step.op->getOperand(0), step.values));
  step.operands[0] = step.results[0].reshaped(input.getShape());
  return Error::success();
}

using Gradients = Expected<SmallVector<Value>>;

static SmallVector<OpFoldResult> mappedAll(const IRMapping &mapping,
                                           ArrayRef<OpFoldResult> values) {
  SmallVector<OpFoldResult> result(values);
  for (OpFoldResult &value : result)
    if (auto dynamic = dyn_cast<Value>(value))
      value = mapping.lookup(dynamic);
  return result;
}

/// The slice goes back to its place.
static Error extractSlice(OpGradient &step) {
  return step.adjoints.run(step, [&](Adjoints::Frame &frame) -> Gradients {
    auto op = cast<tensor::ExtractSliceOp>(step.op);
    auto insert = tensor::InsertSliceOp::create(
        frame.builder, op.getLoc(), frame.results[0], frame.zeros[0],
        mappedAll(frame.mapping, op.getMixedOffsets()),
        mappedAll(frame.mapping, op.getMixedSizes()),
        mappedAll(frame.mapping, op.getMixedStrides()));
    return SmallVector<Value>{insert.getResult()};
  });
}

/// Each part is cut out of the gradient.
static Error concat(OpGradient &step) {
  int64_t axis = cast<tensor::ConcatOp>(step.op).getDim();
  const HostTensor &dy = step.results[0];
  int64_t outer = 1, inner = 1, at = 0;
  for (int64_t d = 0; d < dy.getRank(); ++d)
    (d < axis ? outer : inner) *= d == axis ? 1 : dy.dim(d);
  for (auto [i, value] : llvm::enumerate(step.op->getOperands())) {
    QUENCH_TRY(part, step.interpreter.valueOf(value, step.values));
    int64_t length = part.dim(axis) * inner;
    if (step.wants[i]) {
      QUENCH_TRY(gradient, zeros(part.getShape()));
      for (int64_t o = 0; o < outer; ++o)
        std::memcpy(gradient.mutableData<float>() + o * length,
                    dy.data<float>() + o * dy.dim(axis) * inner + at,
                    length * sizeof(float));
      step.operands[i] = std::move(gradient);
    }
    at += length;
  }
  return Error::success();
}

/// [batch, heads, past + count, size] back to [batch, count, heads * size].
static Error extend(OpGradient &step) {
  const HostTensor &dy = step.results[0];
  QUENCH_TRY(past,
             step.interpreter.valueOf(step.op->getOperand(0), step.values));
  QUENCH_TRY(rows,
             step.interpreter.valueOf(step.op->getOperand(1), step.values));
  QUENCH_TRY(dPast, zeros(past.getShape()));
  QUENCH_TRY(dRows, zeros(rows.getShape()));
  int64_t batch = dy.dim(0), heads = dy.dim(1), total = dy.dim(2),
          size = dy.dim(3), before = past.dim(2), count = total - before;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < heads; ++h) {
      const float *head = dy.data<float>() + (b * heads + h) * total * size;
      std::memcpy(dPast.mutableData<float>() + (b * heads + h) * before * size,
                  head, before * size * sizeof(float));
      for (int64_t s = 0; s < count; ++s)
        std::memcpy(dRows.mutableData<float>() +
                        ((b * count + s) * heads + h) * size,
                    head + (before + s) * size, size * sizeof(float));
    }
  if (step.wants[0])
    step.operands[0] = std::move(dPast);
  if (step.wants[1])
    step.operands[1] = std::move(dRows);
  return Error::success();
}

/// The rows before the last ones get zeros.
static Error lastRows(OpGradient &step) {
  const HostTensor &dy = step.results[0];
  QUENCH_TRY(x, step.interpreter.valueOf(step.op->getOperand(0), step.values));
  QUENCH_TRY(dx, zeros(x.getShape()));
  int64_t row = x.dim(2), count = dy.dim(1);
  for (int64_t b = 0; b < x.dim(0); ++b)
    std::memcpy(dx.mutableData<float>() + ((b + 1) * x.dim(1) - count) * row,
                dy.data<float>() + b * count * row,
                count * row * sizeof(float));
  step.operands[0] = std::move(dx);
  return Error::success();
}

void quench::addTensorGradients(GradientRules &rules) {
  for (StringRef name : {"tensor.expand_shape", "tensor.collapse_shape",
                         "tensor.reshape", "tensor.cast"})
    rules[name] = reshape;
  rules["tensor.extract_slice"] = extractSlice;
  rules["tensor.concat"] = concat;
  rules["quench.extend"] = extend;
  rules["quench.last_rows"] = lastRows;
}
