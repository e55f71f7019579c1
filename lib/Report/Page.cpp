//===- Page.cpp - The report as an HTML page --------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Report/Page.h"
#include "Plot.h"
#include "Text.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>

using namespace llvm;
using namespace quench;

// Ten colors that differ in lightness too, once for each appearance.
static constexpr StringLiteral kStyle = R"css(
:root { color-scheme: light dark;
  --paper: #fcfcfa; --ink: #24292f; --faint: #6b737c; --rule: #dfe2e5;
  --band: #f3f4f2;
  --c0: #1f6fb4; --c1: #59aee0; --c2: #11806a; --c3: #6a4fb0; --c4: #c2571a;
  --c5: #e59c1c; --c6: #b8336a; --c7: #7a828a; --c8: #8f7d00; --c9: #3f4c5a; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #15181c; --ink: #e3e6e8; --faint: #98a1aa; --rule: #333a41;
  --band: #1d2126;
  --c0: #5aa5ea; --c1: #9bd3f7; --c2: #3fbf9f; --c3: #ab93ea; --c4: #f08a4b;
  --c5: #f6c25b; --c6: #ec7aa4; --c7: #a6aeb6; --c8: #d3c24a; --c9: #c9d1d9; } }
body { font: 15px/1.55 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); margin: 2.5em auto; max-width: 84em;
  padding: 0 1.5em; }
h1 { font-size: 1.6em; margin: 0 0 .6em; overflow-wrap: anywhere; }
h2 { font-size: 1.2em; margin: 2.2em 0 .6em; }
p { max-width: 62em; color: var(--faint); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2em 1.4em;
  margin: 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
.plots { display: grid; gap: 1.8em;
  grid-template-columns: repeat(auto-fit, minmax(26em, 1fr)); }
figure { margin: 0; } figure.wide { margin: 1em 0; }
figcaption { font-weight: 600; margin-bottom: .3em; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--faint); }
svg .name { font-size: 13px; fill: var(--ink); }
svg .note { font-style: italic; }
svg .inside { font-size: 14px; font-weight: 600; fill: var(--paper); }
.middle { text-anchor: middle; } .end { text-anchor: end; }
.grid { stroke: var(--rule); stroke-width: 1; }
.axis { stroke: var(--faint); stroke-width: 1; }
.line, .join { fill: none; stroke-linejoin: round; }
.limit { stroke: var(--faint); stroke-width: 1.5; stroke-dasharray: 5 4; }
.curve { stroke: var(--c0); stroke-width: 2; }
.join { stroke-width: 1.2; opacity: .45; }
.shade { fill: var(--c0); }
svg .over { fill: var(--paper); } svg .under { fill: var(--ink); }
.dot { stroke: var(--paper); stroke-width: 1; }
.legend { display: flex; flex-wrap: wrap; gap: .3em 1.4em; margin: 0 0 1em;
  padding: 0; list-style: none; }
.legend i { display: inline-block; width: .8em; height: .8em;
  border-radius: 50%; margin-right: .45em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: .25em .8em; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
th { position: sticky; top: 0; background: var(--paper);
  border-bottom: 2px solid var(--faint); }
tbody tr:nth-child(even) { background: var(--band); }
.n { text-align: right; font-variant-numeric: tabular-nums; }
)css";

static std::string style() {
  std::string text = kStyle.str();
  for (unsigned i = 0; i != kSeriesColors; ++i) {
    std::string n = std::to_string(i);
    text += "circle.s" + n + ", rect.s" + n + " { fill: var(--c" + n +
            "); } polyline.s" + n + " { stroke: var(--c" + n + "); } i.s" + n +
            " { background: var(--c" + n + "); }\n";
  }
  return text;
}

