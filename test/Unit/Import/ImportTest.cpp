//===- ImportTest.cpp - Import of good and bad files ----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Import/ONNX/Import.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "onnx/onnx_pb.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"
#include <fstream>
#include <random>
#include <unistd.h>

using namespace quench;
using llvm::Expected;
using llvm::StringRef;
using mlir::ModuleOp;
using mlir::OwningOpRef;

namespace {

/// y = x w with w [rows, cols] in a file of external data.
::onnx::ModelProto matmul(int64_t rows, int64_t cols, StringRef location) {
  ::onnx::ModelProto model;
  model.set_ir_version(8);
  auto *opset = model.add_opset_import();
  opset->set_domain("");
  opset->set_version(17);
  auto *graph = model.mutable_graph();
  graph->set_name("g");
  auto declare = [](::onnx::ValueInfoProto *value, const char *name,
                    int64_t dim) {
    value->set_name(name);
    auto *type = value->mutable_type()->mutable_tensor_type();
    type->set_elem_type(::onnx::TensorProto::FLOAT);
    type->mutable_shape()->add_dim()->set_dim_param("batch");
    type->mutable_shape()->add_dim()->set_dim_value(dim);
  };
  declare(graph->add_input(), "x", rows);
  declare(graph->add_output(), "y", cols);
  auto *weight = graph->add_initializer();
  weight->set_name("w");
  weight->set_data_type(::onnx::TensorProto::FLOAT);
  weight->add_dims(rows);
  weight->add_dims(cols);
  weight->set_data_location(::onnx::TensorProto::EXTERNAL);
  auto *entry = weight->add_external_data();
  entry->set_key("location");
  entry->set_value(location.str());
  auto *node = graph->add_node();
  node->set_op_type("MatMul");
  node->set_name("product");
  node->add_input("x");
  node->add_input("w");
  node->add_output("y");
  return model;
}

/// The same with the weight inside.
::onnx::ModelProto inlined(int64_t rows, int64_t cols) {
  ::onnx::ModelProto model = matmul(rows, cols, "");
  auto *weight = model.mutable_graph()->mutable_initializer(0);
  weight->clear_data_location();
  weight->clear_external_data();
  weight->set_raw_data(std::string(rows * cols * 4, 'w'));
  return model;
}

class ImportTest : public ::testing::Test {
protected:
  void SetUp() override {
    llvm::SmallString<128> path;
    ASSERT_FALSE(llvm::sys::fs::createUniqueDirectory("quench-import", path));
    folder = path.str().str();
  }
  void TearDown() override { llvm::sys::fs::remove_directories(folder); }

  std::string at(StringRef name) { return folder + "/" + name.str(); }
  void write(StringRef name, const std::string &bytes) {
    std::ofstream(at(name), std::ios::binary) << bytes;
  }
  /// The error of an import, or an empty string; `module` gets the result.
  std::string import(const ::onnx::ModelProto &model) {
    write("model.onnx", model.SerializeAsString());
    return report(importONNX(at("model.onnx"), context));
  }
  std::string importBytes(const std::string &bytes) {
    return report(importONNX(bytes, "model.onnx", context));
  }
  std::string report(Expected<OwningOpRef<ModuleOp>> result) {
    module = {};
    if (!result)
      return llvm::toString(result.takeError());
    module = std::move(*result);
    return "";
  }
  qn::InitializerOp weight() {
    return module->lookupSymbol<qn::InitializerOp>("w");
  }

