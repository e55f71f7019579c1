//===- Reader.cpp - Reads and checks ONNX models --------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Compiled with exceptions: ONNX's library reports by throwing. Everything is
// caught here.
//
//===----------------------------------------------------------------------===//

#include "Reader.h"
#include "onnx/checker.h"
#include "onnx/defs/parser.h"
#include "onnx/inliner/inliner.h"
#include "quench/Dialect/ONNX/IR/Schema.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/MathExtras.h"
#include <exception>

using namespace quench;
using llvm::ArrayRef;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

/// Nodes that a model may have after its local functions are inlined.
static constexpr uint64_t kMaxInlinedNodes = 1 << 20;

static std::string functionKey(StringRef domain, StringRef name,
                               StringRef overload) {
  return (domain + "\n" + name + "\n" + overload).str();
}

namespace {
/// Counts what inlining makes of a list of nodes; the call graph has no cycles.
class InlinedSize {
public:
  explicit InlinedSize(const ::onnx::ModelProto &model) {
    for (const auto &function : model.functions())
      functions[functionKey(function.domain(), function.name(),
                            function.overload())] = &function;
  }
  uint64_t
  count(const google::protobuf::RepeatedPtrField<::onnx::NodeProto> &nodes) {
    uint64_t total = 0;
    for (const auto &node : nodes) {
      total = llvm::SaturatingAdd<uint64_t>(total, 1);
      auto it = functions.find(
          functionKey(node.domain(), node.op_type(), node.overload()));
      if (it != functions.end())
        total = llvm::SaturatingAdd(total, count(*it->second));
      for (const auto &attribute : node.attribute()) {
        if (attribute.has_g())
          total = llvm::SaturatingAdd(total, count(attribute.g().node()));
        for (const auto &graph : attribute.graphs())
          total = llvm::SaturatingAdd(total, count(graph.node()));
      }
    }
    return total;
  }

private:
  uint64_t count(const ::onnx::FunctionProto &function) {
    auto known = sizes.find(&function);
    if (known != sizes.end())
      return known->second;
    uint64_t size = count(function.node());
    sizes[&function] = size;
    return size;
  }
  llvm::StringMap<const ::onnx::FunctionProto *> functions;
  llvm::DenseMap<const ::onnx::FunctionProto *, uint64_t> sizes;
};
} // namespace

static Error inlineFunctions(::onnx::ModelProto &model) {
  if (model.functions_size() == 0)
    return Error::success();
  try {
    ::onnx::checker::check_function_call_cycles(model);
    if (InlinedSize(model).count(model.graph().node()) > kMaxInlinedNodes)
      return modelError("the model has more than " +
                        llvm::Twine(kMaxInlinedNodes) +
                        " nodes when its functions are inlined");
    ::onnx::inliner::InlineLocalFunctions(model, /*convert_version=*/false);
  } catch (const std::exception &error) {
    return modelError("the model's functions cannot be inlined: " +
                      StringRef(error.what()).trim());
  }
  return Error::success();
}

Expected<std::unique_ptr<LoadedModel>>
quench::readModel(ArrayRef<char> bytes, ModelFiles &files, uint64_t threshold) {
  onnx::registerSchemas();
  Expected<SkimmedModel> skimmed = skimModel(bytes, threshold);
  if (!skimmed)
    return skimmed.takeError();
  auto model = std::make_unique<LoadedModel>();
  model->blobs = std::move(skimmed->blobs);
  try {
    if (!model->proto.ParseFromArray(skimmed->proto.data(),
                                     static_cast<int>(skimmed->proto.size())))
      return modelError("this is not an ONNX model");
  } catch (const std::exception &error) {
    return modelError(llvm::Twine("this is not an ONNX model: ") +
                      error.what());
  }
  skimmed->proto = std::string();

  if (Error error = checkHeader(*model))
    return std::move(error);
  if (Error error = inlineFunctions(model->proto))
    return std::move(error);
  for (auto step : {checkNames, checkSignature, checkNodes})
    if (Error error = step(*model))
      return std::move(error);
  if (Error error = loadSmallTensors(*model, files))
    return std::move(error);
  if (Error error = inferShapes(*model))
    return std::move(error);
  if (Error error = checkTypes(*model))
    return std::move(error);
  return std::move(model);
}

Expected<std::string> quench::parseModelText(StringRef text) {
  try {
    ::onnx::ModelProto model;
    ::onnx::Common::Status status =
        ::onnx::OnnxParser::Parse(model, std::string_view(text));
    if (!status.IsOK())
      return modelError("the text is not an ONNX model: " +
                        StringRef(status.ErrorMessage()).trim());
    return model.SerializeAsString();
  } catch (const std::exception &error) {
    return modelError(llvm::Twine("the text is not an ONNX model: ") +
                      error.what());
  }
}
