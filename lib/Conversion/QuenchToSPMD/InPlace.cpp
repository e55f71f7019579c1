//===- InPlace.cpp - Sums that stay where they are -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A stream is added to in place, all the way through a model. Only its first
// sum is written to another place than its operand's: bufferization does not
// know that nobody reads the operand later. That one is moved here, so that the
// first layer is equal to the others.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "quench/Conversion/QuenchToSPMD/QuenchToSPMD.h"

using namespace mlir;
using namespace quench;

namespace {

/// The flat allocation behind views that keep all elements in their order.
memref::AllocOp allocationOf(Value v) {
  while (Operation *op = v.getDefiningOp()) {
    if (isa<memref::CastOp, memref::CollapseShapeOp, memref::ExpandShapeOp>(op))
      v = op->getOperand(0);
    else
      return dyn_cast<memref::AllocOp>(op);
  }
  return {};
}

/// All users, through views of any kind, and the views themselves.
void collectUsers(Value v, SmallVectorImpl<Operation *> &users) {
  for (Operation *user : v.getUsers()) {
    users.push_back(user);
    for (Value result : user->getResults())
      if (isa<MemRefType>(result.getType()))
        collectUsers(result, users);
  }
}

/// `op` writes the element it has read from operand `n`, and no other.
bool isElementwise(linalg::GenericOp op, unsigned n) {
  if (op.getNumDpsInits() != 1 || op.getNumParallelLoops() != op.getNumLoops())
    return false;
  OpOperand &in = op->getOpOperand(n), &out = *op.getDpsInitOperand(0);
  return in.get().getType() == out.get().getType() &&
         op.getMatchingIndexingMap(&in).isIdentity() &&
         op.getMatchingIndexingMap(&out).isIdentity();
}

/// Operand `n` and the output are in the same place.
bool isInPlace(linalg::GenericOp op, unsigned n) {
  memref::AllocOp in = allocationOf(op->getOperand(n));
  return in && isElementwise(op, n) &&
         in == allocationOf(op.getDpsInitOperand(0)->get());
}

/// The operand whose place `op` can take for its output, or null.
memref::AllocOp findPlace(linalg::GenericOp op) {
  memref::AllocOp out = allocationOf(op.getDpsInitOperand(0)->get());
  if (!out)
    return {};
  SmallVector<Operation *> outUsers, inUsers;
  collectUsers(out.getResult(), outUsers);
  auto isFirst = [&](Operation *user) {
    return user == op || isa<ViewLikeOpInterface>(user) ||
           (user->getBlock() == op->getBlock() && op->isBeforeInBlock(user));
  };
  if (!llvm::all_of(outUsers, isFirst))
    return {};
  for (unsigned n = 0; n != op.getNumDpsInputs(); ++n) {
    memref::AllocOp in = allocationOf(op->getOperand(n));
    if (!in || in == out || in.getType() != out.getType() ||
        in->getBlock() != op->getBlock() ||
        !llvm::equal(in.getDynamicSizes(), out.getDynamicSizes()) ||
        !isElementwise(op, n))
      continue;
    // Only a stream: what is in place later.
    if (llvm::none_of(outUsers, [&](Operation *user) {
          auto later = dyn_cast<linalg::GenericOp>(user);
          return later && n < later.getNumDpsInputs() && isInPlace(later, n);
        }))
      continue;
    inUsers.clear();
    collectUsers(in.getResult(), inUsers);
    unsigned uses = llvm::count_if(op->getOperands(), [&](Value v) {
      return isa<MemRefType>(v.getType()) && allocationOf(v) == in;
    });
    if (uses == 1 && llvm::all_of(inUsers, [&](Operation *user) {
          return user == op || isa<ViewLikeOpInterface>(user) ||
                 (user->getBlock() == op->getBlock() &&
                  user->isBeforeInBlock(op));
        }))
      return in;
  }
  return {};
}

} // namespace

bool quench::reusePlaces(func::FuncOp function) {
  bool changed = false;
  for (auto op : function.getBody().front().getOps<linalg::GenericOp>()) {
    if (op.getNumDpsInits() != 1)
      continue;
    if (memref::AllocOp place = findPlace(op)) {
      memref::AllocOp out = allocationOf(op.getDpsInitOperand(0)->get());
      // Views of the output may stand above the place; the sizes are the same.
      if (out->isBeforeInBlock(place))
        place->moveBefore(out);
      out.getResult().replaceAllUsesWith(place.getResult());
      out.erase();
      changed = true;
    }
  }
  return changed;
}
