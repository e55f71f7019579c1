//===- LayerTable.h - The layers of a compiled model ------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_REPORT_LAYERTABLE_H
#define QUENCH_REPORT_LAYERTABLE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <optional>
#include <string>
#include <vector>

namespace quench {

/// A weight as a compiled model's metadata describes it.
struct Layer {
  std::string name, role, format;
  std::string quantizer; // empty: none was asked
  std::string note;      // what did not work out
  int64_t block = -1;    // -1: in none
  int64_t rows = 0, cols = 0;
  int64_t bits = 0;  // codes, scales, zero points
  int64_t bytes = 0; // as stored
  double error = 0;  // |w - w^|^2 / |w|^2
  /// Error of the output over the calibration data, relative to the output;
  /// without data equal to `error`.
  double loss = 0;
  /// No output moves by more than this, for an input of length one, relative to
  /// the root mean square of the lengths of the weight's rows. 0: not known.
  double errorBound = 0;
  /// The least loss of any code of so many bits a weight if weights are
  /// Gaussian: Shannon's bound. 0: not known; then 4^-bits for `error`.
  double lossLimit = 0;
  /// Entropy of the stored codes, bits a weight, each code on its own; scales
  /// and tables are not counted. Negative: not known.
  double entropy = -1;

  /// What a bit budget knew about the layer.
  struct Budget {
    double divergence = 0; // predicted contribution, nats
    /// The option with more bits that saves the most for each of them; empty:
    /// there is none.
    std::string nextFormat;
    double nextBitsPerWeight = 0;
    double nextDivergence = 0; // what is left of the contribution then
  };
  std::optional<Budget> budget;

  double weights() const { return static_cast<double>(rows) * cols; }
  double bitsPerWeight() const { return weights() ? bits / weights() : 0; }
  /// Neither head nor embedding.
  bool isLinear() const;
  /// How far the loss is above its limit, in decibels (6.02 dB are one bit a
  /// weight); nothing for weights without error.
  std::optional<double> decibelsAboveLimit() const;
  /// What one more bit a weight would take away from the loss: three quarters,
  /// as all good codes do.
  double nextBitGain() const { return 0.75 * loss; }
};

/// A solved bit budget: predicted divergence over bits a weight.
struct BudgetCurve {
  bool wholeFile = true; // bits of all weights, else of linear layers only
  double bitsPerWeight = 0, divergence = 0; // what was chosen
  /// The best that can be had for other budgets, by growing bits.
  std::vector<std::pair<double, double>> points;
};

struct LayerTable {
  std::string recipe, cpu;
  std::vector<Layer> layers;
  std::optional<BudgetCurve> budget;
  /// The rest of the metadata.
  llvm::json::Object metadata;

  /// Errors name the file.
  static llvm::Expected<LayerTable> parse(llvm::StringRef json,
                                          llvm::StringRef path);

  struct Total {
    std::string role;
    int64_t layers = 0;
    double weights = 0, bits = 0, bytes = 0;
    double error = 0, loss = 0; // means over the weights
    double bitsPerWeight() const { return weights ? bits / weights : 0; }
    void add(const Layer &layer);
  };
  /// By role in the order of their first appearance; then "linear layers" and
  /// "all".
  std::vector<Total> totals() const;
  Total linear() const;
  Total all() const;

  /// Bytes of weights that making one token reads: all but those of embeddings.
  double bytesPerToken() const;

  /// Tables of text; the first row names the columns, with a space at the end
  /// where numbers stand (to the right).
  using Cells = std::vector<std::vector<std::string>>;
  Cells layerCells() const;
  Cells totalCells() const;

  /// The same as JSON: "weights", "totals", "bits_per_weight", "budget".
  llvm::json::Object toJSON() const;
};

} // namespace quench

#endif // QUENCH_REPORT_LAYERTABLE_H
