//===- Check.cpp - Checks ONNX models -------------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Reader.h"
#include "quench/Dialect/ONNX/IR/Schema.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/raw_ostream.h"
#include <limits>
#include <queue>

using namespace quench;
using llvm::ArrayRef;
using llvm::Error;
using llvm::SmallVector;
using llvm::StringRef;
using llvm::Twine;
using ::onnx::NodeProto;
using ::onnx::TypeProto;

std::string quench::nodeTitle(const NodeProto &node) {
  if (!node.name().empty())
    return node.name();
  for (const std::string &output : node.output())
    if (!output.empty())
      return "(node of " + output + ")";
  return "(node without a name)";
}

static StringRef canonicalDomain(StringRef domain) {
  return domain == "ai.onnx" ? StringRef() : domain;
}

static std::string domainTitle(StringRef domain) {
  return domain.empty() ? "ai.onnx" : domain.str();
}

Error quench::checkHeader(LoadedModel &model) {
  const ::onnx::ModelProto &proto = model.proto;
  if (!proto.has_ir_version() || !proto.has_graph())
    return modelError("this is not an ONNX model: it has no " +
                      Twine(proto.has_graph() ? "ir_version" : "graph"));
  if (proto.ir_version() < 3 ||
      proto.ir_version() > ::onnx::Version::IR_VERSION)
    return modelError("the model's ir_version is " + Twine(proto.ir_version()) +
                      "; 3 to " + Twine(int(::onnx::Version::IR_VERSION)) +
                      " are supported");
  if (proto.opset_import_size() == 0)
    return modelError("the model imports no operator set");
  for (const auto &import : proto.opset_import()) {
    StringRef domain = canonicalDomain(import.domain());
    if (import.version() < 1 ||
        import.version() > std::numeric_limits<int32_t>::max())
      return modelError("the model imports version " + Twine(import.version()) +
                        " of operator set '" + domainTitle(domain) +
                        "', which does not exist");
    int64_t latest = onnx::latestOpset(domain);
    if (latest != 0 && import.version() > latest)
      return modelError("the model imports version " + Twine(import.version()) +
                        " of operator set '" + domainTitle(domain) +
                        "'; the newest one that is known "
                        "is " +
                        Twine(latest));
    auto [it, isNew] = model.opsets.try_emplace(domain, import.version());
    if (!isNew && it->second != import.version())
      return modelError("the model imports two versions of operator set '" +
                        domainTitle(domain) + "'");
  }
  if (proto.graph().sparse_initializer_size() != 0)
    return modelError(
        "sparse initializers are not supported; the model has " +
        Twine(proto.graph().sparse_initializer_size()) + ", the first is '" +
        proto.graph().sparse_initializer(0).values().name() + "'");
  if (proto.graph().output_size() == 0)
    return modelError("the model's graph has no outputs");
  return Error::success();
}

/// Puts nodes in topological order, as near to the file's as it can be.
/// `producer` has the node of each value.
static Error sortNodes(::onnx::GraphProto &graph,
                       const llvm::StringMap<int> &producer) {
  int count = graph.node_size();
  std::vector<unsigned> waiting(count, 0);
  std::vector<SmallVector<int, 4>> readers(count);
  bool sorted = true;
  for (int i = 0; i < count; ++i)
    for (const std::string &input : graph.node(i).input()) {
      auto it = producer.find(input);
      if (it == producer.end())
        continue;
      sorted &= it->second < i;
      ++waiting[i];
      readers[it->second].push_back(i);
    }
  if (sorted)
    return Error::success();

  std::priority_queue<int, std::vector<int>, std::greater<int>> ready;
  for (int i = 0; i < count; ++i)
    if (waiting[i] == 0)
      ready.push(i);
  std::vector<int> order;
  while (!ready.empty()) {
    int node = ready.top();
    ready.pop();
    order.push_back(node);
    for (int reader : readers[node])
      if (--waiting[reader] == 0)
        ready.push(reader);
  }
  if (static_cast<int>(order.size()) != count) {
    for (int i = 0; i < count; ++i)
      if (waiting[i] != 0)
        return modelError("the graph has a cycle; node '" +
                          nodeTitle(graph.node(i)) + "' is on it or behind it");
  }
  google::protobuf::RepeatedPtrField<NodeProto> nodes;
  nodes.Reserve(count);
  for (int i : order)
    nodes.Add()->Swap(graph.mutable_node(i));
  graph.mutable_node()->Swap(&nodes);
  return Error::success();
}

