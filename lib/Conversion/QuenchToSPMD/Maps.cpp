//===- Maps.cpp - Workers' shares of maps on line -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "quench/Kernels/Layers.h"

using namespace mlir;
using namespace quench;

/// A map's text as a symbol.
static std::string symbolOf(Attribute map) {
  std::string text;
  llvm::raw_string_ostream(text) << map;
  std::string symbol;
  for (char c : text)
    if (llvm::isAlnum(c))
      symbol += c;
    else if (!symbol.empty() && symbol.back() != '_')
      symbol += '_';
  return symbol;
}

LogicalResult quench::lowerMap(WorkerBuilder &w, qn::MapOp op,
                               llvm::function_ref<void()> barrier) {
  auto type = cast<MemRefType>(op.getInput().getType());
  if (static_cast<int64_t>(op.getAxis()) != type.getRank() - 1)
    return op.emitError(
               "a map that stays on line runs along the last axis, found axis ")
           << op.getAxis();
  llvm::Expected<std::unique_ptr<Map>> map = op.getMapInterface().instantiate(
      [](StringRef name) -> llvm::Expected<std::vector<double>> {
        return llvm::createStringError(
            "the parameters of a map that stays on line ('" + name +
            "') are not in the compiled model");
      });
  if (!map)
    return op.emitError() << toString(map.takeError());
  if ((*map)->in() != (*map)->out())
    return op.emitError("a map that stays on line keeps the size, found ")
           << (*map)->in() << " to " << (*map)->out();
  SmallVector<Value> outer;
  for (int64_t i = 0; i + 1 < type.getRank(); ++i)
    outer.push_back(w.dim(op.getInput(), i));
  auto [lo, hi] = w.share(w.product(outer));
  w.call(getOrCreateTransform(w.module, symbolOf(op.getMap()), **map),
         {w.flat(op.getInput()), w.flat(op.getOut()), lo, hi});
  return success();
}
