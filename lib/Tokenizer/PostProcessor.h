//===- PostProcessor.h - Tokens around a text -------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_TOKENIZER_POSTPROCESSOR_H
#define QUENCH_LIB_TOKENIZER_POSTPROCESSOR_H

#include "JsonNode.h"
#include <cstdint>
#include <vector>

namespace quench {

/// The tokens that go before and behind a text. What the processors do for
/// pairs of texts and for offsets is left out.
class PostProcessor {
public:
  /// Reads one processor, or a sequence of them.
  llvm::Error read(const JsonNode &node);
  void apply(std::vector<int32_t> &ids) const;

private:
  llvm::Error readTemplate(const JsonNode &node);
  llvm::Error readEnds(const JsonNode &node);

  std::vector<int32_t> before, behind;
};

} // namespace quench

#endif // QUENCH_LIB_TOKENIZER_POSTPROCESSOR_H
