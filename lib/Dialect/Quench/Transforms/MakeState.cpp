//===- MakeState.cpp - Decode and prefill with a context's caches -*- C++ -*-=//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Dialect/Quench/Transforms/MakeState.h"
#include "RefiningCloner.h"
#include "StatePlan.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Dominance.h"
#include "mlir/Transforms/CSE.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "quench/Dialect/Quench/Transforms/Passes.h"

using namespace mlir;
using namespace quench;

/// Positions in a tile of a key cache: one register, see quench.append.
static constexpr int64_t kKeyTile = 16;

namespace quench {
#define GEN_PASS_DEF_QUENCHMAKESTATE
#include "quench/Dialect/Quench/Transforms/Passes.h.inc"
} // namespace quench

//===----------------------------------------------------------------------===//
// The new functions
//===----------------------------------------------------------------------===//

namespace {
class Maker {
public:
  Maker(StatePlan &plan, bool decode)
      : plan(plan), decode(decode), builder(plan.main.getContext()),
        loc(plan.main.getLoc()), cloner(builder) {}
  func::FuncOp make();

private:
  Value total() {
    return builder.createOrFold<arith::AddIOp>(loc, past, sequence);
  }
  Value valueOf(StepDim step);
  void makeFunction();
  void mapInputs();
  Value positions(RankedTensorType type);
  void extend(StateCache &cache);
  void attention(qn::AttentionOp op);
  void cloneTail();
  void setLimits();

  StatePlan &plan;
  bool decode;
  OpBuilder builder;
  Location loc;
  RefiningCloner cloner;
  func::FuncOp function;
  Value one, sequence, past, keep;
  llvm::DenseMap<Operation *, StateCache *> extends;
  llvm::DenseMap<Value, Value> cacheOf; // result of extend -> memref
};
} // namespace

Value Maker::valueOf(StepDim step) {
  switch (step) {
  case StepDim::One:
    return one;
  case StepDim::Sequence:
    return sequence;
  case StepDim::Past:
    return past;
  case StepDim::Total:
    return total();
  }
  return {};
}

void Maker::makeFunction() {
  int64_t rows = decode ? 1 : ShapedType::kDynamic;
  auto string = [&](StringRef text) { return builder.getStringAttr(text); };
  SmallVector<Type> inputs = {
      RankedTensorType::get({1, rows}, builder.getI64Type())};
  SmallVector<DictionaryAttr> attrs = {builder.getDictionaryAttr(
      {builder.getNamedAttr("quench.name", string("input_ids")),
       builder.getNamedAttr(
           "quench.dims",
           builder.getStrArrayAttr({"1", decode ? "1" : "sequence"}))})};
  for (StateCache &cache : plan.caches) {
    auto type = cast<RankedTensorType>(cache.past.getType());
    int64_t heads = type.getDimSize(1), size = type.getDimSize(3);
    NamedAttrList list;
    list.set("quench.state", cache.name);
    SmallVector<int64_t> shape = {heads, ShapedType::kDynamic, size};
    if (cache.keys) {
      shape.push_back(kKeyTile);
      list.set("quench.keys", builder.getUnitAttr());
    }
    inputs.push_back(MemRefType::get(shape, type.getElementType()));
    attrs.push_back(list.getDictionary(builder.getContext()));
  }
  auto logits = cast<RankedTensorType>(plan.logits.getType());
  auto result = RankedTensorType::get({1, rows, logits.getDimSize(2)},
                                      logits.getElementType());
  Operation *main = plan.main;
  builder.setInsertionPointAfter(main);
  function = func::FuncOp::create(builder, loc, decode ? "decode" : "prefill",
                                  builder.getFunctionType(inputs, result));
  function->setAttr(
      "quench.symbols",
      builder.getStrArrayAttr({"sequence", "past", "capacity", "keep"}));
  for (auto [i, dictionary] : llvm::enumerate(attrs))
    function.setArgAttrs(i, dictionary);
  function.setResultAttr(0, "quench.name", string("logits"));
  function.setResultAttr(
      0, "quench.dims",
      builder.getStrArrayAttr(
          {"1", decode ? "1" : "keep", std::to_string(logits.getDimSize(2))}));
  builder.setInsertionPointToStart(function.addEntryBlock());
}

