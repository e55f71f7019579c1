//===- Interpreter.cpp - Functions, blocks, values --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Interpreter/Interpreter.h"
#include "Engine.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/SetVector.h"
#include <cblas.h>
#include <cmath>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

using Tensors = llvm::SmallVector<HostTensor>;

Interpreter::Interpreter(std::unique_ptr<Engine> engine)
    : engine(std::move(engine)) {}
Interpreter::Interpreter(Interpreter &&) = default;
Interpreter &Interpreter::operator=(Interpreter &&) = default;
Interpreter::~Interpreter() = default;

Expected<Interpreter> Interpreter::create(ModuleOp module,
                                          InterpreterOptions options) {
  return Interpreter(std::make_unique<Engine>(module, std::move(options)));
}

Expected<Tensors> Interpreter::run(StringRef function,
                                   ArrayRef<HostTensor> inputs) {
  return engine->runFunction(function, inputs);
}

Expected<HostTensor> Interpreter::evaluateWeight(Value value) {
  if (!engine->isWeight(value))
    return createStringError("not a weight expression");
  return engine->weight(value);
}

bool Interpreter::isWeight(Value value) { return engine->isWeight(value); }

void Interpreter::setWeight(Value value, HostTensor numbers) {
  if (numbers)
    engine->replaced[value] = std::move(numbers);
  else
    engine->replaced.erase(value);
}

Error Interpreter::begin(StringRef function, ArrayRef<HostTensor> inputs,
                         Values &values) {
  QUENCH_TRY(prepared, engine->prepare(function, inputs));
  for (auto [argument, input] : llvm::zip(prepared.getArguments(), inputs))
    values[argument] = input;
  return Error::success();
}

Error Interpreter::step(Operation *op, Values &values, bool keep) {
  return engine->runStep(op, values, keep);
}

Expected<HostTensor> Interpreter::valueOf(Value value, Values &values) {
  return engine->get(value, values);
}

Expected<const Map *> Interpreter::mapOf(Attribute attribute) {
  return engine->map(attribute);
}

int quench::setProductThreads(int threads) {
  int before = openblas_get_num_threads();
  openblas_set_num_threads(threads);
  return before;
}

Expected<ElementKind> quench::elementKindOf(Type type) {
  return elementKind(getElementTypeOrSelf(type));
}

//===----------------------------------------------------------------------===//
// The engine
//===----------------------------------------------------------------------===//

Interpreter::Engine::Engine(ModuleOp module, InterpreterOptions options)
    : symbols(module), module(module), options(std::move(options)) {
  addTensorHandlers(handlers);
  addLayerHandlers(handlers);
  addControlHandlers(handlers);
  module.walk([&](func::FuncOp function) {
    function.walk([&](Block *block) { findLastUses(*block); });
  });
}

static bool isWeightOp(Operation *op) {
  return isa<qn::WeightOp, qn::MapOp, qn::QuantizeOp, qn::DequantizeOp,
             qn::AssembleOp>(op);
}

Error Interpreter::Engine::checkOps(func::FuncOp function) {
  llvm::SetVector<StringRef> unknown;
  SmallVector<func::FuncOp> work{function};
  while (!work.empty()) {
    func::FuncOp next = work.pop_back_val();
    if (!checked.insert(next).second)
      continue;
    next.walk<WalkOrder::PreOrder>([&](Operation *op) {
      // Bodies of linalg ops are checked when they are compiled.
      if (isa<linalg::LinalgOp>(op))
        return WalkResult::skip();
      if (auto call = dyn_cast<func::CallOp>(op))
        if (auto callee = symbols.lookup<func::FuncOp>(call.getCallee()))
          work.push_back(callee);
      if (!isa<func::FuncOp>(op) &&
          !handlers.contains(op->getName().getStringRef()) && !isWeightOp(op) &&
          !isElementwise(op) && !op->hasTrait<OpTrait::IsTerminator>())
        unknown.insert(op->getName().getStringRef());
      return WalkResult::advance();
    });
  }
  if (unknown.empty())
    return Error::success();
  checked.clear();
  return createStringError("the interpreter does not know these ops: " +
                           llvm::join(unknown, ", "));
}

/// For each op, the values of its block that nobody needs after it.
void Interpreter::Engine::findLastUses(Block &block) {
  llvm::DenseSet<Value> seen;
  for (Operation &op : llvm::reverse(block)) {
    op.walk([&](Operation *inner) {
      for (Value value : inner->getOperands())
        if (value.getParentBlock() == &block && seen.insert(value).second)
          lastUses[&op].push_back(value);
    });
  }
}

