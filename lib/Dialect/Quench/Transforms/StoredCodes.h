//===- StoredCodes.h - Codes that a model brings ----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_DIALECT_QUENCH_TRANSFORMS_STOREDCODES_H
#define QUENCH_LIB_DIALECT_QUENCH_TRANSFORMS_STOREDCODES_H

#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "quench/Quantization/Packing.h"
#include <optional>

namespace quench {

/// Codes that the model brought, in a format that holds the same levels.
struct StoredCodes {
  const Format *format;
  std::vector<uint8_t> codes;      // [rows][cols]
  std::vector<GroupParams> params; // [rows][format's groups]

  EncodedRows rows(int64_t begin, int64_t count, int64_t cols) const {
    EncodedRows result;
    result.rows = count;
    result.cols = cols;
    result.codes.assign(codes.begin() + begin * cols,
                        codes.begin() + (begin + count) * cols);
    int64_t groups = format->groupsPerRow(cols);
    result.params.assign(params.begin() + begin * groups,
                         params.begin() + (begin + count) * groups);
    return result;
  }
};

/// The smallest format that holds the levels of an assembled weight; none where
/// they are no small integers or, with `exact`, where a scale is no half.
std::optional<StoredCodes> keepCodes(const AssembledWeight &w, bool exact);

} // namespace quench

#endif // QUENCH_LIB_DIALECT_QUENCH_TRANSFORMS_STOREDCODES_H
