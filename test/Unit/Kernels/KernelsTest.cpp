//===- KernelsTest.cpp - Kernels against scalar contractions --------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Reference.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Verifier.h"
#include "quench/Kernels/Contract.h"
#include "quench/Kernels/Layers.h"
#include "quench/Kernels/Lowering.h"
#include "gtest/gtest.h"
#include <cstring>

using namespace mlir;
using namespace quench;
using namespace quench::test;

namespace {

using Gemv = void(const void *w, int64_t wOffset, const void *x,
                  const float *scale, const void *sums, float *y, int64_t lo,
                  int64_t hi);
using Gemm = void(const void *w, int64_t wOffset, const void *x,
                  const float *scale, const void *sums, float *y,
                  int64_t yStride, void *scratch, int64_t m, int64_t lo,
                  int64_t hi);
using StageFn = void(const float *input, void *x, float *scale, void *sums,
                     int64_t m, int64_t lo, int64_t hi);

/// The kernels of one contraction, compiled.
class Contraction {
public:
  Contraction(const ContractSpec &spec, bool genericOps) : spec(spec) {
    MLIRContext context;
    OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
    std::string names[4];
    func::FuncOp functions[4] = {
        getOrCreateGemv(*module, spec), getOrCreateGemm(*module, spec),
        getOrCreateStage(*module, StageSpec(spec, false)),
        getOrCreateStage(*module, StageSpec(spec, true))};
    for (int i = 0; i < 4; ++i) {
      functions[i].setPublic();
      names[i] = functions[i].getName().str();
    }
    EXPECT_TRUE(succeeded(verify(*module)));
    auto target = resolveCPU("native");
    if (!target) {
      ADD_FAILURE() << llvm::toString(target.takeError());
      return;
    }
    auto loaded = compileAndLoad(*module, *target, genericOps);
    if (!loaded) {
      ADD_FAILURE() << llvm::toString(loaded.takeError());
      return;
    }
    library = std::move(*loaded);
    gemv = llvm::cantFail(library->function<Gemv>(names[0]));
    gemm = llvm::cantFail(library->function<Gemm>(names[1]));
    stage[0] = llvm::cantFail(library->function<StageFn>(names[2]));
    stage[1] = llvm::cantFail(library->function<StageFn>(names[3]));
  }

  /// y of m rows; the passes are done in two parts if `split`.
  std::vector<float> run(const Weight &weight, const std::vector<float> &input,
                         int64_t m, bool tiled, bool split = false,
                         float before = NAN) {
    StageSpec s(spec, tiled);
    std::vector<uint32_t> x(s.xElements(m) + 16), sums(s.sumElements(m) + 1);
    std::vector<float> scale(s.scaleElements(m) + 1), y(m * spec.n, before);
    int64_t tiles = s.paddedRows(m) / s.tileRows();
    stage[tiled](input.data(), x.data(), scale.data(), sums.data(), m, 0,
                 tiles);
    std::vector<uint8_t> scratch(gemmScratchBytes(spec), 0x55);
    int64_t passes = contractPasses(spec), middle = split ? passes / 2 : 0;
    // The weight lies at an odd place of a larger buffer.
    std::vector<uint8_t> blob(24 + weight.stream.size());
    std::memcpy(&blob[24], weight.stream.data(), weight.stream.size());
    for (auto [lo, hi] : {std::pair(int64_t(0), middle), {middle, passes}}) {
      if (tiled)
        gemm(blob.data(), 24, x.data(), scale.data(), sums.data(), y.data(),
             spec.n, scratch.data(), m, lo, hi);
      else
        gemv(blob.data(), 24, x.data(), scale.data(), sums.data(), y.data(), lo,
             hi);
    }
    return y;
  }

