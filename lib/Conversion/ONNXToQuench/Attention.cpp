//===- Attention.cpp - Recognizes attention and caches ----------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// softmax(scale * q k^T + mask) v with everything exporters write around it:
// heads split off and put together by Reshape and Transpose, keys and values
// repeated for groups of heads, masks built from ranges and padding masks.
//
//===----------------------------------------------------------------------===//

#include "Recognizer.h"
#include "quench/Dialect/ONNX/IR/ONNX.h"

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

/// A value added to a score at or below this makes its weight zero.
static constexpr double kMaskedBelow = -1.0e4;

//===----------------------------------------------------------------------===//
// Caches
//===----------------------------------------------------------------------===//

void quench::onnx_to_quench::recognizeCaches(Recognizer &r) {
  r.refresh();
  for (Operation &op :
       llvm::make_early_inc_range(r.function.getBody().front())) {
    if (kindOf(&op) != "Concat" || op.getNumOperands() != 2 ||
        r.shapes->rank(op.getResult(0)) != 4)
      continue;
    int64_t axis = getInt(&op, "axis", 0);
    Value past = op.getOperand(0);
    auto view = matchHeads(r, op.getOperand(1));
    if ((axis != 2 && axis != -2) || !view || !view->transposed ||
        !isa<FloatType>(r.elementType(past)))
      continue;
    Location loc = r.at(&op);
    auto extend =
        qn::ExtendOp::create(r.builder, loc, r.typeOf(op.getResult(0)), past,
                             view->rows, /*out=*/Value());
    r.replace(op.getResult(0), extend.getResult());
  }
}

//===----------------------------------------------------------------------===//
// Masks
//===----------------------------------------------------------------------===//

namespace {
/// What a mask of scores [batch, heads, sequence, total] means. Axes of a part
/// of it are given as axes of the scores.
class MaskMatcher {
public:
  MaskMatcher(Recognizer &r, const Dims &scores) : r(r), scores(scores) {}

  bool addFloat(Value mask) { return floats(mask, axesOf(mask)); }
  bool addBool(Value keep) { return booleans(keep, axesOf(keep)); }

  bool causal = false;
  Value keep;

private:
  using Axes = SmallVector<int64_t>;
  Axes axesOf(Value value) {
    int64_t rank = r.shapes->rank(value);
    return rank < 0 || rank > 4
               ? Axes()
               : llvm::to_vector(llvm::seq<int64_t>(4 - rank, 4));
  }
  /// Axes of a broadcast operand.
  Axes narrow(Value value, ArrayRef<int64_t> axes) {
    int64_t rank = r.shapes->rank(value);
    return rank < 0 || rank > int64_t(axes.size()) ? Axes()
                                                   : Axes(axes.take_back(rank));
  }
  bool floats(Value value, Axes axes);
  bool booleans(Value value, Axes axes);
  bool comparison(Operation *op, ArrayRef<int64_t> axes);
  bool padding(Value value, ArrayRef<int64_t> axes);
  /// Axes before an Unsqueeze or Expand; false if the op is neither.
  bool throughView(Operation *op, Axes &axes);

  Recognizer &r;
  const Dims &scores;
};
} // namespace

bool MaskMatcher::throughView(Operation *op, Axes &axes) {
  if (kindOf(op) == "Expand") {
    axes = narrow(op->getOperand(0), axes);
    return true;
  }
  if (kindOf(op) != "Unsqueeze")
    return false;
  auto list = getInts(op, "axes");
  if (!list && getOperand(op, 1))
    list = r.shapes->constants(op->getOperand(1));
  if (!list)
    return false;
  int64_t rank = axes.size();
  Axes kept;
  for (int64_t i = 0; i < rank; ++i)
    if (!llvm::is_contained(*list, i) && !llvm::is_contained(*list, i - rank))
      kept.push_back(axes[i]);
  axes = kept;
  return true;
}

bool MaskMatcher::padding(Value value, ArrayRef<int64_t> axes) {
  if (!r.elementType(value).isInteger() || axes.size() != 2 || axes[0] != 0 ||
      axes[1] != 3 || r.shapes->rank(value) != 2 ||
      !r.names.equal(r.shapes->dim(value, 1), scores[3]) ||
      (keep && keep != value))
    return false;
  keep = value;
  return true;
}

