//===- Compile.cpp - From an ONNX file to a native one -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Pipelines/Compile.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotAnalysis.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "quench/Conversion/ONNXToQuench/ONNXToQuench.h"
#include "quench/Conversion/QuenchToSPMD/QuenchToSPMD.h"
#include "quench/Dialect/QK/IR/QK.h"
#include "quench/Dialect/Quench/Transforms/Bufferization.h"
#include "quench/Dialect/Quench/Transforms/MakeState.h"
#include "quench/Import/ONNX/Import.h"
#include "quench/InitAll.h"
#include "quench/Kernels/Lowering.h"
#include "quench/Pipelines/Describe.h"
#include "quench/Target/CPU/Emit.h"
#include "quench/Target/CPU/Link.h"
#include "quench/Target/CPU/WeightsObject.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include <chrono>
#include <thread>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

void quench::registerPipelineDialects(DialectRegistry &registry) {
  registerAllDialects(registry);
  registerImportDialects(registry);
  registerQuenchBufferizationModels(registry);
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
}

namespace {

/// Collects what the passes report, as one error.
class Diagnostics {
public:
  explicit Diagnostics(MLIRContext &context)
      : handler(&context, [this](Diagnostic &diagnostic) {
          if (diagnostic.getSeverity() == DiagnosticSeverity::Warning)
            llvm::errs() << "warning: " << diagnostic.str() << '\n';
          if (diagnostic.getSeverity() != DiagnosticSeverity::Error)
            return success();
          if (!text.empty())
            text += "\n";
          if (auto named = diagnostic.getLocation()->findInstanceOf<NameLoc>())
            text += "'" + named.getName().str() + "': ";
          text += diagnostic.str();
          return success();
        }) {}
  Error error(const llvm::Twine &otherwise) {
    if (text.empty())
      return createStringError(otherwise);
    return createStringError(std::exchange(text, {}));
  }

private:
  std::string text;
  ScopedDiagnosticHandler handler;
};

/// The weight section of the output.
class ObjectSink : public SectionSink {
public:
  explicit ObjectSink(WeightsObject &object) : object(object) {}
  Expected<uint64_t> append(llvm::ArrayRef<uint8_t> bytes,
                            uint64_t align) override {
    return object.append(bytes, align);
  }

private:
  WeightsObject &object;
};

class Compiler {
public:
  Compiler(const CompileOptions &options, CompileReport &report)
      : options(options), report(report), context(registry()),
        diagnostics(context), files(options.model) {
    // Builder code outside of passes makes ops of these.
    context.loadDialect<
        affine::AffineDialect, arith::ArithDialect, func::FuncDialect,
        linalg::LinalgDialect, LLVM::LLVMDialect, math::MathDialect,
        memref::MemRefDialect, qk::QKDialect, qn::QuenchDialect,
        scf::SCFDialect, tensor::TensorDialect, vector::VectorDialect>();
  }

  Error run();

private:
  static const DialectRegistry &registry() {
    static DialectRegistry *all = [] {
      auto *r = new DialectRegistry;
      registerPipelineDialects(*r);
      return r;
    }();
    return *all;
  }

  /// Runs a step under its name, timed.
  Error step(StringRef name, llvm::function_ref<Error()> body) {
    if (options.progress)
      options.progress(name, "", 0, 0);
    auto start = std::chrono::steady_clock::now();
    Error error = body();
    std::chrono::duration<double> seconds =
        std::chrono::steady_clock::now() - start;
    report.seconds.emplace_back(name.str(), seconds.count());
    return error;
  }
  Error runPasses(StringRef what,
                  llvm::function_ref<void(OpPassManager &)> build);
  int threads() const {
    return options.threads ? options.threads
                           : std::max(1u, std::thread::hardware_concurrency());
  }
  bool stops(StringRef stage) const { return options.stopAfter == stage; }
  Error writeIR();
  Error writeText(StringRef text);
  Error simplify();
  /// Puts the formats of the budget into the recipe.
  Error solve(Recipe &recipe);
  Error calibrate();
  Error materializeWeights(WeightsObject &object);
  Error bufferize();
  Error lower();
  Error emit(const CPUTarget &target, const WeightsResult &weights,
             StringRef weightsPath);

