//===- QuantizeModelTest.cpp - Quantizing a model with second moments -----===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Models.h"
#include "quench/Calibration/Calibration.h"
#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "quench/Interpreter/Interpreter.h"
#include <filesystem>

using namespace mlir;
using namespace quench;
using namespace calibration;

namespace {
class QuantizeModel : public testing::Test {
protected:
  void SetUp() override {
    auto samples = someTokens(12, 30);
    std::vector<int64_t> ids;
    for (auto &sample : samples)
      ids.insert(ids.end(), sample.begin(), sample.end());
    ids.resize(128, 3);
    options.data.path = folder.path + "/ids.npy";
    options.data.context = 16;
    EXPECT_EQ(
        takeMessage(HostTensor::ofInts({128}, ids).saveNpy(options.data.path)),
        "");
    options.cache = folder.path + "/cache";
  }

  CalibratedWeights quantize(TwoBlocks &model) {
    auto result = quantizeModel(model.module(), model.files(), options);
    EXPECT_TRUE(bool(result)) << takeMessage(result.takeError());
    return result ? std::move(*result) : CalibratedWeights();
  }

  /// The weight files of the only run.
  std::map<std::string, std::string> weightFiles() {
    std::map<std::string, std::string> files;
    for (auto &[name, contents] : filesOf(options.cache))
      if (llvm::StringRef(name).ends_with(".weight"))
        files[name] = contents;
    return files;
  }

  TemporaryFolder folder;
  CalibrationOptions options;
};
} // namespace

TEST_F(QuantizeModel, IsBetterThanRounding) {
  TwoBlocks model("ldlq");
  CalibratedWeights result = quantize(model);
  EXPECT_EQ(result.samples, 8);
  EXPECT_EQ(result.tokens, 128);
  EXPECT_FALSE(result.reused);
  EXPECT_EQ(weightFiles().size(), 8u);
  // The loss that is stored is the one of the moments, and less than that of
  // rounding with the same moments.
  const Quantizer *rtn = llvm::cantFail(getQuantizer("rtn"));
  auto data = CalibrationData::load(model.main(), "", options.data);
  ASSERT_TRUE(bool(data));
  int better = 0;
  llvm::Error error = walkLayers(
      model.module(), model.files(), *data, {},
      [&](LayerProblem &layer) -> llvm::Expected<HostTensor> {
        auto found = result.weights->find(WeightEvaluator::key(layer.weight));
        EXPECT_TRUE(found && *found) << layer.name;
        const PackedWeight &packed = **found;
        EXPECT_EQ(packed.quantizer,
                  llvm::cantFail(getQuantizer("ldlq"))->spec());
        auto values = layer.values();
        auto moments = layer.inputs();
        QuantizeProblem problem;
        problem.format = packed.format;
        problem.weight = *values;
        problem.rows = layer.rows;
        problem.cols = layer.cols;
        problem.hessian = (*moments)->second.data();
        HostTensor numbers = llvm::cantFail(
            HostTensor::allocate(ElementKind::F32, {layer.rows, layer.cols}));
        decodeWeight(packed, numbers.mutableData<float>(), 1);
        double loss = quantizationLoss(problem, numbers.data<float>());
        EXPECT_NEAR(packed.loss, loss, 1e-6 * loss) << layer.name;
        better += packed.loss < llvm::cantFail(rtn->quantize(problem)).loss;
        return numbers;
      });
  EXPECT_EQ(takeMessage(std::move(error)), "");
  EXPECT_EQ(better, 8);
}

TEST_F(QuantizeModel, FinishedRunsAreUsedAgain) {
  TwoBlocks model("ldlq");
  CalibratedWeights first = quantize(model);
  auto files = weightFiles();
  first = {};
  CalibratedWeights second = quantize(model);
  EXPECT_TRUE(second.reused);
  EXPECT_EQ(weightFiles(), files);
  // Other inputs are another run.
  second = {};
  options.floatInputs = true;
  EXPECT_FALSE(quantize(model).reused);
}

TEST_F(QuantizeModel, ThreadsDoNotChangeAnyByte) {
  TwoBlocks model("ldlq");
  quantize(model);
  auto files = weightFiles();
  options.cache += "2";
  options.threads = 3;
  quantize(model);
  EXPECT_EQ(weightFiles(), files);
}

