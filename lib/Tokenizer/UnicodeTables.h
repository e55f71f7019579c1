//===- UnicodeTables.h - Tables of the normal forms -------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_TOKENIZER_UNICODETABLES_H
#define QUENCH_LIB_TOKENIZER_UNICODETABLES_H

#include "llvm/ADT/DenseMap.h"
#include <cstdint>
#include <utility>
#include <vector>

namespace quench {
namespace unicode {

/// One step of a decomposition; its characters may decompose further.
struct Decomposition {
  bool compatible = false;
  std::vector<uint32_t> target;
};

struct DecompositionTable {
  llvm::DenseMap<uint32_t, Decomposition> entries;
  /// The pairs that compose, without the exclusions.
  llvm::DenseMap<std::pair<uint32_t, uint32_t>, uint32_t> pairs;
};

const DecompositionTable &decompositions();

/// The canonical combining class; 0 for a starter.
uint8_t combiningClass(uint32_t code);

} // namespace unicode
} // namespace quench

#endif // QUENCH_LIB_TOKENIZER_UNICODETABLES_H
