//===- QKToGeneric.cpp - qk to plain vector code --------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Conversion/QKToGeneric/QKToGeneric.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"
#include "quench/Dialect/QK/IR/QK.h"
#include "llvm/Support/Format.h"

using namespace mlir;
using namespace quench;

namespace {

/// A vector constant with the same value in every lane.
Value splat(OpBuilder &b, Location loc, Type type, int64_t value) {
  auto vector = cast<VectorType>(type);
  auto attr = DenseElementsAttr::get(
      vector, APInt(vector.getElementTypeBitWidth(), value, /*isSigned=*/true,
                    /*implicitTrunc=*/true));
  return arith::ConstantOp::create(b, loc, attr);
}

Value splatFloat(OpBuilder &b, Location loc, Type type, float value) {
  return arith::ConstantOp::create(
      b, loc, DenseElementsAttr::get(cast<VectorType>(type), value));
}

Value bitcast(OpBuilder &b, Location loc, Type type, Value value) {
  if (value.getType() == type)
    return value;
  return vector::BitCastOp::create(b, loc, cast<VectorType>(type), value);
}

int64_t lanes(Value value) {
  return cast<VectorType>(value.getType()).getNumElements();
}

struct LowerField : OpRewritePattern<qk::FieldOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::FieldOp op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    int off = op.getOff(), at = op.getAt();
    Value v = op.getValue();
    if (at > off)
      v = arith::ShLIOp::create(b, loc, v,
                                splat(b, loc, v.getType(), at - off));
    if (at < off)
      v = arith::ShRUIOp::create(b, loc, v,
                                 splat(b, loc, v.getType(), off - at));
    int64_t mask = ((1 << op.getWidth()) - 1) << at;
    b.replaceOpWithNewOp<arith::AndIOp>(op, v,
                                        splat(b, loc, v.getType(), mask));
    return success();
  }
};

struct LowerWindow : OpRewritePattern<qk::WindowOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::WindowOp op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    int unit = op.getUnit();
    int64_t mask = (1 << op.getWidth().value_or(8)) - 1;
    auto type = VectorType::get({lanes(op.getLo()) / (unit / 8)},
                                b.getIntegerType(unit));
    Value lo = bitcast(b, loc, type, op.getLo());
    Value hi = op.getHi() ? bitcast(b, loc, type, op.getHi()) : Value();
    Value result;
    for (auto [n, pos] : llvm::enumerate(op.getPos())) {
      Value v = pos < unit ? lo : hi;
      if (int shift = pos % unit)
        v = arith::ShRUIOp::create(b, loc, v, splat(b, loc, type, shift));
      if (hi && pos < unit && pos + 8 > unit)
        v = arith::OrIOp::create(
            b, loc, v,
            arith::ShLIOp::create(b, loc, hi, splat(b, loc, type, unit - pos)));
      v = arith::AndIOp::create(b, loc, v, splat(b, loc, type, mask));
      if (n)
        v = arith::ShLIOp::create(b, loc, v, splat(b, loc, type, 8 * n));
      result = result ? arith::OrIOp::create(b, loc, result, v).getResult() : v;
    }
    b.replaceOp(op, bitcast(b, loc, op.getType(), result));
    return success();
  }
};

/// Entry `index` mod `size` of a table in memory; a gather of the lanes is
/// split to loads where the target has none.
Value gatherEntries(OpBuilder &b, Location loc, Value base, int64_t size,
                    Value index, VectorType type) {
  auto words = VectorType::get({lanes(index)}, b.getI32Type());
  index = arith::AndIOp::create(b, loc, index,
                                splat(b, loc, index.getType(), size - 1));
  if (index.getType() != words)
    index = arith::ExtUIOp::create(b, loc, words, index);
  Value mask =
      splat(b, loc, VectorType::get(type.getShape(), b.getI1Type()), 1);
  Value rest = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  Value zero = arith::ConstantIndexOp::create(b, loc, 0);
  return vector::GatherOp::create(b, loc, type, base, ValueRange{zero}, index,
                                  mask, rest);
}

/// Constant tables lie in memory.
struct LowerLookup : OpRewritePattern<qk::LookupOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::LookupOp op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    auto module = op->getParentOfType<ModuleOp>();
    if (!module)
      return b.notifyMatchFailure(op, "a table needs a module around it");
    int64_t size = op.getTable().getNumElements();
    auto memref = MemRefType::get({size}, op.getTable().getElementType());
    auto tensor = RankedTensorType::get({size}, memref.getElementType());
    auto dense = dyn_cast<DenseElementsAttr>(op.getTable());
    if (!dense)
      return b.notifyMatchFailure(op, "the table is no dense constant");
    if (succeeded(replaceLinear(op, dense, b)))
      return success();
    auto global = getTable(b, module, memref, dense.reshape(tensor));
    Value base =
        memref::GetGlobalOp::create(b, loc, memref, global.getSymName());
    b.replaceOp(op, gatherEntries(b, loc, base, size, op.getIndex(),
                                  cast<VectorType>(op.getResult().getType())));
    return success();
  }

