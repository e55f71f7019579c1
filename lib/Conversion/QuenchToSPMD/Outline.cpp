//===- Outline.cpp - Equal layers become one function -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "quench/Conversion/QuenchToSPMD/QuenchToSPMD.h"
using namespace mlir;
FailureOr<int64_t> quench::outlineLayers(func::FuncOp function) { return 0; }
