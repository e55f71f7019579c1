//===- Cache.h - What is kept between runs ----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_CALIBRATION_CACHE_H
#define QUENCH_CALIBRATION_CACHE_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/Error.h"
#include <optional>
#include <string>
#include <vector>

namespace quench {

class ModelFiles;

/// Where this program keeps something that it makes of a model:
/// FOLDER/MODEL-HASH<ending>. The hash is that of the program, of the model's
/// files and of `what`, all else that it depends on. Without a folder the
/// user's cache folder is taken. Errors: there is none, files cannot be read.
llvm::Expected<std::string> cachePath(mlir::ModuleOp module, ModelFiles &files,
                                      llvm::StringRef folder,
                                      llvm::StringRef what,
                                      llvm::StringRef ending = "");

/// Bytes of numbers, vectors and strings, one after the other.
class CacheWriter {
public:
  template <typename T> void number(T value) {
    bytes.append(reinterpret_cast<const char *>(&value), sizeof(T));
  }
  template <typename T> void numbers(const std::vector<T> &values) {
    number<uint64_t>(values.size());
    bytes.append(reinterpret_cast<const char *>(values.data()),
                 values.size() * sizeof(T));
  }
  void text(llvm::StringRef value) {
    number<uint64_t>(value.size());
    bytes.append(value.data(), value.size());
  }
  /// Writes the file with a hash of its bytes at the end; it appears whole or
  /// not at all.
  llvm::Error write(llvm::StringRef path);

private:
  std::string bytes;
};

/// Reads what a CacheWriter has written, in the same order.
class CacheReader {
public:
  /// Nothing if there is no such file or it is not whole.
  static std::optional<CacheReader> open(llvm::StringRef path);
  template <typename T> T number() {
    T value;
    take(&value, sizeof(T));
    return value;
  }
  template <typename T> std::vector<T> numbers() {
    std::vector<T> values(number<uint64_t>());
    take(values.data(), values.size() * sizeof(T));
    return values;
  }
  std::string text() {
    std::string value(number<uint64_t>(), 0);
    take(value.data(), value.size());
    return value;
  }

private:
  void take(void *to, size_t count);
  std::string bytes;
  size_t at = 0;
};

} // namespace quench

#endif // QUENCH_CALIBRATION_CACHE_H
