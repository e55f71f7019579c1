//===- TargetCPUTest.cpp - Processors, objects, links ---------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../Runtime/TestProgram.h"
#include "quench/Target/CPU/LoadedLibrary.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/MemoryBuffer.h"
#include <cmath>
#include <set>

using namespace llvm;
using namespace quench;
using namespace quench::test;

namespace {

std::string text(Error error) { return toString(std::move(error)); }

CPUTarget resolve(StringRef name) {
  Expected<CPUTarget> target = resolveCPU(name);
  if (target)
    return *target;
  ADD_FAILURE() << toString(target.takeError());
  return CPUTarget();
}

TEST(CPUTarget, NamesAreFeatures) {
  CPUTarget base = resolve("x86-64");
  EXPECT_FALSE(base.avx2);
  EXPECT_FALSE(base.f16c);
  EXPECT_EQ(base.vectorBits, 128u);
  EXPECT_EQ(base.requiredList(), "");

  CPUTarget v3 = resolve("x86-64-v3");
  EXPECT_TRUE(v3.avx2 && v3.fma && v3.f16c && !v3.avx512 && !v3.gfni);
  EXPECT_TRUE(v3.ssse3);
  EXPECT_EQ(v3.vectorBits, 256u);

  CPUTarget v4 = resolve("x86-64-v4");
  EXPECT_TRUE(v4.avx512 && !v4.avx512vnni && !v4.avx512vbmi);
  EXPECT_EQ(v4.vectorBits, 512u);
  EXPECT_EQ(v4.vectorRegisters, 32u);

  for (StringRef name : {"icelake-server", "sapphirerapids", "emeraldrapids",
                         "znver4", "znver5"}) {
    CPUTarget target = resolve(name);
    EXPECT_TRUE(target.avx512vnni && target.avx512vbmi && target.gfni)
        << name.str();
    EXPECT_FALSE(StringRef(target.features).contains("fp16")) << name.str();
    EXPECT_FALSE(StringRef(target.features).contains("amx")) << name.str();
    EXPECT_EQ(target.tune, name);
  }
  EXPECT_TRUE(resolve("znver5").avxvnni);
  EXPECT_FALSE(resolve("skylake-avx512").avx512vnni);
  EXPECT_TRUE(resolve("neoverse-v1").i8mm);
  EXPECT_TRUE(resolve("neoverse-n1").dotprod);
  EXPECT_TRUE(resolve("aarch64").isAArch64());
  EXPECT_FALSE(resolve("aarch64").dotprod);

  Expected<CPUTarget> unknown = resolveCPU("i486dx");
  ASSERT_FALSE(static_cast<bool>(unknown));
  EXPECT_TRUE(StringRef(toString(unknown.takeError())).contains("znver5"));
}

TEST(Emit, WritesForEveryTarget) {
  for (StringRef name : {"native", "x86-64", "x86-64-v3", "znver5", "aarch64",
                         "neoverse-v1", "riscv64"}) {
    LLVMContext context;
    auto module = parseIR(programIR, context);
    SmallString<0> object;
    raw_svector_ostream out(object);
    EXPECT_EQ(text(optimizeAndEmit(*module, resolve(name), out)), "")
        << name.str();
    EXPECT_TRUE(object.starts_with("\x7f"
                                   "ELF"));
  }
  LLVMContext context;
  auto module = parseIR(programIR, context);
  SmallString<0> assembly;
  raw_svector_ostream out(assembly);
  EXPECT_EQ(text(optimizeAndEmit(*module, resolve("znver5"), out,
                                 {3, EmitKind::Assembly})),
            "");
  EXPECT_TRUE(assembly.str().contains("main_entry:"));
}

TEST(Emit, ReportsInvalidIR) {
  LLVMContext context;
  auto module = parseIR("define i32 @f() { ret i32 0 }", context);
  module->getFunction("f")->getEntryBlock().getTerminator()->eraseFromParent();
  SmallString<0> object;
  raw_svector_ostream out(object);
  EXPECT_TRUE(StringRef(text(optimizeAndEmit(*module, resolve("native"), out)))
                  .contains("not valid"));
}

TEST(LoadedLibrary, Runs) {
  LLVMContext context;
  auto module = parseIR(R"(
    declare float @expf(float)
    declare void @quench_rt_barrier(ptr, i64, i64)
    define float @twice(float %x) {
      %y = call float @expf(float %x)
      %z = fadd float %y, %y
      call void @quench_rt_barrier(ptr null, i64 0, i64 1)
      ret float %z
    })",
                        context);
  auto library = loadModule(*module, resolve("native"));
  ASSERT_EQ(library ? "" : toString(library.takeError()), "");
  auto twice = (*library)->function<float(float)>("twice");
  ASSERT_TRUE(static_cast<bool>(twice));
  EXPECT_FLOAT_EQ((*twice)(1.25f), 2 * std::exp(1.25f));
  EXPECT_FALSE(text((*library)->lookup("quench_run").takeError()).empty());
  EXPECT_FALSE(text((*library)->lookup("thrice").takeError()).empty());
}

