//===- Store.cpp - Quantized weights in a folder --------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Store.h"
#include "quench/Runtime/Hash.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

using namespace quench;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace fs = llvm::sys::fs;

static constexpr StringRef kMagic("QuenchQuantized1", 16);
static constexpr StringRef kFinished = "finished";

Expected<std::unique_ptr<QuantizedStore>>
QuantizedStore::open(StringRef folder) {
  if (std::error_code code = fs::create_directories(folder))
    return llvm::createFileError(folder, code);
  std::string file = (folder + "/lock").str();
  int lock = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0)
    return llvm::createFileError(
        file, std::error_code(errno, std::generic_category()));
  if (flock(lock, LOCK_EX | LOCK_NB)) {
    ::close(lock);
    return llvm::createStringError("another process works in '" + folder +
                                   "'; wait for it, or choose another folder");
  }
  return std::unique_ptr<QuantizedStore>(new QuantizedStore(folder, lock));
}

QuantizedStore::~QuantizedStore() { ::close(lock); }

std::string QuantizedStore::fileOf(StringRef key) const {
  return path + "/" +
         llvm::utohexstr(quench_hash(key.data(), key.size()), true, 16) +
         ".weight";
}

Error QuantizedStore::put(StringRef key, const PackedWeight &weight) {
  std::string header;
  llvm::raw_string_ostream(header) << llvm::json::Value(llvm::json::Object{
      {"key", llvm::json::fixUTF8(key)},
      {"format", weight.format->spec()},
      {"quantizer", weight.quantizer},
      {"note", weight.note},
      {"rows", weight.rows},
      {"cols", weight.cols},
      {"loss", weight.loss},
      {"error", weight.relativeError},
      {"error_bound", weight.errorBound},
      {"loss_limit", weight.lossLimit},
      {"entropy", weight.entropy},
      {"outliers", weight.outliers.count},
      {"outlier_format",
       weight.outliers.format ? weight.outliers.format->spec() : ""},
      {"bytes", static_cast<int64_t>(weight.stream.size())}});
  // Streams lie at a multiple of a cache line.
  header.append(llvm::offsetToAlignment(kMagic.size() + 8 + header.size(),
                                        llvm::Align(64)),
                ' ');
  auto number = [](uint64_t value) {
    std::string bytes(8, '\0');
    llvm::support::endian::write64le(bytes.data(), value);
    return bytes;
  };
  return llvm::writeToOutput(fileOf(key), [&](llvm::raw_ostream &out) -> Error {
    out << kMagic << number(header.size()) << header;
    out.write(reinterpret_cast<const char *>(weight.stream.data()),
              weight.stream.size());
    out << number(quench_hash(weight.stream.data(), weight.stream.size()));
    out.flush();
    auto &file = static_cast<llvm::raw_fd_ostream &>(out);
    if (!file.has_error())
      return Error::success();
    std::error_code code = file.error();
    file.clear_error();
    return llvm::createFileError(fileOf(key), code);
  });
}

/// Null: the file does not hold the weight.
static std::shared_ptr<const PackedWeight>
parse(std::shared_ptr<llvm::MemoryBuffer> buffer, StringRef key) {
  StringRef bytes = buffer->getBuffer();
  if (bytes.size() < kMagic.size() + 16 || !bytes.consume_front(kMagic))
    return nullptr;
  uint64_t length = llvm::support::endian::read64le(bytes.data());
  bytes = bytes.drop_front(8);
  if (length > bytes.size() - 8)
    return nullptr;
  Expected<llvm::json::Value> value =
      llvm::json::parse(bytes.take_front(length));
  if (!value) {
    llvm::consumeError(value.takeError());
    return nullptr;
  }
  const llvm::json::Object *header = value->getAsObject();
  if (!header || header->getString("key").value_or("") != key)
    return nullptr;
  Expected<const Format *> format =
      getFormat(header->getString("format").value_or(""));
  if (!format) {
    llvm::consumeError(format.takeError());
    return nullptr;
  }
  auto weight = std::make_shared<PackedWeight>();
  weight->format = *format;
  weight->rows = header->getInteger("rows").value_or(0);
  weight->cols = header->getInteger("cols").value_or(0);
  weight->quantizer = header->getString("quantizer").value_or("").str();
  weight->note = header->getString("note").value_or("").str();
  weight->loss = header->getNumber("loss").value_or(0);
  weight->relativeError = header->getNumber("error").value_or(0);
  weight->errorBound = header->getNumber("error_bound").value_or(0);
  weight->lossLimit = header->getNumber("loss_limit").value_or(0);
  weight->entropy = header->getNumber("entropy").value_or(-1);
  if (weight->rows < 1 || weight->cols < 1)
    return nullptr;
  bytes = bytes.drop_front(length);
  // The length of coded fields depends on the weight.
  uint64_t size = StreamShape(**format, weight->rows, weight->cols).bytes;
  if ((*format)->codedField().bits != 0 && bytes.size() > size + 8)
    size = header->getInteger("bytes").value_or(0);
  if (int64_t count = header->getInteger("outliers").value_or(0)) {
    Expected<const Format *> own =
        getFormat(header->getString("outlier_format").value_or(""));
    if (!own || count < 0 || count > weight->cols) {
      llvm::consumeError(own.takeError());
      return nullptr;
    }
    weight->outliers = OutlierPlace(**own, weight->rows, count, size);
    size = weight->outliers.end;
  }
  if (bytes.size() != size + 8)
    return nullptr;
  if (llvm::support::endian::read64le(bytes.data() + size) !=
      quench_hash(bytes.data(), size))
    return nullptr;
  weight->stream = {reinterpret_cast<const uint8_t *>(bytes.data()), size};
  weight->owner = buffer;
  return weight;
}

Expected<std::shared_ptr<const PackedWeight>>
QuantizedStore::find(StringRef key) {
  auto buffer = llvm::MemoryBuffer::getFile(fileOf(key), /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return std::shared_ptr<const PackedWeight>();
  return parse(std::shared_ptr<llvm::MemoryBuffer>(std::move(*buffer)), key);
}

bool QuantizedStore::hasWeights() const {
  std::error_code code;
  for (fs::directory_iterator entry(path, code), end; entry != end && !code;
       entry.increment(code))
    if (llvm::sys::path::extension(entry->path()) == ".weight")
      return true;
  return false;
}

bool QuantizedStore::isFinished() const {
  return fs::exists(path + "/" + kFinished);
}

Error QuantizedStore::setFinished() {
  return llvm::writeToOutput(
      path + "/" + kFinished.str(),
      [](llvm::raw_ostream &) { return Error::success(); });
}

Error QuantizedStore::clear() {
  // The mark goes first: a folder without it is not finished.
  std::vector<std::string> names = {path + "/" + kFinished.str()};
  std::error_code code;
  for (fs::directory_iterator entry(path, code), end; entry != end && !code;
       entry.increment(code)) {
    StringRef ending = llvm::sys::path::extension(entry->path());
    if (ending == ".weight" || ending == ".spill" || ending == ".json")
      names.push_back(entry->path());
  }
  if (code)
    return llvm::createFileError(path, code);
  for (const std::string &name : names)
    if (std::error_code failed = fs::remove(name))
      return llvm::createFileError(name, failed);
  return Error::success();
}
