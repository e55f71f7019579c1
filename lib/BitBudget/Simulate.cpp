//===- Simulate.cpp - Random errors in the place of quantization ----------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Errors.h"
#include "quench/BitBudget/Budget.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "quench/Interpreter/Interpreter.h"
#include "quench/Training/Loss.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
class Simulator {
public:
  Simulator(Interpreter &interpreter, func::FuncOp main,
            const Objective &objective)
      : interpreter(interpreter), main(main), objective(objective) {}

  void choose(ArrayRef<BudgetLayer> layers, ArrayRef<unsigned> choice);
  /// The results to compare, with the weights' own numbers or with errors.
  Expected<SmallVector<HostTensor>> run(ArrayRef<HostTensor> inputs,
                                        bool withErrors);

private:
  struct Chosen {
    const BudgetLayer *layer;
    double loss;
    unsigned seed;
  };

  Interpreter &interpreter;
  func::FuncOp main;
  const Objective &objective;
  llvm::DenseMap<Operation *, Chosen> chosen;
};
} // namespace

void Simulator::choose(ArrayRef<BudgetLayer> layers,
                       ArrayRef<unsigned> choice) {
  llvm::StringMap<unsigned> byKey;
  for (auto [i, layer] : llvm::enumerate(layers))
    byKey[layer.key] = i;
  for (Operation &op : main.getBody().front()) {
    if (!isa<qn::LinearOp, qn::EmbeddingOp>(op) ||
        !WeightEvaluator::isWeight(op.getOperand(1)))
      continue;
    auto found = byKey.find(WeightEvaluator::key(op.getOperand(1)));
    if (found == byKey.end() || layers[found->second].errors.empty())
      continue;
    const BudgetLayer &layer = layers[found->second];
    chosen[&op] = {&layer, layer.options[choice[found->second]].loss,
                   found->second};
  }
}

Expected<SmallVector<HostTensor>> Simulator::run(ArrayRef<HostTensor> inputs,
                                                 bool withErrors) {
  Interpreter::Values values;
  if (Error error = interpreter.begin("main", inputs, values))
    return std::move(error);
  Block &block = main.getBody().front();
  for (Operation &op : block.without_terminator()) {
    auto found = chosen.find(&op);
    bool changes = withErrors && found != chosen.end();
    if (changes) {
      Expected<HostTensor> numbers =
          interpreter.evaluateWeight(op.getOperand(1));
      if (!numbers)
        return numbers.takeError();
      Expected<HostTensor> floats = numbers->convertTo(ElementKind::F32);
      if (!floats)
        return floats.takeError();
      // Readers of one weight see the same errors: they have one seed.
      const Chosen &how = found->second;
      Expected<HostTensor> moved =
          withRandomErrors(*floats, *how.layer, how.loss, how.seed);
      if (!moved)
        return moved.takeError();
      interpreter.setWeight(op.getOperand(1), std::move(*moved));
    }
    Error error = interpreter.step(&op, values, /*keep=*/false);
    if (changes)
      interpreter.setWeight(op.getOperand(1), HostTensor());
    if (error)
      return std::move(error);
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

Expected<double> quench::simulateChoice(ModuleOp module, ModelFiles &files,
                                        const CalibrationData &data,
                                        ArrayRef<BudgetLayer> layers,
                                        ArrayRef<unsigned> choice,
                                        const BudgetOptions &options) {
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
  Simulator simulator(*interpreter, main, *objective);
  simulator.choose(layers, choice);
  double sum = 0;
  int64_t count = std::min(options.samples, data.size());
  for (int64_t i = 0; i != count; ++i) {
    Expected<SmallVector<HostTensor>> inputs = data.inputs(main, i);
    if (!inputs)
      return inputs.takeError();
    Expected<SmallVector<HostTensor>> before = simulator.run(*inputs, false);
    if (!before)
      return before.takeError();
    Expected<SmallVector<HostTensor>> after = simulator.run(*inputs, true);
    if (!after)
      return after.takeError();
    for (auto [reference, value] : llvm::zip(*before, *after)) {
      Expected<Loss> loss = objective->compare(reference, value);
      if (!loss)
        return loss.takeError();
      sum += loss->value;
    }
  }
  return count ? sum / count : 0;
}
