//===- Measure.cpp - What formats lose, and what losses cost ----*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Simulate.h"
#include "quench/BitBudget/Budget.h"
#include "quench/Calibration/Walk.h"
#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "quench/Quantization/Quantizer.h"
#include "quench/Training/Sensitivity.h"
#include "llvm/ADT/StringMap.h"
#include <cmath>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

std::vector<std::string> quench::defaultBudgetFormats(bool tables) {
  std::vector<std::string> formats;
  for (const char *bits : {"1", "2", "3", "4", "5", "6"})
    if (!tables || bits[0] != '1')
      formats.push_back(std::string("trellis<") + bits + ">");
  if (tables)
    for (const char *bits : {"3", "4", "5", "6"})
      formats.push_back(std::string("int<") + bits + ", group = 64, zero>");
  formats.push_back("int<8, group = 64>");
  return formats;
}

namespace {

constexpr int64_t kSampleRows = 64, kRowBlock = 16;

/// Rows of a weight, in blocks that lie evenly over it.
std::vector<int64_t> sampledRows(int64_t rows) {
  std::vector<int64_t> result;
  int64_t blocks = std::max<int64_t>(1, rows / kRowBlock);
  int64_t wanted = std::min(blocks, kSampleRows / kRowBlock);
  for (int64_t i = 0; i != wanted; ++i) {
    int64_t begin = (2 * i + 1) * blocks / (2 * wanted) * kRowBlock;
    for (int64_t r = begin; r < std::min(rows, begin + kRowBlock); ++r)
      result.push_back(r);
  }
  return result;
}

class Measurer {
public:
  Measurer(ModuleOp module, ModelFiles &files, const CalibrationData &data,
           const Recipe &base, const BudgetOptions &options)
      : module(module), files(files), data(data), base(base), options(options),
        evaluator(module, files) {}

  Expected<std::vector<BudgetLayer>> run();

private:
  Error findLayers();
  Error measureLosses();
  Error measureRows(BudgetLayer &layer, ArrayRef<float> rows,
                    const double *hessian);
  Error measureSensitivities();
  Error measureTables();
  Expected<double> nearestError(const QuantizeProblem &problem);

  ModuleOp module;
  ModelFiles &files;
  const CalibrationData &data;
  const Recipe &base;
  const BudgetOptions &options;
  WeightEvaluator evaluator;
  std::vector<BudgetLayer> layers;
  llvm::StringMap<unsigned> byKey;
  std::vector<bool> measured; // by layer
  /// Weights by layer, where the recipe gives them a format.
  std::vector<Value> weights;
  std::vector<std::string> formats[2]; // of linear layers, of tables
};

} // namespace

/// Bits of a number as the model stores it.
static int64_t storedBits(Value weight) {
  auto type = cast<ShapedType>(weight.getType()).getElementType();
  return type.isIntOrFloat() ? type.getIntOrFloatBitWidth() : 32;
}

Error Measurer::findLayers() {
  for (bool tables : {false, true}) {
    std::vector<std::string> specs =
        tables ? options.tableFormats : options.formats;
    if (specs.empty())
      specs = defaultBudgetFormats(tables);
    for (const std::string &spec : specs) {
      Expected<const Format *> format = getFormat(spec);
      if (!format)
        return format.takeError();
      formats[tables].push_back((*format)->spec());
    }
  }
  Recipe recipe = base;
  for (RecipeRule &rule : recipe.rules)
    rule.optional = true;
  Expected<LayerPlans> plans = planLayers(module, recipe);
  if (!plans)
    return plans.takeError();
  for (auto &[op, plan] : *plans) {
    Value weight = op->getOperand(1);
    if (!WeightEvaluator::isWeight(weight))
      continue;
    std::string name = layerName(op);
    if (name.empty())
      if (auto leaf = weight.getDefiningOp<qn::WeightOp>())
        name = leaf.getInitializer().str();
    std::string key = WeightEvaluator::key(weight);
    auto [entry, isNew] = byKey.try_emplace(key, layers.size());
    if (isNew) {
      auto type = cast<ShapedType>(weight.getType());
      BudgetLayer &layer = layers.emplace_back();
      layer.key = key;
      layer.rows = type.getDimSize(0);
      layer.cols = type.getDimSize(1);
      layer.quantizer = plan.quantizer;
      weights.push_back(plan.format.empty() ? Value() : weight);
      // What the recipe itself would do stands first.
      FormatLoss &own = layer.options.emplace_back();
      own.bits = storedBits(weight) * layer.rows * layer.cols;
      own.format = "keep";
      if (!plan.format.empty()) {
        Expected<const Format *> format = getFormat(plan.format);
        if (!format)
          return format.takeError();
        own.format = (*format)->spec();
      }
    }
    BudgetLayer &layer = layers[entry->second];
    layer.readers.push_back({name, layerRole(op).str()});
    if (auto linear = dyn_cast<qn::LinearOp>(op)) {
      // A table is quantized as the head that reads it.
      layer.quantizer = plan.quantizer;
      layer.activations = plan.activations;
      layer.block = linear.getBlock().value_or(-1);
    }
  }
  for (auto [layer, weight] : llvm::zip(layers, weights)) {
    if (!weight)
      continue;
    for (const std::string &spec : formats[layer.isTable()])
      if (spec != layer.options.front().format)
        layer.options.push_back({spec, 0, 0, 0});
    for (FormatLoss &option : layer.options)
      option.bits = (*getFormat(option.format))->bits(layer.rows, layer.cols);
  }
  measured.assign(layers.size(), false);
  return Error::success();
}

