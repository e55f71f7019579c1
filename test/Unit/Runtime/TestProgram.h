//===- TestProgram.h - A small program in LLVM IR ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Stands for generated code, with results that are easily computed otherwise:
//
//   main(a[batch, width], b[batch, width], index[1]):
//     sum[batch, width] = a + b + w, w the first weight (0.5)
//     rows[2 * batch + 1]: twice each row's sum of `sum`, then 7; by two
//     phases, the first of which leaves the row sums in scratch. index must be
//     below batch, or it is an error.
//   step: the state is the tokens; the logit of v at position p is (v + 1) *
//   sum of tokens 0..p.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TEST_UNIT_RUNTIME_TESTPROGRAM_H
#define QUENCH_TEST_UNIT_RUNTIME_TESTPROGRAM_H

#include "quench/Target/CPU/Emit.h"
#include "quench/Target/CPU/Link.h"
#include "quench/Target/CPU/Program.h"
#include "quench/Target/CPU/WeightsObject.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/AsmParser/Parser.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SourceMgr.h"
#include "gtest/gtest.h"
#include <cstring>
#include <functional>
#include <numeric>

namespace quench::test {

inline constexpr char programIR[] = R"(
; frame: 0 weights, 1 arena, 2 state, 3 symbols, 4 inputs, 5 outputs, 6 barrier, 7 error
declare void @quench_rt_barrier(ptr, i64, i64)

define ptr @load(ptr %base, i64 %i) alwaysinline {
  %p = getelementptr ptr, ptr %base, i64 %i
  %v = load ptr, ptr %p
  ret ptr %v
}
define i64 @symbol(ptr %frame, i64 %i) alwaysinline {
  %s = call ptr @load(ptr %frame, i64 3)
  %p = getelementptr i64, ptr %s, i64 %i
  %v = load i64, ptr %p
  ret i64 %v
}

define void @main_entry(ptr %frame, i64 %worker, i64 %workers) {
entry:
  %batch = call i64 @symbol(ptr %frame, i64 0)
  %width = call i64 @symbol(ptr %frame, i64 1)
  %n = mul i64 %batch, %width
  %weights = call ptr @load(ptr %frame, i64 0)
  %arena = call ptr @load(ptr %frame, i64 1)
  %inputs = call ptr @load(ptr %frame, i64 4)
  %outputs = call ptr @load(ptr %frame, i64 5)
  %error = call ptr @load(ptr %frame, i64 7)
  %a = call ptr @load(ptr %inputs, i64 0)
  %b = call ptr @load(ptr %inputs, i64 1)
  %x = call ptr @load(ptr %inputs, i64 2)
  %sum = call ptr @load(ptr %outputs, i64 0)
  %rows = call ptr @load(ptr %outputs, i64 1)
  %w = load float, ptr %weights
  %index = load i64, ptr %x
  %bad = icmp uge i64 %index, %batch
  br i1 %bad, label %wrong, label %add
wrong:
  store i32 1, ptr %error
  br label %add
add:
  %i = phi i64 [ %worker, %entry ], [ %worker, %wrong ], [ %i.next, %add.body ]
  %i.more = icmp slt i64 %i, %n
  br i1 %i.more, label %add.body, label %added
add.body:
  %ap = getelementptr float, ptr %a, i64 %i
  %bp = getelementptr float, ptr %b, i64 %i
  %sp = getelementptr float, ptr %sum, i64 %i
  %av = load float, ptr %ap
  %bv = load float, ptr %bp
  %ab = fadd float %av, %bv
  %abw = fadd float %ab, %w
  store float %abw, ptr %sp
  %i.next = add i64 %i, %workers
  br label %add
added:
  call void @quench_rt_barrier(ptr %frame, i64 %worker, i64 %workers)
  br label %row
row:
  %r = phi i64 [ %worker, %added ], [ %r.next, %row.end ]
  %r.more = icmp slt i64 %r, %batch
  br i1 %r.more, label %col, label %summed
col:
  %k = phi i64 [ 0, %row ], [ %k.next, %col.body ]
  %acc = phi float [ 0.0, %row ], [ %acc.next, %col.body ]
  %k.more = icmp slt i64 %k, %width
  br i1 %k.more, label %col.body, label %row.end
col.body:
  %base = mul i64 %r, %width
  %at = add i64 %base, %k
  %vp = getelementptr float, ptr %sum, i64 %at
  %v = load float, ptr %vp
  %acc.next = fadd float %acc, %v
  %k.next = add i64 %k, 1
  br label %col
row.end:
  %tp = getelementptr float, ptr %arena, i64 %r
  store float %acc, ptr %tp
  %r.next = add i64 %r, %workers
  br label %row
summed:
  call void @quench_rt_barrier(ptr %frame, i64 %worker, i64 %workers)
  %n2 = mul i64 %batch, 2
  br label %out
out:
  %o = phi i64 [ %worker, %summed ], [ %o.next, %out.store ]
  %o.more = icmp sle i64 %o, %n2
  br i1 %o.more, label %out.body, label %done
out.body:
  %op = getelementptr float, ptr %rows, i64 %o
  %last = icmp eq i64 %o, %n2
  br i1 %last, label %out.last, label %out.row
out.row:
  %half = lshr i64 %o, 1
  %hp = getelementptr float, ptr %arena, i64 %half
  %hv = load float, ptr %hp
  br label %out.store
out.last:
  br label %out.store
out.store:
  %ov = phi float [ 7.0, %out.last ], [ %hv, %out.row ]
  store float %ov, ptr %op
  %o.next = add i64 %o, %workers
  br label %out
done:
  ret void
}

define i64 @main_arena(ptr %symbols) {
  %batch = load i64, ptr %symbols
  %bytes = mul i64 %batch, 4
  ret i64 %bytes
}

define i64 @state_bytes(ptr %symbols) {
  %p = getelementptr i64, ptr %symbols, i64 2
  %capacity = load i64, ptr %p
  %bytes = mul i64 %capacity, 8
  ret i64 %bytes
}

define void @step_entry(ptr %frame, i64 %worker, i64 %workers) {
entry:
  %sequence = call i64 @symbol(ptr %frame, i64 0)
  %past = call i64 @symbol(ptr %frame, i64 1)
  %keep = call i64 @symbol(ptr %frame, i64 3)
  %state = call ptr @load(ptr %frame, i64 2)
  %inputs = call ptr @load(ptr %frame, i64 4)
  %outputs = call ptr @load(ptr %frame, i64 5)
  %tokens = call ptr @load(ptr %inputs, i64 0)
  %logits = call ptr @load(ptr %outputs, i64 0)
  br label %store
store:
  %i = phi i64 [ %worker, %entry ], [ %i.next, %store.body ]
  %i.more = icmp slt i64 %i, %sequence
  br i1 %i.more, label %store.body, label %stored
store.body:
  %tp = getelementptr i64, ptr %tokens, i64 %i
  %t = load i64, ptr %tp
  %at = add i64 %past, %i
  %sp = getelementptr i64, ptr %state, i64 %at
  store i64 %t, ptr %sp
  %i.next = add i64 %i, %workers
  br label %store
stored:
  call void @quench_rt_barrier(ptr %frame, i64 %worker, i64 %workers)
  %length = add i64 %past, %sequence
  %first = sub i64 %length, %keep
  %cells = mul i64 %keep, 10
  br label %cell
cell:
  %c = phi i64 [ %worker, %stored ], [ %c.next, %cell.end ]
  %c.more = icmp slt i64 %c, %cells
  br i1 %c.more, label %cell.body, label %done
cell.body:
  %kept = udiv i64 %c, 10
  %v = urem i64 %c, 10
  %p = add i64 %first, %kept
  br label %sum
sum:
  %j = phi i64 [ 0, %cell.body ], [ %j.next, %sum.body ]
  %acc = phi i64 [ 0, %cell.body ], [ %acc.next, %sum.body ]
  %j.more = icmp sle i64 %j, %p
  br i1 %j.more, label %sum.body, label %cell.end
sum.body:
  %jp = getelementptr i64, ptr %state, i64 %j
  %jv = load i64, ptr %jp
  %acc.next = add i64 %acc, %jv
  %j.next = add i64 %j, 1
  br label %sum
cell.end:
  %v1 = add i64 %v, 1
  %product = mul i64 %acc, %v1
  %f = sitofp i64 %product to float
  %lp = getelementptr float, ptr %logits, i64 %c
  store float %f, ptr %lp
  %c.next = add i64 %c, %workers
  br label %cell
done:
  ret void
}
)";

