//===- Compile.cpp - quench compile -----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Pipelines/Compile.h"
#include "CalibrationFlags.h"
#include "Driver.h"
#include "quench/Recipe/Recipe.h"
#include "quench/Report/LayerTable.h"
#include "quench/Report/Page.h"
#include "quench/Support/Progress.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>
#include <sys/resource.h>

using namespace llvm;
using namespace quench;

static cl::SubCommand options("compile",
                              "Compile an ONNX model to a native file");

static cl::opt<std::string> modelPath(cl::Positional, cl::desc("MODEL.onnx"),
                                      cl::sub(options));
static cl::opt<std::string>
    outputPath("o", cl::value_desc("OUT"), cl::sub(options),
               cl::desc("The file that is written; by default MODEL with "
                        "another ending, in the current folder"));
static cl::opt<std::string>
    recipe("recipe", cl::init("w4a8"), cl::value_desc("NAME|FILE.yaml"),
           cl::sub(options),
           cl::desc("How weights are stored: a built-in recipe ('quench "
                    "recipes' lists them) or a file; default w4a8"));
static cl::opt<std::string>
    cpu("cpu", cl::init("native"), cl::value_desc("NAME"), cl::sub(options),
        cl::desc("Processor to compile for: native (default), generic, or "
                 "LLVM's name, as x86-64-v3 or znver5"));
static cl::opt<std::string>
    emit("emit", cl::init("so"), cl::value_desc("KIND"), cl::sub(options),
         cl::desc("What is written: so (default), obj, asm, llvm or mlir"));
static cl::list<std::string>
    reports("report", cl::value_desc("FILE.json|.html"), cl::sub(options),
            cl::desc("Write what became of each layer; may be given "
                     "twice"));
static NumberOption<double>
    bits("bits", cl::init(0), cl::value_desc("B"), cl::sub(options),
         cl::desc("Choose each layer's format: the least divergence with at "
                  "most B bits a weight. Needs --calib"));
static NumberOption<double>
    maxKL("max-kl", cl::init(0), cl::value_desc("D"), cl::sub(options),
          cl::desc("Choose each layer's format: the fewest bits with a "
                   "divergence of at most D nats a token. Needs --calib"));
static cl::opt<std::string>
    bitsOf("bits-of", cl::init("all"), cl::value_desc("all|linear"),
           cl::sub(options),
           cl::desc("What --bits and --max-kl count: all weights (default), or "
                    "linear layers only, the rest as the recipe says"));
static cl::list<std::string>
    bitsFormats("bits-formats", cl::value_desc("FORMAT"), cl::sub(options),
                cl::desc("A format that --bits and --max-kl may choose; may be "
                         "given often. By default trellis<1> to trellis<6> "
                         "and 8-bit integers, for tables also integers of 3 to "
                         "6 bits"));
static cl::opt<std::string>
    saveRecipePath("save-recipe", cl::value_desc("FILE.yaml"), cl::sub(options),
                   cl::desc("Write the recipe with all its fields"));
static NumberOption<int>
    threads("threads", cl::init(0), cl::value_desc("N"), cl::sub(options),
            cl::desc("Threads; by default one per processor. "
                     "The result does not depend on it"));
static NumberOption<int64_t>
    maxPositions("max-positions", cl::init(2048), cl::value_desc("N"),
                 cl::sub(options),
                 cl::desc("The most positions of the cache of a language "
                          "model (default 2048)"));
static cl::opt<std::string>
    stopAfter("stop-after", cl::value_desc("STAGE"), cl::sub(options),
              cl::desc("Write the IR after this stage instead: onnx, quench, "
                       "contract, qk or llvm"));
static cl::opt<std::string>
    printTree("print-ir-tree", cl::value_desc("DIR"), cl::sub(options),
              cl::desc("Write the IR after each pass into this folder"));

static cl::opt<std::string>
    tokenizer("tokenizer", cl::value_desc("FILE"), cl::sub(options),
              cl::desc("A Hugging Face tokenizer.json for --calib; by default "
                       "the one next to the model"));
static CalibrationFlags calibration(options);

static constexpr StringRef kinds[] = {"so", "obj", "asm", "llvm", "mlir"};
static constexpr StringRef stages[] = {"onnx", "quench", "contract", "qk",
                                       "llvm"};

static std::string defaultOutput() {
  SmallString<256> path(sys::path::filename(modelPath));
  StringRef ending = !stopAfter.empty() || emit == "mlir" ? "mlir"
                     : emit == "obj"                      ? "o"
                     : emit == "asm"                      ? "s"
                     : emit == "llvm"                     ? "ll"
                                                          : "so";
  sys::path::replace_extension(path, ending);
  return path.str().str();
}

