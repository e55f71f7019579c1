//===- Parameters.cpp - Numbers that are tuned ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Parameters.h"
#include "quench/Quantization/Packing.h"
#include "quench/Quantization/Parallel.h"
#include "quench/Quantization/Scales.h"
#include <cmath>
#include <cstring>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

Parameters::~Parameters() = default;

//===----------------------------------------------------------------------===//
// Scales
//===----------------------------------------------------------------------===//

Expected<std::unique_ptr<ScaleParameters>> ScaleParameters::create(
    Value weight, std::shared_ptr<const PackedWeight> packed, int threads) {
  const Format &format = *packed->format;
  std::unique_ptr<ScaleParameters> made(new ScaleParameters);
  int64_t rows = packed->rows, cols = packed->cols;
  bool halves = format.hasScale() && format.scaleKind() == ScaleKind::Half;
  if (rows * cols == 0 || (!halves && !format.hasTensorScale()))
    return std::unique_ptr<ScaleParameters>();
  made->value = weight;
  made->original = made->packed = packed;
  made->threads = threads;
  made->perRow = halves ? format.groupsPerRow(cols) : 0;
  made->group = !halves ? 0 : format.group() == 0 ? cols : format.group();
  QUENCH_TRY(base, HostTensor::allocate(ElementKind::F32, {rows, cols}));
  decodeWeight(*packed, base.mutableData<float>(), threads);
  made->base = std::move(base);
  // A factor for whole rows needs the outputs only.
  made->byOutputs =
      made->perRow <= 1 && llvm::all_of(weight.getUsers(), [](Operation *op) {
        return isa<qn::LinearOp>(op);
      });
  if (made->byOutputs)
    for (Operation *user : weight.getUsers())
      made->values.push_back(user->getResult(0));
  else
    made->values.push_back(weight);
  made->logs.assign(halves ? rows * made->perRow : 1, 0);
  made->gradient = made->logs;
  made->adam = Adam(made->logs.size());
  return made;
}

Error ScaleParameters::add(GradientTape &tape, Value of,
                           const HostTensor &dValue) {
  int64_t rows = packed->rows, cols = packed->cols;
  const float *g = dValue.data<float>();
  if (byOutputs) {
    // y = f (x W^T) + b: the gradient by log f is the sum of dy (y - b).
    auto op = cast<qn::LinearOp>(of.getDefiningOp());
    QUENCH_TRY(held, tape.value(of));
    QUENCH_TRY(y, held.convertTo(ElementKind::F32));
    HostTensor bias;
    if (op.getBias()) {
      QUENCH_TRY(raw, tape.value(op.getBias()));
      QUENCH_TRY(floats, raw.convertTo(ElementKind::F32));
      bias = std::move(floats);
    }
    std::vector<double> sums(rows, 0);
    for (int64_t t = 0, n = y.getNumElements() / rows; t < n; ++t)
      for (int64_t r = 0; r < rows; ++r)
        sums[r] +=
            double(g[t * rows + r]) * (y.data<float>()[t * rows + r] -
                                       (bias ? bias.data<float>()[r] : 0.0f));
    for (int64_t r = 0; r < rows; ++r)
      gradient[perRow ? r : 0] += static_cast<float>(sums[r]);
    return Error::success();
  }
  const float *w = base.data<float>();
  std::vector<double> ofRows(rows, 0);
  forEachIndex(rows, threads, [&](int64_t r) {
    for (int64_t c = 0; c < cols;) {
      int64_t end = perRow ? std::min(cols, c + group) : cols;
      int64_t at = perRow ? r * perRow + c / group : 0;
      float factor = std::exp(logs[at]);
      double sum = 0;
      for (; c < end; ++c)
        sum += double(g[r * cols + c]) * w[r * cols + c];
      if (perRow)
        gradient[at] += static_cast<float>(sum * factor);
      else
        ofRows[r] = sum * factor;
    }
  });
  for (double sum : ofRows)
    if (!perRow)
      gradient[0] += static_cast<float>(sum);
  return Error::success();
}

void ScaleParameters::step(double rate) {
  adam.step(logs, gradient, rate);
  std::fill(gradient.begin(), gradient.end(), 0.0f);
}

