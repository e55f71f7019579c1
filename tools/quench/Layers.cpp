//===- Layers.cpp - The layers of a compiled model
//---------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Layers.h"
#include "Driver.h"
#include "llvm/Support/Format.h"
#include <cmath>

using namespace llvm;
using namespace quench;

bool Layer::isLinear() const {
  return !role.empty() && role != "head" && role != "embedding";
}

std::optional<double> Layer::decibelsAboveLimit() const {
  if (!(error > 0) || !weights())
    return std::nullopt;
  // 10 log10(error / 4^-bits)
  return 10 * std::log10(error) + 20 * std::log10(2.0) * bitsPerWeight();
}

Expected<LayerTable> LayerTable::parse(StringRef text, StringRef path) {
  Expected<json::Value> value = json::parse(text);
  if (!value)
    return createStringError("'" + path + "': its metadata are not JSON: " +
                             toString(value.takeError()));
  json::Object *object = value->getAsObject();
  if (!object)
    return createStringError("'" + path + "': its metadata are no JSON object");
  LayerTable table;
  table.recipe = object->getString("recipe").value_or("").str();
  table.cpu = object->getString("cpu").value_or("").str();
  if (const json::Array *rows = object->getArray("weights"))
    for (const json::Value &entry : *rows) {
      const json::Object *row = entry.getAsObject();
      if (!row)
        return createStringError("'" + path +
                                 "': a weight in its metadata is no object");
      Layer &layer = table.layers.emplace_back();
      layer.name = row->getString("name").value_or("").str();
      layer.role = row->getString("role").value_or("").str();
      layer.format = row->getString("format").value_or("").str();
      layer.block = row->getInteger("block").value_or(-1);
      layer.rows = row->getInteger("rows").value_or(0);
      layer.cols = row->getInteger("cols").value_or(0);
      layer.bits = row->getInteger("bits").value_or(0);
      layer.bytes = row->getInteger("bytes").value_or(0);
      layer.error = row->getNumber("error").value_or(0);
    }
  object->erase("weights");
  table.metadata = std::move(*object);
  return table;
}

void LayerTable::Total::add(const Layer &layer) {
  double sum = error * weights + layer.error * layer.weights();
  ++layers;
  weights += layer.weights();
  bits += layer.bits;
  bytes += layer.bytes;
  error = weights ? sum / weights : 0;
}

LayerTable::Total LayerTable::linear() const {
  Total total;
  total.role = "linear layers";
  for (const Layer &layer : layers)
    if (layer.isLinear())
      total.add(layer);
  return total;
}

LayerTable::Total LayerTable::all() const {
  Total total;
  total.role = "all";
  for (const Layer &layer : layers)
    total.add(layer);
  return total;
}

std::vector<LayerTable::Total> LayerTable::totals() const {
  std::vector<Total> result;
  for (const Layer &layer : layers) {
    auto found = find_if(
        result, [&](const Total &total) { return total.role == layer.role; });
    if (found == result.end()) {
      result.emplace_back().role = layer.role;
      found = std::prev(result.end());
    }
    found->add(layer);
  }
  result.push_back(linear());
  result.push_back(all());
  return result;
}

double LayerTable::bytesPerToken() const {
  double bytes = 0;
  for (const Layer &layer : layers)
    if (layer.role != "embedding")
      bytes += layer.bytes;
  return bytes;
}

static std::string errorText(double error) {
  return error > 0 ? formatted("%.2e", error) : "-";
}

/// The cells of the table of layers; the first row names the columns.
static std::vector<std::vector<std::string>>
layerCells(const LayerTable &table) {
  std::vector<std::vector<std::string>> cells = {
      {"layer", "role", "block ", "format", "rows ", "cols ", "bits/weight ",
       "bytes ", "error ", "dB above limit "}};
  for (const Layer &layer : table.layers) {
    std::optional<double> above = layer.decibelsAboveLimit();
    cells.push_back(
        {layer.name, layer.role.empty() ? "-" : layer.role,
         layer.block < 0 ? "-" : std::to_string(layer.block), layer.format,
         std::to_string(layer.rows), std::to_string(layer.cols),
         formatted("%.3f", layer.bitsPerWeight()), std::to_string(layer.bytes),
         errorText(layer.error), above ? formatted("%.2f", *above) : "-"});
  }
  return cells;
}

