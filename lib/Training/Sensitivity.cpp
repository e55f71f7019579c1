//===- Sensitivity.cpp - What errors in layers cost -------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Training/Sensitivity.h"
#include "OpGradient.h"
#include "quench/Training/Loss.h"
#include <cblas.h>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

/// Adds what the rows of one layer say, those of `tokens` from `first` on.
/// `bias` is not a part of W x.
static void addRows(LayerSensitivity &layer, const HostTensor &output,
                    const HostTensor &gradient, const float *bias, size_t first,
                    double &product) {
  int64_t n = output.dim(output.getRank() - 1);
  int64_t rows = n ? output.getNumElements() / n : 0;
  layer.outputs.resize(n, 0);
  layer.tokens.resize(first + rows, 0);
  for (int64_t r = 0; r < rows; ++r) {
    const float *y = output.data<float>() + r * n;
    const float *g = gradient.data<float>() + r * n;
    double squareY = 0, squareG = 0;
    for (int64_t o = 0; o < n; ++o) {
      double value = double(y[o]) - (bias ? bias[o] : 0);
      squareY += value * value;
      squareG += double(g[o]) * g[o];
      layer.outputs[o] += double(g[o]) * g[o];
    }
    layer.tokens[first + r] += static_cast<float>(squareG);
    product += squareG * squareY / n;
  }
}

/// Adds sum over rows of g g^T to the upper triangle.
static void addMoments(const HostTensor &gradient, float *moments) {
  int64_t n = gradient.dim(gradient.getRank() - 1);
  cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, n,
              n ? gradient.getNumElements() / n : 0, 1.0f,
              gradient.data<float>(), n, 1.0f, moments, n);
}

Expected<std::vector<LayerSensitivity>>
quench::layerSensitivities(ModuleOp module, ModelFiles &files,
                           ArrayRef<Sample> samples,
                           const SensitivityOptions &options) {
  auto function = module.lookupSymbol<func::FuncOp>("main");
  if (!function)
    return createStringError("the module has no function 'main'");
  QUENCH_TRY(objective, Objective::of(function));
  InterpreterOptions running;
  running.files = &files;
  QUENCH_TRY(plain, Interpreter::create(module, running));
  running.floatActivations = true;
  running.quantized = [&](Value value) {
    return plain.evaluateWeight(
        value.getDefiningOp<qn::QuantizeOp>().getInput());
  };
  QUENCH_TRY(interpreter, Interpreter::create(module, running));

  std::vector<LayerSensitivity> layers;
  llvm::DenseMap<Value, size_t> layerOf;
  SmallVector<Value> wanted;
  std::vector<Operation *> ops = opsOf(function);
  for (Operation *op : ops) {
    auto linear = dyn_cast<qn::LinearOp>(op);
    if (!linear || !interpreter.isWeight(linear.getWeight()))
      continue;
    layerOf[linear.getResult()] = layers.size();
    layers.emplace_back().op = linear;
    wanted.push_back(linear.getResult());
  }
  std::vector<size_t> cuts = blockCuts(ops);
  GradientTape tape(interpreter, ops, cuts, wanted, options.keptBytes);
  ValueRange results =
      function.getBody().front().getTerminator()->getOperands();
  std::vector<double> products(layers.size(), 0);
  std::vector<size_t> firsts(layers.size(), 0);
  double tokens = 0, draws = std::max<int64_t>(1, options.draws);
  for (auto [s, sample] : llvm::enumerate(samples)) {
    for (auto [first, layer] : llvm::zip(firsts, layers))
      first = layer.tokens.size();
    for (int64_t draw = 0; draw < draws; ++draw) {
      Interpreter::Values values;
      QUENCH_CHECK(interpreter.begin("main", sample, values));
      QUENCH_CHECK(tape.forward(std::move(values)));
      SmallVector<std::pair<Value, HostTensor>> seeds;
      uint64_t seed = options.seed + 1000003 * (s + samples.size() * draw);
      for (unsigned i : objective.results) {
        QUENCH_TRY(output, tape.output(results[i]));
        QUENCH_TRY(floats, output.convertTo(ElementKind::F32));
        QUENCH_TRY(gradient, objective.sample(floats, seed++));
        if (objective.logits)
          tokens += floats.getNumElements() /
                    std::max<int64_t>(1, floats.dim(floats.getRank() - 1));
        seeds.push_back({results[i], std::move(gradient)});
      }
      if (!objective.logits)
        ++tokens;
      QUENCH_CHECK(
          tape.backward(seeds, [&](Value value, HostTensor gradient) -> Error {
            size_t at = layerOf.lookup(value);
            QUENCH_TRY(held, tape.value(value));
            QUENCH_TRY(output, held.convertTo(ElementKind::F32));
            HostTensor bias;
            if (Value added = layers[at].op.getBias()) {
              QUENCH_TRY(raw, tape.value(added));
              QUENCH_TRY(numbers, raw.convertTo(ElementKind::F32));
              bias = std::move(numbers);
            }
            if (options.outputMoments)
              if (float *moments = options.outputMoments(layers[at].op))
                addMoments(gradient, moments);
            addRows(layers[at], output, gradient,
                    bias ? bias.data<float>() : nullptr, firsts[at],
                    products[at]);
            return Error::success();
          }));
    }
    if (options.progress)
      options.progress(s + 1, samples.size());
  }
  for (auto [layer, product] : llvm::zip(layers, products)) {
    int64_t n = layer.outputs.size();
    if (options.outputMoments)
      if (float *moments = options.outputMoments(layer.op))
        for (int64_t i = 0; i < n; ++i)
          for (int64_t j = 0; j < i; ++j)
            moments[i * n + j] = moments[j * n + i];
    layer.sensitivity = tokens ? 0.5 * product / tokens : 0;
    for (double &square : layer.outputs)
      square /= draws * layer.tokens.size();
    for (float &square : layer.tokens)
      square /= draws;
  }
  return layers;
}