TEST_F(QuantizeModel, AnInterruptedRunEndsTheSame) {
  TwoBlocks model("ldlq");
  quantize(model);
  auto files = weightFiles();
  // What a kill leaves is what an error leaves: some weights and the files of
  // the last site.
  options.cache += "2";
  int64_t weights = 0;
  for (int run = 0; run < 4; ++run) {
    auto died = [&] {
      int calls = 0;
      options.progress = [&](llvm::StringRef, llvm::StringRef, int64_t,
                             int64_t) {
        // In the second site of this run.
        if (++calls == 12)
          _exit(9);
      };
      auto result = quantizeModel(model.module(), model.files(), options);
      (void)!result;
      _exit(0);
    };
    EXPECT_EXIT(died(), testing::ExitedWithCode(9), "") << run;
    options.progress = nullptr;
    EXPECT_LT(weights, int64_t(weightFiles().size()));
    weights = weightFiles().size();
    options.resume = true;
  }
  EXPECT_GT(weights, 1);
  EXPECT_LT(weights, 8);
  CalibratedWeights rest = quantize(model);
  EXPECT_FALSE(rest.reused);
  EXPECT_EQ(weightFiles(), files);
}

TEST_F(QuantizeModel, TheInterpreterUsesTheWeights) {
  TwoBlocks model("ldlq");
  CalibratedWeights result = quantize(model);
  InterpreterOptions settings;
  settings.files = &model.files();
  settings.quantized = weightsOf(*result.weights, 2);
  auto interpreter = Interpreter::create(model.module(), settings);
  ASSERT_TRUE(bool(interpreter));
  model.main().walk([&](qn::QuantizeOp op) {
    auto numbers = interpreter->evaluateWeight(op.getResult());
    ASSERT_TRUE(bool(numbers)) << takeMessage(numbers.takeError());
    auto found = llvm::cantFail(
        result.weights->find(WeightEvaluator::key(op.getResult())));
    std::vector<float> expected(found->rows * found->cols);
    decodeWeight(*found, expected.data(), 1);
    EXPECT_EQ(numbers->values<float>(), llvm::ArrayRef<float>(expected));
  });
}

TEST_F(QuantizeModel, SaysThatDataAreMissing) {
  options.data.path = "";
  TwoBlocks model("ldlq");
  auto result = quantizeModel(model.module(), model.files(), options);
  ASSERT_FALSE(bool(result));
  std::string message = takeMessage(result.takeError());
  EXPECT_NE(message.find("'ldlq"), std::string::npos) << message;
  EXPECT_NE(message.find("needs calibration data"), std::string::npos);
  TwoBlocks rounded("rtn");
  auto plain = quantizeModel(rounded.module(), rounded.files(), options);
  ASSERT_TRUE(bool(plain));
  EXPECT_TRUE(plain->weights != nullptr);
  EXPECT_TRUE(weightFiles().empty());
}

TEST_F(QuantizeModel, TellsOfFewRows) {
  TwoBlocks model("ldlq");
  options.data.maxSamples = 1;
  CalibratedWeights result = quantize(model);
  ASSERT_EQ(result.notes.size(), 2u);
  EXPECT_NE(result.notes[0].find("16 rows"), std::string::npos);
}

/// The moments of the outputs are kept for other formats and quantizers on the
/// same model and data; what was not written whole is not used.
TEST_F(QuantizeModel, MomentsOfOutputs) {
  int gradients = 0;
  options.progress = [&](llvm::StringRef step, llvm::StringRef, int64_t,
                         int64_t) { gradients += step == "gradients"; };
  TwoBlocks oneSided("ldlq"), twoSided("ldlq<two-sided>"),
      ordered("ldlq<two-sided, act-order>");
  quantize(oneSided);
  auto before = weightFiles();
  EXPECT_EQ(gradients, 0);
  std::filesystem::remove_all(options.cache);
  CalibratedWeights first = quantize(twoSided);
  EXPECT_EQ(gradients, 8);
  EXPECT_NE(weightFiles(), before);
  EXPECT_TRUE(first.notes.empty());
  std::string kept;
  for (auto &[name, contents] : filesOf(options.cache))
    if (llvm::StringRef(name).ends_with(".outputs")) {
      EXPECT_EQ(kept, "");
      kept = name;
      size_t size = 0;
      twoSided.main().walk([&](qn::QuantizeOp op) {
        int64_t n = op.getType().getShape()[0];
        size += n * n * sizeof(float);
      });
      EXPECT_EQ(contents.size(), size);
    }
  ASSERT_NE(kept, "");
  quantize(ordered);
  EXPECT_EQ(gradients, 8);
  std::filesystem::resize_file(options.cache + "/" + kept, 100);
  std::filesystem::remove_all(first.folder);
  first = {};
  quantize(twoSided);
  EXPECT_EQ(gradients, 16);
}
