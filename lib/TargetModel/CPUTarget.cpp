//===- CPUTarget.cpp - Processors to compile for --------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/TargetModel/CPUTarget.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/TargetParser/AArch64TargetParser.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/X86TargetParser.h"

using namespace llvm;
using namespace quench;

/// The x86 features that generated code may use; the runtime can check each
/// (Processor.c).
static constexpr StringLiteral x86Features[] = {
    "sse3",       "ssse3",        "sse4.1",
    "sse4.2",     "cx16",         "popcnt",
    "movbe",      "lzcnt",        "bmi",
    "bmi2",       "avx",          "f16c",
    "fma",        "avx2",         "gfni",
    "avxvnni",    "avx512f",      "avx512cd",
    "avx512bw",   "avx512dq",     "avx512vl",
    "avx512ifma", "avx512vbmi",   "avx512vbmi2",
    "avx512vnni", "avx512bitalg", "avx512vpopcntdq",
    "avx512bf16"};

static constexpr StringLiteral linuxX86 = "x86_64-unknown-linux-gnu";

std::string CPUTarget::requiredList() const { return join(required, ","); }

static CPUTarget makeX86(StringRef name, StringRef tune,
                         const StringSet<> &has) {
  CPUTarget target;
  target.name = name.str();
  target.triple = linuxX86.str();
  target.cpu = "x86-64";
  target.tune = tune.str();
  for (StringRef feature : x86Features)
    if (has.contains(feature))
      target.required.push_back(feature.str());
  SmallVector<std::string> plus;
  for (const std::string &feature : target.required)
    plus.push_back("+" + feature);
  target.features = join(plus, ",");

  auto all = [&](std::initializer_list<StringRef> names) {
    return llvm::all_of(
        names, [&](StringRef feature) { return has.contains(feature); });
  };
  target.ssse3 = all({"ssse3"});
  target.avx2 = all({"avx2"});
  target.fma = all({"fma"});
  target.f16c = all({"f16c"});
  target.gfni = all({"gfni"});
  target.avxvnni = all({"avxvnni"});
  target.avx512 = all({"avx512f", "avx512bw", "avx512dq", "avx512vl"});
  target.avx512vnni = target.avx512 && all({"avx512vnni"});
  target.avx512vbmi = target.avx512 && all({"avx512vbmi"});
  target.avx512vbmi2 = target.avx512 && all({"avx512vbmi2"});
  target.avx512bitalg = target.avx512 && all({"avx512bitalg"});
  target.avx512bf16 = target.avx512 && all({"avx512bf16"});
  target.avx512vpopcntdq = target.avx512 && all({"avx512vpopcntdq"});
  target.vectorBits = target.avx512 ? 512 : all({"avx2"}) ? 256 : 128;
  target.vectorRegisters = target.avx512 ? 32 : 16;
  return target;
}

static CPUTarget makeAArch64(StringRef name, StringRef cpu,
                             ArrayRef<StringRef> features) {
  CPUTarget target;
  target.name = name.str();
  target.triple = "aarch64-unknown-linux-gnu";
  target.cpu = target.tune = cpu.str();
  auto has = [&](StringRef feature) { return is_contained(features, feature); };
  target.neon = true;
  target.dotprod = has("+dotprod");
  target.i8mm = has("+i8mm");
  target.bf16 = has("+bf16");
  target.vectorRegisters = 32;
  target.features = join(features, ",");
  return target;
}

static Expected<CPUTarget> resolveNative() {
  StringSet<> has;
  for (const auto &feature : sys::getHostCPUFeatures())
    if (feature.second)
      has.insert(feature.first());
  StringRef host = sys::getHostCPUName();
#if defined(__x86_64__)
  return makeX86("native", host, has);
#elif defined(__aarch64__)
  std::vector<std::string> owned;
  for (const auto &feature : has)
    owned.push_back(("+" + feature.first()).str());
  llvm::sort(owned);
  return makeAArch64("native", host,
                     SmallVector<StringRef>(owned.begin(), owned.end()));
#else
  return createStringError(
      "--cpu native: nothing is known of this machine's processor '" + host +
      "'; x86-64 and aarch64 are");
#endif
}

Expected<CPUTarget> quench::resolveCPU(StringRef name) {
  if (name.empty() || name == "native")
    return resolveNative();
  if (name == "generic") {
#if defined(__aarch64__)
    return makeAArch64(name, "generic", {"+neon"});
#else
    return makeX86(name, "generic", {});
#endif
  }
  if (X86::parseArchX86(name, /*Only64Bit=*/true) != X86::CK_None) {
    SmallVector<StringRef> features;
    X86::getFeaturesForCPU(name, features);
    // Lists of the levels name the last of a chain only.
    StringMap<bool> closed;
    for (StringRef feature : features) {
      closed[feature] = true;
      X86::updateImpliedFeatures(feature, /*Enabled=*/true, closed);
    }
    StringSet<> has;
    for (const auto &feature : closed)
      if (feature.second)
        has.insert(feature.first());
    bool tunable = X86::parseTuneCPU(name, /*Only64Bit=*/true) != X86::CK_None;
    return makeX86(name, tunable ? name : StringRef("generic"), has);
  }
  if (name == "aarch64")
    return makeAArch64(name, "generic", {"+neon"});
  if (std::optional<AArch64::CpuInfo> info = AArch64::parseCpu(name)) {
    AArch64::ExtensionSet set;
    set.addCPUDefaults(*info);
    std::vector<StringRef> features;
    set.toLLVMFeatureList(features);
    return makeAArch64(name, info->Name, features);
  }
  if (name == "riscv64") {
    CPUTarget target;
    target.name = name.str();
    target.triple = "riscv64-unknown-linux-gnu";
    target.cpu = target.tune = "generic-rv64";
    target.features = "+m,+a,+f,+d,+c";
    target.vectorRegisters = 32;
    return target;
  }
  SmallVector<StringRef> known;
  X86::fillValidCPUArchList(known, /*Only64Bit=*/true);
  return createStringError(
      "--cpu '" + name + "' is not known; accepted: native, generic, " +
      join(known, ", ") +
      ", aarch64, riscv64, and LLVM's names of AArch64 processors");
}

std::string quench::describeCPU(const CPUTarget &target) {
  std::string text = target.name;
  if (target.tune != target.name)
    text += " (" + target.tune + ")";
  text += ", " + std::to_string(target.vectorBits) + "-bit vectors";
  auto add = [&](bool has, StringRef name) {
    if (has)
      text += (", " + name).str();
  };
  add(target.avx512vnni, "avx512vnni");
  add(target.avx512vbmi, "avx512vbmi");
  add(target.gfni, "gfni");
  add(target.avxvnni, "avxvnni");
  add(target.dotprod, "dotprod");
  add(target.i8mm, "i8mm");
  return text;
}
