//===- Data.cpp - What a model is calibrated on ---------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Calibration/Data.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Interpreter/LanguageModel.h"
#include "quench/Runtime/Hash.h"
#include "quench/Tokenizer/Texts.h"
#include "llvm/ADT/DenseSet.h"
#include <cmath>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

bool quench::isLanguageModel(func::FuncOp main) {
  bool is = false;
  main.walk([&](qn::AttentionOp op) { is |= op.getCausal(); });
  for (unsigned i = 0; i < main.getNumArguments(); ++i)
    if (auto name = main.getArgAttrOfType<StringAttr>(i, "quench.name"))
      is |= name.getValue().starts_with("past");
  for (unsigned i = 0; i < main.getNumResults(); ++i)
    if (auto name = main.getResultAttrOfType<StringAttr>(i, "quench.name"))
      is |= name.getValue() == "logits";
  return is;
}

/// Rows of the table that token ids index; 0: not known.
static int64_t vocabularyOf(func::FuncOp main) {
  int64_t rows = 0;
  main.walk([&](qn::EmbeddingOp op) {
    // Positions and types have tables of their own: the tokens' is the largest.
    Type type = op.getTable().getType();
    auto shape = isa<qn::QTensorType>(type)
                     ? cast<qn::QTensorType>(type).getShape()
                     : cast<ShapedType>(type).getShape();
    if (!shape.empty())
      rows = std::max(rows, shape[0]);
  });
  return rows;
}

/// The only input, if it is of floats.
static RankedTensorType floatInput(func::FuncOp main) {
  if (main.getNumArguments() != 1)
    return {};
  auto type = dyn_cast<RankedTensorType>(main.getArgumentTypes()[0]);
  return type && isa<FloatType>(type.getElementType()) ? type
                                                       : RankedTensorType();
}

/// Whole windows of one row.
static void cutWindows(llvm::ArrayRef<int64_t> ids, int64_t context,
                       std::vector<std::vector<int64_t>> &windows) {
  for (size_t i = 0; i + context <= ids.size(); i += context)
    windows.emplace_back(ids.begin() + i, ids.begin() + i + context);
}

/// Slices of an .npy of floats along its first dimension.
static Expected<std::vector<HostTensor>>
readTensors(StringRef path, RankedTensorType type, int64_t maxSamples) {
  Expected<HostTensor> all = HostTensor::loadNpy(path);
  if (!all)
    return all.takeError();
  Expected<ElementKind> kind = elementKindOf(type);
  if (!kind)
    return kind.takeError();
  SmallVector<int64_t> shape(all->getShape());
  bool fits = isFloatKind(all->getKind()) && !shape.empty() &&
              all->getRank() == type.getRank();
  for (int64_t d = 1; fits && d < all->getRank(); ++d)
    fits = type.isDynamicDim(d) || type.getDimSize(d) == shape[d];
  int64_t step =
      type.getRank() && !type.isDynamicDim(0) ? type.getDimSize(0) : 1;
  if (!fits || step < 1 || shape[0] < step) {
    std::string wanted;
    llvm::raw_string_ostream(wanted) << type;
    return createStringError("'" + path + "': " + all->describe() +
                             " found; the model's input is " + wanted +
                             ", and samples lie along its first dimension");
  }
  Expected<HostTensor> floats = all->convertTo(*kind);
  if (!floats)
    return floats.takeError();
  int64_t count = shape[0] / step;
  if (maxSamples)
    count = std::min(count, maxSamples);
  shape[0] = step;
  int64_t bytes = floats->getNumBytes() / all->dim(0) * step;
  auto owner = std::make_shared<HostTensor>(*floats);
  std::vector<HostTensor> samples;
  for (int64_t i = 0; i < count; ++i)
    samples.push_back(HostTensor::view(
        *kind, shape, static_cast<const char *>(owner->raw()) + i * bytes,
        owner));
  return samples;
}

