//===- WeightsObject.h - Weights as an object file, streamed ----*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Packed weights go to a temporary object file as they are made, one after the
// other, and never lie in memory together. Up to a limit the linker puts them
// into the shared object; above it the same file becomes the file of weights
// beside it.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TARGET_CPU_WEIGHTSOBJECT_H
#define QUENCH_TARGET_CPU_WEIGHTSOBJECT_H

#include "quench/Runtime/Hash.h"
#include "quench/TargetModel/CPUTarget.h"
#include "llvm/Support/raw_ostream.h"
#include <memory>

namespace quench {

struct WeightsResult {
  /// All bytes, with the padding at the end.
  uint64_t bytes = 0;
  uint64_t hash = 0;
  /// True: the file is no object, but must be kept beside the shared object.
  bool beside = false;
};

class WeightsObject {
public:
  static constexpr uint64_t alignment = 64;
  static constexpr uint64_t defaultLimit = 1ull << 30;

  /// Starts a file at `path`, which is removed again if it is not finished.
  static llvm::Expected<std::unique_ptr<WeightsObject>>
  create(llvm::StringRef path, const CPUTarget &target,
         uint64_t limit = defaultLimit);
  ~WeightsObject();

  /// Adds bytes at the next multiple of `align` (a power of two up to 4096);
  /// returns their offset from the beginning of the weights. Fails if the file
  /// cannot be written.
  llvm::Expected<uint64_t> append(llvm::ArrayRef<uint8_t> bytes,
                                  uint64_t align = alignment);

  /// Bytes so far.
  uint64_t size() const { return position; }

  /// Ends the file: 64 zero bytes, so that code may read past the last weight,
  /// then the tables of an object that defines `quench_weights`, or the header
  /// of a file of weights.
  llvm::Expected<WeightsResult> finish();

private:
  WeightsObject(llvm::StringRef path, int file, uint16_t machine,
                uint64_t limit);
  llvm::Error check();
  void pad(uint64_t count);
  void writeTables(uint64_t bytes);

  std::string path;
  std::unique_ptr<llvm::raw_fd_ostream> out;
  uint16_t machine;
  uint64_t limit;
  uint64_t position = 0;
  quench_hash_state hash;
  bool finished = false;
};

} // namespace quench

#endif // QUENCH_TARGET_CPU_WEIGHTSOBJECT_H
