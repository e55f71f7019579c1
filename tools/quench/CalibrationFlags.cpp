//===- CalibrationFlags.cpp - Options of calibration ----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CalibrationFlags.h"

using namespace llvm;
using namespace quench;

CalibrationFlags::CalibrationFlags(cl::SubCommand &command)
    : data("calib", cl::value_desc("FILE"), cl::sub(command),
           cl::desc("Calibrate on this file: a text, or .npy of token ids "
                    "[samples,tokens] or of the model's input; encoders read "
                    "one sentence a line")),
      samples("calib-samples", cl::init(64), cl::value_desc("N"),
              cl::sub(command),
              cl::desc("The most samples, from the file's begin on (default "
                       "64; 0: all)")),
      context("calib-context", cl::init(512), cl::value_desc("N"),
              cl::sub(command),
              cl::desc("Tokens of a sample (default 512); sentences may be "
                       "shorter")),
      tune("tune", cl::init(0), cl::value_desc("STEPS"), cl::sub(command),
           cl::desc("After quantizing, tune scales, zero points, codebooks, "
                    "gains and biases against the float model in so many "
                    "steps, one sample each (default 0: none)")),
      tuneBlocks("tune-blocks", cl::init(0), cl::value_desc("STEPS"),
                 cl::sub(command),
                 cl::desc("Before --tune, tune each block in so many steps for "
                          "the least error of what it delivers (default 0: "
                          "none)")),
      inputs("calib-inputs", cl::init("quantized"), cl::value_desc("KIND"),
             cl::sub(command),
             cl::desc("What layers are calibrated on: what the quantized "
                      "layers before them deliver (quantized, the default) or "
                      "what the float model does (float)")),
      targets("calib-targets", cl::init("own"), cl::value_desc("KIND"),
              cl::sub(command),
              cl::desc("What layers are to deliver on these inputs: what their "
                       "own weights do (own, the default), or what the float "
                       "model's layers do on theirs (float): twice the time")),
      weights("calib-weights", cl::init("equal"), cl::value_desc("KIND"),
              cl::sub(command),
              cl::desc("How much each token counts in second moments: equal "
                       "(default), or gradient: as its errors cost by the "
                       "model's gradients")),
      cache("cache", cl::value_desc("DIR"), cl::sub(command),
            cl::desc("Keep quantized weights in this folder; by default "
                     "quench in the user's cache folder")),
      resume("resume", cl::sub(command),
             cl::desc("Go on where a calibration was interrupted")) {}

std::string CalibrationFlags::check() const {
  if (inputs != "quantized" && inputs != "float")
    return "--calib-inputs " + inputs + ": quantized or float is accepted";
  if (targets != "own" && targets != "float")
    return "--calib-targets " + targets + ": own or float is accepted";
  if (targets == "float" && inputs == "float")
    return "--calib-targets float and --calib-inputs float say the same twice: "
           "layers have one of them";
  if (weights != "equal" && weights != "gradient")
    return "--calib-weights " + weights + ": equal or gradient is accepted";
  if (tune < 0 || tuneBlocks < 0)
    return "--tune and --tune-blocks are not negative";
  if (data.empty() && (tune > 0 || tuneBlocks > 0))
    return "--tune and --tune-blocks need --calib";
  if (samples < 0)
    return "--calib-samples is not negative";
  if (context < 1)
    return "--calib-context is at least 1";
  if (data.empty() && resume)
    return "--resume needs --calib";
  return "";
}

CalibrationOptions CalibrationFlags::options() const {
  CalibrationOptions options;
  options.data.path = data;
  options.data.maxSamples = samples;
  options.data.context = context;
  options.floatInputs = inputs == "float";
  options.tuning.steps = tune;
  options.tuning.blockSteps = tuneBlocks;
  options.floatTargets = targets == "float";
  options.gradientWeights = weights == "gradient";
  options.cache = cache;
  options.resume = resume;
  return options;
}
