//===- Walk.cpp - Layers and their inputs, in the order of a run ----------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Calibration/Walk.h"
#include "Moments.h"
#include "Plan.h"
#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "quench/Interpreter/Interpreter.h"
#include "quench/Quantization/Parallel.h"
#include "quench/Support/ModelFiles.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include <deque>
#include <mutex>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

LayerProblem::~LayerProblem() = default;

static std::string nameOfLayer(Operation *op) {
  if (auto named = op->getLoc()->findInstanceOf<NameLoc>())
    return named.getName().str();
  return "a layer without a name";
}

namespace {
/// Products run on one thread each while samples run at the same time.
struct OneThreadProducts {
  int before = setProductThreads(1);
  ~OneThreadProducts() { setProductThreads(before); }
};

/// Samples on their way, with one kind of weights.
struct Stream {
  const char *prefix = "";
  bool isFloat = false;
  llvm::DenseMap<Value, std::unique_ptr<SpillFile>> spilled;
  std::vector<Value> set; // weights in the interpreters now
  std::vector<std::unique_ptr<Interpreter>> interpreters, idle;
};

class Walker {
public:
  Walker(ModuleOp module, func::FuncOp main, ModelFiles &files,
         const CalibrationData &data, const WalkOptions &options,
         const LayerVisitor &visit)
      : module(module), symbols(module), main(main), files(files),
        evaluator(module, files), data(data), options(options), visit(visit),
        plan(main, [&](qn::LinearOp op) {
          return !options.layers || options.layers(op);
        }) {
    streams.emplace_back().isFloat = options.floatInputs;
    if (options.pairInputs && !options.floatInputs) {
      streams.emplace_back().isFloat = true;
      streams.back().prefix = "float-";
    }
  }

  Error run();

private:
  class Problem;

  Error prepareFolder();
  Error makeInterpreters(Stream &stream);
  Error resume(size_t &next);
  Error advance(Stream &stream, size_t index);
  Error runSample(Stream &stream, const PlannedCut &cut, int64_t sample);
  Error visitCut(size_t index);
  Error visitLayer(unsigned layer, unsigned site);
  Error visitPassed(size_t index);
  Error setWeights(Stream &stream, const PlannedCut &cut);
  void clearWeights(Stream &stream);
  Expected<HostTensor> numbersOf(Stream &stream, Value weight);
  std::string spillPath(const Stream &stream, Value value) const {
    return pathOf(stream.prefix + plan.nameOf(value) + ".spill");
  }
  Error checkpoint(size_t index);
  std::string pathOf(const llvm::Twine &name) const {
    return (llvm::Twine(folder) + "/" + name).str();
  }
  std::string checkpointPath() const { return pathOf("walk.json"); }

  void countWork();
  void progress(StringRef name, double more);

  ModuleOp module;
  SymbolTable symbols;
  func::FuncOp main;
  ModelFiles &files;
  WeightEvaluator evaluator;
  const CalibrationData &data;
  const WalkOptions &options;
  const LayerVisitor &visit;
  WalkPlan plan;

  std::string folder;
  std::deque<Stream> streams;                 // the first one is visited
  llvm::DenseMap<Value, HostTensor> replaced; // by visits
  std::mutex lock;

  double total = 0, done = 0;          // work
  std::string name;                    // of the layer that is worked on
  std::optional<InputMoments> moments; // of the site that is visited
  std::vector<double> products;        // the same
};

class Walker::Problem : public LayerProblem {
public:
  Problem(Walker &walker, unsigned layer, int site)
      : walker(walker), site(site) {
    const PlannedLayer &planned = walker.plan.layers[layer];
    op = planned.readers.front();
    weight = planned.weights.front();
    source = weight;
    if (auto quantize = weight.getDefiningOp<qn::QuantizeOp>())
      source = quantize.getInput();
    name = nameOfLayer(op);
    role = op.getRole().value_or("other").str();
    block = op.getBlock().value_or(-1);
    auto type = cast<ShapedType>(source.getType());
    rows = type.getDimSize(0);
    cols = type.getDimSize(1);
  }

