//===- QKOps.td - Register-level ops of low-bit kernels ----*- tablegen -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QK_IR_QKOPS_TD
#define QUENCH_DIALECT_QK_IR_QKOPS_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/BuiltinTypeInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def QK_Dialect : Dialect {
  let name = "qk";
  let summary = "Register-level ops from which kernels of low-bit formats are built";
  let description = [{
    Eight pure ops on vectors, enough to decode every packed format and to multiply
    with it. What is not here is taken from `arith`, `vector`, `scf` and `memref`.
    An op knows neither a tensor nor an instruction: `convert-qk-to-x86` lowers it
    to AVX-512, `convert-qk-to-generic` to plain vector code for any target of LLVM.

    All ops work with any number of lanes. A register of 64 bytes usually holds 16
    rows by 4 columns of a weight, lane `4 * row + column`.
  }];
  let cppNamespace = "::quench::qk";
  let dependentDialects = ["::mlir::arith::ArithDialect"];
  let hasConstantMaterializer = 1;
}

class QK_Op<string mnemonic, list<Trait> traits = []>
    : Op<QK_Dialect, mnemonic, !listconcat([Pure], traits)>;

def QK_Bytes : VectorOfRankAndType<[1], [I8]>;
def QK_Words : VectorOfRankAndType<[1], [I32]>;
def QK_Halves : VectorOfRankAndType<[1], [I16]>;
def QK_Floats : VectorOfRankAndType<[1], [F32]>;

def QK_WindowOp : QK_Op<"window", [AllTypesMatch<["lo", "result"]>]> {
  let summary = "bytes from any bit position of each lane";
  let description = [{
    Byte n of every `unit` bits wide lane of the result is the 8 bits from bit
    `pos[n]` on of the same lane of `lo`, continued by the lane of `hi` if given.
    It takes out codes of any width, states of a trellis, or shifts a funnel.

    Bits past the end of the lane (of `hi`, if given) are unspecified. With `width`
    the bits of a byte from `width` on are 0, else they are what lies there.

    ```mlir
    // eight 5-bit codes in each 64-bit lane
    %c = qk.window %v unit 64 pos [0, 5, 10, 15, 20, 25, 30, 35] width 5 : vector<64xi8>
    ```
  }];
  let arguments = (ins QK_Bytes:$lo, Optional<QK_Bytes>:$hi, I32Attr:$unit,
                       DenseI32ArrayAttr:$pos, OptionalAttr<I32Attr>:$width);
  let results = (outs QK_Bytes:$result);
  let assemblyFormat = [{
    $lo (`,` $hi^)? `unit` $unit `pos` $pos (`width` $width^)? attr-dict
    `:` type($lo) (`,` type($hi)^)?
  }];
  let hasVerifier = 1;
}

def QK_FieldOp : QK_Op<"field", [SameOperandsAndResultType]> {
  let summary = "a bit field of each byte";
  let description = [{
    Bits [off, off + width) of each byte, at bit `at` of the result, which is 0
    elsewhere. With `at` = `off` the field stays where it lies: a mask.

    ```mlir
    %high = qk.field %v off 4 width 4 at 0 : vector<64xi8>
    ```
  }];
  let arguments = (ins QK_Bytes:$value, I32Attr:$off, I32Attr:$width, I32Attr:$at);
  let results = (outs QK_Bytes:$result);
  let assemblyFormat = [{
    $value `off` $off `width` $width `at` $at attr-dict `:` type($result)
  }];
  let hasFolder = 1;
  let hasVerifier = 1;
}

def QK_LookupOp : QK_Op<"lookup"> {
  let summary = "an entry of a small constant table for each lane";
  let description = [{
    The entry at `index` mod size of the table: the high bits of an index are
    ignored. Tables have 16, 32, 64, 128 or 256 entries of `i8`, or 16 of `f32`.

    ```mlir
    %w = qk.lookup %codes, dense<[5, 39, 63, 79, 93, 105, 117, 128, 138, 148, 158, 170,
                                  182, 197, 217, 251]> : tensor<16xi8>, vector<64xi8> -> vector<64xi8>
    ```
  }];
  let arguments = (ins AnyTypeOf<[QK_Bytes, QK_Words]>:$index, ElementsAttr:$table);
  let results = (outs AnyTypeOf<[QK_Bytes, QK_Floats]>:$result);
  let assemblyFormat = [{
    $index `,` $table attr-dict `,` type($index) `->` type($result)
  }];
  let hasFolder = 1;
  let hasVerifier = 1;
}

