//===- LanguageModel.h - Logits of texts --------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOOLS_QUENCH_LANGUAGEMODEL_H
#define QUENCH_TOOLS_QUENCH_LANGUAGEMODEL_H

#include "quench/Calibration/Calibration.h"
#include "quench/Support/HostTensor.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace quench {

/// A model that gives logits for the next token: compiled, with or without
/// state, or interpreted. An encoder gives a vector for each token instead.
class LanguageModel {
public:
  virtual ~LanguageModel() = default;

  /// Opens a compiled model. threads 0: one per processor; capacity 0: as many
  /// positions as `needed`, but no more than the model has.
  static llvm::Expected<std::unique_ptr<LanguageModel>>
  openCompiled(llvm::StringRef path, int threads, int64_t capacity,
               int64_t needed);
  /// Imports an ONNX model for the reference interpreter; an empty recipe
  /// leaves it as it is. Notes of the calibration go to standard error.
  static llvm::Expected<std::unique_ptr<LanguageModel>>
  openInterpreted(llvm::StringRef path, llvm::StringRef recipe,
                  const CalibrationOptions &calibration);

  llvm::StringRef path() const { return modelPath; }
  /// The number of token ids; 0 before the first call if the model does not
  /// tell.
  int64_t vocabulary() const { return vocabularySize; }
  /// The most tokens of a text; 0: no limit is known.
  virtual int64_t capacity() const { return 0; }

  /// Logits after each token of a text, which has nothing before it:
  /// [tokens][vocabulary].
  llvm::Error textLogits(llvm::ArrayRef<int64_t> tokens,
                         std::vector<float> &logits);
  /// Whether the output is called an embedding or a hidden state.
  bool isEncoder() const { return encoder; }
  /// The embedding of a text: the mean of the vectors of its tokens, or the one
  /// vector that the model gives, over its length.
  llvm::Error textEmbedding(llvm::ArrayRef<int64_t> tokens,
                            std::vector<double> &embedding);
  /// Appends tokens to the running text; `logits` gets those after the last.
  llvm::Error append(llvm::ArrayRef<int64_t> tokens,
                     std::vector<float> &logits);

protected:
  explicit LanguageModel(llvm::StringRef path) : modelPath(path.str()) {}

  virtual llvm::Error runText(llvm::ArrayRef<int64_t> tokens,
                              std::vector<float> &logits) = 0;
  /// Without state: the whole text is run again.
  virtual llvm::Error runAppend(llvm::ArrayRef<int64_t> tokens,
                                std::vector<float> &logits);

  /// Takes the numbers of the first `tokens` positions out of an output of the
  /// shape [1, n, width] or [n, width]; of an encoder's also [1, width].
  llvm::Error takeOutput(const HostTensor &tensor, int64_t tokens,
                         std::vector<float> &values);
  void setOutputName(llvm::StringRef name);

  std::string modelPath;
  int64_t vocabularySize = 0;
  /// Numbers of a position; 0: not known yet.
  int64_t width = 0;
  bool encoder = false;

private:
  llvm::Error check(llvm::ArrayRef<int64_t> tokens) const;
  std::vector<int64_t> history;
};

/// Error: an id that is negative or not below `vocabulary` (0: not known).
llvm::Error checkTokens(llvm::ArrayRef<int64_t> tokens, int64_t vocabulary);

} // namespace quench

#endif // QUENCH_TOOLS_QUENCH_LANGUAGEMODEL_H
