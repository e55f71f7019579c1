//===- Eval.cpp - Perplexity, divergence, agreement -------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Analysis/Eval.h"
#include "llvm/ADT/Twine.h"
#include <cmath>
#include <vector>

using namespace llvm;
using namespace quench;

/// [tokens, vocabulary] as f32.
static Expected<HostTensor> rowsOf(const HostTensor &logits, int64_t tokens,
                                   StringRef what) {
  int64_t rank = logits.getRank();
  bool fits = (rank == 2 || (rank == 3 && logits.dim(0) == 1)) &&
              logits.dim(rank - 2) == tokens && logits.dim(rank - 1) > 0 &&
              isFloatKind(logits.getKind());
  if (!fits)
    return createStringError(what + " of " + logits.describe() +
                             ", wanted are floats [1, " + Twine(tokens) +
                             ", vocabulary]");
  if (logits.getKind() == ElementKind::F64)
    return logits.reshaped({tokens, logits.dim(rank - 1)});
  Expected<HostTensor> floats = logits.convertTo(ElementKind::F32);
  if (!floats)
    return floats;
  return floats->reshaped({tokens, logits.dim(rank - 1)});
}

/// Log probabilities of one row and the first index of the greatest logit.
static Error logSoftmax(const HostTensor &rows, int64_t row,
                        std::vector<double> &result, int64_t &top,
                        StringRef what) {
  int64_t size = rows.dim(1);
  result.resize(size);
  if (rows.getKind() == ElementKind::F64)
    std::copy_n(rows.data<double>() + row * size, size, result.begin());
  else
    std::copy_n(rows.data<float>() + row * size, size, result.begin());
  top = 0;
  for (int64_t i = 0; i < size; ++i) {
    if (!std::isfinite(result[i]))
      return createStringError(what + " at position " + Twine(row) +
                               ": token " + Twine(i) + " is not finite");
    if (result[i] > result[top])
      top = i;
  }
  double greatest = result[top], sum = 0;
  for (double &value : result) {
    value -= greatest;
    sum += std::exp(value);
  }
  double log = std::log(sum);
  for (double &value : result)
    value -= log;
  return Error::success();
}

Error Evaluation::addWindow(ArrayRef<int64_t> ids, const HostTensor &logits,
                            const HostTensor *reference) {
  int64_t context = ids.size();
  if (context < 4)
    return createStringError("a window of " + Twine(context) +
                             " tokens, at least 4 are needed");
  if (numWindows > 0 && (reference != nullptr) != hasReference())
    return createStringError("a reference for some windows only");
  Expected<HostTensor> rows = rowsOf(logits, context, "logits");
  if (!rows)
    return rows.takeError();
  HostTensor others;
  if (reference) {
    Expected<HostTensor> got = rowsOf(*reference, context, "reference logits");
    if (!got)
      return got.takeError();
    others = std::move(*got);
    if (others.dim(1) != rows->dim(1))
      return createStringError(
          "the vocabularies of the model, " + Twine(rows->dim(1)) +
          ", and of the reference, " + Twine(others.dim(1)) + ", differ");
  }
  Evaluation sums = *this;
  std::vector<double> log, referenceLog;
  for (int64_t position = context / 2; position <= context - 2; ++position) {
    int64_t target = ids[position + 1], top = 0, referenceTop = 0;
    if (target < 0 || target >= rows->dim(1))
      return createStringError(
          "token " + Twine(target) + " at position " + Twine(position + 1) +
          " is outside of the vocabulary of " + Twine(rows->dim(1)));
    if (Error error = logSoftmax(*rows, position, log, top, "logits"))
      return error;
    sums.nll -= log[target];
    ++sums.numTokens;
    if (!reference)
      continue;
    if (Error error = logSoftmax(others, position, referenceLog, referenceTop,
                                 "reference logits"))
      return error;
    sums.referenceNll -= referenceLog[target];
    double divergence = 0;
    for (size_t i = 0; i < log.size(); ++i)
      divergence += std::exp(referenceLog[i]) * (referenceLog[i] - log[i]);
    sums.kl += divergence;
    sums.agreeing += top == referenceTop;
    ++sums.numReferenced;
  }
  ++sums.numWindows;
  *this = sums;
  return Error::success();
}

double Evaluation::loss() const { return numTokens ? nll / numTokens : 0; }
double Evaluation::perplexity() const { return std::exp(loss()); }
double Evaluation::referencePerplexity() const {
  return numReferenced ? std::exp(referenceNll / numReferenced) : 0;
}
double Evaluation::divergence() const {
  return numReferenced ? kl / numReferenced : 0;
}
double Evaluation::agreement() const {
  return numReferenced ? static_cast<double>(agreeing) / numReferenced : 0;
}

Expected<SmallVector<ArrayRef<int64_t>>>
quench::evaluationWindows(ArrayRef<int64_t> ids, int64_t context,
                          int64_t limit) {
  if (context < 4)
    return createStringError("a context of " + Twine(context) +
                             " tokens, at least 4 are needed");
  SmallVector<ArrayRef<int64_t>> windows;
  while (static_cast<int64_t>(ids.size()) >= context &&
         (limit <= 0 || static_cast<int64_t>(windows.size()) < limit)) {
    windows.push_back(ids.take_front(context));
    ids = ids.drop_front(context);
  }
  if (windows.empty())
    return createStringError("the text has " + Twine(ids.size()) +
                             " tokens, a window needs " + Twine(context));
  return windows;
}