private:
  /// Floats that count up by one need no table.
  static LogicalResult replaceLinear(qk::LookupOp op, DenseElementsAttr table,
                                     PatternRewriter &b) {
    if (!table.getElementType().isF32() ||
        !cast<VectorType>(op.getIndex().getType())
             .getElementType()
             .isInteger(32))
      return failure();
    auto entries = table.getValues<float>();
    for (int64_t i = 1; i < table.getNumElements(); ++i)
      if (entries[i] != entries[0] + i)
        return failure();
    Location loc = op.getLoc();
    Type type = op.getResult().getType();
    Value index = op.getIndex();
    index = arith::AndIOp::create(
        b, loc, index,
        splat(b, loc, index.getType(), table.getNumElements() - 1));
    Value v = arith::SIToFPOp::create(b, loc, type, index);
    b.replaceOpWithNewOp<arith::AddFOp>(op, v,
                                        splatFloat(b, loc, type, entries[0]));
    return success();
  }

  /// The module's global with this content; made if there is none.
  static memref::GlobalOp getTable(PatternRewriter &b, ModuleOp module,
                                   MemRefType type, DenseElementsAttr table) {
    std::string name;
    llvm::raw_string_ostream os(name);
    os << "qk_table_" << llvm::format_hex_no_prefix(hash(table), 16);
    while (auto found = module.lookupSymbol<memref::GlobalOp>(name)) {
      if (found.getInitialValue() == Attribute(table))
        return found;
      name += "_";
    }
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(module.getBody());
    return memref::GlobalOp::create(b, module.getLoc(), name,
                                    b.getStringAttr("private"), type, table,
                                    /*constant=*/true, b.getI64IntegerAttr(64));
  }

  /// FNV-1a of the content: the same on every machine.
  static uint64_t hash(DenseElementsAttr table) {
    uint64_t h = 0xcbf29ce484222325;
    for (char c : table.getRawData())
      h = (h ^ uint8_t(c)) * 0x100000001b3;
    return h;
  }
};

/// Tables in registers are written to the stack first.
struct LowerLookupValues : OpRewritePattern<qk::LookupValuesOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::LookupValuesOp op,
                                PatternRewriter &b) const override {
    auto function = op->getParentOfType<FunctionOpInterface>();
    if (!function)
      return b.notifyMatchFailure(op, "a table needs a function around it");
    Location loc = op.getLoc();
    auto type = cast<VectorType>(op.getResult().getType());
    int64_t width = type.getNumElements(), size = width * op.getTables().size();
    Value base;
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(&function.getFunctionBody().front());
      base = memref::AllocaOp::create(
          b, loc, MemRefType::get({size}, type.getElementType()),
          b.getI64IntegerAttr(64));
    }
    for (auto [i, table] : llvm::enumerate(op.getTables())) {
      Value at = arith::ConstantIndexOp::create(b, loc, i * width);
      vector::StoreOp::create(b, loc, table, base, ValueRange{at});
    }
    b.replaceOp(op, gatherEntries(b, loc, base, size, op.getIndex(), type));
    return success();
  }
};

/// Each input bit adds (xor) its column of the matrix.
struct LowerAffine : OpRewritePattern<qk::AffineOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::AffineOp op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    Value v = op.getValue();
    Type type = v.getType();
    Value result = splat(b, loc, type, op.getConstant());
    for (int bit = 0; bit < 8; ++bit) {
      int64_t column = 0;
      for (auto [n, row] : llvm::enumerate(op.getRows()))
        column |= int64_t(row >> bit & 1) << n;
      if (!column)
        continue;
      Value t = v;
      if (bit != 7)
        t = arith::ShLIOp::create(b, loc, t, splat(b, loc, type, 7 - bit));
      t = arith::ShRSIOp::create(b, loc, t, splat(b, loc, type, 7));
      t = arith::AndIOp::create(b, loc, t, splat(b, loc, type, column));
      result = arith::XOrIOp::create(b, loc, result, t);
    }
    b.replaceOp(op, result);
    return success();
  }
};