  Expected<const float *> values() override {
    if (numbers.empty())
      if (Error error = walker.evaluator.rows(source, 0, rows, numbers))
        return std::move(error);
    return numbers.data();
  }

  Expected<const InputMoments *> inputs() override {
    if (site < 0)
      return createStringError("the samples have passed '" + name + "'");
    llvm::ArrayRef<float> weights;
    if (walker.options.rowWeights)
      weights = walker.options.rowWeights(op);
    std::optional<InputMoments> &moments =
        weights.empty() ? walker.moments : weighted;
    if (moments)
      return &*moments;
    Value input = walker.plan.sites[site].input;
    Expected<InputMoments> computed =
        computeMoments(*walker.streams[0].spilled[input], walker.data.size(),
                       walker.options.threads, weights);
    if (!computed)
      return createStringError("'" + name +
                               "': " + llvm::toString(computed.takeError()));
    moments = std::move(*computed);
    if (moments->cols != cols)
      return createStringError("'" + name + "': an input of " +
                               Twine(moments->cols) + " channels for " +
                               Twine(cols) + " columns");
    return &*moments;
  }

  Expected<llvm::ArrayRef<double>> pairedInputs() override {
    if (site < 0 || walker.streams.size() < 2)
      return createStringError("'" + name + "' has no inputs to compare");
    llvm::ArrayRef<float> weights;
    if (walker.options.rowWeights)
      weights = walker.options.rowWeights(op);
    std::vector<double> &sum = weights.empty() ? walker.products : products;
    if (sum.empty()) {
      Value input = walker.plan.sites[site].input;
      auto computed = computeProducts(
          *walker.streams[1].spilled[input], *walker.streams[0].spilled[input],
          walker.data.size(), walker.options.threads, weights);
      if (!computed)
        return createStringError("'" + name +
                                 "': " + llvm::toString(computed.takeError()));
      sum = std::move(*computed);
    }
    return llvm::ArrayRef<double>(sum);
  }

private:
  Walker &walker;
  int site;
  std::vector<double> products;
  std::optional<InputMoments> weighted; // of this layer only
  std::vector<float> numbers;
};
} // namespace

//===----------------------------------------------------------------------===//
// Work
//===----------------------------------------------------------------------===//

/// Multiplications of the layers among some ops for one row.
static double workOf(ArrayRef<Operation *> ops) {
  double work = 0;
  for (Operation *op : ops)
    if (auto linear = dyn_cast<qn::LinearOp>(op)) {
      Type type = linear.getWeight().getType();
      auto shape = isa<qn::QTensorType>(type)
                       ? cast<qn::QTensorType>(type).getShape()
                       : cast<ShapedType>(type).getShape();
      work += double(shape[0]) * shape[1];
    }
  return work;
}

static double visitWork(qn::LinearOp op) {
  Type type = op.getWeight().getType();
  auto shape = isa<qn::QTensorType>(type)
                   ? cast<qn::QTensorType>(type).getShape()
                   : cast<ShapedType>(type).getShape();
  // Per row and column: the columns behind it, and the search for its code.
  return double(shape[0]) * shape[1] * (shape[1] + 2000.0);
}

void Walker::countWork() {
  double rows = data.tokens();
  for (const PlannedCut &cut : plan.cuts)
    total += workOf(cut.ops) * rows * streams.size();
  for (const PlannedLayer &layer : plan.layers)
    total += visitWork(layer.readers.front());
}

void Walker::progress(StringRef name, double more) {
  done += more;
  // Millions, so that any model fits.
  if (options.progress)
    options.progress(name, static_cast<int64_t>(done / 1e6),
                     static_cast<int64_t>(total / 1e6) + 1);
}

//===----------------------------------------------------------------------===//
// Weights on the way
//===----------------------------------------------------------------------===//

