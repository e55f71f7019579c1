//===- Gradient.cpp - Forward, then backward --------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Training/Gradient.h"
#include "OpGradient.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "llvm/ADT/SetVector.h"
#include <cstring>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

Expected<HostTensor> quench::zeros(ArrayRef<int64_t> shape) {
  QUENCH_TRY(tensor, HostTensor::allocate(ElementKind::F32, shape));
  std::memset(tensor.mutableRaw(), 0, tensor.getNumBytes());
  return tensor;
}

Expected<HostTensor> OpGradient::operand(unsigned i) {
  QUENCH_TRY(value, interpreter.valueOf(op->getOperand(i), values));
  return value.convertTo(ElementKind::F32);
}

static const GradientRules &rules() {
  static const GradientRules *all = [] {
    auto *made = new GradientRules;
    addLayerGradients(*made);
    addTensorGradients(*made);
    return made;
  }();
  return *all;
}

/// Whether gradients flow through values of this type.
static bool isReal(Type type) {
  return isa<FloatType>(getElementTypeOrSelf(type)) ||
         isa<qn::QTensorType>(type);
}

/// What an op reads, its regions included.
static llvm::SetVector<Value> readsOf(Operation *op) {
  llvm::SetVector<Value> reads;
  op->walk([&](Operation *inner) {
    for (Value value : inner->getOperands())
      if (value.getParentBlock() == op->getBlock())
        reads.insert(value);
  });
  return reads;
}

//===----------------------------------------------------------------------===//
// Pieces of a function
//===----------------------------------------------------------------------===//

std::vector<Operation *> quench::opsOf(func::FuncOp function) {
  std::vector<Operation *> ops;
  if (!function.isExternal() && function.getBody().hasOneBlock())
    for (Operation &op : function.getBody().front().without_terminator())
      ops.push_back(&op);
  return ops;
}

/// How many tensors of the activations cross the place before each op.
static std::vector<int64_t> aliveBefore(OpRun ops) {
  DenseMap<Operation *, size_t> at;
  for (auto [i, op] : llvm::enumerate(ops))
    at[op] = i;
  std::vector<int64_t> alive(ops.size() + 1, 0);
  for (auto [i, op] : llvm::enumerate(ops))
    for (Value value : op->getResults()) {
      auto type = dyn_cast<RankedTensorType>(value.getType());
      bool constant = llvm::all_of(op->getOperands(), [](Value operand) {
        return !isa<RankedTensorType, qn::QTensorType>(operand.getType());
      });
      if ((!type && !isa<qn::QTensorType>(value.getType())) || constant)
        continue;
      size_t last = i;
      for (Operation *user : value.getUsers()) {
        Operation *top = op->getBlock()->findAncestorOpInBlock(*user);
        auto found = at.find(top);
        last = std::max(last, found == at.end() ? ops.size() : found->second);
      }
      for (size_t j = i + 1; j <= last; ++j)
        ++alive[j];
    }
  return alive;
}

/// The place in [from, to] that the fewest values cross, the first such one.
static size_t narrowest(ArrayRef<int64_t> alive, size_t from, size_t to) {
  size_t best = from;
  for (size_t i = from; i <= to; ++i)
    if (alive[i] < alive[best])
      best = i;
  return best;
}

size_t quench::tailBegin(OpRun ops) {
  size_t from = 0;
  for (auto [i, op] : llvm::enumerate(ops))
    if (auto linear = dyn_cast<qn::LinearOp>(op); linear && linear.getBlock())
      from = i + 1;
  return narrowest(aliveBefore(ops), from, ops.size());
}

