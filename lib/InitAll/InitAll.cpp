//===- InitAll.cpp - All dialects and passes -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/InitAll.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/InitAllPasses.h"
#include "quench/Conversion/ONNXToQuench/ONNXToQuench.h"
#include "quench/Conversion/QKToGeneric/QKToGeneric.h"
#include "quench/Conversion/QKToX86/QKToX86.h"
#include "quench/Dialect/ONNX/IR/ONNX.h"
#include "quench/Dialect/QK/IR/QK.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Dialect/Quench/Transforms/Passes.h"
#include "quench/Interpreter/Passes.h"
#include "quench/Kernels/Lowering.h"

using namespace mlir;

void quench::registerAllDialects(DialectRegistry &registry) {
  mlir::registerAllDialects(registry);
  mlir::registerAllExtensions(registry);
  registry.insert<onnx::ONNXDialect, qk::QKDialect, qn::QuenchDialect>();
}

void quench::registerAllPasses() {
  mlir::registerAllPasses();
  registerONNXToQuenchPasses();
  registerQuenchTransformsPasses();
  registerConvertQKToGenericPass();
  registerConvertQKToX86Pass();
  registerKernelPasses();
  registerQuenchInterpreterPasses();
}
