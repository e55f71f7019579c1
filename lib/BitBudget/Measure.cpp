//===- Measure.cpp - What formats lose, and what losses cost ----*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Errors.h"
#include "quench/BitBudget/Budget.h"
#include "quench/Calibration/Cache.h"
#include "quench/Calibration/Walk.h"
#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "quench/Quantization/Quantizer.h"
#include "quench/Training/Gradient.h"
#include "quench/Training/Loss.h"
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

constexpr int64_t kSampleRows = 32, kRowBlock = 16;
/// Columns that formats are compared on, in blocks.
constexpr int64_t kSampleColumns = 256, kColumnBlock = 128;

/// At most `most` of `count` numbers, in blocks that lie evenly.
std::vector<int64_t> sampled(int64_t count, int64_t most, int64_t block) {
  std::vector<int64_t> result;
  int64_t blocks = std::max<int64_t>(1, count / block);
  int64_t wanted = std::min(blocks, most / block);
  for (int64_t i = 0; i != wanted; ++i) {
    int64_t begin = (2 * i + 1) * blocks / (2 * wanted) * block;
    for (int64_t r = begin; r < std::min(count, begin + block); ++r)
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
  Error measureRows(BudgetLayer &layer,
                    llvm::function_ref<Expected<const float *>(int64_t)> row,
                    const double *hessian);
  Error keepErrors(BudgetLayer &layer, const QuantizeProblem &problem,
                   const QuantizeResult &result);
  Error measureTables();
  Error measureSensitivities();

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
        layer.options.push_back({spec, 0, 0});
    for (FormatLoss &option : layer.options)
      option.bits = (*getFormat(option.format))->bits(layer.rows, layer.cols);
  }
  measured.assign(layers.size(), false);
  return Error::success();
}

Error Measurer::measureRows(
    BudgetLayer &layer,
    llvm::function_ref<Expected<const float *>(int64_t)> row,
    const double *hessian) {
  Expected<const Quantizer *> quantizer = getQuantizer(layer.quantizer);
  if (!quantizer)
    return quantizer.takeError();
  Expected<const Quantizer *> plain = getQuantizer("rtn");
  if (!plain)
    return plain.takeError();
  Expected<const Quantizer *> searched = getQuantizer("rtn<search>");
  if (!searched)
    return searched.takeError();
  std::vector<float> rows;
  std::vector<int64_t> which = sampled(layer.rows, kSampleRows, kRowBlock);
  size_t next = 0;
  for (int64_t r = 0; r != layer.rows; ++r) {
    Expected<const float *> numbers = row(r);
    if (!numbers)
      return numbers.takeError();
    double square = 0;
    for (int64_t c = 0; c != layer.cols; ++c)
      square += double((*numbers)[c]) * (*numbers)[c];
    layer.rowSizes.push_back(static_cast<float>(std::sqrt(square)));
    if (next != which.size() && which[next] == r) {
      rows.insert(rows.end(), *numbers, *numbers + layer.cols);
      ++next;
    }
  }
  // Rounded to nearest: what a format can do. Options that cannot be are left
  // out.
  std::vector<int64_t> columns =
      sampled(layer.cols, kSampleColumns, kColumnBlock);
  std::vector<float> piece;
  for (size_t r = 0; r != which.size(); ++r)
    for (int64_t c : columns)
      piece.push_back(rows[r * layer.cols + c]);
  QuantizeProblem small;
  small.weight = piece.data();
  small.rows = which.size();
  small.cols = columns.size();
  small.threads = options.threads;
  std::vector<FormatLoss> usable;
  for (FormatLoss &option : layer.options) {
    small.format = *getFormat(option.format);
    // Codes of tiles know their best scale, and a search would take long.
    const Quantizer *nearest = small.format->hasTiles() ? *plain : *searched;
    Expected<QuantizeResult> result = nearest->quantize(small);
    if (!result) {
      layer.note += (layer.note.empty() ? "" : "; ") + option.format + ": " +
                    llvm::toString(result.takeError());
      continue;
    }
    option.loss = result->loss;
    usable.push_back(option);
  }
  layer.options = std::move(usable);
  if (layer.options.empty())
    return createStringError(
        "'" + layer.readers.front().name +
        "': none of the formats can be used: " + layer.note);
  // The quantizer itself once, in the middle; feedback gains the same factor
  // with each format.
  auto distance = [&](const FormatLoss &option) {
    return std::fabs(option.bits / layer.weights() - 3.2);
  };
  const FormatLoss &middle = *llvm::min_element(
      layer.options, [&](const FormatLoss &a, const FormatLoss &b) {
        return distance(a) < distance(b);
      });
  QuantizeProblem problem;
  problem.weight = rows.data();
  problem.rows = which.size();
  problem.cols = layer.cols;
  problem.threads = options.threads;
  problem.format = *getFormat(middle.format);
  problem.hessian = hessian;
  Expected<QuantizeResult> result = (*quantizer)->quantize(problem);
  if (!result)
    return createStringError("'" + layer.readers.front().name +
                             "': " + llvm::toString(result.takeError()));
  if (result->outliers)
    return createStringError("'" + (*quantizer)->spec() +
                             "': a bit budget gives a layer one format, and "
                             "outlier columns have another");
  layer.errorLoss = result->loss;
  double factor = middle.loss > 0 ? result->loss / middle.loss : 1;
  for (FormatLoss &option : layer.options)
    option.loss *= factor;
  return keepErrors(layer, problem, *result);
}

