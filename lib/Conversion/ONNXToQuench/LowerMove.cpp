//===- LowerMove.cpp - Ops that move data -----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "quench/Dialect/ONNX/IR/ONNX.h"

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

//===----------------------------------------------------------------------===//
// Other views of the same elements
//===----------------------------------------------------------------------===//

namespace {
/// Consecutive dimensions of both sides with the same number of elements.
struct Group {
  ReassociationIndices from, to;
  Dim size;
};
} // namespace

static std::optional<SmallVector<Group>>
groupDims(const DimContext &names, ArrayRef<Dim> from, ArrayRef<Dim> to) {
  SmallVector<Group> groups;
  size_t i = 0, j = 0;
  while (i < from.size() || j < to.size()) {
    Group group;
    Dim left(1), right(1);
    auto takeFrom = [&] {
      left = left * from[i];
      group.from.push_back(i++);
    };
    auto takeTo = [&] {
      right = right * to[j];
      group.to.push_back(j++);
    };
    if (i < from.size())
      takeFrom();
    if (j < to.size())
      takeTo();
    while (!names.equal(left, right)) {
      bool more = i < from.size(), moreTo = j < to.size();
      if (!more && !moreTo)
        return std::nullopt;
      if (moreTo && (!more || names.divide(left, right)))
        takeTo();
      else
        takeFrom();
    }
    // Ones that have no partner belong to the group before them.
    while (i < from.size() && from[i].isConstant(1) &&
           !(j < to.size() && to[j].isConstant(1)))
      takeFrom();
    while (j < to.size() && to[j].isConstant(1) &&
           !(i < from.size() && from[i].isConstant(1)))
      takeTo();
    group.size = names.resolve(left);
    groups.push_back(group);
  }
  return groups;
}

Value Lowering::reshaped(Value value, ArrayRef<Dim> from, ArrayRef<Dim> to) {
  Type element = elementOf(value);
  RankedTensorType type = shapes.typeOf(to, element);
  if (from == to)
    return value;
  auto groups = groupDims(names, from, to);
  if (!groups)
    return {};
  // To or from a single element there is one group that is empty on one side.
  SmallVector<ReassociationIndices> collapse, expand;
  Dims middle;
  bool needsCollapse = false, needsExpand = false;
  if (!from.empty() && !to.empty()) {
    for (const Group &group : *groups) {
      if (group.from.empty() || group.to.empty())
        return {};
      needsCollapse |= group.from.size() > 1;
      needsExpand |= group.to.size() > 1;
      collapse.push_back(group.from);
      expand.push_back(group.to);
      middle.push_back(group.size);
    }
  } else {
    needsCollapse = to.empty();
    needsExpand = from.empty();
  }
  if (needsCollapse)
    value = tensor::CollapseShapeOp::create(
        builder, loc, shapes.typeOf(middle, element), value, collapse);
  if (needsExpand)
    value = tensor::ExpandShapeOp::create(builder, loc, type, value, expand,
                                          sizes(to));
  return value;
}

LogicalResult Lowering::reshape(Operation *op) {
  Value value = tensor(op->getOperand(0));
  if (!value)
    return failure();
  Value shaped =
      reshaped(value, dimsOf(op->getOperand(0)), dimsOf(op->getResult(0)));
  if (!shaped)
    return fail("its dimensions cannot be matched with those of its input");
  set(op->getResult(0), shaped);
  return success();
}

LogicalResult Lowering::transpose(Operation *op) {
  Value input = op->getOperand(0);
  int64_t rank = shapes.rank(input);
  auto perm = getInts(op, "perm");
  if (!perm)
    perm = llvm::to_vector(llvm::reverse(llvm::seq<int64_t>(0, rank)));
  // Result axis i is input axis perm[i].
  SmallVector<AffineExpr> exprs(rank);
  for (auto [i, axis] : llvm::enumerate(*perm)) {
    if (axis < 0 || axis >= rank || exprs[axis])
      return fail("its permutation is none");
    exprs[axis] = builder.getAffineDimExpr(i);
  }
  Value value = tensor(input);
  if (!value)
    return failure();
  set(op->getResult(0),
      parallel(dimsOf(op->getResult(0)), elementOf(input), {value},
               AffineMap::get(rank, 0, exprs, builder.getContext()),
               [](OpBuilder &, Location, ValueRange args) { return args[0]; }));
  return success();
}

LogicalResult Lowering::expand(Operation *op) {
  Value input = op->getOperand(0);
  return elementwise(
      op, {input}, elementOf(input),
      [](OpBuilder &, Location, ValueRange args) { return args[0]; });
}

