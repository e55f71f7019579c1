//===- Lowering.h - What the lowerings of single ops share -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_CONVERSION_QUENCHTOSPMD_LOWERING_H
#define QUENCH_LIB_CONVERSION_QUENCHTOSPMD_LOWERING_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "quench/Dialect/Quench/IR/Quench.h"

namespace quench {

/// Emits a worker's share of one op.
class WorkerBuilder {
public:
  WorkerBuilder(mlir::OpBuilder &b, mlir::Location loc, mlir::ModuleOp module,
                mlir::Value frame, mlir::Value worker, mlir::Value workers)
      : b(b), loc(loc), module(module), frame(frame), worker(worker),
        workers(workers) {}

  mlir::Value index(int64_t value) {
    return mlir::arith::ConstantIndexOp::create(b, loc, value);
  }
  mlir::Value add(mlir::Value a, mlir::Value c) {
    return mlir::arith::AddIOp::create(b, loc, a, c);
  }
  mlir::Value mul(mlir::Value a, mlir::Value c) {
    return mlir::arith::MulIOp::create(b, loc, a, c);
  }
  mlir::Value div(mlir::Value a, mlir::Value c) {
    return mlir::arith::DivUIOp::create(b, loc, a, c);
  }
  mlir::Value ceilDiv(mlir::Value a, int64_t c) {
    return div(add(a, index(c - 1)), index(c));
  }
  mlir::Value dim(mlir::Value memref, int64_t i);
  mlir::Value product(mlir::ValueRange values);

  /// The worker's part [first, second) of 0 .. total.
  std::pair<mlir::Value, mlir::Value> share(mlir::Value total);

  /// Where an error of these numbers goes: their input's place in
  /// quench_rt_frame::error, if they come from one.
  mlir::Value errorPointer(mlir::Value numbers);

  /// One element.
  mlir::Value load(mlir::Value memref, mlir::ValueRange indices);
  void store(mlir::Value value, mlir::Value memref, mlir::ValueRange indices);

  /// A contiguous memref as memref<?xT>.
  mlir::Value flat(mlir::Value memref);
  /// A piece of the arena for this worker only, of `bytes` bytes: part of an
  /// allocation of kMaxWorkers such pieces.
  mlir::Value scratch(mlir::Value all, int64_t bytes);

  void call(mlir::func::FuncOp kernel, mlir::ValueRange arguments);

  mlir::OpBuilder &b;
  mlir::Location loc;
  mlir::ModuleOp module;
  mlir::Value frame, worker, workers;

private:
  mlir::Value linear(mlir::Value memref, mlir::ValueRange indices);
};

/// Bytes that an op needs beside its operands: shared by all workers, placed in
/// the arena. Null: none.
mlir::Value scratchBytes(WorkerBuilder &w, mlir::Operation *op);

/// Emits the loops of a quench op in buffer form. `scratch` is memref<?xi8>, or
/// null. `barrier` makes the workers wait for each other (for ops of two
/// steps).
mlir::LogicalResult lowerLayer(WorkerBuilder &w, mlir::Operation *op,
                               mlir::Value scratch,
                               llvm::function_ref<void()> barrier);

/// Emits a map that stays on line.
mlir::LogicalResult lowerMap(WorkerBuilder &w, qn::MapOp op,
                             llvm::function_ref<void()> barrier);

/// Emits the loops of a linalg op on memrefs, or of a memref.copy.
mlir::LogicalResult lowerLinalg(WorkerBuilder &w, mlir::linalg::LinalgOp op);
void lowerCopy(WorkerBuilder &w, mlir::Value source, mlir::Value target);

/// Leading arguments of a lowered function that others ask for.
struct LoweredArguments {
  mlir::Value frame, weights;
  unsigned firstSymbol; // number of the first size
};

/// Makes loops of calls of one layer that follow each other, where their
/// operands differ in numbers only.
void rollCalls(mlir::ModuleOp module, mlir::func::FuncOp function,
               llvm::ArrayRef<std::string> symbols,
               const LoweredArguments &leading);

} // namespace quench

#endif // QUENCH_LIB_CONVERSION_QUENCHTOSPMD_LOWERING_H