/// The most memory this process had, in bytes.
static double peakMemory() {
  struct rusage usage;
  if (getrusage(RUSAGE_SELF, &usage))
    return 0;
  return usage.ru_maxrss * 1024.0;
}

static Error writeReports(const CompileOptions &request,
                          ArrayRef<std::string> paths,
                          const CompileReport &report, const LayerTable &table,
                          double seconds) {
  double fileBits =
      table.all().weights ? 8.0 * report.fileBytes / table.all().weights : 0;
  for (StringRef path : paths) {
    std::string text;
    if (path.ends_with_insensitive(".json")) {
      json::Object object = table.toJSON();
      json::Object steps;
      for (const auto &[step, time] : report.seconds)
        steps[step] = time;
      object["model"] = request.model;
      object["output"] = request.output;
      object["file_bytes"] = report.fileBytes;
      object["file_bits_per_weight"] = fileBits;
      object["weights_bytes"] = report.weightsBytes;
      object["code_bytes"] = report.codeBytes;
      object["seconds"] = std::move(steps);
      object["total_seconds"] = seconds;
      object["peak_memory_bytes"] = peakMemory();
      text = formatv("{0:2}\n", json::Value(std::move(object)));
    } else {
      std::string steps;
      for (const auto &[step, time] : report.seconds)
        steps +=
            (steps.empty() ? "" : ", ") + step + formatted(" %.2f s", time);
      text = reportPage(
          table, request.model,
          {{"recipe", report.recipe},
           {"processor", report.cpu},
           {"file", request.output + ", " + formatBytes(report.fileBytes)},
           {"bits a weight, whole file", formatted("%.3f", fileBits)},
           {"code", formatBytes(report.codeBytes)},
           {"time", formatted("%.1f s", seconds) + " (" + steps + ")"},
           {"peak memory", formatBytes(peakMemory())}});
    }
    if (Error error = writeFile(path, text))
      return error;
  }
  return Error::success();
}

/// What the budget knows about the layers.
static void addBudget(LayerTable &table, const SolvedBudget &solved) {
  StringMap<Layer *> byName;
  for (Layer &layer : table.layers)
    byName[layer.name] = &layer;
  for (auto [layer, chosen] : zip(solved.layers, solved.plan.choice)) {
    const BudgetLayer::Reader *known =
        find_if(layer.readers, [&](const BudgetLayer::Reader &reader) {
          return byName.count(reader.name);
        });
    if (known == layer.readers.end() || layer.options.size() < 2)
      continue;
    const FormatLoss &now = layer.options[chosen];
    Layer::Budget &budget = byName[known->name]->budget.emplace();
    budget.divergence = solved.scale * layer.divergence(now);
    double best = 0;
    for (const FormatLoss &next : layer.options) {
      double gain = (layer.divergence(now) - layer.divergence(next)) /
                    static_cast<double>(next.bits - now.bits);
      if (next.bits <= now.bits || gain <= best)
        continue;
      best = gain;
      budget.nextFormat = next.format;
      budget.nextBitsPerWeight = next.bits / layer.weights();
      budget.nextDivergence = solved.scale * layer.divergence(next);
    }
  }
  table.budget =
      BudgetCurve{!solved.target.linearOnly, solved.plan.bitsPerWeight,
                  solved.plan.divergence, solved.plan.curve};
}

