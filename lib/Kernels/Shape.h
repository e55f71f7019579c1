//===- Shape.h - Geometry that all kernels of a weight share ----*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_KERNELS_SHAPE_H
#define QUENCH_LIB_KERNELS_SHAPE_H

#include "Emitter.h"
#include "RegisterBuilder.h"
#include "quench/Kernels/Contract.h"
#include "quench/Quantization/Packing.h"

namespace quench {

/// Steps of a group that are emitted one after the other; longer groups loop.
constexpr int64_t kUnrolledSteps = 8;
/// How far ahead the weights are fetched, in bytes.
constexpr int64_t kPrefetchDistance = 8192;
/// Bytes of one quad (four columns) of the kPassBlocks row blocks of a panel.
constexpr int64_t kQuadBytes = 64 * kPassBlocks;

/// From how many rows on tables of products are made (Format::sumTables()).
constexpr int64_t kLeastRowsOfSums = 256;

/// What the format, its layout and K say about the loops.
struct KernelShape {
  explicit KernelShape(const ContractSpec &spec);

  const ContractSpec &spec;
  const Format &format;
  const BlockLayout &layout;
  StreamShape stream;

  bool grouped;        // scales of groups, else of rows or none
  bool zero;           // zero points
  bool rowScales;      // scales of rows
  int64_t stepQuads;   // quads of a step
  int64_t blockSteps;  // steps of a block
  int64_t blockGroups; // groups of a block (1 without group scales)
  int64_t groupQuads;  // quads of a group (of a block without group scales)
  int64_t groupSteps;  // steps of a group; 1 where groups share a step
  int64_t groups;      // groups of a padded row (1 without group scales)
  int64_t tileRows;    // activation rows of a tile of a gemm
  bool inPlace;        // fields may stay where they lie
  int64_t blockBytes() const { return layout.bytes * layout.rowBlocks(); }
  /// Bytes from a step to the next one of its group, row blocks interleaved.
  int64_t stepStride() const;
  /// How many steps of a long group one iteration decodes.
  int64_t unrolledSteps() const;
  /// Activations of a staged row for a kernel: words of an integer one.
  int64_t rowWords() const { return stream.paddedCols / 4; }
};

/// Activation rows of a tile for these kernels.
int64_t tileRowsOf(const Format &format, bool integer, bool tiled);
/// The plain name of a format in a symbol.
std::string symbolOf(llvm::StringRef spec);
std::string kernelName(llvm::StringRef kind, const ContractSpec &spec);

/// Emits the end of 16 rows: stores (or adds) `value` at y[at], of which row
/// `row` of n is the first.
void storeRows(Emitter &e, const ContractSpec &spec, mlir::Value value,
               mlir::Value y, mlir::Value at, mlir::Value row);

/// StreamShape::passOffset of a value.
mlir::Value passOffset(Emitter &e, const StreamShape &stream, mlir::Value pass);
/// Byte of `w` where pass `pass` of the stream at wOffset begins.
mlir::Value passBase(Emitter &e, const KernelShape &s, mlir::Value wOffset,
                     mlir::Value pass);
/// Byte of `w` where the table of the stream at wOffset begins.
mlir::Value tableOf(Emitter &e, const KernelShape &s, mlir::Value wOffset);
/// Scales of the rows of row block `h` of the pass at `base`.
mlir::Value loadRowScales(Emitter &e, const KernelShape &s, mlir::Value w,
                          mlir::Value base, int64_t h);
/// Scales of the 16 rows of row block `h` for group g of the block at `base`,
/// over scaleFactor().
mlir::Value loadGroupScales(Emitter &e, const KernelShape &s, mlir::Value w,
                            mlir::Value base, int64_t g, int64_t h);
/// Zero points of the same; without groups those of the rows of the pass at
/// `base`. Floats if Format::hasFloatZero(), else words.
mlir::Value loadZeros(Emitter &e, const KernelShape &s, mlir::Value w,
                      mlir::Value base, int64_t g, int64_t h);
/// What the value of a lane unit is multiplied with: Format::unit(), the factor
/// that scales lack, and the tensor scale of the stream at byte `offset` of
/// `w`. Null: 1.
mlir::Value unitScale(Emitter &e, const Format &format, mlir::Value w,
                      mlir::Value offset);

// The bodies; the builder stands in the empty function.
void emitGemvInt(Emitter &e, const KernelShape &s, mlir::Block &entry);
void emitGemvSums(Emitter &e, const KernelShape &s, mlir::Block &entry);
void emitGemmInt(Emitter &e, const KernelShape &s, mlir::Block &entry);
void emitGemvFloat(Emitter &e, const KernelShape &s, mlir::Block &entry);
void emitGemmFloat(Emitter &e, const KernelShape &s, mlir::Block &entry);

} // namespace quench

#endif // QUENCH_LIB_KERNELS_SHAPE_H
