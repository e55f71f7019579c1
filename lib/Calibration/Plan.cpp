//===- Plan.cpp - Where a run over samples is cut -------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Plan.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace quench;

SmallVector<Value> quench::valuesReadBy(Operation *op) {
  SmallVector<Value> values;
  op->walk([&](Operation *inner) {
    for (Value value : inner->getOperands()) {
      Region *region = value.getParentRegion();
      bool isOutside = true;
      for (Region &own : op->getRegions())
        isOutside &= !own.isAncestor(region);
      if (isOutside && !llvm::is_contained(values, value))
        values.push_back(value);
    }
  });
  return values;
}

WalkPlan::WalkPlan(func::FuncOp main,
                   llvm::function_ref<bool(qn::LinearOp)> isWanted)
    : block(&main.getBody().front()) {
  for (Operation &op : block->without_terminator()) {
    numbers[&op] = ops.size();
    ops.push_back(&op);
  }
  findSites(isWanted);
  findNeeded();
  findCuts();
}

int64_t WalkPlan::definedAt(Value value) const {
  Operation *op = value.getDefiningOp();
  return op ? numbers.lookup(op) : -1;
}

std::string WalkPlan::nameOf(Value value) const {
  if (auto argument = dyn_cast<BlockArgument>(value))
    return "input-" + std::to_string(argument.getArgNumber());
  auto result = cast<OpResult>(value);
  return "value-" + std::to_string(definedAt(value)) + "-" +
         std::to_string(result.getResultNumber());
}

/// The input of a layer before it is rounded.
static Value inputOf(qn::LinearOp op) {
  Value input = op.getInput();
  while (auto quantize = input.getDefiningOp<qn::QuantizeOp>())
    input = quantize.getInput();
  return input;
}

void WalkPlan::findSites(llvm::function_ref<bool(qn::LinearOp)> isWanted) {
  llvm::StringMap<unsigned> byKey;
  llvm::DenseMap<Value, unsigned> byInput;
  for (Operation *op : ops) {
    auto linear = dyn_cast<qn::LinearOp>(op);
    if (!linear || !WeightEvaluator::isWeight(linear.getWeight()))
      continue;
    std::string key = WeightEvaluator::key(linear.getWeight());
    auto known = byKey.find(key);
    if (known == byKey.end()) {
      if (!isWanted(linear))
        continue;
      known = byKey.try_emplace(key, layers.size()).first;
      layers.emplace_back().key = key;
      auto [site, isNew] =
          byInput.try_emplace(inputOf(linear), unsigned(sites.size()));
      if (isNew)
        sites.emplace_back().input = inputOf(linear);
      sites[site->second].layers.push_back(known->second);
    }
    PlannedLayer &layer = layers[known->second];
    layer.readers.push_back(linear);
    if (!llvm::is_contained(layer.weights, linear.getWeight()))
      layer.weights.push_back(linear.getWeight());
  }
  // Other ops may read the same expressions.
  for (Operation *op : ops)
    if (op->getNumResults() == 1 && WeightEvaluator::isWeight(op->getResult(0)))
      if (auto known = byKey.find(WeightEvaluator::key(op->getResult(0)));
          known != byKey.end() &&
          !llvm::is_contained(layers[known->second].weights, op->getResult(0)))
        layers[known->second].weights.push_back(op->getResult(0));
}

/// Cheaper to compute again than to keep: constants and sizes.
static bool isCheap(Operation *op) {
  if (op->getNumRegions())
    return false;
  if (op->hasTrait<OpTrait::ConstantLike>() || isa<tensor::EmptyOp>(op))
    return true;
  return llvm::none_of(op->getResultTypes(),
                       [](Type type) { return isa<ShapedType>(type); }) &&
         isPure(op);
}