std::vector<size_t> quench::blockCuts(OpRun ops) {
  // Where each numbered block has its first and last layer.
  llvm::DenseMap<int64_t, std::pair<size_t, size_t>> span;
  std::vector<int64_t> order;
  for (auto [i, op] : llvm::enumerate(ops)) {
    auto linear = dyn_cast<qn::LinearOp>(op);
    if (!linear || !linear.getBlock())
      continue;
    int64_t block = *linear.getBlock();
    if (span.try_emplace(block, std::make_pair(i, i)).second)
      order.push_back(block);
    span[block].second = i;
  }
  std::vector<int64_t> alive = aliveBefore(ops);
  std::vector<size_t> cuts;
  for (size_t b = 0; b + 1 < order.size(); ++b) {
    size_t from = span[order[b]].second + 1, to = span[order[b + 1]].first;
    if (from > to)
      continue; // blocks that run into each other
    cuts.push_back(narrowest(alive, from, to));
  }
  return cuts;
}

//===----------------------------------------------------------------------===//
// The tape
//===----------------------------------------------------------------------===//

GradientTape::GradientTape(Interpreter &interpreter, OpRun run,
                           ArrayRef<size_t> cuts, ArrayRef<Value> wantedValues,
                           int64_t keptBytes)
    : interpreter(interpreter), ops(run),
      wanted(wantedValues.begin(), wantedValues.end()), keptBytes(keptBytes),
      adjoints(std::make_unique<Adjoints>()) {
  // What depends on a wanted value, and each wanted value's first user.
  active = wanted;
  llvm::DenseMap<Operation *, size_t> at;
  for (auto [i, op] : llvm::enumerate(ops)) {
    at[op] = i;
    llvm::SetVector<Value> reads = readsOf(op);
    bool depends = false;
    for (Value value : reads) {
      depends |= active.contains(value);
      if (wanted.contains(value))
        firstUser.try_emplace(value, op);
    }
    bool weight =
        op->getNumResults() == 1 && interpreter.isWeight(op->getResult(0));
    if (depends && !weight)
      for (Value result : op->getResults())
        if (isReal(result.getType()))
          active.insert(result);
  }
  for (Operation *op : ops)
    for (Value result : op->getResults())
      for (Operation *user : result.getUsers())
        if (!at.contains(op->getBlock()->findAncestorOpInBlock(*user)))
          outside.insert(result);

  size_t begin = 0;
  SmallVector<size_t> ends(cuts.begin(), cuts.end());
  ends.push_back(ops.size());
  for (size_t end : ends) {
    if (end <= begin)
      continue;
    Segment segment;
    segment.begin = begin;
    segment.end = end;
    llvm::SetVector<Value> liveIn;
    for (size_t i = begin; i < end; ++i)
      for (Value value : readsOf(ops[i])) {
        Operation *def = value.getDefiningOp();
        auto found = def ? at.find(def) : at.end();
        bool before = found == at.end() || found->second < begin;
        if (before && !interpreter.isWeight(value))
          liveIn.insert(value);
      }
    segment.liveIn = liveIn.takeVector();
    segments.push_back(std::move(segment));
    begin = end;
  }
}

GradientTape::GradientTape(GradientTape &&) = default;
GradientTape::~GradientTape() = default;

Error GradientTape::runSegment(Segment &segment) {
  for (size_t i = segment.begin; i < segment.end; ++i)
    QUENCH_CHECK(interpreter.step(ops[i], segment.values));
  segment.complete = true;
  return Error::success();
}

Error GradientTape::forward(Values inputs) {
  outputs = std::move(inputs);
  int64_t kept = 0;
  for (auto [i, segment] : llvm::enumerate(segments)) {
    segment.values.clear();
    segment.complete = false;
    for (Value value : segment.liveIn) {
      auto found = outputs.find(value);
      if (found == outputs.end())
        return createStringError("a value that is read has not been given");
      segment.values[value] = found->second;
    }
    QUENCH_CHECK(runSegment(segment));
    // What later segments and the outside read.
    llvm::DenseSet<Value> later = outside;
    for (const Segment &next : ArrayRef(segments).drop_front(i + 1))
      later.insert(next.liveIn.begin(), next.liveIn.end());
    int64_t bytes = 0;
    for (const auto &[value, tensor] : segment.values) {
      bytes += tensor.getNumBytes();
      if (later.contains(value))
        outputs[value] = tensor;
    }
    // The last segment is needed at once.
    if (i + 1 == segments.size() || kept + bytes <= keptBytes) {
      kept += bytes;
      continue;
    }
    Values boundary;
    for (Value value : segment.liveIn)
      boundary[value] = segment.values[value];
    segment.values = std::move(boundary);
    segment.complete = false;
  }
  return Error::success();
}

