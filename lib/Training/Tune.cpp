//===- Tune.cpp - Tuning what stays continuous ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Training/Tune.h"
#include "Parameters.h"
#include "quench/Training/Loss.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
/// The tuned weights, then those of another source.
class TunedWeights : public WeightSource {
public:
  explicit TunedWeights(std::unique_ptr<WeightSource> rest)
      : rest(std::move(rest)) {}
  Expected<std::shared_ptr<const PackedWeight>> find(StringRef key) override {
    auto found = tuned.find(key);
    if (found != tuned.end())
      return found->second;
    return rest->find(key);
  }
  llvm::StringMap<std::shared_ptr<const PackedWeight>> tuned;

private:
  std::unique_ptr<WeightSource> rest;
};

class Tuner {
public:
  Tuner(ModuleOp module, ModelFiles &files, ArrayRef<Sample> samples,
        std::unique_ptr<WeightSource> source, const TuneOptions &options,
        TuneReport &report)
      : module(module), symbols(module), files(files), samples(samples),
        source(std::make_unique<TunedWeights>(std::move(source))),
        options(options), report(report), evaluator(module, files) {}

  Expected<std::unique_ptr<WeightSource>> run();

private:
  Error prepare();
  Error addScales(qn::QuantizeOp op);
  Error addVector(Value value);
  Error setAll();
  Expected<SmallVector<HostTensor>> outputs(Interpreter &interpreter,
                                            const Sample &sample);
  Expected<double> evaluate();
  Error train();
  void tell(StringRef what, int64_t done) const {
    if (options.progress)
      options.progress(what, done, options.steps);
  }

  ModuleOp module;
  SymbolTable symbols;
  ModelFiles &files;
  ArrayRef<Sample> samples;
  std::unique_ptr<TunedWeights> source;
  const TuneOptions &options;
  TuneReport &report;
  WeightEvaluator evaluator;
  func::FuncOp main;
  Objective objective;
  std::optional<Interpreter> plain, teacher, student;
  std::vector<std::unique_ptr<Parameters>> parameters;
  llvm::MapVector<Operation *, ScaleParameters *> scales;
  llvm::MapVector<StringRef, VectorParameters *> vectors; // by initializer
  llvm::DenseMap<Value, Parameters *> ownerOf;
};
} // namespace

Error Tuner::addScales(qn::QuantizeOp op) {
  Value value = op.getResult();
  QUENCH_TRY(packed, source->find(WeightEvaluator::key(value)));
  if (!packed) {
    QUENCH_TRY(quantizer, getQuantizer(op.getQuantizer()));
    WeightRows read(evaluator, op.getInput());
    QuantizeProblem problem;
    problem.format = &op.getType().getFormat().getFormat();
    problem.rows = read.rows();
    problem.cols = read.cols();
    problem.threads = options.threads;
    QUENCH_TRY(made, quantizeWeight(*quantizer, problem, read));
    packed = std::make_shared<PackedWeight>(std::move(made));
  }
  QUENCH_TRY(made, ScaleParameters::create(value, packed, options.threads));
  if (!made)
    return Error::success();
  scales[op] = made.get();
  parameters.push_back(std::move(made));
  return Error::success();
}

/// A gain or bias that is one stored vector of floats.
Error Tuner::addVector(Value value) {
  auto leaf = value ? value.getDefiningOp<qn::WeightOp>() : qn::WeightOp();
  if (!leaf || leaf.getTranspose() || leaf.getType().getRank() != 1)
    return Error::success();
  VectorParameters *&entry = vectors[leaf.getInitializer()];
  if (entry) {
    if (!llvm::is_contained(entry->wanted(), value))
      entry->addUse(value);
    return Error::success();
  }
  auto initializer = symbols.lookup<qn::InitializerOp>(leaf.getInitializer());
  QUENCH_TRY(raw, student->evaluateWeight(value));
  QUENCH_TRY(numbers, raw.convertTo(ElementKind::F32));
  auto made =
      std::make_unique<VectorParameters>(leaf, initializer, std::move(numbers));
  entry = made.get();
  parameters.push_back(std::move(made));
  return Error::success();
}

Error Tuner::prepare() {
  main = module.lookupSymbol<func::FuncOp>("main");
  if (!main || samples.empty())
    return createStringError("tuning needs a function 'main' and samples");
  QUENCH_TRY(found, Objective::of(main));
  objective = found;
  InterpreterOptions running;
  running.files = &files;
  QUENCH_TRY(base, Interpreter::create(module, running));
  plain.emplace(std::move(base));
  QUENCH_TRY(quantized, Interpreter::create(module, running));
  student.emplace(std::move(quantized));
  running.floatActivations = true;
  running.quantized = [this](Value value) {
    return plain->evaluateWeight(
        value.getDefiningOp<qn::QuantizeOp>().getInput());
  };
  QUENCH_TRY(real, Interpreter::create(module, running));
  teacher.emplace(std::move(real));

  llvm::SetVector<Operation *> weights;
  for (Operation *op : opsOf(main)) {
    if (auto linear = dyn_cast<qn::LinearOp>(op)) {
      if (auto quantize = linear.getWeight().getDefiningOp<qn::QuantizeOp>();
          quantize && student->isWeight(quantize.getResult()))
        weights.insert(quantize);
      if (options.biases)
        QUENCH_CHECK(addVector(linear.getBias()));
    }
    if (auto norm = dyn_cast<qn::NormOp>(op)) {
      if (options.gains)
        QUENCH_CHECK(addVector(norm.getGain()));
      if (options.biases)
        QUENCH_CHECK(addVector(norm.getBias()));
    }
  }
  for (Operation *op : weights)
    if (options.scales)
      QUENCH_CHECK(addScales(cast<qn::QuantizeOp>(op)));
  for (const auto &some : parameters) {
    report.numbers += some->size();
    for (Value value : some->wanted())
      ownerOf[value] = some.get();
  }
  return Error::success();
}

