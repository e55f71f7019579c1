//===- RefiningCloner.cpp - Copies ops with better known sizes --*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RefiningCloner.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Transforms/RegionUtils.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace quench;

static RankedTensorType withShape(RankedTensorType type,
                                  ArrayRef<int64_t> shape) {
  return RankedTensorType::get(shape, type.getElementType(),
                               type.getEncoding());
}

/// Static sizes of `better` where `type` has none.
static RankedTensorType refine(RankedTensorType type,
                               ArrayRef<int64_t> better) {
  SmallVector<int64_t> shape(type.getShape());
  if (shape.size() != better.size())
    return type;
  for (auto [size, other] : llvm::zip(shape, better))
    if (ShapedType::isDynamic(size))
      size = other;
  return withShape(type, shape);
}

static ArrayRef<int64_t> shapeOf(Value value) {
  if (auto q = dyn_cast<qn::QTensorType>(value.getType()))
    return q.getShape();
  if (auto type = dyn_cast<RankedTensorType>(value.getType()))
    return type.getShape();
  return {};
}

Value RefiningCloner::castTo(Value value, Type type) {
  if (value.getType() == type || !isa<TensorType>(type) ||
      !isa<TensorType>(value.getType()))
    return value;
  return tensor::CastOp::create(builder, value.getLoc(), type, value);
}

OpFoldResult RefiningCloner::resolve(OpFoldResult size) {
  if (auto value = dyn_cast<Value>(size))
    return getAsOpFoldResult(lookup(value));
  return size;
}

SmallVector<OpFoldResult>
RefiningCloner::resolve(ArrayRef<OpFoldResult> sizes) {
  return llvm::map_to_vector(sizes,
                             [&](OpFoldResult size) { return resolve(size); });
}

/// An op on scalars, folded where that is possible.
void RefiningCloner::cloneScalar(Operation *op) {
  Operation *copy = builder.clone(*op, mapping);
  SmallVector<Value> values;
  if (failed(builder.tryFold(copy, values)) || values.empty())
    return;
  for (auto [from, to] : llvm::zip(op->getResults(), values))
    mapping.map(from, to);
  copy->erase();
}

/// Operands as they were, results as they were.
void RefiningCloner::cloneUnknown(Operation *op) {
  IRMapping before;
  auto restore = [&](Value value) {
    before.map(value, castTo(lookup(value), value.getType()));
  };
  llvm::for_each(op->getOperands(), restore);
  SetVector<Value> captured;
  getUsedValuesDefinedAbove(op->getRegions(), captured);
  llvm::for_each(captured, restore);
  Operation *copy = builder.clone(*op, before);
  mapping.map(op->getResults(), copy->getResults());
}

Value RefiningCloner::expandShape(tensor::ExpandShapeOp op) {
  Value source = lookup(op.getSrc());
  ArrayRef<int64_t> from = shapeOf(source);
  SmallVector<OpFoldResult> sizes = resolve(op.getMixedOutputShape());
  SmallVector<int64_t> shape =
      llvm::map_to_vector(sizes, [](OpFoldResult size) {
        return getConstantIntValue(size).value_or(ShapedType::kDynamic);
      });
  SmallVector<int64_t> collapsed(from);
  for (auto [group, size] :
       llvm::zip(op.getReassociationIndices(), collapsed)) {
    int64_t product = 1, unknown = -1, count = 0;
    for (int64_t i : group)
      if (ShapedType::isDynamic(shape[i])) {
        unknown = i;
        ++count;
      } else {
        product *= shape[i];
      }
    if (count == 0) {
      size = product;
    } else if (count == 1 && !ShapedType::isDynamic(size) && product > 0) {
      shape[unknown] = size / product;
      sizes[unknown] = builder.getIndexAttr(shape[unknown]);
    } else {
      size = ShapedType::kDynamic;
    }
  }
  source = castTo(
      source, withShape(cast<RankedTensorType>(source.getType()), collapsed));
  return tensor::ExpandShapeOp::create(
      builder, op.getLoc(), withShape(op.getResultType(), shape), source,
      op.getReassociationIndices(), sizes);
}

