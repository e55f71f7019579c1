//===- Contrib.cpp - Attention ops of ONNX Runtime --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// GroupQueryAttention, MultiHeadAttention and RotaryEmbedding of the domain
// com.microsoft, as ONNX Runtime's page docs/ContribOperators.md defines them.
//
//===----------------------------------------------------------------------===//

#include "Recognizer.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "quench/Dialect/ONNX/IR/ONNX.h"
#include <cmath>

using namespace mlir;
using namespace quench;
using namespace quench::onnx_to_quench;

/// Frequencies of two stored tables [positions, n].
static std::optional<std::vector<float>>
tableFrequencies(Recognizer &r, Value cos, Value sin) {
  constexpr int64_t kLimit = int64_t(1) << 26;
  if (!cos || !sin || r.shapes->rank(cos) != 2 || r.shapes->rank(sin) != 2)
    return std::nullopt;
  auto rows = r.shapes->dim(cos, 0).constant();
  auto n = r.shapes->dim(cos, 1).constant();
  auto c = r.pool.numbers(cos, kLimit), s = r.pool.numbers(sin, kLimit);
  if (!rows || !n || !c || !s)
    return std::nullopt;
  return fitFrequencies(*c, *s, *rows, *n);
}

namespace {
class ContribMatcher {
public:
  explicit ContribMatcher(Recognizer &r) : r(r) {}
  void groupQuery(Operation *op);
  void multiHead(Operation *op);
  void rotaryOp(Operation *op);

private:
  const std::optional<std::vector<float>> &frequencies(Value cos, Value sin) {
    auto key =
        std::make_pair(cos.getAsOpaquePointer(), sin.getAsOpaquePointer());
    auto it = cache.find(key);
    if (it == cache.end())
      it = cache.emplace(key, tableFrequencies(r, cos, sin)).first;
    return it->second;
  }
  Value rotary(Location loc, Value rows, Value positions, int64_t size,
               ArrayRef<float> frequencies, bool adjacent);
  Value extend(Location loc, Value past, Value rows, Value present);
  /// Columns [from, from + size) of rows.
  Value columns(Location loc, Value rows, int64_t from, int64_t size);

  Recognizer &r;
  std::map<std::pair<void *, void *>, std::optional<std::vector<float>>> cache;
};
} // namespace

Value ContribMatcher::rotary(Location loc, Value rows, Value positions,
                             int64_t size, ArrayRef<float> frequencies,
                             bool adjacent) {
  Value value =
      qn::RotaryOp::create(
          r.builder, loc, r.typeOf(rows), rows, positions,
          /*table=*/Value(), /*out=*/Value(), r.builder.getI64IntegerAttr(size),
          r.builder.getDenseF32ArrayAttr(frequencies),
          r.builder.getStringAttr(adjacent ? "adjacent" : "half"))
          .getResult();
  r.shapes->set(value, Dims(*r.shapes->get(rows)));
  return value;
}

Value ContribMatcher::extend(Location loc, Value past, Value rows,
                             Value present) {
  Dims dims = *r.shapes->get(past);
  dims[2] = dims[2] + r.shapes->dim(rows, 1);
  Value value = qn::ExtendOp::create(
                    r.builder, loc, r.shapes->typeOf(dims, r.elementType(past)),
                    past, rows,
                    /*out=*/Value())
                    .getResult();
  r.shapes->set(value, dims);
  if (present)
    r.replace(present, value);
  return value;
}

Value ContribMatcher::columns(Location loc, Value rows, int64_t from,
                              int64_t size) {
  Dims dims = *r.shapes->get(rows);
  dims[2] = Dim(size);
  Block *entry = &r.function.getBody().front();
  SmallVector<OpFoldResult> offsets(3, r.builder.getIndexAttr(0)), sizes,
      strides(3, r.builder.getIndexAttr(1));
  SmallVector<Attribute> texts;
  offsets[2] = r.builder.getIndexAttr(from);
  for (const Dim &dim : dims) {
    if (auto constant = r.names.resolve(dim).constant())
      sizes.push_back(r.builder.getIndexAttr(*constant));
    else
      sizes.push_back(r.names.materialize(entry, dim));
    texts.push_back(r.builder.getStringAttr(r.names.print(dim)));
  }
  auto slice = tensor::ExtractSliceOp::create(
      r.builder, loc, r.shapes->typeOf(dims, r.elementType(rows)), rows,
      offsets, sizes, strides);
  slice->setAttr(kDimsAttr, r.builder.getArrayAttr(texts));
  r.shapes->set(slice, dims);
  return slice;
}

static bool used(Operation *op, unsigned result) {
  return result < op->getNumResults() && !op->getResult(result).use_empty();
}