Error quench::checkNames(LoadedModel &model) {
  ::onnx::GraphProto &graph = *model.proto.mutable_graph();
  llvm::StringSet<> initializers;
  for (const auto &initializer : graph.initializer()) {
    if (initializer.name().empty())
      return modelError("an initializer has no name");
    if (!initializers.insert(initializer.name()).second)
      return modelError("there are two initializers '" + initializer.name() +
                        "'");
  }
  // An input that is also an initializer has a default value; it is a constant
  // here.
  llvm::StringSet<> defined;
  google::protobuf::RepeatedPtrField<::onnx::ValueInfoProto> inputs;
  for (auto &input : *graph.mutable_input()) {
    if (input.name().empty())
      return modelError("an input of the graph has no name");
    if (!defined.insert(input.name()).second)
      return modelError("there are two inputs '" + input.name() + "'");
    if (!initializers.contains(input.name()))
      inputs.Add()->Swap(&input);
  }
  graph.mutable_input()->Swap(&inputs);
  // From version 4 on initializers need not be inputs; inference must know.
  model.proto.set_ir_version(std::max<int64_t>(model.proto.ir_version(), 4));
  for (const auto &entry : initializers)
    defined.insert(entry.first());

  llvm::StringMap<int> producer;
  for (int i = 0; i < graph.node_size(); ++i)
    for (const std::string &output : graph.node(i).output()) {
      if (output.empty())
        continue;
      if (defined.contains(output) || !producer.try_emplace(output, i).second)
        return modelError("two values are called '" + output + "'; node '" +
                          nodeTitle(graph.node(i)) + "' gives one of them");
    }
  for (const NodeProto &node : graph.node())
    for (const std::string &input : node.input())
      if (!input.empty() && !defined.contains(input) &&
          !producer.contains(input))
        return modelError("node '" + nodeTitle(node) + "' reads '" + input +
                          "', which nothing defines");
  llvm::StringSet<> outputs;
  for (const auto &output : graph.output()) {
    if (!defined.contains(output.name()) && !producer.contains(output.name()))
      return modelError("nothing defines the graph's output '" + output.name() +
                        "'");
    if (!outputs.insert(output.name()).second)
      return modelError("there are two outputs '" + output.name() + "'");
  }
  return sortNodes(graph, producer);
}

/// Checks the shape of a value; what is wrong, or an empty string.
static std::string shapeProblem(const ::onnx::TensorShapeProto &shape) {
  if (shape.dim_size() > 32)
    return "has " + std::to_string(shape.dim_size()) +
           " dimensions; at most 32 are supported";
  int64_t product = 1;
  for (const auto &dim : shape.dim()) {
    if (!dim.has_dim_value())
      continue;
    if (dim.dim_value() < 0)
      return "has the negative dimension " + std::to_string(dim.dim_value());
    if (dim.dim_value() != 0 &&
        product > (std::numeric_limits<int64_t>::max() / 64) / dim.dim_value())
      return "has dimensions whose product is too large";
    if (dim.dim_value() != 0)
      product *= dim.dim_value();
  }
  return "";
}

