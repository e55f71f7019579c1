//===- LayerGradients.cpp - Gradients of layer ops --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpGradient.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Quantization/Map.h"
#include "llvm/Support/Parallel.h"
#include <cblas.h>
#include <cmath>
#include <cstring>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

/// Rows that one task takes; sums over tasks are added in their order.
static constexpr int64_t kRowsPerTask = 64;

static int64_t widthOf(const HostTensor &tensor) {
  return tensor.getRank() ? tensor.dim(tensor.getRank() - 1) : 1;
}
static int64_t rowsOf(const HostTensor &tensor) {
  int64_t width = widthOf(tensor);
  return width ? tensor.getNumElements() / width : 0;
}

/// The sums of columns [rows, width] -> [width], in double.
static Expected<HostTensor> sumRows(const HostTensor &tensor) {
  int64_t width = widthOf(tensor), rows = rowsOf(tensor);
  std::vector<double> sums(width, 0);
  const float *from = tensor.data<float>();
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < width; ++i)
      sums[i] += from[r * width + i];
  return HostTensor::view(ElementKind::F64, {width}, sums.data(), nullptr)
      .convertTo(ElementKind::F32);
}

//===----------------------------------------------------------------------===//
// Products and tables
//===----------------------------------------------------------------------===//

/// y = x W^T + b: dx = dy W, dW = dy^T x, db = the sum of dy's rows.
static Error linear(OpGradient &step) {
  const HostTensor &dy = step.results[0];
  int64_t n = widthOf(dy), rows = rowsOf(dy);
  QUENCH_TRY(x, step.operand(0));
  int64_t k = widthOf(x);
  if (step.wants[0]) {
    QUENCH_TRY(w, step.operand(1));
    QUENCH_TRY(dx, zeros(x.getShape()));
    if (rows && n && k)
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, k, n, 1.0f,
                  dy.data<float>(), n, w.data<float>(), k, 0.0f,
                  dx.mutableData<float>(), k);
    step.operands[0] = std::move(dx);
  }
  if (step.wants[1]) {
    QUENCH_TRY(dw, zeros({n, k}));
    if (rows && n && k)
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, k, rows, 1.0f,
                  dy.data<float>(), n, x.data<float>(), k, 0.0f,
                  dw.mutableData<float>(), k);
    step.operands[1] = std::move(dw);
  }
  if (step.wants.size() > 2 && step.wants[2]) {
    QUENCH_TRY(db, sumRows(dy));
    step.operands[2] = std::move(db);
  }
  return Error::success();
}

