//===- LanguageModel.cpp - Logits of texts --------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LanguageModel.h"
#include "ModelInputs.h"
#include "mlir/IR/MLIRContext.h"
#include "quench/Interpreter/LanguageModel.h"
#include "quench/Pipelines/Compile.h"
#include "quench/Support/ModelFiles.h"
#include <cmath>

using namespace llvm;
using namespace quench;

Error quench::checkTokens(ArrayRef<int64_t> tokens, int64_t vocabulary) {
  for (auto [i, id] : enumerate(tokens))
    if (id < 0 || (vocabulary > 0 && id >= vocabulary))
      return createStringError(
          "token id " + Twine(id) + " at position " + Twine(i) +
          (vocabulary > 0 ? " is outside of the model's vocabulary: 0 to " +
                                Twine(vocabulary - 1) + " are accepted"
                          : Twine(" is negative")));
  return Error::success();
}

Error LanguageModel::check(ArrayRef<int64_t> tokens) const {
  if (tokens.empty())
    return createStringError("'" + path() + "': a text of no tokens");
  return checkTokens(tokens, vocabularySize);
}

Error LanguageModel::textLogits(ArrayRef<int64_t> tokens,
                                std::vector<float> &logits) {
  if (Error error = check(tokens))
    return error;
  return runText(tokens, logits);
}

Error LanguageModel::append(ArrayRef<int64_t> tokens,
                            std::vector<float> &logits) {
  if (Error error = check(tokens))
    return error;
  return runAppend(tokens, logits);
}

Error LanguageModel::runAppend(ArrayRef<int64_t> tokens,
                               std::vector<float> &logits) {
  size_t before = history.size();
  history.insert(history.end(), tokens.begin(), tokens.end());
  std::vector<float> all;
  if (Error error = runText(history, all)) {
    history.resize(before);
    return error;
  }
  logits.assign(all.end() - vocabularySize, all.end());
  return Error::success();
}

Error LanguageModel::textEmbedding(ArrayRef<int64_t> tokens,
                                   std::vector<double> &embedding) {
  std::vector<float> values;
  if (Error error = textLogits(tokens, values))
    return error;
  std::vector<double> sums(width);
  for (size_t i = 0; i < values.size(); ++i)
    sums[i % width] += values[i];
  double square = 0;
  for (double sum : sums)
    square += sum * sum;
  if (!std::isfinite(square))
    return createStringError("'" + path() +
                             "': the embedding of a text is not finite");
  embedding.clear();
  for (double sum : sums)
    embedding.push_back(square > 0 ? sum / std::sqrt(square) : 0);
  return Error::success();
}

void LanguageModel::setOutputName(StringRef name) {
  encoder = name.contains("hidden") || name.contains("embedding");
}

Error LanguageModel::takeOutput(const HostTensor &tensor, int64_t tokens,
                                std::vector<float> &values) {
  ArrayRef<int64_t> shape = tensor.getShape();
  if (shape.size() == 3 && shape[0] == 1)
    shape = shape.drop_front();
  else if (encoder && shape.size() == 2 && shape[0] == 1)
    tokens = 1;
  StringRef what = encoder ? "vectors" : "logits";
  if (shape.size() != 2 || shape[0] < tokens || shape[1] < 1)
    return createStringError("'" + path() + "': the " + what + " are " +
                             tensor.describe() + ", not [1," + Twine(tokens) +
                             (encoder ? ",width]" : ",vocabulary]"));
  if (!encoder && vocabularySize && shape[1] != vocabularySize)
    return createStringError("'" + path() + "': there are " + Twine(shape[1]) +
                             " logits for a vocabulary of " +
                             Twine(vocabularySize));
  width = shape[1];
  if (!encoder)
    vocabularySize = width;
  Expected<HostTensor> floats = tensor.convertTo(ElementKind::F32);
  if (!floats)
    return floats.takeError();
  const float *data = floats->data<float>();
  values.assign(data, data + tokens * width);
  return Error::success();
}

