//===- QKToX86.h - qk to AVX-512 --------------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_CONVERSION_QKTOX86_QKTOX86_H
#define QUENCH_CONVERSION_QKTOX86_QKTOX86_H

#include "mlir/IR/PatternMatch.h"
#include "mlir/Pass/Pass.h"
#include "llvm/ADT/StringRef.h"
#include <memory>

namespace quench {

/// The extensions of x86-64 that lowerings of qk ops ask for.
struct X86Features {
  bool avx512 = false; // F, BW, DQ and VL together
  bool vnni = false;
  bool vbmi = false;
  bool gfni = false;

  /// From LLVM's list of target features, "+avx512f,+avx512vnni,...".
  static X86Features parse(llvm::StringRef features);
};

/// Lowerings to AVX-512 for 512-bit registers, op by op where the features
/// allow it. They take precedence over populateQKToGenericPatterns.
void populateQKToX86Patterns(mlir::RewritePatternSet &patterns,
                             const X86Features &features);

/// Pass `convert-qk-to-x86` on a module; what the features do not cover is
/// lowered as by convert-qk-to-generic.
std::unique_ptr<mlir::Pass> createConvertQKToX86Pass(X86Features features);
void registerConvertQKToX86Pass();

} // namespace quench

#endif // QUENCH_CONVERSION_QKTOX86_QKTOX86_H
