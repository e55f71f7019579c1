//===- Layers.cpp - Workers' shares of the quench ops -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Kernels/Layers.h"
#include "Lowering.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "quench/Conversion/QuenchToSPMD/QuenchToSPMD.h"
#include "quench/Kernels/Contract.h"
#include "quench/Quantization/Packing.h"
#include "quench/Runtime/Program.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace quench;
using namespace quench::qn;

Value WorkerBuilder::dim(Value memref, int64_t i) {
  auto type = cast<MemRefType>(memref.getType());
  if (!type.isDynamicDim(i))
    return index(type.getDimSize(i));
  int64_t n = type.getDynamicDimIndex(i);
  Operation *op = memref.getDefiningOp();
  if (auto view = dyn_cast_or_null<memref::ExpandShapeOp>(op))
    return view.getOutputShape()[n];
  if (auto view = dyn_cast_or_null<memref::ViewOp>(op))
    return view.getSizes()[n];
  if (auto alloc = dyn_cast_or_null<memref::AllocOp>(op))
    return alloc.getDynamicSizes()[n];
  if (auto sized = dyn_cast_or_null<memref::ReinterpretCastOp>(op))
    return sized.getSizes()[n];
  return memref::DimOp::create(b, loc, memref, i);
}

Value WorkerBuilder::product(ValueRange values) {
  Value result;
  for (Value v : values)
    result = result ? mul(result, v) : v;
  return result ? result : index(1);
}

/// The slot of errors in numbers of this buffer.
static int64_t errorSlot(Value buffer) {
  while (auto view = buffer.getDefiningOp<ViewLikeOpInterface>())
    buffer = view.getViewSource();
  auto argument = dyn_cast<BlockArgument>(buffer);
  if (!argument)
    return 0;
  auto function = dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp());
  auto input = function ? function.getArgAttrOfType<IntegerAttr>(
                              argument.getArgNumber(), kInputAttribute)
                        : IntegerAttr();
  bool hasSlot = input && input.getInt() + 1 < QUENCH_RT_ERROR_SLOTS;
  return hasSlot ? input.getInt() + 1 : 0;
}

Value WorkerBuilder::errorPointer(Value numbers) {
  auto pointer = LLVM::LLVMPointerType::get(b.getContext());
  constexpr int32_t word = offsetof(quench_rt_frame, error) / 8;
  Value at = LLVM::GEPOp::create(b, loc, pointer, b.getI64Type(), frame,
                                 ArrayRef<LLVM::GEPArg>{word});
  Value slots = LLVM::LoadOp::create(b, loc, pointer, at);
  auto slot = static_cast<int32_t>(errorSlot(numbers));
  return LLVM::GEPOp::create(b, loc, pointer, b.getI32Type(), slots,
                             ArrayRef<LLVM::GEPArg>{slot});
}

std::pair<Value, Value> WorkerBuilder::share(Value total) {
  Value lo = div(mul(total, worker), workers);
  Value hi = div(mul(total, add(worker, index(1))), workers);
  return {lo, hi};
}

Value WorkerBuilder::flat(Value memref) {
  // Most shapes are views of flat buffers.
  if (auto view = memref.getDefiningOp<memref::ExpandShapeOp>();
      view && view.getSrcType().getRank() == 1)
    memref = view.getSrc();
  auto type = cast<MemRefType>(memref.getType());
  if (type.getRank() > 1) {
    SmallVector<ReassociationIndices> all(1);
    for (int64_t i = 0; i != type.getRank(); ++i)
      all[0].push_back(i);
    memref = memref::CollapseShapeOp::create(b, loc, memref, all);
  } else if (type.getRank() == 0) {
    SmallVector<ReassociationIndices> none;
    memref = memref::ExpandShapeOp::create(
        b, loc, MemRefType::get({1}, type.getElementType()), memref, none);
  }
  auto flatType =
      MemRefType::get({ShapedType::kDynamic}, type.getElementType());
  if (memref.getType() == flatType)
    return memref;
  return memref::CastOp::create(b, loc, flatType, memref);
}

