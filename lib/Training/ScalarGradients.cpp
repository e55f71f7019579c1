//===- ScalarGradients.cpp - Reverse mode of scalar ops ---------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Adjoint.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "quench/Support/Try.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/TypeSwitch.h"
#include <cmath>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
/// Writes the rules of one op.
class Reverse {
public:
  Reverse(OpBuilder &builder, const IRMapping &mapping,
          const DenseSet<Value> &active, DenseMap<Value, Value> &adjoints)
      : b(builder), mapping(mapping), active(active), adjoints(adjoints) {}

  Error visit(Operation *op);

private:
  OpBuilder &b;
  const IRMapping &mapping;
  const DenseSet<Value> &active;
  DenseMap<Value, Value> &adjoints;
  Location loc = b.getUnknownLoc();

  Value now(Value value) { return mapping.lookupOrDefault(value); }
  Value number(Value like, double value) {
    return arith::ConstantOp::create(b, loc,
                                     b.getFloatAttr(like.getType(), value));
  }
  Value add(Value x, Value y) { return arith::AddFOp::create(b, loc, x, y); }
  Value sub(Value x, Value y) { return arith::SubFOp::create(b, loc, x, y); }
  Value mul(Value x, Value y) { return arith::MulFOp::create(b, loc, x, y); }
  Value div(Value x, Value y) { return arith::DivFOp::create(b, loc, x, y); }
  Value neg(Value x) { return arith::NegFOp::create(b, loc, x); }
  Value select(Value c, Value x, Value y) {
    return arith::SelectOp::create(b, loc, c, x, y);
  }
  Value compare(arith::CmpFPredicate predicate, Value x, Value y) {
    return arith::CmpFOp::create(b, loc, predicate, x, y);
  }
  /// g * slope, and 0 where g is 0 (the slope may be infinite there).
  Value times(Value g, Value slope) {
    Value zero = number(g, 0);
    return select(compare(arith::CmpFPredicate::OEQ, g, zero), zero,
                  mul(g, slope));
  }
  /// Adds to the gradient of an operand, if it is wanted.
  void give(Value operand, llvm::function_ref<Value()> gradient) {
    if (!active.contains(operand))
      return;
    Value more = gradient();
    Value &sum = adjoints[operand];
    sum = sum ? add(sum, more) : more;
  }
  bool binary(Operation *op, Value g);
  bool unary(Operation *op, Value g);
};
} // namespace

bool Reverse::binary(Operation *op, Value g) {
  if (op->getNumOperands() != 2)
    return false;
  Value a = op->getOperand(0), c = op->getOperand(1);
  Value x = now(a), y = now(c), r = now(op->getResult(0));
  auto extreme = [&](arith::CmpFPredicate predicate) {
    // Equal operands: all of it goes to the first.
    Value first = compare(predicate, x, y);
    give(a, [&] { return select(first, g, number(g, 0)); });
    give(c, [&] { return select(first, number(g, 0), g); });
    return true;
  };
  return llvm::TypeSwitch<Operation *, bool>(op)
      .Case<arith::AddFOp>([&](auto) {
        give(a, [&] { return g; });
        give(c, [&] { return g; });
        return true;
      })
      .Case<arith::SubFOp>([&](auto) {
        give(a, [&] { return g; });
        give(c, [&] { return neg(g); });
        return true;
      })
      .Case<arith::MulFOp>([&](auto) {
        give(a, [&] { return mul(g, y); });
        give(c, [&] { return mul(g, x); });
        return true;
      })
      .Case<arith::DivFOp>([&](auto) {
        give(a, [&] { return div(g, y); });
        give(c, [&] { return neg(div(mul(g, r), y)); });
        return true;
      })
      .Case<arith::MaximumFOp, arith::MaxNumFOp>(
          [&](auto) { return extreme(arith::CmpFPredicate::OGE); })
      .Case<arith::MinimumFOp, arith::MinNumFOp>(
          [&](auto) { return extreme(arith::CmpFPredicate::OLE); })
      .Case<math::PowFOp>([&](auto) {
        give(a, [&] {
          Value lower = sub(y, number(y, 1));
          return times(g, mul(y, math::PowFOp::create(b, loc, x, lower)));
        });
        give(c,
             [&] { return times(g, mul(r, math::LogOp::create(b, loc, x))); });
        return true;
      })
      .Default(false);
}

