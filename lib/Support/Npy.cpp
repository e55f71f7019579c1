//===- Npy.cpp - NumPy's .npy files -----------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The format: 6 bytes of magic, 2 of version, the length of the header (2
// bytes, or 4 from version 2 on), and the header, a Python dictionary of
// `descr`, `fortran_order` and `shape`. The numbers follow.
//
//===----------------------------------------------------------------------===//

#include "quench/Support/HostTensor.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"
#include <cstring>
#include <optional>

using namespace llvm;
using namespace quench;

static const char magic[] = "\x93NUMPY";
static constexpr size_t magicBytes = 6;

static const struct {
  const char *descr;
  ElementKind kind;
} descrs[] = {
    {"|b1", ElementKind::I1},   {"|i1", ElementKind::I8},
    {"|u1", ElementKind::U8},   {"<i2", ElementKind::I16},
    {"<u2", ElementKind::U16},  {"<i4", ElementKind::I32},
    {"<u4", ElementKind::U32},  {"<i8", ElementKind::I64},
    {"<u8", ElementKind::U64},  {"<f2", ElementKind::F16},
    {"|V2", ElementKind::BF16}, {"<V2", ElementKind::BF16},
    {"<f4", ElementKind::F32},  {"<f8", ElementKind::F64},
};

namespace {
/// What a header says.
struct Header {
  std::optional<std::string> descr;
  std::optional<bool> fortran;
  std::optional<SmallVector<int64_t, 4>> shape;
};

/// Reads the dictionary of a header: strings, True and False, and tuples of
/// numbers are all that may occur.
class HeaderParser {
public:
  explicit HeaderParser(StringRef text) : text(text) {}

  /// False: not such a dictionary.
  bool parse(Header &header) {
    if (!eat('{'))
      return false;
    while (!eat('}')) {
      std::string key;
      if (!string(key) || !eat(':'))
        return false;
      bool ok;
      if (key == "descr")
        ok = string(header.descr.emplace());
      else if (key == "fortran_order")
        ok = boolean(header.fortran.emplace());
      else if (key == "shape")
        ok = tuple(header.shape.emplace());
      else
        return false;
      if (!ok)
        return false;
      if (!eat(',')) {
        if (!eat('}'))
          return false;
        break;
      }
    }
    return text.trim().empty() && header.descr && header.fortran &&
           header.shape;
  }

private:
  bool eat(char c) {
    text = text.ltrim();
    return text.consume_front(StringRef(&c, 1));
  }
  bool string(std::string &value) {
    text = text.ltrim();
    if (text.empty() || (text[0] != '\'' && text[0] != '"'))
      return false;
    size_t end = text.find(text[0], 1);
    if (end == StringRef::npos)
      return false;
    value = text.slice(1, end).str();
    text = text.drop_front(end + 1);
    return true;
  }
  bool boolean(bool &value) {
    text = text.ltrim();
    value = text.consume_front("True");
    return value || text.consume_front("False");
  }
  bool tuple(SmallVectorImpl<int64_t> &values) {
    if (!eat('('))
      return false;
    while (!eat(')')) {
      int64_t value;
      text = text.ltrim();
      if (text.consumeInteger(10, value) || values.size() >= 64)
        return false;
      text.consume_front("L"); // of Python 2
      values.push_back(value);
      if (!eat(','))
        return eat(')');
    }
    return true;
  }

  StringRef text;
};
} // namespace

Expected<HostTensor> HostTensor::parseNpy(StringRef bytes, StringRef name) {
  auto fail = [&](const Twine &what) {
    return createStringError("'" + name + "': " + what);
  };
  if (bytes.size() < magicBytes + 4 ||
      !bytes.starts_with(StringRef(magic, magicBytes)))
    return fail("not a .npy file (it does not begin with \\x93NUMPY)");
  unsigned version = static_cast<uint8_t>(bytes[6]);
  if (version < 1 || version > 3)
    return fail("version " + Twine(version) +
                " of the .npy format, accepted are 1 to 3");
  uint64_t start = version == 1 ? 10 : 12;
  if (bytes.size() < start)
    return fail("ends in the header");
  uint64_t length = version == 1 ? support::endian::read16le(bytes.data() + 8)
                                 : support::endian::read32le(bytes.data() + 8);
  if (bytes.size() - start < length)
    return fail("ends in the header");
  Header header;
  StringRef text = bytes.substr(start, length);
  if (!HeaderParser(text).parse(header))
    return fail("the header is not a dictionary of descr, fortran_order and "
                "shape: " +
                text.take_front(80).rtrim());
  const auto *known = find_if(
      descrs, [&](const auto &entry) { return *header.descr == entry.descr; });
  if (known == std::end(descrs))
    return fail("elements of type '" + *header.descr +
                "', accepted are |b1, |i1, |u1, <i2, <u2, <i4, <u4, <i8, <u8, "
                "<f2, <f4, <f8 and |V2 (bf16)");
  if (*header.fortran && header.shape->size() > 1)
    return fail("in Fortran order, accepted is C order "
                "(numpy.ascontiguousarray)");
  Expected<int64_t> count =
      countElements(*header.shape, elementBytes(known->kind));
  if (!count)
    return fail(toString(count.takeError()));
  uint64_t wanted = *count * elementBytes(known->kind);
  uint64_t found = bytes.size() - start - length;
  if (found != wanted)
    return fail("the shape needs " + Twine(wanted) + " bytes, the file has " +
                Twine(found) + " behind its header");
  Expected<HostTensor> result = allocate(known->kind, *header.shape);
  if (!result)
    return fail(toString(result.takeError()));
  std::memcpy(result->mutableRaw(), bytes.data() + start + length, wanted);
  if (known->kind == ElementKind::I1)
    for (uint8_t &bit :
         MutableArrayRef<uint8_t>(result->mutableData<uint8_t>(), wanted))
      bit = bit != 0;
  return result;
}

Expected<HostTensor> HostTensor::loadNpy(StringRef path) {
  ErrorOr<std::unique_ptr<MemoryBuffer>> file = MemoryBuffer::getFile(
      path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!file)
    return createStringError("'" + path +
                             "': cannot read it: " + file.getError().message());
  return parseNpy((*file)->getBuffer(), path);
}

Error HostTensor::saveNpy(StringRef path) const {
  std::string header;
  raw_string_ostream os(header);
  const auto *known = find_if(
      descrs, [&](const auto &entry) { return entry.kind == getKind(); });
  os << "{'descr': '" << known->descr
     << "', 'fortran_order': False, 'shape': (";
  for (int64_t size : getShape())
    os << size << ", ";
  os << "), }";
  // With the newline the numbers begin at a multiple of 64.
  header.append((64 - (10 + header.size() + 1) % 64) % 64, ' ');
  header += '\n';
  std::error_code code;
  raw_fd_ostream file(path, code, sys::fs::OF_None);
  if (code)
    return createStringError("'" + path +
                             "': cannot write it: " + code.message());
  char prefix[4] = {1, 0};
  support::endian::write16le(prefix + 2, header.size());
  file << StringRef(magic, magicBytes) << StringRef(prefix, 4) << header;
  file.write(data<char>(), getNumBytes());
  file.close();
  if (file.has_error()) {
    code = file.error();
    file.clear_error();
    return createStringError("'" + path +
                             "': cannot write it: " + code.message());
  }
  return Error::success();
}
