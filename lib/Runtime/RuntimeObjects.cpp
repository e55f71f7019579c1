//===- RuntimeObjects.cpp - The runtime, as it is linked into models ------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Runtime/RuntimeObjects.h"
#include <vector>

extern "C" {
extern const char *const quench_runtime_begin[];
extern const char *const quench_runtime_end[];
extern const size_t quench_runtime_count;
}

using namespace llvm;

ArrayRef<StringRef> quench::getRuntimeObjects(StringRef triple) {
#if defined(__x86_64__)
  constexpr StringLiteral built = "x86_64";
#elif defined(__aarch64__)
  constexpr StringLiteral built = "aarch64";
#else
  constexpr StringLiteral built = "none";
#endif
  static const std::vector<StringRef> objects = [] {
    std::vector<StringRef> list;
    for (size_t i = 0; i < quench_runtime_count; ++i)
      list.emplace_back(quench_runtime_begin[i],
                        quench_runtime_end[i] - quench_runtime_begin[i]);
    return list;
  }();
  return triple.starts_with(built) ? ArrayRef<StringRef>(objects)
                                   : ArrayRef<StringRef>();
}
