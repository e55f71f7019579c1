//===- Adjoint.cpp - Gradients as IR ----------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Adjoint.h"
#include "OpGradient.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Transforms/RegionUtils.h"

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

/// A tensor type of f32 of the shape of `type`.
static RankedTensorType gradientType(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return RankedTensorType::get(tensor ? tensor.getShape() : ArrayRef<int64_t>(),
                               Float32Type::get(type.getContext()));
}

Error Adjoints::make(OpGradient &step, Build build, Adjoint &adjoint) {
  Operation *op = step.op;
  llvm::SetVector<Value> reads(op->getOperands().begin(),
                               op->getOperands().end());
  for (Region &region : op->getRegions())
    getUsedValuesDefinedAbove(region, reads);
  adjoint.inputs.assign(reads.begin(), reads.end());
  for (auto [i, wants] : llvm::enumerate(step.wants))
    if (wants)
      adjoint.wanted.push_back(i);

  SmallVector<Type> types;
  for (Value value : adjoint.inputs)
    types.push_back(value.getType());
  for (Value value : op->getResults())
    types.push_back(gradientType(value.getType()));
  for (unsigned i : adjoint.wanted)
    types.push_back(gradientType(op->getOperand(i).getType()));

  OpBuilder builder(op->getContext());
  Location loc = builder.getUnknownLoc();
  adjoint.module = ModuleOp::create(loc);
  builder.setInsertionPointToEnd(adjoint.module->getBody());
  auto results = ArrayRef(types).take_back(adjoint.wanted.size());
  auto function = func::FuncOp::create(builder, loc, "adjoint",
                                       builder.getFunctionType(types, results));
  Block *body = function.addEntryBlock();
  builder.setInsertionPointToEnd(body);
  IRMapping mapping;
  ValueRange arguments = body->getArguments();
  for (auto [value, argument] : llvm::zip(adjoint.inputs, arguments))
    mapping.map(value, argument);
  arguments = arguments.drop_front(adjoint.inputs.size());
  Frame frame{builder,        op,
              mapping,        arguments.take_front(op->getNumResults()),
              adjoint.wanted, arguments.drop_front(op->getNumResults())};
  QUENCH_TRY(gradients, build(frame));
  func::ReturnOp::create(builder, loc, gradients);
  QUENCH_TRY(made, Interpreter::create(*adjoint.module, {}));
  adjoint.interpreter.emplace(std::move(made));
  return Error::success();
}

