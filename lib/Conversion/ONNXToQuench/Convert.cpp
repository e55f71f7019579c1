//===- Convert.cpp - The pass convert-onnx-to-quench ------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "quench/Conversion/ONNXToQuench/ONNXToQuench.h"
#include "quench/Dialect/ONNX/IR/ONNX.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

namespace quench {
#define GEN_PASS_DEF_CONVERTONNXTOQUENCH
#include "quench/Conversion/ONNXToQuench/Passes.h.inc"
} // namespace quench

//===----------------------------------------------------------------------===//
// What handlers use
//===----------------------------------------------------------------------===//

Lowering::Lowering(func::FuncOp function, Constants &constants,
                   DimContext &names)
    : function(function), pool(constants), names(names),
      shapes(function, constants, names), builder(function.getContext()),
      loc(function.getLoc()) {}

Dims Lowering::dimsOf(Value value) const {
  Dims out;
  if (const Dims *dims = shapes.get(value))
    for (const Dim &dim : *dims)
      out.push_back(names.resolve(dim));
  return out;
}

Type Lowering::elementOf(Value value) const {
  return ::cast<ShapedType>(value.getType()).getElementType();
}

Value Lowering::index(const Dim &dim) {
  return names.materialize(&function.getBody().front(), dim);
}

OpFoldResult Lowering::size(const Dim &dim) {
  if (auto constant = names.resolve(dim).constant())
    return builder.getIndexAttr(*constant);
  return index(dim);
}

SmallVector<OpFoldResult> Lowering::sizes(ArrayRef<Dim> dims) {
  return llvm::map_to_vector(dims, [&](const Dim &dim) { return size(dim); });
}

Value Lowering::empty(ArrayRef<Dim> dims, Type element) {
  return tensor::EmptyOp::create(builder, loc, sizes(dims), element);
}

Value Lowering::filled(ArrayRef<Dim> dims, TypedAttr number) {
  Value start = arith::ConstantOp::create(builder, loc, number);
  Value init = empty(dims, number.getType());
  return linalg::FillOp::create(builder, loc, start, init).getResult(0);
}

/// Elements of a small integer tensor as a tensor, at the beginning.
Value Lowering::sizesTensor(Value value, const Dims &elements) {
  for (const Dim &element : elements)
    index(element);
  OpBuilder b = names.behindValues(&function.getBody().front());
  Type type = elementOf(value);
  SmallVector<Value> scalars;
  for (const Dim &element : elements) {
    Value at = index(element);
    if (type.isInteger(1)) {
      Value zero = arith::ConstantIndexOp::create(b, loc, 0);
      scalars.push_back(
          arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, at, zero));
    } else {
      scalars.push_back(arith::IndexCastOp::create(b, loc, type, at));
    }
  }
  RankedTensorType tensorType = shapes.typeOf(dimsOf(value), type);
  return tensor::FromElementsOp::create(b, loc, tensorType, scalars);
}

Value Lowering::tensor(Value value) {
  if (Value known = converted.lookup(value))
    return known;
  if (!shapes.get(value))
    return {};
  Operation *op = value.getDefiningOp();
  bool isNode = op && !kindOf(op).empty();
  if (isNode && kindOf(op) != "Constant") {
    auto elements = shapes.ints(value);
    if (!elements)
      return {};
    Value made = sizesTensor(value, *elements);
    converted[value] = made;
    return made;
  }
  if (isNode) {
    ElementsAttr elements = getConstantValue(op);
    auto attr = dyn_cast_or_null<TypedAttr>(elements);
    if (!attr)
      return {};
    OpBuilder b(op);
    Value made = arith::ConstantOp::create(b, op->getLoc(), attr);
    converted[value] = made;
    return made;
  }
  // An argument or another dialect's value: its type may say less than we know.
  RankedTensorType type = shapes.typeOf(dimsOf(value), elementOf(value));
  if (type == value.getType())
    return value;
  OpBuilder b = builder;
  b.setInsertionPointAfterValue(value);
  return tensor::CastOp::create(b, loc, type, value);
}

AffineMap Lowering::broadcastMap(ArrayRef<Dim> from, ArrayRef<Dim> to) {
  SmallVector<AffineExpr> exprs;
  size_t skip = to.size() - from.size();
  for (size_t i = 0; i < from.size(); ++i) {
    bool repeats = names.resolve(from[i]).isConstant(1) &&
                   !names.resolve(to[skip + i]).isConstant(1);
    exprs.push_back(repeats ? builder.getAffineConstantExpr(0)
                            : builder.getAffineDimExpr(skip + i));
  }
  return AffineMap::get(to.size(), 0, exprs, builder.getContext());
}