Expected<HostTensor> Interpreter::Engine::get(Value value, Values &values) {
  auto found = values.find(value);
  if (found != values.end())
    return found->second;
  if (isWeight(value))
    return weight(value);
  if (Operation *op = value.getDefiningOp())
    return createStringError("a value of '" + op->getName().getStringRef() +
                             "' is not there");
  return createStringError("a block argument has no value");
}

static std::string describe(Operation *op) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "'" << op->getName().getStringRef() << "' at " << op->getLoc();
  return text;
}

Error Interpreter::Engine::runOp(Operation *op, Values &values, bool keep) {
  Tensors operands, results;
  bool direct = isa<qn::LinearOp, qn::EmbeddingOp>(op);
  for (Value operand : op->getOperands()) {
    // Layers read their weights themselves.
    if (direct && isWeight(operand)) {
      operands.emplace_back();
      continue;
    }
    QUENCH_TRY(tensor, get(operand, values));
    operands.push_back(std::move(tensor));
  }
  // An operand that dies here may give its memory to the result.
  SmallVector<Value, 2> *last = nullptr;
  if (auto found = lastUses.find(op); !keep && found != lastUses.end())
    last = &found->second;
  if (last && op->getNumRegions() == 0)
    for (Value value : *last)
      values.erase(value);
  if (last && isa<linalg::LinalgOp>(op))
    for (Value value : *last)
      if (llvm::is_contained(op->getOperands(), value)) {
        bool captured = false;
        op->walk([&](Operation *inner) {
          captured |=
              inner != op && llvm::is_contained(inner->getOperands(), value);
        });
        if (!captured)
          values.erase(value);
      }

  Step step{*this, values, op, operands, results};
  if (auto found = handlers.find(op->getName().getStringRef());
      found != handlers.end()) {
    QUENCH_CHECK(found->second(step));
  } else if (isa<linalg::LinalgOp>(op)) {
    QUENCH_CHECK(runLinalg(step));
  } else {
    QUENCH_CHECK(runElementwise(step));
  }
  if (results.size() != op->getNumResults())
    return createStringError("gave " + Twine(results.size()) + " results of " +
                             Twine(op->getNumResults()));
  operands.clear();
  if (options.observe)
    options.observe(op, results);
  for (auto [value, tensor] : llvm::zip(op->getResults(), results)) {
    // Types say what is known of the shape; shapes that contradict are errors
    // of the IR and are found where they happen.
    if (auto type = dyn_cast<RankedTensorType>(value.getType());
        type &&
        failed(verifyCompatibleShape(type.getShape(), tensor.getShape()))) {
      std::string text;
      llvm::raw_string_ostream(text) << type;
      return createStringError("computed " + tensor.describe() +
                               ", its type is " + text);
    }
    if (!value.use_empty())
      values[value] = std::move(tensor);
  }
  if (last)
    for (Value value : *last)
      values.erase(value);
  return Error::success();
}

Error Interpreter::Engine::runStep(Operation *op, Values &values, bool keep) {
  if (isWeightOp(op) && op->getNumResults() == 1 && isWeight(op->getResult(0)))
    return Error::success();
  if (Error error = runOp(op, values, keep))
    return createStringError(describe(op) + ": " +
                             llvm::toString(std::move(error)));
  return Error::success();
}

Expected<Tensors> Interpreter::Engine::runBlock(Block &block, Values &values) {
  for (Operation &op : block.without_terminator())
    QUENCH_CHECK(runStep(&op, values, /*keep=*/false));
  Tensors results;
  for (Value value : block.getTerminator()->getOperands()) {
    QUENCH_TRY(tensor, get(value, values));
    results.push_back(std::move(tensor));
  }
  return results;
}

Expected<Tensors>
Interpreter::Engine::call(func::FuncOp function,
                          MutableArrayRef<HostTensor> inputs) {
  if (function.isExternal())
    return createStringError("function '" + function.getName() +
                             "' has no body");
  if (!function.getBody().hasOneBlock())
    return createStringError("function '" + function.getName() +
                             "' has several blocks");
  if (depth >= 100)
    return createStringError("calls nested deeper than 100");
  ++depth;
  Values values;
  for (auto [argument, input] : llvm::zip(function.getArguments(), inputs)) {
    values[argument] = std::move(input);
  }
  Expected<Tensors> results = runBlock(function.getBody().front(), values);
  --depth;
  return results;
}