def QK_LookupValuesOp : QK_Op<"lookup_values"> {
  let summary = "an entry of a table in registers for each lane";
  let description = [{
    As `qk.lookup`, but the table is only known when the program runs: 1, 2 or 4
    vectors of the result's type, joined. Their entries together are a power of two,
    at most 256 bytes or 16 floats.

    ```mlir
    %w = qk.lookup_values %codes in %t0, %t1 : vector<64xi8>, vector<64xi8>, vector<64xi8> -> vector<64xi8>
    ```
  }];
  let arguments = (ins AnyTypeOf<[QK_Bytes, QK_Words]>:$index,
                       Variadic<AnyTypeOf<[QK_Bytes, QK_Floats]>>:$tables);
  let results = (outs AnyTypeOf<[QK_Bytes, QK_Floats]>:$result);
  let assemblyFormat = [{
    $index `in` $tables attr-dict `:` type($index) `,` type($tables) `->` type($result)
  }];
  let hasVerifier = 1;
}

def QK_AffineOp : QK_Op<"affine", [SameOperandsAndResultType]> {
  let summary = "an affine map of each byte over GF(2)";
  let description = [{
    Bit n of each result byte is parity(`rows[n]` & byte) xor bit n of `constant`:
    signs, parities, the order of bits, linear hashes.

    ```mlir
    // all bits = the parity of the byte
    %p = qk.affine %s rows [255, 255, 255, 255, 255, 255, 255, 255] constant 0 : vector<64xi8>
    ```
  }];
  let arguments = (ins QK_Bytes:$value, DenseI32ArrayAttr:$rows, I32Attr:$constant);
  let results = (outs QK_Bytes:$result);
  let assemblyFormat = [{
    $value `rows` $rows `constant` $constant attr-dict `:` type($result)
  }];
  let hasFolder = 1;
  let hasVerifier = 1;
}

def QK_Dot4Op : QK_Op<"dot4", [AllTypesMatch<["acc", "result"]>]> {
  let summary = "dot product of four unsigned bytes with four signed ones";
  let description = [{
    Adds to lane r of `acc` the sum of `w[4r + j] * x[j]`, j = 0..3: `w` unsigned,
    `x` the four signed bytes of a word (the lowest first), the same for all lanes.
    The sum wraps and never saturates. `hi` promises that no byte of `w` is greater;
    a target may choose its instructions by it.

    ```mlir
    %a = qk.dot4 %acc, %w, %x hi 15 : vector<16xi32>, vector<64xi8>
    ```
  }];
  let arguments = (ins QK_Words:$acc, QK_Bytes:$w, I32:$x,
                       DefaultValuedAttr<I32Attr, "255">:$hi);
  let results = (outs QK_Words:$result);
  let assemblyFormat = [{
    $acc `,` $w `,` $x (`hi` $hi^)? attr-dict `:` type($acc) `,` type($w)
  }];
  let hasVerifier = 1;
}

def QK_AddWideOp
    : QK_Op<"add_wide", [AllTypesMatch<["even", "odd", "evenResult", "oddResult"]>]> {
  let summary = "adds bytes to two accumulators of 16-bit lanes";
  let description = [{
    `even[n] += v[2n]`, `odd[n] += v[2n + 1]`, the bytes zero-extended; sums wrap.

    ```mlir
    %e1, %o1 = qk.add_wide %e0, %o0, %v : vector<32xi16>, vector<64xi8>
    ```
  }];
  let arguments = (ins QK_Halves:$even, QK_Halves:$odd, QK_Bytes:$v);
  let results = (outs QK_Halves:$evenResult, QK_Halves:$oddResult);
  let assemblyFormat = [{
    $even `,` $odd `,` $v attr-dict `:` type($even) `,` type($v)
  }];
  let hasVerifier = 1;
}

def QK_QuantizeOp : QK_Op<"quantize"> {
  let summary = "rounds scaled floats to signed bytes";
  let description = [{
    `value * inverse`, rounded to the nearest integer (half to even) and saturated
    to [-127, 127]. The result for a NaN is unspecified.

    ```mlir
    %q = qk.quantize %v, %inverse : vector<16xf32> -> vector<16xi8>
    ```
  }];
  let arguments = (ins QK_Floats:$value, F32:$inverse);
  let results = (outs QK_Bytes:$result);
  let assemblyFormat = [{
    $value `,` $inverse attr-dict `:` type($value) `->` type($result)
  }];
  let hasVerifier = 1;
}

def QK_ButterflyOp : QK_Op<"butterfly", [SameOperandsAndResultType]> {
  let summary = "one stage of a Hadamard transform inside a register";
  let description = [{
    Lanes a and b = a + `distance` of each pair become v[a] + v[b] and v[a] - v[b].
    `distance` is a power of two and 2 * distance divides the number of lanes.

    ```mlir
    %w = qk.butterfly %v distance 4 : vector<16xf32>
    ```
  }];
  let arguments = (ins QK_Floats:$value, I32Attr:$distance);
  let results = (outs QK_Floats:$result);
  let assemblyFormat = "$value `distance` $distance attr-dict `:` type($result)";
  let hasVerifier = 1;
}

#endif // QUENCH_DIALECT_QK_IR_QKOPS_TD
