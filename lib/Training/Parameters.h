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
  /// Rounds the numbers to what can be stored.
  virtual llvm::Error round() = 0;
  virtual int64_t size() const = 0;
};

/// What is continuous in a quantized weight: logarithms of factors of its
/// scales (of groups, rows, or of all of it, whichever its format stores),
/// float zero points, the learned vectors of its codebook.
class WeightParameters : public Parameters {
public:
  /// Null: the format stores none of them, or its scales are bytes.
  static llvm::Expected<std::unique_ptr<WeightParameters>>
  create(mlir::Value weight, std::shared_ptr<const PackedWeight> packed,
         int threads);

  llvm::ArrayRef<mlir::Value> wanted() const override { return values; }
  llvm::Error add(GradientTape &tape, mlir::Value value,
                  const HostTensor &gradient) override;
  void step(double rate) override;
  llvm::Error set(Interpreter &interpreter) override;
  llvm::Error round() override;
  int64_t size() const override { return moves.size(); }

  /// The weight as the numbers are now, [rows][cols].
  llvm::Expected<HostTensor> weight() const;
  /// How far each number has moved, and the gradient by that.
  llvm::MutableArrayRef<float> numbers() { return moves; }
  llvm::ArrayRef<float> gradients() const { return gradient; }
  /// With the numbers of the last round().
  std::shared_ptr<const PackedWeight> result() const { return packed; }

private:
  WeightParameters() : adam(0) {}
  void addOutputs(const HostTensor &y, const HostTensor &bias,
                  const HostTensor &dy);
  void addVectors(const float *dw);
  std::vector<float> movedVectors() const;
  /// The number of a column's group among all groups.
  int64_t groupOf(int64_t row, int64_t column) const {
    return perRow ? row * perRow + column / group : 0;
  }

  mlir::Value value;
  llvm::SmallVector<mlir::Value, 2> values; // the weight, or layers' results
  std::shared_ptr<const PackedWeight> original, packed;
  HostTensor base;        // at the begin
  HostTensor rounded;     // after round()
  int64_t group = 0;      // columns of a factor
  int64_t perRow = 0;     // factors of a row; 0: one for everything
  bool byOutputs = false; // gradients come from the layers' results
  int threads = 1;
  /// The scale of each group at the begin, where there are zero points or
  /// vectors.
  std::vector<float> scales;
  std::unique_ptr<Format> bound; // with the codebook of the begin, or null
  std::vector<uint32_t> codes;   // of the codebook, [rows][codes of a row]
  float vectorUnit = 0;          // root mean square of the vectors
  /// Logarithms of factors, then zero points in steps of the codes, then
  /// vectors in vectorUnit.
  std::vector<float> moves, gradient;
  size_t zeroAt = 0, vectorAt = 0;
  Adam adam;
};

/// The root of the mean square, 0 of nothing.
float rootMeanSquare(llvm::ArrayRef<float> numbers);

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
  int64_t size() const override { return moves.size(); }

  void addUse(mlir::Value value) { values.push_back(value); }
  /// Writes the numbers into the module.
  llvm::Error write();

private:
  HostTensor numbers() const;

  qn::InitializerOp initializer;
  llvm::SmallVector<mlir::Value, 2> values;
  HostTensor base;
  /// Root mean square at the begin; where that is 0, of the first user's
  /// results in the first sample.
  float unit = 0;
  std::vector<float> moves, gradient;
  Adam adam;
};

} // namespace quench

#endif // QUENCH_LIB_TRAINING_PARAMETERS_H
