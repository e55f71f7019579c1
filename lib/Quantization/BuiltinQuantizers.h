//===- BuiltinQuantizers.h - The quantizers of the library ------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Each file in Quantizers/ that registers one ends in QUENCH_BUILTIN_QUANTIZER
// with its own name (see BuiltinFormats.h).
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_BUILTINQUANTIZERS_H
#define QUENCH_LIB_QUANTIZATION_BUILTINQUANTIZERS_H

#define QUENCH_BUILTIN_QUANTIZER(NAME)                                         \
  namespace quench {                                                           \
  void linkBuiltinQuantizer##NAME() {}                                         \
  }

#endif // QUENCH_LIB_QUANTIZATION_BUILTINQUANTIZERS_H
