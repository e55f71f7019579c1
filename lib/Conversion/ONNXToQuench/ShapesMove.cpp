//===- ShapesMove.cpp - Sizes of ops that move data -------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Shapes.h"
#include "quench/Dialect/ONNX/IR/ONNX.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

/// Integers of more elements than this are not followed.
static constexpr size_t kMaxInts = 256;

bool Shapes::reshape(Operation *op) {
  auto target = ints(op->getOperand(1));
  if (!target)
    return fail("its target shape depends on data");
  Dims from = *get(op->getOperand(0)), to = *target;
  bool allowZero = getInt(op, "allowzero", 0);
  std::optional<size_t> open;
  for (auto [i, dim] : llvm::enumerate(to)) {
    if (dim.isConstant(0) && !allowZero) {
      if (i >= from.size())
        return fail("its target shape copies a dimension that is not there");
      dim = names.resolve(from[i]);
    } else if (dim.isConstant(-1)) {
      if (open)
        return fail("its target shape has two open dimensions");
      open = i;
    } else if (auto constant = dim.constant(); constant && *constant < 0) {
      return fail("its target shape has the dimension " +
                  std::to_string(*constant));
    }
  }
  // Equal dimensions on both sides cancel.
  Dim have(1), want(1);
  SmallVector<bool> used(to.size());
  for (const Dim &unresolved : from) {
    Dim dim = names.resolve(unresolved);
    bool found = false;
    for (size_t i = 0; i < to.size() && !found; ++i)
      if (!used[i] && i != open && to[i] == dim)
        found = used[i] = true;
    if (!found)
      have = have * dim;
  }
  for (size_t i = 0; i < to.size(); ++i)
    if (!used[i] && i != open)
      want = want * to[i];
  if (open) {
    auto rest = names.divide(have, want);
    if (!rest)
      return fail("its open dimension is not known: " + names.print(have) +
                  " elements by " + names.print(want));
    to[*open] = *rest;
  } else if (!names.unify(have, want)) {
    return fail("it turns " + names.print(have) + " elements into " +
                names.print(want));
  }
  set(op->getResult(0), to);
  return true;
}

std::optional<SmallVector<Shapes::Range>> Shapes::slice(Operation *op) {
  Value input = op->getOperand(0);
  int64_t rank = this->rank(input);
  SmallVector<Range> ranges(rank);
  for (int64_t i = 0; i < rank; ++i)
    ranges[i].size = dim(input, i);

  std::optional<Dims> starts, ends;
  std::optional<SmallVector<int64_t>> axes, steps;
  if (auto list = getInts(op, "starts")) { // before version 10
    starts.emplace(list->begin(), list->end());
    if (auto list = getInts(op, "ends"))
      ends.emplace(list->begin(), list->end());
    axes = getInts(op, "axes");
  } else {
    if (!getOperand(op, 1) || !getOperand(op, 2))
      return std::nullopt;
    starts = ints(op->getOperand(1));
    ends = ints(op->getOperand(2));
    if (Value list = getOperand(op, 3); list && !(axes = constants(list)))
      return std::nullopt;
    if (Value list = getOperand(op, 4); list && !(steps = constants(list)))
      return std::nullopt;
  }
  if (!starts || !ends || starts->size() != ends->size())
    return std::nullopt;
  if (!axes) {
    axes.emplace();
    for (size_t i = 0; i < starts->size(); ++i)
      axes->push_back(i);
  }
  if (axes->size() != starts->size() ||
      (steps && steps->size() != starts->size()))
    return std::nullopt;

  for (size_t i = 0; i < starts->size(); ++i) {
    int64_t axis = (*axes)[i] < 0 ? (*axes)[i] + rank : (*axes)[i];
    int64_t step = steps ? (*steps)[i] : 1;
    if (axis < 0 || axis >= rank || step == 0 || std::abs(step) > (1 << 30))
      return std::nullopt;
    Dim size = dim(input, axis);
    // Bounds beyond the ends are cut off where that is known to happen. A named
    // size is taken to lie inside of a constant dimension; function attribute
    // quench.limits says so.
    auto bound = [&](Dim at, int64_t low, int64_t behindEnd) {
      if (auto c = at.constant()) {
        if (*c < 0) {
          if (auto n = size.constant())
            return Dim(std::max<int64_t>(*c + *n, low));
          if (*c <= -(int64_t(1) << 31))
            return Dim(low);
          return size + at;
        }
        if (auto n = size.constant())
          return Dim(std::min<int64_t>(*c, *n + behindEnd));
        if (*c >= (int64_t(1) << 31) - 1)
          return size + Dim(behindEnd);
      }
      return at;
    };
    Range &range = ranges[axis];
    range.step = step;
    Dim end;
    if (step > 0) {
      range.start = bound((*starts)[i], 0, 0);
      end = bound((*ends)[i], 0, 0);
    } else {
      range.start = bound((*starts)[i], 0, -1);
      end = bound((*ends)[i], -1, -1);
    }
    Dim span = step > 0 ? end - range.start : range.start - end;
    int64_t by = std::abs(step);
    range.size = by == 1 ? span : names.floorDiv(span + Dim(by - 1), by);
    if (auto constant = range.size.constant(); constant && *constant < 0)
      range.size = Dim(0);
    if (range.start.isConstant(0) && step == 1 && end == size)
      range.size = size;
  }
  return ranges;
}

