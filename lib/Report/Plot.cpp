//===- Plot.cpp - Plots as SVG ----------------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Plot.h"
#include "Text.h"
#include "llvm/ADT/STLExtras.h"
#include <algorithm>
#include <cmath>
#include <map>

using namespace quench;

namespace {
// Of the picture, in its own units.
constexpr double kWidth = 640, kHeight = 340;
constexpr double kLeft = 62, kRight = 16, kTop = 12, kBottom = 46;

std::string place(double number) { return printed("%.1f", number); }

std::string seriesClass(unsigned series) {
  return "s" + std::to_string(series % kSeriesColors);
}
} // namespace

std::string quench::escaped(llvm::StringRef text) {
  std::string result;
  for (char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else if (c == '"')
      result += "&quot;";
    else
      result += static_cast<unsigned char>(c) < 0x20 && c != '\n' ? ' ' : c;
  }
  return result;
}

/// From the numbers of an axis to the picture.
struct Plot::Scale {
  bool logarithmic;
  double low, high; // of the numbers, or of their logarithms
  double from, to;  // of the picture

  double raw(double number) const {
    return logarithmic ? std::log10(number) : number;
  }
  double at(double number) const {
    return from + (raw(number) - low) / (high - low) * (to - from);
  }
  struct Tick {
    double number;
    std::string label;
  };
  std::vector<Tick> ticks(bool whole) const;
};

std::vector<Plot::Scale::Tick> Plot::Scale::ticks(bool whole) const {
  std::vector<Tick> result;
  double slack = 1e-9 * (high - low);
  if (logarithmic) {
    // All decades, or some, and where there are few also 2 and 5.
    double decades = high - low;
    int step = decades > 8 ? 2 : 1;
    for (int e = static_cast<int>(std::floor(low)); e <= std::ceil(high); ++e)
      for (double digit : {1.0, 2.0, 5.0}) {
        double number = digit * std::pow(10.0, e);
        if ((digit != 1 && decades > 2.5) || (e % step && digit == 1) ||
            std::log10(number) < low - slack ||
            std::log10(number) > high + slack)
          continue;
        bool plain = number >= 0.01 && number < 10000;
        result.push_back({number, printed(plain ? "%g" : "%.0e", number)});
      }
    return result;
  }
  double step = std::pow(10.0, std::floor(std::log10((high - low) / 4)));
  for (double factor : {5.0, 2.0})
    if ((high - low) / (step * factor) >= 4) {
      step *= factor;
      break;
    }
  if (whole)
    step = std::max(1.0, step);
  for (double number = std::ceil((low - slack) / step) * step;
       number <= high + slack; number += step)
    result.push_back(
        {number, printed("%g", std::fabs(number) < 1e-12 * step ? 0 : number)});
  return result;
}

bool Plot::shows(double px, double py) const {
  return std::isfinite(px) && std::isfinite(py) && (!x.logarithmic || px > 0) &&
         (!y.logarithmic || py > 0);
}

bool Plot::empty() const {
  return llvm::none_of(
      points, [&](const PlotPoint &point) { return shows(point.x, point.y); });
}

Plot::Scale Plot::scale(const Axis &axis, bool vertical) const {
  Scale scale{axis.logarithmic, INFINITY, -INFINITY,
              vertical ? kHeight - kBottom : kLeft,
              vertical ? kTop : kWidth - kRight};
  for (const PlotPoint &point : points)
    if (shows(point.x, point.y)) {
      double number = scale.raw(vertical ? point.y : point.x);
      scale.low = std::min(scale.low, number);
      scale.high = std::max(scale.high, number);
    }
  double margin = (scale.high - scale.low) * 0.06;
  if (!(margin > 0))
    margin = axis.logarithmic ? 0.5 : std::max(0.5, 0.1 * std::fabs(scale.low));
  // Nothing below zero is shown where all numbers are above.
  bool above = !axis.logarithmic && scale.low >= 0;
  scale.low -= margin;
  scale.high += margin;
  if (above)
    scale.low = std::max(0.0, scale.low);
  return scale;
}

