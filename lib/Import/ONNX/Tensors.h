//===- Tensors.h - The contents of ONNX tensors --------------- -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_IMPORT_ONNX_TENSORS_H
#define QUENCH_LIB_IMPORT_ONNX_TENSORS_H

#include "Wire.h"
#include "onnx/onnx_pb.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

namespace quench {

/// The bits of one element of an ONNX element type; 0 for strings, complex
/// numbers and what is not known.
unsigned elementBits(int32_t elementType);

/// The name of an element type for messages.
std::string elementTypeName(int32_t elementType);

/// Where the numbers of a tensor are, checked against its type.
struct TensorData {
  enum Kind {
    Inline,  // `contents` holds them
    InModel, // at `offset` of the model file
    InFile   // at `offset` of `file`, in the model's folder
  };
  Kind kind = Inline;
  int32_t elementType = 0;
  llvm::SmallVector<int64_t> dims;
  uint64_t elements = 0;
  uint64_t bytes = 0; // little endian, dense, row major, sub-byte types packed
  std::string contents, file;
  uint64_t offset = 0;
};

/// Finds a tensor's numbers. Errors name the tensor: dimensions that are
/// negative or too many or whose product overflows, element types without a
/// fixed size, contents of a wrong length, bad external data entries.
llvm::Expected<TensorData> describeTensor(const ::onnx::TensorProto &tensor,
                                          llvm::ArrayRef<Blob> blobs);

/// Whether the skimmer left the contents of a tensor out.
bool isBlob(const ::onnx::TensorProto &tensor);

/// An error about a model's contents.
llvm::Error modelError(const llvm::Twine &message);

} // namespace quench

#endif // QUENCH_LIB_IMPORT_ONNX_TENSORS_H
