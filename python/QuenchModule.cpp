//===- QuenchModule.cpp - The extension of the Python package -------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "QuenchModule.h"

NB_MODULE(_quench, module) {
  nanobind::exception<quench::python::QuenchError>(module, "Error",
                                                   PyExc_RuntimeError);
  quench::python::bindRun(module);
  quench::python::bindTokenizer(module);
}
