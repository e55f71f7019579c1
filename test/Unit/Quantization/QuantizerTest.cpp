//===- QuantizerTest.cpp - All quantizers with all formats ----------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Problems.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"
#include <limits>

using namespace quench;

namespace {

std::string errorOf(llvm::StringRef spec) {
  llvm::Expected<const Quantizer *> quantizer = getQuantizer(spec);
  return quantizer ? "" : llvm::toString(quantizer.takeError());
}

bool contains(llvm::StringRef text, llvm::StringRef part) {
  return text.contains(part);
}

TEST(Quantizer, Registry) {
  std::string names;
  for (const auto &[name, help] : listQuantizers())
    names += name + " ";
  EXPECT_PRED2(contains, names, "gptq ldlq ");
  EXPECT_PRED2(contains, names, "rtn ");
  auto spec = [](llvm::StringRef text) {
    llvm::Expected<const Quantizer *> quantizer = getQuantizer(text);
    return quantizer ? (*quantizer)->spec()
                     : llvm::toString(quantizer.takeError());
  };
  EXPECT_EQ(spec(" rtn < search > "), "rtn<search>");
  EXPECT_EQ(spec("ldlq<damp=0.05,cd=2,act-order>"),
            "ldlq<act-order, cd = 2, damp = 0.05>");
  EXPECT_EQ(spec("gptq<damp = 0.01, scale = 1>"), "gptq");
  EXPECT_EQ(*getQuantizer("gptq"), *getQuantizer("gptq<damp = 0.01>"));
  EXPECT_PRED2(contains, errorOf("magic"), "gptq, ldlq, outliers, rtn");
  EXPECT_PRED2(contains, errorOf("rtn<fast>"), "accepted: search");
  EXPECT_PRED2(contains, errorOf("gptq<damp = x>"),
               "found 'x' for damp = (0 to");
  EXPECT_PRED2(contains, errorOf("gptq<damp = -1>"), "found '-1'");
  EXPECT_PRED2(contains, errorOf("gptq<cd = 1.5>"), "found '1.5' for cd");
  EXPECT_PRED2(contains, errorOf("gptq<stochastic, cd = 1>"), "excludes");
  EXPECT_PRED2(contains, errorOf("gptq<seed = 3>"), "belongs to");
  EXPECT_PRED2(contains, errorOf(""), "expected a name");
}

TEST(Quantizer, StochasticNeedsLevels) {
  Problem problem(4, 16, 1);
  llvm::Expected<QuantizeResult> result =
      (*getQuantizer("gptq<stochastic>"))
          ->quantize(problem.with(format("e8p")));
  ASSERT_FALSE(bool(result));
  EXPECT_PRED2(contains, llvm::toString(result.takeError()), "e8p is none");
}

/// Codes that decode to finite numbers, of a rounding's quality at least.
void expectNearest(const Problem &problem, const Format &used,
                   const QuantizeResult &result) {
  std::vector<float> decoded = decodedRows(used, result.encoded);
  EncodedRows nearest = encodeNearest(used, problem.weight.data(), problem.rows,
                                      problem.cols, {});
  EXPECT_EQ(decoded, decodedRows(used, nearest));
  EXPECT_PRED2(contains, result.note, "rounded to nearest");
}

TEST(Quantizer, RetryLadder) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr double inf = std::numeric_limits<double>::infinity();
  const int64_t n = 48;
  for (llvm::StringRef spec : {"int<4, group = 16>", "e8p"}) {
    const Format &used = format(spec);
    for (llvm::StringRef how : {"ldlq", "ldlq<cd = 1, refit>"}) {
      Problem problem(8, n, 2);
      // Nothing is known.
      QuantizeProblem blind = problem.with(used);
      blind.hessian = nullptr;
      expectNearest(problem, used, quantize(how, blind));
      // A column that is always 0.
      for (int64_t i = 0; i < n; ++i)
        problem.hessian[5 * n + i] = problem.hessian[i * n + 5] = 0;
      QuantizeResult result = quantize(how, problem.with(used));
      EXPECT_PRED2(contains, result.note, "1 of 48 columns are always 0");
      EXPECT_LT(result.loss, 0.2);
      // Infinities of overflown activations, and a lone NaN.
      problem.hessian[7 * n + 7] = inf;
      problem.hessian[7 * n + 9] = problem.hessian[9 * n + 7] = inf;
      problem.hessian[20 * n + 21] = problem.hessian[21 * n + 20] = nan;
      result = quantize(how, problem.with(used));
      EXPECT_PRED2(contains, result.note,
                   "3 of 48 columns have second moments");
      for (float value : decodedRows(used, result.encoded))
        EXPECT_TRUE(std::isfinite(value));
      // Nothing but NaN.
      std::fill(problem.hessian.begin(), problem.hessian.end(), nan);
      expectNearest(problem, used, quantize(how, problem.with(used)));
      // No positive definite matrix at all.
      for (int64_t i = 0; i < n * n; ++i)
        problem.hessian[i] = i % (n + 1) == 0 ? 1 : 5;
      expectNearest(problem, used, quantize(how, problem.with(used)));
    }
    // Fewer samples than columns: not positive definite without damping.
    Problem few(8, n, 3, 10, 20);
    QuantizeResult result = quantize("ldlq<damp = 0>", few.with(used));
    EXPECT_LT(result.loss, quantize("rtn", few.with(used)).loss);
    // A little negative: damping is raised.
    Problem bent(8, n, 3, 10, 20);
    double mean = 0;
    for (int64_t i = 0; i < n; ++i)
      mean += bent.hessian[i * n + i] / n;
    for (int64_t i = 0; i < n; ++i)
      bent.hessian[i * n + i] -= 0.03 * mean;
    result = quantize("ldlq", bent.with(used));
    EXPECT_PRED2(contains, result.note, "damping raised from 0.01 to 0.1");
    EXPECT_LT(result.loss, quantize("rtn", bent.with(used)).loss);
  }
}

