//===- Emit.h - LLVM IR to object code --------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TARGET_CPU_EMIT_H
#define QUENCH_TARGET_CPU_EMIT_H

#include "quench/TargetModel/CPUTarget.h"
#include "llvm/Support/raw_ostream.h"

namespace llvm {
class Module;
} // namespace llvm

namespace quench {

enum class EmitKind { Object, Assembly, LLVM };

struct CodegenOptions {
  /// 0 to 3, as clang's -O.
  int optLevel = 3;
  EmitKind kind = EmitKind::Object;
};

/// Optimizes a module for a processor and writes it. The module's triple, data
/// layout and function attributes are set here: all vector registers may be
/// used, and stack slots of spilled registers are aligned to them. Fails on
/// invalid IR and on whatever the code generator refuses.
llvm::Error optimizeAndEmit(llvm::Module &module, const CPUTarget &target,
                            llvm::raw_pwrite_stream &out,
                            const CodegenOptions &options = {});

/// LLVM's data layout text for a processor.
llvm::Expected<std::string> dataLayoutFor(const CPUTarget &target);

} // namespace quench

#endif // QUENCH_TARGET_CPU_EMIT_H
