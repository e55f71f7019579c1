/*===- Context.c - Contexts and runs of main ----------------------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#include "Internal.h"
#include <stdlib.h>
#include <string.h>

/* The state, and scratch for the longest decode, so that decoding allocates
 * nothing. */
static int reserve_state(quench_context *context, int64_t capacity) {
  const quench_rt_program *program = &quench_program;
  if (!program->decode && !program->prefill)
    return QUENCH_OK;
  int64_t most = program->max_positions;
  if (capacity == 0)
    capacity = most;
  if (capacity <= 0 || (most && capacity > most) || capacity > INT64_MAX / 4) {
    if (!most)
      return quench_rt_fail(
          QUENCH_ERROR_CAPACITY,
          "a state of %lld positions is asked for; this model needs a capacity "
          "of at least 1",
          (long long)capacity);
    return quench_rt_fail(
        QUENCH_ERROR_CAPACITY,
        "a state of %lld positions is asked for; this model knows 1 to %lld",
        (long long)capacity, (long long)most);
  }
  context->capacity = capacity;
  int64_t symbols[QUENCH_RT_STEP_SYMBOLS] = {1, capacity - 1, capacity, 1};
  int64_t bytes = program->state_bytes ? program->state_bytes(symbols) : 0;
  int code = quench_rt_reserve(&context->state, bytes, "the state");
  if (!code && program->decode && program->decode->arena_bytes)
    code = quench_rt_reserve(&context->arena,
                             program->decode->arena_bytes(symbols), "a step");
  if (!code && program->vocab > 0)
    code =
        quench_rt_reserve(&context->logits, program->vocab * 4, "the logits");
  return code;
}

int quench_context_create(quench_model *model, int32_t threads,
                          int64_t capacity, quench_context **out) {
  if (out)
    *out = NULL;
  if (!model || !out)
    return quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                          "quench_context_create: a pointer is null");
  if (threads < 0 || threads > QUENCH_RT_MAX_THREADS)
    return quench_rt_fail(
        QUENCH_ERROR_ARGUMENT,
        "%d threads are asked for; 0 (one per processor) to %d are accepted",
        (int)threads, QUENCH_RT_MAX_THREADS);
  if (capacity < 0)
    return quench_rt_fail(QUENCH_ERROR_CAPACITY,
                          "a capacity of %lld positions is negative",
                          (long long)capacity);
  const quench_rt_function *f = &quench_program.main_;
  size_t tensors = (size_t)f->inputs + (size_t)f->outputs;
  size_t symbols = (size_t)quench_program.symbols + 1;
  quench_context *context = NULL;
  if (posix_memalign((void **)&context, 64, sizeof(*context)))
    return quench_rt_fail(QUENCH_ERROR_MEMORY, "out of memory");
  memset(context, 0, sizeof(*context));
  context->model = model;
  context->threads = threads ? threads : quench_rt_processors();
  atomic_fetch_add(&model->references, 1);
  context->worker = calloc((size_t)context->threads, sizeof(quench_rt_worker));
  context->input = calloc(tensors + 1, sizeof(quench_rt_slot));
  context->output = context->input + f->inputs;
  context->pointers = calloc(tensors + 1, sizeof(void *));
  context->symbols = calloc(symbols, sizeof(int64_t));
  context->bound = calloc(symbols, 1);
  int code = QUENCH_OK;
  if (!context->worker || !context->input || !context->pointers ||
      !context->symbols || !context->bound)
    code = quench_rt_fail(QUENCH_ERROR_MEMORY, "out of memory");
  if (!code)
    code = reserve_state(context, capacity);
  if (!code)
    code = quench_rt_start(context);
  else
    context->threads = 1; /* none was started */
  if (code) {
    quench_context_destroy(context);
    return code;
  }
  *out = context;
  return QUENCH_OK;
}

