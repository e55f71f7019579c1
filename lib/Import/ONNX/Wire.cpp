//===- Wire.cpp - Skims ONNX's protobuf bytes -----------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The wire format: https://protobuf.dev/programming-guides/encoding. The field
// numbers are those of onnx.proto.
//
//===----------------------------------------------------------------------===//

#include "Wire.h"
#include "llvm/ADT/StringRef.h"
#include <system_error>

using namespace quench;
using llvm::ArrayRef;
using llvm::Error;
using llvm::Expected;

namespace {

enum WireType { Varint = 0, Fixed64 = 1, Length = 2, Fixed32 = 5 };

/// The messages of onnx.proto on the way to a tensor.
enum class Message {
  Model,
  Graph,
  Node,
  Attribute,
  Function,
  SparseTensor,
  Tensor,
  Other
};

/// What is to be done with a field.
enum class Action { Copy, Drop, Descend, Payload };

struct Rule {
  Action action = Action::Copy;
  Message child = Message::Other;
};

constexpr Rule kDrop = {Action::Drop};
constexpr unsigned kMaxDepth = 64;
constexpr size_t kMaxReduced = size_t(1) << 30;

Rule down(Message child) { return {Action::Descend, child}; }

Rule ruleFor(Message message, uint64_t field) {
  switch (message) {
  case Message::Model:
    if (field == 6 || field == 20) // doc_string, training_info
      return kDrop;
    if (field == 7)
      return down(Message::Graph);
    if (field == 25)
      return down(Message::Function);
    break;
  case Message::Graph:
    if (field == 10)
      return kDrop;
    if (field == 1)
      return down(Message::Node);
    if (field == 5)
      return down(Message::Tensor);
    if (field == 15)
      return down(Message::SparseTensor);
    break;
  case Message::Node:
    if (field == 6)
      return kDrop;
    if (field == 5)
      return down(Message::Attribute);
    break;
  case Message::Attribute:
    if (field == 13)
      return kDrop;
    if (field == 5 || field == 10)
      return down(Message::Tensor);
    if (field == 6 || field == 11)
      return down(Message::Graph);
    if (field == 22 || field == 23)
      return down(Message::SparseTensor);
    break;
  case Message::Function:
    if (field == 8)
      return kDrop;
    if (field == 7)
      return down(Message::Node);
    if (field == 11)
      return down(Message::Attribute);
    break;
  case Message::SparseTensor:
    if (field == 1 || field == 2)
      return down(Message::Tensor);
    break;
  case Message::Tensor:
    if (field == 12 || field > 16 || field == 15)
      return kDrop; // doc_string and what is not defined
    if (field == 4 || field == 9 || field == 10)
      return {Action::Payload};
    break;
  case Message::Other:
    break;
  }
  return {};
}

/// Walks over one file.
class Skimmer {
public:
  Skimmer(ArrayRef<char> file, uint64_t threshold)
      : file(file), threshold(threshold) {}

  Error message(Message kind, uint64_t begin, uint64_t end, unsigned depth,
                std::string &out);

  std::vector<Blob> blobs;

private:
  Error fail(uint64_t at, const llvm::Twine &what) {
    return llvm::createStringError(
        std::make_error_code(std::errc::illegal_byte_sequence),
        "byte " + llvm::Twine(at) + ": " + what);
  }
  /// Reads a varint at `at`, below `end`.
  Expected<uint64_t> varint(uint64_t &at, uint64_t end);
  /// Copies file[begin, end) to `out`.
  void copy(uint64_t begin, uint64_t end, std::string &out) {
    out.append(file.data() + begin, end - begin);
  }

  ArrayRef<char> file;
  uint64_t threshold;
};

void putVarint(std::string &out, uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

Expected<uint64_t> Skimmer::varint(uint64_t &at, uint64_t end) {
  uint64_t value = 0;
  uint64_t start = at;
  for (unsigned shift = 0; shift < 70; shift += 7) {
    if (at >= end)
      return fail(start,
                  "the file ends, or a message ends, inside of a number");
    uint8_t byte = static_cast<uint8_t>(file[at++]);
    if (shift < 63)
      value |= uint64_t(byte & 0x7f) << shift;
    else
      value |= uint64_t(byte & 1) << shift;
    if (!(byte & 0x80))
      return value;
  }
  return fail(start, "a number has more than 10 bytes");
}

Error Skimmer::message(Message kind, uint64_t begin, uint64_t end,
                       unsigned depth, std::string &out) {
  if (depth > kMaxDepth)
    return fail(begin, "messages are nested more than " +
                           llvm::Twine(kMaxDepth) + " deep");
  bool hasPayload = false;
  for (uint64_t at = begin; at < end;) {
    uint64_t start = at;
    Expected<uint64_t> tag = varint(at, end);
    if (!tag)
      return tag.takeError();
    uint64_t field = *tag >> 3;
    if (field == 0 || field >= (uint64_t(1) << 29))
      return fail(start, "there is no field number " + llvm::Twine(field));
    uint64_t valueAt = at, length = 0;
    switch (*tag & 7) {
    case Varint: {
      Expected<uint64_t> value = varint(at, end);
      if (!value)
        return value.takeError();
      length = at - valueAt;
      break;
    }
    case Fixed64:
      length = 8;
      break;
    case Fixed32:
      length = 4;
      break;
    case Length: {
      Expected<uint64_t> bytes = varint(at, end);
      if (!bytes)
        return bytes.takeError();
      length = *bytes;
      valueAt = at;
      break;
    }
    default:
      return fail(start, "there is no wire type " + llvm::Twine(*tag & 7));
    }
    if (length > end - valueAt)
      return fail(start, "field " + llvm::Twine(field) + " needs " +
                             llvm::Twine(length) + " bytes, " +
                             llvm::Twine(end - valueAt) +
                             " are left: the file is cut off or damaged");
    at = valueAt + length;

    Rule rule = ruleFor(kind, field);
    bool isBytes = (*tag & 7) == Length;
    if (rule.action == Action::Drop)
      continue;
    if (rule.action == Action::Descend && isBytes) {
      std::string child;
      if (Error error = message(rule.child, valueAt, at, depth + 1, child))
        return error;
      putVarint(out, *tag);
      putVarint(out, child.size());
      out += child;
    } else if (rule.action == Action::Payload && isBytes &&
               length > threshold) {
      if (hasPayload)
        return fail(start, "a tensor has two payloads");
      hasPayload = true;
      putVarint(out, uint64_t(kBlobField) << 3 | Varint);
      putVarint(out, blobs.size());
      blobs.push_back({valueAt, length, static_cast<unsigned>(field)});
    } else {
      copy(start, at, out);
    }
    if (out.size() > kMaxReduced)
      return fail(start, "the model has more than 1 GiB beside its weights");
  }
  return Error::success();
}

} // namespace

Expected<SkimmedModel> quench::skimModel(ArrayRef<char> file,
                                         uint64_t threshold) {
  Skimmer skimmer(file, threshold);
  SkimmedModel model;
  if (Error error =
          skimmer.message(Message::Model, 0, file.size(), 0, model.proto))
    return std::move(error);
  model.blobs = std::move(skimmer.blobs);
  return model;
}