TEST(LoadedLibrary, RefusesOtherProcessors) {
  LLVMContext context;
  auto module = parseIR("define void @f() { ret void }", context);
  CPUTarget target = resolve("native");
  target.required.push_back("warpdrive");
  EXPECT_TRUE(StringRef(text(loadModule(*module, target).takeError()))
                  .contains("'warpdrive'"));
  EXPECT_FALSE(
      text(loadModule(*module, resolve("riscv64")).takeError()).empty());
}

/// On a processor without F16C the conversions come from the runtime. The
/// oracle is the same code for a processor that has them, or the compiler's own
/// _Float16.
TEST(LoadedLibrary, ConvertsHalf) {
  const char *ir = R"(
    define i16 @narrow(float %x) {
      %h = fptrunc float %x to half
      %b = bitcast half %h to i16
      ret i16 %b
    }
    define i16 @narrowd(double %x) {
      %h = fptrunc double %x to half
      %b = bitcast half %h to i16
      ret i16 %b
    }
    define i16 @brain(float %x) {
      %h = fptrunc float %x to bfloat
      %b = bitcast bfloat %h to i16
      ret i16 %b
    }
    define float @widen(i16 %b) {
      %h = bitcast i16 %b to half
      %x = fpext half %h to float
      ret float %x
    })";
  LLVMContext context;
  auto module = parseIR(ir, context);
  auto library = loadModule(*module, resolve("x86-64"));
  ASSERT_EQ(library ? "" : toString(library.takeError()), "");
  auto narrow = *(*library)->function<uint16_t(float)>("narrow");
  auto narrowd = *(*library)->function<uint16_t(double)>("narrowd");
  auto brain = *(*library)->function<uint16_t(float)>("brain");
  auto widen = *(*library)->function<float(uint16_t)>("widen");
  // Every half by its definition: sign, 5 bits of exponent, 10 of fraction.
  for (unsigned b = 0; b < 65536; ++b) {
    int exponent = b >> 10 & 31, fraction = b & 1023;
    float expected = exponent == 31 ? (fraction ? NAN : INFINITY)
                     : exponent ? std::ldexp(1024.0f + fraction, exponent - 25)
                                : std::ldexp(static_cast<float>(fraction), -24);
    if (b >> 15)
      expected = -expected;
    float found = widen(b);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(found));
      EXPECT_TRUE((narrow(found) & 0x7fff) > 0x7c00);
      continue;
    }
    EXPECT_EQ(found, expected);
    EXPECT_EQ(narrow(found), b);
    EXPECT_EQ(narrowd(found), b);
    if (exponent == 31 || (b & 0x7fff) == 0x7bff)
      continue;
    // Half way to the next one: to the even of the two; a little more: up.
    float next = widen(b + 1), middle = (found + next) / 2;
    EXPECT_EQ(narrow(middle), b & 1 ? b + 1 : b);
    EXPECT_EQ(narrow(std::nextafterf(middle, next)), b + 1);
    EXPECT_EQ(narrowd(std::nextafter(static_cast<double>(middle), found)), b);
  }
  EXPECT_EQ(narrow(65519.9f), 0x7bff);
  EXPECT_EQ(narrow(65520.0f), 0x7c00);
  EXPECT_EQ(narrow(-1e30f), 0xfc00);
  EXPECT_EQ(narrow(1e-30f), 0);
  for (float value : {0.0f, 1.0f, -3.1415926f, 1e38f, 3.4e38f, 1e-40f,
                      1.00390625f, 1.01171875f}) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    EXPECT_EQ(brain(value),
              static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16));
  }
}

