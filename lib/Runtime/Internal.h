/*===- Internal.h - What the runtime's files share ----------------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#ifndef QUENCH_LIB_RUNTIME_INTERNAL_H
#define QUENCH_LIB_RUNTIME_INTERNAL_H

#include "quench-c/Runtime.h"
#include "quench/Runtime/Program.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#define QUENCH_RT_MAX_THREADS 64
#define QUENCH_RT_MAX_RANK 32

/* A barrier for a fixed number of workers; each word has a line of its own. */
typedef struct {
  _Alignas(64) atomic_uint arrived;
  _Alignas(64) atomic_uint phase;
  _Alignas(64) atomic_uint sleepers;
  int32_t spins; /* before a waiting thread offers its processor to others */
} quench_rt_barrier_state;

struct quench_context;

/* One parked thread of a context. */
typedef struct {
  struct quench_context *context;
  int64_t worker;
  pthread_t thread;
} quench_rt_worker;

struct quench_model {
  atomic_int references; /* the user's, and one of each context */
  const uint8_t *weights;
  void *side_map; /* the mapped file of weights beside, or null */
  uint64_t side_bytes;
  quench_tensor_info *info; /* inputs, then outputs */
};

/* Memory that only grows; its content is lost when it does. */
typedef struct {
  uint8_t *data;
  uint64_t bytes;
} quench_rt_buffer;

/* An input or output of main as it is set now. */
typedef struct {
  int is_set;
  void *data;
  int64_t bytes; /* room of an output */
  int64_t dims[QUENCH_RT_MAX_RANK];
  quench_rt_buffer own; /* memory for an output that the caller lent none for */
} quench_rt_slot;

struct quench_context {
  quench_rt_barrier_state barrier;
  _Alignas(64) atomic_uint epoch; /* raised once for each job */
  _Alignas(64) atomic_uint running;
  _Alignas(64) atomic_uint parked;
  atomic_int busy;
  int32_t threads;
  int stop;
  quench_rt_entry entry;
  const quench_rt_frame *frame;
  quench_rt_worker *worker;

  quench_model *model;
  quench_rt_buffer arena, state, logits;
  int64_t capacity, length;
  quench_rt_slot *input, *output;
  void **pointers; /* of inputs, then outputs */
  int64_t *symbols;
  uint8_t *bound;
  int shapes_known, has_run;
};

/* Error.c. Stores the message for quench_last_error and returns `code`. */
int quench_rt_fail(int code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Returns QUENCH_OK if no slot of `errors` has an error. */
int quench_rt_report(const int32_t *errors, const quench_rt_function *function);

/* Memory.c. Zeroed, 4096-aligned memory; null if there is none. */
void *quench_rt_map(uint64_t bytes);
void quench_rt_unmap(void *data, uint64_t bytes);
int quench_rt_reserve(quench_rt_buffer *buffer, int64_t bytes,
                      const char *what);
void quench_rt_release(quench_rt_buffer *buffer);

/* Processor.c. Fails if a feature in the list is missing here. */
int quench_rt_check_processor(const char *features);

/* File.c. */
int quench_rt_check_file(const char *path);
int quench_rt_map_weights(const char *path, quench_model *model, int check);

/* Threads.c. */
int32_t quench_rt_processors(void);
int quench_rt_start(quench_context *context);
void quench_rt_stop(quench_context *context);
void quench_rt_execute(quench_context *context, quench_rt_entry entry,
                       const quench_rt_frame *frame);
int quench_rt_enter(quench_context *context);
void quench_rt_leave(quench_context *context);

/* Shape.c. */
int64_t quench_rt_element_bytes(int32_t type);
const char *quench_rt_type_name(int32_t type);
int quench_rt_dim_value(const quench_rt_dim *dim, const int64_t *symbols,
                        int64_t *value);
int quench_rt_tensor_bytes(const quench_rt_tensor *tensor, const int64_t *dims,
                           int64_t *bytes);
void quench_rt_print_dim(const quench_rt_dim *dim, char *out, size_t room);
void quench_rt_print_dims(const quench_rt_tensor *tensor, char *out,
                          size_t room);
void quench_rt_print_shape(int32_t rank, const int64_t *dims, char *out,
                           size_t room);
int quench_rt_bind(quench_context *context);

#endif /* QUENCH_LIB_RUNTIME_INTERNAL_H */
