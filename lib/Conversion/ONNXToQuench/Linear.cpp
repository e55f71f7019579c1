//===- Linear.cpp - Recognizes linear layers and tables ---------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Recognizer.h"
#include "quench/Dialect/ONNX/IR/ONNX.h"

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

/// A f16 or bf16 initializer behind Cast is read as f32.
static Value foldCast(Recognizer &r, Operation *op) {
  auto weight = op->getOperand(0).getDefiningOp<qn::WeightOp>();
  auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  if (!weight || !type || !type.getElementType().isF32())
    return {};
  auto from = cast<RankedTensorType>(weight.getType());
  if (!from.getElementType().isF16() && !from.getElementType().isBF16())
    return {};
  Location loc = r.at(op);
  return qn::WeightOp::create(r.builder, loc, from.clone(type.getElementType()),
                              weight.getInitializer(), weight.getTranspose());
}

void quench::onnx_to_quench::foldWeights(Recognizer &r) {
  r.refresh();
  for (Operation &op :
       llvm::make_early_inc_range(r.function.getBody().front())) {
    StringRef kind = kindOf(&op);
    if (kind.empty() || op.getNumResults() == 0)
      continue;
    Value with, result = op.getResult(0);
    if (kind == "Identity")
      with = op.getOperand(0);
    else if (kind == "Dropout" &&
             (op.getNumResults() == 1 || op.getResult(1).use_empty())) {
      bool training = false;
      if (Value mode = getOperand(&op, 2)) {
        auto flag = r.shapes->constants(mode);
        training = !flag || flag->empty() || flag->front();
      }
      if (!training)
        with = op.getOperand(0);
    } else if (kind == "Cast") {
      bool same = r.elementType(result) == r.elementType(op.getOperand(0));
      with = same ? op.getOperand(0) : foldCast(r, &op);
    } else if (kind == "Transpose") {
      auto weight = op.getOperand(0).getDefiningOp<qn::WeightOp>();
      auto perm = getInts(&op, "perm");
      bool swaps = !perm || ArrayRef(*perm) == ArrayRef<int64_t>{1, 0};
      if (weight && swaps && r.shapes->rank(op.getOperand(0)) == 2)
        with = r.transposedWeight(weight, r.at(&op));
    }
    if (with)
      r.replace(result, with);
  }
}

/// scale * (code - zero) of stored 8-bit codes, as [out, in]. `axis` of the
/// node's weight [in, out] is the one that scales go along; `isOutIn`: the
/// weight lies as [out, in] already.
static Value assembleDequantized(Recognizer &r, Operation *op, bool isOutIn) {
  auto codes = op->getOperand(0).getDefiningOp<qn::WeightOp>();
  auto scales = op->getOperand(1).getDefiningOp<qn::WeightOp>();
  Value zeroValue = getOperand(op, 2);
  auto zeros =
      zeroValue ? zeroValue.getDefiningOp<qn::WeightOp>() : qn::WeightOp();
  if (!codes || !scales || (zeroValue && !zeros))
    return {};
  auto type = cast<RankedTensorType>(codes.getType());
  auto scaleType = cast<RankedTensorType>(scales.getType());
  if (type.getRank() != 2 || type.getElementTypeBitWidth() != 8 ||
      !type.getElementType().isInteger() ||
      (zeros && cast<RankedTensorType>(zeros.getType()).getShape() !=
                    scaleType.getShape()))
    return {};
  // Unsigned codes without a zero point count from 0, not from the middle.
  if (type.getElementType().isUnsignedInteger() && !zeros)
    return {};
  int64_t out = type.getDimSize(isOutIn ? 0 : 1);
  int64_t in = type.getDimSize(isOutIn ? 1 : 0);
  int64_t axis = getInt(op, "axis", 1), block = getInt(op, "block_size", 0);
  axis = axis < 0 ? axis + 2 : axis;
  bool alongIn = axis == (isOutIn ? 1 : 0);
  int64_t group = in;
  bool turn = false;
  if (block > 0) {
    if (!alongIn || scaleType.getRank() != 2)
      return {};
    group = block;
    turn = !isOutIn;
  } else if (scaleType.getNumElements() != 1) {
    if (alongIn || scaleType.getRank() != 1 ||
        scaleType.getNumElements() != out)
      return {};
  }
  Location loc = r.at(op);
  auto turned = [&](qn::WeightOp weight) -> Value {
    return turn ? r.transposedWeight(weight, loc) : weight.getResult();
  };
  Value c = isOutIn ? codes.getResult() : r.transposedWeight(codes, loc);
  auto resultType =
      RankedTensorType::get({out, in}, r.elementType(op->getResult(0)));
  return qn::AssembleOp::create(r.builder, loc, resultType, c, turned(scales),
                                zeros ? turned(zeros) : Value(), 8, group,
                                DenseF32ArrayAttr());
}

