//===- Program.h - The description of a compiled model ----------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the runtime is told about generated code, in plain values; emitProgram
// writes it into the module as the constant `quench_program` of
// Runtime/Program.h. It is the only place that knows that struct's layout.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TARGET_CPU_PROGRAM_H
#define QUENCH_TARGET_CPU_PROGRAM_H

#include "llvm/Support/Error.h"
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace llvm {
class Module;
} // namespace llvm

namespace quench {

/// A dimension: constant + sum of factor * symbol.
struct ProgramDim {
  int64_t constant = 0;
  /// (symbol, factor).
  std::vector<std::pair<int64_t, int64_t>> terms;

  static ProgramDim fixed(int64_t value) { return {value, {}}; }
  static ProgramDim symbol(int64_t index) { return {0, {{index, 1}}}; }
};

struct ProgramTensor {
  std::string name;
  /// ONNX's TensorProto.DataType.
  int32_t type = 1;
  std::vector<ProgramDim> dims;
};

/// A function of the module that the runtime calls.
struct ProgramFunction {
  /// For messages.
  std::string name;
  /// Names of LLVM functions: void (ptr frame, i64 worker, i64 workers), and
  /// i64 (ptr symbols); the second may be empty: no scratch is needed.
  std::string entry, arenaBytes;
  std::vector<ProgramTensor> inputs, outputs;
};

struct ProgramDescription {
  /// Symbols of main, all bound by its inputs' shapes.
  std::vector<std::string> symbols;
  /// May have an empty `entry`: then quench_run is an error.
  ProgramFunction main;
  /// Of a model with state. Their symbols are sequence, past, capacity, keep;
  /// inputs and outputs may be left empty.
  std::optional<ProgramFunction> decode, prefill;
  /// LLVM function i64 (ptr symbols); required with decode or prefill.
  std::string stateBytes;
  /// See quench_rt_program.
  int64_t stateSlabs = 0, stateRowBytes = 0, maxPositions = 0, vocabulary = 0,
          prefillChunk = 0;
  /// What WeightsObject::finish returned, or all zero.
  int64_t weightsBytes = 0;
  uint64_t weightsHash = 0;
  /// Base name of the file of weights beside; empty: they are linked in.
  std::string weightsFile;
  /// CPUTarget::requiredList().
  std::string cpuFeatures;
  std::string metadataJSON = "{}";
};

/// Adds `quench_program` to a module and hides all of the module's other
/// definitions. Fails if a named function is missing, or a symbol is out of
/// range.
llvm::Error emitProgram(llvm::Module &module,
                        const ProgramDescription &program);

} // namespace quench

#endif // QUENCH_TARGET_CPU_PROGRAM_H
