//===- Nearest.cpp - Rounding to nearest ----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// rtn: each group takes the range of its values, each codeword the nearest
// code. rtn<search>: the scale of the least error; `norm` says of which power.
//
//===----------------------------------------------------------------------===//

#include "BuiltinQuantizers.h"
#include "Quantizers/Common.h"

using namespace quench;

namespace {
class Nearest : public Quantizer {
public:
  explicit Nearest(const FitOptions &options) : options(options) {}
  std::string spec() const override {
    std::vector<std::string> arguments;
    if (options.search)
      arguments.push_back("search");
    if (options.norm != SearchNorm::ByLength)
      arguments.push_back(options.norm == SearchNorm::Cubes ? "norm = 3"
                                                            : "norm = 2");
    return formatSpec("rtn", arguments);
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
    "rtn", "rounds to nearest: rtn<search, norm = 2|3>",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Quantizer>> {
      FormatArgReader reader(args);
      FitOptions options;
      options.search = reader.flag("search");
      int64_t norm = reader.option("norm", 2, 3, 0);
      options.norm = norm == 2   ? SearchNorm::Squares
                     : norm == 3 ? SearchNorm::Cubes
                                 : SearchNorm::ByLength;
      if (norm && !options.search)
        reader.fail("'norm' belongs to 'search'");
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<Nearest>(options);
    });

QUENCH_BUILTIN_QUANTIZER(Nearest)