LogicalResult Lowering::tile(Operation *op) {
  Value input = op->getOperand(0);
  Dims from = dimsOf(input), to = dimsOf(op->getResult(0));
  Value value = tensor(input);
  if (!value)
    return failure();
  SmallVector<Value> periods;
  for (auto [have, want] : llvm::zip(from, to))
    periods.push_back(have == want ? Value() : index(have));
  set(op->getResult(0),
      parallel(to, elementOf(input), {}, {},
               [&](OpBuilder &b, Location loc, ValueRange) -> Value {
                 SmallVector<Value> at;
                 for (auto [i, period] : llvm::enumerate(periods)) {
                   Value k = linalg::IndexOp::create(b, loc, i);
                   at.push_back(
                       period ? Value(arith::RemUIOp::create(b, loc, k, period))
                              : k);
                 }
                 return tensor::ExtractOp::create(b, loc, value, at);
               }));
  return success();
}

//===----------------------------------------------------------------------===//
// Parts
//===----------------------------------------------------------------------===//

/// No elements, whatever the names stand for.
static bool isEmpty(ArrayRef<Dim> dims) {
  return llvm::any_of(dims, [](const Dim &dim) { return dim.isConstant(0); });
}

LogicalResult Lowering::concat(Operation *op) {
  Dims dims = dimsOf(op->getResult(0));
  int64_t rank = dims.size(), axis = getInt(op, "axis", 0);
  axis = axis < 0 ? axis + rank : axis;
  Value whole = empty(dims, elementOf(op->getResult(0)));
  Dim at(0);
  SmallVector<OpFoldResult> strides(rank, builder.getIndexAttr(1));
  for (Value operand : op->getOperands()) {
    Value part = tensor(operand);
    if (!part)
      return failure();
    Dims own = dimsOf(operand);
    if (isEmpty(own))
      continue;
    SmallVector<OpFoldResult> offsets(rank, builder.getIndexAttr(0));
    offsets[axis] = size(at);
    whole = tensor::InsertSliceOp::create(builder, loc, part, whole, offsets,
                                          sizes(own), strides);
    at = at + own[axis];
  }
  set(op->getResult(0), whole);
  return success();
}

LogicalResult Lowering::slice(Operation *op) {
  Value input = op->getOperand(0);
  auto ranges = shapes.slice(op);
  Dims from = dimsOf(input), to = dimsOf(op->getResult(0));
  if (!ranges)
    return fail("its bounds depend on data");
  Value value = tensor(input);
  if (!value)
    return failure();
  bool backwards = false;
  SmallVector<OpFoldResult> offsets, strides;
  for (auto [i, range] : llvm::enumerate(*ranges)) {
    backwards |= range.step < 0;
    offsets.push_back(size(range.start));
    strides.push_back(builder.getIndexAttr(range.step));
    // A size that the model takes to be small enough.
    Dim end = range.step > 0 ? range.start + range.size * Dim(range.step)
                             : range.start + Dim(1);
    if (auto most = from[i].constant())
      addLimit(function, names, end, *most);
  }
  if (isEmpty(to)) {
    set(op->getResult(0), empty(to, elementOf(input)));
    return success();
  }
  if (!backwards) {
    RankedTensorType type = shapes.typeOf(to, elementOf(input));
    set(op->getResult(0),
        tensor::ExtractSliceOp::create(builder, loc, type, value, offsets,
                                       sizes(to), strides));
    return success();
  }
  SmallVector<Value> starts, steps;
  for (const Shapes::Range &range : *ranges) {
    starts.push_back(index(range.start));
    steps.push_back(arith::ConstantIndexOp::create(builder, loc, range.step));
  }
  set(op->getResult(0),
      parallel(to, elementOf(input), {}, {},
               [&](OpBuilder &b, Location loc, ValueRange) -> Value {
                 SmallVector<Value> at;
                 for (auto [i, start] : llvm::enumerate(starts)) {
                   Value k = linalg::IndexOp::create(b, loc, i);
                   Value moved = arith::MulIOp::create(b, loc, k, steps[i]);
                   at.push_back(arith::AddIOp::create(b, loc, start, moved));
                 }
                 return tensor::ExtractOp::create(b, loc, value, at);
               }));
  return success();
}

LogicalResult Lowering::split(Operation *op) {
  Value input = op->getOperand(0), value = tensor(input);
  auto parts = shapes.split(op);
  int64_t rank = shapes.rank(input), axis = getInt(op, "axis", 0);
  axis = axis < 0 ? axis + rank : axis;
  if (!value || !parts)
    return failure();
  Dim at(0);
  SmallVector<OpFoldResult> strides(rank, builder.getIndexAttr(1));
  for (auto [result, part] : llvm::zip(op->getResults(), *parts)) {
    Dims dims = dimsOf(result);
    if (isEmpty(dims)) {
      set(result, empty(dims, elementOf(input)));
      continue;
    }
    SmallVector<OpFoldResult> offsets(rank, builder.getIndexAttr(0));
    offsets[axis] = size(at);
    set(result, tensor::ExtractSliceOp::create(
                    builder, loc, shapes.typeOf(dims, elementOf(input)), value,
                    offsets, sizes(dims), strides));
    at = at + part;
  }
  return success();
}

