//===- Parameters.h - Numbers that are tuned --------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_TRAINING_PARAMETERS_H
#define QUENCH_LIB_TRAINING_PARAMETERS_H

#include "OpGradient.h"
#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "quench/Quantization/PackedWeight.h"
#include "quench/Training/Adam.h"

namespace quench {

/// Some numbers of the model and the values of the IR they decide about.
class Parameters {
public:
  virtual ~Parameters();
  /// Values whose gradients are asked for.
  virtual llvm::ArrayRef<mlir::Value> wanted() const = 0;
  /// Adds what the gradient of a wanted value says; `tape` gives values of the
  /// run.
  virtual llvm::Error add(GradientTape &tape, mlir::Value value,
                          const HostTensor &gradient) = 0;
  /// Moves the numbers against the gradient, which is 0 afterwards.
  virtual void step(double rate) = 0;
  /// Lets the interpreter run with the numbers as they are now.
  virtual llvm::Error set(Interpreter &interpreter) = 0;
  /// Rounds the numbers to what can be stored; back to those at the begin.
  virtual llvm::Error round() = 0;
  virtual void undo() = 0;
  virtual int64_t size() const = 0;
};

/// The scales of a quantized weight: factors of its groups, rows, or of all of
/// it, whichever its format can store.
class ScaleParameters : public Parameters {
public:
  /// Null: the format has no scale that can be tuned, or it is a power of two.
  static llvm::Expected<std::unique_ptr<ScaleParameters>>
  create(mlir::Value weight, std::shared_ptr<const PackedWeight> packed,
         int threads);

  llvm::ArrayRef<mlir::Value> wanted() const override { return values; }
  llvm::Error add(GradientTape &tape, mlir::Value value,
                  const HostTensor &gradient) override;
  void step(double rate) override;
  llvm::Error set(Interpreter &interpreter) override;
  llvm::Error round() override;
  void undo() override;
  int64_t size() const override { return logs.size(); }

  mlir::Value weight() const { return value; }
  /// With the numbers of the last round().
  std::shared_ptr<const PackedWeight> result() const { return packed; }

private:
  ScaleParameters() : adam(0) {}
  llvm::Expected<HostTensor> scaled() const;

  mlir::Value value;
  llvm::SmallVector<mlir::Value, 2> values; // the weight, or layers' results
  std::shared_ptr<const PackedWeight> original, packed;
  HostTensor base;        // numbers of the codes with the first scales
  HostTensor rounded;     // after round()
  int64_t group = 0;      // columns of a factor; 0: one for everything
  int64_t perRow = 0;     // factors of a row
  bool byOutputs = false; // gradients come from the layers' results
  int threads = 1;
  std::vector<float> logs, gradient;
  Adam adam;
};

/// A vector that is stored as it is: the gain of a norm, a bias.
class VectorParameters : public Parameters {
public:
  VectorParameters(qn::WeightOp leaf, qn::InitializerOp initializer,
                   HostTensor numbers);

  llvm::ArrayRef<mlir::Value> wanted() const override { return values; }
  llvm::Error add(GradientTape &tape, mlir::Value value,
                  const HostTensor &gradient) override;
  void step(double rate) override;
  llvm::Error set(Interpreter &interpreter) override;
  llvm::Error round() override;
  void undo() override;
  int64_t size() const override { return moves.size(); }

  void addUse(mlir::Value value) { values.push_back(value); }
  /// Writes the numbers into the module.
  llvm::Error write();

private:
  HostTensor numbers() const;

  qn::InitializerOp initializer;
  llvm::SmallVector<mlir::Value, 2> values;
  HostTensor base;
  float unit = 1; // root mean square at the begin
  std::vector<float> moves, gradient;
  Adam adam;
};

} // namespace quench

#endif // QUENCH_LIB_TRAINING_PARAMETERS_H
