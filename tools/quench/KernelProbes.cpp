//===- KernelProbes.cpp - The machine's limits, as kernels ----------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelProbes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Parser/Parser.h"
#include "quench/Dialect/QK/IR/QK.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace quench;

/// Moves the one function of a text into the module.
static func::FuncOp addFunction(ModuleOp module, const std::string &text) {
  MLIRContext *context = module.getContext();
  context->loadDialect<func::FuncDialect, arith::ArithDialect,
                       memref::MemRefDialect, scf::SCFDialect,
                       vector::VectorDialect, qk::QKDialect>();
  auto parsed = parseSourceString<ModuleOp>(text, context);
  auto function = *parsed->getOps<func::FuncOp>().begin();
  function->remove();
  module.push_back(function);
  return function;
}

func::FuncOp quench::makeReadProbe(ModuleOp module) {
  std::string loads, names, types, inits, results;
  for (int i = 0; i < 4; ++i) {
    std::string n = std::to_string(i), at = std::to_string(64 * i);
    loads += "%o" + n + " = arith.constant " + at + " : index\n" + "%a" + n +
             " = arith.addi %i, %o" + n + " : index\n" + "%p" + n +
             " = arith.addi %a" + n + ", %ahead : index\n" +
             "memref.prefetch %w[%p" + n +
             "], read, locality<3>, data : memref<?xi8>\n" + "%v" + n +
             " = vector.load %w[%a" + n + "] : memref<?xi8>, vector<64xi8>\n" +
             "%x" + n + " = arith.xori %s" + n + ", %v" + n +
             " : vector<64xi8>\n";
    inits += (i ? ", %s" : "%s") + n + " = %zero";
    names += (i ? ", %x" : "%x") + n;
    types += i ? ", vector<64xi8>" : "vector<64xi8>";
  }
  return addFunction(
      module, "func.func @read_probe(%w : memref<?xi8>, %n : index, %sink : "
              "memref<?xi32>) {\n"
              "%c0 = arith.constant 0 : index\n"
              "%c256 = arith.constant 256 : index\n"
              "%ahead = arith.constant 4096 : index\n"
              "%zero = arith.constant dense<0> : vector<64xi8>\n"
              "%r:4 = scf.for %i = %c0 to %n step %c256 iter_args(" +
                  inits + ") -> (" + types + ") {\n" + loads + "scf.yield " +
                  names + " : " + types +
                  "\n}\n"
                  "%a = arith.xori %r#0, %r#1 : vector<64xi8>\n"
                  "%b = arith.xori %r#2, %r#3 : vector<64xi8>\n"
                  "%c = arith.xori %a, %b : vector<64xi8>\n"
                  "%d = vector.bitcast %c : vector<64xi8> to vector<16xi32>\n"
                  "vector.store %d, %sink[%c0] : memref<?xi32>, "
                  "vector<16xi32>\nreturn\n}\n");
}

func::FuncOp quench::makePeakProbe(ModuleOp module) {
  std::string dots, names, types, inits, sum;
  for (int i = 0; i < 12; ++i) {
    std::string n = std::to_string(i);
    dots += "%d" + n + " = qk.dot4 %s" + n +
            ", %w, %x : vector<16xi32>, vector<64xi8>\n";
    inits += (i ? ", %s" : "%s") + n + " = %acc";
    names += (i ? ", %d" : "%d") + n;
    types += i ? ", vector<16xi32>" : "vector<16xi32>";
    if (i)
      sum += "%t" + n + " = arith.xori " +
             (i == 1 ? std::string("%r#0") : "%t" + std::to_string(i - 1)) +
             ", %r#" + n + " : vector<16xi32>\n";
  }
  return addFunction(
      module,
      "func.func @peak_probe(%sink : memref<?xi32>, %times : index) {\n"
      "%c0 = arith.constant 0 : index\n"
      "%c1 = arith.constant 1 : index\n"
      "%x = memref.load %sink[%c0] : memref<?xi32>\n"
      "%acc = vector.load %sink[%c0] : memref<?xi32>, vector<16xi32>\n"
      "%w = vector.bitcast %acc : vector<16xi32> to vector<64xi8>\n"
      "%r:12 = scf.for %i = %c0 to %times step %c1 iter_args(" +
          inits + ") -> (" + types + ") {\n" + dots + "scf.yield " + names +
          " : " + types + "\n}\n" + sum +
          "vector.store %t11, %sink[%c0] : memref<?xi32>, vector<16xi32>\n"
          "return\n}\n");
}
