//===- Eval.h - Perplexity, divergence, agreement ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A text is cut into windows of `context` tokens, window b = ids[context * b ..
// context * (b + 1)). What is predicted from the positions context / 2 ..
// context - 2 of a window is scored against the token that follows.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_ANALYSIS_EVAL_H
#define QUENCH_ANALYSIS_EVAL_H

#include "quench/Support/HostTensor.h"

namespace quench {

/// Sums over the windows that were added. All sums are in double.
class Evaluation {
public:
  /// Adds one window of at least 4 tokens. `logits`: [tokens, vocabulary] or
  /// [1, tokens, vocabulary]; so is `reference`, which may be null, but not for
  /// some windows only. Errors: shapes that do not fit, token ids outside of
  /// the vocabulary, logits that are not finite.
  llvm::Error addWindow(llvm::ArrayRef<int64_t> ids, const HostTensor &logits,
                        const HostTensor *reference = nullptr);

  int64_t windows() const { return numWindows; }
  /// Scored tokens.
  int64_t tokens() const { return numTokens; }
  bool hasReference() const { return numReferenced > 0; }
  /// exp of the mean negative log likelihood.
  double perplexity() const;
  /// Mean negative log likelihood, in nats.
  double loss() const;
  /// Perplexity of the reference.
  double referencePerplexity() const;
  /// Mean Kullback-Leibler divergence of the model from the reference, in nats.
  double divergence() const;
  /// Part of the positions, 0 to 1, at which both have the same top token.
  double agreement() const;

private:
  int64_t numWindows = 0, numTokens = 0, numReferenced = 0, agreeing = 0;
  double nll = 0, referenceNll = 0, kl = 0;
};

/// The whole windows of `context` tokens in ids, at most `limit` (0: all).
/// Errors: a context below 4, not one whole window.
llvm::Expected<llvm::SmallVector<llvm::ArrayRef<int64_t>>>
evaluationWindows(llvm::ArrayRef<int64_t> ids, int64_t context,
                  int64_t limit = 0);

} // namespace quench

#endif // QUENCH_ANALYSIS_EVAL_H