void ContribMatcher::groupQuery(Operation *op) {
  int64_t heads = getInt(op, "num_heads", 0),
          kvHeads = getInt(op, "kv_num_heads", 0);
  auto width = r.shapes->dim(op->getResult(0), 2).constant();
  Value query = op->getOperand(0), key = getOperand(op, 1),
        value = getOperand(op, 2), pastKey = getOperand(op, 3),
        pastValue = getOperand(op, 4);
  if (heads <= 0 || kvHeads <= 0 || heads % kvHeads || !width ||
      *width % heads || !key != !value || !pastKey != !pastValue)
    return;
  // Bias, sinks and smoothed softmax change the result.
  if (getOperand(op, 10) || getOperand(op, 11) ||
      getInt(op, "smooth_softmax", 0) > 0)
    return;
  if (!pastKey && (used(op, 1) || used(op, 2)))
    return;
  int64_t size = *width / heads;
  Location loc = r.at(op);
  bool doRotary = getInt(op, "do_rotary", 0);
  std::optional<std::vector<float>> freq;
  if (doRotary) {
    freq = frequencies(getOperand(op, 7), getOperand(op, 8));
    if (!freq)
      return;
  }
  if (!key) {
    key = columns(loc, query, *width, size * kvHeads);
    value = columns(loc, query, *width + size * kvHeads, size * kvHeads);
    query = columns(loc, query, 0, *width);
  }
  if (doRotary) {
    Value positions = getOperand(op, 9);
    if (!positions) {
      Dim first = pastKey ? r.shapes->dim(pastKey, 2) : Dim(0);
      positions = r.positions(first, r.shapes->dim(query, 1));
    }
    bool adjacent = getInt(op, "rotary_interleaved", 0);
    query = rotary(loc, query, positions, size, *freq, adjacent);
    key = rotary(loc, key, positions, size, *freq, adjacent);
  }
  auto present = [&](unsigned i) {
    return i < op->getNumResults() ? op->getResult(i) : Value();
  };
  if (pastKey) {
    key = extend(loc, pastKey, key, present(1));
    value = extend(loc, pastValue, value, present(2));
  }
  double scale = getFloat(op, "scale", 0);
  if (scale == 0)
    scale = 1.0 / std::sqrt(double(size));
  // A window of w sees w positions before its own one.
  int64_t window = getInt(op, "local_window_size", -1);
  double cap = getFloat(op, "softcap", 0);
  auto attention = qn::AttentionOp::create(
      r.builder, loc, r.typeOf(op->getResult(0)), query, key, value,
      /*keep=*/Value(), /*bias=*/Value(), /*length=*/Value(), /*out=*/Value(),
      heads, kvHeads, APFloat(float(scale)), /*causal=*/true,
      window >= 0 ? r.builder.getI64IntegerAttr(window + 1) : IntegerAttr(),
      cap != 0 ? r.builder.getF32FloatAttr(cap) : FloatAttr());
  r.replace(op->getResult(0), attention.getResult());
}

void ContribMatcher::multiHead(Operation *op) {
  int64_t heads = getInt(op, "num_heads", 0);
  Value query = op->getOperand(0), key = getOperand(op, 1),
        value = getOperand(op, 2), keep = getOperand(op, 4),
        bias = getOperand(op, 5), pastKey = getOperand(op, 6),
        pastValue = getOperand(op, 7);
  auto isRows = [&](Value v) {
    auto width = v && r.shapes->rank(v) == 3 ? r.shapes->dim(v, 2).constant()
                                             : std::nullopt;
    return width && heads > 0 && *width % heads == 0;
  };
  if (!isRows(query) || !isRows(key) || !isRows(value) || getOperand(op, 3) ||
      !pastKey != !pastValue || (bias && r.shapes->rank(bias) != 4) ||
      (keep && r.shapes->rank(keep) != 2) ||
      (!pastKey && (used(op, 1) || used(op, 2))))
    return;
  Location loc = r.at(op);
  double scale = getFloat(op, "scale", 0);
  if (scale == 0)
    scale = 1.0 / std::sqrt(double(*r.shapes->dim(query, 2).constant()) /
                            double(heads));
  auto present = [&](unsigned i) {
    return i < op->getNumResults() ? op->getResult(i) : Value();
  };
  if (pastKey) {
    key = extend(loc, pastKey, key, present(1));
    value = extend(loc, pastValue, value, present(2));
  }
  auto attention = qn::AttentionOp::create(
      r.builder, loc, r.typeOf(op->getResult(0)), query, key, value, keep, bias,
      /*length=*/Value(), /*out=*/Value(), heads, heads, APFloat(float(scale)),
      getInt(op, "unidirectional", 0) != 0, IntegerAttr(), FloatAttr());
  r.replace(op->getResult(0), attention.getResult());
}

void ContribMatcher::rotaryOp(Operation *op) {
  Value rows = op->getOperand(0), positions = getOperand(op, 1);
  auto width = r.shapes->dim(rows, -1).constant();
  if (r.shapes->rank(rows) != 3 || !width || !positions ||
      r.shapes->rank(positions) != 2 ||
      !r.elementType(positions).isInteger(64) ||
      getInt(op, "is_packed_batching", 0) || getFloat(op, "scale", 1) != 1)
    return;
  const auto &freq = frequencies(getOperand(op, 2), getOperand(op, 3));
  if (!freq)
    return;
  int64_t heads = getInt(op, "num_heads", 0);
  int64_t size = heads > 0 ? *width / heads : 2 * int64_t(freq->size());
  if (size <= 0 || *width % size || int64_t(freq->size()) * 2 > size)
    return;
  Location loc = r.at(op);
  r.replace(op->getResult(0), rotary(loc, rows, positions, size, *freq,
                                     getInt(op, "interleaved", 0)));
}

void quench::onnx_to_quench::recognizeContrib(Recognizer &r) {
  r.refresh();
  ContribMatcher matcher(r);
  for (Operation &op :
       llvm::make_early_inc_range(r.function.getBody().front())) {
    StringRef kind = kindOf(&op);
    if (!kind.starts_with("com.microsoft.") || op.getNumResults() == 0 ||
        !r.shapes->get(op.getResult(0)))
      continue;
    if (kind == "com.microsoft.GroupQueryAttention")
      matcher.groupQuery(&op);
    else if (kind == "com.microsoft.MultiHeadAttention")
      matcher.multiHead(&op);
    else if (kind == "com.microsoft.RotaryEmbedding")
      matcher.rotaryOp(&op);
  }
}
