//===- DataTest.cpp - What a model is calibrated on -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Models.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>

using namespace mlir;
using namespace quench;
using namespace calibration;

namespace {
class Data : public testing::Test {
protected:
  std::string saved(const HostTensor &tensor) {
    std::string path = folder.path + "/data.npy";
    EXPECT_EQ(takeMessage(tensor.saveNpy(path)), "");
    return path;
  }
  llvm::Expected<CalibrationData>
  load(const HostTensor &tensor, int64_t maxSamples = 0, int64_t context = 4) {
    CalibrationData::Options options;
    options.path = saved(tensor);
    options.maxSamples = maxSamples;
    options.context = context;
    return CalibrationData::load(model.main(), "no/model.onnx", options);
  }
  void expectError(const HostTensor &tensor, llvm::StringRef text) {
    auto data = load(tensor);
    ASSERT_FALSE(bool(data)) << text.str();
    std::string message = takeMessage(data.takeError());
    EXPECT_NE(message.find(text.str()), std::string::npos) << message;
    EXPECT_NE(message.find("data.npy"), std::string::npos) << message;
  }

  TwoBlocks model;
  TemporaryFolder folder;
};
} // namespace

TEST_F(Data, OneRowIsCutIntoWindows) {
  auto data =
      load(HostTensor::ofInts({11}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
  ASSERT_TRUE(bool(data)) << takeMessage(data.takeError());
  ASSERT_EQ(data->size(), 2);
  EXPECT_EQ(data->tokens(), 8);
  EXPECT_EQ(data->tokenRows()[1], (std::vector<int64_t>{5, 6, 7, 8}));
  auto inputs = data->inputs(model.main(), 1);
  ASSERT_TRUE(bool(inputs));
  ASSERT_EQ(inputs->size(), 1u);
  EXPECT_EQ((*inputs)[0].getShape(), (ArrayRef<int64_t>{1, 4}));
  EXPECT_EQ((*inputs)[0].intAt(2), 7);
}

TEST_F(Data, RowsAreSamples) {
  auto data = load(HostTensor::ofInts({3, 2}, {1, 2, 3, 4, 5, 6}), 5);
  ASSERT_TRUE(bool(data)) << takeMessage(data.takeError());
  EXPECT_EQ(data->size(), 3);
  EXPECT_EQ(data->tokens(), 6);
  ASSERT_EQ(data->notes.size(), 1u);
  EXPECT_EQ(data->notes[0],
            "the calibration data have 3 samples, 5 were asked for");
  auto two = load(HostTensor::ofInts({3, 2}, {1, 2, 3, 4, 5, 6}), 2);
  ASSERT_TRUE(bool(two));
  EXPECT_EQ(two->size(), 2);
  EXPECT_TRUE(two->notes.empty());
  EXPECT_NE(two->fingerprint(), data->fingerprint());
}

TEST_F(Data, OneShortRowIsASample) {
  auto data = load(HostTensor::ofInts({3}, {1, 2, 3}), 64);
  ASSERT_TRUE(bool(data)) << takeMessage(data.takeError());
  EXPECT_EQ(data->size(), 1);
  EXPECT_EQ(data->notes.size(), 1u);
}

TEST_F(Data, LongRowsKeepTheirEnd) {
  auto data =
      load(HostTensor::ofInts({2, 6}, {1, 2, 3, 4, 5, 6, 1, 1, 1, 1, 1, 9}));
  ASSERT_TRUE(bool(data)) << takeMessage(data.takeError());
  EXPECT_EQ(data->tokenRows()[0], (std::vector<int64_t>{1, 2, 3, 6}));
  EXPECT_EQ(data->tokenRows()[1], (std::vector<int64_t>{1, 1, 1, 9}));
}

TEST_F(Data, SaysWhatIsWrong) {
  expectError(HostTensor::ofInts({2, 2}, {1, 2, 3, 19}),
              "token id 19 at position 1 of sample 1 is outside of the model's "
              "vocabulary: 0 to 18 are accepted");
  expectError(HostTensor::ofInts({2, 2}, {1, -1, 3, 4}),
              "token id -1 at position 1 of sample 0");
  expectError(HostTensor::ofInts({8}, {5, 5, 5, 5, 5, 5, 5, 5}),
              "has one token only (id 5, 8 times)");
  expectError(HostTensor::ofInts({1, 2, 2}, {1, 2, 3, 4}), "token ids are");
  expectError(HostTensor::ofFloats({2}, {1, 2}), "token ids are integers");
  expectError(HostTensor::ofInts({0, 4}, {}), "has no sample");
  expectError(HostTensor::ofInts({2, 0}, {}), "sample 0 has no tokens");
}

TEST_F(Data, TextsNeedATokenizer) {
  CalibrationData::Options options;
  options.path = folder.path + "/text.txt";
  auto missing = CalibrationData::load(model.main(), "no/model.onnx", options);
  ASSERT_FALSE(bool(missing));
  EXPECT_NE(takeMessage(missing.takeError()).find("text.txt"),
            std::string::npos);
  std::error_code code;
  llvm::raw_fd_ostream(options.path, code) << "some words\n";
  auto data = CalibrationData::load(model.main(), "no/model.onnx", options);
  ASSERT_FALSE(bool(data));
  EXPECT_NE(takeMessage(data.takeError()).find("tokenizer.json"),
            std::string::npos);
}

/// An input that is neither tokens nor what is known to go with them.
TEST_F(Data, SaysWhichInputIsNotKnown) {
  auto message = [&](llvm::StringRef extra) {
    auto module = parseSourceString<ModuleOp>(
        ("func.func @main(%ids: tensor<1x?xi64> {quench.name = "
         "\"input_ids\"}, " +
         extra + ") -> tensor<1x?xi64> { return %ids : tensor<1x?xi64> }")
            .str(),
        model.module().getContext());
    auto main = module->lookupSymbol<func::FuncOp>("main");
    CalibrationData::Options options;
    options.path = saved(HostTensor::ofInts({1, 4}, {1, 2, 3, 4}));
    auto data = CalibrationData::load(main, "no/model.onnx", options);
    if (!data)
      return takeMessage(data.takeError());
    auto inputs = data->inputs(main, 0);
    return inputs ? std::string() : takeMessage(inputs.takeError());
  };
  std::string style = message("%x: tensor<1x3xf32> {quench.name = \"style\"}");
  EXPECT_NE(style.find("input 'style'"), std::string::npos) << style;
  EXPECT_NE(style.find("neither tokens nor an empty cache"), std::string::npos)
      << style;
  std::string steps = message("%x: tensor<7xi64> {quench.name = \"steps\"}");
  EXPECT_NE(steps.find("input 'steps'"), std::string::npos) << steps;
  EXPECT_NE(steps.find("is not known"), std::string::npos) << steps;
}

TEST_F(Data, FloatsAreInputsOfTheModel) {
  auto module = parseSourceString<ModuleOp>(
      "func.func @main(%x: tensor<?x3xf32> {quench.name = \"x\"}) -> "
      "tensor<?x3xf32> { return %x : tensor<?x3xf32> }",
      model.module().getContext());
  auto main = module->lookupSymbol<func::FuncOp>("main");
  CalibrationData::Options options;
  auto load = [&](const HostTensor &tensor) {
    options.path = saved(tensor);
    return CalibrationData::load(main, "no/model.onnx", options);
  };
  auto data = load(HostTensor::ofFloats({2, 3}, {1, 2, 3, 4, 5, 6}));
  ASSERT_TRUE(bool(data)) << takeMessage(data.takeError());
  ASSERT_EQ(data->size(), 2);
  auto inputs = data->inputs(main, 1);
  ASSERT_TRUE(bool(inputs));
  EXPECT_EQ((*inputs)[0].getShape(), (ArrayRef<int64_t>{1, 3}));
  EXPECT_EQ((*inputs)[0].at(2), 6);

  auto wrong = load(HostTensor::ofFloats({2, 2}, {1, 2, 3, 4}));
  ASSERT_FALSE(bool(wrong));
  EXPECT_NE(takeMessage(wrong.takeError()).find("tensor<?x3xf32>"),
            std::string::npos);
  auto bad = load(HostTensor::ofFloats({2, 3}, {1, 2, 3, 4, NAN, 6}));
  ASSERT_FALSE(bool(bad));
  EXPECT_NE(takeMessage(bad.takeError()).find("sample 1 has the number NaN"),
            std::string::npos);
}
