//===- Bench.cpp - quench bench ---------------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BenchKernels.h"
#include "BenchQuantizers.h"
#include "Driver.h"
#include "MachineLimits.h"
#include "ModelInputs.h"
#include "quench/Report/LayerTable.h"
#include "quench/Support/Progress.h"
#include "quench/TargetModel/CPUTarget.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"
#include <thread>

using namespace llvm;
using namespace quench;

static cl::SubCommand options("bench",
                              "Time a compiled model, kernels or quantizers");

static cl::list<std::string> arguments(cl::Positional,
                                       cl::desc("OUT | FORMATS... | CASES..."),
                                       cl::sub(options));
static cl::list<std::string> shapes(
    "shape", cl::value_desc("NAME=1x128"), cl::sub(options),
    cl::desc("Shape of an input of a model without state (free sizes: "
             "1 text, 128 tokens); with --kernels or --quantizers NxK of "
             "weights"));
static NumberOption<int> repeat("repeat", cl::init(5), cl::value_desc("N"),
                                cl::sub(options),
                                cl::desc("Times are the median of so many runs "
                                         "(default 5)"));
static NumbersOption<int>
    threadCounts("threads", cl::CommaSeparated, cl::value_desc("1,2"),
                 cl::sub(options),
                 cl::desc("Numbers of threads, one after the "
                          "other; by default one thread per "
                          "processor"));
static NumberOption<int64_t>
    prefillCount("prefill", cl::init(512), cl::value_desc("N"),
                 cl::sub(options),
                 cl::desc("Tokens of the prompt (default "
                          "512)"));
static NumberOption<int64_t>
    decodeCount("decode", cl::init(64), cl::value_desc("N"), cl::sub(options),
                cl::desc("Tokens that are made one by one "
                         "behind it (default 64)"));
static cl::opt<bool> kernels("kernels", cl::sub(options),
                             cl::desc("Time kernels of formats instead of a "
                                      "model"));
static cl::opt<bool> quantizers("quantizers", cl::sub(options),
                                cl::desc("Time quantizers, \"FORMAT by "
                                         "QUANTIZER\" each, instead of a "
                                         "model"));
static NumbersOption<int64_t>
    rowCounts("rows", cl::CommaSeparated, cl::value_desc("1,128"),
              cl::sub(options), cl::desc("--kernels: rows of activations"));
static cl::opt<std::string> cpu("cpu", cl::init("native"),
                                cl::value_desc("NAME"), cl::sub(options),
                                cl::desc("--kernels: processor to compile "
                                         "for"));
static cl::opt<bool> hot("hot", cl::sub(options),
                         cl::desc("--kernels: weights in the cache only"));
static cl::opt<bool> cold("cold", cl::sub(options),
                          cl::desc("--kernels: weights in memory only"));
static cl::opt<bool> asJSON("json", cl::sub(options),
                            cl::desc("Print one JSON object"));

namespace {

/// One count of threads.
struct Result {
  int threads = 0;
  double bandwidth = 0; // bytes a second that so many threads read
  double prefillSeconds = 0, decodeSeconds = 0, runSeconds = 0;
};

} // namespace

static double median(std::vector<double> values) {
  llvm::sort(values);
  return values.empty() ? 0 : values[values.size() / 2];
}

static Error benchState(std::shared_ptr<CompiledModel> model, Result &result) {
  int64_t most = model->maxPositions();
  int64_t length = prefillCount + decodeCount;
  if (most && length > most)
    return createStringError("'" + arguments[0] + "' holds " + Twine(most) +
                             " positions; --prefill " + Twine(prefillCount) +
                             " and --decode " + Twine(decodeCount) + " need " +
                             Twine(length));
  Expected<std::unique_ptr<ModelContext>> context =
      CompiledModel::createContext(model, result.threads, length);
  if (!context)
    return context.takeError();
  int64_t vocabulary = std::max<int64_t>(model->vocabulary(), 2);
  RandomNumbers random(1);
  std::vector<int64_t> tokens(length);
  for (int64_t &token : tokens)
    token = static_cast<int64_t>(random.unit() * vocabulary);
  std::vector<float> logits(model->vocabulary());
  ArrayRef<int64_t> prompt = ArrayRef<int64_t>(tokens).take_front(prefillCount);
  std::vector<double> prefill, decode;
  // The first round warms up.
  for (int round = 0; round <= repeat; ++round) {
    if (Error error = (*context)->reset())
      return error;
    Stopwatch watch;
    if (Error error = (*context)->step(prompt, logits))
      return error;
    if (round)
      prefill.push_back(watch.seconds());
    Stopwatch decodeWatch;
    for (int64_t token : ArrayRef<int64_t>(tokens).drop_front(prefillCount))
      if (Error error = (*context)->step(token, logits))
        return error;
    if (round)
      decode.push_back(decodeWatch.seconds());
  }
  result.prefillSeconds = median(prefill);
  result.decodeSeconds = median(decode);
  return Error::success();
}

