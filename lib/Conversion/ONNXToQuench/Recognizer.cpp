//===- Recognizer.cpp - What the recognizers share --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Recognizer.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Remarks.h"

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

void quench::onnx_to_quench::eraseDead(func::FuncOp function) {
  SmallVector<Operation *> ops;
  for (Operation &op : function.getBody().front().without_terminator())
    ops.push_back(&op);
  for (Operation *op : llvm::reverse(ops)) {
    bool ours = !kindOf(op).empty() || isa<qn::WeightOp>(op);
    if (ours && op->use_empty())
      op->erase();
  }
}

void Recognizer::refresh() {
  eraseDead(function);
  shapes = std::make_unique<Shapes>(function, pool, names);
}

/// Where a remark belongs.
static remark::RemarkOpts remarkOf(StringRef name) {
  return remark::RemarkOpts::name(name).category("onnx-recognize");
}

void Recognizer::missed(Operation *op, const Twine &why) {
  remark::missed(op->getLoc(), remarkOf("not-recognized")) << why.str();
}

void Recognizer::replace(Value old, Value with) {
  if (Operation *op = with.getDefiningOp();
      op && isa<qn::QuenchDialect>(op->getDialect()) && !isa<qn::WeightOp>(op))
    remark::passed(op->getLoc(), remarkOf("recognized"))
        << op->getName().getStringRef().str();
  if (const Dims *dims = shapes->get(old))
    shapes->set(with, Dims(*dims));
  old.replaceAllUsesWith(with);
}

Operation *Recognizer::onlyUser(Value value) const {
  return value.hasOneUse() ? *value.user_begin() : nullptr;
}

Value Recognizer::otherOperand(Operation *op, Value value) const {
  if (op->getNumOperands() != 2)
    return {};
  if (op->getOperand(0) == value)
    return op->getOperand(1);
  return op->getOperand(1) == value ? op->getOperand(0) : Value();
}

std::optional<std::pair<Value, double>> Recognizer::scaled(Value value) {
  if (Operation *mul = definedBy(value, "Mul")) {
    for (unsigned i : {0u, 1u})
      if (auto factor = shapes->scalar(mul->getOperand(i)))
        return std::make_pair(mul->getOperand(1 - i), *factor);
  } else if (Operation *div = definedBy(value, "Div")) {
    auto factor = shapes->scalar(div->getOperand(1));
    if (factor && *factor != 0)
      return std::make_pair(div->getOperand(0), 1.0 / *factor);
  }
  return std::nullopt;
}

bool Recognizer::isVector(Value value, const Dim &size, bool constant) {
  return value && (!constant || pool.isConstant(value)) &&
         shapes->rank(value) == 1 && isa<FloatType>(elementType(value)) &&
         names.equal(shapes->dim(value, 0), size);
}

Value Recognizer::positions(const Dim &first, const Dim &count) {
  auto key = std::make_pair(names.resolve(first), names.resolve(count));
  if (auto it = positionValues.find(key); it != positionValues.end())
    return it->second;
  Block *entry = &function.getBody().front();
  Value offset = names.materialize(entry, first);
  Value size = names.materialize(entry, count);
  OpBuilder b = names.behindValues(entry);
  Location loc = function.getLoc();
  Dims dims = {Dim(1), names.resolve(count)};
  RankedTensorType type = shapes->typeOf(dims, b.getI64Type());
  SmallVector<Value> sizes;
  if (type.isDynamicDim(1))
    sizes.push_back(size);
  Value empty = tensor::EmptyOp::create(b, loc, type, sizes);
  AffineMap map = b.getMultiDimIdentityMap(2);
  auto parallel = utils::IteratorType::parallel;
  auto generic = linalg::GenericOp::create(
      b, loc, type, ValueRange(), empty, ArrayRef<AffineMap>(map),
      ArrayRef<utils::IteratorType>{parallel, parallel},
      [&](OpBuilder &b, Location loc, ValueRange) {
        Value i = linalg::IndexOp::create(b, loc, 1);
        Value at = arith::AddIOp::create(b, loc, i, offset);
        Value cast = arith::IndexCastOp::create(b, loc, b.getI64Type(), at);
        linalg::YieldOp::create(b, loc, cast);
      });
  SmallVector<Attribute> texts;
  for (const Dim &dim : dims)
    texts.push_back(b.getStringAttr(names.print(dim)));
  generic->setAttr(kDimsAttr, b.getArrayAttr(texts));
  Value value = generic.getResult(0);
  shapes->set(value, dims);
  positionValues[key] = value;
  return value;
}

Value Recognizer::transposedWeight(qn::WeightOp weight, Location loc) {
  auto type = cast<RankedTensorType>(weight.getType());
  SmallVector<int64_t> sizes(type.getShape());
  std::swap(sizes[sizes.size() - 1], sizes[sizes.size() - 2]);
  Value value = qn::WeightOp::create(
      builder, loc, RankedTensorType::get(sizes, type.getElementType()),
      weight.getInitializer(), !weight.getTranspose());
  shapes->set(value, Dims(sizes.begin(), sizes.end()));
  return value;
}

