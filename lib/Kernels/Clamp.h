//===- Clamp.h - Indices that data decides ----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_KERNELS_CLAMP_H
#define QUENCH_LIB_KERNELS_CLAMP_H

#include "Emitter.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "quench/Runtime/Program.h"

namespace quench {

/// `index` in 0 .. n - 1; where it was outside, the run's error is set. `error`
/// points to it.
inline mlir::Value clampIndex(Emitter &e, mlir::Value index, int64_t n,
                              mlir::Value error) {
  using namespace mlir;
  Value low = arith::MaxSIOp::create(e.b, e.loc, index, e.index(0));
  Value safe = arith::MinSIOp::create(e.b, e.loc, low, e.index(n - 1));
  Value outside =
      arith::CmpIOp::create(e.b, e.loc, arith::CmpIPredicate::ne, safe, index);
  e.when(outside, [&] {
    Value code = arith::ConstantOp::create(
        e.b, e.loc, e.b.getI32IntegerAttr(QUENCH_RT_INDEX));
    LLVM::StoreOp::create(e.b, e.loc, code, error);
  });
  return safe;
}

} // namespace quench

#endif // QUENCH_LIB_KERNELS_CLAMP_H
