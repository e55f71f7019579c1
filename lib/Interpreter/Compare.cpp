//===- Compare.cpp - Before and after passes --------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Engine.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "quench/Interpreter/Passes.h"
#include "quench/Support/ModelFiles.h"
#include "llvm/Support/FormatVariadic.h"
#include <random>

namespace quench {
#define GEN_PASS_DEF_QUENCHCOMPARE
#include "quench/Interpreter/Passes.h.inc"
} // namespace quench

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Expected;

namespace {
/// Sizes of named dimensions: 2, 3, 4, ... in the order of their appearance.
class Sizes {
public:
  int64_t of(StringRef text) {
    int64_t sum = 0;
    SmallVector<StringRef> terms;
    text.split(terms, '+');
    for (StringRef term : terms) {
      int64_t number;
      term = term.trim();
      if (!term.getAsInteger(10, number))
        sum += number;
      else
        sum += sizes.try_emplace(term, 2 + sizes.size()).first->second;
    }
    return sum;
  }

private:
  llvm::StringMap<int64_t> sizes;
};

struct Compare : quench::impl::QuenchCompareBase<Compare> {
  using QuenchCompareBase::QuenchCompareBase;

  void getDependentDialects(DialectRegistry &registry) const override {
    OpPassManager manager(ModuleOp::getOperationName());
    if (succeeded(parsePassPipeline(passes, manager, llvm::nulls())))
      manager.getDependentDialects(registry);
  }

  void runOnOperation() override {
    ModuleOp module = getOperation();
    OpPassManager manager(ModuleOp::getOperationName());
    std::string message;
    llvm::raw_string_ostream os(message);
    if (failed(parsePassPipeline(passes, manager, os))) {
      module.emitError() << "not a pipeline: '" << passes << "': " << message;
      return signalPassFailure();
    }
    OwningOpRef<ModuleOp> before(module.clone());
    if (failed(runPipeline(manager, module)))
      return signalPassFailure();
    Expected<double> difference = compare(*before, module);
    if (!difference) {
      module.emitError() << "cannot compare before and after '" << passes
                         << "': " << llvm::toString(difference.takeError());
      return signalPassFailure();
    }
    if (*difference <= tolerance)
      return;
    module.emitError() << "after '" << passes << "' the results of '"
                       << function << "' differ by "
                       << llvm::formatv("{0:e}", *difference).str()
                       << " of their greatest value, allowed are "
                       << llvm::formatv("{0:e}", double(tolerance)).str();
    signalPassFailure();
  }

  Expected<double> compare(ModuleOp before, ModuleOp after) {
    QUENCH_TRY(inputs, randomInputs(before, function, seed));
    std::string path = files;
    if (auto attribute = before->getAttrOfType<StringAttr>("quench.model_path");
        attribute && path.empty())
      path = attribute.str();
    ModelFiles mapped(path);
    InterpreterOptions options;
    options.files = &mapped;
    return maxDifference(before, after, inputs, options, function);
  }
};
} // namespace

static SmallVector<int64_t> shapeOf(func::FuncOp function, unsigned i,
                                    Type type, Sizes &sizes) {
  SmallVector<int64_t> shape;
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor)
    return shape;
  auto names = function.getArgAttrOfType<ArrayAttr>(i, "quench.dims");
  for (auto [d, size] : llvm::enumerate(tensor.getShape())) {
    auto name = names && d < names.size() ? dyn_cast<StringAttr>(names[d])
                                          : StringAttr();
    if (!ShapedType::isDynamic(size))
      shape.push_back(size);
    else if (name && !name.getValue().empty())
      shape.push_back(sizes.of(name.getValue()));
    else
      shape.push_back(sizes.of("dimension " + std::to_string(d)));
  }
  return shape;
}

Expected<SmallVector<HostTensor>>
quench::randomInputs(ModuleOp module, StringRef name, unsigned seed) {
  auto function = module.lookupSymbol<func::FuncOp>(name);
  if (!function)
    return createStringError("no function '" + name + "' in the module");
  std::mt19937 generator(seed);
  Sizes sizes;
  SmallVector<HostTensor> inputs;
  for (auto [i, type] : llvm::enumerate(function.getArgumentTypes())) {
    QUENCH_TRY(kind, elementKindOf(type));
    QUENCH_TRY(numbers,
               HostTensor::allocate(ElementKind::F64,
                                    shapeOf(function, i, type, sizes)));
    double *to = numbers.mutableData<double>();
    for (int64_t j = 0; j < numbers.getNumElements(); ++j)
      to[j] =
          isFloatKind(kind) ? generator() / 2147483648.0 - 1 : generator() % 2;
    QUENCH_TRY(input, numbers.convertTo(kind));
    inputs.push_back(std::move(input));
  }
  return inputs;
}
