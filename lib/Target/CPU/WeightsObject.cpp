//===- WeightsObject.cpp - Weights as an object file, streamed ------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Target/CPU/WeightsObject.h"
#include "Machine.h"
#include "llvm/BinaryFormat/ELF.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include <cstring>

using namespace llvm;
using namespace quench;

/// Where the weights begin in the file; also the alignment of their section.
static constexpr uint64_t start = QUENCH_WEIGHTS_OFFSET;

WeightsObject::WeightsObject(StringRef path, int file, uint16_t machine,
                             uint64_t limit)
    : path(path.str()),
      out(std::make_unique<raw_fd_ostream>(file, /*shouldClose=*/true)),
      machine(machine), limit(limit) {
  quench_hash_init(&hash);
}

WeightsObject::~WeightsObject() {
  if (finished)
    return;
  // An error that is left when the stream goes would end the program.
  out->flush();
  out->clear_error();
  out.reset();
  sys::fs::remove(path);
}

Expected<std::unique_ptr<WeightsObject>>
WeightsObject::create(StringRef path, const CPUTarget &target, uint64_t limit) {
  Expected<uint16_t> machine = elfMachine(target);
  if (!machine)
    return machine.takeError();
  int file;
  if (std::error_code error = sys::fs::openFileForWrite(path, file))
    return createFileError(path, error);
  std::unique_ptr<WeightsObject> object(
      new WeightsObject(path, file, *machine, limit));
  object->out->write_zeros(start);
  return object;
}

Error WeightsObject::check() {
  if (!out->has_error())
    return Error::success();
  std::error_code error = out->error();
  out->clear_error();
  return createFileError(path, error);
}

void WeightsObject::pad(uint64_t count) {
  static const uint8_t zeros[4096] = {};
  for (uint64_t part; count; count -= part, position += part) {
    part = std::min<uint64_t>(count, sizeof(zeros));
    quench_hash_update(&hash, zeros, part);
    out->write(reinterpret_cast<const char *>(zeros), part);
  }
}

Expected<uint64_t> WeightsObject::append(ArrayRef<uint8_t> bytes,
                                         uint64_t align) {
  if (!isPowerOf2_64(align) || align > start)
    return createStringError("weights cannot be aligned to " + Twine(align) +
                             " bytes");
  pad(alignTo(position, align) - position);
  uint64_t offset = position;
  quench_hash_update(&hash, bytes.data(), bytes.size());
  out->write(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  position += bytes.size();
  if (Error error = check())
    return std::move(error);
  return offset;
}

void WeightsObject::writeTables(uint64_t bytes) {
  using namespace llvm::ELF;
  static constexpr char names[] =
      "\0.quench.weights\0.symtab\0.strtab\0.note.GNU-stack";
  static constexpr char strings[] = "\0quench_weights";
  auto offsetOf = [](StringRef name) {
    return static_cast<Elf64_Word>(StringRef(names, sizeof(names)).find(name));
  };

  uint64_t at = alignTo(start + bytes, 8);
  out->write_zeros(at - start - bytes);
  Elf64_Sym symbols[2];
  memset(symbols, 0, sizeof(symbols));
  symbols[1].st_name = 1;
  symbols[1].setBindingAndType(STB_GLOBAL, STT_OBJECT);
  symbols[1].st_other = STV_HIDDEN;
  symbols[1].st_shndx = 1;
  symbols[1].st_size = bytes;
  uint64_t symbolsAt = at, stringsAt = symbolsAt + sizeof(symbols),
           namesAt = stringsAt + sizeof(strings);
  out->write(reinterpret_cast<const char *>(symbols), sizeof(symbols));
  out->write(strings, sizeof(strings));
  out->write(names, sizeof(names));
  uint64_t end = namesAt + sizeof(names), headersAt = alignTo(end, 8);
  out->write_zeros(headersAt - end);

  Elf64_Shdr headers[6];
  memset(headers, 0, sizeof(headers));
  auto set = [&](int i, StringRef name, uint32_t type, uint64_t offset,
                 uint64_t size) {
    headers[i].sh_name = offsetOf(name);
    headers[i].sh_type = type;
    headers[i].sh_offset = offset;
    headers[i].sh_size = size;
    headers[i].sh_addralign = 1;
  };
  set(1, ".quench.weights", SHT_PROGBITS, start, bytes);
  headers[1].sh_flags = SHF_ALLOC;
  headers[1].sh_addralign = start;
  set(2, ".symtab", SHT_SYMTAB, symbolsAt, sizeof(symbols));
  headers[2].sh_link = 3;
  headers[2].sh_info = 1;
  headers[2].sh_entsize = sizeof(Elf64_Sym);
  headers[2].sh_addralign = 8;
  set(3, ".strtab", SHT_STRTAB, stringsAt, sizeof(strings));
  set(4, ".strtab", SHT_STRTAB, namesAt, sizeof(names));
  set(5, ".note.GNU-stack", SHT_PROGBITS, namesAt, 0);
  out->write(reinterpret_cast<const char *>(headers), sizeof(headers));

  Elf64_Ehdr header;
  memset(&header, 0, sizeof(header));
  memcpy(header.e_ident, ElfMagic, 4);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_REL;
  header.e_machine = machine;
  header.e_version = EV_CURRENT;
  header.e_shoff = headersAt;
  header.e_ehsize = sizeof(header);
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = std::size(headers);
  header.e_shstrndx = 4;
  out->flush();
  out->pwrite(reinterpret_cast<const char *>(&header), sizeof(header), 0);
}

Expected<WeightsResult> WeightsObject::finish() {
  pad(alignTo(position, alignment) + 64 - position);
  WeightsResult result;
  result.bytes = position;
  result.hash = quench_hash_final(&hash);
  result.beside = position > limit;
  if (result.beside) {
    quench_weights_header header;
    memcpy(header.magic, QUENCH_WEIGHTS_MAGIC, sizeof(header.magic));
    header.bytes = result.bytes;
    header.hash = result.hash;
    out->flush();
    out->pwrite(reinterpret_cast<const char *>(&header), sizeof(header), 0);
  } else {
    writeTables(position);
  }
  out->close();
  if (Error error = check())
    return std::move(error);
  finished = true;
  return result;
}
