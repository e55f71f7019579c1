//===- Calibration.cpp - Quantizing a model with second moments -----------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Calibration/Calibration.h"
#include "OutputMoments.h"
#include "Store.h"
#include "Targets.h"
#include "quench/Calibration/Cache.h"
#include "quench/Calibration/Walk.h"
#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "quench/Runtime/Hash.h"
#include "quench/Support/ModelFiles.h"
#include "quench/Support/Try.h"
#include "quench/Training/Sensitivity.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include <dlfcn.h>
#include <set>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
/// Has nothing: the source of a module without calibration.
class NoWeights : public WeightSource {
public:
  Expected<std::shared_ptr<const PackedWeight>> find(StringRef) override {
    return std::shared_ptr<const PackedWeight>();
  }
};

/// A weight of @main with a format.
struct Target {
  qn::QuantizeOp op;
  const Quantizer *quantizer;
};

class ModelQuantizer {
public:
  ModelQuantizer(ModuleOp module, ModelFiles &files,
                 const CalibrationOptions &options)
      : module(module), files(files), options(options),
        evaluator(module, files) {}

  Expected<CalibratedWeights> run();

private:
  Error findTargets();
  Error needsData() const;
  Expected<std::string> runFolder(const CalibrationData &data);
  Expected<std::string> gradientPath(const CalibrationData &data,
                                     StringRef what, StringRef ending);
  Expected<bool> isComplete();
  Expected<std::vector<Sample>> samplesOf(const CalibrationData &data);
  Error tune(const CalibrationData &data, CalibratedWeights &result);
  Error findGradients(const CalibrationData &data);
  bool loadRowWeights(StringRef path);
  Error keepRowWeights(StringRef path, std::vector<LayerSensitivity> layers);
  Error walk(const CalibrationData &data, CalibratedWeights &result);
  Expected<HostTensor> quantize(LayerProblem &problem);
  Expected<HostTensor> plain(Value value);

  ModuleOp module;
  ModelFiles &files;
  const CalibrationOptions &options;
  WeightEvaluator evaluator;
  std::vector<Target> targets;
  llvm::DenseMap<Operation *, const Quantizer *> quantizers;
  std::unique_ptr<QuantizedStore> store;
  llvm::DenseMap<Operation *, std::vector<float>> rowWeights;
  std::optional<OutputMoments> outputMoments;
  std::set<std::string> notes;
};
} // namespace

Error ModelQuantizer::findTargets() {
  Error failure = Error::success();
  module.walk([&](qn::QuantizeOp op) {
    if (failure || !WeightEvaluator::isWeight(op.getResult()))
      return;
    Expected<const Quantizer *> quantizer = getQuantizer(op.getQuantizer());
    if (!quantizer) {
      failure = quantizer.takeError();
      return;
    }
    quantizers[op] = *quantizer;
    if ((*quantizer)->usesHessian())
      targets.push_back({op, *quantizer});
  });
  return failure;
}

Error ModelQuantizer::needsData() const {
  if (targets.empty())
    return Error::success();
  return createStringError(
      "quantizer '" + targets.front().quantizer->spec() + "' of " +
      Twine(targets.size()) +
      " weights needs calibration data: give --calib FILE, a text like those "
      "the model is for (with a tokenizer.json beside the model or "
      "--tokenizer) or token ids [samples, tokens] as .npy");
}

/// Gradients depend on the maps of a recipe, not on its formats.
Expected<std::string> ModelQuantizer::gradientPath(const CalibrationData &data,
                                                   StringRef what,
                                                   StringRef ending) {
  std::string text = data.fingerprint() + what.str();
  module.walk([&](qn::LinearOp op) {
    Value weight = op.getWeight();
    if (auto quantize = weight.getDefiningOp<qn::QuantizeOp>())
      weight = quantize.getInput();
    text += WeightEvaluator::key(weight) + "\n";
  });
  return cachePath(module, files, options.cache, text, ending);
}

Expected<std::string> ModelQuantizer::runFolder(const CalibrationData &data) {
  std::string text = data.fingerprint() +
                     (options.floatInputs ? " float " : " quantized ") +
                     (options.floatTargets ? "targets " : "") +
                     (options.gradientWeights ? "gradients " : "");
  {
    llvm::raw_string_ostream os(text);
    module.print(os, OpPrintingFlags().enableDebugInfo(false));
  }
  return cachePath(module, files, options.cache, text);
}