std::string Plot::figure() const {
  if (empty())
    return "";
  Scale across = scale(x, false), up = scale(y, true);
  std::string text = "<figure>\n<figcaption>" + escaped(name) +
                     "</figcaption>\n<svg viewBox=\"0 0 " + place(kWidth) +
                     " " + place(kHeight) + "\" role=\"img\" aria-label=\"" +
                     escaped(name) + "\">\n";
  auto line = [&](llvm::StringRef style, double x1, double y1, double x2,
                  double y2) {
    text += "<line class=\"" + style.str() + "\" x1=\"" + place(x1) +
            "\" y1=\"" + place(y1) + "\" x2=\"" + place(x2) + "\" y2=\"" +
            place(y2) + "\"/>\n";
  };
  auto label = [&](llvm::StringRef style, double px, double py,
                   llvm::StringRef words, llvm::StringRef more = "") {
    text += "<text class=\"" + style.str() + "\" x=\"" + place(px) + "\" y=\"" +
            place(py) + "\"" + more.str() + ">" + escaped(words) + "</text>\n";
  };
  double bottom = kHeight - kBottom, right = kWidth - kRight;
  for (const Scale::Tick &tick : up.ticks(y.whole)) {
    line("grid", kLeft, up.at(tick.number), right, up.at(tick.number));
    label("tick end", kLeft - 7, up.at(tick.number) + 4, tick.label);
  }
  for (const Scale::Tick &tick : across.ticks(x.whole)) {
    line("grid", across.at(tick.number), kTop, across.at(tick.number), bottom);
    label("tick middle", across.at(tick.number), bottom + 17, tick.label);
  }
  line("axis", kLeft, bottom, right, bottom);
  label("name middle", (kLeft + right) / 2, kHeight - 8, x.label);
  label("name middle", 0, 0, y.label,
        " transform=\"translate(14 " + place((kTop + bottom) / 2) +
            ") rotate(-90)\"");

  auto path = [&](llvm::StringRef style,
                  llvm::ArrayRef<std::pair<double, double>> corners) {
    std::string list;
    for (auto [px, py] : corners)
      if (shows(px, py))
        list += (list.empty() ? "" : " ") +
                place(std::clamp(across.at(px), kLeft, right)) + "," +
                place(std::clamp(up.at(py), kTop, bottom));
    if (!list.empty())
      text +=
          "<polyline class=\"" + style.str() + "\" points=\"" + list + "\"/>\n";
  };
  for (const PlotLine &curve : lines) {
    path("line " + curve.style, curve.points);
    if (!curve.label.empty() && !curve.points.empty()) {
      auto [px, py] = curve.points[curve.points.size() * 5 / 8];
      if (shows(px, py))
        label("note end", std::clamp(across.at(px), kLeft, right) - 8,
              std::clamp(up.at(py), kTop, bottom) + 14, curve.label);
    }
  }
  if (joined) {
    std::map<unsigned, std::vector<std::pair<double, double>>> series;
    for (const PlotPoint &point : points)
      if (shows(point.x, point.y))
        series[point.series].emplace_back(point.x, point.y);
    for (auto &[number, corners] : series)
      path("join " + seriesClass(number), corners);
  }
  for (const PlotPoint &point : points)
    if (shows(point.x, point.y))
      text += "<circle class=\"dot " + seriesClass(point.series) + "\" cx=\"" +
              place(across.at(point.x)) + "\" cy=\"" + place(up.at(point.y)) +
              "\" r=\"3.6\"><title>" + escaped(point.title) +
              "</title></circle>\n";
  return text + "</svg>\n</figure>\n";
}