std::optional<Dims> Shapes::split(Operation *op) {
  int64_t rank = this->rank(op->getOperand(0));
  int64_t axis = getInt(op, "axis", 0);
  axis = axis < 0 ? axis + rank : axis;
  if (axis < 0 || axis >= rank)
    return std::nullopt;
  Dim size = dim(op->getOperand(0), axis);
  size_t parts = op->getNumResults();
  if (auto list = getInts(op, "split"))
    return list->size() == parts
               ? std::optional<Dims>(Dims(list->begin(), list->end()))
               : std::nullopt;
  if (Value list = getOperand(op, 1)) {
    auto sizes = ints(list);
    return sizes && sizes->size() == parts ? sizes : std::nullopt;
  }
  Dims sizes;
  if (auto each = names.divide(size, Dim(parts))) {
    sizes.assign(parts, *each);
    return sizes;
  }
  auto total = size.constant();
  if (!total || !parts)
    return std::nullopt;
  int64_t each = (*total + parts - 1) / parts, rest = *total;
  for (size_t i = 0; i < parts; ++i) {
    sizes.push_back(Dim(std::clamp<int64_t>(rest, 0, each)));
    rest -= each;
  }
  return sizes;
}

bool Shapes::transferMove(Operation *op, StringRef kind) {
  Value input = op->getOperand(0);
  Value result = op->getResult(0);
  Dims from = *get(input);
  int64_t rank = from.size();
  auto axisOf = [&](int64_t otherwise, int64_t extra = 0) {
    int64_t axis = getInt(op, "axis", otherwise);
    axis = axis < 0 ? axis + rank + extra : axis;
    return axis;
  };
  if (kind == "Reshape")
    return reshape(op);
  if (kind == "Transpose") {
    auto perm = getInts(op, "perm");
    Dims dims;
    for (int64_t i = 0; i < rank; ++i) {
      int64_t at = !perm                       ? rank - 1 - i
                   : i < int64_t(perm->size()) ? (*perm)[i]
                                               : -1;
      if (at < 0 || at >= rank)
        return fail("its permutation does not fit rank " +
                    std::to_string(rank));
      dims.push_back(from[at]);
    }
    set(result, dims);
    return true;
  }
  if (kind == "Unsqueeze") {
    auto list = getInts(op, "axes");
    if (!list && getOperand(op, 1))
      list = constants(op->getOperand(1));
    if (!list)
      return fail("its axes are not constants");
    int64_t outRank = rank + list->size();
    Dims dims;
    SmallVector<bool> added(outRank);
    for (int64_t axis : *list) {
      axis = axis < 0 ? axis + outRank : axis;
      if (axis < 0 || axis >= outRank || added[axis])
        return fail("its axes are out of range");
      added[axis] = true;
    }
    auto it = from.begin();
    for (int64_t i = 0; i < outRank; ++i)
      dims.push_back(added[i] ? Dim(1) : *it++);
    set(result, dims);
    return true;
  }
  if (kind == "Squeeze") {
    bool given;
    auto list = axes(op, 1, rank, &given);
    if (!list)
      return fail("its axes are not constants of the right range");
    Dims dims;
    for (int64_t i = 0; i < rank; ++i) {
      bool goes = given ? llvm::is_contained(*list, i) : from[i].isConstant(1);
      if (!goes)
        dims.push_back(from[i]);
      else if (!names.unify(from[i], Dim(1)))
        return fail("it drops a dimension of " + names.print(from[i]));
    }
    set(result, dims);
    return true;
  }
  if (kind == "Flatten") {
    int64_t axis = axisOf(1);
    if (axis < 0 || axis > rank)
      return fail("its axis is out of range");
    Dim left(1), right(1);
    for (int64_t i = 0; i < rank; ++i)
      (i < axis ? left : right) = (i < axis ? left : right) * from[i];
    set(result, {left, right});
    return true;
  }
  if (kind == "Concat") {
    int64_t axis = axisOf(0);
    if (axis < 0 || axis >= rank)
      return fail("its axis is out of range");
    Dims dims = from;
    for (Value operand : op->getOperands().drop_front()) {
      const Dims &next = *get(operand);
      if (int64_t(next.size()) != rank)
        return fail("its operands have different ranks");
      for (int64_t i = 0; i < rank; ++i) {
        if (i == axis)
          dims[i] = dims[i] + next[i];
        else if (!names.unify(dims[i], next[i]))
          return fail("its operands have sizes " + names.print(dims[i]) +
                      " and " + names.print(next[i]));
      }
    }
    set(result, dims);
    return true;
  }
  if (kind == "Slice") {
    auto ranges = slice(op);
    if (!ranges)
      return fail("its bounds depend on data");
    Dims dims;
    for (const Range &range : *ranges)
      dims.push_back(range.size);
    set(result, dims);
    return true;
  }
  if (kind == "Split") {
    auto sizes = split(op);
    if (!sizes)
      return fail("the sizes of its parts are not known");
    for (auto [part, size] : llvm::zip(op->getResults(), *sizes)) {
      Dims dims = from;
      dims[axisOf(0)] = size;
      set(part, dims);
    }
    return true;
  }
  if (kind == "Gather") {
    int64_t axis = axisOf(0);
    if (axis < 0 || axis >= rank)
      return fail("its axis is out of range");
    const Dims &indices = *get(op->getOperand(1));
    Dims dims(from.begin(), from.begin() + axis);
    dims.append(indices.begin(), indices.end());
    dims.append(from.begin() + axis + 1, from.end());
    set(result, dims);
    return true;
  }
  return false;
}

