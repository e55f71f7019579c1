//===- BuiltinFormats.h - The formats of the library ------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A linker takes from a static library only the objects that something names.
// Each file in Formats/ ends in QUENCH_BUILTIN_FORMAT with its own name, and
// the build lists these files (BuiltinFormats.inc), so that they are all there
// with their FormatRegistrations.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_BUILTINFORMATS_H
#define QUENCH_LIB_QUANTIZATION_BUILTINFORMATS_H

#define QUENCH_BUILTIN_FORMAT(NAME)                                            \
  namespace quench {                                                           \
  void linkBuiltinFormat##NAME() {}                                            \
  }

namespace quench {
/// Does nothing; its call keeps all built-in formats in the program.
void linkBuiltinFormats();
} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_BUILTINFORMATS_H
