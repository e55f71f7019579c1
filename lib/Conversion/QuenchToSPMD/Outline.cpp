//===- Outline.cpp - Equal layers become one function -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// After bufferization a model is a list of ops on buffers, and its blocks are a
// repetition in that list:
//
//   lookup | norm stage contract ... | norm stage contract ... | ... | norm
//   stage contract
//
// The longest repetition is found by comparing the ops without their operands;
// then the operands' pattern decides which repetitions are equal. Buffers that
// only one repetition uses become the function's own, everything else (weights,
// caches, the stream, sizes) its arguments.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Transforms/RegionUtils.h"
#include "quench/Conversion/QuenchToSPMD/QuenchToSPMD.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace quench;

namespace {

bool isView(Operation *op) {
  return isa<memref::CastOp, memref::CollapseShapeOp, memref::ExpandShapeOp,
             memref::ReinterpretCastOp, memref::SubViewOp>(op);
}

/// Ops that do something to memory; all others are sizes, views, allocations.
bool isWork(Operation &op) {
  if (isa<memref::AllocOp, qn::PackedOp, qn::DimOp>(op) || isView(&op))
    return false;
  return !isPure(&op) || isa<memref::LoadOp>(op);
}

/// An op's text without the names of values: attributes and types, and its
/// regions with their own values numbered.
void print(Operation *op, DenseMap<Value, unsigned> &local,
           llvm::raw_ostream &os) {
  os << op->getName() << op->getAttrDictionary() << "(";
  for (Value operand : op->getOperands()) {
    os << operand.getType();
    if (auto it = local.find(operand); it != local.end())
      os << "%" << it->second;
    os << ",";
  }
  os << ")->(";
  for (Value result : op->getResults()) {
    os << result.getType() << ",";
    local.try_emplace(result, local.size());
  }
  os << ")";
  for (Region &region : op->getRegions())
    for (Block &block : region) {
      os << "{";
      for (BlockArgument argument : block.getArguments())
        local.try_emplace(argument, local.size());
      for (Operation &inner : block)
        print(&inner, local, os);
      os << "}";
    }
}

std::string textOf(Operation *op) {
  std::string text;
  llvm::raw_string_ostream os(text);
  DenseMap<Value, unsigned> local;
  print(op, local, os);
  return text;
}

/// Operands, and what the regions use from outside of them.
SmallVector<Value> usedBy(Operation *op) {
  llvm::SetVector<Value> captured;
  getUsedValuesDefinedAbove(op->getRegions(), captured);
  SmallVector<Value> all(op->getOperands());
  llvm::append_range(all, captured);
  return all;
}

/// The number of the input that an argument is, or null.
Attribute inputOf(Value v) {
  auto argument = dyn_cast<BlockArgument>(v);
  if (!argument)
    return {};
  auto function = cast<func::FuncOp>(argument.getOwner()->getParentOp());
  return function.getArgAttr(argument.getArgNumber(), kInputAttribute);
}

void numberInputs(func::FuncOp function) {
  Builder b(function.getContext());
  int64_t next = 0;
  for (unsigned i = 0; i != function.getNumArguments(); ++i)
    if (!function.getArgAttr(i, "quench.output") &&
        !function.getArgAttr(i, "quench.state"))
      function.setArgAttr(i, kInputAttribute, b.getI64IntegerAttr(next++));
}

struct Repetition {
  size_t first = 0, period = 0, count = 0;
};

/// The repetition that covers most ops.
Repetition findRepetition(ArrayRef<unsigned> tokens) {
  Repetition best;
  size_t n = tokens.size();
  for (size_t period = 1; period <= n / 2; ++period)
    for (size_t i = 0, run = 0; i + period < n; ++i) {
      run = tokens[i] == tokens[i + period] ? run + 1 : 0;
      size_t count = run / period + 1;
      if (count >= 2 && (count - 1) * period >
                            (best.count ? (best.count - 1) * best.period : 0))
        best = {i + 1 - run, period, count};
    }
  return best;
}

/// One repetition: visits values in the order in which its ops use them.
class Instance {
public:
  explicit Instance(ArrayRef<Operation *> ops)
      : ops(ops), own(ops.begin(), ops.end()) {
    for (Operation *op : ops)
      for (Value operand : usedBy(op))
        visit(operand);
  }

  /// Equal for repetitions that can share a function.
  std::string signature;
  /// Values from outside, in order of their first use.
  SmallVector<Value> arguments;
  /// False if a result of one of its ops is used outside.
  bool closed() const {
    return llvm::all_of(ops, [&](Operation *op) {
      return llvm::all_of(op->getUsers(),
                          [&](Operation *user) { return own.contains(user); });
    });
  }