Expected<HostTensor> Walker::numbersOf(Stream &stream, Value weight) {
  if (!stream.isFloat)
    if (auto found = replaced.find(weight); found != replaced.end())
      return found->second;
  if (stream.isFloat)
    if (auto quantize = weight.getDefiningOp<qn::QuantizeOp>())
      return stream.interpreters.front()->evaluateWeight(quantize.getInput());
  return stream.interpreters.front()->evaluateWeight(weight);
}

/// Evaluates the weights of the next ops once for all interpreters.
Error Walker::setWeights(Stream &stream, const PlannedCut &cut) {
  for (Operation *op : cut.ops)
    for (Value value : valuesReadBy(op)) {
      if (!WeightEvaluator::isWeight(value) ||
          llvm::is_contained(stream.set, value))
        continue;
      // Numbers that layers read where they lie.
      auto leaf = value.getDefiningOp<qn::WeightOp>();
      if (leaf && leaf.getType().getElementType().isF32() &&
          (!leaf.getTranspose() || isa<qn::LinearOp>(op)) &&
          (stream.isFloat || !replaced.contains(value)))
        if (auto initializer =
                symbols.lookup<qn::InitializerOp>(leaf.getInitializer());
            initializer && initializer.getTensorType().getElementType().isF32())
          continue;
      Expected<HostTensor> numbers = numbersOf(stream, value);
      if (!numbers)
        return numbers.takeError();
      for (auto &interpreter : stream.interpreters)
        interpreter->setWeight(value, *numbers);
      stream.set.push_back(value);
    }
  return Error::success();
}

void Walker::clearWeights(Stream &stream) {
  for (Value value : stream.set)
    for (auto &interpreter : stream.interpreters)
      interpreter->setWeight(value, {});
  stream.set.clear();
}

//===----------------------------------------------------------------------===//
// Samples
//===----------------------------------------------------------------------===//

Error Walker::makeInterpreters(Stream &stream) {
  InterpreterOptions settings;
  settings.files = &files;
  settings.weightCacheBytes = 0;
  settings.floatActivations = stream.isFloat;
  settings.quantized = options.quantized;
  int64_t count = std::clamp<int64_t>(options.threads, 1, data.size());
  for (int64_t i = 0; i < count; ++i) {
    Expected<Interpreter> made = Interpreter::create(module, settings);
    if (!made)
      return made.takeError();
    stream.interpreters.push_back(
        std::make_unique<Interpreter>(std::move(*made)));
  }
  return Error::success();
}

Error Walker::runSample(Stream &stream, const PlannedCut &cut, int64_t sample) {
  Expected<SmallVector<HostTensor>> inputs = data.inputs(main, sample);
  if (!inputs)
    return inputs.takeError();
  Interpreter *interpreter;
  {
    std::lock_guard<std::mutex> guard(lock);
    interpreter = stream.idle.back().release();
    stream.idle.pop_back();
  }
  auto work = [&]() -> Error {
    Interpreter::Values values;
    if (Error error = interpreter->begin(main.getName(), *inputs, values))
      return error;
    for (Value value : cut.read) {
      Expected<HostTensor> tensor =
          stream.spilled.find(value)->second->read(sample);
      if (!tensor)
        return tensor.takeError();
      values[value] = std::move(*tensor);
    }
    for (Operation *op : cut.ops) {
      // A rounding may be the last op that reads what a site needs.
      bool keep = llvm::any_of(valuesReadBy(op), [&](Value value) {
        return llvm::is_contained(cut.written, value);
      });
      if (Error error = interpreter->step(op, values, keep))
        return error;
    }
    for (Value value : cut.written) {
      Expected<HostTensor> tensor = interpreter->valueOf(value, values);
      if (!tensor)
        return tensor.takeError();
      if (Error error =
              stream.spilled.find(value)->second->write(sample, *tensor))
        return error;
    }
    return Error::success();
  };
  Error error = work();
  std::lock_guard<std::mutex> guard(lock);
  stream.idle.emplace_back(interpreter);
  return error;
}

