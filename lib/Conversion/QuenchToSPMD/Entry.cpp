//===- Entry.cpp - What the runtime calls -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An entry reads pointers and sizes from the frame (quench/Runtime/Program.h),
// makes memrefs of them and calls the lowered function.
//
//===----------------------------------------------------------------------===//

#include "Frame.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "quench/Conversion/QuenchToSPMD/QuenchToSPMD.h"

using namespace mlir;
using namespace quench;

LogicalResult quench::makeEntry(ModuleOp module, func::FuncOp function,
                                ArrayRef<std::string> symbols, StringRef name) {
  OpBuilder b(module.getContext());
  b.setInsertionPointToEnd(module.getBody());
  Location loc = function.getLoc();
  FrameReader e(b, loc);
  auto entry = func::FuncOp::create(
      b, loc, name, b.getFunctionType({e.pointer, e.i64, e.i64}, {}));
  Block *block = entry.addEntryBlock();
  b.setInsertionPointToStart(block);
  Value frame = block->getArgument(0);
  Value symbolArray = e.load(e.pointer, frame, FrameWord::Symbols);
  SmallVector<Value> values;
  for (size_t i = 0; i != symbols.size(); ++i)
    values.push_back(e.load(e.i64, symbolArray, i));
  auto bytes = MemRefType::get({ShapedType::kDynamic}, b.getI8Type());
  SmallVector<Value> arguments = {
      frame,
      e.buffer(bytes, e.load(e.pointer, frame, FrameWord::Weights)),
      e.buffer(bytes, e.load(e.pointer, frame, FrameWord::Arena)),
      arith::ConstantIndexOp::create(b, loc, 0),
      e.toIndex(block->getArgument(1)),
      e.toIndex(block->getArgument(2))};
  for (Value v : values)
    arguments.push_back(e.toIndex(v));
  unsigned first = arguments.size();
  Value blocks;
  if (auto it = llvm::find(symbols, "capacity"); it != symbols.end())
    blocks = e.keyBlocks(values[it - symbols.begin()]);
  for (auto [i, source] : llvm::enumerate(argumentSources(function, first))) {
    unsigned n = first + i;
    auto type = dyn_cast<MemRefType>(function.getArgument(n).getType());
    if (!type)
      return function.emitError("argument ")
             << n << " is no buffer: " << function.getArgument(n).getType();
    if (type.getRank() != 1)
      return function.emitError("argument ") << n << " is not flat: " << type;
    arguments.push_back(e.buffer(
        type, e.pointerTo(source.kind, e.constant(source.at), frame, blocks)));
  }
  func::CallOp::create(b, loc, function, arguments);
  func::ReturnOp::create(b, loc);
  function.setPrivate();

  // The size of the arena, for the runtime.
  auto size =
      module.lookupSymbol<func::FuncOp>(function.getName().str() + "_arena");
  b.setInsertionPointToEnd(module.getBody());
  auto arenaBytes = func::FuncOp::create(
      b, loc, (name + "_arena").str(), b.getFunctionType({e.pointer}, {e.i64}));
  block = arenaBytes.addEntryBlock();
  b.setInsertionPointToStart(block);
  SmallVector<Value> sizes;
  for (size_t i = 0; i != symbols.size(); ++i)
    sizes.push_back(e.toIndex(e.load(e.i64, block->getArgument(0), i)));
  Value result = func::CallOp::create(b, loc, size, sizes).getResult(0);
  func::ReturnOp::create(b, loc, e.toI64(result));
  return success();
}

void quench::makeStateSize(ModuleOp module, func::FuncOp function,
                           unsigned capacitySymbol, StringRef name) {
  OpBuilder b(module.getContext());
  b.setInsertionPointToEnd(module.getBody());
  Location loc = function.getLoc();
  FrameReader e(b, loc);
  auto size = func::FuncOp::create(b, loc, name,
                                   b.getFunctionType({e.pointer}, {e.i64}));
  Block *block = size.addEntryBlock();
  b.setInsertionPointToStart(block);
  Value capacity = e.load(e.i64, block->getArgument(0), capacitySymbol);
  // Bytes of all caches for one key block of positions.
  int64_t bytes = 0;
  for (unsigned i = 0; i != function.getNumArguments(); ++i)
    if (auto n =
            function.getArgAttrOfType<IntegerAttr>(i, "quench.state_bytes"))
      bytes += n.getInt();
  func::ReturnOp::create(b, loc,
                         e.mul(e.keyBlocks(capacity), e.constant(bytes)));
}
