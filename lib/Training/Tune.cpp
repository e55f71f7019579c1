//===- Tune.cpp - Tuning what stays continuous ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Training/Tune.h"
#include "Parameters.h"
#include "TuneBlocks.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "quench/Training/Loss.h"
#include "llvm/ADT/MapVector.h"
#include <cmath>
#ifdef __GLIBC__
#include <malloc.h>
#endif

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
/// Freed tensors stay with the process meanwhile: each step allocates the same
/// sizes again, and new pages cost a tenth of the time.
struct KeepFreedMemory {
#ifdef __GLIBC__
  KeepFreedMemory() {
    mallopt(M_MMAP_THRESHOLD, 32 << 20); // the most that is accepted
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
  }
  ~KeepFreedMemory() {
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 128 << 10);
    malloc_trim(0);
  }
#endif
};

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
  Error addMissing();
  void removeAdded();
  Expected<SmallVector<HostTensor>> truth(size_t sample);
  Expected<SmallVector<HostTensor>> outputs(const Sample &sample);
  Expected<double> evaluate();
  Error trainBlocks();
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
  std::vector<Operation *> ops;
  size_t tail = 0; // see tailBegin
  Objective objective;
  std::optional<Interpreter> plain, teacher, student;
  /// What the float model's last ops read, by sample.
  std::vector<Interpreter::Values> beforeTail;
  int64_t tailBytes = 0;
  /// Layers, norms and maps that got a new vector, with its leaf.
  SmallVector<std::pair<Operation *, qn::WeightOp>> added;
  std::vector<std::unique_ptr<Parameters>> parameters;
  llvm::MapVector<Operation *, WeightParameters *> scales;
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
  QUENCH_TRY(made, WeightParameters::create(value, packed, options.threads));
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

//===----------------------------------------------------------------------===//
// Vectors that were not there
//===----------------------------------------------------------------------===//

/// A product with the vector, for each vector along the last axis.
static Value scaled(OpBuilder &builder, Location loc, Value input,
                    Value vector) {
  auto type = cast<RankedTensorType>(input.getType());
  unsigned rank = type.getRank();
  AffineMap all = builder.getMultiDimIdentityMap(rank);
  AffineMap last = AffineMap::get(rank, 0, builder.getAffineDimExpr(rank - 1));
  Value init = tensor::EmptyOp::create(
      builder, loc, tensor::getMixedSizes(builder, loc, input),
      type.getElementType());
  SmallVector<utils::IteratorType> loops(rank, utils::IteratorType::parallel);
  return linalg::GenericOp::create(
             builder, loc, init.getType(), ValueRange{input, vector}, init,
             ArrayRef<AffineMap>{all, last, all}, loops,
             [](OpBuilder &b, Location loc, ValueRange args) {
               Value product = arith::MulFOp::create(b, loc, args[0], args[1]);
               linalg::YieldOp::create(b, loc, product);
             })
      .getResult(0);
}

/// A map on line of f32 that nothing but quantized layers read.
static bool turnsQuantized(qn::MapOp map) {
  auto type = cast<RankedTensorType>(map.getInput().getType());
  return type.getElementType().isF32() &&
         static_cast<int64_t>(map.getAxis()) == type.getRank() - 1 &&
         !map->use_empty() &&
         llvm::all_of(map->getUsers(), [](Operation *user) {
           auto linear = dyn_cast<qn::LinearOp>(user);
           return linear && linear.getWeight().getDefiningOp<qn::QuantizeOp>();
         });
}

