//===- Describe.cpp - What the runtime is told of a compiled model -*- C++
//-*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Pipelines/Describe.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Expected;

std::vector<std::string> quench::symbolsOf(func::FuncOp function) {
  std::vector<std::string> symbols;
  if (auto given = function->getAttrOfType<ArrayAttr>("quench.symbols")) {
    for (Attribute name : given)
      symbols.push_back(cast<StringAttr>(name).str());
    return symbols;
  }
  for (unsigned i = 0; i != function.getNumArguments(); ++i) {
    if (function.getArgAttr(i, "quench.output"))
      continue;
    auto dims = function.getArgAttrOfType<ArrayAttr>(i, "quench.dims");
    for (Attribute dim : dims ? dims.getValue() : ArrayRef<Attribute>()) {
      StringRef name = cast<StringAttr>(dim).getValue();
      int64_t number;
      // Sums, such as past + sequence, are made of other inputs' names.
      if (name.getAsInteger(10, number) && !name.contains('+') &&
          !name.contains('*') && !llvm::is_contained(symbols, name))
        symbols.push_back(name.str());
    }
  }
  return symbols;
}

/// "past + 2*sequence + 1".
static Expected<ProgramDim> parseDim(StringRef text,
                                     ArrayRef<std::string> symbols) {
  ProgramDim dim;
  SmallVector<StringRef> terms;
  text.split(terms, '+');
  for (StringRef term : terms) {
    int64_t factor = 1, symbol = -1;
    SmallVector<StringRef> factors;
    term.split(factors, '*');
    for (StringRef f : factors) {
      int64_t number;
      if (!f.trim().getAsInteger(10, number)) {
        factor *= number;
        continue;
      }
      auto it = llvm::find(symbols, f.trim());
      if (it == symbols.end() || symbol >= 0)
        return createStringError(
            "the dimension '" + text +
            "' of an output is not a sum of the inputs' dimensions");
      symbol = it - symbols.begin();
    }
    if (symbol < 0)
      dim.constant += factor;
    else
      dim.terms.push_back({symbol, factor});
  }
  return dim;
}

/// ONNX's number of an element type.
static int32_t onnxType(Type type) {
  if (type.isF32())
    return 1;
  if (type.isUnsignedInteger(8))
    return 2;
  if (type.isInteger(8))
    return 3;
  if (type.isUnsignedInteger(16))
    return 4;
  if (type.isInteger(16))
    return 5;
  if (type.isUnsignedInteger(32))
    return 12;
  if (type.isInteger(32))
    return 6;
  if (type.isUnsignedInteger(64))
    return 13;
  if (type.isInteger(64))
    return 7;
  if (type.isInteger(1))
    return 9;
  if (type.isF16())
    return 10;
  if (type.isF64())
    return 11;
  if (type.isBF16())
    return 16;
  return 0;
}

static Expected<ProgramFunction>
describeFunction(func::FuncOp function, ArrayRef<std::string> symbols) {
  ProgramFunction result;
  result.name = function.getName().str();
  result.entry = "quench_" + result.name;
  result.arenaBytes = result.entry + "_arena";
  for (unsigned i = 0; i != function.getNumArguments(); ++i) {
    if (function.getArgAttr(i, "quench.state"))
      continue;
    bool isOutput = function.getArgAttr(i, "quench.output") != nullptr;
    auto name = function.getArgAttrOfType<StringAttr>(i, "quench.name");
    auto dims = function.getArgAttrOfType<ArrayAttr>(i, "quench.dims");
    if (!name || !dims)
      continue;
    ProgramTensor tensor;
    tensor.name = name.str();
    tensor.type = onnxType(
        cast<ShapedType>(function.getArgument(i).getType()).getElementType());
    for (Attribute text : dims) {
      Expected<ProgramDim> dim =
          parseDim(cast<StringAttr>(text).getValue(), symbols);
      if (!dim)
        return dim.takeError();
      tensor.dims.push_back(*dim);
    }
    (isOutput ? result.outputs : result.inputs).push_back(std::move(tensor));
  }
  return result;
}

Expected<ProgramDescription> quench::describeProgram(
    ModuleOp module, const CPUTarget &target, const WeightsResult &weights,
    const CompileOptions &options, const CompileReport &report) {
  ProgramDescription program;
  auto main = module.lookupSymbol<func::FuncOp>("main");
  program.symbols = symbolsOf(main);
  Expected<ProgramFunction> described = describeFunction(main, program.symbols);
  if (!described)
    return described.takeError();
  program.main = std::move(*described);
  for (auto [name, slot] : {std::make_pair("decode", &program.decode),
                            {"prefill", &program.prefill}}) {
    auto function = module.lookupSymbol<func::FuncOp>(name);
    if (!function)
      continue;
    slot->emplace();
    (*slot)->name = name;
    (*slot)->entry = ("quench_" + Twine(name)).str();
    (*slot)->arenaBytes = (*slot)->entry + "_arena";
    program.stateBytes = "quench_state_bytes";
  }
  // The vocabulary: rows of the embedding that reads token ids. It is packed
  // before all layers.
  if (report.hasState && !report.weights.empty())
    program.vocabulary = report.weights.front().rows;
  program.maxPositions = report.hasState ? options.maxPositions : 0;
  program.prefillChunk = 512;
  program.weightsBytes = weights.bytes;
  program.weightsHash = weights.hash;
  if (weights.beside)
    program.weightsFile =
        llvm::sys::path::filename(options.output).str() + ".weights";
  program.cpuFeatures = target.requiredList();
  program.metadataJSON = report.toJSON();
  return program;
}

double CompileReport::bitsPerWeight(
    llvm::function_ref<bool(const WeightReport &)> which) const {
  double bits = 0, count = 0;
  for (const WeightReport &weight : weights)
    if (which(weight)) {
      bits += weight.bits;
      count += double(weight.rows) * weight.cols;
    }
  return count ? bits / count : 0;
}

std::string CompileReport::toJSON() const {
  llvm::json::Array rows;
  for (const WeightReport &w : weights)
    rows.push_back(llvm::json::Object{{"name", w.name},
                                      {"role", w.role},
                                      {"block", w.block},
                                      {"format", w.format},
                                      {"rows", w.rows},
                                      {"cols", w.cols},
                                      {"bits", w.bits},
                                      {"bytes", w.packedBytes},
                                      {"error", w.relativeError},
                                      {"quantizer", w.quantizer},
                                      {"loss", w.loss},
                                      {"error_bound", w.errorBound},
                                      {"loss_limit", w.lossLimit},
                                      {"entropy", w.entropy},
                                      {"note", w.note}});
  llvm::json::Object object{{"recipe", recipe},
                            {"cpu", cpu},
                            {"state", hasState},
                            {"weights", std::move(rows)}};
  if (calibrationSamples)
    object["calibration"] = llvm::json::Object{{"samples", calibrationSamples},
                                               {"tokens", calibrationTokens}};
  if (!notes.empty())
    object["notes"] = llvm::json::Array(notes);
  return llvm::formatv("{0}", llvm::json::Value(std::move(object)));
}
