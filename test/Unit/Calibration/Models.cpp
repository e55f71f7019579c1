//===- Models.cpp - Small models and their mathematics --------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Models.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include <random>

using namespace mlir;
using namespace quench;
using namespace calibration;

static MLIRContext &testContext() {
  static MLIRContext *context = [] {
    auto *made = new MLIRContext(MLIRContext::Threading::DISABLED);
    made->loadDialect<arith::ArithDialect, func::FuncDialect,
                      linalg::LinalgDialect, tensor::TensorDialect,
                      qn::QuenchDialect>();
    return made;
  }();
  return *context;
}

namespace {
/// Writes the function's body.
class Writer {
public:
  explicit Writer(StringRef quantizer) : quantizer(quantizer.str()) {}

  std::string text;

  std::string linear(StringRef x, const std::string &weight, int64_t in,
                     int64_t out, int block) {
    std::string w = fresh(), y = fresh();
    text += llvm::formatv("%{0} = quench.weight @{1} : tensor<{2}x{3}xf32>\n",
                          w, weight, out, in);
    std::string type = llvm::formatv("tensor<{0}x{1}xf32>", out, in);
    if (!quantizer.empty()) {
      std::string q = fresh();
      text +=
          llvm::formatv("%{0} = quench.quantize %{1} using \"{2}\" : {3} -> "
                        "<{4}x{5}, \"int<4, group = 8>\">\n",
                        q, w, quantizer, type, out, in);
      w = q;
      type = llvm::formatv("!quench.tensor<{0}x{1}, \"int<4, group = 8>\">",
                           out, in);
    }
    text += llvm::formatv(
        "%{0} = quench.linear %{1}, %{2} {{block = {3} : i64, role = \"up\"} : "
        "(tensor<?x?x{4}xf32>, {5}) -> tensor<?x?x{6}xf32> loc(\"{7}\")\n",
        y, x, w, block, in, type, out, weight);
    return y;
  }

  /// A linalg op of two operands with a body.
  std::string elementwise(StringRef a, StringRef b, int64_t width,
                          StringRef body) {
    std::string empty = fresh(), y = fresh();
    std::string type = llvm::formatv("tensor<?x?x{0}xf32>", width);
    text += llvm::formatv(
        "%{0} = tensor.empty(%batch, %length) : {1}\n"
        "%{2} = linalg.generic {{indexing_maps = [#map, #map, #map], "
        "iterator_types = [\"parallel\", \"parallel\", \"parallel\"]} "
        "ins(%{3}, %{4} : {1}, {1}) outs(%{0} : {1}) {{\n"
        "^bb0(%p: f32, %q: f32, %o: f32):\n{5}\n linalg.yield %s : f32\n} -> "
        "{1}\n",
        empty, type, y, a, b, body);
    return y;
  }

private:
  std::string fresh() { return "v" + std::to_string(next++); }
  std::string quantizer;
  int next = 0;
};
} // namespace

TwoBlocks::TwoBlocks(StringRef quantizer, bool tied) : modelFiles("") {
  std::mt19937 random(7);
  std::string head, tail;
  auto add = [&](const std::string &name, int64_t rows, int64_t cols) {
    Matrix matrix{rows, cols, {}};
    size_t offset = bytes.size();
    for (int64_t i = 0; i < rows * cols; ++i) {
      // Exact in f32.
      float value = (int(random() % 2001) - 1000) / 1024.0f;
      matrix.v.push_back(value);
      bytes.append(reinterpret_cast<const char *>(&value), sizeof(value));
    }
    head += llvm::formatv("quench.initializer @{0} source(#quench.file<\"w\", "
                          "{1}, {2}>) : tensor<{3}x{4}xf32>\n",
                          name, offset, rows * cols * 4, rows, cols);
    weights[name] = std::move(matrix);
  };
  add("table", kVocabulary, kWidth);
  Writer writer(quantizer);
  std::string x = "embedded", results;
  for (int block = 0; block < 2; ++block) {
    std::string n = std::to_string(block);
    add("a" + n, kInner, kWidth);
    add("b" + n, kWidth, kInner);
    add("c" + n, kWidth, kWidth);
    add("d" + n, kInner, kWidth);
    if (tied)
      weights["a" + n] = weights["a0"];
    std::string inner =
        writer.linear(x, tied ? "a0" : "a" + n, kWidth, kInner, block);
    inner = writer.elementwise(inner, inner, kInner,
                               "%s = arith.maximumf %p, %zero : f32");
    std::string outer = writer.linear(inner, "b" + n, kInner, kWidth, block);
    x = writer.elementwise(x, outer, kWidth, "%s = arith.addf %p, %q : f32");
    std::string c = writer.linear(x, "c" + n, kWidth, kWidth, block);
    std::string d = writer.linear(x, "d" + n, kWidth, kInner, block);
    results += (block ? ", %" : "%") + c + ", %" + d;
    tail += llvm::formatv("{0}tensor<?x?x{1}xf32>, tensor<?x?x{2}xf32>",
                          block ? ", " : "", kWidth, kInner);
  }
  std::string text =
      "#map = affine_map<(a, b, c) -> (a, b, c)>\nmodule {\n" + head +
      "func.func @main(%ids: tensor<?x?xi64> {quench.dims = [\"batch\", "
      "\"length\"], quench.name = \"input_ids\"}) -> (" +
      tail +
      ") {\n%zero = arith.constant 0.0 : f32\n"
      "%batch = quench.dim \"batch\"\n%length = quench.dim \"length\"\n" +
      llvm::formatv("%t = quench.weight @table : tensor<{0}x{1}xf32>\n"
                    "%embedded = quench.embedding %ids, %t : "
                    "(tensor<?x?xi64>, tensor<{0}x{1}xf32>) -> "
                    "tensor<?x?x{1}xf32>\n",
                    kVocabulary, kWidth)
          .str() +
      writer.text + "return " + results + " : " + tail + "\n}\n}\n";
  modelFiles.addBuffer("w", {bytes.data(), bytes.size()});
  owned = parseSourceString<ModuleOp>(text, &testContext());
  EXPECT_TRUE(owned) << text;
}