static void writeTable(raw_ostream &out, const LayerTable::Cells &cells) {
  out << "<div class=\"scroll\">\n<table>\n";
  for (auto [r, row] : enumerate(cells)) {
    StringRef tag = r ? "td" : "th";
    out << (r == 0 ? "<thead>" : r == 1 ? "<tbody>\n" : "") << "<tr>";
    for (auto [c, cell] : enumerate(row)) {
      bool right = StringRef(cells.front()[c]).ends_with(" ");
      out << '<' << tag << (right ? " class=\"n\">" : ">")
          << escaped(StringRef(cell).trim()) << "</" << tag << '>';
    }
    out << (r == 0 ? "</tr></thead>\n" : "</tr>\n");
  }
  out << (cells.size() > 1 ? "</tbody>\n" : "") << "</table>\n</div>\n";
}

namespace {

/// The plots of one table; a role is a series.
class Plots {
public:
  explicit Plots(const LayerTable &table) : table(table) {
    for (const Layer &layer : table.layers)
      if (!is_contained(roles, layer.role))
        roles.push_back(layer.role);
  }

  void write(raw_ostream &out) const;

private:
  unsigned series(const Layer &layer) const {
    return find(roles, layer.role) - roles.begin();
  }
  /// What is shown when a layer's point is pointed at.
  static std::string describe(const Layer &layer) {
    std::string text = layer.name + "\n" + layer.format +
                       printed(", %.3f bits a weight", layer.bitsPerWeight());
    if (layer.loss > 0)
      text += printed("\noutput error %.3g", layer.loss);
    if (std::optional<double> above = layer.decibelsAboveLimit())
      text += printed(", %.2f dB above the limit", *above);
    return text;
  }
  /// A number of each layer over the blocks.
  std::string overBlocks(StringRef name, Axis y,
                         function_ref<double(const Layer &)> number) const {
    Plot plot(name.str(), {"block", false, true}, std::move(y));
    for (const Layer &layer : table.layers)
      if (layer.block >= 0)
        plot.add(PlotPoint{static_cast<double>(layer.block), number(layer),
                           series(layer), describe(layer)});
    plot.joinSeries();
    return plot.figure();
  }
  std::string errorOverBits() const;
  std::string budgetCurve() const;
  std::string shares() const;
  std::string bitsOfBlocks() const;

  const LayerTable &table;
  std::vector<std::string> roles;
};

} // namespace

std::string Plots::errorOverBits() const {
  Plot plot("Error of the weights over their bits", {"bits a weight"},
            {"|w − w′|² / |w|²", true});
  double low = INFINITY, high = 0;
  for (const Layer &layer : table.layers)
    if (layer.error > 0) {
      double bits = layer.bitsPerWeight();
      low = std::min(low, bits);
      high = std::max(high, bits);
      plot.add(PlotPoint{bits, layer.error, series(layer), describe(layer)});
    }
  PlotLine limit{{}, "limit", "least possible for Gaussian weights"};
  for (int i = 0; i <= 40 && high > 0; ++i) {
    double bits = low - 0.5 + (high - low + 1) * i / 40;
    limit.points.emplace_back(bits, std::exp2(-2 * bits));
  }
  plot.add(std::move(limit));
  return plot.figure();
}

std::string Plots::budgetCurve() const {
  if (!table.budget)
    return "";
  const BudgetCurve &budget = *table.budget;
  Plot plot("What a budget buys",
            {budget.wholeFile ? "bits a weight, all weights"
                              : "bits a weight, linear layers"},
            {"predicted divergence (nats)", true});
  PlotLine curve{budget.points, "curve", ""};
  for (auto [bits, divergence] : budget.points)
    plot.add(PlotPoint{bits, divergence, 0,
                       printed("%.3f bits a weight", bits) +
                           printed("\npredicted divergence %.4g", divergence)});
  plot.add(std::move(curve));
  plot.add(
      PlotPoint{budget.bitsPerWeight, budget.divergence, 4,
                printed("chosen: %.3f bits a weight", budget.bitsPerWeight) +
                    printed(", predicted divergence %.4g", budget.divergence)});
  return plot.figure();
}

