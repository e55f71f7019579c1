//===- LowerReduce.cpp - Reductions and products ----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "quench/Dialect/ONNX/IR/ONNX.h"
#include <limits>

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

/// What no element is below (or above, for `high`).
static TypedAttr extreme(Builder &b, Type type, bool high) {
  if (auto floats = dyn_cast<FloatType>(type))
    return b.getFloatAttr(type,
                          APFloat::getInf(floats.getFloatSemantics(), !high));
  unsigned width = type.getIntOrFloatBitWidth();
  return b.getIntegerAttr(type, high ? APInt::getSignedMaxValue(width)
                                     : APInt::getSignedMinValue(width));
}

LogicalResult Lowering::reduction(Operation *op) {
  StringRef kind = kindOf(op);
  Value input = op->getOperand(0), result = op->getResult(0);
  Dims dims = dimsOf(input);
  Type type = elementOf(input);
  bool isFloat = isa<FloatType>(type);
  bool isExtreme = kind == "ReduceMax" || kind == "ReduceMin";
  bool given = false;
  auto axes = shapes.axes(op, 1, dims.size(), &given);
  if (!axes)
    return fail("its axes are not constants");
  if (!given) {
    if (getInt(op, "noop_with_empty_axes", 0))
      return forward(op);
    axes = llvm::to_vector(llvm::seq<int64_t>(0, dims.size()));
  }
  bool plainSum = kind == "ReduceSum" || kind == "ReduceProd" || isExtreme;
  if (!type.isSignlessInteger() && !isFloat)
    return fail("this type is not supported");
  if (!isFloat && !plainSum)
    return fail("only floats are supported");
  if (type.isInteger(1))
    return fail("this type is not supported");
  Value value = tensor(input);
  if (!value)
    return failure();
  TypedAttr start = isExtreme ? extreme(builder, type, kind == "ReduceMin")
                    : isFloat ? TypedAttr(builder.getFloatAttr(
                                    type, kind == "ReduceProd" ? 1.0 : 0.0))
                              : TypedAttr(builder.getIntegerAttr(
                                    type, kind == "ReduceProd" ? 1 : 0));
  Value sum = reduce(
      value, dims, *axes, start,
      [&](OpBuilder &b, Location loc, ValueRange args) -> Value {
        Value x = args[0], total = args[1];
        if (kind == "ReduceMax")
          return isFloat ? Value(arith::MaximumFOp::create(b, loc, x, total))
                         : Value(arith::MaxSIOp::create(b, loc, x, total));
        if (kind == "ReduceMin")
          return isFloat ? Value(arith::MinimumFOp::create(b, loc, x, total))
                         : Value(arith::MinSIOp::create(b, loc, x, total));
        if (kind == "ReduceProd")
          return isFloat ? Value(arith::MulFOp::create(b, loc, total, x))
                         : Value(arith::MulIOp::create(b, loc, total, x));
        if (!isFloat)
          return arith::AddIOp::create(b, loc, total, x);
        if (kind == "ReduceL1")
          x = math::AbsFOp::create(b, loc, x);
        if (kind == "ReduceL2" || kind == "ReduceSumSquare")
          x = arith::MulFOp::create(b, loc, x, x);
        return arith::AddFOp::create(b, loc, total, x);
      });
  Dims kept;
  Dim count(1);
  for (auto [i, dim] : llvm::enumerate(dims)) {
    if (llvm::is_contained(*axes, int64_t(i)))
      count = count * dim;
    else
      kept.push_back(dim);
  }
  if (kind == "ReduceMean" || kind == "ReduceL2" || kind == "ReduceLogSum") {
    Value n;
    if (kind == "ReduceMean") {
      Value whole = arith::IndexCastOp::create(
          builder, loc, builder.getI64Type(), index(count));
      n = arith::SIToFPOp::create(builder, loc, type, whole);
    }
    sum =
        parallel(kept, type, {sum}, builder.getMultiDimIdentityMap(kept.size()),
                 [&](OpBuilder &b, Location loc, ValueRange args) -> Value {
                   if (n)
                     return arith::DivFOp::create(b, loc, args[0], n);
                   if (kind == "ReduceL2")
                     return math::SqrtOp::create(b, loc, args[0]);
                   return math::LogOp::create(b, loc, args[0]);
                 });
  }
  Value shaped = reshaped(sum, kept, dimsOf(result));
  if (!shaped)
    return fail("its result cannot be shaped");
  set(result, shaped);
  return success();
}

