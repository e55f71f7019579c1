//===- Transform.cpp - Maps that stay on line -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lanes.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "quench/Kernels/Layers.h"

using namespace mlir;
using namespace quench;

namespace {

/// A private constant memref<nxf32>.
Value constantFloats(Emitter &e, ModuleOp module, const Twine &name,
                     ArrayRef<double> data) {
  SmallVector<float> values(data.begin(), data.end());
  auto type =
      MemRefType::get({static_cast<int64_t>(values.size())}, e.b.getF32Type());
  OpBuilder::InsertionGuard guard(e.b);
  std::string symbol = name.str();
  {
    OpBuilder::InsertionGuard inner(e.b);
    e.b.setInsertionPointToStart(module.getBody());
    auto elements = DenseElementsAttr::get(
        RankedTensorType::get(type.getShape(), type.getElementType()),
        ArrayRef<float>(values));
    memref::GlobalOp::create(e.b, e.loc, symbol, e.b.getStringAttr("private"),
                             type, elements,
                             /*constant=*/true, e.b.getI64IntegerAttr(64));
  }
  return memref::GetGlobalOp::create(e.b, e.loc, type, symbol);
}

/// One row's transform in place, at y[base].
class RowTransform {
public:
  RowTransform(Emitter &e, ModuleOp module, StringRef name, Value y, Value line,
               int64_t n)
      : e(e), module(module), name(name), y(y), line(line), n(n) {}

  void emit(Value base, const MapStep &step, int64_t number) {
    switch (step.kind) {
    case MapStep::Scale:
      return overAll(base, [&](Value, Value v) {
        return e.mulFloat(v, e.splatFloat(step.data[0]));
      });
    case MapStep::Diagonal: {
      Value table =
          constantFloats(e, module, name + "_" + Twine(number), step.data);
      Lanes lanes(e, n);
      lanes.forEach([&](Value at, Value mask) {
        Value v = lanes.load(y, e.add(base, at), mask);
        lanes.store(e.mulFloat(v, lanes.load(table, at, mask)), y,
                    e.add(base, at), mask);
      });
      return;
    }
    case MapStep::Permute: {
      copyOut(base);
      SmallVector<double> places(step.index.begin(), step.index.end());
      Value table =
          constantFloats(e, module, name + "_" + Twine(number), places);
      e.loop(e.index(0), e.index(n), 1, [&](Value i) {
        Value from = arith::FPToSIOp::create(e.b, e.loc, e.b.getI32Type(),
                                             e.load(table, i));
        from = arith::IndexCastOp::create(e.b, e.loc, e.b.getIndexType(), from);
        e.store(e.load(line, from), y, e.add(base, i));
      });
      return;
    }
    case MapStep::Butterfly:
      return butterfly(base, step);
    case MapStep::Dense:
      return dense(base, step, number);
    }
  }

private:
  void overAll(Value base, llvm::function_ref<Value(Value, Value)> fn) {
    Lanes lanes(e, n);
    lanes.forEach([&](Value at, Value mask) {
      lanes.store(fn(at, lanes.load(y, e.add(base, at), mask)), y,
                  e.add(base, at), mask);
    });
  }
  void copyOut(Value base) {
    Lanes lanes(e, n);
    lanes.forEach([&](Value at, Value mask) {
      lanes.store(lanes.load(y, e.add(base, at), mask), line, at, mask);
    });
  }

