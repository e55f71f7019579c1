//===- Rotary.cpp - Recognizes rotary position embeddings -------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// x * cos + rotate_half(x) * sin, with cos and sin computed from positions and
// frequencies, or taken from stored tables. Su et al., RoFormer (2021).
//
//===----------------------------------------------------------------------===//

#include "Recognizer.h"
#include "quench/Dialect/ONNX/IR/ONNX.h"
#include <cmath>

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

//===----------------------------------------------------------------------===//
// Frequencies from tables
//===----------------------------------------------------------------------===//

std::optional<std::vector<float>> quench::onnx_to_quench::fitFrequencies(
    ArrayRef<double> cos, ArrayRef<double> sin, int64_t rows, int64_t n) {
  constexpr double kTwoPi = 6.283185307179586476925286766559;
  if (rows < 2 || n < 1 || int64_t(cos.size()) != rows * n ||
      int64_t(sin.size()) != rows * n)
    return std::nullopt;
  std::vector<float> out;
  for (int64_t i = 0; i < n; ++i) {
    // The angle of row 1, made more exact by rows further down.
    double f = std::atan2(sin[n + i], cos[n + i]);
    auto refine = [&](int64_t p) {
      double angle = std::atan2(sin[p * n + i], cos[p * n + i]);
      f += std::remainder(angle - double(p) * f, kTwoPi) / double(p);
    };
    for (int64_t p = 2; p < rows; p *= 2)
      refine(p);
    refine(rows - 1);
    // All rows together, by least squares.
    double products = 0, squares = 0;
    for (int64_t p = 1; p < rows; ++p) {
      double angle = std::atan2(sin[p * n + i], cos[p * n + i]);
      products += double(p) * std::remainder(angle - double(p) * f, kTwoPi);
      squares += double(p) * double(p);
    }
    f += products / squares;
    float rounded = float(f);
    for (int64_t p = 0; p < rows; ++p) {
      double angle = double(p) * f;
      // Angles computed in f32 may be off by a rounding of factor and product.
      double slack = 2e-6 + std::abs(angle) * 1.8e-7;
      if (!(std::abs(std::cos(angle) - cos[p * n + i]) <= slack &&
            std::abs(std::sin(angle) - sin[p * n + i]) <= slack))
        return std::nullopt;
    }
    out.push_back(rounded);
  }
  return out;
}

//===----------------------------------------------------------------------===//
// Angles
//===----------------------------------------------------------------------===//

namespace {
/// A tensor whose element is a function of position and frequency. Axes are
/// those of the tensor itself; -1: it does not vary with that.
struct Angles {
  enum Kind { Product, Cos, Sin, Table } kind = Product;
  // Positions: an integer tensor, or first, first + 1, ...
  Value positions;
  std::optional<Dim> first;
  int64_t batchAxis = -1, rowAxis = -1, frequencyAxis = -1;
  int64_t rank = 0;
  std::vector<double> frequencies; // of Product, Cos, Sin
  std::vector<double> table;       // of Table: [rows, size]
  int64_t rows = 0, size = 0;
};
} // namespace

template <typename Fn> static void mapAxes(Angles &a, Fn fn) {
  for (int64_t *axis : {&a.batchAxis, &a.rowAxis, &a.frequencyAxis})
    if (*axis >= 0)
      *axis = fn(*axis);
}

/// Through a Transpose or Unsqueeze. False if the op is neither.
static bool throughView(Recognizer &r, Operation *op, Angles &a) {
  if (kindOf(op) == "Unsqueeze") {
    auto list = getInts(op, "axes");
    if (!list && getOperand(op, 1))
      list = r.shapes->constants(op->getOperand(1));
    if (!list)
      return false;
    int64_t rank = a.rank + list->size();
    SmallVector<bool> added(rank);
    for (int64_t axis : *list) {
      axis = axis < 0 ? axis + rank : axis;
      if (axis < 0 || axis >= rank)
        return false;
      added[axis] = true;
    }
    SmallVector<int64_t> place;
    for (int64_t i = 0; i < rank; ++i)
      if (!added[i])
        place.push_back(i);
    mapAxes(a, [&](int64_t axis) { return place[axis]; });
    a.rank = rank;
    return true;
  }
  if (kindOf(op) == "Transpose") {
    auto perm = getInts(op, "perm");
    if (!perm || int64_t(perm->size()) != a.rank)
      return false;
    mapAxes(a, [&](int64_t axis) {
      return int64_t(llvm::find(*perm, axis) - perm->begin());
    });
    return true;
  }
  return false;
}

