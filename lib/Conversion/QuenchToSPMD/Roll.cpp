//===- Roll.cpp - A run of equal calls becomes a loop -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Calls of one layer that follow each other differ in the places of their
// weights, caches, inputs and outputs, which are numbers: they come from the
// loop's counter, or from a table where they are not regular. Places in the
// arena may alternate between two. So the code does not grow with the number of
// layers.
//
//===----------------------------------------------------------------------===//

#include "Frame.h"
#include "Lowering.h"
#include "quench/Kernels/Layers.h"

using namespace mlir;
using namespace quench;

namespace {

/// How an operand of the calls depends on the number of the call.
struct Column {
  enum Kind { Same, Weights, Arena, Argument };
  Kind kind = Same;
  SmallVector<int64_t> numbers; // Weights: bytes; Argument: ArgumentSource::at
  ArgumentSource::Kind source = ArgumentSource::Input;
};

class Roller {
public:
  Roller(ModuleOp module, func::FuncOp function, ArrayRef<std::string> symbols,
         const LoweredArguments &leading)
      : module(module), function(function), symbols(symbols), leading(leading),
        sources(
            argumentSources(function, leading.firstSymbol + symbols.size())),
        b(module.getContext()) {}

  void run() {
    SmallVector<func::CallOp> calls;
    for (Operation &op :
         llvm::make_early_inc_range(function.getBody().front())) {
      auto call = dyn_cast<func::CallOp>(op);
      bool isLayer = call && isLayerCall(call);
      if (!isLayer && op.getNumRegions() == 0 && isMemoryEffectFree(&op))
        continue;
      if (!calls.empty() &&
          (!isLayer || calls.front().getCallee() != call.getCallee())) {
        rollRuns(calls);
        calls.clear();
      }
      if (isLayer)
        calls.push_back(call);
    }
    rollRuns(calls);
  }

private:
  bool isLayerCall(func::CallOp call) {
    auto callee = module.lookupSymbol<func::FuncOp>(call.getCallee());
    return callee && callee->hasAttr("quench.layer");
  }

  /// Takes as many calls into a loop as can be, then the next ones.
  void rollRuns(ArrayRef<func::CallOp> calls) {
    while (calls.size() > 1) {
      SmallVector<Column> columns;
      size_t taken = 1;
      for (size_t n = 2; n <= calls.size(); ++n) {
        std::optional<SmallVector<Column>> c = columnsOf(calls.take_front(n));
        if (!c)
          break;
        columns = std::move(*c);
        taken = n;
      }
      if (taken > 1)
        makeLoop(calls.take_front(taken), columns);
      calls = calls.drop_front(taken);
    }
  }

  std::optional<SmallVector<Column>> columnsOf(ArrayRef<func::CallOp> calls) {
    SmallVector<Column> columns;
    func::CallOp front = calls.front();
    for (unsigned i = 0; i != front.getNumOperands(); ++i) {
      SmallVector<Value> values;
      for (func::CallOp call : calls)
        values.push_back(call.getOperand(i));
      std::optional<Column> column = columnOf(values);
      if (!column)
        return std::nullopt;
      columns.push_back(std::move(*column));
    }
    return columns;
  }

  std::optional<Column> columnOf(ArrayRef<Value> values) {
    Column column;
    if (llvm::all_equal(values))
      return column;
    if (isa<BlockArgument>(values.front()))
      return argumentColumn(values);
    auto front = values.front().getDefiningOp<memref::ViewOp>();
    if (!front)
      return std::nullopt;
    SmallVector<memref::ViewOp> views;
    for (Value v : values) {
      auto view = v.getDefiningOp<memref::ViewOp>();
      if (!view || view.getSource() != front.getSource() ||
          view.getType() != front.getType() ||
          !llvm::equal(view.getSizes(), front.getSizes()))
        return std::nullopt;
      views.push_back(view);
    }
    if (front.getSource() == leading.weights) {
      column.kind = Column::Weights;
      for (memref::ViewOp view : views) {
        std::optional<int64_t> bytes = getConstantIntValue(view.getByteShift());
        if (!bytes)
          return std::nullopt;
        column.numbers.push_back(*bytes);
      }
      return column;
    }
    column.kind = Column::Arena;
    for (auto [i, view] : llvm::enumerate(views))
      if (view.getByteShift() != views[i % 2].getByteShift())
        return std::nullopt;
    return column;
  }

  std::optional<Column> argumentColumn(ArrayRef<Value> values) {
    Column column;
    column.kind = Column::Argument;
    unsigned first = leading.firstSymbol + symbols.size();
    for (Value v : values) {
      auto argument = dyn_cast<BlockArgument>(v);
      if (!argument || argument.getArgNumber() < first ||
          v.getType() != values.front().getType())
        return std::nullopt;
      ArgumentSource source = sources[argument.getArgNumber() - first];
      if (column.numbers.empty())
        column.source = source.kind;
      else if (column.source != source.kind)
        return std::nullopt;
      column.numbers.push_back(source.at);
    }
    return column;
  }

