//===- Emit.cpp - LLVM IR to object code ----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Target/CPU/Emit.h"
#include "llvm/Analysis/TargetLibraryInfo.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/Verifier.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Target/TargetOptions.h"
#include <mutex>

using namespace llvm;
using namespace quench;

static void initializeTargets() {
  static std::once_flag once;
  std::call_once(once, [] {
    InitializeAllTargetInfos();
    InitializeAllTargets();
    InitializeAllTargetMCs();
    InitializeAllAsmPrinters();
    InitializeAllAsmParsers();
  });
}

static Expected<std::unique_ptr<TargetMachine>>
makeMachine(const CPUTarget &target, int optLevel) {
  initializeTargets();
  Triple triple(target.triple);
  std::string message;
  const Target *backend = TargetRegistry::lookupTarget(triple, message);
  if (!backend)
    return createStringError("no code generator for '" + target.triple +
                             "': " + message);
  TargetOptions options;
  options.FunctionSections = true;
  options.DataSections = true;
  auto level =
      CodeGenOpt::getLevel(optLevel).value_or(CodeGenOptLevel::Aggressive);
  std::unique_ptr<TargetMachine> machine(
      backend->createTargetMachine(triple, target.cpu, target.features, options,
                                   Reloc::PIC_, CodeModel::Small, level));
  if (!machine)
    return createStringError("no code generator for '" + target.triple + "'");
  return machine;
}

Expected<std::string> quench::dataLayoutFor(const CPUTarget &target) {
  auto machine = makeMachine(target, 2);
  if (!machine)
    return machine.takeError();
  return (*machine)->createDataLayout().getStringRepresentation();
}

static void setAttributes(Module &module, const CPUTarget &target) {
  for (Function &function : module) {
    if (function.isDeclaration())
      continue;
    function.addFnAttr("target-cpu", target.cpu);
    if (!target.features.empty())
      function.addFnAttr("target-features", target.features);
    if (!target.tune.empty())
      function.addFnAttr("tune-cpu", target.tune);
    // LLVM decides on a frame pointer before it knows that registers will be
    // spilled; without one, slots of 64 bytes lie on a stack aligned to 16 and
    // straddle cache lines.
    function.addFnAttr("frame-pointer", "all");
    if (target.isX86())
      function.addFnAttr("stackrealign");
    if (target.vectorBits > 128)
      function.addFnAttr("prefer-vector-width",
                         std::to_string(target.vectorBits));
    function.addFnAttr(Attribute::NoUnwind);
  }
}

/// Collects what the code generator reports as an error instead of ending the
/// process.
namespace {
struct CollectErrors : public DiagnosticHandler {
  std::string &text;
  explicit CollectErrors(std::string &text) : text(text) {}
  bool handleDiagnostics(const DiagnosticInfo &info) override {
    if (info.getSeverity() == DS_Error) {
      raw_string_ostream stream(text);
      if (!text.empty())
        stream << "; ";
      DiagnosticPrinterRawOStream printer(stream);
      info.print(printer);
    }
    return true;
  }
};
} // namespace

static void optimize(Module &module, TargetMachine &machine, int optLevel) {
  PipelineTuningOptions tuning;
  tuning.LoopVectorization = optLevel >= 2;
  tuning.SLPVectorization = optLevel >= 2;
  tuning.LoopInterleaving = optLevel >= 2;
  LoopAnalysisManager loops;
  FunctionAnalysisManager functions;
  CGSCCAnalysisManager cgscc;
  ModuleAnalysisManager modules;
  PassBuilder builder(&machine, tuning);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(cgscc);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, cgscc, modules);
  OptimizationLevel level = optLevel >= 3   ? OptimizationLevel::O3
                            : optLevel == 2 ? OptimizationLevel::O2
                                            : OptimizationLevel::O1;
  ModulePassManager passes =
      optLevel <= 0 ? builder.buildO0DefaultPipeline(OptimizationLevel::O0)
                    : builder.buildPerModuleDefaultPipeline(level);
  passes.run(module, modules);
}

Error quench::optimizeAndEmit(Module &module, const CPUTarget &target,
                              raw_pwrite_stream &out,
                              const CodegenOptions &options) {
  auto machine = makeMachine(target, options.optLevel);
  if (!machine)
    return machine.takeError();
  module.setTargetTriple(Triple(target.triple));
  module.setDataLayout((*machine)->createDataLayout());
  module.setPICLevel(PICLevel::BigPIC);
  setAttributes(module, target);

  std::string message;
  raw_string_ostream stream(message);
  if (verifyModule(module, &stream))
    return createStringError("the generated LLVM IR is not valid: " + message);

  LLVMContext &context = module.getContext();
  std::unique_ptr<DiagnosticHandler> previous = context.getDiagnosticHandler();
  context.setDiagnosticHandler(std::make_unique<CollectErrors>(message));
  optimize(module, **machine, options.optLevel);
  bool refused = false;
  if (options.kind == EmitKind::LLVM) {
    module.print(out, nullptr);
  } else {
    legacy::PassManager codegen;
    codegen.add(new TargetLibraryInfoWrapperPass(module.getTargetTriple()));
    refused = (*machine)->addPassesToEmitFile(
        codegen, out, nullptr,
        options.kind == EmitKind::Object ? CodeGenFileType::ObjectFile
                                         : CodeGenFileType::AssemblyFile);
    if (!refused)
      codegen.run(module);
  }
  context.setDiagnosticHandler(std::move(previous));
  if (refused)
    return createStringError("the code generator for '" + target.triple +
                             "' does not write this kind of file");
  if (!message.empty())
    return createStringError("the code generator for '" + target.name +
                             "' failed: " + message);
  return Error::success();
}
