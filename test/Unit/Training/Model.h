//===- Model.h - A model of the shared folder -------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TEST_UNIT_TRAINING_MODEL_H
#define QUENCH_TEST_UNIT_TRAINING_MODEL_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "quench/Interpreter/Interpreter.h"
#include "quench/Support/ModelFiles.h"
#include "gtest/gtest.h"

class TestModel {
public:
  /// The model in a folder below the shared one; null: it is not there.
  static std::unique_ptr<TestModel> load(llvm::StringRef folder);

  /// A path below the shared folder.
  static std::string path(llvm::StringRef name);

  mlir::ModuleOp module() { return *owned; }
  mlir::func::FuncOp main();
  quench::Interpreter &interpreter() { return *running; }
  quench::ModelFiles &files() { return *opened; }
  /// The first tokens of the reference input.
  std::vector<int64_t> tokens(int64_t count);
  /// Begins anew after a change of the module.
  void reset();

private:
  std::string folder;
  std::unique_ptr<mlir::MLIRContext> context;
  mlir::OwningOpRef<mlir::ModuleOp> owned;
  std::unique_ptr<quench::ModelFiles> opened;
  std::optional<quench::Interpreter> running;
};

#endif // QUENCH_TEST_UNIT_TRAINING_MODEL_H
