//===- Frame.cpp - Reading what the runtime gives -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Frame.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "quench/Kernels/Layers.h"

using namespace mlir;
using namespace quench;

SmallVector<ArgumentSource> quench::argumentSources(func::FuncOp function,
                                                    unsigned first) {
  SmallVector<ArgumentSource> sources;
  int64_t inputs = 0, outputs = 0, state = 0;
  for (unsigned i = first; i != function.getNumArguments(); ++i) {
    if (auto bytes =
            function.getArgAttrOfType<IntegerAttr>(i, "quench.state_bytes")) {
      sources.push_back({ArgumentSource::State, state});
      state += bytes.getInt();
    } else if (function.getArgAttr(i, "quench.output")) {
      sources.push_back({ArgumentSource::Output, outputs++});
    } else {
      sources.push_back({ArgumentSource::Input, inputs++});
    }
  }
  return sources;
}

FrameReader::FrameReader(OpBuilder &b, Location loc)
    : b(b), loc(loc), pointer(LLVM::LLVMPointerType::get(b.getContext())),
      i64(b.getI64Type()) {}

Value FrameReader::constant(int64_t v) {
  return arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(v));
}

Value FrameReader::load(Type type, Value base, Value word) {
  Value at = LLVM::GEPOp::create(b, loc, pointer, i64, base,
                                 ArrayRef<LLVM::GEPArg>{word});
  return LLVM::LoadOp::create(b, loc, type, at);
}

Value FrameReader::offset(Value base, Value bytes) {
  return LLVM::GEPOp::create(b, loc, pointer, b.getI8Type(), base,
                             ArrayRef<LLVM::GEPArg>{bytes});
}

Value FrameReader::toIndex(Value v) {
  return arith::IndexCastOp::create(b, loc, b.getIndexType(), v);
}

Value FrameReader::toI64(Value v) {
  return arith::IndexCastOp::create(b, loc, i64, v);
}

Value FrameReader::add(Value a, Value c) {
  return arith::AddIOp::create(b, loc, a, c);
}

Value FrameReader::mul(Value a, Value c) {
  return arith::MulIOp::create(b, loc, a, c);
}

Value FrameReader::keyBlocks(Value capacity) {
  return arith::DivUIOp::create(b, loc, add(capacity, constant(kKeyBlock - 1)),
                                constant(kKeyBlock));
}

Value FrameReader::pointerTo(ArgumentSource::Kind kind, Value at, Value frame,
                             Value blocks) {
  switch (kind) {
  case ArgumentSource::State:
    return offset(load(pointer, frame, FrameWord::State), mul(blocks, at));
  case ArgumentSource::Output:
    return load(pointer, load(pointer, frame, FrameWord::Outputs), at);
  case ArgumentSource::Input:
    break;
  }
  return load(pointer, load(pointer, frame, FrameWord::Inputs), at);
}

Value FrameReader::buffer(MemRefType type, Value data) {
  Type one = LLVM::LLVMArrayType::get(i64, 1);
  auto structType = LLVM::LLVMStructType::getLiteral(
      b.getContext(), {pointer, pointer, i64, one, one});
  Value d = LLVM::PoisonOp::create(b, loc, structType);
  auto insert = [&](Value v, ArrayRef<int64_t> at) {
    d = LLVM::InsertValueOp::create(b, loc, d, v, at);
  };
  insert(data, 0);
  insert(data, 1);
  insert(constant(0), 2);
  insert(constant(type.isDynamicDim(0) ? std::numeric_limits<int64_t>::max()
                                       : type.getDimSize(0)),
         {3, 0});
  insert(constant(1), {4, 0});
  return UnrealizedConversionCastOp::create(b, loc, type, d).getResult(0);
}
