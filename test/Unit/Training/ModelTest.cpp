//===- ModelTest.cpp - Gradients of a whole language model ------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Model.h"
#include "mlir/IR/BuiltinOps.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Interpreter/LanguageModel.h"
#include "quench/Training/Gradient.h"
#include "quench/Training/Loss.h"
#include "quench/Training/Sensitivity.h"
#include <cmath>

using namespace mlir;
using namespace quench;

namespace {
/// The gradient of the mean negative log-likelihood (nats) of the first 64
/// tokens of ref/in.input_ids.npy by one number, from an implementation in
/// NumPy (float64, central differences). Matrices are indexed as the ONNX file
/// stores them, [in, out]; the table counts for embedding and head.
struct Golden {
  const char *name;
  int64_t row, column; // column -1: a vector
  double gradient;
};
constexpr Golden golden[] = {
    {"model.layers.0.input_layernorm.weight", 3, -1, -8.54953778e-03},
    {"model.layers.4.post_attention_layernorm.weight", 60, -1, 7.69313556e-03},
    {"model.norm.weight", 10, -1, 8.97106561e-03},
    {"model.layers.0.self_attn.q_proj.weight_t", 5, 9, -1.26994052e-02},
    {"model.layers.1.self_attn.k_proj.weight_t", 17, 30, -2.13964446e-04},
    {"model.layers.2.self_attn.v_proj.weight_t", 1, 2, 1.05154671e-01},
    {"model.layers.3.self_attn.o_proj.weight_t", 40, 41, 1.06860780e-03},
    {"model.layers.0.mlp.gate_proj.weight_t", 63, 171, 3.61055741e-05},
    {"model.layers.2.mlp.up_proj.weight_t", 0, 100, 5.75871446e-02},
    {"model.layers.4.mlp.down_proj.weight_t", 150, 7, -1.58774591e-02},
    {"model.embed_tokens.weight", 378, 11, 1.09347368e-03},
};
constexpr double goldenLoss = 1.415631478;
} // namespace

/// Loss and gradients of all weights, by initializer name.
static double lossOf(TestModel &model, llvm::StringMap<HostTensor> &gradients,
                     int64_t keptBytes) {
  func::FuncOp function = model.main();
  Interpreter &interpreter = model.interpreter();
  std::vector<Operation *> ops = opsOf(function);
  SmallVector<Value> wanted;
  for (Operation *op : ops)
    if (isa<qn::WeightOp>(op))
      wanted.push_back(op->getResult(0));
  std::vector<size_t> cuts = blockCuts(ops);
  EXPECT_EQ(cuts.size(), 4u);
  GradientTape tape(interpreter, ops, cuts, wanted, keptBytes);
  std::vector<int64_t> ids = model.tokens(64);
  auto inputs = llvm::cantFail(languageModelInputs(function, ids));
  Interpreter::Values values;
  llvm::cantFail(interpreter.begin("main", inputs, values));
  llvm::cantFail(tape.forward(values));
  Value result = function.getBody().front().getTerminator()->getOperand(
      llvm::cantFail(logitsResult(function)));
  HostTensor logits = llvm::cantFail(tape.output(result));
  EXPECT_EQ(logits.getNumElements(), 64 * 512);
  // The last token predicts nothing.
  HostTensor first =
      HostTensor::view(ElementKind::F32, {63, 512}, logits.raw(), nullptr);
  Loss loss = llvm::cantFail(crossEntropy(first, ArrayRef(ids).drop_front()));
  HostTensor gradient =
      llvm::cantFail(HostTensor::allocate(ElementKind::F32, logits.getShape()));
  std::fill_n(gradient.mutableData<float>(), 64 * 512, 0.0f);
  std::copy_n(loss.gradient.data<float>(), 63 * 512,
              gradient.mutableData<float>());
  llvm::cantFail(tape.backward({{result, gradient}}, [&](Value value,
                                                         HostTensor g) {
    auto leaf = value.getDefiningOp<qn::WeightOp>();
    HostTensor &place =
        gradients[(leaf.getInitializer() + (leaf.getTranspose() ? "^T" : ""))
                      .str()];
    EXPECT_FALSE(static_cast<bool>(place));
    place = g;
    return llvm::Error::success();
  }));
  return loss.value;
}

TEST(ModelGradients, AgreeWithNumPy) {
  auto model = TestModel::load("models/llm-stories260k");
  if (!model)
    GTEST_SKIP() << "no shared models";
  // Once with all values kept, once with each block run again.
  for (int64_t kept : {int64_t(1) << 30, int64_t(0)}) {
    llvm::StringMap<HostTensor> gradients;
    EXPECT_NEAR(lossOf(*model, gradients, kept), goldenLoss, 1e-5);
    for (const Golden &one : golden) {
      double found = 0;
      bool any = false;
      StringRef name = one.name;
      std::string transposed = one.name + std::string("^T");
      if (HostTensor g = gradients.lookup(name)) {
        found +=
            g.at(one.column < 0 ? one.row : one.row * g.dim(1) + one.column);
        any = true;
      }
      if (HostTensor g = gradients.lookup(transposed)) {
        found += g.at(one.column * g.dim(1) + one.row);
        any = true;
      }
      if (HostTensor g = gradients.lookup("lm_head.weight_t^T");
          g && name == "model.embed_tokens.weight")
        found += g.at(one.row * g.dim(1) + one.column);
      EXPECT_TRUE(any) << one.name;
      EXPECT_NEAR(found, one.gradient, 2e-5 + 1e-3 * std::fabs(one.gradient))
          << one.name;
    }
  }
}