Error Tuner::addMissing() {
  auto make = [&](Operation *op, int64_t size, float number, StringRef name) {
    OpBuilder builder(op);
    auto type = RankedTensorType::get({size}, builder.getF32Type());
    OpBuilder outside(main);
    auto initializer = qn::InitializerOp::create(
        outside, op->getLoc(), name, type, DenseElementsAttr::get(type, number),
        StringAttr());
    StringAttr symbol = symbols.insert(initializer);
    auto leaf = qn::WeightOp::create(builder, op->getLoc(), type,
                                     symbol.getValue(), false);
    added.push_back({op, leaf});
    return leaf.getResult();
  };
  for (Operation *op : opsOf(main)) {
    if (auto norm = dyn_cast<qn::NormOp>(op);
        norm && options.gains && options.newGains && !norm.getGain()) {
      auto type = cast<RankedTensorType>(norm.getInput().getType());
      int64_t width = type.getDimSize(type.getRank() - 1);
      if (!ShapedType::isDynamic(width))
        norm.getGainMutable().assign(make(op, width, 1, "tuned.gain"));
    }
    if (auto linear = dyn_cast<qn::LinearOp>(op);
        linear && options.biases && options.newBiases && !linear.getBias() &&
        linear.getWeight().getDefiningOp<qn::QuantizeOp>()) {
      auto type = cast<RankedTensorType>(linear.getType());
      linear.getBiasMutable().assign(
          make(op, type.getDimSize(type.getRank() - 1), 0, "tuned.bias"));
    }
    if (auto map = dyn_cast<qn::MapOp>(op);
        map && options.newSigns && turnsQuantized(map)) {
      auto type = cast<RankedTensorType>(map.getInput().getType());
      Value vector =
          make(op, type.getDimSize(type.getRank() - 1), 1, "tuned.signs");
      OpBuilder builder(op);
      map.getInputMutable().assign(
          scaled(builder, op->getLoc(), map.getInput(), vector));
    }
  }
  return Error::success();
}

/// Undoes what scaled() made in front of the map.
static void removeScaled(qn::MapOp map) {
  auto product = map.getInput().getDefiningOp<linalg::GenericOp>();
  map.getInputMutable().assign(product.getInputs()[0]);
  Operation *init = product.getOutputs()[0].getDefiningOp();
  product.erase();
  init->erase(); // sizes that nobody reads any more are folded away later
}

