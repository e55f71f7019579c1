//===- RegisterBuilder.cpp - Decodes become qk ops ------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RegisterBuilder.h"
#include "Shape.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "quench/Dialect/QK/IR/QK.h"
#include "quench/Quantization/Packing.h"
#include <cmath>

using namespace mlir;
using namespace quench;

static Reg reg(Value value) { return {value.getAsOpaquePointer()}; }
static FloatReg floatReg(Value value) { return {value.getAsOpaquePointer()}; }

QKRegisterBuilder::QKRegisterBuilder(Emitter &emitter,
                                     const BlockLayout &layout, Value memref,
                                     Value base, Value table, int64_t half,
                                     FetchAhead *fetchAhead,
                                     ExponentStreams *exponents)
    : e(emitter), layout(layout), memref(memref), base(base), table(table),
      half(half), fetchAhead(fetchAhead), exponents(exponents) {}

void FetchAhead::emit() {
  if (enabled) {
    llvm::sort(offsets);
    for (int64_t offset : offsets)
      e.prefetch(memref, e.add(base, offset + kPrefetchDistance));
  }
  offsets.clear();
}

Value QKRegisterBuilder::value(Reg reg) {
  return Value::getFromOpaquePointer(reg.handle);
}
Value QKRegisterBuilder::value(FloatReg reg) {
  return Value::getFromOpaquePointer(reg.handle);
}

Value QKRegisterBuilder::address(int64_t offset, bool newLine) {
  int64_t at = interleavedOffset(layout, half, offset);
  if (fetchAhead && newLine)
    fetchAhead->add(at);
  return e.add(base, at);
}

Value QKRegisterBuilder::passLine(Value at, const Part &part) {
  if (layout.sharedPasses == 1)
    return e.loadVector(memref, at, e.bytes);
  int64_t size = kPassBlocks * part.unit;
  assert(size == 32 && "two pieces make a line");
  auto type = VectorType::get({size}, e.b.getI8Type());
  SmallVector<int64_t, 64> order;
  for (int64_t i = 0; i < 2 * size; ++i)
    order.push_back(i);
  return e.shuffle(
      e.loadVector(memref, at, type),
      e.loadVector(memref, e.add(at, layout.sharedPasses * size), type), order);
}

Reg QKRegisterBuilder::load(int64_t offset) {
  // Row blocks that are interleaved in pieces of a line: the lines of all are
  // read.
  for (const Part &part : layout.parts) {
    int64_t within = offset - part.offset;
    if (within < 0 || within >= part.length || part.unit >= 64)
      continue;
    int64_t first = interleavedOffset(layout, 0, offset);
    // Lines of several passes come with each of them.
    for (int64_t i = half; fetchAhead && i < layout.rowBlocks(); i += 2)
      fetchAhead->add(first + 64 * i);
    SmallVector<int64_t, 64> order;
    for (int64_t i = 0; i < 64; ++i)
      order.push_back((i / part.unit * kPassBlocks + half) * part.unit +
                      i % part.unit);
    Value at = e.add(base, first);
    return reg(e.shuffle(passLine(at, part),
                         passLine(e.add(at, layout.rowBlocks() * 32), part),
                         order));
  }
  return reg(e.loadVector(memref, address(offset, true), e.bytes));
}

FloatReg QKRegisterBuilder::loadFloats(int64_t offset, FloatKind kind) {
  // Pairs of row blocks share a line unless a value has 32 bits.
  return floatsAt(address(offset, half == 0 || kind == FloatKind::F32), kind);
}

FloatReg QKRegisterBuilder::floatsAt(Value at, FloatKind kind) {
  if (kind == FloatKind::F32)
    return floatReg(e.loadBytesAs(memref, at, e.floats));
  if (kind == FloatKind::F16)
    return floatReg(e.loadHalves(memref, at));
  auto raw = VectorType::get({32}, e.b.getI8Type());
  auto type = VectorType::get({16}, e.b.getI16Type());
  Value halves = e.bitcast(e.loadVector(memref, at, raw), type);
  Value wide = arith::ExtUIOp::create(e.b, e.loc, e.words, halves);
  wide = arith::ShLIOp::create(e.b, e.loc, wide, e.splat(16));
  return floatReg(e.bitcast(wide, e.floats));
}

Reg QKRegisterBuilder::field(Reg v, unsigned off, unsigned width, unsigned at) {
  return reg(qk::FieldOp::create(e.b, e.loc, value(v), off, width, at));
}

