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

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "quench/Conversion/QuenchToSPMD/QuenchToSPMD.h"
#include "quench/Kernels/Layers.h"

using namespace mlir;
using namespace quench;

namespace {

/// Emits the body of an entry.
class EntryBuilder {
public:
  EntryBuilder(OpBuilder &b, Location loc)
      : b(b), loc(loc), pointer(LLVM::LLVMPointerType::get(b.getContext())),
        i64(b.getI64Type()) {}

  Value constant(int64_t v) {
    return arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(v));
  }
  Value load(Type type, Value base, int64_t word) {
    Value at =
        LLVM::GEPOp::create(b, loc, pointer, i64, base,
                            ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(word)});
    return LLVM::LoadOp::create(b, loc, type, at);
  }
  Value offset(Value base, Value bytes) {
    return LLVM::GEPOp::create(b, loc, pointer, b.getI8Type(), base,
                               ArrayRef<LLVM::GEPArg>{bytes});
  }
  Value toIndex(Value v) {
    return arith::IndexCastOp::create(b, loc, b.getIndexType(), v);
  }
  Value add(Value a, Value c) { return arith::AddIOp::create(b, loc, a, c); }
  Value mul(Value a, Value c) { return arith::MulIOp::create(b, loc, a, c); }

  /// A memref of the identity layout; `sizes` are i64, one for each dimension.
  Value memref(MemRefType type, Value data, ArrayRef<Value> sizes) {
    int64_t rank = type.getRank();
    SmallVector<Type> fields = {pointer, pointer, i64};
    if (rank)
      fields.append(2, LLVM::LLVMArrayType::get(i64, rank));
    auto structType = LLVM::LLVMStructType::getLiteral(b.getContext(), fields);
    Value d = LLVM::PoisonOp::create(b, loc, structType);
    auto insert = [&](Value v, ArrayRef<int64_t> at) {
      d = LLVM::InsertValueOp::create(b, loc, d, v, at);
    };
    insert(data, 0);
    insert(data, 1);
    insert(constant(0), 2);
    Value stride = constant(1);
    for (int64_t i = rank - 1; i >= 0; --i) {
      insert(sizes[i], {3, i});
      insert(stride, {4, i});
      stride = mul(stride, sizes[i]);
    }
    return UnrealizedConversionCastOp::create(b, loc, type, d).getResult(0);
  }

  OpBuilder &b;
  Location loc;
  Type pointer, i64;
};

} // namespace

