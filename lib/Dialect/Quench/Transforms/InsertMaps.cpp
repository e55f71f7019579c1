//===- InsertMaps.cpp - Maps between layers ---------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Two rules carry all folding (M' is M transposed):
//   linear(map M x, w) = linear(x, map M' w axis(1))
//   map M linear(x, w) = linear(x, map M w axis(0)), the bias likewise
// For an orthogonal Q and h' = h Q: norm(h) = norm(h') Q', so that
//   linear(norm(h) gain, w) = linear(norm(h'), map Q (map gain w) axis(1))
//
//===----------------------------------------------------------------------===//

#include "quench/Dialect/Quench/Transforms/InsertMaps.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Remarks.h"
#include "quench/Analysis/Streams.h"
#include "quench/Dialect/Quench/Transforms/Passes.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace quench;
using namespace quench::qn;
using llvm::Twine;

namespace quench {
#define GEN_PASS_DEF_QUENCHINSERTMAPS
#include "quench/Dialect/Quench/Transforms/Passes.h.inc"
} // namespace quench

MapInterface quench::hadamardFor(MLIRContext *context, int64_t n) {
  llvm::Expected<std::unique_ptr<Map>> whole = hadamardMap(n);
  if (whole)
    return HadamardAttr::get(context, n, 0, false);
  llvm::consumeError(whole.takeError());
  int64_t block = n & -n;
  if (block < 2)
    return {};
  return HadamardAttr::get(context, n, block, false);
}

static std::string textOf(Attribute map) {
  std::string text;
  llvm::raw_string_ostream(text) << map;
  return text;
}

namespace {

/// The way of the values of attention layers.
struct ValuePath {
  SmallVector<AttentionOp> attentions;
  llvm::SetVector<Operation *> outputs; // the layers o
  SmallVector<BlockArgument> pasts;     // caches that come in
  SmallVector<OpOperand *> presents;    // and go out
  Operation *blocker = nullptr;
  std::string reason;

  bool block(Operation *op, const Twine &why) {
    if (!blocker) {
      blocker = op;
      reason = (describeNode(op) + " " + why).str();
    }
    return false;
  }
};

class Inserter {
public:
  Inserter(ModuleOp module, const InsertMapsOptions &options,
           SmallVectorImpl<MapDecision> *decisions)
      : module(module), options(options), decisions(decisions),
        context(module.getContext()), builder(context) {
    // Maps that the model had on line before.
    module.walk([&](MapOp op) { asked.insert(op); });
  }

  LogicalResult run();

private:
  void decide(Operation *op, bool done, StringRef what, const Twine &text);

  /// A map of a weight before `user`. f16 and bf16 leaves are read as f32.
  Value mapWeight(Operation *user, MapInterface map, Value weight,
                  int64_t axis);
  /// A map that stays on line, along the last dimension.
  Value mapOnLine(Location loc, MapInterface map, Value input);

  void rotate(func::FuncOp function, Stream &stream, uint64_t seed);
  void rotateInput(LinearOp linear);
  void rotateValues(func::FuncOp function);
  bool followValue(Value value, ValuePath &path);
  bool followOutput(Value value, ValuePath &path);
  void rotateValuesOf(func::FuncOp function, LinearOp values);

  ModuleOp module;
  const InsertMapsOptions &options;
  SmallVectorImpl<MapDecision> *decisions;
  MLIRContext *context;
  OpBuilder builder;
  llvm::DenseSet<Operation *> asked;
};

} // namespace

void Inserter::decide(Operation *op, bool done, StringRef what,
                      const Twine &text) {
  std::string message = text.str();
  auto parent = dyn_cast<func::FuncOp>(op);
  if (!parent)
    parent = op->getParentOfType<func::FuncOp>();
  auto opts = remark::RemarkOpts::name(what)
                  .category("quench-insert-maps")
                  .function(parent ? parent.getSymName() : StringRef());
  if (done)
    remark::passed(op->getLoc(), opts) << message;
  else
    remark::missed(op->getLoc(), opts) << message;
  if (decisions)
    decisions->push_back({done, what.str(), std::move(message)});
}

Value Inserter::mapWeight(Operation *user, MapInterface map, Value weight,
                          int64_t axis) {
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPoint(user);
  auto type = cast<RankedTensorType>(weight.getType());
  if (type.getElementType().getIntOrFloatBitWidth() < 32)
    type = type.clone(builder.getF32Type());
  if (auto leaf = weight.getDefiningOp<WeightOp>();
      leaf && type != leaf.getType())
    weight =
        WeightOp::create(builder, leaf.getLoc(), type,
                         leaf.getInitializerAttr(), leaf.getTransposeAttr());
  return MapOp::create(builder, user->getLoc(), TypeRange(type), map, weight,
                       builder.getI64IntegerAttr(axis), Value())
      .getResult();
}

