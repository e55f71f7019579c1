//===- ModelFiles.cpp - A model's files, mapped ---------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Support/ModelFiles.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

using namespace quench;
using llvm::ArrayRef;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

static Error fail(const llvm::Twine &message) {
  return llvm::createStringError(
      std::make_error_code(std::errc::invalid_argument), message);
}

static Error failErrno(StringRef name, int code) {
  return llvm::createStringError(
      std::error_code(code, std::generic_category()),
      "cannot read '" + name + "': " + std::generic_category().message(code));
}

Expected<std::string> quench::normalizeModelFileName(StringRef name) {
  if (name.empty())
    return fail("the name of a data file is empty");
  if (name.contains('\0'))
    return fail("the name of a data file holds a NUL byte");
  if (name.size() > 4096)
    return fail("the name of a data file is longer than 4096 bytes");
  if (name.starts_with("/"))
    return fail("data file '" + name +
                "' is an absolute path; a path relative to the model's folder "
                "is needed");
  llvm::SmallVector<StringRef> parts, kept;
  name.split(parts, '/', -1, /*KeepEmpty=*/false);
  for (StringRef part : parts) {
    if (part == "..")
      return fail("data file '" + name + "' leaves the model's folder by '..'");
    if (part != ".")
      kept.push_back(part);
  }
  if (kept.empty())
    return fail("data file '" + name + "' is not the name of a file");
  return llvm::join(kept, "/");
}

ModelFiles::ModelFiles(StringRef path) : modelPath(path.str()) {
  folder = llvm::sys::path::parent_path(path).str();
  if (folder.empty())
    folder = ".";
  modelName = path.empty() ? "" : llvm::sys::path::filename(path).str();
}

ModelFiles::~ModelFiles() {
  for (auto &entry : files)
    if (entry.second.mapped)
      ::munmap(const_cast<char *>(entry.second.data), entry.second.size);
}

void ModelFiles::addBuffer(StringRef name, ArrayRef<char> contents) {
  std::lock_guard<std::mutex> guard(lock);
  File &file = files[name];
  file.data = contents.data();
  file.size = contents.size();
}

namespace {
/// Closes a file descriptor at the end of its scope.
struct Descriptor {
  int fd = -1;
  explicit Descriptor(int fd) : fd(fd) {}
  ~Descriptor() {
    if (fd >= 0)
      ::close(fd);
  }
  Descriptor(const Descriptor &) = delete;
  Descriptor &operator=(const Descriptor &) = delete;
  void reset(int other) {
    if (fd >= 0)
      ::close(fd);
    fd = other;
  }
};
} // namespace

/// Opens `name` below `folder` one component at a time, so that no link on the
/// way is followed. Returns the descriptor, or -1 with errno set.
static int openBelow(StringRef folder, StringRef name) {
  Descriptor at(
      ::open(folder.str().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  while (at.fd >= 0 && name.contains('/')) {
    auto [head, tail] = name.split('/');
    at.reset(::openat(at.fd, head.str().c_str(),
                      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    name = tail;
  }
  if (at.fd < 0)
    return -1;
  return ::openat(at.fd, name.str().c_str(),
                  O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

Expected<ModelFiles::File> ModelFiles::map(StringRef name) {
  if (modelName.empty())
    return fail("data file '" + name +
                "' cannot be read: the model has no folder");
  bool isModel = name == modelName;
  Descriptor file(
      isModel ? ::open(modelPath.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)
              : openBelow(folder, name));
  if (file.fd < 0) {
    int code = errno;
    if (!isModel && (code == ELOOP || code == ENOTDIR))
      return fail("data file '" + name +
                  "' is behind a symbolic link; put the file itself into the "
                  "model's folder");
    return failErrno(isModel ? StringRef(modelPath) : name, code);
  }
  struct stat info;
  if (::fstat(file.fd, &info) != 0)
    return failErrno(name, errno);
  if (!S_ISREG(info.st_mode))
    return fail("'" + name + "' is not a plain file");
  File result;
  result.size = static_cast<uint64_t>(info.st_size);
  if (result.size == 0)
    return result;
  void *data = ::mmap(nullptr, result.size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED)
    return failErrno(name, errno);
  result.data = static_cast<const char *>(data);
  result.mapped = true;
  return result;
}

Expected<ModelFiles::File> ModelFiles::find(StringRef name) {
  std::lock_guard<std::mutex> guard(lock);
  auto it = files.find(name);
  if (it != files.end())
    return it->second;
  Expected<std::string> normal = normalizeModelFileName(name);
  if (!normal)
    return normal.takeError();
  it = files.find(*normal);
  if (it != files.end())
    return it->second;
  Expected<File> file = map(*normal);
  if (file)
    files[*normal] = *file;
  return file;
}

Expected<ArrayRef<char>> ModelFiles::getAll(StringRef name) {
  Expected<File> file = find(name);
  if (!file)
    return file.takeError();
  return ArrayRef<char>(file->data, file->size);
}

Expected<ArrayRef<char>> ModelFiles::get(StringRef name, uint64_t offset,
                                         uint64_t bytes) {
  Expected<File> file = find(name);
  if (!file)
    return file.takeError();
  if (offset > file->size || bytes > file->size - offset)
    return fail("'" + name + "' has " + llvm::Twine(file->size) + " bytes; " +
                llvm::Twine(bytes) + " bytes at offset " + llvm::Twine(offset) +
                " are not inside of it");
  return ArrayRef<char>(file->data + offset, bytes);
}

void ModelFiles::release(ArrayRef<char> span) {
  uintptr_t page = llvm::sys::Process::getPageSizeEstimate();
  uintptr_t begin = reinterpret_cast<uintptr_t>(span.data());
  uintptr_t first = (begin + page - 1) / page * page;
  uintptr_t last = (begin + span.size()) / page * page;
  std::lock_guard<std::mutex> guard(lock);
  for (auto &entry : files) {
    File &file = entry.second;
    uintptr_t data = reinterpret_cast<uintptr_t>(file.data);
    if (!file.mapped || begin < data || begin + span.size() > data + file.size)
      continue;
    if (first < last)
      ::madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED);
    return;
  }
}
