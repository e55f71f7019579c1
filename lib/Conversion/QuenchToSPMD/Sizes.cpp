//===- Sizes.cpp - One value for each size -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// batch * sequence is computed in many ways: as a dimension of a collapsed
// view, as the product of two dimensions of another, times 64 before or after.
// Here each size is brought to a polynomial in the model's named dimensions,
// and sizes with equal polynomials become one value. Layers then differ in
// their weights only, and buffers of equal sizes can share memory.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "quench/Conversion/QuenchToSPMD/QuenchToSPMD.h"
#include "quench/Dialect/Quench/IR/Quench.h"

using namespace mlir;
using namespace quench;

namespace {

/// A sum of products: sorted factors to their coefficient, which is never zero.
/// Factors are numbers of atoms: named dimensions, and values that are no
/// polynomials.
using Monomial = SmallVector<unsigned>;
using Polynomial = std::map<Monomial, int64_t>;

class Sizes {
public:
  Polynomial of(Value v);
  Polynomial of(OpFoldResult size) {
    if (auto attr = dyn_cast<Attribute>(size))
      return constant(cast<IntegerAttr>(attr).getInt());
    return of(cast<Value>(size));
  }
  /// Dimension `i` of a buffer or view.
  Polynomial of(Value memref, int64_t i);

private:
  static Polynomial constant(int64_t c) {
    return c ? Polynomial{{Monomial(), c}} : Polynomial();
  }
  /// Wraps around as the machine's arithmetic does.
  static int64_t wrap(uint64_t v) { return static_cast<int64_t>(v); }
  static Polynomial sum(const Polynomial &a, const Polynomial &b, int64_t sign);
  static Polynomial product(const Polynomial &a, const Polynomial &b);
  Polynomial ofExpr(AffineExpr expr, ArrayRef<Polynomial> dims,
                    ArrayRef<Polynomial> symbols);
  /// What is known by its text only.
  Polynomial atom(const std::string &text) {
    unsigned n = atoms.try_emplace(text, atoms.size()).first->second;
    return {{Monomial{n}, 1}};
  }
  Polynomial compute(Value v);
  std::string textOf(const Polynomial &p);

  DenseMap<Value, Polynomial> known;
  std::map<std::string, unsigned> atoms;
};

} // namespace

Polynomial Sizes::sum(const Polynomial &a, const Polynomial &b, int64_t sign) {
  Polynomial result = a;
  for (const auto &[monomial, c] : b) {
    int64_t &at = result[monomial];
    at = wrap(uint64_t(at) + uint64_t(sign) * uint64_t(c));
    if (!at)
      result.erase(monomial);
  }
  return result;
}

Polynomial Sizes::product(const Polynomial &a, const Polynomial &b) {
  Polynomial result;
  for (const auto &[m, c] : a)
    for (const auto &[n, d] : b) {
      Monomial both(m);
      both.append(n);
      llvm::sort(both);
      result = sum(result, {{both, wrap(uint64_t(c) * uint64_t(d))}}, 1);
    }
  return result;
}

Polynomial Sizes::ofExpr(AffineExpr expr, ArrayRef<Polynomial> dims,
                         ArrayRef<Polynomial> symbols) {
  if (auto c = dyn_cast<AffineConstantExpr>(expr))
    return constant(c.getValue());
  if (auto d = dyn_cast<AffineDimExpr>(expr))
    return dims[d.getPosition()];
  if (auto s = dyn_cast<AffineSymbolExpr>(expr))
    return symbols[s.getPosition()];
  auto binary = cast<AffineBinaryOpExpr>(expr);
  Polynomial lhs = ofExpr(binary.getLHS(), dims, symbols);
  Polynomial rhs = ofExpr(binary.getRHS(), dims, symbols);
  if (expr.getKind() == AffineExprKind::Add)
    return sum(lhs, rhs, 1);
  if (expr.getKind() == AffineExprKind::Mul)
    return product(lhs, rhs);
  return atom("affine " + std::to_string(unsigned(expr.getKind())) + " " +
              textOf(lhs) + ", " + textOf(rhs));
}

std::string Sizes::textOf(const Polynomial &p) {
  std::string text;
  llvm::raw_string_ostream os(text);
  for (const auto &[monomial, c] : p) {
    os << c;
    for (unsigned factor : monomial)
      os << "*" << factor;
    os << "+";
  }
  return text;
}