/// [1, sequence]: past + i.
Value Maker::positions(RankedTensorType type) {
  RankedTensorType shape = RankedTensorType::get(
      {1, decode ? 1 : ShapedType::kDynamic}, type.getElementType());
  Value empty = tensor::EmptyOp::create(
      builder, loc,
      ArrayRef<OpFoldResult>{builder.getIndexAttr(1),
                             getAsOpFoldResult(sequence)},
      type.getElementType());
  auto parallel = utils::IteratorType::parallel;
  return linalg::GenericOp::create(
             builder, loc, shape, ValueRange(), empty,
             builder.getMultiDimIdentityMap(2),
             ArrayRef<utils::IteratorType>{parallel, parallel},
             [&](OpBuilder &b, Location loc, ValueRange) {
               Value i = linalg::IndexOp::create(b, loc, 1);
               Value at = arith::AddIOp::create(b, loc, i, past);
               Value number = arith::IndexCastOp::create(
                   b, loc, type.getElementType(), at);
               linalg::YieldOp::create(b, loc, number);
             })
      .getResult(0);
}

void Maker::mapInputs() {
  auto dim = [&](StringRef name) -> Value {
    return qn::DimOp::create(builder, loc, builder.getIndexType(), name);
  };
  one = arith::ConstantIndexOp::create(builder, loc, 1);
  sequence = decode ? one : dim("sequence");
  keep = decode ? one : dim("keep");
  past = dim("past");
  for (auto &entry : plan.dims)
    cloner.setDim(entry.getKey(), valueOf(entry.getValue()));

  Value ids = function.getArgument(0);
  auto idsType = cast<RankedTensorType>(plan.ids.getType());
  if (auto type = cast<RankedTensorType>(ids.getType());
      type.getElementType() != idsType.getElementType())
    ids = arith::TruncIOp::create(builder, loc,
                                  type.clone(idsType.getElementType()), ids);
  cloner.map(plan.ids, ids);
  cloner.setSizes(plan.ids, {one, sequence});
  if (plan.positions) {
    cloner.map(plan.positions,
               positions(cast<RankedTensorType>(plan.positions.getType())));
    cloner.setSizes(plan.positions, {one, sequence});
  }
  if (plan.mask) {
    Type element = cast<RankedTensorType>(plan.mask.getType()).getElementType();
    Value empty = tensor::EmptyOp::create(
        builder, loc,
        ArrayRef<OpFoldResult>{builder.getIndexAttr(1),
                               getAsOpFoldResult(total())},
        element);
    Value value = arith::ConstantOp::create(builder, loc,
                                            builder.getIntegerAttr(element, 1));
    cloner.map(plan.mask,
               linalg::FillOp::create(builder, loc, value, empty).getResult(0));
    cloner.setSizes(plan.mask, {one, total()});
  }
  for (auto [i, cache] : llvm::enumerate(plan.caches)) {
    auto type = cast<RankedTensorType>(cache.past.getType());
    Value heads =
        arith::ConstantIndexOp::create(builder, loc, type.getDimSize(1));
    Value size =
        arith::ConstantIndexOp::create(builder, loc, type.getDimSize(3));
    cloner.setSizes(cache.past, {one, heads, past, size});
    Value grown = cache.extend.getResult();
    cloner.setSizes(grown, {one, heads, total(), size});
    extends[cache.extend] = &cache;
    cacheOf[grown] = function.getArgument(i + 1);
  }
}

void Maker::extend(StateCache &cache) {
  qn::ExtendOp op = cache.extend;
  qn::AppendOp::create(builder, op.getLoc(), cloner.lookup(op.getRows()),
                       cacheOf[op.getResult()], past, cache.keys);
}

void Maker::attention(qn::AttentionOp op) {
  Value query = cloner.lookup(op.getQuery());
  SmallVector<int64_t> shape(cast<ShapedType>(query.getType()).getShape());
  auto old = cast<RankedTensorType>(op.getResult().getType());
  shape.back() = old.getShape().back();
  Value bias = op.getBias() ? cloner.lookup(op.getBias()) : Value();
  auto copy = qn::AttentionOp::create(
      builder, op.getLoc(), RankedTensorType::get(shape, old.getElementType()),
      query, cacheOf[throughCasts(op.getKey())],
      cacheOf[throughCasts(op.getValue())], /*keep=*/Value(), bias, total(),
      /*out=*/Value(), op.getHeadsAttr(), op.getKvHeadsAttr(),
      op.getScaleAttr(), op.getCausalAttr(), op.getWindowAttr(),
      op.getSoftCapAttr());
  copy->setDiscardableAttrs(op->getDiscardableAttrDictionary());
  copy->removeDiscardableAttr("quench.dims");
  cloner.map(op.getResult(), copy.getResult());
}

