//===- SPMD.cpp - One program for all workers -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every worker runs the whole function. What does not touch memory (sizes,
// views) is computed by all of them; an op on buffers is a loop over the
// worker's share. A barrier stands before an op that reads or overwrites what
// an op since the last barrier has written, or writes what one has read.
//
// The arena: each allocation gets a slot. Slots are reused by allocations of
// the same size whose lifetimes do not meet; a lifetime is an interval of ops,
// since the function is a straight line.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "quench/Conversion/QuenchToSPMD/QuenchToSPMD.h"

using namespace mlir;
using namespace quench;
using namespace quench::qn;

namespace {

constexpr int64_t kAlign = 64;

/// Leading arguments of a lowered function.
enum { Frame, Weights, Arena, Base, WorkerId, WorkerCount, FirstSymbol };

/// A view's source; null for other values. memref.view is how this lowering
/// writes a place in the arena or a weight: a root.
Value viewSource(Value v) {
  Operation *op = v.getDefiningOp();
  if (!op)
    return {};
  if (isa<memref::CastOp, memref::CollapseShapeOp, memref::ExpandShapeOp,
          memref::SubViewOp, memref::ReinterpretCastOp, memref::ReshapeOp,
          memref::TransposeOp>(op))
    return op->getOperand(0);
  return {};
}

Value rootOf(Value v) {
  while (Value source = viewSource(v))
    v = source;
  return v;
}

bool isMemRef(Value v) { return isa<MemRefType>(v.getType()); }

/// What an op reads and writes, by roots.
struct Accesses {
  SmallVector<Value> reads, writes;
};

Accesses accessesOf(Operation *op) {
  Accesses a;
  auto effects = dyn_cast<MemoryEffectOpInterface>(op);
  if (isa<func::CallOp>(op) || !effects) {
    for (Value v : op->getOperands())
      if (isMemRef(v)) {
        a.reads.push_back(rootOf(v));
        a.writes.push_back(rootOf(v));
      }
    return a;
  }
  SmallVector<MemoryEffects::EffectInstance> list;
  effects.getEffects(list);
  for (const MemoryEffects::EffectInstance &e : list) {
    Value v = e.getValue();
    if (!v || !isMemRef(v))
      continue;
    if (isa<MemoryEffects::Read>(e.getEffect()))
      a.reads.push_back(rootOf(v));
    else if (isa<MemoryEffects::Write>(e.getEffect()))
      a.writes.push_back(rootOf(v));
  }
  return a;
}

/// Bytes of an element, as it lies in memory.
int64_t elementBytes(Type type) {
  if (type.isIndex())
    return 8;
  return std::max<int64_t>(1, type.getIntOrFloatBitWidth() / 8);
}

/// How much arena a lowered function takes: the value of `end` at its
/// beginning, all of whose operands are computed before `entryEnd`.
struct FrameSize {
  func::FuncOp function;
  Operation *entryEnd;
  Value end;
};
using FrameSizes = llvm::StringMap<FrameSize>;

class FunctionLowering {
public:
  FunctionLowering(ModuleOp module, func::FuncOp function,
                   ArrayRef<std::string> symbols, FrameSizes &frames)
      : module(module), function(function), symbols(symbols), frames(frames),
        b(module.getContext()) {}

  LogicalResult run();
  /// Makes `<name>_arena`.
  LogicalResult makeSizeFunction();

private:
  struct Slot {
    Value bytes; // null: `fixed`
    int64_t fixed = 0;
    int64_t freeFrom = -1; // number of the op after which it may be reused
  };

  Value arg(unsigned n) { return function.getArgument(n); }
  Value constant(int64_t v) {
    return arith::ConstantIndexOp::create(b, function.getLoc(), v);
  }
  FailureOr<Value> hoist(Value v);
  FailureOr<Value> hoistDim(Value memref, int64_t i);
  void addArguments();
  LogicalResult plan();
  void barrier(Location loc);
  LogicalResult lowerOp(Operation *op);
  Value place(Location loc, unsigned slot, Type element,
              ArrayRef<int64_t> shape, ValueRange sizes);

