//===- StatePlan.cpp - What is known of caches and steps --------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StatePlan.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Transforms/RegionUtils.h"

using namespace mlir;
using namespace quench;

namespace {
class Analysis {
public:
  explicit Analysis(func::FuncOp main) { plan.main = main; }
  /// The plan, or nothing and the reason. No reason: there are no caches.
  std::optional<StatePlan> run();
  std::string reason;

private:
  bool fail(const Twine &text) {
    if (reason.empty())
      reason = text.str();
    return false;
  }
  bool findCaches();
  bool readCache(BlockArgument past);
  bool findLogits();
  bool collectLive();
  bool findInputs();
  bool nameDims();
  bool setDim(BlockArgument argument, unsigned axis, StepDim step);
  void findTail();
  /// The operand that carries the rows, if each row of the result depends on
  /// the same row of it only.
  Value rowOperand(Operation *op);

  StatePlan plan;
};

} // namespace

static StringRef nameOf(func::FuncOp function, BlockArgument argument) {
  auto name = function.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                    "quench.name");
  return name ? name.getValue() : StringRef();
}

Value quench::throughCasts(Value value) {
  while (auto cast = value.getDefiningOp<tensor::CastOp>())
    value = cast.getSource();
  return value;
}

/// All uses, also those behind casts of a tensor.
static void collectUses(Value value, SmallVectorImpl<OpOperand *> &uses) {
  for (OpOperand &use : value.getUses())
    if (auto cast = dyn_cast<tensor::CastOp>(use.getOwner()))
      collectUses(cast.getResult(), uses);
    else
      uses.push_back(&use);
}

//===----------------------------------------------------------------------===//
// Caches and logits
//===----------------------------------------------------------------------===//

bool Analysis::readCache(BlockArgument past) {
  StateCache cache;
  cache.past = past;
  StringRef name = nameOf(plan.main, past);
  std::string what =
      "cache '" +
      (name.empty() ? "argument " + std::to_string(past.getArgNumber())
                    : name.str()) +
      "'";
  cache.name =
      StringAttr::get(plan.main.getContext(),
                      name.empty() ? Twine(past.getArgNumber()) : Twine(name));
  SmallVector<OpOperand *> uses;
  collectUses(past, uses);
  for (OpOperand *use : uses) {
    if (isa<tensor::DimOp>(use->getOwner()))
      continue;
    auto extend = dyn_cast<qn::ExtendOp>(use->getOwner());
    if (!extend || use->getOperandNumber() != 0 || cache.extend)
      return fail(what + " has other readers than one quench.extend");
    cache.extend = extend;
  }
  auto type = cast<RankedTensorType>(past.getType());
  if (type.getRank() != 4 || !type.getElementType().isF32() ||
      type.isDynamicDim(1) || !type.isDynamicDim(2) || type.isDynamicDim(3))
    return fail(what + " is no tensor<?xHx?xDxf32> with known H and D");

  bool key = false, value = false;
  uses.clear();
  collectUses(cache.extend.getResult(), uses);
  for (OpOperand *use : uses) {
    Operation *user = use->getOwner();
    if (isa<func::ReturnOp, tensor::DimOp>(user))
      continue;
    auto attention = dyn_cast<qn::AttentionOp>(user);
    unsigned operand = use->getOperandNumber();
    if (!attention || operand < 1 || operand > 2)
      return fail(what +
                  ", with new rows, is neither the key nor the value "
                  "of quench.attention in '" +
                  user->getName().getStringRef().str() + "'");
    (operand == 1 ? key : value) = true;
  }
  if (key == value)
    return fail(what + (key ? " is both key and value" : " is not read"));
  cache.keys = key;
  plan.caches.push_back(cache);
  return true;
}

bool Analysis::findCaches() {
  for (BlockArgument argument : plan.main.getArguments()) {
    SmallVector<OpOperand *> uses;
    if (isa<RankedTensorType>(argument.getType()))
      collectUses(argument, uses);
    bool extended = llvm::any_of(uses, [](OpOperand *use) {
      return isa<qn::ExtendOp>(use->getOwner()) && use->getOperandNumber() == 0;
    });
    if (extended && !readCache(argument))
      return false;
  }
  if (plan.caches.empty())
    return false;
  // A key or value that is no cache would have to be one.
  llvm::DenseSet<Value> extended;
  for (StateCache &cache : plan.caches)
    extended.insert(cache.extend.getResult());
  WalkResult walk = plan.main.walk([&](qn::AttentionOp op) {
    for (Value side : {op.getKey(), op.getValue()})
      if (!extended.contains(throughCasts(side))) {
        fail("the key or value of a quench.attention is no cache");
        return WalkResult::interrupt();
      }
    return WalkResult::advance();
  });
  return !walk.wasInterrupted();
}

