//===- ModelFiles.h - A model's files, mapped ----------------- -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Weights are read where they lie. ModelFiles maps each file of a model once,
// read only, and hands out spans of it. Names are relative to the folder of the
// model file, as in #quench.file<"model.onnx.data", offset, bytes>: an absolute
// name, one with `..`, or one that passes a symbolic link is refused. The model
// file itself was named by the user and may be a link.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_SUPPORT_MODELFILES_H
#define QUENCH_SUPPORT_MODELFILES_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <mutex>
#include <string>

namespace quench {

/// The mapped files of one model. Spans stay valid as long as the object lives.
/// All members may be called from several threads.
class ModelFiles {
public:
  /// `modelPath` is the path of the model file as the user gave it; nothing is
  /// opened yet. An empty path gives an object that knows added buffers only.
  explicit ModelFiles(llvm::StringRef modelPath);
  ~ModelFiles();
  ModelFiles(const ModelFiles &) = delete;
  ModelFiles &operator=(const ModelFiles &) = delete;

  /// The name of the model file in its folder.
  llvm::StringRef getModelName() const { return modelName; }
  /// The model file's path as it was given.
  llvm::StringRef getModelPath() const { return modelPath; }

  /// Makes `contents`, which must outlive this object, the contents of `name`.
  void addBuffer(llvm::StringRef name, llvm::ArrayRef<char> contents);

  /// The bytes [offset, offset + bytes) of `name`. They have no particular
  /// alignment. Errors: a name that is not allowed, a file that cannot be
  /// opened or is not a plain file, a range that is not inside of the file.
  llvm::Expected<llvm::ArrayRef<char>> get(llvm::StringRef name,
                                           uint64_t offset, uint64_t bytes);

  /// All bytes of `name`.
  llvm::Expected<llvm::ArrayRef<char>> getAll(llvm::StringRef name);

  /// Tells the system that these bytes are not needed for now: whole pages
  /// inside of the range leave memory and are read again when touched.
  void release(llvm::ArrayRef<char> span);

private:
  struct File {
    const char *data = nullptr;
    uint64_t size = 0;
    bool mapped = false;
  };
  llvm::Expected<File> find(llvm::StringRef name);
  llvm::Expected<File> map(llvm::StringRef name);

  std::string modelPath, folder, modelName;
  std::mutex lock;
  llvm::StringMap<File> files;
};

/// The form of a file name inside of a model's folder: components joined by
/// `/`, without `.`. Errors: an absolute or empty name, `..`, a NUL byte.
llvm::Expected<std::string> normalizeModelFileName(llvm::StringRef name);

} // namespace quench

#endif // QUENCH_SUPPORT_MODELFILES_H
