//===- ModelInputs.cpp - Tensors that a model is run on -------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ModelInputs.h"
#include "Driver.h"
#include "llvm/ADT/StringExtras.h"

using namespace llvm;
using namespace quench;

static const struct {
  int32_t type;
  ElementKind kind;
} elementTypes[] = {
    {QUENCH_FLOAT32, ElementKind::F32},  {QUENCH_UINT8, ElementKind::U8},
    {QUENCH_INT8, ElementKind::I8},      {QUENCH_UINT16, ElementKind::U16},
    {QUENCH_INT16, ElementKind::I16},    {QUENCH_INT32, ElementKind::I32},
    {QUENCH_INT64, ElementKind::I64},    {QUENCH_BOOL, ElementKind::I1},
    {QUENCH_FLOAT16, ElementKind::F16},  {QUENCH_FLOAT64, ElementKind::F64},
    {QUENCH_UINT32, ElementKind::U32},   {QUENCH_UINT64, ElementKind::U64},
    {QUENCH_BFLOAT16, ElementKind::BF16}};

Expected<ElementKind> quench::elementKind(int32_t type) {
  for (const auto &entry : elementTypes)
    if (entry.type == type)
      return entry.kind;
  return createStringError("unknown element type " + Twine(type));
}

int32_t quench::elementType(ElementKind kind) {
  for (const auto &entry : elementTypes)
    if (entry.kind == kind)
      return entry.type;
  return 0;
}

std::string quench::describeTensor(const CompiledTensor &tensor) {
  std::vector<std::string> dims;
  for (size_t i = 0; i < tensor.dims.size(); ++i)
    dims.push_back(tensor.dims[i] >= 0 ? std::to_string(tensor.dims[i])
                   : i < tensor.dimNames.size() && !tensor.dimNames[i].empty()
                       ? tensor.dimNames[i]
                       : "?");
  return (elementTypeName(tensor.type) + "[" + join(dims, ",") + "]").str();
}

static bool isInteger(const CompiledTensor &tensor) {
  switch (tensor.type) {
  case QUENCH_INT8:
  case QUENCH_UINT8:
  case QUENCH_INT16:
  case QUENCH_UINT16:
  case QUENCH_INT32:
  case QUENCH_UINT32:
  case QUENCH_INT64:
  case QUENCH_UINT64:
    return true;
  default:
    return false;
  }
}

static bool isFloat(const CompiledTensor &tensor) {
  return tensor.type == QUENCH_FLOAT32 || tensor.type == QUENCH_FLOAT16 ||
         tensor.type == QUENCH_BFLOAT16 || tensor.type == QUENCH_FLOAT64;
}

namespace {
/// What an input of a language model is filled with.
enum class Fill { Tokens, Ones, Positions, Zeros, Empty, None };
} // namespace

static Fill fillOf(const CompiledTensor &input) {
  StringRef name = input.name;
  if (name.contains_insensitive("past") || name.contains_insensitive("cache"))
    return isFloat(input) ? Fill::Empty : Fill::Zeros;
  if (name.contains_insensitive("mask"))
    return Fill::Ones;
  if (name.contains_insensitive("position"))
    return Fill::Positions;
  if (name.contains_insensitive("token_type") ||
      name.contains_insensitive("segment"))
    return Fill::Zeros;
  return Fill::None;
}