bool Analysis::findLogits() {
  Operation *ret = plan.main.getBody().front().getTerminator();
  llvm::DenseSet<Value> extended;
  for (StateCache &cache : plan.caches)
    extended.insert(cache.extend.getResult());
  SmallVector<OpOperand *> others;
  for (OpOperand &operand : ret->getOpOperands()) {
    if (extended.contains(throughCasts(operand.get())))
      continue;
    others.push_back(&operand);
    auto name = plan.main.getResultAttrOfType<StringAttr>(
        operand.getOperandNumber(), "quench.name");
    if (name && name.getValue() == "logits")
      plan.logits = operand.get();
  }
  if (others.size() == 1)
    plan.logits = others.front()->get();
  if (!plan.logits)
    return fail("no result is named 'logits' and " + Twine(others.size()) +
                " are no caches");
  auto type = dyn_cast<RankedTensorType>(plan.logits.getType());
  if (!type || type.getRank() != 3 || type.isDynamicDim(2))
    return fail("the logits are no tensor<?x?xVxf32>");
  return true;
}

//===----------------------------------------------------------------------===//
// Inputs and dimensions
//===----------------------------------------------------------------------===//

/// The ops that the logits need. Masks of valid positions are not needed: all
/// positions of a cache are.
bool Analysis::collectLive() {
  SmallVector<Value> work = {plan.logits};
  llvm::DenseSet<Operation *> seen;
  Block *body = &plan.main.getBody().front();
  while (!work.empty()) {
    Operation *op = work.pop_back_val().getDefiningOp();
    if (!op || op->getBlock() != body || !seen.insert(op).second)
      continue;
    if (auto attention = dyn_cast<qn::AttentionOp>(op)) {
      work.append(
          {attention.getQuery(), attention.getKey(), attention.getValue()});
      if (attention.getBias())
        work.push_back(attention.getBias());
      Value keep = attention.getKeep();
      if (keep && !isa<BlockArgument>(throughCasts(keep)))
        return fail("the mask of a quench.attention is computed");
      continue;
    }
    llvm::append_range(work, op->getOperands());
    SetVector<Value> captured;
    getUsedValuesDefinedAbove(op->getRegions(), captured);
    llvm::append_range(work, captured);
  }
  for (Operation &op : *body)
    if (seen.contains(&op))
      plan.live.insert(&op);
  return true;
}

bool Analysis::findInputs() {
  llvm::DenseSet<Value> caches;
  for (StateCache &cache : plan.caches)
    caches.insert(cache.past);
  plan.main.walk([&](qn::EmbeddingOp op) {
    Value ids = throughCasts(op.getIds());
    while (ids.getDefiningOp() && ids.getDefiningOp()->getNumOperands() > 0)
      ids = ids.getDefiningOp()->getOperand(0);
    auto argument = dyn_cast<BlockArgument>(ids);
    if (!plan.ids && argument &&
        argument.getOwner() == &plan.main.getBody().front() &&
        nameOf(plan.main, argument) != "position_ids")
      plan.ids = argument;
  });
  auto isIntegers = [](BlockArgument argument) {
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    return type && type.getRank() == 2 && type.getElementType().isInteger();
  };
  if (!plan.ids || !isIntegers(plan.ids))
    return fail("no input of integers [batch, sequence] is looked up in an "
                "embedding");
  for (BlockArgument argument : plan.main.getArguments()) {
    if (argument == plan.ids || caches.contains(argument))
      continue;
    StringRef name = nameOf(plan.main, argument);
    if (name == "position_ids" && isIntegers(argument)) {
      plan.positions = argument;
      continue;
    }
    if (name == "attention_mask" && isIntegers(argument)) {
      plan.mask = argument;
      continue;
    }
    for (Operation *user : argument.getUsers())
      if (plan.live.contains(user) && !isa<tensor::DimOp>(user))
        return fail("input '" + name +
                    "' is neither token ids, position_ids, attention_mask "
                    "nor a cache");
  }
  for (Operation *op : plan.live)
    if (auto attention = dyn_cast<qn::AttentionOp>(op))
      if (Value keep = attention.getKeep();
          keep && throughCasts(keep) != plan.mask)
        return fail("the mask of a quench.attention is not attention_mask");
  return true;
}

bool Analysis::setDim(BlockArgument argument, unsigned axis, StepDim step) {
  auto names = plan.main.getArgAttrOfType<ArrayAttr>(argument.getArgNumber(),
                                                     "quench.dims");
  int64_t size = cast<RankedTensorType>(argument.getType()).getDimSize(axis);
  if (!ShapedType::isDynamic(size)) {
    if (step == StepDim::One && size == 1)
      return true;
    return fail("axis " + Twine(axis) + " of input '" +
                nameOf(plan.main, argument) + "' is always " + Twine(size));
  }
  auto name = names && axis < names.size() ? dyn_cast<StringAttr>(names[axis])
                                           : StringAttr();
  if (!name)
    return true; // only tensor.dim can tell
  auto [it, inserted] = plan.dims.try_emplace(name.getValue(), step);
  if (!inserted && it->second != step)
    return fail("dimension '" + name.getValue() + "' has two meanings");
  return true;
}

