//===- EmitContraction.cpp - Kernels by name, to look at ------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/Pass.h"
#include "quench/Dialect/QK/IR/QK.h"
#include "quench/Kernels/Contract.h"
#include "quench/Kernels/Lowering.h"

using namespace mlir;
using namespace quench;

namespace {

struct EmitContraction : PassWrapper<EmitContraction, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(EmitContraction)
  EmitContraction() = default;
  EmitContraction(const EmitContraction &other) : PassWrapper(other) {}
  StringRef getArgument() const final { return "emit-contraction"; }
  StringRef getDescription() const final {
    return "Add the kernels of a contraction and its stages to the module";
  }
  void getDependentDialects(DialectRegistry &registry) const final {
    registry.insert<arith::ArithDialect, func::FuncDialect, LLVM::LLVMDialect,
                    math::MathDialect, memref::MemRefDialect, qk::QKDialect,
                    scf::SCFDialect, vector::VectorDialect>();
  }
  void runOnOperation() final {
    auto parsed = getFormat(format);
    if (!parsed) {
      getOperation().emitError(llvm::toString(parsed.takeError()));
      return signalPassFailure();
    }
    if (n <= 0 || k <= 0) {
      getOperation().emitError("n and k must be positive");
      return signalPassFailure();
    }
    if (integer && !(*parsed)->isInteger()) {
      getOperation().emitError("format ")
          << (*parsed)->spec() << " has no integer levels";
      return signalPassFailure();
    }
    ContractSpec spec{*parsed, n, k, integer, prefetch, false};
    for (bool tiled : {false, true}) {
      // The functions would be dropped if nobody could call them.
      StageSpec stage(spec, tiled);
      if (stages)
        getOrCreateStage(getOperation(), stage).setPublic();
      (tiled ? getOrCreateGemm : getOrCreateGemv)(getOperation(), spec)
          .setPublic();
    }
  }

  Option<std::string> format{*this, "format", llvm::cl::desc("Format")};
  Option<int64_t> n{*this, "n", llvm::cl::desc("Rows"), llvm::cl::init(0)};
  Option<int64_t> k{*this, "k", llvm::cl::desc("Columns"), llvm::cl::init(0)};
  Option<bool> integer{*this, "int8", llvm::cl::desc("int8 activations"),
                       llvm::cl::init(false)};
  Option<bool> prefetch{*this, "prefetch", llvm::cl::desc("Fetch ahead"),
                        llvm::cl::init(true)};
  Option<bool> stages{*this, "stages", llvm::cl::desc("Stages too"),
                      llvm::cl::init(true)};
};

} // namespace

void quench::registerEmitContractionPass() {
  PassRegistration<EmitContraction>();
}
