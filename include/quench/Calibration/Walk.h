//===- Walk.h - Layers and their inputs, in the order of a run --*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Runs a model over calibration samples, from one place where linear layers
// read an input (a site) to the next. At a site all samples have arrived: the
// statistics of the input are known, and a visitor may replace the weights of
// the layers that read it before the samples go on. What lives between two
// sites (the residual stream and the like) lies in files: memory holds a few
// samples, one site's second moments and the weights between two sites.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_CALIBRATION_WALK_H
#define QUENCH_CALIBRATION_WALK_H

#include "quench/Calibration/Data.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include <functional>

namespace quench {

class ModelFiles;

/// Statistics of one input of linear layers, over all rows of all samples.
struct InputMoments {
  int64_t cols = 0;    // channels
  int64_t count = 0;   // rows that were summed
  int64_t skipped = 0; // rows with numbers above 1e15 or not finite
  /// Sum of x x^T, [cols][cols], symmetric. Products of 512 rows at most are
  /// summed in f32, these sums in double.
  std::vector<double> second;
  std::vector<double> mean;   // of each channel
  std::vector<float> maximum; // of |x| in each channel
};

/// One weight that linear layers read.
class LayerProblem {
public:
  virtual ~LayerProblem();

  /// The first layer that reads it.
  qn::LinearOp op;
  /// The weight as the layer reads it, and below a quantize op, if there is
  /// one.
  mlir::Value weight, source;
  std::string name;  // of the ONNX node
  std::string role;  // "q", "down", ..., "other"
  int64_t block = 0; // -1: none
  int64_t rows = 0, cols = 0;

  /// The numbers of `source`, [rows][cols]; valid during the visit.
  virtual llvm::Expected<const float *> values() = 0;
  /// Statistics of the layer's input, before it is quantized; computed at the
  /// first call for a site, valid during the visit. Where no row is finite all
  /// of them are 0.
  virtual llvm::Expected<const InputMoments *> inputs() = 0;
  /// With WalkOptions::pairInputs: sum of x' x^T, [cols][cols], over the rows
  /// of inputs(), where x' is what the float model has in place of x. Empty:
  /// rows were left out. Valid during the visit.
  virtual llvm::Expected<llvm::ArrayRef<double>> pairedInputs() = 0;
};

struct WalkOptions {
  int threads = 1;
  /// Samples go on with the weights as they are and unrounded activations: each
  /// site sees what the float model gives it. Otherwise they go on with what
  /// the visitor gives.
  bool floatInputs = false;
  /// The float model goes along, so that its inputs can be compared: twice the
  /// time and files. Not with floatInputs.
  bool pairInputs = false;
  /// Which layers are visited; null: all with a constant weight.
  std::function<bool(qn::LinearOp)> layers;
  /// Gives the numbers of quantized weights that are not visited; null: they
  /// are rounded to nearest.
  std::function<llvm::Expected<HostTensor>(mlir::Value)> quantized;
  /// Weights of the rows of a layer's input, all samples one after the other:
  /// its second moments count them so often. Null or empty: each counts once,
  /// and layers that read one input share its moments.
  std::function<llvm::ArrayRef<float>(qn::LinearOp)> rowWeights;
  /// A folder for what lives between sites; empty: a temporary one, removed at
  /// the end. In one that is given, a walk that was killed leaves files with
  /// which `resume` goes on at its last site; the end removes them.
  std::string folder;
  bool resume = false;
  /// Called with the layer's name, done and total work.
  std::function<void(llvm::StringRef, int64_t, int64_t)> progress;
};

/// Called for each weight in the order of the run; layers that share an input
/// or a weight come at the first of them. The result, if any, takes the place
/// of the weight: [rows][cols] of f32. With `resume`, weights of sites that are
/// passed come again only where later layers read them.
using LayerVisitor =
    std::function<llvm::Expected<HostTensor>(LayerProblem &problem)>;

/// Visits the layers of @main. Linear layers in loops and called functions are
/// not visited. Errors: those of the visitor, of running the model (they name
/// the sample), of files.
llvm::Error walkLayers(mlir::ModuleOp module, ModelFiles &files,
                       const CalibrationData &data, const WalkOptions &options,
                       const LayerVisitor &visit);

} // namespace quench

#endif // QUENCH_CALIBRATION_WALK_H
