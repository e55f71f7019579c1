//===- Run.cpp - quench run -------------------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Driver.h"
#include "ModelInputs.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>

using namespace llvm;
using namespace quench;

static cl::SubCommand options("run", "Run a compiled model on .npy files");

static cl::opt<std::string> modelPath(cl::Positional, cl::desc("OUT"),
                                      cl::sub(options));
static cl::list<std::string>
    inputFiles("input", cl::value_desc("NAME=FILE.npy"), cl::sub(options),
               cl::desc("An input; without NAME= they are taken in their "
                        "order"));
static cl::list<std::string>
    outputFiles("output", cl::value_desc("NAME=FILE.npy"), cl::sub(options),
                cl::desc("Where an output is written; without any --output a "
                         "summary is printed"));
static cl::opt<std::string> outputFolder("output-dir", cl::value_desc("DIR"),
                                         cl::sub(options),
                                         cl::desc("Write all outputs to "
                                                  "DIR/NAME.npy"));
static cl::opt<bool>
    useRandom("random", cl::sub(options),
              cl::desc("Random numbers for inputs that are not given"));
static cl::opt<bool> useZeros("zeros", cl::sub(options),
                              cl::desc("Zeros for inputs that are not given"));
static cl::list<std::string>
    shapes("shape", cl::value_desc("NAME=1x128"), cl::sub(options),
           cl::desc("Shape of an input that --random or --zeros fills; free "
                    "sizes are 1 otherwise"));
static NumberOption<uint64_t> seed("seed", cl::init(0), cl::value_desc("S"),
                                   cl::sub(options),
                                   cl::desc("Seed of --random"));
static NumberOption<int> threads("threads", cl::init(0), cl::value_desc("N"),
                                 cl::sub(options),
                                 cl::desc("Threads; by default one per "
                                          "processor"));
static cl::opt<bool> asJSON("json", cl::sub(options),
                            cl::desc("Print the summary as one JSON object"));

/// Integers of other widths and other floats are converted, if nothing is lost
/// in range.
static Expected<HostTensor>
fitType(HostTensor tensor, const CompiledTensor &input, StringRef path) {
  Expected<ElementKind> wanted = elementKind(input.type);
  if (!wanted)
    return wanted.takeError();
  ElementKind found = tensor.getKind();
  if (found == *wanted)
    return std::move(tensor);
  if (isFloatKind(found) != isFloatKind(*wanted))
    return createStringError("'" + path + "' has the type " +
                             elementName(found) + "; the input '" + input.name +
                             "' is " + describeTensor(input));
  Expected<HostTensor> converted = tensor.convertTo(*wanted);
  if (!converted || isFloatKind(found))
    return converted;
  for (int64_t i = 0, e = tensor.getNumElements(); i < e; ++i)
    if (converted->intAt(i) != tensor.intAt(i))
      return createStringError("'" + path + "': " + Twine(tensor.intAt(i)) +
                               " does not fit the input '" + input.name +
                               "', which is " + describeTensor(input));
  return converted;
}

static Error readInputs(const CompiledModel &model,
                        MutableArrayRef<HostTensor> tensors) {
  size_t next = 0;
  for (StringRef given : inputFiles) {
    auto [name, path] = given.split('=');
    size_t index = next++;
    if (path.empty()) {
      path = given;
      if (index >= tensors.size())
        return createStringError("'" + path +
                                 "' is one input too many: the "
                                 "model has " +
                                 Twine(tensors.size()));
    } else {
      Expected<size_t> found = findTensor(model.inputs(), name, "input");
      if (!found)
        return found.takeError();
      index = *found;
    }
    if (tensors[index])
      return createStringError("the input '" + model.inputs()[index].name +
                               "' is given twice");
    Expected<HostTensor> tensor = HostTensor::loadNpy(path);
    if (!tensor)
      return tensor.takeError();
    Expected<HostTensor> fitting =
        fitType(std::move(*tensor), model.inputs()[index], path);
    if (!fitting)
      return fitting.takeError();
    tensors[index] = std::move(*fitting);
  }
  return Error::success();
}

static Error fillInputs(const CompiledModel &model,
                        MutableArrayRef<HostTensor> tensors) {
  Expected<std::vector<SmallVector<int64_t>>> wanted =
      inputShapes(model, shapes, /*length=*/1);
  if (!wanted)
    return wanted.takeError();
  RandomNumbers random(seed);
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i])
      continue;
    const CompiledTensor &input = model.inputs()[i];
    if (!useRandom && !useZeros)
      return createStringError("the input '" + input.name + "', " +
                               describeTensor(input) +
                               ", is not given: --input " + input.name +
                               "=FILE.npy, or --random or --zeros");
    Expected<HostTensor> tensor =
        sampleInput(model, i, (*wanted)[i], useRandom ? &random : nullptr);
    if (!tensor)
      return tensor.takeError();
    tensors[i] = std::move(*tensor);
  }
  return Error::success();
}

