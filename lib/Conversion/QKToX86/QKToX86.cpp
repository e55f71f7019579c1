//===- QKToX86.cpp - qk to AVX-512 ----------------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Conversion/QKToX86/QKToX86.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"
#include "quench/Conversion/QKToGeneric/QKToGeneric.h"
#include "quench/Dialect/QK/IR/QK.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace quench;

X86Features X86Features::parse(StringRef features) {
  llvm::StringSet<> on;
  SmallVector<StringRef> items;
  features.split(items, ',', -1, false);
  for (StringRef item : items)
    if (item.trim().consume_front("+"))
      on.insert(item.trim().drop_front());
  auto has = [&](StringRef name) { return on.contains(name); };
  X86Features result;
  result.avx512 =
      has("avx512f") && has("avx512bw") && has("avx512dq") && has("avx512vl");
  result.vnni = result.avx512 && has("avx512vnni");
  result.vbmi = result.avx512 && has("avx512vbmi");
  result.gfni = result.avx512 && has("gfni");
  return result;
}

namespace {

VectorType bytes(OpBuilder &b) { return VectorType::get({64}, b.getI8Type()); }
VectorType words(OpBuilder &b) { return VectorType::get({16}, b.getI32Type()); }

Value bitcast(OpBuilder &b, Location loc, Type type, Value value) {
  if (value.getType() == type)
    return value;
  return vector::BitCastOp::create(b, loc, cast<VectorType>(type), value);
}

Value splat(OpBuilder &b, Location loc, VectorType type, int64_t value) {
  auto attr = DenseElementsAttr::get(
      type, APInt(type.getElementTypeBitWidth(), value, true, true));
  return arith::ConstantOp::create(b, loc, attr);
}

/// A register of constant bytes, repeated as often as it fits.
Value constant(OpBuilder &b, Location loc, ArrayRef<uint8_t> values) {
  SmallVector<uint8_t> all;
  while (all.size() < 64)
    all.append(values.begin(), values.end());
  auto attr = DenseElementsAttr::getFromRawBuffer(
      bytes(b), ArrayRef<char>(reinterpret_cast<char *>(all.data()), 64));
  return arith::ConstantOp::create(b, loc, attr);
}

Value intrinsic(OpBuilder &b, Location loc, StringRef name, Type type,
                ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(b, loc, type, b.getStringAttr(name),
                                       operands)
      .getResult(0);
}

/// Shifts of words: the bits that cross a byte are masked away.
struct FieldToAVX512 : OpRewritePattern<qk::FieldOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::FieldOp op,
                                PatternRewriter &b) const override {
    if (op.getType() != bytes(b))
      return failure();
    Location loc = op.getLoc();
    int off = op.getOff(), at = op.getAt();
    auto halves = VectorType::get({32}, b.getI16Type());
    Value v = op.getValue();
    if (at != off) {
      Value h = bitcast(b, loc, halves, v);
      Value by = splat(b, loc, halves, std::abs(at - off));
      h = at > off ? arith::ShLIOp::create(b, loc, h, by).getResult()
                   : arith::ShRUIOp::create(b, loc, h, by).getResult();
      v = bitcast(b, loc, bytes(b), h);
    }
    uint8_t mask = ((1 << op.getWidth()) - 1) << at;
    b.replaceOpWithNewOp<arith::AndIOp>(op, v, constant(b, loc, {mask}));
    return success();
  }
};

/// vpmultishiftqb; a lane continued by `hi` is first brought together by a
/// funnel shift when one of 32 bits holds all that is read.
struct WindowToAVX512 : OpRewritePattern<qk::WindowOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::WindowOp op,
                                PatternRewriter &b) const override {
    if (op.getType() != bytes(b))
      return failure();
    Location loc = op.getLoc();
    int unit = op.getUnit(), base = 0;
    Value v = op.getLo();
    if (Value hi = op.getHi()) {
      base = *llvm::min_element(op.getPos());
      int last = *llvm::max_element(op.getPos());
      if (base >= unit) {
        v = hi;
        base = unit;
      } else if (unit == 32 && last - base <= 24) {
        if (base)
          v = intrinsic(b, loc, "llvm.fshr.v16i32", words(b),
                        {bitcast(b, loc, words(b), hi),
                         bitcast(b, loc, words(b), v),
                         splat(b, loc, words(b), base)});
        v = bitcast(b, loc, bytes(b), v);
      } else if (last + 8 > unit) {
        return failure();
      } else {
        base = 0;
      }
    }
    SmallVector<uint8_t> control;
    bool isWhole = unit == 32 && base == op.getPos()[0];
    for (int lane = 0; lane < 64; lane += unit)
      for (auto [i, pos] : llvm::enumerate(op.getPos())) {
        control.push_back(lane + pos - base);
        isWhole &= pos == base + 8 * static_cast<int32_t>(i);
      }
    if (isWhole && op.getWidth().value_or(8) == 8) { // a funnel shift, no more
      b.replaceOp(op, v);
      return success();
    }
    Value result = intrinsic(b, loc, "llvm.x86.avx512.pmultishift.qb.512",
                             bytes(b), {constant(b, loc, control), v});
    if (auto width = op.getWidth(); width && *width < 8)
      result = arith::AndIOp::create(
          b, loc, result, constant(b, loc, uint8_t((1 << *width) - 1)));
    b.replaceOp(op, result);
    return success();
  }
};

