//===- Results.cpp - Outputs become arguments -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Builders.h"
#include "quench/Conversion/QuenchToSPMD/QuenchToSPMD.h"

using namespace mlir;
using namespace quench;

LogicalResult quench::resultsToArguments(func::FuncOp function) {
  Block &body = function.getBody().front();
  auto ret = cast<func::ReturnOp>(body.getTerminator());
  OpBuilder b(ret);
  SmallVector<Value> taken;
  for (auto [i, value] : llvm::enumerate(ret.getOperands())) {
    auto type = dyn_cast<MemRefType>(value.getType());
    if (!type)
      return function.emitError("result ")
             << i << " is no buffer: " << value.getType();
    auto outType = MemRefType::get(type.getShape(), type.getElementType());
    BlockArgument out = body.addArgument(outType, value.getLoc());
    auto alloc = value.getDefiningOp<memref::AllocOp>();
    // The memory of the output itself holds the value where its allocation had
    // just this type.
    if (alloc && alloc.getType() == outType &&
        !llvm::is_contained(taken, value)) {
      taken.push_back(value);
      alloc.getResult().replaceAllUsesWith(out);
      alloc.erase();
      continue;
    }
    memref::CopyOp::create(b, ret.getLoc(), value, out);
  }
  func::ReturnOp::create(b, ret.getLoc());
  SmallVector<DictionaryAttr> resultAttrs;
  function.getAllResultAttrs(resultAttrs);
  unsigned first = function.getNumArguments(),
           results = function.getNumResults();
  SmallVector<Attribute> old =
      resultAttrs.empty()
          ? SmallVector<Attribute>()
          : SmallVector<Attribute>(resultAttrs.begin(), resultAttrs.end());
  ret.erase();
  function.setType(
      FunctionType::get(function.getContext(), body.getArgumentTypes(), {}));
  function.removeResAttrsAttr();
  // The attributes of results move to their arguments.
  for (unsigned i = 0; i != results && i < old.size(); ++i)
    if (auto dict = dyn_cast_or_null<DictionaryAttr>(old[i]))
      function.setArgAttrs(first + i, dict);
  for (unsigned i = 0; i != results; ++i)
    function.setArgAttr(first + i, "quench.output", b.getUnitAttr());
  return success();
}