Reg QKRegisterBuilder::window(Reg lo, const Reg *hi, unsigned unit,
                              ArrayRef<uint8_t> pos) {
  SmallVector<int32_t, 8> positions(pos.begin(), pos.end());
  return reg(qk::WindowOp::create(e.b, e.loc, e.bytes, value(lo),
                                  hi ? value(*hi) : Value(), unit, positions,
                                  IntegerAttr()));
}

Reg QKRegisterBuilder::permute(Reg v, ArrayRef<uint8_t> index) {
  SmallVector<int64_t, 64> order(index.begin(), index.end());
  return reg(e.shuffle(value(v), value(v), order));
}

Reg QKRegisterBuilder::permute(Reg a, Reg c, ArrayRef<uint8_t> index) {
  SmallVector<int64_t, 64> order(index.begin(), index.end());
  return reg(e.shuffle(value(a), value(c), order));
}

Reg QKRegisterBuilder::lookup(ArrayRef<uint8_t> table, Reg index) {
  auto type = RankedTensorType::get({int64_t(table.size())}, e.b.getI8Type());
  auto attr = DenseElementsAttr::getFromRawBuffer(
      type, ArrayRef<char>(reinterpret_cast<const char *>(table.data()),
                           table.size()));
  return reg(qk::LookupOp::create(e.b, e.loc, e.bytes, value(index), attr));
}

Reg QKRegisterBuilder::lookup(ArrayRef<Reg> table, Reg index) {
  auto values = llvm::map_to_vector<4>(table, [](Reg r) { return value(r); });
  return reg(
      qk::LookupValuesOp::create(e.b, e.loc, e.bytes, value(index), values));
}

Reg QKRegisterBuilder::loadTable(int64_t offset, unsigned entries) {
  Value at = e.add(table, offset);
  if (entries == 64)
    return reg(e.loadVector(memref, at, e.bytes));
  auto type = VectorType::get({int64_t(entries)}, e.b.getI8Type());
  Value part = e.loadVector(memref, at, type);
  SmallVector<int64_t, 64> order;
  for (int64_t i = 0; i < 64; ++i)
    order.push_back(i % entries);
  return reg(e.shuffle(part, part, order));
}

FloatReg QKRegisterBuilder::loadTableFloats(int64_t offset, FloatKind kind) {
  return floatsAt(e.add(table, offset), kind);
}

/// For each lane of `index` the number of `type` at `offset` + `stride` * lane.
Value QKRegisterBuilder::gatherEntries(int64_t offset, Value index,
                                       unsigned stride, VectorType type) {
  // The table from there on, as a memref of its own.
  int64_t bytes = type.getElementTypeBitWidth() / 8;
  auto view =
      MemRefType::get({(int64_t(1) << 30) / bytes}, type.getElementType());
  Value entries = memref::ViewOp::create(e.b, e.loc, view, memref,
                                         e.add(table, offset), ValueRange());
  auto constant = [&](VectorType type, int64_t value) -> Value {
    return arith::ConstantOp::create(
        e.b, e.loc,
        DenseElementsAttr::get(
            type, e.b.getIntegerAttr(type.getElementType(), value)));
  };
  auto indices = cast<VectorType>(index.getType());
  Value at = e.mulInt(index, constant(indices, stride / bytes));
  Value all = constant(VectorType::get(type.getShape(), e.b.getI1Type()), 1);
  return vector::GatherOp::create(e.b, e.loc, type, entries,
                                  ValueRange(e.index(0)), at, all,
                                  constant(type, 0));
}

Reg QKRegisterBuilder::gatherTable(int64_t offset, Reg index, unsigned stride) {
  if (auto found = gathered.find({offset, index.handle});
      found != gathered.end())
    return found->second;
  Value lane = lanes(index, 32);
  if (offset % 8 != 0 || stride % 8 != 0)
    return reg(
        e.bitcast(gatherEntries(offset, lane, stride, e.words), e.bytes));
  // Eight bytes cost as much as four: the second four will be asked for, too.
  auto type = VectorType::get({8}, e.b.getI64Type());
  SmallVector<Value, 2> halves;
  for (int64_t first : {0, 8}) {
    Value part = vector::ExtractStridedSliceOp::create(
        e.b, e.loc, lane, ArrayRef<int64_t>{first}, ArrayRef<int64_t>{8},
        ArrayRef<int64_t>{1});
    halves.push_back(
        e.bitcast(gatherEntries(offset, part, stride, type), e.words));
  }
  SmallVector<int64_t, 16> even, odd;
  for (int64_t i = 0; i < 16; ++i) {
    even.push_back(2 * i);
    odd.push_back(2 * i + 1);
  }
  gathered[{offset + 4, index.handle}] =
      reg(e.bitcast(e.shuffle(halves[0], halves[1], odd), e.bytes));
  return reg(e.bitcast(e.shuffle(halves[0], halves[1], even), e.bytes));
}

