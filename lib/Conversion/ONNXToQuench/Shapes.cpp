//===- Shapes.cpp - Sizes of all values -------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Shapes.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "quench/Dialect/ONNX/IR/ONNX.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/StringSwitch.h"
#include <cmath>

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

//===----------------------------------------------------------------------===//
// Reading onnx ops
//===----------------------------------------------------------------------===//

StringRef quench::onnx_to_quench::kindOf(Operation *op) {
  StringRef name = op->getName().getStringRef();
  return name.consume_front("onnx.") ? name : StringRef();
}

Operation *quench::onnx_to_quench::definedBy(Value value, StringRef kind) {
  Operation *op = value ? value.getDefiningOp() : nullptr;
  return op && kindOf(op) == kind ? op : nullptr;
}

int64_t quench::onnx_to_quench::getInt(Operation *op, StringRef name,
                                       int64_t otherwise) {
  auto attr = op->getAttrOfType<IntegerAttr>(name);
  return attr ? attr.getInt() : otherwise;
}

double quench::onnx_to_quench::getFloat(Operation *op, StringRef name,
                                        double otherwise) {
  auto attr = op->getAttrOfType<FloatAttr>(name);
  return attr ? attr.getValueAsDouble() : otherwise;
}

std::optional<SmallVector<int64_t>>
quench::onnx_to_quench::getInts(Operation *op, StringRef name) {
  auto attr = op->getAttrOfType<DenseI64ArrayAttr>(name);
  if (!attr)
    return std::nullopt;
  return SmallVector<int64_t>(attr.asArrayRef());
}

Value quench::onnx_to_quench::getOperand(Operation *op, unsigned i) {
  if (i >= op->getNumOperands() || !onnx::isPresent(op->getOperand(i)))
    return {};
  return op->getOperand(i);
}

std::string quench::onnx_to_quench::nodeName(Operation *op) {
  if (auto loc = op->getLoc()->findInstanceOf<NameLoc>())
    return loc.getName().str();
  return "unnamed";
}

void quench::onnx_to_quench::addLimit(func::FuncOp function, DimContext &names,
                                      const Dim &size, int64_t most) {
  constexpr llvm::StringLiteral kName = "quench.limits";
  Dim resolved = names.resolve(size);
  if (resolved.isConstant())
    return;
  Builder b(function.getContext());
  NamedAttrList limits(function->getAttrOfType<DictionaryAttr>(kName));
  std::string text = names.print(resolved);
  if (auto old = dyn_cast_or_null<IntegerAttr>(limits.get(text)))
    most = std::min(most, old.getInt());
  limits.set(text, b.getI64IntegerAttr(most));
  function->setAttr(kName, limits.getDictionary(function.getContext()));
}

//===----------------------------------------------------------------------===//
// Queries
//===----------------------------------------------------------------------===//

const Dims *Shapes::get(Value value) const {
  auto it = shapes.find(value);
  return it == shapes.end() ? nullptr : &it->second;
}

int64_t Shapes::rank(Value value) const {
  const Dims *dims = get(value);
  return dims ? dims->size() : -1;
}

Dim Shapes::dim(Value value, int64_t i) const {
  const Dims *dims = get(value);
  int64_t rank = dims ? dims->size() : 0;
  i = i < 0 ? i + rank : i;
  return dims && i >= 0 && i < rank ? names.resolve((*dims)[i]) : Dim(-1);
}

std::optional<Dims> Shapes::ints(Value value) const {
  if (auto it = values.find(value); it != values.end()) {
    Dims out;
    for (const Dim &dim : it->second)
      out.push_back(names.resolve(dim));
    return out;
  }
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (!type || !type.getElementType().isInteger() || type.getRank() > 2 ||
      !pool.isConstant(value))
    return std::nullopt;
  auto numbers = pool.integers(value, 64);
  if (!numbers)
    return std::nullopt;
  return Dims(numbers->begin(), numbers->end());
}

