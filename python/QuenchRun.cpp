//===- QuenchRun.cpp - Compiled models on numpy arrays --------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A thin layer over CompiledModel: types, shapes and names are checked in
// Python (quench/_model.py), values by the runtime. Arrays are lent, not
// copied, and kept alive by the context until others take their place. The
// interpreter's lock is given up while a model runs; a lock of the context's
// own keeps other threads out meanwhile.
//
//===----------------------------------------------------------------------===//

#include "QuenchModule.h"
#include "quench/Runtime/CompiledModel.h"
#include <mutex>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <optional>

namespace nb = nanobind;
using namespace quench;
using namespace quench::python;

namespace {

using InputArray = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using OutputArray = nb::ndarray<nb::c_contig, nb::device::cpu>;
using TokenArray = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig>;
using LogitArray = nb::ndarray<float, nb::ndim<2>, nb::c_contig>;
using TensorTuple = std::tuple<std::string, int32_t, std::vector<int64_t>,
                               std::vector<std::string>>;

std::vector<TensorTuple> describe(llvm::ArrayRef<CompiledTensor> tensors) {
  std::vector<TensorTuple> result;
  for (const CompiledTensor &tensor : tensors)
    result.emplace_back(
        tensor.name, tensor.type,
        std::vector<int64_t>(tensor.dims.begin(), tensor.dims.end()),
        tensor.dimNames);
  return result;
}

/// A context with the arrays it was lent.
class Context {
public:
  Context(std::shared_ptr<CompiledModel> model, int threads, int64_t capacity)
      : context(check(CompiledModel::createContext(std::move(model), threads,
                                                   capacity))) {}

  void setInputs(std::vector<std::pair<int32_t, InputArray>> arrays) {
    auto held = lock();
    for (auto [index, input] : llvm::enumerate(arrays)) {
      InputArray &array = input.second;
      llvm::SmallVector<int64_t> dims;
      for (size_t axis = 0; axis < array.ndim(); ++axis)
        dims.push_back(array.shape(axis));
      check(context->setInput(index, input.first, dims, array.data()));
    }
    inputs = std::move(arrays);
  }

  std::vector<int64_t> outputShape(int index) {
    auto held = lock();
    auto shape = check(context->outputShape(index));
    return {shape.begin(), shape.end()};
  }

  void run(std::vector<std::optional<OutputArray>> outputs) {
    auto held = lock();
    for (auto [index, array] : llvm::enumerate(outputs))
      check(context->setOutput(index, array ? array->data() : nullptr,
                               array ? array->nbytes() : 0));
    llvm::Error error = [&] {
      nb::gil_scoped_release release;
      return context->run();
    }();
    // The arrays go back to the caller, so the context must forget them.
    for (size_t index = 0; index < outputs.size(); ++index)
      llvm::consumeError(context->setOutput(index, nullptr, 0));
    check(std::move(error));
  }

  void step(TokenArray tokens, LogitArray logits, bool all) {
    auto held = lock();
    llvm::ArrayRef<int64_t> ids(tokens.data(), tokens.size());
    llvm::MutableArrayRef<float> values(logits.data(), logits.size());
    llvm::Error error = [&] {
      nb::gil_scoped_release release;
      return all ? context->stepAll(ids, values) : context->step(ids, values);
    }();
    check(std::move(error));
  }

  int64_t length() const { return context->length(); }
  int64_t capacity() const { return context->capacity(); }

  void truncate(int64_t length) {
    auto held = lock();
    check(context->truncate(length));
  }

  nb::bytes save() {
    auto held = lock();
    std::vector<uint8_t> state = check(context->save());
    return nb::bytes(state.data(), state.size());
  }

  void load(nb::bytes state) {
    auto held = lock();
    check(context->load(llvm::ArrayRef<uint8_t>(
        static_cast<const uint8_t *>(state.data()), state.size())));
  }

private:
  std::unique_lock<std::mutex> lock() {
    std::unique_lock<std::mutex> held(mutex, std::try_to_lock);
    if (!held)
      throw QuenchError("this context is in use by another thread; make a "
                        "context for each");
    return held;
  }

  std::unique_ptr<ModelContext> context;
  std::vector<std::pair<int32_t, InputArray>> inputs;
  std::mutex mutex;
};

} // namespace

void quench::python::bindRun(nb::module_ &module) {
  nb::class_<CompiledModel>(module, "Model")
      .def(nb::new_([](const std::string &path) {
             nb::gil_scoped_release release;
             return check(CompiledModel::open(path));
           }),
           nb::arg("path"))
      .def("inputs",
           [](CompiledModel &model) { return describe(model.inputs()); })
      .def("outputs",
           [](CompiledModel &model) { return describe(model.outputs()); })
      .def("metadata",
           [](CompiledModel &model) { return model.metadataJSON().str(); })
      .def("has_state", &CompiledModel::hasState)
      .def("vocabulary", &CompiledModel::vocabulary)
      .def("max_positions", &CompiledModel::maxPositions);

  nb::class_<Context>(module, "Context")
      .def(nb::init<std::shared_ptr<CompiledModel>, int, int64_t>(),
           nb::arg("model"), nb::arg("threads"), nb::arg("capacity"))
      .def("set_inputs", &Context::setInputs)
      .def("output_shape", &Context::outputShape)
      .def("run", &Context::run)
      .def("step", &Context::step)
      .def("length", &Context::length)
      .def("capacity", &Context::capacity)
      .def("truncate", &Context::truncate)
      .def("save", &Context::save)
      .def("load", &Context::load);
}
