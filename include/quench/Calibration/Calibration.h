//===- Calibration.h - Quantizing a model with second moments ---*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_CALIBRATION_CALIBRATION_H
#define QUENCH_CALIBRATION_CALIBRATION_H

#include "quench/Calibration/Data.h"
#include "quench/Quantization/PackedWeight.h"
#include "quench/Training/Tune.h"
#include <functional>

namespace quench {

class ModelFiles;

struct CalibrationOptions {
  /// What the model is run on; without a path there is no calibration.
  CalibrationData::Options data;
  /// Inputs of the float model instead of what quantized layers deliver.
  bool floatInputs = false;
  /// Layers are to give on their inputs what the float model's layers give on
  /// theirs, instead of what their own weights would: errors of layers before
  /// are made good for. Twice the time. Not with floatInputs.
  bool floatTargets = false;
  /// Each row of a layer's input counts by the squared gradient of the float
  /// model's loss by the layer's output there (Sensitivity.h): errors are kept
  /// small where they matter. One run forward and backward more.
  bool gradientWeights = false;
  /// Where finished weights are kept: a folder for each model, recipe, data and
  /// program lies in it. Empty: the user's cache folder.
  std::string cache;
  /// Steps of tuning on the same samples, after all weights are quantized
  /// (Tune.h); threads and progress are those below.
  TuneOptions tuning;
  /// Goes on with an unfinished run; otherwise it is begun anew. Finished runs
  /// are used in any case.
  bool resume = false;
  int threads = 1;
  /// Called with the step ("calibrate", "gradients", "tune"), the layer's name,
  /// done and total work.
  std::function<void(llvm::StringRef step, llvm::StringRef name, int64_t done,
                     int64_t total)>
      progress;
};

/// What came of quantizeModel.
struct CalibratedWeights {
  /// The quantized weights; never null.
  std::unique_ptr<WeightSource> weights;
  std::string folder; // of the run; empty: there is none
  int64_t samples = 0, tokens = 0;
  bool reused = false; // all were there from a run before
  TuneReport tuning;   // without steps: nothing
  /// What is odd about data and layers.
  std::vector<std::string> notes;
};

/// The weights of a module with formats (quantize ops) in @main, quantized in
/// the order of a run over the samples. Without data: no weights, which is an
/// error if a quantizer needs second moments (it names the quantizer, and what
/// to give).
llvm::Expected<CalibratedWeights>
quantizeModel(mlir::ModuleOp module, ModelFiles &files,
              const CalibrationOptions &options);

/// InterpreterOptions::quantized for weights of a source. Both must outlive it.
std::function<llvm::Expected<HostTensor>(mlir::Value)>
weightsOf(WeightSource &source, int threads);

} // namespace quench

#endif // QUENCH_CALIBRATION_CALIBRATION_H
