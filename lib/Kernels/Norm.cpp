//===- Norm.cpp - Kernels of norms and rotary embedding -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Clamp.h"
#include "Emitter.h"
#include "Lanes.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "quench/Kernels/Layers.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace quench;

func::FuncOp quench::getOrCreateNorm(ModuleOp module, const NormSpec &spec) {
  OpBuilder b(module.getContext());
  Type f = flat(b.getF32Type()), i = b.getIndexType();
  std::string name = (spec.rms ? "norm_rms_" : "norm_layer_") +
                     std::to_string(spec.width) + "_" +
                     llvm::utohexstr(llvm::bit_cast<uint32_t>(spec.epsilon)) +
                     (spec.gain ? "_g" : "") + (spec.bias ? "_b" : "");
  bool made;
  func::FuncOp function = makeKernel(module, name, {f, f, f, f, i, i}, made);
  if (!made)
    return function;
  Block &body = function.getBody().front();
  b.setInsertionPointToStart(&body);
  Emitter e(b, function.getLoc());
  Value x = body.getArgument(0), gain = body.getArgument(1),
        bias = body.getArgument(2), y = body.getArgument(3),
        lo = body.getArgument(4), hi = body.getArgument(5);
  Lanes lanes(e, spec.width);
  e.loop(lo, hi, 1, [&](Value row) {
    Value base = e.mul(row, spec.width);
    // Sum over the row of fn(values), lane by lane.
    auto sum = [&](llvm::function_ref<Value(Value value, Value sum)> fn,
                   Value fill = {}) {
      Value zero = e.splatFloat(0);
      Value total = lanes.reduce(x, base, zero, fn, fill);
      return lanes.addAcross(total);
    };
    auto broadcast = [&](Value scalar) {
      return e.broadcast(scalar, e.floats);
    };
    auto div = [&](Value a) {
      return arith::DivFOp::create(b, e.loc, a, e.scalarFloat(spec.width))
          .getResult();
    };
    Value mean;
    if (!spec.rms)
      mean = broadcast(
          div(sum([&](Value v, Value s) { return e.addFloat(s, v); })));
    auto centered = [&](Value v) -> Value {
      return mean ? arith::SubFOp::create(b, e.loc, v, mean).getResult() : v;
    };
    Value square = sum(
        [&](Value v, Value s) {
          Value c = centered(v);
          return e.fma(c, c, s);
        },
        mean);
    Value variance = arith::AddFOp::create(b, e.loc, div(square),
                                           e.scalarFloat(spec.epsilon));
    Value root = math::SqrtOp::create(b, e.loc, variance);
    Value factor =
        broadcast(arith::DivFOp::create(b, e.loc, e.scalarFloat(1), root));
    lanes.forEach([&](Value at, Value mask) {
      Value v =
          e.mulFloat(centered(lanes.load(x, e.add(base, at), mask)), factor);
      if (spec.gain)
        v = e.mulFloat(v, lanes.load(gain, at, mask));
      if (spec.bias)
        v = e.addFloat(v, lanes.load(bias, at, mask));
      lanes.store(v, y, e.add(base, at), mask);
    });
  });
  func::ReturnOp::create(b, e.loc);
  return function;
}

func::FuncOp quench::getOrCreateRotary(ModuleOp module,
                                       const RotarySpec &spec) {
  OpBuilder b(module.getContext());
  Type f = flat(b.getF32Type()), i = b.getIndexType();
  std::string name = "rotary_" + std::to_string(spec.heads) + "x" +
                     std::to_string(spec.headSize) + "_" +
                     std::to_string(spec.pairs) +
                     (spec.adjacent ? "_adjacent_" : "_half_") +
                     std::to_string(spec.maxPositions);
  bool made;
  func::FuncOp function =
      makeKernel(module, name,
                 {f, flat(b.getI64Type()), f, f, i, b.getI1Type(),
                  LLVM::LLVMPointerType::get(b.getContext()), i, i},
                 made);
  if (!made)
    return function;
  Block &body = function.getBody().front();
  b.setInsertionPointToStart(&body);
  Emitter e(b, function.getLoc());
  Location loc = e.loc;
  Value x = body.getArgument(0), positions = body.getArgument(1),
        table = body.getArgument(2), y = body.getArgument(3),
        sequence = body.getArgument(4), shared = body.getArgument(5),
        error = body.getArgument(6), lo = body.getArgument(7),
        hi = body.getArgument(8);
  e.loop(lo, hi, 1, [&](Value row) {
    Value at = arith::SelectOp::create(
        b, loc, shared, arith::RemUIOp::create(b, loc, row, sequence), row);
    Value position = arith::IndexCastOp::create(b, loc, b.getIndexType(),
                                                e.load(positions, at));
    position = clampIndex(e, position, spec.maxPositions, error);
    Value cosines = e.mul(position, 2 * spec.pairs);
    Value base = e.mul(row, spec.heads * spec.headSize);
    e.loop(e.index(0), e.index(spec.heads), 1, [&](Value head) {
      Value first = e.add(base, e.mul(head, spec.headSize));
      // The innermost loop is left to the vectorizer: pairs may be apart or
      // side by side.
      e.loop(e.index(0), e.index(spec.pairs), 1, [&](Value p) {
        Value a = spec.adjacent ? e.add(first, e.mul(p, 2)) : e.add(first, p);
        Value c = e.add(a, spec.adjacent ? 1 : spec.pairs);
        Value cosine = e.load(table, e.add(cosines, p));
        Value sine = e.load(table, e.add(e.add(cosines, spec.pairs), p));
        Value u = e.load(x, a), v = e.load(x, c);
        auto mul = [&](Value l, Value r) {
          return arith::MulFOp::create(b, loc, l, r).getResult();
        };
        e.store(arith::SubFOp::create(b, loc, mul(u, cosine), mul(v, sine)), y,
                a);
        e.store(arith::AddFOp::create(b, loc, mul(v, cosine), mul(u, sine)), y,
                c);
      });
      if (2 * spec.pairs < spec.headSize)
        e.loop(e.index(2 * spec.pairs), e.index(spec.headSize), 1,
               [&](Value j) {
                 e.store(e.load(x, e.add(first, j)), y, e.add(first, j));
               });
    });
  });
  func::ReturnOp::create(b, e.loc);
  return function;
}
