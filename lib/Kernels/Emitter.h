//===- Emitter.h - Short names for what kernels are built of ----*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_KERNELS_EMITTER_H
#define QUENCH_LIB_KERNELS_EMITTER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "quench/Quantization/Scales.h"

namespace quench {

/// Emits arithmetic, loads and loops at one insertion point.
class Emitter {
public:
  using Values = llvm::SmallVector<mlir::Value, 8>;

  Emitter(mlir::OpBuilder &builder, mlir::Location loc);

  mlir::OpBuilder &b;
  mlir::Location loc;
  mlir::VectorType bytes, words, floats; // 64 x i8, 16 x i32, 16 x f32

  mlir::Value index(int64_t value);
  mlir::Value add(mlir::Value a, int64_t c); // index plus constant
  mlir::Value add(mlir::Value a, mlir::Value c);
  mlir::Value mul(mlir::Value a, int64_t c);
  mlir::Value mul(mlir::Value a, mlir::Value c);

  mlir::Value splat(int32_t value);
  mlir::Value splatFloat(float value);
  mlir::Value scalarFloat(float value);
  mlir::Value bitcast(mlir::Value value, mlir::VectorType type);
  mlir::Value broadcast(mlir::Value scalar, mlir::VectorType type);
  mlir::Value shuffle(mlir::Value a, mlir::Value c,
                      llvm::ArrayRef<int64_t> order);

  mlir::Value loadVector(mlir::Value memref, mlir::Value at,
                         mlir::VectorType type);
  mlir::Value load(mlir::Value memref, mlir::Value at);
  void storeVector(mlir::Value value, mlir::Value memref, mlir::Value at);
  void store(mlir::Value value, mlir::Value memref, mlir::Value at);
  void prefetch(mlir::Value memref, mlir::Value at);
  /// 16 halves of a memref of bytes, as floats.
  mlir::Value loadHalves(mlir::Value memref, mlir::Value at);
  /// 16 scales of a memref of bytes, over scaleFactor(kind).
  mlir::Value loadScales(mlir::Value memref, mlir::Value at, ScaleKind kind);
  /// The same for kinds that are parts of halves, over 2^112 too: in fewer
  /// steps, but subnormal floats where they are.
  mlir::Value loadTinyScales(mlir::Value memref, mlir::Value at,
                             ScaleKind kind);
  /// 16 bytes of a memref of bytes, as words.
  mlir::Value loadByteWords(mlir::Value memref, mlir::Value at);
  /// A vector of 16 words or floats from a memref of bytes.
  mlir::Value loadBytesAs(mlir::Value memref, mlir::Value at,
                          mlir::VectorType type);

  mlir::Value addInt(mlir::Value a, mlir::Value c);
  mlir::Value mulInt(mlir::Value a, mlir::Value c);
  mlir::Value shiftRight(mlir::Value a, unsigned by); // arithmetic, words
  mlir::Value toFloat(mlir::Value words);
  mlir::Value addFloat(mlir::Value a, mlir::Value c);
  mlir::Value mulFloat(mlir::Value a, mlir::Value c);
  mlir::Value fma(mlir::Value a, mlir::Value c, mlir::Value d);

  /// Loops made while this is set are not unrolled by LLVM: a long run of loads
  /// is scheduled out of order, and then lines are not fetched ahead in order.
  bool keepRolled = false;

  using Body = llvm::function_ref<Values(mlir::Value, mlir::ValueRange)>;
  /// scf.for lo..hi by step; the body returns the next iteration's values.
  Values loop(mlir::Value lo, mlir::Value hi, int64_t step,
              mlir::ValueRange inits, Body body);
  Values loop(int64_t lo, int64_t hi, int64_t step, mlir::ValueRange inits,
              Body body);
  void loop(mlir::Value lo, mlir::Value hi, int64_t step,
            llvm::function_ref<void(mlir::Value)> body);
  void when(mlir::Value condition, llvm::function_ref<void()> body);
  mlir::Value less(mlir::Value a, mlir::Value c);
};

/// A private function with a body, or the one that has this name already
/// (then `made` is false). It is marked so that its spills stay aligned.
mlir::func::FuncOp makeKernel(mlir::ModuleOp module, llvm::StringRef name,
                              llvm::ArrayRef<mlir::Type> arguments, bool &made);

/// memref<?xT>.
mlir::MemRefType flat(mlir::Type element);

} // namespace quench

#endif // QUENCH_LIB_KERNELS_EMITTER_H
