//===- ReferenceLogits.h - What a model is compared with ------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOOLS_QUENCH_REFERENCELOGITS_H
#define QUENCH_TOOLS_QUENCH_REFERENCELOGITS_H

#include "LanguageModel.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"
#include <functional>

namespace quench {

/// The reference's logits for windows of tokens, from a model or from a file
/// that an earlier run with the same model and windows wrote.
class ReferenceLogits {
public:
  using Opener =
      std::function<llvm::Expected<std::unique_ptr<LanguageModel>>()>;

  /// `cache` may be empty. One that belongs to another model or other windows
  /// is written anew. The windows must stay.
  static llvm::Expected<std::unique_ptr<ReferenceLogits>>
  open(llvm::StringRef model, llvm::StringRef cache,
       llvm::ArrayRef<llvm::ArrayRef<int64_t>> windows, const Opener &opener);
  ~ReferenceLogits();

  /// Logits of all positions of the window `index`, [tokens][vocabulary].
  /// Windows are asked for in their order.
  llvm::Error window(size_t index, std::vector<float> &logits);

  /// Puts the cache in its place.
  llvm::Error finish();

private:
  explicit ReferenceLogits(llvm::ArrayRef<llvm::ArrayRef<int64_t>> windows)
      : windows(windows) {}
  bool readCache();
  llvm::Error append(llvm::ArrayRef<float> logits);

  llvm::ArrayRef<llvm::ArrayRef<int64_t>> windows;
  std::string path, temporary;
  /// Of the model's file and the windows.
  uint64_t key = 0;
  std::unique_ptr<LanguageModel> model;
  std::unique_ptr<llvm::MemoryBuffer> cached;
  std::unique_ptr<llvm::raw_fd_ostream> writer;
};

} // namespace quench

#endif // QUENCH_TOOLS_QUENCH_REFERENCELOGITS_H