/// The value of bytes without a mask that leaves their low `bits` bits alone.
Value unmasked(Value value, unsigned bits) {
  auto mask = value.getDefiningOp<arith::AndIOp>();
  DenseIntElementsAttr constant;
  if (!mask || !matchPattern(mask.getRhs(), m_Constant(&constant)))
    return value;
  bool keeps = llvm::all_of(constant.getValues<APInt>(), [&](const APInt &c) {
    return c.countTrailingOnes() >= bits;
  });
  return keeps ? mask.getLhs() : value;
}

/// Small tables are repeated over the register, so that the high bits of an
/// index do not matter.
struct LookupToAVX512 : OpRewritePattern<qk::LookupOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::LookupOp op,
                                PatternRewriter &b) const override {
    auto table = dyn_cast<DenseIntElementsAttr>(op.getTable());
    if (!table || op.getResult().getType() != bytes(b))
      return failure();
    Location loc = op.getLoc();
    SmallVector<uint8_t> all;
    for (APInt entry : table.getValues<APInt>())
      all.push_back(entry.getZExtValue());
    SmallVector<Value, 4> part;
    for (size_t i = 0; i < all.size(); i += 64)
      part.push_back(constant(b, loc,
                              ArrayRef<uint8_t>(all).slice(
                                  i, std::min<size_t>(64, all.size() - i))));
    b.replaceOp(op,
                entries(b, loc, part,
                        unmasked(op.getIndex(), llvm::Log2_64(all.size()))));
    return success();
  }

  /// The entries of a table of 64, 128 or 256 bytes.
  static Value entries(OpBuilder &b, Location loc, ArrayRef<Value> part,
                       Value index) {
    auto two = [&](Value lo, Value hi) {
      return intrinsic(b, loc, "llvm.x86.avx512.vpermi2var.qi.512", bytes(b),
                       {lo, index, hi});
    };
    if (part.size() == 1)
      return intrinsic(b, loc, "llvm.x86.avx512.permvar.qi.512", bytes(b),
                       {part[0], index});
    Value result = two(part[0], part[1]);
    if (part.size() == 2)
      return result;
    Value high = two(part[2], part[3]);
    Value sign = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, index,
                                       splat(b, loc, bytes(b), 0));
    return arith::SelectOp::create(b, loc, sign, high, result);
  }
};

struct LookupValuesToAVX512 : OpRewritePattern<qk::LookupValuesOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::LookupValuesOp op,
                                PatternRewriter &b) const override {
    if (op.getResult().getType() != bytes(b))
      return failure();
    SmallVector<Value> tables(op.getTables());
    Value index = unmasked(op.getIndex(), llvm::Log2_64(64 * tables.size()));
    b.replaceOp(op, LookupToAVX512::entries(b, op.getLoc(), tables, index));
    return success();
  }
};

/// vpermps looks at four bits of an index only.
struct FloatLookupToAVX512 : OpRewritePattern<qk::LookupOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::LookupOp op,
                                PatternRewriter &b) const override {
    auto table = dyn_cast<DenseFPElementsAttr>(op.getTable());
    auto type = VectorType::get({16}, b.getF32Type());
    if (!table || op.getResult().getType() != type ||
        op.getIndex().getType() != words(b))
      return failure();
    Location loc = op.getLoc();
    Value entries = arith::ConstantOp::create(b, loc, table.reshape(type));
    b.replaceOp(op, lookup(b, loc, entries, op.getIndex()));
    return success();
  }

  static Value lookup(OpBuilder &b, Location loc, Value entries, Value index) {
    // A whole byte of masked bytes needs no mask either.
    auto shift = index.getDefiningOp<arith::ShRUIOp>();
    Value before = shift ? shift.getLhs() : index;
    APInt amount(32, 0);
    if (!shift || (matchPattern(shift.getRhs(), m_ConstantInt(&amount)) &&
                   amount.urem(8) == 0))
      if (auto cast = before.getDefiningOp<vector::BitCastOp>();
          cast && cast.getSource().getType() == bytes(b)) {
        index = bitcast(b, loc, words(b), unmasked(cast.getSource(), 4));
        if (shift)
          index = arith::ShRUIOp::create(b, loc, index, shift.getRhs());
      }
    return intrinsic(b, loc, "llvm.x86.avx512.permvar.sf.512",
                     entries.getType(), {entries, index});
  }
};

struct FloatLookupValuesToAVX512 : OpRewritePattern<qk::LookupValuesOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::LookupValuesOp op,
                                PatternRewriter &b) const override {
    if (op.getResult().getType() != VectorType::get({16}, b.getF32Type()))
      return failure();
    b.replaceOp(op, FloatLookupToAVX512::lookup(
                        b, op.getLoc(), op.getTables()[0], op.getIndex()));
    return success();
  }
};

