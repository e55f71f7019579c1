//===- Streams.cpp - Residual streams of a function -------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Analysis/Streams.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace quench;
using namespace quench::qn;

std::string quench::describeNode(Operation *op) {
  if (auto function = dyn_cast<func::FuncOp>(op))
    return ("function '" + function.getSymName() + "'").str();
  std::string text = "'" + op->getName().getStringRef().str() + "'";
  if (auto named = op->getLoc()->findInstanceOf<NameLoc>())
    if (!named.getName().empty())
      return "\"" + named.getName().str() + "\" (" + text + ")";
  return text;
}

std::string quench::whyNotFoldable(Value weight) {
  if (isa<QTensorType>(weight.getType()))
    return "is already quantized";
  Operation *op = weight.getDefiningOp();
  if (!op)
    return "is an input of the function";
  if (isa<AssembleOp, DequantizeOp>(op))
    return "has codes that the model brings, which keep their bits";
  if (auto map = dyn_cast<MapOp>(op))
    return whyNotFoldable(map.getInput());
  if (!isa<WeightOp>(op))
    return "is computed by " + describeNode(op);
  if (!isa<FloatType>(cast<ShapedType>(weight.getType()).getElementType()))
    return "does not hold floats";
  return "";
}

//===----------------------------------------------------------------------===//
// Ops that hand a stream on
//===----------------------------------------------------------------------===//

/// The size of the last dimension of a tensor of floats; -1: dynamic, or
/// another type.
static int64_t widthOf(Value value) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (!type || type.getRank() == 0 || !isa<FloatType>(type.getElementType()) ||
      type.isDynamicDim(type.getRank() - 1))
    return -1;
  return type.getShape().back();
}

/// One number for all positions: a scalar constant or a splat.
static bool isOneNumber(Value value) {
  if (auto type = dyn_cast<RankedTensorType>(value.getType()))
    if (type.hasStaticShape() && type.getNumElements() == 1)
      return true;
  Attribute constant;
  return matchPattern(value, m_Constant(&constant)) &&
         (isa<FloatAttr>(constant) || isa<SplatElementsAttr>(constant));
}

/// `op` is what a linalg.generic does to each element; `outer` says what one of
/// its operands is outside (null: nothing that belongs to a stream).
static SmallVector<Value, 2>
elementwiseOperands(Operation *op,
                    llvm::function_ref<Value(OpOperand &)> outer) {
  SmallVector<Value, 2> operands;
  if (isa<arith::AddFOp, arith::SubFOp, arith::ExtFOp, arith::TruncFOp>(op)) {
    for (OpOperand &operand : op->getOpOperands()) {
      operands.push_back(outer(operand));
      if (!operands.back())
        return {};
    }
    return operands;
  }
  if (!isa<arith::MulFOp, arith::DivFOp>(op))
    return {};
  // A number times the stream, or the stream over a number.
  for (unsigned i = 0; i != 2; ++i) {
    if (isa<arith::DivFOp>(op) && i == 1)
      break;
    Value stream = outer(op->getOpOperand(i));
    Value number = op->getOperand(1 - i);
    if (stream && isOneNumber(number))
      return {stream};
  }
  return {};
}

static SmallVector<Value, 2> genericOperands(linalg::LinalgOp op) {
  if (op.getNumDpsInits() != 1 || !op.isAllParallelLoops() ||
      op->getNumRegions() != 1)
    return {};
  Block *body = &op->getRegion(0).front();
  if (!llvm::hasNItems(body->without_terminator(), 1))
    return {};
  Operation *inner = &body->front();
  if (inner->getNumResults() != 1 ||
      body->getTerminator()->getOperand(0) != inner->getResult(0))
    return {};
  if (!op.getMatchingIndexingMap(op.getDpsInitOperand(0)).isIdentity())
    return {};
  auto inputOf = [&](Value scalar) -> OpOperand * {
    auto argument = dyn_cast<BlockArgument>(scalar);
    if (!argument || argument.getOwner() != body ||
        argument.getArgNumber() >= op.getNumDpsInputs())
      return nullptr;
    return op.getDpsInputOperand(argument.getArgNumber());
  };
  if (isa<arith::MulFOp, arith::DivFOp>(inner)) {
    for (unsigned i = 0; i != 2; ++i) {
      OpOperand *stream = inputOf(inner->getOperand(i));
      OpOperand *number = inputOf(inner->getOperand(1 - i));
      if (!stream || !op.getMatchingIndexingMap(stream).isIdentity() ||
          (isa<arith::DivFOp>(inner) && i == 1))
        continue;
      if (isOneNumber(number ? number->get() : inner->getOperand(1 - i)))
        return {stream->get()};
    }
    return {};
  }
  return elementwiseOperands(inner, [&](OpOperand &operand) -> Value {
    OpOperand *input = inputOf(operand.get());
    if (!input || !op.getMatchingIndexingMap(input).isIdentity())
      return {};
    return input->get();
  });
}