/// Constants along one axis, all other sizes are 1.
static std::optional<Angles> matchConstant(Recognizer &r, Value value) {
  while (Operation *expand = definedBy(value, "Expand")) {
    if (r.shapes->rank(expand->getOperand(0)) != r.shapes->rank(value))
      return std::nullopt;
    value = expand->getOperand(0);
  }
  if (Operation *op = definedBy(value, "Unsqueeze")) {
    auto inner = matchConstant(r, op->getOperand(0));
    if (!inner || !throughView(r, op, *inner))
      return std::nullopt;
    return inner;
  }
  if (!r.pool.isConstant(value) || !isa<FloatType>(r.elementType(value)))
    return std::nullopt;
  Angles a;
  a.rank = r.shapes->rank(value);
  for (int64_t i = 0; i < a.rank; ++i) {
    if (r.shapes->dim(value, i).isConstant(1))
      continue;
    if (a.frequencyAxis >= 0)
      return std::nullopt;
    a.frequencyAxis = i;
  }
  auto numbers = r.pool.numbers(value);
  if (!numbers || a.frequencyAxis < 0)
    return std::nullopt;
  a.frequencies = *numbers;
  return a;
}

/// Positions as an integer tensor of rank 1 or 2, perhaps unsqueezed.
static std::optional<Angles> matchPositions(Recognizer &r, Value value) {
  if (Operation *op = value.getDefiningOp();
      op && (kindOf(op) == "Unsqueeze" || kindOf(op) == "Transpose")) {
    auto inner = matchPositions(r, op->getOperand(0));
    if (!inner || !throughView(r, op, *inner))
      return std::nullopt;
    return inner;
  }
  if (Operation *expand = definedBy(value, "Expand");
      expand && r.shapes->rank(expand->getOperand(0)) == r.shapes->rank(value))
    return matchPositions(r, expand->getOperand(0));
  if (Operation *cast = definedBy(value, "Cast"))
    return matchPositions(r, cast->getOperand(0));
  if (!r.elementType(value).isInteger())
    return std::nullopt;
  Angles a;
  a.rank = r.shapes->rank(value);
  if (a.rank != 1 && a.rank != 2)
    return std::nullopt;
  a.rowAxis = a.rank - 1;
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(0, a.rank));
  auto iota = matchIota(r, value, axes, a.rank);
  if (iota && iota->coefficients.back() == 1 &&
      (a.rank == 1 || iota->coefficients.front() == 0)) {
    a.first = iota->constant;
    return a;
  }
  if (a.rank != 2 || !r.elementType(value).isInteger(64))
    return std::nullopt;
  a.positions = value;
  a.batchAxis = 0;
  return a;
}

/// The outer product of positions and frequencies.
static std::optional<Angles> matchOuter(Recognizer &r, Operation *op) {
  for (unsigned i : {0u, 1u}) {
    auto constant = matchConstant(r, op->getOperand(i));
    auto position = matchPositions(r, op->getOperand(1 - i));
    if (!constant || !position)
      continue;
    int64_t rank = r.shapes->rank(op->getResult(0));
    auto align = [&](Angles &a) {
      int64_t shift = rank - a.rank;
      mapAxes(a, [&](int64_t axis) { return axis + shift; });
    };
    if (kindOf(op) == "MatMul") {
      // [.., m, 1] times [.., 1, n] only.
      if (!r.shapes->dim(op->getOperand(0), -1).isConstant(1))
        continue;
      Angles &left = i == 0 ? *constant : *position;
      auto isLast = [](const Angles &a, int64_t axis) {
        return axis == a.rank - 1;
      };
      if (isLast(left, left.rowAxis) || isLast(left, left.frequencyAxis) ||
          !r.shapes->dim(op->getOperand(1), -2).isConstant(1))
        continue;
    }
    align(*constant);
    align(*position);
    position->frequencyAxis = constant->frequencyAxis;
    position->frequencies = constant->frequencies;
    position->rank = rank;
    if (position->frequencyAxis == position->rowAxis ||
        position->frequencyAxis == position->batchAxis)
      continue;
    return position;
  }
  return std::nullopt;
}

static std::optional<Angles> matchTable(Recognizer &r, Operation *op) {
  Value stored = op->getOperand(0);
  if (!r.pool.initializer(stored) || !isa<FloatType>(r.elementType(stored)))
    return std::nullopt;
  int64_t rank = r.shapes->rank(stored);
  if (rank < 2)
    return std::nullopt;
  for (int64_t i = 0; i + 2 < rank; ++i)
    if (!r.shapes->dim(stored, i).isConstant(1))
      return std::nullopt;
  Angles a;
  if (kindOf(op) == "Gather") {
    if (rank != 2 || getInt(op, "axis", 0) != 0)
      return std::nullopt;
    auto position = matchPositions(r, op->getOperand(1));
    if (!position)
      return std::nullopt;
    a = *position;
    a.rank = position->rank + 1;
    a.frequencyAxis = position->rank;
  } else {
    auto ranges = r.shapes->slice(op);
    if (!ranges)
      return std::nullopt;
    for (auto [i, range] : llvm::enumerate(*ranges))
      if (int64_t(i) != rank - 2 &&
          !r.names.equal(range.size, r.shapes->dim(stored, i)))
        return std::nullopt;
    const Shapes::Range &range = (*ranges)[rank - 2];
    if (range.step != 1)
      return std::nullopt;
    a.first = range.start;
    a.rank = rank;
    a.rowAxis = rank - 2;
    a.frequencyAxis = rank - 1;
  }
  auto rows = r.shapes->dim(stored, rank - 2).constant();
  auto size = r.shapes->dim(stored, rank - 1).constant();
  auto numbers = r.pool.numbers(stored, int64_t(1) << 26);
  if (!rows || !size || !numbers)
    return std::nullopt;
  a.kind = Angles::Table;
  a.rows = *rows;
  a.size = *size;
  a.table = std::move(*numbers);
  return a;
}

