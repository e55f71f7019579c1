//===- ReferenceLogits.cpp - What a model is compared with ----------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The cache is a header and the logits of the windows one after the other, in
// the machine's byte order:
//
//   "QnchRef1" | key (8 bytes) | windows | tokens of a window | vocabulary
//   float32[windows][tokens][vocabulary]
//
//===----------------------------------------------------------------------===//

#include "ReferenceLogits.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/xxhash.h"
#include <cstring>

using namespace llvm;
using namespace quench;

namespace {
struct Header {
  char magic[8];
  uint64_t key, windows, tokens, vocabulary;
};
} // namespace

static const char magic[9] = "QnchRef1";

/// A number for the model's file, as it is now, and the windows.
static Expected<uint64_t> keyOf(StringRef model,
                                ArrayRef<ArrayRef<int64_t>> windows) {
  SmallString<256> absolute;
  sys::fs::file_status status;
  std::error_code error = sys::fs::real_path(model, absolute);
  if (!error)
    error = sys::fs::status(absolute, status);
  if (error)
    return createFileError(model, error);
  std::string text = absolute.str().str();
  auto add = [&](uint64_t value) {
    text.append(reinterpret_cast<const char *>(&value), sizeof(value));
  };
  add(status.getSize());
  add(status.getLastModificationTime().time_since_epoch().count());
  for (ArrayRef<int64_t> window : windows) {
    add(window.size());
    for (int64_t id : window)
      add(id);
  }
  return xxh3_64bits(text);
}

bool ReferenceLogits::readCache() {
  ErrorOr<std::unique_ptr<MemoryBuffer>> buffer = MemoryBuffer::getFile(
      path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer || (*buffer)->getBufferSize() < sizeof(Header))
    return false;
  Header header;
  memcpy(&header, (*buffer)->getBufferStart(), sizeof(header));
  if (memcmp(header.magic, magic, 8) || header.key != key ||
      header.windows != windows.size() ||
      header.tokens != windows.front().size() || header.vocabulary == 0 ||
      header.vocabulary > UINT32_MAX)
    return false;
  uint64_t bytes = header.windows * header.tokens * header.vocabulary * 4;
  if ((*buffer)->getBufferSize() != sizeof(Header) + bytes)
    return false;
  cached = std::move(*buffer);
  return true;
}

Expected<std::unique_ptr<ReferenceLogits>>
ReferenceLogits::open(StringRef model, StringRef cache,
                      ArrayRef<ArrayRef<int64_t>> windows,
                      const Opener &opener) {
  std::unique_ptr<ReferenceLogits> result(new ReferenceLogits(windows));
  if (!cache.empty()) {
    Expected<uint64_t> key = keyOf(model, windows);
    if (!key)
      return key.takeError();
    result->key = *key;
    result->path = cache.str();
    if (result->readCache())
      return result;
  }
  Expected<std::unique_ptr<LanguageModel>> opened = opener();
  if (!opened)
    return opened.takeError();
  result->model = std::move(*opened);
  if (int64_t room = result->model->capacity();
      room && room < static_cast<int64_t>(windows.front().size()))
    return createStringError("'" + model + "' holds " + Twine(room) +
                             " positions, fewer than a window has");
  return result;
}

ReferenceLogits::~ReferenceLogits() {
  if (!writer)
    return;
  // An error that is left when the stream goes would end the program.
  writer->flush();
  writer->clear_error();
  writer.reset();
  sys::fs::remove(temporary);
}

Error ReferenceLogits::append(ArrayRef<float> logits) {
  if (path.empty())
    return Error::success();
  if (!writer) {
    temporary = path + ".part";
    std::error_code error;
    writer = std::make_unique<raw_fd_ostream>(temporary, error);
    if (error) {
      writer.reset();
      return createFileError(temporary, error);
    }
    Header header;
    memcpy(header.magic, magic, 8);
    header.key = key;
    header.windows = windows.size();
    header.tokens = windows.front().size();
    header.vocabulary = logits.size() / header.tokens;
    writer->write(reinterpret_cast<const char *>(&header), sizeof(header));
  }
  writer->write(reinterpret_cast<const char *>(logits.data()),
                logits.size() * sizeof(float));
  if (!writer->has_error())
    return Error::success();
  return createFileError(temporary, writer->error());
}

Error ReferenceLogits::window(size_t index, std::vector<float> &logits) {
  if (!cached) {
    if (Error error = model->textLogits(windows[index], logits))
      return error;
    return append(logits);
  }
  size_t count =
      (cached->getBufferSize() - sizeof(Header)) / 4 / windows.size();
  logits.resize(count);
  memcpy(logits.data(),
         cached->getBufferStart() + sizeof(Header) + index * count * 4,
         count * 4);
  return Error::success();
}

Error ReferenceLogits::finish() {
  if (!writer)
    return Error::success();
  writer->flush();
  if (writer->has_error())
    return createFileError(temporary, writer->error());
  writer.reset();
  if (std::error_code error = sys::fs::rename(temporary, path))
    return createFileError(path, error);
  return Error::success();
}
