//===- Parameters.cpp - Numbers that are tuned ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Parameters.h"
#include <cmath>

using namespace mlir;
using namespace quench;
using llvm::Error;
using llvm::Expected;

Parameters::~Parameters() = default;

float quench::rootMeanSquare(ArrayRef<float> numbers) {
  double square = 0;
  for (float number : numbers)
    square += double(number) * number;
  return std::sqrt(square / std::max<size_t>(1, numbers.size()));
}

VectorParameters::VectorParameters(qn::WeightOp leaf,
                                   qn::InitializerOp initializer,
                                   HostTensor numbers)
    : initializer(initializer), values({leaf.getResult()}),
      base(std::move(numbers)), unit(rootMeanSquare(base.values<float>())),
      moves(base.getNumElements(), 0), gradient(moves), adam(moves.size()) {}

Error VectorParameters::add(GradientTape &tape, Value value,
                            const HostTensor &by) {
  if (unit == 0) {
    Operation *user = *value.getUsers().begin();
    QUENCH_TRY(held, tape.value(user->getResult(0)));
    QUENCH_TRY(numbers, held.convertTo(ElementKind::F32));
    unit = rootMeanSquare(numbers.values<float>());
    if (unit == 0)
      return Error::success();
  }
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
  for (size_t i = 0; unit > 0 && i < moves.size(); ++i)
    moves[i] = (back.data<float>()[i] - base.data<float>()[i]) / unit;
  return Error::success();
}

Error VectorParameters::write() {
  RankedTensorType type = initializer.getTensorType();
  QUENCH_TRY(kind, elementKindOf(type));
  QUENCH_TRY(stored, numbers().convertTo(kind));
  initializer.setSourceAttr(DenseElementsAttr::getFromRawBuffer(
      type, ArrayRef<char>(stored.data<char>(), stored.getNumBytes())));
  return Error::success();
}
