//===- Simulate.cpp - Noise in the place of quantization --------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Simulate.h"
#include "quench/BitBudget/Budget.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "llvm/ADT/StringMap.h"
#include <cmath>
#include <random>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

Expected<NoiseRunner> NoiseRunner::create(ModuleOp module, ModelFiles &files,
                                          const CalibrationData &data,
                                          int64_t samples) {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main || main.isExternal())
    return createStringError("the module has no function 'main'");
  Expected<Objective> objective = Objective::of(main);
  if (!objective)
    return objective.takeError();
  InterpreterOptions running;
  running.files = &files;
  Expected<Interpreter> interpreter = Interpreter::create(module, running);
  if (!interpreter)
    return interpreter.takeError();
  NoiseRunner runner(std::move(*interpreter), main, data,
                     std::move(*objective));
  for (int64_t i = 0; i < std::min(samples, data.size()); ++i) {
    Expected<SmallVector<HostTensor>> found = runner.outputs(i, llvm::DenseMap<Operation *, double>());
    if (!found)
      return found.takeError();
    runner.references.push_back(std::move(*found));
  }
  return runner;
}

/// A result with noise; `bias` (may be none) is not a part of what the noise is
/// relative to.
static Expected<HostTensor> noisy(const HostTensor &result,
                                  const HostTensor &bias, double noise,
                                  std::mt19937_64 &random) {
  Expected<HostTensor> floats = result.convertTo(ElementKind::F32);
  if (!floats)
    return floats;
  Expected<HostTensor> made =
      HostTensor::allocate(ElementKind::F32, result.getShape());
  if (!made)
    return made;
  const float *from = floats->data<float>();
  const float *offset = bias ? bias.data<float>() : nullptr;
  float *to = made->mutableData<float>();
  int64_t n = result.getRank() ? result.dim(result.getRank() - 1) : 0;
  int64_t rows = n ? result.getNumElements() / n : 0;
  // The standard library's normal numbers differ between libraries.
  auto uniform = [&] { return (double(random() >> 11) + 0.5) * 0x1p-53; };
  for (int64_t r = 0; r != rows; ++r, from += n, to += n) {
    double square = 0;
    for (int64_t i = 0; i != n; ++i) {
      double value = double(from[i]) - (offset ? offset[i] : 0);
      square += value * value;
    }
    double size = std::sqrt(noise * square / n);
    for (int64_t i = 0; i != n; ++i) {
      double normal = std::sqrt(-2 * std::log(uniform())) *
                      std::cos(6.28318530717958648 * uniform());
      to[i] = static_cast<float>(from[i] + size * normal);
    }
  }
  return made->convertTo(result.getKind());
}

Expected<SmallVector<HostTensor>>
NoiseRunner::outputs(int64_t sample,
                     const llvm::DenseMap<Operation *, double> &noise) {
  Expected<SmallVector<HostTensor>> inputs = data.inputs(main, sample);
  if (!inputs)
    return inputs;
  Interpreter::Values values;
  if (Error error = interpreter.begin("main", *inputs, values))
    return std::move(error);
  std::mt19937_64 random(0x9e3779b97f4a7c15 + sample);
  Block &block = main.getBody().front();
  for (Operation &op : block.without_terminator()) {
    if (Error error = interpreter.step(&op, values, /*keep=*/false))
      return std::move(error);
    auto found = noise.find(&op);
    if (found == noise.end() || found->second <= 0)
      continue;
    auto result = values.find(op.getResult(0));
    if (result == values.end())
      continue; // nobody reads it
    HostTensor bias;
    if (auto linear = dyn_cast<qn::LinearOp>(op); linear && linear.getBias()) {
      Expected<HostTensor> numbers =
          interpreter.valueOf(linear.getBias(), values);
      if (!numbers)
        return numbers.takeError();
      Expected<HostTensor> floats = numbers->convertTo(ElementKind::F32);
      if (!floats)
        return floats.takeError();
      bias = std::move(*floats);
    }
    Expected<HostTensor> made =
        noisy(result->second, bias, found->second, random);
    if (!made)
      return made.takeError();
    result->second = std::move(*made);
  }
  SmallVector<HostTensor> results;
  for (unsigned i : objective.results) {
    Expected<HostTensor> value =
        interpreter.valueOf(block.getTerminator()->getOperand(i), values);
    if (!value)
      return value.takeError();
    Expected<HostTensor> floats = value->convertTo(ElementKind::F32);
    if (!floats)
      return floats.takeError();
    results.push_back(std::move(*floats));
  }
  return results;
}

Expected<double>
NoiseRunner::run(const llvm::DenseMap<Operation *, double> &noise) {
  double sum = 0;
  for (auto [i, reference] : llvm::enumerate(references)) {
    Expected<SmallVector<HostTensor>> found = outputs(i, noise);
    if (!found)
      return found.takeError();
    for (auto [before, after] : llvm::zip(reference, *found)) {
      Expected<Loss> loss = objective.compare(before, after);
      if (!loss)
        return loss.takeError();
      sum += loss->value;
    }
  }
  return references.empty() ? 0 : sum / references.size();
}

Expected<double> quench::simulateChoice(ModuleOp module, ModelFiles &files,
                                        const CalibrationData &data,
                                        ArrayRef<BudgetLayer> layers,
                                        ArrayRef<unsigned> choice,
                                        const BudgetOptions &options) {
  Expected<NoiseRunner> runner =
      NoiseRunner::create(module, files, data, options.samples);
  if (!runner)
    return runner.takeError();
  llvm::StringMap<const FormatLoss *> losses;
  for (auto [layer, chosen] : llvm::zip(layers, choice))
    losses[layer.key] = &layer.options[chosen];
  llvm::DenseMap<Operation *, double> noise;
  module.lookupSymbol<func::FuncOp>("main").walk([&](Operation *op) {
    if (!isa<qn::LinearOp, qn::EmbeddingOp>(op) ||
        !WeightEvaluator::isWeight(op->getOperand(1)))
      return;
    const FormatLoss *loss =
        losses.lookup(WeightEvaluator::key(op->getOperand(1)));
    if (loss)
      noise[op] = isa<qn::LinearOp>(op) ? loss->loss : loss->error;
  });
  return runner->run(noise);
}
