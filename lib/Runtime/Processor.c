/*===- Processor.c - The processor's features ---------------------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#include "Internal.h"
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* What the operating system must save and restore. */
enum { ANY, YMM, ZMM };

/* Leaf, subleaf, register (0 eax .. 3 edx), bit of cpuid. The names are LLVM's.
 */
static const struct {
  const char *name;
  uint32_t leaf, subleaf;
  uint8_t reg, bit, state;
} table[] = {
    {"sse3", 1, 0, 2, 0, ANY},
    {"ssse3", 1, 0, 2, 9, ANY},
    {"sse4.1", 1, 0, 2, 19, ANY},
    {"sse4.2", 1, 0, 2, 20, ANY},
    {"cx16", 1, 0, 2, 13, ANY},
    {"popcnt", 1, 0, 2, 23, ANY},
    {"movbe", 1, 0, 2, 22, ANY},
    {"avx", 1, 0, 2, 28, YMM},
    {"fma", 1, 0, 2, 12, YMM},
    {"f16c", 1, 0, 2, 29, YMM},
    {"lzcnt", 0x80000001, 0, 2, 5, ANY},
    {"bmi", 7, 0, 1, 3, ANY},
    {"bmi2", 7, 0, 1, 8, ANY},
    {"avx2", 7, 0, 1, 5, YMM},
    {"gfni", 7, 0, 2, 8, ANY},
    {"avxvnni", 7, 1, 0, 4, YMM},
    {"avxvnniint8", 7, 1, 3, 4, YMM},
    {"avxifma", 7, 1, 0, 23, YMM},
    {"avx512f", 7, 0, 1, 16, ZMM},
    {"avx512cd", 7, 0, 1, 28, ZMM},
    {"avx512bw", 7, 0, 1, 30, ZMM},
    {"avx512dq", 7, 0, 1, 17, ZMM},
    {"avx512vl", 7, 0, 1, 31, ZMM},
    {"avx512ifma", 7, 0, 1, 21, ZMM},
    {"avx512vbmi", 7, 0, 2, 1, ZMM},
    {"avx512vbmi2", 7, 0, 2, 6, ZMM},
    {"avx512vnni", 7, 0, 2, 11, ZMM},
    {"avx512bitalg", 7, 0, 2, 12, ZMM},
    {"avx512vpopcntdq", 7, 0, 2, 14, ZMM},
    {"avx512bf16", 7, 1, 0, 5, ZMM},
};

static int state_saved(int state) {
  uint32_t eax, ebx, ecx, edx;
  if (state == ANY)
    return 1;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx >> 27 & 1))
    return 0;
  __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  uint32_t wanted = state == ZMM ? 0xe6 : 0x6;
  return (eax & wanted) == wanted;
}

static int has_feature(const char *name, size_t length, int *known) {
  for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); ++i) {
    if (strlen(table[i].name) != length || memcmp(table[i].name, name, length))
      continue;
    uint32_t reg[4] = {0, 0, 0, 0};
    *known = 1;
    if (table[i].leaf == 7 && table[i].subleaf == 1) {
      if (!__get_cpuid_count(7, 0, &reg[0], &reg[1], &reg[2], &reg[3]) ||
          reg[0] < 1)
        return 0;
    }
    if (!__get_cpuid_count(table[i].leaf, table[i].subleaf, &reg[0], &reg[1],
                           &reg[2], &reg[3]))
      return 0;
    return (reg[table[i].reg] >> table[i].bit & 1) &&
           state_saved(table[i].state);
  }
  *known = 0;
  return 0;
}
#else
static int has_feature(const char *name, size_t length, int *known) {
  (void)name, (void)length;
  *known = 1; /* nothing to ask here: the operating system runs the code or does
                 not */
  return 1;
}
#endif

int quench_rt_check_processor(const char *features) {
  while (features && *features) {
    size_t length = 0;
    while (features[length] && features[length] != ',')
      ++length;
    int known = 0;
    if (length && !has_feature(features, length, &known))
      return quench_rt_fail(
          QUENCH_ERROR_PROCESSOR,
          known
              ? "this model is compiled for processors with '%.*s', which this "
                "one (or its hypervisor) does not have; compile it with --cpu "
                "native here, or --cpu x86-64-v3"
              : "this model needs the processor feature '%.*s', of which this "
                "runtime knows nothing",
          (int)length, features);
    features += length + (features[length] == ',');
  }
  return QUENCH_OK;
}