inline constexpr int64_t vocabulary = 10, maxPositions = 64, prefillChunk = 4;

/// A folder that is removed at the end.
struct TemporaryFolder {
  llvm::SmallString<128> path;
  TemporaryFolder() {
    llvm::sys::fs::createUniqueDirectory("quench-test", path);
  }
  ~TemporaryFolder() { llvm::sys::fs::remove_directories(path); }
  std::string file(llvm::StringRef name) const {
    llvm::SmallString<128> full(path);
    llvm::sys::path::append(full, name);
    return full.str().str();
  }
};

inline ProgramDescription describeProgram() {
  ProgramDescription program;
  program.symbols = {"batch", "width"};
  ProgramDim batch = ProgramDim::symbol(0), width = ProgramDim::symbol(1);
  ProgramDim rows{1, {{0, 2}}};
  program.main = {"main",
                  "main_entry",
                  "main_arena",
                  {{"a", 1, {batch, width}},
                   {"b", 1, {batch, width}},
                   {"index", 7, {{1, {}}}}},
                  {{"sum", 1, {batch, width}}, {"rows", 1, {rows}}}};
  program.decode = ProgramFunction{"decode", "step_entry", "", {}, {}};
  program.prefill = ProgramFunction{"prefill", "step_entry", "", {}, {}};
  program.stateBytes = "state_bytes";
  program.stateSlabs = 1;
  program.stateRowBytes = 8;
  program.maxPositions = maxPositions;
  program.vocabulary = vocabulary;
  program.prefillChunk = prefillChunk;
  program.metadataJSON = R"({"name":"test"})";
  return program;
}