/// The constant factor of a product as [out, in]; null if it is none.
static Value outIn(Recognizer &r, Value value, bool isOutIn, Operation *user) {
  if (Operation *op = definedBy(value, "DequantizeLinear"))
    return assembleDequantized(r, op, isOutIn);
  auto weight = value.getDefiningOp<qn::WeightOp>();
  if (!weight || r.shapes->rank(value) != 2 ||
      !isa<FloatType>(r.elementType(value)))
    return {};
  return isOutIn ? value : r.transposedWeight(weight, r.at(user));
}

/// The zero point that MatMulNBits means without a tensor of them: the middle,
/// packed as theirs are. One initializer for each size.
static Value middleZeros(Recognizer &r, Location loc, int64_t n, int64_t groups,
                         int64_t bits) {
  auto module = r.function->getParentOfType<ModuleOp>();
  Builder b(module.getContext());
  int64_t perByte = 8 / bits, bytes = (groups + perByte - 1) / perByte;
  unsigned byte = 0;
  for (int64_t i = 0; i < std::min(perByte, groups); ++i)
    byte |= (1u << (bits - 1)) << (i * bits);
  auto type = RankedTensorType::get(
      {n, bytes},
      IntegerType::get(module.getContext(), 8, IntegerType::Unsigned));
  auto zeros = DenseElementsAttr::get(type, APInt(8, byte));
  std::string name = ("quench.zero_points." + Twine(bits) + "x" + Twine(n) +
                      "x" + Twine(groups))
                         .str();
  auto init = module.lookupSymbol<qn::InitializerOp>(name);
  if (!init) {
    OpBuilder builder(r.function);
    init = qn::InitializerOp::create(builder, r.function.getLoc(),
                                     b.getStringAttr(name), TypeAttr::get(type),
                                     zeros, StringAttr());
    r.pool.add(init);
  }
  return qn::WeightOp::create(r.builder, loc, type, name, false);
}

/// Codes as MatMulNBits stores them: B [N, blocks, block bytes] of uint8, low
/// bits first.
static Value assembleNBits(Recognizer &r, Operation *op) {
  Value codes = getOperand(op, 1), scales = getOperand(op, 2),
        zeros = getOperand(op, 3);
  int64_t n = getInt(op, "N", 0), k = getInt(op, "K", 0),
          bits = getInt(op, "bits", 4), block = getInt(op, "block_size", 0);
  bool good = (bits == 2 || bits == 4 || bits == 8) && n > 0 && k > 0 &&
              block >= 16 && block <= (1 << 20) && codes && scales &&
              !getOperand(op, 4) && r.pool.initializer(codes) &&
              r.pool.initializer(scales) &&
              (!zeros || r.pool.initializer(zeros));
  if (!good)
    return {};
  int64_t groups = (k + block - 1) / block;
  auto count = [](Value v) {
    return cast<RankedTensorType>(v.getType()).getNumElements();
  };
  int64_t zeroBytes = (groups * bits + 7) / 8;
  bool zerosFit = !zeros || count(zeros) == (r.elementType(zeros).isInteger(8)
                                                 ? n * zeroBytes
                                                 : n * groups);
  if (count(codes) != n * groups * (block * bits / 8) ||
      count(scales) != n * groups || !zerosFit)
    return {};
  Location loc = r.at(op);
  if (!zeros)
    zeros = middleZeros(r, loc, n, groups, bits);
  auto type = RankedTensorType::get({n, k}, r.elementType(op->getResult(0)));
  return qn::AssembleOp::create(r.builder, loc, type, codes, scales, zeros,
                                bits, block, DenseF32ArrayAttr());
}

/// Codes as MatMulBnb4 stores them: B of uint8, two codes a byte, the whole
/// weight [N, K] cut into blocks. Supported where blocks are parts of rows.
static Value assembleBnb4(Recognizer &r, Operation *op) {
  // The levels of bitsandbytes, by code: its 4-bit floats, then NF4.
  static const float tables[2][16] = {
      {0.0f, 1.0f / 192, 2.0f / 3, 1.0f, 1.0f / 3, 0.5f, 1.0f / 6, 0.25f, 0.0f,
       -1.0f / 192, -2.0f / 3, -1.0f, -1.0f / 3, -0.5f, -1.0f / 6, -0.25f},
      {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
       -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f,
       0.0f, 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f,
       0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,
       0.7229568362236023f, 1.0f}};
  Value codes = getOperand(op, 1), scales = getOperand(op, 2);
  int64_t n = getInt(op, "N", 0), k = getInt(op, "K", 0),
          block = getInt(op, "block_size", 0),
          type = getInt(op, "quant_type", 1);
  if (n <= 0 || k <= 0 || block < 16 || block % 2 || k % block ||
      (type != 0 && type != 1) || getInt(op, "transB", 1) != 1 || !codes ||
      !scales || !r.pool.initializer(codes) || !r.pool.initializer(scales))
    return {};
  auto count = [](Value v) {
    return cast<RankedTensorType>(v.getType()).getNumElements();
  };
  if (count(codes) != n * k / 2 || count(scales) != n * k / block)
    return {};
  auto result = RankedTensorType::get({n, k}, r.elementType(op->getResult(0)));
  return qn::AssembleOp::create(r.builder, r.at(op), result, codes, scales,
                                Value(), 4, block,
                                r.builder.getDenseF32ArrayAttr(tables[type]));
}

