//===- PackedWeight.h - A quantized weight in its packed form ---*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// From the numbers of a weight to its packed stream, by any quantizer, and back
// to numbers. Whoever quantizes a weight (the compiler, the interpreter,
// calibration) does it here.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_PACKEDWEIGHT_H
#define QUENCH_QUANTIZATION_PACKEDWEIGHT_H

#include "quench/Quantization/Quantizer.h"

namespace quench {

struct PackedWeight {
  const Format *format = nullptr;
  int64_t rows = 0, cols = 0;
  /// The bytes of packWeight, then those of `outliers`; `owner` keeps them
  /// alive.
  llvm::ArrayRef<uint8_t> stream;
  /// Columns with a second code.
  OutlierPlace outliers;
  std::shared_ptr<const void> owner;
  /// Canonical text of the quantizer; empty: codes that were there before.
  std::string quantizer;
  /// QuantizeResult::note.
  std::string note;
  /// QuantizeResult::loss.
  double loss = 0;
  /// |W - W^|^2 / |W|^2
  double relativeError = 0;
  /// WeightStatistics::errorBound, gaussianLossLimit (0: not known), and the
  /// entropy of the codes, bits a weight (negative: not known).
  double errorBound = 0, lossLimit = 0, entropy = -1;
};

/// Gives the numbers [begin, end) x cols of a weight; they stay as they are
/// until the next call.
using ReadRows =
    llvm::function_ref<llvm::Expected<const float *>(int64_t, int64_t)>;

/// Quantizes and packs a weight. Where rows do not depend on each other (no
/// second moments, no tensor scale, no table) they are read in bands of a fixed
/// number, otherwise all at once; `problem.weight` is not used. Errors:
/// numbers that are not finite, those of the quantizer, those of `read`.
/// `decoded`, if given, gets the numbers of the codes, [rows][cols].
llvm::Expected<PackedWeight> quantizeWeight(const Quantizer &quantizer,
                                            const QuantizeProblem &problem,
                                            ReadRows read,
                                            float *decoded = nullptr);

/// Packs codes that are there; `read` gives the numbers they stand for, for the
/// error, and `encode(begin, end)` the codes of some rows, which begin at a
/// multiple of kPassRows.
llvm::Expected<PackedWeight>
packCodes(const Format &format, int64_t rows, int64_t cols, int threads,
          ReadRows read,
          llvm::function_ref<EncodedRows(int64_t begin, int64_t end)> encode);

/// The numbers, [rows][cols].
void decodeWeight(const PackedWeight &weight, float *values, int threads);

/// Quantized weights by the text of their expression (WeightEvaluator::key).
/// Calls from several threads are allowed.
class WeightSource {
public:
  virtual ~WeightSource();
  /// Null: it has none of this text. Error: it cannot be read.
  virtual llvm::Expected<std::shared_ptr<const PackedWeight>>
  find(llvm::StringRef key) = 0;
};

} // namespace quench

#endif // QUENCH_QUANTIZATION_PACKEDWEIGHT_H
