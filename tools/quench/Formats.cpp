//===- Formats.cpp - quench formats ---------------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Driver.h"
#include "quench/Quantization/Packing.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>
#include <random>

using namespace llvm;
using namespace quench;

static cl::SubCommand options("formats", "List formats of weights, their bits "
                                         "and their error");

static cl::list<std::string> specs(cl::Positional, cl::desc("FORMAT..."),
                                   cl::sub(options));
static cl::opt<bool> asJSON("json", cl::sub(options),
                            cl::desc("Print one JSON object"));
static cl::opt<bool> asMarkdown("markdown", cl::sub(options),
                                cl::desc("Print the table in Markdown"));
static cl::opt<bool> all("all", cl::sub(options),
                         cl::desc("Measure one or more of every format"));

namespace {
struct Line {
  std::string format;
  double bits;          // a weight of a 4096 x 4096 matrix
  double plain, search; // mean squared error on N(0, 1)
  bool isInteger;
  double best() const { return std::min(plain, search); }
  /// Decibels between the error and the least that these bits allow.
  double distance() const {
    return 10 * std::log10(best()) + bits * 20 * std::log10(2.0);
  }
};
} // namespace

/// What --all measures.
static const char *const kAll[] = {
    "dfloat11",
    "int<8>",
    "int<8, group = 32>",
    "fp8<e4m3>",
    "fp8<e4m3, tensor>",
    "fp8<e5m2>",
    "mxfp<8>",
    "mxfp<8, e5m2>",
    "ecf8",
    "int<6, group = 64>",
    "trellis<6>",
    "mxfp<6>",
    "mxfp<6, e3m2>",
    "fp6<e2m3>",
    "fp6<e3m2>",
    "int<5, group = 64>",
    "trellis<5>",
    "int<4>",
    "int<4, group = 32>",
    "int<4, group = 64>",
    "int<4, group = 128>",
    "int<4, group = 32, zero>",
    "int<4, group = 64, zero>",
    "int<4, group = 128, zero>",
    "int<4, group = 64, zero = float>",
    "nf4<group = 32>",
    "nf4<group = 64>",
    "nf4<group = 64, double>",
    "nf4<group = 64, bytes>",
    "nf4<group = 128>",
    "af4<group = 64>",
    "lut4<group = 64>",
    "lut4<group = 64, double>",
    "fp4<group = 64>",
    "bnb-fp4<group = 64>",
    "mxfp<4>",
    "nvfp4",
    "e8p<4>",
    "trellis<4>",
    "int<3, group = 64>",
    "int<3, group = 128, zero>",
    "int<3, group = 128, zero = float>",
    "e8p<3>",
    "trellis<3>",
    "int<2, group = 64>",
    "int<2, group = 64, half>",
    "int<2, group = 64, zero>",
    "int<2, group = 64, zero = float>",
    "e8p",
    "aqlm<2x8, group = 8>",
    "split<columns, sum<binary, binary>, split<magnitude, binary, binary>>",
    "split<magnitude, binary, binary>",
    "sum<binary, binary>",
    "trellis<2>",
    "ternary<2, group = 128>",
    "ternary<2>",
    "ternary<3, group = 96>",
    "ternary<3>",
    "ternary<5>",
    "ternary<5, tensor>",
    "int<1, group = 128>",
    "int<1>",
    "int<1, tensor>",
    "trellis<1>",
};

/// The same numbers in every run.
static std::vector<float> gaussians(int64_t n) {
  std::mt19937 random(7);
  std::vector<float> values(n);
  auto uniform = [&] { return (random() + 0.5) * 0x1p-32; };
  for (float &value : values) {
    double radius = std::sqrt(-2 * std::log(uniform()));
    value =
        static_cast<float>(radius * std::cos(6.283185307179586 * uniform()));
  }
  return values;
}