static Error compile() {
  if (outputPath.empty())
    outputPath = defaultOutput();
  if (outputPath == "-" && emit != "mlir" && emit != "asm" && emit != "llvm" &&
      stopAfter.empty())
    return createStringError("a binary is not written to standard output");
  if (sys::fs::is_directory(outputPath))
    return createStringError("'" + outputPath + "' is a folder");
  bool same = false;
  if (!sys::fs::equivalent(modelPath, outputPath, same) && same)
    return createStringError("'" + outputPath +
                             "' would replace the model itself");
  bool budgeted = bits > 0 || maxKL > 0;
  if (budgeted && !recipe.getNumOccurrences())
    recipe = "budget";
  // A recipe that cannot be read or written is told before the long work.
  Expected<Recipe> loaded = loadRecipe(recipe);
  if (!loaded)
    return loaded.takeError();
  if (!saveRecipePath.empty() && !budgeted)
    if (Error error = writeFile(saveRecipePath, printRecipe(*loaded)))
      return error;

  // The linker, which runs in this process, sets all options back: what is
  // needed afterwards is copied here.
  std::vector<std::string> reportPaths(reports.begin(), reports.end());
  Progress progress;
  CompileOptions request;
  request.model = modelPath;
  request.output = outputPath;
  request.recipe = recipe;
  request.cpu = cpu;
  request.emit = emit;
  request.stopAfter = stopAfter;
  request.printTree = printTree;
  request.threads = threads;
  request.maxPositions = maxPositions;
  request.calibration = calibration.options();
  request.calibration.data.tokenizer = tokenizer;
  if (budgeted) {
    request.budget.emplace();
    request.budget->bitsPerWeight = bits;
    request.budget->divergence = maxKL;
    request.budget->linearOnly = bitsOf == "linear";
    request.budgeting.formats.assign(bitsFormats.begin(), bitsFormats.end());
    request.budgeting.tableFormats = request.budgeting.formats;
  }
  // The recipe is worth something even if what comes after it fails.
  std::string savePath = saveRecipePath;
  if (!savePath.empty())
    request.solved = [savePath](const SolvedBudget &solved) {
      return writeFile(savePath, printRecipe(solved.recipe));
    };
  request.progress = [&](StringRef step, StringRef name, int64_t done,
                         int64_t total) {
    progress.update(step, name, done, total);
  };
  CompileReport report;
  Stopwatch watch;
  Error error = compileModel(request, report);
  progress.finish();
  if (error)
    return error;
  for (const std::string &note : report.notes)
    errs() << "note: " << note << '\n';
  double seconds = watch.seconds();
  Expected<LayerTable> table =
      LayerTable::parse(report.toJSON(), request.output);
  if (!table)
    return table.takeError();
  if (report.budget)
    addBudget(*table, *report.budget);
  if (Error error = writeReports(request, reportPaths, report, *table, seconds))
    return error;
  if (request.output == "-")
    return Error::success();

  raw_ostream &out = outs();
  out << request.output;
  if (report.fileBytes)
    out << ": " << formatBytes(report.fileBytes);
  if (double weights = table->all().weights; weights && report.fileBytes) {
    out << formatted(", %.3f bits a weight", 8.0 * report.fileBytes / weights);
    if (LayerTable::Total linear = table->linear(); linear.weights)
      out << formatted(" (linear layers %.3f)", linear.bitsPerWeight());
  }
  out << formatted("; %.1f s, ", seconds) << formatBytes(peakMemory())
      << " of memory\n";
  return Error::success();
}

static int run() {
  if (modelPath.empty())
    return wrongUsage(compileCommand, "the model's file is missing");
  if (!is_contained(kinds, StringRef(emit)))
    return wrongUsage(compileCommand, "--emit " + emit +
                                          ": so, obj, asm, llvm or mlir is "
                                          "accepted");
  if (!stopAfter.empty() && !is_contained(stages, StringRef(stopAfter)))
    return wrongUsage(compileCommand, "--stop-after " + stopAfter +
                                          ": onnx, quench, contract, qk or "
                                          "llvm is accepted");
  for (StringRef path : reports)
    if (!path.ends_with_insensitive(".json") &&
        !path.ends_with_insensitive(".html"))
      return wrongUsage(compileCommand,
                        "--report " + path +
                            ": a name that ends in .json or .html is "
                            "accepted");
  for (auto [name, value] : {std::make_pair("--bits", double(bits)),
                             std::make_pair("--max-kl", double(maxKL))})
    if (!(value >= 0) || std::isinf(value))
      return wrongUsage(compileCommand,
                        Twine(name) + ": a positive number is accepted");
  if (bits > 0 && maxKL > 0)
    return wrongUsage(compileCommand, "either --bits or --max-kl");
  if (bitsOf != "all" && bitsOf != "linear")
    return wrongUsage(compileCommand,
                      "--bits-of " + bitsOf + ": all or linear is accepted");
  if ((bits > 0 || maxKL > 0) && !calibration.isGiven())
    return wrongUsage(compileCommand,
                      "--bits and --max-kl measure the model on calibration "
                      "data: give --calib FILE");
  if (threads < 0)
    return wrongUsage(compileCommand, "--threads is not negative");
  if (maxPositions < 1)
    return wrongUsage(compileCommand, "--max-positions is at least 1");
  if (std::string wrong = calibration.check(); !wrong.empty())
    return wrongUsage(compileCommand, wrong);
  if (Error error = compile())
    return fail(std::move(error));
  return Done;
}

static std::string notes() {
  return "\nWeights beside the model (external data) are found by themselves. "
         "The output is one\nshared object that needs no library of this "
         "project; it appears whole or not at all.\n\nExamples:\n\n"
         "  quench compile model.onnx\n"
         "  quench compile model.onnx -o model.so --recipe w4a8 --report "
         "model.html\n"
         "  quench compile model.onnx -o old.so --cpu x86-64-v3 --recipe w8\n"
         "  quench compile model.onnx --recipe mine.yaml --calib text.txt "
         "--resume\n"
         "  quench compile model.onnx --bits 4 --calib text.txt --save-recipe "
         "mine.yaml --report r.html\n"
         "  quench compile model.onnx -o - --stop-after quench\n";
}

const Command quench::compileCommand = {options,
                                        "MODEL.onnx [-o OUT] "
                                        "[OPTION...]",
                                        notes, run};