void quench_context_destroy(quench_context *context) {
  if (!context)
    return;
  quench_rt_stop(context);
  if (context->input)
    for (int32_t i = 0; i < quench_program.main_.outputs; ++i)
      quench_rt_release(&context->output[i].own);
  quench_rt_release(&context->arena);
  quench_rt_release(&context->state);
  quench_rt_release(&context->logits);
  free(context->worker);
  free(context->input);
  free(context->pointers);
  free(context->symbols);
  free(context->bound);
  quench_model_close(context->model);
  free(context);
}

static int set_input(quench_context *context, int32_t index, int32_t type,
                     int32_t rank, const int64_t *dims, const void *data) {
  const quench_rt_function *f = &quench_program.main_;
  if (index < 0 || index >= f->inputs)
    return quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                          "input %d does not exist: the model has %d",
                          (int)index, (int)f->inputs);
  const quench_rt_tensor *tensor = &f->input[index];
  char found[256], accepted[256];
  quench_rt_print_dims(tensor, accepted, sizeof(accepted));
  if (type != tensor->type)
    return quench_rt_fail(QUENCH_ERROR_TYPE,
                          "input '%s': type %s found, %s accepted",
                          tensor->name, quench_rt_type_name(type),
                          quench_rt_type_name(tensor->type));
  if (rank != tensor->rank)
    return quench_rt_fail(QUENCH_ERROR_SHAPE,
                          "input '%s': rank %d found, %d accepted: %s",
                          tensor->name, (int)rank, (int)tensor->rank, accepted);
  if (rank && !dims)
    return quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                          "input '%s': its dims are null", tensor->name);
  quench_rt_print_shape(rank, dims, found, sizeof(found));
  int64_t bytes;
  if (!quench_rt_tensor_bytes(tensor, dims, &bytes))
    return quench_rt_fail(QUENCH_ERROR_SHAPE,
                          "input '%s': shape %s found, which is negative or "
                          "too large; %s accepted",
                          tensor->name, found, accepted);
  for (int32_t i = 0; i < rank; ++i)
    if (!tensor->dims[i].terms && tensor->dims[i].constant != dims[i])
      return quench_rt_fail(
          QUENCH_ERROR_SHAPE,
          "input '%s': shape %s found, %s accepted; dimension %d must be %lld",
          tensor->name, found, accepted, (int)i,
          (long long)tensor->dims[i].constant);
  if (!data && bytes)
    return quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                          "input '%s': its data are null", tensor->name);
  quench_rt_slot *slot = &context->input[index];
  slot->is_set = 1;
  slot->data = (void *)(uintptr_t)data;
  if (rank)
    memcpy(slot->dims, dims, (size_t)rank * sizeof(int64_t));
  context->shapes_known = context->has_run = 0;
  return QUENCH_OK;
}

int quench_set_input(quench_context *context, int32_t index, int32_t type,
                     int32_t rank, const int64_t *dims, const void *data) {
  int code = quench_rt_enter(context);
  if (code)
    return code;
  code = set_input(context, index, type, rank, dims, data);
  quench_rt_leave(context);
  return code;
}

static int check_output(int32_t index) {
  if (index >= 0 && index < quench_program.main_.outputs)
    return QUENCH_OK;
  return quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                        "output %d does not exist: the model has %d",
                        (int)index, (int)quench_program.main_.outputs);
}

int quench_output_shape(quench_context *context, int32_t index, int64_t *dims) {
  int code = quench_rt_enter(context);
  if (code)
    return code;
  code = check_output(index);
  int32_t rank = code ? 0 : quench_program.main_.output[index].rank;
  if (!code && rank && !dims)
    code = quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                          "quench_output_shape: dims is null");
  if (!code)
    code = quench_rt_bind(context);
  if (!code && rank)
    memcpy(dims, context->output[index].dims, (size_t)rank * sizeof(int64_t));
  quench_rt_leave(context);
  return code;
}