Expected<CalibrationData> CalibrationData::load(func::FuncOp main,
                                                StringRef model,
                                                const Options &options) {
  CalibrationData data;
  StringRef path = options.path;
  bool isArray = path.ends_with_insensitive(".npy");
  if (options.context < 1 || options.maxSamples < 0)
    return createStringError(
        "calibration needs a context of one token at least");
  if (RankedTensorType type = floatInput(main)) {
    if (!isArray)
      return createStringError("'" + path +
                               "': the model's input is no text; an .npy file "
                               "of samples of that input is accepted");
    Expected<std::vector<HostTensor>> tensors =
        readTensors(path, type, options.maxSamples);
    if (!tensors)
      return tensors.takeError();
    data.tensors = std::move(*tensors);
    if (Error error = data.check(main, path))
      return std::move(error);
    return data;
  }

  std::vector<std::vector<int64_t>> rows;
  bool isText = false;
  int64_t found = 0;
  if (isArray) {
    Expected<TokenRows> read = readTokenIds(path);
    if (!read)
      return read.takeError();
    rows = std::move(read->rows);
    isText = rows.size() == 1 &&
             static_cast<int64_t>(rows[0].size()) > options.context;
  } else {
    Expected<std::string> text = readText(path);
    if (!text)
      return text.takeError();
    Expected<Tokenizer> tokenizer =
        openTokenizer(options.tokenizer, model, "a text as calibration data");
    if (!tokenizer)
      return tokenizer.takeError();
    isText = isLanguageModel(main);
    rows = tokenize(*tokenizer, *text, /*byLine=*/!isText).rows;
  }
  for (const std::vector<int64_t> &row : rows)
    found += row.size();
  if (isText) {
    std::vector<std::vector<int64_t>> windows;
    for (const std::vector<int64_t> &row : rows)
      cutWindows(row, options.context, windows);
    rows = std::move(windows);
    if (rows.empty())
      return createStringError("'" + path + "' has " + Twine(found) +
                               " tokens, fewer than one window of " +
                               Twine(options.context) +
                               "; give a longer text or a shorter context");
  }
  if (options.maxSamples) {
    if (static_cast<int64_t>(rows.size()) > options.maxSamples)
      rows.resize(options.maxSamples);
    else if (static_cast<int64_t>(rows.size()) < options.maxSamples)
      data.notes.push_back("the calibration data have " +
                           std::to_string(rows.size()) + " samples, " +
                           std::to_string(options.maxSamples) +
                           " were asked for");
  }
  for (std::vector<int64_t> &row : rows)
    if (static_cast<int64_t>(row.size()) > options.context) {
      // The last token ends a sentence.
      row[options.context - 1] = row.back();
      row.resize(options.context);
    }
  data.rows = std::move(rows);
  if (Error error = data.check(main, path))
    return std::move(error);
  return data;
}

Expected<CalibrationData> CalibrationData::ofTokens(
    func::FuncOp main, std::vector<std::vector<int64_t>> rows, StringRef name) {
  CalibrationData data;
  data.rows = std::move(rows);
  if (Error error = data.check(main, name))
    return std::move(error);
  return data;
}

Error CalibrationData::check(func::FuncOp main, StringRef name) {
  if (size() == 0)
    return createStringError("'" + name + "' has no sample");
  for (auto [sample, tensor] : llvm::enumerate(tensors)) {
    for (int64_t i = 0; i < tensor.getNumElements(); ++i)
      if (!std::isfinite(tensor.at(i)))
        return createStringError(
            "'" + name + "': sample " + Twine(sample) + " has the number " +
            (std::isnan(tensor.at(i)) ? "NaN" : "infinity") +
            "; calibration needs finite numbers");
  }
  if (rows.empty())
    return Error::success();
  int64_t vocabulary = vocabularyOf(main);
  llvm::DenseSet<int64_t> distinct;
  for (auto [sample, row] : llvm::enumerate(rows)) {
    if (row.empty())
      return createStringError("'" + name + "': sample " + Twine(sample) +
                               " has no tokens");
    for (auto [position, id] : llvm::enumerate(row)) {
      if (id < 0 || (vocabulary > 0 && id >= vocabulary))
        return createStringError(
            "'" + name + "': token id " + Twine(id) + " at position " +
            Twine(position) + " of sample " + Twine(sample) +
            (vocabulary > 0 ? " is outside of the model's vocabulary: 0 to " +
                                  Twine(vocabulary - 1) + " are accepted"
                            : Twine(" is negative")));
      distinct.insert(id);
    }
  }
  if (distinct.size() == 1 && tokens() > 1)
    return createStringError("'" + name + "' has one token only (id " +
                             Twine(*distinct.begin()) + ", " + Twine(tokens()) +
                             " times); calibration needs a text like those "
                             "that the model is for");
  return Error::success();
}

int64_t CalibrationData::tokens() const {
  int64_t count = tensors.size();
  for (const std::vector<int64_t> &row : rows)
    count += row.size();
  return count;
}

Expected<SmallVector<HostTensor>>
CalibrationData::inputs(func::FuncOp main, int64_t sample) const {
  if (rows.empty())
    return SmallVector<HostTensor>{tensors[sample]};
  return languageModelInputs(main, rows[sample]);
}

std::string CalibrationData::fingerprint() const {
  quench_hash_state state;
  quench_hash_init(&state);
  for (const std::vector<int64_t> &row : rows) {
    uint64_t size = row.size();
    quench_hash_update(&state, &size, sizeof(size));
    quench_hash_update(&state, row.data(), size * sizeof(int64_t));
  }
  for (const HostTensor &tensor : tensors) {
    std::string shape = tensor.describe();
    quench_hash_update(&state, shape.data(), shape.size());
    quench_hash_update(&state, tensor.raw(), tensor.getNumBytes());
  }
  return llvm::utohexstr(quench_hash_final(&state), false, 16);
}
