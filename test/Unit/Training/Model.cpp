//===- Model.cpp - A model of the shared folder -----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Model.h"
#include "mlir/Pass/PassManager.h"
#include "quench/Conversion/ONNXToQuench/ONNXToQuench.h"
#include "quench/Import/ONNX/Import.h"
#include "quench/InitAll.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace quench;

std::string TestModel::path(StringRef name) {
  const char *given = std::getenv("QUENCH_SHARED");
  return (given ? given : QUENCH_SOURCE_DIR "/../shared") + ("/" + name).str();
}

std::unique_ptr<TestModel> TestModel::load(StringRef folder) {
  auto model = std::make_unique<TestModel>();
  model->folder = TestModel::path(folder);
  std::string file = model->folder + "/model.onnx";
  if (!llvm::sys::fs::exists(file))
    return nullptr;
  DialectRegistry registry;
  registerAllDialects(registry);
  registerImportDialects(registry);
  model->context =
      std::make_unique<MLIRContext>(registry, MLIRContext::Threading::DISABLED);
  model->owned = llvm::cantFail(importONNX(file, *model->context));
  PassManager manager(model->context.get());
  buildImportPipeline(manager);
  if (failed(manager.run(*model->owned)))
    return nullptr;
  model->opened = std::make_unique<ModelFiles>(file);
  model->reset();
  return model;
}

void TestModel::reset() {
  InterpreterOptions options;
  options.files = opened.get();
  running.reset();
  running.emplace(llvm::cantFail(Interpreter::create(*owned, options)));
}

func::FuncOp TestModel::main() {
  return owned->lookupSymbol<func::FuncOp>("main");
}

std::vector<int64_t> TestModel::tokens(int64_t count) {
  HostTensor ids =
      llvm::cantFail(HostTensor::loadNpy(folder + "/ref/in.input_ids.npy"));
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(ids.intAt(i));
  return tokens;
}
