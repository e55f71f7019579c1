//===- Inspect.cpp - quench inspect -----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Driver.h"
#include "ModelInputs.h"
#include "quench/Report/LayerTable.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace quench;

static cl::SubCommand options("inspect",
                              "Layers, formats and sizes of a compiled model");

static cl::opt<std::string> modelPath(cl::Positional, cl::desc("OUT"),
                                      cl::sub(options));
static cl::opt<bool> asJSON("json", cl::sub(options),
                            cl::desc("Print one JSON object"));

static json::Array describe(ArrayRef<CompiledTensor> tensors) {
  json::Array list;
  for (const CompiledTensor &tensor : tensors) {
    json::Array dims;
    for (auto [dim, name] : zip_longest(tensor.dims, tensor.dimNames))
      if (dim && *dim >= 0)
        dims.push_back(*dim);
      else
        dims.push_back(name.value_or(""));
    list.push_back(json::Object{{"name", tensor.name},
                                {"type", elementTypeName(tensor.type)},
                                {"dims", std::move(dims)}});
  }
  return list;
}

/// Bytes of the file and the weights beside it, where there are some.
static int64_t fileBytes(StringRef path) {
  uint64_t bytes = 0, beside = 0;
  if (sys::fs::file_size(path, bytes))
    return 0;
  if (!sys::fs::file_size(path + ".weights", beside))
    bytes += beside;
  return bytes;
}

static Error inspect() {
  Expected<std::shared_ptr<CompiledModel>> opened =
      CompiledModel::open(modelPath);
  if (!opened)
    return opened.takeError();
  const CompiledModel &model = **opened;
  Expected<LayerTable> table =
      LayerTable::parse(model.metadataJSON(), modelPath);
  if (!table)
    return table.takeError();
  int64_t bytes = fileBytes(modelPath);
  double weights = table->all().weights;
  double fileBits = weights ? 8.0 * bytes / weights : 0;
  if (asJSON) {
    json::Object object = table->toJSON();
    object["file"] = modelPath;
    object["file_bytes"] = bytes;
    object["file_bits_per_weight"] = fileBits;
    object["inputs"] = describe(model.inputs());
    object["outputs"] = describe(model.outputs());
    object["has_state"] = model.hasState();
    object["vocabulary"] = model.vocabulary();
    object["max_positions"] = model.maxPositions();
    printJSON(std::move(object));
    return Error::success();
  }
  raw_ostream &out = outs();
  printTable(out, table->layerCells());
  out << '\n';
  printTable(out, table->totalCells());
  out << "\nfile     " << modelPath << ", " << formatBytes(bytes);
  if (weights)
    out << formatted(", %.3f bits a weight", fileBits);
  out << "\nrecipe   " << table->recipe << "\ncpu      " << table->cpu << '\n';
  for (const CompiledTensor &tensor : model.inputs())
    out << "input    " << tensor.name << ": " << describeTensor(tensor) << '\n';
  for (const CompiledTensor &tensor : model.outputs())
    out << "output   " << tensor.name << ": " << describeTensor(tensor) << '\n';
  if (model.hasState())
    out << "state    up to " << model.maxPositions() << " positions\n";
  return Error::success();
}

static int run() {
  if (modelPath.empty())
    return wrongUsage(inspectCommand, "the compiled model's file is missing");
  if (Error error = inspect())
    return fail(std::move(error));
  return Done;
}

static std::string notes() {
  return "\nerror is |w - w'|^2 / |w|^2 of the stored weights w'; dB above "
         "limit is that error\nover 4^-bits, the least possible for Gaussian "
         "weights.\n\nJSON keys: file, file_bytes, file_bits_per_weight, "
         "recipe, cpu, bits_per_weight\n(linear layers), weights (name, role, "
         "block, format, rows, cols, bits, bytes,\nbits_per_weight, error, "
         "db_above_limit), totals (by role), inputs, outputs (name, type,\n"
         "dims), has_state, vocabulary, max_positions.\n\nExamples:\n\n"
         "  quench inspect model.so\n  quench inspect model.so --json\n";
}

const Command quench::inspectCommand = {options, "OUT [--json]", notes, run};
