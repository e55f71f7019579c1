//===- Reader.h - Reads and checks ONNX models ---------------- -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_IMPORT_ONNX_READER_H
#define QUENCH_LIB_IMPORT_ONNX_READER_H

#include "Tensors.h"
#include "Wire.h"
#include "onnx/onnx_pb.h"
#include "quench/Support/ModelFiles.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"
#include <memory>

namespace quench {

/// A model that has passed all checks: one graph in topological order, all
/// names defined once, every node known to its schema, types inferred.
struct LoadedModel {
  ::onnx::ModelProto proto;
  std::vector<Blob> blobs;
  /// The version of each imported operator set; the default domain is "".
  llvm::StringMap<int64_t> opsets;
};

/// Reads a model from its bytes; `files` gives external data. Errors say what
/// is wrong without the file's name; all unsupported nodes are named in one.
/// Contents of tensors over `threshold` bytes are referred to, not copied.
llvm::Expected<std::unique_ptr<LoadedModel>>
readModel(llvm::ArrayRef<char> bytes, ModelFiles &files,
          uint64_t threshold = kBlobThreshold);

/// The bytes of a model written in ONNX's text syntax.
llvm::Expected<std::string> parseModelText(llvm::StringRef text);

/// How a node is called in messages: its name, or its first output's.
std::string nodeTitle(const ::onnx::NodeProto &node);

// The steps of readModel, in this order; Check.cpp.

/// Checks versions, and that the graph is one that can be read.
llvm::Error checkHeader(LoadedModel &model);
/// Checks names, puts nodes in topological order, takes inputs that are
/// initializers off the list of inputs.
llvm::Error checkNames(LoadedModel &model);
/// Checks the types of inputs and outputs; gives unnamed dimensions of inputs
/// fresh names.
llvm::Error checkSignature(LoadedModel &model);
/// Checks all tensors; reads small ones of external data into the model, where
/// inference and patterns can see them.
llvm::Error loadSmallTensors(LoadedModel &model, ModelFiles &files);
/// Compares all nodes with their schemas; collects what is not supported.
llvm::Error checkNodes(LoadedModel &model);
/// Infers types and shapes (Inference.cpp). What the file says about values
/// between nodes is used where it fits and dropped where it does not.
llvm::Error inferShapes(LoadedModel &model);
/// After inference: every value has an element type.
llvm::Error checkTypes(LoadedModel &model);

} // namespace quench

#endif // QUENCH_LIB_IMPORT_ONNX_READER_H
