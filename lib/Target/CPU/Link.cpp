//===- Link.cpp - Object code to a shared object, in this process ---------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Target/CPU/Link.h"
#include "Machine.h"
#include "lld/Common/Driver.h"
#include "quench/Runtime/Hash.h"
#include "quench/Runtime/RuntimeObjects.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/BinaryFormat/ELF.h"
#include "llvm/InterfaceStub/ELFObjHandler.h"
#include "llvm/InterfaceStub/IFSStub.h"
#include "llvm/Support/Errno.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include <cstring>
#ifdef __linux__
#include <fcntl.h>
#include <unistd.h>
#endif
#include <mutex>

LLD_HAS_DRIVER(elf)

using namespace llvm;
using namespace quench;

static constexpr StringRef libcSymbols[] = {
    "bcmp",           "calloc",         "close",        "dladdr",
    "free",           "fstat",          "madvise",      "malloc",
    "memcmp",         "memcpy",         "memmove",      "memset",
    "mmap",           "munmap",         "open",         "pread",
    "posix_memalign", "pthread_create", "pthread_join", "sched_getaffinity",
    "sched_yield",    "snprintf",       "strcmp",       "strlen",
    "strrchr",        "syscall",        "vsnprintf"};

static constexpr StringRef libmSymbols[] = {
    "acos",       "acosf",  "acosh", "acoshf", "asin",      "asinf",
    "asinh",      "asinhf", "atan",  "atan2",  "atan2f",    "atanf",
    "atanh",      "atanhf", "cbrt",  "cbrtf",  "ceil",      "ceilf",
    "cos",        "cosf",   "cosh",  "coshf",  "erf",       "erff",
    "exp",        "exp2",   "exp2f", "expf",   "expm1",     "expm1f",
    "floor",      "floorf", "fma",   "fmaf",   "fmod",      "fmodf",
    "ldexp",      "ldexpf", "log",   "log10",  "log10f",    "log1p",
    "log1pf",     "log2",   "log2f", "logf",   "nearbyint", "nearbyintf",
    "pow",        "powf",   "rint",  "rintf",  "round",     "roundeven",
    "roundevenf", "roundf", "sin",   "sincos", "sincosf",   "sinf",
    "sinh",       "sinhf",  "sqrt",  "sqrtf",  "tan",       "tanf",
    "tanh",       "tanhf",  "trunc", "truncf"};

ArrayRef<StringRef> quench::allowedSymbols() {
  static const std::vector<StringRef> all = [] {
    std::vector<StringRef> list(std::begin(libcSymbols), std::end(libcSymbols));
    list.insert(list.end(), std::begin(libmSymbols), std::end(libmSymbols));
    return list;
  }();
  return all;
}

Expected<uint16_t> quench::elfMachine(const CPUTarget &target) {
  if (target.isX86())
    return ELF::EM_X86_64;
  if (target.isAArch64())
    return ELF::EM_AARCH64;
  if (StringRef(target.triple).starts_with("riscv64"))
    return ELF::EM_RISCV;
  return createStringError("no shared objects are made for '" + target.triple +
                           "'");
}

namespace {
/// A folder for what the linker reads, gone at the end.
class WorkFolder {
public:
  static Expected<std::unique_ptr<WorkFolder>> create() {
    SmallString<128> path;
    if (std::error_code error =
            sys::fs::createUniqueDirectory("quench-link", path))
      return createStringError(error, "no temporary folder can be made");
    return std::unique_ptr<WorkFolder>(new WorkFolder(path));
  }
  ~WorkFolder() { sys::fs::remove_directories(path); }

  std::string file(const Twine &name) const {
    SmallString<128> result(path);
    sys::path::append(result, name);
    return result.str().str();
  }

  Expected<std::string> write(const Twine &name, StringRef content) const {
    std::string full = file(name);
    std::error_code error;
    raw_fd_ostream out(full, error);
    if (!error) {
      out << content;
      out.close();
      error = out.error();
      out.clear_error();
    }
    if (error)
      return createFileError(full, error);
    return full;
  }

private:
  explicit WorkFolder(StringRef path) : path(path.str()) {}
  std::string path;
};
} // namespace

