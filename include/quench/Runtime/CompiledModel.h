//===- CompiledModel.h - A compiled model, opened ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The C interface of a compiled model (quench-c/Runtime.h) for the driver and
// the Python package, with llvm::Error. The file is checked before any of it
// is loaded: a truncated or altered one is an error.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_RUNTIME_COMPILEDMODEL_H
#define QUENCH_RUNTIME_COMPILEDMODEL_H

#include "quench-c/Runtime.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <memory>
#include <string>
#include <vector>

namespace quench {

/// An input or output; `dims` has -1 where the size is known at run time only,
/// and `dimNames` then the symbol or expression ("batch", "past + sequence").
struct CompiledTensor {
  std::string name;
  int32_t type = 0;
  llvm::SmallVector<int64_t> dims;
  std::vector<std::string> dimNames;
};

/// Bytes of an element of quench_type; 0 if it is none.
int64_t elementBytes(int32_t type);
/// numpy's name of a quench_type ("float32", "bfloat16"); "" if it is none.
llvm::StringRef elementTypeName(int32_t type);

struct CompiledFunctions;
class ModelContext;

class CompiledModel {
public:
  /// Checks and loads a file that `quench compile` wrote.
  static llvm::Expected<std::shared_ptr<CompiledModel>>
  open(llvm::StringRef path);
  ~CompiledModel();
  CompiledModel(const CompiledModel &) = delete;
  CompiledModel &operator=(const CompiledModel &) = delete;

  llvm::ArrayRef<CompiledTensor> inputs() const { return inputList; }
  llvm::ArrayRef<CompiledTensor> outputs() const { return outputList; }
  llvm::StringRef metadataJSON() const;
  bool hasState() const;
  int64_t vocabulary() const;
  int64_t maxPositions() const;

  /// threads 0: one per processor; capacity 0: the most positions the model
  /// knows. The context keeps the model alive: make it through a shared_ptr.
  static llvm::Expected<std::unique_ptr<ModelContext>>
  createContext(std::shared_ptr<CompiledModel> model, int threads = 0,
                int64_t capacity = 0);

private:
  friend class ModelContext;
  CompiledModel() = default;
  llvm::Error load(llvm::StringRef path);

  int file = -1;
  void *handle = nullptr;
  quench_model *model = nullptr;
  std::unique_ptr<CompiledFunctions> functions;
  std::vector<CompiledTensor> inputList, outputList;
};

/// One run or conversation; used by one thread at a time. Memory that is lent
/// must live until run returns.
class ModelContext {
public:
  ~ModelContext();
  ModelContext(const ModelContext &) = delete;
  ModelContext &operator=(const ModelContext &) = delete;

  CompiledModel &model() { return *owner; }

  llvm::Error setInput(int index, int32_t type, llvm::ArrayRef<int64_t> dims,
                       const void *data);
  /// Of the inputs now set.
  llvm::Expected<llvm::SmallVector<int64_t>> outputShape(int index);
  /// Where run writes an output.
  llvm::Error setOutput(int index, void *data, int64_t bytes);
  llvm::Error getOutput(int index, void *data, int64_t bytes);
  llvm::Error run();

  /// Appends tokens; `logits`, empty or `vocabulary` long, gets those after the
  /// last.
  llvm::Error step(llvm::ArrayRef<int64_t> tokens,
                   llvm::MutableArrayRef<float> logits);
  /// The same for each token: `tokens.size() * vocabulary` logits.
  llvm::Error stepAll(llvm::ArrayRef<int64_t> tokens,
                      llvm::MutableArrayRef<float> logits);

  int64_t length() const;
  int64_t capacity() const;
  llvm::Error reset();
  llvm::Error truncate(int64_t length);
  llvm::Expected<std::vector<uint8_t>> save();
  llvm::Error load(llvm::ArrayRef<uint8_t> state);
  llvm::Error loadAdapter(llvm::StringRef path);

private:
  friend class CompiledModel;
  ModelContext(std::shared_ptr<CompiledModel> owner, quench_context *context)
      : owner(std::move(owner)), context(context) {}
  llvm::Error result(int code) const;

  std::shared_ptr<CompiledModel> owner;
  quench_context *context;
};

} // namespace quench

#endif // QUENCH_RUNTIME_COMPILEDMODEL_H
