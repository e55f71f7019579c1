//===- Simulate.h - Noise in the place of quantization ----------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_BITBUDGET_SIMULATE_H
#define QUENCH_LIB_BITBUDGET_SIMULATE_H

#include "quench/Calibration/Data.h"
#include "quench/Interpreter/Interpreter.h"
#include "quench/Training/Loss.h"
#include "llvm/ADT/DenseMap.h"

namespace quench {

class ModelFiles;

/// Runs @main with noise on the results of layers.
class NoiseRunner {
public:
  /// The module, files and data must outlive the runner.
  static llvm::Expected<NoiseRunner> create(mlir::ModuleOp module,
                                            ModelFiles &files,
                                            const CalibrationData &data,
                                            int64_t samples);

  /// The mean over the samples of the divergence from the model without noise.
  /// `noise` says for linear and embedding ops the mean squared size of the
  /// noise relative to the result (without bias), for each token; it is normal
  /// and equally great in all channels.
  llvm::Expected<double>
  run(const llvm::DenseMap<mlir::Operation *, double> &noise);

private:
  NoiseRunner(Interpreter interpreter, mlir::func::FuncOp main,
              const CalibrationData &data, Objective objective)
      : interpreter(std::move(interpreter)), main(main), data(data),
        objective(std::move(objective)) {}
  llvm::Expected<llvm::SmallVector<HostTensor>>
  outputs(int64_t sample,
          const llvm::DenseMap<mlir::Operation *, double> &noise);

  Interpreter interpreter;
  mlir::func::FuncOp main;
  const CalibrationData &data;
  Objective objective;
  std::vector<llvm::SmallVector<HostTensor>> references; // of each sample
};

} // namespace quench

#endif // QUENCH_LIB_BITBUDGET_SIMULATE_H
