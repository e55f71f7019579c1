//===- ReportTest.cpp - Tables and pages ------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Report/LayerTable.h"
#include "quench/Report/Page.h"
#include "gtest/gtest.h"
#include <cmath>

using namespace quench;
using llvm::StringRef;

namespace {

constexpr StringRef kMetadata = R"json({
  "recipe": "mine", "cpu": "znver5", "state": true, "weights": [
  {"name": "table", "role": "embedding", "block": -1, "format": "int<8>",
   "rows": 100, "cols": 10, "bits": 8000, "bytes": 1000, "error": 1e-5},
  {"name": "a<b>&\"c\"", "role": "q", "block": 0, "format": "trellis<2>",
   "quantizer": "ldlq", "rows": 10, "cols": 10, "bits": 200, "bytes": 32,
   "error": 0.07, "loss": 0.008, "error_bound": 0.5, "loss_limit": 0.004,
   "entropy": 1.75, "note": "damped more"},
  {"name": "plain", "role": "down", "block": 1, "format": "float<32>",
   "rows": 10, "cols": 20, "bits": 6400, "bytes": 800, "error": 0}]})json";

LayerTable parse(StringRef text) {
  llvm::Expected<LayerTable> table = LayerTable::parse(text, "file");
  if (table)
    return std::move(*table);
  ADD_FAILURE() << llvm::toString(table.takeError());
  return {};
}

TEST(LayerTable, ReadsWhatIsThere) {
  LayerTable table = parse(kMetadata);
  ASSERT_EQ(table.layers.size(), 3u);
  const Layer &q = table.layers[1];
  EXPECT_EQ(q.quantizer, "ldlq");
  EXPECT_EQ(q.note, "damped more");
  EXPECT_EQ(q.bitsPerWeight(), 2);
  EXPECT_TRUE(q.isLinear());
  // 0.008 over 0.004: 3.01 dB.
  EXPECT_NEAR(q.decibelsAboveLimit().value_or(0), 3.0103, 1e-4);
  // Without a known limit: 1e-5 over 4^-8.
  EXPECT_NEAR(table.layers[0].decibelsAboveLimit().value_or(0),
              10 * std::log10(1e-5 * 65536), 1e-9);
  EXPECT_FALSE(table.layers[2].decibelsAboveLimit());
  EXPECT_EQ(table.layers[0].loss, 1e-5);
  EXPECT_LT(table.layers[0].entropy, 0);
  EXPECT_EQ(table.all().bits, 14600);
  EXPECT_EQ(table.linear().layers, 2);
  EXPECT_NEAR(table.linear().loss, 0.008 / 3, 1e-12);
  EXPECT_EQ(table.bytesPerToken(), 832);
}

TEST(LayerTable, ColumnsOfWhatIsKnown) {
  LayerTable table = parse(kMetadata);
  LayerTable::Cells cells = table.layerCells();
  for (const auto &row : cells)
    EXPECT_EQ(row.size(), cells.front().size());
  EXPECT_TRUE(llvm::is_contained(cells.front(), "error bound "));
  EXPECT_FALSE(llvm::is_contained(cells.front(), "predicted KL "));
  table.layers[1].budget = Layer::Budget{0.25, "trellis<3>", 3, 0.125};
  cells = table.layerCells();
  for (const auto &row : cells)
    EXPECT_EQ(row.size(), cells.front().size());
  EXPECT_TRUE(llvm::is_contained(cells.front(), "predicted KL "));
  EXPECT_TRUE(llvm::is_contained(cells[2], "trellis<3>"));
}

TEST(LayerTable, KeysOfTheJSON) {
  LayerTable table = parse(kMetadata);
  table.layers[1].budget = Layer::Budget{0.25, "trellis<3>", 3, 0.125};
  table.budget = BudgetCurve{false, 2, 0.25, {{1, 1}, {2, 0.25}}};
  llvm::json::Object object = table.toJSON();
  EXPECT_EQ(object.getBoolean("state"), true); // the rest of the metadata
  const llvm::json::Object *q = (*object.getArray("weights"))[1].getAsObject();
  EXPECT_EQ(q->getNumber("loss"), 0.008);
  EXPECT_EQ(q->getNumber("entropy"), 1.75);
  EXPECT_EQ(q->getNumber("error_bound"), 0.5);
  EXPECT_EQ(q->getNumber("predicted_kl"), 0.25);
  EXPECT_EQ(q->getObject("next")->getString("format"), StringRef("trellis<3>"));
  const llvm::json::Object *plain =
      (*object.getArray("weights"))[2].getAsObject();
  EXPECT_TRUE(plain->getNull("db_above_limit").has_value());
  EXPECT_TRUE(plain->getNull("entropy").has_value());
  EXPECT_EQ(object.getObject("budget")->getString("of"), StringRef("linear"));
  EXPECT_EQ(object.getObject("budget")->getArray("curve")->size(), 2u);
}

TEST(LayerTable, Errors) {
  auto message = [](StringRef text) {
    llvm::Expected<LayerTable> table = LayerTable::parse(text, "file");
    return table ? "" : llvm::toString(table.takeError());
  };
  EXPECT_NE(message("{").find("'file'"), std::string::npos);
  EXPECT_EQ(message("3"), "'file': its metadata are no JSON object");
  EXPECT_EQ(message("{\"weights\": [1]}"),
            "'file': a weight in its metadata is no object");
}

size_t count(StringRef text, StringRef what) { return text.count(what); }

TEST(Page, HasPlotsAndEscapesNames) {
  LayerTable table = parse(kMetadata);
  table.layers[1].budget = Layer::Budget{0.25, "trellis<3>", 3, 0.125};
  table.budget = BudgetCurve{true, 2, 0.25, {{1, 1}, {2, 0.25}, {3, 0.1}}};
  std::string page = reportPage(table, "m<o>del.onnx", {{"recipe", "a & b"}});
  EXPECT_NE(page.find("<title>m&lt;o&gt;del.onnx</title>"), std::string::npos);
  EXPECT_NE(page.find("a &amp; b"), std::string::npos);
  EXPECT_NE(page.find("a&lt;b&gt;&amp;&quot;c&quot;"), std::string::npos);
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find("http"), std::string::npos);
  EXPECT_EQ(page.find("nan"), std::string::npos);
  EXPECT_EQ(page.find("inf"), std::string::npos);
  EXPECT_EQ(count(page, "<svg"), 9u);
  for (StringRef tag : {"svg", "figure", "table", "tr", "text", "div"})
    EXPECT_EQ(count(page, ("<" + tag + ">").str()) +
                  count(page, ("<" + tag + " ").str()),
              count(page, ("</" + tag + ">").str()))
        << tag.str();
}

TEST(Page, EmptyTables) {
  std::string page = reportPage(LayerTable{}, "empty", {});
  EXPECT_EQ(page.find("<svg"), std::string::npos);
  EXPECT_NE(page.find("</html>"), std::string::npos);
  // Nothing of one layer without error can be put on a logarithmic axis.
  page = reportPage(parse(R"({"weights": [{"name": "w", "block": 3,
      "rows": 1, "cols": 1, "bits": 32, "bytes": 4}]})"),
                    "one", {});
  EXPECT_EQ(page.find("nan"), std::string::npos);
  EXPECT_NE(page.find("no role"), std::string::npos);
}

} // namespace