/// Least, greatest and mean number, and the first few.
static void summarize(const HostTensor &tensor, StringRef name,
                      json::Array &list) {
  int64_t count = tensor.getNumElements();
  double least = INFINITY, most = -INFINITY, sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    double value = tensor.at(i);
    least = std::min(least, value);
    most = std::max(most, value);
    sum += value;
  }
  double mean = count ? sum / count : 0;
  if (asJSON) {
    json::Object object{{"name", name},
                        {"type", elementName(tensor.getKind())},
                        {"shape", json::Array(tensor.getShape())}};
    if (count && std::isfinite(sum)) {
      object["min"] = least;
      object["max"] = most;
      object["mean"] = mean;
    }
    list.push_back(std::move(object));
    return;
  }
  outs() << name << ": " << tensor.describe();
  if (count) {
    outs() << formatted("  min %g  max %g  mean %g ", least, most, mean);
    for (int64_t i = 0; i < std::min<int64_t>(count, 6); ++i)
      outs() << formatted(" %g", tensor.at(i));
    if (count > 6)
      outs() << " ...";
  }
  outs() << '\n';
}

static Error writeOutputs(const CompiledModel &model,
                          ArrayRef<HostTensor> results) {
  for (StringRef given : outputFiles) {
    Expected<NamedText> found = findNamed(model.outputs(), given, "output");
    if (!found)
      return found.takeError();
    if (Error error = results[found->index].saveNpy(found->text))
      return error;
  }
  if (!outputFolder.empty()) {
    if (std::error_code error = sys::fs::create_directories(outputFolder))
      return createFileError(outputFolder, error);
    for (auto [tensor, output] : zip(results, model.outputs())) {
      // A name in a file of others must not lead out of the folder.
      std::string name = output.name;
      for (char &c : name)
        if (c == '/' || c == '\\' || c == '\0')
          c = '_';
      SmallString<256> path(outputFolder);
      sys::path::append(path, name + ".npy");
      if (Error error = tensor.saveNpy(path))
        return error;
    }
  }
  return Error::success();
}

static Error runFiles() {
  Expected<std::shared_ptr<CompiledModel>> model =
      CompiledModel::open(modelPath);
  if (!model)
    return model.takeError();
  for (StringRef given : outputFiles)
    if (Expected<NamedText> found =
            findNamed((*model)->outputs(), given, "output");
        !found)
      return found.takeError();
  SmallVector<HostTensor> inputs((*model)->inputs().size());
  if (Error error = readInputs(**model, inputs))
    return error;
  if (Error error = fillInputs(**model, inputs))
    return error;
  // Runs of the main function need no state: one position will do.
  Expected<std::unique_ptr<ModelContext>> context =
      CompiledModel::createContext(*model, threads,
                                   (*model)->hasState() ? 1 : 0);
  if (!context)
    return context.takeError();
  Stopwatch watch;
  Expected<SmallVector<HostTensor>> results = runModel(**context, inputs);
  if (!results)
    return results.takeError();
  double seconds = watch.seconds();
  if (Error error = writeOutputs(**model, *results))
    return error;
  if (asJSON || (outputFiles.empty() && outputFolder.empty())) {
    json::Array list;
    for (auto [tensor, output] : zip(*results, (*model)->outputs()))
      summarize(tensor, output.name, list);
    if (asJSON)
      printJSON(
          json::Object{{"outputs", std::move(list)}, {"seconds", seconds}});
    else
      errs() << formatted("%.2f ms\n", 1e3 * seconds);
  }
  return Error::success();
}

static int run() {
  if (modelPath.empty())
    return wrongUsage(runCommand, "the compiled model's file is missing");
  if (threads < 0)
    return wrongUsage(runCommand, "--threads is not negative");
  if (useRandom && useZeros)
    return wrongUsage(runCommand, "--random or --zeros, not both");
  if (!shapes.empty() && !useRandom && !useZeros)
    return wrongUsage(runCommand, "--shape needs --random or --zeros");
  if (Error error = runFiles())
    return fail(std::move(error));
  return Done;
}

static std::string notes() {
  return "\nJSON keys: outputs (name, type, shape, min, max, mean), "
         "seconds.\n\nExamples:\n\n"
         "  quench run model.so --input input_ids=ids.npy --output "
         "logits=logits.npy\n"
         "  quench run model.so --random --shape input_ids=1x16\n";
}

const Command quench::runCommand = {
    options,
    "OUT [--input NAME=FILE.npy]... [--output NAME=FILE.npy]... "
    "[OPTION...]",
    notes, run};