  ModuleOp module;
  func::FuncOp function;
  ArrayRef<std::string> symbols;
  FrameSizes &frames;
  OpBuilder b;
  Operation *entryEnd = nullptr; // sizes are computed before it
  DenseMap<Value, Value> hoisted;
  std::vector<Slot> slots;
  DenseMap<Operation *, unsigned>
      slotOf;                 // of allocations, and of ops with scratch memory
  SmallVector<Value> offsets; // of slots
  Value frameEnd;             // where callees' arenas begin
  Value total;                // end of the largest callee's
  llvm::SmallDenseSet<Value> dirtyReads, dirtyWrites;
  DenseMap<Value, int> slotRoot;
};

} // namespace

void FunctionLowering::addArguments() {
  MLIRContext *context = module.getContext();
  Type index = b.getIndexType();
  Type bytes = MemRefType::get({ShapedType::kDynamic}, b.getI8Type());
  SmallVector<Type> types = {
      LLVM::LLVMPointerType::get(context), bytes, bytes, index, index, index};
  types.append(symbols.size(), index);
  Block &body = function.getBody().front();
  for (auto [i, type] : llvm::enumerate(types))
    body.insertArgument(i, type, function.getLoc());
  SmallVector<DictionaryAttr> attrs(types.size());
  SmallVector<DictionaryAttr> old;
  function.getAllArgAttrs(old);
  attrs.append(old.begin(), old.end());
  attrs.resize(body.getNumArguments());
  function.setType(FunctionType::get(context, body.getArgumentTypes(), {}));
  for (DictionaryAttr &d : attrs)
    if (!d)
      d = DictionaryAttr::get(context);
  function.setAllArgAttrs(attrs);
}

/// A dimension of an allocation or view is one of its sizes.
FailureOr<Value> FunctionLowering::hoistDim(Value memref, int64_t i) {
  auto type = cast<MemRefType>(memref.getType());
  if (!type.isDynamicDim(i)) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(entryEnd);
    return constant(type.getDimSize(i));
  }
  int64_t n = type.getDynamicDimIndex(i);
  Operation *op = memref.getDefiningOp();
  if (auto cast = dyn_cast_or_null<memref::CastOp>(op);
      cast && isa<MemRefType>(cast.getSource().getType()))
    return hoistDim(cast.getSource(), i);
  if (auto alloc = dyn_cast_or_null<memref::AllocOp>(op))
    return hoist(alloc.getDynamicSizes()[n]);
  if (auto sized = dyn_cast_or_null<memref::ReinterpretCastOp>(op))
    return hoist(sized.getSizes()[n]);
  if (auto expand = dyn_cast_or_null<memref::ExpandShapeOp>(op))
    return hoist(expand.getOutputShape()[n]);
  if (auto view = dyn_cast_or_null<memref::SubViewOp>(op);
      view && view.getDroppedDims().none())
    return hoist(view.getDynamicSize(i));
  if (auto collapse = dyn_cast_or_null<memref::CollapseShapeOp>(op)) {
    Value product;
    ReassociationIndices group = collapse.getReassociationIndices()[i];
    for (int64_t d : group) {
      FailureOr<Value> size = hoistDim(collapse.getSrc(), d);
      if (failed(size))
        return failure();
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPoint(entryEnd);
      product = product ? Value(arith::MulIOp::create(b, function.getLoc(),
                                                      product, *size))
                        : *size;
    }
    return product;
  }
  return failure();
}

