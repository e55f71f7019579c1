//===- Try.h - Errors that are passed on ------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_SUPPORT_TRY_H
#define QUENCH_SUPPORT_TRY_H

#include "llvm/Support/Error.h"

/// auto NAME = value of an Expected, or return its error.
#define QUENCH_TRY(NAME, EXPR)                                                 \
  auto NAME##Expected = (EXPR);                                                \
  if (!NAME##Expected)                                                         \
    return NAME##Expected.takeError();                                         \
  auto NAME = std::move(*NAME##Expected)
/// Returns the error if EXPR is one.
#define QUENCH_CHECK(EXPR)                                                     \
  if (llvm::Error quenchError = (EXPR))                                        \
  return quenchError

#endif // QUENCH_SUPPORT_TRY_H
