//===- QuenchTypes.td - Quantized tensors -*- tablegen -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QUENCH_IR_QUENCHTYPES_TD
#define QUENCH_DIALECT_QUENCH_IR_QUENCHTYPES_TD

include "mlir/IR/AttrTypeBase.td"
include "quench/Dialect/Quench/IR/QuenchAttrs.td"

def Quench_TensorType : TypeDef<Quench_Dialect, "QTensor"> {
  let mnemonic = "tensor";
  let summary = "A whole quantized tensor";
  let description = [{
    `!quench.tensor<1536x576, "int<4, group = 32>">`: logical shape and format. It never reaches
    bufferization: packing turns weights into byte streams, `stage` does it for activations.
  }];
  let parameters = (ins ArrayRefParameter<"int64_t">:$shape, "::quench::qn::FormatAttr":$format);
  let hasCustomAssemblyFormat = 1;
}

def Quench_AnyTensor : AnyTypeOf<[AnyTensor, Quench_TensorType], "tensor or quantized tensor">;
def Quench_Float : AnyTypeOf<[F16, BF16, F32], "f16, bf16 or f32">;
def Quench_FloatTensor : TensorOf<[F16, BF16, F32, F64]>;
def Quench_Buffer : AnyTypeOf<[AnyTensor, AnyMemRef], "tensor or memref">;

#endif // QUENCH_DIALECT_QUENCH_IR_QUENCHTYPES_TD
