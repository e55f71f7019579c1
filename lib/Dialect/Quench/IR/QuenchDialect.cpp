//===- QuenchDialect.cpp - The quench dialect's parts -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/DialectImplementation.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace quench;
using namespace quench::qn;

#include "quench/Dialect/Quench/IR/QuenchDialect.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "quench/Dialect/Quench/IR/QuenchTypes.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "quench/Dialect/Quench/IR/QuenchAttrs.cpp.inc"

void QuenchDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "quench/Dialect/Quench/IR/QuenchOps.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "quench/Dialect/Quench/IR/QuenchTypes.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "quench/Dialect/Quench/IR/QuenchAttrs.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// !quench.tensor<1536x576, "int<4, group = 32>">
//===----------------------------------------------------------------------===//

Type QTensorType::parse(AsmParser &parser) {
  SmallVector<int64_t> shape;
  std::string spec;
  if (parser.parseLess() ||
      parser.parseDimensionList(shape, /*allowDynamic=*/true,
                                /*withTrailingX=*/false) ||
      parser.parseComma() || parser.parseString(&spec) || parser.parseGreater())
    return {};
  FormatAttr format = FormatAttr::parseSpec(parser.getContext(), spec, [&]() {
    return parser.emitError(parser.getNameLoc());
  });
  if (!format)
    return {};
  return get(parser.getContext(), shape, format);
}

void QTensorType::print(AsmPrinter &printer) const {
  printer << "<";
  printer.printDimensionList(getShape());
  printer << ", \"" << getFormat().getSpec() << "\">";
}