/// Ops of the tensor dialect whose operands depend on what is static. False if
/// it is none of them.
bool RefiningCloner::cloneTensorOp(Operation *op) {
  Location loc = op->getLoc();
  Value result =
      TypeSwitch<Operation *, Value>(op)
          .Case([&](tensor::EmptyOp empty) {
            return tensor::EmptyOp::create(builder, loc,
                                           resolve(empty.getMixedSizes()),
                                           empty.getType().getElementType(),
                                           empty.getType().getEncoding());
          })
          .Case([&](tensor::DimOp dim) -> Value {
            auto index = dim.getConstantIndex();
            Value source = dim.getSource();
            if (auto it = knownSizes.find(source);
                index && it != knownSizes.end() &&
                *index < int64_t(it->second.size()))
              return it->second[*index];
            ArrayRef<int64_t> shape = shapeOf(lookup(source));
            if (index && *index < int64_t(shape.size()) &&
                !ShapedType::isDynamic(shape[*index]))
              return arith::ConstantIndexOp::create(builder, loc,
                                                    shape[*index]);
            return {};
          })
          .Case(
              [&](tensor::ExpandShapeOp expand) { return expandShape(expand); })
          .Case([&](tensor::CollapseShapeOp collapse) {
            return tensor::CollapseShapeOp::create(
                builder, loc, lookup(collapse.getSrc()),
                collapse.getReassociationIndices());
          })
          .Case([&](tensor::ExtractSliceOp slice) {
            SmallVector<OpFoldResult> sizes = resolve(slice.getMixedSizes());
            SmallVector<int64_t> shape;
            auto dropped = slice.getDroppedDims();
            for (auto [i, size] : llvm::enumerate(sizes))
              if (!dropped.test(i))
                shape.push_back(
                    getConstantIntValue(size).value_or(ShapedType::kDynamic));
            return tensor::ExtractSliceOp::create(
                builder, loc, withShape(slice.getType(), shape),
                lookup(slice.getSource()), resolve(slice.getMixedOffsets()),
                sizes, resolve(slice.getMixedStrides()));
          })
          .Case([&](tensor::InsertSliceOp slice) -> Value {
            SmallVector<OpFoldResult> sizes = resolve(slice.getMixedSizes());
            SmallVector<int64_t> shape;
            auto dropped = slice.getDroppedDims();
            for (auto [i, size] : llvm::enumerate(sizes))
              if (!dropped.test(i))
                shape.push_back(
                    getConstantIntValue(size).value_or(ShapedType::kDynamic));
            Value source = castTo(lookup(slice.getSource()),
                                  withShape(slice.getSourceType(), shape));
            return tensor::InsertSliceOp::create(
                builder, loc, source, lookup(slice.getDest()),
                resolve(slice.getMixedOffsets()), sizes,
                resolve(slice.getMixedStrides()));
          })
          .Case([&](tensor::ConcatOp concat) {
            SmallVector<Value> inputs = llvm::map_to_vector(
                concat.getInputs(), [&](Value v) { return lookup(v); });
            return tensor::ConcatOp::create(builder, loc, concat.getDim(),
                                            inputs);
          })
          .Default([](Operation *) { return Value(); });
  if (result)
    mapping.map(op->getResult(0), result);
  return result != nullptr;
}

/// The type of the only result, inferred from the copied operands; null where
/// that is not known.
Type RefiningCloner::resultType(Operation *op) {
  auto input = [&](unsigned i) { return shapeOf(lookup(op->getOperand(i))); };
  if (auto quantize = dyn_cast<qn::QuantizeOp>(op))
    return qn::QTensorType::get(op->getContext(), input(0),
                                quantize.getResult().getType().getFormat());
  auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  if (!type || type.getRank() == 0)
    return {};
  /// The leading sizes of an input, the last one as it was.
  auto rowsOf = [&](ArrayRef<int64_t> leading) {
    SmallVector<int64_t> shape(leading);
    shape.push_back(type.getShape().back());
    return refine(type, shape);
  };
  if (isa<qn::LinearOp, qn::NormOp, qn::RotaryOp, qn::LastRowsOp,
          qn::AttentionOp>(op))
    return input(0).empty() ? Type() : rowsOf(input(0).drop_back());
  if (isa<qn::EmbeddingOp>(op))
    return rowsOf(input(0));
  if (auto map = dyn_cast<qn::MapOp>(op)) {
    SmallVector<int64_t> shape(input(0));
    if (map.getAxis() >= shape.size())
      return {};
    shape[map.getAxis()] = type.getDimSize(map.getAxis());
    return refine(type, shape);
  }
  if (isa<qn::DequantizeOp, tensor::CastOp>(op))
    return refine(type, input(0));
  if (OpTrait::hasElementwiseMappableTraits(op)) {
    for (Value operand : op->getOperands())
      type = refine(type, shapeOf(lookup(operand)));
    return type;
  }
  return {};
}

void RefiningCloner::clone(Operation *op) {
  if (auto dim = dyn_cast<qn::DimOp>(op)) {
    if (Value value = dims.lookup(dim.getName())) {
      mapping.map(dim.getResult(), value);
      return;
    }
  }
  if (cloneTensorOp(op))
    return;
  auto isTensor = [](Type type) {
    return isa<ShapedType, qn::QTensorType>(type);
  };
  if (op->getNumRegions() == 0 &&
      llvm::none_of(op->getResultTypes(), isTensor) &&
      llvm::none_of(op->getOperandTypes(), isTensor))
    return cloneScalar(op);

  // Results have the types of the values they are written over.
  if (auto style = dyn_cast<DestinationStyleOpInterface>(op);
      style && isa<linalg::LinalgOp>(op)) {
    Operation *copy = builder.clone(*op, mapping);
    for (auto [result, init] :
         llvm::zip(copy->getResults(),
                   cast<DestinationStyleOpInterface>(copy).getDpsInits()))
      result.setType(init.getType());
    copy->removeAttr("quench.dims");
    return;
  }
  if (isa<tensor::DimOp, tensor::ExtractOp>(op)) {
    builder.clone(*op, mapping);
    return;
  }
  if (op->getNumRegions() == 0 && op->getNumResults() == 1)
    if (Type type = resultType(op)) {
      if (OpTrait::hasElementwiseMappableTraits(op) && isa<TensorType>(type))
        for (Value operand : op->getOperands())
          if (auto from = dyn_cast<RankedTensorType>(lookup(operand).getType()))
            mapping.map(
                operand,
                castTo(lookup(operand),
                       withShape(from, cast<ShapedType>(type).getShape())));
      Operation *copy = builder.clone(*op, mapping);
      copy->getResult(0).setType(type);
      copy->removeAttr("quench.dims");
      return;
    }
  cloneUnknown(op);
}