static std::vector<std::vector<std::string>>
totalCells(const LayerTable &table) {
  std::vector<std::vector<std::string>> cells = {
      {"role", "layers ", "weights ", "bits/weight ", "bytes ", "error "}};
  for (const LayerTable::Total &total : table.totals())
    cells.push_back({total.role.empty() ? "-" : total.role,
                     std::to_string(total.layers),
                     formatted("%.0f", total.weights),
                     formatted("%.3f", total.bitsPerWeight()),
                     formatted("%.0f", total.bytes), errorText(total.error)});
  return cells;
}

void LayerTable::print(raw_ostream &out) const {
  printTable(out, layerCells(*this));
  out << '\n';
  printTable(out, totalCells(*this));
}

json::Object LayerTable::toJSON() const {
  json::Object object = metadata;
  json::Array rows, sums;
  for (const Layer &layer : layers) {
    json::Object row{{"name", layer.name},
                     {"role", layer.role},
                     {"block", layer.block},
                     {"format", layer.format},
                     {"rows", layer.rows},
                     {"cols", layer.cols},
                     {"bits", layer.bits},
                     {"bytes", layer.bytes},
                     {"bits_per_weight", layer.bitsPerWeight()},
                     {"error", layer.error},
                     {"db_above_limit", nullptr}};
    if (std::optional<double> above = layer.decibelsAboveLimit())
      row["db_above_limit"] = *above;
    rows.push_back(std::move(row));
  }
  for (const Total &total : totals())
    sums.push_back(json::Object{{"role", total.role},
                                {"layers", total.layers},
                                {"weights", total.weights},
                                {"bits_per_weight", total.bitsPerWeight()},
                                {"bytes", total.bytes},
                                {"error", total.error}});
  object["weights"] = std::move(rows);
  object["totals"] = std::move(sums);
  object["bits_per_weight"] = linear().bitsPerWeight();
  return object;
}

static void escapeHTML(raw_ostream &out, StringRef text) {
  for (char c : text) {
    if (c == '&')
      out << "&amp;";
    else if (c == '<')
      out << "&lt;";
    else if (c == '>')
      out << "&gt;";
    else if (c == '"')
      out << "&quot;";
    else
      out << c;
  }
}

static void tableHTML(raw_ostream &out,
                      ArrayRef<std::vector<std::string>> cells) {
  out << "<table>\n";
  for (auto [r, row] : enumerate(cells)) {
    out << "<tr>";
    for (auto [c, cell] : enumerate(row)) {
      StringRef tag = r ? "td" : "th";
      bool right = StringRef(cells.front()[c]).ends_with(" ");
      out << '<' << tag << (right ? " class=\"n\">" : ">");
      escapeHTML(out, StringRef(cell).trim());
      out << "</" << tag << '>';
    }
    out << "</tr>\n";
  }
  out << "</table>\n";
}

std::string
LayerTable::toHTML(StringRef title,
                   ArrayRef<std::pair<std::string, std::string>> facts) const {
  std::string text;
  raw_string_ostream out(text);
  out << "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta "
         "charset=\"utf-8\">\n<title>";
  escapeHTML(out, title);
  out << "</title>\n<style>\n"
         "body { font: 14px/1.5 system-ui, sans-serif; margin: 2em auto; "
         "max-width: 75em; padding: 0 1em; color: #222; }\n"
         "h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }\n"
         "table { border-collapse: collapse; }\n"
         "th, td { padding: .2em .8em; text-align: left; border-bottom: 1px "
         "solid #ddd; white-space: nowrap; }\n"
         "th { border-bottom: 2px solid #888; }\n"
         ".n { text-align: right; font-variant-numeric: tabular-nums; }\n"
         "</style>\n</head>\n<body>\n<h1>";
  escapeHTML(out, title);
  out << "</h1>\n<table>\n";
  for (const auto &[name, value] : facts) {
    out << "<tr><th>";
    escapeHTML(out, name);
    out << "</th><td>";
    escapeHTML(out, value);
    out << "</td></tr>\n";
  }
  out << "</table>\n<h2>By role</h2>\n";
  tableHTML(out, totalCells(*this));
  out << "<h2>Layers</h2>\n<p>error: |w - w'|&sup2; / |w|&sup2; of the stored "
         "weights w'. dB above limit: that error over 4<sup>-bits</sup>, the "
         "least possible for Gaussian weights.</p>\n";
  tableHTML(out, layerCells(*this));
  out << "</body>\n</html>\n";
  return text;
}
