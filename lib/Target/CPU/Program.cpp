//===- Program.cpp - The description of a compiled model ------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Target/CPU/Program.h"
#include "quench/Runtime/Program.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/Module.h"

using namespace llvm;
using namespace quench;

namespace {
/// Builds the constants. Structs are made of fields of natural alignment, so
/// that LLVM's layout is C's on every 64-bit target.
class ProgramEmitter {
public:
  ProgramEmitter(Module &module, const ProgramDescription &program)
      : module(module), program(program), context(module.getContext()),
        pointer(PointerType::get(context, 0)) {}

  Error run();

private:
  Constant *i32(int64_t value) {
    return ConstantInt::get(Type::getInt32Ty(context), value, true);
  }
  Constant *i64(int64_t value) {
    return ConstantInt::get(Type::getInt64Ty(context), value, true);
  }
  Constant *null() { return ConstantPointerNull::get(pointer); }
  Constant *structure(ArrayRef<Constant *> fields) {
    return ConstantStruct::getAnon(context, fields);
  }
  Constant *global(Constant *value, const Twine &name);
  Constant *array(ArrayRef<Constant *> values, const Twine &name);
  Constant *text(StringRef value);
  Constant *function(StringRef name, unsigned arguments);
  Constant *dim(const ProgramDim &dim, int64_t symbols);
  Constant *tensors(ArrayRef<ProgramTensor> list, int64_t symbols);
  Constant *describe(const ProgramFunction &function, int64_t symbols);
  Constant *step(const std::optional<ProgramFunction> &function);
  void fail(const Twine &message) {
    if (error.empty())
      error = message.str();
  }

  Module &module;
  const ProgramDescription &program;
  LLVMContext &context;
  PointerType *pointer;
  std::string error;
};
} // namespace

Constant *ProgramEmitter::global(Constant *value, const Twine &name) {
  return new GlobalVariable(module, value->getType(), /*isConstant=*/true,
                            GlobalValue::PrivateLinkage, value, name);
}

Constant *ProgramEmitter::array(ArrayRef<Constant *> values,
                                const Twine &name) {
  if (values.empty())
    return null();
  auto *type = ArrayType::get(values.front()->getType(), values.size());
  return global(ConstantArray::get(type, values), name);
}

Constant *ProgramEmitter::text(StringRef value) {
  return global(ConstantDataArray::getString(context, value), "quench.text");
}

Constant *ProgramEmitter::function(StringRef name, unsigned arguments) {
  if (name.empty())
    return null();
  Function *found = module.getFunction(name);
  if (!found || found->isDeclaration() || found->arg_size() != arguments) {
    fail("the program names '" + name +
         "', but the module has no such function of " + Twine(arguments) +
         " arguments");
    return null();
  }
  return found;
}

Constant *ProgramEmitter::dim(const ProgramDim &dim, int64_t symbols) {
  SmallVector<Constant *> terms;
  for (auto [symbol, factor] : dim.terms) {
    if (symbol < 0 || symbol >= symbols)
      fail("a dimension uses the symbol " + Twine(symbol) + " of " +
           Twine(symbols));
    terms.push_back(structure({i64(symbol), i64(factor)}));
  }
  return structure(
      {i64(dim.constant), i64(terms.size()), array(terms, "quench.terms")});
}

Constant *ProgramEmitter::tensors(ArrayRef<ProgramTensor> list,
                                  int64_t symbols) {
  SmallVector<Constant *> values;
  for (const ProgramTensor &tensor : list) {
    SmallVector<Constant *> dims;
    for (const ProgramDim &value : tensor.dims)
      dims.push_back(dim(value, symbols));
    values.push_back(structure({text(tensor.name), i32(tensor.type),
                                i32(dims.size()), array(dims, "quench.dims")}));
  }
  return array(values, "quench.tensors");
}

Constant *ProgramEmitter::describe(const ProgramFunction &f, int64_t symbols) {
  return structure({text(f.name), function(f.entry, 3),
                    function(f.arenaBytes, 1), i32(f.inputs.size()),
                    i32(f.outputs.size()), tensors(f.inputs, symbols),
                    tensors(f.outputs, symbols)});
}

Constant *ProgramEmitter::step(const std::optional<ProgramFunction> &f) {
  if (!f)
    return null();
  if (f->entry.empty())
    fail("the program's function '" + f->name + "' has no entry");
  return global(describe(*f, QUENCH_RT_STEP_SYMBOLS), "quench.step");
}

Error ProgramEmitter::run() {
  if ((program.decode || program.prefill) &&
      (program.stateBytes.empty() || program.vocabulary <= 0))
    fail("a program with a state needs its size and its vocabulary");
  SmallVector<Constant *> names;
  for (const std::string &name : program.symbols)
    names.push_back(text(name));

  Constant *weights = null();
  if (program.weightsFile.empty() && program.weightsBytes) {
    auto *type = ArrayType::get(Type::getInt8Ty(context), 0);
    auto *found =
        cast<GlobalVariable>(module.getOrInsertGlobal("quench_weights", type));
    found->setVisibility(GlobalValue::HiddenVisibility);
    found->setConstant(true);
    weights = found;
  }
  int64_t symbols = program.symbols.size();
  Constant *value = structure(
      {i32(QUENCH_RT_ABI_VERSION), i32(sizeof(quench_rt_program)), i64(symbols),
       array(names, "quench.symbols"), describe(program.main, symbols),
       step(program.decode), step(program.prefill),
       function(program.stateBytes, 1), i64(program.stateSlabs),
       i64(program.stateRowBytes), i64(program.maxPositions),
       i64(program.vocabulary), i64(program.prefillChunk), weights,
       i64(program.weightsBytes),
       program.weightsFile.empty() ? null() : text(program.weightsFile),
       i64(static_cast<int64_t>(program.weightsHash)),
       text(program.cpuFeatures), text(program.metadataJSON)});
  if (!error.empty())
    return createStringError(error);

  for (GlobalObject &object : module.global_objects())
    if (!object.isDeclaration() && !object.hasLocalLinkage())
      object.setVisibility(GlobalValue::HiddenVisibility);
  auto *global =
      new GlobalVariable(module, value->getType(), /*isConstant=*/true,
                         GlobalValue::ExternalLinkage, value, "quench_program");
  global->setVisibility(GlobalValue::HiddenVisibility);
  global->setAlignment(Align(16));
  return Error::success();
}

Error quench::emitProgram(Module &module, const ProgramDescription &program) {
  return ProgramEmitter(module, program).run();
}
