//===- Emitter.cpp - Short names for what kernels are built of ------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "quench/Dialect/QK/IR/QK.h"
#include "quench/Kernels/Layers.h"

using namespace mlir;
using namespace quench;

Emitter::Emitter(OpBuilder &builder, Location loc)
    : b(builder), loc(loc), bytes(VectorType::get({64}, builder.getI8Type())),
      words(VectorType::get({16}, builder.getI32Type())),
      floats(VectorType::get({16}, builder.getF32Type())) {}

Value Emitter::index(int64_t value) {
  return arith::ConstantIndexOp::create(b, loc, value);
}
Value Emitter::add(Value a, int64_t c) { return c ? add(a, index(c)) : a; }
Value Emitter::add(Value a, Value c) {
  return arith::AddIOp::create(b, loc, a, c);
}
Value Emitter::mul(Value a, int64_t c) { return c == 1 ? a : mul(a, index(c)); }
Value Emitter::mul(Value a, Value c) {
  return arith::MulIOp::create(b, loc, a, c);
}

Value Emitter::splat(int32_t value) {
  return arith::ConstantOp::create(b, loc,
                                   DenseElementsAttr::get(words, value));
}
Value Emitter::splatFloat(float value) {
  return arith::ConstantOp::create(b, loc,
                                   DenseElementsAttr::get(floats, value));
}
Value Emitter::scalarFloat(float value) {
  return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value));
}
Value Emitter::bitcast(Value value, VectorType type) {
  if (value.getType() == type)
    return value;
  return vector::BitCastOp::create(b, loc, type, value);
}
Value Emitter::broadcast(Value scalar, VectorType type) {
  return vector::BroadcastOp::create(b, loc, type, scalar);
}
Value Emitter::shuffle(Value a, Value c, ArrayRef<int64_t> order) {
  return vector::ShuffleOp::create(b, loc, a, c, order);
}

Value Emitter::loadVector(Value memref, Value at, VectorType type) {
  return vector::LoadOp::create(b, loc, type, memref, ValueRange{at});
}
Value Emitter::load(Value memref, Value at) {
  return memref::LoadOp::create(b, loc, memref, ValueRange{at});
}
void Emitter::storeVector(Value value, Value memref, Value at) {
  vector::StoreOp::create(b, loc, value, memref, ValueRange{at});
}
void Emitter::store(Value value, Value memref, Value at) {
  memref::StoreOp::create(b, loc, value, memref, ValueRange{at});
}
void Emitter::prefetch(Value memref, Value at) {
  memref::PrefetchOp::create(b, loc, memref, ValueRange{at}, false, 3, true);
  // Kept where it is: a crowd of prefetches, as LLVM schedules them, fills the
  // buffers that loads need too. This fence has no instruction.
  LLVM::FenceOp::create(b, loc, LLVM::AtomicOrdering::seq_cst, "singlethread");
}
Value Emitter::loadHalves(Value memref, Value at) {
  auto raw = VectorType::get({32}, b.getI8Type());
  auto halves = VectorType::get({16}, b.getF16Type());
  return arith::ExtFOp::create(b, loc, floats,
                               bitcast(loadVector(memref, at, raw), halves));
}
Value Emitter::loadScales(Value memref, Value at, ScaleKind kind) {
  if (kind == ScaleKind::Half)
    return loadHalves(memref, at);
  if (kind == ScaleKind::E8M0) // the exponent of a float
    return bitcast(
        arith::ShLIOp::create(b, loc, loadByteWords(memref, at), splat(23)),
        floats);
  auto shorts = VectorType::get({16}, b.getI16Type());
  auto halves = VectorType::get({16}, b.getF16Type());
  Value v = loadVector(memref, at, VectorType::get({16}, b.getI8Type()));
  v = arith::ExtUIOp::create(b, loc, shorts, v);
  Value by = arith::ConstantOp::create(
      b, loc,
      DenseElementsAttr::get(shorts, static_cast<int16_t>(scaleShift(kind))));
  v = arith::ShLIOp::create(b, loc, v, by);
  return arith::ExtFOp::create(b, loc, floats, bitcast(v, halves));
}
Value Emitter::loadTinyScales(Value memref, Value at, ScaleKind kind) {
  // A float has 13 bits of mantissa more than a half, and 112 more for bias.
  Value v = arith::ShLIOp::create(b, loc, loadByteWords(memref, at),
                                  splat(scaleShift(kind) + 13));
  return bitcast(v, floats);
}
Value Emitter::loadByteWords(Value memref, Value at) {
  Value v = loadVector(memref, at, VectorType::get({16}, b.getI8Type()));
  return arith::ExtUIOp::create(b, loc, words, v);
}
Value Emitter::loadBytesAs(Value memref, Value at, VectorType type) {
  return bitcast(loadVector(memref, at, bytes), type);
}