  /// numbers[iv] as an index.
  Value numberAt(Location loc, ArrayRef<int64_t> numbers, Value iv) {
    int64_t stride = numbers[1] - numbers[0];
    bool regular = true;
    for (size_t i = 1; i != numbers.size(); ++i)
      regular &= numbers[i] - numbers[i - 1] == stride;
    auto constant = [&](int64_t v) {
      return arith::ConstantIndexOp::create(b, loc, v).getResult();
    };
    if (regular)
      return arith::AddIOp::create(
          b, loc, constant(numbers[0]),
          arith::MulIOp::create(b, loc, iv, constant(stride)).getResult());
    auto type =
        MemRefType::get({static_cast<int64_t>(numbers.size())}, b.getI64Type());
    std::string &name = tables[SmallVector<int64_t>(numbers)];
    if (name.empty()) {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPoint(function);
      name = (function.getName() + "_table" + Twine(tables.size() - 1)).str();
      memref::GlobalOp::create(
          b, loc, name, b.getStringAttr("private"), type,
          DenseElementsAttr::get(
              RankedTensorType::get(type.getShape(), b.getI64Type()), numbers),
          /*constant=*/true, /*alignment=*/IntegerAttr());
    }
    Value table = memref::GetGlobalOp::create(b, loc, type, name);
    return arith::IndexCastOp::create(
        b, loc, b.getIndexType(),
        memref::LoadOp::create(b, loc, table, iv).getResult());
  }

  Value operandAt(Location loc, const Column &column, ArrayRef<Value> values,
                  Value iv) {
    if (column.kind == Column::Same)
      return values.front();
    if (column.kind == Column::Argument) {
      FrameReader e(b, loc);
      Value blocks;
      if (auto it = llvm::find(symbols, "capacity"); it != symbols.end())
        blocks = e.keyBlocks(e.toI64(function.getArgument(
            leading.firstSymbol + (it - symbols.begin()))));
      Value at = e.toI64(numberAt(loc, column.numbers, iv));
      return e.buffer(cast<MemRefType>(values.front().getType()),
                      e.pointerTo(column.source, at, leading.frame, blocks));
    }
    auto view = values[0].getDefiningOp<memref::ViewOp>();
    Value shift;
    if (column.kind == Column::Weights) {
      shift = numberAt(loc, column.numbers, iv);
    } else {
      auto other = values[1].getDefiningOp<memref::ViewOp>();
      Value odd = arith::TruncIOp::create(
          b, loc, b.getI1Type(),
          arith::IndexCastOp::create(b, loc, b.getI64Type(), iv).getResult());
      shift = arith::SelectOp::create(b, loc, odd, other.getByteShift(),
                                      view.getByteShift());
    }
    return memref::ViewOp::create(b, loc, view.getType(), view.getSource(),
                                  shift, view.getSizes());
  }

  void makeLoop(ArrayRef<func::CallOp> calls, ArrayRef<Column> columns) {
    func::CallOp front = calls.front();
    Location loc = front.getLoc();
    b.setInsertionPoint(front);
    auto constant = [&](int64_t v) {
      return arith::ConstantIndexOp::create(b, loc, v).getResult();
    };
    auto loop = scf::ForOp::create(b, loc, constant(0), constant(calls.size()),
                                   constant(1));
    keepRolled(loop);
    b.setInsertionPointToStart(loop.getBody());
    SmallVector<Value> operands;
    for (auto [i, column] : llvm::enumerate(columns)) {
      SmallVector<Value> values;
      for (func::CallOp call : calls)
        values.push_back(call.getOperand(i));
      operands.push_back(
          operandAt(loc, column, values, loop.getInductionVar()));
    }
    func::CallOp::create(b, loc, front.getCallee(), TypeRange{}, operands);
    for (func::CallOp call : calls) {
      SmallVector<Value> unused(call.getOperands());
      call.erase();
      for (Value v : unused)
        if (auto view = v.getDefiningOp<memref::ViewOp>();
            view && view->use_empty())
          view.erase();
    }
  }

  ModuleOp module;
  func::FuncOp function;
  ArrayRef<std::string> symbols;
  LoweredArguments leading;
  SmallVector<ArgumentSource> sources;
  OpBuilder b;
  std::map<SmallVector<int64_t>, std::string> tables;
};

} // namespace

void quench::rollCalls(ModuleOp module, func::FuncOp function,
                       ArrayRef<std::string> symbols,
                       const LoweredArguments &leading) {
  Roller(module, function, symbols, leading).run();
}