//===----------------------------------------------------------------------===//
// Elements
//===----------------------------------------------------------------------===//

/// Whether a < b, a = b or a > b for all sizes; null if that depends.
static std::optional<int> compare(const Dim &a, const Dim &b) {
  Dim d = a - b;
  if (auto constant = d.constant())
    return *constant < 0 ? -1 : *constant > 0 ? 1 : 0;
  auto positive = [](const Dim &dim) {
    auto it = dim.getTerms().find({});
    return dim.isNonNegative() && it != dim.getTerms().end() && it->second > 0;
  };
  if (positive(d))
    return 1;
  if (positive(b - a))
    return -1;
  return std::nullopt;
}

std::optional<Dims> Shapes::arithmetic(StringRef kind, Operation *op) {
  SmallVector<Dims> in;
  size_t size = 1;
  for (Value operand : op->getOperands()) {
    auto list = ints(operand);
    if (!list)
      return std::nullopt;
    in.push_back(*list);
    if (list->size() != 1)
      size = list->size();
  }
  if (rank(op->getResult(0)) > 1)
    return std::nullopt;
  for (Dims &list : in) {
    if (list.size() != size && list.size() != 1)
      return std::nullopt;
    if (list.size() != size)
      list.assign(size, Dim(list.front()));
  }
  Dims out;
  for (size_t i = 0; i < size; ++i) {
    Dim a = in[0][i], b = in.size() > 1 ? in[1][i] : Dim();
    auto order = compare(a, b);
    std::optional<Dim> value;
    if (kind == "Add")
      value = a + b;
    else if (kind == "Sub")
      value = a - b;
    else if (kind == "Mul")
      value = a * b;
    else if (kind == "Neg")
      value = Dim() - a;
    else if (kind == "Div") {
      if (auto exact = names.divide(a, b))
        value = *exact;
      else if (auto by = b.constant();
               by && *by > 0 && (a.isNonNegative() || a.isConstant()))
        value =
            a.isConstant() ? Dim(*a.constant() / *by) : names.floorDiv(a, *by);
    } else if (kind == "Mod") {
      auto x = a.constant(), y = b.constant();
      if (x && y && *x >= 0 && *y > 0)
        value = Dim(*x % *y);
      else if (names.divide(a, b))
        value = Dim(0);
    } else if (kind == "Min" || kind == "Max") {
      if (order && in.size() <= 2)
        value = (*order < 0) == (kind == "Min") ? a : b;
      if (in.size() == 1)
        value = a;
    } else if (kind == "Where") {
      if (auto condition = a.constant())
        value = *condition ? b : in[2][i];
    } else if (kind == "Not") {
      if (auto c = a.constant())
        value = Dim(!*c);
    } else if (kind == "And" || kind == "Or") {
      if (a.isConstant() && b.isConstant())
        value = Dim(kind == "And" ? *a.constant() && *b.constant()
                                  : *a.constant() || *b.constant());
    } else if (order) {
      value = llvm::StringSwitch<std::optional<Dim>>(kind)
                  .Case("Equal", Dim(*order == 0))
                  .Case("Less", Dim(*order < 0))
                  .Case("LessOrEqual", Dim(*order <= 0))
                  .Case("Greater", Dim(*order > 0))
                  .Case("GreaterOrEqual", Dim(*order >= 0))
                  .Default(std::nullopt);
    }
    if (!value)
      return std::nullopt;
    out.push_back(*value);
  }
  return out;
}