/// Errors of the sampled rows. Rows with scales of their own have errors that
/// grow with them.
Error Measurer::keepErrors(BudgetLayer &layer, const QuantizeProblem &problem,
                           const QuantizeResult &result) {
  const Format *format = problem.format;
  std::unique_ptr<Format> bound = format->bind(result.encoded.table);
  if (bound)
    format = bound.get();
  layer.errors.resize(result.encoded.rows * layer.cols);
  decodeRows(*format, result.encoded, layer.errors.data());
  layer.errorRows = problem.rows;
  layer.errors.resize(problem.rows * layer.cols);
  bool even = format->hasTensorScale();
  for (int64_t r = 0; r != problem.rows; ++r) {
    const float *from = problem.weight + r * layer.cols;
    float *to = layer.errors.data() + r * layer.cols;
    double square = 0;
    for (int64_t c = 0; c != layer.cols; ++c) {
      square += double(from[c]) * from[c];
      to[c] = from[c] - to[c];
    }
    float by =
        even || square == 0 ? 1 : static_cast<float>(1 / std::sqrt(square));
    for (int64_t c = 0; c != layer.cols; ++c)
      to[c] *= by;
  }
  if (even)
    layer.rowSizes.clear();
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
  if (options.progress)
    walking.progress = [&](StringRef name, int64_t done, int64_t total) {
      options.progress("losses", name, done, total);
    };
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
                      const double *hessian =
                          (*inputs)->count ? (*inputs)->second.data() : nullptr;
                      auto row = [&](int64_t r) -> Expected<const float *> {
                        return *values + r * layer.cols;
                      };
                      if (Error error = measureRows(layer, row, hessian))
                        return std::move(error);
                      measured[index] = true;
                      return HostTensor();
                    });
}

/// Tables that only embeddings read.
Error Measurer::measureTables() {
  for (auto embedding :
       module.lookupSymbol<func::FuncOp>("main").getOps<qn::EmbeddingOp>()) {
    auto found = byKey.find(WeightEvaluator::key(embedding.getTable()));
    if (found == byKey.end() || !weights[found->second] ||
        measured[found->second])
      continue;
    WeightRows read(evaluator, weights[found->second]);
    auto row = [&](int64_t r) { return read(r, r + 1); };
    if (Error error = measureRows(layers[found->second], row, nullptr))
      return error;
    measured[found->second] = true;
  }
  return Error::success();
}