std::string quench::shareFigure(llvm::StringRef name,
                                const std::vector<Share> &shares) {
  double total = 0;
  for (const Share &share : shares)
    total += share.value;
  if (!(total > 0))
    return "";
  constexpr double height = 44;
  std::string text = "<figure class=\"wide\">\n<figcaption>" + escaped(name) +
                     "</figcaption>\n<svg viewBox=\"0 0 1300 " + place(height) +
                     "\" role=\"img\" aria-label=\"" + escaped(name) + "\">\n";
  double at = 0;
  for (const Share &share : shares) {
    double width = 1300 * share.value / total;
    text += "<rect class=\"share " + seriesClass(share.series) + "\" x=\"" +
            place(at) + "\" y=\"0\" width=\"" +
            place(std::max(0.0, width - 2)) + "\" height=\"" + place(height) +
            "\" rx=\"3\"><title>" + escaped(share.label) + "</title></rect>\n";
    llvm::StringRef shown = share.label;
    if (width > 9.0 * static_cast<double>(shown.size()))
      text += "<text class=\"inside middle\" x=\"" + place(at + width / 2) +
              "\" y=\"" + place(height / 2 + 5) + "\">" + escaped(shown) +
              "</text>\n";
    at += width;
  }
  return text + "</svg>\n</figure>\n";
}

std::string quench::shadeFigure(llvm::StringRef name,
                                const std::vector<std::string> &rows,
                                const std::vector<ShadeCell> &cells) {
  if (cells.empty())
    return "";
  int64_t columns = 0;
  double low = INFINITY, high = -INFINITY;
  for (const ShadeCell &cell : cells) {
    columns = std::max(columns, cell.column + 1);
    low = std::min(low, cell.number);
    high = std::max(high, cell.number);
  }
  std::vector<unsigned> used; // rows that have cells
  for (unsigned row = 0; row != rows.size(); ++row)
    if (llvm::any_of(cells,
                     [&](const ShadeCell &cell) { return cell.row == row; }))
      used.push_back(row);
  constexpr double left = 90, width = 1300, lineHeight = 26;
  double step = std::min(60.0, (width - left) / columns);
  double bottom = lineHeight * used.size();
  std::string text = "<figure class=\"wide\">\n<figcaption>" + escaped(name) +
                     "</figcaption>\n<svg viewBox=\"0 0 " + place(width) + " " +
                     place(bottom + 24) + "\" role=\"img\" aria-label=\"" +
                     escaped(name) + "\">\n";
  auto label = [&](llvm::StringRef style, double x, double y,
                   llvm::StringRef words) {
    text += "<text class=\"" + style.str() + "\" x=\"" + place(x) + "\" y=\"" +
            place(y) + "\">" + escaped(words) + "</text>\n";
  };
  for (auto [line, row] : llvm::enumerate(used))
    label("name end", left - 8, lineHeight * (line + 0.5) + 5,
          rows[row].empty() ? "no role" : rows[row]);
  for (const ShadeCell &cell : cells) {
    double x = left + step * cell.column;
    double y = lineHeight * (llvm::find(used, cell.row) - used.begin());
    double strength = high > low ? (cell.number - low) / (high - low) : 0.5;
    text += "<rect class=\"shade\" x=\"" + place(x) + "\" y=\"" + place(y) +
            "\" width=\"" + place(step - 2) + "\" height=\"" +
            place(lineHeight - 2) + "\" rx=\"2\" fill-opacity=\"" +
            printed("%.3f", 0.08 + 0.92 * strength) + "\"><title>" +
            escaped(cell.title) + "</title></rect>\n";
    bool whole = std::fabs(cell.number - std::round(cell.number)) < 0.02;
    if (step > 26)
      label(strength > 0.55 ? "middle over" : "middle under", x + step / 2 - 1,
            y + lineHeight / 2 + 3.5,
            printed(whole ? "%.0f" : "%.1f", cell.number));
  }
  int64_t every = columns > 24 ? 5 : columns > 12 ? 2 : 1;
  for (int64_t column = 0; column < columns; column += every)
    label("tick middle", left + step * (column + 0.5) - 1, bottom + 16,
          std::to_string(column));
  return text + "</svg>\n</figure>\n";
}
