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
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "quench/InitAll.h"
#include "quench/Interpreter/Interpreter.h"
#include "quench/Support/ModelFiles.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/Path.h"
#include <chrono>
#ifdef QUENCH_HAS_IMPORT
#include "quench/Conversion/ONNXToQuench/ONNXToQuench.h"
#include "quench/Import/ONNX/Import.h"
#endif
#ifdef QUENCH_HAS_RECIPE
#include "quench/Recipe/Recipe.h"
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
static cl::opt<bool> printIR("print-ir", cl::desc("Print the module"));
static cl::opt<unsigned> repeat("repeat", cl::init(1),
                                cl::desc("Run so many times"));

static llvm::Error load(MLIRContext &context, OwningOpRef<ModuleOp> &module) {
  if (!StringRef(modelPath).ends_with(".onnx")) {
    module = parseSourceFile<ModuleOp>(modelPath, ParserConfig(&context));
    if (!module)
      return llvm::createStringError("cannot read the module");
    return llvm::Error::success();
  }
#ifdef QUENCH_HAS_IMPORT
  llvm::Expected<OwningOpRef<ModuleOp>> imported =
      importONNX(modelPath, context);
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
#ifdef QUENCH_HAS_RECIPE
    llvm::Expected<Recipe> recipe = loadRecipe(recipeName);
    if (!recipe)
      return recipe.takeError();
    if (failed(applyRecipe(module, *recipe)))
      return llvm::createStringError("the recipe could not be applied");
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
  if (printIR)
    module.print(llvm::outs());
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

static llvm::Error run() {
  DialectRegistry registry;
  registerAllDialects(registry);
  registerAllPasses();
  MLIRContext context(registry);
  context.loadAllAvailableDialects();
  OwningOpRef<ModuleOp> module;
  if (llvm::Error error = load(context, module))
    return error;
  if (llvm::Error error = prepare(context, *module))
    return error;
  std::string path = files;
  if (auto attribute =
          (*module)->getAttrOfType<StringAttr>("quench.model_path");
      attribute && path.empty())
    path = attribute.str();
  ModelFiles mapped(path);
  InterpreterOptions options;
  options.files = &mapped;
  llvm::Expected<Interpreter> interpreter =
      Interpreter::create(*module, options);
  if (!interpreter)
    return interpreter.takeError();
  auto function = module->lookupSymbol<func::FuncOp>(functionName);
  if (!function)
    return llvm::createStringError("no function '" + functionName + "'");
  SmallVector<HostTensor> inputs, results;
  if (llvm::Error error = readInputs(function, inputs))
    return error;
  for (unsigned i = 0; i < repeat; ++i) {
    auto start = std::chrono::steady_clock::now();
    auto got = interpreter->run(functionName, inputs);
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
    std::replace(name.begin(), name.end(), '/', '_');
    SmallString<128> file(outputDir);
    llvm::sys::path::append(file, name + ".npy");
    if (llvm::Error error = result.saveNpy(file))
      return error;
  }
  return llvm::Error::success();
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