/// |W - W^|^2 / |W|^2 of rounding to nearest, ranges searched.
Expected<double> Measurer::nearestError(const QuantizeProblem &problem) {
  Expected<const Quantizer *> nearest = getQuantizer("rtn<search>");
  if (!nearest)
    return nearest.takeError();
  QuantizeProblem plain = problem;
  plain.hessian = nullptr;
  Expected<QuantizeResult> result = (*nearest)->quantize(plain);
  if (!result)
    return result.takeError();
  return result->loss;
}

Error Measurer::measureRows(BudgetLayer &layer, ArrayRef<float> rows,
                            const double *hessian) {
  Expected<const Quantizer *> quantizer = getQuantizer(layer.quantizer);
  if (!quantizer)
    return quantizer.takeError();
  QuantizeProblem problem;
  problem.weight = rows.data();
  problem.rows = rows.size() / layer.cols;
  problem.cols = layer.cols;
  problem.threads = options.threads;
  // Rounded to nearest: what a format can do. Options that cannot be are left
  // out.
  std::vector<FormatLoss> usable;
  for (FormatLoss &option : layer.options) {
    problem.format = *getFormat(option.format);
    Expected<double> error = nearestError(problem);
    if (!error) {
      layer.note += (layer.note.empty() ? "" : "; ") + option.format + ": " +
                    llvm::toString(error.takeError());
      continue;
    }
    option.error = *error;
    option.loss = *error;
    usable.push_back(option);
  }
  layer.options = std::move(usable);
  if (layer.options.empty())
    return createStringError(
        "'" + layer.readers.front().name +
        "': none of the formats can be used: " + layer.note);
  if (!hessian)
    return Error::success();
  // The quantizer itself once, in the middle; feedback gains the same factor
  // with each format.
  auto distance = [&](const FormatLoss &option) {
    return std::fabs(option.bits / layer.weights() - 3.2);
  };
  const FormatLoss &middle = *llvm::min_element(
      layer.options, [&](const FormatLoss &a, const FormatLoss &b) {
        return distance(a) < distance(b);
      });
  problem.format = *getFormat(middle.format);
  problem.hessian = hessian;
  Expected<QuantizeResult> result = (*quantizer)->quantize(problem);
  if (!result)
    return createStringError("'" + layer.readers.front().name +
                             "': " + llvm::toString(result.takeError()));
  double factor = middle.error > 0 ? result->loss / middle.error : 1;
  for (FormatLoss &option : layer.options)
    option.loss = factor * option.error;
  return Error::success();
}

