//===- quench-interpret.cpp - Runs a module on .npy files -------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   quench-interpret MODEL.mlir|MODEL.onnx [--input NAME=FILE.npy]...
//                    [--passes PIPELINE] [--output-dir DIR]
//
// Without a name, files are given to the inputs in their order. Results go to
// DIR/NAME.npy, and a line about each to standard output.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "quench/Analysis/Eval.h"
#include "quench/Calibration/Walk.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Interpreter/Interpreter.h"
#include "quench/Interpreter/LanguageModel.h"
#include "quench/Support/ModelFiles.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/Path.h"
#include <chrono>
#ifdef QUENCH_HAS_IMPORT
#include "quench/Conversion/ONNXToQuench/ONNXToQuench.h"
#include "quench/Import/ONNX/Import.h"
#endif
#ifdef QUENCH_HAS_PIPELINES
#include "quench/Pipelines/Compile.h"
#endif

using namespace mlir;
using namespace quench;
namespace cl = llvm::cl;

static cl::opt<std::string> modelPath(cl::Positional, cl::Required,
                                      cl::desc("MODEL.mlir|MODEL.onnx"));
static cl::list<std::string> inputFiles("input",
                                        cl::desc("An input: [NAME=]FILE.npy"));
static cl::opt<std::string> outputDir("output-dir",
                                      cl::desc("Where results are written"));
static cl::opt<std::string> functionName("function", cl::init("main"),
                                         cl::desc("The function to run"));
static cl::opt<std::string>
    files("files", cl::desc("The model whose folder has the weights' files"));
static cl::opt<std::string> passes("passes",
                                   cl::desc("A pipeline that is run first"));
static cl::opt<std::string> recipeName("recipe",
                                       cl::desc("A recipe that is applied"));
static cl::opt<bool>
    printIR("print-ir", cl::desc("Print the module instead of running it"));
static cl::opt<std::string>
    evalFile("eval",
             cl::desc("Token ids (.npy): evaluate windows of them instead"));
static cl::opt<int> contextLength("context", cl::init(512),
                                  cl::desc("Tokens of a window"));
static cl::opt<int> windowLimit("windows", cl::init(0),
                                cl::desc("At most so many windows"));
static cl::opt<std::string>
    referencePath("reference", cl::desc("Compare with this .onnx, as it is"));
static cl::opt<std::string> momentsFile(
    "moments",
    cl::desc("Calibration data: write the second moments of the inputs of "
             "linear layers to OUTPUT-DIR/NAME.npy instead"));
static cl::opt<unsigned> repeat("repeat", cl::init(1),
                                cl::desc("Run so many times"));

static llvm::Error load(MLIRContext &context, StringRef path,
                        OwningOpRef<ModuleOp> &module) {
  if (!path.ends_with(".onnx")) {
    module = parseSourceFile<ModuleOp>(path, ParserConfig(&context));
    if (!module)
      return llvm::createStringError("cannot read the module");
    return llvm::Error::success();
  }
#ifdef QUENCH_HAS_IMPORT
  llvm::Expected<OwningOpRef<ModuleOp>> imported = importONNX(path, context);
  if (!imported)
    return imported.takeError();
  module = std::move(*imported);
  PassManager manager(&context);
  buildImportPipeline(manager);
  if (failed(manager.run(*module)))
    return llvm::createStringError("the conversion failed");
  return llvm::Error::success();
#else
  return llvm::createStringError("built without the import of ONNX models");
#endif
}

static llvm::Error prepare(MLIRContext &context, ModuleOp module) {
  if (!recipeName.empty()) {
#ifdef QUENCH_HAS_PIPELINES
    if (llvm::Error error = applyRecipeToModule(module, recipeName))
      return error;
#else
    return llvm::createStringError("built without recipes");
#endif
  }
  if (!passes.empty()) {
    PassManager manager(&context);
    if (failed(parsePassPipeline(passes, manager)) ||
        failed(manager.run(module)))
      return llvm::createStringError("the passes failed");
  }
  return llvm::Error::success();
}

/// The inputs in the order of the function's arguments.
static llvm::Error readInputs(func::FuncOp function,
                              SmallVectorImpl<HostTensor> &inputs) {
  inputs.resize(function.getNumArguments());
  unsigned next = 0;
  for (StringRef given : inputFiles) {
    auto [name, path] = given.split('=');
    unsigned i = next++;
    if (path.empty()) {
      path = name;
    } else {
      for (i = 0; i < inputs.size(); ++i)
        if (auto attribute =
                function.getArgAttrOfType<StringAttr>(i, "quench.name");
            attribute && attribute.getValue() == name)
          break;
    }
    if (i >= inputs.size())
      return llvm::createStringError("no input for '" + given + "'");
    llvm::Expected<HostTensor> tensor = HostTensor::loadNpy(path);
    if (!tensor)
      return tensor.takeError();
    inputs[i] = std::move(*tensor);
  }
  return llvm::Error::success();
}

namespace {
/// A module that can be run.
struct Model {
  OwningOpRef<ModuleOp> module;
  std::unique_ptr<ModelFiles> mapped;
  std::unique_ptr<Interpreter> interpreter;
  func::FuncOp function;

