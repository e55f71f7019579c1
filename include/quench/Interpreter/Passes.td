//===- Passes.td - Passes that interpret ---------------------*- tablegen -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_INTERPRETER_PASSES
#define QUENCH_INTERPRETER_PASSES

include "mlir/Pass/PassBase.td"

def QuenchCompare : Pass<"quench-compare", "::mlir::ModuleOp"> {
  let summary = "Run passes and compare what a function computes before and after";
  let description = [{
    Runs the pipeline `passes` on the module, then the function before and after by the reference interpreter,
    on random inputs. It is an error if a result differs by more than `tolerance` times its greatest value. The module is
    that after the passes.
    ```
    quench-opt m.mlir --pass-pipeline='builtin.module(quench-compare{passes=canonicalize,cse tolerance=1e-6})'
    ```
    Named dimensions (`quench.dims` on arguments) get different small sizes, a sum of names the sum. Floats
    are between -1 and 1, integers 0 or 1. Only whole tensors can be interpreted: see quench/Interpreter/Interpreter.h.
  }];
  let options = [
    Option<"passes", "passes", "std::string", /*default=*/"", "The pipeline to run on the module">,
    Option<"function", "function", "std::string", "\"main\"", "The function that is compared">,
    Option<"tolerance", "tolerance", "double", "1e-5", "Allowed difference, relative to the greatest value">,
    Option<"seed", "seed", "unsigned", "1", "Of the random inputs">,
    Option<"files", "files", "std::string", "", "The model whose folder has the weights' files; by default the module's `quench.model_path`">,
  ];
}

#endif // QUENCH_INTERPRETER_PASSES