std::optional<SmallVector<int64_t>> Shapes::constants(Value value) const {
  auto dims = ints(value);
  if (!dims)
    return std::nullopt;
  SmallVector<int64_t> out;
  for (const Dim &dim : *dims) {
    if (!dim.isConstant())
      return std::nullopt;
    out.push_back(*dim.constant());
  }
  return out;
}

std::optional<double> Shapes::scalar(Value value, unsigned depth) const {
  if (auto number = pool.scalar(value))
    return number;
  Operation *op = value.getDefiningOp();
  if (!op || depth > 8)
    return std::nullopt;
  if (auto ints = constants(value); ints && ints->size() == 1)
    return double(ints->front());
  StringRef kind = kindOf(op);
  if (!isa<FloatType>(cast<ShapedType>(value.getType()).getElementType()))
    return std::nullopt;
  bool isUnary = kind == "Cast" || kind == "Sqrt" || kind == "Reciprocal" ||
                 kind == "Neg" || kind == "Unsqueeze" || kind == "Squeeze";
  bool isBinary = kind == "Add" || kind == "Sub" || kind == "Mul" ||
                  kind == "Div" || kind == "Pow";
  if ((!isUnary && !isBinary) || op->getNumOperands() < (isUnary ? 1 : 2))
    return std::nullopt;
  auto x = scalar(op->getOperand(0), depth + 1);
  auto y = isBinary ? scalar(op->getOperand(1), depth + 1) : x;
  if (!x || !y)
    return std::nullopt;
  double result = kind == "Sqrt"         ? std::sqrt(*x)
                  : kind == "Reciprocal" ? 1 / *x
                  : kind == "Neg"        ? -*x
                  : kind == "Add"        ? *x + *y
                  : kind == "Sub"        ? *x - *y
                  : kind == "Mul"        ? *x * *y
                  : kind == "Div"        ? *x / *y
                  : kind == "Pow"        ? std::pow(*x, *y)
                                         : *x;
  // Nodes compute in f32.
  return double(float(result));
}

void Shapes::set(Value value, Dims dims) { shapes[value] = std::move(dims); }

std::string Shapes::reason(Operation *op) const { return problems.lookup(op); }

RankedTensorType Shapes::typeOf(ArrayRef<Dim> dims, Type element) const {
  SmallVector<int64_t> sizes;
  for (const Dim &dim : dims) {
    auto constant = names.resolve(dim).constant();
    sizes.push_back(constant && *constant >= 0 ? *constant
                                               : ShapedType::kDynamic);
  }
  return RankedTensorType::get(sizes, element);
}

std::optional<SmallVector<int64_t>>
Shapes::axes(Operation *op, unsigned operand, int64_t rank, bool *given) const {
  std::optional<SmallVector<int64_t>> list = getInts(op, "axes");
  bool found = list.has_value();
  if (!found && getOperand(op, operand)) {
    found = true;
    list = constants(op->getOperand(operand));
    if (!list)
      return std::nullopt;
  }
  if (given)
    *given = found && !list->empty();
  if (!found)
    return SmallVector<int64_t>();
  for (int64_t &axis : *list) {
    axis = axis < 0 ? axis + rank : axis;
    if (axis < 0 || axis >= rank)
      return std::nullopt;
  }
  return list;
}

//===----------------------------------------------------------------------===//
// The walk
//===----------------------------------------------------------------------===//

static void parseDims(DimContext &names, ArrayAttr texts, ShapedType type,
                      StringRef prefix, Dims &dims) {
  for (int64_t i = 0; i < type.getRank(); ++i) {
    StringAttr text;
    if (texts && i < int64_t(texts.size()))
      text = dyn_cast<StringAttr>(texts[i]);
    if (!type.isDynamicDim(i))
      dims.push_back(Dim(type.getDimSize(i)));
    else if (text && !text.getValue().empty() && text.getValue() != "?")
      dims.push_back(names.parse(text.getValue()));
    else
      dims.push_back(names.named((prefix + "_dim" + Twine(i)).str()));
  }
}

