/* SPDX-License-Identifier: Apache-2.0
 * Between the parts of `ingot bench`: cmd_bench.c (options), bench_model.c, bench_train.c, bench_products.c
 * and what they share (bench_util.c). Main thread. */
#ifndef INGOT_CLI_BENCH_H
#define INGOT_CLI_BENCH_H

#include "cli/cli.h"
#include "text/json.h"

typedef struct BenchCmd {
    bool kernels, attention, products, train, engine, batch_invariant, no_pack, price, json;
    const char *cpu, *dtype, *arch; /* NULL: not given */
    const char *kv, *speculate;
    int64_t speculate_tokens;
    int64_t pp, tg, streams, threads, reps, itl_target;
    int64_t n_layer, n_head, n_embd, vocab, ctx, batch;
} BenchCmd;

/* What several rounds of one measurement gave. */
typedef struct Spread {
    double min, median, max;
} Spread;

enum { BENCH_MAX_REPS = 1000 };

/* Sorts v[n], n >= 1. */
Spread cli_bench_spread(double *v, int n);
/* "key": [min, median, max] with four significant digits. */
void cli_bench_put(JsonW *w, const char *key, Spread s);
/* v with four significant digits. */
double cli_bench_round(double v);
/* Bytes a second that n_threads together read, the best of several rounds over `most` bytes (256 MB at most, which
 * no cache holds). */
MUST_CHECK Status cli_bench_read(double *bytes_s, size_t most, const char *cpu, int n_threads,
                                 Err *e);

/* Each prints its results and gives the exit code. */
int cli_bench_model(const BenchCmd *c, const char *path);
int cli_bench_engine(const BenchCmd *c, const char *path);
int cli_bench_speculate(const BenchCmd *c, const char *path);
int cli_bench_train(const BenchCmd *c);
int cli_bench_products(const BenchCmd *c);
int cli_bench_kernels(const BenchCmd *c);
int cli_bench_attention(const BenchCmd *c);

/* ingot tokenizer bench */
int cli_bench_tokenizer(int argc, char **argv);

#endif