/// j <= i + total - sequence in any of its forms.
bool MaskMatcher::comparison(Operation *op, ArrayRef<int64_t> axes) {
  StringRef kind = kindOf(op);
  auto left =
      matchIota(r, op->getOperand(0), narrow(op->getOperand(0), axes), 4);
  auto right =
      matchIota(r, op->getOperand(1), narrow(op->getOperand(1), axes), 4);
  if (!left || !right)
    return false;
  if (kind.starts_with("Greater"))
    std::swap(left, right);
  // right - left >= 0, or > 0.
  SmallVector<int64_t> slope;
  for (int64_t i = 0; i < 4; ++i)
    slope.push_back(right->coefficients[i] - left->coefficients[i]);
  Dim offset = right->constant - left->constant;
  if (kind == "Less" || kind == "Greater")
    offset = offset - Dim(1);
  if (ArrayRef(slope) != ArrayRef<int64_t>{0, 0, 1, -1} ||
      !r.names.equal(offset, scores[3] - scores[2]))
    return false;
  causal = true;
  return true;
}

bool MaskMatcher::booleans(Value value, Axes axes) {
  if (int64_t(axes.size()) != r.shapes->rank(value))
    return false;
  Operation *op = value.getDefiningOp();
  if (op && kindOf(op) == "Cast" &&
      r.elementType(op->getOperand(0)).isInteger())
    return booleans(op->getOperand(0), axes);
  if (padding(value, axes))
    return true;
  if (!op)
    return false;
  if (throughView(op, axes))
    return booleans(op->getOperand(0), axes);
  StringRef kind = kindOf(op);
  if (kind == "And")
    return booleans(op->getOperand(0), narrow(op->getOperand(0), axes)) &&
           booleans(op->getOperand(1), narrow(op->getOperand(1), axes));
  if (kind == "Greater" || kind == "Not") {
    // m > 0; not (m == 0).
    Value compared;
    if (kind == "Greater" && r.shapes->scalar(op->getOperand(1)) == 0.0)
      compared = op->getOperand(0);
    else if (Operation *equal = kind == "Not"
                                    ? definedBy(op->getOperand(0), "Equal")
                                    : nullptr;
             equal && r.shapes->scalar(equal->getOperand(1)) == 0.0)
      compared = equal->getOperand(0);
    if (compared)
      return booleans(compared, narrow(compared, axes));
  }
  if (kind == "Less" || kind == "LessOrEqual" || kind == "Greater" ||
      kind == "GreaterOrEqual")
    return comparison(op, axes);
  return false;
}