Value Inserter::mapOnLine(Location loc, MapInterface map, Value input) {
  auto type = cast<RankedTensorType>(input.getType());
  auto op =
      MapOp::create(builder, loc, TypeRange(type), map, input,
                    builder.getI64IntegerAttr(type.getRank() - 1), Value());
  asked.insert(op);
  return op.getResult();
}

//===----------------------------------------------------------------------===//
// Streams
//===----------------------------------------------------------------------===//

void Inserter::rotate(func::FuncOp function, Stream &stream, uint64_t seed) {
  Operation *at = stream.values.front().getDefiningOp();
  if (!at)
    at = function;
  if (stream.blocker) {
    decide(stream.blocker, false, "stream",
           "the stream of width " + Twine(stream.width) + " from " +
               describeNode(at) + " stays as it is: " + stream.reason);
    return;
  }
  MapInterface hadamard = hadamardFor(context, stream.width);
  if (!hadamard) {
    decide(at, false, "stream",
           "the stream from " + describeNode(at) +
               " stays as it is: no Hadamard matrix for the odd width " +
               Twine(stream.width));
    return;
  }
  SmallVector<Attribute, 2> factors = {
      SignsAttr::get(context, stream.width, seed), hadamard};
  MapInterface q = ProductMapAttr::get(context, factors);
  MapInterface inverse = q.getInverse();

  // Writers.
  for (LinearOp linear : stream.writers) {
    linear.getWeightMutable().assign(
        mapWeight(linear, q, linear.getWeight(), 0));
    if (Value bias = linear.getBias())
      linear.getBiasMutable().assign(mapWeight(linear, q, bias, 0));
  }
  for (EmbeddingOp embedding : stream.embeddings) {
    if (!stream.tiedEmbeddings.contains(embedding)) {
      embedding.getTableMutable().assign(
          mapWeight(embedding, q, embedding.getTable(), 1));
      continue;
    }
    builder.setInsertionPointAfter(embedding);
    Value turned = mapOnLine(embedding.getLoc(), q, embedding.getResult());
    embedding.getResult().replaceAllUsesExcept(turned, turned.getDefiningOp());
  }
  // Readers.
  for (LinearOp linear : stream.readers)
    linear.getWeightMutable().assign(
        mapWeight(linear, q, linear.getWeight(), 1));
  for (StreamNorm &entry : stream.norms) {
    NormOp norm = entry.norm;
    if (entry.tied) {
      builder.setInsertionPoint(norm);
      norm.getInputMutable().assign(
          mapOnLine(norm.getLoc(), inverse, norm.getInput()));
      continue;
    }
    MapInterface gain;
    if (norm.getGain()) {
      auto leaf = norm.getGain().getDefiningOp<WeightOp>();
      gain = DiagAttr::get(context, leaf.getInitializerAttr(), stream.width,
                           false);
      norm.getGainMutable().clear();
    }
    for (LinearOp linear : entry.linears) {
      Value weight = linear.getWeight();
      if (gain)
        weight = mapWeight(linear, gain, weight, 1);
      linear.getWeightMutable().assign(mapWeight(linear, q, weight, 1));
    }
  }
  size_t tied =
      llvm::count_if(stream.norms, [](const StreamNorm &n) { return n.tied; });
  std::string text =
      ("the stream of width " + Twine(stream.width) + " from " +
       describeNode(at) + " is turned by " + textOf(q) + ": " +
       Twine(stream.writers.size() + stream.embeddings.size()) + " writers, " +
       Twine(stream.norms.size() + stream.readers.size()) + " readers")
          .str();
  if (tied)
    text += ("; a head shares the table of an embedding: " +
             Twine(stream.tiedEmbeddings.size() + tied) + " maps stay on line")
                .str();
  decide(at, true, "stream", text);
}

//===----------------------------------------------------------------------===//
// Inputs of single layers
//===----------------------------------------------------------------------===//