LogicalResult Lowering::softmax(Operation *op) {
  Value input = op->getOperand(0);
  Dims dims = dimsOf(input);
  Type type = elementOf(input);
  int64_t rank = dims.size();
  bool isOld = onnx::getOpset(op) < 13;
  int64_t axis = getInt(op, "axis", isOld ? 1 : -1);
  axis = axis < 0 ? axis + rank : axis;
  if (axis < 0 || axis >= rank || !isa<FloatType>(type))
    return fail("its axis or type is not supported");
  if (isOld && axis != rank - 1)
    return fail("before opset 13 only the last axis is supported");
  Value x = tensor(input);
  if (!x)
    return failure();
  Dims kept = dims;
  kept.erase(kept.begin() + axis);
  SmallVector<AffineExpr> exprs;
  for (int64_t i = 0; i < rank; ++i)
    if (i != axis)
      exprs.push_back(builder.getAffineDimExpr(i));
  AffineMap all = builder.getMultiDimIdentityMap(rank),
            row = AffineMap::get(rank, 0, exprs, builder.getContext());
  Value most =
      reduce(x, dims, axis, extreme(builder, type, false),
             [](OpBuilder &b, Location loc, ValueRange args) -> Value {
               return arith::MaximumFOp::create(b, loc, args[0], args[1]);
             });
  bool isLog = kindOf(op) == "LogSoftmax";
  Value shifted =
      parallel(dims, type, {x, most}, {all, row},
               [&](OpBuilder &b, Location loc, ValueRange args) -> Value {
                 Value d = arith::SubFOp::create(b, loc, args[0], args[1]);
                 return isLog ? d : Value(math::ExpOp::create(b, loc, d));
               });
  Value sum = reduce(
      shifted, dims, axis, builder.getFloatAttr(type, 0.0),
      [&](OpBuilder &b, Location loc, ValueRange args) -> Value {
        Value e = isLog ? Value(math::ExpOp::create(b, loc, args[0])) : args[0];
        return arith::AddFOp::create(b, loc, args[1], e);
      });
  set(op->getResult(0),
      parallel(dims, type, {shifted, sum}, {all, row},
               [&](OpBuilder &b, Location loc, ValueRange args) -> Value {
                 if (!isLog)
                   return arith::DivFOp::create(b, loc, args[0], args[1]);
                 Value log = math::LogOp::create(b, loc, args[1]);
                 return arith::SubFOp::create(b, loc, args[0], log);
               }));
  return success();
}

LogicalResult Lowering::norm(Operation *op) {
  Value input = op->getOperand(0), gain = getOperand(op, 1),
        bias = getOperand(op, 2);
  Dims dims = dimsOf(input);
  Type type = elementOf(input);
  int64_t rank = dims.size(), axis = getInt(op, "axis", -1);
  axis = axis < 0 ? axis + rank : axis;
  if (axis < 0 || axis >= rank || !isa<FloatType>(type) ||
      (gain && elementOf(gain) != type) || (bias && elementOf(bias) != type))
    return fail("its axis or types are not supported");
  bool centered = kindOf(op) == "LayerNormalization";
  Value x = tensor(input);
  if (!x)
    return failure();
  Dims kept(dims.begin(), dims.begin() + axis);
  Dim count(1);
  for (int64_t i = axis; i < rank; ++i)
    count = count * dims[i];
  Value whole = arith::IndexCastOp::create(builder, loc, builder.getI64Type(),
                                           index(count));
  Value n = arith::SIToFPOp::create(builder, loc, type, whole);
  auto axes = llvm::to_vector(llvm::seq<int64_t>(axis, rank));
  AffineMap all = builder.getMultiDimIdentityMap(rank),
            row = AffineMap::get(rank, 0, all.getResults().take_front(axis),
                                 builder.getContext()),
            ids = builder.getMultiDimIdentityMap(axis);
  TypedAttr zero = builder.getFloatAttr(type, 0.0);
  Value mean;
  if (centered) {
    Value sum = reduce(
        x, dims, axes, zero, [](OpBuilder &b, Location loc, ValueRange args) {
          return Value(arith::AddFOp::create(b, loc, args[1], args[0]));
        });
    mean = parallel(kept, type, {sum}, {ids},
                    [&](OpBuilder &b, Location loc, ValueRange args) {
                      return Value(arith::DivFOp::create(b, loc, args[0], n));
                    });
    x = parallel(dims, type, {x, mean}, {all, row},
                 [](OpBuilder &b, Location loc, ValueRange args) {
                   return Value(
                       arith::SubFOp::create(b, loc, args[0], args[1]));
                 });
  }
  Value squares = reduce(
      x, dims, axes, zero, [](OpBuilder &b, Location loc, ValueRange args) {
        Value square = arith::MulFOp::create(b, loc, args[0], args[0]);
        return Value(arith::AddFOp::create(b, loc, args[1], square));
      });
  Value inverse = parallel(
      kept, type, {squares}, {ids},
      [&](OpBuilder &b, Location loc, ValueRange args) {
        Value variance = arith::DivFOp::create(b, loc, args[0], n);
        Value epsilon = arith::ConstantOp::create(
            b, loc, b.getFloatAttr(type, getFloat(op, "epsilon", 1e-5)));
        Value sum = arith::AddFOp::create(b, loc, variance, epsilon);
        Value root = math::SqrtOp::create(b, loc, sum);
        Value one =
            arith::ConstantOp::create(b, loc, b.getFloatAttr(type, 1.0));
        return Value(arith::DivFOp::create(b, loc, one, root));
      });
  SmallVector<Value> inputs = {x, inverse};
  SmallVector<AffineMap> maps = {all, row};
  for (Value factor : {gain, bias}) {
    if (!factor)
      continue;
    Value value = tensor(factor);
    if (!value)
      return failure();
    inputs.push_back(value);
    maps.push_back(broadcastMap(dimsOf(factor), dims));
  }
  set(op->getResult(0),
      parallel(dims, type, inputs, maps,
               [&](OpBuilder &b, Location loc, ValueRange args) {
                 Value y = arith::MulFOp::create(b, loc, args[0], args[1]);
                 if (gain)
                   y = arith::MulFOp::create(b, loc, y, args[2]);
                 if (bias)
                   y = arith::AddFOp::create(b, loc, y, args.back());
                 return y;
               }));
  for (unsigned i = 1; i < op->getNumResults(); ++i) {
    Value statistic = i == 1 && centered ? mean : inverse;
    if (op->getResult(i).use_empty())
      continue;
    Value shaped = reshaped(statistic, kept, dimsOf(op->getResult(i)));
    if (!shaped)
      return fail("its statistics cannot be shaped");
    set(op->getResult(i), shaped);
  }
  return success();
}