/// Brings all samples to a cut.
Error Walker::advance(Stream &stream, size_t index) {
  const PlannedCut &cut = plan.cuts[index];
  for (Value value : cut.written) {
    auto file = SpillFile::create(spillPath(stream, value), data.size());
    if (!file)
      return file.takeError();
    stream.spilled[value] = std::move(*file);
  }
  if (Error error = setWeights(stream, cut))
    return error;
  stream.idle.swap(stream.interpreters);
  std::mutex errorLock;
  Error failure = Error::success();
  bool failed = false;
  int64_t firstFailed = 0;
  double rows = double(data.tokens()) / data.size();
  double each = workOf(cut.ops) * rows;
  forEachIndex(data.size(), options.threads, [&](int64_t sample) {
    {
      std::lock_guard<std::mutex> guard(errorLock);
      if (failed)
        return;
    }
    Error error = runSample(stream, cut, sample);
    std::lock_guard<std::mutex> guard(errorLock);
    progress(name, each);
    if (!error)
      return;
    // The message does not depend on which thread was first.
    if (!failed || sample < firstFailed) {
      llvm::consumeError(std::move(failure));
      failure = createStringError("sample " + Twine(sample) + ": " +
                                  llvm::toString(std::move(error)));
      firstFailed = sample;
      failed = true;
    } else {
      llvm::consumeError(std::move(error));
    }
  });
  stream.idle.swap(stream.interpreters);
  clearWeights(stream);
  return failure;
}

//===----------------------------------------------------------------------===//
// Visits
//===----------------------------------------------------------------------===//

Error Walker::visitLayer(unsigned layer, unsigned site) {
  Problem problem(*this, layer, site);
  name = problem.name;
  progress(name, 0);
  Expected<HostTensor> numbers = visit(problem);
  if (!numbers)
    return numbers.takeError();
  progress(name, visitWork(problem.op));
  if (*numbers)
    for (Value weight : plan.layers[layer].weights)
      replaced[weight] = *numbers;
  return Error::success();
}

Error Walker::visitCut(size_t index) {
  for (unsigned site : plan.cuts[index].sites) {
    moments.reset();
    products.clear();
    for (unsigned layer : plan.sites[site].layers)
      if (Error error = visitLayer(layer, site))
        return error;
  }
  moments.reset();
  products = {};
  // Weights that nothing reads any more leave memory.
  for (const PlannedLayer &layer : plan.layers)
    if (layer.lastRead < plan.cuts[index].position)
      for (Value weight : layer.weights)
        replaced.erase(weight);
  return Error::success();
}