Value WorkerBuilder::scratch(Value all, int64_t bytes) {
  return memref::ViewOp::create(
      b, loc, MemRefType::get({ShapedType::kDynamic}, b.getI8Type()), all,
      mul(worker, index(bytes)), ValueRange{index(bytes)});
}

/// Row-major place of indices in a contiguous memref; null for other layouts.
Value WorkerBuilder::linear(Value memref, ValueRange indices) {
  auto view = memref.getDefiningOp<memref::ExpandShapeOp>();
  if (!view || view.getSrcType().getRank() != 1 ||
      !view.getSrcType().getLayout().isIdentity())
    return {};
  Value at;
  for (auto [i, index] : llvm::enumerate(indices))
    at = at ? add(mul(at, dim(memref, i)), index) : index;
  return at;
}

Value WorkerBuilder::load(Value memref, ValueRange indices) {
  if (Value at = linear(memref, indices))
    return memref::LoadOp::create(b, loc, flat(memref), at);
  return memref::LoadOp::create(b, loc, memref, indices);
}

void WorkerBuilder::store(Value value, Value memref, ValueRange indices) {
  if (Value at = linear(memref, indices))
    memref::StoreOp::create(b, loc, value, flat(memref), at);
  else
    memref::StoreOp::create(b, loc, value, memref, indices);
}

void WorkerBuilder::call(func::FuncOp kernel, ValueRange arguments) {
  func::CallOp::create(b, loc, kernel, arguments);
}

//===----------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------===//

