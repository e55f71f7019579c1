//===- Contract.cpp - Kernels of contractions -----------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Kernels/Contract.h"
#include "Shape.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "quench/Dialect/QK/IR/QK.h"

using namespace mlir;
using namespace quench;

using Emit = void (*)(Emitter &, const KernelShape &, Block &);

static func::FuncOp getOrCreate(ModuleOp module, const ContractSpec &spec,
                                bool tiled, Emit emit) {
  MLIRContext *context = module.getContext();
  OpBuilder b(context);
  Type f32 = b.getF32Type(), i32 = b.getI32Type(), i8 = b.getI8Type(),
       index = b.getIndexType();
  Type element = spec.integer ? i32 : f32;
  SmallVector<Type> arguments = {flat(i8),  index,         flat(element),
                                 flat(f32), flat(element), flat(f32)};
  if (tiled)
    arguments.append({index, flat(i8), index});
  arguments.append({index, index});
  bool made;
  auto function = makeKernel(module, kernelName(tiled ? "gemm" : "gemv", spec),
                             arguments, made);
  if (!made)
    return function;
  b.setInsertionPointToStart(&function.front());
  Emitter e(b, module.getLoc());
  KernelShape shape(spec);
  emit(e, shape, function.front());
  func::ReturnOp::create(b, module.getLoc());
  return function;
}

/// Tables of products serve all rows; few rows do not pay for them.
static bool usesSums(const ContractSpec &spec) {
  return spec.format->sumTables() != 0 && spec.n >= kLeastRowsOfSums;
}

func::FuncOp quench::getOrCreateGemv(ModuleOp module,
                                     const ContractSpec &spec) {
  return getOrCreate(module, spec, false,
                     !spec.integer    ? emitGemvFloat
                     : usesSums(spec) ? emitGemvSums
                                      : emitGemvInt);
}

func::FuncOp quench::getOrCreateGemm(ModuleOp module,
                                     const ContractSpec &spec) {
  return getOrCreate(module, spec, true,
                     spec.integer ? emitGemmInt : emitGemmFloat);
}

int64_t quench::contractPasses(const ContractSpec &spec) {
  return StreamShape(*spec.format, spec.n, spec.k).passes;
}

int64_t quench::gemmScratchBytes(const ContractSpec &spec) {
  KernelShape shape(spec);
  int64_t column = kPassRows * (spec.integer ? 1 : 4);
  int64_t parameters = shape.grouped ? shape.groups * kPassRows * 4 : 0;
  // Scales and zero points; the panel (which float and byte streams may not
  // need, but its size is the bound that callers plan with).
  return shape.stream.paddedCols * column + 2 * parameters;
}