Error Measurer::measureLosses() {
  WalkOptions walking;
  walking.threads = options.threads;
  walking.floatInputs = true;
  auto layerOf = [&](Value weight) -> BudgetLayer * {
    auto found = byKey.find(WeightEvaluator::key(weight));
    return found != byKey.end() && weights[found->second]
               ? &layers[found->second]
               : nullptr;
  };
  walking.layers = [&](qn::LinearOp op) {
    return WeightEvaluator::isWeight(op.getWeight()) && layerOf(op.getWeight());
  };
  walking.progress = options.progress;
  return walkLayers(module, files, data, walking,
                    [&](LayerProblem &problem) -> Expected<HostTensor> {
                      BudgetLayer &layer = *layerOf(problem.weight);
                      unsigned index = &layer - layers.data();
                      if (measured[index])
                        return HostTensor();
                      Expected<const float *> values = problem.values();
                      if (!values)
                        return values.takeError();
                      Expected<const InputMoments *> inputs = problem.inputs();
                      if (!inputs)
                        return inputs.takeError();
                      std::vector<float> rows;
                      for (int64_t r : sampledRows(layer.rows))
                        rows.insert(rows.end(), *values + r * layer.cols,
                                    *values + (r + 1) * layer.cols);
                      const double *hessian =
                          (*inputs)->count ? (*inputs)->second.data() : nullptr;
                      if (Error error = measureRows(layer, rows, hessian))
                        return std::move(error);
                      measured[index] = true;
                      return HostTensor();
                    });
}

Error Measurer::measureSensitivities() {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  std::vector<Sample> samples;
  for (int64_t i = 0; i < std::min(options.samples, data.size()); ++i) {
    Expected<Sample> inputs = data.inputs(main, i);
    if (!inputs)
      return inputs.takeError();
    samples.push_back(std::move(*inputs));
  }
  SensitivityOptions measuring;
  if (options.progress)
    measuring.progress = [&](int64_t done, int64_t total) {
      options.progress("sensitivities", done, total);
    };
  Expected<std::vector<LayerSensitivity>> found =
      layerSensitivities(module, files, samples, measuring);
  if (!found)
    return found.takeError();
  for (const LayerSensitivity &entry : *found)
    if (auto layer = byKey.find(
            WeightEvaluator::key(qn::LinearOp(entry.op).getWeight()));
        layer != byKey.end())
      layers[layer->second].sensitivity += entry.sensitivity;
  return Error::success();
}

/// Embeddings: their loss is the error of their rows, and what it costs is
/// measured with noise. (They are the first op: there is no shorter way.)
Error Measurer::measureTables() {
  std::optional<NoiseRunner> runner;
  constexpr double kNoise = 1e-3;
  for (auto embedding :
       module.lookupSymbol<func::FuncOp>("main").getOps<qn::EmbeddingOp>()) {
    auto found = byKey.find(WeightEvaluator::key(embedding.getTable()));
    if (found == byKey.end() || !weights[found->second])
      continue;
    BudgetLayer &layer = layers[found->second];
    if (!measured[found->second]) {
      std::vector<float> rows, block;
      for (int64_t r : sampledRows(layer.rows)) {
        if (Error error =
                evaluator.rows(weights[found->second], r, r + 1, block))
          return error;
        rows.insert(rows.end(), block.begin(), block.end());
      }
      if (Error error = measureRows(layer, rows, nullptr))
        return error;
      measured[found->second] = true;
    }
    if (!runner) {
      Expected<NoiseRunner> made =
          NoiseRunner::create(module, files, data, options.samples);
      if (!made)
        return made.takeError();
      runner.emplace(std::move(*made));
    }
    llvm::DenseMap<Operation *, double> noise;
    noise[embedding] = kNoise;
    Expected<double> divergence = runner->run(noise);
    if (!divergence)
      return divergence.takeError();
    layer.tableSensitivity += *divergence / kNoise;
  }
  return Error::success();
}

Expected<std::vector<BudgetLayer>> Measurer::run() {
  if (Error error = findLayers())
    return std::move(error);
  if (Error error = measureLosses())
    return std::move(error);
  if (Error error = measureTables())
    return std::move(error);
  if (Error error = measureSensitivities())
    return std::move(error);
  // Layers that a run does not reach are left to the recipe.
  for (auto [i, layer] : llvm::enumerate(layers))
    if (!measured[i])
      layer.options.resize(1);
  return std::move(layers);
}

Expected<std::vector<BudgetLayer>>
quench::measureLayers(ModuleOp module, ModelFiles &files,
                      const CalibrationData &data, const Recipe &base,
                      const BudgetOptions &options) {
  return Measurer(module, files, data, base, options).run();
}
