//===- ContribSchemas.cpp - Contributed operators -------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Inputs, outputs, attributes and shapes of the contributed operators, from
// ONNX Runtime's page docs/ContribOperators.md. Element types are checked by
// the conversion, not here.
//
//===----------------------------------------------------------------------===//

#include "ContribSchemas.h"
#include "onnx/defs/schema.h"
#include "onnx/defs/shape_inference.h"

using namespace quench::onnx;
using ::onnx::AttributeProto;
using ::onnx::InferenceContext;
using ::onnx::OpSchema;
using ::onnx::TensorShapeProto;

namespace {

constexpr OpSchema::FormalParameterOption kOptional = OpSchema::Optional;

/// A schema that grows by calls; every value has its own type variable, so that
/// element types are free.
struct Op {
  OpSchema schema;
  int inputs = 0, outputs = 0;

  explicit Op(const char *name, const char *domain = "com.microsoft")
      : schema(name, __FILE__, __LINE__) {
    schema.SetDomain(domain).SinceVersion(1);
  }
  /// A type variable of its own.
  std::string anyType(const char *prefix, int number) {
    std::string variable = prefix + std::to_string(number);
    schema.TypeConstraint(variable, OpSchema::all_tensor_types_ir4(), "");
    return variable;
  }
  Op &in(const char *name, bool optional = false) {
    schema.Input(inputs, name, "", anyType("I", inputs),
                 optional ? kOptional : OpSchema::Single, false);
    ++inputs;
    return *this;
  }
  Op &out(const char *name, bool optional = false) {
    schema.Output(outputs, name, "", anyType("O", outputs),
                  optional ? kOptional : OpSchema::Single, false);
    ++outputs;
    return *this;
  }
  Op &attr(const char *name, AttributeProto::AttributeType type,
           bool required = false) {
    schema.Attr(name, "", type, required);
    return *this;
  }
  Op &ints(std::initializer_list<const char *> names) {
    for (const char *name : names)
      attr(name, AttributeProto::INT);
    return *this;
  }
  Op &floats(std::initializer_list<const char *> names) {
    for (const char *name : names)
      attr(name, AttributeProto::FLOAT);
    return *this;
  }
  void infer(void (*fn)(InferenceContext &)) {
    schema.TypeAndShapeInferenceFunction(fn);
    ::onnx::RegisterSchema(std::move(schema), 0, /*fail_duplicate_schema=*/true,
                           /*fail_with_exception=*/true);
  }
};

bool hasInput(InferenceContext &ctx, size_t n) {
  return n < ctx.getNumInputs() && ctx.getInputType(n);
}

/// Copies type and shape of input `from` to output `to`, if both are there.
void copy(InferenceContext &ctx, size_t from, size_t to) {
  if (!hasInput(ctx, from) || to >= ctx.getNumOutputs())
    return;
  ::onnx::propagateElemTypeFromInputToOutput(ctx, from, to);
  if (::onnx::hasInputShape(ctx, from))
    ::onnx::propagateShapeFromInputToOutput(ctx, from, to);
}

void sameAsFirst(InferenceContext &ctx) { copy(ctx, 0, 0); }

/// out, mean, inv_std_var, sum of a norm with a skip connection; statistics are
/// f32 of the input's shape with 1 as its last dimension.
void inferSkipNorm(InferenceContext &ctx) {
  copy(ctx, 0, 0);
  for (size_t i : {1, 2}) {
    if (i >= ctx.getNumOutputs())
      break;
    ::onnx::updateOutputElemType(ctx, i, ::onnx::TensorProto::FLOAT);
    if (!::onnx::hasInputShape(ctx, 0) ||
        ::onnx::getInputShape(ctx, 0).dim_size() == 0)
      continue;
    TensorShapeProto shape = ::onnx::getInputShape(ctx, 0);
    shape.mutable_dim(shape.dim_size() - 1)->set_dim_value(1);
    ::onnx::updateOutputShape(ctx, i, shape);
  }
  copy(ctx, 0, 3);
}

void inferSimplifiedNorm(InferenceContext &ctx) {
  copy(ctx, 0, 0);
  if (ctx.getNumOutputs() > 1)
    ::onnx::updateOutputElemType(ctx, 1, ::onnx::TensorProto::FLOAT);
}

/// Y = A B^T: the last dimension becomes N.
void inferMatMulNBits(InferenceContext &ctx) {
  if (!hasInput(ctx, 0))
    return;
  ::onnx::propagateElemTypeFromInputToOutput(ctx, 0, 0);
  if (!::onnx::hasInputShape(ctx, 0) ||
      ::onnx::getInputShape(ctx, 0).dim_size() == 0)
    return;
  TensorShapeProto shape = ::onnx::getInputShape(ctx, 0);
  shape.mutable_dim(shape.dim_size() - 1)
      ->set_dim_value(::onnx::getAttribute(ctx, "N", int64_t(0)));
  ::onnx::updateOutputShape(ctx, 0, shape);
}

/// The caches that come out: the ones that went in with an open length.
void inferPresent(InferenceContext &ctx, size_t past, size_t firstOutput) {
  for (size_t i : {0, 1}) {
    size_t input = past + i, output = firstOutput + i;
    if (output >= ctx.getNumOutputs())
      return;
    if (!hasInput(ctx, input)) {
      ::onnx::propagateElemTypeFromInputToOutput(ctx, 0, output);
      continue;
    }
    ::onnx::propagateElemTypeFromInputToOutput(ctx, input, output);
    if (!::onnx::hasInputShape(ctx, input) ||
        ::onnx::getInputShape(ctx, input).dim_size() != 4)
      continue;
    TensorShapeProto shape = ::onnx::getInputShape(ctx, input);
    shape.mutable_dim(2)->Clear();
    ::onnx::updateOutputShape(ctx, output, shape);
  }
}

/// query: [batch, sequence, heads * size], or with keys and values behind it
/// [batch, sequence, (heads + 2 * kv heads) * size].
void inferGroupQueryAttention(InferenceContext &ctx) {
  inferPresent(ctx, 3, 1);
  if (hasInput(ctx, 1))
    return copy(ctx, 0, 0);
  if (!hasInput(ctx, 0))
    return;
  ::onnx::propagateElemTypeFromInputToOutput(ctx, 0, 0);
  if (!::onnx::hasInputShape(ctx, 0))
    return;
  TensorShapeProto shape = ::onnx::getInputShape(ctx, 0);
  int64_t heads = ::onnx::getAttribute(ctx, "num_heads", int64_t(0));
  int64_t kvHeads = ::onnx::getAttribute(ctx, "kv_num_heads", int64_t(0));
  if (shape.dim_size() != 3 || !shape.dim(2).has_dim_value() || heads <= 0 ||
      kvHeads <= 0 || heads > (1 << 20) || kvHeads > (1 << 20))
    return;
  int64_t size = shape.dim(2).dim_value() / (heads + 2 * kvHeads);
  if (size < 0 || size > (1 << 20))
    return;
  shape.mutable_dim(2)->set_dim_value(size * heads);
  ::onnx::updateOutputShape(ctx, 0, shape);
}

void inferMultiHeadAttention(InferenceContext &ctx) {
  inferPresent(ctx, 6, 1);
  if (!hasInput(ctx, 0))
    return;
  ::onnx::propagateElemTypeFromInputToOutput(ctx, 0, 0);
  if (!::onnx::hasInputShape(ctx, 0) || !hasInput(ctx, 2) ||
      !::onnx::hasInputShape(ctx, 2))
    return;
  TensorShapeProto shape = ::onnx::getInputShape(ctx, 0);
  const TensorShapeProto &value = ::onnx::getInputShape(ctx, 2);
  if (shape.dim_size() != 3 || value.dim_size() != 3)
    return;
  *shape.mutable_dim(2) = value.dim(2);
  ::onnx::updateOutputShape(ctx, 0, shape);
}

/// As MatMul, after exchanging the last two dimensions where asked for.
void inferFusedMatMul(InferenceContext &ctx) {
  if (!hasInput(ctx, 0))
    return;
  ::onnx::propagateElemTypeFromInputToOutput(ctx, 0, 0);
  if (!::onnx::hasNInputShapes(ctx, 2) ||
      ::onnx::getAttribute(ctx, "transBatchA", int64_t(0)) ||
      ::onnx::getAttribute(ctx, "transBatchB", int64_t(0)))
    return;
  TensorShapeProto a = ::onnx::getInputShape(ctx, 0);
  TensorShapeProto b = ::onnx::getInputShape(ctx, 1);
  if (a.dim_size() < 2 || b.dim_size() < 2)
    return;
  if (::onnx::getAttribute(ctx, "transA", int64_t(0)))
    a.mutable_dim()->SwapElements(a.dim_size() - 1, a.dim_size() - 2);
  if (::onnx::getAttribute(ctx, "transB", int64_t(0)))
    b.mutable_dim()->SwapElements(b.dim_size() - 1, b.dim_size() - 2);
  TensorShapeProto batchA, batchB, shape;
  for (int i = 0; i + 2 < a.dim_size(); ++i)
    *batchA.add_dim() = a.dim(i);
  for (int i = 0; i + 2 < b.dim_size(); ++i)
    *batchB.add_dim() = b.dim(i);
  ::onnx::bidirectionalBroadcastShapeInference(batchA, batchB, shape);
  *shape.add_dim() = a.dim(a.dim_size() - 2);
  *shape.add_dim() = b.dim(b.dim_size() - 1);
  ::onnx::updateOutputShape(ctx, 0, shape);
}

void registerAttention() {
  Op("GroupQueryAttention")
      .in("query")
      .in("key", true)
      .in("value", true)
      .in("past_key", true)
      .in("past_value", true)
      .in("seqlens_k")
      .in("total_sequence_length")
      .in("cos_cache", true)
      .in("sin_cache", true)
      .in("position_ids", true)
      .in("attention_bias", true)
      .in("head_sink", true)
      .out("output")
      .out("present_key", true)
      .out("present_value", true)
      .attr("num_heads", AttributeProto::INT, true)
      .attr("kv_num_heads", AttributeProto::INT, true)
      .floats({"scale", "softcap"})
      .ints({"do_rotary", "rotary_interleaved", "local_window_size",
             "smooth_softmax"})
      .infer(inferGroupQueryAttention);
  Op("MultiHeadAttention")
      .in("query")
      .in("key", true)
      .in("value", true)
      .in("bias", true)
      .in("key_padding_mask", true)
      .in("attention_bias", true)
      .in("past_key", true)
      .in("past_value", true)
      .out("output")
      .out("present_key", true)
      .out("present_value", true)
      .attr("num_heads", AttributeProto::INT, true)
      .floats({"scale", "mask_filter_value"})
      .ints({"unidirectional"})
      .infer(inferMultiHeadAttention);
  Op("RotaryEmbedding")
      .in("input")
      .in("position_ids")
      .in("cos_cache")
      .in("sin_cache")
      .out("output")
      .floats({"scale"})
      .ints({"interleaved", "num_heads", "rotary_embedding_dim",
             "is_packed_batching"})
      .infer(sameAsFirst);
}

void registerNorms() {
  Op("SkipSimplifiedLayerNormalization")
      .in("input")
      .in("skip")
      .in("gamma")
      .in("bias", true)
      .out("output")
      .out("mean", true)
      .out("inv_std_var", true)
      .out("input_skip_bias_sum", true)
      .floats({"epsilon"})
      .infer(inferSkipNorm);
  Op("SkipLayerNormalization")
      .in("input")
      .in("skip")
      .in("gamma")
      .in("beta", true)
      .in("bias", true)
      .out("output")
      .out("mean", true)
      .out("inv_std_var", true)
      .out("input_skip_bias_sum", true)
      .floats({"epsilon"})
      .infer(inferSkipNorm);
  Op("SimplifiedLayerNormalization", "")
      .in("X")
      .in("scale")
      .out("Y")
      .out("inv_std_var", true)
      .floats({"epsilon"})
      .ints({"axis", "stash_type"})
      .infer(inferSimplifiedNorm);
}

} // namespace

