//===- Layers.h - The layers of a compiled model ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOOLS_QUENCH_LAYERS_H
#define QUENCH_TOOLS_QUENCH_LAYERS_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"
#include <string>
#include <vector>

namespace quench {

/// A weight as a compiled model's metadata describes it.
struct Layer {
  std::string name, role, format;
  int64_t block = -1; // -1: in none
  int64_t rows = 0, cols = 0;
  int64_t bits = 0;  // codes, scales, zero points
  int64_t bytes = 0; // as stored
  double error = 0;  // |w - w^|^2 / |w|^2

  double weights() const { return static_cast<double>(rows) * cols; }
  double bitsPerWeight() const { return weights() ? bits / weights() : 0; }
  /// Neither head nor embedding.
  bool isLinear() const;
  /// How far the error is above 4^-bits, the least that any code of so many
  /// bits a weight has for Gaussian weights, in decibels; nothing for weights
  /// without error.
  std::optional<double> decibelsAboveLimit() const;
};

struct LayerTable {
  std::string recipe, cpu;
  std::vector<Layer> layers;
  /// The rest of the metadata.
  llvm::json::Object metadata;

  /// Errors name the file.
  static llvm::Expected<LayerTable> parse(llvm::StringRef json,
                                          llvm::StringRef path);

  struct Total {
    std::string role;
    int64_t layers = 0;
    double weights = 0, bits = 0, bytes = 0;
    double error = 0; // mean over the weights
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

  /// The layers and the totals as text.
  void print(llvm::raw_ostream &out) const;
  /// The same as JSON: "weights", "totals", "bits_per_weight".
  llvm::json::Object toJSON() const;
  /// The same as an HTML page; `title` names the model, `facts` are pairs of
  /// name and value above the tables.
  std::string
  toHTML(llvm::StringRef title,
         llvm::ArrayRef<std::pair<std::string, std::string>> facts) const;
};

} // namespace quench

#endif // QUENCH_TOOLS_QUENCH_LAYERS_H
