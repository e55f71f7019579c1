//===- TuneTest.cpp - Tuning of a small language model ----------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Training/Tune.h"
#include "Model.h"
#include "mlir/IR/Builders.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "quench/Interpreter/LanguageModel.h"
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

/// Stories of the model itself.
static std::vector<Sample> samplesOf(TestModel &model, int count, int tokens) {
  HostTensor ids = llvm::cantFail(HostTensor::loadNpy(
      TestModel::path("data/tinystories-generated/ids-tok512.npy")));
  std::vector<Sample> samples;
  for (int i = 0; i < count; ++i) {
    std::vector<int64_t> window;
    for (int t = 0; t < tokens; ++t)
      window.push_back(ids.intAt(i * ids.dim(1) + t));
    samples.push_back(
        llvm::cantFail(languageModelInputs(model.main(), window)));
  }
  return samples;
}

/// Tuned twice: the same numbers come out, and the loss of a sample that was
/// kept apart falls by `least`.
static void checkTuning(StringRef format, double least) {
  SCOPED_TRACE(format.str());
  std::vector<double> losses;
  for (int threads : {1, 2}) {
    auto model = TestModel::load("models/llm-stories260k");
    if (!model)
      GTEST_SKIP() << "no shared models";
    quantizeLayers(*model, format);
    model->reset();
    TuneOptions options;
    options.steps = 33;
    options.rate = 3e-3;
    options.threads = threads;
    TuneReport report;
    std::vector<Sample> samples = samplesOf(*model, 12, 96);
    auto tuned = tuneModel(model->module(), model->files(), samples,
                           std::make_unique<NoWeights>(), options, report);
    ASSERT_TRUE(static_cast<bool>(tuned)) << llvm::toString(tuned.takeError());
    EXPECT_EQ(report.losses.size(), 33u);
    EXPECT_GT(report.numbers, 0);
    ASSERT_FALSE(report.undone);
    EXPECT_LT(report.after, (1 - least) * report.before);
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
    auto reference = TestModel::load("models/llm-stories260k");
    HostTensor truth =
        llvm::cantFail(reference->interpreter().run("main", samples[0]))[0];
    HostTensor found = llvm::cantFail(after.run("main", samples[0]))[0];
    EXPECT_NEAR(llvm::cantFail(divergence(truth, found)).value, report.after,
                1e-6 + 1e-3 * report.after);
  }
}

TEST(Tuning, LowersTheLoss) {
  checkTuning("int<3, group = 32>", 0.1);
  checkTuning("int<4>", 0.1);
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