Shapes::Shapes(func::FuncOp function, Constants &constants, DimContext &dims)
    : function(function), pool(constants), names(dims) {
  Block &body = function.getBody().front();
  for (BlockArgument argument : body.getArguments()) {
    unsigned i = argument.getArgNumber();
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    if (!type)
      continue;
    auto name = function.getArgAttrOfType<StringAttr>(i, "quench.name");
    Dims shape;
    parseDims(names, function.getArgAttrOfType<ArrayAttr>(i, kDimsAttr), type,
              name ? name.getValue().str() : "arg" + std::to_string(i), shape);
    set(argument, shape);
  }
  for (Operation &op : body.without_terminator()) {
    problem.clear();
    if (kindOf(&op) == "NoValue")
      continue;
    if (!transfer(&op))
      problems[&op] = problem;
  }
  // What the model says of its results holds, too.
  for (auto [i, result] :
       llvm::enumerate(body.getTerminator()->getOperands())) {
    auto texts = function.getResultAttrOfType<ArrayAttr>(i, kDimsAttr);
    const Dims *shape = get(result);
    if (!texts || !shape || texts.size() != shape->size())
      continue;
    for (auto [text, dim] : llvm::zip(texts, *shape))
      if (auto string = dyn_cast<StringAttr>(text);
          string && !string.getValue().empty())
        names.unify(dim, names.parse(string.getValue()));
  }
}

void Shapes::annotate() {
  Builder b(function.getContext());
  auto texts = [&](const Dims &dims) {
    SmallVector<Attribute> attrs;
    for (const Dim &dim : dims)
      attrs.push_back(b.getStringAttr(names.print(dim)));
    return b.getArrayAttr(attrs);
  };
  Block &body = function.getBody().front();
  for (BlockArgument argument : body.getArguments())
    if (const Dims *dims = get(argument))
      function.setArgAttr(argument.getArgNumber(), kDimsAttr, texts(*dims));
  for (auto [i, result] : llvm::enumerate(body.getTerminator()->getOperands()))
    if (const Dims *dims = get(result))
      function.setResultAttr(i, kDimsAttr, texts(*dims));
}

std::optional<Dim> Shapes::broadcast(const Dim &x, const Dim &y) {
  Dim a = names.resolve(x), b = names.resolve(y);
  if (a.isConstant(1))
    return b;
  if (b.isConstant(1) || a == b)
    return a;
  if (names.unify(a, b))
    return names.resolve(b.isConstant() ? b : a);
  fail("its operands have sizes " + names.print(a) + " and " + names.print(b) +
       ", which do not broadcast");
  return std::nullopt;
}

std::optional<Dims> Shapes::broadcast(ArrayRef<Value> operands) {
  Dims result;
  for (Value operand : operands) {
    const Dims *dims = get(operand);
    if (!dims)
      return std::nullopt;
    while (result.size() < dims->size())
      result.insert(result.begin(), Dim(1));
    size_t skip = result.size() - dims->size();
    for (auto [i, dim] : llvm::enumerate(*dims)) {
      auto both = broadcast(result[skip + i], dim);
      if (!both)
        return std::nullopt;
      result[skip + i] = *both;
    }
  }
  return result;
}