void Inserter::rotateInput(LinearOp linear) {
  StringRef role = *linear.getRole();
  std::string name = describeNode(linear);
  std::string reason = whyNotFoldable(linear.getWeight());
  if (!reason.empty()) {
    decide(linear, false, role,
           "the input of " + name + " stays as it is: its weight " + reason);
    return;
  }
  int64_t k = cast<ShapedType>(linear.getWeight().getType()).getDimSize(1);
  MapInterface map = hadamardFor(context, k);
  if (!map) {
    decide(linear, false, role,
           "the input of " + name +
               " stays as it is: no Hadamard matrix for the odd width " +
               Twine(k));
    return;
  }
  builder.setInsertionPoint(linear);
  linear.getInputMutable().assign(
      mapOnLine(linear.getLoc(), map, linear.getInput()));
  // (p M)(w M)' = p w'.
  linear.getWeightMutable().assign(
      mapWeight(linear, map, linear.getWeight(), 1));
  decide(linear, true, role,
         "the input of " + name + " is turned on line by " + textOf(map));
}

//===----------------------------------------------------------------------===//
// Values of attention heads
//===----------------------------------------------------------------------===//

/// Sizes are read from it, which the map does not change.
static bool readsShape(Operation *op) { return isa<tensor::DimOp>(op); }

/// All users of attention's result are linear layers.
bool Inserter::followOutput(Value value, ValuePath &path) {
  SmallVector<Value> work = {value};
  while (!work.empty())
    for (OpOperand &use : work.pop_back_val().getUses()) {
      Operation *user = use.getOwner();
      if (readsShape(user))
        continue;
      if (streamOperands(user).size() == 1) {
        work.push_back(user->getResult(0));
        continue;
      }
      auto linear = dyn_cast<LinearOp>(user);
      if (!linear || use.getOperandNumber() != 0)
        return path.block(
            user, "reads the result of attention and is no linear layer");
      std::string reason = whyNotFoldable(linear.getWeight());
      if (!reason.empty())
        return path.block(linear, "has a weight that " + reason);
      path.outputs.insert(linear);
    }
  return true;
}

/// A cache of the function that only this op reads.
static BlockArgument pastOf(ExtendOp extend) {
  auto past = dyn_cast<BlockArgument>(extend.getPast());
  if (!past || !isa<func::FuncOp>(past.getOwner()->getParentOp()) ||
      llvm::any_of(past.getUsers(), [&](Operation *other) {
        return other != extend && !readsShape(other);
      }))
    return {};
  return past;
}

/// All that is done with values is attention, and caching.
bool Inserter::followValue(Value value, ValuePath &path) {
  SmallVector<Value> work = {value};
  while (!work.empty()) {
    Value next = work.pop_back_val();
    for (OpOperand &use : next.getUses()) {
      Operation *user = use.getOwner();
      if (readsShape(user))
        continue;
      if (streamOperands(user).size() == 1) {
        work.push_back(user->getResult(0));
        continue;
      }
      if (auto extend = dyn_cast<ExtendOp>(user);
          extend && extend.getResult() && next == extend.getRows()) {
        BlockArgument past = pastOf(extend);
        if (!past)
          return path.block(extend, "extends a cache that is no input of the "
                                    "function, or has other readers");
        path.pasts.push_back(past);
        work.push_back(extend.getResult());
        continue;
      }
      if (isa<func::ReturnOp>(user) && next.getDefiningOp<ExtendOp>()) {
        path.presents.push_back(&use);
        continue;
      }
      auto attention = dyn_cast<AttentionOp>(user);
      if (!attention || !attention.getResult() ||
          next != attention.getValue() || next == attention.getKey() ||
          next == attention.getQuery())
        return path.block(user, "reads the values and is no attention");
      path.attentions.push_back(attention);
      if (!followOutput(attention.getResult(), path))
        return false;
    }
  }
  return true;
}

