/*===- State.c - The state: truncate, save, load ------------------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#include "Internal.h"
#include "quench/Runtime/Hash.h"
#include <string.h>

#define STATE_MAGIC "QuenchState\0\0\0\0\1" /* 16 bytes */

typedef struct {
  char magic[16];
  uint64_t model; /* the hash of the weights */
  int64_t length, capacity;
  int64_t bytes; /* after the header */
  uint64_t hash; /* of them */
} state_header;

int64_t quench_state_length(const quench_context *context) {
  return context ? context->length : 0;
}

int64_t quench_state_capacity(const quench_context *context) {
  return context ? context->capacity : 0;
}

int quench_state_truncate(quench_context *context, int64_t length) {
  int code = quench_rt_enter(context);
  if (code)
    return code;
  if (length < 0 || length > context->length)
    code = quench_rt_fail(
        QUENCH_ERROR_CAPACITY,
        "the state holds %lld positions and cannot be truncated to %lld",
        (long long)context->length, (long long)length);
  else
    context->length = length;
  quench_rt_leave(context);
  return code;
}

int quench_state_reset(quench_context *context) {
  return quench_state_truncate(context, 0);
}

static int64_t state_bytes(const quench_context *context) {
  int64_t symbols[QUENCH_RT_STEP_SYMBOLS] = {1, 0, context->capacity, 1};
  return quench_program.state_bytes ? quench_program.state_bytes(symbols) : 0;
}

/* By slabs, only rows below `length` are kept, and a state fits any capacity.
 */
static int by_slabs(void) {
  return quench_program.state_slabs > 0 && quench_program.state_row_bytes > 0;
}

static int64_t payload_bytes(const quench_context *context, int64_t length) {
  if (by_slabs())
    return quench_program.state_slabs * quench_program.state_row_bytes * length;
  return length ? state_bytes(context) : 0;
}

/* Copies between the state and a payload; one of them is written, as `load`
 * says. */
static void copy(quench_context *context, int64_t length, uint8_t *payload,
                 int load) {
  const quench_rt_program *program = &quench_program;
  uint64_t slabs = by_slabs() ? (uint64_t)program->state_slabs : 1;
  uint64_t part = (uint64_t)payload_bytes(context, length) / slabs;
  uint64_t stride =
      (uint64_t)program->state_row_bytes * (uint64_t)context->capacity;
  for (uint64_t i = 0; i < slabs && part; ++i) {
    uint8_t *state = context->state.data + (slabs > 1 ? i * stride : 0);
    if (load)
      memcpy(state, payload + i * part, part);
    else
      memcpy(payload + i * part, state, part);
  }
}

static int save(quench_context *context, void *data, int64_t *bytes) {
  if (!quench_model_has_state(context->model))
    return quench_rt_fail(QUENCH_ERROR_UNSUPPORTED, "this model has no state");
  if (!bytes)
    return quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                          "quench_state_save: bytes is null");
  int64_t payload = payload_bytes(context, context->length);
  int64_t needed = payload + (int64_t)sizeof(state_header);
  if (data && *bytes < needed)
    return quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                          "the state needs %lld bytes; %lld are given",
                          (long long)needed, (long long)*bytes);
  *bytes = needed;
  if (!data)
    return QUENCH_OK;
  uint8_t *body = (uint8_t *)data + sizeof(state_header);
  state_header header = {{0},
                         quench_program.weights_hash,
                         context->length,
                         context->capacity,
                         payload,
                         0};
  memcpy(header.magic, STATE_MAGIC, sizeof(header.magic));
  copy(context, context->length, body, 0);
  header.hash = quench_hash(body, (uint64_t)payload);
  memcpy(data, &header, sizeof(header));
  return QUENCH_OK;
}

static int load(quench_context *context, const void *data, int64_t bytes) {
  state_header header;
  if (!quench_model_has_state(context->model))
    return quench_rt_fail(QUENCH_ERROR_UNSUPPORTED, "this model has no state");
  if (!data || bytes < (int64_t)sizeof(header) ||
      memcmp(data, STATE_MAGIC, sizeof(header.magic)))
    return quench_rt_fail(QUENCH_ERROR_STATE,
                          "these %lld bytes are not a saved state",
                          (long long)bytes);
  memcpy(&header, data, sizeof(header));
  uint8_t *body = (uint8_t *)(uintptr_t)data + sizeof(header);
  if (header.model != quench_program.weights_hash)
    return quench_rt_fail(QUENCH_ERROR_STATE,
                          "this state was saved by another model");
  if (header.length < 0 || header.length > context->capacity ||
      (!by_slabs() && header.capacity != context->capacity))
    return quench_rt_fail(
        QUENCH_ERROR_STATE,
        "the saved state holds %lld of %lld positions, this context has a "
        "capacity of %lld",
        (long long)header.length, (long long)header.capacity,
        (long long)context->capacity);
  if (header.bytes != payload_bytes(context, header.length) ||
      header.bytes != bytes - (int64_t)sizeof(header) ||
      quench_hash(body, (uint64_t)header.bytes) != header.hash)
    return quench_rt_fail(QUENCH_ERROR_STATE,
                          "the saved state is truncated or altered");
  copy(context, header.length, body, 1);
  context->length = header.length;
  return QUENCH_OK;
}

int quench_state_save(quench_context *context, void *data, int64_t *bytes) {
  int code = quench_rt_enter(context);
  if (code)
    return code;
  code = save(context, data, bytes);
  quench_rt_leave(context);
  return code;
}

int quench_state_load(quench_context *context, const void *data,
                      int64_t bytes) {
  int code = quench_rt_enter(context);
  if (code)
    return code;
  code = load(context, data, bytes);
  quench_rt_leave(context);
  return code;
}