namespace {

ContractSpec specOf(ContractOp op) {
  ContractSpec spec;
  spec.format = &op.getFormat().getFormat();
  spec.n = op.getN();
  spec.k = op.getK();
  spec.integer = op.getInteger();
  return spec;
}

AttentionSpec specOf(AttentionOp op) {
  AttentionSpec spec;
  auto q = cast<MemRefType>(op.getQuery().getType());
  auto y = cast<MemRefType>(op.getOut().getType());
  spec.heads = op.getHeads();
  spec.kvHeads = op.getKvHeads();
  spec.d = q.getDimSize(2) / spec.heads;
  spec.dv = y.getDimSize(2) / spec.heads;
  spec.scale = op.getScale().convertToFloat();
  spec.softCap = op.getSoftCap() ? op.getSoftCap()->convertToFloat() : 0;
  spec.causal = op.getCausal();
  spec.window = op.getWindow().value_or(0);
  if (op.getKeep())
    spec.keepType = cast<MemRefType>(op.getKeep().getType()).getElementType();
  spec.bias = op.getBias() != nullptr;
  spec.single = q.getDimSize(1) == 1;
  return spec;
}

/// Keys and values of an attention that reads tensors, not the caches of a
/// context.
bool readsTensors(AttentionOp op) { return !op.getLength(); }

Value lower(WorkerBuilder &w, ContractOp op, Value scratch) {
  ContractSpec spec = specOf(op);
  auto [lo, hi] = w.share(w.index(contractPasses(spec)));
  Value weight = w.flat(op.getWeight()), zero = w.index(0);
  Value x = w.flat(op.getCodes()), scales = w.flat(op.getScales()),
        sums = w.flat(op.getSums()), y = w.flat(op.getOut());
  if (!op.getTiled()) {
    w.call(getOrCreateGemv(w.module, spec),
           {weight, zero, x, scales, sums, y, lo, hi});
    return y;
  }
  Value mine = w.scratch(scratch, gemmScratchBytes(spec));
  w.call(getOrCreateGemm(w.module, spec),
         {weight, zero, x, scales, sums, y, w.index(spec.n), mine,
          w.dim(op.getOut(), 0), lo, hi});
  return y;
}

void lower(WorkerBuilder &w, StageOp op) {
  StageSpec spec;
  spec.format = &op.getFormat().getFormat();
  spec.k = cast<MemRefType>(op.getInput().getType()).getDimSize(1);
  spec.integer = op.getInteger();
  spec.tiled = op.getTiled();
  Value m = w.dim(op.getInput(), 0);
  auto [lo, hi] = w.share(w.ceilDiv(m, spec.tileRows()));
  w.call(getOrCreateStage(w.module, spec),
         {w.flat(op.getInput()), w.flat(op.getOuts()[0]),
          w.flat(op.getOuts()[1]), w.flat(op.getOuts()[2]), m, lo, hi});
}

void lower(WorkerBuilder &w, NormOp op) {
  NormSpec spec;
  auto type = cast<MemRefType>(op.getInput().getType());
  spec.rms = op.getKind() == "rms";
  spec.width = type.getShape().back();
  spec.epsilon = op.getEpsilon().convertToFloat();
  spec.gain = op.getGain() != nullptr;
  spec.bias = op.getBias() != nullptr;
  SmallVector<Value> outer;
  for (int64_t i = 0; i + 1 < type.getRank(); ++i)
    outer.push_back(w.dim(op.getInput(), i));
  auto [lo, hi] = w.share(w.product(outer));
  Value x = w.flat(op.getInput());
  w.call(getOrCreateNorm(w.module, spec),
         {x, spec.gain ? w.flat(op.getGain()) : x,
          spec.bias ? w.flat(op.getBias()) : x, w.flat(op.getOut()), lo, hi});
}

void lower(WorkerBuilder &w, RotaryOp op) {
  RotarySpec spec;
  spec.headSize = op.getHeadSize();
  spec.heads =
      cast<MemRefType>(op.getInput().getType()).getDimSize(2) / spec.headSize;
  spec.pairs = op.getFrequencies().size();
  spec.maxPositions = cast<MemRefType>(op.getTable().getType()).getDimSize(0);
  spec.adjacent = op.getPairs() == "adjacent";
  Value batch = w.dim(op.getInput(), 0), sequence = w.dim(op.getInput(), 1);
  auto positions = cast<MemRefType>(op.getPositions().getType());
  bool one = positions.getRank() == 1 || positions.getDimSize(0) == 1;
  Value shared = arith::ConstantOp::create(w.b, w.loc, w.b.getBoolAttr(one));
  auto [lo, hi] = w.share(w.mul(batch, sequence));
  w.call(getOrCreateRotary(w.module, spec),
         {w.flat(op.getInput()), w.flat(op.getPositions()),
          w.flat(op.getTable()), w.flat(op.getOut()), sequence, shared,
          w.errorPointer(op.getPositions()), lo, hi});
}

void lower(WorkerBuilder &w, LookupRowsOp op) {
  LookupSpec spec;
  spec.format = &op.getFormat().getFormat();
  spec.n = op.getN();
  spec.k = op.getK();
  spec.idType = cast<MemRefType>(op.getIds().getType()).getElementType();
  auto [lo, hi] = w.share(w.dim(op.getIds(), 0));
  w.call(getOrCreateLookup(w.module, spec),
         {w.flat(op.getIds()), w.flat(op.getWeight()), w.flat(op.getOut()),
          w.errorPointer(op.getIds()), lo, hi});
}

void lower(WorkerBuilder &w, AppendOp op) {
  auto rows = cast<MemRefType>(op.getRows().getType());
  auto cache = cast<MemRefType>(op.getCache().getType());
  int64_t kvHeads = cache.getDimSize(0), d = rows.getDimSize(2) / kvHeads;
  Value capacity = w.dim(op.getCache(), 1);
  if (op.getKeys())
    capacity = w.mul(capacity, w.index(kKeyTile));
  auto [lo, hi] = w.share(w.dim(op.getRows(), 1));
  w.call(getOrCreateAppend(w.module, kvHeads, d, op.getKeys()),
         {w.flat(op.getRows()), w.flat(op.getCache()), op.getPosition(),
          capacity, lo, hi});
}

/// Strides of a tensor of keys or values: batch, head, row.
SmallVector<Value> strides(WorkerBuilder &w, Value memref, int64_t kvHeads) {
  auto type = cast<MemRefType>(memref.getType());
  if (type.getRank() == 4) { // [batch, kv_heads, total, d]
    Value d = w.dim(memref, 3), line = w.mul(w.dim(memref, 2), d);
    return {w.mul(w.dim(memref, 1), line), line, d};
  }
  Value width = w.dim(memref, 2); // [batch, total, kv_heads * d]
  return {w.mul(w.dim(memref, 1), width), w.div(width, w.index(kvHeads)),
          width};
}

LogicalResult lower(WorkerBuilder &w, AttentionOp op, Value scratch,
                    llvm::function_ref<void()> barrier) {
  AttentionSpec spec = specOf(op);
  Value batch = w.dim(op.getQuery(), 0), sequence = w.dim(op.getQuery(), 1);
  Value heads = w.index(spec.kvHeads);
  Value total, tiles, keys;
  SmallVector<Value> valueStrides;
  if (readsTensors(op)) {
    total =
        w.dim(op.getKey(),
              cast<MemRefType>(op.getKey().getType()).getRank() == 4 ? 2 : 1);
    tiles = w.mul(w.ceilDiv(total, kKeyBlock), w.index(kKeyBlock / kKeyTile));
    Value bytes = memref::DimOp::create(w.b, w.loc, scratch, 0);
    keys = memref::ViewOp::create(
        w.b, w.loc, MemRefType::get({ShapedType::kDynamic}, w.b.getF32Type()),
        scratch, w.index(0), ValueRange{w.div(bytes, w.index(4))});
    auto [lo, hi] = w.share(w.product({batch, heads, tiles}));
    SmallVector<Value> keyStrides = strides(w, op.getKey(), spec.kvHeads);
    w.call(getOrCreatePackKeys(w.module, spec.kvHeads, spec.d),
           {w.flat(op.getKey()), keys, total, tiles, keyStrides[0],
            keyStrides[1], keyStrides[2], lo, hi});
    barrier();
    valueStrides = strides(w, op.getValue(), spec.kvHeads);
  } else {
    total = op.getLength();
    keys = w.flat(op.getKey()); // [kv_heads, capacity / 16, d, 16]
    tiles = w.dim(op.getKey(), 1);
    Value d = w.index(spec.dv), line = w.mul(w.dim(op.getValue(), 1), d);
    valueStrides = {w.index(0), line, d};
  }
  Value q = w.flat(op.getQuery()), zero = w.index(0);
  SmallVector<Value> biasStrides(4, zero);
  Value bias = q;
  if (op.getBias()) {
    bias = w.flat(op.getBias());
    // Right-aligned to [batch, heads, sequence, total]; dimensions of 1 repeat.
    auto type = cast<MemRefType>(op.getBias().getType());
    Value stride = w.index(1);
    for (int64_t i = type.getRank() - 1, at = 3; i >= 0; --i, --at) {
      Value size = w.dim(op.getBias(), i);
      Value isOne = arith::CmpIOp::create(w.b, w.loc, arith::CmpIPredicate::eq,
                                          size, w.index(1));
      biasStrides[at] =
          arith::SelectOp::create(w.b, w.loc, isOne, zero, stride);
      stride = w.mul(stride, size);
    }
  }
  Value keep;
  if (op.getKeep())
    keep = w.flat(op.getKeep());
  else
    keep = memref::ViewOp::create(
        w.b, w.loc, MemRefType::get({0}, w.b.getI64Type()),
        memref::AllocaOp::create(w.b, w.loc,
                                 MemRefType::get({8}, w.b.getI8Type())),
        zero, ValueRange{});
  if (!op.getKeep())
    keep = w.flat(keep);
  int64_t group = spec.heads / spec.kvHeads;
  Value queryTiles = w.ceilDiv(w.mul(sequence, w.index(group)), spec.tile());
  auto [lo, hi] = w.share(w.product({batch, heads, queryTiles}));
  SmallVector<Value> arguments = {q,        keys,  w.flat(op.getValue()),
                                  keep,     bias,  w.flat(op.getOut()),
                                  sequence, total, tiles};
  arguments.append(valueStrides);
  arguments.append(biasStrides);
  arguments.append({lo, hi});
  w.call(getOrCreateAttention(w.module, spec), arguments);
  return success();
}

/// for iv = lo .. hi; the builder stands in the body afterwards until the
/// returned guard goes.
void forEach(WorkerBuilder &w, Value lo, Value hi,
             llvm::function_ref<void(Value)> body) {
  auto loop = scf::ForOp::create(w.b, w.loc, lo, hi, w.index(1));
  OpBuilder::InsertionGuard guard(w.b);
  w.b.setInsertionPointToStart(loop.getBody());
  body(loop.getInductionVar());
}

/// out[b, h, t, d] = t < past ? past[b, h, t, d] : rows[b, t - past, h * D +
/// d].
void lower(WorkerBuilder &w, ExtendOp op) {
  Value pastLength = w.dim(op.getPast(), 2), total = w.dim(op.getOut(), 2);
  Value batch = w.dim(op.getOut(), 0), heads = w.dim(op.getOut(), 1),
        d = w.dim(op.getOut(), 3);
  auto [lo, hi] = w.share(w.mul(batch, heads));
  forEach(w, lo, hi, [&](Value item) {
    Value bi = w.div(item, heads);
    Value h = arith::RemUIOp::create(w.b, w.loc, item, heads);
    forEach(w, w.index(0), pastLength, [&](Value t) {
      forEach(w, w.index(0), d, [&](Value j) {
        Value v = memref::LoadOp::create(w.b, w.loc, op.getPast(),
                                         ValueRange{bi, h, t, j});
        memref::StoreOp::create(w.b, w.loc, v, op.getOut(),
                                ValueRange{bi, h, t, j});
      });
    });
    forEach(w, pastLength, total, [&](Value t) {
      Value row = arith::SubIOp::create(w.b, w.loc, t, pastLength);
      forEach(w, w.index(0), d, [&](Value j) {
        Value v =
            memref::LoadOp::create(w.b, w.loc, op.getRows(),
                                   ValueRange{bi, row, w.add(w.mul(h, d), j)});
        memref::StoreOp::create(w.b, w.loc, v, op.getOut(),
                                ValueRange{bi, h, t, j});
      });
    });
  });
}

void lower(WorkerBuilder &w, LastRowsOp op) {
  Value first =
      arith::SubIOp::create(w.b, w.loc, w.dim(op.getInput(), 1), op.getCount());
  auto [lo, hi] = w.share(w.mul(op.getCount(), w.dim(op.getInput(), 2)));
  Value width = w.dim(op.getInput(), 2);
  Value from = w.flat(op.getInput()), to = w.flat(op.getOut());
  Value skip = w.mul(first, width);
  forEach(w, lo, hi, [&](Value i) {
    Value v =
        memref::LoadOp::create(w.b, w.loc, from, ValueRange{w.add(skip, i)});
    memref::StoreOp::create(w.b, w.loc, v, to, ValueRange{i});
  });
}

} // namespace