/// Whether all weights that need second moments are there.
Expected<bool> ModelQuantizer::isComplete() {
  if (!store->isFinished())
    return false;
  for (Target &target : targets) {
    auto found = store->find(WeightEvaluator::key(target.op.getResult()));
    if (!found)
      return found.takeError();
    if (!*found)
      return false;
  }
  return true;
}

/// A weight that has no second moments.
Expected<HostTensor> ModelQuantizer::plain(Value value) {
  auto op = value.getDefiningOp<qn::QuantizeOp>();
  std::string key = WeightEvaluator::key(value);
  auto found = store->find(key);
  if (!found)
    return found.takeError();
  WeightRows read(evaluator, op.getInput());
  QuantizeProblem problem;
  problem.format = &op.getType().getFormat().getFormat();
  problem.rows = read.rows();
  problem.cols = read.cols();
  problem.threads = options.threads;
  Expected<HostTensor> numbers =
      HostTensor::allocate(ElementKind::F32, {problem.rows, problem.cols});
  if (!numbers)
    return numbers;
  if (*found) {
    decodeWeight(**found, numbers->mutableData<float>(), options.threads);
    return numbers;
  }
  Expected<PackedWeight> packed = quantizeWeight(*quantizers[op], problem, read,
                                                 numbers->mutableData<float>());
  if (!packed)
    return packed.takeError();
  if (Error error = store->put(key, *packed))
    return std::move(error);
  return numbers;
}

Expected<HostTensor> ModelQuantizer::quantize(LayerProblem &layer) {
  auto op = layer.weight.getDefiningOp<qn::QuantizeOp>();
  std::string key = WeightEvaluator::key(layer.weight);
  auto found = store->find(key);
  if (!found)
    return found.takeError();
  HostTensor numbers;
  if (!options.floatInputs) {
    Expected<HostTensor> made =
        HostTensor::allocate(ElementKind::F32, {layer.rows, layer.cols});
    if (!made)
      return made.takeError();
    numbers = std::move(*made);
  }
  float *decoded = numbers ? numbers.mutableData<float>() : nullptr;
  if (*found) {
    if (decoded)
      decodeWeight(**found, decoded, options.threads);
    return numbers;
  }
  Expected<const InputMoments *> inputs = layer.inputs();
  if (!inputs)
    return inputs.takeError();
  QuantizeProblem problem;
  problem.format = &op.getType().getFormat().getFormat();
  problem.rows = layer.rows;
  problem.cols = layer.cols;
  problem.threads = options.threads;
  if (quantizers[op]->usesOutputMoments()) {
    problem.outputMoments = outputMoments->of(layer.weight);
    problem.outputTokens = (*inputs)->count;
  }
  std::string note;
  if ((*inputs)->count)
    problem.hessian = (*inputs)->second.data();
  else
    note = "no input of any sample was finite: rounded to nearest";
  if ((*inputs)->skipped && (*inputs)->count)
    note = std::to_string((*inputs)->skipped) +
           " rows of the input were not finite and left out";
  if ((*inputs)->count && (*inputs)->count < layer.cols)
    notes.insert(std::to_string((*inputs)->count) +
                 " rows of calibration data are fewer than the " +
                 std::to_string(layer.cols) +
                 " channels of some layers, whose second moments are not of "
                 "full rank");
  std::vector<float> corrected;
  if (options.floatTargets && problem.hessian) {
    auto products = layer.pairedInputs();
    if (!products)
      return products.takeError();
    auto values = layer.values();
    if (!values)
      return values.takeError();
    if (!products->empty())
      corrected = correctedWeights(*values, layer.rows, **inputs, *products,
                                   options.threads);
    if (corrected.empty())
      note = "its inputs cannot be compared with the float model's";
  }
  auto read = [&](int64_t, int64_t) -> Expected<const float *> {
    if (!corrected.empty())
      return corrected.data();
    return layer.values();
  };
  Expected<PackedWeight> packed =
      quantizeWeight(*quantizers[op], problem, read, decoded);
  if (!packed)
    return createStringError("'" + layer.name +
                             "': " + llvm::toString(packed.takeError()));
  if (!note.empty())
    packed->note = packed->note.empty() ? note : note + "; " + packed->note;
  if (Error error = store->put(key, *packed))
    return std::move(error);
  return numbers;
}