int quench_set_output(quench_context *context, int32_t index, void *data,
                      int64_t bytes) {
  int code = quench_rt_enter(context);
  if (code)
    return code;
  code = check_output(index);
  if (!code && bytes < 0)
    code = quench_rt_fail(
        QUENCH_ERROR_ARGUMENT, "output '%s': memory of %lld bytes is negative",
        quench_program.main_.output[index].name, (long long)bytes);
  if (!code) {
    context->output[index].data = data;
    context->output[index].bytes = bytes;
    context->has_run = 0;
  }
  quench_rt_leave(context);
  return code;
}

static int too_small(const quench_rt_tensor *tensor, const int64_t *dims,
                     int64_t needed, int64_t found) {
  char text[256];
  quench_rt_print_shape(tensor->rank, dims, text, sizeof(text));
  return quench_rt_fail(
      QUENCH_ERROR_SHAPE,
      "output '%s': memory of %lld bytes found, %lld needed for %s of %s",
      tensor->name, (long long)found, (long long)needed, text,
      quench_rt_type_name(tensor->type));
}

int quench_get_output(quench_context *context, int32_t index, void *data,
                      int64_t bytes) {
  int code = quench_rt_enter(context);
  if (code)
    return code;
  code = check_output(index);
  if (!code && !context->has_run)
    code = quench_rt_fail(
        QUENCH_ERROR_ARGUMENT,
        "there is no output: quench_run was not called since the last change");
  if (!code) {
    const quench_rt_tensor *tensor = &quench_program.main_.output[index];
    quench_rt_slot *slot = &context->output[index];
    int64_t needed = 0;
    quench_rt_tensor_bytes(tensor, slot->dims, &needed);
    if (bytes < needed)
      code = too_small(tensor, slot->dims, needed, bytes);
    else if (!data && needed)
      code = quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                            "output '%s': the memory is null", tensor->name);
    else if (needed)
      memmove(data, slot->data ? slot->data : slot->own.data, (size_t)needed);
  }
  quench_rt_leave(context);
  return code;
}

static int run(quench_context *context) {
  const quench_rt_function *f = &quench_program.main_;
  if (!f->entry)
    return quench_rt_fail(
        QUENCH_ERROR_UNSUPPORTED,
        "this model was compiled for steps only: it has no main function");
  int code = quench_rt_bind(context);
  if (code)
    return code;
  context->has_run = 0;
  for (int32_t i = 0; i < f->inputs; ++i)
    context->pointers[i] = context->input[i].data;
  for (int32_t i = 0; i < f->outputs; ++i) {
    quench_rt_slot *slot = &context->output[i];
    int64_t needed = 0;
    quench_rt_tensor_bytes(&f->output[i], slot->dims, &needed);
    if (slot->data && slot->bytes < needed)
      return too_small(&f->output[i], slot->dims, needed, slot->bytes);
    if (!slot->data &&
        (code = quench_rt_reserve(&slot->own, needed, f->output[i].name)))
      return code;
    context->pointers[f->inputs + i] = slot->data ? slot->data : slot->own.data;
  }
  if (f->arena_bytes &&
      (code = quench_rt_reserve(&context->arena,
                                f->arena_bytes(context->symbols), "this run")))
    return code;
  int32_t errors[QUENCH_RT_ERROR_SLOTS] = {0};
  quench_rt_frame frame = {context->model->weights,
                           context->arena.data,
                           NULL,
                           context->symbols,
                           context->pointers,
                           context->pointers + f->inputs,
                           &context->barrier,
                           errors};
  quench_rt_execute(context, f->entry, &frame);
  if ((code = quench_rt_report(errors, f)))
    return code;
  context->has_run = 1;
  return QUENCH_OK;
}

int quench_run(quench_context *context) {
  int code = quench_rt_enter(context);
  if (code)
    return code;
  code = run(context);
  quench_rt_leave(context);
  return code;
}

int quench_adapter_load(quench_context *context, const char *path) {
  (void)context;
  return quench_rt_fail(
      QUENCH_ERROR_UNSUPPORTED,
      "'%s' cannot be loaded: this model was compiled without adapter slots",
      path ? path : "");
}
