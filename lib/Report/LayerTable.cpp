//===- LayerTable.cpp - The layers of a compiled model ----------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Report/LayerTable.h"
#include "Text.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>

using namespace llvm;
using namespace quench;

bool Layer::isLinear() const {
  return !role.empty() && role != "head" && role != "embedding";
}

std::optional<double> Layer::decibelsAboveLimit() const {
  bool known = lossLimit > 0 && loss > 0;
  if ((!known && !(error > 0)) || !weights())
    return std::nullopt;
  if (known)
    return 10 * std::log10(loss / lossLimit);
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
      auto text = [&](StringRef key) {
        return row->getString(key).value_or("").str();
      };
      layer.name = text("name");
      layer.role = text("role");
      layer.format = text("format");
      layer.quantizer = text("quantizer");
      layer.note = text("note");
      layer.block = row->getInteger("block").value_or(-1);
      layer.rows = row->getInteger("rows").value_or(0);
      layer.cols = row->getInteger("cols").value_or(0);
      layer.bits = row->getInteger("bits").value_or(0);
      layer.bytes = row->getInteger("bytes").value_or(0);
      layer.error = row->getNumber("error").value_or(0);
      layer.loss = row->getNumber("loss").value_or(layer.error);
      layer.errorBound = row->getNumber("error_bound").value_or(0);
      layer.lossLimit = row->getNumber("loss_limit").value_or(0);
      layer.entropy = row->getNumber("entropy").value_or(-1);
    }
  object->erase("weights");
  table.metadata = std::move(*object);
  return table;
}

void LayerTable::Total::add(const Layer &layer) {
  double errors = error * weights + layer.error * layer.weights();
  double losses = loss * weights + layer.loss * layer.weights();
  ++layers;
  weights += layer.weights();
  bits += layer.bits;
  bytes += layer.bytes;
  error = weights ? errors / weights : 0;
  loss = weights ? losses / weights : 0;
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

static std::string positive(double number, const char *format) {
  return number > 0 ? printed(format, number) : "-";
}

LayerTable::Cells LayerTable::layerCells() const {
  bool hasLoss = any_of(
      layers, [](const Layer &layer) { return layer.loss != layer.error; });
  bool hasBound =
      any_of(layers, [](const Layer &layer) { return layer.errorBound > 0; });
  bool hasEntropy =
      any_of(layers, [](const Layer &layer) { return layer.entropy >= 0; });
  bool hasBudget = any_of(
      layers, [](const Layer &layer) { return layer.budget.has_value(); });
  Cells cells = {{"layer", "role", "block ", "format", "rows ", "cols ",
                  "bits/weight ", "bytes ", "error "}};
  auto head = [&](bool use, StringRef name) {
    if (use)
      cells.front().push_back(name.str());
  };
  head(hasLoss, "output error ");
  head(hasBound, "error bound ");
  head(true, "dB above limit ");
  head(hasEntropy, "entropy ");
  head(hasBudget, "predicted KL ");
  head(hasBudget, "next option");
  head(hasBudget, "would save ");
  for (const Layer &layer : layers) {
    std::optional<double> above = layer.decibelsAboveLimit();
    std::vector<std::string> &row = cells.emplace_back();
    row = {layer.name,
           layer.role.empty() ? "-" : layer.role,
           layer.block < 0 ? "-" : std::to_string(layer.block),
           layer.format,
           std::to_string(layer.rows),
           std::to_string(layer.cols),
           printed("%.3f", layer.bitsPerWeight()),
           std::to_string(layer.bytes),
           positive(layer.error, "%.2e")};
    if (hasLoss)
      row.push_back(positive(layer.loss, "%.2e"));
    if (hasBound)
      row.push_back(positive(layer.errorBound, "%.3f"));
    row.push_back(above ? printed("%.2f", *above) : "-");
    if (hasEntropy)
      row.push_back(layer.entropy >= 0 ? printed("%.3f", layer.entropy) : "-");
    if (!hasBudget)
      continue;
    if (!layer.budget) {
      row.insert(row.end(), 3, "-");
      continue;
    }
    const Layer::Budget &budget = *layer.budget;
    row.push_back(positive(budget.divergence, "%.2e"));
    row.push_back(budget.nextFormat.empty() ? "-" : budget.nextFormat);
    row.push_back(positive(budget.divergence - budget.nextDivergence, "%.2e"));
  }
  return cells;
}

LayerTable::Cells LayerTable::totalCells() const {
  Cells cells = {
      {"role", "layers ", "weights ", "bits/weight ", "bytes ", "error "}};
  for (const Total &total : totals())
    cells.push_back(
        {total.role.empty() ? "-" : total.role, std::to_string(total.layers),
         printed("%.0f", total.weights), printed("%.3f", total.bitsPerWeight()),
         printed("%.0f", total.bytes), positive(total.error, "%.2e")});
  return cells;
}

static json::Object layerJSON(const Layer &layer) {
  json::Object row{{"name", layer.name},
                   {"role", layer.role},
                   {"block", layer.block},
                   {"format", layer.format},
                   {"quantizer", layer.quantizer},
                   {"rows", layer.rows},
                   {"cols", layer.cols},
                   {"bits", layer.bits},
                   {"bytes", layer.bytes},
                   {"bits_per_weight", layer.bitsPerWeight()},
                   {"error", layer.error},
                   {"loss", layer.loss},
                   {"error_bound", nullptr},
                   {"loss_limit", nullptr},
                   {"db_above_limit", nullptr},
                   {"entropy", nullptr},
                   {"next_bit_gain", layer.nextBitGain()},
                   {"note", layer.note}};
  if (layer.errorBound > 0)
    row["error_bound"] = layer.errorBound;
  if (layer.lossLimit > 0)
    row["loss_limit"] = layer.lossLimit;
  if (std::optional<double> above = layer.decibelsAboveLimit())
    row["db_above_limit"] = *above;
  if (layer.entropy >= 0)
    row["entropy"] = layer.entropy;
  if (!layer.budget)
    return row;
  row["predicted_kl"] = layer.budget->divergence;
  row["next"] = nullptr;
  if (!layer.budget->nextFormat.empty())
    row["next"] =
        json::Object{{"format", layer.budget->nextFormat},
                     {"bits_per_weight", layer.budget->nextBitsPerWeight},
                     {"predicted_kl", layer.budget->nextDivergence}};
  return row;
}

json::Object LayerTable::toJSON() const {
  json::Object object = metadata;
  json::Array rows, sums;
  for (const Layer &layer : layers)
    rows.push_back(layerJSON(layer));
  for (const Total &total : totals())
    sums.push_back(json::Object{{"role", total.role},
                                {"layers", total.layers},
                                {"weights", total.weights},
                                {"bits_per_weight", total.bitsPerWeight()},
                                {"bytes", total.bytes},
                                {"error", total.error},
                                {"loss", total.loss}});
  object["weights"] = std::move(rows);
  object["totals"] = std::move(sums);
  object["bits_per_weight"] = linear().bitsPerWeight();
  if (budget) {
    json::Array points;
    for (auto [bits, divergence] : budget->points)
      points.push_back(json::Array{bits, divergence});
    object["budget"] =
        json::Object{{"of", budget->wholeFile ? "all" : "linear"},
                     {"bits_per_weight", budget->bitsPerWeight},
                     {"predicted_kl", budget->divergence},
                     {"curve", std::move(points)}};
  }
  return object;
}
