/*===- Hash.c - The hash of files and weights ---------------------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#include "quench/Runtime/Hash.h"
#include <string.h>

#define LANES 8
#define BLOCK (LANES * 8)

static const uint64_t odd[LANES] = {0x9e3779b97f4a7c15, 0xd1b54a32d192ed03,
                                    0xaef17502108ef2d9, 0xf1357aea2e62a9c5,
                                    0xcb24d0a5c88c35b3, 0x8a5cd789635d2dff,
                                    0xda942042e4dd58b5, 0xbf58476d1ce4e5b9};

static uint64_t rotate(uint64_t x, int n) { return x << n | x >> (64 - n); }

static void blocks(uint64_t *lane, const uint8_t *data, uint64_t count) {
  uint64_t local[LANES];
  memcpy(local, lane, sizeof(local));
  for (; count; --count, data += BLOCK)
    for (int i = 0; i < LANES; ++i) {
      uint64_t word;
      memcpy(&word, data + 8 * i, 8);
      local[i] = (rotate(local[i], 29) ^ word) * odd[i];
    }
  memcpy(lane, local, sizeof(local));
}

void quench_hash_init(quench_hash_state *state) {
  memset(state, 0, sizeof(*state));
  memcpy(state->lane, odd, sizeof(odd));
}

void quench_hash_update(quench_hash_state *state, const void *data,
                        uint64_t bytes) {
  const uint8_t *from = data;
  uint64_t used = state->length % BLOCK;
  state->length += bytes;
  if (used) {
    uint64_t part = BLOCK - used < bytes ? BLOCK - used : bytes;
    memcpy(state->tail + used, from, part);
    from += part;
    bytes -= part;
    if (used + part < BLOCK)
      return;
    blocks(state->lane, state->tail, 1);
  }
  blocks(state->lane, from, bytes / BLOCK);
  if (bytes % BLOCK)
    memcpy(state->tail, from + bytes / BLOCK * BLOCK, bytes % BLOCK);
}

uint64_t quench_hash_final(quench_hash_state *state) {
  uint64_t used = state->length % BLOCK;
  if (used) {
    memset(state->tail + used, 0, BLOCK - used);
    blocks(state->lane, state->tail, 1);
  }
  uint64_t hash = state->length * odd[0];
  for (int i = 0; i < LANES; ++i) {
    uint64_t x = state->lane[i];
    x = (x ^ x >> 32) * odd[(i + 3) % LANES];
    x ^= x >> 29;
    hash = rotate(hash ^ x, 27) * odd[(i + 5) % LANES];
  }
  return hash ^ hash >> 31;
}

uint64_t quench_hash(const void *data, uint64_t bytes) {
  quench_hash_state state;
  quench_hash_init(&state);
  quench_hash_update(&state, data, bytes);
  return quench_hash_final(&state);
}