static Error embedding(OpGradient &step) {
  if (!step.wants[1])
    return Error::success();
  auto op = cast<qn::EmbeddingOp>(step.op);
  const HostTensor &dy = step.results[0];
  QUENCH_TRY(ids, step.interpreter.valueOf(op.getIds(), step.values));
  QUENCH_TRY(table, step.operand(1));
  QUENCH_TRY(gradient, zeros(table.getShape()));
  int64_t width = widthOf(dy);
  float *to = gradient.mutableData<float>();
  for (int64_t i = 0; i < ids.getNumElements(); ++i) {
    float *row = to + ids.intAt(i) * width;
    for (int64_t c = 0; c < width; ++c)
      row[c] += dy.data<float>()[i * width + c];
  }
  step.operands[1] = std::move(gradient);
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Norm
//===----------------------------------------------------------------------===//

/// With n = (x - mean) * s and h = dy * gain:
///   dx = s * (h - mean(h) - n * mean(h n)), mean(h) only for layer norms;
///   dgain = the sum over rows of dy n; dbias = the sum of dy.
static Error norm(OpGradient &step) {
  auto op = cast<qn::NormOp>(step.op);
  bool layer = op.getKind() == "layer";
  const HostTensor &dy = step.results[0];
  QUENCH_TRY(x, step.operand(0));
  int64_t width = widthOf(x), rows = rowsOf(x);
  unsigned gainAt = 1, biasAt = op.getGain() ? 2 : 1;
  HostTensor gain;
  if (op.getGain()) {
    QUENCH_TRY(numbers, step.operand(gainAt));
    gain = std::move(numbers);
  }
  bool wantsGain = gain && step.wants[gainAt];
  double epsilon = op.getEpsilon().convertToDouble();
  QUENCH_TRY(dx, zeros(x.getShape()));
  float *to = dx.mutableData<float>();
  int64_t tasks = (rows + kRowsPerTask - 1) / kRowsPerTask;
  std::vector<std::vector<double>> gains(tasks);
  llvm::parallelFor(0, tasks, [&](size_t task) {
    if (wantsGain)
      gains[task].assign(width, 0);
    int64_t end = std::min<int64_t>(rows, (task + 1) * kRowsPerTask);
    for (int64_t r = task * kRowsPerTask; r < end; ++r) {
      const float *from = x.data<float>() + r * width;
      const float *d = dy.data<float>() + r * width;
      double mean = 0, square = 0, sum = 0, along = 0;
      for (int64_t i = 0; layer && i < width; ++i)
        mean += from[i];
      mean /= width;
      for (int64_t i = 0; i < width; ++i)
        square += (from[i] - mean) * (from[i] - mean);
      double s = 1 / std::sqrt(square / width + epsilon);
      for (int64_t i = 0; i < width; ++i) {
        double n = (from[i] - mean) * s;
        double h = d[i] * (gain ? double(gain.data<float>()[i]) : 1);
        sum += h;
        along += h * n;
        if (wantsGain)
          gains[task][i] += d[i] * n;
      }
      sum = layer ? sum / width : 0;
      along /= width;
      for (int64_t i = 0; i < width; ++i) {
        double n = (from[i] - mean) * s;
        double h = d[i] * (gain ? double(gain.data<float>()[i]) : 1);
        to[r * width + i] = static_cast<float>(s * (h - sum - n * along));
      }
    }
  });
  if (step.wants[0])
    step.operands[0] = std::move(dx);
  if (wantsGain) {
    QUENCH_TRY(dgain, zeros({width}));
    for (int64_t i = 0; i < width; ++i) {
      double all = 0;
      for (const std::vector<double> &part : gains)
        all += part[i];
      dgain.mutableData<float>()[i] = static_cast<float>(all);
    }
    step.operands[gainAt] = std::move(dgain);
  }
  if (op.getBias() && step.wants[biasAt]) {
    QUENCH_TRY(dbias, sumRows(dy));
    step.operands[biasAt] = std::move(dbias);
  }
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Rotations
//===----------------------------------------------------------------------===//

/// Turned back: the same op with the other sign of the angles.
static Error rotary(OpGradient &step) {
  return step.adjoints.run(
      step, [&](Adjoints::Frame &frame) -> Expected<SmallVector<Value>> {
        auto op = cast<qn::RotaryOp>(step.op);
        if (frame.wanted.size() != 1 || frame.wanted[0] != 0)
          return createStringError("no gradient for positions");
        SmallVector<float> frequencies(op.getFrequencies());
        for (float &frequency : frequencies)
          frequency = -frequency;
        IRMapping mapping = frame.mapping;
        mapping.map(op.getInput(), frame.results[0]);
        auto back = cast<qn::RotaryOp>(frame.builder.clone(*op, mapping));
        back.setFrequencies(frequencies);
        back->getResult(0).setType(
            cast<RankedTensorType>(frame.results[0].getType()));
        return SmallVector<Value>{back->getResult(0)};
      });
}

/// y = x M: dx = dy M^T.
static Error mapped(OpGradient &step) {
  auto op = cast<qn::MapOp>(step.op);
  QUENCH_TRY(forward, step.interpreter.mapOf(op.getMap()));
  std::unique_ptr<Map> back = forward->transposed();
  const HostTensor &dy = step.results[0];
  if (!back || static_cast<int64_t>(op.getAxis()) != dy.getRank() - 1)
    return createStringError("no gradient for map " + forward->spec() +
                             " along dimension " + Twine(op.getAxis()));
  int64_t rows = rowsOf(dy), from = back->in(), to = back->out();
  SmallVector<int64_t> shape(dy.getShape());
  shape.back() = to;
  QUENCH_TRY(dx, zeros(shape));
  float *out = dx.mutableData<float>();
  llvm::parallelFor(0, (rows + kRowsPerTask - 1) / kRowsPerTask, [&](size_t t) {
    int64_t first = t * kRowsPerTask, n = std::min(kRowsPerTask, rows - first);
    const float *in = dy.data<float>() + first * from;
    std::vector<double> numbers(in, in + n * from), turned(n * to);
    back->apply(numbers.data(), n, turned.data());
    std::copy(turned.begin(), turned.end(), out + first * to);
  });
  step.operands[0] = std::move(dx);
  return Error::success();
}

/// Rounding passes gradients through.
static Error same(OpGradient &step) {
  step.operands[0] = step.results[0];
  return Error::success();
}

void quench::addLayerGradients(GradientRules &rules) {
  rules["quench.linear"] = linear;
  rules["quench.embedding"] = embedding;
  rules["quench.norm"] = norm;
  rules["quench.rotary"] = rotary;
  rules["quench.map"] = mapped;
  rules["quench.quantize"] = same;
  rules["quench.dequantize"] = same;
  rules["quench.attention"] = attentionGradient;
}
