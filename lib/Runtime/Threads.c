/*===- Threads.c - Workers of a context and their barrier ---------*- C -*-===*\
|*                                                                            *|
|* Part of the Quench project, under the Apache License v2.0 with LLVM        *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

/* A waiting thread spins for some microseconds, then offers its processor to
   others, then sleeps in the kernel. So decoding costs no system calls on idle
   processors, and an idle or an overloaded machine is not kept busy. */

#include "Internal.h"
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

/* With more threads than processors the one that is waited for may not be
 * running. */
enum { SPINS = 2000, SPINS_OVERLOADED = 20, YIELDS = 50 };

static inline void relax(void) {
#if defined(__x86_64__)
  __asm__ volatile("pause");
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Waits until *word is not `old`. A thread that sleeps is counted in *sleepers.
 */
static void wait_while(atomic_uint *word, uint32_t old, atomic_uint *sleepers,
                       int32_t spins) {
  for (int i = 0; i < spins; ++i) {
    if (atomic_load_explicit(word, memory_order_acquire) != old)
      return;
    relax();
  }
  for (int i = 0; i < YIELDS; ++i) {
    if (atomic_load_explicit(word, memory_order_acquire) != old)
      return;
    sched_yield();
  }
  atomic_fetch_add(sleepers, 1);
  while (atomic_load(word) == old)
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
  atomic_fetch_sub(sleepers, 1);
}

/* After *word was changed. Either this sees the sleeper, or the kernel,
   comparing on its behalf, sees the change: all four accesses are sequentially
   consistent. */
static void wake_all(atomic_uint *word, atomic_uint *sleepers) {
  if (atomic_load(sleepers))
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void quench_rt_barrier(const quench_rt_frame *frame, int64_t worker,
                       int64_t workers) {
  (void)worker;
  if (workers <= 1)
    return;
  quench_rt_barrier_state *barrier = frame->barrier;
  /* The phase cannot pass while this worker has not arrived. */
  uint32_t phase = atomic_load_explicit(&barrier->phase, memory_order_relaxed);
  if (atomic_fetch_add(&barrier->arrived, 1) + 1 == (uint32_t)workers) {
    atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
    atomic_store(&barrier->phase, phase + 1);
    wake_all(&barrier->phase, &barrier->sleepers);
    return;
  }
  wait_while(&barrier->phase, phase, &barrier->sleepers, barrier->spins);
}

static void *run_worker(void *argument) {
  quench_rt_worker *self = argument;
  quench_context *context = self->context;
  for (uint32_t seen = 0;; ++seen) {
    wait_while(&context->epoch, seen, &context->parked, context->barrier.spins);
    if (context->stop)
      return NULL;
    context->entry(context->frame, self->worker, context->threads);
    if (atomic_fetch_sub(&context->running, 1) == 1)
      wake_all(&context->running, &context->parked);
  }
}

void quench_rt_execute(quench_context *context, quench_rt_entry entry,
                       const quench_rt_frame *frame) {
  if (context->threads == 1) {
    entry(frame, 0, 1);
    return;
  }
  context->entry = entry;
  context->frame = frame;
  atomic_store(&context->running, (uint32_t)context->threads - 1);
  atomic_fetch_add(&context->epoch, 1);
  wake_all(&context->epoch, &context->parked);
  entry(frame, 0, context->threads);
  uint32_t left;
  while ((left = atomic_load(&context->running)) != 0)
    wait_while(&context->running, left, &context->parked,
               context->barrier.spins);
}

int32_t quench_rt_processors(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set))
    return 1;
  const uint8_t *bytes = (const uint8_t *)&set;
  int32_t count = 0;
  for (size_t i = 0; i < sizeof(set); ++i)
    count += __builtin_popcount(bytes[i]);
  return count < 1                       ? 1
         : count > QUENCH_RT_MAX_THREADS ? QUENCH_RT_MAX_THREADS
                                         : count;
}

int quench_rt_start(quench_context *context) {
  int32_t wanted = context->threads;
  context->barrier.spins =
      wanted > quench_rt_processors() ? SPINS_OVERLOADED : SPINS;
  for (context->threads = 1; context->threads < wanted; ++context->threads) {
    quench_rt_worker *worker = &context->worker[context->threads];
    worker->context = context;
    worker->worker = context->threads;
    if (pthread_create(&worker->thread, NULL, run_worker, worker)) {
      int32_t made = context->threads;
      quench_rt_stop(context);
      return quench_rt_fail(QUENCH_ERROR_MEMORY,
                            "thread %d of %d cannot be started", (int)made + 1,
                            (int)wanted);
    }
  }
  return QUENCH_OK;
}

void quench_rt_stop(quench_context *context) {
  if (context->threads <= 1)
    return;
  context->stop = 1;
  atomic_fetch_add(&context->epoch, 1);
  wake_all(&context->epoch, &context->parked);
  for (int32_t i = 1; i < context->threads; ++i)
    pthread_join(context->worker[i].thread, NULL);
  context->threads = 1;
}

int quench_rt_enter(quench_context *context) {
  if (!context)
    return quench_rt_fail(QUENCH_ERROR_ARGUMENT, "the context is null");
  if (atomic_exchange(&context->busy, 1))
    return quench_rt_fail(
        QUENCH_ERROR_BUSY,
        "the context is in use by another thread; make one for each");
  return QUENCH_OK;
}

void quench_rt_leave(quench_context *context) {
  atomic_store(&context->busy, 0);
}
