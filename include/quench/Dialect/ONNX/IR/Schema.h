//===- Schema.h - ONNX's operator schemas --------------------- -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What ONNX's library says about an operator, without its headers: they throw,
// and only the files behind this interface are compiled with exceptions. The
// registry also gets the contributed operators of ONNX Runtime that Quench
// accepts (domain com.microsoft, and SimplifiedLayerNormalization in the
// default domain, as ONNX Runtime writes it).
//
// The default domain is the empty string here; "ai.onnx" means the same.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_DIALECT_ONNX_IR_SCHEMA_H
#define QUENCH_DIALECT_ONNX_IR_SCHEMA_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include <cstdint>
#include <string>
#include <utility>

namespace quench::onnx {

/// The kinds of attributes, numbered as AttributeProto::AttributeType.
enum class AttributeKind {
  Undefined = 0,
  Float = 1,
  Int = 2,
  String = 3,
  Tensor = 4,
  Graph = 5,
  Floats = 6,
  Ints = 7,
  Strings = 8,
  Tensors = 9,
  Graphs = 10,
  SparseTensor = 11,
  SparseTensors = 12,
  TypeProto = 13,
  TypeProtos = 14,
};

/// What a schema constrains in a node.
struct NodeSignature {
  std::string domain, opType, name;
  /// The version of the domain's operator set that the model imports.
  int64_t opset = 0;
  /// Whether each input and output is there (optional ones may be absent).
  llvm::SmallVector<bool> inputs, outputs;
  llvm::SmallVector<std::pair<std::string, AttributeKind>> attributes;
};

/// Compares a node with the schema of its operator. Returns what is wrong, or
/// an empty string.
std::string checkNode(const NodeSignature &node);

/// Calls `fn(domain, operator)` once for each operator that has a schema in any
/// version, in a fixed order.
void forEachOperator(
    llvm::function_ref<void(llvm::StringRef, llvm::StringRef)> fn);

/// The newest version of a domain that the schemas know, or 0.
int64_t latestOpset(llvm::StringRef domain);

/// Puts ONNX's schemas and the contributed ones in place (once). The functions
/// above do it themselves.
void registerSchemas();

} // namespace quench::onnx

#endif // QUENCH_DIALECT_ONNX_IR_SCHEMA_H