static bool isElementwise(StringRef kind) {
  static const llvm::StringSet<> kinds = {"Add",
                                          "Sub",
                                          "Mul",
                                          "Div",
                                          "Pow",
                                          "Sqrt",
                                          "Exp",
                                          "Log",
                                          "Erf",
                                          "Tanh",
                                          "Sigmoid",
                                          "Relu",
                                          "Gelu",
                                          "Neg",
                                          "Abs",
                                          "Round",
                                          "Floor",
                                          "Ceil",
                                          "Min",
                                          "Max",
                                          "Where",
                                          "Equal",
                                          "Less",
                                          "LessOrEqual",
                                          "Greater",
                                          "GreaterOrEqual",
                                          "And",
                                          "Or",
                                          "Xor",
                                          "Not",
                                          "Sin",
                                          "Cos",
                                          "Reciprocal",
                                          "Mod",
                                          "Sum",
                                          "Mean",
                                          "PRelu",
                                          "com.microsoft.BiasGelu",
                                          "com.microsoft.FastGelu"};
  return kinds.contains(kind);
}

/// Ops whose first result has the first operand's shape.
static bool keepsShape(StringRef kind) {
  static const llvm::StringSet<> kinds = {"Identity",
                                          "Cast",
                                          "CastLike",
                                          "Dropout",
                                          "Clip",
                                          "Softmax",
                                          "LogSoftmax",
                                          "LayerNormalization",
                                          "SimplifiedLayerNormalization",
                                          "RMSNormalization",
                                          "Trilu",
                                          "CumSum",
                                          "LeakyRelu",
                                          "Elu",
                                          "Softplus",
                                          "HardSigmoid",
                                          "HardSwish",
                                          "Swish",
                                          "Mish",
                                          "Selu",
                                          "Celu",
                                          "Sign",
                                          "Softsign",
                                          "ThresholdedRelu",
                                          "DequantizeLinear",
                                          "QuantizeLinear",
                                          "RotaryEmbedding",
                                          "com.microsoft.Gelu",
                                          "com.microsoft.QuickGelu",
                                          "com.microsoft.RotaryEmbedding",
                                          "IsNaN",
                                          "IsInf",
                                          "Tan"};
  return kinds.contains(kind);
}

/// Operands without which an op of this kind is one of an old version that is
/// not supported.
static unsigned leastOperands(StringRef kind) {
  return llvm::StringSwitch<unsigned>(kind)
      .Cases({"Constant"}, 0)
      .Cases({"Range", "Where", "RotaryEmbedding"}, 3)
      .Cases({"Add", "Sub", "Mul", "Div", "Pow", "Mod", "Equal", "Less"}, 2)
      .Cases({"LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or"}, 2)
      .Cases({"Xor", "MatMul", "Gemm", "Reshape", "Expand", "Tile"}, 2)
      .Cases({"Gather", "PRelu", "DequantizeLinear", "QuantizeLinear"}, 2)
      .Cases({"com.microsoft.SkipSimplifiedLayerNormalization"}, 3)
      .Cases({"com.microsoft.SkipLayerNormalization"}, 3)
      .Cases({"com.microsoft.MatMulNBits", "com.microsoft.MatMulBnb4"}, 3)
      .Cases({"com.microsoft.GroupQueryAttention"}, 7)
      .Default(1);
}