Value Lowering::parallel(ArrayRef<Dim> dims, Type element,
                         ArrayRef<Value> inputs, ArrayRef<AffineMap> maps,
                         Body body) {
  Value init = empty(dims, element);
  SmallVector<AffineMap> all(maps);
  all.push_back(builder.getMultiDimIdentityMap(dims.size()));
  SmallVector<utils::IteratorType> loops(dims.size(),
                                         utils::IteratorType::parallel);
  return linalg::GenericOp::create(
             builder, loc, init.getType(), inputs, init, all, loops,
             [&](OpBuilder &b, Location loc, ValueRange args) {
               linalg::YieldOp::create(b, loc, body(b, loc, args.drop_back()));
             })
      .getResult(0);
}

Value Lowering::scalar(Value value) {
  Type type = elementOf(value);
  if (auto number = shapes.scalar(value)) {
    TypedAttr attr;
    if (isa<FloatType>(type))
      attr = builder.getFloatAttr(type, *number);
    else if (auto integers = pool.integers(value, 64);
             integers && !integers->empty() && type.isSignlessInteger())
      attr = builder.getIntegerAttr(type, integers->front());
    if (attr)
      return arith::ConstantOp::create(builder, loc, attr);
  }
  auto elements = shapes.ints(value);
  if (!elements || elements->size() != 1 || !type.isSignlessInteger() ||
      type.isInteger(1))
    return {};
  return arith::IndexCastOp::create(builder, loc, type,
                                    index(elements->front()));
}

/// Types that are computed with.
static bool isSupported(Type type) {
  return type.isF16() || type.isBF16() || type.isF32() || type.isF64() ||
         type.isSignlessInteger(1) || type.isSignlessInteger(8) ||
         type.isSignlessInteger(16) || type.isSignlessInteger(32) ||
         type.isSignlessInteger(64);
}

static std::string text(Type type) {
  std::string out;
  llvm::raw_string_ostream(out) << type;
  return out;
}

LogicalResult Lowering::elementwise(Operation *op, ArrayRef<Value> operands,
                                    Type element, Body body) {
  Dims dims = dimsOf(op->getResult(0));
  SmallVector<Value> inputs, scalars(operands.size());
  SmallVector<AffineMap> maps;
  for (auto [i, operand] : llvm::enumerate(operands)) {
    if (!isSupported(elementOf(operand)) || !isSupported(element))
      return fail("elements of type " + text(elementOf(operand)) +
                  " are not supported");
    if ((scalars[i] = scalar(operand)))
      continue;
    Value value = tensor(operand);
    if (!value)
      return failure();
    inputs.push_back(value);
    maps.push_back(broadcastMap(dimsOf(operand), dims));
  }
  set(op->getResult(0),
      parallel(dims, element, inputs, maps,
               [&](OpBuilder &b, Location loc, ValueRange args) {
                 SmallVector<Value> all;
                 for (Value value : scalars) {
                   if (value) {
                     all.push_back(value);
                     continue;
                   }
                   all.push_back(args.front());
                   args = args.drop_front();
                 }
                 return body(b, loc, all);
               }));
  return success();
}

Value Lowering::reduce(Value input, ArrayRef<Dim> dims, ArrayRef<int64_t> axes,
                       TypedAttr start, Body combine) {
  Dims kept;
  SmallVector<AffineExpr> exprs;
  SmallVector<utils::IteratorType> loops;
  for (size_t i = 0; i < dims.size(); ++i) {
    bool goes = llvm::is_contained(axes, int64_t(i));
    loops.push_back(goes ? utils::IteratorType::reduction
                         : utils::IteratorType::parallel);
    if (goes)
      continue;
    kept.push_back(dims[i]);
    exprs.push_back(builder.getAffineDimExpr(i));
  }
  Value init = filled(kept, start);
  SmallVector<AffineMap> maps = {
      builder.getMultiDimIdentityMap(dims.size()),
      AffineMap::get(dims.size(), 0, exprs, builder.getContext())};
  return linalg::GenericOp::create(
             builder, loc, init.getType(), input, init, maps, loops,
             [&](OpBuilder &b, Location loc, ValueRange args) {
               linalg::YieldOp::create(b, loc, combine(b, loc, args));
             })
      .getResult(0);
}

LogicalResult Lowering::forward(Operation *op) {
  Value value = tensor(op->getOperand(0));
  if (!value)
    return failure();
  set(op->getResult(0), value);
  return success();
}