/// Ops that need the last rows only.
void Maker::cloneTail() {
  if (!decode) {
    Value rows = cloner.lookup(plan.cut);
    cloner.map(plan.cut,
               qn::LastRowsOp::create(builder, rows.getLoc(), rows.getType(),
                                      rows, keep, /*out=*/Value())
                   .getResult());
  }
  for (Operation *op : plan.tail) {
    if (auto generic = dyn_cast<linalg::GenericOp>(op); generic && !decode) {
      auto type = cast<RankedTensorType>(generic.getDpsInits()[0].getType());
      SmallVector<OpFoldResult> sizes = {builder.getIndexAttr(1),
                                         getAsOpFoldResult(keep)};
      sizes.push_back(builder.getIndexAttr(type.getDimSize(2)));
      cloner.map(
          generic.getDpsInits()[0],
          tensor::EmptyOp::create(builder, loc, sizes, type.getElementType()));
    }
    cloner.clone(op);
  }
}

/// `quench.limits` in the names of a step: the longest names first, since one
/// may be a part of another.
void Maker::setLimits() {
  auto limits = plan.main->getAttrOfType<DictionaryAttr>("quench.limits");
  if (!limits)
    return;
  SmallVector<StringRef> names;
  for (auto &entry : plan.dims)
    names.push_back(entry.getKey());
  llvm::sort(names, [](StringRef a, StringRef b) {
    return a.size() != b.size() ? a.size() > b.size() : a < b;
  });
  static constexpr StringLiteral texts[] = {"1", "sequence", "past",
                                            "past + sequence"};
  NamedAttrList list;
  for (NamedAttribute limit : limits) {
    std::string text;
    StringRef rest = limit.getName();
    while (!rest.empty()) {
      auto it = llvm::find_if(
          names, [&](StringRef name) { return rest.starts_with(name); });
      if (it == names.end()) {
        text += rest.front();
        rest = rest.drop_front();
        continue;
      }
      text += texts[int(plan.dims.lookup(*it))];
      rest = rest.drop_front(it->size());
    }
    list.set(text, limit.getValue());
  }
  function->setAttr("quench.limits", list.getDictionary(builder.getContext()));
}

func::FuncOp Maker::make() {
  makeFunction();
  mapInputs();
  setLimits();
  for (Operation *op : plan.live) {
    if (auto it = extends.find(op); it != extends.end())
      extend(*it->second);
    else if (auto attend = dyn_cast<qn::AttentionOp>(op))
      attention(attend);
    else if (auto cast = dyn_cast<tensor::CastOp>(op);
             !cast || !cacheOf.count(throughCasts(cast.getSource())))
      cloner.clone(op);
  }
  cloneTail();
  Value logits = cloner.castTo(cloner.lookup(plan.logits),
                               function.getFunctionType().getResult(0));
  func::ReturnOp::create(builder, loc, logits);
  return function;
}

/// Canonical form, equal values once.
static void simplify(func::FuncOp function) {
  MLIRContext *context = function.getContext();
  RewritePatternSet patterns(context);
  for (Dialect *dialect : context->getLoadedDialects())
    dialect->getCanonicalizationPatterns(patterns);
  for (RegisteredOperationName op : context->getRegisteredOperations())
    op.getCanonicalizationPatterns(patterns, context);
  (void)applyPatternsGreedily(function, std::move(patterns));
  IRRewriter rewriter(context);
  DominanceInfo dominance(function);
  eliminateCommonSubExpressions(rewriter, dominance, function);
}

FailureOr<bool> quench::makeState(ModuleOp module) {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main || main.isExternal()) {
    module.emitError("has no function @main with a body");
    return failure();
  }
  for (StringRef name : {"decode", "prefill"})
    if (Operation *there = module.lookupSymbol(name)) {
      there->emitError("is there already: @")
          << name << " is the name of a function that is to be made";
      return failure();
    }
  std::string reason;
  std::optional<StatePlan> plan = planState(main, reason);
  if (!plan) {
    if (!reason.empty())
      main.emitRemark("no state is made: ") << reason;
    return false;
  }
  SmallVector<Attribute> names;
  for (StateCache &cache : plan->caches)
    names.push_back(cache.name);
  module->setAttr("quench.state", ArrayAttr::get(module.getContext(), names));
  for (bool decode : {false, true}) // @decode comes first behind @main
    simplify(Maker(*plan, decode).make());
  return true;
}

namespace {
struct MakeStatePass : public quench::impl::QuenchMakeStateBase<MakeStatePass> {
  void runOnOperation() override {
    if (failed(makeState(getOperation())))
      signalPassFailure();
  }
};
} // namespace
