//===- Tune.h - Tuning what stays continuous --------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// After quantization codes stay as they are, but scales of groups, rows and
// whole weights, float zero points, learned codebooks, gains of norms and
// biases are real numbers. They are tuned block by block, for the least error
// of what each block delivers, and then end to end: Adam on the model's own
// loss (Objective) against the float model, with gradients of GradientTape.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TRAINING_TUNE_H
#define QUENCH_TRAINING_TUNE_H

#include "quench/Quantization/PackedWeight.h"
#include "quench/Training/Sensitivity.h"

namespace quench {

struct TuneOptions {
  /// Steps of Adam on the whole model; 0: none.
  int64_t steps = 0;
  /// Steps on each block before that, on this many samples at most, in turns.
  int64_t blockSteps = 0, blockSamples = 16;
  bool any() const { return steps > 0 || blockSteps > 0; }
  /// Samples of a step.
  int64_t batch = 1;
  /// Adam's step where the loss at the begin is 1; it goes with the root of the
  /// loss (at most twice), as errors of scales do, and falls to a tenth along a
  /// cosine. For logarithms of scales, zero points in steps of the codes, and
  /// vectors of codebooks, gains and biases relative to their root mean square
  /// (biases that were added: of the layer's outputs).
  double rate = 4e-3;
  bool scales = true, gains = true, biases = true;
  /// Norms without a gain (a rotation moved it into the layers behind) get one;
  /// quantized layers without a bias get one; so do maps on line in front of
  /// quantized layers, for each number they read: the sign vectors of QuIP#
  /// (arXiv 2402.04396, section 5), all of them 1 before. Stored in f32.
  bool newGains = true, newBiases = false, newSigns = false;
  /// Memory for values between forward and backward, and as much again for
  /// what is kept of the float model.
  int64_t keptBytes = int64_t(2) << 30;
  int threads = 1;
  /// Called with what is done now, done and total steps.
  std::function<void(llvm::StringRef, int64_t, int64_t)> progress;
};

struct TuneReport {
  /// The loss of samples that were kept apart (with fewer than two samples: of
  /// the only one), before and after; after includes the rounding of scales.
  double before = 0, after = 0;
  /// The same between the blocks' steps and the model's.
  std::optional<double> afterBlocks;
  int64_t numbers = 0; // that were tuned
  /// Of each step, on its sample, before the step.
  std::vector<double> losses;
  /// Tuning made the loss greater and was undone.
  bool undone = false;
};

/// Tunes the quantized weights of @main that `source` has, or that are rounded
/// to nearest. Gives a source with the tuned ones and those of `source`; gains
/// and biases become new numbers of the module's initializers. Errors: those of
/// running the model, an op without gradient, no samples.
llvm::Expected<std::unique_ptr<WeightSource>>
tuneModel(mlir::ModuleOp module, ModelFiles &files,
          llvm::ArrayRef<Sample> samples, std::unique_ptr<WeightSource> source,
          const TuneOptions &options, TuneReport &report);

} // namespace quench

#endif // QUENCH_TRAINING_TUNE_H
