//===- Control.cpp - scf, func, affine --------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Engine.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

static Error runIf(Step &step) {
  auto op = cast<scf::IfOp>(step.op);
  Region &region =
      step.operands[0].intAt(0) ? op.getThenRegion() : op.getElseRegion();
  if (region.empty())
    return Error::success();
  QUENCH_TRY(results, step.engine.runBlock(region.front(), step.values));
  step.results.append(results.begin(), results.end());
  return Error::success();
}

static Error runFor(Step &step) {
  auto op = cast<scf::ForOp>(step.op);
  int64_t from = step.operands[0].intAt(0), to = step.operands[1].intAt(0),
          by = step.operands[2].intAt(0);
  if (by <= 0)
    return createStringError("a loop with a step of " + Twine(by));
  ElementKind kind = step.operands[0].getKind();
  SmallVector<HostTensor> carried(step.operands.drop_front(3));
  for (HostTensor &operand : step.operands)
    operand = HostTensor();
  for (int64_t i = from; i < to; i += by) {
    step.values[op.getInductionVar()] = HostTensor::scalar(kind, i);
    for (auto [argument, value] : llvm::zip(op.getRegionIterArgs(), carried))
      step.values[argument] = std::move(value);
    QUENCH_TRY(next, step.engine.runBlock(*op.getBody(), step.values));
    carried.assign(next.begin(), next.end());
    if (i > to - by)
      break;
  }
  step.results.append(carried.begin(), carried.end());
  return Error::success();
}

static Error runCall(Step &step) {
  auto op = cast<func::CallOp>(step.op);
  auto callee = step.engine.symbols.lookup<func::FuncOp>(op.getCallee());
  if (!callee)
    return createStringError("no function '" + op.getCallee() + "'");
  QUENCH_TRY(results, step.engine.call(callee, step.operands));
  step.results.append(results.begin(), results.end());
  return Error::success();
}

static SmallVector<int64_t> applyAffine(Step &step, AffineMap map) {
  SmallVector<int64_t> numbers, results;
  for (const HostTensor &operand : step.operands)
    numbers.push_back(operand.intAt(0));
  ArrayRef<int64_t> all = numbers;
  for (AffineExpr expr : map.getResults())
    results.push_back(evaluate(expr, all.take_front(map.getNumDims()),
                               all.drop_front(map.getNumDims())));
  return results;
}

static Error giveIndex(Step &step, int64_t value) {
  step.results.push_back(HostTensor::scalar(ElementKind::I64, value));
  return Error::success();
}

static Error affineApply(Step &step) {
  auto op = cast<affine::AffineApplyOp>(step.op);
  return giveIndex(step, applyAffine(step, op.getAffineMap())[0]);
}
static Error affineMin(Step &step) {
  auto op = cast<affine::AffineMinOp>(step.op);
  return giveIndex(step, *llvm::min_element(applyAffine(step, op.getMap())));
}
static Error affineMax(Step &step) {
  auto op = cast<affine::AffineMaxOp>(step.op);
  return giveIndex(step, *llvm::max_element(applyAffine(step, op.getMap())));
}

static Error runAssert(Step &step) {
  auto op = cast<cf::AssertOp>(step.op);
  if (step.operands[0].intAt(0))
    return Error::success();
  return createStringError("check failed: " + op.getMsg());
}

void quench::addControlHandlers(Handlers &handlers) {
  handlers["scf.if"] = runIf;
  handlers["scf.for"] = runFor;
  handlers["func.call"] = runCall;
  handlers["affine.apply"] = affineApply;
  handlers["affine.min"] = affineMin;
  handlers["affine.max"] = affineMax;
  handlers["cf.assert"] = runAssert;
}