/// To second order, an error E of a weight makes the divergence
///   1/(2T) mean of <G, E>^2,
/// where G is the gradient by the weight of the sum over the T tokens of a
/// sample of -log p(label), labels drawn from the model itself: the Fisher
/// information. The mean is also taken over errors that look alike.
Error Measurer::measureSensitivities() {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  Expected<Objective> objective = Objective::of(main);
  if (!objective)
    return objective.takeError();
  InterpreterOptions running;
  running.files = &files;
  Expected<Interpreter> interpreter = Interpreter::create(module, running);
  if (!interpreter)
    return interpreter.takeError();
  llvm::DenseMap<Value, unsigned> layerOf;
  SmallVector<Value> wanted;
  std::vector<Operation *> ops = opsOf(main);
  for (Operation *op : ops) {
    if (!isa<qn::LinearOp, qn::EmbeddingOp>(op))
      continue;
    Value weight = op->getOperand(1);
    if (!WeightEvaluator::isWeight(weight))
      continue;
    auto found = byKey.find(WeightEvaluator::key(weight));
    if (found == byKey.end() || !measured[found->second] ||
        !layerOf.try_emplace(weight, found->second).second)
      continue;
    wanted.push_back(weight);
  }
  std::vector<size_t> cuts = blockCuts(ops);
  GradientTape tape(*interpreter, ops, cuts, wanted);
  ValueRange results = main.getBody().front().getTerminator()->getOperands();
  int64_t samples = std::min(options.samples, data.size());
  double tokens = 0;
  for (int64_t round = 0; round != samples * options.draws; ++round) {
    int64_t sample = round % samples;
    Expected<SmallVector<HostTensor>> inputs = data.inputs(main, sample);
    if (!inputs)
      return inputs.takeError();
    Interpreter::Values values;
    if (Error error = interpreter->begin("main", *inputs, values))
      return error;
    if (Error error = tape.forward(std::move(values)))
      return error;
    SmallVector<std::pair<Value, HostTensor>> seeds;
    for (unsigned i : objective->results) {
      Expected<HostTensor> output = tape.output(results[i]);
      if (!output)
        return output.takeError();
      Expected<HostTensor> floats = output->convertTo(ElementKind::F32);
      if (!floats)
        return floats.takeError();
      Expected<HostTensor> gradient =
          objective->sample(*floats, 1 + 1000003 * round + i);
      if (!gradient)
        return gradient.takeError();
      if (objective->logits)
        tokens += floats->getNumElements() /
                  std::max<int64_t>(1, floats->dim(floats->getRank() - 1));
      seeds.push_back({results[i], std::move(*gradient)});
    }
    if (!objective->logits)
      ++tokens;
    auto take = [&](Value value, HostTensor gradient) -> Error {
      BudgetLayer &layer = layers[layerOf.lookup(value)];
      layer.sensitivity += meanSquareProduct(gradient, layer);
      return Error::success();
    };
    if (Error error = tape.backward(seeds, take))
      return error;
    if (options.progress)
      options.progress("sensitivities", "", round + 1, samples * options.draws);
  }
  for (BudgetLayer &layer : layers)
    layer.sensitivity = tokens > 0 ? layer.sensitivity / tokens : 0;
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

//===----------------------------------------------------------------------===//
// Kept for other budgets
//===----------------------------------------------------------------------===//

static void write(CacheWriter &writer, const BudgetLayer &layer) {
  writer.text(layer.key);
  writer.number<uint64_t>(layer.readers.size());
  for (const BudgetLayer::Reader &reader : layer.readers) {
    writer.text(reader.name);
    writer.text(reader.role);
  }
  writer.text(layer.quantizer);
  writer.number(layer.activations ? static_cast<int>(*layer.activations) : -1);
  for (int64_t value : {layer.block, layer.rows, layer.cols, layer.errorRows})
    writer.number(value);
  for (double value : {layer.sensitivity, layer.errorLoss})
    writer.number(value);
  writer.numbers(layer.errors);
  writer.numbers(layer.rowSizes);
  writer.number<uint64_t>(layer.options.size());
  for (const FormatLoss &option : layer.options) {
    writer.text(option.format);
    writer.number(option.bits);
    writer.number(option.loss);
  }
  writer.text(layer.note);
}

static BudgetLayer read(CacheReader &reader) {
  BudgetLayer layer;
  layer.key = reader.text();
  layer.readers.resize(reader.number<uint64_t>());
  for (BudgetLayer::Reader &entry : layer.readers) {
    entry.name = reader.text();
    entry.role = reader.text();
  }
  layer.quantizer = reader.text();
  if (int activations = reader.number<int>(); activations >= 0)
    layer.activations = static_cast<Activations>(activations);
  for (int64_t *value :
       {&layer.block, &layer.rows, &layer.cols, &layer.errorRows})
    *value = reader.number<int64_t>();
  for (double *value : {&layer.sensitivity, &layer.errorLoss})
    *value = reader.number<double>();
  layer.errors = reader.numbers<float>();
  layer.rowSizes = reader.numbers<float>();
  layer.options.resize(reader.number<uint64_t>());
  for (FormatLoss &option : layer.options) {
    option.format = reader.text();
    option.bits = reader.number<int64_t>();
    option.loss = reader.number<double>();
  }
  layer.note = reader.text();
  return layer;
}

/// All that the measured layers depend on.
static std::string contentOf(ModuleOp module, const CalibrationData &data,
                             const Recipe &base, const BudgetOptions &options) {
  std::string text = data.fingerprint() + printRecipe(base);
  for (const auto *formats : {&options.formats, &options.tableFormats}) {
    for (const std::string &format : *formats)
      text += format + ";";
    text += "\n";
  }
  llvm::raw_string_ostream os(text);
  os << options.samples << " " << options.draws << "\n";
  module.print(os, OpPrintingFlags().enableDebugInfo());
  return text;
}

Expected<std::vector<BudgetLayer>>
quench::measureLayers(ModuleOp module, ModelFiles &files,
                      const CalibrationData &data, const Recipe &base,
                      const BudgetOptions &options) {
  Expected<std::string> path =
      cachePath(module, files, options.cache,
                contentOf(module, data, base, options), ".budget");
  if (!path)
    return path.takeError();
  std::vector<BudgetLayer> layers;
  if (std::optional<CacheReader> found = CacheReader::open(*path)) {
    layers.resize(found->number<uint64_t>());
    for (BudgetLayer &layer : layers)
      layer = read(*found);
    return layers;
  }
  Expected<std::vector<BudgetLayer>> measured =
      Measurer(module, files, data, base, options).run();
  if (!measured)
    return measured.takeError();
  CacheWriter writer;
  writer.number<uint64_t>(measured->size());
  for (const BudgetLayer &layer : *measured)
    write(writer, layer);
  if (Error error = writer.write(*path))
    return std::move(error);
  return measured;
}
