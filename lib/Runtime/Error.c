/*===- Error.c - Messages of failed calls -------------------------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#include "Internal.h"
#include <stdarg.h>
#include <stdio.h>

static _Thread_local char last_error[768];

const char *quench_last_error(void) { return last_error; }

int quench_rt_fail(int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last_error, sizeof(last_error), format, arguments);
  va_end(arguments);
  return code;
}

int quench_rt_report(const int32_t *errors,
                     const quench_rt_function *function) {
  static const char *const text[QUENCH_RT_ERRORS] = {
      "no error",
      "an index is outside of its dimension",
      "a loop count is outside of its bounds",
      "a size computed from data does not fit",
      "an integer was divided by zero",
      "two sizes that must be equal differ",
  };
  for (int32_t i = 0; i < QUENCH_RT_ERROR_SLOTS; ++i) {
    if (!errors[i])
      continue;
    const char *name =
        i && i <= function->inputs ? function->input[i - 1].name : NULL;
    char from[160] = "";
    if (name)
      snprintf(from, sizeof(from), " (a number of the input '%.128s')", name);
    if (errors[i] > 0 && errors[i] < QUENCH_RT_ERRORS)
      return quench_rt_fail(QUENCH_ERROR_DATA,
                            "'%s': %s%s; the result is not valid",
                            function->name, text[errors[i]], from);
    return quench_rt_fail(QUENCH_ERROR_DATA,
                          "'%s': error %d%s; the result is not valid",
                          function->name, (int)errors[i], from);
  }
  return QUENCH_OK;
}
