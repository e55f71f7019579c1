//===- WideCodes.h - Indices of more than a byte ----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Sixteen lanes (rows, or rows and columns) have a string of bits each, the
// indices of 9 to 16 bits of one table one after the other. The strings of a
// step follow one another; they are whole lines.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_WIDECODES_H
#define QUENCH_LIB_QUANTIZATION_WIDECODES_H

#include "quench/Quantization/Registers.h"
#include "llvm/ADT/SmallVector.h"

namespace quench {

struct WideCodes {
  unsigned bits; // of an index, 9 to 16

  /// Indices of a lane in a step.
  int64_t count() const;
  /// Bits of the string of a lane, a multiple of 32.
  int64_t laneBits() const { return count() * bits; }
  /// Of a step.
  int64_t bytes() const { return 16 * laneBits() / 8; }
  /// The indices of the step at `offset`, each in the 32-bit lanes of a
  /// register.
  llvm::SmallVector<Reg, 32> load(RegisterBuilder &builder,
                                  int64_t offset) const;
};

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_WIDECODES_H
