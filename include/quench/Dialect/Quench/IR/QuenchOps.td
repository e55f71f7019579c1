//===- QuenchOps.td - The quench ops -*- tablegen -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QUENCH_IR_QUENCHOPS_TD
#define QUENCH_DIALECT_QUENCH_IR_QUENCHOPS_TD

include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "quench/Dialect/Quench/IR/QuenchTypes.td"

class Quench_Op<string mnemonic, list<Trait> traits = []> : Op<Quench_Dialect, mnemonic, traits>;

/// An op with a tensor form (pure) and a buffer form (reads its memrefs, writes `outs`).
class Quench_LayerOp<string mnemonic, list<Trait> traits = []>
    : Quench_Op<mnemonic, traits # [DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]>;

//===----------------------------------------------------------------------===//
// Weights: lazy expressions
//===----------------------------------------------------------------------===//

def Quench_InitializerOp : Quench_Op<"initializer", [Symbol]> {
  let summary = "One stored tensor of the model";
  let description = [{
    Its bytes are in a file (`#quench.file`), in the weight section (`#quench.section`) or, for a few numbers, in
    an elements attribute. Tied weights are one initializer with several uses.
    ```mlir
    quench.initializer @gate source(#quench.file<"model.onnx.data", 4096, 3538944>) : tensor<576x1536xf32>
    ```
    C1: the source's bytes are the type's size (little endian, dense, row major).
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttr:$type, AnyAttr:$source,
                   OptionalAttr<StrAttr>:$sym_visibility);
  let assemblyFormat = "$sym_name `source` `(` $source `)` `:` $type attr-dict";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType();
  }];
}

def Quench_WeightOp : Quench_Op<"weight", [Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "An initializer as a value; the leaf of weight expressions";
  let description = [{
    Never folded and never printed as numbers. With `transpose` the last two dimensions are exchanged. f16 and bf16
    initializers may be read as f32.
    ```mlir
    %w = quench.weight @gate transpose : tensor<1536x576xf32>
    ```
    C1: the symbol is an initializer; shapes agree. C2: the element type is the initializer's, or f32 for an f16 or
    bf16 one.
  }];
  let arguments = (ins FlatSymbolRefAttr:$initializer, UnitAttr:$transpose);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$initializer (`transpose` $transpose^)? `:` type($result) attr-dict";
}

def Quench_MapOp : Quench_LayerOp<"map"> {
  let summary = "A linear map along one axis: each vector v along it becomes v M";
  let description = [{
    The one op of all outlier methods. On a weight it is a part of its lazy expression, on an activation it is a
    fast transform on line.
    ```mlir
    %y = quench.map #quench.hadamard<576> %x axis(1) : tensor<?x576xf32> -> tensor<?x576xf32>
    ```
    C1: the axis has getIn() numbers and becomes getOut() numbers.
  }];
  let arguments = (ins AnyAttr:$map, Quench_Buffer:$input, I64Attr:$axis, Optional<AnyMemRef>:$out);
  let results = (outs Optional<AnyRankedTensor>:$result);
  let assemblyFormat = [{$map $input `axis` `(` $axis `)` (`outs` `(` $out^ `:` type($out) `)`)? `:` type($input)
                         (`->` type($result)^)? attr-dict}];
  let hasVerifier = 1;
  let hasCanonicalizer = 1;
  let extraClassDeclaration = [{
    ::quench::qn::MapInterface getMapInterface();
  }];
}

