//===- OutputMoments.cpp - Second moments of outputs' gradients -----------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OutputMoments.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;

OutputMoments::OutputMoments(ArrayRef<Value> weights) {
  for (Value weight : weights) {
    int64_t n = cast<qn::QTensorType>(weight.getType()).getShape()[0];
    if (n > kMostOutputs || !places.try_emplace(weight, size).second)
      continue;
    size += n * n * sizeof(float);
  }
}

bool OutputMoments::open(StringRef from) {
  if (size == 0)
    return true;
  auto buffer = llvm::MemoryBuffer::getFile(from, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer || (*buffer)->getBufferSize() != size)
    return false;
  read = std::move(*buffer);
  return true;
}

Error OutputMoments::create(StringRef to) {
  if (size == 0)
    return Error::success();
  path = to;
  StringRef folder = llvm::sys::path::parent_path(path);
  if (std::error_code code = llvm::sys::fs::create_directories(folder))
    return createStringError("cannot make the folder '" + folder +
                             "': " + code.message());
  // The file is sparse at first: a full disk would show when it is written.
  if (auto space = llvm::sys::fs::disk_space(folder);
      space && space->available < size)
    return createStringError(
        "the second moments of outputs take " + Twine(size >> 20) +
        " MB (4 bytes for each pair of a layer's outputs), and '" + folder +
        "' has " + Twine(space->available >> 20) +
        " MB left; --cache names another folder, and quantizers without "
        "'two-sided' need none of it");
  auto buffer = llvm::FileOutputBuffer::create(path, size);
  if (!buffer)
    return createStringError(
        "cannot make '" + path + "' for second moments " +
        "of outputs: " + llvm::toString(buffer.takeError()));
  written = std::move(*buffer);
  return Error::success();
}

Error OutputMoments::finish() {
  if (size == 0)
    return Error::success();
  if (Error error = written->commit())
    return error;
  written.reset();
  if (!open(path))
    return createStringError("cannot read '" + path +
                             "', which was just written");
  return Error::success();
}

const float *OutputMoments::of(Value weight) const {
  auto found = places.find(weight);
  if (found == places.end() || !read)
    return nullptr;
  return reinterpret_cast<const float *>(read->getBufferStart() +
                                         found->second);
}

float *OutputMoments::toWrite(Value weight) {
  auto found = places.find(weight);
  if (found == places.end() || !written)
    return nullptr;
  return reinterpret_cast<float *>(written->getBufferStart() + found->second);
}