void Tuner::removeAdded() {
  for (auto [op, leaf] : added) {
    if (auto norm = dyn_cast<qn::NormOp>(op))
      norm.getGainMutable().clear();
    else if (auto linear = dyn_cast<qn::LinearOp>(op))
      linear.getBiasMutable().clear();
    else
      removeScaled(cast<qn::MapOp>(op));
    symbols.erase(symbols.lookup(leaf.getInitializer()));
    leaf.erase();
  }
  added.clear();
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

Error Tuner::prepare() {
  main = module.lookupSymbol<func::FuncOp>("main");
  if (!main || samples.empty())
    return createStringError("tuning needs a function 'main' and samples");
  QUENCH_TRY(found, Objective::of(main));
  objective = found;
  QUENCH_CHECK(addMissing());
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

  ops = opsOf(main);
  tail = tailBegin(ops);
  beforeTail.resize(samples.size());
  llvm::SetVector<Operation *> weights;
  for (Operation *op : ops) {
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
  for (auto [op, leaf] : added)
    if (isa<qn::MapOp>(op))
      QUENCH_CHECK(addVector(leaf));
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

/// The results that count, of values after a run.
static Expected<SmallVector<HostTensor>>
chosenResults(Interpreter &interpreter, const Objective &objective,
              func::FuncOp main, Interpreter::Values &values) {
  SmallVector<HostTensor> chosen;
  for (unsigned i : objective.results) {
    QUENCH_TRY(raw, interpreter.valueOf(
                        main.front().getTerminator()->getOperand(i), values));
    QUENCH_TRY(floats, raw.convertTo(ElementKind::F32));
    chosen.push_back(std::move(floats));
  }
  return chosen;
}

Expected<SmallVector<HostTensor>> Tuner::outputs(const Sample &sample) {
  Interpreter::Values values;
  QUENCH_CHECK(student->begin("main", sample, values));
  for (Operation *op : ops)
    QUENCH_CHECK(student->step(op, values, /*keep=*/false));
  return chosenResults(*student, objective, main, values);
}

/// The float model's results. What its last ops read is kept (of a language
/// model the last hidden state), so that only these run for later steps.
Expected<SmallVector<HostTensor>> Tuner::truth(size_t sample) {
  Interpreter::Values values, &kept = beforeTail[sample];
  QUENCH_CHECK(teacher->begin("main", samples[sample], values));
  if (kept.empty()) {
    for (Operation *op : OpRun(ops).take_front(tail))
      QUENCH_CHECK(teacher->step(op, values, /*keep=*/false));
    int64_t bytes = 0;
    for (const auto &[value, tensor] : values)
      bytes += tensor.getNumBytes();
    if (tailBytes + bytes <= options.keptBytes) {
      tailBytes += bytes;
      kept = values;
    }
  } else {
    values = kept;
  }
  for (Operation *op : OpRun(ops).drop_front(tail))
    QUENCH_CHECK(teacher->step(op, values, /*keep=*/false));
  return chosenResults(*teacher, objective, main, values);
}

/// The first samples are kept apart: an eighth of them.
static size_t apart(size_t samples) {
  return samples < 2 ? 0 : std::max<size_t>(1, samples / 8);
}

Expected<double> Tuner::evaluate() {
  size_t count = std::max<size_t>(1, apart(samples.size()));
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    QUENCH_TRY(wanted, truth(i));
    QUENCH_TRY(found, outputs(samples[i]));
    for (auto [a, b] : llvm::zip(wanted, found)) {
      QUENCH_TRY(loss, objective.compare(a, b));
      sum += loss.value;
    }
  }
  return sum / count;
}

Error Tuner::trainBlocks() {
  size_t count = std::min<size_t>(samples.size() - apart(samples.size()),
                                  std::max<int64_t>(1, options.blockSamples));
  return tuneBlocks(
      {*student, *teacher, OpRun(ops).take_front(tail), blockCuts(ops),
       samples.slice(apart(samples.size()), count), parameters, options});
}

Error Tuner::train() {
  std::vector<size_t> cuts = blockCuts(ops);
  SmallVector<Value> wanted;
  for (const auto &some : parameters)
    llvm::append_range(wanted, some->wanted());
  GradientTape tape(*student, ops, cuts, wanted, options.keptBytes);
  ValueRange results = main.getBody().front().getTerminator()->getOperands();
  size_t first = apart(samples.size()), count = samples.size() - first;
  double greatest =
      options.rate *
      std::min(2.0, std::sqrt(report.afterBlocks.value_or(report.before)));
  int64_t next = 0, batch = std::max<int64_t>(1, options.batch);
  for (int64_t step = 0; step < options.steps; ++step) {
    tell("steps", step);
    double sum = 0;
    for (int64_t i = 0; i < batch; ++i, ++next) {
      size_t sample = first + next % count;
      QUENCH_TRY(references, truth(sample));
      Interpreter::Values values;
      QUENCH_CHECK(student->begin("main", samples[sample], values));
      QUENCH_CHECK(tape.forward(std::move(values)));
      SmallVector<std::pair<Value, HostTensor>> seeds;
      for (auto [i, reference] : llvm::zip(objective.results, references)) {
        QUENCH_TRY(raw, tape.output(results[i]));
        QUENCH_TRY(floats, raw.convertTo(ElementKind::F32));
        QUENCH_TRY(loss, objective.compare(reference, floats));
        sum += loss.value / batch;
        seeds.push_back({results[i], std::move(loss.gradient)});
      }
      references.clear();
      QUENCH_CHECK(tape.backward(seeds, [&](Value value, HostTensor gradient) {
        return ownerOf[value]->add(tape, value, gradient);
      }));
    }
    report.losses.push_back(sum);
    double rate = rateAt(greatest, step, options.steps);
    for (const auto &some : parameters) {
      some->step(rate);
      QUENCH_CHECK(some->set(*student));
    }
  }
  return Error::success();
}

Expected<std::unique_ptr<WeightSource>> Tuner::run() {
  if (!options.any())
    return std::move(source);
  KeepFreedMemory keep;
  (void)keep;
  QUENCH_CHECK(prepare());
  QUENCH_CHECK(setAll());
  tell("float model", 0);
  QUENCH_TRY(before, evaluate());
  report.before = report.after = before;
  if (parameters.empty())
    return std::move(source);
  if (options.blockSteps > 0) {
    QUENCH_CHECK(trainBlocks());
    QUENCH_TRY(blocks, evaluate());
    report.afterBlocks = blocks;
  }
  if (options.steps > 0)
    QUENCH_CHECK(train());
  for (const auto &some : parameters)
    QUENCH_CHECK(some->round());
  QUENCH_CHECK(setAll());
  QUENCH_TRY(after, evaluate());
  report.after = after;
  if (after > before) {
    report.undone = true;
    removeAdded();
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