/// total + x * y in the type of `total`.
static Value multiplyAdd(OpBuilder &b, Location loc, ValueRange args) {
  if (isa<FloatType>(args[2].getType())) {
    Value product = arith::MulFOp::create(b, loc, args[0], args[1]);
    return arith::AddFOp::create(b, loc, args[2], product);
  }
  Value product = arith::MulIOp::create(b, loc, args[0], args[1]);
  return arith::AddIOp::create(b, loc, args[2], product);
}

static TypedAttr zeroOf(Builder &b, Type type) {
  return cast<TypedAttr>(b.getZeroAttr(type));
}

LogicalResult Lowering::matmul(Operation *op) {
  Value left = op->getOperand(0), right = op->getOperand(1),
        result = op->getResult(0);
  Type type = elementOf(result);
  if (elementOf(left) != type || elementOf(right) != type ||
      (!isa<FloatType>(type) && !type.isSignlessInteger()))
    return fail("this type is not supported");
  Value x = tensor(left), y = tensor(right);
  if (!x || !y)
    return failure();
  // Loops: the result's dimensions, then the sum.
  Dims dims = dimsOf(result);
  int64_t rank = dims.size();
  auto operandMap = [&](Value value, bool isLeft) {
    Dims own = dimsOf(value);
    SmallVector<AffineExpr> exprs;
    int64_t skip = rank - int64_t(own.size());
    for (int64_t i = 0; i + 2 < int64_t(own.size()); ++i)
      exprs.push_back(own[i].isConstant(1) && !dims[skip + i].isConstant(1)
                          ? builder.getAffineConstantExpr(0)
                          : builder.getAffineDimExpr(skip + i));
    AffineExpr sum = builder.getAffineDimExpr(rank);
    exprs.push_back(isLeft ? builder.getAffineDimExpr(rank - 2) : sum);
    exprs.push_back(isLeft ? sum : builder.getAffineDimExpr(rank - 1));
    return AffineMap::get(rank + 1, 0, exprs, builder.getContext());
  };
  Value init = filled(dims, zeroOf(builder, type));
  SmallVector<utils::IteratorType> loops(rank, utils::IteratorType::parallel);
  loops.push_back(utils::IteratorType::reduction);
  SmallVector<AffineMap> maps = {
      operandMap(left, true), operandMap(right, false),
      builder.getMultiDimIdentityMap(rank + 1).getMajorSubMap(rank)};
  set(result,
      linalg::GenericOp::create(
          builder, loc, init.getType(), ValueRange{x, y}, init, maps, loops,
          [&](OpBuilder &b, Location loc, ValueRange args) {
            linalg::YieldOp::create(b, loc, multiplyAdd(b, loc, args));
          })
          .getResult(0));
  return success();
}

