//===- QuenchAttrs.td - Formats, maps, sources -*- tablegen -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_QUENCH_IR_QUENCHATTRS_TD
#define QUENCH_DIALECT_QUENCH_IR_QUENCHATTRS_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "quench/Dialect/Quench/IR/QuenchDialect.td"

class Quench_Attr<string name, string mnem, list<Trait> traits = []> : AttrDef<Quench_Dialect, name, traits> {
  let mnemonic = mnem;
}

//===----------------------------------------------------------------------===//
// Where bytes come from
//===----------------------------------------------------------------------===//

def Quench_FileAttr : Quench_Attr<"File", "file"> {
  let summary = "Bytes of a file, mapped when they are read";
  let description = [{`#quench.file<"model.onnx.data", 4096, 1024>`: path, offset, number of bytes.}];
  let parameters = (ins StringRefParameter<"path">:$path, "int64_t":$offset, "int64_t":$bytes);
  let assemblyFormat = "`<` $path `,` $offset `,` $bytes `>`";
}

def Quench_SectionAttr : Quench_Attr<"Section", "section"> {
  let summary = "Bytes of the output's weight section";
  let parameters = (ins "int64_t":$offset, "int64_t":$bytes);
  let assemblyFormat = "`<` $offset `,` $bytes `>`";
}

//===----------------------------------------------------------------------===//
// Formats
//===----------------------------------------------------------------------===//

def Quench_FormatAttr : Quench_Attr<"Format", "format"> {
  let summary = "A low-bit format by its text";
  let description = [{
    `#quench.format<"int<4, group = 32>">`. The text is canonical; `getFormat()` gives the object that
    encodes, lays out and decodes (quench/Quantization/Format.h).
  }];
  let parameters = (ins StringRefParameter<"canonical text">:$spec);
  let assemblyFormat = "`<` $spec `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    const ::quench::Format &getFormat() const;
    /// Null and an error at `emitError` if the text names no format.
    static FormatAttr parseSpec(::mlir::MLIRContext *context, ::llvm::StringRef spec,
                                ::llvm::function_ref<::mlir::InFlightDiagnostic()> emitError);
  }];
}

//===----------------------------------------------------------------------===//
// Maps
//===----------------------------------------------------------------------===//

def Quench_MapInterface : AttrInterface<"MapInterface"> {
  let cppNamespace = "::quench::qn";
  let description = [{
    An invertible linear map of row vectors, v -> v M. Parameters of more than a few numbers are initializers,
    referred to by symbol: equal symbol, equal map.
  }];
  let methods = [
    InterfaceMethod<"Numbers in", "int64_t", "getIn">,
    InterfaceMethod<"Numbers out", "int64_t", "getOut">,
    InterfaceMethod<"The inverse, or null", "::quench::qn::MapInterface", "getInverse">,
    InterfaceMethod<"The transposed map", "::quench::qn::MapInterface", "getTransposed">,
    InterfaceMethod<"M M^T = I", "bool", "isOrthogonal">,
    InterfaceMethod<"A diagonal matrix", "bool", "isDiagonal">,
    InterfaceMethod<[{The map on plain arrays. `read` gives the numbers of an initializer.}],
      "::llvm::Expected<std::unique_ptr<::quench::Map>>", "instantiate",
      (ins "::llvm::function_ref<::llvm::Expected<std::vector<double>>(::llvm::StringRef)>":$read)>,
  ];
}

class Quench_MapAttr<string name, string mnem>
    : Quench_Attr<name, mnem, [DeclareAttrInterfaceMethods<Quench_MapInterface>]>;

def Quench_SignsAttr : Quench_MapAttr<"Signs", "signs"> {
  let summary = "Random signs from a seed";
  let parameters = (ins "int64_t":$n, "uint64_t":$seed);
  let assemblyFormat = "`<` $n `,` `seed` `=` $seed `>`";
}

def Quench_HadamardAttr : Quench_MapAttr<"Hadamard", "hadamard"> {
  let summary = "Normalized Hadamard matrix of order n, or of each block";
  let description = [{
    `#quench.hadamard<576>`: one factorization, chosen from n, used on the host and on line. With a block the
    matrix is block diagonal. `transpose` (the inverse) matters for orders that are not powers of two.
  }];
  let parameters = (ins "int64_t":$n, DefaultValuedParameter<"int64_t", "0">:$block,
                    DefaultValuedParameter<"bool", "false">:$transpose);
  let assemblyFormat = "`<` $n (`,` struct($block, $transpose)^)? `>`";
  let genVerifyDecl = 1;
}

def Quench_DiagAttr : Quench_MapAttr<"Diag", "diag"> {
  let summary = "Diagonal matrix of an initializer's numbers, or of their inverses";
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$symbol, "int64_t":$n,
                    DefaultValuedParameter<"bool", "false">:$inverted);
  let assemblyFormat = "`<` $symbol `,` $n (`,` `inverted` `=` $inverted^)? `>`";
}

def Quench_PermuteAttr : Quench_MapAttr<"Permute", "permute"> {
  let summary = "v'[i] = v[p[i]], p an initializer; or the inverse";
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$symbol, "int64_t":$n,
                    DefaultValuedParameter<"bool", "false">:$inverted);
  let assemblyFormat = "`<` $symbol `,` $n (`,` `inverted` `=` $inverted^)? `>`";
}

def Quench_DenseAttr : Quench_MapAttr<"DenseMap", "dense"> {
  let summary = "Matrix [n, n] of an initializer, known to be orthogonal if so marked";
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$symbol, "int64_t":$n,
                    DefaultValuedParameter<"bool", "false">:$orthogonal,
                    DefaultValuedParameter<"bool", "false">:$transpose,
                    DefaultValuedParameter<"bool", "false">:$inverted);
  let assemblyFormat = "`<` $symbol `,` $n (`,` struct($orthogonal, $transpose, $inverted)^)? `>`";
}

def Quench_BlockDiagAttr : Quench_MapAttr<"BlockDiag", "block_diag"> {
  let summary = "Orthogonal blocks [b, b] along the diagonal; one for all or one for each";
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$symbol, "int64_t":$n, "int64_t":$block,
                    DefaultValuedParameter<"bool", "false">:$transpose);
  let assemblyFormat = "`<` $symbol `,` $n `,` `block` `=` $block (`,` `transpose` `=` $transpose^)? `>`";
}

def Quench_ProductAttr : Quench_MapAttr<"ProductMap", "product"> {
  let summary = "First the first factor, then the second, ...: v M1 M2";
  let parameters = (ins ArrayRefParameter<"::mlir::Attribute">:$factors);
  let assemblyFormat = "`<` `[` $factors `]` `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// v -> v a b; drops what cancels. Null: the identity.
    static ::quench::qn::MapInterface compose(::quench::qn::MapInterface a, ::quench::qn::MapInterface b);
  }];
}

#endif // QUENCH_DIALECT_QUENCH_IR_QUENCHATTRS_TD
