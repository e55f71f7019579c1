//===- ONNX.cpp - The onnx dialect ----------------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Dialect/ONNX/IR/ONNX.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "quench/Dialect/ONNX/IR/Schema.h"

using namespace mlir;
using namespace quench::onnx;

MLIR_DEFINE_EXPLICIT_TYPE_ID(quench::onnx::ONNXDialect)

std::string quench::onnx::getOpName(StringRef domain, StringRef opType) {
  if (domain.empty() || domain == "ai.onnx")
    return ("onnx." + opType).str();
  return ("onnx." + domain + "." + opType).str();
}

std::pair<StringRef, StringRef> quench::onnx::getOperator(Operation *op) {
  StringRef name = op->getName().getStringRef();
  name.consume_front("onnx.");
  auto [domain, type] = name.rsplit('.');
  if (type.empty())
    return {StringRef(), name};
  return {domain, type};
}

int64_t quench::onnx::getOpset(Operation *op) {
  StringRef domain = getOperator(op).first;
  for (Operation *parent = op->getParentOp(); parent;
       parent = parent->getParentOp()) {
    auto imports = parent->getAttrOfType<DictionaryAttr>(kOpsetImportAttr);
    if (!imports)
      continue;
    auto version =
        imports.getAs<IntegerAttr>(domain.empty() ? "ai.onnx" : domain);
    return version ? version.getInt() : 0;
  }
  return latestOpset(domain);
}

/// The kind of ONNX attribute that an MLIR attribute carries.
static AttributeKind kindOf(Attribute attribute) {
  if (auto integer = dyn_cast<IntegerAttr>(attribute))
    return integer.getType().isSignlessInteger(64) ? AttributeKind::Int
                                                   : AttributeKind::Undefined;
  if (auto number = dyn_cast<FloatAttr>(attribute))
    return number.getType().isF32() ? AttributeKind::Float
                                    : AttributeKind::Undefined;
  if (isa<StringAttr>(attribute))
    return AttributeKind::String;
  if (isa<DenseI64ArrayAttr>(attribute))
    return AttributeKind::Ints;
  if (isa<DenseF32ArrayAttr>(attribute))
    return AttributeKind::Floats;
  if (isa<ElementsAttr>(attribute))
    return AttributeKind::Tensor;
  if (auto array = dyn_cast<ArrayAttr>(attribute)) {
    if (llvm::all_of(array, llvm::IsaPred<StringAttr>))
      return AttributeKind::Strings;
    if (llvm::all_of(array, llvm::IsaPred<ElementsAttr>))
      return AttributeKind::Tensors;
  }
  return AttributeKind::Undefined;
}

static LogicalResult verifyTypes(Operation *op) {
  auto allowed = [](Type type) { return isa<NoneType, TensorType>(type); };
  for (Type type : op->getOperandTypes())
    if (!allowed(type))
      return op->emitOpError("takes tensors and none, not ") << type;
  for (Type type : op->getResultTypes())
    if (!allowed(type))
      return op->emitOpError("gives tensors and none, not ") << type;
  if (op->getNumRegions() != 0)
    return op->emitOpError("with regions (sub-graphs) is not supported");
  return success();
}

static LogicalResult verifyNoValue(Operation *op) {
  if (op->getNumOperands() != 0 || op->getNumResults() != 1 ||
      !isa<NoneType>(op->getResult(0).getType()) || op->getNumRegions() != 0)
    return op->emitOpError("has no operands and one result of type none");
  return success();
}

static LogicalResult verifyNode(Operation *op) {
  if (failed(verifyTypes(op)))
    return failure();
  NodeSignature node;
  auto [domain, type] = getOperator(op);
  node.domain = domain.str();
  node.opType = type.str();
  node.opset = getOpset(op);
  if (node.opset == 0)
    return op->emitOpError("is of domain '")
           << (domain.empty() ? "ai.onnx" : domain) << "', which "
           << kOpsetImportAttr << " does not name";
  for (Value operand : op->getOperands())
    node.inputs.push_back(isPresent(operand));
  for (Value result : op->getResults())
    node.outputs.push_back(isPresent(result));
  for (NamedAttribute attribute : op->getAttrs()) {
    StringRef name = attribute.getName().getValue();
    if (name.contains('.'))
      continue; // belongs to a dialect, not to the node
    node.attributes.emplace_back(name.str(), kindOf(attribute.getValue()));
  }
  std::string problem = checkNode(node);
  if (!problem.empty())
    return op->emitOpError("does not fit its schema: ") << problem;
  return success();
}

namespace {
/// ONNX nodes read and write nothing but their values, so that unused ones may
/// go. (Random ones differ at each call; nothing here shares equal ops.)
struct NodeEffects
    : public MemoryEffectOpInterface::FallbackModel<NodeEffects> {
  void
  getEffects(Operation *op,
             SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
                 &) const {}
};
} // namespace

ONNXDialect::ONNXDialect(MLIRContext *context)
    : ExtensibleDialect(getDialectNamespace(), context,
                        TypeID::get<ONNXDialect>()) {
  auto add = [&](StringRef name, LogicalResult (*verifier)(Operation *)) {
    registerDynamicOp(DynamicOpDefinition::get(
        name, this, verifier, [](Operation *) { return success(); }));
    std::optional<RegisteredOperationName> registered =
        RegisteredOperationName::lookup(("onnx." + name).str(), context);
    if (registered)
      registered->attachInterface<NodeEffects>();
  };
  add("NoValue", verifyNoValue);
  forEachOperator([&](StringRef domain, StringRef type) {
    add(StringRef(getOpName(domain, type)).drop_front(5), verifyNode);
  });
}

LogicalResult ONNXDialect::verifyOperationAttribute(Operation *op,
                                                    NamedAttribute attribute) {
  if (attribute.getName() != kOpsetImportAttr)
    return op->emitError("attribute '") << attribute.getName().getValue()
                                        << "' is not one of the onnx dialect's";
  auto imports = dyn_cast<DictionaryAttr>(attribute.getValue());
  bool good = imports && llvm::all_of(imports, [](NamedAttribute entry) {
                auto version = dyn_cast<IntegerAttr>(entry.getValue());
                return version && version.getType().isSignlessInteger(64) &&
                       version.getInt() >= 1;
              });
  if (!good)
    return op->emitError("attribute '")
           << kOpsetImportAttr
           << "' is a dictionary from domains to versions (i64, 1 or more)";
  return success();
}