LogicalResult Lowering::gather(Operation *op) {
  Value input = op->getOperand(0), ids = op->getOperand(1);
  Dims from = dimsOf(input), to = dimsOf(op->getResult(0));
  int64_t rank = from.size(), axis = getInt(op, "axis", 0);
  axis = axis < 0 ? axis + rank : axis;
  int64_t idRank = shapes.rank(ids);
  Value table = tensor(input), indices;
  if (!table)
    return failure();
  Value single = scalar(ids);
  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  if (!single) {
    if (!(indices = tensor(ids)))
      return failure();
    SmallVector<AffineExpr> exprs;
    for (int64_t i = 0; i < idRank; ++i)
      exprs.push_back(builder.getAffineDimExpr(axis + i));
    inputs.push_back(indices);
    maps.push_back(AffineMap::get(to.size(), 0, exprs, builder.getContext()));
  }
  Value count = index(from[axis]);
  set(op->getResult(0),
      parallel(
          to, elementOf(input), inputs, maps,
          [&](OpBuilder &b, Location loc, ValueRange args) -> Value {
            Value id = arith::IndexCastOp::create(b, loc, b.getIndexType(),
                                                  single ? single : args[0]);
            Value zero = arith::ConstantIndexOp::create(b, loc, 0);
            Value one = arith::ConstantIndexOp::create(b, loc, 1);
            // Negative indices count from the end; others that are out of
            // range are moved into it.
            Value negative = arith::CmpIOp::create(
                b, loc, arith::CmpIPredicate::slt, id, zero);
            Value wrapped = arith::SelectOp::create(
                b, loc, negative, arith::AddIOp::create(b, loc, id, count), id);
            Value last = arith::SubIOp::create(b, loc, count, one);
            Value safe = arith::MaxSIOp::create(
                b, loc, zero, arith::MinSIOp::create(b, loc, wrapped, last));
            SmallVector<Value> at;
            for (int64_t i = 0; i < rank; ++i)
              at.push_back(i == axis
                               ? safe
                               : Value(linalg::IndexOp::create(
                                     b, loc, i < axis ? i : i + idRank - 1)));
            return tensor::ExtractOp::create(b, loc, table, at);
          }));
  return success();
}

//===----------------------------------------------------------------------===//
// Tensors made from nothing
//===----------------------------------------------------------------------===//

LogicalResult Lowering::range(Operation *op) {
  auto start = shapes.ints(op->getOperand(0));
  auto step = shapes.constants(op->getOperand(2));
  Type type = elementOf(op->getResult(0));
  if (!start || !step || !type.isSignlessInteger())
    return fail("its bounds depend on data");
  Value first = index(start->front()), by = index(Dim(step->front()));
  set(op->getResult(0),
      parallel(dimsOf(op->getResult(0)), type, {}, {},
               [&](OpBuilder &b, Location loc, ValueRange) -> Value {
                 Value i = linalg::IndexOp::create(b, loc, 0);
                 Value moved = arith::MulIOp::create(b, loc, i, by);
                 Value at = arith::AddIOp::create(b, loc, first, moved);
                 return arith::IndexCastOp::create(b, loc, type, at);
               }));
  return success();
}

LogicalResult Lowering::constantOfShape(Operation *op) {
  Type type = elementOf(op->getResult(0));
  auto attr = op->getAttrOfType<DenseElementsAttr>("value");
  TypedAttr number;
  if (!attr)
    number = builder.getFloatAttr(type, 0.0);
  else if (attr.getNumElements() == 1)
    number = ::cast<TypedAttr>(*attr.value_begin<Attribute>());
  if (!number || number.getType() != type)
    return fail("its value is not one number");
  set(op->getResult(0), filled(dimsOf(op->getResult(0)), number));
  return success();
}

LogicalResult Lowering::constant(Operation *op) {
  return tensor(op->getResult(0)) ? success() : fail("it is not numbers");
}

LogicalResult Lowering::trilu(Operation *op) {
  Value input = op->getOperand(0);
  Dims dims = dimsOf(input);
  int64_t rank = dims.size();
  Dim shift(0);
  if (Value k = getOperand(op, 1)) {
    auto ints = shapes.ints(k);
    if (!ints || ints->size() != 1)
      return fail("its diagonal depends on data");
    shift = ints->front();
  }
  Type type = elementOf(input);
  bool upper = getInt(op, "upper", 1);
  if (rank < 2 || (!isa<FloatType>(type) && !type.isSignlessInteger()))
    return fail("this type is not supported");
  Value diagonal = index(shift);
  Value zero = arith::ConstantOp::create(
      builder, loc, ::cast<TypedAttr>(builder.getZeroAttr(type)));
  return elementwise(
      op, {input}, type,
      [&](OpBuilder &b, Location loc, ValueRange args) -> Value {
        Value row = linalg::IndexOp::create(b, loc, rank - 2);
        Value column = linalg::IndexOp::create(b, loc, rank - 1);
        Value limit = arith::AddIOp::create(b, loc, row, diagonal);
        Value keep = arith::CmpIOp::create(b, loc,
                                           upper ? arith::CmpIPredicate::sge
                                                 : arith::CmpIPredicate::sle,
                                           column, limit);
        return arith::SelectOp::create(b, loc, keep, args[0], zero);
      });
}