std::string Plots::shares() const {
  std::vector<Share> shares;
  for (const LayerTable::Total &total : table.totals()) {
    auto found = find(roles, total.role);
    if (found == roles.end())
      continue;
    shares.push_back({total.bytes, static_cast<unsigned>(found - roles.begin()),
                      total.role + printed(" %.1f MB", total.bytes / 1e6)});
  }
  return shareFigure("Bytes of the weights", shares);
}

std::string Plots::bitsOfBlocks() const {
  std::vector<ShadeCell> cells;
  for (const Layer &layer : table.layers)
    if (layer.block >= 0)
      cells.push_back(
          {series(layer), layer.block, layer.bitsPerWeight(), describe(layer)});
  return shadeFigure("Bits a weight of each layer, by block", roles, cells);
}

void Plots::write(raw_ostream &out) const {
  out << shares() << bitsOfBlocks();
  std::vector<std::string> figures = {
      budgetCurve(),
      errorOverBits(),
      overBlocks("Error of the outputs", {"relative squared error", true},
                 [](const Layer &layer) { return layer.loss; }),
      overBlocks("Distance to the rate-distortion limit",
                 {"dB (6.02 are one bit)"},
                 [](const Layer &layer) {
                   return layer.decibelsAboveLimit().value_or(NAN);
                 }),
      overBlocks("Stored bits that entropy coding would save",
                 {"bits a weight"},
                 [](const Layer &layer) {
                   return layer.entropy >= 0
                              ? layer.bitsPerWeight() - layer.entropy
                              : NAN;
                 }),
      overBlocks("Predicted share in the divergence", {"nats", true},
                 [](const Layer &layer) {
                   return layer.budget ? layer.budget->divergence : NAN;
                 }),
      overBlocks(
          "What the next megabyte would save", {"nats a MB", true},
          [](const Layer &layer) -> double {
            if (!layer.budget || layer.budget->nextFormat.empty())
              return NAN;
            double more =
                (layer.budget->nextBitsPerWeight - layer.bitsPerWeight()) *
                layer.weights() / 8e6;
            return (layer.budget->divergence - layer.budget->nextDivergence) /
                   more;
          })};
  if (all_of(figures, [](const std::string &text) { return text.empty(); }))
    return;
  out << "<ul class=\"legend\">\n";
  for (auto [i, role] : enumerate(roles))
    out << "<li><i class=\"s" << i % kSeriesColors << "\"></i>"
        << escaped(role.empty() ? "no role" : role) << "</li>\n";
  out << "</ul>\n<div class=\"plots\">\n";
  for (const std::string &figure : figures)
    out << figure;
  out << "</div>\n";
}

std::string
quench::reportPage(const LayerTable &table, StringRef title,
                   ArrayRef<std::pair<std::string, std::string>> facts) {
  std::string text;
  raw_string_ostream out(text);
  out << "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n"
         "<meta charset=\"utf-8\"/>\n"
         "<meta name=\"viewport\" content=\"width=device-width\"/>\n<title>"
      << escaped(title) << "</title>\n<style>" << style()
      << "</style>\n</head>\n<body>\n<h1>" << escaped(title) << "</h1>\n<dl>\n";
  for (const auto &[name, value] : facts)
    out << "<dt>" << escaped(name) << "</dt><dd>" << escaped(value)
        << "</dd>\n";
  out << "</dl>\n";
  Plots(table).write(out);
  out << "<h2>By role</h2>\n";
  writeTable(out, table.totalCells());
  out << "<h2>Layers</h2>\n<p>error: |w − w′|² / |w|² of the stored weights "
         "w′. output error: the same of the layer's output over the "
         "calibration data. error bound: no output moves by more, for an input "
         "of length one and rows of the weight of mean length one. dB above "
         "limit: the (output) error over the least that any code of so many "
         "bits could reach if weights were Gaussian. entropy: of the stored "
         "codes, bits a weight. predicted KL: the layer's share in the "
         "divergence from the float model, and what the next option would "
         "save of it.</p>\n";
  writeTable(out, table.layerCells());
  out << "</body>\n</html>\n";
  return text;
}
