//===- Cache.cpp - What is kept between runs ------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Calibration/Cache.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Runtime/Hash.h"
#include "quench/Support/ModelFiles.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include <cstring>
#include <dlfcn.h>
#include <set>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

static std::string hashText(StringRef bytes) {
  return llvm::utohexstr(quench_hash(bytes.data(), bytes.size()), true, 16);
}

/// The program or library that holds this code: another one may choose other
/// codes.
static std::string programHash() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<void *>(&programHash), &info) || !info.dli_fname)
    return "";
  std::string path = llvm::sys::path::filename(info.dli_fname) == info.dli_fname
                         ? "/proc/self/exe"
                         : info.dli_fname;
  auto buffer = llvm::MemoryBuffer::getFile(path, false, false);
  return buffer ? hashText((*buffer)->getBuffer()) : "";
}

Expected<std::string> quench::cachePath(ModuleOp module, ModelFiles &files,
                                        StringRef folder, StringRef what,
                                        StringRef ending) {
  std::set<std::string> names;
  for (auto init : module.getOps<qn::InitializerOp>())
    if (auto file = dyn_cast<qn::FileAttr>(init.getSource()))
      names.insert(file.getPath().str());
  std::string text = programHash() + what.str();
  for (const std::string &name : names) {
    Expected<llvm::ArrayRef<char>> bytes = files.getAll(name);
    if (!bytes)
      return bytes.takeError();
    text += hashText({bytes->data(), bytes->size()});
    files.release(*bytes);
  }
  llvm::SmallString<256> path(folder);
  if (path.empty()) {
    if (!llvm::sys::path::cache_directory(path))
      return createStringError("there is no folder for what is kept between "
                               "runs; give --cache DIR");
    llvm::sys::path::append(path, "quench");
  }
  StringRef model = llvm::sys::path::stem(files.getModelPath());
  llvm::sys::path::append(path, model + "-" + hashText(text) + ending);
  return path.str().str();
}

Error CacheWriter::write(StringRef path) {
  number<uint64_t>(quench_hash(bytes.data(), bytes.size()));
  StringRef folder = llvm::sys::path::parent_path(path);
  if (std::error_code code = llvm::sys::fs::create_directories(folder))
    return createStringError("cannot make the folder '" + folder +
                             "': " + code.message());
  return llvm::writeToOutput(path, [&](llvm::raw_ostream &out) -> Error {
    out << bytes;
    return Error::success();
  });
}

std::optional<CacheReader> CacheReader::open(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path, false, false);
  if (!buffer || (*buffer)->getBufferSize() < sizeof(uint64_t))
    return std::nullopt;
  CacheReader reader;
  reader.bytes = (*buffer)->getBuffer().str();
  size_t size = reader.bytes.size() - sizeof(uint64_t);
  uint64_t hash;
  std::memcpy(&hash, reader.bytes.data() + size, sizeof(hash));
  if (hash != quench_hash(reader.bytes.data(), size))
    return std::nullopt;
  reader.bytes.resize(size);
  return reader;
}

void CacheReader::take(void *to, size_t count) {
  // The hash says that the file is as it was written.
  count = std::min(count, bytes.size() - at);
  std::memcpy(to, bytes.data() + at, count);
  at += count;
}
