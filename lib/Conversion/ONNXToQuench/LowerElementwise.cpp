//===- LowerElementwise.cpp - Ops on single elements ------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

namespace {
/// Scalar arithmetic at one place.
struct Scalars {
  OpBuilder &b;
  Location loc;

  Value number(Type type, double value) {
    if (isa<FloatType>(type))
      return arith::ConstantOp::create(b, loc, b.getFloatAttr(type, value));
    return arith::ConstantOp::create(b, loc,
                                     b.getIntegerAttr(type, int64_t(value)));
  }
  Value add(Value x, Value y) { return arith::AddFOp::create(b, loc, x, y); }
  Value sub(Value x, Value y) { return arith::SubFOp::create(b, loc, x, y); }
  Value mul(Value x, Value y) { return arith::MulFOp::create(b, loc, x, y); }
  Value div(Value x, Value y) { return arith::DivFOp::create(b, loc, x, y); }
  Value max(Value x, Value y) {
    if (isa<FloatType>(x.getType()))
      return arith::MaximumFOp::create(b, loc, x, y);
    return arith::MaxSIOp::create(b, loc, x, y);
  }
  Value min(Value x, Value y) {
    if (isa<FloatType>(x.getType()))
      return arith::MinimumFOp::create(b, loc, x, y);
    return arith::MinSIOp::create(b, loc, x, y);
  }
  Value sigmoid(Value x) {
    Value one = number(x.getType(), 1);
    Value e = math::ExpOp::create(b, loc, arith::NegFOp::create(b, loc, x));
    return div(one, add(one, e));
  }
  Value gelu(Value x) { // x / 2 * (1 + erf(x / sqrt 2))
    Type t = x.getType();
    Value erf =
        math::ErfOp::create(b, loc, mul(x, number(t, 0.70710678118654752440)));
    return mul(mul(x, number(t, 0.5)), add(erf, number(t, 1)));
  }
  Value geluTanh(Value x) {
    Type t = x.getType();
    Value cube = mul(mul(x, x), x);
    Value inner = mul(add(x, mul(cube, number(t, 0.044715))),
                      number(t, 0.79788456080286535588));
    Value tanh = math::TanhOp::create(b, loc, inner);
    return mul(mul(x, number(t, 0.5)), add(tanh, number(t, 1)));
  }
};
} // namespace

namespace {
/// Functions of floats that are one op.
struct UnaryOp {
  llvm::StringLiteral kind;
  Value (*create)(OpBuilder &, Location, Value);
};
} // namespace

template <typename Op> static Value one(OpBuilder &b, Location loc, Value x) {
  return Op::create(b, loc, x);
}

static constexpr UnaryOp kUnaryOps[] = {
    {"Sqrt", one<math::SqrtOp>},   {"Exp", one<math::ExpOp>},
    {"Log", one<math::LogOp>},     {"Erf", one<math::ErfOp>},
    {"Tanh", one<math::TanhOp>},   {"Neg", one<arith::NegFOp>},
    {"Abs", one<math::AbsFOp>},    {"Round", one<math::RoundEvenOp>},
    {"Floor", one<math::FloorOp>}, {"Ceil", one<math::CeilOp>},
    {"Sin", one<math::SinOp>},     {"Cos", one<math::CosOp>}};