Expected<TokenInputs> TokenInputs::create(ArrayRef<CompiledTensor> inputs,
                                          StringRef model) {
  TokenInputs result;
  result.inputs.assign(inputs.begin(), inputs.end());
  result.model = model.str();
  std::vector<size_t> candidates;
  for (auto [i, input] : enumerate(inputs)) {
    if (input.name == "input_ids") {
      candidates = {i};
      break;
    }
    if (isInteger(input) &&
        (input.dims.size() == 1 || input.dims.size() == 2) &&
        fillOf(input) == Fill::None)
      candidates.push_back(i);
  }
  std::vector<std::string> list;
  for (const CompiledTensor &input : inputs)
    list.push_back(input.name + ": " + describeTensor(input));
  if (candidates.size() != 1)
    return createStringError(
        "'" + model + "' is not a language model: of its inputs (" +
        join(list, ", ") + ") " +
        (candidates.empty() ? "none takes" : "several may take") +
        " token ids; an input called input_ids, or one integer input of rank "
        "1 or 2, would");
  result.tokenInput = candidates.front();
  const CompiledTensor &tokens = inputs[result.tokenInput];
  if (!isInteger(tokens) || tokens.dims.empty() || tokens.dims.size() > 2)
    return createStringError("'" + model + "': the input 'input_ids' is " +
                             describeTensor(tokens) +
                             ", not integers of rank 1 or 2");
  if (tokens.dims.size() == 2 && tokens.dims[0] > 1)
    return createStringError("'" + model + "' takes " + Twine(tokens.dims[0]) +
                             " texts at once; one is needed");
  result.length = tokens.dims.back();
  for (auto [i, input] : enumerate(inputs))
    if (i != result.tokenInput && fillOf(input) == Fill::None)
      return createStringError(
          "'" + model + "': nothing is known about the input '" + input.name +
          "' (" + describeTensor(input) +
          "); token ids, attention_mask, position_ids, token_type_ids and "
          "past_... are filled by name");
  return result;
}

/// Integers from `value(i)`, i counting along the last dimension.
static Expected<HostTensor> fill(ElementKind kind, ArrayRef<int64_t> shape,
                                 function_ref<int64_t(int64_t)> value) {
  Expected<HostTensor> wide = HostTensor::allocate(ElementKind::I64, shape);
  if (!wide)
    return wide.takeError();
  int64_t *data = wide->mutableData<int64_t>();
  int64_t row = shape.empty() ? 1 : shape.back();
  for (int64_t i = 0, e = wide->getNumElements(); i < e; ++i)
    data[i] = value(i % row);
  return kind == ElementKind::I64 ? std::move(wide) : wide->convertTo(kind);
}

Expected<SmallVector<HostTensor>>
TokenInputs::make(ArrayRef<int64_t> tokens) const {
  int64_t count = tokens.size();
  if (length >= 0 && count > length)
    return createStringError("'" + model + "' takes texts of at most " +
                             Twine(length) + " tokens, not " + Twine(count));
  int64_t padded = length >= 0 ? length : count;
  SmallVector<HostTensor> result;
  for (auto [index, input] : enumerate(inputs)) {
    Fill how = index == tokenInput ? Fill::Tokens : fillOf(input);
    Expected<ElementKind> kind = elementKind(input.type);
    if (!kind)
      return kind.takeError();
    SmallVector<int64_t> shape(input.dims);
    // Free dimensions: texts come first, then lengths.
    for (size_t d = 0; d < shape.size(); ++d)
      if (shape[d] < 0)
        shape[d] = d == 0 && shape.size() > 1 ? 1
                   : how == Fill::Empty       ? 0
                                              : padded;
    Expected<HostTensor> tensor =
        how == Fill::Empty
            ? HostTensor::allocate(*kind, shape)
            : fill(*kind, shape, [&, how = how](int64_t i) -> int64_t {
                switch (how) {
                case Fill::Tokens:
                  return i < count ? tokens[i] : 0;
                case Fill::Ones:
                  return i < count;
                case Fill::Positions:
                  return i;
                default:
                  return 0;
                }
              });
    if (!tensor)
      return tensor.takeError();
    if (how == Fill::Empty && tensor->getNumBytes())
      memset(tensor->mutableRaw(), 0, tensor->getNumBytes());
    result.push_back(std::move(*tensor));
  }
  return result;
}

Expected<size_t> quench::findLogits(ArrayRef<CompiledTensor> outputs,
                                    StringRef model) {
  std::vector<size_t> candidates;
  for (auto [i, output] : enumerate(outputs)) {
    if (output.name == "logits" && isFloat(output))
      return i;
    if (isFloat(output) && (output.dims.size() == 2 || output.dims.size() == 3))
      candidates.push_back(i);
  }
  if (candidates.empty())
    return createStringError("'" + model +
                             "' is not a language model: it has no output "
                             "called logits, nor a float one of rank 2 or 3");
  return candidates.front();
}