bool Shapes::transfer(Operation *op) {
  StringRef kind = kindOf(op);
  if (kind.empty())
    return transferQuench(op);
  // The first operands and the first result are used without asking.
  if (op->getNumResults() == 0 || !onnx::isPresent(op->getResult(0)))
    return fail("it is not supported without its first result");
  unsigned least = leastOperands(kind);
  bool fewer = op->getNumOperands() < least;
  for (unsigned i = 0; i < least && !fewer; ++i)
    fewer = !onnx::isPresent(op->getOperand(i)) &&
            !(kind.starts_with("com.microsoft.Group") &&
              (i == 1 || i == 2 || i == 3 || i == 4));
  if (fewer || (op->hasAttr("broadcast") && op->hasAttr("axis")))
    return fail("it is not supported in this form");
  if (kind == "Constant") {
    ElementsAttr elements = getConstantValue(op);
    auto type = elements ? dyn_cast<RankedTensorType>(elements.getType())
                         : RankedTensorType();
    if (!type)
      return fail("it is not numbers");
    set(op->getResult(0), Dims(type.getShape().begin(), type.getShape().end()));
    return true;
  }
  for (Value operand : op->getOperands())
    if (onnx::isPresent(operand) && !get(operand))
      return false; // somebody else's problem
  if (isElementwise(kind)) {
    SmallVector<Value> operands;
    for (Value operand : op->getOperands())
      if (onnx::isPresent(operand))
        operands.push_back(operand);
    auto dims = broadcast(operands);
    if (!dims)
      return false;
    set(op->getResult(0), *dims);
    transferInts(op, kind);
    return true;
  }
  if (keepsShape(kind)) {
    Dims dims = *get(op->getOperand(0));
    set(op->getResult(0), dims);
    if (kind.ends_with("LayerNormalization")) { // mean, 1 / deviation
      int64_t axis = getInt(op, "axis", -1);
      axis = axis < 0 ? axis + int64_t(dims.size()) : axis;
      for (size_t i = std::max<int64_t>(axis, 0); i < dims.size(); ++i)
        dims[i] = Dim(1);
    }
    for (Value result : op->getResults().drop_front())
      set(result, dims);
    transferInts(op, kind);
    return true;
  }
  if (kind.starts_with("com.microsoft."))
    return transferContrib(op, kind);
  if (transferShape(op, kind))
    return true;
  if (!problem.empty())
    return false;
  if (transferMove(op, kind)) {
    transferInts(op, kind);
    return true;
  }
  if (problem.empty())
    return fail("it is not supported");
  return false;
}

bool Shapes::transferQuench(Operation *op) {
  if (auto texts = op->getAttrOfType<ArrayAttr>(kDimsAttr)) {
    Dims dims;
    for (Attribute text : texts)
      if (auto string = dyn_cast<StringAttr>(text))
        dims.push_back(names.parse(string.getValue()));
    set(op->getResult(0), dims);
    return true;
  }
  auto copy = [&](Value from) {
    if (const Dims *dims = get(from))
      set(op->getResult(0), Dims(*dims));
    return get(from) != nullptr;
  };
  if (auto linear = dyn_cast<qn::LinearOp>(op)) {
    if (!copy(linear.getInput()))
      return false;
    shapes[linear.getResult()].back() =
        Dim(linear.getResult().getType().getShape().back());
    return true;
  }
  if (auto embedding = dyn_cast<qn::EmbeddingOp>(op)) {
    if (!copy(embedding.getIds()))
      return false;
    shapes[embedding.getResult()].push_back(
        Dim(embedding.getResult().getType().getShape().back()));
    return true;
  }
  if (auto attention = dyn_cast<qn::AttentionOp>(op)) {
    if (!copy(attention.getQuery()))
      return false;
    shapes[op->getResult(0)].back() = Dim(
        cast<RankedTensorType>(op->getResult(0).getType()).getShape().back());
    return true;
  }
  if (auto extend = dyn_cast<qn::ExtendOp>(op)) {
    if (!get(extend.getRows()) || !copy(extend.getPast()))
      return false;
    names.unify(dim(extend.getPast(), 0), dim(extend.getRows(), 0));
    Dim added = dim(extend.getRows(), 1);
    Dims &dims = shapes[op->getResult(0)];
    dims[2] = dims[2] + added;
    return true;
  }
  if (isa<qn::NormOp, qn::RotaryOp, tensor::CastOp>(op))
    return copy(op->getOperand(0));
  // Anything of static shape.
  for (Value result : op->getResults()) {
    auto type = dyn_cast<RankedTensorType>(result.getType());
    if (!type || !type.hasStaticShape())
      continue;
    set(result, Dims(type.getShape().begin(), type.getShape().end()));
  }
  return true;
}

