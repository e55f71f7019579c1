//===- BuiltinFormats.cpp - The formats of the library --------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"

namespace quench {
#define BUILTIN_FORMAT(NAME) void linkBuiltinFormat##NAME();
#include "BuiltinFormats.inc"
#undef BUILTIN_FORMAT
} // namespace quench

void quench::linkBuiltinFormats() {
#define BUILTIN_FORMAT(NAME) linkBuiltinFormat##NAME();
#include "BuiltinFormats.inc"
#undef BUILTIN_FORMAT
}