bool Analysis::nameDims() {
  if (!setDim(plan.ids, 0, StepDim::One) ||
      !setDim(plan.ids, 1, StepDim::Sequence))
    return false;
  for (StateCache &cache : plan.caches)
    if (!setDim(cache.past, 0, StepDim::One) ||
        !setDim(cache.past, 2, StepDim::Past))
      return false;
  if (plan.positions && (!setDim(plan.positions, 0, StepDim::One) ||
                         !setDim(plan.positions, 1, StepDim::Sequence)))
    return false;
  if (plan.mask && (!setDim(plan.mask, 0, StepDim::One) ||
                    !setDim(plan.mask, 1, StepDim::Total)))
    return false;
  for (Operation *op : plan.live) {
    auto dim = dyn_cast<qn::DimOp>(op);
    if (dim && !plan.dims.count(dim.getName()))
      return fail("dimension '" + dim.getName() +
                  "' is neither batch, sequence nor past");
  }
  return true;
}

//===----------------------------------------------------------------------===//
// The rows that count
//===----------------------------------------------------------------------===//

static bool isRows(Value value) {
  if (auto type = dyn_cast<qn::QTensorType>(value.getType()))
    return type.getShape().size() == 3 &&
           ShapedType::isDynamic(type.getShape()[1]);
  auto type = dyn_cast<RankedTensorType>(value.getType());
  return type && type.getRank() == 3 && type.isDynamicDim(1) &&
         !type.isDynamicDim(2);
}

static bool isStatic(Value value) {
  auto type = dyn_cast<ShapedType>(value.getType());
  return type ? type.hasStaticShape() : !isa<qn::QTensorType>(value.getType());
}

Value Analysis::rowOperand(Operation *op) {
  if (isa<qn::LinearOp, qn::NormOp, qn::QuantizeOp, qn::DequantizeOp,
          tensor::CastOp>(op))
    return op->getOperand(0);
  if (auto map = dyn_cast<qn::MapOp>(op))
    return map.getAxis() == 2 ? map.getInput() : Value();
  Value rows;
  auto generic = dyn_cast<linalg::GenericOp>(op);
  if (!generic) {
    if (!OpTrait::hasElementwiseMappableTraits(op) || op->getNumResults() != 1)
      return {};
    for (Value operand : op->getOperands())
      if (!isStatic(operand)) {
        if (rows && rows != operand)
          return {};
        rows = operand;
      }
    return rows;
  }
  if (generic.getNumResults() != 1 ||
      generic.getNumParallelLoops() != generic.getNumLoops() ||
      generic.hasIndexSemantics() ||
      !generic.getDpsInits()[0].getDefiningOp<tensor::EmptyOp>())
    return {};
  SetVector<Value> captured;
  getUsedValuesDefinedAbove(op->getRegions(), captured);
  if (!llvm::all_of(captured, isStatic))
    return {};
  for (OpOperand &operand : generic->getOpOperands()) {
    if (isStatic(operand.get()))
      continue;
    if (!generic.getMatchingIndexingMap(&operand).isIdentity())
      return {};
    if (generic.isDpsInit(&operand))
      continue;
    if (rows && rows != operand.get())
      return {};
    rows = operand.get();
  }
  return rows;
}

void Analysis::findTail() {
  plan.cut = plan.logits;
  SmallVector<Operation *> chain;
  while (Operation *op = plan.cut.getDefiningOp()) {
    Value rows = plan.live.contains(op) ? rowOperand(op) : Value();
    if (!rows || !isRows(rows) || !isRows(op->getResult(0)))
      break;
    // Others would see fewer rows.
    bool shared = llvm::any_of(op->getUsers(), [&](Operation *user) {
      return plan.live.contains(user) && !llvm::is_contained(chain, user);
    });
    if (shared)
      break;
    chain.push_back(op);
    plan.cut = rows;
    if (isa<qn::NormOp>(op))
      break;
  }
  for (Operation *op : llvm::reverse(chain)) {
    plan.tail.insert(op);
    plan.live.remove(op);
  }
}

std::optional<StatePlan> Analysis::run() {
  if (!plan.main.getBody().hasOneBlock()) {
    fail("@main has more than one block");
    return std::nullopt;
  }
  if (!findCaches() || !findLogits() || !collectLive() || !findInputs() ||
      !nameDims())
    return std::nullopt;
  findTail();
  return plan;
}

std::optional<StatePlan> quench::planState(func::FuncOp main,
                                           std::string &reason) {
  Analysis analysis(main);
  std::optional<StatePlan> plan = analysis.run();
  reason = analysis.reason;
  return plan;
}