bool Shapes::transferContrib(Operation *op, StringRef kind) {
  kind.consume_front("com.microsoft.");
  const Dims &first = *get(op->getOperand(0));
  if (kind == "MatMulNBits" || kind == "MatMulBnb4") {
    Dims dims = first;
    if (dims.empty())
      return fail("its input is a scalar");
    dims.back() = Dim(getInt(op, "N", 0));
    set(op->getResult(0), dims);
    return true;
  }
  if (kind == "SkipSimplifiedLayerNormalization" ||
      kind == "SkipLayerNormalization") {
    auto dims = broadcast({op->getOperand(0), op->getOperand(1)});
    if (!dims)
      return false;
    for (unsigned i : {0u, 3u})
      if (i < op->getNumResults())
        set(op->getResult(i), *dims);
    return true;
  }
  if (kind == "GroupQueryAttention") {
    int64_t heads = getInt(op, "num_heads", 0);
    int64_t kvHeads = getInt(op, "kv_num_heads", 0);
    Value past = getOperand(op, 3);
    if (first.size() != 3 || heads <= 0 || kvHeads <= 0)
      return fail("its query is not [batch, sequence, width]");
    Dims dims = first;
    if (!getOperand(op, 1)) {
      auto size = names.divide(first[2], Dim(heads + 2 * kvHeads));
      if (!size)
        return fail("its packed width does not fit its heads");
      dims[2] = *size * Dim(heads);
    }
    set(op->getResult(0), dims);
    auto size = names.divide(dims[2], Dim(heads));
    if (!size)
      return fail("its width does not fit its heads");
    Dim before = past ? dim(past, 2) : Dim(0);
    Dims present = {dims[0], Dim(kvHeads), before + dims[1], *size};
    for (unsigned i = 1; i < op->getNumResults() && i < 3; ++i)
      set(op->getResult(i), present);
    if (past)
      if (auto total = ints(op->getOperand(6)); total && total->size() == 1)
        names.unify(total->front(), before + dims[1]);
    return true;
  }
  if (kind == "MultiHeadAttention") {
    Value value = getOperand(op, 2);
    if (first.size() != 3 || !value || rank(value) != 3)
      return fail("only query, key and value of rank 3 are supported");
    Dims dims = first;
    dims[2] = dim(value, 2);
    set(op->getResult(0), dims);
    return true;
  }
  if (kind == "FusedMatMul")
    return fail("it is not supported");
  return fail("it is not supported");
}

bool Shapes::matmul(Operation *op) {
  const Dims &a = *get(op->getOperand(0)), &b = *get(op->getOperand(1));
  if (a.size() < 2 || b.size() < 2)
    return fail("products with vectors are not supported");
  names.unify(a.back(), b[b.size() - 2]);
  Dims dims, batchA(a.begin(), a.end() - 2), batchB(b.begin(), b.end() - 2);
  while (batchA.size() < batchB.size())
    batchA.insert(batchA.begin(), Dim(1));
  while (batchB.size() < batchA.size())
    batchB.insert(batchB.begin(), Dim(1));
  for (auto [x, y] : llvm::zip(batchA, batchB)) {
    auto both = broadcast(x, y);
    if (!both)
      return false;
    dims.push_back(*both);
  }
  dims.push_back(a[a.size() - 2]);
  dims.push_back(b.back());
  set(op->getResult(0), dims);
  return true;
}

