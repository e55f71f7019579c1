//===- GraphImporter.cpp - Makes a module of a model ----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GraphImporter.h"
#include "mlir/IR/Verifier.h"
#include "quench/Dialect/ONNX/IR/ONNX.h"
#include "quench/Dialect/Quench/IR/Quench.h"

using namespace quench;
using llvm::Error;
using llvm::Expected;
using llvm::SmallVector;
using llvm::StringRef;
using llvm::Twine;

/// Values of metadata longer than this are left out.
static constexpr size_t kMaxMetadata = 4096;

GraphImporter::GraphImporter(const LoadedModel &model, ModelFiles &files,
                             mlir::MLIRContext &context,
                             const ImportOptions &options)
    : model(model), graph(model.proto.graph()), files(files), options(options),
      builder(&context) {}

mlir::Location GraphImporter::location(StringRef name) {
  return mlir::NameLoc::get(builder.getStringAttr(name));
}

void GraphImporter::moduleAttributes() {
  SmallVector<mlir::NamedAttribute> opsets, metadata;
  for (const auto &entry : model.opsets)
    opsets.push_back(builder.getNamedAttr(
        entry.first().empty() ? StringRef("ai.onnx") : entry.first(),
        builder.getI64IntegerAttr(entry.second)));
  (*module)->setAttr(onnx::kOpsetImportAttr, builder.getDictionaryAttr(opsets));
  (*module)->setAttr("quench.model_path",
                     builder.getStringAttr(files.getModelPath()));
  llvm::StringSet<> keys;
  for (const auto &entry : model.proto.metadata_props())
    if (!entry.key().empty() && entry.key().size() <= kMaxMetadata &&
        entry.value().size() <= kMaxMetadata && keys.insert(entry.key()).second)
      metadata.push_back(builder.getNamedAttr(
          entry.key(), builder.getStringAttr(entry.value())));
  if (!metadata.empty())
    (*module)->setAttr("quench.metadata", builder.getDictionaryAttr(metadata));
}

Error GraphImporter::initializer(const ::onnx::TensorProto &tensor,
                                 StringRef name) {
  Expected<TensorData> data = describeTensor(tensor, model.blobs);
  if (!data)
    return data.takeError();
  // Also looks whether the file has these bytes.
  Expected<llvm::ArrayRef<char>> bytes = contents(*data);
  if (!bytes)
    return modelError("tensor '" + name +
                      "': " + llvm::toString(bytes.takeError()));
  mlir::Type element = elementType(data->elementType);
  auto type = mlir::RankedTensorType::get(data->dims, element);
  bool isPacked = elementBits(data->elementType) < 8;
  if (isPacked && data->elements > (1 << 16))
    return modelError("tensor '" + name + "' has more than 65536 elements of " +
                      elementTypeName(data->elementType) +
                      ", which is not supported");

  mlir::Attribute source;
  if (isSmall(*data, element) || data->kind == TensorData::Inline || isPacked) {
    Expected<mlir::DenseElementsAttr> dense = elements(*data, type);
    if (!dense)
      return dense.takeError();
    source = *dense;
  } else {
    std::string file = files.getModelName().str();
    if (data->kind == TensorData::InFile) {
      Expected<std::string> normal = normalizeModelFileName(data->file);
      if (!normal)
        return normal.takeError();
      file = *normal;
    }
    source = qn::FileAttr::get(builder.getContext(), file, data->offset,
                               data->bytes);
  }

  std::string symbol = name.str();
  for (unsigned i = 0; !symbols.insert(symbol).second; ++i)
    symbol = (name + "_" + Twine(i)).str();
  mlir::OpBuilder::InsertionGuard guard(builder);
  if (lastInitializer)
    builder.setInsertionPointAfter(lastInitializer);
  else
    builder.setInsertionPointToStart(module->getBody());
  lastInitializer = qn::InitializerOp::create(
      builder, location(name), builder.getStringAttr(symbol),
      mlir::TypeAttr::get(type), source, mlir::StringAttr());
  constants[name] = {symbol, type};
  return Error::success();
}

