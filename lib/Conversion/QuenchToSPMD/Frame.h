//===- Frame.h - Reading what the runtime gives -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_CONVERSION_QUENCHTOSPMD_FRAME_H
#define QUENCH_LIB_CONVERSION_QUENCHTOSPMD_FRAME_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace quench {

/// Words of quench_rt_frame (quench/Runtime/Program.h).
enum class FrameWord {
  Weights = 0,
  Arena = 1,
  State = 2,
  Symbols = 3,
  Inputs = 4,
  Outputs = 5
};

/// Where the memory of a lowered function's argument comes from.
struct ArgumentSource {
  enum Kind { Input, Output, State };
  Kind kind = Input;
  /// The number of the input or output. Of a state: the bytes of all states
  /// before it, for one key block of positions.
  int64_t at = 0;
};

/// The sources of a lowered function's arguments from number `first` on.
llvm::SmallVector<ArgumentSource> argumentSources(mlir::func::FuncOp function,
                                                  unsigned first);

/// Emits reads of the frame. All integers are i64.
class FrameReader {
public:
  FrameReader(mlir::OpBuilder &b, mlir::Location loc);

  mlir::Value constant(int64_t v);
  mlir::Value load(mlir::Type type, mlir::Value base, mlir::Value word);
  mlir::Value load(mlir::Type type, mlir::Value base, int64_t word) {
    return load(type, base, constant(word));
  }
  mlir::Value load(mlir::Type type, mlir::Value frame, FrameWord word) {
    return load(type, frame, static_cast<int64_t>(word));
  }
  mlir::Value offset(mlir::Value base, mlir::Value bytes);
  mlir::Value toIndex(mlir::Value v);
  mlir::Value toI64(mlir::Value v);
  mlir::Value add(mlir::Value a, mlir::Value c);
  mlir::Value mul(mlir::Value a, mlir::Value c);

  /// How many key blocks a state has that can hold `capacity` positions.
  mlir::Value keyBlocks(mlir::Value capacity);
  /// The memory of an argument; `at` is ArgumentSource::at. `blocks` is for
  /// states.
  mlir::Value pointerTo(ArgumentSource::Kind kind, mlir::Value at,
                        mlir::Value frame, mlir::Value blocks);
  /// A buffer of rank one at `data`. A dynamic one is said to be endless: only
  /// the pointer crosses calls.
  mlir::Value buffer(mlir::MemRefType type, mlir::Value data);

  mlir::OpBuilder &b;
  mlir::Location loc;
  mlir::Type pointer, i64;
};

} // namespace quench

#endif // QUENCH_LIB_CONVERSION_QUENCHTOSPMD_FRAME_H
