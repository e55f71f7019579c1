//===- Link.h - Object code to a shared object, in this process --*- C++
//-*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TARGET_CPU_LINK_H
#define QUENCH_TARGET_CPU_LINK_H

#include "quench/TargetModel/CPUTarget.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/MemoryBufferRef.h"

namespace quench {

struct LinkOptions {
  /// DT_SONAME; empty: none.
  std::string soname;
  /// Export every symbol with default visibility instead of the C interface of
  /// a model, and leave out what is not used of the runtime.
  bool exportAll = false;
  /// Keep the names of hidden functions, for profilers.
  bool keepSymbols = false;
};

/// The symbols of libc, libm and pthread that generated code and the runtime
/// may call. Any other undefined symbol fails the link.
llvm::ArrayRef<llvm::StringRef> allowedSymbols();

/// Links objects in memory, object files, and the runtime into the shared
/// object `outPath`, which appears whole or not at all. The same input gives
/// the same bytes, in any folder. Ends the file with the seal of
/// Runtime/Hash.h. Fails with the linker's messages, naming undefined symbols.
llvm::Error linkSharedObject(llvm::ArrayRef<llvm::MemoryBufferRef> objects,
                             llvm::ArrayRef<std::string> files,
                             llvm::StringRef outPath, const CPUTarget &target,
                             const LinkOptions &options = {});

} // namespace quench

#endif // QUENCH_TARGET_CPU_LINK_H
