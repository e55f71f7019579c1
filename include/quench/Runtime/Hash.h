/*===- Hash.h - The hash of files and weights ---------------------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
|*===----------------------------------------------------------------------===*|
|*                                                                            *|
|* A 64-bit hash that finds accidents (truncated, altered bytes), not fraud.  *|
|* Eight lanes of 64 bits, each word: rotate, xor, multiply by an odd number; *|
|* each step is one to one, so a change within one word is always found. It   *|
|* runs at the speed of memory on any 64-bit processor. The result does not   *|
|* depend on how the bytes are cut into calls.                                *|
|*                                                                            *|
|* The last QUENCH_SEAL_BYTES bytes of a compiled model are a quench_seal:    *|
|* the length and the hash of all bytes before it.                            *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#ifndef QUENCH_RUNTIME_HASH_H
#define QUENCH_RUNTIME_HASH_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  uint64_t lane[8];
  uint64_t length;
  uint8_t tail[64];
} quench_hash_state;

void quench_hash_init(quench_hash_state *state);
void quench_hash_update(quench_hash_state *state, const void *data,
                        uint64_t bytes);
uint64_t quench_hash_final(quench_hash_state *state);
uint64_t quench_hash(const void *data, uint64_t bytes);

#define QUENCH_SEAL_BYTES 32
#define QUENCH_SEAL_MAGIC "QuenchSeal\0\0\0\0\0\1" /* 16 bytes */

typedef struct {
  char magic[16];
  uint64_t bytes; /* before the seal */
  uint64_t hash;  /* of them */
} quench_seal;

/* The first bytes of a file of weights that lies beside the shared object; the
   weights begin at QUENCH_WEIGHTS_OFFSET. */
#define QUENCH_WEIGHTS_OFFSET 4096
#define QUENCH_WEIGHTS_MAGIC "QuenchWeights\0\0\1" /* 16 bytes */

typedef struct {
  char magic[16];
  uint64_t bytes; /* of the weights */
  uint64_t hash;  /* of the weights */
} quench_weights_header;

#ifdef __cplusplus
}
#endif

#endif /* QUENCH_RUNTIME_HASH_H */
