//===- Exponents.h - Coded exponents in kernels -----------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Reads the streams of a tail (Tail.h) column by column, the 16 rows of a row
// block side by side: the panel of a step is decoded when it is multiplied, and
// nothing is kept but the bits that each row has left.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_KERNELS_EXPONENTS_H
#define QUENCH_LIB_KERNELS_EXPONENTS_H

#include "Emitter.h"
#include "quench/Quantization/Packing.h"
#include <deque>

namespace quench {

class ExponentStreams {
public:
  /// Emits the loads of the tables of the stream at byte `wOffset` of `w`; to
  /// be made where a function begins, as its state lies on the stack.
  ExponentStreams(Emitter &emitter, const StreamShape &shape, mlir::Value w,
                  mlir::Value wOffset);
  /// Goes to the first column of row block `half` of a pass (an index).
  void begin(mlir::Value pass, int64_t half);
  /// Decodes the next columns of all row blocks side by side: each waits for
  /// its own bits.
  void readAhead(int64_t columns);
  /// The exponents of the next column, 16 words; stream column % kCodedStreams
  /// is read. They lie where floats have them; other bits are unspecified.
  mlir::Value next(int64_t half, int64_t column);

private:
  mlir::Value decode(int64_t half, int64_t column);
  /// Of one stream of one row block.
  struct State {
    mlir::Value bits; // memref<16xi32>: those that were read, for each row
    mlir::Value left; // memref<16xi32>: and their number
    mlir::Value at;   // memref<1xindex>: the next halfword
  };
  State &state(int64_t half, int64_t stream) {
    return states[half * kCodedStreams + stream];
  }

  Emitter &e;
  const StreamShape &shape;
  mlir::Value w, wOffset, tables[2], halfwords;
  State states[kPassBlocks * kCodedStreams];
  std::deque<mlir::Value> ahead[kPassBlocks];
};

} // namespace quench

#endif // QUENCH_LIB_KERNELS_EXPONENTS_H