LogicalResult Lowering::gemm(Operation *op) {
  Value left = op->getOperand(0), right = op->getOperand(1),
        bias = getOperand(op, 2), result = op->getResult(0);
  Type type = elementOf(result);
  double alpha = getFloat(op, "alpha", 1), beta = getFloat(op, "beta", 1);
  if (!isa<FloatType>(type) || elementOf(left) != type ||
      elementOf(right) != type || (bias && elementOf(bias) != type))
    return fail("only floats are supported");
  Value x = tensor(left), y = tensor(right);
  if (!x || !y)
    return failure();
  Dims dims = dimsOf(result);
  AffineExpr m = builder.getAffineDimExpr(0), n = builder.getAffineDimExpr(1),
             k = builder.getAffineDimExpr(2);
  auto map = [&](AffineExpr a, AffineExpr b, bool swap) {
    return AffineMap::get(3, 0, {swap ? b : a, swap ? a : b},
                          builder.getContext());
  };
  SmallVector<AffineMap> maps = {map(m, k, getInt(op, "transA", 0)),
                                 map(k, n, getInt(op, "transB", 0)),
                                 map(m, n, false)};
  SmallVector<utils::IteratorType> loops = {utils::IteratorType::parallel,
                                            utils::IteratorType::parallel,
                                            utils::IteratorType::reduction};
  Value init = filled(dims, builder.getFloatAttr(type, 0.0));
  Value product =
      linalg::GenericOp::create(
          builder, loc, init.getType(), ValueRange{x, y}, init, maps, loops,
          [&](OpBuilder &b, Location loc, ValueRange args) {
            linalg::YieldOp::create(b, loc, multiplyAdd(b, loc, args));
          })
          .getResult(0);
  SmallVector<Value> inputs = {product};
  SmallVector<AffineMap> inputMaps = {builder.getMultiDimIdentityMap(2)};
  if (bias) {
    Value c = tensor(bias);
    if (!c)
      return failure();
    inputs.push_back(c);
    inputMaps.push_back(broadcastMap(dimsOf(bias), dims));
  }
  if (!bias && alpha == 1) {
    set(result, product);
    return success();
  }
  set(result, parallel(dims, type, inputs, inputMaps,
                       [&](OpBuilder &b, Location loc, ValueRange args) {
                         auto times = [&](Value v, double factor) {
                           if (factor == 1)
                             return v;
                           Value f = arith::ConstantOp::create(
                               b, loc, b.getFloatAttr(type, factor));
                           return Value(arith::MulFOp::create(b, loc, v, f));
                         };
                         Value sum = times(args[0], alpha);
                         if (bias)
                           sum = arith::AddFOp::create(b, loc, sum,
                                                       times(args[1], beta));
                         return sum;
                       }));
  return success();
}

LogicalResult Lowering::argMax(Operation *op) {
  Value input = op->getOperand(0), result = op->getResult(0);
  Dims dims = dimsOf(input);
  Type type = elementOf(input), i64 = builder.getI64Type();
  int64_t rank = dims.size(), axis = getInt(op, "axis", 0);
  axis = axis < 0 ? axis + rank : axis;
  bool most = kindOf(op) == "ArgMax";
  if (!isa<FloatType>(type) || getInt(op, "select_last_index", 0))
    return fail("only the first index in floats is supported");
  Value x = tensor(input);
  if (!x)
    return failure();
  Dims kept = dims;
  kept.erase(kept.begin() + axis);
  SmallVector<AffineExpr> exprs;
  SmallVector<utils::IteratorType> loops(rank, utils::IteratorType::parallel);
  loops[axis] = utils::IteratorType::reduction;
  for (int64_t i = 0; i < rank; ++i)
    if (i != axis)
      exprs.push_back(builder.getAffineDimExpr(i));
  AffineMap row = AffineMap::get(rank, 0, exprs, builder.getContext());
  SmallVector<AffineMap> maps = {builder.getMultiDimIdentityMap(rank), row,
                                 row};
  Value best = filled(kept, extreme(builder, type, !most));
  Value at = filled(kept, builder.getI64IntegerAttr(0));
  auto generic = linalg::GenericOp::create(
      builder, loc, TypeRange{best.getType(), at.getType()}, x,
      ValueRange{best, at}, maps, loops,
      [&](OpBuilder &b, Location loc, ValueRange args) {
        Value i = arith::IndexCastOp::create(
            b, loc, i64, linalg::IndexOp::create(b, loc, axis));
        Value better = arith::CmpFOp::create(b, loc,
                                             most ? arith::CmpFPredicate::OGT
                                                  : arith::CmpFPredicate::OLT,
                                             args[0], args[1]);
        linalg::YieldOp::create(
            b, loc,
            ValueRange{
                arith::SelectOp::create(b, loc, better, args[0], args[1]),
                arith::SelectOp::create(b, loc, better, i, args[2])});
      });
  Value shaped = reshaped(generic.getResult(1), kept, dimsOf(result));
  if (!shaped)
    return fail("its result cannot be shaped");
  set(result, shaped);
  return success();
}
