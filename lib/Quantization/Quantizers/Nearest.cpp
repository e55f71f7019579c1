//===- Nearest.cpp - Rounding to nearest ----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// rtn: each group takes the range of its values, each codeword the nearest
// code. rtn<search>: the scale of the least squared error.
//
//===----------------------------------------------------------------------===//

#include "BuiltinQuantizers.h"
#include "Quantizers/Common.h"

using namespace quench;

namespace {
class Nearest : public Quantizer {
public:
  explicit Nearest(bool search) { options.search = search; }
  std::string spec() const override {
    return options.search ? "rtn<search>" : "rtn";
  }
  bool usesHessian() const override { return false; }
  llvm::Expected<QuantizeResult>
  quantize(const QuantizeProblem &problem) const override {
    return roundToNearest(problem, options);
  }

private:
  FitOptions options;
};
} // namespace

static QuantizerRegistration registration(
    "rtn", "rounds to nearest: rtn<search>",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Quantizer>> {
      FormatArgReader reader(args);
      bool search = reader.flag("search");
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<Nearest>(search);
    });

QUENCH_BUILTIN_QUANTIZER(Nearest)
