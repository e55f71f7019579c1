//===- Lookup.cpp - Rows of a packed table -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Decodes the row block of a row with the format's own decode and keeps one
// lane: sixteen times the work of a row layout, but only once for each token,
// and one layout serves embedding and head.
//
//===----------------------------------------------------------------------===//

#include "Clamp.h"
#include "Shape.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "quench/Kernels/Layers.h"

using namespace mlir;
using namespace quench;

/// A private constant memref<nxi32>.
static Value constantInts(Emitter &e, ModuleOp module, StringRef name,
                          ArrayRef<int32_t> data) {
  auto type =
      MemRefType::get({static_cast<int64_t>(data.size())}, e.b.getI32Type());
  if (!module.lookupSymbol(name)) {
    OpBuilder::InsertionGuard guard(e.b);
    e.b.setInsertionPointToStart(module.getBody());
    auto values = DenseElementsAttr::get(
        RankedTensorType::get(type.getShape(), type.getElementType()), data);
    memref::GlobalOp::create(e.b, e.loc, name, e.b.getStringAttr("private"),
                             type, values,
                             /*constant=*/true, e.b.getI64IntegerAttr(64));
  }
  return memref::GetGlobalOp::create(e.b, e.loc, type, name);
}

func::FuncOp quench::getOrCreateLookup(ModuleOp module,
                                       const LookupSpec &spec) {
  OpBuilder b(module.getContext());
  Type f = flat(b.getF32Type()), i = b.getIndexType();
  const Format &format = *spec.format;
  const BlockLayout &layout = format.layout();
  std::string name = "lookup_" + symbolOf(format.spec()) + "_" +
                     std::to_string(spec.n) + "x" + std::to_string(spec.k) +
                     "_i" + std::to_string(spec.idType.getIntOrFloatBitWidth());
  bool made;
  func::FuncOp function =
      makeKernel(module, name,
                 {flat(spec.idType), flat(b.getI8Type()), f,
                  LLVM::LLVMPointerType::get(b.getContext()), i, i},
                 made);
  if (!made)
    return function;
  Block &body = function.getBody().front();
  b.setInsertionPointToStart(&body);
  Emitter e(b, function.getLoc());
  Location loc = e.loc;
  Value ids = body.getArgument(0), w = body.getArgument(1),
        y = body.getArgument(2);
  StreamShape stream(format, spec.n, spec.k);
  std::vector<int32_t> order = stagedOrder(format, spec.k);
  Value places = constantInts(e, module, "order_" + name, order);
  Value line = memref::AllocaOp::create(
      b, loc, MemRefType::get({layout.columns * 16}, b.getF32Type()),
      b.getI64IntegerAttr(64));
  auto half = [&](Value at) {
    Value bytes = e.loadVector(w, at, VectorType::get({2}, b.getI8Type()));
    Value h = e.bitcast(bytes, VectorType::get({1}, b.getF16Type()));
    return arith::ExtFOp::create(
               b, loc, b.getF32Type(),
               vector::ExtractOp::create(b, loc, h, ArrayRef<int64_t>{0})
                   .getResult())
        .getResult();
  };
  auto byte = [&](Value at) {
    return arith::ExtUIOp::create(b, loc, b.getI32Type(), e.load(w, at))
        .getResult();
  };
  auto constant = [&](int32_t v) {
    return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(v));
  };
  // Of one row, as Emitter::loadScales: over scaleFactor().
  auto scaleAt = [&](Value at, Value lane) -> Value {
    ScaleKind kind = format.scaleKind();
    if (kind == ScaleKind::Half)
      return half(e.add(at, e.mul(lane, 2)));
    Value v = byte(e.add(at, lane));
    unsigned shift = kind == ScaleKind::E8M0 ? 23 : scaleShift(kind);
    v = arith::ShLIOp::create(b, loc, v, constant(shift));
    if (kind == ScaleKind::E8M0)
      return arith::BitcastOp::create(b, loc, b.getF32Type(), v);
    v = arith::TruncIOp::create(b, loc, b.getI16Type(), v);
    v = arith::BitcastOp::create(b, loc, b.getF16Type(), v);
    return arith::ExtFOp::create(b, loc, b.getF32Type(), v);
  };
  auto zeroAt = [&](Value at, Value lane) -> Value {
    if (format.hasFloatZero())
      return half(e.add(at, e.mul(lane, 2)));
    return arith::UIToFPOp::create(b, loc, b.getF32Type(),
                                   byte(e.add(at, lane)));
  };

  Value unit = unitScale(e, format, w, e.index(0));
  std::optional<ExponentStreams> exponents;
  if (stream.tailOffset >= 0)
    exponents.emplace(e, stream, w, e.index(0));
  e.loop(body.getArgument(4), body.getArgument(5), 1, [&](Value item) {
    Value id = arith::IndexCastOp::create(b, loc, i, e.load(ids, item));
    id = clampIndex(e, id, spec.n, body.getArgument(3));
    Value pass = arith::DivUIOp::create(b, loc, id, e.index(kPassRows));
    Value inPass = arith::RemUIOp::create(b, loc, id, e.index(kPassRows));
    Value second = arith::DivUIOp::create(b, loc, inPass, e.index(kBlockRows));
    Value lane = arith::RemUIOp::create(b, loc, inPass, e.index(kBlockRows));
    Value passAt = e.add(passOffset(e, stream, pass), stream.headerBytes);
    auto readHalf = [&](int64_t h) {
      if (exponents)
        exponents->begin(pass, h);
      Value rowScale, rowZero;
      if (stream.rowZeroOffset >= 0)
        rowZero = zeroAt(
            e.add(passAt, stream.rowZeroOffset +
                              h * (format.hasFloatZero() ? 2 : 1) * kBlockRows),
            lane);
      if (stream.rowScaleOffset >= 0)
        rowScale = half(e.add(
            e.add(passAt, stream.rowScaleOffset + h * stream.rowScaleStride),
            e.mul(lane, 2)));
      e.loop(e.index(0), e.index(stream.blocks), 1, [&](Value block) {
        Value base =
            e.add(passAt, e.mul(block, layout.bytes * layout.rowBlocks()));
        for (auto [step, offset] : llvm::enumerate(layout.stepOffsets)) {
          QKRegisterBuilder builder(e, layout, w, base,
                                    e.index(stream.tableOffset), h, nullptr,
                                    exponents ? &*exponents : nullptr);
          SmallVector<FloatPlane> planes;
          format.decodeFloatStep(builder, offset, planes);
          for (const FloatPlane &plane : planes)
            e.storeVector(
                QKRegisterBuilder::value(plane.value), line,
                e.index((step * layout.stepColumns + plane.column) * 16));
        }
        int64_t groups = std::max<int64_t>(layout.groupsPerBlock(), 1);
        int64_t columns = layout.columns / groups;
        for (int64_t g = 0; g != groups; ++g) {
          Value scale = rowScale, zero = rowZero;
          if (layout.groupsPerBlock())
            scale = scaleAt(e.add(base, interleavedOffset(
                                            layout, h, layout.scaleOffset(g))),
                            lane);
          if (!layout.zeroOffsets.empty())
            zero = zeroAt(
                e.add(base, interleavedOffset(layout, h, layout.zeroOffset(g))),
                lane);
          e.loop(
              e.index(g * columns), e.index((g + 1) * columns), 1,
              [&](Value column) {
                Value place =
                    e.load(places, e.add(e.mul(block, layout.columns), column));
                Value real = arith::CmpIOp::create(
                    b, loc, arith::CmpIPredicate::sge, place,
                    arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0)));
                e.when(real, [&] {
                  Value v = e.load(line, e.add(e.mul(column, 16), lane));
                  if (zero)
                    v = arith::SubFOp::create(b, loc, v, zero);
                  if (unit)
                    v = e.mulFloat(v, unit);
                  if (scale)
                    v = arith::MulFOp::create(b, loc, v, scale);
                  Value at = arith::IndexCastOp::create(b, loc, i, place);
                  e.store(v, y, e.add(e.mul(item, spec.k), at));
                });
              });
        }
      });
    };
    Value isFirst = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq,
                                          second, e.index(0));
    auto choice = scf::IfOp::create(b, loc, isFirst, /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(choice.thenBlock());
    readHalf(0);
    b.setInsertionPointToStart(choice.elseBlock());
    readHalf(1);
  });
  func::ReturnOp::create(b, e.loc);
  return function;
}
