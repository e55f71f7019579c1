/*===- File.c - Checks of the file a model lies in ----------------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#include "Internal.h"
#include "quench/Runtime/Hash.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file opened and measured. Nothing of it is mapped before its length is
   known to be right, so that a truncated file is an error and not a signal. */
static int open_file(const char *path, int64_t *bytes) {
  struct stat status;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return -1;
  if (fstat(file, &status) || (status.st_mode & S_IFMT) != S_IFREG) {
    close(file);
    return -1;
  }
  *bytes = status.st_size;
  return file;
}

static int altered(const char *path, uint64_t expected, uint64_t found) {
  return quench_rt_fail(QUENCH_ERROR_FILE,
                        "'%s' is altered: its bytes have the hash %016llx, "
                        "%016llx was recorded when "
                        "it was written",
                        path, (unsigned long long)found,
                        (unsigned long long)expected);
}

int quench_rt_check_file(const char *path) {
  int64_t bytes = 0;
  int file = open_file(path, &bytes);
  if (file < 0)
    return -1; /* cannot be read any more: the caller checks what is mapped */
  quench_seal seal;
  int64_t body = bytes - QUENCH_SEAL_BYTES;
  if (body <= 0 ||
      pread(file, &seal, sizeof(seal), body) != (int64_t)sizeof(seal) ||
      memcmp(seal.magic, QUENCH_SEAL_MAGIC, sizeof(seal.magic)) ||
      seal.bytes != (uint64_t)body) {
    close(file);
    return quench_rt_fail(
        QUENCH_ERROR_FILE,
        "'%s' is truncated or altered: its %lld bytes do not end with the seal "
        "of a compiled model",
        path, (long long)bytes);
  }
  void *map = mmap(NULL, (size_t)body, PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  if (map == MAP_FAILED)
    return quench_rt_fail(QUENCH_ERROR_MEMORY, "'%s' cannot be mapped", path);
  uint64_t hash = quench_hash(map, (uint64_t)body);
  munmap(map, (size_t)body);
  return hash == seal.hash ? QUENCH_OK : altered(path, seal.hash, hash);
}

int quench_rt_map_weights(const char *path, quench_model *model, int check) {
  const quench_rt_program *program = &quench_program;
  char full[4096];
  const char *slash = strrchr(path, '/');
  size_t folder = slash ? (size_t)(slash - path) + 1 : 0,
         name = strlen(program->weights_file);
  if (folder + name + 1 > sizeof(full))
    return quench_rt_fail(QUENCH_ERROR_FILE, "the path of '%s' is too long",
                          path);
  memcpy(full, path, folder);
  memcpy(full + folder, program->weights_file, name + 1);

  int64_t bytes = 0;
  int file = open_file(full, &bytes);
  if (file < 0)
    return quench_rt_fail(QUENCH_ERROR_FILE,
                          "'%s' cannot be read: this model's weights lie in "
                          "that file, which must "
                          "stay beside '%s' under its name",
                          full, path);
  quench_weights_header header;
  if (bytes != program->weights_bytes + QUENCH_WEIGHTS_OFFSET ||
      pread(file, &header, sizeof(header), 0) != (int64_t)sizeof(header) ||
      memcmp(header.magic, QUENCH_WEIGHTS_MAGIC, sizeof(header.magic)) ||
      header.bytes != (uint64_t)program->weights_bytes ||
      header.hash != program->weights_hash) {
    close(file);
    return quench_rt_fail(
        QUENCH_ERROR_FILE,
        "'%s' is truncated, altered, or belongs to another model: %lld bytes "
        "found, %lld expected",
        full, (long long)bytes,
        (long long)(program->weights_bytes + QUENCH_WEIGHTS_OFFSET));
  }
  void *map = mmap(NULL, (size_t)bytes, PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  if (map == MAP_FAILED)
    return quench_rt_fail(QUENCH_ERROR_MEMORY, "'%s' cannot be mapped", full);
  model->side_map = map;
  model->side_bytes = (uint64_t)bytes;
  model->weights = (const uint8_t *)map + QUENCH_WEIGHTS_OFFSET;
  if (!check)
    return QUENCH_OK;
  uint64_t hash = quench_hash(model->weights, (uint64_t)program->weights_bytes);
  return hash == program->weights_hash
             ? QUENCH_OK
             : altered(full, program->weights_hash, hash);
}
