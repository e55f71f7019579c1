//===- Engine.h - The interpreter's inside ----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_INTERPRETER_ENGINE_H
#define QUENCH_LIB_INTERPRETER_ENGINE_H

#include "Tape.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Interpreter/Interpreter.h"
#include "quench/Support/Try.h"
#include "llvm/ADT/StringMap.h"
#include <list>

namespace quench {

/// The values of one running function.
using Values = llvm::DenseMap<mlir::Value, HostTensor>;

/// One op that is executed. Handlers may take the operands' memory.
struct Step {
  Interpreter::Engine &engine;
  Values &values;
  mlir::Operation *op;
  llvm::MutableArrayRef<HostTensor> operands;
  llvm::SmallVectorImpl<HostTensor> &results;
};
using Handler = llvm::Error (*)(Step &);
using Handlers = llvm::StringMap<Handler>;

void addTensorHandlers(Handlers &handlers);
void addLayerHandlers(Handlers &handlers);
void addControlHandlers(Handlers &handlers);
llvm::Error runAttention(Step &step);

/// Any structured linalg op, by its body and indexing maps.
llvm::Error runLinalg(Step &step);
/// arith, math and index ops on numbers or tensors.
llvm::Error runElementwise(Step &step);
bool isElementwise(mlir::Operation *op);

class Interpreter::Engine {
public:
  Engine(mlir::ModuleOp module, InterpreterOptions options);

  /// Names all ops of the function and those it calls that cannot be run.
  llvm::Error checkOps(mlir::func::FuncOp function);

  llvm::Expected<llvm::SmallVector<HostTensor>>
  call(mlir::func::FuncOp function, llvm::MutableArrayRef<HostTensor> inputs);
  llvm::Expected<llvm::SmallVector<HostTensor>>
  runFunction(llvm::StringRef name, llvm::ArrayRef<HostTensor> inputs);
  /// The function of a name, checked, for inputs that fit; named dimensions are
  /// bound.
  llvm::Expected<mlir::func::FuncOp> prepare(llvm::StringRef name,
                                             llvm::ArrayRef<HostTensor> inputs);

  /// Runs the ops of a block; gives the terminator's operands.
  llvm::Expected<llvm::SmallVector<HostTensor>> runBlock(mlir::Block &block,
                                                         Values &values);
  /// One op of a block; weight expressions are passed over. With `keep` all
  /// values stay, otherwise those that nobody needs any more are dropped.
  llvm::Error runStep(mlir::Operation *op, Values &values, bool keep);
  /// The value now; weights are evaluated.
  llvm::Expected<HostTensor> get(mlir::Value value, Values &values);

  //--- Weights.cpp
  /// An expression of initializers and constants only.
  bool isWeight(mlir::Value value);
  /// Its numbers, from the cache if they are there.
  llvm::Expected<HostTensor> weight(mlir::Value value);
  /// Numbers that take the place of weight expressions.
  llvm::DenseMap<mlir::Value, HostTensor> replaced;
  /// An initializer's numbers as they are stored.
  llvm::Expected<HostTensor> initializer(llvm::StringRef name);
  /// The map of an attribute, instantiated once.
  llvm::Expected<const Map *> map(mlir::Attribute attribute);

  const InterpreterOptions &getOptions() const { return options; }

  /// The tape of an elementwise op, compiled once.
  llvm::Expected<const Tape *> tapeOf(mlir::Operation *op);

  llvm::StringMap<int64_t> dims; // named dimensions of this run
  mlir::SymbolTable symbols;

private:
  llvm::Error runOp(mlir::Operation *op, Values &values, bool keep);
  void findLastUses(mlir::Block &block);
  llvm::Error bindDims(mlir::func::FuncOp function,
                       llvm::ArrayRef<HostTensor> inputs);
  llvm::Expected<HostTensor> evaluate(mlir::Operation *op);
  llvm::Expected<std::vector<double>> weightNumbers(mlir::Value value);
  llvm::Expected<HostTensor> evaluateQuantize(qn::QuantizeOp op);
  llvm::Expected<HostTensor> evaluateAssemble(qn::AssembleOp op);

  mlir::ModuleOp module;
  InterpreterOptions options;
  Handlers handlers;
  llvm::DenseMap<mlir::Operation *, llvm::SmallVector<mlir::Value, 2>> lastUses;
  llvm::DenseMap<mlir::Operation *, std::unique_ptr<Tape>> tapes;
  llvm::DenseSet<mlir::Operation *> checked; // functions
  unsigned depth = 0;                        // of calls

  struct Cached {
    mlir::Operation *op;
    HostTensor tensor;
  };
  std::list<Cached> cache; // the most recently used first
  llvm::DenseMap<mlir::Operation *, std::list<Cached>::iterator> cacheIndex;
  int64_t cachedBytes = 0;
  llvm::DenseMap<mlir::Operation *, bool> weightOps;
  llvm::DenseMap<mlir::Attribute, std::unique_ptr<Map>> maps;
};

/// The f32 numbers of a float tensor (no copy if it is f32).
inline llvm::Expected<HostTensor> toF32(const HostTensor &tensor) {
  return tensor.convertTo(ElementKind::F32);
}
/// An f32 tensor as the element type of `type`.
llvm::Expected<HostTensor> toTypeOf(const HostTensor &tensor, mlir::Type type);

/// The elements of a constant attribute.
llvm::Expected<HostTensor> constantTensor(mlir::Attribute value,
                                          mlir::Type type);

/// v -> v M for the vectors along `axis`; the numbers are doubles.
llvm::Expected<std::vector<double>> applyMap(const Map &map,
                                             std::vector<double> numbers,
                                             llvm::ArrayRef<int64_t> shape,
                                             int64_t axis);
llvm::Expected<std::vector<double>> toDoubles(const HostTensor &tensor);
/// Rounds doubles to a tensor of `kind` and `shape`.
llvm::Expected<HostTensor> fromDoubles(llvm::ArrayRef<double> numbers,
                                       ElementKind kind,
                                       llvm::ArrayRef<int64_t> shape);

} // namespace quench

#endif // QUENCH_LIB_INTERPRETER_ENGINE_H
