//===- Roles.cpp - Roles and block numbers of linear layers -----*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Blocks are numbered by their attention. Layers whose results become queries,
// keys and values are q, k and v (or qkv), the first ones behind it are o; of
// the others, what feeds only another layer is up (and gate), that layer down.
//
//===----------------------------------------------------------------------===//

#include "Recognizer.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

namespace {
class Roles {
public:
  explicit Roles(Recognizer &r) : r(r) {}
  void run();

private:
  /// The linear layers that a value is computed from, up to the next layers.
  /// Null if something that is no such layer is reached: an embedding,
  /// attention, an argument.
  struct Sources {
    llvm::SmallSetVector<Operation *, 4> layers;
    bool other = false;
  };
  Sources sources(Value value);
  void set(Operation *op, StringRef role, std::optional<int64_t> block);
  bool isSet(Operation *op) { return roles.contains(op); }
  void attention(qn::AttentionOp op, int64_t block);
  void feedForward(qn::LinearOp op, int64_t block);
  /// Ops between a value and the layer it is computed from.
  int64_t depth(Value value);

  Recognizer &r;
  llvm::DenseMap<Operation *, StringRef> roles;
};
} // namespace

/// Whether a value only carries sizes and constants.
static bool isLeaf(Recognizer &r, Value value) {
  Operation *op = value.getDefiningOp();
  return op && (isa<qn::WeightOp, qn::AssembleOp, qn::DimOp>(op) ||
                kindOf(op) == "NoValue" || kindOf(op) == "Constant" ||
                r.shapes->ints(value));
}

Roles::Sources Roles::sources(Value value) {
  Sources found;
  SmallVector<Value> work = {value};
  llvm::DenseSet<Value> seen;
  while (!work.empty()) {
    Value next = work.pop_back_val();
    if (!seen.insert(next).second || isLeaf(r, next))
      continue;
    Operation *op = next.getDefiningOp();
    if (!op || isa<qn::EmbeddingOp, qn::AttentionOp>(op)) {
      found.other = true;
      continue;
    }
    if (isa<qn::LinearOp>(op)) {
      found.layers.insert(op);
      continue;
    }
    work.append(op->operand_begin(), op->operand_end());
  }
  return found;
}

int64_t Roles::depth(Value value) {
  int64_t steps = 0;
  while (Operation *op = value.getDefiningOp()) {
    if (isa<qn::LinearOp>(op))
      break;
    ++steps;
    // Through the operand that is computed from a layer.
    Value next;
    for (Value operand : op->getOperands())
      if (!isLeaf(r, operand))
        next = operand;
    if (!next)
      break;
    value = next;
  }
  return steps;
}

void Roles::set(Operation *op, StringRef role, std::optional<int64_t> block) {
  if (!roles.try_emplace(op, role).second)
    return;
  auto linear = cast<qn::LinearOp>(op);
  linear.setRole(role);
  if (block)
    linear.setBlock(*block);
}

void Roles::attention(qn::AttentionOp op, int64_t block) {
  SmallVector<std::pair<Operation *, StringRef>> found;
  auto trace = [&](Value value, StringRef role) {
    // The new rows of a cache; the past has nothing to do with this block.
    if (auto extend = value.getDefiningOp<qn::ExtendOp>())
      value = extend.getRows();
    Sources from = sources(value);
    if (from.layers.size() == 1)
      found.emplace_back(from.layers.front(), role);
  };
  trace(op.getQuery(), "q");
  trace(op.getKey(), "k");
  trace(op.getValue(), "v");
  llvm::MapVector<Operation *, std::string> byLayer;
  for (auto &[layer, role] : found)
    byLayer[layer] += role.str();
  for (auto &[layer, role] : byLayer)
    if (!isSet(layer))
      set(layer,
          role == "q" || role == "k" || role == "v" ? StringRef(role)
                                                    : StringRef("qkv"),
          block);
  // Forward to the first layers.
  SmallVector<Value> work(op->result_begin(), op->result_end());
  llvm::DenseSet<Operation *> seen;
  while (!work.empty()) {
    Value next = work.pop_back_val();
    for (Operation *user : next.getUsers()) {
      if (!seen.insert(user).second)
        continue;
      if (isa<qn::LinearOp>(user)) {
        if (sources(user->getOperand(0)).layers.empty())
          set(user, "o", block);
        continue;
      }
      work.append(user->result_begin(), user->result_end());
    }
  }
}

void Roles::feedForward(qn::LinearOp op, int64_t block) {
  Sources from = sources(op.getInput());
  if (from.other || from.layers.empty() || from.layers.size() > 2)
    return;
  for (Operation *layer : from.layers)
    if (isSet(layer))
      return;
  if (from.layers.size() == 1) {
    set(from.layers.front(), "up", block);
    set(op, "down", block);
    return;
  }
  // The product of the two; the side with an activation is the gate.
  SmallVector<Value> work = {op.getInput()};
  llvm::DenseSet<Value> seen;
  while (!work.empty()) {
    Value next = work.pop_back_val();
    Operation *node = next.getDefiningOp();
    if (!node || !seen.insert(next).second || isa<qn::LinearOp>(node))
      continue;
    if (kindOf(node) == "Mul") {
      Sources a = sources(node->getOperand(0)),
              b = sources(node->getOperand(1));
      if (a.layers.size() == 1 && b.layers.size() == 1 &&
          a.layers.front() != b.layers.front()) {
        bool gateFirst =
            depth(node->getOperand(0)) >= depth(node->getOperand(1));
        set((gateFirst ? a : b).layers.front(), "gate", block);
        set((gateFirst ? b : a).layers.front(), "up", block);
        set(op, "down", block);
        return;
      }
    }
    work.append(node->operand_begin(), node->operand_end());
  }
}

void Roles::run() {
  Block &body = r.function.getBody().front();
  int64_t block = 0;
  for (auto op : body.getOps<qn::AttentionOp>())
    attention(op, block++);
  block = -1;
  Operation *last = nullptr;
  for (Operation &op : body) {
    if (isa<qn::AttentionOp>(op))
      ++block;
    auto linear = dyn_cast<qn::LinearOp>(op);
    if (!linear)
      continue;
    last = linear;
    if (!isSet(linear))
      feedForward(linear, std::max<int64_t>(block, 0));
  }
  // The last layer is the head if the model gives its result as it is.
  if (last && !isSet(last) && block >= 0)
    for (Operation *user : last->getResult(0).getUsers())
      if (user->hasTrait<OpTrait::IsTerminator>())
        set(last, "head", std::nullopt);
  for (auto linear : body.getOps<qn::LinearOp>())
    if (!isSet(linear))
      set(linear, "other", std::nullopt);
}

void quench::onnx_to_quench::assignRoles(Recognizer &r) {
  r.refresh();
  Roles(r).run();
}
