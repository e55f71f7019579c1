//===- Loss.h - What training makes small -----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Losses and their gradients. Tensors are f32; rows are what the last dimension
// is made of. Results do not depend on the number of threads.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TRAINING_LOSS_H
#define QUENCH_TRAINING_LOSS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "quench/Support/HostTensor.h"

namespace quench {

struct Loss {
  double value = 0;
  HostTensor gradient; // of the shape of what was compared
};

/// The mean over rows of KL(softmax(reference) || softmax(logits)), in nats,
/// and its gradient by the logits. Errors: different shapes, numbers that are
/// not finite.
llvm::Expected<Loss> divergence(const HostTensor &reference,
                                const HostTensor &logits);

/// The mean over rows of -log softmax(logits)[target].
llvm::Expected<Loss> crossEntropy(const HostTensor &logits,
                                  llvm::ArrayRef<int64_t> targets);

/// |value - reference|^2 / |reference|^2.
llvm::Expected<Loss> relativeError(const HostTensor &reference,
                                   const HostTensor &value);

/// For each row the gradient of -log p(label) by the logits, where the label is
/// drawn from p = softmax(logits): softmax(logits) - onehot(label). The draws
/// depend on the seed and the row only.
llvm::Expected<HostTensor> sampledGradient(const HostTensor &logits,
                                           uint64_t seed);

/// The mean over rows of |value - reference|^2 / |reference|^2; rows of zeros
/// do not count.
llvm::Expected<Loss> rowErrors(const HostTensor &reference,
                               const HostTensor &value);

/// What a model is compared by: the logits of a language model by divergence(),
/// any other float results by relativeError().
struct Objective {
  llvm::SmallVector<unsigned> results; // of the function
  bool logits = false;

  /// The result named `logits`, or all float results that are no caches
  /// (`present...`). Error: there is none.
  static llvm::Expected<Objective> of(mlir::func::FuncOp function);
  llvm::Expected<Loss> compare(const HostTensor &reference,
                               const HostTensor &value) const;
  /// A random gradient whose mean square is the Fisher information of the loss:
  /// sampledGradient() of logits; normal numbers over the root of |value|^2 / 2
  /// otherwise, so that half their mean square product with a change is
  /// the change's relativeError().
  llvm::Expected<HostTensor> sample(const HostTensor &value,
                                    uint64_t seed) const;
};

} // namespace quench

#endif // QUENCH_TRAINING_LOSS_H
