/* SPDX-License-Identifier: Apache-2.0
 * How fast attention over the paged cache is on all threads, and how near to what the machine allows. */
#ifndef INGOT_DEVICE_ATTN_BENCH_H
#define INGOT_DEVICE_ATTN_BENCH_H

#include "device/backend.h"

/* What is measured: heads of one layer, and rows that each see `ctx` tokens or a few less. */
typedef struct AttnBenchCase {
    const char *name; /* of a model with such heads */
    int nh, nkv, hd, ctx;
    int n_seq;  /* sequences, each with a cache of its own */
    int n_rows; /* of each sequence; the last of them at position ctx - 1 */
    DType kv;
} AttnBenchCase;

typedef struct AttnBenchRow {
    const AttnBenchCase *c;
    double seconds;    /* of one call, least of some rounds */
    double kv_bytes;   /* K and V that one call has to read once */
    double flops;      /* 4 hd a query head and token it sees */
    double read_bytes; /* a second: memory read by all threads, in turns with the calls */
    double
        peak_flops; /* a second: multiply-adds that never leave the registers, on all threads, likewise */
} AttnBenchRow;

/* Time each case on a device of its own and hand the row to on_row as it is known; `rounds` >= 1 of each, cases
 * must fit in about 256 MB of cache. ERR_NOMEM, ERR_UNSUPPORTED (level). Calling thread. */
MUST_CHECK Status device_attn_bench(const DeviceOpts *o, const AttnBenchCase *cases, int n,
                                    int rounds, void (*on_row)(void *ctx, const AttnBenchRow *row),
                                    void *ctx, Err *e);

#endif