Error Tuner::setAll() {
  for (const auto &some : parameters)
    QUENCH_CHECK(some->set(*student));
  return Error::success();
}

Expected<SmallVector<HostTensor>> Tuner::outputs(Interpreter &interpreter,
                                                 const Sample &sample) {
  QUENCH_TRY(all, interpreter.run("main", sample));
  SmallVector<HostTensor> chosen;
  for (unsigned i : objective.results) {
    QUENCH_TRY(floats, all[i].convertTo(ElementKind::F32));
    chosen.push_back(std::move(floats));
  }
  return chosen;
}

/// The first samples are kept apart: an eighth of them.
static size_t apart(size_t samples) {
  return samples < 2 ? 0 : std::max<size_t>(1, samples / 8);
}

Expected<double> Tuner::evaluate() {
  size_t count = std::max<size_t>(1, apart(samples.size()));
  double sum = 0;
  for (const Sample &sample : samples.take_front(count)) {
    QUENCH_TRY(truth, outputs(*teacher, sample));
    QUENCH_TRY(found, outputs(*student, sample));
    for (auto [a, b] : llvm::zip(truth, found)) {
      QUENCH_TRY(loss, objective.compare(a, b));
      sum += loss.value;
    }
  }
  return sum / count;
}

Error Tuner::train() {
  std::vector<Operation *> ops = opsOf(main);
  std::vector<size_t> cuts = blockCuts(ops);
  SmallVector<Value> wanted;
  for (const auto &some : parameters)
    llvm::append_range(wanted, some->wanted());
  GradientTape tape(*student, ops, cuts, wanted, options.keptBytes);
  ValueRange results = main.getBody().front().getTerminator()->getOperands();
  size_t first = apart(samples.size()), count = samples.size() - first;
  for (int64_t step = 0; step < options.steps; ++step) {
    tell("steps", step);
    const Sample &sample = samples[first + step % count];
    QUENCH_TRY(truth, outputs(*teacher, sample));
    Interpreter::Values values;
    QUENCH_CHECK(student->begin("main", sample, values));
    QUENCH_CHECK(tape.forward(std::move(values)));
    SmallVector<std::pair<Value, HostTensor>> seeds;
    double sum = 0;
    for (auto [i, reference] : llvm::zip(objective.results, truth)) {
      QUENCH_TRY(raw, tape.output(results[i]));
      QUENCH_TRY(floats, raw.convertTo(ElementKind::F32));
      QUENCH_TRY(loss, objective.compare(reference, floats));
      sum += loss.value;
      seeds.push_back({results[i], std::move(loss.gradient)});
    }
    report.losses.push_back(sum);
    truth.clear();
    QUENCH_CHECK(tape.backward(seeds, [&](Value value, HostTensor gradient) {
      return ownerOf[value]->add(tape, value, gradient);
    }));
    double rate = rateAt(options.rate, step, options.steps);
    for (const auto &some : parameters) {
      some->step(rate);
      QUENCH_CHECK(some->set(*student));
    }
  }
  return Error::success();
}

Expected<std::unique_ptr<WeightSource>> Tuner::run() {
  if (options.steps <= 0)
    return std::move(source);
  QUENCH_CHECK(prepare());
  QUENCH_CHECK(setAll());
  tell("float model", 0);
  QUENCH_TRY(before, evaluate());
  report.before = report.after = before;
  if (parameters.empty())
    return std::move(source);
  QUENCH_CHECK(train());
  for (const auto &some : parameters)
    QUENCH_CHECK(some->round());
  QUENCH_CHECK(setAll());
  QUENCH_TRY(after, evaluate());
  report.after = after;
  if (after > before) {
    report.undone = true;
    return std::move(source);
  }
  for (auto [op, some] : scales)
    source->tuned[WeightEvaluator::key(op->getResult(0))] = some->result();
  for (auto [name, some] : vectors)
    if (some)
      QUENCH_CHECK(some->write());
  return std::move(source);
}

Expected<std::unique_ptr<WeightSource>>
quench::tuneModel(ModuleOp module, ModelFiles &files, ArrayRef<Sample> samples,
                  std::unique_ptr<WeightSource> source,
                  const TuneOptions &options, TuneReport &report) {
  return Tuner(module, files, samples, std::move(source), options, report)
      .run();
}
