//===- ModelFilesTest.cpp - Mapped model files ----------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Support/ModelFiles.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"
#include <sys/stat.h>
#include <unistd.h>

using namespace quench;
using llvm::ArrayRef;
using llvm::Expected;
using llvm::StringRef;

namespace {

class ModelFilesTest : public ::testing::Test {
protected:
  void SetUp() override {
    llvm::SmallString<128> path;
    ASSERT_FALSE(llvm::sys::fs::createUniqueDirectory("quench-files", path));
    folder = path.str().str();
    write("model.onnx", "the model");
    write("model.onnx.data", "0123456789");
  }
  void TearDown() override { llvm::sys::fs::remove_directories(folder); }

  std::string at(StringRef name) { return folder + "/" + name.str(); }
  void write(StringRef name, StringRef contents) {
    std::error_code code;
    llvm::raw_fd_ostream os(at(name), code);
    ASSERT_FALSE(code);
    os << contents;
  }
  /// The bytes as text, or the error's message.
  std::string get(ModelFiles &files, StringRef name, uint64_t offset,
                  uint64_t bytes) {
    Expected<ArrayRef<char>> span = files.get(name, offset, bytes);
    if (!span)
      return "error: " + llvm::toString(span.takeError());
    return std::string(span->data(), span->size());
  }
  std::string folder;
};

TEST_F(ModelFilesTest, GivesSpans) {
  ModelFiles files(at("model.onnx"));
  EXPECT_EQ(files.getModelName(), "model.onnx");
  EXPECT_EQ(get(files, "model.onnx", 4, 5), "model");
  EXPECT_EQ(get(files, "model.onnx.data", 0, 10), "0123456789");
  EXPECT_EQ(get(files, "./model.onnx.data", 8, 2), "89");
  EXPECT_EQ(get(files, "model.onnx.data", 10, 0), "");
  Expected<ArrayRef<char>> span = files.get("model.onnx.data", 1, 2);
  ASSERT_TRUE(!!span);
  files.release(*span);
  EXPECT_EQ(get(files, "model.onnx.data", 1, 2), "12");
}

TEST_F(ModelFilesTest, RefusesRanges) {
  ModelFiles files(at("model.onnx"));
  EXPECT_NE(get(files, "model.onnx.data", 0, 11).find("has 10 bytes"),
            std::string::npos);
  EXPECT_NE(get(files, "model.onnx.data", 11, 0).find("error"),
            std::string::npos);
  EXPECT_NE(get(files, "model.onnx.data", UINT64_MAX, 2).find("error"),
            std::string::npos);
  EXPECT_NE(get(files, "model.onnx.data", 5, UINT64_MAX).find("error"),
            std::string::npos);
}

TEST_F(ModelFilesTest, RefusesNames) {
  llvm::sys::fs::create_directory(at("sub"));
  write("sub/data", "inside");
  std::string sub = at("sub/model.onnx");
  write("sub/model.onnx", "m");
  ModelFiles files(sub);
  EXPECT_EQ(get(files, "data", 0, 6), "inside");
  EXPECT_NE(get(files, "../model.onnx.data", 0, 1).find("leaves"),
            std::string::npos);
  EXPECT_NE(get(files, "x/../../model.onnx.data", 0, 1).find("leaves"),
            std::string::npos);
  EXPECT_NE(get(files, at("model.onnx.data"), 0, 1).find("absolute"),
            std::string::npos);
  EXPECT_NE(get(files, "", 0, 0).find("empty"), std::string::npos);
  EXPECT_NE(get(files, StringRef("a\0b", 3), 0, 0).find("NUL"),
            std::string::npos);
  EXPECT_NE(get(files, ".", 0, 0).find("error"), std::string::npos);
  EXPECT_NE(get(files, "missing", 0, 0).find("cannot read 'missing'"),
            std::string::npos);
}

TEST_F(ModelFilesTest, RefusesLinks) {
  ASSERT_EQ(::symlink("model.onnx.data", at("link").c_str()), 0);
  llvm::sys::fs::create_directory(at("sub"));
  write("sub/data", "inside");
  ASSERT_EQ(::symlink("sub", at("linked").c_str()), 0);
  ASSERT_EQ(::symlink("model.onnx", at("link.onnx").c_str()), 0);
  ModelFiles files(at("model.onnx"));
  EXPECT_EQ(get(files, "sub/data", 0, 6), "inside");
  EXPECT_NE(get(files, "link", 0, 1).find("symbolic link"), std::string::npos);
  EXPECT_NE(get(files, "linked/data", 0, 1).find("symbolic link"),
            std::string::npos);
  // The user may name the model itself by a link.
  ModelFiles linked(at("link.onnx"));
  EXPECT_EQ(get(linked, "link.onnx", 0, 3), "the");
}

TEST_F(ModelFilesTest, RefusesWhatIsNoFile) {
  llvm::sys::fs::create_directory(at("folder"));
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  ModelFiles files(at("model.onnx"));
  EXPECT_NE(get(files, "folder", 0, 0).find("not a plain file"),
            std::string::npos);
  EXPECT_NE(get(files, "pipe", 0, 0).find("not a plain file"),
            std::string::npos);
  EXPECT_NE(get(files, "model.onnx/x", 0, 0).find("error"), std::string::npos);
  ModelFiles none("");
  EXPECT_NE(get(none, "model.onnx", 0, 0).find("no folder"), std::string::npos);
}

TEST_F(ModelFilesTest, MapsMoreThanFourGigabytes) {
  uint64_t size = (uint64_t(5) << 30) + 3;
  write("big", "");
  ASSERT_EQ(::truncate(at("big").c_str(), size), 0); // a hole
  ModelFiles files(at("model.onnx"));
  EXPECT_EQ(get(files, "big", size - 3, 3), std::string(3, '\0'));
  EXPECT_NE(get(files, "big", size - 3, 4).find("error"), std::string::npos);
}

TEST(ModelFilesBuffer, IsRead) {
  std::string contents = "abcdef";
  ModelFiles files("");
  files.addBuffer("name", contents);
  Expected<ArrayRef<char>> span = files.get("name", 2, 3);
  ASSERT_TRUE(!!span);
  EXPECT_EQ(StringRef(span->data(), span->size()), "cde");
  EXPECT_EQ(llvm::toString(files.get("name", 5, 2).takeError()),
            "'name' has 6 bytes; 2 bytes at offset 5 are not inside of it");
}

} // namespace
