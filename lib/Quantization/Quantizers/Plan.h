//===- Plan.h - In which order a row is coded -------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A row is coded block after block; a block holds the columns of one codeword
// (one for scalar codes, those of a tile for formats with tiles). The columns
// in that order are called places.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_QUANTIZERS_PLAN_H
#define QUENCH_LIB_QUANTIZATION_QUANTIZERS_PLAN_H

#include "quench/Quantization/Packing.h"

namespace quench {

/// The places of one codeword: a prefix of its values, the others are padding.
struct CodeBlock {
  int64_t place, width;
  int64_t code;  // place of its code (of a tile: of the first) in a row
  int64_t group; // of its columns; 0 where a row has one
  int64_t end() const { return place + width; }
};

/// Blocks whose errors are fed to each other at once; to those of other batches
/// they go by matrix products.
struct CodeBatch {
  int64_t firstBlock, endBlock;
  int64_t place, width;
  int64_t end() const { return place + width; }
};

/// Groups up to this long lie within a batch where the plan keeps them whole.
constexpr int64_t kLongestWholeGroup = 512;

struct CodePlan {
  std::vector<int32_t> order; // column of each place
  std::vector<CodeBlock> blocks;
  std::vector<CodeBatch> batches;
  /// Codewords that hold padding only, and their groups.
  std::vector<std::pair<int64_t, int64_t>> padding;
  int64_t columnsPerGroup = 0; // all of the row where it has one scale
  /// Batches hold whole groups, each one's blocks in a row.
  bool wholeGroups = false;
  int64_t widestBatch = 0;

  int64_t columns() const { return order.size(); }
};

/// `importance`, one number for each column, or null: blocks come by falling
/// mean of it (equal ones in their natural order). Otherwise they come in their
/// natural order, with whole groups if these are not too long.
CodePlan makePlan(const Format &format, int64_t cols, const double *importance);

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_QUANTIZERS_PLAN_H