static std::optional<Angles> matchAngles(Recognizer &r, Value value) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return std::nullopt;
  StringRef kind = kindOf(op);
  if (kind == "Unsqueeze" || kind == "Transpose") {
    auto inner = matchAngles(r, op->getOperand(0));
    if (!inner || !throughView(r, op, *inner))
      return std::nullopt;
    return inner;
  }
  if (kind == "Gather" || kind == "Slice")
    return matchTable(r, op);
  if (kind == "Cos" || kind == "Sin") {
    auto inner = matchAngles(r, op->getOperand(0));
    if (!inner || inner->kind != Angles::Product)
      return std::nullopt;
    inner->kind = kind == "Cos" ? Angles::Cos : Angles::Sin;
    return inner;
  }
  if (kind == "Concat") {
    if (op->getNumOperands() != 2 || op->getOperand(0) != op->getOperand(1))
      return std::nullopt;
    auto inner = matchAngles(r, op->getOperand(0));
    int64_t axis = getInt(op, "axis", 0);
    if (!inner || inner->kind == Angles::Table ||
        (axis < 0 ? axis + inner->rank : axis) != inner->frequencyAxis)
      return std::nullopt;
    std::vector<double> once = inner->frequencies;
    inner->frequencies.insert(inner->frequencies.end(), once.begin(),
                              once.end());
    return inner;
  }
  if (kind == "Cast") { // between float types
    if (!isa<FloatType>(r.elementType(op->getOperand(0))))
      return std::nullopt;
    return matchAngles(r, op->getOperand(0));
  }
  if (kind == "Mul") {
    auto factor = r.scaled(value);
    if (factor && factor->second == 1.0)
      return matchAngles(r, factor->first);
  }
  if (kind == "Mul" || kind == "MatMul")
    return matchOuter(r, op);
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// The rotation
//===----------------------------------------------------------------------===//

/// x of Concat(-x[n/2:], x[:n/2]) along the last axis.
static Value matchRotateHalf(Recognizer &r, Value value) {
  Operation *concat = definedBy(value, "Concat");
  if (!concat || concat->getNumOperands() != 2)
    return {};
  int64_t rank = r.shapes->rank(value), axis = getInt(concat, "axis", 0);
  Operation *neg = definedBy(concat->getOperand(0), "Neg");
  if (!neg || (axis != -1 && axis != rank - 1))
    return {};
  Operation *high = neg->getOperand(0).getDefiningOp();
  Operation *low = concat->getOperand(1).getDefiningOp();
  if (!high || !low || kindOf(high) != kindOf(low))
    return {};
  Value x = high->getOperand(0);
  auto n = r.shapes->dim(x, -1).constant();
  if (!n || *n % 2 || x != low->getOperand(0))
    return {};
  if (kindOf(high) == "Split") {
    bool good = high == low && high->getNumResults() == 2 &&
                neg->getOperand(0) == high->getResult(1) &&
                concat->getOperand(1) == high->getResult(0) &&
                r.shapes->dim(high->getResult(0), -1).isConstant(*n / 2);
    return good ? x : Value();
  }
  if (kindOf(high) != "Slice")
    return {};
  auto isHalf = [&](Operation *op, int64_t start) {
    auto ranges = r.shapes->slice(op);
    if (!ranges)
      return false;
    for (auto [i, range] : llvm::enumerate(*ranges)) {
      bool last = int64_t(i) == rank - 1;
      if (range.step != 1 || !range.start.isConstant(last ? start : 0) ||
          !r.names.equal(range.size, last ? Dim(*n / 2) : r.shapes->dim(x, i)))
        return false;
    }
    return true;
  };
  return isHalf(high, *n / 2) && isHalf(low, 0) ? x : Value();
}