/// The value of a size at the function's beginning: its computation is cloned
/// there.
FailureOr<Value> FunctionLowering::hoist(Value v) {
  if (auto it = hoisted.find(v); it != hoisted.end())
    return it->second;
  if (auto argument = dyn_cast<BlockArgument>(v))
    return Value(argument);
  Operation *op = v.getDefiningOp();
  if (auto dim = dyn_cast<memref::DimOp>(op);
      dim && dim.getConstantIndex() && !isa<BlockArgument>(dim.getSource())) {
    FailureOr<Value> size = hoistDim(dim.getSource(), *dim.getConstantIndex());
    if (failed(size))
      return op->emitError(
          "the size of a buffer is not known when the function begins");
    return hoisted[v] = *size;
  }
  if (isa<memref::LoadOp>(op) || !isPure(op) || op->getNumRegions() != 0)
    return op->emitError("the size of a buffer depends on the data: '")
           << op->getName() << "' is needed to know it";
  IRMapping mapping;
  for (Value operand : op->getOperands()) {
    FailureOr<Value> h =
        isMemRef(operand) ? FailureOr<Value>(operand) : hoist(operand);
    if (failed(h))
      return failure();
    if (isMemRef(operand) && !isa<BlockArgument>(operand))
      return op->emitError(
          "the size of a buffer is not known when the function begins");
    mapping.map(operand, *h);
  }
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(entryEnd);
  Operation *clone = b.clone(*op, mapping);
  for (auto [from, to] : llvm::zip(op->getResults(), clone->getResults()))
    hoisted[from] = to;
  return hoisted[v];
}

LogicalResult FunctionLowering::plan() {
  Block &body = function.getBody().front();
  DenseMap<Operation *, int64_t> number;
  int64_t n = 0;
  for (Operation &op : body)
    number[&op] = n++;
  // Last use of each allocation, through its views.
  DenseMap<Value, int64_t> last;
  for (Operation &op : body) {
    op.walk([&](Operation *inner) {
      for (Value operand : inner->getOperands())
        if (isMemRef(operand))
          last[rootOf(operand)] =
              std::max(last.lookup(rootOf(operand)), number[&op]);
    });
  }
  // Equal sizes share slots: SSA values stand for themselves (sizes have been
  // made common before).
  DenseMap<std::pair<void *, int64_t>, SmallVector<unsigned>> classes;
  auto assign = [&](Operation *op, Value dynamic, int64_t fixed, int64_t begin,
                    int64_t end) {
    auto key = std::make_pair(dynamic.getAsOpaquePointer(), fixed);
    for (unsigned s : classes[key])
      if (slots[s].freeFrom < begin) {
        slots[s].freeFrom = end;
        slotOf[op] = s;
        return;
      }
    Slot slot;
    slot.bytes = dynamic;
    slot.fixed = fixed;
    slot.freeFrom = end;
    classes[key].push_back(slots.size());
    slotOf[op] = slots.size();
    slots.push_back(slot);
  };
  // Products of equal dynamic sizes are computed once.
  std::map<std::pair<SmallVector<void *>, int64_t>, Value> products;
  for (Operation &op : llvm::make_early_inc_range(body)) {
    if (auto alloc = dyn_cast<memref::AllocOp>(op)) {
      MemRefType type = alloc.getType();
      int64_t fixed = elementBytes(type.getElementType());
      for (int64_t size : type.getShape())
        if (!ShapedType::isDynamic(size))
          fixed *= size;
      SmallVector<Value> sizes;
      SmallVector<void *> key;
      for (Value size : alloc.getDynamicSizes()) {
        FailureOr<Value> h = hoist(size);
        if (failed(h))
          return failure();
        sizes.push_back(*h);
        key.push_back(h->getAsOpaquePointer());
      }
      llvm::sort(key);
      int64_t end = std::max(last.lookup(alloc.getResult()), number[&op]);
      if (sizes.empty()) {
        assign(&op, Value(), fixed, number[&op], end);
        continue;
      }
      Value &bytes = products[{key, fixed}];
      if (!bytes) {
        OpBuilder::InsertionGuard guard(b);
        b.setInsertionPoint(entryEnd);
        bytes = constant(fixed);
        for (Value size : sizes)
          bytes = arith::MulIOp::create(b, function.getLoc(), bytes, size);
      }
      assign(&op, bytes, 0, number[&op], end);
      continue;
    }
    // Scratch memory of an op: lives as long as the op.
    OpBuilder probe(&op);
    WorkerBuilder w(probe, op.getLoc(), module, arg(Frame), arg(WorkerId),
                    arg(WorkerCount));
    if (Value bytes = scratchBytes(w, &op)) {
      FailureOr<Value> h = hoist(bytes);
      if (failed(h))
        return failure();
      int64_t fixed = 0;
      if (auto c = getConstantIntValue(*h)) {
        fixed = *c;
        h = Value();
      }
      assign(&op, *h, fixed, number[&op], number[&op]);
    }
  }
  // Offsets, one after the other, from `base` on.
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(entryEnd);
  Location loc = function.getLoc();
  Value at = arg(Base);
  int64_t pending = 0;
  auto flush = [&]() {
    if (pending)
      at = arith::AddIOp::create(b, loc, at, constant(pending));
    pending = 0;
  };
  for (Slot &slot : slots) {
    flush();
    offsets.push_back(at);
    if (!slot.bytes) {
      pending = llvm::alignTo(slot.fixed, kAlign);
      continue;
    }
    Value rounded =
        arith::AddIOp::create(b, loc, slot.bytes, constant(kAlign - 1));
    rounded = arith::DivUIOp::create(b, loc, rounded, constant(kAlign));
    rounded = arith::MulIOp::create(b, loc, rounded, constant(kAlign));
    at = arith::AddIOp::create(b, loc, at, rounded);
  }
  flush();
  frameEnd = total = at;
  // The callees' frames begin where this one ends; one is alive at a time.
  // Equal calls need equal frames.
  std::map<std::pair<std::string, SmallVector<void *>>, bool> seen;
  for (func::CallOp call : body.getOps<func::CallOp>()) {
    auto it = frames.find(call.getCallee());
    if (it == frames.end())
      continue;
    FrameSize &frame = it->second;
    IRMapping mapping;
    SmallVector<void *> key;
    mapping.map(frame.function.getArgument(Base), frameEnd);
    for (size_t i = 0; i != symbols.size(); ++i)
      mapping.map(frame.function.getArgument(FirstSymbol + i),
                  arg(FirstSymbol + i));
    for (auto [i, operand] : llvm::enumerate(call.getOperands())) {
      if (isMemRef(operand))
        continue;
      FailureOr<Value> h = hoist(operand);
      if (failed(h))
        return failure();
      mapping.map(frame.function.getArgument(FirstSymbol + symbols.size() + i),
                  *h);
      key.push_back(h->getAsOpaquePointer());
    }
    if (std::exchange(seen[{call.getCallee().str(), key}], true))
      continue;
    b.setInsertionPoint(entryEnd);
    for (Operation *op = &frame.function.getBody().front().front();
         op != frame.entryEnd; op = op->getNextNode())
      b.clone(*op, mapping);
    total = arith::MaxUIOp::create(b, loc, total,
                                   mapping.lookupOrDefault(frame.end));
  }
  return success();
}