inline std::unique_ptr<llvm::Module> parseIR(llvm::StringRef text,
                                             llvm::LLVMContext &context) {
  llvm::SMDiagnostic diagnostic;
  auto module = llvm::parseAssemblyString(text, diagnostic, context);
  EXPECT_TRUE(module) << diagnostic.getMessage().str() << " line "
                      << diagnostic.getLineNo();
  return module;
}

/// Weights: 0.5, then 999 bytes, then the program. `change` may alter the
/// description.
inline llvm::Error
buildProgram(const std::string &out, const CPUTarget &target,
             uint64_t limit = 1 << 20,
             const std::function<void(ProgramDescription &)> &change = nullptr,
             llvm::StringRef ir = programIR) {
  std::string weightsPath = out + ".weights";
  auto weights = WeightsObject::create(weightsPath, target, limit);
  if (!weights)
    return weights.takeError();
  float half = 0.5f;
  std::vector<uint8_t> bytes(sizeof(half));
  memcpy(bytes.data(), &half, sizeof(half));
  auto first = (*weights)->append(bytes);
  if (!first)
    return first.takeError();
  EXPECT_EQ(*first, 0u);
  bytes.resize(999);
  std::iota(bytes.begin(), bytes.end(), 1);
  auto second = (*weights)->append(bytes);
  if (!second)
    return second.takeError();
  EXPECT_EQ(*second, 64u);
  auto result = (*weights)->finish();
  if (!result)
    return result.takeError();

  llvm::LLVMContext context;
  auto module = parseIR(ir, context);
  if (!module)
    return llvm::createStringError("no module");
  ProgramDescription program = describeProgram();
  program.weightsBytes = result->bytes;
  program.weightsHash = result->hash;
  program.cpuFeatures = target.requiredList();
  if (result->beside)
    program.weightsFile = llvm::sys::path::filename(weightsPath).str();
  if (change)
    change(program);
  if (llvm::Error error = emitProgram(*module, program))
    return error;
  llvm::SmallString<0> object;
  llvm::raw_svector_ostream stream(object);
  if (llvm::Error error = optimizeAndEmit(*module, target, stream))
    return error;
  std::vector<std::string> files;
  if (!result->beside)
    files.push_back(weightsPath);
  LinkOptions options;
  options.soname = "model.so";
  llvm::Error error = linkSharedObject(llvm::MemoryBufferRef(object, "model"),
                                       files, out, target, options);
  if (!result->beside)
    llvm::sys::fs::remove(weightsPath);
  return error;
}

} // namespace quench::test

#endif // QUENCH_TEST_UNIT_RUNTIME_TESTPROGRAM_H
