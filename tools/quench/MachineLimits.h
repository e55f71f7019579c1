//===- MachineLimits.h - How fast the memory is -----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOOLS_QUENCH_MACHINELIMITS_H
#define QUENCH_TOOLS_QUENCH_MACHINELIMITS_H

namespace quench {

/// Bytes a second that so many threads read from memory: the best of some
/// rounds over 256 MB, which no cache is expected to hold. 0 if it could not be
/// measured.
double readBandwidth(int threads);

} // namespace quench

#endif // QUENCH_TOOLS_QUENCH_MACHINELIMITS_H