LogicalResult Lowering::unary(Operation *op) {
  Value input = op->getOperand(0);
  Type type = elementOf(input);
  StringRef kind = kindOf(op);
  bool isFloat = isa<FloatType>(type);
  if (!isFloat && kind != "Neg" && kind != "Abs" && kind != "Relu")
    return fail("only floats are supported");
  return elementwise(
      op, {input}, type,
      [&](OpBuilder &b, Location loc, ValueRange args) -> Value {
        Scalars s{b, loc};
        Value x = args[0];
        if (!isFloat) {
          Value zero = s.number(type, 0);
          Value negative = arith::SubIOp::create(b, loc, zero, x);
          return kind == "Neg"   ? negative
                 : kind == "Abs" ? s.max(x, negative)
                                 : s.max(x, zero);
        }
        for (const UnaryOp &simple : kUnaryOps)
          if (kind == simple.kind)
            return simple.create(b, loc, x);
        if (kind == "Sigmoid")
          return s.sigmoid(x);
        if (kind == "Relu")
          return s.max(x, s.number(type, 0));
        if (kind == "Reciprocal")
          return s.div(s.number(type, 1), x);
        if (kind == "Softplus")
          return math::LogOp::create(
              b, loc, s.add(math::ExpOp::create(b, loc, x), s.number(type, 1)));
        if (kind == "Softsign")
          return s.div(
              x, s.add(s.number(type, 1), math::AbsFOp::create(b, loc, x)));
        if (kind == "LeakyRelu" || kind == "Elu" || kind == "Sign") {
          Value zero = s.number(type, 0);
          Value above =
              arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, x, zero);
          if (kind == "Sign") {
            Value below = arith::CmpFOp::create(
                b, loc, arith::CmpFPredicate::OLT, x, zero);
            Value rest = arith::SelectOp::create(b, loc, below,
                                                 s.number(type, -1), zero);
            return arith::SelectOp::create(b, loc, above, s.number(type, 1),
                                           rest);
          }
          Value alpha =
              s.number(type, getFloat(op, "alpha", kind == "Elu" ? 1.0 : 0.01));
          Value other = s.mul(alpha, x);
          if (kind == "Elu")
            other = s.mul(alpha, s.sub(math::ExpOp::create(b, loc, x),
                                       s.number(type, 1)));
          return arith::SelectOp::create(b, loc, above, x, other);
        }
        if (kind == "com.microsoft.QuickGelu")
          return s.mul(
              x, s.sigmoid(
                     s.mul(x, s.number(type, getFloat(op, "alpha", 1.702)))));
        // HardSigmoid and HardSwish
        bool swish = kind == "HardSwish";
        double alpha = swish ? 1.0 / 6 : getFloat(op, "alpha", 0.2);
        double beta = swish ? 0.5 : getFloat(op, "beta", 0.5);
        Value line =
            s.add(s.mul(x, s.number(type, alpha)), s.number(type, beta));
        Value hard = s.max(s.number(type, 0), s.min(s.number(type, 1), line));
        return swish ? s.mul(x, hard) : hard;
      });
}

LogicalResult Lowering::gelu(Operation *op) {
  StringRef kind = kindOf(op);
  SmallVector<Value> operands = {op->getOperand(0)};
  if (Value bias = getOperand(op, 1))
    operands.push_back(bias);
  Type type = elementOf(operands[0]);
  auto approximate = op->getAttrOfType<StringAttr>("approximate");
  bool tanh = kind == "com.microsoft.FastGelu" ||
              (approximate && approximate.getValue() == "tanh");
  if (!isa<FloatType>(type))
    return fail("only floats are supported");
  return elementwise(op, operands, type,
                     [&](OpBuilder &b, Location loc, ValueRange args) {
                       Scalars s{b, loc};
                       Value x = args[0];
                       if (args.size() > 1)
                         x = s.add(x, args[1]);
                       return tanh ? s.geluTanh(x) : s.gelu(x);
                     });
}

