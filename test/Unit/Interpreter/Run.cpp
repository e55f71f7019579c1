//===- Run.cpp - Interprets a text ------------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Run.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Index/IR/IndexDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Parser/Parser.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include <cmath>
#include <random>

using namespace mlir;
using namespace quench;

MLIRContext &testContext() {
  static MLIRContext *context = [] {
    auto *made = new MLIRContext(MLIRContext::Threading::DISABLED);
    made->loadDialect<affine::AffineDialect, arith::ArithDialect,
                      func::FuncDialect, index::IndexDialect,
                      linalg::LinalgDialect, math::MathDialect, scf::SCFDialect,
                      tensor::TensorDialect, qn::QuenchDialect>();
    return made;
  }();
  return *context;
}

OwningOpRef<ModuleOp> parse(StringRef text) {
  return parseSourceString<ModuleOp>(text, &testContext());
}

llvm::Expected<SmallVector<HostTensor>> tryRun(StringRef text,
                                               ArrayRef<HostTensor> inputs) {
  OwningOpRef<ModuleOp> module = parse(text);
  if (!module)
    return llvm::createStringError("the text cannot be parsed");
  llvm::Expected<Interpreter> interpreter = Interpreter::create(*module, {});
  if (!interpreter)
    return interpreter.takeError();
  return interpreter->run("main", inputs);
}

SmallVector<HostTensor> run(StringRef text, ArrayRef<HostTensor> inputs) {
  auto results = tryRun(text, inputs);
  if (results)
    return std::move(*results);
  ADD_FAILURE() << llvm::toString(results.takeError());
  return {};
}

std::vector<double> numbers(StringRef text, ArrayRef<HostTensor> inputs) {
  SmallVector<HostTensor> results = run(text, inputs);
  std::vector<double> values;
  if (!results.empty())
    for (int64_t i = 0; i < results[0].getNumElements(); ++i)
      values.push_back(results[0].at(i));
  return values;
}

std::string errorOf(StringRef text, ArrayRef<HostTensor> inputs) {
  auto results = tryRun(text, inputs);
  return results ? "" : llvm::toString(results.takeError());
}

void expectNear(ArrayRef<double> found, ArrayRef<double> expected,
                double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(found[i], expected[i], tolerance) << "at " << i;
}

HostTensor randomFloats(ArrayRef<int64_t> shape, unsigned seed) {
  HostTensor tensor =
      llvm::cantFail(HostTensor::allocate(ElementKind::F32, shape));
  std::mt19937 generator(seed);
  for (int64_t i = 0; i < tensor.getNumElements(); ++i)
    tensor.mutableData<float>()[i] =
        static_cast<float>(generator() % 20001) / 10000.0f - 1.0f;
  return tensor;
}
