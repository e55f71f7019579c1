//===- Exponents.cpp - Coded exponents in kernels -------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Exponents.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "quench/Dialect/QK/IR/QK.h"
#include "quench/Quantization/ExponentCode.h"

using namespace mlir;
using namespace quench;

ExponentStreams::ExponentStreams(Emitter &emitter, const StreamShape &shape,
                                 Value w, Value wOffset)
    : e(emitter), shape(shape), w(w), wOffset(wOffset) {
  // Else LLVM counts the bits of all masks in one vector, far from where the
  // next address needs them.
  auto function = cast<func::FuncOp>(e.b.getInsertionBlock()->getParentOp());
  SmallVector<Attribute> attributes;
  if (auto old = function->getAttrOfType<ArrayAttr>("passthrough"))
    attributes.append(old.begin(), old.end());
  attributes.push_back(e.b.getStringAttr("noimplicitfloat"));
  function->setAttr("passthrough", e.b.getArrayAttr(attributes));
  for (int64_t i = 0; i < 2; ++i)
    tables[i] =
        e.loadBytesAs(w, e.add(wOffset, shape.tailOffset + 64 * i), e.floats);
  auto type = MemRefType::get({int64_t(1) << 32}, e.b.getI16Type());
  halfwords = memref::ViewOp::create(
      e.b, e.loc, type, w, e.add(wOffset, shape.codesOffset), ValueRange());
  auto words = MemRefType::get({kBlockRows}, e.b.getI32Type());
  auto one = MemRefType::get({1}, e.b.getIndexType());
  for (State &s : states) {
    auto line = e.b.getI64IntegerAttr(64);
    s.bits = memref::AllocaOp::create(e.b, e.loc, words, line);
    s.left = memref::AllocaOp::create(e.b, e.loc, words, line);
    s.at = memref::AllocaOp::create(e.b, e.loc, one);
  }
}

void ExponentStreams::begin(Value pass, int64_t half) {
  Value block = e.add(e.mul(pass, kPassBlocks), half);
  for (int64_t stream = 0; stream < kCodedStreams; ++stream) {
    Value at = e.add(e.mul(block, 4 * kCodedStreams), 4 * stream);
    Value bytes = e.loadVector(w, e.add(e.add(wOffset, shape.indexOffset), at),
                               VectorType::get({4}, e.b.getI8Type()));
    Value word = e.bitcast(bytes, VectorType::get({1}, e.b.getI32Type()));
    word = vector::ExtractOp::create(e.b, e.loc, word, ArrayRef<int64_t>{0});
    Value first =
        arith::IndexCastUIOp::create(e.b, e.loc, e.b.getIndexType(), word);
    State &s = state(half, stream);
    e.storeVector(e.splat(0), s.bits, e.index(0));
    e.storeVector(e.splat(0), s.left, e.index(0));
    e.store(first, s.at, e.index(0));
  }
}

void ExponentStreams::readAhead(int64_t columns) {
  for (int64_t column = 0; column < columns; ++column)
    for (int64_t half = 0; half < kPassBlocks; ++half)
      ahead[half].push_back(decode(half, column));
}

Value ExponentStreams::next(int64_t half, int64_t column) {
  if (ahead[half].empty())
    return decode(half, column);
  Value entry = ahead[half].front();
  ahead[half].pop_front();
  return entry;
}

Value ExponentStreams::decode(int64_t half, int64_t column) {
  OpBuilder &b = e.b;
  Location loc = e.loc;
  State &s = state(half, column % kCodedStreams);
  Value bits = e.loadVector(s.bits, e.index(0), e.words);
  Value left = e.loadVector(s.left, e.index(0), e.words);
  Value at = e.load(s.at, e.index(0));

  // Rows with too few bits left take the next halfwords.
  Value most = e.splat(ExponentCode::kMostBits);
  Value few =
      arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, left, most);
  auto halves = VectorType::get({kBlockRows}, b.getI16Type());
  Value none = arith::ConstantOp::create(b, loc, b.getZeroAttr(halves));
  Value more = vector::ExpandLoadOp::create(b, loc, halves, halfwords,
                                            ValueRange{at}, few, none);
  more = arith::ExtUIOp::create(b, loc, e.words, more);
  bits = arith::OrIOp::create(b, loc, bits,
                              arith::ShLIOp::create(b, loc, more, left));
  left = arith::SelectOp::create(b, loc, few, e.addInt(left, most), left);
  Value mask = e.bitcast(few, VectorType::get({1}, b.getI16Type()));
  mask = vector::ExtractOp::create(b, loc, mask, ArrayRef<int64_t>{0});
  Value count = math::CtPopOp::create(b, loc, mask);
  count = arith::IndexCastUIOp::create(b, loc, b.getIndexType(), count);
  e.store(e.add(at, count), s.at, e.index(0));

  // ExponentCode::entry.
  auto shifted = [&](unsigned by) {
    return arith::ShRUIOp::create(b, loc, bits, e.splat(by)).getResult();
  };
  auto lookup = [&](Value table, Value index) {
    Value entry = qk::LookupValuesOp::create(b, loc, e.floats, index, table);
    return e.bitcast(entry, e.words);
  };
  auto orElse = [&](Value entry, Value next) {
    Value isNext = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt,
                                         entry, e.splat(0));
    return arith::SelectOp::create(b, loc, isNext, next, entry).getResult();
  };
  static_assert(ExponentCode::kNextTable == 1u << 31);
  constexpr unsigned up =
      ExponentCode::kSymbolShift - 2 * ExponentCode::kIndexBits;
  Value symbol = arith::ShLIOp::create(b, loc, bits, e.splat(up));
  symbol = arith::AndIOp::create(b, loc, symbol,
                                 e.splat(255 << ExponentCode::kSymbolShift));
  Value entry = arith::OrIOp::create(b, loc, symbol, most);
  entry = orElse(lookup(tables[1], shifted(ExponentCode::kIndexBits)), entry);
  entry = orElse(lookup(tables[0], bits), entry);

  Value length =
      arith::AndIOp::create(b, loc, entry, e.splat(ExponentCode::kLengthMask));
  e.storeVector(arith::ShRUIOp::create(b, loc, bits, length), s.bits,
                e.index(0));
  e.storeVector(arith::SubIOp::create(b, loc, left, length), s.left,
                e.index(0));
  return entry;
}