/// Frequencies of a pair of factors [.., n] as n/2 floats.
static std::optional<std::vector<float>> frequenciesOf(const Angles &cos,
                                                       const Angles &sin) {
  std::vector<float> full;
  if (cos.kind == Angles::Table) {
    if (sin.kind != Angles::Table || cos.rows != sin.rows ||
        cos.size != sin.size)
      return std::nullopt;
    auto fitted = fitFrequencies(cos.table, sin.table, cos.rows, cos.size);
    if (!fitted)
      return std::nullopt;
    full = *fitted;
  } else {
    if (cos.kind != Angles::Cos || sin.kind != Angles::Sin ||
        cos.frequencies != sin.frequencies)
      return std::nullopt;
    full.assign(cos.frequencies.begin(), cos.frequencies.end());
  }
  size_t half = full.size() / 2;
  if (full.size() % 2 || half == 0)
    return std::nullopt;
  for (size_t i = 0; i < half; ++i)
    if (full[i] != full[half + i])
      return std::nullopt;
  full.resize(half);
  return full;
}

namespace {
/// Tables of one model are shared by all its layers: fitted once.
struct RotaryMatcher {
  explicit RotaryMatcher(Recognizer &r) : r(r) {}

  Recognizer &r;
  llvm::DenseMap<Value, std::optional<Angles>> angles;
  std::map<std::pair<void *, void *>, std::optional<std::vector<float>>>
      frequencies;

  std::optional<Angles> anglesOf(Value value) {
    auto it = angles.find(value);
    if (it == angles.end())
      it = angles.try_emplace(value, matchAngles(r, value)).first;
    return it->second;
  }
  bool match(Operation *add);
};
} // namespace

bool RotaryMatcher::match(Operation *add) {
  for (unsigned i = 0; i < 8; ++i) {
    Operation *direct = definedBy(add->getOperand(i & 1), "Mul");
    Operation *turned = definedBy(add->getOperand(1 - (i & 1)), "Mul");
    if (!direct || !turned)
      return false;
    Value x = direct->getOperand(i >> 1 & 1);
    Value cosValue = direct->getOperand(1 - (i >> 1 & 1));
    Value half = turned->getOperand(i >> 2);
    Value sinValue = turned->getOperand(1 - (i >> 2));
    if (matchRotateHalf(r, half) != x)
      continue;
    auto view = matchHeads(r, x);
    if (!view)
      return false;
    auto cos = anglesOf(cosValue), sin = anglesOf(sinValue);
    if (!cos || !sin)
      return false;
    // The same positions in the place of the sequence.
    int64_t sequence = view->transposed ? 2 : 1;
    auto placed = [&](const Angles &a) {
      int64_t shift = 4 - a.rank;
      return a.frequencyAxis + shift == 3 && a.rowAxis + shift == sequence &&
             (a.batchAxis < 0 || a.batchAxis + shift == 0);
    };
    bool samePositions =
        cos->positions == sin->positions &&
        cos->first.has_value() == sin->first.has_value() &&
        (!cos->first || r.names.equal(*cos->first, *sin->first));
    if (!placed(*cos) || !placed(*sin) || !samePositions)
      return false;
    auto key = std::make_pair(cosValue.getAsOpaquePointer(),
                              sinValue.getAsOpaquePointer());
    auto it = frequencies.find(key);
    if (it == frequencies.end())
      it = frequencies.emplace(key, frequenciesOf(*cos, *sin)).first;
    if (!it->second || int64_t(it->second->size()) * 2 != view->size)
      return false;

    Value positions = cos->positions;
    if (!positions)
      positions = r.positions(*cos->first, r.shapes->dim(view->rows, 1));
    Location loc = r.at(add);
    auto rotary = qn::RotaryOp::create(
        r.builder, loc, r.typeOf(view->rows), view->rows, positions,
        /*table=*/Value(), /*out=*/Value(),
        r.builder.getI64IntegerAttr(view->size),
        r.builder.getDenseF32ArrayAttr(*it->second),
        r.builder.getStringAttr("half"));
    Value rows = rotary.getResult();
    r.shapes->set(rows, Dims(*r.shapes->get(view->rows)));
    // The same view of the rotated rows.
    auto again = [&](Operation *op, Value input) {
      Operation *copy = r.builder.clone(*op);
      copy->setOperand(0, input);
      r.shapes->set(copy->getResult(0), Dims(*r.shapes->get(op->getResult(0))));
      return copy->getResult(0);
    };
    Value heads = again(view->reshape, rows);
    if (view->transposed)
      heads = again(view->transpose, heads);
    r.replace(add->getResult(0), heads);
    return true;
  }
  return false;
}

void quench::onnx_to_quench::recognizeRotary(Recognizer &r) {
  r.refresh();
  RotaryMatcher matcher(r);
  for (Operation &op : llvm::make_early_inc_range(r.function.getBody().front()))
    if (kindOf(&op) == "Add" && r.shapes->get(op.getResult(0)))
      matcher.match(&op);
}