  const CompileOptions &options;
  CompileReport &report;
  MLIRContext context;
  Diagnostics diagnostics;
  OwningOpRef<ModuleOp> module;
  ModelFiles files;
  CalibratedWeights calibrated;
  int printed = 0; // folders below options.printTree
};

} // namespace

Error Compiler::runPasses(StringRef what,
                          llvm::function_ref<void(OpPassManager &)> build) {
  PassManager manager(&context);
  manager.enableVerifier(true);
  if (!options.printTree.empty()) {
    context.disableMultithreading(); // printing asks for it
    std::string folder =
        options.printTree + "/" + std::to_string(++printed) + "-" + what.str();
    llvm::replace(folder, ' ', '-');
    if (std::error_code error = llvm::sys::fs::create_directories(folder))
      return llvm::createFileError(folder, error);
    manager.enableIRPrintingToFileTree(
        [](Pass *, Operation *) { return false; },
        [](Pass *, Operation *) { return true; }, true, true, false, folder,
        OpPrintingFlags().elideLargeElementsAttrs(16).elideLargeResourceString(
            64));
  }
  build(manager);
  if (failed(manager.run(*module)))
    return diagnostics.error("cannot " + what);
  return Error::success();
}

Error Compiler::writeText(StringRef text) {
  return llvm::writeToOutput(options.output, [&](raw_ostream &os) -> Error {
    os << text;
    os.flush();
    auto &file = static_cast<llvm::raw_fd_ostream &>(os);
    if (!file.has_error())
      return Error::success();
    std::error_code error = file.error();
    file.clear_error();
    return llvm::createFileError(options.output, error);
  });
}

Error Compiler::writeIR() {
  std::string text;
  llvm::raw_string_ostream os(text);
  module->print(
      os,
      OpPrintingFlags().elideLargeElementsAttrs(64).elideLargeResourceString(
          64));
  return writeText(text);
}

Expected<OwningOpRef<ModuleOp>> quench::importModel(MLIRContext &context,
                                                    StringRef path) {
  Expected<OwningOpRef<ModuleOp>> module = importONNX(path, context);
  if (!module)
    return module.takeError();
  Diagnostics diagnostics(context);
  PassManager manager(&context);
  buildImportPipeline(manager);
  if (failed(manager.run(**module)))
    return diagnostics.error("cannot understand the model");
  return module;
}

Error Compiler::simplify() {
  return runPasses("simplify", [](OpPassManager &manager) {
    manager.addPass(createCanonicalizerPass());
    manager.addPass(createCSEPass());
  });
}

Error Compiler::solve(Recipe &recipe) {
  auto main = module->lookupSymbol<func::FuncOp>("main");
  if (options.calibration.data.path.empty())
    return createStringError(
        "a bit budget is measured on calibration data: give --calib FILE");
  Expected<CalibrationData> data =
      CalibrationData::load(main, options.model, options.calibration.data);
  if (!data)
    return data.takeError();
  BudgetOptions budgeting = options.budgeting;
  budgeting.threads = threads();
  budgeting.cache = options.calibration.cache;
  budgeting.progress = options.progress;
  Expected<SolvedBudget> solved =
      solveBudget(*module, files, *data, recipe, *options.budget, budgeting);
  if (!solved)
    return solved.takeError();
  recipe = solved->recipe;
  report.recipe = recipe.name;
  report.budget = std::make_shared<SolvedBudget>(std::move(*solved));
  return options.solved ? options.solved(*report.budget) : Error::success();
}

Error Compiler::calibrate() {
  CalibrationOptions calibrating = options.calibration;
  calibrating.threads = threads();
  calibrating.progress = options.progress;
  Expected<CalibratedWeights> result =
      quantizeModel(*module, files, calibrating);
  if (!result)
    return result.takeError();
  calibrated = std::move(*result);
  report.calibrationSamples = calibrated.samples;
  report.calibrationTokens = calibrated.tokens;
  report.notes = calibrated.notes;
  return Error::success();
}

Error Compiler::materializeWeights(WeightsObject &object) {
  ObjectSink sink(object);
  MaterializeOptions materializing;
  materializing.threads = threads();
  materializing.quantized = calibrated.weights.get();
  materializing.maxPositions = options.maxPositions;
  materializing.progress = [&](StringRef name, int64_t done, int64_t total) {
    if (options.progress)
      options.progress("weights", name, done, total);
  };
  if (failed(materialize(*module, files, sink, materializing, report.weights)))
    return diagnostics.error("cannot materialize the weights");
  return Error::success();
}