//===----------------------------------------------------------------------===//
// Layers
//===----------------------------------------------------------------------===//

static void linear(Recognizer &r, Operation *op, Value input, Value weight,
                   Value bias) {
  Location loc = r.at(op);
  Value result = op->getResult(0);
  if (!bias) {
    Operation *add = r.onlyUser(result);
    if (add && kindOf(add) == "Add") {
      Value other = r.otherOperand(add, result);
      if (other && r.isVector(other, r.shapes->dim(result, -1))) {
        bias = other;
        result = add->getResult(0);
        r.at(add); // the bias may stand behind the product
      }
    }
  }
  Value value = qn::LinearOp::create(r.builder, loc, r.typeOf(result), input,
                                     weight, bias, StringAttr(), IntegerAttr());
  r.replace(result, value);
}

void quench::onnx_to_quench::recognizeLinears(Recognizer &r) {
  r.refresh();
  for (Operation &op :
       llvm::make_early_inc_range(r.function.getBody().front())) {
    StringRef kind = kindOf(&op);
    if (op.getNumResults() == 0 || !r.shapes->get(op.getResult(0)))
      continue;
    if (kind == "MatMul") {
      if (r.shapes->rank(op.getOperand(0)) >= 2)
        if (Value weight = outIn(r, op.getOperand(1), false, &op))
          linear(r, &op, op.getOperand(0), weight, Value());
    } else if (kind == "Gemm") {
      Value bias = getOperand(&op, 2);
      if (getInt(&op, "transA", 0) || getFloat(&op, "alpha", 1) != 1 ||
          (bias && (getFloat(&op, "beta", 1) != 1 ||
                    !r.isVector(bias, r.shapes->dim(op.getResult(0), 1)))))
        continue;
      if (Value weight =
              outIn(r, op.getOperand(1), getInt(&op, "transB", 0), &op))
        linear(r, &op, op.getOperand(0), weight, bias);
    } else if (kind == "com.microsoft.MatMulNBits") {
      Value bias = getOperand(&op, 5);
      if (bias && !r.isVector(bias, r.shapes->dim(op.getResult(0), -1)))
        continue;
      if (Value weight = assembleNBits(r, &op))
        linear(r, &op, op.getOperand(0), weight, bias);
    } else if (kind == "com.microsoft.MatMulBnb4") {
      if (Value weight = assembleBnb4(r, &op))
        linear(r, &op, op.getOperand(0), weight, Value());
    }
  }
}

void quench::onnx_to_quench::recognizeEmbeddings(Recognizer &r) {
  r.refresh();
  for (Operation &op :
       llvm::make_early_inc_range(r.function.getBody().front())) {
    if (kindOf(&op) != "Gather" || getInt(&op, "axis", 0) != 0 ||
        !r.shapes->get(op.getResult(0)))
      continue;
    Value table = op.getOperand(0), ids = op.getOperand(1);
    if (!r.pool.initializer(table) || r.shapes->rank(table) != 2 ||
        !isa<FloatType>(r.elementType(table)) || r.pool.isConstant(ids) ||
        !r.elementType(ids).isInteger())
      continue;
    // Positions that are counted up stay inside of their table.
    auto axes = llvm::to_vector(llvm::seq<int64_t>(0, r.shapes->rank(ids)));
    if (auto iota = matchIota(r, ids, axes, axes.size())) {
      Dim end = iota->constant + Dim(1);
      for (auto [axis, step] : llvm::enumerate(iota->coefficients))
        end = end + (r.shapes->dim(ids, axis) - Dim(1)) * Dim(step);
      addLimit(r.function, r.names, end, *r.shapes->dim(table, 0).constant());
    }
    Location loc = r.at(&op);
    Value value = qn::EmbeddingOp::create(
        r.builder, loc, r.typeOf(op.getResult(0)), ids, table);
    r.replace(op.getResult(0), value);
  }
}