Expected<mlir::Value> GraphImporter::value(StringRef name) {
  auto it = values.find(name);
  if (it != values.end())
    return it->second;
  auto constant = constants.find(name);
  if (constant == constants.end())
    return modelError("nothing defines '" + name + "'");
  mlir::OpBuilder::InsertionGuard guard(builder);
  mlir::Value weight = qn::WeightOp::create(
      builder, location(name), constant->second.type, constant->second.symbol,
      /*transpose=*/false);
  values[name] = weight;
  return weight;
}

mlir::Value GraphImporter::noValue() {
  if (none)
    return none;
  mlir::OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(&function.getBody().front());
  mlir::OperationState state(location("NoValue"), onnx::kNoValueOp);
  state.addTypes(builder.getNoneType());
  none = builder.create(state)->getResult(0);
  return none;
}

mlir::DictionaryAttr
GraphImporter::signatureAttrs(const ::onnx::ValueInfoProto &value,
                              mlir::Type type) {
  SmallVector<mlir::Attribute> dims;
  const auto &shape = value.type().tensor_type().shape();
  auto ranked = mlir::dyn_cast<mlir::RankedTensorType>(type);
  for (int64_t i = 0, rank = ranked ? ranked.getRank() : 0; i < rank; ++i) {
    std::string text;
    if (!ranked.isDynamicDim(i))
      text = std::to_string(ranked.getDimSize(i));
    else if (i < shape.dim_size() && shape.dim(i).has_dim_param())
      text = shape.dim(i).dim_param();
    if (text.empty())
      text = value.name() + "_dim" + std::to_string(i);
    dims.push_back(builder.getStringAttr(text));
  }
  return builder.getDictionaryAttr(
      {builder.getNamedAttr("quench.name", builder.getStringAttr(value.name())),
       builder.getNamedAttr("quench.dims", builder.getArrayAttr(dims))});
}

Error GraphImporter::startFunction() {
  SmallVector<mlir::Type> inputs;
  for (const auto &input : graph.input()) {
    mlir::Type type = valueType(&input.type());
    if (!type)
      return modelError("input '" + input.name() + "' has no tensor type");
    inputs.push_back(type);
  }
  builder.setInsertionPointToEnd(module->getBody());
  function = mlir::func::FuncOp::create(
      builder, location(graph.name()), "main",
      builder.getFunctionType(inputs, mlir::TypeRange()));
  mlir::Block *block = function.addEntryBlock();
  for (auto [i, input] : llvm::enumerate(graph.input())) {
    values[input.name()] = block->getArgument(i);
    block->getArgument(i).setLoc(location(input.name()));
    function.setArgAttrs(i, signatureAttrs(input, inputs[i]));
  }
  builder.setInsertionPointToEnd(block);
  return Error::success();
}

/// The value of a Constant node as a tensor; false if it is not numbers.
static bool constantTensor(const ::onnx::NodeProto &node,
                           ::onnx::TensorProto &tensor) {
  if (node.attribute_size() != 1)
    return false;
  const ::onnx::AttributeProto &value = node.attribute(0);
  switch (value.type()) {
  case ::onnx::AttributeProto::TENSOR:
    tensor = value.t();
    return true;
  case ::onnx::AttributeProto::FLOAT:
    tensor.set_data_type(::onnx::TensorProto::FLOAT);
    tensor.add_float_data(value.f());
    return true;
  case ::onnx::AttributeProto::INT:
    tensor.set_data_type(::onnx::TensorProto::INT64);
    tensor.add_int64_data(value.i());
    return true;
  case ::onnx::AttributeProto::FLOATS:
    tensor.set_data_type(::onnx::TensorProto::FLOAT);
    tensor.add_dims(value.floats_size());
    *tensor.mutable_float_data() = value.floats();
    return true;
  case ::onnx::AttributeProto::INTS:
    tensor.set_data_type(::onnx::TensorProto::INT64);
    tensor.add_dims(value.ints_size());
    *tensor.mutable_int64_data() = value.ints();
    return true;
  default:
    return false;
  }
}

