//===- Models.h - Small models and their mathematics ------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TEST_UNIT_CALIBRATION_MODELS_H
#define QUENCH_TEST_UNIT_CALIBRATION_MODELS_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "quench/Calibration/Walk.h"
#include "quench/Support/ModelFiles.h"
#include "gtest/gtest.h"

namespace calibration {

/// Row-major [rows][cols].
struct Matrix {
  int64_t rows = 0, cols = 0;
  std::vector<double> v;
  double &at(int64_t r, int64_t c) { return v[r * cols + c]; }
  double at(int64_t r, int64_t c) const { return v[r * cols + c]; }
};

/// Token ids -> table -> two blocks of
///   h = x + relu(x Wa^T) Wb^T,  h Wc^T and h Wd^T are results.
/// Weights have numbers from a seed. `quantizer`: of all layers ("" for none),
/// in groups of 8 of 4 bits. With `tied`, a1 is a0.
class TwoBlocks {
public:
  static constexpr int64_t kVocabulary = 19, kWidth = 24, kInner = 40;

  explicit TwoBlocks(llvm::StringRef quantizer = "", bool tied = false);

  mlir::ModuleOp module() { return *owned; }
  mlir::func::FuncOp main() {
    return owned->lookupSymbol<mlir::func::FuncOp>("main");
  }
  quench::ModelFiles &files() { return modelFiles; }
  /// "a0", "b0", "c0", "d0", "a1", ...
  const Matrix &weight(llvm::StringRef name) const {
    return weights.find(name)->second;
  }

  /// Inputs of the layers, all rows of all samples, by the layer's name;
  /// weights in `replaced` are used instead of those of the model.
  std::map<std::string, Matrix>
  inputs(llvm::ArrayRef<std::vector<int64_t>> samples,
         const std::map<std::string, Matrix> &replaced = {}) const;

private:
  std::map<std::string, Matrix, std::less<>> weights;
  std::string bytes;
  quench::ModelFiles modelFiles;
  mlir::OwningOpRef<mlir::ModuleOp> owned;
};

/// Samples of different lengths.
std::vector<std::vector<int64_t>> someTokens(int64_t count, int64_t length);

std::string takeMessage(llvm::Error error);

/// A new folder, removed at the end.
struct TemporaryFolder {
  TemporaryFolder();
  ~TemporaryFolder();
  std::string path;
};

/// Names of the files of a folder and their contents.
std::map<std::string, std::string> filesOf(llvm::StringRef folder);

} // namespace calibration

#endif // QUENCH_TEST_UNIT_CALIBRATION_MODELS_H