Expected<HostTensor> GradientTape::output(Value value) {
  return interpreter.valueOf(value, outputs);
}

Expected<HostTensor> GradientTape::value(Value value) {
  return interpreter.valueOf(value, current ? *current : outputs);
}

void GradientTape::add(Value value, HostTensor gradient) {
  HostTensor &sum = gradients[value];
  if (!sum) {
    sum = std::move(gradient);
    return;
  }
  float *to = sum.mutableData<float>();
  const float *from = gradient.data<float>();
  for (int64_t i = 0; i < sum.getNumElements(); ++i)
    to[i] += from[i];
}

Error GradientTape::give(Value value, Sink sink) {
  auto found = gradients.find(value);
  if (found == gradients.end())
    return Error::success();
  HostTensor gradient = found->second;
  return sink(value, std::move(gradient));
}

Error GradientTape::backwardOp(Operation *op) {
  SmallVector<HostTensor> results;
  bool any = false;
  for (Value result : op->getResults()) {
    results.push_back(gradients.lookup(result));
    any |= static_cast<bool>(results.back());
    gradients.erase(result);
  }
  if (!any)
    return Error::success();
  OpGradient step{interpreter, *current, *adjoints, op, results, {}, {}};
  bool wants = false;
  for (Value operand : op->getOperands()) {
    step.wants.push_back(active.contains(operand) && isReal(operand.getType()));
    wants |= step.wants.back();
  }
  if (!wants)
    return Error::success();
  step.operands.resize(op->getNumOperands());
  auto rule = rules().find(op->getName().getStringRef());
  Error error =
      rule == rules().end() ? structuredGradient(step) : rule->second(step);
  if (error) {
    std::string text;
    llvm::raw_string_ostream(text)
        << "'" << op->getName().getStringRef() << "' at " << op->getLoc();
    return createStringError(text + ": " + llvm::toString(std::move(error)));
  }
  for (auto [i, operand] : llvm::enumerate(op->getOperands()))
    if (step.wants[i] && step.operands[i])
      add(operand, std::move(step.operands[i]));
  return Error::success();
}

Error GradientTape::backwardThrough(Segment &segment, Sink sink) {
  if (!segment.complete)
    QUENCH_CHECK(runSegment(segment));
  current = &segment.values;
  for (size_t i = segment.end; i-- > segment.begin;) {
    Operation *op = ops[i];
    for (Value result : op->getResults())
      if (wanted.contains(result) && !interpreter.isWeight(result))
        QUENCH_CHECK(give(result, sink));
    QUENCH_CHECK(backwardOp(op));
    for (Value value : readsOf(op))
      if (firstUser.lookup(value) == op) {
        // Results of ops wait for the op that makes them.
        bool inside = value.getDefiningOp() && !interpreter.isWeight(value) &&
                      llvm::is_contained(ops, value.getDefiningOp());
        if (inside)
          continue;
        QUENCH_CHECK(give(value, sink));
        gradients.erase(value);
      }
  }
  current = nullptr;
  segment.values.clear();
  segment.complete = false;
  return Error::success();
}

Error GradientTape::backward(
    ArrayRef<std::pair<Value, HostTensor>> outputGradients, Sink sink) {
  gradients.clear();
  for (const auto &[value, gradient] : outputGradients) {
    QUENCH_TRY(forwardValue, output(value));
    if (gradient.getKind() != ElementKind::F32 ||
        gradient.getShape() != forwardValue.getShape())
      return createStringError("a gradient " + gradient.describe() +
                               " for a value " + forwardValue.describe());
    add(value, gradient);
  }
  for (Segment &segment : llvm::reverse(segments))
    if (Error error = backwardThrough(segment, sink)) {
      current = nullptr;
      return error;
    }
  gradients.clear();
  return Error::success();
}
