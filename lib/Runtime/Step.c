/*===- Step.c - Prefill and decode --------------------------------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#include "Internal.h"
#include <string.h>

/* Runs `count` tokens from the context's length on; logits of the last `keep`.
 */
static int run_step(quench_context *context, const int64_t *tokens,
                    int64_t count, int64_t keep, float *logits) {
  const quench_rt_program *program = &quench_program;
  const quench_rt_function *f =
      (count == 1 && program->decode) || !program->prefill ? program->decode
                                                           : program->prefill;
  int64_t symbols[QUENCH_RT_STEP_SYMBOLS] = {count, context->length,
                                             context->capacity, keep};
  if (f->arena_bytes) {
    int code =
        quench_rt_reserve(&context->arena, f->arena_bytes(symbols), "a step");
    if (code)
      return code;
  }
  int32_t errors[QUENCH_RT_ERROR_SLOTS] = {0};
  void *input = (void *)(uintptr_t)tokens, *output = logits;
  quench_rt_frame frame = {context->model->weights,
                           context->arena.data,
                           context->state.data,
                           symbols,
                           &input,
                           &output,
                           &context->barrier,
                           errors};
  quench_rt_execute(context, f->entry, &frame);
  return quench_rt_report(errors, f);
}

static int step(quench_context *context, const int64_t *tokens, int64_t n,
                float *logits, int all) {
  const quench_rt_program *program = &quench_program;
  if (!program->decode && !program->prefill)
    return quench_rt_fail(
        QUENCH_ERROR_UNSUPPORTED,
        "this model has no state: run its main function on the whole text");
  if (n < 1)
    return quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                          "%lld tokens found; a step takes at least 1",
                          (long long)n);
  if (!tokens || (all && !logits))
    return quench_rt_fail(QUENCH_ERROR_ARGUMENT, "the %s of a step are null",
                          tokens ? "logits" : "tokens");
  if (n > context->capacity - context->length)
    return quench_rt_fail(QUENCH_ERROR_CAPACITY,
                          "%lld tokens found; the state holds %lld of %lld "
                          "positions and has room "
                          "for %lld",
                          (long long)n, (long long)context->length,
                          (long long)context->capacity,
                          (long long)(context->capacity - context->length));
  if (program->vocab > 0)
    for (int64_t i = 0; i < n; ++i)
      if (tokens[i] < 0 || tokens[i] >= program->vocab)
        return quench_rt_fail(
            QUENCH_ERROR_TOKEN,
            "token %lld has the id %lld; 0 to %lld are accepted", (long long)i,
            (long long)tokens[i], (long long)program->vocab - 1);
  int64_t chunk = !program->prefill            ? 1
                  : program->prefill_chunk > 0 ? program->prefill_chunk
                                               : n;
  int64_t start = context->length, done = 0;
  float *spare = (float *)context->logits.data;
  while (done < n) {
    int64_t count = n - done < chunk ? n - done : chunk, keep = all ? count : 1;
    float *out = all                           ? logits + done * program->vocab
                 : done + count == n && logits ? logits
                                               : spare;
    int code = run_step(context, tokens + done, count, keep, out);
    if (code) {
      context->length = start; /* what lies beyond is overwritten later */
      return code;
    }
    context->length += count;
    done += count;
  }
  return QUENCH_OK;
}

int quench_step(quench_context *context, const int64_t *tokens, int64_t n,
                float *logits) {
  int code = quench_rt_enter(context);
  if (code)
    return code;
  code = step(context, tokens, n, logits, 0);
  quench_rt_leave(context);
  return code;
}

int quench_step_all(quench_context *context, const int64_t *tokens, int64_t n,
                    float *logits) {
  int code = quench_rt_enter(context);
  if (code)
    return code;
  code = step(context, tokens, n, logits, 1);
  quench_rt_leave(context);
  return code;
}
