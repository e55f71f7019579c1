//===- Elementwise.cpp - arith, math and index on tensors -------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Engine.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Index/IR/IndexDialect.h"
#include "mlir/Dialect/Index/IR/IndexOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/BuiltinOps.h"

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

bool quench::isElementwise(Operation *op) {
  if (isa<UnrealizedConversionCastOp>(op))
    return op->getNumOperands() == 1 && op->getNumResults() == 1;
  if (!isa_and_nonnull<arith::ArithDialect, math::MathDialect,
                       index::IndexDialect>(op->getDialect()) ||
      op->getNumResults() != 1 || op->getNumOperands() == 0)
    return false;
  return true;
}

Expected<const Tape *> Interpreter::Engine::tapeOf(Operation *op) {
  std::unique_ptr<Tape> &tape = tapes[op];
  if (!tape) {
    Expected<Tape> compiled = Tape::compileOp(op);
    if (!compiled)
      return compiled.takeError();
    tape = std::make_unique<Tape>(std::move(*compiled));
  }
  return tape.get();
}

Error quench::runElementwise(Step &step) {
  QUENCH_TRY(tape, step.engine.tapeOf(step.op));
  // All operands have one shape, except for arith.select's scalar condition.
  ArrayRef<int64_t> shape;
  for (const HostTensor &operand : step.operands)
    if (operand.getRank() >= static_cast<int64_t>(shape.size()))
      shape = operand.getShape();
  SmallVector<int64_t, 4> resultShape(shape);
  Expected<int64_t> total = countElements(resultShape, 1);
  if (!total)
    return total.takeError();
  for (const HostTensor &operand : step.operands)
    if (operand.getShape() != ArrayRef<int64_t>(resultShape) &&
        operand.getRank() != 0)
      return createStringError(
          "operands of different shapes: " + step.operands[0].describe() +
          " and " + operand.describe());

  ElementKind kind = tape->resultKind(0);
  HostTensor result;
  for (HostTensor &operand : step.operands)
    if (operand.isUnique() && operand.getNumElements() == *total &&
        operand.getRank() == static_cast<int64_t>(resultShape.size()) &&
        elementBytes(operand.getKind()) == elementBytes(kind) && !result)
      // The operand stays readable; its only user is this op.
      result = operand.bitcast(kind);
  bool inPlace = static_cast<bool>(result);
  if (!inPlace) {
    QUENCH_TRY(fresh, HostTensor::allocate(kind, resultShape));
    result = std::move(fresh);
  }
  // In place, two handles share the memory: it is written through raw().
  void *out = inPlace ? const_cast<void *>(result.raw()) : result.mutableRaw();

  Tape::Frame frame(*tape);
  for (int64_t start = 0; start < *total; start += kChunk) {
    int64_t n = std::min(kChunk, *total - start);
    for (auto [i, operand] : llvm::enumerate(step.operands)) {
      bool scalar = operand.getRank() == 0;
      bool native = operand.getKind() == ElementKind::F32 ||
                    operand.getKind() == ElementKind::F64 ||
                    operand.getKind() == ElementKind::I64;
      if (native && !scalar)
        frame.setArgument(i, operand.data<char>() +
                                 start * elementBytes(operand.getKind()));
      else
        loadRegister(operand.getKind(), operand.raw(), scalar ? 0 : start,
                     scalar ? 0 : 1, n, frame.argument(i));
    }
    QUENCH_CHECK(frame.run(n));
    storeRegister(kind, out, start, 1, n, frame.result(0));
  }
  step.results.push_back(std::move(result));
  return Error::success();
}