struct AffineToAVX512 : OpRewritePattern<qk::AffineOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::AffineOp op,
                                PatternRewriter &b) const override {
    if (op.getType() != bytes(b))
      return failure();
    Location loc = op.getLoc();
    // The instruction's matrix has the row of bit 7 first.
    SmallVector<uint8_t> matrix(llvm::reverse(op.getRows()));
    Value imm = arith::ConstantOp::create(
        b, loc, b.getIntegerAttr(b.getI8Type(), int8_t(op.getConstant())));
    b.replaceOp(op, intrinsic(b, loc, "llvm.x86.vgf2p8affineqb.512", bytes(b),
                              {op.getValue(), constant(b, loc, matrix), imm}));
    return success();
  }
};

struct Dot4ToVNNI : OpRewritePattern<qk::Dot4Op> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::Dot4Op op,
                                PatternRewriter &b) const override {
    if (op.getW().getType() != bytes(b))
      return failure();
    Location loc = op.getLoc();
    Value x = vector::BroadcastOp::create(b, loc, words(b), op.getX());
    b.replaceOp(
        op, intrinsic(b, loc, "llvm.x86.avx512.vpdpbusd.512", words(b),
                      {op.getAcc(), op.getW(), bitcast(b, loc, bytes(b), x)}));
    return success();
  }
};

/// vcvtps2dq rounds half to even in one instruction.
struct QuantizeToAVX512 : OpRewritePattern<qk::QuantizeOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(qk::QuantizeOp op,
                                PatternRewriter &b) const override {
    auto type = VectorType::get({16}, b.getF32Type());
    if (op.getValue().getType() != type)
      return failure();
    Location loc = op.getLoc();
    Value inverse = vector::BroadcastOp::create(b, loc, type, op.getInverse());
    Value v = arith::MulFOp::create(b, loc, op.getValue(), inverse);
    auto limit = [&](float value) {
      return arith::ConstantOp::create(b, loc,
                                       DenseElementsAttr::get(type, value));
    };
    auto nnan = arith::FastMathFlags::nnan;
    v = arith::MinimumFOp::create(b, loc, v, limit(127.0f), nnan);
    v = arith::MaximumFOp::create(b, loc, v, limit(-127.0f), nnan);
    Value all = arith::ConstantOp::create(b, loc, b.getI16IntegerAttr(-1));
    Value current = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(4));
    v = intrinsic(b, loc, "llvm.x86.avx512.mask.cvtps2dq.512", words(b),
                  {v, splat(b, loc, words(b), 0), all, current});
    b.replaceOpWithNewOp<arith::TruncIOp>(op, op.getType(), v);
    return success();
  }
};

struct ConvertQKToX86 : PassWrapper<ConvertQKToX86, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(ConvertQKToX86)
  ConvertQKToX86() = default;
  explicit ConvertQKToX86(X86Features features) : given(features) {}
  ConvertQKToX86(const ConvertQKToX86 &other)
      : PassWrapper(other), given(other.given) {}

  StringRef getArgument() const final { return "convert-qk-to-x86"; }
  StringRef getDescription() const final {
    return "Lower qk ops to AVX-512, where the features allow it";
  }
  void getDependentDialects(DialectRegistry &registry) const final {
    registry.insert<arith::ArithDialect, LLVM::LLVMDialect,
                    memref::MemRefDialect, vector::VectorDialect>();
  }
  void runOnOperation() final {
    X86Features use = given;
    if (!features.empty())
      use = X86Features::parse(features);
    RewritePatternSet patterns(&getContext());
    populateQKToX86Patterns(patterns, use);
    populateQKToGenericPatterns(patterns);
    if (failed(lowerQKOps(getOperation(), std::move(patterns))))
      signalPassFailure();
  }

  X86Features given;
  Option<std::string> features{
      *this, "features",
      llvm::cl::desc("Target features in LLVM's form, \"+avx512f,+gfni,...\"")};
};

} // namespace

void quench::populateQKToX86Patterns(RewritePatternSet &patterns,
                                     const X86Features &features) {
  MLIRContext *context = patterns.getContext();
  PatternBenefit benefit = 2;
  if (features.avx512)
    patterns.add<FieldToAVX512, FloatLookupToAVX512, FloatLookupValuesToAVX512,
                 QuantizeToAVX512>(context, benefit);
  if (features.vbmi)
    patterns.add<WindowToAVX512, LookupToAVX512, LookupValuesToAVX512>(context,
                                                                       benefit);
  if (features.gfni)
    patterns.add<AffineToAVX512>(context, benefit);
  if (features.vnni)
    patterns.add<Dot4ToVNNI>(context, benefit);
}

std::unique_ptr<Pass> quench::createConvertQKToX86Pass(X86Features features) {
  return std::make_unique<ConvertQKToX86>(features);
}

void quench::registerConvertQKToX86Pass() {
  PassRegistration<ConvertQKToX86>();
}