Expected<size_t> quench::findTensor(ArrayRef<CompiledTensor> tensors,
                                    StringRef name, StringRef what) {
  std::vector<std::string> list;
  for (auto [i, tensor] : enumerate(tensors)) {
    if (tensor.name == name)
      return i;
    list.push_back("'" + tensor.name + "'");
  }
  return createStringError("there is no " + what + " '" + name +
                           "'; the model has " + join(list, ", "));
}

Expected<NamedText> quench::findNamed(ArrayRef<CompiledTensor> tensors,
                                      StringRef given, StringRef what) {
  auto [name, text] = given.split('=');
  if (text.empty() && tensors.size() == 1)
    return NamedText{0, given};
  Expected<size_t> index = findTensor(tensors, name, what);
  if (!index)
    return index.takeError();
  return NamedText{*index, text};
}

Expected<std::vector<SmallVector<int64_t>>>
quench::inputShapes(const CompiledModel &model, ArrayRef<std::string> given,
                    int64_t length) {
  std::vector<SmallVector<int64_t>> shapes;
  for (const CompiledTensor &input : model.inputs()) {
    SmallVector<int64_t> &shape = shapes.emplace_back(input.dims);
    bool isPast = StringRef(input.name).contains_insensitive("past");
    for (auto [d, size] : enumerate(shape))
      if (size < 0)
        size = d == 0 ? 1 : isPast ? 0 : length;
  }
  for (StringRef text : given) {
    Expected<NamedText> found = findNamed(model.inputs(), text, "input");
    if (!found)
      return found.takeError();
    Expected<SmallVector<int64_t>> shape = parseShape(found->text);
    if (!shape)
      return shape.takeError();
    shapes[found->index] = std::move(*shape);
  }
  return shapes;
}

Expected<HostTensor> quench::sampleInput(const CompiledModel &model,
                                         size_t index, ArrayRef<int64_t> shape,
                                         RandomNumbers *random) {
  const CompiledTensor &input = model.inputs()[index];
  Expected<ElementKind> kind = elementKind(input.type);
  if (!kind)
    return kind.takeError();
  Fill how = fillOf(input);
  if (how == Fill::Ones || how == Fill::Positions || !random ||
      how == Fill::Zeros)
    return fill(*kind, shape, [&](int64_t i) -> int64_t {
      return how == Fill::Ones ? 1 : how == Fill::Positions ? i : 0;
    });
  if (!isFloat(input)) {
    bool isTokens = isInteger(input) && how == Fill::None;
    int64_t limit = isTokens ? std::max<int64_t>(model.vocabulary(), 2) : 2;
    return fill(*kind, shape, [&](int64_t) -> int64_t {
      return static_cast<int64_t>(random->unit() * limit);
    });
  }
  Expected<HostTensor> floats = HostTensor::allocate(ElementKind::F32, shape);
  if (!floats)
    return floats.takeError();
  float *data = floats->mutableData<float>();
  for (int64_t i = 0, e = floats->getNumElements(); i < e; ++i)
    data[i] = static_cast<float>(2 * random->unit() - 1);
  return floats->convertTo(*kind);
}

Expected<SmallVector<HostTensor>>
quench::runModel(ModelContext &context, ArrayRef<HostTensor> inputs) {
  for (auto [i, input] : enumerate(inputs))
    if (Error error = context.setInput(i, elementType(input.getKind()),
                                       input.getShape(), input.raw()))
      return std::move(error);
  SmallVector<HostTensor> results;
  for (auto [i, output] : enumerate(context.model().outputs())) {
    Expected<SmallVector<int64_t>> shape = context.outputShape(i);
    if (!shape)
      return shape.takeError();
    Expected<ElementKind> kind = elementKind(output.type);
    if (!kind)
      return kind.takeError();
    Expected<HostTensor> tensor = HostTensor::allocate(*kind, *shape);
    if (!tensor)
      return tensor.takeError();
    if (Error error =
            context.setOutput(i, tensor->mutableRaw(), tensor->getNumBytes()))
      return std::move(error);
    results.push_back(std::move(*tensor));
  }
  Error error = context.run();
  // The memory is lent for this run only.
  for (size_t i = 0; i < results.size(); ++i)
    consumeError(context.setOutput(i, nullptr, 0));
  if (error)
    return std::move(error);
  return results;
}