LogicalResult Lowering::binary(Operation *op) {
  Value left = op->getOperand(0), right = op->getOperand(1);
  Type type = elementOf(left);
  StringRef kind = kindOf(op);
  bool isFloat = isa<FloatType>(type);
  if (kind == "Pow") {
    // Small constant exponents need no power function.
    auto exponent = shapes.scalar(right);
    bool isSimple = isFloat && exponent &&
                    (*exponent == 2 || *exponent == 3 || *exponent == 0.5 ||
                     *exponent == 1);
    if (isSimple)
      return elementwise(op, {left}, type,
                         [&](OpBuilder &b, Location loc, ValueRange args) {
                           Scalars s{b, loc};
                           Value x = args[0];
                           if (*exponent == 0.5)
                             return Value(math::SqrtOp::create(b, loc, x));
                           if (*exponent == 1)
                             return x;
                           Value square = s.mul(x, x);
                           return *exponent == 2 ? square : s.mul(square, x);
                         });
    if (!isFloat || elementOf(right) != type)
      return fail("only powers of floats are supported");
  } else if (elementOf(right) != type) {
    return fail("its operands have different types");
  }
  if ((kind == "PRelu" && !isFloat) ||
      (kind == "Mod" && isFloat && !getInt(op, "fmod", 0)))
    return fail("this type is not supported");
  return elementwise(
      op, {left, right}, type,
      [&](OpBuilder &b, Location loc, ValueRange args) -> Value {
        Scalars s{b, loc};
        Value x = args[0], y = args[1];
        if (isFloat) {
          if (kind == "Add")
            return s.add(x, y);
          if (kind == "Sub")
            return s.sub(x, y);
          if (kind == "Mul")
            return s.mul(x, y);
          if (kind == "Div")
            return s.div(x, y);
          if (kind == "Pow")
            return math::PowFOp::create(b, loc, x, y);
          if (kind == "Mod")
            return arith::RemFOp::create(b, loc, x, y);
          Value negative = arith::CmpFOp::create(
              b, loc, arith::CmpFPredicate::OLT, x, s.number(type, 0));
          return arith::SelectOp::create(b, loc, negative, s.mul(x, y), x);
        }
        if (kind == "Add")
          return arith::AddIOp::create(b, loc, x, y);
        if (kind == "Sub")
          return arith::SubIOp::create(b, loc, x, y);
        if (kind == "Mul")
          return arith::MulIOp::create(b, loc, x, y);
        // Division by zero gives zero, so that no input can stop the program.
        Value zero = s.number(type, 0), one = s.number(type, 1);
        Value isZero =
            arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, y, zero);
        Value safe = arith::SelectOp::create(b, loc, isZero, one, y);
        if (kind == "Div") {
          Value quotient = arith::DivSIOp::create(b, loc, x, safe);
          return arith::SelectOp::create(b, loc, isZero, zero, quotient);
        }
        Value rest = arith::RemSIOp::create(b, loc, x, safe);
        if (getInt(op, "fmod", 0))
          return rest;
        // The remainder has the divisor's sign.
        Value mixed = arith::CmpIOp::create(
            b, loc, arith::CmpIPredicate::slt,
            arith::XOrIOp::create(b, loc, rest, safe), zero);
        Value nonZero =
            arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, rest, zero);
        Value fix = arith::AndIOp::create(b, loc, mixed, nonZero);
        return arith::SelectOp::create(
            b, loc, fix, arith::AddIOp::create(b, loc, rest, safe), rest);
      });
}

LogicalResult Lowering::comparison(Operation *op) {
  Value left = op->getOperand(0), right = op->getOperand(1);
  StringRef kind = kindOf(op);
  bool isFloat = isa<FloatType>(elementOf(left));
  if (elementOf(left) != elementOf(right))
    return fail("its operands have different types");
  auto floats = llvm::StringSwitch<arith::CmpFPredicate>(kind)
                    .Case("Equal", arith::CmpFPredicate::OEQ)
                    .Case("Less", arith::CmpFPredicate::OLT)
                    .Case("LessOrEqual", arith::CmpFPredicate::OLE)
                    .Case("Greater", arith::CmpFPredicate::OGT)
                    .Default(arith::CmpFPredicate::OGE);
  auto integers = llvm::StringSwitch<arith::CmpIPredicate>(kind)
                      .Case("Equal", arith::CmpIPredicate::eq)
                      .Case("Less", arith::CmpIPredicate::slt)
                      .Case("LessOrEqual", arith::CmpIPredicate::sle)
                      .Case("Greater", arith::CmpIPredicate::sgt)
                      .Default(arith::CmpIPredicate::sge);
  return elementwise(
      op, {left, right}, builder.getI1Type(),
      [&](OpBuilder &b, Location loc, ValueRange args) -> Value {
        if (isFloat)
          return arith::CmpFOp::create(b, loc, floats, args[0], args[1]);
        return arith::CmpIOp::create(b, loc, integers, args[0], args[1]);
      });
}

LogicalResult Lowering::logical(Operation *op) {
  StringRef kind = kindOf(op);
  SmallVector<Value> operands(op->getOperands());
  return elementwise(op, operands, builder.getI1Type(),
                     [&](OpBuilder &b, Location loc, ValueRange args) -> Value {
                       if (kind == "And")
                         return arith::AndIOp::create(b, loc, args[0], args[1]);
                       if (kind == "Or")
                         return arith::OrIOp::create(b, loc, args[0], args[1]);
                       if (kind == "Xor")
                         return arith::XOrIOp::create(b, loc, args[0], args[1]);
                       Value one = arith::ConstantIntOp::create(b, loc, 1, 1);
                       return arith::XOrIOp::create(b, loc, args[0], one);
                     });
}

