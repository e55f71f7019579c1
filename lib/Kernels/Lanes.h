//===- Lanes.h - A row of floats, sixteen at a time -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_KERNELS_LANES_H
#define QUENCH_LIB_KERNELS_LANES_H

#include "Emitter.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

namespace quench {

/// Emits loops over `width` floats, 16 at a time, the last ones under a mask.
class Lanes {
public:
  Lanes(Emitter &e, int64_t width) : e(e), width(width) {}

  /// Numbers in the last, partial register; 0 if there is none.
  int64_t tail() const { return width % 16; }

  /// body(offset, mask) for each register; the mask is null for whole ones.
  void forEach(llvm::function_ref<void(mlir::Value, mlir::Value)> body) {
    if (width >= 16)
      e.loop(e.index(0), e.index(width / 16 * 16), 16,
             [&](mlir::Value at) { body(at, mlir::Value()); });
    if (tail())
      body(e.index(width / 16 * 16), mask(tail()));
  }

  /// Folds the registers of memref[base ...] into `init`; masked lanes are 0.
  /// Four chains run side by side where the width allows it.
  mlir::Value
  reduce(mlir::Value memref, mlir::Value base, mlir::Value init,
         llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> fn,
         mlir::Value fill = {}) {
    int64_t chains = width >= 64 ? 4 : 1, step = 16 * chains;
    Emitter::Values sums(chains, init);
    if (width >= 16)
      sums = e.loop(
          0, width / step * step, step, sums,
          [&](mlir::Value at, mlir::ValueRange in) {
            Emitter::Values out;
            for (int64_t c = 0; c != chains; ++c)
              out.push_back(
                  fn(load(memref, e.add(e.add(base, at), 16 * c), {}), in[c]));
            return out;
          });
    for (int64_t at = width / step * step, c = 0; at < width; at += 16, ++c) {
      mlir::Value m = width - at < 16 ? mask(width - at) : mlir::Value();
      sums[c] = fn(load(memref, e.add(base, at), m, fill), sums[c]);
    }
    mlir::Value total = sums[0];
    for (int64_t c = 1; c != chains; ++c)
      total = e.addFloat(total, sums[c]);
    return total;
  }

  mlir::Value load(mlir::Value memref, mlir::Value at, mlir::Value mask,
                   mlir::Value fill = {}) {
    if (!mask)
      return e.loadVector(memref, at, e.floats);
    return mlir::vector::MaskedLoadOp::create(e.b, e.loc, e.floats, memref, at,
                                              mask, e.splatFloat(0));
  }
  void store(mlir::Value value, mlir::Value memref, mlir::Value at,
             mlir::Value mask) {
    if (!mask)
      return e.storeVector(value, memref, at);
    mlir::vector::MaskedStoreOp::create(e.b, e.loc, memref, at, mask, value);
  }

  /// The sum of the lanes as a tree, the same on every target.
  mlir::Value addAcross(mlir::Value v) {
    return across(
        v, [&](mlir::Value a, mlir::Value c) { return e.addFloat(a, c); });
  }
  mlir::Value maxAcross(mlir::Value v) {
    return across(v, [&](mlir::Value a, mlir::Value c) {
      return mlir::arith::MaximumFOp::create(e.b, e.loc, a, c,
                                             mlir::arith::FastMathFlags::nnan)
          .getResult();
    });
  }

  /// The first n of 16 lanes.
  mlir::Value mask(int64_t n) {
    llvm::SmallVector<bool> bits(16);
    std::fill_n(bits.begin(), n, true);
    auto type = mlir::VectorType::get({16}, e.b.getI1Type());
    return mlir::arith::ConstantOp::create(
        e.b, e.loc, mlir::DenseElementsAttr::get(type, bits));
  }

private:
  mlir::Value
  across(mlir::Value v,
         llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> fn) {
    for (int64_t distance : {8, 4, 2, 1}) {
      llvm::SmallVector<int64_t> order;
      for (int64_t i = 0; i != 16; ++i)
        order.push_back(i ^ distance);
      v = fn(v, e.shuffle(v, v, order));
    }
    return mlir::vector::ExtractOp::create(e.b, e.loc, v,
                                           llvm::ArrayRef<int64_t>{0});
  }

  Emitter &e;
  int64_t width;
};

} // namespace quench

#endif // QUENCH_LIB_KERNELS_LANES_H