LogicalResult FunctionLowering::makeSizeFunction() {
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(function);
  Location loc = function.getLoc();
  Type index = b.getIndexType();
  auto size = func::FuncOp::create(
      b, loc, function.getName().str() + "_arena",
      b.getFunctionType(SmallVector<Type>(symbols.size(), index), index));
  size.setPrivate();
  Block *block = size.addEntryBlock();
  b.setInsertionPointToStart(block);
  IRMapping mapping;
  mapping.map(arg(Base), constant(0));
  for (size_t i = 0; i != symbols.size(); ++i)
    mapping.map(arg(FirstSymbol + i), block->getArgument(i));
  for (Operation *op = &function.getBody().front().front(); op != entryEnd;
       op = op->getNextNode())
    b.clone(*op, mapping);
  Value result = mapping.lookupOrDefault(total);
  func::ReturnOp::create(b, loc, result);
  return success();
}

Value FunctionLowering::place(Location loc, unsigned slot, Type element,
                              ArrayRef<int64_t> shape, ValueRange sizes) {
  return memref::ViewOp::create(b, loc, MemRefType::get(shape, element),
                                arg(Arena), offsets[slot], sizes);
}

void FunctionLowering::barrier(Location loc) {
  BarrierOp::create(b, loc);
  dirtyReads.clear();
  dirtyWrites.clear();
}

