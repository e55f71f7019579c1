/*===- Memory.c - Pages for arenas and states ---------------------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#include "Internal.h"
#include <sys/mman.h>

#define PAGE 4096ull
#define HUGE_PAGE (2ull << 20)

static uint64_t round_up(uint64_t bytes) {
  return (bytes + PAGE - 1) / PAGE * PAGE;
}

void *quench_rt_map(uint64_t bytes) {
  void *data = mmap(NULL, round_up(bytes), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED)
    return NULL;
#ifdef MADV_HUGEPAGE
  if (bytes >= HUGE_PAGE)
    madvise(data, round_up(bytes), MADV_HUGEPAGE);
#endif
  return data;
}

void quench_rt_unmap(void *data, uint64_t bytes) {
  if (data)
    munmap(data, round_up(bytes));
}

int quench_rt_reserve(quench_rt_buffer *buffer, int64_t bytes,
                      const char *what) {
  if (bytes < 0 || bytes > INT64_MAX / 4)
    return quench_rt_fail(QUENCH_ERROR_MEMORY,
                          "%s needs more bytes than can be counted", what);
  if ((uint64_t)bytes <= buffer->bytes && buffer->data)
    return QUENCH_OK;
  uint64_t wanted = bytes ? (uint64_t)bytes : 1;
  void *data = quench_rt_map(wanted);
  if (!data)
    return quench_rt_fail(QUENCH_ERROR_MEMORY,
                          "%s needs %lld bytes: out of memory", what,
                          (long long)bytes);
  quench_rt_release(buffer);
  buffer->data = data;
  buffer->bytes = wanted;
  return QUENCH_OK;
}

void quench_rt_release(quench_rt_buffer *buffer) {
  quench_rt_unmap(buffer->data, buffer->bytes);
  buffer->data = NULL;
  buffer->bytes = 0;
}
