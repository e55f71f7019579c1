/*===- Runtime.h - The C interface of a compiled model ------------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
|*===----------------------------------------------------------------------===*|
|*                                                                            *|
|* Every compiled model exports these functions, and nothing else. Link with  *|
|* it, or open it with dlopen (RTLD_NOW | RTLD_LOCAL) and look them up.       *|
|*                                                                            *|
|* A model is immutable and may be shared by threads. A context is one run or *|
|* one conversation: several may exist at once, each is used by one thread at *|
|* a time. Functions that return int return QUENCH_OK (0) or another          *|
|* quench_status; quench_last_error() of the same thread then says what was   *|
|* found and what is accepted. A call that fails changes nothing.             *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#ifndef QUENCH_C_RUNTIME_H
#define QUENCH_C_RUNTIME_H

#include <stdint.h>

#if defined(__GNUC__)
#define QUENCH_EXPORT __attribute__((visibility("default")))
#else
#define QUENCH_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define QUENCH_ABI_VERSION 1u

typedef struct quench_model quench_model;
typedef struct quench_context quench_context;

typedef enum {
  QUENCH_OK = 0,
  QUENCH_ERROR_ARGUMENT = 1, /* a null pointer, a bad index or count */
  QUENCH_ERROR_SHAPE = 2,    /* rank, dimension, or sizes that disagree */
  QUENCH_ERROR_TYPE = 3,     /* element type */
  QUENCH_ERROR_TOKEN = 4,    /* token id outside of the vocabulary */
  QUENCH_ERROR_CAPACITY = 5, /* more positions than the state can hold */
  QUENCH_ERROR_FILE = 6, /* truncated, altered, missing, or of another ABI */
  QUENCH_ERROR_PROCESSOR = 7,    /* this processor lacks a needed feature */
  QUENCH_ERROR_MEMORY = 8,       /* out of memory, or of threads */
  QUENCH_ERROR_STATE = 9,        /* a saved state that does not belong here */
  QUENCH_ERROR_UNSUPPORTED = 10, /* the model has no such function */
  QUENCH_ERROR_DATA =
      11, /* a value found while running, as an index, was wrong */
  QUENCH_ERROR_BUSY = 12 /* the context is in use by another thread */
} quench_status;

/* Element types have ONNX's numbers (TensorProto.DataType). */
typedef enum {
  QUENCH_FLOAT32 = 1,
  QUENCH_UINT8 = 2,
  QUENCH_INT8 = 3,
  QUENCH_UINT16 = 4,
  QUENCH_INT16 = 5,
  QUENCH_INT32 = 6,
  QUENCH_INT64 = 7,
  QUENCH_BOOL = 9,
  QUENCH_FLOAT16 = 10,
  QUENCH_FLOAT64 = 11,
  QUENCH_UINT32 = 12,
  QUENCH_UINT64 = 13,
  QUENCH_BFLOAT16 = 16
} quench_type;

/* Of an input or output. Pointers live as long as the model. */
typedef struct {
  const char *name;
  int32_t type;
  int32_t rank;
  const int64_t *dims;          /* -1: known at run time */
  const char *const *dim_names; /* such as "batch", "past + sequence" or "64" */
} quench_tensor_info;

/* Flags of quench_model_open_with. The checks read all of a file once. */
enum {
  QUENCH_OPEN_UNCHECKED_FILE =
      1, /* skip the check of the shared object's hash */
  QUENCH_OPEN_UNCHECKED_WEIGHTS =
      2 /* skip that of a file of weights beside it */
};

/* QUENCH_ABI_VERSION of the compiled model. */
QUENCH_EXPORT uint32_t quench_abi_version(void);

/* The message of this thread's last failed call; "" if there is none. */
QUENCH_EXPORT const char *quench_last_error(void);

/* Opens the model that this shared object holds. Checks the file and the
 * processor. */
QUENCH_EXPORT int quench_model_open(quench_model **model);

/* The same with flags; `path` names the shared object if it cannot find itself
 * (or null). */
QUENCH_EXPORT int quench_model_open_with(const char *path, uint32_t flags,
                                         quench_model **model);

