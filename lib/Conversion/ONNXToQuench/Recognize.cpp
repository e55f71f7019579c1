//===- Recognize.cpp - The pass onnx-recognize ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Recognizer.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "quench/Conversion/ONNXToQuench/ONNXToQuench.h"

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

namespace quench {
#define GEN_PASS_DEF_ONNXRECOGNIZE
#define GEN_PASS_DEF_DROPUNUSEDINITIALIZERS
#include "quench/Conversion/ONNXToQuench/Passes.h.inc"
} // namespace quench

namespace {
struct Recognize : public quench::impl::ONNXRecognizeBase<Recognize> {
  void runOnOperation() override {
    Constants constants(getOperation());
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      if (function.isExternal() || !function.getBody().hasOneBlock())
        continue;
      DimContext names;
      Recognizer r(function, constants, names);
      foldWeights(r);
      recognizeNorms(r);
      recognizeContrib(r);
      recognizeRotary(r);
      recognizeCaches(r);
      recognizeAttention(r);
      recognizeLinears(r);
      recognizeEmbeddings(r);
      assignRoles(r);
      r.refresh();
      r.shapes->annotate();
      // Recognized results may have more precise types.
      Operation *end = function.getBody().front().getTerminator();
      function.setFunctionType(FunctionType::get(
          &getContext(), function.getArgumentTypes(), end->getOperandTypes()));
    }
  }
};

struct DropUnused
    : public quench::impl::DropUnusedInitializersBase<DropUnused> {
  void runOnOperation() override {
    llvm::DenseSet<StringAttr> used;
    auto note = [&](Attribute attr) {
      attr.walk(
          [&](SymbolRefAttr ref) { used.insert(ref.getLeafReference()); });
    };
    getOperation().walk([&](Operation *op) {
      note(op->getAttrDictionary());
      if (Attribute properties = op->getPropertiesAsAttribute())
        note(properties);
    });
    for (auto init :
         llvm::make_early_inc_range(getOperation().getOps<qn::InitializerOp>()))
      if (!used.contains(init.getSymNameAttr()))
        init.erase();
  }
};
} // namespace

void quench::buildImportPipeline(OpPassManager &manager) {
  manager.addPass(createONNXRecognize());
  manager.addPass(createConvertONNXToQuench());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  manager.addPass(createDropUnusedInitializers());
}

namespace quench {
#define GEN_PASS_REGISTRATION
#include "quench/Conversion/ONNXToQuench/Passes.h.inc"
} // namespace quench

void quench::registerONNXToQuenchPasses() {
  registerQuenchONNXToQuenchPasses();
  PassPipelineRegistration<>(
      "quench-import",
      "From the importer's module to the quench level: recognize, convert, "
      "clean up",
      buildImportPipeline);
}
