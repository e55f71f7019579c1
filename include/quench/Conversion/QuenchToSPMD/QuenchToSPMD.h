//===- QuenchToSPMD.h - From buffers to workers' loops -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_CONVERSION_QUENCHTOSPMD_QUENCHTOSPMD_H
#define QUENCH_CONVERSION_QUENCHTOSPMD_QUENCHTOSPMD_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace quench {

/// Most workers of one context: scratch memory is reserved for so many.
constexpr int64_t kMaxWorkers = 64;

/// Attribute of a function's argument: the number of the model's input that it
/// is. For messages.
constexpr llvm::StringLiteral kInputAttribute = "quench.input";

/// Results become arguments that the caller provides: memory of the outputs. A
/// result's allocation is replaced by the argument where that is possible,
/// copied to it elsewhere.
mlir::LogicalResult resultsToArguments(mlir::func::FuncOp function);

/// Gives arguments, allocations and packed weights rank one, with views of
/// their shapes. Sizes of arguments become quench.dim ops by their attribute
/// quench.dims, so that no size depends on an argument.
mlir::LogicalResult flattenBuffers(mlir::func::FuncOp function);

/// A flat buffer of a dynamic size whose size is `size`: arguments are pointers
/// and know none.
mlir::Value sizedBuffer(mlir::OpBuilder &b, mlir::Location loc,
                        mlir::Value flat, mlir::Value size);

/// Makes equal sizes one value: index arithmetic whose polynomials in the
/// model's named dimensions are equal, and the views made of them.
void shareSizes(mlir::func::FuncOp function);

/// Lets the first sum of a stream take the place of its operand, as all later
/// ones do. Needs sizes that have been made common. Returns true if it moved
/// one.
bool reusePlaces(mlir::func::FuncOp function);

/// Finds a run of equal layers in a bufferized function and makes one function
/// of them, which takes weights and caches as arguments. Returns the number of
/// calls it made (0: nothing repeats).
mlir::FailureOr<int64_t> outlineLayers(mlir::func::FuncOp function);

/// Turns a bufferized function (and the functions it calls) into one that every
/// worker runs from beginning to end (single program, multiple data):
///   - it gets the leading arguments (frame : !llvm.ptr, weights :
///   memref<?xi8>, arena : memref<?xi8>, base : index,
///     worker : index, workers : index, one index for each of `symbols`);
///   - allocations become places of the arena, found by their lifetimes;
///   - each op becomes a loop over the worker's share, with a barrier where
///   another worker's result is read;
///   - calls of one layer that follow each other become a loop.
/// Also makes `<name>_arena(symbols...) -> index`, the bytes of arena it needs.
/// Errors are at the op that has no lowering.
mlir::LogicalResult convertToSPMD(mlir::ModuleOp module,
                                  mlir::func::FuncOp function,
                                  llvm::ArrayRef<std::string> symbols);

/// Makes `name` (frame, worker, workers), which the runtime calls, and
/// `<name>_arena` (symbols), for a function that convertToSPMD has made. Inputs
/// and outputs are taken in the order of its arguments; arguments with the
/// attribute quench.state lie one after the other in the context's state.
mlir::LogicalResult makeEntry(mlir::ModuleOp module,
                              mlir::func::FuncOp function,
                              llvm::ArrayRef<std::string> symbols,
                              llvm::StringRef name);

/// Makes `name` (symbols), the bytes of state that a function with quench.state
/// arguments needs.
void makeStateSize(mlir::ModuleOp module, mlir::func::FuncOp function,
                   unsigned capacitySymbol, llvm::StringRef name);

} // namespace quench

#endif // QUENCH_CONVERSION_QUENCHTOSPMD_QUENCHTOSPMD_H
