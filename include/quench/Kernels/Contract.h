//===- Contract.h - Kernels of contractions and stagings --------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Builds the functions that do y = x W^T for a packed weight W of n rows
// (outputs) by k columns: a stage of the activations, then a contraction of the
// staged ones. One loop nest serves every format; a format brings its layout
// and its decode of a register (Format.h).
//
// A function is private, found by its name and made once in a module. K, N and
// the format are part of its name; M is 1 (gemv) or an argument (gemm). All
// memrefs are flat and of identity layout; they need no alignment, but 64 bytes
// serve speed.
//
//   gemv(w : memref<?xi8>, wOffset : index, x : memref<?xT>, scale :
//   memref<?xf32>,
//        sums : memref<?xS>, y : memref<?xf32>, lo : index, hi : index)
//   gemm(w, wOffset, x, scale, sums, y, yStride : index, scratch :
//   memref<?xi8>,
//        m : index, lo, hi)
//   stage(input : memref<?xf32>, x : memref<?xT>, scale : memref<?xf32>,
//         sums : memref<?xS>, m : index, lo, hi)
//
// T is i32 (four int8 codes a word) and S i32 for integer contractions; both
// are f32 for float ones. The packed stream of the weight begins at byte
// wOffset of w. lo..hi is a range of passes of kPassRows output rows
// (contractions) or of tiles of `tileRows` activation rows (stages), so that
// any number of workers can split the work; K is never split. Row i of a result
// has the same bits for every m, every split and every target. y is
// [m][yStride] (gemv: [n]).
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_KERNELS_CONTRACT_H
#define QUENCH_KERNELS_CONTRACT_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "quench/Quantization/Format.h"
#include <string>

namespace quench {

/// Which contraction is meant.
struct ContractSpec {
  const Format *format = nullptr;
  int64_t n = 0; // rows of the weight: outputs
  int64_t k = 0; // columns of the weight: inputs
  /// Activations are int8 with a scale for each row (Format::isInteger() must
  /// hold); else f32.
  bool integer = false;
  /// Fetch the weights 8 KB ahead. Pays unless they lie in L2.
  bool prefetch = true;
  /// y += instead of y =.
  bool accumulate = false;
};

/// The kernel for one activation row.
mlir::func::FuncOp getOrCreateGemv(mlir::ModuleOp module,
                                   const ContractSpec &spec);
/// The kernel for any number of activation rows, staged with tiles.
mlir::func::FuncOp getOrCreateGemm(mlir::ModuleOp module,
                                   const ContractSpec &spec);

/// What a stage makes; contractions with equal keys share its results.
struct StageSpec {
  const Format *format = nullptr;
  int64_t k = 0;
  bool integer = false;
  /// For a gemm (tiles of several rows) or a gemv.
  bool tiled = false;

  StageSpec() = default;
  StageSpec(const ContractSpec &spec, bool tiled)
      : format(spec.format), k(spec.k), integer(spec.integer), tiled(tiled) {}

  /// Equal for stages with equal results, whatever their formats.
  std::string key() const;
  /// Activation rows of a tile: 1, 4 or 8.
  int64_t tileRows() const;
  /// A staged row is the input row itself: no stage is needed and the
  /// contraction takes the input as x.
  bool isNoop() const;

  /// Elements of the staged buffers for m rows. A buffer that the contraction
  /// does not read has 0 (pass any memref).
  int64_t xElements(int64_t m) const; // of 32 bits
  int64_t scaleElements(int64_t m) const;
  int64_t sumElements(int64_t m) const;
  /// m rounded up to whole tiles; the three sizes are linear in it.
  int64_t paddedRows(int64_t m) const;
};

mlir::func::FuncOp getOrCreateStage(mlir::ModuleOp module,
                                    const StageSpec &spec);

/// Passes of kPassRows rows: the range that workers split.
int64_t contractPasses(const ContractSpec &spec);
/// Bytes of scratch memory that each worker of a gemm needs.
int64_t gemmScratchBytes(const ContractSpec &spec);

} // namespace quench

#endif // QUENCH_KERNELS_CONTRACT_H