void Inserter::rotateValuesOf(func::FuncOp function, LinearOp values) {
  std::string name = describeNode(values);
  auto leave = [&](const Twine &why) {
    decide(values, false, "values",
           "the values of " + name + " stay as they are: " + why);
  };
  ValuePath path;
  if (!followValue(values.getResult(), path))
    return leave(path.reason);
  std::string reason = whyNotFoldable(values.getWeight());
  if (!reason.empty())
    return leave("the weight " + reason);
  if (values.getBias() && !(reason = whyNotFoldable(values.getBias())).empty())
    return leave("the bias " + reason);
  int64_t width = cast<ShapedType>(values.getWeight().getType()).getDimSize(0);
  int64_t size = 0;
  for (AttentionOp attention : path.attentions) {
    int64_t kvHeads = attention.getKvHeads();
    int64_t each = width % kvHeads ? 0 : width / kvHeads;
    if (each == 0 || (size && size != each))
      return leave(describeNode(attention) + " splits them in " +
                   Twine(kvHeads) + " heads");
    size = each;
  }
  for (Operation *op : path.outputs) {
    int64_t in = cast<ShapedType>(cast<LinearOp>(op).getWeight().getType())
                     .getDimSize(1);
    if (size == 0 || in % size)
      return leave(describeNode(op) + " reads " + Twine(in) +
                   " numbers, no multiple of the head size " + Twine(size));
  }
  int64_t block = size & -size;
  if (block < 2)
    return leave("the head size " + Twine(size) + " is odd");

  auto mapOf = [&](int64_t n) -> MapInterface {
    return HadamardAttr::get(context, n, block, false);
  };
  MapInterface map = mapOf(width);
  values.getWeightMutable().assign(
      mapWeight(values, map, values.getWeight(), 0));
  if (Value bias = values.getBias())
    values.getBiasMutable().assign(mapWeight(values, map, bias, 0));
  for (Operation *op : path.outputs) {
    auto linear = cast<LinearOp>(op);
    Value weight = linear.getWeight();
    int64_t in = cast<ShapedType>(weight.getType()).getDimSize(1);
    linear.getWeightMutable().assign(mapWeight(linear, mapOf(in), weight, 1));
  }
  // The model's caches hold what attention reads, per head.
  for (BlockArgument past : path.pasts)
    function.setArgAttr(past.getArgNumber(), "quench.map", mapOf(size));
  for (OpOperand *present : path.presents)
    function.setResultAttr(present->getOperandNumber(), "quench.map",
                           mapOf(size));
  decide(values, true, "values",
         "the values of " + name + " are turned by " + textOf(map) +
             (path.pasts.empty() ? "" : "; the cache holds turned values"));
}

void Inserter::rotateValues(func::FuncOp function) {
  llvm::SetVector<Operation *> layers;
  function.walk([&](AttentionOp attention) {
    Value value = attention.getValue();
    while (Operation *op = value.getDefiningOp()) {
      if (auto extend = dyn_cast<ExtendOp>(op))
        value = extend.getRows();
      else if (SmallVector<Value, 2> from = streamOperands(op);
               from.size() == 1)
        value = from.front();
      else
        break;
    }
    if (auto linear = value.getDefiningOp<LinearOp>()) {
      layers.insert(linear);
      return;
    }
    decide(attention, false, "values",
           "the values of " + describeNode(attention) +
               " stay as they are: they are not a linear layer's result");
  });
  for (Operation *layer : layers)
    rotateValuesOf(function, cast<LinearOp>(layer));
}

//===----------------------------------------------------------------------===//
// All
//===----------------------------------------------------------------------===//

/// A value that is made of initializers only.
static bool isWeightExpression(Value value) {
  Operation *op = value.getDefiningOp();
  return op && isa<WeightOp, MapOp, QuantizeOp, DequantizeOp, AssembleOp>(op) &&
         llvm::all_of(op->getOperands(), isWeightExpression);
}

LogicalResult Inserter::run() {
  uint64_t seed = options.seed;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (function.isExternal())
      continue;
    if (options.rotateStream) {
      std::vector<Stream> streams = findStreams(function);
      if (streams.empty())
        decide(function, false, "stream",
               "no residual stream in " + describeNode(function));
      for (Stream &stream : streams)
        rotate(function, stream, seed++);
    }
    if (options.rotateValues)
      rotateValues(function);
    function.walk([&](LinearOp linear) {
      if ((options.rotateDown && linear.getRole() == "down") ||
          (options.rotateO && linear.getRole() == "o"))
        rotateInput(linear);
    });
  }
  bool failure = false;
  module.walk([&](MapOp op) {
    if (!op.getResult() || asked.contains(op) ||
        isWeightExpression(op.getResult()))
      return;
    op.emitOpError("stands on an activation, no option asked for it there: ")
        << op.getMap() << " should have been folded into a weight";
    failure = true;
  });
  return failure ? mlir::failure() : success();
}

LogicalResult quench::insertMaps(ModuleOp module,
                                 const InsertMapsOptions &options,
                                 SmallVectorImpl<MapDecision> *decisions) {
  return Inserter(module, options, decisions).run();
}

namespace {
struct InsertMapsPass
    : public quench::impl::QuenchInsertMapsBase<InsertMapsPass> {
  using QuenchInsertMapsBase::QuenchInsertMapsBase;
  void runOnOperation() override {
    InsertMapsOptions options{rotateStream, rotateDown, rotateO, rotateValues,
                              seed};
    if (failed(insertMaps(getOperation(), options)))
      signalPassFailure();
  }
};
} // namespace
