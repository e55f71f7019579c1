//===- ContribSchemas.h - Contributed operators --------------- -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_DIALECT_ONNX_CONTRIBSCHEMAS_H
#define QUENCH_LIB_DIALECT_ONNX_CONTRIBSCHEMAS_H

namespace quench::onnx {

/// Adds the operators of ONNX Runtime that Quench accepts to ONNX's registry.
/// Throws when the domain is there already.
void registerContribSchemas();

} // namespace quench::onnx

#endif // QUENCH_LIB_DIALECT_ONNX_CONTRIBSCHEMAS_H