Expected<std::vector<Sample>>
ModelQuantizer::samplesOf(const CalibrationData &data) {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  std::vector<Sample> samples;
  for (int64_t i = 0; i < data.size(); ++i) {
    Expected<Sample> inputs = data.inputs(main, i);
    if (!inputs)
      return inputs.takeError();
    samples.push_back(std::move(*inputs));
  }
  return samples;
}

Error ModelQuantizer::tune(const CalibrationData &data,
                           CalibratedWeights &result) {
  if (!options.tuning.any())
    return Error::success();
  Expected<std::vector<Sample>> samples = samplesOf(data);
  if (!samples)
    return samples.takeError();
  TuneOptions tuning = options.tuning;
  tuning.threads = options.threads;
  tuning.progress = [&](StringRef what, int64_t done, int64_t total) {
    if (options.progress)
      options.progress(what == "blocks" ? "tune blocks" : "tune", what, done,
                       total);
  };
  Expected<std::unique_ptr<WeightSource>> tuned =
      tuneModel(module, files, *samples, std::move(result.weights), tuning,
                result.tuning);
  if (!tuned)
    return tuned.takeError();
  result.weights = std::move(*tuned);
  const TuneReport &report = result.tuning;
  std::string note;
  llvm::raw_string_ostream(note)
      << "tuning of " << report.numbers
      << " numbers: " << llvm::format("a loss of %.4g before", report.before);
  if (report.afterBlocks)
    llvm::raw_string_ostream(note)
        << llvm::format(", %.4g after that of blocks", *report.afterBlocks);
  llvm::raw_string_ostream(note)
      << llvm::format(" and %.4g after, of samples that were kept apart%s",
                      report.after, report.undone ? "; it was undone" : "");
  result.notes.push_back(note);
  return Error::success();
}

bool ModelQuantizer::loadRowWeights(StringRef path) {
  std::optional<CacheReader> found = CacheReader::open(path);
  if (!found)
    return false;
  module.lookupSymbol<func::FuncOp>("main").walk(
      [&](qn::LinearOp op) { rowWeights[op] = found->numbers<float>(); });
  return true;
}

Error ModelQuantizer::keepRowWeights(StringRef path,
                                     std::vector<LayerSensitivity> layers) {
  for (LayerSensitivity &layer : layers) {
    double sum = 0;
    for (float weight : layer.tokens)
      sum += weight;
    if (!(sum > 0))
      continue; // nothing depends on this layer
    for (float &weight : layer.tokens)
      weight *= static_cast<float>(layer.tokens.size() / sum);
    rowWeights[layer.op] = std::move(layer.tokens);
  }
  CacheWriter writer;
  module.lookupSymbol<func::FuncOp>("main").walk(
      [&](qn::LinearOp op) { writer.numbers(rowWeights[op]); });
  return writer.write(path);
}

/// What tokens and outputs count, as far as it is asked for: kept from a run
/// before, or by the gradients of one run.
Error ModelQuantizer::findGradients(const CalibrationData &data) {
  SmallVector<Value> coupled;
  std::string names;
  for (Target &target : targets)
    if (target.quantizer->usesOutputMoments()) {
      coupled.push_back(target.op.getResult());
      names += WeightEvaluator::key(target.op.getInput()) + "\n";
    }
  if (!options.gradientWeights && coupled.empty())
    return Error::success();
  QUENCH_TRY(tokensPath, gradientPath(data, "", ".tokens"));
  QUENCH_TRY(outputsPath, gradientPath(data, names, ".outputs"));
  outputMoments.emplace(coupled);
  bool hasTokens = !options.gradientWeights || loadRowWeights(tokensPath);
  if (hasTokens && outputMoments->open(outputsPath))
    return Error::success();
  QUENCH_CHECK(outputMoments->create(outputsPath));
  QUENCH_TRY(samples, samplesOf(data));
  SensitivityOptions sensing;
  sensing.outputMoments = [&](qn::LinearOp op) {
    return outputMoments->toWrite(op.getWeight());
  };
  sensing.progress = [&](int64_t done, int64_t total) {
    if (options.progress)
      options.progress("gradients", "", done, total);
  };
  QUENCH_TRY(layers, layerSensitivities(module, files, samples, sensing));
  QUENCH_CHECK(outputMoments->finish());
  return keepRowWeights(tokensPath, std::move(layers));
}

