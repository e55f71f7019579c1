//===- CompiledModel.cpp - A compiled model, opened -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Runtime/CompiledModel.h"
#include "quench/Runtime/Hash.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/BinaryFormat/ELF.h"
#include "llvm/Support/FileSystem.h"
#include <atomic>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace llvm;
using namespace quench;

/// The functions of quench-c/Runtime.h that are looked up in the file.
#define QUENCH_FUNCTIONS(X)                                                    \
  X(quench_abi_version)                                                        \
  X(quench_last_error)                                                         \
  X(quench_model_open_with)                                                    \
  X(quench_model_close)                                                        \
  X(quench_model_metadata)                                                     \
  X(quench_model_has_state)                                                    \
  X(quench_model_vocabulary)                                                   \
  X(quench_model_max_positions)                                                \
  X(quench_input_count)                                                        \
  X(quench_output_count)                                                       \
  X(quench_input_info)                                                         \
  X(quench_output_info)                                                        \
  X(quench_context_create)                                                     \
  X(quench_context_destroy)                                                    \
  X(quench_set_input)                                                          \
  X(quench_output_shape)                                                       \
  X(quench_set_output)                                                         \
  X(quench_get_output)                                                         \
  X(quench_run)                                                                \
  X(quench_step)                                                               \
  X(quench_step_all)                                                           \
  X(quench_state_length)                                                       \
  X(quench_state_capacity)                                                     \
  X(quench_state_truncate)                                                     \
  X(quench_state_save)                                                         \
  X(quench_state_load)                                                         \
  X(quench_adapter_load)

struct quench::CompiledFunctions {
#define QUENCH_DECLARE(name) decltype(&::name) name = nullptr;
  QUENCH_FUNCTIONS(QUENCH_DECLARE)
#undef QUENCH_DECLARE
};

static const struct {
  int32_t type;
  int64_t bytes;
  StringRef name;
} elementTypes[] = {
    {QUENCH_FLOAT32, 4, "float32"},  {QUENCH_UINT8, 1, "uint8"},
    {QUENCH_INT8, 1, "int8"},        {QUENCH_UINT16, 2, "uint16"},
    {QUENCH_INT16, 2, "int16"},      {QUENCH_INT32, 4, "int32"},
    {QUENCH_INT64, 8, "int64"},      {QUENCH_BOOL, 1, "bool"},
    {QUENCH_FLOAT16, 2, "float16"},  {QUENCH_FLOAT64, 8, "float64"},
    {QUENCH_UINT32, 4, "uint32"},    {QUENCH_UINT64, 8, "uint64"},
    {QUENCH_BFLOAT16, 2, "bfloat16"}};

int64_t quench::elementBytes(int32_t type) {
  for (const auto &entry : elementTypes)
    if (entry.type == type)
      return entry.bytes;
  return 0;
}

StringRef quench::elementTypeName(int32_t type) {
  for (const auto &entry : elementTypes)
    if (entry.type == type)
      return entry.name;
  return "";
}

static Error fileError(StringRef path, const Twine &message) {
  return createStringError("'" + path + "' " + message);
}

/// Length, seal, hash and ELF header of a file. Nothing is mapped before its
/// length is known.
static Error checkFile(StringRef path, int file) {
  uint64_t size = 0;
  sys::fs::file_status status;
  if (std::error_code error = sys::fs::status(file, status))
    return createFileError(path, error);
  if (status.type() != sys::fs::file_type::regular_file)
    return fileError(path, "is not a file");
  size = status.getSize();

  char magic[20] = {};
  if (pread(file, magic, sizeof(magic), 0) !=
          static_cast<ssize_t>(sizeof(magic)) ||
      memcmp(magic, ELF::ElfMagic, 4) ||
      magic[ELF::EI_CLASS] != ELF::ELFCLASS64)
    return fileError(
        path,
        "is not a compiled model: it does not begin as a 64-bit ELF file");
#if defined(__x86_64__)
  constexpr unsigned machine = ELF::EM_X86_64;
#elif defined(__aarch64__)
  constexpr unsigned machine = ELF::EM_AARCH64;
#else
  constexpr unsigned machine = ELF::EM_NONE;
#endif
  uint16_t type, found;
  memcpy(&type, magic + 16, 2);
  memcpy(&found, magic + 18, 2);
  if (type != ELF::ET_DYN || found != machine)
    return fileError(path,
                     "is compiled for another kind of processor (ELF type " +
                         Twine(type) + ", machine " + Twine(found) + "; " +
                         Twine(machine) + " is this machine's)");

  quench_seal seal;
  if (size <= sizeof(seal) ||
      pread(file, &seal, sizeof(seal), size - sizeof(seal)) !=
          static_cast<ssize_t>(sizeof(seal)) ||
      memcmp(seal.magic, QUENCH_SEAL_MAGIC, sizeof(seal.magic)) ||
      seal.bytes != size - sizeof(seal))
    return fileError(
        path, "is truncated or altered, or is not a compiled model: its " +
                  Twine(size) +
                  " bytes do not end with a compiled model's seal");
  void *map = mmap(nullptr, seal.bytes, PROT_READ, MAP_PRIVATE, file, 0);
  if (map == MAP_FAILED)
    return fileError(path, "cannot be mapped");
  uint64_t hash = quench_hash(map, seal.bytes);
  munmap(map, seal.bytes);
  if (hash != seal.hash)
    return fileError(path, "is altered: its bytes have the hash " +
                               utohexstr(hash) + ", " + utohexstr(seal.hash) +
                               " was recorded when it was written");
  return Error::success();
}

