//===- KernelProbes.h - The machine's limits, as kernels --------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOOLS_QUENCH_KERNELPROBES_H
#define QUENCH_TOOLS_QUENCH_KERNELPROBES_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

namespace quench {

/// Reads `bytes` bytes (a multiple of 1024), the next 4 KB fetched ahead.
using ReadProbe = void(const void *data, int64_t bytes, int32_t *sink);
mlir::func::FuncOp makeReadProbe(mlir::ModuleOp module);

/// `times` rounds of independent dot products in registers.
using PeakProbe = void(int32_t *sink, int64_t times);
mlir::func::FuncOp makePeakProbe(mlir::ModuleOp module);
/// Multiplications and additions of one round.
constexpr double kPeakProbeOps = 12 * 128;

} // namespace quench

#endif // QUENCH_TOOLS_QUENCH_KERNELPROBES_H