bool Reverse::unary(Operation *op, Value g) {
  if (op->getNumOperands() != 1)
    return false;
  Value a = op->getOperand(0);
  Value x = now(a), r = now(op->getResult(0));
  auto slope = [&](llvm::function_ref<Value()> value) {
    give(a, [&] { return times(g, value()); });
    return true;
  };
  constexpr double ln2 = 0.69314718055994530942;
  constexpr double twoOverRootPi = 1.12837916709551257390;
  return llvm::TypeSwitch<Operation *, bool>(op)
      .Case<arith::NegFOp>([&](auto) {
        give(a, [&] { return neg(g); });
        return true;
      })
      .Case<arith::ExtFOp, arith::TruncFOp>([&](auto) {
        bool wider = isa<arith::TruncFOp>(op);
        give(a, [&]() -> Value {
          if (wider)
            return arith::ExtFOp::create(b, loc, a.getType(), g);
          return arith::TruncFOp::create(b, loc, a.getType(), g);
        });
        return true;
      })
      .Case<math::ExpOp>([&](auto) { return slope([&] { return r; }); })
      .Case<math::ExpM1Op>(
          [&](auto) { return slope([&] { return add(r, number(r, 1)); }); })
      .Case<math::Exp2Op>(
          [&](auto) { return slope([&] { return mul(r, number(r, ln2)); }); })
      .Case<math::LogOp>(
          [&](auto) { return slope([&] { return div(number(x, 1), x); }); })
      .Case<math::Log2Op>([&](auto) {
        return slope([&] { return div(number(x, 1 / ln2), x); });
      })
      .Case<math::Log1pOp>([&](auto) {
        return slope([&] { return div(number(x, 1), add(x, number(x, 1))); });
      })
      .Case<math::TanhOp>([&](auto) {
        return slope([&] { return sub(number(r, 1), mul(r, r)); });
      })
      .Case<math::SqrtOp>(
          [&](auto) { return slope([&] { return div(number(r, 0.5), r); }); })
      .Case<math::RsqrtOp>([&](auto) {
        return slope([&] { return mul(number(r, -0.5), mul(r, mul(r, r))); });
      })
      .Case<math::ErfOp>([&](auto) {
        return slope([&] {
          Value bell = math::ExpOp::create(b, loc, neg(mul(x, x)));
          return mul(number(x, twoOverRootPi), bell);
        });
      })
      .Case<math::SinOp>([&](auto) {
        return slope([&]() -> Value { return math::CosOp::create(b, loc, x); });
      })
      .Case<math::CosOp>([&](auto) {
        return slope(
            [&]() -> Value { return neg(math::SinOp::create(b, loc, x)); });
      })
      .Case<math::AbsFOp>([&](auto) {
        give(a, [&] {
          Value below = compare(arith::CmpFPredicate::OLT, x, number(x, 0));
          return select(below, neg(g), g);
        });
        return true;
      })
      .Case<math::CeilOp, math::FloorOp, math::RoundOp, math::RoundEvenOp,
            math::TruncOp>([](auto) { return true; })
      .Default(false);
}

Error Reverse::visit(Operation *op) {
  if (op->getNumResults() != 1 || !active.contains(op->getResult(0)))
    return Error::success();
  Value g = adjoints.lookup(op->getResult(0));
  if (!g)
    return Error::success();
  if (auto choice = dyn_cast<arith::SelectOp>(op)) {
    Value c = now(choice.getCondition());
    give(choice.getTrueValue(), [&] { return select(c, g, number(g, 0)); });
    give(choice.getFalseValue(), [&] { return select(c, number(g, 0), g); });
    return Error::success();
  }
  if (auto fma = dyn_cast<math::FmaOp>(op)) {
    give(fma.getA(), [&] { return mul(g, now(fma.getB())); });
    give(fma.getB(), [&] { return mul(g, now(fma.getA())); });
    give(fma.getC(), [&] { return g; });
    return Error::success();
  }
  if (unary(op, g) || binary(op, g))
    return Error::success();
  return createStringError("no gradient for '" + op->getName().getStringRef() +
                           "'");
}

Error quench::reverseScalars(OpBuilder &builder, Block &block,
                             const IRMapping &mapping, ArrayRef<Value> wanted,
                             DenseMap<Value, Value> &adjoints) {
  DenseSet<Value> active(wanted.begin(), wanted.end());
  for (Operation &op : block.without_terminator())
    if (llvm::any_of(op.getOperands(),
                     [&](Value value) { return active.contains(value); }))
      for (Value result : op.getResults())
        if (isa<FloatType>(result.getType()))
          active.insert(result);
  Reverse reverse(builder, mapping, active, adjoints);
  for (Operation &op : llvm::reverse(block.without_terminator()))
    QUENCH_CHECK(reverse.visit(&op));
  return Error::success();
}