bool MaskMatcher::floats(Value value, Axes axes) {
  Operation *op = value.getDefiningOp();
  if (!op || int64_t(axes.size()) != r.shapes->rank(value))
    return false;
  if (throughView(op, axes))
    return floats(op->getOperand(0), axes);
  StringRef kind = kindOf(op);
  if (kind == "Where") {
    auto kept = r.shapes->scalar(op->getOperand(1));
    auto masked = r.shapes->scalar(op->getOperand(2));
    return kept == 0.0 && masked && *masked <= kMaskedBelow &&
           booleans(op->getOperand(0), narrow(op->getOperand(0), axes));
  }
  if (kind == "Add")
    return floats(op->getOperand(0), narrow(op->getOperand(0), axes)) &&
           floats(op->getOperand(1), narrow(op->getOperand(1), axes));
  if (kind == "Mul") { // (1 - mask) * lowest
    auto factor = r.scaled(value);
    Operation *sub = factor && factor->second <= kMaskedBelow
                         ? definedBy(factor->first, "Sub")
                         : nullptr;
    if (!sub || r.shapes->scalar(sub->getOperand(0)) != 1.0)
      return false;
    Value mask = sub->getOperand(1);
    Axes inner = narrow(mask, axes);
    while (Operation *view = mask.getDefiningOp()) {
      if (kindOf(view) != "Cast" && !throughView(view, inner))
        break;
      mask = view->getOperand(0);
    }
    return padding(mask, inner);
  }
  return false;
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

namespace {
struct Scores {
  Value query, key; // [batch, heads, sequence, D]
  double scale = 1;
  SmallVector<Value> masks;     // floats that are added
  SmallVector<Value> keepMasks; // booleans: others get a very small score
};

struct Attention {
  HeadsView query;
  Value key, value; // rows or [batch, kv heads, total, D]
  int64_t kvHeads = 0, valueSize = 0;
};
} // namespace

/// k of a transposed k [batch, heads, D, total], as a heads view or any value
/// of rank 4; makes the Transpose to [batch, heads, total, D] where only
/// another one is there.
static Value matchKeys(Recognizer &r, Value transposed) {
  Operation *op = definedBy(transposed, "Transpose");
  auto perm = op ? getInts(op, "perm") : std::nullopt;
  if (!perm)
    return {};
  if (ArrayRef(*perm) == ArrayRef<int64_t>{0, 1, 3, 2})
    return op->getOperand(0);
  if (ArrayRef(*perm) != ArrayRef<int64_t>{0, 2, 3, 1})
    return {};
  Location loc = r.at(op);
  Dims dims = *r.shapes->get(transposed);
  std::swap(dims[2], dims[3]);
  OperationState state(loc, "onnx.Transpose");
  state.addOperands(op->getOperand(0));
  state.addTypes(r.shapes->typeOf(dims, r.elementType(transposed)));
  state.addAttribute("perm", r.builder.getDenseI64ArrayAttr({0, 2, 1, 3}));
  Value keys = r.builder.create(state)->getResult(0);
  r.shapes->set(keys, dims);
  return keys;
}

static bool matchScores(Recognizer &r, Value value, Scores &s) {
  Operation *op = value.getDefiningOp();
  if (!op || r.shapes->rank(value) != 4)
    return false;
  StringRef kind = kindOf(op);
  if (kind == "MatMul") {
    Value query = op->getOperand(0), transposed = op->getOperand(1);
    for (Value *side : {&query, &transposed})
      if (auto factor = r.scaled(*side)) {
        s.scale *= factor->second;
        *side = factor->first;
      }
    s.query = query;
    s.key = matchKeys(r, transposed);
    if (s.key)
      if (auto factor = r.scaled(s.key)) {
        s.scale *= factor->second;
        s.key = factor->first;
      }
    return s.key != nullptr;
  }
  if (auto factor = r.scaled(value)) {
    if (!matchScores(r, factor->first, s) || !s.masks.empty() ||
        !s.keepMasks.empty())
      return false;
    s.scale *= factor->second;
    return true;
  }
  if (kind == "Add") {
    for (unsigned i : {0u, 1u}) {
      Scores inner;
      if (!matchScores(r, op->getOperand(i), inner))
        continue;
      s = inner;
      s.masks.push_back(op->getOperand(1 - i));
      return true;
    }
    return false;
  }
  if (kind == "Where") {
    auto masked = r.shapes->scalar(op->getOperand(2));
    if (!masked || *masked > kMaskedBelow ||
        !matchScores(r, op->getOperand(1), s))
      return false;
    s.keepMasks.push_back(op->getOperand(0));
    return true;
  }
  return false;
}

/// What [batch, kv heads, total, D] is behind a repetition of each head.
static Value throughRepeat(Recognizer &r, Value value) {
  Operation *reshape = definedBy(value, "Reshape");
  Operation *expand =
      reshape ? definedBy(reshape->getOperand(0), "Expand") : nullptr;
  Operation *unsqueeze =
      expand ? definedBy(expand->getOperand(0), "Unsqueeze") : nullptr;
  if (!unsqueeze)
    return value;
  Value inner = unsqueeze->getOperand(0), wide = expand->getResult(0);
  const Shapes &shapes = *r.shapes;
  if (shapes.rank(inner) != 4 || shapes.rank(wide) != 5 ||
      shapes.rank(value) != 4 ||
      !shapes.dim(unsqueeze->getResult(0), 2).isConstant(1))
    return value;
  bool repeats = r.names.equal(shapes.dim(inner, 0), shapes.dim(wide, 0)) &&
                 r.names.equal(shapes.dim(inner, 1), shapes.dim(wide, 1)) &&
                 r.names.equal(shapes.dim(inner, 2), shapes.dim(wide, 3)) &&
                 r.names.equal(shapes.dim(inner, 3), shapes.dim(wide, 4)) &&
                 r.names.equal(shapes.dim(value, 0), shapes.dim(wide, 0)) &&
                 r.names.equal(shapes.dim(value, 1),
                               shapes.dim(wide, 1) * shapes.dim(wide, 2)) &&
                 r.names.equal(shapes.dim(value, 2), shapes.dim(wide, 3)) &&
                 r.names.equal(shapes.dim(value, 3), shapes.dim(wide, 4));
  return repeats ? inner : value;
}

/// Keys or values as rows where they are a view of rows.
static Value rowsOf(Recognizer &r, Value heads) {
  auto view = matchHeads(r, heads);
  return view && view->transposed ? view->rows : heads;
}

static bool matchAttention(Recognizer &r, Operation *softmax) {
  Value weights = softmax->getResult(0);
  int64_t axis = getInt(softmax, "axis", -1);
  Operation *product = r.onlyUser(weights);
  if (r.shapes->rank(weights) != 4 || (axis != -1 && axis != 3) || !product ||
      kindOf(product) != "MatMul" || product->getOperand(0) != weights)
    return false;
  Operation *transpose = r.onlyUser(product->getResult(0));
  if (!transpose || kindOf(transpose) != "Transpose")
    return false;
  auto perm = getInts(transpose, "perm");
  Operation *reshape = r.onlyUser(transpose->getResult(0));
  if (!perm || ArrayRef(*perm) != ArrayRef<int64_t>{0, 2, 1, 3} || !reshape ||
      kindOf(reshape) != "Reshape")
    return false;
  Scores scores;
  if (!matchScores(r, softmax->getOperand(0), scores))
    return false;
  auto query = matchHeads(r, scores.query);
  if (!query || !query->transposed)
    return false;
  const Dims dims = *r.shapes->get(softmax->getOperand(0));
  Value result = reshape->getResult(0);
  Value key = throughRepeat(r, scores.key);
  Value value = throughRepeat(r, product->getOperand(1));
  auto kvHeads = r.shapes->dim(key, 1).constant();
  auto valueSize = r.shapes->dim(value, 3).constant();
  if (r.shapes->rank(key) != 4 || r.shapes->rank(value) != 4 || !kvHeads ||
      !valueSize || *kvHeads <= 0 || query->heads % *kvHeads ||
      !r.shapes->dim(value, 1).isConstant(*kvHeads) ||
      r.shapes->rank(result) != 3 ||
      !r.names.equal(r.shapes->dim(result, 0), r.shapes->dim(query->rows, 0)) ||
      !r.names.equal(r.shapes->dim(result, 1), r.shapes->dim(query->rows, 1)) ||
      !r.shapes->dim(result, 2).isConstant(query->heads * *valueSize))
    return false;

  MaskMatcher mask(r, dims);
  for (Value keep : scores.keepMasks)
    if (!mask.addBool(keep))
      return false;
  Value bias;
  for (Value added : scores.masks) {
    MaskMatcher trial = mask;
    if (trial.addFloat(added)) {
      mask.causal = trial.causal;
      mask.keep = trial.keep;
      continue;
    }
    if (bias || r.shapes->rank(added) != 4 || !r.elementType(added).isF32())
      return false;
    bias = added;
  }

  r.at(reshape);
  auto attention = qn::AttentionOp::create(
      r.builder, softmax->getLoc(), r.typeOf(result), query->rows,
      rowsOf(r, key), rowsOf(r, value), mask.keep, bias, /*length=*/Value(),
      /*out=*/Value(), query->heads, *kvHeads, APFloat(float(scores.scale)),
      mask.causal, /*window=*/IntegerAttr(), /*soft_cap=*/FloatAttr());
  r.replace(result, attention.getResult());
  return true;
}

void quench::onnx_to_quench::recognizeAttention(Recognizer &r) {
  r.refresh();
  for (Operation &op : llvm::make_early_inc_range(r.function.getBody().front()))
    if (kindOf(&op) == "Softmax" && r.shapes->get(op.getResult(0)) &&
        !matchAttention(r, &op))
      r.missed(&op, "this softmax is not one of an attention of known form");
}
