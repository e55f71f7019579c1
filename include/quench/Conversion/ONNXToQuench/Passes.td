//===- Passes.td - From onnx to quench ----------------------*- tablegen -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_CONVERSION_ONNXTOQUENCH_PASSES
#define QUENCH_CONVERSION_ONNXTOQUENCH_PASSES

include "mlir/Pass/PassBase.td"

def ONNXRecognize : Pass<"onnx-recognize", "::mlir::ModuleOp"> {
  let summary = "Raise groups of onnx ops to the layers they mean";
  let description = [{
    Replaces what exporters write for a layer by one op of the quench dialect: norms, linear layers (with their
    roles and block numbers), embeddings, rotary embeddings, attention and key/value caches. Masks are
    recognized as causal, as a padding mask, or kept as a bias; rotary tables are compared with the angles they
    should hold in every row. What is not recognized stays as it is.

    A padding mask is taken to hold 0 and 1. GroupQueryAttention is taken to be called with an attention mask of ones: the
    lengths of the sequences of a batch are equal, positions go on behind the past.

    Sizes are expressions over the named dimensions of the function's arguments (`quench.dims`). What the graph says
    about them is written back: where `total_sequence_length` turns out to be
    `past_sequence_length + sequence_length`, the attributes say so afterwards.
  }];
  let dependentDialects = ["::quench::qn::QuenchDialect", "::mlir::arith::ArithDialect",
                           "::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"];
}

def ConvertONNXToQuench : Pass<"convert-onnx-to-quench", "::mlir::ModuleOp"> {
  let summary = "Turn the remaining onnx ops into linalg, arith, math and tensor ops";
  let description = [{
    Sizes become values made of `quench.dim`; arithmetic on shapes is followed and leaves no trace. Ops that
    nothing needs are dropped. If there are nodes that cannot be converted, one error names them all, with operator,
    operator set version and reason, and the module is left as it was.

    A size that must not exceed a constant, as the rows of a position table, is written into the function's attribute
    `quench.limits`, a dictionary from expressions to the greatest value allowed.
  }];
  let dependentDialects = ["::quench::qn::QuenchDialect", "::mlir::arith::ArithDialect",
                           "::mlir::linalg::LinalgDialect", "::mlir::math::MathDialect",
                           "::mlir::tensor::TensorDialect"];
}

def DropUnusedInitializers : Pass<"quench-drop-unused-initializers", "::mlir::ModuleOp"> {
  let summary = "Erase initializers that nothing refers to";
}

#endif // QUENCH_CONVERSION_ONNXTOQUENCH_PASSES