/// Weights of cuts before `index` that are read behind it.
Error Walker::visitPassed(size_t index) {
  for (size_t before = 0; before < index; ++before)
    for (unsigned site : plan.cuts[before].sites)
      for (unsigned layer : plan.sites[site].layers)
        if (plan.layers[layer].lastRead >= plan.cuts[index].position)
          if (Error error = visitLayer(layer, -1))
            return error;
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Going on after a kill
//===----------------------------------------------------------------------===//

Error Walker::prepareFolder() {
  if (!options.folder.empty()) {
    folder = options.folder;
    if (std::error_code code = llvm::sys::fs::create_directories(folder))
      return llvm::createFileError(folder, code);
    return Error::success();
  }
  llvm::SmallString<128> made;
  if (std::error_code code =
          llvm::sys::fs::createUniqueDirectory("quench-calibration", made))
    return createStringError(code, "no temporary folder: " + code.message());
  folder = made.str().str();
  return Error::success();
}

/// Writes that all samples are at a cut; then what only led there may go.
Error Walker::checkpoint(size_t index) {
  const PlannedCut &cut = plan.cuts[index];
  if (!options.folder.empty()) {
    llvm::json::Array names;
    for (Value value : cut.live)
      names.push_back(plan.nameOf(value));
    llvm::json::Object object{{"cut", static_cast<int64_t>(index)},
                              {"values", std::move(names)}};
    Error error = llvm::writeToOutput(checkpointPath(), [&](raw_ostream &out) {
      out << llvm::json::Value(std::move(object)) << '\n';
      return Error::success();
    });
    if (error)
      return error;
  }
  for (Stream &stream : streams) {
    SmallVector<Value> dead;
    for (auto &[value, file] : stream.spilled)
      if (!llvm::is_contained(cut.live, value))
        dead.push_back(value);
    for (Value value : dead) {
      stream.spilled[value]->remove();
      stream.spilled.erase(value);
    }
  }
  return Error::success();
}

/// Opens the files of the last checkpoint; where they are not complete, the
/// walk begins anew.
Error Walker::resume(size_t &next) {
  next = 0;
  auto buffer = llvm::MemoryBuffer::getFile(checkpointPath());
  if (!buffer)
    return Error::success();
  Expected<llvm::json::Value> value = llvm::json::parse((*buffer)->getBuffer());
  if (!value) {
    llvm::consumeError(value.takeError());
    return Error::success();
  }
  const llvm::json::Object *object = value->getAsObject();
  std::optional<int64_t> index =
      object ? object->getInteger("cut") : std::nullopt;
  if (!index || *index < 0 || *index >= int64_t(plan.cuts.size()))
    return Error::success();
  for (Stream &stream : streams)
    for (Value live : plan.cuts[*index].live) {
      auto file = SpillFile::open(spillPath(stream, live), data.size());
      if (!file) {
        llvm::consumeError(file.takeError());
        for (Stream &any : streams)
          any.spilled.clear();
        return Error::success();
      }
      stream.spilled[live] = std::move(*file);
    }
  for (int64_t i = 0; i <= *index; ++i) {
    done += workOf(plan.cuts[i].ops) * data.tokens() * streams.size();
    for (unsigned site : plan.cuts[i].sites)
      for (unsigned layer : plan.sites[site].layers)
        done += i < *index ? visitWork(plan.layers[layer].readers.front()) : 0;
  }
  next = *index;
  if (Error error = visitPassed(next))
    return error;
  if (Error error = visitCut(next))
    return error;
  ++next;
  return Error::success();
}

Error Walker::run() {
  if (plan.cuts.empty())
    return Error::success();
  OneThreadProducts guard;
  if (Error error = prepareFolder())
    return error;
  countWork();
  auto steps = [&]() -> Error {
    for (Stream &stream : streams)
      if (Error error = makeInterpreters(stream))
        return error;
    size_t next = 0;
    if (options.resume)
      if (Error error = resume(next))
        return error;
    for (; next < plan.cuts.size(); ++next) {
      name = nameOfLayer(
          plan.layers[plan.sites[plan.cuts[next].sites.front()].layers.front()]
              .readers.front());
      for (Stream &stream : streams)
        if (Error error = advance(stream, next))
          return error;
      if (Error error = checkpoint(next))
        return error;
      if (Error error = visitCut(next))
        return error;
    }
    return Error::success();
  };
  Error error = steps();
  // An error leaves what a later run may go on with.
  if (!error || options.folder.empty()) {
    for (Stream &stream : streams)
      for (auto &[value, file] : stream.spilled)
        file->remove();
    llvm::sys::fs::remove(checkpointPath());
    if (options.folder.empty())
      llvm::sys::fs::remove(folder);
  }
  return error;
}

Error quench::walkLayers(ModuleOp module, ModelFiles &files,
                         const CalibrationData &data,
                         const WalkOptions &options,
                         const LayerVisitor &visit) {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main || main.isExternal() || !main.getBody().hasOneBlock())
    return createStringError(
        "calibration needs a function 'main' of one block");
  if (data.size() == 0)
    return createStringError("calibration needs a sample");
  return Walker(module, main, files, data, options, visit).run();
}