/* Gives the model up; its memory goes with its last context. Null is fine. */
QUENCH_EXPORT void quench_model_close(quench_model *model);

/* JSON text about the model: layers, formats, sizes. */
QUENCH_EXPORT const char *quench_model_metadata(const quench_model *model);

/* 1 if the model has quench_step, that is a state (key/value cache) per
 * context. */
QUENCH_EXPORT int quench_model_has_state(const quench_model *model);

/* Number of token ids (0: unknown), and most positions of a state (0: no
 * limit). */
QUENCH_EXPORT int64_t quench_model_vocabulary(const quench_model *model);
QUENCH_EXPORT int64_t quench_model_max_positions(const quench_model *model);

QUENCH_EXPORT int32_t quench_input_count(const quench_model *model);
QUENCH_EXPORT int32_t quench_output_count(const quench_model *model);
QUENCH_EXPORT int quench_input_info(const quench_model *model, int32_t index,
                                    quench_tensor_info *info);
QUENCH_EXPORT int quench_output_info(const quench_model *model, int32_t index,
                                     quench_tensor_info *info);

/* Makes a context with `threads` threads (0: one per processor) whose state
   holds `capacity` positions (0: the most the model knows; of no meaning
   without state). */
QUENCH_EXPORT int quench_context_create(quench_model *model, int32_t threads,
                                        int64_t capacity,
                                        quench_context **context);
QUENCH_EXPORT void quench_context_destroy(quench_context *context);

/* Lends the context an input: dense, row major; read by quench_run, not copied.
 */
QUENCH_EXPORT int quench_set_input(quench_context *context, int32_t index,
                                   int32_t type, int32_t rank,
                                   const int64_t *dims, const void *data);

/* The shape an output has for the inputs now set: `dims` has room for
 * quench_output_info's rank. */
QUENCH_EXPORT int quench_output_shape(quench_context *context, int32_t index,
                                      int64_t *dims);

/* Lends the context the caller's memory for an output; quench_run writes there.
   Null takes it back: the context then uses memory of its own. */
QUENCH_EXPORT int quench_set_output(quench_context *context, int32_t index,
                                    void *data, int64_t bytes);

/* Copies an output of the last quench_run to the caller's memory of `bytes`
 * bytes. */
QUENCH_EXPORT int quench_get_output(quench_context *context, int32_t index,
                                    void *data, int64_t bytes);

/* Runs the model's main function, which has the ONNX graph's signature and no
 * state. */
QUENCH_EXPORT int quench_run(quench_context *context);

/* Appends n tokens to the state; `logits` (null: not wanted) gets those after
   the last token: `vocabulary` floats. */
QUENCH_EXPORT int quench_step(quench_context *context, const int64_t *tokens,
                              int64_t n, float *logits);

/* The same, with the logits after each of the n tokens: n * vocabulary floats.
 */
QUENCH_EXPORT int quench_step_all(quench_context *context,
                                  const int64_t *tokens, int64_t n,
                                  float *logits);

/* Positions in the state, and the most it can hold. */
QUENCH_EXPORT int64_t quench_state_length(const quench_context *context);
QUENCH_EXPORT int64_t quench_state_capacity(const quench_context *context);

/* Forgets all positions, or all from `length` on. */
QUENCH_EXPORT int quench_state_reset(quench_context *context);
QUENCH_EXPORT int quench_state_truncate(quench_context *context,
                                        int64_t length);

/* Writes the state to `data`. *bytes is the room there, and then what was
   written. With data = null only *bytes is set, to what is needed. */
QUENCH_EXPORT int quench_state_save(quench_context *context, void *data,
                                    int64_t *bytes);

/* Takes back what quench_state_save of the same model wrote. */
QUENCH_EXPORT int quench_state_load(quench_context *context, const void *data,
                                    int64_t bytes);

/* Loads an adapter into the model's slots for late weights. */
QUENCH_EXPORT int quench_adapter_load(quench_context *context,
                                      const char *path);

#ifdef __cplusplus
}
#endif

#endif /* QUENCH_C_RUNTIME_H */
