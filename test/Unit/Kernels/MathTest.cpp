//===- MathTest.cpp - Polynomials against the C library -------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Parser/Parser.h"
#include "quench/Kernels/Lowering.h"
#include "gtest/gtest.h"
#include <cmath>

using namespace mlir;
using namespace quench;

namespace {

using Function = void(const float *in, float *out);

TEST(Math, PolynomialsAreClose) {
  const char *names[] = {"exp", "log", "tanh", "erf"};
  double (*exact[])(double) = {std::exp, std::log, std::tanh, std::erf};
  // Largest error, relative (exp, log) or absolute.
  double limit[] = {4e-7, 4e-7, 4e-7, 4e-7};
  std::string text;
  for (const char *name : names)
    text += std::string("func.func @f_") + name +
            "(%in : memref<?xf32>, %out : memref<?xf32>) {\n"
            "%z = arith.constant 0 : index\n"
            "%v = vector.load %in[%z] : memref<?xf32>, vector<16xf32>\n"
            "%r = math." +
            name +
            " %v : vector<16xf32>\n"
            "vector.store %r, %out[%z] : memref<?xf32>, vector<16xf32>\n"
            "return\n}\n";
  MLIRContext context;
  context.loadDialect<arith::ArithDialect, func::FuncDialect, math::MathDialect,
                      memref::MemRefDialect, vector::VectorDialect>();
  auto module = parseSourceString<ModuleOp>(text, &context);
  ASSERT_TRUE(module);
  CPUTarget target = llvm::cantFail(resolveCPU("native"));
  auto loaded = compileAndLoad(*module, target);
  ASSERT_TRUE(bool(loaded)) << llvm::toString(loaded.takeError());
  for (int f = 0; f < 4; ++f) {
    auto *function = llvm::cantFail(
        (*loaded)->function<Function>(std::string("f_") + names[f]));
    double worst = 0;
    float at = 0;
    for (int block = 0; block < 2500; ++block) {
      float in[16], out[16];
      for (int i = 0; i < 16; ++i) {
        in[i] = (block * 16 + i - 20000) * 0.004f; // -80 .. 80
        if (f == 1)
          in[i] = std::exp(in[i]);
      }
      function(in, out);
      for (int i = 0; i < 16; ++i) {
        double want = exact[f](in[i]), error = std::fabs(out[i] - want);
        if (f < 2)
          error /= std::max(std::fabs(want), 1e-2);
        if (f == 0)
          error = std::fabs(out[i] - want) / want;
        if (!(error <= worst)) {
          worst = error;
          at = in[i];
        }
      }
    }
    EXPECT_LE(worst, limit[f]) << names[f] << " of " << at;
  }
}

} // namespace
