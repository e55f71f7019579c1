//===- Passes.td - Passes on the quench dialect -------------*- tablegen -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QUENCH_TRANSFORMS_PASSES
#define QUENCH_DIALECT_QUENCH_TRANSFORMS_PASSES

include "mlir/Pass/PassBase.td"

def QuenchInsertMaps : Pass<"quench-insert-maps", "::mlir::ModuleOp"> {
  let summary = "Rotate streams so that they have no outliers";
  let description = [{
    Puts orthogonal maps between layers, so that the model computes what it did before and its activations are
    spread evenly. What can be folded into weights becomes a `quench.map` of a weight expression; nothing is computed yet.

    - `rotate-stream`: random signs and a Hadamard matrix on each residual stream, folded into all embeddings
      and layers that write it and all that read it; gains of RMS norms move into the layers behind them. Either all of
      a stream is turned or nothing. A head that shares its table with an embedding keeps it as it is: two maps on
      line, behind the embedding and before the last norm.
    - `rotate-down`, `rotate-o`: a Hadamard matrix on line before each layer of that role, its inverse in the weight.
    - `rotate-values`: a Hadamard matrix on the values of each attention head, folded into the layers v and o.
      Caches hold rotated values then: such arguments and results get an attribute `quench.map`.

    Remarks of category `quench-insert-maps` name each decision's node. It is an error if a map stands on an
    activation that should have been folded.
  }];
  let options = [
    Option<"rotateStream", "rotate-stream", "bool", "false", "Rotate the residual streams">,
    Option<"rotateDown", "rotate-down", "bool", "false", "Rotate the input of down projections on line">,
    Option<"rotateO", "rotate-o", "bool", "false", "Rotate the input of attention's output projections on line">,
    Option<"rotateValues", "rotate-values", "bool", "false", "Rotate the values of attention heads">,
    Option<"seed", "seed", "uint64_t", "0", "Seed of the streams' random signs">,
  ];
  let dependentDialects = ["::quench::qn::QuenchDialect"];
}

def QuenchMakeState : Pass<"quench-make-state", "::mlir::ModuleOp"> {
  let summary = "Make @decode and @prefill, whose caches belong to a context, from @main";
  let description = [{
    `@main` takes the caches of past positions and returns longer ones. Where the pass finds each of them as the past
    of one `quench.extend` that is the key or value of attention, it adds

    ```mlir
    func.func @decode(%ids: tensor<1x1xi64>, %k: memref<3x?x64x16xf32> {quench.state = "past_key_values.0.key", quench.keys}, ...)
        -> tensor<1x1x49152xf32>
    func.func @prefill(%ids: tensor<1x?xi64>, ...) -> tensor<1x?x49152xf32>
    ```

    which write new positions in place (`quench.append`). Sizes are the step symbols `quench.dim "sequence"`, `"past"`,
    `"capacity"` and `"keep"`: the logits of the last `keep` rows are computed. Positions are `past + i`, masks of
    valid positions go. A model without caches stays as it is, and so does one whose caches have another form; then
    a remark names it and says why.
  }];
  let dependentDialects = ["::quench::qn::QuenchDialect", "::mlir::arith::ArithDialect",
                           "::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect",
                           "::mlir::memref::MemRefDialect"];
}

#endif // QUENCH_DIALECT_QUENCH_TRANSFORMS_PASSES
