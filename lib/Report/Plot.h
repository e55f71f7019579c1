//===- Plot.h - Plots as SVG ------------------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Plots that stand inside of an HTML page. Colors are classes of the page's
// style sheet (series 0 is class "s0", ...), so that they follow its light or
// dark appearance.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_REPORT_PLOT_H
#define QUENCH_LIB_REPORT_PLOT_H

#include "llvm/ADT/StringRef.h"
#include <string>
#include <vector>

namespace quench {

/// How many colors the style sheet has; further series share them.
constexpr unsigned kSeriesColors = 10;

/// It shows the range of the data, a little widened.
struct Axis {
  std::string label;
  bool logarithmic = false;
  bool whole = false; // only whole numbers are marked
};

struct PlotPoint {
  double x, y;
  unsigned series;
  std::string title; // shown when pointed at
  double radius = 3.6;
};

/// A line; its label stands at its right end.
struct PlotLine {
  std::vector<std::pair<double, double>> points;
  std::string style; // class: "limit", "curve", or one of a series
  std::string label;
};

class Plot {
public:
  Plot(std::string name, Axis x, Axis y)
      : name(std::move(name)), x(std::move(x)), y(std::move(y)) {}

  /// Points whose numbers cannot be shown (not finite, not positive on a
  /// logarithmic axis) are left out.
  void add(PlotPoint point) { points.push_back(std::move(point)); }
  void add(PlotLine line) { lines.push_back(std::move(line)); }
  /// Joins the points of each series by thin lines, in the order they came.
  void joinSeries() { joined = true; }
  bool empty() const;

  /// <figure> with its caption; nothing if there are no points.
  std::string figure() const;

private:
  struct Scale;
  Scale scale(const Axis &axis, bool vertical) const;
  bool shows(double x, double y) const;

  std::string name;
  Axis x, y;
  std::vector<PlotPoint> points;
  std::vector<PlotLine> lines;
  bool joined = false;
};

/// A bar of shares of a whole, each in the color of its series.
struct Share {
  double value;
  unsigned series;
  std::string label;
};
std::string shareFigure(llvm::StringRef name, const std::vector<Share> &shares);

/// A cell of a table of shades: the higher its number, the stronger its color.
struct ShadeCell {
  unsigned row;
  int64_t column;
  double number;
  std::string title;
};
/// Rows have names, columns are numbered.
std::string shadeFigure(llvm::StringRef name,
                        const std::vector<std::string> &rows,
                        const std::vector<ShadeCell> &cells);

} // namespace quench

#endif // QUENCH_LIB_REPORT_PLOT_H
