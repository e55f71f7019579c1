//===- Wire.h - Skims ONNX's protobuf bytes ------------------- -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An .onnx file can hold gigabytes of weights in line. ONNX's library would
// copy them; so the bytes are walked over first, and each big payload of a
// tensor is left out of what the library gets. In its place stands an unknown
// field (kBlobField) with the number of a blob: a range of the file.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_IMPORT_ONNX_WIRE_H
#define QUENCH_LIB_IMPORT_ONNX_WIRE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <string>
#include <vector>

namespace quench {

/// A range of the model file that is the contents of a tensor: little-endian,
/// dense, row major.
struct Blob {
  uint64_t offset;
  uint64_t bytes;
  unsigned field; // of TensorProto: 4 float_data, 9 raw_data, 10 double_data
};

/// A model without its big payloads.
struct SkimmedModel {
  std::string proto; // a ModelProto
  std::vector<Blob> blobs;
};

/// The field of a TensorProto in SkimmedModel::proto that holds the number of
/// its blob. Fields that TensorProto does not define are dropped from the
/// input, so that no file can hold it.
inline constexpr unsigned kBlobField = 19700;

/// Payloads of more bytes than this become blobs.
inline constexpr uint64_t kBlobThreshold = 1024;

/// Skims a ModelProto. raw_data, float_data and double_data over the threshold
/// become blobs; documentation and training information are dropped. Errors:
/// bytes that are not a well-formed message, nesting over 64 messages deep,
/// more than 1 GiB left after skimming.
llvm::Expected<SkimmedModel> skimModel(llvm::ArrayRef<char> file,
                                       uint64_t threshold = kBlobThreshold);

} // namespace quench

#endif // QUENCH_LIB_IMPORT_ONNX_WIRE_H