LogicalResult Lowering::variadic(Operation *op) {
  StringRef kind = kindOf(op);
  SmallVector<Value> operands(op->getOperands());
  Type type = elementOf(operands[0]);
  bool isFloat = isa<FloatType>(type);
  for (Value operand : operands)
    if (elementOf(operand) != type)
      return fail("its operands have different types");
  if (!isFloat && (kind == "Sum" || kind == "Mean"))
    return fail("only floats are supported");
  return elementwise(op, operands, type,
                     [&](OpBuilder &b, Location loc, ValueRange args) {
                       Scalars s{b, loc};
                       Value x = args[0];
                       for (Value y : args.drop_front())
                         x = kind == "Min"   ? s.min(x, y)
                             : kind == "Max" ? s.max(x, y)
                                             : s.add(x, y);
                       if (kind == "Mean")
                         x = s.div(x, s.number(type, double(args.size())));
                       return x;
                     });
}

LogicalResult Lowering::where(Operation *op) {
  Value yes = op->getOperand(1), no = op->getOperand(2);
  if (elementOf(yes) != elementOf(no))
    return fail("its operands have different types");
  return elementwise(op, {op->getOperand(0), yes, no}, elementOf(yes),
                     [&](OpBuilder &b, Location loc, ValueRange args) -> Value {
                       return arith::SelectOp::create(b, loc, args[0], args[1],
                                                      args[2]);
                     });
}

/// A number in another type, as ONNX's Cast defines it.
static Value castScalar(OpBuilder &b, Location loc, Value x, Type to) {
  Type from = x.getType();
  if (from == to)
    return x;
  Scalars s{b, loc};
  auto fromFloat = dyn_cast<FloatType>(from), toFloat = dyn_cast<FloatType>(to);
  if (to.isInteger(1)) {
    Value zero = s.number(from, 0);
    if (fromFloat)
      return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNE, x, zero);
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, x, zero);
  }
  if (fromFloat && toFloat) {
    if (fromFloat.getWidth() == toFloat.getWidth()) { // f16 and bf16
      Value wide = arith::ExtFOp::create(b, loc, b.getF32Type(), x);
      return arith::TruncFOp::create(b, loc, to, wide);
    }
    if (fromFloat.getWidth() < toFloat.getWidth())
      return arith::ExtFOp::create(b, loc, to, x);
    return arith::TruncFOp::create(b, loc, to, x);
  }
  if (fromFloat)
    return arith::FPToSIOp::create(b, loc, to, x);
  if (toFloat) {
    if (from.isInteger(1))
      return arith::UIToFPOp::create(b, loc, to, x);
    return arith::SIToFPOp::create(b, loc, to, x);
  }
  if (from.getIntOrFloatBitWidth() > to.getIntOrFloatBitWidth())
    return arith::TruncIOp::create(b, loc, to, x);
  if (from.isInteger(1))
    return arith::ExtUIOp::create(b, loc, to, x);
  return arith::ExtSIOp::create(b, loc, to, x);
}

LogicalResult Lowering::cast(Operation *op) {
  Type to = elementOf(op->getResult(0)), from = elementOf(op->getOperand(0));
  if (from == to)
    return forward(op);
  return elementwise(op, {op->getOperand(0)}, to,
                     [&](OpBuilder &b, Location loc, ValueRange args) {
                       return castScalar(b, loc, args[0], to);
                     });
}

LogicalResult Lowering::clip(Operation *op) {
  Value input = op->getOperand(0);
  Type type = elementOf(input);
  SmallVector<Value> operands = {input};
  Value low = getOperand(op, 1), high = getOperand(op, 2);
  for (Value bound : {low, high})
    if (bound)
      operands.push_back(bound);
  bool hasMin = op->hasAttr("min"), hasMax = op->hasAttr("max");
  return elementwise(op, operands, type,
                     [&](OpBuilder &b, Location loc, ValueRange args) {
                       Scalars s{b, loc};
                       Value x = args[0];
                       if (low)
                         x = s.max(x, args[1]);
                       if (high)
                         x = s.min(x, args.back());
                       if (hasMin)
                         x = s.max(x, s.number(type, getFloat(op, "min", 0)));
                       if (hasMax)
                         x = s.min(x, s.number(type, getFloat(op, "max", 0)));
                       return x;
                     });
}

