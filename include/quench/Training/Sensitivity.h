//===- Sensitivity.h - What errors in layers cost ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A change E of a weight W changes the outputs of its layer by E x_t at token
// t, and the divergence of the model from itself, to second order, by
//
//   KL = 1/(2T) sum_t (g_t . E x_t)^2,                                    (1)
//
// the Fisher information: g_t is the gradient by the layer's output of the sum
// over all T tokens of -log p(label), labels drawn from the model itself.
// (Products of different tokens vanish in the mean but for their correlation
// inside of a sequence, which is left out.) Errors of quantization have no
// preferred direction among the n outputs, and are about as great, relative to
// the output W x_t, at every token. With
// loss = tr(E H E^T) / tr(W H W^T), H = sum_t x_t x_t^T:
//
//   KL = sensitivity * loss,
//   sensitivity = 1/(2T) sum_t |g_t|^2 |W x_t|^2 / n.                     (2)
//
// Both factors stay together in the sum: tokens with huge outputs (the first
// one of a sequence) often have tiny gradients.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TRAINING_SENSITIVITY_H
#define QUENCH_TRAINING_SENSITIVITY_H

#include "mlir/IR/BuiltinOps.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Support/HostTensor.h"
#include <functional>
#include <vector>

namespace quench {

class ModelFiles;

/// The inputs of @main for one sample.
using Sample = llvm::SmallVector<HostTensor>;

struct LayerSensitivity {
  qn::LinearOp op;
  /// KL of the model for each unit of the layer's loss, by (2); for models
  /// without logits the relative squared error of their results.
  double sensitivity = 0;
  /// The mean over tokens of g_o^2, for each output.
  std::vector<double> outputs;
  /// |g_t|^2 of each token (row of the layer's input), sample after sample, the
  /// mean over draws: weights of tokens for second moments that follow (1) more
  /// closely.
  std::vector<float> tokens;
};

struct SensitivityOptions {
  /// Labels are drawn so often for each sample.
  int64_t draws = 1;
  uint64_t seed = 1;
  /// Where the second moments of g_t, sum over tokens and draws of g g^T, are
  /// added for a layer: [n][n], zeros at first. Null: nowhere.
  std::function<float *(qn::LinearOp)> outputMoments;
  /// Memory for values between forward and backward.
  int64_t keptBytes = int64_t(2) << 30;
  /// Called with done and total samples.
  std::function<void(int64_t, int64_t)> progress;
};

/// All linear layers of @main whose weights are constant, in the function's
/// order, in the float model: formats of the module do not count. Errors: those
/// of running the model, an op without gradient.
llvm::Expected<std::vector<LayerSensitivity>>
layerSensitivities(mlir::ModuleOp module, ModelFiles &files,
                   llvm::ArrayRef<Sample> samples,
                   const SensitivityOptions &options = {});

} // namespace quench

#endif // QUENCH_TRAINING_SENSITIVITY_H