/// What is wrong with the type of a value, or an empty string.
static std::string typeProblem(const TypeProto &type) {
  if (type.has_sequence_type() || type.has_map_type() ||
      type.has_optional_type() || type.has_sparse_tensor_type())
    return "is a sequence, map, optional value or sparse tensor, which are not "
           "supported";
  if (!type.has_tensor_type() || type.tensor_type().elem_type() == 0)
    return "has an element type that cannot be found out";
  if (elementBits(type.tensor_type().elem_type()) == 0)
    return "has the element type " +
           elementTypeName(type.tensor_type().elem_type()) +
           ", which is not supported";
  return shapeProblem(type.tensor_type().shape());
}

/// All names of dimensions in a list of values.
static void collectDims(
    const google::protobuf::RepeatedPtrField<::onnx::ValueInfoProto> &values,
    llvm::StringSet<> &names) {
  for (const auto &value : values)
    for (const auto &dim : value.type().tensor_type().shape().dim())
      if (dim.has_dim_param())
        names.insert(dim.dim_param());
}

Error quench::checkSignature(LoadedModel &model) {
  ::onnx::GraphProto &graph = *model.proto.mutable_graph();
  llvm::StringSet<> names;
  collectDims(graph.input(), names);
  collectDims(graph.output(), names);
  collectDims(graph.value_info(), names);
  for (auto &input : *graph.mutable_input()) {
    std::string problem = typeProblem(input.type());
    if (problem.empty() && !input.type().tensor_type().has_shape())
      problem = "has no shape; a number of dimensions is needed";
    if (!problem.empty())
      return modelError("input '" + input.name() + "' " + problem);
    auto &shape = *input.mutable_type()->mutable_tensor_type()->mutable_shape();
    for (auto [i, dim] : llvm::enumerate(*shape.mutable_dim())) {
      if (dim.has_dim_value() ||
          (dim.has_dim_param() && !dim.dim_param().empty()))
        continue;
      std::string base = input.name() + "_dim" + std::to_string(i);
      std::string fresh = base;
      for (unsigned n = 0; !names.insert(fresh).second; ++n)
        fresh = base + "_" + std::to_string(n);
      dim.set_dim_param(fresh);
    }
  }
  auto check = [](const auto &values, StringRef what) -> Error {
    for (const auto &value : values) {
      if (!value.has_type() || !value.type().has_tensor_type())
        continue;
      std::string problem = shapeProblem(value.type().tensor_type().shape());
      if (!problem.empty())
        return modelError(what + " '" + value.name() + "' " + problem);
    }
    return Error::success();
  };
  if (Error error = check(graph.output(), "output"))
    return error;
  return check(graph.value_info(), "value");
}

/// What is not supported in a node beside its schema, or an empty string.
static std::string nodeProblem(const NodeProto &node) {
  for (const auto &attribute : node.attribute()) {
    if (attribute.has_g() || attribute.graphs_size() != 0 ||
        attribute.type() == ::onnx::AttributeProto::GRAPH ||
        attribute.type() == ::onnx::AttributeProto::GRAPHS)
      return "sub-graphs (attribute '" + attribute.name() +
             "') are not supported";
    switch (attribute.type()) {
    case ::onnx::AttributeProto::SPARSE_TENSOR:
    case ::onnx::AttributeProto::SPARSE_TENSORS:
    case ::onnx::AttributeProto::TYPE_PROTO:
    case ::onnx::AttributeProto::TYPE_PROTOS:
      return "attribute '" + attribute.name() +
             "' is a sparse tensor or a type, which are not supported";
    default:
      break;
    }
    if (!attribute.ref_attr_name().empty())
      return "attribute '" + attribute.name() +
             "' refers to an attribute of a function outside of a function";
  }
  return "";
}

/// Names `nodes` that are not supported, with their reasons, in one error.
static Error
unsupported(const LoadedModel &model,
            ArrayRef<std::pair<const NodeProto *, std::string>> nodes) {
  if (nodes.empty())
    return Error::success();
  std::string text;
  llvm::raw_string_ostream os(text);
  os << nodes.size() << (nodes.size() == 1 ? " node is" : " nodes are")
     << " not supported:";
  for (const auto &[node, reason] : nodes) {
    StringRef domain = canonicalDomain(node->domain());
    os << "\n  '" << nodeTitle(*node) << "': " << node->op_type() << " of "
       << domainTitle(domain);
    auto opset = model.opsets.find(domain);
    if (opset != model.opsets.end())
      os << " " << opset->second;
    os << ": " << reason;
  }
  return modelError(text);
}

