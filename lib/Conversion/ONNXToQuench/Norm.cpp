//===- Norm.cpp - Recognizes RMS and layer normalization --------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Recognizer.h"
#include "quench/Dialect/ONNX/IR/ONNX.h"

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

/// The operand of a mean over the last dimension that keeps it, or null.
static Value matchMean(Recognizer &r, Operation *op) {
  if (!op || kindOf(op) != "ReduceMean" || !getInt(op, "keepdims", 1))
    return {};
  Value input = op->getOperand(0);
  int64_t rank = r.shapes->rank(input);
  bool given = false;
  auto axes = r.shapes->axes(op, 1, rank, &given);
  if (!axes || !given || axes->size() != 1 || axes->front() != rank - 1)
    return {};
  return input;
}

/// x of x^2 or x * x.
static Value matchSquare(Recognizer &r, Value value) {
  if (Operation *pow = definedBy(value, "Pow"))
    return r.shapes->scalar(pow->getOperand(1)) == 2.0 ? pow->getOperand(0)
                                                       : Value();
  Operation *mul = definedBy(value, "Mul");
  return mul && mul->getOperand(0) == mul->getOperand(1) ? mul->getOperand(0)
                                                         : Value();
}

/// z of z - mean(z).
static Value matchCentered(Recognizer &r, Value value) {
  Operation *sub = definedBy(value, "Sub");
  if (!sub)
    return {};
  Value z = sub->getOperand(0);
  return matchMean(r, sub->getOperand(1).getDefiningOp()) == z ? z : Value();
}

namespace {
/// The parts of a norm that is written out.
struct Norm {
  Value input, gain, bias, result;
  double epsilon = 0;
  bool centered = false;
};
} // namespace

/// From the users of sqrt(mean(x^2) + eps), the value x / sqrt(..).
static Value matchDivision(Recognizer &r, Value root, Value x) {
  for (Operation *user : root.getUsers()) {
    if (kindOf(user) == "Div" && user->getOperand(0) == x &&
        user->getOperand(1) == root)
      return user->getResult(0);
    bool isInverse = kindOf(user) == "Reciprocal" ||
                     (kindOf(user) == "Div" && user->getOperand(1) == root &&
                      r.shapes->scalar(user->getOperand(0)) == 1.0);
    if (!isInverse)
      continue;
    Value inverse = user->getResult(0);
    for (Operation *mul : inverse.getUsers())
      if (kindOf(mul) == "Mul" && r.otherOperand(mul, inverse) == x)
        return mul->getResult(0);
  }
  return {};
}

static std::optional<Norm> matchNorm(Recognizer &r, Operation *mean) {
  Value square = matchMean(r, mean);
  Value x = square ? matchSquare(r, square) : Value();
  if (!x)
    return std::nullopt;
  Norm norm;
  for (Operation *add : mean->getResult(0).getUsers()) {
    if (kindOf(add) != "Add")
      continue;
    Value other = r.otherOperand(add, mean->getResult(0));
    auto epsilon = other ? r.shapes->scalar(other) : std::nullopt;
    if (!epsilon)
      continue;
    for (Operation *root : add->getResult(0).getUsers())
      if (kindOf(root) == "Sqrt")
        if (Value y = matchDivision(r, root->getResult(0), x)) {
          norm.epsilon = *epsilon;
          norm.result = y;
        }
  }
  if (!norm.result)
    return std::nullopt;
  norm.input = x;
  if (Value z = matchCentered(r, x)) {
    norm.input = z;
    norm.centered = true;
  }
  Dim width = r.shapes->dim(x, -1);
  if (Operation *mul = r.onlyUser(norm.result); mul && kindOf(mul) == "Mul") {
    Value gain = r.otherOperand(mul, norm.result);
    if (gain && r.isVector(gain, width)) {
      norm.gain = gain;
      norm.result = mul->getResult(0);
    }
  }
  if (norm.centered)
    if (Operation *add = r.onlyUser(norm.result); add && kindOf(add) == "Add") {
      Value bias = r.otherOperand(add, norm.result);
      if (bias && r.isVector(bias, width)) {
        norm.bias = bias;
        norm.result = add->getResult(0);
      }
    }
  return norm;
}

