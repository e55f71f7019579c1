//===- QuantizeLarge.cpp - A pass in a plugin -------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The code of docs/Tutorials/WriteAPass.md: gives the weights of large linear
// layers a format.
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Tools/Plugins/PassPlugin.h"
#include "quench/Dialect/Quench/IR/Quench.h"

using namespace mlir;
using namespace quench;

namespace {

struct QuantizeLarge
    : public PassWrapper<QuantizeLarge, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(QuantizeLarge)

  QuantizeLarge() = default;
  QuantizeLarge(const QuantizeLarge &other) : PassWrapper(other) {}

  StringRef getArgument() const final { return "tutorial-quantize-large"; }
  StringRef getDescription() const final {
    return "Give the weights of large linear layers a format";
  }
  void getDependentDialects(DialectRegistry &registry) const final {
    registry.insert<qn::QuenchDialect>();
  }

  void runOnOperation() final;

  Option<std::string> format{*this, "format", llvm::cl::desc("Their format"),
                             llvm::cl::init("int<8>")};
  Option<int64_t> elements{
      *this, "elements", llvm::cl::desc("Weights of at least so many numbers"),
      llvm::cl::init(1024)};
};

} // namespace

void QuantizeLarge::runOnOperation() {
  ModuleOp module = getOperation();
  // An unknown format is an error that says what there is.
  auto attr = qn::FormatAttr::parseSpec(&getContext(), format,
                                        [&]() { return module.emitError(); });
  if (!attr)
    return signalPassFailure();

  module.walk([&](qn::LinearOp op) {
    auto type = dyn_cast<RankedTensorType>(op.getWeight().getType());
    if (!type || type.getNumElements() < elements)
      return;
    // Nothing is computed here: the weight's expression grows by one op, and
    // quench-materialize evaluates it.
    OpBuilder builder(op);
    auto quantized = qn::QTensorType::get(&getContext(), type.getShape(), attr);
    Value weight = qn::QuantizeOp::create(builder, op.getLoc(), quantized,
                                          op.getWeight(), "rtn");
    op.getWeightMutable().assign(weight);
    op.emitRemark("weight in ") << attr.getSpec();
  });
}

/// What a tool looks for when it loads the plugin.
extern "C" LLVM_ATTRIBUTE_WEAK PassPluginLibraryInfo mlirGetPassPluginInfo() {
  return {MLIR_PLUGIN_API_VERSION, "QuantizeLarge", "1",
          []() { PassRegistration<QuantizeLarge>(); }};
}
