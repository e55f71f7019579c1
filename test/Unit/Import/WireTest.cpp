//===- WireTest.cpp - Skimming of protobuf bytes --------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The oracle is ONNX's own library: a model that it wrote is skimmed, parsed by
// it again and compared.
//
//===----------------------------------------------------------------------===//

#include "Wire.h"
#include "Tensors.h"
#include "google/protobuf/unknown_field_set.h"
#include "onnx/onnx_pb.h"
#include "gtest/gtest.h"

using namespace quench;
using llvm::Expected;

namespace {

::onnx::ModelProto parse(const std::string &bytes) {
  ::onnx::ModelProto model;
  EXPECT_TRUE(model.ParseFromString(bytes));
  return model;
}

::onnx::ModelProto smallModel() {
  ::onnx::ModelProto model;
  model.set_ir_version(8);
  model.set_doc_string("documentation");
  auto *graph = model.mutable_graph();
  graph->set_name("g");
  auto *weights = graph->add_initializer();
  weights->set_name("w");
  weights->set_data_type(::onnx::TensorProto::FLOAT);
  weights->add_dims(1000);
  weights->set_raw_data(std::string(4000, 'x'));
  auto *floats = graph->add_initializer();
  floats->set_name("f");
  floats->set_data_type(::onnx::TensorProto::FLOAT);
  floats->add_dims(500);
  for (int i = 0; i < 500; ++i)
    floats->add_float_data(static_cast<float>(i));
  auto *few = graph->add_initializer();
  few->set_name("s");
  few->set_data_type(::onnx::TensorProto::INT64);
  few->add_dims(2);
  few->add_int64_data(-1);
  few->add_int64_data(1 << 30);
  auto *node = graph->add_node();
  node->set_op_type("Constant");
  node->set_doc_string("more documentation");
  auto *value = node->add_attribute();
  value->set_name("value");
  value->set_type(::onnx::AttributeProto::TENSOR);
  value->mutable_t()->set_raw_data(std::string(2000, 'y'));
  value->mutable_t()->set_data_type(::onnx::TensorProto::INT8);
  value->mutable_t()->add_dims(2000);
  return model;
}

TEST(Wire, LeavesPayloadsOut) {
  std::string bytes = smallModel().SerializeAsString();
  Expected<SkimmedModel> skimmed = skimModel(bytes);
  ASSERT_TRUE(!!skimmed) << llvm::toString(skimmed.takeError());
  EXPECT_LT(skimmed->proto.size(), 300u);
  ASSERT_EQ(skimmed->blobs.size(), 3u);

  ::onnx::ModelProto model = parse(skimmed->proto);
  EXPECT_EQ(model.doc_string(), "");
  auto check = [&](const ::onnx::TensorProto &tensor,
                   const std::string &expected) {
    Expected<TensorData> data = describeTensor(tensor, skimmed->blobs);
    ASSERT_TRUE(!!data) << llvm::toString(data.takeError());
    EXPECT_EQ(data->kind, TensorData::InModel);
    EXPECT_EQ(bytes.substr(data->offset, data->bytes), expected);
  };
  check(model.graph().initializer(0), std::string(4000, 'x'));
  std::string floats;
  for (int i = 0; i < 500; ++i) {
    float value = static_cast<float>(i);
    floats.append(reinterpret_cast<const char *>(&value), 4);
  }
  check(model.graph().initializer(1), floats);
  check(model.graph().node(0).attribute(0).t(), std::string(2000, 'y'));
  EXPECT_FALSE(isBlob(model.graph().initializer(2)));
  EXPECT_EQ(model.graph().initializer(2).int64_data(0), -1);
}

TEST(Wire, KeepsEverythingBelowTheThreshold) {
  ::onnx::ModelProto model = smallModel();
  Expected<SkimmedModel> skimmed =
      skimModel(model.SerializeAsString(), /*threshold=*/1 << 20);
  ASSERT_TRUE(!!skimmed);
  EXPECT_TRUE(skimmed->blobs.empty());
  model.clear_doc_string();
  model.mutable_graph()->mutable_node(0)->clear_doc_string();
  EXPECT_EQ(parse(skimmed->proto).SerializeAsString(),
            model.SerializeAsString());
}

TEST(Wire, ReportsEveryTruncation) {
  std::string bytes = smallModel().SerializeAsString();
  unsigned good = 0;
  for (size_t size = 0; size < bytes.size(); ++size) {
    Expected<SkimmedModel> skimmed =
        skimModel(llvm::ArrayRef<char>(bytes.data(), size));
    if (skimmed)
      ++good; // cut between two fields of the model itself
    else
      llvm::consumeError(skimmed.takeError());
  }
  EXPECT_LE(good, 3u);
}

std::string message(llvm::StringRef bytes) {
  Expected<SkimmedModel> skimmed =
      skimModel(llvm::ArrayRef<char>(bytes.data(), bytes.size()));
  return skimmed ? "" : llvm::toString(skimmed.takeError());
}

TEST(Wire, RefusesBadBytes) {
  // Field 7 (graph) of 127 bytes, of which 1 is there.
  EXPECT_NE(message("\x3a\x7f\x00").find("cut off"), std::string::npos);
  // A length of 2^64 - 1.
  EXPECT_NE(
      message("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").find("cut off"),
      std::string::npos);
  // A number of 11 bytes.
  EXPECT_NE(message("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
                .find("more than 10"),
            std::string::npos);
  EXPECT_NE(message("\x0b").find("wire type 3"), std::string::npos);
  EXPECT_NE(message(llvm::StringRef("\x00\x00", 2)).find("field number 0"),
            std::string::npos);
  EXPECT_NE(message("\x08").find("inside of a number"), std::string::npos);
}

/// Makes `bytes` the contents of a field.
void wrap(std::string &bytes, char tag) {
  std::string head(1, tag);
  size_t size = bytes.size();
  for (; size >= 0x80; size >>= 7)
    head.push_back(static_cast<char>(size | 0x80));
  head.push_back(static_cast<char>(size));
  bytes = head + bytes;
}

TEST(Wire, LimitsNesting) {
  // graph { node { attribute { g { node ... } } } }
  std::string bytes;
  for (int i = 0; i < 100; ++i) {
    wrap(bytes, 0x32); // g of an attribute
    wrap(bytes, 0x2a); // attribute of a node
    wrap(bytes, 0x0a); // node of a graph
  }
  wrap(bytes, 0x3a);
  EXPECT_NE(message(bytes).find("nested"), std::string::npos);
}

TEST(Wire, DropsFieldsThatCouldPoseAsBlobs) {
  ::onnx::ModelProto model;
  auto *tensor = model.mutable_graph()->add_initializer();
  tensor->set_name("w");
  tensor->GetReflection()->MutableUnknownFields(tensor)->AddVarint(kBlobField,
                                                                   0);
  ASSERT_TRUE(isBlob(*tensor));
  Expected<SkimmedModel> skimmed = skimModel(model.SerializeAsString());
  ASSERT_TRUE(!!skimmed);
  EXPECT_FALSE(isBlob(parse(skimmed->proto).graph().initializer(0)));
}

TEST(Tensors, RefusesBadShapes) {
  auto describe = [](std::initializer_list<int64_t> dims, int type,
                     const std::string &raw) {
    ::onnx::TensorProto tensor;
    tensor.set_name("t");
    tensor.set_data_type(type);
    for (int64_t dim : dims)
      tensor.add_dims(dim);
    tensor.set_raw_data(raw);
    Expected<TensorData> data = describeTensor(tensor, {});
    return data ? "" : llvm::toString(data.takeError());
  };
  constexpr int kFloat = ::onnx::TensorProto::FLOAT;
  EXPECT_EQ(describe({2, 1}, kFloat, std::string(8, 0)), "");
  EXPECT_EQ(describe({3}, kFloat, std::string(8, 0)),
            "tensor 't' needs 12 bytes of float, it holds 8");
  EXPECT_EQ(describe({-3}, kFloat, ""),
            "tensor 't' has the negative dimension -3");
  EXPECT_NE(describe({1ll << 40, 1ll << 40}, kFloat, "").find("too large"),
            std::string::npos);
  EXPECT_NE(describe({0, 1ll << 40, 1ll << 40}, kFloat, "").find("too large"),
            std::string::npos);
  EXPECT_NE(describe({1}, ::onnx::TensorProto::STRING, "a").find("string"),
            std::string::npos);
  EXPECT_NE(describe({1}, 99, "a").find("number 99"), std::string::npos);
  EXPECT_EQ(describe({3}, ::onnx::TensorProto::INT4, "ab"), "");
}

} // namespace
