//===- RuntimeObjects.h - The runtime, as it is linked into models --*- C++
//-*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_RUNTIME_RUNTIMEOBJECTS_H
#define QUENCH_RUNTIME_RUNTIMEOBJECTS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

namespace quench {

/// The runtime's object files for a triple, made when Quench was built; none if
/// it was not built for that architecture.
llvm::ArrayRef<llvm::StringRef> getRuntimeObjects(llvm::StringRef triple);

} // namespace quench

#endif // QUENCH_RUNTIME_RUNTIMEOBJECTS_H
