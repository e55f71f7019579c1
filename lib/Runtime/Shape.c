/*===- Shape.c - Shapes, symbols and types ------------------------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#include "Internal.h"
#include <stdio.h>
#include <string.h>

static const struct {
  int32_t type, bytes;
  const char *name;
} types[] = {
    {QUENCH_FLOAT32, 4, "float32"},   {QUENCH_UINT8, 1, "uint8"},
    {QUENCH_INT8, 1, "int8"},         {QUENCH_UINT16, 2, "uint16"},
    {QUENCH_INT16, 2, "int16"},       {QUENCH_INT32, 4, "int32"},
    {QUENCH_INT64, 8, "int64"},       {QUENCH_BOOL, 1, "bool"},
    {QUENCH_FLOAT16, 2, "float16"},   {QUENCH_FLOAT64, 8, "float64"},
    {QUENCH_UINT32, 4, "uint32"},     {QUENCH_UINT64, 8, "uint64"},
    {QUENCH_BFLOAT16, 2, "bfloat16"},
};

int64_t quench_rt_element_bytes(int32_t type) {
  for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); ++i)
    if (types[i].type == type)
      return types[i].bytes;
  return 0;
}

const char *quench_rt_type_name(int32_t type) {
  for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); ++i)
    if (types[i].type == type)
      return types[i].name;
  return "an unknown type";
}

/* Appends to a text of `room` bytes, which stays ended; what does not fit is
 * left out. */
static void append(char *out, size_t room, const char *text) {
  size_t used = strlen(out);
  snprintf(out + used, room - used, "%s", text);
}

void quench_rt_print_dim(const quench_rt_dim *dim, char *out, size_t room) {
  char number[32];
  out[0] = 0;
  for (int64_t i = 0; i < dim->terms; ++i) {
    const quench_rt_term *term = &dim->term[i];
    if (i)
      append(out, room, " + ");
    if (term->factor != 1) {
      snprintf(number, sizeof(number), "%lld*", (long long)term->factor);
      append(out, room, number);
    }
    append(out, room,
           quench_program.symbol_names
               ? quench_program.symbol_names[term->symbol]
               : "?");
  }
  if (dim->constant || !dim->terms) {
    snprintf(number, sizeof(number), dim->terms ? " + %lld" : "%lld",
             (long long)dim->constant);
    append(out, room, number);
  }
}

void quench_rt_print_dims(const quench_rt_tensor *tensor, char *out,
                          size_t room) {
  char text[64];
  out[0] = 0;
  append(out, room, "[");
  for (int32_t i = 0; i < tensor->rank; ++i) {
    quench_rt_print_dim(&tensor->dims[i], text, sizeof(text));
    if (i)
      append(out, room, ", ");
    append(out, room, text);
  }
  append(out, room, "]");
}

void quench_rt_print_shape(int32_t rank, const int64_t *dims, char *out,
                           size_t room) {
  char text[32];
  out[0] = 0;
  append(out, room, "[");
  for (int32_t i = 0; i < rank; ++i) {
    snprintf(text, sizeof(text), "%s%lld", i ? ", " : "", (long long)dims[i]);
    append(out, room, text);
  }
  append(out, room, "]");
}

int quench_rt_dim_value(const quench_rt_dim *dim, const int64_t *symbols,
                        int64_t *value) {
  int64_t sum = dim->constant;
  for (int64_t i = 0; i < dim->terms; ++i) {
    int64_t product;
    if (__builtin_mul_overflow(dim->term[i].factor,
                               symbols[dim->term[i].symbol], &product) ||
        __builtin_add_overflow(sum, product, &sum))
      return 0;
  }
  *value = sum;
  return sum >= 0;
}

int quench_rt_tensor_bytes(const quench_rt_tensor *tensor, const int64_t *dims,
                           int64_t *bytes) {
  int64_t total = quench_rt_element_bytes(tensor->type);
  for (int32_t i = 0; i < tensor->rank; ++i)
    if (dims[i] < 0 || __builtin_mul_overflow(total, dims[i], &total) ||
        total > INT64_MAX / 4)
      return 0;
  *bytes = total;
  return 1;
}