Error quench::checkNodes(LoadedModel &model) {
  std::vector<std::pair<const NodeProto *, std::string>> bad;
  for (const NodeProto &node : model.proto.graph().node()) {
    onnx::NodeSignature signature;
    StringRef domain = canonicalDomain(node.domain());
    signature.domain = domain.str();
    signature.opType = node.op_type();
    signature.name = node.name();
    auto opset = model.opsets.find(domain);
    if (opset == model.opsets.end()) {
      bad.emplace_back(&node, "the model does not import the operator set '" +
                                  domainTitle(domain) + "'");
      continue;
    }
    signature.opset = opset->second;
    for (const std::string &input : node.input())
      signature.inputs.push_back(!input.empty());
    for (const std::string &output : node.output())
      signature.outputs.push_back(!output.empty());
    for (const auto &attribute : node.attribute())
      signature.attributes.emplace_back(
          attribute.name(), static_cast<onnx::AttributeKind>(attribute.type()));
    std::string problem = onnx::checkNode(signature);
    if (problem.empty())
      problem = nodeProblem(node);
    if (!problem.empty())
      bad.emplace_back(&node, std::move(problem));
  }
  return unsupported(model, bad);
}

/// Checks a tensor; reads it in if it is small and in a file.
static Error loadSmallTensor(::onnx::TensorProto &tensor, ArrayRef<Blob> blobs,
                             ModelFiles &files) {
  llvm::Expected<TensorData> data = describeTensor(tensor, blobs);
  if (!data)
    return data.takeError();
  if (data->kind != TensorData::InFile || data->bytes > kBlobThreshold)
    return Error::success();
  llvm::Expected<ArrayRef<char>> bytes =
      files.get(data->file, data->offset, data->bytes);
  if (!bytes)
    return modelError("tensor '" + tensor.name() +
                      "': " + llvm::toString(bytes.takeError()));
  tensor.set_raw_data(bytes->data(), bytes->size());
  tensor.clear_data_location();
  tensor.clear_external_data();
  return Error::success();
}

Error quench::loadSmallTensors(LoadedModel &model, ModelFiles &files) {
  ::onnx::GraphProto &graph = *model.proto.mutable_graph();
  auto load = [&](::onnx::TensorProto &tensor) {
    // Inference must not look for the contents of a blob.
    if (isBlob(tensor))
      tensor.set_data_location(::onnx::TensorProto::EXTERNAL);
    return loadSmallTensor(tensor, model.blobs, files);
  };
  for (auto &tensor : *graph.mutable_initializer())
    if (Error error = load(tensor))
      return error;
  for (auto &node : *graph.mutable_node())
    for (auto &attribute : *node.mutable_attribute())
      if (attribute.has_t())
        if (Error error = load(*attribute.mutable_t()))
          return error;
  return Error::success();
}

Error quench::checkTypes(LoadedModel &model) {
  const ::onnx::GraphProto &graph = model.proto.graph();
  llvm::StringMap<const TypeProto *> types;
  for (const auto &value : graph.value_info())
    types[value.name()] = &value.type();
  for (const auto &value : graph.output())
    types[value.name()] = &value.type();
  std::vector<std::pair<const NodeProto *, std::string>> bad;
  for (const NodeProto &node : graph.node())
    for (const std::string &output : node.output()) {
      if (output.empty())
        continue;
      const TypeProto *type = types.lookup(output);
      std::string problem =
          type ? typeProblem(*type) : "has a type that cannot be found out";
      if (problem.empty())
        continue;
      bad.emplace_back(&node, "its output '" + output + "' " + problem);
      break;
    }
  return unsupported(model, bad);
}
