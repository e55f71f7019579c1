//===- ProgressTest.cpp - Progress bars -----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Support/Progress.h"
#include "llvm/ADT/SmallVector.h"
#include "gtest/gtest.h"

using namespace llvm;
using namespace quench;

TEST(ProgressTest, BarFitsItsLineAndIsTakenAway) {
  std::string text;
  raw_string_ostream out(text);
  {
    Progress progress(out, 40);
    progress.update("weights", "layers.0.self_attention.output_projection", 0,
                    2);
    progress.update("weights", "layers.1.mlp", 2, 2);
  }
  SmallVector<StringRef> drawn;
  StringRef(text).split(drawn, '\r', -1, /*KeepEmpty=*/false);
  ASSERT_EQ(drawn.size(), 3u);
  for (StringRef &line : drawn) {
    EXPECT_TRUE(line.consume_back("\x1b[K"));
    EXPECT_LT(line.size(), 40u);
  }
  EXPECT_EQ(drawn[0], "weights [>                       ]   0%");
  EXPECT_EQ(drawn[1], "weights [========================] 100%");
  EXPECT_EQ(drawn[2], "");
}

TEST(ProgressTest, CharactersAreNotCutInTwo) {
  std::string text;
  raw_string_ostream out(text);
  Progress progress(out, 12);
  progress.update("import", "\xc3\xa4\xc3\xb6\xc3\xbc", 0, 0);
  EXPECT_EQ(text, "\rimport \xc3\xa4\xc3\xb6\x1b[K");
}

TEST(ProgressTest, QuickStepsWriteNoLines) {
  std::string text;
  raw_string_ostream out(text);
  Progress progress(out, 0);
  for (int i = 0; i <= 100; ++i)
    progress.update("weights", "layer", i, 100);
  progress.update("link", "", 0, 0);
  progress.finish();
  EXPECT_EQ(text, "");
}

TEST(ProgressTest, OddNumbers) {
  std::string text;
  raw_string_ostream out(text);
  Progress progress(out, 80);
  progress.update("a", "more than all", 5, 2);
  progress.update("b", "negative", -5, -2);
  progress.update("c", "", 0, 1);
  EXPECT_NE(text.find("100%  more than all"), std::string::npos);
  EXPECT_NE(text.find("b negative"), std::string::npos);
  EXPECT_NE(text.find("c ["), std::string::npos);
}