  /// a, b at distance d become a + b, a - b, for d = stride, 2 stride, ... size
  /// / 2 stride.
  void butterfly(Value base, const MapStep &step) {
    int64_t distance = step.stride, end = step.size * step.stride;
    // Distances below a register's length stay inside registers: one shuffle,
    // one multiply-add by +-1.
    if (n % 16 == 0 && end >= 16 && (16 % distance) == 0 && distance < 16) {
      int64_t first = distance;
      overAll(base, [&](Value, Value v) {
        for (int64_t d = first; d < 16 && d < end; d *= 2) {
          SmallVector<int64_t> order;
          SmallVector<float> signs;
          for (int64_t i = 0; i != 16; ++i) {
            order.push_back(i ^ d);
            signs.push_back(i & d ? -1.0f : 1.0f);
          }
          Value s = arith::ConstantOp::create(
              e.b, e.loc,
              DenseElementsAttr::get(e.floats, ArrayRef<float>(signs)));
          v = e.fma(v, s, e.shuffle(v, v, order));
        }
        return v;
      });
      distance = 16;
    }
    for (; distance < end; distance *= 2)
      e.loop(e.index(0), e.index(n / (2 * distance)), 1, [&](Value pair) {
        Value first = e.add(base, e.mul(pair, 2 * distance));
        auto body = [&](Value j, bool wide) {
          Value at = e.add(first, j), other = e.add(at, distance);
          Value a = wide ? e.loadVector(y, at, e.floats) : e.load(y, at);
          Value c = wide ? e.loadVector(y, other, e.floats) : e.load(y, other);
          Value sum = arith::AddFOp::create(e.b, e.loc, a, c);
          Value difference = arith::SubFOp::create(e.b, e.loc, a, c);
          wide ? e.storeVector(sum, y, at) : e.store(sum, y, at);
          wide ? e.storeVector(difference, y, other)
               : e.store(difference, y, other);
        };
        bool wide = distance % 16 == 0;
        e.loop(e.index(0), e.index(distance), wide ? 16 : 1,
               [&](Value j) { body(j, wide); });
      });
  }

  /// v' = v B along an axis; blocks repeat if there are fewer matrices than
  /// slabs.
  void dense(Value base, const MapStep &step, int64_t number) {
    copyOut(base);
    int64_t size = step.size, slab = size * step.stride;
    int64_t matrices = step.data.size() / (size * size);
    Value table =
        constantFloats(e, module, name + "_" + Twine(number), step.data);
    e.loop(e.index(0), e.index(n / slab), 1, [&](Value g) {
      Value from = e.mul(g, slab), to = e.add(base, from);
      Value matrix = matrices > 1 ? e.mul(g, size * size) : e.index(0);
      e.loop(e.index(0), e.index(size), 1, [&](Value out) {
        Lanes lanes(e, step.stride);
        lanes.forEach([&](Value at, Value mask) {
          Emitter::Values sum = e.loop(
              0, size, 1, ValueRange{e.splatFloat(0)},
              [&](Value in, ValueRange acc) -> Emitter::Values {
                Value weight =
                    e.load(table, e.add(e.add(matrix, e.mul(in, size)), out));
                Value v = lanes.load(
                    line, e.add(e.add(from, e.mul(in, step.stride)), at), mask);
                return {e.fma(v, e.broadcast(weight, e.floats), acc[0])};
              });
          lanes.store(sum[0], y, e.add(e.add(to, e.mul(out, step.stride)), at),
                      mask);
        });
      });
    });
  }

  Emitter &e;
  ModuleOp module;
  StringRef name;
  Value y, line;
  int64_t n;
};

} // namespace

func::FuncOp quench::getOrCreateTransform(ModuleOp module, StringRef name,
                                          const Map &map) {
  OpBuilder b(module.getContext());
  Type f = flat(b.getF32Type()), i = b.getIndexType();
  std::string symbol = "transform_" + name.str();
  bool made;
  func::FuncOp function = makeKernel(module, symbol, {f, f, i, i}, made);
  if (!made)
    return function;
  Block &body = function.getBody().front();
  b.setInsertionPointToStart(&body);
  Emitter e(b, function.getLoc());
  int64_t n = map.in();
  Value x = body.getArgument(0), y = body.getArgument(1);
  Value line = memref::AllocaOp::create(
      b, e.loc, MemRefType::get({n}, b.getF32Type()), b.getI64IntegerAttr(64));
  std::vector<MapStep> steps;
  map.steps(steps);
  e.loop(body.getArgument(2), body.getArgument(3), 1, [&](Value row) {
    Value base = e.mul(row, n);
    Lanes lanes(e, n);
    lanes.forEach([&](Value at, Value mask) {
      lanes.store(lanes.load(x, e.add(base, at), mask), y, e.add(base, at),
                  mask);
    });
    RowTransform transform(e, module, symbol, y, line, n);
    for (auto [number, step] : llvm::enumerate(steps))
      transform.emit(base, step, number);
  });
  func::ReturnOp::create(b, e.loc);
  return function;
}
