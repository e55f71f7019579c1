//===- CPUTarget.h - Processors to compile for ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A processor is a set of features. Conversions ask for features, never for
// names; a name only stands for a set, less those that hypervisors often hide
// (AMX, AVX512-FP16), so that what is compiled for a name runs on it.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TARGETMODEL_CPUTARGET_H
#define QUENCH_TARGETMODEL_CPUTARGET_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <string>
#include <vector>

namespace quench {

struct CPUTarget {
  /// As it was asked for: "native", "x86-64-v3", "znver5", ...
  std::string name;
  /// LLVM's triple, processor, processor to tune for, and features
  /// ("+avx2,+fma").
  std::string triple, cpu, tune, features;
  /// The features the compiled code needs, as the runtime checks them (x86
  /// only).
  std::vector<std::string> required;

  /// Width of a vector register, and how many there are.
  unsigned vectorBits = 128;
  unsigned vectorRegisters = 16;

  // x86-64. `avx512` is F, BW, DQ and VL together.
  bool ssse3 = false, avx2 = false, fma = false, f16c = false, gfni = false,
       avxvnni = false;
  bool avx512 = false, avx512vnni = false, avx512vbmi = false,
       avx512vbmi2 = false;
  bool avx512bitalg = false, avx512bf16 = false, avx512vpopcntdq = false;
  // AArch64.
  bool neon = false, dotprod = false, i8mm = false, bf16 = false;

  bool isX86() const { return llvm::StringRef(triple).starts_with("x86_64"); }
  bool isAArch64() const {
    return llvm::StringRef(triple).starts_with("aarch64");
  }
  /// `required` joined by commas.
  std::string requiredList() const;
};

/// The processor of a name: "native" (the features found on this machine),
/// "generic" (the baseline of this machine's architecture), any x86-64 name or
/// level that LLVM knows, "aarch64" or an AArch64 name LLVM knows, "riscv64".
/// Fails on other names, listing those accepted.
llvm::Expected<CPUTarget> resolveCPU(llvm::StringRef name);

/// A name for reports: vendor's model and the features that matter.
std::string describeCPU(const CPUTarget &target);

} // namespace quench

#endif // QUENCH_TARGETMODEL_CPUTARGET_H
