//===- LoadedLibrary.h - Compiled code called from this process --*- C++
//-*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TARGET_CPU_LOADEDLIBRARY_H
#define QUENCH_TARGET_CPU_LOADEDLIBRARY_H

#include "quench/Target/CPU/Emit.h"
#include <memory>

namespace quench {

/// Functions compiled from LLVM IR and loaded; they live as long as this
/// object.
class LoadedLibrary {
public:
  /// Takes over a handle of dlopen.
  explicit LoadedLibrary(void *handle) : handle(handle) {}
  ~LoadedLibrary();
  LoadedLibrary(const LoadedLibrary &) = delete;
  LoadedLibrary &operator=(const LoadedLibrary &) = delete;

  /// The address of an exported symbol. Fails if there is none.
  llvm::Expected<void *> lookup(llvm::StringRef name) const;

  template <typename Function>
  llvm::Expected<Function *> function(llvm::StringRef name) const {
    auto address = lookup(name);
    if (!address)
      return address.takeError();
    return reinterpret_cast<Function *>(*address);
  }

private:
  void *handle;
};

/// Compiles a module for a processor, links it with what it uses of the
/// runtime, and opens it. Its external functions with default visibility can be
/// looked up. Fails if the target is not this machine's.
llvm::Expected<std::unique_ptr<LoadedLibrary>>
loadModule(llvm::Module &module, const CPUTarget &target,
           const CodegenOptions &options = {});

} // namespace quench

#endif // QUENCH_TARGET_CPU_LOADEDLIBRARY_H
