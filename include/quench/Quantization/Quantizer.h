//===- Quantizer.h - From weights to codes ----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A quantizer chooses the codes, scales and tables of a weight in a format. It
// works on plain arrays and knows formats only through their interface, so that
// each works with every format, tiles and tables included. A new quantizer is
// one class in one file that registers itself, as formats do.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_QUANTIZER_H
#define QUENCH_QUANTIZATION_QUANTIZER_H

#include "quench/Quantization/Outliers.h"
#include <optional>

namespace quench {

/// One weight to quantize.
struct QuantizeProblem {
  const Format *format = nullptr; // not bound to a table
  const float *weight = nullptr;  // [rows][cols], finite
  int64_t rows = 0, cols = 0;
  /// Second moments of the layer's inputs, sum of x x^T over the samples:
  /// [cols][cols], symmetric, not damped. Null: not known, all weights count
  /// equally.
  const double *hessian = nullptr;
  /// Threads to use at most; results do not depend on it.
  int threads = 1;
  /// Second moments G of the gradients of the model's loss by the layer's
  /// outputs, sum of g g^T: [rows][rows]. Null: all outputs count equally.
  const float *outputMoments = nullptr;
  /// How many tokens outputMoments is the sum over; 0: many.
  int64_t outputTokens = 0;
};

/// What a quantizer made of a weight.
struct QuantizeResult {
  EncodedRows encoded; // all rows
  /// Columns that have a second code; what it says is added.
  std::optional<OutlierColumns> outliers;
  /// tr(E H E^T) / tr(W H W^T) for E = W - W^; without a Hessian |E|^2 / |W|^2.
  /// With moments of outputs tr(G E H E^T) / tr(W H W^T), G over the mean of
  /// its diagonal.
  double loss = 0;
  /// What was done instead where the data did not serve (dead columns, more
  /// damping, rounding to nearest); empty: all went as planned.
  std::string note;
};

class Quantizer {
public:
  virtual ~Quantizer();
  /// The canonical text, e.g. "ldlq<cd = 1, damp = 0.01>".
  virtual std::string spec() const = 0;
  /// Whether it makes use of second moments. Without them it rounds to nearest.
  virtual bool usesHessian() const = 0;
  /// Whether it makes use of those of the outputs' gradients, where they are
  /// known.
  virtual bool usesOutputMoments() const { return false; }
  /// Error: the format cannot be encoded by this quantizer; says which can.
  virtual llvm::Expected<QuantizeResult>
  quantize(const QuantizeProblem &problem) const = 0;
};

using QuantizerFactory =
    std::function<llvm::Expected<std::unique_ptr<Quantizer>>(
        const FormatArgs &)>;

/// Adds a quantizer under a name; the first one of a name stays.
struct QuantizerRegistration {
  QuantizerRegistration(llvm::StringRef name, llvm::StringRef help,
                        QuantizerFactory factory);
};

/// Parses "rtn<search>" etc.; quantizers are interned and live as long as the
/// process. The error names what was found and what would be accepted.
llvm::Expected<const Quantizer *> getQuantizer(llvm::StringRef spec);

/// Names and one-line helps of all registered quantizers, sorted by name.
std::vector<std::pair<std::string, std::string>> listQuantizers();

/// QuantizeResult::loss of `decoded`, the numbers of an encoding.
double quantizationLoss(const QuantizeProblem &problem, const float *decoded);

} // namespace quench

#endif // QUENCH_QUANTIZATION_QUANTIZER_H
