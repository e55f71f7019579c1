/*===- Model.c - Opening a model, and what it says of itself ------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#include "Internal.h"
#include "quench/Runtime/Hash.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

uint32_t quench_abi_version(void) { return QUENCH_ABI_VERSION; }

static int check_program(void) {
  const quench_rt_program *program = &quench_program;
  if (program->abi_version != QUENCH_RT_ABI_VERSION ||
      program->struct_bytes != sizeof(quench_rt_program))
    return quench_rt_fail(QUENCH_ERROR_FILE,
                          "this model's code was written for runtime %u (%u "
                          "bytes), its runtime is "
                          "%u (%zu bytes): compile it again",
                          program->abi_version, program->struct_bytes,
                          QUENCH_RT_ABI_VERSION, sizeof(quench_rt_program));
  return quench_rt_check_processor(program->cpu_features);
}

static int check_weights(const quench_rt_program *program) {
  if (quench_hash(program->weights, (uint64_t)program->weights_bytes) ==
      program->weights_hash)
    return QUENCH_OK;
  return quench_rt_fail(QUENCH_ERROR_FILE,
                        "the weights of this model are altered");
}

/* Fills the description of one tensor; the texts and dims were allocated behind
 * `cursor`. */
static void describe(const quench_rt_tensor *tensor, quench_tensor_info *info,
                     char **cursor) {
  int64_t *dims = (int64_t *)*cursor;
  const char **names = (const char **)(dims + tensor->rank);
  char *text = (char *)(names + tensor->rank);
  for (int32_t i = 0; i < tensor->rank; ++i, text += 64) {
    dims[i] = tensor->dims[i].terms ? -1 : tensor->dims[i].constant;
    names[i] = text;
    quench_rt_print_dim(&tensor->dims[i], text, 64);
  }
  info->name = tensor->name;
  info->type = tensor->type;
  info->rank = tensor->rank;
  info->dims = dims;
  info->dim_names = names;
  *cursor = text;
}

static int describe_all(quench_model *model) {
  const quench_rt_function *f = &quench_program.main_;
  size_t inputs = (size_t)f->inputs, count = inputs + (size_t)f->outputs;
  size_t bytes = count * sizeof(quench_tensor_info) + 1;
  for (size_t i = 0; i < count; ++i) {
    const quench_rt_tensor *tensor =
        i < inputs ? &f->input[i] : &f->output[i - inputs];
    if (tensor->rank < 0 || tensor->rank > QUENCH_RT_MAX_RANK)
      return quench_rt_fail(
          QUENCH_ERROR_FILE, "'%s' has the rank %d; %d is the highest known",
          tensor->name, (int)tensor->rank, QUENCH_RT_MAX_RANK);
    bytes += (size_t)tensor->rank * (sizeof(int64_t) + sizeof(char *) + 64);
  }
  if (!(model->info = calloc(1, bytes)))
    return quench_rt_fail(QUENCH_ERROR_MEMORY, "out of memory");
  char *cursor = (char *)(model->info + count);
  for (size_t i = 0; i < count; ++i)
    describe(i < inputs ? &f->input[i] : &f->output[i - inputs],
             &model->info[i], &cursor);
  return QUENCH_OK;
}

static int open_checked(const char *path, uint32_t flags, quench_model *model) {
  const quench_rt_program *program = &quench_program;
  int code = check_program();
  if (code)
    return code;
  Dl_info found;
  if (!path && dladdr(&quench_program, &found))
    path = found.dli_fname;
  if (!(flags & QUENCH_OPEN_UNCHECKED_FILE)) {
    code = path ? quench_rt_check_file(path) : -1;
    if (code < 0)
      code = program->weights_file ? QUENCH_OK : check_weights(program);
    if (code)
      return code;
  }
  model->weights = program->weights;
  if (program->weights_file) {
    if (!path)
      return quench_rt_fail(QUENCH_ERROR_FILE,
                            "the folder of this model is not known");
    code = quench_rt_map_weights(path, model,
                                 !(flags & QUENCH_OPEN_UNCHECKED_WEIGHTS));
    if (code)
      return code;
  }
  return describe_all(model);
}

int quench_model_open_with(const char *path, uint32_t flags,
                           quench_model **out) {
  if (!out)
    return quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                          "quench_model_open: the result pointer is null");
  *out = NULL;
  quench_model *model = calloc(1, sizeof(*model));
  if (!model)
    return quench_rt_fail(QUENCH_ERROR_MEMORY, "out of memory");
  atomic_store(&model->references, 1);
  int code = open_checked(path, flags, model);
  if (code) {
    quench_model_close(model);
    return code;
  }
  *out = model;
  return QUENCH_OK;
}

int quench_model_open(quench_model **model) {
  return quench_model_open_with(NULL, 0, model);
}

void quench_model_close(quench_model *model) {
  if (!model || atomic_fetch_sub(&model->references, 1) != 1)
    return;
  if (model->side_map)
    munmap(model->side_map, model->side_bytes);
  free(model->info);
  free(model);
}

const char *quench_model_metadata(const quench_model *model) {
  (void)model;
  return quench_program.metadata_json ? quench_program.metadata_json : "{}";
}

int quench_model_has_state(const quench_model *model) {
  (void)model;
  return quench_program.decode || quench_program.prefill;
}

int64_t quench_model_vocabulary(const quench_model *model) {
  (void)model;
  return quench_program.vocab;
}

int64_t quench_model_max_positions(const quench_model *model) {
  (void)model;
  return quench_program.max_positions;
}

int32_t quench_input_count(const quench_model *model) {
  return model ? quench_program.main_.inputs : 0;
}

int32_t quench_output_count(const quench_model *model) {
  return model ? quench_program.main_.outputs : 0;
}

static int info_at(const quench_model *model, const char *kind, int32_t index,
                   int32_t count, int32_t first, quench_tensor_info *info) {
  if (!model || !info)
    return quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                          "quench_%s_info: a pointer is null", kind);
  if (index < 0 || index >= count)
    return quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                          "%s %d does not exist: the model has %d", kind,
                          (int)index, (int)count);
  *info = model->info[first + index];
  return QUENCH_OK;
}

int quench_input_info(const quench_model *model, int32_t index,
                      quench_tensor_info *info) {
  return info_at(model, "input", index, quench_program.main_.inputs, 0, info);
}

int quench_output_info(const quench_model *model, int32_t index,
                       quench_tensor_info *info) {
  return info_at(model, "output", index, quench_program.main_.outputs,
                 quench_program.main_.inputs, info);
}