TEST(Quantizer, OddShapes) {
  for (auto [rows, cols] : {std::pair<int64_t, int64_t>{1, 1},
                            {3, 7},
                            {17, 33},
                            {33, 20},
                            {5, 130}}) {
    Problem problem(rows, cols, 4);
    for (llvm::StringRef spec :
         {"int<4, group = 32>", "int<3, group = 12, zero>", "e8p",
          "ternary<5, group = 40>", "nf4"})
      for (llvm::StringRef how :
           {"gptq<search>", "ldlq<cd = 1, refit, best-scale>",
            "ldlq<act-order>"}) {
        const Format &used = format(spec);
        QuantizeResult result = quantize(how, problem.with(used));
        EXPECT_EQ(result.encoded.codes.size(),
                  size_t(codedRows(used, rows) * codesPerRow(used, cols)));
        EXPECT_TRUE(std::isfinite(result.loss));
      }
    QuantizeProblem empty = problem.with(format("int<4>"));
    empty.rows = 0;
    EXPECT_EQ(quantize("ldlq<best-scale, cd = 1>", empty).loss, 0);
  }
}

/// Weights that are no numbers spoil no others.
TEST(Quantizer, BadWeights) {
  Problem problem(4, 32, 5);
  problem.weight[3] = std::numeric_limits<float>::quiet_NaN();
  problem.weight[40] = std::numeric_limits<float>::infinity();
  for (llvm::StringRef how : {"gptq", "ldlq<cd = 1, refit>"})
    for (float value : decodedRows(
             format("int<4, group = 16>"),
             quantize(how, problem.with(format("int<4, group = 16>"))).encoded))
      EXPECT_TRUE(std::isfinite(value));
}

//===----------------------------------------------------------------------===//
// Each beats the one that it refines
//===----------------------------------------------------------------------===//

const char *const kLadder[] = {"rtn", "rtn<search>", "gptq<search>",
                               "gptq<search, cd = 2>",
                               "gptq<search, cd = 2, refit>"};

const char kEvenLevels[] =
    "levels<-1, -0.875, -0.75, -0.625, -0.5, -0.375, -0.25, -0.125, 0, 0.125, "
    "0.25, 0.375, 0.5, 0.625, 0.75, 0.875, group = 64>";

/// All registered formats, each in its kinds.
const char *const kFormats[] = {"int<8, group = 32>",
                                "int<4>",
                                "int<4, group = 32>",
                                "int<4, group = 32, zero>",
                                "int<4, group = 32, zero = float>",
                                "int<3>",
                                "int<3, group = 32>",
                                "int<3, group = 32, half>",
                                "int<2, group = 32>",
                                "int<2, group = 32, half>",
                                "int<2, group = 32, zero>",
                                "int<2, group = 32, zero = float>",
                                "int<1, group = 32>",
                                "int<4, tensor>",
                                "nf4<group = 64>",
                                "nf4<group = 64, double>",
                                "nf4<group = 64, bytes>",
                                "af4<group = 64>",
                                "bnb-fp4<group = 64>",
                                "lut4<group = 64>",
                                kEvenLevels,
                                "fp4<group = 32>",
                                "fp6<e2m3, group = 32>",
                                "fp8<e4m3, group = 32>",
                                "fp8<e5m2, tensor>",
                                "mxfp<4>",
                                "mxfp<6>",
                                "mxfp<8>",
                                "nvfp4",
                                "ternary<2, group = 64>",
                                "ternary<5>",
                                "ternary<3>",
                                "ternary<2, tensor>",
                                "ternary<2, absmean>",
                                "e8p",
                                "aqlm<2x6, group = 8>",
                                "vptq<1x8, rows = 4>",
                                "sum<binary, binary>",
                                "split<magnitude, binary, binary>",
                                "split<columns, sum<binary, binary>, "
                                "split<magnitude, binary, binary>>",
                                "trellis<2>",
                                "trellis<3, scale = tensor>",
                                "float<16>",
                                "dfloat11",
                                "ecf8"};

/// Where a step of the ladder need not win, and why.
struct Exception {
  const char *format;
  int step;
  const char *reason;
};
const Exception kExceptions[] = {
    {"aqlm<2x6, group = 8>", 4,
     "scales fitted between the passes lead to another local minimum"},
};

TEST(Quantizer, EachBeatsTheOneItRefines) {
  for (const auto &[name, help] : listFormats())
    EXPECT_TRUE(llvm::any_of(kFormats, [&, &name = name](llvm::StringRef spec) {
      return spec.take_until([](char c) { return c == '<'; }) == name;
    })) << name;
  Problem problem(64, 128, 12, 20);
  for (const char *spec : kFormats) {
    const Format &used = format(spec);
    std::string line;
    llvm::raw_string_ostream os(line);
    os << llvm::left_justify(llvm::StringRef(spec).substr(0, 32), 34);
    double last = 0;
    for (int step = 0; step < 5; ++step) {
      double loss = quantize(kLadder[step], problem.with(used)).loss;
      os << llvm::format(" %9.6f", loss);
      bool excepted = llvm::any_of(kExceptions, [&](const Exception &e) {
        return llvm::StringRef(spec) == e.format && step == e.step;
      });
      // What is lowered is the loss with damping.
      if (step > 0 && !excepted)
        EXPECT_LE(loss, last * 1.0001) << spec << " " << kLadder[step];
      last = loss;
    }
    printf("%s\n", line.c_str());
  }
}

} // namespace