Value Emitter::addInt(Value a, Value c) { return add(a, c); }
Value Emitter::mulInt(Value a, Value c) { return mul(a, c); }
Value Emitter::shiftRight(Value a, unsigned by) {
  if (by == 0)
    return a;
  return arith::ShRSIOp::create(b, loc, a, splat(by));
}
Value Emitter::toFloat(Value value) {
  return arith::SIToFPOp::create(b, loc, floats, value);
}
Value Emitter::addFloat(Value a, Value c) {
  return arith::AddFOp::create(b, loc, a, c);
}
Value Emitter::mulFloat(Value a, Value c) {
  return arith::MulFOp::create(b, loc, a, c);
}
Value Emitter::fma(Value a, Value c, Value d) {
  return vector::FMAOp::create(b, loc, a, c, d);
}

void quench::keepRolled(Operation *loop) {
  MLIRContext *context = loop->getContext();
  auto unroll = LLVM::LoopUnrollAttr::get(context, BoolAttr::get(context, true),
                                          {}, {}, {}, {}, {}, {});
  loop->setAttr("loop_annotation", LLVM::LoopAnnotationAttr::get(
                                       context, {}, {}, {}, unroll, {}, {}, {},
                                       {}, {}, {}, {}, {}, {}, {}, {}));
}

Emitter::Values Emitter::loop(Value lo, Value hi, int64_t step,
                              ValueRange inits, Body body) {
  Value by = index(step);
  auto op = scf::ForOp::create(
      b, loc, lo, hi, by, inits,
      [&](OpBuilder &, Location, Value iv, ValueRange values) {
        // The nested builder shares the insertion point only through `b`.
        OpBuilder::InsertionGuard guard(b);
        b.setInsertionPointToEnd(iv.getParentBlock());
        Values next = body(iv, values);
        scf::YieldOp::create(b, loc, next);
      });
  if (keepRolled)
    quench::keepRolled(op);
  return Values(op.getResults());
}

Emitter::Values Emitter::loop(int64_t lo, int64_t hi, int64_t step,
                              ValueRange inits, Body body) {
  Value first = index(lo);
  return loop(first, index(hi), step, inits, body);
}

void Emitter::loop(Value lo, Value hi, int64_t step,
                   llvm::function_ref<void(Value)> body) {
  loop(lo, hi, step, ValueRange{}, [&](Value iv, ValueRange) {
    body(iv);
    return Values{};
  });
}

void Emitter::when(Value condition, llvm::function_ref<void()> body) {
  auto op = scf::IfOp::create(b, loc, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.thenBlock());
  body();
}

Value Emitter::less(Value a, Value c) {
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, a, c);
}

func::FuncOp quench::makeKernel(ModuleOp module, StringRef name,
                                ArrayRef<Type> arguments, bool &made) {
  if (auto found = module.lookupSymbol<func::FuncOp>(name)) {
    made = false;
    return found;
  }
  made = true;
  module.getContext()
      ->loadDialect<arith::ArithDialect, func::FuncDialect, LLVM::LLVMDialect,
                    math::MathDialect, memref::MemRefDialect, scf::SCFDialect,
                    vector::VectorDialect, qk::QKDialect>();
  OpBuilder b(module.getContext());
  b.setInsertionPointToEnd(module.getBody());
  auto type = b.getFunctionType(arguments, {});
  auto function = func::FuncOp::create(b, module.getLoc(), name, type);
  function.setPrivate();
  // Without a frame pointer the stack is not realigned, and half of all spilled
  // registers would straddle cache lines.
  function->setAttr("passthrough",
                    b.getArrayAttr({b.getStrArrayAttr({"frame-pointer", "all"}),
                                    b.getStrArrayAttr({"stackrealign", ""}),
                                    b.getStringAttr("noinline")}));
  function.addEntryBlock();
  return function;
}

MemRefType quench::flat(Type element) {
  return MemRefType::get({ShapedType::kDynamic}, element);
}