/// The last dimension is its own group.
static bool keepsLast(ArrayRef<ReassociationIndices> groups) {
  return !groups.empty() && groups.back().size() == 1;
}

SmallVector<Value, 2> quench::streamOperands(Operation *op) {
  if (op->getNumResults() != 1)
    return {};
  int64_t width = widthOf(op->getResult(0));
  if (width < 0)
    return {};
  SmallVector<Value, 2> operands =
      llvm::TypeSwitch<Operation *, SmallVector<Value, 2>>(op)
          .Case<tensor::CastOp, LastRowsOp>(
              [](auto o) -> SmallVector<Value, 2> {
                return {o->getOperand(0)};
              })
          .Case<tensor::CollapseShapeOp, tensor::ExpandShapeOp>(
              [](auto o) -> SmallVector<Value, 2> {
                if (keepsLast(o.getReassociationIndices()))
                  return {o.getSrc()};
                return {};
              })
          .Case<tensor::ExtractSliceOp>(
              [&](tensor::ExtractSliceOp o) -> SmallVector<Value, 2> {
                if (isConstantIntValue(o.getMixedOffsets().back(), 0) &&
                    isConstantIntValue(o.getMixedStrides().back(), 1) &&
                    isConstantIntValue(o.getMixedSizes().back(), width))
                  return {o.getSource()};
                return {};
              })
          .Case<linalg::LinalgOp>(
              [](linalg::LinalgOp o) { return genericOperands(o); })
          .Default([](Operation *o) {
            return elementwiseOperands(
                o, [](OpOperand &operand) { return operand.get(); });
          });
  for (Value operand : operands)
    if (widthOf(operand) != width)
      return {};
  return operands;
}

//===----------------------------------------------------------------------===//
// Classes
//===----------------------------------------------------------------------===//

/// Layers that read a value, directly or behind reshapes. False: there is a
/// reader of another kind, which `other` names.
static bool linearReaders(Value value, SmallVectorImpl<LinearOp> &linears,
                          Operation *&other) {
  SmallVector<Value> work = {value};
  while (!work.empty())
    for (OpOperand &use : work.pop_back_val().getUses()) {
      Operation *user = use.getOwner();
      if (isa<tensor::DimOp>(user))
        continue;
      auto linear = dyn_cast<LinearOp>(user);
      if (linear && use.getOperandNumber() == 0) {
        linears.push_back(linear);
      } else if (streamOperands(user).size() == 1) {
        work.push_back(user->getResult(0));
      } else {
        other = user;
        return false;
      }
    }
  return true;
}

/// The initializer at the leaf of a weight expression; null: there is none.
static StringAttr leafOf(Value weight) {
  if (auto quantized = weight.getDefiningOp<QuantizeOp>())
    return leafOf(quantized.getInput());
  if (auto map = weight.getDefiningOp<MapOp>())
    return leafOf(map.getInput());
  if (auto leaf = weight.getDefiningOp<WeightOp>())
    return leaf.getInitializerAttr().getAttr();
  return {};
}

namespace {

class StreamFinder {
public:
  explicit StreamFinder(func::FuncOp function) : function(function) {}
  std::vector<Stream> run();

private:
  struct Class {
    Stream stream;
    bool added = false;
  };
  void collect(Class &members, Value value);
  void findTied(Stream &stream);
  void checkWeights(Stream &stream);
  void checkNorms(Stream &stream);
  static void block(Stream &stream, Operation *op, const Twine &reason) {
    if (stream.blocker)
      return;
    stream.blocker = op;
    stream.reason = (describeNode(op) + " " + reason).str();
  }

  func::FuncOp function;
};

} // namespace

/// Looks at who made a member and who reads it.
void StreamFinder::collect(Class &members, Value value) {
  Stream &stream = members.stream;
  stream.width = widthOf(value);
  stream.values.push_back(value);
  Operation *op = value.getDefiningOp();
  if (!op) {
    auto argument = cast<BlockArgument>(value);
    block(stream, argument.getOwner()->getParentOp(),
          "gives the stream from outside, by argument " +
              Twine(argument.getArgNumber()));
  } else if (auto linear = dyn_cast<LinearOp>(op)) {
    stream.writers.push_back(linear);
  } else if (auto embedding = dyn_cast<EmbeddingOp>(op)) {
    stream.embeddings.push_back(embedding);
  } else if (size_t count = streamOperands(op).size()) {
    members.added |= count == 2;
  } else {
    block(stream, op,
          "writes the stream and is neither a linear layer nor an "
          "embedding");
  }
  for (OpOperand &use : value.getUses()) {
    Operation *user = use.getOwner();
    if (isa<tensor::DimOp>(user) || !streamOperands(user).empty())
      continue;
    if (auto norm = dyn_cast<NormOp>(user);
        norm && use.getOperandNumber() == 0 && norm.getResult()) {
      stream.norms.push_back({norm, {}, false});
      continue;
    }
    if (auto linear = dyn_cast<LinearOp>(user);
        linear && use.getOperandNumber() == 0) {
      stream.readers.push_back(linear);
      continue;
    }
    if (user->hasTrait<OpTrait::IsTerminator>())
      block(stream, op ? op : user, "is a result of the function");
    else
      block(stream, user,
            "reads the stream and is neither an RMS norm nor a "
            "linear layer");
  }
}