static void build(Recognizer &r, const Norm &norm) {
  Location loc = r.at(norm.result.getDefiningOp());
  auto op = qn::NormOp::create(r.builder, loc, r.typeOf(norm.result),
                               norm.centered ? "layer" : "rms", norm.input,
                               norm.gain, norm.bias, /*out=*/Value(),
                               APFloat(float(norm.epsilon)));
  r.replace(norm.result, op.getResult());
}

/// The op forms: LayerNormalization and its relatives.
static void normOp(Recognizer &r, Operation *op, StringRef kind) {
  if (op->getNumResults() > 1 &&
      llvm::any_of(op->getResults().drop_front(),
                   [](Value v) { return !v.use_empty(); }))
    return;
  Norm norm;
  norm.input = op->getOperand(0);
  norm.result = op->getResult(0);
  int64_t rank = r.shapes->rank(norm.input);
  int64_t axis = getInt(op, "axis", -1);
  if (rank < 1 || (axis != -1 && axis != rank - 1))
    return;
  Dim width = r.shapes->dim(norm.input, -1);
  norm.centered = kind == "LayerNormalization";
  norm.gain = getOperand(op, 1);
  norm.bias = getOperand(op, 2);
  norm.epsilon = getFloat(op, "epsilon", 1e-5);
  if ((norm.gain && !r.isVector(norm.gain, width, false)) ||
      (norm.bias && !r.isVector(norm.bias, width, false)))
    return;
  build(r, norm);
}

/// Norms with a skip connection: the sum, then the norm of it.
static void skipNorm(Recognizer &r, Operation *op, bool centered) {
  for (unsigned i = 1; i < op->getNumResults(); ++i)
    if (i != 3 && !op->getResult(i).use_empty())
      return;
  Norm norm;
  norm.centered = centered;
  norm.gain = getOperand(op, 2);
  norm.bias = centered ? getOperand(op, 3) : Value();
  Value extra = getOperand(op, centered ? 4 : 3);
  norm.result = op->getResult(0);
  norm.epsilon = getFloat(op, "epsilon", 1e-12);
  Dim width = r.shapes->dim(op->getOperand(0), -1);
  if ((norm.gain && !r.isVector(norm.gain, width, false)) ||
      (norm.bias && !r.isVector(norm.bias, width, false)))
    return;
  Location loc = r.at(op);
  auto add = [&](Value a, Value b) {
    OperationState state(loc, "onnx.Add");
    state.addOperands({a, b});
    state.addTypes(r.typeOf(norm.result));
    Value sum = r.builder.create(state)->getResult(0);
    r.shapes->set(sum, Dims(*r.shapes->get(norm.result)));
    return sum;
  };
  Value sum = add(op->getOperand(0), op->getOperand(1));
  if (extra)
    sum = add(sum, extra);
  if (op->getNumResults() > 3)
    r.replace(op->getResult(3), sum);
  norm.input = sum;
  build(r, norm);
}

void quench::onnx_to_quench::recognizeNorms(Recognizer &r) {
  r.refresh();
  for (Operation &op :
       llvm::make_early_inc_range(r.function.getBody().front())) {
    StringRef kind = kindOf(&op);
    if (kind.empty() || op.getNumResults() == 0 ||
        !r.shapes->get(op.getResult(0)))
      continue;
    if (kind == "LayerNormalization" ||
        kind == "SimplifiedLayerNormalization" || kind == "RMSNormalization")
      normOp(r, &op, kind);
    else if (kind == "com.microsoft.SkipSimplifiedLayerNormalization")
      skipNorm(r, &op, /*centered=*/false);
    else if (kind == "com.microsoft.SkipLayerNormalization")
      skipNorm(r, &op, /*centered=*/true);
    else if (kind == "ReduceMean")
      if (auto norm = matchNorm(r, &op))
        build(r, *norm);
  }
}
