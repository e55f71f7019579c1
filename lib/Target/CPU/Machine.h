//===- Machine.h - Numbers of a processor in ELF files ----------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_TARGET_CPU_MACHINE_H
#define QUENCH_LIB_TARGET_CPU_MACHINE_H

#include "quench/TargetModel/CPUTarget.h"

namespace quench {

/// e_machine of a processor's ELF files. Fails on one that shared objects are
/// not made for.
llvm::Expected<uint16_t> elfMachine(const CPUTarget &target);

} // namespace quench

#endif // QUENCH_LIB_TARGET_CPU_MACHINE_H
