//===- StoreTest.cpp - Quantized weights in a folder ----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Store.h"
#include "Models.h"
#include "llvm/Support/raw_ostream.h"
#include <random>

using namespace quench;
using namespace calibration;

namespace {
PackedWeight someWeight(llvm::StringRef spec, std::vector<float> &decoded) {
  constexpr int64_t rows = 70, cols = 48;
  std::mt19937 random(5);
  std::vector<float> values(rows * cols);
  for (float &value : values)
    value = int(random() % 2000) / 1000.0f - 1;
  QuantizeProblem problem;
  problem.format = llvm::cantFail(getFormat(spec));
  problem.rows = rows;
  problem.cols = cols;
  decoded.resize(rows * cols);
  auto read = [&](int64_t begin, int64_t) -> llvm::Expected<const float *> {
    return values.data() + begin * cols;
  };
  return llvm::cantFail(quantizeWeight(*llvm::cantFail(getQuantizer("rtn")),
                                       problem, read, decoded.data()));
}

std::unique_ptr<QuantizedStore> openStore(llvm::StringRef path) {
  auto store = QuantizedStore::open(path);
  EXPECT_TRUE(bool(store)) << takeMessage(store.takeError());
  return store ? std::move(*store) : nullptr;
}
} // namespace

TEST(Store, GivesBackWhatWasPut) {
  TemporaryFolder folder;
  std::vector<float> decoded;
  for (const char *spec :
       {"int<4, group = 16, zero>", "ternary<2>", "int<8>", "dfloat11"}) {
    PackedWeight weight = someWeight(spec, decoded);
    weight.note = "a \"note\"\n";
    weight.loss = 1.0 / 3;
    {
      auto store = openStore(folder.path);
      EXPECT_EQ(takeMessage(store->put(spec, weight)), "");
    }
    auto store = openStore(folder.path);
    auto found = llvm::cantFail(store->find(spec));
    ASSERT_TRUE(found) << spec;
    EXPECT_EQ(found->format, weight.format);
    EXPECT_EQ(found->rows, weight.rows);
    EXPECT_EQ(found->cols, weight.cols);
    EXPECT_EQ(found->quantizer, "rtn");
    EXPECT_EQ(found->note, weight.note);
    EXPECT_EQ(found->loss, weight.loss);
    EXPECT_EQ(found->relativeError, weight.relativeError);
    EXPECT_EQ(found->stream, weight.stream);
    std::vector<float> numbers(decoded.size());
    decodeWeight(*found, numbers.data(), 2);
    EXPECT_EQ(numbers, decoded) << spec;
    EXPECT_FALSE(llvm::cantFail(store->find("another")));
  }
}

TEST(Store, BrokenFilesCountAsNotThere) {
  TemporaryFolder folder;
  std::vector<float> decoded;
  PackedWeight weight = someWeight("int<4, group = 16>", decoded);
  std::string file;
  {
    auto store = openStore(folder.path);
    EXPECT_EQ(takeMessage(store->put("key", weight)), "");
  }
  for (auto &[name, contents] : filesOf(folder.path))
    if (llvm::StringRef(name).ends_with(".weight"))
      file = name;
  ASSERT_FALSE(file.empty());
  std::string good = filesOf(folder.path)[file];
  auto write = [&](llvm::StringRef contents) {
    std::error_code code;
    llvm::raw_fd_ostream(folder.path + "/" + file, code) << contents;
  };
  auto store = openStore(folder.path);
  for (size_t length : {0, 3, 20, 100, int(good.size()) - 1}) {
    write(llvm::StringRef(good).take_front(length));
    EXPECT_FALSE(llvm::cantFail(store->find("key"))) << length;
  }
  for (size_t at : {2u, 17u, unsigned(good.size()) - 20}) {
    std::string bad = good;
    bad[at] ^= 1;
    write(bad);
    EXPECT_FALSE(llvm::cantFail(store->find("key"))) << at;
  }
  write(good);
  EXPECT_TRUE(llvm::cantFail(store->find("key")));
}

TEST(Store, BelongsToOneProcess) {
  TemporaryFolder folder;
  auto store = openStore(folder.path);
  auto second = QuantizedStore::open(folder.path);
  ASSERT_FALSE(bool(second));
  EXPECT_NE(takeMessage(second.takeError()).find("another process"),
            std::string::npos);
}

TEST(Store, ClearsAndFinishes) {
  TemporaryFolder folder;
  std::vector<float> decoded;
  PackedWeight weight = someWeight("int<4, group = 16>", decoded);
  auto store = openStore(folder.path);
  EXPECT_FALSE(store->isFinished());
  EXPECT_EQ(takeMessage(store->put("key", weight)), "");
  EXPECT_EQ(takeMessage(store->setFinished()), "");
  EXPECT_TRUE(store->isFinished());
  EXPECT_EQ(takeMessage(store->clear()), "");
  EXPECT_FALSE(store->isFinished());
  EXPECT_FALSE(llvm::cantFail(store->find("key")));
}