/// Writes a shared library that defines names only. With it the linker knows
/// which symbols may stay undefined and where they come from, without the
/// machine having that library.
static Expected<std::string> writeStub(const WorkFolder &folder,
                                       StringRef soname,
                                       ArrayRef<StringRef> symbols,
                                       uint16_t machine) {
  ifs::IFSStub stub;
  stub.SoName = soname.str();
  stub.Target.Arch = machine;
  stub.Target.BitWidth = ifs::IFSBitWidthType::IFS64;
  stub.Target.Endianness = ifs::IFSEndiannessType::Little;
  for (StringRef name : symbols) {
    ifs::IFSSymbol symbol(name.str());
    symbol.Type = ifs::IFSSymbolType::Func;
    symbol.Size = 0;
    stub.Symbols.push_back(symbol);
  }
  llvm::sort(stub.Symbols);
  std::string path = folder.file(soname);
  if (Error error = ifs::writeBinaryStub(path, stub))
    return std::move(error);
  return path;
}

/// The linker's messages as one line, undefined symbols first.
static Error linkError(StringRef messages, StringRef outPath) {
  std::vector<std::string> undefined, others;
  SmallVector<StringRef> lines;
  messages.split(lines, '\n', -1, /*KeepEmpty=*/false);
  for (StringRef line : lines) {
    auto [before, name] = line.split("undefined symbol: ");
    if (!name.empty())
      undefined.push_back(("'" + name + "'").str());
    else if (line.contains("error:"))
      others.push_back(line.split("error: ").second.str());
  }
  std::string text = ("cannot link '" + outPath + "'").str();
  if (!undefined.empty())
    text += ": the code calls " + join(undefined, ", ") +
            ", which compiled models may not use: only a stated list of libc "
            "and libm symbols";
  for (const std::string &other : others)
    text += ": " + other;
  if (undefined.empty() && others.empty())
    text += ": " + messages.str();
  return createStringError(text);
}

static Error runLinker(ArrayRef<std::string> arguments, StringRef outPath) {
  // The linker keeps its state in globals.
  static std::mutex mutex;
  static bool broken = false;
  std::lock_guard<std::mutex> lock(mutex);
  if (broken)
    return createStringError("cannot link '" + outPath +
                             "': an earlier link crashed");
  std::vector<const char *> pointers;
  for (const std::string &argument : arguments)
    pointers.push_back(argument.c_str());
  std::string messages, output;
  raw_string_ostream errors(messages), standard(output);
  lld::Result result =
      lld::lldMain(pointers, standard, errors, {{lld::Gnu, &lld::elf::link}});
  broken = !result.canRunAgain;
  if (result.retCode)
    return linkError(messages, outPath);
  return Error::success();
}

/// Fails if the disk cannot hold a file of so many bytes. The linker maps its
/// output, and would be killed where the disk is full.
static Error checkSpace(StringRef path, uint64_t bytes) {
#ifdef __linux__
  int file;
  if (std::error_code error = sys::fs::openFileForWrite(
          path, file, sys::fs::CD_OpenExisting, sys::fs::OF_None))
    return createFileError(path, error);
  std::error_code error;
  // File systems that cannot tell are trusted.
  if (fallocate(file, 0, 0, bytes) && (errno == ENOSPC || errno == EFBIG))
    error = errnoAsErrorCode();
  if (!error)
    error = sys::fs::resize_file(file, 0);
  ::close(file);
  if (error)
    return createFileError(path, error);
#endif
  return Error::success();
}