std::optional<HeadsView> quench::onnx_to_quench::matchHeads(Recognizer &r,
                                                            Value value) {
  HeadsView view;
  if (Operation *transpose = definedBy(value, "Transpose")) {
    auto perm = getInts(transpose, "perm");
    if (!perm || ArrayRef(*perm) != ArrayRef<int64_t>{0, 2, 1, 3})
      return std::nullopt;
    view.transposed = true;
    view.transpose = transpose;
    value = transpose->getOperand(0);
  }
  view.reshape = definedBy(value, "Reshape");
  if (!view.reshape)
    return std::nullopt;
  view.rows = view.reshape->getOperand(0);
  if (r.shapes->rank(view.rows) != 3 || r.shapes->rank(value) != 4)
    return std::nullopt;
  for (int64_t i : {0, 1})
    if (!r.names.equal(r.shapes->dim(view.rows, i), r.shapes->dim(value, i)))
      return std::nullopt;
  auto heads = r.shapes->dim(value, 2).constant();
  auto size = r.shapes->dim(value, 3).constant();
  if (!heads || !size || *heads <= 0 || *size <= 0)
    return std::nullopt;
  view.heads = *heads;
  view.size = *size;
  return view;
}

std::optional<Iota> quench::onnx_to_quench::matchIota(Recognizer &r,
                                                      Value value,
                                                      ArrayRef<int64_t> axes,
                                                      int64_t rank) {
  Iota iota;
  iota.coefficients.assign(rank, 0);
  if (!value || !isa<ShapedType>(value.getType()) ||
      !Recognizer::elementType(value).isInteger())
    return std::nullopt;
  if (auto ints = r.shapes->ints(value); ints && ints->size() == 1) {
    iota.constant = ints->front();
    return iota;
  }
  Operation *op = value.getDefiningOp();
  if (!op)
    return std::nullopt;
  StringRef kind = kindOf(op);
  if (kind == "Range") {
    auto start = r.shapes->ints(op->getOperand(0));
    auto step = r.shapes->constants(op->getOperand(2));
    if (!start || start->size() != 1 || !step || step->size() != 1)
      return std::nullopt;
    iota.constant = start->front();
    iota.coefficients[axes[0]] = step->front();
    return iota;
  }
  if (kind == "Cast")
    return matchIota(r, op->getOperand(0), axes, rank);
  if (kind == "Expand" &&
      r.shapes->rank(op->getOperand(0)) == int64_t(axes.size()))
    return matchIota(r, op->getOperand(0), axes, rank);
  if (kind == "Unsqueeze") {
    auto list = getInts(op, "axes");
    if (!list && getOperand(op, 1))
      list = r.shapes->constants(op->getOperand(1));
    if (!list)
      return std::nullopt;
    for (int64_t &axis : *list)
      axis = axis < 0 ? axis + int64_t(axes.size()) : axis;
    SmallVector<int64_t> kept;
    for (auto [i, axis] : llvm::enumerate(axes))
      if (!llvm::is_contained(*list, int64_t(i)))
        kept.push_back(axis);
    return matchIota(r, op->getOperand(0), kept, rank);
  }
  if (kind == "Add" || kind == "Sub") {
    std::optional<Iota> parts[2];
    for (unsigned i : {0u, 1u}) {
      int64_t own = r.shapes->rank(op->getOperand(i));
      if (own < 0 || own > int64_t(axes.size()))
        return std::nullopt;
      parts[i] = matchIota(r, op->getOperand(i), axes.take_back(own), rank);
      if (!parts[i])
        return std::nullopt;
    }
    int64_t sign = kind == "Add" ? 1 : -1;
    iota.constant = parts[0]->constant + parts[1]->constant * Dim(sign);
    for (int64_t i = 0; i < rank; ++i)
      iota.coefficients[i] =
          parts[0]->coefficients[i] + sign * parts[1]->coefficients[i];
    return iota;
  }
  // Rows 0, 1, ... of a stored table, or a slice of it.
  Value table = kind == "Slice" ? op->getOperand(0) : value;
  if (!r.pool.isConstant(table))
    return std::nullopt;
  auto numbers = r.pool.integers(table, 1 << 20);
  int64_t own = r.shapes->rank(table), axis = -1;
  if (!numbers || numbers->size() < 2 || own != int64_t(axes.size()))
    return std::nullopt;
  for (int64_t i = 0; i < own; ++i) {
    if (r.shapes->dim(table, i).isConstant(1))
      continue;
    if (axis >= 0)
      return std::nullopt;
    axis = i;
  }
  int64_t step = (*numbers)[1] - (*numbers)[0];
  for (size_t i = 1; i < numbers->size(); ++i)
    if ((*numbers)[i] - (*numbers)[i - 1] != step)
      return std::nullopt;
  iota.constant = Dim(numbers->front());
  if (kind == "Slice") {
    auto ranges = r.shapes->slice(op);
    if (!ranges)
      return std::nullopt;
    for (auto [i, range] : llvm::enumerate(*ranges))
      if (range.step != 1 || (int64_t(i) != axis && !range.size.isConstant(1)))
        return std::nullopt;
    iota.constant = iota.constant + (*ranges)[axis].start * Dim(step);
  }
  iota.coefficients[axes[axis]] = step;
  return iota;
}