Value quench::scratchBytes(WorkerBuilder &w, Operation *op) {
  if (auto contract = dyn_cast<ContractOp>(op); contract && contract.getTiled())
    return w.index(kMaxWorkers * gemmScratchBytes(specOf(contract)));
  if (auto attention = dyn_cast<AttentionOp>(op);
      attention && readsTensors(attention)) {
    AttentionSpec spec = specOf(attention);
    auto type = cast<MemRefType>(attention.getKey().getType());
    Value total = w.dim(attention.getKey(), type.getRank() == 4 ? 2 : 1);
    Value blocks = w.ceilDiv(total, kKeyBlock);
    return w.product({w.dim(attention.getQuery(), 0), blocks,
                      w.index(kKeyBlock * spec.kvHeads * spec.d * 4)});
  }
  return {};
}

LogicalResult quench::lowerLayer(WorkerBuilder &w, Operation *op, Value scratch,
                                 llvm::function_ref<void()> barrier) {
  return llvm::TypeSwitch<Operation *, LogicalResult>(op)
      .Case([&](ContractOp o) {
        lower(w, o, scratch);
        return success();
      })
      .Case<StageOp, NormOp, RotaryOp, LookupRowsOp, AppendOp, ExtendOp,
            LastRowsOp>([&](auto o) {
        lower(w, o);
        return success();
      })
      .Case([&](AttentionOp o) { return lower(w, o, scratch, barrier); })
      .Case([&](MapOp o) { return lowerMap(w, o, barrier); })
      .Default([](Operation *o) {
        return o->emitError("has no lowering to loops");
      });
}