LogicalResult quench::makeEntry(ModuleOp module, func::FuncOp function,
                                ArrayRef<std::string> symbols, StringRef name) {
  OpBuilder b(module.getContext());
  b.setInsertionPointToEnd(module.getBody());
  Location loc = function.getLoc();
  auto pointer = LLVM::LLVMPointerType::get(module.getContext());
  Type i64 = b.getI64Type();
  auto entry = func::FuncOp::create(b, loc, name,
                                    b.getFunctionType({pointer, i64, i64}, {}));
  Block *block = entry.addEntryBlock();
  b.setInsertionPointToStart(block);
  EntryBuilder e(b, loc);
  Value frame = block->getArgument(0);
  // Words of quench_rt_frame.
  Value weights = e.load(pointer, frame, 0), arena = e.load(pointer, frame, 1),
        state = e.load(pointer, frame, 2),
        symbolArray = e.load(pointer, frame, 3),
        inputs = e.load(pointer, frame, 4), outputs = e.load(pointer, frame, 5);
  SmallVector<Value> values;
  for (size_t i = 0; i != symbols.size(); ++i)
    values.push_back(e.load(i64, symbolArray, i));
  auto bytes = MemRefType::get({ShapedType::kDynamic}, b.getI8Type());
  Value huge = e.constant(std::numeric_limits<int64_t>::max());
  SmallVector<Value> arguments = {frame,
                                  e.memref(bytes, weights, huge),
                                  e.memref(bytes, arena, huge),
                                  arith::ConstantIndexOp::create(b, loc, 0),
                                  e.toIndex(block->getArgument(1)),
                                  e.toIndex(block->getArgument(2))};
  for (Value v : values)
    arguments.push_back(e.toIndex(v));
  unsigned first = arguments.size();
  int64_t nextInput = 0, nextOutput = 0;
  Value stateAt = e.constant(0);
  // Key blocks of the state.
  Value blocks;
  if (auto it = llvm::find(symbols, "capacity"); it != symbols.end())
    blocks = arith::DivUIOp::create(
        b, loc, e.add(values[it - symbols.begin()], e.constant(kKeyBlock - 1)),
        e.constant(kKeyBlock));
  for (unsigned i = first; i != function.getNumArguments(); ++i) {
    auto type = dyn_cast<MemRefType>(function.getArgument(i).getType());
    if (!type)
      return function.emitError("argument ")
             << i << " is no buffer: " << function.getArgument(i).getType();
    if (type.getRank() != 1)
      return function.emitError("argument ") << i << " is not flat: " << type;
    // Only the pointer crosses the call.
    Value size = huge;
    if (!type.isDynamicDim(0))
      size = e.constant(type.getDimSize(0));
    if (auto bytes =
            function.getArgAttrOfType<IntegerAttr>(i, "quench.state_bytes")) {
      arguments.push_back(e.memref(type, e.offset(state, stateAt), size));
      stateAt = e.add(stateAt, e.mul(blocks, e.constant(bytes.getInt())));
      continue;
    }
    bool isOutput = function.getArgAttr(i, "quench.output") != nullptr;
    Value data = isOutput ? e.load(pointer, outputs, nextOutput++)
                          : e.load(pointer, inputs, nextInput++);
    arguments.push_back(e.memref(type, data, size));
  }
  func::CallOp::create(b, loc, function, arguments);
  func::ReturnOp::create(b, loc);
  function.setPrivate();

  // The size of the arena, for the runtime.
  auto size =
      module.lookupSymbol<func::FuncOp>(function.getName().str() + "_arena");
  b.setInsertionPointToEnd(module.getBody());
  auto arenaBytes = func::FuncOp::create(b, loc, (name + "_arena").str(),
                                         b.getFunctionType({pointer}, {i64}));
  block = arenaBytes.addEntryBlock();
  b.setInsertionPointToStart(block);
  SmallVector<Value> sizes;
  for (size_t i = 0; i != symbols.size(); ++i)
    sizes.push_back(e.toIndex(e.load(i64, block->getArgument(0), i)));
  Value result = func::CallOp::create(b, loc, size, sizes).getResult(0);
  func::ReturnOp::create(
      b, loc, arith::IndexCastOp::create(b, loc, i64, result).getResult());
  return success();
}

void quench::makeStateSize(ModuleOp module, func::FuncOp function,
                           unsigned capacitySymbol, StringRef name) {
  OpBuilder b(module.getContext());
  b.setInsertionPointToEnd(module.getBody());
  Location loc = function.getLoc();
  auto pointer = LLVM::LLVMPointerType::get(module.getContext());
  auto size = func::FuncOp::create(
      b, loc, name, b.getFunctionType({pointer}, {b.getI64Type()}));
  Block *block = size.addEntryBlock();
  b.setInsertionPointToStart(block);
  EntryBuilder e(b, loc);
  Value capacity = e.load(e.i64, block->getArgument(0), capacitySymbol);
  Value blocks =
      arith::DivUIOp::create(b, loc, e.add(capacity, e.constant(kKeyBlock - 1)),
                             e.constant(kKeyBlock));
  // Bytes of all caches for one key block of positions.
  int64_t bytes = 0;
  for (unsigned i = 0; i != function.getNumArguments(); ++i)
    if (auto n =
            function.getArgAttrOfType<IntegerAttr>(i, "quench.state_bytes"))
      bytes += n.getInt();
  func::ReturnOp::create(b, loc, e.mul(blocks, e.constant(bytes)));
}