namespace {

class CachedModel : public LanguageModel {
public:
  CachedModel(StringRef path, std::unique_ptr<ModelContext> context)
      : LanguageModel(path), context(std::move(context)) {
    vocabularySize = this->context->model().vocabulary();
  }
  int64_t capacity() const override { return context->capacity(); }

protected:
  Error runText(ArrayRef<int64_t> tokens, std::vector<float> &logits) override {
    if (Error error = context->reset())
      return error;
    logits.resize(tokens.size() * vocabularySize);
    return context->stepAll(tokens, logits);
  }
  Error runAppend(ArrayRef<int64_t> tokens,
                  std::vector<float> &logits) override {
    logits.resize(vocabularySize);
    return context->step(tokens, logits);
  }

private:
  std::unique_ptr<ModelContext> context;
};

class StatelessModel : public LanguageModel {
public:
  StatelessModel(StringRef path, std::unique_ptr<ModelContext> context,
                 TokenInputs inputs, size_t output)
      : LanguageModel(path), context(std::move(context)),
        inputs(std::move(inputs)), output(output) {
    const CompiledModel &model = this->context->model();
    setOutputName(model.outputs()[output].name);
    vocabularySize = model.vocabulary();
    if (!vocabularySize && !encoder)
      vocabularySize =
          std::max<int64_t>(0, model.outputs()[output].dims.back());
  }
  int64_t capacity() const override {
    return std::max<int64_t>(0, inputs.fixedLength());
  }

protected:
  Error runText(ArrayRef<int64_t> tokens, std::vector<float> &logits) override {
    Expected<SmallVector<HostTensor>> tensors = inputs.make(tokens);
    if (!tensors)
      return tensors.takeError();
    Expected<SmallVector<HostTensor>> results = runModel(*context, *tensors);
    if (!results)
      return results.takeError();
    return takeOutput((*results)[output], tokens.size(), logits);
  }

private:
  std::unique_ptr<ModelContext> context;
  TokenInputs inputs;
  size_t output;
};

class InterpretedModel : public LanguageModel {
public:
  explicit InterpretedModel(StringRef path) : LanguageModel(path), files(path) {
    mlir::DialectRegistry registry;
    registerPipelineDialects(registry);
    context.appendDialectRegistry(registry);
  }

  Error load(StringRef recipe, const CalibrationOptions &calibration);

protected:
  Error runText(ArrayRef<int64_t> tokens, std::vector<float> &logits) override {
    Expected<HostTensor> result =
        runLanguageModel(*interpreter, function, tokens);
    if (!result)
      return result.takeError();
    return takeOutput(*result, tokens.size(), logits);
  }

private:
  mlir::MLIRContext context;
  ModelFiles files;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  CalibratedWeights calibrated;
  std::optional<Interpreter> interpreter;
  mlir::func::FuncOp function;
};

} // namespace

Error InterpretedModel::load(StringRef recipe,
                             const CalibrationOptions &calibration) {
  Expected<mlir::OwningOpRef<mlir::ModuleOp>> imported =
      importModel(context, path());
  if (!imported)
    return imported.takeError();
  module = std::move(*imported);
  if (!recipe.empty())
    if (Error error = applyRecipeToModule(*module, recipe))
      return error;
  function = module->lookupSymbol<mlir::func::FuncOp>("main");
  if (!function)
    return createStringError("'" + path() + "': there is no function main");
  Expected<unsigned> output = logitsResult(function);
  if (!output)
    return output.takeError();
  if (auto name = function.getResultAttrOfType<mlir::StringAttr>(*output,
                                                                 "quench.name"))
    setOutputName(name.getValue());
  if (auto type =
          dyn_cast<mlir::RankedTensorType>(function.getResultTypes()[*output]);
      !encoder && type && type.getRank() > 0 &&
      !type.isDynamicDim(type.getRank() - 1))
    vocabularySize = type.getShape().back();

  InterpreterOptions options;
  options.files = &files;
  if (!recipe.empty()) {
    Expected<CalibratedWeights> weights =
        quantizeModel(*module, files, calibration);
    if (!weights)
      return weights.takeError();
    calibrated = std::move(*weights);
    for (const std::string &note : calibrated.notes)
      errs() << "note: " << note << '\n';
    options.quantized = weightsOf(*calibrated.weights, calibration.threads);
  }
  Expected<Interpreter> created = Interpreter::create(*module, options);
  if (!created)
    return created.takeError();
  interpreter = std::move(*created);
  return Error::success();
}

Expected<std::unique_ptr<LanguageModel>>
LanguageModel::openCompiled(StringRef path, int threads, int64_t capacity,
                            int64_t needed) {
  Expected<std::shared_ptr<CompiledModel>> model = CompiledModel::open(path);
  if (!model)
    return model.takeError();
  bool hasState = (*model)->hasState();
  if (!capacity) {
    int64_t most = (*model)->maxPositions();
    capacity = most ? std::min(most, needed) : needed;
  }
  Expected<std::unique_ptr<ModelContext>> context =
      CompiledModel::createContext(*model, threads, hasState ? capacity : 0);
  if (!context)
    return context.takeError();
  if (hasState)
    return std::make_unique<CachedModel>(path, std::move(*context));
  Expected<TokenInputs> inputs = TokenInputs::create((*model)->inputs(), path);
  if (!inputs)
    return inputs.takeError();
  Expected<size_t> output = findLogits((*model)->outputs(), path);
  if (!output)
    return output.takeError();
  return std::make_unique<StatelessModel>(path, std::move(*context),
                                          std::move(*inputs), *output);
}

Expected<std::unique_ptr<LanguageModel>>
LanguageModel::openInterpreted(StringRef path, StringRef recipe,
                               const CalibrationOptions &calibration) {
  auto model = std::make_unique<InterpretedModel>(path);
  if (Error error = model->load(recipe, calibration))
    return std::move(error);
  return std::move(model);
}
