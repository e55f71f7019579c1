//===- Lowering.h - From kernels to the LLVM dialect ------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_KERNELS_LOWERING_H
#define QUENCH_KERNELS_LOWERING_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"
#include "quench/Conversion/QKToX86/QKToX86.h"
#include "quench/Target/CPU/LoadedLibrary.h"
#include "quench/TargetModel/CPUTarget.h"

namespace quench {

/// The features of a processor that lowerings of qk ask for.
X86Features x86FeaturesOf(const CPUTarget &target);

/// qk, arith, math, vector, scf, memref and func to the LLVM dialect. qk ops
/// are lowered for the target, or as for any (`genericOps`). Memref arguments
/// become bare pointers.
void buildKernelLoweringPipeline(mlir::OpPassManager &pm,
                                 const CPUTarget &target,
                                 bool genericOps = false);

/// Pass `approximate-math`: exp, log, tanh, erf and their like become
/// polynomials on vectors and scalars, so that no call is left in a hot loop.
/// sin and cos stay: polynomials lose their large arguments.
std::unique_ptr<mlir::Pass> createApproximateMathPass();

/// Pass `bare-memref-arguments`: memref<?xT> arguments of functions get a
/// static size, without which they could not become bare pointers. Results
/// stay.
std::unique_ptr<mlir::Pass> createBareMemRefArgumentsPass();

/// Pass `emit-contraction{format=... n=... k=...}`: puts kernels into a module,
/// to be looked at and tested.
void registerEmitContractionPass();

/// Registers all three by name.
void registerKernelPasses();

/// Lowers a module (which is changed), compiles it for this machine and loads
/// it. Public functions can be looked up. Fails with the diagnostics' texts.
llvm::Expected<std::unique_ptr<LoadedLibrary>>
compileAndLoad(mlir::ModuleOp module, const CPUTarget &target,
               bool genericOps = false);

} // namespace quench

#endif // QUENCH_KERNELS_LOWERING_H