bool Shapes::transferShape(Operation *op, StringRef kind) {
  Value result = op->getNumResults() ? op->getResult(0) : Value();
  auto rankOf = [&](unsigned i) { return int64_t(rank(op->getOperand(i))); };
  if (kind == "MatMul")
    return matmul(op);
  if (kind == "Gemm") {
    if (rankOf(0) != 2 || rankOf(1) != 2)
      return fail("its factors are not matrices");
    set(result, {dim(op->getOperand(0), getInt(op, "transA", 0) ? 1 : 0),
                 dim(op->getOperand(1), getInt(op, "transB", 0) ? 0 : 1)});
    return true;
  }
  if (kind.starts_with("Reduce") || kind == "ArgMax" || kind == "ArgMin") {
    int64_t rank = rankOf(0);
    bool given = false;
    std::optional<SmallVector<int64_t>> list;
    if (kind.starts_with("Arg")) {
      int64_t axis = getInt(op, "axis", 0);
      axis = axis < 0 ? axis + rank : axis;
      if (axis < 0 || axis >= rank)
        return fail("its axis is out of range");
      list = {axis};
      given = true;
    } else {
      list = axes(op, 1, rank, &given);
    }
    if (!list)
      return fail("its axes are not constants of the right range");
    bool all = !given && !getInt(op, "noop_with_empty_axes", 0);
    bool keep = getInt(op, "keepdims", 1);
    Dims dims;
    for (int64_t i = 0; i < rank; ++i) {
      if (!all && !llvm::is_contained(*list, i))
        dims.push_back(dim(op->getOperand(0), i));
      else if (keep)
        dims.push_back(Dim(1));
    }
    set(result, dims);
    transferInts(op, kind);
    return true;
  }
  if (kind == "Shape") {
    int64_t rank = rankOf(0), start = getInt(op, "start", 0);
    int64_t end = getInt(op, "end", rank);
    start = std::clamp<int64_t>(start < 0 ? start + rank : start, 0, rank);
    end = std::clamp<int64_t>(end < 0 ? end + rank : end, start, rank);
    set(result, {Dim(end - start)});
    Dims sizes;
    for (int64_t i = start; i < end; ++i)
      sizes.push_back(dim(op->getOperand(0), i));
    values[result] = sizes;
    return true;
  }
  if (kind == "Size") {
    Dim product(1);
    for (const Dim &dim : *get(op->getOperand(0)))
      product = product * dim;
    set(result, {});
    values[result] = {product};
    return true;
  }
  if (kind == "Range") {
    auto start = ints(op->getOperand(0)), limit = ints(op->getOperand(1));
    auto step = constants(op->getOperand(2));
    if (!start || !limit || !step || start->size() != 1 || limit->size() != 1 ||
        step->size() != 1 || step->front() == 0)
      return fail("its bounds depend on data");
    Dim span = step->front() > 0 ? limit->front() - start->front()
                                 : start->front() - limit->front();
    int64_t by = std::abs(step->front());
    Dim count = by == 1 ? span : names.floorDiv(span + Dim(by - 1), by);
    if (auto constant = count.constant(); constant && *constant < 0)
      count = Dim(0);
    set(result, {count});
    return true;
  }
  if (kind == "ConstantOfShape" || kind == "Expand" || kind == "Tile") {
    unsigned at = kind == "ConstantOfShape" ? 0 : 1;
    auto target = ints(op->getOperand(at));
    if (!target)
      return fail("its target shape depends on data");
    if (kind == "ConstantOfShape") {
      set(result, *target);
      auto fill = op->getAttrOfType<DenseElementsAttr>("value");
      Dim total(1);
      for (const Dim &dim : *target)
        total = total * dim;
      if (auto count = total.constant(); fill && count && *count <= 64 &&
                                         *count >= 0 &&
                                         fill.getElementType().isInteger())
        values[result] =
            Dims(*count, Dim((*fill.value_begin<APInt>()).getSExtValue()));
      return true;
    }
    Dims dims = *get(op->getOperand(0));
    if (kind == "Tile") {
      if (target->size() != dims.size())
        return fail("it does not have one repeat for each dimension");
      for (auto [dim, by] : llvm::zip(dims, *target))
        dim = dim * by;
      set(result, dims);
      return true;
    }
    while (dims.size() < target->size())
      dims.insert(dims.begin(), Dim(1));
    size_t skip = dims.size() - target->size();
    for (auto [i, want] : llvm::enumerate(*target)) {
      auto both = broadcast(dims[skip + i], want);
      if (!both)
        return false;
      dims[skip + i] = *both;
    }
    set(result, dims);
    transferInts(op, kind);
    return true;
  }
  return false;
}