void Shapes::transferInts(Operation *op, StringRef kind) {
  Value result = op->getResult(0);
  auto type = dyn_cast<ShapedType>(result.getType());
  if (!type || !type.getElementType().isInteger())
    return;
  // Nodes of integers on sizes are small.
  Dim count(1);
  for (const Dim &dim : *get(result))
    count = count * dim;
  auto size = names.resolve(count).constant();
  if (!size || *size < 0 || *size > int64_t(kMaxInts))
    return;

  std::optional<Dims> out;
  std::optional<Dims> in;
  if (op->getNumOperands() && onnx::isPresent(op->getOperand(0)))
    in = ints(op->getOperand(0));
  if (kind == "Concat") {
    if (rank(result) != 1)
      return;
    Dims all;
    for (Value operand : op->getOperands()) {
      auto part = ints(operand);
      if (!part)
        return;
      all.append(part->begin(), part->end());
    }
    out = all;
  } else if (kind == "Cast") {
    auto from = cast<ShapedType>(op->getOperand(0).getType()).getElementType();
    if (!from.isInteger())
      return;
    out = in;
    if (in && type.getElementType().isInteger(1))
      for (Dim &dim : *out) {
        if (!dim.isConstant())
          return;
        dim = Dim(*dim.constant() != 0);
      }
  } else if (kind == "Identity" || kind == "Reshape" || kind == "Squeeze" ||
             kind == "Unsqueeze" || kind == "Flatten" || kind == "Dropout") {
    out = in;
  } else if (kind == "Expand") {
    if (in && in->size() == 1)
      out = Dims(*size, in->front());
    else if (in && int64_t(in->size()) == *size)
      out = in;
  } else if (kind == "Gather") {
    auto at = constants(op->getOperand(1));
    if (!in || !at || rank(op->getOperand(0)) != 1)
      return;
    out.emplace();
    for (int64_t i : *at) {
      i = i < 0 ? i + int64_t(in->size()) : i;
      if (i < 0 || i >= int64_t(in->size()))
        return;
      out->push_back((*in)[i]);
    }
  } else if (kind == "Slice") {
    auto ranges = slice(op);
    if (!in || !ranges || ranges->size() != 1)
      return;
    auto start = ranges->front().start.constant();
    out.emplace();
    for (int64_t i = 0; i < *size; ++i) {
      int64_t at = start ? *start + i * ranges->front().step : -1;
      if (at < 0 || at >= int64_t(in->size()))
        return;
      out->push_back((*in)[at]);
    }
  } else if (kind == "ReduceProd") {
    if (!in || *size != 1)
      return;
    Dim product(1);
    for (const Dim &dim : *in)
      product = product * dim;
    out = Dims{product};
  } else if (in && rank(result) <= 1) {
    out = arithmetic(kind, op);
  }
  if (out && int64_t(out->size()) == *size)
    values[result] = *out;
}
