//===- Layers.h - Kernels of norms, rotary embedding, attention -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Like the contraction kernels (Contract.h): private functions on flat memrefs,
// found by name, with a range lo..hi of items that workers split. An item's
// result has the same bits for every split. In the signatures f is
// memref<?xf32> and i is index.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_KERNELS_LAYERS_H
#define QUENCH_KERNELS_LAYERS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "quench/Quantization/Format.h"
#include "quench/Quantization/Map.h"

namespace quench {

/// norm(x : f, gain : f, bias : f, y : f, lo : i, hi : i): items are rows of
/// `width` numbers. Without a gain or bias any memref may be passed. Sums run
/// over 16 lanes, then as a tree.
struct NormSpec {
  bool rms = true;
  int64_t width = 0;
  float epsilon = 0;
  bool gain = false, bias = false;
};
mlir::func::FuncOp getOrCreateNorm(mlir::ModuleOp module, const NormSpec &spec);

/// rotary(x : f, positions : memref<?xi64>, table : f, y : f, sequence : i,
/// shared : i1, lo, hi): items are rows (batch, sequence) of heads * headSize
/// numbers; positions are [batch][sequence], or [sequence] if `shared`.
/// Positions outside of the table are clamped to it and set the run's error.
/// table: cosines, then sines, `pairs` each, for each of `maxPositions`.
struct RotarySpec {
  int64_t heads = 0, headSize = 0, pairs = 0, maxPositions = 0;
  bool adjacent = false;
};
mlir::func::FuncOp getOrCreateRotary(mlir::ModuleOp module,
                                     const RotarySpec &spec);

/// lookup_rows(ids : memref<?xT>, w : memref<?xi8>, y : f, error : !llvm.ptr,
/// lo, hi): items are ids (T is i64 or i32); rows of a packed table of n rows
/// by k columns become f32. Ids outside of 0..n-1 are clamped and set the run's
/// error.
struct LookupSpec {
  const Format *format = nullptr;
  int64_t n = 0, k = 0;
  mlir::Type idType;
};
mlir::func::FuncOp getOrCreateLookup(mlir::ModuleOp module,
                                     const LookupSpec &spec);

/// transform(x : f, y : f, lo : i, hi : i): items are rows of map.in() numbers;
/// y = x M by the map's fast steps. Maps of equal names must be equal; in() and
/// out() are equal.
mlir::func::FuncOp getOrCreateTransform(mlir::ModuleOp module,
                                        llvm::StringRef name, const Map &map);

/// Positions of a key tile, and of a key block of attention. Blocks begin at
/// absolute positions, so that a query's result does not depend on how a
/// sequence was cut.
constexpr int64_t kKeyTile = 16, kKeyBlock = 64;

/// pack_keys(k : f, kt : f, total : i, tiles : i, batchStride : i, headStride :
/// i, rowStride : i, lo, hi): items are (batch, head, tile); keys [.., total,
/// d] at strides become [batch * heads][tiles][d][16], zeros past the end.
mlir::func::FuncOp getOrCreatePackKeys(mlir::ModuleOp module, int64_t kvHeads,
                                       int64_t d);

/// append(rows : f, cache : f, position : i, capacity : i, lo, hi): items are
/// rows of kvHeads * d numbers, written at position + item of a cache of values
/// [kvHeads][capacity][d] or keys [kvHeads][capacity / 16][d][16].
mlir::func::FuncOp getOrCreateAppend(mlir::ModuleOp module, int64_t kvHeads,
                                     int64_t d, bool keys);

/// attention(q : f, kt : f, v : f, keep : memref<?xT>, bias : f, y : f,
/// sequence : i, total : i, tiles : i,
///           vBatch : i, vHead : i, vRow : i, bBatch : i, bHead : i, bQuery :
///           i, bKey : i, lo, hi)
/// Items are (batch, kv head, tile of queries): see attentionItems. Keys as
/// pack_keys leaves them. keep: [batch][total].
struct AttentionSpec {
  int64_t heads = 0, kvHeads = 0, d = 0, dv = 0;
  float scale = 1, softCap = 0; // softCap 0: none
  bool causal = false;
  int64_t window = 0;  // 0: none
  mlir::Type keepType; // null: none
  bool bias = false;
  bool single = false; // sequence is 1
  /// Queries of a tile, those of the heads of a group side by side.
  int64_t tile() const;
};
mlir::func::FuncOp getOrCreateAttention(mlir::ModuleOp module,
                                        const AttentionSpec &spec);

/// Tells LLVM to leave an scf.for as it is, not unrolled.
void keepRolled(mlir::Operation *loop);

} // namespace quench

#endif // QUENCH_KERNELS_LAYERS_H
