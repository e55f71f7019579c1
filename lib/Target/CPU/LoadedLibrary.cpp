//===- LoadedLibrary.cpp - Compiled code called from this process ---------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Target/CPU/LoadedLibrary.h"
#include "quench/Target/CPU/Link.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include <dlfcn.h>

using namespace llvm;
using namespace quench;

LoadedLibrary::~LoadedLibrary() { dlclose(handle); }

Expected<void *> LoadedLibrary::lookup(StringRef name) const {
  if (void *address = dlsym(handle, name.str().c_str()))
    return address;
  return createStringError("the compiled code has no function '" + name + "'");
}

Expected<std::unique_ptr<LoadedLibrary>>
quench::loadModule(Module &module, const CPUTarget &target,
                   const CodegenOptions &options) {
  Expected<CPUTarget> here = resolveCPU("native");
  if (!here)
    return here.takeError();
  for (const std::string &feature : target.required)
    if (!is_contained(here->required, feature))
      return createStringError("code for '" + target.name + "' needs '" +
                               feature + "', which this machine does not have");
  if (here->triple != target.triple)
    return createStringError("code for '" + target.triple +
                             "' does not run here");
  SmallString<0> object;
  raw_svector_ostream out(object);
  if (Error error = optimizeAndEmit(module, target, out, options))
    return std::move(error);
  SmallString<128> path;
  if (std::error_code error =
          sys::fs::createTemporaryFile("quench", "so", path))
    return createStringError(error, "no temporary file can be made");
  scope_exit cleanup([&] { sys::fs::remove(path); });
  LinkOptions link;
  link.exportAll = true;
  link.keepSymbols = true;
  if (Error error = linkSharedObject(MemoryBufferRef(object, "module"), {},
                                     path, target, link))
    return std::move(error);
  if (void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL))
    return std::make_unique<LoadedLibrary>(handle);
  return createStringError(Twine("the compiled code cannot be loaded: ") +
                           dlerror());
}