Error GraphImporter::constantNode(const ::onnx::NodeProto &node) {
  ::onnx::TensorProto tensor;
  if (node.output_size() != 1 || node.output(0).empty() ||
      !constantTensor(node, tensor))
    return modelError("Constant node '" + nodeTitle(node) +
                      "' does not have one value of numbers");
  return initializer(tensor, node.output(0));
}

Error GraphImporter::node(const ::onnx::NodeProto &node) {
  if (node.op_type() == "Constant" &&
      (node.domain().empty() || node.domain() == "ai.onnx"))
    return constantNode(node);

  SmallVector<mlir::Value> operands;
  for (const std::string &input : node.input()) {
    Expected<mlir::Value> operand =
        input.empty() ? Expected<mlir::Value>(noValue()) : value(input);
    if (!operand)
      return operand.takeError();
    operands.push_back(*operand);
  }
  while (!operands.empty() && !onnx::isPresent(operands.back()))
    operands.pop_back();

  mlir::OperationState state(location(nodeTitle(node)),
                             onnx::getOpName(node.domain(), node.op_type()));
  state.addOperands(operands);
  int outputs = node.output_size();
  while (outputs > 0 && node.output(outputs - 1).empty())
    --outputs;
  for (int i = 0; i < outputs; ++i) {
    mlir::Type type = node.output(i).empty()
                          ? mlir::Type(builder.getNoneType())
                          : valueType(types.lookup(node.output(i)));
    if (!type)
      return modelError("the type of '" + node.output(i) + "' is not known");
    state.addTypes(type);
  }
  for (const auto &proto : node.attribute()) {
    Expected<mlir::Attribute> converted = attribute(proto);
    if (!converted)
      return modelError("node '" + nodeTitle(node) +
                        "': " + llvm::toString(converted.takeError()));
    if (proto.name().empty() || StringRef(proto.name()).contains('.'))
      return modelError("node '" + nodeTitle(node) + "' has the attribute '" +
                        proto.name() + "', which no schema has");
    state.addAttribute(proto.name(), *converted);
  }
  mlir::Operation *op = builder.create(state);
  for (int i = 0; i < outputs; ++i)
    if (!node.output(i).empty())
      values[node.output(i)] = op->getResult(i);
  return Error::success();
}

Error GraphImporter::finishFunction() {
  SmallVector<mlir::Value> results;
  SmallVector<mlir::Attribute> attrs;
  for (const auto &output : graph.output()) {
    Expected<mlir::Value> result = value(output.name());
    if (!result)
      return result.takeError();
    results.push_back(*result);
    attrs.push_back(signatureAttrs(output, result->getType()));
  }
  mlir::func::ReturnOp::create(builder, function.getLoc(), results);
  function.setFunctionType(builder.getFunctionType(
      function.getArgumentTypes(), mlir::ValueRange(results).getTypes()));
  for (auto [i, attr] : llvm::enumerate(attrs))
    function.setResultAttrs(i, mlir::cast<mlir::DictionaryAttr>(attr));
  return Error::success();
}

Expected<mlir::OwningOpRef<mlir::ModuleOp>> GraphImporter::run() {
  module = mlir::ModuleOp::create(location(files.getModelName()));
  moduleAttributes();
  symbols.insert("main");
  for (const auto &value : graph.value_info())
    types[value.name()] = &value.type();
  for (const auto &value : graph.output())
    types[value.name()] = &value.type();

  for (const auto &tensor : graph.initializer())
    if (Error error = initializer(tensor, tensor.name()))
      return std::move(error);
  if (Error error = startFunction())
    return std::move(error);
  for (const auto &proto : graph.node())
    if (Error error = node(proto))
      return std::move(error);
  if (Error error = finishFunction())
    return std::move(error);

  std::string problems;
  mlir::ScopedDiagnosticHandler handler(builder.getContext(),
                                        [&](mlir::Diagnostic &diagnostic) {
                                          problems += "\n  " + diagnostic.str();
                                          return mlir::success();
                                        });
  if (mlir::failed(mlir::verify(*module)))
    return modelError("the imported module is not valid:" + problems);
  return std::move(module);
}