TEST(Link, NamesForbiddenSymbols) {
  LLVMContext context;
  auto module = parseIR(R"(
    declare void @abort()
    declare void @printf()
    define void @f() {
      call void @printf()
      call void @abort()
      ret void
    })",
                        context);
  std::string message =
      text(loadModule(*module, resolve("native")).takeError());
  EXPECT_TRUE(StringRef(message).contains("'abort'")) << message;
  EXPECT_TRUE(StringRef(message).contains("'printf'")) << message;
}

TEST(Link, ReportsWhatCannotBeWritten) {
  TemporaryFolder folder;
  std::string message = text(
      buildProgram(folder.file("no/such/folder/model.so"), resolve("native")));
  EXPECT_TRUE(StringRef(message).contains("folder")) << message;
  message =
      text(linkSharedObject({}, {folder.file("missing.o")}, folder.file("x.so"),
                            resolve("native"), {"", true, false}));
  EXPECT_TRUE(StringRef(message).contains("missing.o")) << message;
  EXPECT_FALSE(sys::fs::exists(folder.file("x.so")));
  message = text(buildProgram(folder.file("arm.so"), resolve("aarch64")));
  EXPECT_TRUE(StringRef(message).contains("no runtime")) << message;
  // Nothing is left beside.
  std::error_code error;
  for (sys::fs::directory_iterator it(folder.path, error), end; it != end;
       it.increment(error))
    EXPECT_TRUE(StringRef(it->path()).ends_with(".weights")) << it->path();
}

TEST(Link, SameBytesFromAnyFolder) {
  TemporaryFolder first, second;
  CPUTarget target = resolve("x86-64-v3");
  ASSERT_EQ(text(buildProgram(first.file("a.so"), target)), "");
  ASSERT_EQ(text(buildProgram(second.file("other-name.so"), target)), "");
  auto a = MemoryBuffer::getFile(first.file("a.so"));
  auto b = MemoryBuffer::getFile(second.file("other-name.so"));
  EXPECT_TRUE((*a)->getBuffer() == (*b)->getBuffer());
  EXPECT_FALSE((*a)->getBuffer().contains(first.path));
}

TEST(Link, SymbolsAndSections) {
  TemporaryFolder folder;
  ASSERT_EQ(text(buildProgram(folder.file("m.so"), resolve("native"))), "");
  auto buffer = MemoryBuffer::getFile(folder.file("m.so"));
  auto object = object::ObjectFile::createELFObjectFile(**buffer);
  ASSERT_TRUE(static_cast<bool>(object));
  auto *elf = cast<object::ELFObjectFileBase>(object->get());
  std::set<StringRef> allowed(allowedSymbols().begin(), allowedSymbols().end());
  unsigned exported = 0;
  for (object::ELFSymbolRef symbol : elf->getDynamicSymbolIterators()) {
    StringRef name = cantFail(symbol.getName());
    if (cantFail(symbol.getFlags()) & object::BasicSymbolRef::SF_Undefined) {
      EXPECT_TRUE(allowed.count(name)) << name.str();
      continue;
    }
    EXPECT_TRUE(name.starts_with("quench_") && !name.starts_with("quench_rt"))
        << name.str();
    ++exported;
  }
  EXPECT_EQ(exported, 29u);
  bool found = false;
  for (object::ELFSectionRef section : elf->sections()) {
    if (cantFail(section.getName()) != ".quench.weights")
      continue;
    found = true;
    EXPECT_EQ(section.getAddress() % 4096, 0u);
    EXPECT_EQ(section.getSize(), 64u + 1024 + 64); // 4, 999, and padding
    EXPECT_FALSE(section.getFlags() & ELF::SHF_WRITE);
  }
  EXPECT_TRUE(found);
}

TEST(Weights, ReportsFullDisk) {
  // Writes to /dev/full fail as on a full disk.
  if (!sys::fs::exists("/dev/full"))
    GTEST_SKIP();
  TemporaryFolder folder;
  std::string link = folder.file("full");
  ASSERT_FALSE(sys::fs::create_link("/dev/full", link));
  auto weights = WeightsObject::create(link, resolve("native"));
  ASSERT_TRUE(static_cast<bool>(weights));
  std::vector<uint8_t> bytes(1 << 20);
  Error error = Error::success();
  for (int i = 0; i < 4 && !error; ++i)
    if (auto offset = (*weights)->append(bytes); !offset)
      error = offset.takeError();
  EXPECT_TRUE(StringRef(text(std::move(error))).contains("No space left"));
}

} // namespace