Error Adjoints::run(OpGradient &step, Build build) {
  std::unique_ptr<Adjoint> &adjoint = adjoints[step.op];
  if (!adjoint) {
    auto made = std::make_unique<Adjoint>();
    QUENCH_CHECK(make(step, build, *made));
    adjoint = std::move(made);
  }
  SmallVector<HostTensor> inputs;
  for (Value value : adjoint->inputs) {
    QUENCH_TRY(tensor, step.interpreter.valueOf(value, step.values));
    inputs.push_back(std::move(tensor));
  }
  for (auto [i, tensor] : llvm::enumerate(step.results)) {
    if (tensor) {
      inputs.push_back(tensor);
      continue;
    }
    QUENCH_TRY(value,
               step.interpreter.valueOf(step.op->getResult(i), step.values));
    QUENCH_TRY(none, zeros(value.getShape()));
    inputs.push_back(std::move(none));
  }
  for (unsigned i : adjoint->wanted) {
    QUENCH_TRY(value,
               step.interpreter.valueOf(step.op->getOperand(i), step.values));
    QUENCH_TRY(zero, zeros(value.getShape()));
    inputs.push_back(std::move(zero));
  }
  QUENCH_TRY(gradients, adjoint->interpreter->run("adjoint", inputs));
  for (auto [i, gradient] : llvm::zip(adjoint->wanted, gradients))
    step.operands[i] = std::move(gradient);
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Structured ops
//===----------------------------------------------------------------------===//

namespace {
/// An op as loops over operands with a body of scalars.
struct Loops {
  SmallVector<utils::IteratorType> iterators;
  SmallVector<AffineMap> maps; // of operands, then of results
  Block *body = nullptr;
  unsigned inputs = 0; // operands that are not initial results
};
} // namespace

/// f32 as the scalar type, or back.
static Value convert(OpBuilder &builder, Value value, Type type) {
  if (value.getType() == type)
    return value;
  Location loc = builder.getUnknownLoc();
  if (value.getType().getIntOrFloatBitWidth() < type.getIntOrFloatBitWidth())
    return arith::ExtFOp::create(builder, loc, type, value);
  return arith::TruncFOp::create(builder, loc, type, value);
}

/// Whether the body yields its argument `out` plus something without it.
static bool isSum(Block &body, BlockArgument out, Value yielded) {
  auto add = yielded.getDefiningOp<arith::AddFOp>();
  return add && out.hasOneUse() && *out.user_begin() == add.getOperation();
}

static Expected<SmallVector<Value>> buildStructured(Adjoints::Frame &frame,
                                                    const Loops &loops) {
  OpBuilder &builder = frame.builder;
  Location loc = builder.getUnknownLoc();
  Block &body = *loops.body;
  ValueRange yields = body.getTerminator()->getOperands();
  unsigned numOperands = body.getNumArguments();

  // A reduction must be a sum: then the initial result and the summand both get
  // the result's gradient.
  for (unsigned i = loops.inputs; i < numOperands; ++i) {
    BlockArgument out = body.getArgument(i);
    bool reduces =
        llvm::is_contained(loops.iterators, utils::IteratorType::reduction);
    if (reduces && !out.use_empty() &&
        !isSum(body, out, yields[i - loops.inputs]))
      return createStringError("no gradient for a reduction that is no sum");
  }

  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  for (unsigned i = 0; i < numOperands; ++i) {
    inputs.push_back(frame.mapping.lookup(frame.op->getOperand(i)));
    maps.push_back(loops.maps[i]);
  }
  for (auto [i, gradient] : llvm::enumerate(frame.results)) {
    inputs.push_back(gradient);
    maps.push_back(loops.maps[numOperands + i]);
  }
  // An initial result that is only added to gets its gradient as it is.
  SmallVector<Value> results(frame.wanted.size()), outs;
  SmallVector<unsigned> outOf;
  for (auto [at, i] : llvm::enumerate(frame.wanted)) {
    if (i >= loops.inputs &&
        isSum(body, body.getArgument(i), yields[i - loops.inputs])) {
      results[at] = frame.results[i - loops.inputs];
      continue;
    }
    outs.push_back(frame.zeros[at]);
    outOf.push_back(at);
    maps.push_back(loops.maps[i]);
  }
  if (outs.empty())
    return results;
  SmallVector<utils::IteratorType> iterators(loops.iterators.size(),
                                             utils::IteratorType::parallel);
  for (unsigned d = 0; d < iterators.size(); ++d)
    for (unsigned at : outOf)
      if (!loops.maps[frame.wanted[at]].isFunctionOfDim(d))
        iterators[d] = utils::IteratorType::reduction;

  Error error = Error::success();
  auto generic = linalg::GenericOp::create(
      builder, loc, ValueRange(outs).getTypes(), inputs, outs, maps, iterators,
      [&](OpBuilder &b, Location, ValueRange arguments) {
        IRMapping mapping = frame.mapping;
        mapping.map(body.getArguments(), arguments.take_front(numOperands));
        for (Operation &op : body.without_terminator())
          b.clone(op, mapping);
        DenseMap<Value, Value> adjoints;
        for (auto [i, value] : llvm::enumerate(yields)) {
          if (!isa<FloatType>(value.getType()))
            continue;
          Value gradient =
              convert(b, arguments[numOperands + i], value.getType());
          Value &sum = adjoints[value];
          sum = sum ? arith::AddFOp::create(b, loc, sum, gradient) : gradient;
        }
        SmallVector<Value> wanted, sums;
        for (unsigned at : outOf)
          wanted.push_back(body.getArgument(frame.wanted[at]));
        error = reverseScalars(b, body, mapping, wanted, adjoints);
        for (auto [value, before] :
             llvm::zip(wanted, arguments.take_back(outs.size()))) {
          Value gradient = adjoints.lookup(value);
          if (gradient)
            gradient = arith::AddFOp::create(
                b, loc, before, convert(b, gradient, before.getType()));
          sums.push_back(gradient ? gradient : before);
        }
        linalg::YieldOp::create(b, loc, sums);
      });
  if (error)
    return std::move(error);
  for (auto [at, result] : llvm::zip(outOf, generic.getResults()))
    results[at] = result;
  return results;
}

Error quench::structuredGradient(OpGradient &step) {
  Operation *op = step.op;
  if (auto structured = dyn_cast<linalg::LinalgOp>(op))
    return step.adjoints.run(step, [&](Adjoints::Frame &frame) {
      Loops loops;
      loops.iterators = structured.getIteratorTypesArray();
      loops.maps = structured.getIndexingMapsArray();
      loops.inputs = structured.getNumDpsInputs();
      for (unsigned i = 0; i < op->getNumResults(); ++i)
        loops.maps.push_back(AffineMap(loops.maps[loops.inputs + i]));
      loops.body = structured.getBlock();
      return buildStructured(frame, loops);
    });

  // One scalar op on tensors: its loops are made here.
  return step.adjoints.run(
      step, [&](Adjoints::Frame &frame) -> Expected<SmallVector<Value>> {
        auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
        if (op->getNumResults() != 1 || !type || op->getNumRegions() != 0)
          return createStringError("no gradient for '" +
                                   op->getName().getStringRef() + "'");
        MLIRContext *context = op->getContext();
        Loops loops;
        loops.iterators.assign(type.getRank(), utils::IteratorType::parallel);
        loops.inputs = op->getNumOperands();
        Block body;
        Location loc = UnknownLoc::get(context);
        for (Value operand : op->getOperands()) {
          auto tensor = dyn_cast<RankedTensorType>(operand.getType());
          if (!tensor)
            return createStringError("no gradient for '" +
                                     op->getName().getStringRef() +
                                     "' of a number and a tensor");
          body.addArgument(tensor.getElementType(), loc);
        }
        loops.maps.assign(
            op->getNumOperands() + 1,
            AffineMap::getMultiDimIdentityMap(type.getRank(), context));
        OpBuilder scalars(context);
        scalars.setInsertionPointToEnd(&body);
        OperationState state(loc, op->getName().getStringRef(),
                             body.getArguments(), type.getElementType(),
                             op->getAttrs());
        Operation *scalar = scalars.create(state);
        linalg::YieldOp::create(scalars, loc, scalar->getResults());
        loops.body = &body;
        return buildStructured(frame, loops);
      });
}