Expected<std::shared_ptr<CompiledModel>> CompiledModel::open(StringRef path) {
  std::shared_ptr<CompiledModel> result(new CompiledModel());
  if (Error error = result->load(path))
    return std::move(error);
  return result;
}

static CompiledTensor describe(const quench_tensor_info &info) {
  CompiledTensor tensor;
  tensor.name = info.name;
  tensor.type = info.type;
  tensor.dims.append(info.dims, info.dims + info.rank);
  tensor.dimNames.assign(info.dim_names, info.dim_names + info.rank);
  return tensor;
}

Error CompiledModel::load(StringRef path) {
  if (std::error_code error =
          sys::fs::openFileForRead(path, file, sys::fs::OF_None))
    return createFileError(path, error);
  if (Error error = checkFile(path, file))
    return error;

  // By descriptor: the file that was checked is the one that is loaded, and the
  // loader does not take another file that had this path before for the same.
  // Each load has a name of its own, since the loader also keeps the names of
  // libraries that it could not unload, and descriptors come again.
  static std::atomic<uint32_t> loads(0);
  std::string link = "/proc/self/fd";
  for (uint32_t number = ++loads; number != 0; number >>= 1)
    link += number & 1 ? "/." : "//";
  link += "/" + std::to_string(file);
  SmallString<256> absolute(path);
  if (std::error_code error = sys::fs::make_absolute(absolute))
    return createFileError(path, error);
  if (!sys::fs::exists(link))
    link = absolute.str().str();
  handle = dlopen(link.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    return fileError(path, Twine("cannot be loaded: ") + dlerror());

  functions = std::make_unique<CompiledFunctions>();
  std::string missing;
  auto find = [&](auto &function, const char *name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(
        dlsym(handle, name));
    if (!function && missing.empty())
      missing = name;
  };
  find(functions->quench_abi_version, "quench_abi_version");
  if (!functions->quench_abi_version)
    return fileError(path,
                     "is not a compiled model: it has no quench_abi_version");
  if (uint32_t version = functions->quench_abi_version();
      version != QUENCH_ABI_VERSION)
    return fileError(path, "has the C interface " + Twine(version) +
                               ", this program knows " +
                               Twine(QUENCH_ABI_VERSION) +
                               ": compile the model again");
#define QUENCH_FIND(name) find(functions->name, #name);
  QUENCH_FUNCTIONS(QUENCH_FIND)
#undef QUENCH_FIND
  if (!missing.empty())
    return fileError(path, "is not a compiled model: it has no " + missing);

  // The file itself is checked already.
  if (functions->quench_model_open_with(absolute.c_str(),
                                        QUENCH_OPEN_UNCHECKED_FILE, &model))
    return fileError(path, Twine("cannot be opened: ") +
                               functions->quench_last_error());
  for (int i = 0, e = functions->quench_input_count(model); i < e; ++i) {
    quench_tensor_info info;
    functions->quench_input_info(model, i, &info);
    inputList.push_back(describe(info));
  }
  for (int i = 0, e = functions->quench_output_count(model); i < e; ++i) {
    quench_tensor_info info;
    functions->quench_output_info(model, i, &info);
    outputList.push_back(describe(info));
  }
  return Error::success();
}

CompiledModel::~CompiledModel() {
  if (model)
    functions->quench_model_close(model);
  if (handle)
    dlclose(handle);
  if (file >= 0)
    ::close(file);
}

StringRef CompiledModel::metadataJSON() const {
  return functions->quench_model_metadata(model);
}
bool CompiledModel::hasState() const {
  return functions->quench_model_has_state(model);
}
int64_t CompiledModel::vocabulary() const {
  return functions->quench_model_vocabulary(model);
}
int64_t CompiledModel::maxPositions() const {
  return functions->quench_model_max_positions(model);
}

Expected<std::unique_ptr<ModelContext>>
CompiledModel::createContext(std::shared_ptr<CompiledModel> model, int threads,
                             int64_t capacity) {
  quench_context *context = nullptr;
  if (model->functions->quench_context_create(model->model, threads, capacity,
                                              &context))
    return createStringError(model->functions->quench_last_error());
  return std::unique_ptr<ModelContext>(
      new ModelContext(std::move(model), context));
}

ModelContext::~ModelContext() {
  owner->functions->quench_context_destroy(context);
}

Error ModelContext::result(int code) const {
  return code ? createStringError(owner->functions->quench_last_error())
              : Error::success();
}

Error ModelContext::setInput(int index, int32_t type, ArrayRef<int64_t> dims,
                             const void *data) {
  return result(owner->functions->quench_set_input(
      context, index, type, dims.size(), dims.data(), data));
}

Expected<SmallVector<int64_t>> ModelContext::outputShape(int index) {
  SmallVector<int64_t> dims;
  if (index >= 0 && index < static_cast<int>(owner->outputs().size()))
    dims.resize(owner->outputs()[index].dims.size());
  if (Error error = result(
          owner->functions->quench_output_shape(context, index, dims.data())))
    return std::move(error);
  return dims;
}

Error ModelContext::setOutput(int index, void *data, int64_t bytes) {
  return result(
      owner->functions->quench_set_output(context, index, data, bytes));
}

Error ModelContext::getOutput(int index, void *data, int64_t bytes) {
  return result(
      owner->functions->quench_get_output(context, index, data, bytes));
}

Error ModelContext::run() {
  return result(owner->functions->quench_run(context));
}

static Error wrongLogits(size_t found, int64_t wanted) {
  return createStringError("room for " + Twine(found) + " logits found, " +
                           Twine(wanted) + " needed");
}

Error ModelContext::step(ArrayRef<int64_t> tokens,
                         MutableArrayRef<float> logits) {
  int64_t wanted = owner->vocabulary();
  if (!logits.empty() && static_cast<int64_t>(logits.size()) < wanted)
    return wrongLogits(logits.size(), wanted);
  return result(
      owner->functions->quench_step(context, tokens.data(), tokens.size(),
                                    logits.empty() ? nullptr : logits.data()));
}

Error ModelContext::stepAll(ArrayRef<int64_t> tokens,
                            MutableArrayRef<float> logits) {
  int64_t wanted = owner->vocabulary() * static_cast<int64_t>(tokens.size());
  if (static_cast<int64_t>(logits.size()) < wanted)
    return wrongLogits(logits.size(), wanted);
  return result(owner->functions->quench_step_all(
      context, tokens.data(), tokens.size(), logits.data()));
}

int64_t ModelContext::length() const {
  return owner->functions->quench_state_length(context);
}
int64_t ModelContext::capacity() const {
  return owner->functions->quench_state_capacity(context);
}
Error ModelContext::reset() { return truncate(0); }

Error ModelContext::truncate(int64_t length) {
  return result(owner->functions->quench_state_truncate(context, length));
}

Expected<std::vector<uint8_t>> ModelContext::save() {
  int64_t bytes = 0;
  if (Error error =
          result(owner->functions->quench_state_save(context, nullptr, &bytes)))
    return std::move(error);
  std::vector<uint8_t> state(bytes);
  if (Error error = result(
          owner->functions->quench_state_save(context, state.data(), &bytes)))
    return std::move(error);
  return state;
}

Error ModelContext::load(ArrayRef<uint8_t> state) {
  return result(
      owner->functions->quench_state_load(context, state.data(), state.size()));
}

Error ModelContext::loadAdapter(StringRef path) {
  return result(
      owner->functions->quench_adapter_load(context, path.str().c_str()));
}
