//===- Inference.cpp - Types and shapes of a model's values ---------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// ONNX's library infers; the schemas it uses are wrapped here, so that a
// hostile model cannot make it build lists as long as a tensor's declared
// dimension.
//
// Compiled with exceptions: ONNX's library reports by throwing. Everything is
// caught here.
//
//===----------------------------------------------------------------------===//

#include "Reader.h"
#include "onnx/defs/schema.h"
#include "onnx/shape_inference/implementation.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include <exception>
#include <map>
#include <mutex>

using namespace quench;
using llvm::Error;
using llvm::StringRef;
using ::onnx::DataPropagationContext;
using ::onnx::InferenceError;
using ::onnx::OpSchema;

/// Values of vectors longer than this are not followed: no shape is so long.
static constexpr int64_t kMaxShapeValues = 1024;

/// Whether a value may stand for a shape or a part of one.
static bool canBeShape(const ::onnx::TypeProto *type) {
  if (!type || !type->has_tensor_type() || !type->tensor_type().has_shape())
    return true; // the library does not expand it
  const auto &shape = type->tensor_type().shape();
  return shape.dim_size() != 1 || !shape.dim(0).has_dim_value() ||
         shape.dim(0).dim_value() <= kMaxShapeValues;
}

/// Whether a text is a term of Einsum's equation: letters, one ellipsis.
static bool isEinsumTerm(StringRef term) {
  auto [head, tail] = term.split("...");
  return llvm::all_of(head, llvm::isAlpha) && llvm::all_of(tail, llvm::isAlpha);
}

/// Whether a text is an equation for Einsum: terms,terms->term.
static bool isEquation(StringRef text) {
  std::string dense = text.str();
  llvm::erase(dense, ' ');
  auto [left, right] = StringRef(dense).split("->");
  llvm::SmallVector<StringRef> terms;
  left.split(terms, ',');
  return llvm::all_of(terms, isEinsumTerm) && isEinsumTerm(right);
}

/// Throws if an attribute is so far out of range that the library's inference
/// would index or allocate by it unchecked.
static void checkAttributes(::onnx::InferenceContext &context) {
  int64_t outputs = static_cast<int64_t>(context.getNumOutputs());
  const struct {
    const char *name;
    int64_t least, most;
  } ranges[] = {{"axis", -64, 64},
                {"batch_dims", 0, 64},
                {"num_outputs", outputs, outputs}};
  for (const auto &range : ranges) {
    const ::onnx::AttributeProto *attribute = context.getAttribute(range.name);
    if (attribute &&
        (attribute->i() < range.least || attribute->i() > range.most))
      fail_shape_inference("attribute '", range.name, "' is ", attribute->i(),
                           ", which is out of range");
  }
  const ::onnx::AttributeProto *equation = context.getAttribute("equation");
  if (equation && !isEquation(equation->s()))
    fail_shape_inference("attribute 'equation' is not one: '", equation->s(),
                         "'");
}

/// Throws if a shape cannot be that of a tensor; the library computes with
/// shapes unchecked.
static void checkShape(const ::onnx::TypeProto *type) {
  if (!type || !type->has_tensor_type() || !type->tensor_type().has_shape())
    return;
  const auto &shape = type->tensor_type().shape();
  if (shape.dim_size() > 32)
    fail_shape_inference("a tensor has ", shape.dim_size(),
                         " dimensions; at most 32 are supported");
  for (const auto &dim : shape.dim())
    if (dim.has_dim_value() &&
        (dim.dim_value() < 0 || dim.dim_value() > (int64_t(1) << 57)))
      fail_shape_inference("a dimension is ", dim.dim_value());
}

namespace {
/// ONNX's schemas with guards around their functions. Schemas live as long as
/// the process, as the registry's own do.
class GuardedRegistry : public ::onnx::ISchemaRegistry {
public:
  const OpSchema *GetSchema(const std::string &key, int maxInclusiveVersion,
                            const std::string &domain) const override {
    const OpSchema *schema = ::onnx::OpSchemaRegistry::Instance()->GetSchema(
        key, maxInclusiveVersion, domain);
    if (!schema)
      return schema;
    std::lock_guard<std::mutex> guard(lock);
    auto it = guarded.find(schema);
    if (it == guarded.end())
      it = guarded.emplace(schema, wrap(*schema)).first;
    return &it->second;
  }

private:
  static OpSchema wrap(const OpSchema &schema) {
    OpSchema copy = schema;
    if (schema.has_type_and_shape_inference_function()) {
      auto infer = schema.GetTypeAndShapeInferenceFunction();
      copy.TypeAndShapeInferenceFunction(
          [infer](::onnx::InferenceContext &context) {
            checkAttributes(context);
            for (size_t i = 0, e = context.getNumInputs(); i < e; ++i)
              checkShape(context.getInputType(i));
            infer(context);
            for (size_t i = 0, e = context.getNumOutputs(); i < e; ++i)
              checkShape(context.getOutputType(i));
          });
    }
    if (schema.has_data_propagation_function()) {
      auto propagate = schema.GetDataPropagationFunction();
      copy.PartialDataPropagationFunction(
          [propagate](DataPropagationContext &context) {
            for (size_t i = 0, e = context.getNumInputs(); i < e; ++i)
              if (!canBeShape(context.getInputType(i)))
                return;
            for (size_t i = 0, e = context.getNumOutputs(); i < e; ++i)
              if (!canBeShape(context.getOutputType(i)))
                return;
            propagate(context);
          });
    }
    return copy;
  }

  mutable std::mutex lock;
  mutable std::map<const OpSchema *, OpSchema> guarded;
};
} // namespace

static Error infer(::onnx::ModelProto &model) {
  static const GuardedRegistry registry;
  ::onnx::ShapeInferenceOptions options(/*check_type=*/true,
                                        /*strict_mode=*/1,
                                        /*data_prop=*/true);
  ::onnx::shape_inference::DataValueMap values;
  try {
    ::onnx::shape_inference::InferShapes(model, &registry, options, &values);
  } catch (const std::exception &error) {
    return modelError("the types and shapes of the model's values contradict "
                      "each other or cannot be inferred: " +
                      StringRef(error.what()).trim());
  }
  return Error::success();
}

Error quench::inferShapes(LoadedModel &model) {
  ::onnx::ModelProto first = model.proto;
  Error error = infer(first);
  if (!error) {
    model.proto.Swap(&first);
    return Error::success();
  }
  if (model.proto.graph().value_info_size() == 0)
    return error;
  llvm::consumeError(std::move(error));
  model.proto.mutable_graph()->clear_value_info();
  return infer(model.proto);
}
