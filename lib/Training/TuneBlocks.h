//===- TuneBlocks.h - Tuning block by block ---------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_TRAINING_TUNEBLOCKS_H
#define QUENCH_LIB_TRAINING_TUNEBLOCKS_H

#include "Parameters.h"
#include "quench/Training/Tune.h"

namespace quench {

/// What is tuned against what.
struct BlockTuning {
  Interpreter &student, &teacher;
  OpRun ops;                   // of @main, up to the last block's end
  llvm::ArrayRef<size_t> cuts; // between blocks
  llvm::ArrayRef<Sample> samples;
  llvm::ArrayRef<std::unique_ptr<Parameters>> parameters;
  const TuneOptions &options;
};

/// One block after the other, from the first on: Adam on rowErrors() of what
/// the block gives to later ones, against the float model's block. Each reads
/// what the blocks before it, tuned already, deliver; the float model's reads
/// what the float model does. Numbers that blocks share stay as they are.
/// Errors: those of running the model, an op without gradient.
llvm::Error tuneBlocks(const BlockTuning &task);

} // namespace quench

#endif // QUENCH_LIB_TRAINING_TUNEBLOCKS_H