struct LowerDot4 : OpRewritePattern<qk::Dot4Op> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::Dot4Op op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    Type type = op.getType();
    Value w = bitcast(b, loc, type, op.getW()), acc = op.getAcc();
    for (int j = 0; j < 4; ++j) {
      Value wj = w;
      if (j)
        wj = arith::ShRUIOp::create(b, loc, w, splat(b, loc, type, 8 * j));
      if (j != 3)
        wj = arith::AndIOp::create(b, loc, wj, splat(b, loc, type, 255));
      Value up =
          arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(24 - 8 * j));
      Value down = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(24));
      Value xj = arith::ShRSIOp::create(
          b, loc, arith::ShLIOp::create(b, loc, op.getX(), up), down);
      xj = vector::BroadcastOp::create(b, loc, type, xj);
      acc = arith::AddIOp::create(b, loc, acc,
                                  arith::MulIOp::create(b, loc, wj, xj));
    }
    b.replaceOp(op, acc);
    return success();
  }
};

struct LowerAddWide : OpRewritePattern<qk::AddWideOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::AddWideOp op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    Type type = op.getEven().getType();
    Value v = bitcast(b, loc, type, op.getV());
    Value even = arith::AndIOp::create(b, loc, v, splat(b, loc, type, 255));
    Value odd = arith::ShRUIOp::create(b, loc, v, splat(b, loc, type, 8));
    Value e = arith::AddIOp::create(b, loc, op.getEven(), even);
    Value o = arith::AddIOp::create(b, loc, op.getOdd(), odd);
    b.replaceOp(op, {e, o});
    return success();
  }
};

/// Adding and subtracting 1.5 * 2^23 rounds a small number to an integer, half
/// to even, without a call into libm on targets that cannot round.
struct LowerQuantize : OpRewritePattern<qk::QuantizeOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::QuantizeOp op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    Type type = op.getValue().getType();
    Value inverse = vector::BroadcastOp::create(b, loc, type, op.getInverse());
    Value v = arith::MulFOp::create(b, loc, op.getValue(), inverse);
    auto nnan = arith::FastMathFlags::nnan;
    v = arith::MinimumFOp::create(b, loc, v, splatFloat(b, loc, type, 127.0f),
                                  nnan);
    v = arith::MaximumFOp::create(b, loc, v, splatFloat(b, loc, type, -127.0f),
                                  nnan);
    Value magic = splatFloat(b, loc, type, 12582912.0f);
    v = arith::AddFOp::create(b, loc, v, magic);
    v = arith::SubFOp::create(b, loc, v, magic);
    auto words = VectorType::get({lanes(op.getValue())}, b.getI32Type());
    v = arith::FPToSIOp::create(b, loc, words, v);
    b.replaceOpWithNewOp<arith::TruncIOp>(op, op.getType(), v);
    return success();
  }
};

struct LowerButterfly : OpRewritePattern<qk::ButterflyOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::ButterflyOp op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    auto type = cast<VectorType>(op.getType());
    SmallVector<int64_t> order;
    SmallVector<float> signs;
    for (int64_t i = 0; i < type.getNumElements(); ++i) {
      order.push_back(i ^ op.getDistance());
      signs.push_back(i & op.getDistance() ? -1.0f : 1.0f);
    }
    Value v = op.getValue();
    Value partner = vector::ShuffleOp::create(b, loc, v, v, order);
    Value sign = arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(type, ArrayRef<float>(signs)));
    b.replaceOpWithNewOp<vector::FMAOp>(op, v, sign, partner);
    return success();
  }
};

struct ConvertQKToGeneric
    : PassWrapper<ConvertQKToGeneric, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(ConvertQKToGeneric)
  StringRef getArgument() const final { return "convert-qk-to-generic"; }
  StringRef getDescription() const final {
    return "Lower qk ops to plain vector code for any target of LLVM";
  }
  void getDependentDialects(DialectRegistry &registry) const final {
    registry.insert<arith::ArithDialect, memref::MemRefDialect,
                    vector::VectorDialect>();
  }
  void runOnOperation() final {
    RewritePatternSet patterns(&getContext());
    populateQKToGenericPatterns(patterns);
    if (failed(lowerQKOps(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace

void quench::populateQKToGenericPatterns(RewritePatternSet &patterns) {
  patterns
      .add<LowerField, LowerWindow, LowerLookup, LowerLookupValues, LowerAffine,
           LowerDot4, LowerAddWide, LowerQuantize, LowerButterfly>(
          patterns.getContext());
}

LogicalResult quench::lowerQKOps(Operation *module,
                                 RewritePatternSet &&patterns) {
  walkAndApplyPatterns(module, FrozenRewritePatternSet(std::move(patterns)));
  WalkResult left = module->walk([](Operation *op) {
    if (!isa_and_nonnull<qk::QKDialect>(op->getDialect()))
      return WalkResult::advance();
    op->emitOpError("has no lowering for its operand types");
    return WalkResult::interrupt();
  });
  return failure(left.wasInterrupted());
}

std::unique_ptr<Pass> quench::createConvertQKToGenericPass() {
  return std::make_unique<ConvertQKToGeneric>();
}

void quench::registerConvertQKToGenericPass() {
  PassRegistration<ConvertQKToGeneric>();
}