void StreamFinder::findTied(Stream &stream) {
  for (EmbeddingOp embedding : stream.embeddings) {
    StringAttr table = leafOf(embedding.getTable());
    if (!table)
      continue;
    for (StreamNorm &entry : stream.norms) {
      // Readers of other kinds do not matter behind such a norm.
      Operation *other = nullptr;
      SmallVector<LinearOp> linears;
      linearReaders(entry.norm.getResult(), linears, other);
      for (LinearOp linear : linears)
        if (leafOf(linear.getWeight()) == table) {
          entry.tied = true;
          stream.tiedEmbeddings.insert(embedding);
        }
    }
    for (LinearOp linear : stream.readers)
      if (leafOf(linear.getWeight()) == table)
        block(stream, linear,
              "shares its weight with an embedding and has no norm before it");
  }
}

void StreamFinder::checkNorms(Stream &stream) {
  for (StreamNorm &entry : stream.norms) {
    NormOp norm = entry.norm;
    if (entry.tied)
      continue;
    if (norm.getKind() != "rms") {
      block(stream, norm, "takes the mean out, which no rotation leaves alone");
      continue;
    }
    if (norm.getBias()) {
      block(stream, norm, "adds a bias");
      continue;
    }
    if (Value gain = norm.getGain()) {
      auto leaf = gain.getDefiningOp<WeightOp>();
      if (!leaf || leaf.getTranspose() ||
          cast<ShapedType>(gain.getType()).getRank() != 1)
        block(stream, norm, "has a gain that is not an initializer");
    }
    Operation *other = nullptr;
    SmallVector<LinearOp> linears;
    if (!linearReaders(norm.getResult(), linears, other)) {
      block(stream, other,
            "reads the norm " + describeNode(norm) +
                " and is no linear layer, so that the norm's gain cannot move "
                "into weights");
      continue;
    }
    entry.linears.assign(linears.begin(), linears.end());
  }
}

void StreamFinder::checkWeights(Stream &stream) {
  auto check = [&](Operation *op, Value weight, StringRef what) {
    std::string reason = whyNotFoldable(weight);
    if (!reason.empty())
      block(stream, op, "has a " + what + " that " + reason);
  };
  for (LinearOp linear : stream.writers) {
    check(linear, linear.getWeight(), "weight");
    if (linear.getBias())
      check(linear, linear.getBias(), "bias");
  }
  for (EmbeddingOp embedding : stream.embeddings)
    if (!stream.tiedEmbeddings.contains(embedding))
      check(embedding, embedding.getTable(), "table");
  for (LinearOp linear : stream.readers)
    check(linear, linear.getWeight(), "weight");
  for (StreamNorm &entry : stream.norms)
    for (LinearOp linear : entry.linears)
      check(linear, linear.getWeight(), "weight");
}

std::vector<Stream> StreamFinder::run() {
  llvm::EquivalenceClasses<void *> classes;
  auto key = [](Value value) { return value.getAsOpaquePointer(); };
  function.walk([&](Operation *op) {
    for (Value result : op->getResults())
      if (widthOf(result) >= 0)
        classes.insert(key(result));
    for (Value operand : streamOperands(op))
      classes.unionSets(key(operand), key(op->getResult(0)));
  });
  // Members in program order: arguments are those of the joined ones that no op
  // makes.
  llvm::MapVector<void *, Class> members;
  llvm::DenseSet<Value> seen;
  auto visit = [&](Value value) {
    auto it = classes.findLeader(key(value));
    if (it != classes.member_end() && seen.insert(value).second)
      collect(members[*it], value);
  };
  function.walk<WalkOrder::PreOrder>([&](Operation *op) {
    for (Region &region : op->getRegions())
      for (Block &body : region)
        for (BlockArgument argument : body.getArguments())
          visit(argument);
    for (Value result : op->getResults())
      visit(result);
  });
  std::vector<Stream> streams;
  for (auto &[leader, entry] : members) {
    if (!entry.added || entry.stream.norms.empty())
      continue;
    findTied(entry.stream);
    checkNorms(entry.stream);
    checkWeights(entry.stream);
    streams.push_back(std::move(entry.stream));
  }
  return streams;
}

std::vector<Stream> quench::findStreams(func::FuncOp function) {
  if (function.isExternal())
    return {};
  return StreamFinder(function).run();
}
