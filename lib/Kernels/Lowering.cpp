//===- Lowering.cpp - From kernels to the LLVM dialect --------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Kernels/Lowering.h"
#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVMPass.h"
#include "mlir/Conversion/IndexToLLVM/IndexToLLVM.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MathToLibm/MathToLibm.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/UBToLLVM/UBToLLVM.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVMPass.h"
#include "mlir/Conversion/VectorToSCF/VectorToSCF.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "quench/Conversion/QKToGeneric/QKToGeneric.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

using namespace mlir;
using namespace quench;

X86Features quench::x86FeaturesOf(const CPUTarget &target) {
  X86Features features;
  if (!target.isX86() || !target.avx512)
    return features;
  features.avx512 = true;
  features.vnni = target.avx512vnni;
  features.vbmi = target.avx512vbmi;
  features.gfni = target.gfni;
  return features;
}

namespace {

struct ApproximateMath : PassWrapper<ApproximateMath, OperationPass<>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(ApproximateMath)
  StringRef getArgument() const final { return "approximate-math"; }
  StringRef getDescription() const final {
    return "Replace exp, log, tanh, erf and their like by polynomials";
  }
  void getDependentDialects(DialectRegistry &registry) const final {
    registry.insert<arith::ArithDialect, math::MathDialect,
                    vector::VectorDialect>();
  }
  void runOnOperation() final {
    RewritePatternSet patterns(&getContext());
    populateMathPolynomialApproximationPatterns(patterns, [](StringRef name) {
      return name != math::SinOp::getOperationName() &&
             name != math::CosOp::getOperationName();
    });
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

/// Only memrefs of static shape become bare pointers. The arguments of
/// functions get one that stands for "any"; nothing asks for it once it is a
/// pointer.
struct BareMemRefs : PassWrapper<BareMemRefs, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(BareMemRefs)
  StringRef getArgument() const final { return "bare-memref-arguments"; }
  StringRef getDescription() const final {
    return "Give flat memref arguments of functions a nominal static size";
  }
  void getDependentDialects(DialectRegistry &registry) const final {
    registry.insert<memref::MemRefDialect>();
  }

  static Type bare(Type type) {
    auto memref = dyn_cast<MemRefType>(type);
    if (!memref || memref.getRank() != 1 || !memref.isDynamicDim(0) ||
        !memref.getLayout().isIdentity())
      return type;
    return MemRefType::get({int64_t(1) << 40}, memref.getElementType(),
                           memref.getLayout(), memref.getMemorySpace());
  }

  void runOnOperation() final {
    OpBuilder b(&getContext());
    getOperation().walk([&](func::FuncOp function) {
      FunctionType type = function.getFunctionType();
      SmallVector<Type> inputs = llvm::map_to_vector(type.getInputs(), bare);
      function.setType(b.getFunctionType(inputs, type.getResults()));
      if (function.isExternal())
        return;
      b.setInsertionPointToStart(&function.front());
      for (BlockArgument argument : function.getArguments()) {
        Type old = argument.getType(), now = bare(old);
        if (old == now)
          continue;
        argument.setType(now);
        auto cast = memref::CastOp::create(b, function.getLoc(), old, argument);
        argument.replaceAllUsesExcept(cast, cast);
      }
    });
    getOperation().walk([&](func::CallOp call) {
      b.setInsertionPoint(call);
      for (OpOperand &operand : call->getOpOperands())
        if (Type now = bare(operand.get().getType());
            now != operand.get().getType())
          // No memref.cast: folded into one of a static size it would be
          // invalid.
          operand.set(memref::ReinterpretCastOp::create(
              b, call.getLoc(), cast<MemRefType>(now), operand.get(),
              b.getIndexAttr(0),
              ArrayRef<OpFoldResult>{
                  b.getIndexAttr(cast<MemRefType>(now).getDimSize(0))},
              ArrayRef<OpFoldResult>{b.getIndexAttr(1)}));
    });
  }
};

} // namespace

std::unique_ptr<Pass> quench::createBareMemRefArgumentsPass() {
  return std::make_unique<BareMemRefs>();
}

std::unique_ptr<Pass> quench::createApproximateMathPass() {
  return std::make_unique<ApproximateMath>();
}

void quench::registerKernelPasses() {
  PassRegistration<ApproximateMath>();
  PassRegistration<BareMemRefs>();
  registerEmitContractionPass();
}

void quench::buildKernelLoweringPipeline(OpPassManager &pm,
                                         const CPUTarget &target,
                                         bool genericOps) {
  X86Features features = x86FeaturesOf(target);
  if (features.avx512 && !genericOps)
    pm.addPass(createConvertQKToX86Pass(features));
  else
    pm.addPass(createConvertQKToGenericPass());
  pm.addPass(createApproximateMathPass());
  pm.addPass(createBareMemRefArgumentsPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addNestedPass<func::FuncOp>(createConvertVectorToSCFPass());
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(createSCFToControlFlowPass());
  pm.addPass(createConvertVectorToLLVMPass());
  pm.addPass(createConvertMathToLLVMPass());
  pm.addPass(createConvertMathToLibmPass());
  pm.addPass(createArithToLLVMConversionPass());
  pm.addPass(createFinalizeMemRefToLLVMConversionPass());
  pm.addPass(createConvertControlFlowToLLVMPass());
  ConvertFuncToLLVMPassOptions options;
  options.useBarePtrCallConv = true;
  pm.addPass(createConvertFuncToLLVMPass(options));
  pm.addPass(createConvertIndexToLLVMPass());
  pm.addPass(createUBToLLVMConversionPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
}

llvm::Expected<std::unique_ptr<LoadedLibrary>>
quench::compileAndLoad(ModuleOp module, const CPUTarget &target,
                       bool genericOps) {
  MLIRContext *context = module.getContext();
  registerBuiltinDialectTranslation(*context);
  registerLLVMDialectTranslation(*context);

  std::string messages;
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    messages += diagnostic.str() + "\n";
    return success();
  });
  auto fail = [&](StringRef what) {
    return llvm::createStringError((what + ": " + messages).str());
  };
  PassManager pm(context);
  buildKernelLoweringPipeline(pm, target, genericOps);
  if (failed(pm.run(module)))
    return fail("kernels could not be lowered");
  llvm::LLVMContext llvmContext;
  auto llvmModule = translateModuleToLLVMIR(module, llvmContext, "kernels");
  if (!llvmModule)
    return fail("kernels could not be translated to LLVM IR");
  return loadModule(*llvmModule, target);
}
