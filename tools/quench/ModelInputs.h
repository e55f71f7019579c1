//===- ModelInputs.h - Tensors that a model is run on --------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOOLS_QUENCH_MODELINPUTS_H
#define QUENCH_TOOLS_QUENCH_MODELINPUTS_H

#include "quench/Runtime/CompiledModel.h"
#include "quench/Support/HostTensor.h"
#include "quench/Tokenizer/Sampler.h"

namespace quench {

/// The elements of a quench_type. Error: none of them.
llvm::Expected<ElementKind> elementKind(int32_t type);
/// The quench_type of a kind.
int32_t elementType(ElementKind kind);

/// "int64[batch,128]"
std::string describeTensor(const CompiledTensor &tensor);

/// Inputs of a language model for one text.
///
/// The input of token ids is the one called input_ids, or the only integer
/// input of rank 1 or 2. Others are filled by their names: attention_mask with
/// ones, position_ids with 0, 1, ..., token_type_ids with zeros, and caches
/// ("past...") are empty. Errors name the input that is none of these.
class TokenInputs {
public:
  static llvm::Expected<TokenInputs>
  create(llvm::ArrayRef<CompiledTensor> inputs, llvm::StringRef model);

  /// One tensor for each input. A model of fixed length gets zeros behind the
  /// tokens, which a causal model does not see.
  llvm::Expected<llvm::SmallVector<HostTensor>>
  make(llvm::ArrayRef<int64_t> tokens) const;

  /// The length that the token input has; -1 for any.
  int64_t fixedLength() const { return length; }

private:
  std::vector<CompiledTensor> inputs;
  std::string model;
  size_t tokenInput = 0;
  int64_t length = -1;
};

/// The index of the logits: the output of that name, or the only float output
/// of rank 2 or 3, or the first. Error: there is no float output.
llvm::Expected<size_t> findLogits(llvm::ArrayRef<CompiledTensor> outputs,
                                  llvm::StringRef model);

/// The index of a name; the error lists all.
llvm::Expected<size_t> findTensor(llvm::ArrayRef<CompiledTensor> tensors,
                                  llvm::StringRef name, llvm::StringRef what);

/// What "NAME=TEXT" means, or TEXT alone where there is one tensor only. The
/// error lists all names.
struct NamedText {
  size_t index;
  llvm::StringRef text;
};
llvm::Expected<NamedText> findNamed(llvm::ArrayRef<CompiledTensor> tensors,
                                    llvm::StringRef given,
                                    llvm::StringRef what);

/// The shape that each input is run with: that of `given` ("NAME=2x128"), or
/// its own, with 1 for a free first dimension, 0 for the other free ones of a
/// cache and `length` for those of other inputs.
llvm::Expected<std::vector<llvm::SmallVector<int64_t>>>
inputShapes(const CompiledModel &model, llvm::ArrayRef<std::string> given,
            int64_t length);

/// Numbers for an input nothing is given for. Masks are ones and positions 0,
/// 1, ...; others are zeros, or random if `random` is set: floats in [-1, 1),
/// token ids below the model's vocabulary, other integers 0 or 1.
llvm::Expected<HostTensor> sampleInput(const CompiledModel &model, size_t index,
                                       llvm::ArrayRef<int64_t> shape,
                                       RandomNumbers *random);

/// Runs the main function of a compiled model; one result for each output.
llvm::Expected<llvm::SmallVector<HostTensor>>
runModel(ModelContext &context, llvm::ArrayRef<HostTensor> inputs);

} // namespace quench

#endif // QUENCH_TOOLS_QUENCH_MODELINPUTS_H
