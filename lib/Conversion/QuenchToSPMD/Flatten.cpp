//===- Flatten.cpp - Buffers of rank one behind views -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Functions take pointers: a buffer that crosses a call has rank one, its shape
// is a view made of sizes. The sizes of arguments come from the model's named
// dimensions.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "quench/Conversion/QuenchToSPMD/QuenchToSPMD.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Kernels/Layers.h"

using namespace mlir;
using namespace quench;
using namespace quench::qn;

namespace {

/// "past + 2*sequence + 1" as ops at the builder's place.
Value dimension(OpBuilder &b, Location loc, StringRef text) {
  Value sum;
  SmallVector<StringRef> terms;
  text.split(terms, '+');
  for (StringRef term : terms) {
    Value product;
    SmallVector<StringRef> factors;
    term.split(factors, '*');
    for (StringRef factor : factors) {
      int64_t number;
      Value v;
      if (!factor.trim().getAsInteger(10, number))
        v = arith::ConstantIndexOp::create(b, loc, number);
      else
        v = DimOp::create(b, loc, factor.trim());
      product = product ? Value(arith::MulIOp::create(b, loc, product, v)) : v;
    }
    sum = sum ? Value(arith::AddIOp::create(b, loc, sum, product)) : product;
  }
  return sum;
}

/// The shape over a flat buffer.
Value viewOf(OpBuilder &b, Location loc, Value flat, MemRefType type,
             ValueRange dynamicSizes) {
  SmallVector<ReassociationIndices> groups;
  if (type.getRank() == 0)
    return memref::CollapseShapeOp::create(b, loc, type, flat, groups);
  groups.emplace_back();
  SmallVector<OpFoldResult> sizes;
  unsigned next = 0;
  for (auto [i, size] : llvm::enumerate(type.getShape())) {
    groups[0].push_back(i);
    sizes.push_back(ShapedType::isDynamic(size)
                        ? OpFoldResult(dynamicSizes[next++])
                        : OpFoldResult(b.getIndexAttr(size)));
  }
  return memref::ExpandShapeOp::create(b, loc, type, flat, groups, sizes);
}

int64_t elementBytes(MemRefType type) {
  return std::max<int64_t>(1, type.getElementTypeBitWidth() / 8);
}

MemRefType flatType(MemRefType type) {
  int64_t n =
      type.hasStaticShape() ? type.getNumElements() : ShapedType::kDynamic;
  return MemRefType::get({n}, type.getElementType());
}

} // namespace

Value quench::sizedBuffer(OpBuilder &b, Location loc, Value flat, Value size) {
  return memref::ReinterpretCastOp::create(
      b, loc, cast<MemRefType>(flat.getType()), flat, b.getIndexAttr(0),
      ArrayRef<OpFoldResult>{size}, ArrayRef<OpFoldResult>{b.getIndexAttr(1)});
}

LogicalResult quench::flattenBuffers(func::FuncOp function) {
  OpBuilder b(function.getContext());
  Block &body = function.getBody().front();
  Location loc = function.getLoc();
  Value capacity;
  b.setInsertionPointToStart(&body);
  for (BlockArgument argument : body.getArguments()) {
    auto type = dyn_cast<MemRefType>(argument.getType());
    if (!type || (type.getRank() == 1 && !type.isDynamicDim(0)))
      continue;
    if (!type.getLayout().isIdentity())
      return function.emitError("argument ")
             << argument.getArgNumber() << " is not contiguous: " << type;
    unsigned n = argument.getArgNumber();
    SmallVector<Value> sizes;
    bool isState = function.getArgAttr(n, "quench.state") != nullptr;
    if (isState) {
      // Bytes of a cache for one key block of positions.
      int64_t bytes = elementBytes(type) * kKeyBlock;
      for (int64_t size : type.getShape())
        bytes *= ShapedType::isDynamic(size) ? 1 : size;
      if (function.getArgAttr(n, "quench.keys"))
        bytes /= kKeyTile;
      function.setArgAttr(n, "quench.state_bytes", b.getI64IntegerAttr(bytes));
    }
    auto dims = function.getArgAttrOfType<ArrayAttr>(n, "quench.dims");
    for (auto [i, size] : llvm::enumerate(type.getShape())) {
      if (!ShapedType::isDynamic(size))
        continue;
      if (isState) {
        // Positions in whole key blocks; keys in tiles.
        if (!capacity) {
          Value blocks = arith::AddIOp::create(
              b, loc, DimOp::create(b, loc, "capacity"),
              arith::ConstantIndexOp::create(b, loc, kKeyBlock - 1));
          blocks = arith::DivUIOp::create(
              b, loc, blocks,
              arith::ConstantIndexOp::create(b, loc, kKeyBlock));
          capacity = arith::MulIOp::create(
              b, loc, blocks,
              arith::ConstantIndexOp::create(b, loc, kKeyBlock));
        }
        bool keys = function.getArgAttr(n, "quench.keys") != nullptr;
        sizes.push_back(
            keys ? Value(arith::DivUIOp::create(
                       b, loc, capacity,
                       arith::ConstantIndexOp::create(b, loc, kKeyTile)))
                 : capacity);
        continue;
      }
      if (!dims || i >= dims.size())
        return function.emitError("argument ")
               << n << " has a dimension without a name: " << type;
      sizes.push_back(dimension(b, loc, cast<StringAttr>(dims[i]).getValue()));
    }
    SmallVector<OpOperand *> uses;
    for (OpOperand &use : argument.getUses())
      uses.push_back(&use);
    argument.setType(flatType(type));
    Value view = argument;
    if (!type.hasStaticShape()) {
      // A pointer knows no size: it is said here.
      int64_t fixed = 1;
      for (int64_t size : type.getShape())
        fixed *= ShapedType::isDynamic(size) ? 1 : size;
      Value total = arith::ConstantIndexOp::create(b, loc, fixed);
      for (Value size : sizes)
        total = arith::MulIOp::create(b, loc, total, size);
      view = sizedBuffer(b, loc, argument, total);
    }
    if (type.getRank() != 1)
      view = viewOf(b, loc, view, type, sizes);
    for (OpOperand *use : uses)
      use->set(view);
  }
  function.setType(FunctionType::get(function.getContext(),
                                     body.getArgumentTypes(),
                                     function.getFunctionType().getResults()));
  for (Operation &op : llvm::make_early_inc_range(body)) {
    auto alloc = dyn_cast<memref::AllocOp>(op);
    auto packed = dyn_cast<PackedOp>(op);
    if (!alloc && !packed)
      continue;
    auto type = cast<MemRefType>(op.getResult(0).getType());
    if (type.getRank() == 1)
      continue;
    b.setInsertionPoint(&op);
    Value flat;
    ValueRange dynamic;
    if (packed) {
      flat =
          PackedOp::create(b, op.getLoc(), flatType(type), packed.getSection());
    } else {
      dynamic = alloc.getDynamicSizes();
      Value size;
      if (!dynamic.empty()) {
        int64_t fixed = 1;
        for (int64_t s : type.getShape())
          fixed *= ShapedType::isDynamic(s) ? 1 : s;
        size = arith::ConstantIndexOp::create(b, op.getLoc(), fixed);
        for (Value s : dynamic)
          size = arith::MulIOp::create(b, op.getLoc(), size, s);
      }
      flat = memref::AllocOp::create(b, op.getLoc(), flatType(type),
                                     size ? ValueRange(size) : ValueRange());
    }
    op.getResult(0).replaceAllUsesWith(
        viewOf(b, op.getLoc(), flat, type, dynamic));
    op.erase();
  }
  return success();
}
