//===- Interpreter.h - Runs quench IR on the host ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The reference for what IR of whole tensors computes: the quench dialect's
// tensor form mixed with linalg, tensor, arith, math, index, scf, affine and
// func. Products are BLAS's. Weight expressions are evaluated when they are
// first needed; those of quantized weights become the float numbers that their
// codes stand for.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_INTERPRETER_INTERPRETER_H
#define QUENCH_INTERPRETER_INTERPRETER_H

#include "mlir/IR/BuiltinOps.h"
#include "quench/Support/HostTensor.h"
#include <functional>
#include <memory>
#include <string>

namespace quench {

class Map;
class ModelFiles;

struct InterpreterOptions {
  /// Where #quench.file sources are; must outlive the interpreter. Null: such
  /// a source is an error.
  ModelFiles *files = nullptr;
  /// Evaluated weights are kept up to so many bytes, the least recently used
  /// leave first. (Plain f32 weights are read where they are mapped and do not
  /// count.)
  int64_t weightCacheBytes = int64_t(4) << 30;
  /// Asked for the numbers (f32) of each quantized weight; no tensor: it is
  /// quantized here, without second moments.
  std::function<llvm::Expected<HostTensor>(mlir::Value)> quantized;
  /// Activations are not rounded where the module quantizes them.
  bool floatActivations = false;
  /// Called with each executed op and its results (not for weight expressions).
  std::function<void(mlir::Operation *, llvm::ArrayRef<HostTensor>)> observe;
};

class Interpreter {
public:
  /// The module must outlive the interpreter and must not be changed meanwhile.
  static llvm::Expected<Interpreter> create(mlir::ModuleOp module,
                                            InterpreterOptions options);
  Interpreter(Interpreter &&);
  Interpreter &operator=(Interpreter &&);
  ~Interpreter();

  /// Runs the function. Inputs must have the element types and fit the shapes
  /// of its arguments; named dimensions (`quench.dims` on arguments) must
  /// agree. Errors name the op and its location, or all ops that are not known.
  /// Results of quantized type come as f32.
  llvm::Expected<llvm::SmallVector<HostTensor>>
  run(llvm::StringRef function, llvm::ArrayRef<HostTensor> inputs);

  /// The numbers of a weight expression (f32), as consumers see them.
  llvm::Expected<HostTensor> evaluateWeight(mlir::Value value);
  /// Whether the value is an expression of initializers and constants only.
  bool isWeight(mlir::Value value);
  /// Lets the weight expression be these numbers (f32, of its shape) from now
  /// on, for its users outside of weight expressions; no tensor: what it
  /// evaluates to again.
  void setWeight(mlir::Value value, HostTensor numbers);

  //--- Runs that are made piece by piece
  //-------------------------------------------//

  using Values = llvm::DenseMap<mlir::Value, HostTensor>;
  /// Checks function and inputs as run() does, binds the named dimensions and
  /// puts the inputs into `values`.
  llvm::Error begin(llvm::StringRef function, llvm::ArrayRef<HostTensor> inputs,
                    Values &values);
  /// Runs one op of a function's block on `values` and adds its results. All
  /// values stay; without `keep` those go that no later op of the block reads.
  /// Ops of weight expressions are passed over.
  llvm::Error step(mlir::Operation *op, Values &values, bool keep = true);
  /// The value: one of `values`, or an evaluated weight.
  llvm::Expected<HostTensor> valueOf(mlir::Value value, Values &values);
  /// The map of an attribute, instantiated once.
  llvm::Expected<const Map *> mapOf(mlir::Attribute attribute);

  class Engine;

private:
  explicit Interpreter(std::unique_ptr<Engine> engine);
  std::unique_ptr<Engine> engine;
};

/// Lets each product of the process use so many threads. One makes products
/// independent of the machine's number of processors; several interpreters may
/// then run at the same time. Returns the number before.
int setProductThreads(int threads);

/// The greatest difference of any number of the results, relative to the
/// greatest absolute value of that result in `before`; infinity where exactly
/// one is NaN. Runs the function `name` of both modules.
llvm::Expected<double> maxDifference(mlir::ModuleOp before,
                                     mlir::ModuleOp after,
                                     llvm::ArrayRef<HostTensor> inputs,
                                     const InterpreterOptions &options = {},
                                     llvm::StringRef name = "main");

/// The same between two tensors of equal shape. Error: shapes differ.
llvm::Expected<double> maxDifference(const HostTensor &a, const HostTensor &b);

/// The type of elements of a tensor or scalar type. Error: one that host
/// tensors do not have.
llvm::Expected<ElementKind> elementKindOf(mlir::Type type);

} // namespace quench

#endif // QUENCH_INTERPRETER_INTERPRETER_H