Error ModelQuantizer::walk(const CalibrationData &data,
                           CalibratedWeights &result) {
  WalkOptions walking;
  if (Error error = findGradients(data))
    return error;
  if (options.gradientWeights)
    walking.rowWeights = [&](qn::LinearOp op) -> llvm::ArrayRef<float> {
      auto found = rowWeights.find(op);
      if (found == rowWeights.end())
        return {};
      return found->second;
    };
  walking.threads = options.threads;
  walking.floatInputs = options.floatInputs;
  walking.pairInputs = options.floatTargets;
  walking.layers = [&](qn::LinearOp op) {
    auto quantize = op.getWeight().getDefiningOp<qn::QuantizeOp>();
    return quantize && quantizers.lookup(quantize) &&
           quantizers.lookup(quantize)->usesHessian();
  };
  walking.quantized = [&](Value value) { return plain(value); };
  walking.folder = store->folder().str();
  walking.resume = options.resume;
  if (options.progress)
    walking.progress = [&](StringRef name, int64_t done, int64_t total) {
      options.progress("calibrate", name, done, total);
    };
  return walkLayers(module, files, data, walking,
                    [&](LayerProblem &layer) { return quantize(layer); });
}

Expected<CalibratedWeights> ModelQuantizer::run() {
  CalibratedWeights result;
  if (Error error = findTargets())
    return std::move(error);
  if (options.data.path.empty()) {
    if (Error error = needsData())
      return std::move(error);
    result.weights = std::make_unique<NoWeights>();
    return result;
  }
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main)
    return createStringError("calibration needs a function 'main'");
  // Data that cannot be used are told even where nothing needs them.
  Expected<CalibrationData> data =
      CalibrationData::load(main, files.getModelPath(), options.data);
  if (!data)
    return data.takeError();
  result.samples = data->size();
  result.tokens = data->tokens();
  result.notes = data->notes;
  if (targets.empty()) {
    if (!options.tuning.any())
      result.notes.push_back(
          "no quantizer of the recipe makes use of calibration data");
    result.weights = std::make_unique<NoWeights>();
    if (Error error = tune(*data, result))
      return std::move(error);
    return result;
  }
  Expected<std::string> folder = runFolder(*data);
  if (!folder)
    return folder.takeError();
  result.folder = *folder;
  Expected<std::unique_ptr<QuantizedStore>> opened =
      QuantizedStore::open(*folder);
  if (!opened)
    return opened.takeError();
  store = std::move(*opened);
  Expected<bool> complete = isComplete();
  if (!complete)
    return complete.takeError();
  result.reused = *complete;
  if (!*complete) {
    if (!options.resume && !store->isFinished()) {
      if (store->hasWeights())
        notes.insert("an unfinished run was begun anew; --resume goes on with "
                     "one");
      if (Error error = store->clear())
        return std::move(error);
    }
    if (Error error = walk(*data, result))
      return std::move(error);
    if (Error error = store->setFinished())
      return std::move(error);
  }
  result.notes.insert(result.notes.end(), notes.begin(), notes.end());
  result.weights = std::move(store);
  if (Error error = tune(*data, result))
    return std::move(error);
  return result;
}

Expected<CalibratedWeights>
quench::quantizeModel(ModuleOp module, ModelFiles &files,
                      const CalibrationOptions &options) {
  return ModelQuantizer(module, files, options).run();
}

std::function<Expected<HostTensor>(Value)>
quench::weightsOf(WeightSource &source, int threads) {
  return [&source, threads](Value value) -> Expected<HostTensor> {
    auto found = source.find(WeightEvaluator::key(value));
    if (!found)
      return found.takeError();
    if (!*found)
      return HostTensor();
    Expected<HostTensor> numbers = HostTensor::allocate(
        ElementKind::F32, {(*found)->rows, (*found)->cols});
    if (numbers)
      decodeWeight(**found, numbers->mutableData<float>(), threads);
    return numbers;
  };
}