Reg QKRegisterBuilder::add(Reg a, Reg c) {
  return reg(e.addInt(value(a), value(c)));
}

Reg QKRegisterBuilder::affine(Reg v, ArrayRef<uint8_t> rows, uint8_t constant) {
  SmallVector<int32_t, 8> matrix(rows.begin(), rows.end());
  return reg(qk::AffineOp::create(e.b, e.loc, value(v), matrix, constant));
}

Reg QKRegisterBuilder::bitXor(Reg a, Reg c) {
  return reg(arith::XOrIOp::create(e.b, e.loc, value(a), value(c)));
}

Reg QKRegisterBuilder::bitOr(Reg a, Reg c) {
  return reg(arith::OrIOp::create(e.b, e.loc, value(a), value(c)));
}

Reg QKRegisterBuilder::bitAnd(Reg a, Reg c) {
  return reg(arith::AndIOp::create(e.b, e.loc, value(a), value(c)));
}

Reg QKRegisterBuilder::splat(uint32_t v) {
  return reg(e.bitcast(e.splat(static_cast<int32_t>(v)), e.bytes));
}

/// 64 bytes as lanes of `unit` bits.
Value QKRegisterBuilder::lanes(Reg v, unsigned unit) {
  return e.bitcast(value(v),
                   VectorType::get({512 / unit}, e.b.getIntegerType(unit)));
}

Reg QKRegisterBuilder::addLanes(Reg a, Reg c, unsigned unit) {
  return reg(e.bitcast(e.addInt(lanes(a, unit), lanes(c, unit)), e.bytes));
}

Reg QKRegisterBuilder::multiply(Reg a, Reg c, unsigned unit) {
  return reg(e.bitcast(e.mulInt(lanes(a, unit), lanes(c, unit)), e.bytes));
}

Reg QKRegisterBuilder::shiftRight(Reg v, unsigned by) {
  Value shifted = arith::ShRUIOp::create(
      e.b, e.loc, e.bitcast(value(v), e.words), e.splat(by));
  return reg(e.bitcast(shifted, e.bytes));
}

Reg QKRegisterBuilder::sumBytes(Reg v, unsigned factor) {
  Value ones = arith::ConstantOp::create(
      e.b, e.loc, e.b.getI32IntegerAttr(factor * 0x01010101));
  Value sum = qk::Dot4Op::create(e.b, e.loc, e.splat(0), value(v), ones, 255);
  return reg(e.bitcast(sum, e.bytes));
}

/// Byte `column` of each word; the bits above it are 0 if `clean`.
Value QKRegisterBuilder::column(Reg v, unsigned column, bool clean) {
  Value w = e.bitcast(value(v), e.words);
  if (column)
    w = arith::ShRUIOp::create(e.b, e.loc, w, e.splat(8 * column));
  if (clean && column != 3)
    w = arith::AndIOp::create(e.b, e.loc, w, e.splat(255));
  return w;
}

/// A byte in the low bits of 2^23 is exact, and so is the difference.
FloatReg QKRegisterBuilder::toFloats(Reg v, unsigned c, float bias) {
  // Codes of up to four bits: one lookup, whatever their levels.
  auto field = value(v).getDefiningOp<qk::FieldOp>();
  if (field && field.getAt() == 0 && field.getWidth() <= 4) {
    float levels[16];
    for (int i = 0; i < 16; ++i)
      levels[i] = i - bias;
    return lookupFloats(levels, v, c);
  }
  Value w = column(v, c, true);
  w = arith::OrIOp::create(e.b, e.loc, w, e.splat(0x4b000000));
  return floatReg(arith::SubFOp::create(e.b, e.loc, e.bitcast(w, e.floats),
                                        e.splatFloat(8388608.0f + bias)));
}

FloatReg QKRegisterBuilder::lookupFloats(ArrayRef<float> table, Reg index,
                                         unsigned c) {
  auto type = RankedTensorType::get({int64_t(table.size())}, e.b.getF32Type());
  return floatReg(qk::LookupOp::create(e.b, e.loc, e.floats,
                                       column(index, c, false),
                                       DenseElementsAttr::get(type, table)));
}