  std::string folder;
  mlir::MLIRContext context;
  OwningOpRef<ModuleOp> module;
};

TEST_F(ImportTest, RefersToExternalData) {
  write("w.bin", std::string(4096 + 32 * 32 * 4, 'x'));
  ::onnx::ModelProto model = matmul(32, 32, "./w.bin");
  auto *entry =
      model.mutable_graph()->mutable_initializer(0)->add_external_data();
  entry->set_key("offset");
  entry->set_value("4096");
  ASSERT_EQ(import(model), "");
  auto source = mlir::dyn_cast<qn::FileAttr>(weight().getSource());
  ASSERT_TRUE(source);
  EXPECT_EQ(source.getPath(), "w.bin");
  EXPECT_EQ(source.getOffset(), 4096);
  EXPECT_EQ(source.getBytes(), 4096);
}

TEST_F(ImportTest, RefersToInlineData) {
  ::onnx::ModelProto model = inlined(32, 32);
  ASSERT_EQ(import(model), "");
  auto source = mlir::dyn_cast<qn::FileAttr>(weight().getSource());
  ASSERT_TRUE(source);
  EXPECT_EQ(source.getPath(), "model.onnx");
  EXPECT_EQ(model.SerializeAsString().substr(source.getOffset(), 4096),
            std::string(4096, 'w'));
}

TEST_F(ImportTest, ReadsSmallTensors) {
  ::onnx::ModelProto model = inlined(8, 8);
  ASSERT_EQ(import(model), "");
  EXPECT_TRUE(mlir::isa<mlir::DenseElementsAttr>(weight().getSource()));
}

TEST_F(ImportTest, TakesModelsOfMoreThanTwoGigabytes) {
  write("w.bin", "");
  ASSERT_EQ(::truncate(at("w.bin").c_str(), 5ll << 30), 0); // a hole
  ASSERT_EQ(import(matmul(32768, 32768, "w.bin")), "");
  EXPECT_EQ(mlir::cast<qn::FileAttr>(weight().getSource()).getBytes(),
            4ll << 30);
}

TEST_F(ImportTest, TakesInlineDataOfMoreThanTwoGigabytes) {
  // The payload is the last field, so that a hole in the file can stand for it.
  ::onnx::ModelProto model = inlined(0, 0);
  uint64_t payload = 3ull << 30;
  auto *graph = model.mutable_graph();
  ::onnx::TensorProto tensor = graph->initializer(0);
  tensor.clear_raw_data();
  tensor.set_dims(0, 1 << 14);
  tensor.set_dims(1, 3 << 14);
  graph->clear_initializer();
  graph->mutable_input(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->mutable_shape()
      ->mutable_dim(1)
      ->set_dim_value(1 << 14);
  graph->mutable_output(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->mutable_shape()
      ->mutable_dim(1)
      ->set_dim_value(3 << 14);
  auto varint = [](uint64_t value) {
    std::string out;
    for (; value >= 0x80; value >>= 7)
      out.push_back(static_cast<char>(value | 0x80));
    out.push_back(static_cast<char>(value));
    return out;
  };
  std::string tensorHead =
      tensor.SerializeAsString() + "\x4a" + varint(payload);
  std::string graphHead = graph->SerializeAsString() + "\x2a" +
                          varint(tensorHead.size() + payload) + tensorHead;
  model.clear_graph();
  std::string head = model.SerializeAsString() + "\x3a" +
                     varint(graphHead.size() + payload) + graphHead;
  write("model.onnx", head);
  ASSERT_EQ(::truncate(at("model.onnx").c_str(), head.size() + payload), 0);
  ASSERT_EQ(report(importONNX(at("model.onnx"), context)), "");
  auto source = mlir::cast<qn::FileAttr>(weight().getSource());
  EXPECT_EQ(static_cast<uint64_t>(source.getOffset()), head.size());
  EXPECT_EQ(static_cast<uint64_t>(source.getBytes()), payload);
}

TEST_F(ImportTest, RefusesBadExternalData) {
  write("w.bin", std::string(100, 'x'));
  EXPECT_NE(import(matmul(32, 32, "w.bin")).find("'w.bin' has 100 bytes"),
            std::string::npos);
  EXPECT_NE(import(matmul(32, 32, "../w.bin")).find("leaves"),
            std::string::npos);
  EXPECT_NE(import(matmul(32, 32, "/etc/passwd")).find("absolute"),
            std::string::npos);
  EXPECT_NE(import(matmul(32, 32, "missing")).find("cannot read 'missing'"),
            std::string::npos);
  ASSERT_EQ(::symlink("/etc/passwd", at("link").c_str()), 0);
  EXPECT_NE(import(matmul(2, 2, "link")).find("symbolic link"),
            std::string::npos);
  auto with = [&](const char *key, const char *value) {
    ::onnx::ModelProto model = matmul(2, 2, "w.bin");
    auto *entry =
        model.mutable_graph()->mutable_initializer(0)->add_external_data();
    entry->set_key(key);
    entry->set_value(value);
    return import(model);
  };
  EXPECT_EQ(with("offset", "84"), "");
  EXPECT_NE(with("offset", "85").find("85 are not inside"), std::string::npos);
  EXPECT_NE(with("offset", "-1").find("offset '-1'"), std::string::npos);
  EXPECT_NE(with("offset", "18446744073709551615").find("too large"),
            std::string::npos);
  EXPECT_NE(with("offset", "99999999999999999999").find("a number of bytes"),
            std::string::npos);
  EXPECT_NE(with("length", "15").find("has the length 15"), std::string::npos);
  EXPECT_EQ(with("length", "16"), "");
  EXPECT_NE(with("location", "other").find("two files"), std::string::npos);
}

TEST_F(ImportTest, NamesTheFile) {
  EXPECT_NE(report(importONNX(at("none.onnx"), context)).find("none.onnx"),
            std::string::npos);
  write("model.onnx", "this is no model");
  EXPECT_NE(report(importONNX(at("model.onnx"), context))
                .find(at("model.onnx") + ": "),
            std::string::npos);
  write("model.onnx", "");
  EXPECT_NE(report(importONNX(at("model.onnx"), context)).find("not an ONNX"),
            std::string::npos);
  EXPECT_NE(report(importONNX(folder, context)).find("not a plain file"),
            std::string::npos);
}

TEST_F(ImportTest, RefusesOverflowingShapes) {
  ::onnx::ModelProto model = inlined(8, 8);
  auto *weight = model.mutable_graph()->mutable_initializer(0);
  weight->set_dims(0, 1ll << 62);
  weight->set_dims(1, 1ll << 62);
  EXPECT_NE(import(model).find("product is too large"), std::string::npos);
  weight->set_dims(0, -8);
  EXPECT_NE(import(model).find("negative dimension -8"), std::string::npos);
  model = inlined(8, 8);
  model.mutable_graph()
      ->mutable_input(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->mutable_shape()
      ->mutable_dim(1)
      ->set_dim_value(-8);
  EXPECT_NE(import(model).find("input 'x' has the negative dimension"),
            std::string::npos);
}

TEST_F(ImportTest, SurvivesTruncation) {
  std::string bytes = inlined(32, 32).SerializeAsString();
  for (size_t size = 0; size < bytes.size(); size += 1 + size / 100)
    EXPECT_NE(importBytes(bytes.substr(0, size)), "") << size;
}

TEST_F(ImportTest, SurvivesBitFlips) {
  std::string bytes = inlined(8, 8).SerializeAsString();
  // Past the weight's 256 bytes everything is structure.
  std::mt19937 random(1);
  unsigned refused = 0;
  for (unsigned i = 0; i < 2000; ++i) {
    std::string flipped = bytes;
    for (unsigned n = 0; n <= i % 3; ++n)
      flipped[random() % flipped.size()] ^=
          static_cast<char>(1 << random() % 8);
    refused += !importBytes(flipped).empty();
  }
  EXPECT_GT(refused, 100u);
}

} // namespace