static Expected<SmallVector<HostTensor>>
makeInputs(const CompiledModel &model) {
  Expected<std::vector<SmallVector<int64_t>>> wanted =
      inputShapes(model, shapes, /*length=*/128);
  if (!wanted)
    return wanted.takeError();
  RandomNumbers random(1);
  SmallVector<HostTensor> inputs;
  for (size_t i = 0; i < wanted->size(); ++i) {
    Expected<HostTensor> tensor = sampleInput(model, i, (*wanted)[i], &random);
    if (!tensor)
      return tensor.takeError();
    inputs.push_back(std::move(*tensor));
  }
  return inputs;
}

static Error benchRun(std::shared_ptr<CompiledModel> model, Result &result) {
  Expected<SmallVector<HostTensor>> inputs = makeInputs(*model);
  if (!inputs)
    return inputs.takeError();
  Expected<std::unique_ptr<ModelContext>> context =
      CompiledModel::createContext(model, result.threads,
                                   model->hasState() ? 1 : 0);
  if (!context)
    return context.takeError();
  std::vector<double> times;
  for (int round = 0; round <= repeat; ++round) {
    Stopwatch watch;
    Expected<SmallVector<HostTensor>> results = runModel(**context, *inputs);
    if (!results)
      return results.takeError();
    if (round)
      times.push_back(watch.seconds());
  }
  result.runSeconds = median(times);
  return Error::success();
}

static double perSecond(int64_t count, double seconds) {
  return seconds > 0 ? count / seconds : 0;
}

static void print(ArrayRef<Result> results, bool hasState, double bytes) {
  Expected<CPUTarget> target = resolveCPU("native");
  std::string machine =
      target ? describeCPU(*target) : toString(target.takeError());
  if (asJSON) {
    json::Array list;
    for (const Result &result : results) {
      json::Object entry{{"threads", result.threads},
                         {"read_bytes_per_second", result.bandwidth}};
      if (hasState) {
        double decode = perSecond(decodeCount, result.decodeSeconds);
        entry["prefill_tokens_per_second"] =
            perSecond(prefillCount, result.prefillSeconds);
        entry["decode_tokens_per_second"] = decode;
        entry["decode_roofline_tokens_per_second"] =
            bytes > 0 ? result.bandwidth / bytes : 0;
      } else {
        entry["run_seconds"] = result.runSeconds;
      }
      list.push_back(std::move(entry));
    }
    printJSON(
        json::Object{{"model", arguments[0]},
                     {"cpu", machine},
                     {"repeat", static_cast<int64_t>(repeat)},
                     {"prefill_tokens", static_cast<int64_t>(prefillCount)},
                     {"decode_tokens", static_cast<int64_t>(decodeCount)},
                     {"weight_bytes_per_token", bytes},
                     {"results", std::move(list)}});
    return;
  }
  outs() << machine << '\n';
  if (!hasState) {
    for (const Result &result : results)
      outs() << formatted("%2d threads  run %10.3f ms\n", result.threads,
                          1e3 * result.runSeconds);
    return;
  }
  outs() << "weights read for a token: " << formatBytes(bytes) << '\n';
  std::vector<std::vector<std::string>> cells = {
      {"threads ", "prefill of " + std::to_string(prefillCount) + " tokens/s ",
       "decode tokens/s ", "memory GB/s ", "roofline tokens/s ", "reached % "}};
  for (const Result &result : results) {
    double decode = perSecond(decodeCount, result.decodeSeconds);
    double roofline = bytes > 0 ? result.bandwidth / bytes : 0;
    cells.push_back(
        {std::to_string(result.threads),
         formatted("%.1f", perSecond(prefillCount, result.prefillSeconds)),
         formatted("%.1f", decode), formatted("%.1f", result.bandwidth / 1e9),
         formatted("%.1f", roofline),
         formatted("%.0f", roofline > 0 ? 100 * decode / roofline : 0)});
  }
  printTable(outs(), cells);
}