/// `quench.dims` of an argument: an array with a name, or something else, for
/// each dimension.
Error Interpreter::Engine::bindDims(func::FuncOp function,
                                    ArrayRef<HostTensor> inputs) {
  dims.clear();
  llvm::StringMap<unsigned> from;
  for (auto [i, input] : llvm::enumerate(inputs)) {
    auto names = function.getArgAttrOfType<ArrayAttr>(i, "quench.dims");
    if (!names)
      continue;
    for (auto [d, attribute] : llvm::enumerate(names)) {
      auto name = dyn_cast<StringAttr>(attribute);
      if (!name || name.getValue().empty() ||
          d >= static_cast<size_t>(input.getRank()))
        continue;
      auto [entry, isNew] = dims.try_emplace(name.getValue(), input.dim(d));
      if (isNew)
        from[name.getValue()] = i;
      else if (entry->second != input.dim(d))
        return createStringError("dimension '" + name.getValue() + "' is " +
                                 Twine(entry->second) + " in input " +
                                 Twine(from[name.getValue()]) + " and " +
                                 Twine(input.dim(d)) + " in input " + Twine(i));
    }
  }
  return Error::success();
}

Expected<func::FuncOp>
Interpreter::Engine::prepare(StringRef name, ArrayRef<HostTensor> inputs) {
  auto function = symbols.lookup<func::FuncOp>(name);
  if (!function)
    return createStringError("no function '" + name + "' in the module");
  QUENCH_CHECK(checkOps(function));
  if (inputs.size() != function.getNumArguments())
    return createStringError("function '" + name + "' takes " +
                             Twine(function.getNumArguments()) +
                             " inputs, found " + Twine(inputs.size()));
  for (auto [i, type] : llvm::enumerate(function.getArgumentTypes())) {
    QUENCH_TRY(kind, elementKindOf(type));
    auto tensor = dyn_cast<RankedTensorType>(type);
    ArrayRef<int64_t> shape = tensor ? tensor.getShape() : ArrayRef<int64_t>();
    const HostTensor &input = inputs[i];
    if (!input || input.getKind() != kind ||
        failed(verifyCompatibleShape(shape, input.getShape()))) {
      std::string text;
      llvm::raw_string_ostream(text) << type;
      return createStringError("input " + Twine(i) + " of '" + name + "' is " +
                               text + ", found " +
                               (input ? input.describe() : "nothing"));
    }
  }
  QUENCH_CHECK(bindDims(function, inputs));
  depth = 0;
  return function;
}

Expected<Tensors> Interpreter::Engine::runFunction(StringRef name,
                                                   ArrayRef<HostTensor> given) {
  QUENCH_TRY(function, prepare(name, given));
  Tensors inputs(given);
  return call(function, inputs);
}

//===----------------------------------------------------------------------===//
// Comparing
//===----------------------------------------------------------------------===//

Expected<double> quench::maxDifference(const HostTensor &a,
                                       const HostTensor &b) {
  if (a.getShape() != b.getShape())
    return createStringError("results of " + a.describe() + " and " +
                             b.describe() + " are compared");
  double difference = 0, magnitude = 0;
  for (int64_t i = 0; i < a.getNumElements(); ++i) {
    double x = a.at(i), y = b.at(i);
    if (std::isnan(x) != std::isnan(y))
      return HUGE_VAL;
    if (std::isnan(x) || x == y)
      continue;
    difference = std::max(difference, std::fabs(x - y));
    magnitude = std::max(magnitude, std::fabs(x));
  }
  for (int64_t i = 0; i < a.getNumElements(); ++i)
    if (double x = std::fabs(a.at(i)); std::isfinite(x))
      magnitude = std::max(magnitude, x);
  return difference == 0  ? 0
         : magnitude == 0 ? HUGE_VAL
                          : difference / magnitude;
}

Expected<double> quench::maxDifference(ModuleOp before, ModuleOp after,
                                       ArrayRef<HostTensor> inputs,
                                       const InterpreterOptions &options,
                                       StringRef name) {
  Tensors results[2];
  for (int i = 0; i < 2; ++i) {
    Expected<Interpreter> interpreter =
        Interpreter::create(i ? after : before, options);
    if (!interpreter)
      return interpreter.takeError();
    QUENCH_TRY(got, interpreter->run(name, inputs));
    results[i] = std::move(got);
  }
  if (results[0].size() != results[1].size())
    return createStringError("'" + name + "' has " + Twine(results[0].size()) +
                             " results before and " + Twine(results[1].size()) +
                             " after");
  double worst = 0;
  for (auto [a, b] : llvm::zip(results[0], results[1])) {
    QUENCH_TRY(difference, maxDifference(a, b));
    worst = std::max(worst, difference);
  }
  return worst;
}