/// Appends length and hash.
static Error sealFile(StringRef path) {
  quench_seal seal;
  memcpy(seal.magic, QUENCH_SEAL_MAGIC, sizeof(seal.magic));
  {
    auto buffer = MemoryBuffer::getFile(path, /*IsText=*/false,
                                        /*RequiresNullTerminator=*/false);
    if (!buffer)
      return createFileError(path, buffer.getError());
    seal.bytes = (*buffer)->getBufferSize();
    seal.hash = quench_hash((*buffer)->getBufferStart(), seal.bytes);
  }
  std::error_code error;
  raw_fd_ostream out(path, error, sys::fs::CD_OpenExisting, sys::fs::FA_Write,
                     sys::fs::OF_Append);
  if (!error) {
    out.write(reinterpret_cast<const char *>(&seal), sizeof(seal));
    out.close();
    error = out.error();
    out.clear_error();
  }
  return error ? createFileError(path, error) : Error::success();
}

Error quench::linkSharedObject(ArrayRef<MemoryBufferRef> objects,
                               ArrayRef<std::string> files, StringRef outPath,
                               const CPUTarget &target,
                               const LinkOptions &options) {
  auto machine = elfMachine(target);
  if (!machine)
    return machine.takeError();
  ArrayRef<StringRef> runtime = getRuntimeObjects(target.triple);
  if (runtime.empty() && !options.exportAll)
    return createStringError("cannot link '" + outPath +
                             "': this build of Quench has no runtime "
                             "for '" +
                             target.triple + "'; use --emit obj");
  auto folder = WorkFolder::create();
  if (!folder)
    return folder.takeError();

  // Next to the result, so that it can be renamed.
  SmallString<128> partial;
  if (std::error_code error =
          sys::fs::createUniqueFile(outPath + ".part-%%%%%%", partial))
    return createFileError(outPath, error);
  scope_exit cleanup([&] { sys::fs::remove(partial); });

  std::vector<std::string> arguments = {"ld.lld",
                                        "-shared",
                                        "-o",
                                        partial.str().str(),
                                        "--build-id=none",
                                        "--hash-style=gnu",
                                        "-Bsymbolic",
                                        "--gc-sections",
                                        "-z",
                                        "defs",
                                        "-z",
                                        "now",
                                        "-z",
                                        "relro",
                                        "-z",
                                        "noexecstack",
                                        "--color-diagnostics=never",
                                        "--error-limit=0"};
  if (!options.keepSymbols)
    arguments.push_back("--strip-all");
  if (!options.soname.empty())
    arguments.push_back("--soname=" + options.soname);
  Error failure = Error::success();
  auto add = [&](Expected<std::string> path, StringRef prefix = "") {
    if (path)
      arguments.push_back((prefix + *path).str());
    else
      failure = joinErrors(std::move(failure), path.takeError());
  };
  add((*folder)->write("exports", options.exportAll
                                      ? "{ global: *; local: quench_*; };\n"
                                      : "{ global: quench_*; local: *; };\n"),
      "--version-script=");
  for (auto [index, object] : llvm::enumerate(objects))
    add((*folder)->write("module" + Twine(index) + ".o", object.getBuffer()));
  for (const std::string &file : files)
    arguments.push_back(file);
  for (auto [index, object] : llvm::enumerate(runtime))
    add((*folder)->write("runtime" + Twine(index) + ".o", object));
  arguments.push_back("--as-needed");
  add(writeStub(**folder, "libc.so.6", libcSymbols, *machine));
  add(writeStub(**folder, "libm.so.6", libmSymbols, *machine));
  if (failure)
    return failure;

  // Everything that goes in, and room for headers.
  uint64_t bytes = 1 << 16;
  for (MemoryBufferRef object : objects)
    bytes += object.getBufferSize();
  for (StringRef object : runtime)
    bytes += object.size();
  for (const std::string &file : files) {
    uint64_t size;
    if (std::error_code error = sys::fs::file_size(file, size))
      return createFileError(file, error);
    bytes += size;
  }
  if (Error error = checkSpace(partial, bytes))
    return error;
  if (Error error = runLinker(arguments, outPath))
    return error;
  if (Error error = sealFile(partial))
    return error;
  if (std::error_code error = sys::fs::rename(partial, outPath))
    return createFileError(outPath, error);
  cleanup.release();
  return Error::success();
}