LogicalResult Lowering::dropout(Operation *op) {
  if (Value mode = getOperand(op, 2)) {
    auto flag = shapes.constants(mode);
    if (!flag || flag->empty() || flag->front())
      return fail("training is not supported");
  }
  if (op->getNumResults() > 1 && !op->getResult(1).use_empty())
    return fail("its mask is not supported");
  return forward(op);
}

//===----------------------------------------------------------------------===//
// The walk
//===----------------------------------------------------------------------===//

const llvm::StringMap<Lowering::Handler> &Lowering::handlers() {
  static const llvm::StringMap<Handler> table = [] {
    llvm::StringMap<Handler> t;
    auto add = [&](Handler handler, std::initializer_list<const char *> kinds) {
      for (const char *kind : kinds)
        t[kind] = handler;
    };
    add(&Lowering::forward, {"Identity"});
    add(&Lowering::dropout, {"Dropout"});
    add(&Lowering::norm, {"LayerNormalization", "RMSNormalization",
                          "SimplifiedLayerNormalization"});
    add(&Lowering::unary, {"Sqrt",
                           "Exp",
                           "Log",
                           "Erf",
                           "Tanh",
                           "Sigmoid",
                           "Relu",
                           "Neg",
                           "Abs",
                           "Round",
                           "Floor",
                           "Ceil",
                           "Sin",
                           "Cos",
                           "Reciprocal",
                           "Softplus",
                           "LeakyRelu",
                           "HardSigmoid",
                           "HardSwish",
                           "Sign",
                           "Elu",
                           "Softsign",
                           "com.microsoft.QuickGelu"});
    add(&Lowering::gelu, {"Gelu", "com.microsoft.Gelu",
                          "com.microsoft.FastGelu", "com.microsoft.BiasGelu"});
    add(&Lowering::binary, {"Add", "Sub", "Mul", "Div", "Pow", "Mod", "PRelu"});
    add(&Lowering::comparison,
        {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"});
    add(&Lowering::logical, {"And", "Or", "Xor", "Not"});
    add(&Lowering::variadic, {"Min", "Max", "Sum", "Mean"});
    add(&Lowering::where, {"Where"});
    add(&Lowering::cast, {"Cast", "CastLike"});
    add(&Lowering::clip, {"Clip"});
    add(&Lowering::dequantize, {"DequantizeLinear"});
    add(&Lowering::quantize, {"QuantizeLinear"});
    add(&Lowering::reduction,
        {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd",
         "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"});
    add(&Lowering::argMax, {"ArgMax", "ArgMin"});
    add(&Lowering::softmax, {"Softmax", "LogSoftmax"});
    add(&Lowering::matmul, {"MatMul"});
    add(&Lowering::gemm, {"Gemm"});
    add(&Lowering::reshape, {"Reshape", "Squeeze", "Unsqueeze", "Flatten"});
    add(&Lowering::transpose, {"Transpose"});
    add(&Lowering::expand, {"Expand"});
    add(&Lowering::tile, {"Tile"});
    add(&Lowering::concat, {"Concat"});
    add(&Lowering::slice, {"Slice"});
    add(&Lowering::split, {"Split"});
    add(&Lowering::gather, {"Gather"});
    add(&Lowering::range, {"Range"});
    add(&Lowering::constantOfShape, {"ConstantOfShape"});
    add(&Lowering::constant, {"Constant"});
    add(&Lowering::trilu, {"Trilu"});
    return t;
  }();
  return table;
}

void Lowering::markNeeded() {
  SmallVector<Operation *> work = {function.getBody().front().getTerminator()};
  while (!work.empty()) {
    Operation *op = work.pop_back_val();
    if (!needed.insert(op).second)
      continue;
    auto visit = [&](Operation *user) {
      for (Value operand : user->getOperands()) {
        Operation *def = operand.getDefiningOp();
        // Sizes are made anew where they are used.
        if (def && def->getParentOp() == function.getOperation() &&
            (kindOf(def).empty() || !shapes.ints(operand)))
          work.push_back(def);
      }
    };
    op->walk(visit);
  }
}

/// Operators that are only supported where onnx-recognize raises them.
static std::string whyNot(StringRef kind) {
  return llvm::StringSwitch<StringRef>(kind)
      .Case("com.microsoft.MatMulNBits",
            "supported are constant codes, scales and zero points of the sizes "
            "that K, N, bits (2, 4, 8) and block_size ask for, without g_idx")
      .Case("com.microsoft.MatMulBnb4",
            "supported are constant codes and scales of the sizes that K, N "
            "and block_size ask for, K a multiple of block_size, quant_type 0 "
            "(FP4) or 1 (NF4)")
      .Case("com.microsoft.GroupQueryAttention",
            "supported are floats, with both past caches or none, constant "
            "rotary tables of angles position * frequency, no bias, no sinks")
      .Case("com.microsoft.MultiHeadAttention",
            "supported are query, key and value of rank 3 without a joint bias")
      .Case("com.microsoft.RotaryEmbedding",
            "supported are inputs of rank 3 with positions [batch, sequence] "
            "and constant tables of angles position * frequency")
      .Default("it is not supported")
      .str();
}

void Lowering::convert(Operation *op, std::vector<std::string> &problems) {
  StringRef kind = kindOf(op);
  bool onlySizes = llvm::all_of(op->getResults(), [&](Value v) {
    return v.use_empty() || shapes.ints(v).has_value();
  });
  if (kind == "NoValue" || onlySizes)
    return;
  builder.setInsertionPoint(op);
  loc = op->getLoc();
  reason = shapes.reason(op);
  bool broken = llvm::any_of(op->getResults(), [&](Value v) {
    return !v.use_empty() && !shapes.get(v);
  });
  if (!broken) {
    auto it = handlers().find(kind);
    if (it == handlers().end())
      reason = whyNot(kind);
    else if (succeeded((this->*it->second)(op)))
      return;
  }
  failed.insert(op);
  if (reason.empty()) {
    // Perhaps an operand could not be converted, which was said.
    for (Value operand : op->getOperands())
      if (operand.getDefiningOp() && failed.contains(operand.getDefiningOp()))
        return;
    reason = "it is not supported in this form";
  }
  std::string name = kind.str();
  if (kind.contains('.'))
    kind = kind.take_front(kind.rfind('.'));
  else
    kind = "ai.onnx";
  problems.push_back("node '" + nodeName(op) + "': " + name + " (" +
                     kind.str() + " opset " +
                     std::to_string(onnx::getOpset(op)) + "): " + reason);
}

void Lowering::finish() {
  Block &body = function.getBody().front();
  for (auto [old, with] : converted) {
    Operation *def = with.getDefiningOp();
    old.replaceUsesWithIf(with, [&](OpOperand &use) {
      // Nodes are erased; keep what was made from them.
      return use.getOwner() != def && kindOf(use.getOwner()).empty();
    });
  }
  SmallVector<Operation *> ops;
  for (Operation &op : body.without_terminator())
    ops.push_back(&op);
  for (Operation *op : llvm::reverse(ops)) {
    bool isUnused =
        !needed.contains(op) && op->use_empty() && isMemoryEffectFree(op);
    if (kindOf(op).empty() && !isUnused)
      continue;
    op->dropAllUses();
    op->erase();
  }
  function.setFunctionType(builder.getFunctionType(
      body.getArgumentTypes(),
      ValueRange(body.getTerminator()->getOperands()).getTypes()));
}

void Lowering::run(std::vector<std::string> &problems) {
  markNeeded();
  Block &body = function.getBody().front();
  SmallVector<Operation *> ops;
  for (Operation &op : body)
    ops.push_back(&op);
  for (Operation *op : ops) {
    if (!needed.contains(op))
      continue;
    if (!kindOf(op).empty()) {
      convert(op, problems);
      continue;
    }
    // Sizes that others read as tensors.
    loc = op->getLoc();
    for (Value operand : op->getOperands())
      if (operand.getDefiningOp() && !kindOf(operand.getDefiningOp()).empty() &&
          isa<RankedTensorType>(operand.getType()))
        tensor(operand);
  }
  if (!problems.empty())
    return;
  shapes.annotate();
  finish();
}

namespace {
struct Convert : public quench::impl::ConvertONNXToQuenchBase<Convert> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    Constants constants(module);
    std::vector<std::string> problems;
    for (auto function : module.getOps<func::FuncOp>()) {
      if (function.isExternal() || !function.getBody().hasOneBlock())
        continue;
      DimContext names;
      Lowering(function, constants, names).run(problems);
    }
    if (problems.empty())
      return;
    std::string text = std::to_string(problems.size()) +
                       (problems.size() == 1 ? " node" : " nodes") +
                       " of the model cannot be converted:";
    for (const std::string &problem : problems)
      text += "\n  " + problem;
    emitError(module.getLoc(), text); // without the module's text
    signalPassFailure();
  }
};
} // namespace
