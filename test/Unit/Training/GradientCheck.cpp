//===- GradientCheck.cpp - Gradients against differences --------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GradientCheck.h"
#include <cmath>

using namespace mlir;
using namespace quench;

/// The factors of result i.
static HostTensor factors(const HostTensor &result, unsigned i) {
  return randomFloats(result.getShape(), 1000 + i);
}

llvm::Expected<SmallVector<HostTensor>>
gradientsOf(StringRef text, ArrayRef<HostTensor> inputs) {
  OwningOpRef<ModuleOp> module = parse(text);
  if (!module)
    return llvm::createStringError("the text cannot be parsed");
  auto function = module->lookupSymbol<func::FuncOp>("main");
  auto interpreter = Interpreter::create(*module, {});
  if (!interpreter)
    return interpreter.takeError();
  SmallVector<Value> wanted;
  for (Value argument : function.getArguments())
    if (cast<RankedTensorType>(argument.getType()).getElementType().isF32())
      wanted.push_back(argument);
  std::vector<Operation *> ops = opsOf(function);
  GradientTape tape(*interpreter, ops, {}, wanted);
  Interpreter::Values values;
  if (llvm::Error error = interpreter->begin("main", inputs, values))
    return std::move(error);
  if (llvm::Error error = tape.forward(values))
    return std::move(error);
  SmallVector<std::pair<Value, HostTensor>> seeds;
  for (auto [i, result] : llvm::enumerate(
           function.getBody().front().getTerminator()->getOperands())) {
    auto output = tape.output(result);
    if (!output)
      return output.takeError();
    seeds.push_back({result, factors(*output, i)});
  }
  SmallVector<HostTensor> gradients(inputs.size());
  llvm::Error error = tape.backward(seeds, [&](Value value, HostTensor g) {
    HostTensor &place = gradients[cast<BlockArgument>(value).getArgNumber()];
    EXPECT_FALSE(static_cast<bool>(place)) << "given twice";
    place = std::move(g);
    return llvm::Error::success();
  });
  if (error)
    return std::move(error);
  return gradients;
}

static double weighted(StringRef text, ArrayRef<HostTensor> inputs) {
  double sum = 0;
  for (auto [i, result] : llvm::enumerate(run(text, inputs))) {
    HostTensor by = factors(result, i);
    for (int64_t j = 0; j < result.getNumElements(); ++j)
      sum += result.at(j) * by.at(j);
  }
  return sum;
}

void checkGradients(StringRef text, ArrayRef<HostTensor> inputs, double step,
                    double tolerance) {
  auto gradients = gradientsOf(text, inputs);
  if (!gradients) {
    ADD_FAILURE() << llvm::toString(gradients.takeError());
    return;
  }
  for (size_t a = 0; a < inputs.size(); ++a) {
    if (inputs[a].getKind() != ElementKind::F32)
      continue;
    const HostTensor &gradient = (*gradients)[a];
    ASSERT_TRUE(static_cast<bool>(gradient)) << "argument " << a;
    ASSERT_EQ(gradient.getShape(), inputs[a].getShape());
    std::vector<double> expected;
    double greatest = 0;
    for (int64_t i = 0; i < inputs[a].getNumElements(); ++i) {
      double values[2], at[2];
      for (int side = 0; side < 2; ++side) {
        SmallVector<HostTensor> moved(inputs);
        float &number = moved[a].mutableData<float>()[i];
        number += static_cast<float>(side ? step : -step);
        at[side] = number;
        values[side] = weighted(text, moved);
      }
      expected.push_back((values[1] - values[0]) / (at[1] - at[0]));
      greatest = std::max(greatest, std::fabs(expected.back()));
    }
    for (int64_t i = 0; i < gradient.getNumElements(); ++i)
      EXPECT_NEAR(gradient.at(i), expected[i], tolerance * (greatest + 0.01))
          << "argument " << a << ", number " << i;
  }
}