void WalkPlan::findNeeded() {
  needed.assign(ops.size(), false);
  cheap.assign(ops.size(), false);
  for (size_t i = 0; i < ops.size(); ++i)
    cheap[i] = isCheap(ops[i]) &&
               llvm::all_of(ops[i]->getOperands(), [&](Value value) {
                 int64_t at = definedAt(value);
                 return at < 0 || cheap[at];
               });
  auto need = [&](Value value) {
    if (definedAt(value) >= 0 && !WeightEvaluator::isWeight(value))
      needed[definedAt(value)] = true;
  };
  for (const PlannedSite &site : sites) {
    need(site.input);
    int64_t &last = lastUse.try_emplace(site.input, -1).first->second;
    for (unsigned layer : site.layers)
      last = std::max(last, numbers.lookup(layers[layer].readers.front()));
  }
  for (int64_t i = ops.size() - 1; i >= 0; --i) {
    if (!needed[i])
      continue;
    for (Value value : valuesReadBy(ops[i])) {
      need(value);
      int64_t &last = lastUse.try_emplace(value, -1).first->second;
      last = std::max(last, i);
    }
  }
  for (PlannedLayer &layer : layers)
    for (Value weight : layer.weights)
      if (auto use = lastUse.find(weight); use != lastUse.end())
        layer.lastRead = std::max(layer.lastRead, use->second);
}

void WalkPlan::findCuts() {
  // Where the first layer of a site stands; others whose inputs are there by
  // then are visited at the same time.
  std::vector<std::pair<int64_t, unsigned>> order;
  for (auto [i, site] : llvm::enumerate(sites))
    order.push_back(
        {numbers.lookup(layers[site.layers.front()].readers.front()), i});
  llvm::sort(order);
  std::vector<bool> done(sites.size(), false);
  int64_t begin = 0;
  for (auto [position, first] : order) {
    if (done[first])
      continue;
    PlannedCut cut;
    cut.position = position;
    for (auto [ignored, site] : order)
      if (!done[site] && definedAt(sites[site].input) < position) {
        cut.sites.push_back(site);
        done[site] = true;
      }
    fillCut(cut, begin);
    begin = position;
    cuts.push_back(std::move(cut));
  }
}

void WalkPlan::fillCut(PlannedCut &cut, int64_t begin) {
  auto isKept = [&](Value value, int64_t position) {
    int64_t at = definedAt(value);
    auto use = lastUse.find(value);
    return at < position && use != lastUse.end() && use->second >= position &&
           (at < 0 || !cheap[at]) && !WeightEvaluator::isWeight(value);
  };
  // Inputs of the function come with each sample; only sites need them here.
  auto isSite = [&](Value value) {
    return llvm::any_of(
        cut.sites, [&](unsigned site) { return sites[site].input == value; });
  };
  for (Value argument : block->getArguments())
    if (isSite(argument)) {
      cut.live.push_back(argument);
      cut.written.push_back(argument);
    }
  for (int64_t i = 0; i < cut.position; ++i)
    for (Value value : ops[i]->getResults())
      if (isKept(value, cut.position)) {
        cut.live.push_back(value);
        if (i >= begin)
          cut.written.push_back(value);
      }
  // What is run; constants and sizes of before are run again.
  std::vector<bool> run(ops.size(), false);
  auto use = [&](Value value) {
    int64_t at = definedAt(value);
    if (at < 0 || at >= begin || WeightEvaluator::isWeight(value))
      return;
    if (cheap[at])
      run[at] = true;
    else if (!llvm::is_contained(cut.read, value))
      cut.read.push_back(value);
  };
  for (int64_t i = cut.position - 1; i >= 0; --i) {
    Operation *op = ops[i];
    if (op->getNumResults() == 1 && WeightEvaluator::isWeight(op->getResult(0)))
      continue;
    run[i] = run[i] || (i >= begin && needed[i]);
    if (run[i])
      for (Value value : valuesReadBy(op))
        use(value);
  }
  for (int64_t i = 0; i < cut.position; ++i)
    if (run[i])
      cut.ops.push_back(ops[i]);
}
