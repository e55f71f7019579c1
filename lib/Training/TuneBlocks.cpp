//===- TuneBlocks.cpp - Tuning block by block -------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TuneBlocks.h"
#include "quench/Training/Loss.h"
#include <cmath>

using namespace mlir;
using namespace quench;
using llvm::Error;
using llvm::Expected;

namespace {
/// The samples' values before the next block, of one of the two models.
class Stream {
public:
  Stream(Interpreter &interpreter, ArrayRef<Sample> samples)
      : values(samples.size()), interpreter(interpreter), samples(samples) {}
  Error begin() {
    for (auto [sample, at] : llvm::zip(samples, values))
      QUENCH_CHECK(interpreter.begin("main", sample, at));
    return Error::success();
  }
  /// Binds the dimensions of a sample: those of another may differ.
  Error bind(size_t sample) {
    Interpreter::Values inputs;
    return interpreter.begin("main", samples[sample], inputs);
  }
  Error run(OpRun block) {
    for (auto [sample, at] : llvm::enumerate(values)) {
      QUENCH_CHECK(bind(sample));
      for (Operation *op : block)
        QUENCH_CHECK(interpreter.step(op, at, /*keep=*/false));
    }
    return Error::success();
  }

  std::vector<Interpreter::Values> values;

private:
  Interpreter &interpreter;
  ArrayRef<Sample> samples;
};

class BlockTuner {
public:
  explicit BlockTuner(const BlockTuning &task)
      : task(task), student(task.student, task.samples),
        teacher(task.teacher, task.samples) {}

  Error run() {
    QUENCH_CHECK(student.begin());
    QUENCH_CHECK(teacher.begin());
    SmallVector<size_t> ends(task.cuts);
    ends.push_back(task.ops.size());
    size_t begin = 0;
    for (auto [number, end] : llvm::enumerate(ends)) {
      tell(number, ends.size());
      OpRun block = task.ops.slice(begin, end - begin);
      QUENCH_CHECK(teacher.run(block));
      QUENCH_CHECK(tune(block));
      QUENCH_CHECK(student.run(block));
      begin = end;
    }
    tell(ends.size(), ends.size());
    return Error::success();
  }

private:
  void tell(int64_t done, int64_t total) const {
    if (task.options.progress)
      task.options.progress("blocks", done, total);
  }

  /// The tensors that a block gives to later ops and that depend on `wanted`.
  static SmallVector<Value> outputsOf(OpRun block, ArrayRef<Value> wanted) {
    llvm::DenseSet<Operation *> inside(block.begin(), block.end());
    llvm::DenseSet<Value> depending(wanted.begin(), wanted.end());
    auto leaves = [&](Operation *user) {
      Operation *top = block[0]->getBlock()->findAncestorOpInBlock(*user);
      return !inside.contains(top) && !top->hasTrait<OpTrait::IsTerminator>();
    };
    SmallVector<Value> outputs;
    for (Operation *op : block) {
      bool depends = false;
      op->walk([&](Operation *inner) {
        depends |= llvm::any_of(inner->getOperands(), [&](Value operand) {
          return depending.contains(operand);
        });
      });
      for (Value result : op->getResults())
        if (depends || depending.contains(result)) {
          depending.insert(result);
          if (isa<RankedTensorType>(result.getType()) &&
              llvm::any_of(result.getUsers(), leaves))
            outputs.push_back(result);
        }
    }
    return outputs;
  }

  /// The numbers that only this block depends on.
  SmallVector<Parameters *> parametersOf(OpRun block) const {
    llvm::DenseSet<Operation *> inside(block.begin(), block.end());
    auto isInside = [&](Value value) {
      if (Operation *made = value.getDefiningOp();
          made && inside.contains(made) && !task.student.isWeight(value))
        return true;
      return llvm::all_of(value.getUsers(), [&](Operation *user) {
        return inside.contains(
            value.getParentBlock()->findAncestorOpInBlock(*user));
      });
    };
    SmallVector<Parameters *> found;
    for (const auto &some : task.parameters)
      if (llvm::all_of(some->wanted(), isInside))
        found.push_back(some.get());
    return found;
  }

  Error tune(OpRun block) {
    SmallVector<Parameters *> parameters = parametersOf(block);
    SmallVector<Value> wanted;
    llvm::DenseMap<Value, Parameters *> ownerOf;
    for (Parameters *some : parameters)
      for (Value value : some->wanted()) {
        ownerOf[value] = some;
        wanted.push_back(value);
      }
    SmallVector<Value> outputs = outputsOf(block, wanted);
    if (outputs.empty())
      return Error::success();
    GradientTape tape(task.student, block, {}, wanted, task.options.keptBytes);
    double greatest = 0;
    for (int64_t step = 0; step < task.options.blockSteps; ++step) {
      size_t sample = step % task.samples.size();
      QUENCH_CHECK(student.bind(sample));
      QUENCH_CHECK(tape.forward(student.values[sample]));
      SmallVector<std::pair<Value, HostTensor>> seeds;
      double sum = 0;
      for (Value output : outputs) {
        QUENCH_TRY(reference,
                   floatsOf(task.teacher, output, teacher.values[sample]));
        QUENCH_TRY(raw, tape.output(output));
        QUENCH_TRY(found, raw.convertTo(ElementKind::F32));
        QUENCH_TRY(loss, rowErrors(reference, found));
        sum += loss.value;
        seeds.push_back({output, std::move(loss.gradient)});
      }
      QUENCH_CHECK(tape.backward(seeds, [&](Value value, HostTensor gradient) {
        return ownerOf[value]->add(tape, value, gradient);
      }));
      if (step == 0)
        greatest = task.options.rate * std::min(2.0, std::sqrt(sum));
      double rate = rateAt(greatest, step, task.options.blockSteps);
      for (Parameters *some : parameters) {
        some->step(rate);
        QUENCH_CHECK(some->set(task.student));
      }
    }
    return Error::success();
  }

  static Expected<HostTensor> floatsOf(Interpreter &interpreter, Value value,
                                       Interpreter::Values &values) {
    QUENCH_TRY(raw, interpreter.valueOf(value, values));
    return raw.convertTo(ElementKind::F32);
  }

  const BlockTuning &task;
  Stream student, teacher;
};
} // namespace

Error quench::tuneBlocks(const BlockTuning &task) {
  return BlockTuner(task).run();
}