Error Compiler::bufferize() {
  return runPasses("place tensors in memory", [](OpPassManager &manager) {
    manager.addPass(createCanonicalizerPass());
    manager.addPass(createCSEPass());
    manager.addNestedPass<func::FuncOp>(createLinalgElementwiseOpFusionPass());
    manager.addPass(createCanonicalizerPass());
    manager.addPass(createCSEPass());
    manager.addNestedPass<func::FuncOp>(
        bufferization::createEmptyTensorEliminationPass());
    bufferization::OneShotBufferizePassOptions bufferizing;
    bufferizing.bufferizeFunctionBoundaries = true;
    bufferizing.functionBoundaryTypeConversion =
        bufferization::LayoutMapOption::IdentityLayoutMap;
    manager.addPass(bufferization::createOneShotBufferizePass(bufferizing));
    manager.addPass(memref::createResolveShapedTypeResultDimsPass());
    manager.addPass(createCanonicalizerPass());
    manager.addPass(createCSEPass());
  });
}

Error Compiler::lower() {
  for (func::FuncOp function : llvm::to_vector(module->getOps<func::FuncOp>()))
    if (failed(resultsToArguments(function)) ||
        failed(flattenBuffers(function)))
      return diagnostics.error("cannot place '" + function.getName() +
                               "' in memory");
  if (Error error = runPasses("simplify", [](OpPassManager &manager) {
        manager.addPass(memref::createResolveShapedTypeResultDimsPass());
        manager.addPass(createCanonicalizerPass());
        manager.addPass(createCSEPass());
      }))
    return error;
  for (func::FuncOp function :
       llvm::to_vector(module->getOps<func::FuncOp>())) {
    std::vector<std::string> symbols = symbolsOf(function);
    std::string name = function.getName().str();
    if (failed(outlineLayers(function)) ||
        failed(convertToSPMD(*module, function, symbols)) ||
        failed(makeEntry(*module, function, symbols, "quench_" + name)))
      return diagnostics.error("cannot lower '" + name + "'");
    if (name == "decode")
      makeStateSize(*module, function, 2, "quench_state_bytes");
  }
  // What only this module calls may be inlined and dropped.
  auto internal = LLVM::LinkageAttr::get(&context, LLVM::Linkage::Internal);
  module->walk([&](func::FuncOp function) {
    if (function.isPrivate() && !function.isExternal())
      function->setAttr("llvm.linkage", internal);
  });
  return Error::success();
}

Error Compiler::emit(const CPUTarget &target, const WeightsResult &weights,
                     StringRef weightsPath) {
  Expected<ProgramDescription> program =
      describeProgram(*module, target, weights, options, report);
  if (!program)
    return program.takeError();
  // Said; LLVM has no place for it.
  module->walk([&](func::FuncOp function) {
    for (unsigned n = 0; n != function.getNumArguments(); ++n)
      for (NamedAttribute attribute :
           function.getArgAttrDict(n) ? function.getArgAttrDict(n).getValue()
                                      : ArrayRef<NamedAttribute>())
        if (attribute.getName().getValue().starts_with("quench."))
          function.removeArgAttr(n, attribute.getName());
  });
  if (Error error = step("lower", [&] {
        return runPasses("lower to LLVM", [&](OpPassManager &manager) {
          buildKernelLoweringPipeline(manager, target);
        });
      }))
    return error;
  if (stops("llvm") || options.emit == "mlir")
    return writeIR();
  llvm::LLVMContext llvmContext;
  std::unique_ptr<llvm::Module> llvmModule =
      translateModuleToLLVMIR(*module, llvmContext, "quench");
  if (!llvmModule)
    return diagnostics.error("cannot translate to LLVM IR");
  if (Error error = emitProgram(*llvmModule, *program))
    return error;
  module = {};
  llvm::SmallVector<char, 0> object;
  if (Error error = step("code", [&] {
        llvm::raw_svector_ostream out(object);
        CodegenOptions codegen;
        codegen.kind = options.emit == "asm"    ? EmitKind::Assembly
                       : options.emit == "llvm" ? EmitKind::LLVM
                                                : EmitKind::Object;
        return optimizeAndEmit(*llvmModule, target, out, codegen);
      }))
    return error;
  report.codeBytes = object.size();
  if (options.emit != "so")
    return writeText(StringRef(object.data(), object.size()));
  return step("link", [&]() -> Error {
    llvm::MemoryBufferRef code(StringRef(object.data(), object.size()),
                               "code.o");
    std::vector<std::string> files;
    if (!weights.beside && weights.bytes)
      files.push_back(weightsPath.str());
    LinkOptions linking;
    linking.keepSymbols = options.keepSymbols;
    if (Error error =
            linkSharedObject(code, files, options.output, target, linking))
      return error;
    uint64_t size = 0;
    if (!llvm::sys::fs::file_size(options.output, size))
      report.fileBytes = size + (weights.beside ? weights.bytes : 0);
    return Error::success();
  });
}

