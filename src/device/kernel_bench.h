/* SPDX-License-Identifier: Apache-2.0
 * How fast each slot of the kernel table is, and how near to what the machine allows. */
#ifndef INGOT_DEVICE_KERNEL_BENCH_H
#define INGOT_DEVICE_KERNEL_BENCH_H

#include "base/err.h"
#include "kernel/kernel.h"

/* One measurement; strings are static or live as long as the call of on_row. */
typedef struct KernelBenchRow {
    const char *slot;      /* "gemv q4_0" */
    const char *level;     /* whose code it is: "avx512" */
    const char *shape;     /* "m=1 k=1536" */
    const char *unit;      /* "GB/s" of bytes read and written, or "GFLOP/s" */
    double value;          /* best of some rounds */
    const char *roof_name; /* "memory read", "cache read" or "fma peak" */
    double roof;           /* measured in the same run, same unit */
    double share;          /* value / roof */
} KernelBenchRow;

/* Time every slot of a level (NULL: the best one) on one thread and hand each row to on_row as it is
 * known; a few seconds and 270 MB. quick: each is called once, which shows that it works and not how fast.
 * ERR_ARG, ERR_UNSUPPORTED (level), ERR_NOMEM. Calling thread. */
MUST_CHECK Status kernel_bench_run(const char *level_name, bool quick,
                                   void (*on_row)(void *ctx, const KernelBenchRow *row), void *ctx,
                                   Err *e);

#endif