/// x W^T
static Matrix multiply(const Matrix &x, const Matrix &w) {
  Matrix y{x.rows, w.rows, std::vector<double>(x.rows * w.rows)};
  for (int64_t i = 0; i < x.rows; ++i)
    for (int64_t j = 0; j < w.rows; ++j)
      for (int64_t k = 0; k < x.cols; ++k)
        y.at(i, j) += x.at(i, k) * w.at(j, k);
  return y;
}

std::map<std::string, Matrix>
TwoBlocks::inputs(ArrayRef<std::vector<int64_t>> samples,
                  const std::map<std::string, Matrix> &replaced) const {
  auto use = [&](const std::string &name) -> const Matrix & {
    auto found = replaced.find(name);
    return found == replaced.end() ? weight(name) : found->second;
  };
  const Matrix &table = weight("table");
  Matrix x{0, kWidth, {}};
  for (const std::vector<int64_t> &ids : samples)
    for (int64_t id : ids) {
      ++x.rows;
      for (int64_t c = 0; c < kWidth; ++c)
        x.v.push_back(table.at(id, c));
    }
  std::map<std::string, Matrix> result;
  for (std::string block : {"0", "1"}) {
    result["a" + block] = x;
    Matrix inner = multiply(x, use("a" + block));
    for (double &value : inner.v)
      value = std::max(value, 0.0);
    result["b" + block] = inner;
    Matrix outer = multiply(inner, use("b" + block));
    for (size_t i = 0; i < x.v.size(); ++i)
      x.v[i] += outer.v[i];
    result["c" + block] = result["d" + block] = x;
  }
  return result;
}

std::vector<std::vector<int64_t>> calibration::someTokens(int64_t count,
                                                          int64_t length) {
  std::mt19937 random(3);
  std::vector<std::vector<int64_t>> samples(count);
  for (auto &sample : samples) {
    sample.resize(1 + random() % length);
    for (int64_t &id : sample)
      id = random() % TwoBlocks::kVocabulary;
  }
  return samples;
}

std::string calibration::takeMessage(llvm::Error error) {
  return error ? llvm::toString(std::move(error)) : "";
}

TemporaryFolder::TemporaryFolder() {
  llvm::SmallString<128> made;
  EXPECT_FALSE(llvm::sys::fs::createUniqueDirectory("calibration-test", made));
  path = made.str().str();
}

TemporaryFolder::~TemporaryFolder() { llvm::sys::fs::remove_directories(path); }

std::map<std::string, std::string> calibration::filesOf(StringRef folder) {
  std::map<std::string, std::string> files;
  std::error_code code;
  for (llvm::sys::fs::recursive_directory_iterator entry(folder, code), end;
       entry != end && !code; entry.increment(code))
    if (auto buffer = llvm::MemoryBuffer::getFile(entry->path()))
      files[llvm::sys::path::filename(entry->path()).str()] =
          (*buffer)->getBuffer().str();
  return files;
}