Error Compiler::run() {
  Expected<CPUTarget> target = resolveCPU(options.cpu);
  if (!target)
    return target.takeError();
  report.cpu = target->name;
  report.recipe = options.recipe;
  if (Error error = step("import", [&]() -> Error {
        if (stops("onnx")) {
          Expected<OwningOpRef<ModuleOp>> imported =
              importONNX(options.model, context);
          if (!imported)
            return imported.takeError();
          module = std::move(*imported);
          return Error::success();
        }
        Expected<OwningOpRef<ModuleOp>> imported =
            importModel(context, options.model);
        if (!imported)
          return imported.takeError();
        module = std::move(*imported);
        return Error::success();
      }))
    return error;
  if (stops("onnx"))
    return writeIR();
  Recipe recipe;
  if (Error error = step("recipe", [&]() -> Error {
        Expected<Recipe> loaded = loadRecipe(options.recipe);
        if (!loaded)
          return loaded.takeError();
        recipe = std::move(*loaded);
        if (Error inserted = insertRecipeMaps(*module, recipe))
          return inserted;
        return simplify();
      }))
    return error;
  if (options.budget)
    if (Error error = step("budget", [&] { return solve(recipe); }))
      return error;
  if (Error error = step("formats", [&]() -> Error {
        if (Error applied = quantizeLayers(*module, recipe))
          return applied;
        // Weights keep their expressions from here on, by which calibrated ones
        // are found.
        return simplify();
      }))
    return error;
  if (Error error = step("calibrate", [&] { return calibrate(); }))
    return error;
  if (Error error = step("state", [&]() -> Error {
        FailureOr<bool> state = makeState(*module);
        if (failed(state))
          return diagnostics.error("cannot make decode and prefill functions");
        report.hasState = *state;
        // Equal weights must be equal expressions in all functions: each is
        // stored once.
        return simplify();
      }))
    return error;
  if (stops("quench"))
    return writeIR();

  std::string weightsPath = options.output + ".weights";
  Expected<std::unique_ptr<WeightsObject>> object =
      WeightsObject::create(weightsPath, *target);
  if (!object)
    return object.takeError();
  if (Error error =
          step("weights", [&] { return materializeWeights(**object); }))
    return error;
  if (stops("contract")) {
    if (Error error = runPasses("simplify", [](OpPassManager &manager) {
          manager.addPass(createCanonicalizerPass());
          manager.addPass(createCSEPass());
        }))
      return error;
    return writeIR();
  }
  Expected<WeightsResult> weights = (*object)->finish();
  if (!weights)
    return weights.takeError();
  struct RemoveAtExit {
    std::string path;
    ~RemoveAtExit() {
      if (!path.empty())
        llvm::sys::fs::remove(path);
    }
  } removeWeights{weightsPath};
  report.weightsBytes = weights->bytes;
  if (Error error = step("buffers", [&] { return bufferize(); }))
    return error;
  if (Error error = step("loops", [&] { return lower(); }))
    return error;
  if (stops("qk"))
    return writeIR();
  if (Error error = emit(*target, *weights, weightsPath))
    return error;
  if (weights->beside && options.emit == "so")
    removeWeights.path.clear();
  return Error::success();
}

Error quench::compileModel(const CompileOptions &options,
                           CompileReport &report) {
  return Compiler(options, report).run();
}
