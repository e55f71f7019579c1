//===- TuneTest.cpp - Tuning of a small language model ----------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Training/Tune.h"
#include "Model.h"
#include "Parameters.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Verifier.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Dialect/Quench/Transforms/InsertMaps.h"
#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "quench/Interpreter/LanguageModel.h"
#include "quench/Quantization/Packing.h"
#include "quench/Training/Adam.h"
#include "quench/Training/Gradient.h"
#include "quench/Training/Loss.h"
#include <cmath>

using namespace mlir;
using namespace quench;

TEST(Adam, FindsAMinimum) {
  std::vector<float> x = {3, -2}, g(2);
  Adam adam(2);
  for (int i = 0; i < 1000; ++i) {
    g = {2 * (x[0] - 1), 200 * (x[1] - 5)};
    adam.step(x, g, rateAt(0.05, i, 1000));
  }
  EXPECT_NEAR(x[0], 1, 0.05);
  EXPECT_NEAR(x[1], 5, 0.05);
}

TEST(Adam, Rates) {
  EXPECT_LT(rateAt(1, 0, 100), 0.25);
  EXPECT_GT(rateAt(1, 6, 100), 0.95);
  EXPECT_NEAR(rateAt(1, 99, 100), 0.1, 1e-9);
  EXPECT_NEAR(rateAt(1, 0, 1), 1, 1e-9);
}

namespace {
class NoWeights : public WeightSource {
public:
  llvm::Expected<std::shared_ptr<const PackedWeight>> find(StringRef) override {
    return std::shared_ptr<const PackedWeight>();
  }
};
} // namespace

/// Puts the weights of all linear layers into a format.
static void quantizeLayers(TestModel &model, StringRef spec) {
  const Format *format = llvm::cantFail(getFormat(spec));
  model.main().walk([&](qn::LinearOp op) {
    OpBuilder builder(op);
    auto type = cast<RankedTensorType>(op.getWeight().getType());
    auto quantized = qn::QTensorType::get(
        op.getContext(), type.getShape(),
        qn::FormatAttr::get(op.getContext(), format->spec()));
    Value weight = qn::QuantizeOp::create(builder, op.getLoc(), quantized,
                                          op.getWeight(), "rtn");
    op.getWeightMutable().assign(weight);
  });
}

/// Stories of the model itself; `ragged`: not all of one length.
static std::vector<Sample> samplesOf(TestModel &model, int count, int tokens,
                                     bool ragged = false) {
  HostTensor ids = llvm::cantFail(HostTensor::loadNpy(
      TestModel::path("data/tinystories-generated/ids-tok512.npy")));
  std::vector<Sample> samples;
  for (int i = 0; i < count; ++i) {
    std::vector<int64_t> window;
    for (int t = 0; t < tokens - ragged * (i % 3); ++t)
      window.push_back(ids.intAt(i * ids.dim(1) + t));
    samples.push_back(
        llvm::cantFail(languageModelInputs(model.main(), window)));
  }
  return samples;
}

static std::shared_ptr<const PackedWeight> packNearest(TestModel &model,
                                                       qn::QuantizeOp op) {
  WeightEvaluator evaluator(model.module(), model.files());
  WeightRows read(evaluator, op.getInput());
  QuantizeProblem problem;
  problem.format = &op.getType().getFormat().getFormat();
  problem.rows = read.rows();
  problem.cols = read.cols();
  return std::make_shared<PackedWeight>(llvm::cantFail(
      quantizeWeight(*llvm::cantFail(getQuantizer("rtn")), problem, read)));
}