/// Where scale and zero point of a (de)quantized tensor go: one for all, or one
/// for each index of `axis`.
static std::optional<AffineMap> quantizationMap(Builder &b, int64_t rank,
                                                int64_t scaleRank, bool single,
                                                int64_t axis) {
  if (single) {
    SmallVector<AffineExpr> zeros(scaleRank, b.getAffineConstantExpr(0));
    return AffineMap::get(rank, 0, zeros, b.getContext());
  }
  if (scaleRank != 1 || axis < 0 || axis >= rank)
    return std::nullopt;
  return AffineMap::get(rank, 0, b.getAffineDimExpr(axis));
}

/// Tensor, scale and perhaps zero point of a (de)quantizing node, and how they
/// are read. Failure: another form; it was reported.
LogicalResult Lowering::quantizedOperands(Operation *op,
                                          SmallVectorImpl<Value> &inputs,
                                          SmallVectorImpl<AffineMap> &maps) {
  Value scale = op->getOperand(1), zero = getOperand(op, 2);
  int64_t rank = dimsOf(op->getOperand(0)).size();
  int64_t axis = getInt(op, "axis", 1);
  axis = axis < 0 ? axis + rank : axis;
  bool single =
      llvm::all_of(dimsOf(scale), [](const Dim &d) { return d.isConstant(1); });
  auto map = quantizationMap(builder, rank, shapes.rank(scale), single, axis);
  if (getInt(op, "block_size", 0) || !map)
    return fail("only one scale per tensor or axis is supported");
  inputs.assign({tensor(op->getOperand(0)), tensor(scale)});
  maps.assign({builder.getMultiDimIdentityMap(rank), *map});
  if (zero) {
    inputs.push_back(tensor(zero));
    auto zeroMap =
        quantizationMap(builder, rank, shapes.rank(zero), single, axis);
    if (!zeroMap)
      return fail("its zero points do not have the form of its scales");
    maps.push_back(*zeroMap);
  }
  return success(llvm::all_of(inputs, [](Value v) { return bool(v); }));
}

LogicalResult Lowering::dequantize(Operation *op) {
  Type type = elementOf(op->getResult(0)), from = elementOf(op->getOperand(0));
  if (!from.isSignlessInteger() || from.getIntOrFloatBitWidth() < 8 ||
      !isa<FloatType>(type))
    return fail("only signed codes of at least 8 bits are supported");
  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  if (mlir::failed(quantizedOperands(op, inputs, maps)))
    return failure();
  set(op->getResult(0),
      parallel(dimsOf(op->getOperand(0)), type, inputs, maps,
               [&](OpBuilder &b, Location loc, ValueRange args) {
                 Scalars s{b, loc};
                 Type wide = b.getI32Type();
                 Value code = castScalar(b, loc, args[0], wide);
                 if (args.size() > 2)
                   code = arith::SubIOp::create(
                       b, loc, code, castScalar(b, loc, args[2], wide));
                 return s.mul(castScalar(b, loc, code, type),
                              castScalar(b, loc, args[1], type));
               }));
  return success();
}

LogicalResult Lowering::quantize(Operation *op) {
  Type type = elementOf(op->getResult(0)), from = elementOf(op->getOperand(0));
  if (!type.isSignlessInteger(8) || !isa<FloatType>(from))
    return fail("only int8 codes are supported");
  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  if (mlir::failed(quantizedOperands(op, inputs, maps)))
    return failure();
  set(op->getResult(0),
      parallel(dimsOf(op->getOperand(0)), type, inputs, maps,
               [&](OpBuilder &b, Location loc, ValueRange args) -> Value {
                 Scalars s{b, loc};
                 Value x = s.div(args[0], castScalar(b, loc, args[1], from));
                 x = math::RoundEvenOp::create(b, loc, x);
                 if (args.size() > 2)
                   x = s.add(x, castScalar(b, loc, args[2], from));
                 x = s.max(s.min(x, s.number(from, 127)), s.number(from, -128));
                 return castScalar(b, loc, x, type);
               }));
  return success();
}