LogicalResult FunctionLowering::lowerOp(Operation *op) {
  b.setInsertionPoint(op);
  Location loc = op->getLoc();
  if (auto alloc = dyn_cast<memref::AllocOp>(op)) {
    Value view = place(loc, slotOf[op], alloc.getType().getElementType(),
                       alloc.getType().getShape(), alloc.getDynamicSizes());
    slotRoot[view] = slotOf[op];
    alloc.getResult().replaceAllUsesWith(view);
    op->erase();
    return success();
  }
  if (auto packed = dyn_cast<PackedOp>(op)) {
    auto type = cast<MemRefType>(packed.getResult().getType());
    Value view = memref::ViewOp::create(
        b, loc, type, arg(Weights), constant(packed.getSection().getOffset()),
        ValueRange{});
    packed.getResult().replaceAllUsesWith(view);
    op->erase();
    return success();
  }
  if (auto dim = dyn_cast<DimOp>(op)) {
    auto it = llvm::find(symbols, dim.getName());
    if (it == symbols.end())
      return op->emitError("names the dimension '")
             << dim.getName() << "', which no input has";
    dim.getResult().replaceAllUsesWith(
        arg(FirstSymbol + (it - symbols.begin())));
    op->erase();
    return success();
  }
  if (isa<memref::DeallocOp>(op)) {
    op->erase();
    return success();
  }
  if (isa<func::ReturnOp>(op))
    return success();
  if (op->getNumRegions() && !isa<linalg::LinalgOp>(op))
    return op->emitError("has no lowering to workers' loops");
  // Slots stand for their memory: two allocations may share one.
  auto memoryOf = [&](Value root) -> Value {
    auto it = slotRoot.find(root);
    return it == slotRoot.end() ? root : offsets[it->second];
  };
  Accesses accesses = accessesOf(op);
  bool conflict = false;
  for (Value v : accesses.reads)
    conflict |= dirtyWrites.contains(memoryOf(v));
  for (Value v : accesses.writes)
    conflict |=
        dirtyWrites.contains(memoryOf(v)) || dirtyReads.contains(memoryOf(v));
  std::optional<unsigned> slot;
  if (auto it = slotOf.find(op); it != slotOf.end()) {
    slot = it->second;
    conflict |= dirtyWrites.contains(offsets[*slot]) ||
                dirtyReads.contains(offsets[*slot]);
  }
  if (accesses.reads.empty() && accesses.writes.empty())
    return success();
  bool isCall = isa<func::CallOp>(op);
  if (conflict || (isCall && (!dirtyReads.empty() || !dirtyWrites.empty())))
    barrier(loc);
  auto record = [&] {
    for (Value v : accesses.reads)
      dirtyReads.insert(memoryOf(v));
    for (Value v : accesses.writes)
      dirtyWrites.insert(memoryOf(v));
  };
  // All workers load, or store, the same number.
  if (isa<memref::LoadOp, memref::StoreOp>(op)) {
    record();
    return success();
  }

  WorkerBuilder w(b, loc, module, arg(Frame), arg(WorkerId), arg(WorkerCount));
  if (isCall) {
    auto call = cast<func::CallOp>(op);
    SmallVector<Value> operands = {arg(Frame), arg(Weights),  arg(Arena),
                                   frameEnd,   arg(WorkerId), arg(WorkerCount)};
    for (size_t i = 0; i != symbols.size(); ++i)
      operands.push_back(arg(FirstSymbol + i));
    operands.append(call.getOperands().begin(), call.getOperands().end());
    func::CallOp::create(b, loc, call.getCallee(), TypeRange{}, operands);
    op->erase(); // the callee ends with a barrier
    return success();
  }
  Value scratch;
  if (slot) {
    Slot &s = slots[*slot];
    Value bytes = s.bytes ? s.bytes : constant(s.fixed);
    scratch = place(loc, *slot, b.getI8Type(), {ShapedType::kDynamic},
                    ValueRange{bytes});
    dirtyWrites.insert(offsets[*slot]);
  }
  if (auto linalgOp = dyn_cast<linalg::LinalgOp>(op)) {
    if (failed(lowerLinalg(w, linalgOp)))
      return failure();
  } else if (auto copy = dyn_cast<memref::CopyOp>(op)) {
    lowerCopy(w, copy.getSource(), copy.getTarget());
  } else if (failed(lowerLayer(w, op, scratch,
                               [&] { BarrierOp::create(b, loc); }))) {
    return failure();
  }
  record();
  op->erase();
  return success();
}