  /// After `load` (and `prepare`).
  llvm::Error makeReady(StringRef path) {
    auto attribute = (*module)->getAttrOfType<StringAttr>("quench.model_path");
    mapped = std::make_unique<ModelFiles>(
        path.empty() && attribute ? attribute.getValue() : path);
    InterpreterOptions options;
    options.files = mapped.get();
    llvm::Expected<Interpreter> made = Interpreter::create(*module, options);
    if (!made)
      return made.takeError();
    interpreter = std::make_unique<Interpreter>(std::move(*made));
    function = module->lookupSymbol<func::FuncOp>(functionName);
    if (!function)
      return llvm::createStringError("no function '" + functionName + "'");
    return llvm::Error::success();
  }
};
} // namespace

static llvm::Error evaluate(Model &model, MLIRContext &context) {
  Model reference;
  if (!referencePath.empty()) {
    if (llvm::Error error = load(context, referencePath, reference.module))
      return error;
    if (llvm::Error error = reference.makeReady(""))
      return error;
  }
  llvm::Expected<HostTensor> text = HostTensor::loadNpy(evalFile);
  if (!text)
    return text.takeError();
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < text->getNumElements(); ++i)
    ids.push_back(text->intAt(i));
  auto windows = evaluationWindows(ids, contextLength, windowLimit);
  if (!windows)
    return windows.takeError();
  Evaluation evaluation;
  for (ArrayRef<int64_t> window : *windows) {
    llvm::Expected<HostTensor> logits =
        runLanguageModel(*model.interpreter, model.function, window);
    if (!logits)
      return logits.takeError();
    HostTensor other;
    if (reference.interpreter) {
      llvm::Expected<HostTensor> got =
          runLanguageModel(*reference.interpreter, reference.function, window);
      if (!got)
        return got.takeError();
      other = std::move(*got);
    }
    if (llvm::Error error =
            evaluation.addWindow(window, *logits, other ? &other : nullptr))
      return error;
    llvm::errs() << ".";
  }
  llvm::outs() << llvm::format(
      "perplexity %.4f loss %.5f kl %.5f top1 %.4f tokens %lld\n",
      evaluation.perplexity(), evaluation.loss(), evaluation.divergence(),
      evaluation.agreement(), static_cast<long long>(evaluation.tokens()));
  return llvm::Error::success();
}

/// DIR/NAME.npy, without slashes in the name.
static SmallString<128> resultPath(std::string name) {
  std::replace(name.begin(), name.end(), '/', '_');
  SmallString<128> file(outputDir);
  llvm::sys::path::append(file, name + ".npy");
  return file;
}

static llvm::Error writeMoments(Model &model) {
  CalibrationData::Options reading;
  reading.path = momentsFile;
  reading.context = contextLength;
  llvm::Expected<CalibrationData> data =
      CalibrationData::load(model.function, modelPath, reading);
  if (!data)
    return data.takeError();
  WalkOptions options;
  options.floatInputs = true;
  return walkLayers(
      *model.module, *model.mapped, *data, options,
      [](LayerProblem &layer) -> llvm::Expected<HostTensor> {
        llvm::Expected<const InputMoments *> moments = layer.inputs();
        if (!moments)
          return moments.takeError();
        HostTensor matrix =
            HostTensor::view(ElementKind::F64, {layer.cols, layer.cols},
                             (*moments)->second.data(), nullptr);
        if (llvm::Error error = matrix.saveNpy(resultPath(layer.name)))
          return std::move(error);
        llvm::outs() << layer.name << " " << matrix.describe() << "\n";
        return HostTensor();
      });
}

static llvm::Error runOnce(Model &model) {
  func::FuncOp function = model.function;
  SmallVector<HostTensor> inputs, results;
  if (llvm::Error error = readInputs(function, inputs))
    return error;
  for (unsigned i = 0; i < repeat; ++i) {
    auto start = std::chrono::steady_clock::now();
    auto got = model.interpreter->run(functionName, inputs);
    if (!got)
      return got.takeError();
    results = std::move(*got);
    std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - start;
    llvm::errs() << llvm::format("%.1f ms\n", took.count() * 1e3);
  }
  for (auto [i, result] : llvm::enumerate(results)) {
    auto attribute = function.getResultAttrOfType<StringAttr>(i, "quench.name");
    std::string name =
        attribute ? attribute.str() : "result" + std::to_string(i);
    llvm::outs() << name << " " << result.describe() << "\n";
    if (outputDir.empty())
      continue;
    if (llvm::Error error = result.saveNpy(resultPath(name)))
      return error;
  }
  return llvm::Error::success();
}

static llvm::Error run() {
  DialectRegistry registry;
  mlir::registerAllDialects(registry);
  mlir::registerAllExtensions(registry);
  registry.insert<qn::QuenchDialect>();
  mlir::registerTransformsPasses();
#ifdef QUENCH_HAS_IMPORT
  registerImportDialects(registry);
  registerONNXToQuenchPasses();
#endif
  MLIRContext context(registry);
  context.loadAllAvailableDialects();
  Model model;
  if (llvm::Error error = load(context, modelPath, model.module))
    return error;
  if (llvm::Error error = prepare(context, *model.module))
    return error;
  if (printIR) {
    model.module->print(llvm::outs());
    return llvm::Error::success();
  }
  if (llvm::Error error = model.makeReady(files))
    return error;
  if (!momentsFile.empty())
    return writeMoments(model);
  return evalFile.empty() ? runOnce(model) : evaluate(model, context);
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  cl::ParseCommandLineOptions(argc, argv, "Runs IR of whole tensors\n");
  if (llvm::Error error = run()) {
    llvm::errs() << "quench-interpret: error: "
                 << llvm::toString(std::move(error)) << "\n";
    return 1;
  }
  return 0;
}