  func::FuncOp build(ModuleOp module, StringRef name) {
    OpBuilder b(module.getContext());
    b.setInsertionPointToEnd(module.getBody());
    SmallVector<Type> types;
    for (Value v : arguments)
      types.push_back(v.getType());
    auto function = func::FuncOp::create(b, ops.front()->getLoc(), name,
                                         b.getFunctionType(types, {}));
    function.setPrivate();
    function->setAttr("quench.layer", b.getUnitAttr());
    // Code is the same however many layers there are.
    function->setAttr("passthrough",
                      b.getArrayAttr(b.getStringAttr("noinline")));
    for (auto [i, v] : llvm::enumerate(arguments))
      if (Attribute input = inputOf(v))
        function.setArgAttr(i, kInputAttribute, input);
    Block *body = function.addEntryBlock();
    b.setInsertionPointToStart(body);
    IRMapping mapping;
    mapping.map(arguments, body->getArguments());
    std::function<void(Value)> need = [&](Value v) {
      if (mapping.contains(v))
        return;
      Operation *op = v.getDefiningOp();
      for (Value operand : usedBy(op))
        need(operand);
      b.clone(*op, mapping);
    };
    for (auto [buffer, size] : sized) {
      need(size);
      mapping.map(buffer,
                  sizedBuffer(b, function.getLoc(), mapping.lookup(buffer),
                              mapping.lookup(size)));
    }
    for (Operation *op : ops) {
      for (Value operand : usedBy(op))
        need(operand);
      b.clone(*op, mapping);
    }
    func::ReturnOp::create(b, function.getLoc());
    return function;
  }

  ArrayRef<Operation *> ops;

private:
  /// All uses, through views, are in this repetition.
  bool isPrivateBuffer(Value v) {
    return llvm::all_of(v.getUsers(), [&](Operation *user) {
      return own.contains(user) ||
             (isView(user) && isPrivateBuffer(user->getResult(0)));
    });
  }

  void visit(Value v) {
    auto [it, isNew] = numbers.try_emplace(v, numbers.size());
    signature += std::to_string(it->second) + " ";
    if (!isNew)
      return;
    Operation *op = v.getDefiningOp();
    if (op && own.contains(op))
      return;
    bool inside = op && (op->hasTrait<OpTrait::ConstantLike>() || isView(op) ||
                         (isa<memref::AllocOp>(op) && isPrivateBuffer(v)));
    if (!inside) {
      signature += "argument ";
      llvm::raw_string_ostream(signature) << v.getType() << " ";
      arguments.push_back(v);
      // The size of a buffer goes with it.
      if (auto alloc = v.getDefiningOp<memref::AllocOp>();
          alloc && !alloc.getDynamicSizes().empty()) {
        sized[v] = alloc.getDynamicSizes()[0];
        visit(alloc.getDynamicSizes()[0]);
      }
      return;
    }
    signature += textOf(op) + "(";
    for (Value operand : op->getOperands())
      visit(operand);
    signature += ")";
  }

  llvm::SmallPtrSet<Operation *, 32> own;
  DenseMap<Value, size_t> numbers;
  llvm::MapVector<Value, Value> sized; // buffers from outside and their sizes
};

} // namespace

FailureOr<int64_t> quench::outlineLayers(func::FuncOp function) {
  auto module = function->getParentOfType<ModuleOp>();
  numberInputs(function);
  shareSizes(function);
  if (reusePlaces(function))
    shareSizes(function); // views of one place are one view
  SmallVector<Operation *> work;
  SmallVector<unsigned> tokens;
  llvm::StringMap<unsigned> numbers;
  for (Operation &op : function.getBody().front().without_terminator()) {
    if (!isWork(op))
      continue;
    work.push_back(&op);
    tokens.push_back(
        numbers.try_emplace(textOf(&op), numbers.size()).first->second);
  }
  Repetition repetition = findRepetition(tokens);
  if (repetition.count < 2 || repetition.period < 2)
    return 0;
  std::vector<std::unique_ptr<Instance>> instances;
  llvm::StringMap<SmallVector<Instance *>> groups;
  for (size_t i = 0; i != repetition.count; ++i) {
    ArrayRef<Operation *> ops = ArrayRef(work).slice(
        repetition.first + i * repetition.period, repetition.period);
    instances.push_back(std::make_unique<Instance>(ops));
    if (instances.back()->closed())
      groups[instances.back()->signature].push_back(instances.back().get());
  }
  int64_t calls = 0, functions = 0;
  llvm::StringMap<func::FuncOp> made;
  for (std::unique_ptr<Instance> &instance : instances) {
    auto group = groups.find(instance->signature);
    if (group == groups.end() || group->second.size() < 2)
      continue;
    func::FuncOp &layer = made[instance->signature];
    if (!layer)
      layer = instance->build(
          module, (function.getName() + "_layer" + Twine(functions++)).str());
    OpBuilder b(instance->ops.back());
    func::CallOp::create(b, instance->ops.back()->getLoc(), layer,
                         instance->arguments);
    // Only what all calls take from one input has its number.
    for (auto [i, v] : llvm::enumerate(instance->arguments))
      if (inputOf(v) != layer.getArgAttr(i, kInputAttribute))
        layer.removeArgAttr(i, kInputAttribute);
    ++calls;
    for (Operation *op : llvm::reverse(instance->ops))
      op->erase();
  }
  // Views and buffers that moved into the layers.
  bool changed = true;
  while (changed) {
    changed = false;
    for (Operation &op : llvm::make_early_inc_range(
             llvm::reverse(function.getBody().front()))) {
      if (!op.use_empty() || isWork(op) || op.hasTrait<OpTrait::IsTerminator>())
        continue;
      op.erase();
      changed = true;
    }
  }
  return calls;
}