  bool ok() const { return library != nullptr; }

private:
  ContractSpec spec;
  std::unique_ptr<LoadedLibrary> library;
  Gemv *gemv = nullptr;
  Gemm *gemm = nullptr;
  StageFn *stage[2] = {};
};

void expectSameBits(const std::vector<float> &got,
                    const std::vector<float> &want, const std::string &what) {
  ASSERT_EQ(got.size(), want.size());
  int shown = 0;
  for (size_t i = 0; i < got.size() && shown < 3; ++i)
    if (std::memcmp(&got[i], &want[i], 4)) {
      ADD_FAILURE() << what << " element " << i << ": " << got[i]
                    << ", expected " << want[i];
      ++shown;
    }
}

struct Case {
  const char *format;
  int64_t n, k;
};

std::string nameOf(const Case &c) {
  return std::string(c.format) + " " + std::to_string(c.n) + "x" +
         std::to_string(c.k);
}

const Format *formatOf(const char *spec) {
  auto format = getFormat(spec);
  if (!format) {
    ADD_FAILURE() << llvm::toString(format.takeError());
    return nullptr;
  }
  return *format;
}

/// Integer results are equal bit for bit to the reference, whatever m, the
/// split, the kernel and the lowering.
void checkInt(const Case &c, bool genericOps) {
  const Format *format = formatOf(c.format);
  if (!format || !format->isInteger())
    return;
  ContractSpec spec{format, c.n, c.k, true, false, false};
  Contraction contraction(spec, genericOps);
  if (!contraction.ok())
    return;
  Weight weight(*format, c.n, c.k, 1);
  std::vector<float> x = randomRows(11, c.k, 2);
  std::vector<float> want = referenceInt(weight, x, 11);
  expectSameBits(contraction.run(weight, x, 11, true), want,
                 nameOf(c) + " gemm");
  std::vector<float> one(x.begin() + 3 * c.k, x.begin() + 4 * c.k);
  std::vector<float> wantOne(want.begin() + 3 * c.n, want.begin() + 4 * c.n);
  expectSameBits(contraction.run(weight, one, 1, false, true), wantOne,
                 nameOf(c) + " gemv");
  expectSameBits(contraction.run(weight, one, 1, true, true), wantOne,
                 nameOf(c) + " gemm of one row");
}

void checkFloat(const Case &c, bool genericOps) {
  const Format *format = formatOf(c.format);
  if (!format)
    return;
  ContractSpec spec{format, c.n, c.k, false, true, false};
  Contraction contraction(spec, genericOps);
  if (!contraction.ok())
    return;
  Weight weight(*format, c.n, c.k, 3);
  std::vector<float> x = randomRows(11, c.k, 4);
  std::vector<double> want, magnitude;
  referenceFloat(weight, x, 11, want, magnitude);
  std::vector<float> got = contraction.run(weight, x, 11, true);
  // Zero points multiply what rounding there is: levels are larger than their
  // differences.
  double limit = format->hasZeroPoint() ? 2e-5 : 1e-6;
  int shown = 0;
  for (size_t i = 0; i < got.size() && shown < 3; ++i)
    if (!(std::fabs(got[i] - want[i]) <= limit * magnitude[i])) {
      ADD_FAILURE() << nameOf(c) << " element " << i << ": " << got[i]
                    << ", expected " << want[i];
      ++shown;
    }
  std::vector<float> one(x.begin() + 3 * c.k, x.begin() + 4 * c.k);
  std::vector<float> gotOne(got.begin() + 3 * c.n, got.begin() + 4 * c.n);
  expectSameBits(contraction.run(weight, one, 1, false, true), gotOne,
                 nameOf(c) + " gemv");
}

const Case cases[] = {
    {"int<8>", 64, 96},
    {"int<8>", 50, 100},
    {"int<8, group = 32>", 64, 128},
    {"int<4, group = 32>", 64, 128},
    {"int<4, group = 32>", 37, 72},
    {"int<4, group = 32, zero>", 64, 128},
    {"int<4, group = 32, zero>", 33, 104},
    {"int<4>", 32, 64},
    {"int<3, group = 32, zero>", 64, 96},
    {"int<2, group = 32, zero>", 64, 96},
    {"int<5, group = 64>", 32, 128},
    {"int<6, group = 16>", 32, 80},
    {"int<4, group = 8>", 32, 64},
    {"int<4, group = 30>", 32, 64},
    {"int<4, group = 128>", 32, 300},
    {"int<4, group = 512>", 32, 1100},
    {"int<1, group = 64>", 32, 128},
    {"int<8, group = 64, zero>", 32, 128},
    {"int<7, group = 256, zero>", 32, 600},
    {"int<4, group = 96, zero>", 32, 200},
    {"int<4, group = 16, zero>", 32, 96},
    {"nf4<group = 64>", 64, 192},
    {"nf4<group = 64, bytes>", 64, 192},
    {"int<4, zero>", 64, 100},
    {"int<3, zero = float>", 50, 100},
    {"int<4, group = 32, zero = float>", 64, 128},
    {"nf4<group = 16, bytes, double>", 50, 100},
    {"nf4<group = 128, double>", 32, 400},
    {"lut4<group = 64, double>", 32, 200},
    {"mxfp<4>", 64, 160},
    {"mxfp<6>", 64, 160},
    {"mxfp<6, e3m2>", 64, 160},
    {"mxfp<8>", 64, 160},
    {"nvfp4", 50, 100},
    {"fp6<e2m3, tensor>", 64, 96},
    {"fp8<e4m3>", 64, 96},
    {"fp8<e5m2, group = 64>", 64, 128},
    {"int<1, tensor>", 64, 128},
    {"ternary<3>", 64, 288},
    {"ternary<3, group = 24>", 64, 100},
    {"ternary<2, group = 128>", 64, 256},
    {"ternary<2>", 64, 256},
    {"ternary<5>", 64, 260},
    {"ternary<5, group = 128>", 64, 300},
    {"e8p", 64, 256},
    {"e8p", 40, 88},
    {"e8p<3>", 40, 88},
    {"e8p<4, scale = tensor>", 50, 100},
    {"trellis<1>", 40, 100},
    {"trellis<2>", 64, 256},
    {"trellis<2, scale = tensor>", 40, 88},
    {"trellis<3>", 40, 100},
    {"trellis<4>", 40, 100},
    {"trellis<5>", 33, 50},
    {"trellis<6>", 33, 50},
    {"trellis<2, code = lin8>", 64, 96},
    {"trellis<2, code = 1mad>", 32, 48},
    {"trellis<3, code = hyb>", 32, 48},
    {"trellis<2, code = 3inst>", 40, 100},
    {"trellis<3, code = 3inst>", 32, 48},
    {"aqlm<2x8, group = 8>", 40, 88},
    {"aqlm<2x8, group = 8>", 264, 600},
    {"aqlm<2x8, group = 8>", 257, 1304},
    {"aqlm<1x8, group = 4>", 4130, 36},
    {"aqlm<1x8, group = 16>", 300, 1000},
    {"aqlm<2x6, group = 3>", 33, 50},
    {"aqlm<1x16, group = 8>", 40, 88},
    {"aqlm<2x12, group = 8>", 33, 130},
    {"sum<binary, binary, group = 64>", 40, 200},
    {"split<columns, sum<binary, binary>, split<magnitude, binary, binary>>",
     33, 300},
    {"split<columns, binary, binary, group = 64>", 64, 128},
    {"vptq<1x8, rows = 4>", 40, 88},
    {"vptq<2x8, rows = 16>", 33, 130},
    {"vptq<1x12, rows = 4>", 40, 88},
    {"vptq<2x12, rows = 8>", 33, 130},
    {"float<32>", 64, 100},
    {"float<16>", 64, 96},
    {"float<bf16>", 64, 96},
    {"dfloat11", 64, 96},
    {"dfloat11", 50, 101},
    {"ecf8", 64, 96},
    {"ecf8<tensor>", 40, 88},
    {"ecf8<group = 64>", 50, 130},
    {"ecf8<group = 5>", 33, 64},
};

TEST(Kernels, IntegerForThisProcessor) {
  for (const Case &c : cases)
    checkInt(c, false);
}

/// Acceptance B2: all activations 127, all weights 1 (and -1): sums do not
/// wrap.
TEST(Kernels, LargestSums) {
  constexpr int64_t n = 32, k = 4096;
  for (const char *spec :
       {"ternary<2>", "ternary<3, tensor>", "ternary<5>", "mxfp<4>"}) {
    SCOPED_TRACE(spec);
    const Format *format = formatOf(spec);
    Contraction contraction({format, n, k, true, false, false}, false);
    ASSERT_TRUE(contraction.ok());
    for (float sign : {1.0f, -1.0f}) {
      Weight weight(*format, n, k, 1);
      weight.values.assign(n * k, sign);
      weight.stream = packWeight(
          *format, encodeNearest(*format, weight.values.data(), n, k, {}));
      std::vector<float> x(k, 127.0f);
      for (bool tiled : {false, true})
        for (float y : contraction.run(weight, x, 1, tiled))
          ASSERT_EQ(y, sign * 127 * k);
    }
  }
}

using LookupFn = void(const int64_t *ids, const void *w, float *y,
                      uint32_t *error, int64_t lo, int64_t hi);

/// Rows of a table are those that the host decodes.
TEST(Kernels, Lookup) {
  const char *specs[] = {"int<4, group = 32, zero>",
                         "int<4, group = 16, zero = float>",
                         "int<4, zero>",
                         "int<3, zero = float>",
                         "nf4<group = 64>",
                         "nf4<group = 32, double>",
                         "lut4<group = 64>",
                         "mxfp<4>",
                         "mxfp<6, e3m2>",
                         "nvfp4",
                         "fp8<e4m3>",
                         "dfloat11",
                         "ecf8",
                         "ecf8<group = 24>",
                         "ternary<3, tensor>",
                         "e8p",
                         "e8p<4, scale = tensor>",
                         "trellis<3>",
                         "trellis<2, code = 3inst>",
                         "aqlm<1x12, group = 8>",
                         "aqlm<2x8, group = 8>",
                         "split<columns, binary, binary>",
                         "trellis<4, scale = tensor>"};
  constexpr int64_t n = 50, k = 100;
  MLIRContext context;
  context.loadDialect<LLVM::LLVMDialect>();
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  std::vector<std::string> names;
  for (const char *spec : specs) {
    func::FuncOp function = getOrCreateLookup(
        *module, {formatOf(spec), n, k, IntegerType::get(&context, 64)});
    function.setPublic();
    names.push_back(function.getName().str());
  }
  auto target = llvm::cantFail(resolveCPU("native"));
  auto library = compileAndLoad(*module, target);
  ASSERT_TRUE(bool(library)) << llvm::toString(library.takeError());
  for (size_t i = 0; i < names.size(); ++i) {
    SCOPED_TRACE(specs[i]);
    Weight weight(*formatOf(specs[i]), n, k, 8);
    auto *lookup = llvm::cantFail((*library)->function<LookupFn>(names[i]));
    const int64_t ids[] = {0, 49, 17, 32, 31, 16};
    std::vector<float> y(6 * k);
    uint32_t error = 0;
    lookup(ids, weight.stream.data(), y.data(), &error, 0, 6);
    EXPECT_EQ(error, 0u);
    for (int64_t r = 0; r < 6; ++r)
      for (int64_t c = 0; c < k; ++c) {
        float want = weight.values[ids[r] * k + c];
        ASSERT_NEAR(y[r * k + c], want, 1e-6f * std::fabs(want) + 1e-9f)
            << "row " << ids[r] << " column " << c;
      }
  }
}

/// Coded exponents change nothing: the bits of the formats without the code.
TEST(Kernels, CodedExponents) {
  constexpr int64_t n = 50, k = 101;
  const char *pairs[][2] = {{"dfloat11", "float<bf16>"},
                            {"ecf8", "fp8<e4m3>"},
                            {"ecf8<group = 32>", "fp8<e4m3, group = 32>"}};
  for (auto [coded, plain] : pairs) {
    Weight a(*formatOf(coded), n, k, 5), b(*formatOf(plain), n, k, 5);
    expectSameBits(a.values, b.values, coded);
    Contraction first({formatOf(coded), n, k, false, true, false}, false);
    Contraction second({formatOf(plain), n, k, false, true, false}, false);
    ASSERT_TRUE(first.ok() && second.ok());
    std::vector<float> x = randomRows(5, k, 6);
    for (int64_t m : {1, 5})
      expectSameBits(first.run(a, x, m, m > 1), second.run(b, x, m, m > 1),
                     coded);
  }
}

TEST(Kernels, Accumulate) {
  for (int64_t n : {64, 50}) {
    const Format *format = formatOf("int<4, group = 32>");
    Contraction plain({format, n, 96, true, true, false}, false);
    Contraction adds({format, n, 96, true, true, true}, false);
    Weight weight(*format, n, 96, 5);
    std::vector<float> x = randomRows(3, 96, 6);
    for (int64_t m : {1, 3}) {
      std::vector<float> want = plain.run(weight, x, m, m > 1);
      std::vector<float> got = adds.run(weight, x, m, m > 1, false, 0.25f);
      for (float &v : want)
        v += 0.25f;
      expectSameBits(got, want, "accumulate");
    }
  }
  // Two workers meet within a pair of passes: each row is added to once.
  const Format *format = formatOf("aqlm<2x8, group = 8>");
  Contraction plain({format, 300, 64, true, true, false}, false);
  Contraction adds({format, 300, 64, true, true, true}, false);
  Weight weight(*format, 300, 64, 5);
  std::vector<float> x = randomRows(1, 64, 6);
  std::vector<float> want = plain.run(weight, x, 1, false);
  for (float &v : want)
    v += 0.25f;
  expectSameBits(adds.run(weight, x, 1, false, true, 0.25f), want, "a pair");
}

/// Compiled slowly: vectors of any target become many instructions.
const Case genericCases[] = {
    {"int<8>", 50, 100},
    {"int<4, group = 32>", 37, 72},
    {"int<3, group = 32, zero>", 32, 96},
    {"int<4, group = 8>", 32, 64},
    {"nf4<group = 64>", 32, 128},
    {"nf4<group = 64, bytes>", 32, 128},
    {"ternary<2, group = 128>", 32, 128},
    {"ternary<5>", 32, 100},
    {"mxfp<6, e3m2>", 32, 32},
    {"nvfp4", 32, 32},
    {"int<4, group = 32, zero = float>", 32, 64},
    {"e8p", 40, 88},
    {"e8p<3>", 40, 88},
    {"trellis<4>", 32, 32},
    {"trellis<3, code = 1mad>", 32, 32},
    {"trellis<2, code = 3inst>", 32, 32},
    {"aqlm<1x12, group = 8>", 40, 88},
    {"aqlm<2x8, group = 8>", 40, 88},
    {"aqlm<2x8, group = 8>", 264, 600},
    {"aqlm<2x8, group = 8>", 257, 1304},
    {"aqlm<1x8, group = 4>", 4130, 36},
    {"aqlm<1x8, group = 16>", 300, 1000},
    {"aqlm<2x6, group = 3>", 33, 50},
    {"split<columns, sum<binary, binary>, split<magnitude, binary, binary>, "
     "group = 64>",
     33, 100},
    {"vptq<1x8, rows = 4>", 40, 88},
    {"vptq<2x8, rows = 16>", 33, 130},
    {"float<bf16>", 32, 32},
    {"dfloat11", 40, 36},
    {"ecf8<group = 16>", 32, 50},
};

TEST(Kernels, IntegerGeneric) {
  for (const Case &c : genericCases)
    checkInt(c, true);
}

TEST(Kernels, FloatForThisProcessor) {
  for (const Case &c : cases)
    checkFloat(c, false);
}

TEST(Kernels, FloatGeneric) {
  for (const Case &c : genericCases)
    checkFloat(c, true);
}

} // namespace
