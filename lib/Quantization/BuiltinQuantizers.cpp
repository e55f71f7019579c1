//===- BuiltinQuantizers.cpp - The quantizers of the library --------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BuiltinQuantizers.h"
#include "SpecRegistry.h"
#include "quench/Quantization/Quantizer.h"

namespace quench {
#define BUILTIN_QUANTIZER(NAME) void linkBuiltinQuantizer##NAME();
#include "BuiltinQuantizers.inc"
#undef BUILTIN_QUANTIZER
} // namespace quench

using namespace quench;

/// Does nothing; its call keeps all built-in quantizers in the program.
static void linkBuiltinQuantizers() {
#define BUILTIN_QUANTIZER(NAME) linkBuiltinQuantizer##NAME();
#include "BuiltinQuantizers.inc"
#undef BUILTIN_QUANTIZER
}

/// Made on first use, since static objects register quantizers; never
/// destroyed.
static SpecRegistry<Quantizer> &registry() {
  static auto *instance =
      new SpecRegistry<Quantizer>("quantizer", "gptq<damp = 0.01>");
  return *instance;
}

QuantizerRegistration::QuantizerRegistration(llvm::StringRef name,
                                             llvm::StringRef help,
                                             QuantizerFactory factory) {
  registry().add(name, help, std::move(factory));
}

std::vector<std::pair<std::string, std::string>> quench::listQuantizers() {
  linkBuiltinQuantizers();
  return registry().list();
}

llvm::Expected<const Quantizer *> quench::getQuantizer(llvm::StringRef spec) {
  linkBuiltinQuantizers();
  return registry().get(spec);
}
