//===- QuenchDialect.td - The quench dialect -*- tablegen -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QUENCH_IR_QUENCHDIALECT_TD
#define QUENCH_DIALECT_QUENCH_IR_QUENCHDIALECT_TD

include "mlir/IR/OpBase.td"

def Quench_Dialect : Dialect {
  let name = "quench";
  let cppNamespace = "::quench::qn";
  let summary = "Whole tensors: quantized weights, the maps that make them quantizable, and a model's blocks";
  let description = [{
    The dialect of whole tensors. A weight is a lazy expression (`weight`, `map`, `quantize`) that is
    evaluated once, when it is materialized; layers are ops (`linear`, `norm`, `rotary`, `attention`,
    `embedding`); activations are staged once for all layers that read them (`stage`) and meet packed
    weights in one op (`contract`). It knows no target.

    Layer ops have two forms. The *tensor form* has results. The *buffer form*, made by bufferization, has
    `outs` operands (memrefs) and no results; it is what the lowering to loops reads.
  }];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
  let dependentDialects = ["::mlir::tensor::TensorDialect", "::mlir::memref::MemRefDialect"];
}

#endif // QUENCH_DIALECT_QUENCH_IR_QUENCHDIALECT_TD