void quench::onnx::registerContribSchemas() {
  ::onnx::OpSchemaRegistry::DomainToVersionRange::Instance().AddDomainToVersion(
      "com.microsoft", 1, 1);
  Op("MatMulNBits")
      .in("A")
      .in("B")
      .in("scales")
      .in("zero_points", true)
      .in("g_idx", true)
      .in("bias", true)
      .out("Y")
      .attr("K", AttributeProto::INT, true)
      .attr("N", AttributeProto::INT, true)
      .attr("block_size", AttributeProto::INT, true)
      .ints({"bits", "accuracy_level", "weight_prepacked"})
      .infer(inferMatMulNBits);
  Op("MatMulBnb4")
      .in("A")
      .in("B")
      .in("absmax")
      .out("Y")
      .attr("K", AttributeProto::INT, true)
      .attr("N", AttributeProto::INT, true)
      .attr("block_size", AttributeProto::INT, true)
      .attr("quant_type", AttributeProto::INT, true)
      .ints({"training_mode", "transB"})
      .infer(inferMatMulNBits);
  Op("FusedMatMul")
      .in("A")
      .in("B")
      .out("Y")
      .floats({"alpha"})
      .ints({"transA", "transB", "transBatchA", "transBatchB"})
      .infer(inferFusedMatMul);
  Op("Gelu").in("X").out("Y").infer(sameAsFirst);
  Op("FastGelu").in("X").in("bias", true).out("Y").infer(sameAsFirst);
  Op("BiasGelu").in("A").in("B").out("C").infer(sameAsFirst);
  Op("QuickGelu").in("X").out("Y").floats({"alpha"}).infer(sameAsFirst);
  registerAttention();
  registerNorms();
}
