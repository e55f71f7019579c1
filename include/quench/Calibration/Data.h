//===- Data.h - What a model is calibrated on -------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_CALIBRATION_DATA_H
#define QUENCH_CALIBRATION_DATA_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "quench/Support/HostTensor.h"
#include <string>
#include <vector>

namespace quench {

/// Samples that a model is run on. Each is a text of its own.
class CalibrationData {
public:
  struct Options {
    std::string path;
    std::string tokenizer;  // a tokenizer.json; empty: the one beside the model
    int64_t maxSamples = 0; // 0: all
    int64_t context = 512;  // the most tokens of a sample
  };

  /// Reads the samples for the function `main` of the model at `model`.
  ///
  /// .npy: token ids, [n] (cut into windows) or [samples, tokens]; or, for a
  /// model with one input of floats, that input, its samples along the first
  /// dimension. Anything else is a text: cut into whole windows of `context`
  /// tokens for language models, one sentence a line for encoders.
  ///
  /// Errors name the file, what was found and what would be accepted: no
  /// sample at all, ids outside of the vocabulary, one token only, numbers
  /// that are not finite.
  static llvm::Expected<CalibrationData>
  load(mlir::func::FuncOp main, llvm::StringRef model, const Options &options);
  /// The same samples from memory; `name` is for messages.
  static llvm::Expected<CalibrationData>
  ofTokens(mlir::func::FuncOp main, std::vector<std::vector<int64_t>> rows,
           llvm::StringRef name);

  int64_t size() const { return rows.empty() ? tensors.size() : rows.size(); }
  /// Tokens of all samples; samples, where they are no tokens.
  int64_t tokens() const;
  /// All inputs of the function for one sample.
  llvm::Expected<llvm::SmallVector<HostTensor>> inputs(mlir::func::FuncOp main,
                                                       int64_t sample) const;
  /// A text that is equal for equal samples.
  std::string fingerprint() const;
  /// What is odd about the data, but does not keep it from being used.
  std::vector<std::string> notes;
  /// Token ids of each sample; empty for a model without tokens.
  llvm::ArrayRef<std::vector<int64_t>> tokenRows() const { return rows; }

private:
  llvm::Error check(mlir::func::FuncOp main, llvm::StringRef name);

  std::vector<std::vector<int64_t>> rows;
  std::vector<HostTensor> tensors;
};

/// Whether the function predicts tokens from those before: causal attention,
/// caches, or a result named `logits`.
bool isLanguageModel(mlir::func::FuncOp main);

} // namespace quench

#endif // QUENCH_CALIBRATION_DATA_H