static double errorOf(const Format &format, const std::vector<float> &weight,
                      int64_t cols, bool search) {
  FitOptions fit;
  fit.search = search;
  fit.norm = SearchNorm::Squares;
  std::vector<float> back(weight.size());
  int64_t rows = weight.size() / cols;
  decodeRows(format, encodeNearest(format, weight.data(), rows, cols, fit),
             back.data());
  double error = 0;
  for (size_t i = 0; i < weight.size(); ++i)
    error += (double(back[i]) - weight[i]) * (double(back[i]) - weight[i]);
  return error / weight.size();
}

static int list() {
  json::Array names;
  for (const auto &[name, help] : listFormats()) {
    names.push_back(json::Object{{"name", name}, {"help", help}});
    if (!asJSON)
      outs() << name
             << std::string(name.size() < 10 ? 10 - name.size() : 1, ' ')
             << help << '\n';
  }
  if (asJSON)
    printJSON(json::Object{{"formats", std::move(names)}});
  return Done;
}

static void print(ArrayRef<Line> lines) {
  std::vector<std::vector<std::string>> rows{
      {"format", "bits ", "MSE ", "searched ", "dB to limit ", "int8"}};
  for (const Line &line : lines)
    rows.push_back(
        {line.format, formatted("%.4f", line.bits),
         formatted("%.3g", line.plain), formatted("%.3g", line.search),
         formatted("%.2f", line.distance()), line.isInteger ? "yes" : ""});
  if (!asMarkdown) {
    printTable(outs(), rows);
    return;
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const std::string &text : rows[i])
      outs() << "| "
             << (i == 0 || &text != &rows[i][0] ? text : "`" + text + "`")
             << (StringRef(text).ends_with(" ") ? "" : " ");
    outs() << "|\n";
    if (i == 0)
      outs() << "|---|---|---|---|---|---|\n";
  }
}

static int run() {
  std::vector<std::string> wanted(specs.begin(), specs.end());
  if (all)
    wanted.insert(wanted.end(), std::begin(kAll), std::end(kAll));
  if (wanted.empty())
    return list();
  std::vector<const Format *> formats;
  for (const std::string &spec : wanted) {
    Expected<const Format *> format = getFormat(spec);
    if (!format)
      return fail(format.takeError());
    formats.push_back(*format);
  }
  constexpr int64_t cols = 4096, size = 4096;
  std::vector<float> weight = gaussians(64 * cols);
  std::vector<Line> lines;
  for (const Format *format : formats)
    lines.push_back(
        {format->spec(),
         static_cast<double>(format->bits(size, size)) / (size * size),
         errorOf(*format, weight, cols, false),
         errorOf(*format, weight, cols, true), format->isInteger()});
  if (!asJSON) {
    print(lines);
    return Done;
  }
  json::Array list;
  for (const Line &line : lines)
    list.push_back(json::Object{{"format", line.format},
                                {"bits_per_weight", line.bits},
                                {"gaussian_mse", line.plain},
                                {"gaussian_mse_searched", line.search},
                                {"db_to_limit", line.distance()},
                                {"integer", line.isInteger}});
  printJSON(json::Object{{"formats", std::move(list)}});
  return Done;
}

static std::string notes() {
  return "\nWithout FORMAT and --all, the names that there are. Otherwise bits "
         "a weight of a\n4096 x 4096 matrix, scales and tables counted, and "
         "the "
         "mean squared error on\n2^18 normal numbers: plain, and with the "
         "range "
         "of each group searched. The limit\nis that of rate-distortion "
         "theory, "
         "4^-bits. int8: meets int8 activations as integers.\n\nJSON keys: "
         "formats (name, help; or format, bits_per_weight, gaussian_mse,\n"
         "gaussian_mse_searched, db_to_limit, integer).\n\nExamples:\n\n  "
         "quench "
         "formats\n  quench formats \"int<4, group = 32>\" nvfp4\n  quench "
         "formats "
         "--all --markdown\n";
}

const Command quench::formatsCommand = {
    options, "[FORMAT...] [--all] [--markdown] [--json]", notes, run};