def Quench_QuantizeOp : Quench_Op<"quantize", [Pure]> {
  let summary = "A tensor in a format";
  let description = [{
    On a weight: evaluated by materialization with the named quantizer (`rtn`, `rtn<search>`). On an activation: per
    token (one scale a row), symmetric, dynamic.
    ```mlir
    %q = quench.quantize %w using "rtn" : tensor<1536x576xf32> -> !quench.tensor<1536x576, "int<4, group = 32>">
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input, DefaultValuedAttr<StrAttr, "\"rtn\"">:$quantizer);
  let results = (outs Quench_TensorType:$result);
  let assemblyFormat = "$input `using` $quantizer `:` type($input) `->` type($result) attr-dict";
  let hasVerifier = 1;
}

def Quench_DequantizeOp : Quench_Op<"dequantize", [Pure]> {
  let summary = "The real numbers of a quantized tensor";
  let arguments = (ins Quench_TensorType:$input);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$input `:` type($input) `->` type($result) attr-dict";
}

def Quench_AssembleOp : Quench_Op<"assemble", [Pure]> {
  let summary = "A quantized tensor from codes that the model brings";
  let description = [{
    codes: one byte each, [n, k], or packed as ONNX does it: `bits` a code, low bits first, whole groups of a row, in
    any shape. scales: one for each of n x ceil(k / group) groups, or one for all; zeros: as many, also packed, or
    absent. The numbers are  scale * (code - zero)  and keep their bits. Group 0 is a whole row.
    With `levels`, 16 numbers by code, they are  scale * levels[code]; then codes are packed with the high bits first.

    C1: the result is [n, k] of floats. C2: bits are 2, 4 or 8; the group is not negative. C3: codes are bytes, of the
    one number or the other. C4: scales are floats, as many as said. C5: so are zeros. C6: levels are 16, of 4 bits, and
    without zeros.
  }];
  let arguments = (ins AnyRankedTensor:$codes, AnyRankedTensor:$scales, Optional<AnyRankedTensor>:$zeros,
                   I64Attr:$bits, I64Attr:$group, OptionalAttr<DenseF32ArrayAttr>:$levels);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{`codes` `(` $codes `:` type($codes) `)` `scales` `(` $scales `:` type($scales) `)`
                         (`zeros` `(` $zeros^ `:` type($zeros) `)`)? attr-dict `->` type($result)}];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Layers
//===----------------------------------------------------------------------===//

def Quench_LinearOp : Quench_Op<"linear", [Pure]> {
  let summary = "y = x W^T + b";
  let description = [{
    x: [..., in], W: [out, in], b: [out]; y: [..., out]. All leading dimensions of x are rows. `role` says which layer of a block
    it is (q, k, v, qkv, o, gate, up, down, head, other), `block` the number of the block.
    ```mlir
    %y = quench.linear %x, %w {role = "gate", block = 3 : i64} : (tensor<?x?x576xf32>, tensor<1536x576xf32>) -> tensor<?x?x1536xf32>
    ```
    C1: W has rank 2. C2: the last dimension of x is W's second. C3: b, if there, has W's first.
  }];
  let arguments = (ins Quench_AnyTensor:$input, Quench_AnyTensor:$weight, Optional<AnyRankedTensor>:$bias,
                   OptionalAttr<StrAttr>:$role, OptionalAttr<I64Attr>:$block);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{$input `,` $weight (`bias` `(` $bias^ `:` type($bias) `)`)? attr-dict `:`
                         `(` type($input) `,` type($weight) `)` `->` type($result)}];
  let hasVerifier = 1;
}

def Quench_EmbeddingOp : Quench_Op<"embedding", [Pure]> {
  let summary = "Rows of a table";
  let description = [{
    ids: [...] of integers, table: [vocabulary, width]; result [..., width]. The table may be quantized and shared with the head.
    An id outside of the vocabulary is refused at the entry of the model.
    C1: ids are integers. C2: the table has rank 2. C3: the result is ids' shape and the width.
  }];
  let arguments = (ins AnyRankedTensor:$ids, Quench_AnyTensor:$table);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$ids `,` $table attr-dict `:` `(` type($ids) `,` type($table) `)` `->` type($result)";
  let hasVerifier = 1;
}

def Quench_NormOp : Quench_LayerOp<"norm", [AttrSizedOperandSegments]> {
  let summary = "RMS or layer normalization over the last dimension";
  let description = [{
    rms: y = x / sqrt(mean(x^2) + eps) * gain; layer: y = (x - mean(x)) / sqrt(var(x) + eps) * gain + bias, biased variance.
    gain and bias: [width], optional.
    ```mlir
    %y = quench.norm "rms" %x gain(%g : tensor<576xf32>) {epsilon = 1.0e-5 : f32} : tensor<?x?x576xf32> -> tensor<?x?x576xf32>
    ```
  }];
  let arguments = (ins StrAttr:$kind, Quench_Buffer:$input, Optional<Quench_Buffer>:$gain,
                   Optional<Quench_Buffer>:$bias, Optional<AnyMemRef>:$out, F32Attr:$epsilon);
  let results = (outs Optional<AnyRankedTensor>:$result);
  let assemblyFormat = [{$kind $input (`gain` `(` $gain^ `:` type($gain) `)`)? (`bias` `(` $bias^ `:` type($bias) `)`)?
                         (`outs` `(` $out^ `:` type($out) `)`)? attr-dict `:` type($input) (`->` type($result)^)?}];
  let hasVerifier = 1;
}

def Quench_RotaryOp : Quench_LayerOp<"rotary", [AttrSizedOperandSegments]> {
  let summary = "Rotary position embedding";
  let description = [{
    x: [batch, sequence, heads * head_size]; positions: [batch or 1, sequence] of i64. In each head the pair (i, i + n/2)
    (`half`) or (2i, 2i+1) (`adjacent`) of the first n = 2 * size(frequencies) numbers is turned by the angle
    f32(position) * frequencies[i], rounded to f32. Positions are in 0 .. max_positions - 1 of the compiled model.
    Materialization adds `table`: cosines, then sines, [max_positions, 2 * size(frequencies)].
  }];
  let arguments = (ins Quench_Buffer:$input, Quench_Buffer:$positions, Optional<Quench_Buffer>:$table,
                   Optional<AnyMemRef>:$out,
                   I64Attr:$head_size, DenseF32ArrayAttr:$frequencies,
                   DefaultValuedAttr<StrAttr, "\"half\"">:$pairs);
  let results = (outs Optional<AnyRankedTensor>:$result);
  let assemblyFormat = [{$input `at` $positions (`table` `(` $table^ `:` type($table) `)`)?
                         (`outs` `(` $out^ `:` type($out) `)`)? attr-dict `:`
                         type($input) `,` type($positions) (`->` type($result)^)?}];
  let hasVerifier = 1;
}

def Quench_AttentionOp : Quench_LayerOp<"attention", [AttrSizedOperandSegments]> {
  let summary = "Softmax attention with grouped heads";
  let description = [{
    query: [batch, sequence, heads * D]; key, value: [batch, total, kv_heads * D], or [batch, kv_heads, total, D]
    (rank 4); or the caches of a context as `append` describes them, of which `length` positions are valid. The value's
    head size may differ from the key's. Result: [batch, sequence, heads * Dv].

    score = scale * q.k (soft-capped: cap * tanh(score / cap)) + bias; softmax over total; query i sees key j if not `causal`
    or j <= i + total - sequence, if not `window` or j > i + total - sequence - window, and if keep[b, j] != 0. bias is f32, broadcast to
    [batch, heads, sequence, total]. A query that sees nothing gives zeros.
  }];
  let arguments = (ins Quench_Buffer:$query, Quench_Buffer:$key, Quench_Buffer:$value,
                   Optional<Quench_Buffer>:$keep, Optional<Quench_Buffer>:$bias, Optional<Index>:$length,
                   Optional<AnyMemRef>:$out,
                   I64Attr:$heads, I64Attr:$kv_heads, F32Attr:$scale, UnitAttr:$causal,
                   OptionalAttr<I64Attr>:$window, OptionalAttr<F32Attr>:$soft_cap);
  let results = (outs Optional<AnyRankedTensor>:$result);
  let assemblyFormat = [{$query `,` $key `,` $value (`keep` `(` $keep^ `:` type($keep) `)`)?
                         (`bias` `(` $bias^ `:` type($bias) `)`)? (`length` `(` $length^ `)`)?
                         (`outs` `(` $out^ `:` type($out) `)`)? attr-dict `:`
                         type($query) `,` type($key) `,` type($value) (`->` type($result)^)?}];
  let hasVerifier = 1;
}

def Quench_ExtendOp : Quench_LayerOp<"extend"> {
  let summary = "A cache with new positions behind it";
  let description = [{
    past: [batch, kv_heads, P, D], rows: [batch, S, kv_heads * D]; result [batch, kv_heads, P + S, D]. Pure: the state of a context
    takes its place in the decode and prefill variants (see `append`).
    C1: past has rank 4. C2: rows are [batch, S, kv_heads * D]. C3: the result is as said.
  }];
  let arguments = (ins Quench_Buffer:$past, Quench_Buffer:$rows, Optional<AnyMemRef>:$out);
  let results = (outs Optional<AnyRankedTensor>:$result);
  let assemblyFormat = [{$past `,` $rows (`outs` `(` $out^ `:` type($out) `)`)? attr-dict `:`
                         type($past) `,` type($rows) (`->` type($result)^)?}];
  let hasVerifier = 1;
}

def Quench_AppendOp : Quench_LayerOp<"append"> {
  let summary = "Writes new positions into a cache of the context";
  let description = [{
    rows: [1, S, kv_heads * D] become positions position .. position + S of the cache. A cache of values is
    [kv_heads, capacity, D]. A cache of keys (`keys`) is [kv_heads, capacity / 16, D, 16]: sixteen positions are one register,
    so that scores need no horizontal sums. The capacity is a multiple of 64, the key block of attention.
    C1: rows are [1, S, N]. C2: the cache has rank 3, or 4 and tiles of 16 with `keys`. C3: N is kv_heads * D.
    C4: a capacity that is known is a multiple of 64.
  }];
  let arguments = (ins Quench_Buffer:$rows, AnyMemRef:$cache, Index:$position, UnitAttr:$keys);
  let assemblyFormat = "$rows `to` $cache `at` $position (`keys` $keys^)? attr-dict `:` type($rows) `,` type($cache)";
  let hasVerifier = 1;
}

def Quench_LastRowsOp : Quench_LayerOp<"last_rows"> {
  let summary = "The last rows of a sequence";
  let description = [{[1, S, C] -> [1, count, C]: what a generation step needs of the stream before the head.}];
  let arguments = (ins Quench_Buffer:$input, Index:$count, Optional<AnyMemRef>:$out);
  let results = (outs Optional<AnyRankedTensor>:$result);
  let assemblyFormat = [{$input `,` $count (`outs` `(` $out^ `:` type($out) `)`)? attr-dict `:` type($input) (`->` type($result)^)?}];
}

//===----------------------------------------------------------------------===//
// Bytes only: staged activations and packed weights
//===----------------------------------------------------------------------===//

def Quench_PackedOp : Quench_Op<"packed", [Pure]> {
  let summary = "A packed weight in the output's section";
  let description = [{The byte stream of quench/Quantization/Packing.h, or plain numbers for small constants.}];
  let arguments = (ins Quench_SectionAttr:$section);
  let results = (outs Quench_Buffer:$result);
  let assemblyFormat = "$section `:` type($result) attr-dict";
}

def Quench_StageOp : Quench_LayerOp<"stage", [AttrSizedResultSegments]> {
  let summary = "What is done to an activation once per token, for all layers that read it";
  let description = [{
    x: [rows, k] of f32. `integer`: int8 codes per token (scale = absmax / 127), four in an i32, in the order of the format's layout,
    scales [rows] and group sums; otherwise the numbers themselves, reordered and padded, in `codes` as f32 (and group sums as f32 for formats with zero
    points). `tiled`: rows are interleaved for products of many rows. Buffer sizes are those of quench/Kernels/Contract.h.
  }];
  let arguments = (ins Quench_Buffer:$input, Variadic<AnyMemRef>:$outs,
                   Quench_FormatAttr:$format, UnitAttr:$integer, UnitAttr:$tiled);
  let results = (outs Optional<AnyRankedTensor>:$codes, Optional<AnyRankedTensor>:$scales, Optional<AnyRankedTensor>:$sums);
  let assemblyFormat = [{$input `for` $format (`integer` $integer^)? (`tiled` $tiled^)?
                         (`outs` `(` $outs^ `:` type($outs) `)`)? attr-dict `:` type($input)
                         (`->` type($codes)^ `,` type($scales) `,` type($sums))?}];
}

def Quench_ContractOp : Quench_LayerOp<"contract", [AttrSizedOperandSegments]> {
  let summary = "A staged activation meets a packed weight";
  let description = [{
    y[rows, n] = x[rows, k] W^T. Every target begins here. Iterates over rows and passes of outputs; the sum over k is inside, in one
    order, never split between workers.
  }];
  let arguments = (ins Quench_Buffer:$codes, Quench_Buffer:$scales, Quench_Buffer:$sums, Quench_Buffer:$weight,
                   Optional<Index>:$rows, Optional<AnyMemRef>:$out,
                   Quench_FormatAttr:$format, I64Attr:$n, I64Attr:$k, UnitAttr:$integer, UnitAttr:$tiled);
  let results = (outs Optional<AnyRankedTensor>:$result);
  let assemblyFormat = [{$codes `,` $scales `,` $sums `,` $weight (`rows` `(` $rows^ `)`)?
                         (`outs` `(` $out^ `:` type($out) `)`)? `for` $format (`integer` $integer^)? (`tiled` $tiled^)? attr-dict `:`
                         type($codes) `,` type($scales) `,` type($sums) `,` type($weight) (`->` type($result)^)?}];
}

def Quench_LookupRowsOp : Quench_LayerOp<"lookup_rows"> {
  let summary = "Rows of a packed table";
  let description = [{ids: [rows] of i64; result [rows, k]: rows decoded from the packed stream of a table [n, k].}];
  let arguments = (ins Quench_Buffer:$ids, Quench_Buffer:$weight, Optional<AnyMemRef>:$out,
                   Quench_FormatAttr:$format, I64Attr:$n, I64Attr:$k);
  let results = (outs Optional<AnyRankedTensor>:$result);
  let assemblyFormat = [{$ids `,` $weight (`outs` `(` $out^ `:` type($out) `)`)? `for` $format attr-dict `:`
                         type($ids) `,` type($weight) (`->` type($result)^)?}];
}

//===----------------------------------------------------------------------===//
// Dimensions and workers
//===----------------------------------------------------------------------===//

def Quench_DimOp : Quench_Op<"dim", [Pure]> {
  let summary = "A named dimension of the model";
  let description = [{`%s = quench.dim "sequence_length"`. Specialization replaces it by a constant.}];
  let arguments = (ins StrAttr:$name);
  let results = (outs Index:$result);
  let assemblyFormat = "$name attr-dict";
}

def Quench_BarrierOp : Quench_Op<"barrier"> {
  let summary = "All workers have come here before one goes on";
  let assemblyFormat = "attr-dict";
}

#endif // QUENCH_DIALECT_QUENCH_IR_QUENCHOPS_TD