Polynomial Sizes::of(Value memref, int64_t i) {
  auto type = cast<MemRefType>(memref.getType());
  if (!type.isDynamicDim(i))
    return constant(type.getDimSize(i));
  int64_t n = type.getDynamicDimIndex(i);
  Operation *op = memref.getDefiningOp();
  if (auto alloc = dyn_cast_or_null<memref::AllocOp>(op))
    return of(alloc.getDynamicSizes()[n]);
  if (auto cast = dyn_cast_or_null<memref::CastOp>(op);
      cast && isa<MemRefType>(cast.getSource().getType()))
    return of(cast.getSource(), i);
  if (auto view = dyn_cast_or_null<memref::ReinterpretCastOp>(op))
    return of(view.getMixedSizes()[i]);
  if (auto view = dyn_cast_or_null<memref::ExpandShapeOp>(op))
    return of(view.getMixedOutputShape()[i]);
  if (auto view = dyn_cast_or_null<memref::SubViewOp>(op);
      view && view.getDroppedDims().none())
    return of(view.getMixedSizes()[i]);
  if (auto view = dyn_cast_or_null<memref::CollapseShapeOp>(op)) {
    Polynomial all = constant(1);
    ReassociationIndices group = view.getReassociationIndices()[i];
    for (int64_t d : group)
      all = product(all, of(view.getSrc(), d));
    return all;
  }
  std::string text;
  llvm::raw_string_ostream(text)
      << "dim " << memref.getAsOpaquePointer() << " " << i;
  return atom(text);
}

Polynomial Sizes::of(Value v) {
  if (auto it = known.find(v); it != known.end())
    return it->second;
  Polynomial p = compute(v);
  known[v] = p;
  return p;
}

Polynomial Sizes::compute(Value v) {
  Operation *op = v.getDefiningOp();
  if (std::optional<int64_t> c = getConstantIntValue(v))
    return constant(*c);
  if (auto dim = dyn_cast_or_null<qn::DimOp>(op))
    return atom(("name " + dim.getName()).str());
  if (auto dim = dyn_cast_or_null<memref::DimOp>(op);
      dim && dim.getConstantIndex() &&
      isa<MemRefType>(dim.getSource().getType()))
    return of(dim.getSource(), *dim.getConstantIndex());
  if (isa_and_nonnull<arith::AddIOp>(op))
    return sum(of(op->getOperand(0)), of(op->getOperand(1)), 1);
  if (isa_and_nonnull<arith::SubIOp>(op))
    return sum(of(op->getOperand(0)), of(op->getOperand(1)), -1);
  if (isa_and_nonnull<arith::MulIOp>(op))
    return product(of(op->getOperand(0)), of(op->getOperand(1)));
  if (auto apply = dyn_cast_or_null<affine::AffineApplyOp>(op)) {
    SmallVector<Polynomial> operands;
    for (Value operand : apply.getMapOperands())
      operands.push_back(of(operand));
    AffineMap map = apply.getAffineMap();
    return ofExpr(map.getResult(0),
                  ArrayRef(operands).take_front(map.getNumDims()),
                  ArrayRef(operands).drop_front(map.getNumDims()));
  }
  std::string text;
  llvm::raw_string_ostream os(text);
  // Other arithmetic is equal where its operands are.
  bool isArithmetic =
      op && isPure(op) && op->getNumRegions() == 0 &&
      op->getNumResults() == 1 &&
      llvm::all_of(op->getOperandTypes(), [](Type t) { return t.isIndex(); });
  if (!isArithmetic) {
    os << "value " << v.getAsOpaquePointer();
    return atom(text);
  }
  os << op->getName() << op->getAttrDictionary();
  for (Value operand : op->getOperands())
    os << "(" << textOf(of(operand)) << ")";
  return atom(text);
}

void quench::shareSizes(func::FuncOp function) {
  Sizes sizes;
  std::map<Polynomial, Value> first;
  llvm::StringMap<Operation *> views;
  for (Operation &op : llvm::make_early_inc_range(function.getBody().front())) {
    if (op.getNumResults() != 1 || op.getNumRegions() != 0 || !isPure(&op) ||
        op.hasTrait<OpTrait::IsTerminator>())
      continue;
    Value v = op.getResult(0);
    if (v.getType().isIndex()) {
      // The first in the block is above all others.
      auto [it, isNew] = first.try_emplace(sizes.of(v), v);
      if (!isNew)
        v.replaceAllUsesWith(it->second);
      continue;
    }
    if (!isa<MemRefType>(v.getType()))
      continue;
    // Views that were made of different values may be equal now.
    std::string text;
    llvm::raw_string_ostream os(text);
    os << op.getName() << op.getAttrDictionary() << v.getType();
    for (Value operand : op.getOperands())
      os << " " << operand.getAsOpaquePointer();
    auto [it, isNew] = views.try_emplace(text, &op);
    if (!isNew)
      v.replaceAllUsesWith(it->second->getResult(0));
  }
  for (Operation &op :
       llvm::make_early_inc_range(llvm::reverse(function.getBody().front())))
    if (isOpTriviallyDead(&op))
      op.erase();
}
