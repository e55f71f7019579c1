//===- BenchQuantizers.cpp - Quantizers timed on one layer ----------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BenchQuantizers.h"
#include "Driver.h"
#include "quench/Quantization/Quantizer.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include <cmath>
#include <ctime>
#include <random>

using namespace llvm;
using namespace quench;

namespace {

struct Result {
  const Format *format;
  const Quantizer *quantizer;
  int64_t rows, cols;
  double seconds, processorSeconds;
  double bytes; // the most that the process held while it ran
  double loss;
  std::string note;
  /// Bytes of the weight in f32.
  double weightBytes() const { return 4.0 * rows * cols; }
};

/// A weight, the second moments of its inputs and of its outputs' gradients.
struct Layer {
  Layer(int64_t rows, int64_t cols)
      : rows(rows), cols(cols), weight(rows * cols), hessian(cols * cols) {
    std::mt19937_64 engine(1);
    std::normal_distribution<double> normal;
    for (float &w : weight)
      w = static_cast<float>(normal(engine));
    std::vector<double> scale(cols);
    for (double &s : scale)
      s = std::exp(0.5 * normal(engine));
    for (int64_t i = 0; i < cols; ++i)
      for (int64_t j = 0; j < cols; ++j)
        hessian[i * cols + j] =
            scale[i] * scale[j] * std::pow(0.9, std::abs(i - j));
  }
  /// Neighbouring outputs are correlated as inputs are.
  void addOutputMoments() {
    outputMoments.resize(rows * rows);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < rows; ++j)
        outputMoments[i * rows + j] =
            static_cast<float>(std::pow(0.9, std::abs(i - j)));
  }

  int64_t rows, cols;
  std::vector<float> weight;        // [rows][cols]
  std::vector<double> hessian;      // [cols][cols]
  std::vector<float> outputMoments; // [rows][rows], or empty
};

} // namespace

/// Forgets the peak of this process's memory; where the system cannot, the
/// peak is that of the whole run.
static void resetPeakMemory() {
  std::error_code error;
  raw_fd_ostream file("/proc/self/clear_refs", error);
  if (!error)
    file << "5";
  file.clear_error();
}

static double peakMemory() {
  auto file = MemoryBuffer::getFileAsStream("/proc/self/status");
  if (!file)
    return 0;
  StringRef rest = (*file)->getBuffer().split("VmHWM:").second.ltrim();
  double kilobytes = 0;
  rest.take_until([](char c) { return c == ' '; }).getAsDouble(kilobytes);
  return 1024 * kilobytes;
}

static double processorSeconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

static Expected<Result> runCase(Layer &layer, const Format *format,
                                const Quantizer *quantizer, int threads) {
  QuantizeProblem problem;
  problem.format = format;
  problem.weight = layer.weight.data();
  problem.rows = layer.rows;
  problem.cols = layer.cols;
  problem.hessian = layer.hessian.data();
  problem.threads = threads;
  if (quantizer->usesOutputMoments()) {
    if (layer.outputMoments.empty())
      layer.addOutputMoments();
    problem.outputMoments = layer.outputMoments.data();
  }
  resetPeakMemory();
  double before = processorSeconds();
  Stopwatch watch;
  Expected<QuantizeResult> done = quantizer->quantize(problem);
  if (!done)
    return done.takeError();
  return Result{format,       quantizer,       layer.rows,
                layer.cols,   watch.seconds(), processorSeconds() - before,
                peakMemory(), done->loss,      done->note};
}

static void print(ArrayRef<Result> results, int threads, bool asJSON,
                  raw_ostream &out) {
  if (asJSON) {
    json::Array list;
    for (const Result &r : results)
      list.push_back(json::Object{{"format", r.format->spec()},
                                  {"quantizer", r.quantizer->spec()},
                                  {"rows", r.rows},
                                  {"cols", r.cols},
                                  {"seconds", r.seconds},
                                  {"processor_seconds", r.processorSeconds},
                                  {"peak_memory_bytes", r.bytes},
                                  {"loss", r.loss},
                                  {"note", r.note}});
    out << formatv("{0:2}\n",
                   json::Value(json::Object{{"threads", threads},
                                            {"results", std::move(list)}}));
    return;
  }
  std::vector<std::vector<std::string>> cells = {
      {"format ", "quantizer ", "weight ", "seconds ", "processor s ",
       "memory / weight ", "loss "}};
  for (const Result &r : results)
    cells.push_back({r.format->spec() + " ", r.quantizer->spec() + " ",
                     std::to_string(r.rows) + "x" + std::to_string(r.cols),
                     formatted("%.2f", r.seconds),
                     formatted("%.2f", r.processorSeconds),
                     formatted("%.1f", r.bytes / r.weightBytes()),
                     formatted("%.6f", r.loss) +
                         (r.note.empty() ? "" : " (" + r.note + ")")});
  printTable(out, cells);
}

Error quench::benchQuantizers(const BenchQuantizersOptions &options,
                              raw_ostream &out) {
  std::vector<std::string> cases = options.cases;
  if (cases.empty())
    cases = {"int<4, group = 128> by gptq",
             "int<4, group = 128> by gptq<act-order, search, refit, cd = 1>",
             "e8p by ldlq",
             "e8p by ldlq<act-order, refit, cd = 1>",
             "trellis<2> by ldlq",
             "trellis<2> by ldlq<tile-metric>",
             "int<4, group = 128> by gptq<two-sided>",
             "trellis<2> by ldlq<two-sided, tile-metric>"};
  std::vector<std::pair<const Format *, const Quantizer *>> pairs;
  for (StringRef text : cases) {
    auto [first, second] = text.split(" by ");
    if (second.empty())
      return createStringError("'" + text +
                               "': FORMAT by QUANTIZER is accepted, as in "
                               "'int<4, group = 128> by gptq'");
    Expected<const Format *> format = getFormat(first.trim());
    if (!format)
      return format.takeError();
    Expected<const Quantizer *> quantizer = getQuantizer(second.trim());
    if (!quantizer)
      return quantizer.takeError();
    pairs.emplace_back(*format, *quantizer);
  }
  std::vector<Result> results;
  for (auto [rows, cols] : options.shapes) {
    Layer layer(rows, cols);
    for (auto [format, quantizer] : pairs) {
      Expected<Result> result =
          runCase(layer, format, quantizer, options.threads);
      if (!result)
        return result.takeError();
      results.push_back(std::move(*result));
    }
  }
  print(results, options.threads, options.json, out);
  return Error::success();
}