FloatReg QKRegisterBuilder::lookupFloats(FloatReg table, Reg index,
                                         unsigned c) {
  return floatReg(qk::LookupValuesOp::create(
      e.b, e.loc, e.floats, column(index, c, false), value(table)));
}

/// Exponent and mantissa at the places of those of a float; the product with a
/// power of two corrects the bias and makes numbers of subnormals. They fit the
/// upper half of a float, so that columns 0 and 2 (1 and 3) are brought to
/// these places together, in lanes of 16 bits.
FloatReg QKRegisterBuilder::minifloats(Reg v, unsigned c, Minifloat shape) {
  auto halves = VectorType::get({32}, e.b.getI16Type());
  auto splat = [&](uint16_t bits) -> Value {
    return arith::ConstantOp::create(
        e.b, e.loc, DenseElementsAttr::get(halves, static_cast<int16_t>(bits)));
  };
  Value h = e.bitcast(value(v), halves);
  if (unsigned left = 16 - 8 * (c % 2) - shape.bits())
    h = arith::ShLIOp::create(e.b, e.loc, h, splat(left));
  h = arith::ShRSIOp::create(e.b, e.loc, h, splat(8 - shape.exponent));
  unsigned magnitude = shape.exponent + shape.mantissa;
  h = arith::AndIOp::create(
      e.b, e.loc, h,
      splat(0x8000 | ((1u << magnitude) - 1) << (7 - shape.mantissa)));
  Value w = e.bitcast(h, e.words);
  if (c < 2)
    w = arith::ShLIOp::create(e.b, e.loc, w, e.splat(16));
  else
    w = arith::AndIOp::create(e.b, e.loc, w, e.splat(-65536));
  float factor = std::ldexp(1.0f, 127 - shape.bias());
  return floatReg(e.mulFloat(e.bitcast(w, e.floats), e.splatFloat(factor)));
}

FloatReg QKRegisterBuilder::joinExponents(Reg v, unsigned c, Minifloat shape) {
  auto masked = [&](Value w, uint32_t mask) {
    return arith::AndIOp::create(e.b, e.loc, w,
                                 e.splat(static_cast<int32_t>(mask)))
        .getResult();
  };
  // Byte c, its low bit as bit `at` of a word.
  auto byteAt = [&](unsigned at) -> Value {
    Value w = e.bitcast(value(v), e.words);
    if (at > 8 * c)
      return arith::ShLIOp::create(e.b, e.loc, w, e.splat(at - 8 * c));
    if (at < 8 * c)
      return arith::ShRUIOp::create(e.b, e.loc, w, e.splat(8 * c - at));
    return w;
  };
  Value sign = masked(byteAt(24), 0x80000000);
  Value mantissa = masked(byteAt(16), 0x007f0000);
  Value exponent = masked(exponents->next(half, c), 0x7f800000);
  Value bits = arith::OrIOp::create(
      e.b, e.loc, arith::OrIOp::create(e.b, e.loc, sign, mantissa), exponent);
  Value floats = e.bitcast(bits, e.floats);
  if (int power = 127 - shape.bias())
    floats = e.mulFloat(floats, e.splatFloat(std::ldexp(1.0f, power)));
  return floatReg(floats);
}

FloatReg QKRegisterBuilder::sumHalves(Reg v) {
  auto shorts = VectorType::get({16}, e.b.getI16Type());
  auto halves = VectorType::get({16}, e.b.getF16Type());
  auto widened = [&](Value w) {
    w = arith::TruncIOp::create(e.b, e.loc, shorts, w);
    return arith::ExtFOp::create(e.b, e.loc, e.floats, e.bitcast(w, halves));
  };
  Value high = arith::ShRUIOp::create(e.b, e.loc, lanes(v, 32), e.splat(16));
  Value sum = e.addFloat(widened(high), widened(lanes(v, 32)));
  sum = arith::TruncFOp::create(e.b, e.loc, halves, sum);
  return floatReg(arith::ExtFOp::create(e.b, e.loc, e.floats, sum));
}

Reg ProbeRegisterBuilder::made(int64_t offset) {
  offsets.push_back(offset);
  return {&offsets.back()};
}

Reg ProbeRegisterBuilder::load(int64_t offset) { return made(offset); }

FloatReg ProbeRegisterBuilder::loadFloats(int64_t offset, FloatKind kind) {
  return {made(kind == FloatKind::F32 ? offset : -1).handle};
}

int64_t ProbeRegisterBuilder::loadedFrom(const void *handle) const {
  return *static_cast<const int64_t *>(handle);
}
