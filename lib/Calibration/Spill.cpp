//===- Spill.cpp - One value of all samples in a file ---------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One entry for each sample, then the tensors, each at a multiple of a page.
//
//===----------------------------------------------------------------------===//

#include "Spill.h"
#include "llvm/Support/MathExtras.h"
#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace quench;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

static constexpr uint64_t kMagic = 0x314c4c4950535151;
static constexpr int64_t kPage = 4096;
static constexpr int kMaxRank = 8;

namespace {
struct Entry {
  uint64_t magic; // 0: not written
  int32_t kind, rank;
  int64_t shape[kMaxRank];
  int64_t offset;
};
} // namespace

static Error failed(StringRef path, const llvm::Twine &what) {
  std::error_code code(errno, std::generic_category());
  return llvm::createStringError(code, "'" + path + "': " + what + ": " +
                                           code.message());
}

static Error writeAll(int descriptor, StringRef path, const void *data,
                      int64_t bytes, int64_t offset) {
  const char *from = static_cast<const char *>(data);
  while (bytes > 0) {
    ssize_t done = pwrite(descriptor, from, bytes, offset);
    if (done < 0 && errno == EINTR)
      continue;
    if (done <= 0)
      return failed(path, "cannot write");
    from += done;
    offset += done;
    bytes -= done;
  }
  return Error::success();
}

SpillFile::SpillFile(StringRef path, int descriptor, int64_t samples)
    : path(path.str()), descriptor(descriptor),
      end(llvm::alignTo(samples * sizeof(Entry), kPage)) {}

SpillFile::~SpillFile() { close(descriptor); }

Expected<std::unique_ptr<SpillFile>> SpillFile::create(StringRef path,
                                                       int64_t samples) {
  int descriptor =
      ::open(path.str().c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (descriptor < 0)
    return failed(path, "cannot create");
  std::unique_ptr<SpillFile> file(new SpillFile(path, descriptor, samples));
  std::vector<Entry> entries(samples, Entry{});
  if (Error error = writeAll(descriptor, path, entries.data(),
                             samples * sizeof(Entry), 0))
    return std::move(error);
  return std::move(file);
}

Expected<std::unique_ptr<SpillFile>> SpillFile::open(StringRef path,
                                                     int64_t samples) {
  int descriptor = ::open(path.str().c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0)
    return failed(path, "cannot open");
  std::unique_ptr<SpillFile> file(new SpillFile(path, descriptor, samples));
  for (int64_t i = 0; i < samples; ++i) {
    Expected<HostTensor> tensor = file->read(i);
    if (!tensor)
      return tensor.takeError();
  }
  return std::move(file);
}

Error SpillFile::write(int64_t sample, const HostTensor &tensor) {
  Entry entry{};
  entry.magic = kMagic;
  entry.kind = static_cast<int32_t>(tensor.getKind());
  entry.rank = tensor.getRank();
  if (tensor.getRank() > kMaxRank)
    return llvm::createStringError("a value of rank " +
                                   llvm::Twine(tensor.getRank()));
  llvm::copy(tensor.getShape(), entry.shape);
  int64_t bytes = tensor.getNumBytes();
  entry.offset = end.fetch_add(llvm::alignTo(bytes, kPage));
  if (Error error =
          writeAll(descriptor, path, tensor.raw(), bytes, entry.offset))
    return error;
  return writeAll(descriptor, path, &entry, sizeof(entry),
                  sample * sizeof(Entry));
}

Expected<HostTensor> SpillFile::read(int64_t sample) const {
  Entry entry{};
  if (pread(descriptor, &entry, sizeof(entry), sample * sizeof(Entry)) !=
          sizeof(entry) ||
      entry.magic != kMagic || entry.rank < 0 || entry.rank > kMaxRank)
    return llvm::createStringError("'" + path + "': sample " +
                                   llvm::Twine(sample) + " is not there");
  llvm::ArrayRef<int64_t> shape(entry.shape, entry.rank);
  auto kind = static_cast<ElementKind>(entry.kind);
  int64_t bytes = elementBytes(kind);
  for (int64_t size : shape)
    bytes *= size;
  if (bytes == 0)
    return HostTensor::allocate(kind, shape);
  struct stat status;
  if (fstat(descriptor, &status) || status.st_size < entry.offset + bytes)
    return llvm::createStringError("'" + path + "': the file is cut off");
  void *memory =
      mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, entry.offset);
  if (memory == MAP_FAILED)
    return failed(path, "cannot map");
  std::shared_ptr<const void> owner(memory,
                                    [bytes](void *at) { munmap(at, bytes); });
  return HostTensor::view(kind, shape, memory, owner);
}

void SpillFile::remove() { unlink(path.c_str()); }