Expected<HostTensor> ScaleParameters::scaled() const {
  int64_t rows = packed->rows, cols = packed->cols;
  QUENCH_TRY(numbers, HostTensor::allocate(ElementKind::F32, {rows, cols}));
  float *to = numbers.mutableData<float>();
  const float *from = base.data<float>();
  forEachIndex(rows, threads, [&](int64_t r) {
    for (int64_t c = 0; c < cols;) {
      int64_t end = perRow ? std::min(cols, c + group) : cols;
      float factor = std::exp(logs[perRow ? r * perRow + c / group : 0]);
      for (; c < end; ++c)
        to[r * cols + c] = from[r * cols + c] * factor;
    }
  });
  return numbers;
}

Error ScaleParameters::set(Interpreter &interpreter) {
  if (rounded) {
    interpreter.setWeight(value, rounded);
    return Error::success();
  }
  QUENCH_TRY(numbers, scaled());
  interpreter.setWeight(value, std::move(numbers));
  return Error::success();
}

Error ScaleParameters::round() {
  const Format &format = *original->format;
  int64_t rows = original->rows, cols = original->cols;
  EncodedRows encoded =
      unpackWeight(format, original->stream.data(), rows, cols);
  if (perRow == 0) {
    encoded.tensorScale *= std::exp(logs[0]);
  } else {
    for (size_t i = 0; i < logs.size(); ++i) {
      GroupParams &params = encoded.params[i];
      if (params.scale != 0)
        params.scale =
            format.roundScale(format.scaleOf(params) * std::exp(logs[i]));
    }
  }
  auto bytes =
      std::make_shared<std::vector<uint8_t>>(packWeight(format, encoded));
  auto tuned = std::make_shared<PackedWeight>(*original);
  tuned->stream = *bytes;
  tuned->owner = bytes;
  tuned->note += tuned->note.empty() ? "tuned" : "; tuned";
  packed = tuned;
  QUENCH_TRY(numbers, HostTensor::allocate(ElementKind::F32, {rows, cols}));
  decodeWeight(*packed, numbers.mutableData<float>(), threads);
  rounded = std::move(numbers);
  return Error::success();
}

void ScaleParameters::undo() {
  packed = original;
  rounded = base;
}

//===----------------------------------------------------------------------===//
// Vectors
//===----------------------------------------------------------------------===//

VectorParameters::VectorParameters(qn::WeightOp leaf,
                                   qn::InitializerOp initializer,
                                   HostTensor numbers)
    : initializer(initializer), values({leaf.getResult()}),
      base(std::move(numbers)), moves(base.getNumElements(), 0),
      gradient(moves), adam(moves.size()) {
  double square = 0;
  for (float number : base.values<float>())
    square += double(number) * number;
  if (square > 0)
    unit = static_cast<float>(std::sqrt(square / moves.size()));
}

Error VectorParameters::add(GradientTape &, Value, const HostTensor &by) {
  for (size_t i = 0; i < moves.size(); ++i)
    gradient[i] += by.data<float>()[i] * unit;
  return Error::success();
}

void VectorParameters::step(double rate) {
  adam.step(moves, gradient, rate);
  std::fill(gradient.begin(), gradient.end(), 0.0f);
}

HostTensor VectorParameters::numbers() const {
  HostTensor result = base;
  float *to = result.mutableData<float>();
  for (size_t i = 0; i < moves.size(); ++i)
    to[i] += moves[i] * unit;
  return result;
}

Error VectorParameters::set(Interpreter &interpreter) {
  for (Value value : values)
    interpreter.setWeight(value, numbers());
  return Error::success();
}

/// The numbers as the initializer's type holds them.
Error VectorParameters::round() {
  QUENCH_TRY(kind, elementKindOf(initializer.getTensorType()));
  QUENCH_TRY(stored, numbers().convertTo(kind));
  QUENCH_TRY(back, stored.convertTo(ElementKind::F32));
  for (size_t i = 0; i < moves.size(); ++i)
    moves[i] = (back.data<float>()[i] - base.data<float>()[i]) / unit;
  return Error::success();
}

void VectorParameters::undo() { std::fill(moves.begin(), moves.end(), 0.0f); }

Error VectorParameters::write() {
  RankedTensorType type = initializer.getTensorType();
  QUENCH_TRY(kind, elementKindOf(type));
  QUENCH_TRY(stored, numbers().convertTo(kind));
  initializer.setSourceAttr(DenseElementsAttr::getFromRawBuffer(
      type, ArrayRef<char>(stored.data<char>(), stored.getNumBytes())));
  return Error::success();
}
