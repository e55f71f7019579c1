//===- MakeState.h - Decode and prefill with a context's caches -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A model with cache inputs and outputs is pure: caches go in and come out. A
// context owns them instead and grows them in place. From
//
//   @main(ids [B, S], past.0.key [B, H, P, D], past.0.value [B, H, P, Dv], ...)
//       -> (logits [B, S, V], present.0.key [B, H, P + S, D], ...)
//
// come two functions over the step symbols `sequence`, `past`, `capacity`
// and `keep`:
//
//   @decode(ids [1, 1], memref<H x capacity/16 x D x 16>,
//           memref<H x capacity x Dv>, ...) -> logits [1, 1, V]
//   @prefill(ids [1, sequence], the same caches) -> logits [1, keep, V]
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QUENCH_TRANSFORMS_MAKESTATE_H
#define QUENCH_DIALECT_QUENCH_TRANSFORMS_MAKESTATE_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/LogicalResult.h"

namespace quench {

/// Adds @decode and @prefill to a module whose @main is in tensor form.
///
/// Caches are arguments of rank 4 of @main, [batch, kv_heads, past, D] of f32,
/// each read by one quench.extend only, whose result is returned and is the key
/// or the value of one or more quench.attention. Token ids are the argument
/// behind quench.embedding; inputs named `position_ids` and `attention_mask`
/// become past + i and ones. The new functions take the ids, then the caches in
/// the order of @main's inputs, marked {quench.state = NAME} and, for keys,
/// {quench.keys}; they have the attribute quench.symbols, and the module gets
/// quench.state, the names of all caches.
///
/// True if the functions were made. False, with a remark on @main that says
/// why, if there is no cache or one in another form: the module is then as it
/// was. Failure, with an error, if @decode or @prefill are there already.
mlir::FailureOr<bool> makeState(mlir::ModuleOp module);

} // namespace quench

#endif // QUENCH_DIALECT_QUENCH_TRANSFORMS_MAKESTATE_H
