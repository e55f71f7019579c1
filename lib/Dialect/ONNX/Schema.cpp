//===- Schema.cpp - ONNX's operator schemas -------------------------------===//
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

#include "quench/Dialect/ONNX/IR/Schema.h"
#include "ContribSchemas.h"
#include "onnx/defs/schema.h"
#include "llvm/ADT/StringExtras.h"
#include <exception>
#include <mutex>
#include <set>

using namespace quench::onnx;
using ::onnx::OpSchemaRegistry;

/// "ai.onnx" and "" are the same domain.
static std::string canonicalDomain(llvm::StringRef domain) {
  return domain == "ai.onnx" ? std::string() : domain.str();
}

void quench::onnx::registerSchemas() {
  static std::once_flag once;
  std::call_once(once, [] {
    OpSchemaRegistry::Instance();
    try {
      registerContribSchemas();
    } catch (const std::exception &) {
      // Another library in this process has registered the domain: its schemas
      // are used.
    }
  });
}

int64_t quench::onnx::latestOpset(llvm::StringRef domain) {
  registerSchemas();
  const auto &map = OpSchemaRegistry::DomainToVersionRange::Instance().Map();
  auto it = map.find(canonicalDomain(domain));
  return it == map.end() ? 0 : it->second.second;
}

void quench::onnx::forEachOperator(
    llvm::function_ref<void(llvm::StringRef, llvm::StringRef)> fn) {
  registerSchemas();
  std::set<std::pair<std::string, std::string>> names;
  for (const ::onnx::OpSchema &schema :
       OpSchemaRegistry::get_all_schemas_with_history())
    names.emplace(schema.domain(), schema.Name());
  for (const auto &[domain, name] : names)
    fn(domain, name);
}

std::string quench::onnx::checkNode(const NodeSignature &node) {
  registerSchemas();
  try {
    std::string domain = canonicalDomain(node.domain);
    int64_t latest = latestOpset(domain);
    if (latest == 0)
      return "no operators of domain '" + domain + "' are known";
    if (node.opset < 1 || node.opset > latest)
      return "operator set " + std::to_string(node.opset) +
             " is not known; 1 to " + std::to_string(latest) + " are";
    const ::onnx::OpSchema *schema = OpSchemaRegistry::Schema(
        node.opType, static_cast<int>(node.opset), domain);
    if (!schema) {
      if (const ::onnx::OpSchema *newest =
              OpSchemaRegistry::Schema(node.opType, domain))
        return "the operator is in later operator sets only (from " +
               std::to_string(newest->SinceVersion()) +
               " in its newest form) or has been removed";
      return "the operator is not known";
    }
    if (schema->deprecated())
      return "the operator is deprecated since operator set " +
             std::to_string(schema->SinceVersion());

    ::onnx::NodeProto proto;
    proto.set_name(node.name);
    proto.set_op_type(node.opType);
    proto.set_domain(domain);
    for (auto [i, present] : llvm::enumerate(node.inputs))
      proto.add_input(present ? "i" + std::to_string(i) : "");
    for (auto [i, present] : llvm::enumerate(node.outputs))
      proto.add_output(present ? "o" + std::to_string(i) : "");
    for (const auto &[name, kind] : node.attributes) {
      ::onnx::AttributeProto *attribute = proto.add_attribute();
      attribute->set_name(name);
      attribute->set_type(
          static_cast<::onnx::AttributeProto::AttributeType>(kind));
      if (kind == AttributeKind::Tensor)
        attribute->mutable_t();
      else if (kind == AttributeKind::Graph)
        attribute->mutable_g();
      else if (kind == AttributeKind::SparseTensor)
        attribute->mutable_sparse_tensor();
      else if (kind == AttributeKind::TypeProto)
        attribute->mutable_tp();
    }
    schema->Verify(proto);
    return "";
  } catch (const std::exception &error) {
    return llvm::StringRef(error.what()).trim().str();
  }
}