LogicalResult FunctionLowering::run() {
  addArguments();
  Block &body = function.getBody().front();
  // A mark behind which the function's own ops begin.
  b.setInsertionPointToStart(&body);
  entryEnd = arith::ConstantIndexOp::create(b, function.getLoc(), 0);
  // Names of dimensions first: sizes may be computed from them.
  for (DimOp dim : llvm::make_early_inc_range(body.getOps<DimOp>()))
    if (failed(lowerOp(dim)))
      return failure();
  if (failed(plan()))
    return failure();
  SmallVector<Operation *> ops;
  for (Operation *op = entryEnd->getNextNode(); op; op = op->getNextNode())
    ops.push_back(op);
  for (Operation *op : ops)
    if (failed(lowerOp(op)))
      return failure();
  b.setInsertionPoint(body.getTerminator());
  if (function.isPrivate() && (!dirtyReads.empty() || !dirtyWrites.empty()))
    barrier(function.getLoc());
  function->setAttr("quench.lowered", b.getUnitAttr());
  frames[function.getName()] = {function, entryEnd, frameEnd};
  // Views that are still read say their strides: upstream's lowering of
  // expand_shape knows one dynamic size only.
  for (auto view :
       llvm::make_early_inc_range(body.getOps<memref::ExpandShapeOp>())) {
    if (view.getSrcType().getRank() != 1)
      continue;
    b.setInsertionPoint(view);
    SmallVector<OpFoldResult> sizes = view.getMixedOutputShape(),
                              strides(sizes.size());
    OpFoldResult stride = b.getIndexAttr(1);
    for (int64_t i = sizes.size() - 1; i >= 0; --i) {
      strides[i] = stride;
      AffineExpr s0 = b.getAffineSymbolExpr(0), s1 = b.getAffineSymbolExpr(1);
      stride = affine::makeComposedFoldedAffineApply(b, view.getLoc(), s0 * s1,
                                                     {stride, sizes[i]});
    }
    Value cast = memref::ReinterpretCastOp::create(
        b, view.getLoc(), view.getResultType(), view.getSrc(),
        OpFoldResult(b.getIndexAttr(0)), sizes, strides);
    view.replaceAllUsesWith(cast);
    view.erase();
  }
  // Barriers are calls into the runtime.
  auto callee = module.lookupSymbol<func::FuncOp>("quench_rt_barrier");
  if (!callee) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(module.getBody());
    Type i64 = b.getI64Type();
    callee = func::FuncOp::create(
        b, function.getLoc(), "quench_rt_barrier",
        b.getFunctionType({arg(Frame).getType(), i64, i64}, {}));
    callee.setPrivate();
  }
  for (BarrierOp op : llvm::make_early_inc_range(body.getOps<BarrierOp>())) {
    b.setInsertionPoint(op);
    auto wide = [&](Value v) {
      return arith::IndexCastOp::create(b, op.getLoc(), b.getI64Type(), v)
          .getResult();
    };
    func::CallOp::create(
        b, op.getLoc(), callee,
        ValueRange{arg(Frame), wide(arg(WorkerId)), wide(arg(WorkerCount))});
    op.erase();
  }
  return success();
}

LogicalResult quench::convertToSPMD(ModuleOp module, func::FuncOp function,
                                    ArrayRef<std::string> symbols) {
  FrameSizes frames;
  SmallVector<func::FuncOp> layers;
  function.walk([&](func::CallOp call) {
    auto callee = module.lookupSymbol<func::FuncOp>(call.getCallee());
    if (callee && callee->hasAttr("quench.layer") &&
        !llvm::is_contained(layers, callee))
      layers.push_back(callee);
  });
  for (func::FuncOp layer : layers)
    if (failed(FunctionLowering(module, layer, symbols, frames).run()))
      return failure();
  FunctionLowering lowering(module, function, symbols, frames);
  if (failed(lowering.run()))
    return failure();
  rollCalls(module, function, symbols,
            {function.getArgument(Frame), function.getArgument(Weights),
             FirstSymbol});
  return lowering.makeSizeFunction();
}
