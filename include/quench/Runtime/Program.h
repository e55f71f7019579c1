/*===- Program.h - Between generated code and the runtime ---------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
|*===----------------------------------------------------------------------===*|
|*                                                                            *|
|* A compiled model is one shared object: generated code, the runtime, and    *|
|* one constant `quench_program` that tells the runtime what the code is.     *|
|* The driver writes that constant (Target/CPU/Program.h); this file is its   *|
|* layout. It is plain C and is included by both sides.                       *|
|*                                                                            *|
|* Symbols are the sizes that are known at run time only. For `main` they are *|
|* named by the program and found from the shapes of the inputs. For `decode` *|
|* and `prefill` they are, in this order: sequence, past, capacity, keep.     *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#ifndef QUENCH_RUNTIME_PROGRAM_H
#define QUENCH_RUNTIME_PROGRAM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised with each change of a struct below or of a call between the sides. */
#define QUENCH_RT_ABI_VERSION 2u

/* Symbols of decode and prefill. */
enum quench_rt_step_symbol {
  QUENCH_RT_SEQUENCE = 0, /* tokens of this step */
  QUENCH_RT_PAST = 1,     /* positions already in the state */
  QUENCH_RT_CAPACITY = 2, /* positions the state can hold */
  QUENCH_RT_KEEP = 3,     /* trailing positions whose logits are wanted, >= 1 */
  QUENCH_RT_STEP_SYMBOLS = 4
};

/* What generated code may store in frame->error (any store wins, 0 is fine). */
enum quench_rt_error {
  QUENCH_RT_OK = 0,
  QUENCH_RT_INDEX = 1, /* an index was outside of its dimension, and clamped */
  QUENCH_RT_COUNT = 2, /* a loop count was outside of its bounds, and clamped */
  QUENCH_RT_SIZE = 3,  /* a size computed from data did not fit its buffer */
  QUENCH_RT_DIVISION = 4, /* an integer division by zero */
  QUENCH_RT_MISMATCH = 5, /* two sizes that must be equal differ */
  QUENCH_RT_ERRORS
};

/* Slots of errors: slot 1 + i is for numbers that come from input i, slot 0 for
   all others and for inputs from QUENCH_RT_ERROR_SLOTS - 1 on. */
enum { QUENCH_RT_ERROR_SLOTS = 16 };

/* One summand of a dimension: factor * symbol. */
typedef struct {
  int64_t symbol;
  int64_t factor;
} quench_rt_term;

/* A dimension, affine in the symbols. */
typedef struct {
  int64_t constant;
  int64_t terms;
  const quench_rt_term *term;
} quench_rt_dim;

/* An input or output. `type` is ONNX's TensorProto.DataType. Dense, row major.
 */
typedef struct {
  const char *name;
  int32_t type;
  int32_t rank;
  const quench_rt_dim *dims;
} quench_rt_tensor;

/* What one call of generated code works on. */
typedef struct quench_rt_frame {
  const uint8_t
      *weights;   /* 4096-aligned; 64 bytes of padding follow the last */
  uint8_t *arena; /* 4096-aligned scratch of arena_bytes(symbols) */
  uint8_t *state; /* 4096-aligned, zero at first; null without state */
  const int64_t *symbols;
  void *const *inputs;
  void *const *outputs;
  void *barrier;  /* for quench_rt_barrier only */
  int32_t *error; /* QUENCH_RT_ERROR_SLOTS of them, 0 at entry */
} quench_rt_frame;

/* SPMD: each of `workers` threads runs the whole function with its number. */
typedef void (*quench_rt_entry)(const quench_rt_frame *frame, int64_t worker,
                                int64_t workers);

/* Bytes needed for these symbols; negative or huge values are refused. */
typedef int64_t (*quench_rt_size)(const int64_t *symbols);

typedef struct {
  const char *name;
  quench_rt_entry entry;      /* null: the model has no such function */
  quench_rt_size arena_bytes; /* null: none needed */
  int32_t inputs;
  int32_t outputs;
  const quench_rt_tensor *input;
  const quench_rt_tensor *output;
} quench_rt_function;

typedef struct {
  uint32_t abi_version;  /* QUENCH_RT_ABI_VERSION */
  uint32_t struct_bytes; /* sizeof(quench_rt_program) */
  int64_t symbols;       /* of main */
  const char *const *symbol_names;
  quench_rt_function main_;
  /* Of a model with state; null otherwise. decode: sequence = keep = 1.
     Input 0: token ids, int64 [1, sequence]. Output 0: logits, f32 [keep,
     vocab]. */
  const quench_rt_function *decode;
  const quench_rt_function *prefill;
  quench_rt_size state_bytes; /* of the step symbols; only capacity counts */
  /* If state_slabs > 0 the state is that many slabs of [capacity][row bytes],
     one after the other, and only rows below the length are saved; else it is
     saved whole. */
  int64_t state_slabs;
  int64_t state_row_bytes;
  int64_t max_positions; /* 0: no limit */
  int64_t vocab;         /* 0: token ids are not checked */
  int64_t prefill_chunk; /* longest sequence of one prefill call; 0: no limit */
  const uint8_t *weights; /* null if they are in weights_file */
  int64_t weights_bytes;
  const char
      *weights_file;     /* base name, beside the shared object; null: in it */
  uint64_t weights_hash; /* quench_hash (Hash.h) of the weights */
  const char *cpu_features; /* LLVM's names, separated by commas */
  const char *metadata_json;
} quench_rt_program;

/* Written by the compiler, hidden. */
extern const quench_rt_program quench_program;

/* All workers of a frame wait for each other. Nothing to do with one worker. */
void quench_rt_barrier(const quench_rt_frame *frame, int64_t worker,
                       int64_t workers);

#ifdef __cplusplus
}
#endif

#endif /* QUENCH_RUNTIME_PROGRAM_H */
