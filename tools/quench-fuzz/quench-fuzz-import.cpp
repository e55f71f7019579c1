//===- quench-fuzz-import.cpp - Fuzzes the import -------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A libFuzzer target: every input is imported from memory. Only crashes, hangs
// and memory errors are failures; an error that the import reports is not.
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/MLIRContext.h"
#include "quench/Import/ONNX/Import.h"
#include <cstddef>
#include <cstdint>
#include <memory>

// Only the reader is instrumented: containers grown in other libraries are not
// annotated, and their allocations live as long as the process.
extern "C" const char *__asan_default_options() {
  return "detect_container_overflow=0:detect_leaks=0:detect_odr_violation=0:"
         "allocator_may_return_null=1";
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  // Types and attributes stay in a context, so it is renewed now and then.
  static std::unique_ptr<mlir::MLIRContext> context;
  static unsigned runs = 0;
  if (runs++ % 2000 == 0)
    context = std::make_unique<mlir::MLIRContext>(
        mlir::MLIRContext::Threading::DISABLED);
  auto module = quench::importONNX(
      llvm::ArrayRef<char>(reinterpret_cast<const char *>(data), size), "",
      *context);
  if (!module)
    llvm::consumeError(module.takeError());
  return 0;
}