/// The gradients of a weight's numbers through the whole model against central
/// differences of its loss.
static void checkNumbers(StringRef spec, bool byOutputs, size_t groups) {
  SCOPED_TRACE(spec.str());
  auto model = TestModel::load("models/llm-stories260k");
  if (!model)
    GTEST_SKIP() << "no shared models";
  Sample sample = samplesOf(*model, 1, 32)[0];
  HostTensor truth =
      llvm::cantFail(model->interpreter().run("main", sample))[0];
  quantizeLayers(*model, spec);
  model->reset();
  Interpreter &interpreter = model->interpreter();
  std::vector<qn::QuantizeOp> weights;
  model->main().walk([&](qn::QuantizeOp op) { weights.push_back(op); });
  std::vector<Operation *> ops = opsOf(model->main());
  for (size_t layer : {4, 16}) {
    Value weight = weights[layer].getResult();
    auto packed = packNearest(*model, weights[layer]);
    auto parameters =
        llvm::cantFail(WeightParameters::create(weight, packed, 1));
    ASSERT_NE(parameters, nullptr);
    EXPECT_EQ(parameters->wanted().front() != weight, byOutputs);
    EXPECT_GE(parameters->numbers().size(), groups);

    // At first the weight is what its codes stand for.
    HostTensor now = llvm::cantFail(parameters->weight());
    std::vector<float> decoded(now.getNumElements());
    decodeWeight(*packed, decoded.data(), 1);
    for (size_t i = 0; i < decoded.size(); ++i)
      ASSERT_NEAR(now.data<float>()[i], decoded[i], 1e-5);

    auto loss = [&](GradientTape *tape) {
      llvm::cantFail(parameters->set(interpreter));
      HostTensor logits = llvm::cantFail(interpreter.run("main", sample))[0];
      Loss loss = llvm::cantFail(divergence(truth, logits));
      if (!tape)
        return loss.value;
      Interpreter::Values values;
      llvm::cantFail(interpreter.begin("main", sample, values));
      llvm::cantFail(tape->forward(std::move(values)));
      Value result = model->main().front().getTerminator()->getOperand(0);
      llvm::cantFail(tape->backward(
          {{result, loss.gradient}}, [&](Value value, HostTensor gradient) {
            return parameters->add(*tape, value, gradient);
          }));
      return loss.value;
    };
    // Somewhere else, all numbers moved.
    llvm::MutableArrayRef<float> numbers = parameters->numbers();
    for (size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = 0.02f * std::sin(1.7f * i);
    llvm::cantFail(parameters->set(interpreter));
    GradientTape tape(interpreter, ops, blockCuts(ops), parameters->wanted());
    loss(&tape);
    llvm::ArrayRef<float> gradient = parameters->gradients();
    float greatest = 0;
    for (float g : gradient)
      greatest = std::max(greatest, std::abs(g));
    int checked = 0;
    for (size_t i = 0; i < numbers.size() && checked < 8; ++i) {
      // Spread over all kinds; the others drown in rounding.
      if (i * 8 < checked * numbers.size() ||
          std::abs(gradient[i]) < 0.1f * greatest)
        continue;
      ++checked;
      float at = numbers[i], step = 0.02f;
      numbers[i] = at + step;
      double above = loss(nullptr);
      numbers[i] = at - step;
      double below = loss(nullptr);
      numbers[i] = at;
      EXPECT_NEAR((above - below) / (2 * step), gradient[i], 0.03 * greatest)
          << "number " << i << " of " << numbers.size();
    }
    EXPECT_GT(checked, 3);
    interpreter.setWeight(weight, {});
  }
}

TEST(Tuning, GradientsMatchDifferences) {
  checkNumbers("int<4>", true, 32);
  checkNumbers("int<3, group = 32>", false, 64);
  checkNumbers("int<2, group = 32, zero = float>", false, 128);
  checkNumbers("aqlm<1x8, group = 4>", false, 1024);
}

/// Stored numbers as they were, but all scales wrong by a known factor each.
namespace {
class WrongScales : public WeightSource {
public:
  llvm::Expected<std::shared_ptr<const PackedWeight>>
  find(StringRef key) override {
    return all.lookup(key);
  }
  llvm::StringMap<std::shared_ptr<const PackedWeight>> all;
};
} // namespace

/// Eight bits lose next to nothing, so that the best scales are known: the loss
/// comes from wrong scales. Tuning goes more than half of the way back, to less
/// than what half the error costs.
TEST(Tuning, RepairsScales) {
  std::vector<TuneReport> reports;
  for (float error : {0.05f, 0.1f}) {
    auto model = TestModel::load("models/llm-stories260k");
    if (!model)
      GTEST_SKIP() << "no shared models";
    quantizeLayers(*model, "int<8>");
    model->reset();
    auto source = std::make_unique<WrongScales>();
    uint32_t draw = 1;
    model->main().walk([&](qn::QuantizeOp op) {
      PackedWeight packed = *packNearest(*model, op);
      EncodedRows encoded = unpackWeight(*packed.format, packed.stream.data(),
                                         packed.rows, packed.cols);
      for (GroupParams &params : encoded.params) {
        draw = draw * 1664525u + 1013904223u;
        params.scale =
            packed.format->roundScale(packed.format->scaleOf(params) *
                                      (draw >> 31 ? 1 + error : 1 - error));
      }
      auto bytes = std::make_shared<std::vector<uint8_t>>(
          packWeight(*packed.format, encoded));
      packed.stream = *bytes;
      packed.owner = bytes;
      source->all[WeightEvaluator::key(op.getResult())] =
          std::make_shared<PackedWeight>(packed);
    });
    // The smaller error is measured only.
    TuneOptions options;
    options.steps = reports.empty() ? 1 : 48;
    options.rate = 1.5e-2;
    options.newGains = false;
    TuneReport report;
    llvm::cantFail(tuneModel(model->module(), model->files(),
                             samplesOf(*model, 16, 96), std::move(source),
                             options, report));
    reports.push_back(report);
  }
  EXPECT_FALSE(reports[1].undone);
  EXPECT_LT(reports[1].after, reports[0].before);
  EXPECT_LT(reports[0].before, reports[1].before / 2);
}

/// Tuned twice, the same numbers come out; a loss of samples that were not
/// trained on is reported as it is, and is less than before.
static void checkTuning(StringRef format, const TuneOptions &chosen) {
  SCOPED_TRACE(format.str());
  std::vector<double> losses;
  for (int threads : {1, 2}) {
    auto model = TestModel::load("models/llm-stories260k");
    if (!model)
      GTEST_SKIP() << "no shared models";
    std::vector<Sample> samples = samplesOf(*model, 9, 64, /*ragged=*/true);
    HostTensor truth =
        llvm::cantFail(model->interpreter().run("main", samples[0]))[0];
    quantizeLayers(*model, format);
    model->reset();
    TuneOptions options = chosen;
    options.steps = 10;
    options.threads = threads;
    TuneReport report;
    auto tuned = tuneModel(model->module(), model->files(), samples,
                           std::make_unique<NoWeights>(), options, report);
    ASSERT_TRUE(static_cast<bool>(tuned)) << llvm::toString(tuned.takeError());
    EXPECT_EQ(report.losses.size(), 10u);
    EXPECT_GT(report.numbers, 0);
    ASSERT_FALSE(report.undone);
    EXPECT_LT(report.after, report.before);
    ASSERT_EQ(report.afterBlocks.has_value(), options.blockSteps > 0);
    if (report.afterBlocks) {
      EXPECT_LT(*report.afterBlocks, 0.9 * report.before);
      report.losses.push_back(*report.afterBlocks);
    }
    if (losses.empty())
      losses = report.losses;
    EXPECT_EQ(losses, report.losses);

    // What came out gives the loss that was reported.
    InterpreterOptions running;
    running.files = &model->files();
    running.quantized = [&](Value value) -> llvm::Expected<HostTensor> {
      auto found = (*tuned)->find(WeightEvaluator::key(value));
      EXPECT_TRUE(found && *found);
      HostTensor numbers = llvm::cantFail(HostTensor::allocate(
          ElementKind::F32, {(*found)->rows, (*found)->cols}));
      decodeWeight(**found, numbers.mutableData<float>(), 1);
      return numbers;
    };
    auto after = llvm::cantFail(Interpreter::create(model->module(), running));
    HostTensor found = llvm::cantFail(after.run("main", samples[0]))[0];
    EXPECT_NEAR(llvm::cantFail(divergence(truth, found)).value, report.after,
                1e-6 + 1e-3 * report.after);
  }
}

TEST(Tuning, LowersTheLoss) {
  TuneOptions options;
  checkTuning("int<3, group = 32>", options);
  options.newBiases = true;
  options.batch = 2;
  checkTuning("int<3>", options);
}

/// Block by block first, on what each block delivers.
TEST(Tuning, Blocks) {
  TuneOptions options;
  options.blockSteps = 24;
  options.blockSamples = 4;
  checkTuning("int<3>", options);
}

/// Norms without gains get them; what made the loss greater leaves no trace.
TEST(Tuning, AddsGains) {
  for (double rate : {5e-3, 30.0}) {
    auto model = TestModel::load("models/llm-stories260k");
    if (!model)
      GTEST_SKIP() << "no shared models";
    quantizeLayers(*model, "int<3>");
    std::vector<qn::NormOp> norms;
    model->main().walk([&](qn::NormOp op) {
      op.getGainMutable().clear();
      norms.push_back(op);
    });
    auto countInitializers = [&] {
      return llvm::range_size(model->module().getOps<qn::InitializerOp>());
    };
    size_t before = countInitializers();
    model->reset();
    TuneOptions options;
    options.steps = 8;
    options.rate = rate;
    options.scales = options.biases = false;
    TuneReport report;
    llvm::cantFail(tuneModel(model->module(), model->files(),
                             samplesOf(*model, 4, 64),
                             std::make_unique<NoWeights>(), options, report));
    EXPECT_EQ(report.numbers, 64 * int64_t(norms.size()));
    EXPECT_EQ(report.undone, rate == 30);
    for (qn::NormOp op : norms)
      EXPECT_EQ(static_cast<bool>(op.getGain()), !report.undone);
    EXPECT_EQ(countInitializers(), before + (report.undone ? 0 : norms.size()));
    EXPECT_TRUE(succeeded(verify(model->module())));
  }
}

/// Maps on line in front of quantized layers get sign vectors, which lower the
/// loss; where they raise it nothing of them is left.
TEST(Tuning, AddsSigns) {
  for (double rate : {5e-3, 100.0}) {
    auto model = TestModel::load("models/llm-stories260k");
    if (!model)
      GTEST_SKIP() << "no shared models";
    InsertMapsOptions maps;
    maps.rotateDown = true;
    ASSERT_TRUE(succeeded(insertMaps(model->module(), maps)));
    quantizeLayers(*model, "int<3>");
    model->reset();
    auto countProducts = [&] {
      int count = 0;
      model->main().walk([&](qn::MapOp map) {
        auto product = map.getInput().getDefiningOp<linalg::GenericOp>();
        count += product && product.getInputs().size() == 2 &&
                 product.getInputs()[1].getDefiningOp<qn::WeightOp>();
      });
      return count;
    };
    ASSERT_EQ(countProducts(), 0);
    TuneOptions options;
    options.steps = 8;
    options.rate = rate;
    options.scales = options.biases = options.gains = false;
    options.newSigns = true;
    TuneReport report;
    llvm::cantFail(tuneModel(model->module(), model->files(),
                             samplesOf(*model, 4, 64),
                             std::make_unique<NoWeights>(), options, report));
    EXPECT_EQ(report.numbers, 5 * 172);
    EXPECT_EQ(report.undone, rate == 100);
    EXPECT_EQ(countProducts(), report.undone ? 0 : 5);
    EXPECT_TRUE(succeeded(verify(model->module())));
    if (!report.undone)
      EXPECT_LT(report.after, report.before);
  }
}

TEST(Sensitivities, PredictDivergences) {
  auto model = TestModel::load("models/llm-stories260k");
  if (!model)
    GTEST_SKIP() << "no shared models";
  std::vector<Sample> samples = samplesOf(*model, 2, 64);
  SensitivityOptions options;
  options.draws = 4;
  auto layers = llvm::cantFail(
      layerSensitivities(model->module(), model->files(), samples, options));
  ASSERT_EQ(layers.size(), 36u);
  const Format *format = llvm::cantFail(getFormat("int<4, group = 32>"));
  for (LayerSensitivity &layer : layers) {
    EXPECT_EQ(layer.tokens.size(), 128u);
    // Errors of the down projections are about the same at all tokens.
    if (layer.op.getRole() != "down")
      continue;
    Interpreter &interpreter = model->interpreter();
    Value weight = layer.op.getWeight();
    HostTensor w = llvm::cantFail(interpreter.evaluateWeight(weight));
    HostTensor q = w;
    decodeRows(*format,
               encodeNearest(*format, w.data<float>(), w.dim(0), w.dim(1), {}),
               q.mutableData<float>());
    double error = 0, size = 0, measured = 0;
    for (const Sample &sample : samples) {
      HostTensor truth = llvm::cantFail(interpreter.run("main", sample))[0];
      Interpreter::Values values;
      llvm::cantFail(interpreter.begin("main", sample, values));
      for (Operation *op : opsOf(model->main()))
        llvm::cantFail(interpreter.step(op, values));
      HostTensor x = values[layer.op.getInput()];
      int64_t k = w.dim(1);
      for (int64_t t = 0; t < 64; ++t)
        for (int64_t o = 0; o < w.dim(0); ++o) {
          double y = 0, e = 0;
          for (int64_t c = 0; c < k; ++c) {
            y += x.at(t * k + c) * w.at(o * k + c);
            e += x.at(t * k + c) * (q.at(o * k + c) - w.at(o * k + c));
          }
          size += y * y;
          error += e * e;
        }
      interpreter.setWeight(weight, q);
      HostTensor found = llvm::cantFail(interpreter.run("main", sample))[0];
      interpreter.setWeight(weight, {});
      measured += llvm::cantFail(divergence(truth, found)).value / 2;
    }
    double predicted = layer.sensitivity * error / size;
    EXPECT_GT(measured, predicted / 2);
    EXPECT_LT(measured, predicted * 2);
  }
}

/// The second moments of outputs are sums of g g^T, with the gradients that the
/// tape gives for the same labels.
TEST(Sensitivities, OutputMoments) {
  auto model = TestModel::load("models/llm-stories260k");
  if (!model)
    GTEST_SKIP() << "no shared models";
  std::vector<Sample> samples = samplesOf(*model, 1, 24);
  std::vector<qn::LinearOp> layers;
  model->main().walk([&](qn::LinearOp op) { layers.push_back(op); });
  qn::LinearOp chosen = layers[9];
  int64_t n =
      cast<RankedTensorType>(chosen.getWeight().getType()).getDimSize(0);
  std::vector<float> moments(n * n);
  SensitivityOptions options;
  options.outputMoments = [&](qn::LinearOp op) {
    return op == chosen ? moments.data() : nullptr;
  };
  llvm::cantFail(
      layerSensitivities(model->module(), model->files(), samples, options));

  Objective objective = llvm::cantFail(Objective::of(model->main()));
  Interpreter &interpreter = model->interpreter();
  std::vector<Operation *> ops = opsOf(model->main());
  GradientTape tape(interpreter, ops, blockCuts(ops), {chosen.getResult()});
  Interpreter::Values values;
  llvm::cantFail(interpreter.begin("main", samples[0], values));
  llvm::cantFail(tape.forward(std::move(values)));
  Value result =
      model->main().front().getTerminator()->getOperand(objective.results[0]);
  HostTensor logits = llvm::cantFail(tape.output(result));
  std::vector<double> sums(n * n);
  llvm::cantFail(tape.backward(
      {{result, llvm::cantFail(objective.sample(logits, options.seed))}},
      [&](Value, HostTensor gradient) {
        for (int64_t t = 0; t < 24; ++t)
          for (int64_t i = 0; i < n; ++i)
            for (int64_t j = 0; j < n; ++j)
              sums[i * n + j] +=
                  gradient.at(t * n + i) * gradient.at(t * n + j);
        return llvm::Error::success();
      }));
  double most = *std::max_element(sums.begin(), sums.end());
  EXPECT_GT(most, 0);
  for (int64_t i = 0; i < n * n; ++i)
    ASSERT_NEAR(moments[i], sums[i], 1e-5 * most);
}
