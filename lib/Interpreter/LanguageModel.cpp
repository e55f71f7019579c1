//===- LanguageModel.cpp - Windows of tokens through a model ----*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Interpreter/LanguageModel.h"
#include "Engine.h"
#include "mlir/IR/BuiltinTypes.h"
#include <cstring>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

/// The size of a dimension of one sequence of `tokens` tokens without a past.
static int64_t dimOf(StringRef name, int64_t tokens) {
  if (name.contains("batch"))
    return 1;
  bool whole = name.contains("total") || name.contains('+');
  return name.contains("past") && !whole ? 0 : tokens;
}

static SmallVector<int64_t> shapeOf(func::FuncOp function, unsigned i,
                                    RankedTensorType type, int64_t tokens) {
  auto names = function.getArgAttrOfType<ArrayAttr>(i, "quench.dims");
  SmallVector<int64_t> shape(type.getShape());
  for (auto [d, size] : llvm::enumerate(shape)) {
    if (!ShapedType::isDynamic(size))
      continue;
    auto name = names && d < names.size() ? dyn_cast<StringAttr>(names[d])
                                          : StringAttr();
    if (name && !name.empty())
      size = dimOf(name.getValue(), tokens);
    else
      size = d == 0 ? 1 : tokens;
  }
  return shape;
}

/// The integers of an input by its name; nothing: it is none that is known.
static std::optional<std::vector<int64_t>>
numbersOf(StringRef name, ArrayRef<int64_t> ids, int64_t count) {
  std::vector<int64_t> numbers(count);
  int64_t tokens = ids.size();
  if (name.contains("mask"))
    std::fill(numbers.begin(), numbers.end(), 1);
  else if (name.contains("position"))
    for (int64_t i = 0; i < count; ++i)
      numbers[i] = i;
  else if (name.contains("token_type"))
    std::fill(numbers.begin(), numbers.end(), 0);
  else if (name.contains("seqlens"))
    std::fill(numbers.begin(), numbers.end(), tokens - 1);
  else if (name.contains("total_seq"))
    std::fill(numbers.begin(), numbers.end(), tokens);
  else if (count == tokens)
    numbers.assign(ids.begin(), ids.end());
  else
    return std::nullopt;
  return numbers;
}

Expected<SmallVector<HostTensor>>
quench::languageModelInputs(func::FuncOp function, ArrayRef<int64_t> ids) {
  SmallVector<HostTensor> inputs;
  for (auto [i, argument] : llvm::enumerate(function.getArgumentTypes())) {
    auto attribute = function.getArgAttrOfType<StringAttr>(i, "quench.name");
    std::string name =
        attribute ? attribute.str() : "input " + std::to_string(i);
    auto type = dyn_cast<RankedTensorType>(argument);
    if (!type)
      return createStringError("input '" + name + "' is not a tensor");
    QUENCH_TRY(kind, elementKindOf(type));
    SmallVector<int64_t> shape = shapeOf(function, i, type, ids.size());
    QUENCH_TRY(tensor, HostTensor::allocate(kind, shape));
    if (isFloatKind(kind)) {
      if (tensor.getNumElements() != 0)
        return createStringError("input '" + name + "' of " +
                                 tensor.describe() +
                                 " is neither tokens nor an empty cache");
      inputs.push_back(std::move(tensor));
      continue;
    }
    std::optional<std::vector<int64_t>> numbers =
        numbersOf(name, ids, tensor.getNumElements());
    if (!numbers)
      return createStringError("input '" + name + "' of " + tensor.describe() +
                               " is not known");
    HostTensor wide =
        HostTensor::view(ElementKind::I64, shape, numbers->data(), nullptr);
    if (Error error = wide.detach())
      return std::move(error);
    QUENCH_TRY(converted, wide.convertTo(kind));
    inputs.push_back(std::move(converted));
  }
  return inputs;
}

Expected<unsigned> quench::logitsResult(func::FuncOp function) {
  for (unsigned i = 0; i < function.getNumResults(); ++i)
    if (auto name = function.getResultAttrOfType<StringAttr>(i, "quench.name");
        name && name.getValue() == "logits")
      return i;
  for (auto [i, type] : llvm::enumerate(function.getResultTypes()))
    if (auto tensor = dyn_cast<RankedTensorType>(type);
        tensor && tensor.getRank() == 3 &&
        isa<FloatType>(tensor.getElementType()))
      return i;
  return createStringError("'" + function.getName() +
                           "' has no result of logits (rank 3)");
}

Expected<HostTensor> quench::runLanguageModel(Interpreter &interpreter,
                                              func::FuncOp function,
                                              ArrayRef<int64_t> ids) {
  QUENCH_TRY(inputs, languageModelInputs(function, ids));
  QUENCH_TRY(which, logitsResult(function));
  QUENCH_TRY(results, interpreter.run(function.getName(), inputs));
  return results[which];
}