/* Solves `dim` = value if exactly one of its symbols is not bound. */
static int solve(quench_context *context, const quench_rt_dim *dim,
                 int64_t value) {
  const quench_rt_term *open = NULL;
  int64_t rest = value - dim->constant;
  for (int64_t i = 0; i < dim->terms; ++i) {
    const quench_rt_term *term = &dim->term[i];
    int64_t product;
    if (!context->bound[term->symbol]) {
      if (open)
        return 0;
      open = term;
    } else if (__builtin_mul_overflow(
                   term->factor, context->symbols[term->symbol], &product) ||
               __builtin_sub_overflow(rest, product, &rest)) {
      return 0;
    }
  }
  if (!open || !open->factor || rest % open->factor || rest / open->factor < 0)
    return 0;
  context->symbols[open->symbol] = rest / open->factor;
  context->bound[open->symbol] = 1;
  return 1;
}

static int mismatch(const quench_rt_function *f, const quench_context *context,
                    int32_t input, int32_t axis) {
  const quench_rt_tensor *tensor = &f->input[input];
  char found[256], accepted[256], name[64];
  int64_t value = 0;
  quench_rt_print_shape(tensor->rank, context->input[input].dims, found,
                        sizeof(found));
  quench_rt_print_dims(tensor, accepted, sizeof(accepted));
  quench_rt_print_dim(&tensor->dims[axis], name, sizeof(name));
  if (quench_rt_dim_value(&tensor->dims[axis], context->symbols, &value))
    return quench_rt_fail(QUENCH_ERROR_SHAPE,
                          "input '%s': shape %s found, %s accepted; dimension "
                          "%d (%s) must be %lld "
                          "as the other inputs have it",
                          tensor->name, found, accepted, (int)axis, name,
                          (long long)value);
  return quench_rt_fail(
      QUENCH_ERROR_SHAPE,
      "input '%s': shape %s found, %s accepted; no sizes fit dimension %d (%s)",
      tensor->name, found, accepted, (int)axis, name);
}

int quench_rt_bind(quench_context *context) {
  const quench_rt_function *f = &quench_program.main_;
  if (context->shapes_known)
    return QUENCH_OK;
  memset(context->bound, 0, (size_t)quench_program.symbols);
  memset(context->symbols, 0, (size_t)quench_program.symbols * sizeof(int64_t));
  for (int32_t i = 0; i < f->inputs; ++i)
    if (!context->input[i].is_set)
      return quench_rt_fail(QUENCH_ERROR_ARGUMENT,
                            "input '%s' (number %d) is not set",
                            f->input[i].name, (int)i);
  for (int changed = 1; changed;) {
    changed = 0;
    for (int32_t i = 0; i < f->inputs; ++i)
      for (int32_t d = 0; d < f->input[i].rank; ++d)
        changed |=
            solve(context, &f->input[i].dims[d], context->input[i].dims[d]);
  }
  for (int32_t i = 0; i < f->inputs; ++i)
    for (int32_t d = 0; d < f->input[i].rank; ++d) {
      int64_t value;
      if (!quench_rt_dim_value(&f->input[i].dims[d], context->symbols,
                               &value) ||
          value != context->input[i].dims[d])
        return mismatch(f, context, i, d);
    }
  for (int64_t i = 0; i < quench_program.symbols; ++i)
    if (!context->bound[i])
      return quench_rt_fail(QUENCH_ERROR_SHAPE,
                            "the size '%s' follows from no input's shape",
                            quench_program.symbol_names[i]);
  for (int32_t i = 0; i < f->outputs; ++i) {
    const quench_rt_tensor *tensor = &f->output[i];
    int64_t *dims = context->output[i].dims, bytes;
    int good = 1;
    for (int32_t d = 0; d < tensor->rank && good; ++d)
      good = quench_rt_dim_value(&tensor->dims[d], context->symbols, &dims[d]);
    if (!good || !quench_rt_tensor_bytes(tensor, dims, &bytes)) {
      char text[256];
      quench_rt_print_dims(tensor, text, sizeof(text));
      return quench_rt_fail(
          QUENCH_ERROR_SHAPE,
          "output '%s' (%s) would have a negative or too large size",
          tensor->name, text);
    }
  }
  context->shapes_known = 1;
  return QUENCH_OK;
}
