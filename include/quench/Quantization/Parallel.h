//===- Parallel.h - Loops on several threads --------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_PARALLEL_H
#define QUENCH_QUANTIZATION_PARALLEL_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include <cstdint>

namespace quench {

/// Calls fn(i) for i in [0, count) on at most `threads` threads, in no order.
void forEachIndex(int64_t count, int threads,
                  llvm::function_ref<void(int64_t)> fn);

} // namespace quench

#endif // QUENCH_QUANTIZATION_PARALLEL_H
