//===- QuenchModule.h - What the extension's files share -------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_PYTHON_QUENCHMODULE_H
#define QUENCH_PYTHON_QUENCHMODULE_H

#include "llvm/Support/Error.h"
#include <nanobind/nanobind.h>
#include <stdexcept>

namespace quench::python {

/// quench.Error in Python.
struct QuenchError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Throws a QuenchError with the message of `error`, if it holds one.
inline void check(llvm::Error error) {
  if (error)
    throw QuenchError(llvm::toString(std::move(error)));
}

template <typename T> T check(llvm::Expected<T> value) {
  check(value.takeError());
  return std::move(*value);
}

/// Adds Model and Context: compiled models on numpy arrays.
void bindRun(nanobind::module_ &module);

/// Adds Tokenizer and StreamDecoder.
void bindTokenizer(nanobind::module_ &module);

} // namespace quench::python

#endif // QUENCH_PYTHON_QUENCHMODULE_H