static Error bench() {
  Expected<std::shared_ptr<CompiledModel>> model =
      CompiledModel::open(arguments[0]);
  if (!model)
    return model.takeError();
  Expected<LayerTable> table =
      LayerTable::parse((*model)->metadataJSON(), arguments[0]);
  if (!table)
    return table.takeError();
  // Shapes are of the main function, which has no state.
  bool hasState = (*model)->hasState() && shapes.empty();
  std::vector<int> counts(threadCounts.begin(), threadCounts.end());
  if (counts.empty())
    counts.push_back(
        static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  Progress progress;
  std::vector<Result> results;
  for (auto [i, count] : enumerate(counts)) {
    progress.update("bench", std::to_string(count) + " threads", i,
                    counts.size());
    Result &result = results.emplace_back();
    result.threads = count;
    result.bandwidth = readBandwidth(count);
    if (Error error =
            hasState ? benchState(*model, result) : benchRun(*model, result))
      return error;
  }
  progress.finish();
  print(results, hasState, table->bytesPerToken());
  return Error::success();
}

/// The --shape options as NxK of weights, in the place of `wanted` if there are
/// any. Returns what is wrong with them, or "".
static std::string
weightShapes(int64_t mostCols,
             std::vector<std::pair<int64_t, int64_t>> &wanted) {
  constexpr int64_t mostWeights = int64_t(1) << 30;
  if (!shapes.empty())
    wanted.clear();
  for (StringRef text : shapes) {
    Expected<SmallVector<int64_t>> shape = parseShape(text);
    if (!shape)
      consumeError(shape.takeError());
    else if (shape->size() == 2 && (*shape)[0] >= 1 && (*shape)[1] >= 1 &&
             (*shape)[1] <= mostCols &&
             (*shape)[0] <= mostWeights / (*shape)[1]) {
      wanted.push_back({(*shape)[0], (*shape)[1]});
      continue;
    }
    return ("--shape " + text +
            ": rows and columns of weights are accepted, as in 4096x4096; at "
            "most " +
            Twine(mostCols) + " columns and 2^30 weights")
        .str();
  }
  return "";
}

static int runQuantizers() {
  BenchQuantizersOptions request;
  request.cases.assign(arguments.begin(), arguments.end());
  // Second moments are as many doubles as columns, squared.
  if (std::string wrong = weightShapes(1 << 14, request.shapes); !wrong.empty())
    return wrongUsage(benchCommand, wrong);
  request.threads = threadCounts.empty()
                        ? std::max(1u, std::thread::hardware_concurrency())
                        : static_cast<unsigned>(threadCounts[0]);
  request.json = asJSON;
  if (Error error = benchQuantizers(request, outs()))
    return fail(std::move(error));
  return Done;
}

static int runKernels() {
  BenchKernelsOptions request;
  request.formats.assign(arguments.begin(), arguments.end());
  if (std::string wrong = weightShapes(1 << 20, request.shapes); !wrong.empty())
    return wrongUsage(benchCommand, wrong);
  for (int64_t rows : rowCounts)
    if (rows < 1)
      return wrongUsage(benchCommand, "--rows are at least 1");
  if (!rowCounts.empty())
    request.rows.assign(rowCounts.begin(), rowCounts.end());
  if (hot != cold) {
    request.hot = hot;
    request.cold = cold;
  }
  request.cpu = cpu;
  request.json = asJSON;
  request.repetitions = repeat;
  return benchKernels(request, outs(), errs()) ? Failed : Done;
}

static int run() {
  if (repeat < 1)
    return wrongUsage(benchCommand, "--repeat is at least 1");
  for (int count : threadCounts)
    if (count < 1 || count > 256)
      return wrongUsage(benchCommand, "--threads are 1 to 256");
  if (kernels && quantizers)
    return wrongUsage(benchCommand, "--kernels and --quantizers exclude each "
                                    "other");
  if (kernels)
    return runKernels();
  if (quantizers)
    return runQuantizers();
  if (arguments.size() != 1)
    return wrongUsage(benchCommand,
                      arguments.empty()
                          ? "the compiled model's file is missing"
                          : "one compiled model is accepted, not " +
                                Twine(arguments.size()) +
                                " (formats need --kernels or --quantizers)");
  if (prefillCount < 1 || decodeCount < 1)
    return wrongUsage(benchCommand, "--prefill and --decode are at least 1");
  if (Error error = bench())
    return fail(std::move(error));
  return Done;
}

static std::string notes() {
  return "\nThe roofline of decoding is the memory's read speed, measured with "
         "as many threads,\nover the bytes of weights that a token needs. "
         "A model that fits into a cache may be\nfaster.\n"
         "\nJSON keys: model, cpu, repeat, prefill_tokens, decode_tokens, "
         "weight_bytes_per_token,\nresults (for each number of threads: "
         "threads, read_bytes_per_second,\nprefill_tokens_per_second, "
         "decode_tokens_per_second,\ndecode_roofline_tokens_per_second, or "
         "run_seconds without state).\n\nExamples:\n\n"
         "  quench bench model.so --threads 1,2\n"
         "  quench bench encoder.so --shape input_ids=1x64 --shape "
         "attention_mask=1x64\n"
         "  quench bench --kernels \"int<4, group = 32>\" nf4 --shape 768x768 "
         "--rows 1,128\n"
         "  quench bench --quantizers \"int<4, group = 128> by gptq\"\n";
}

const Command quench::benchCommand = {
    options,
    "OUT [OPTION...]\n       quench bench --kernels [FORMATS...] "
    "[OPTION...]\n       quench bench --quantizers [\"FORMAT by "
    "QUANTIZER\"...] [OPTION...]",
    notes, run};
