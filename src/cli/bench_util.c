/* SPDX-License-Identifier: Apache-2.0
 * What the parts of `ingot bench` share: the spread of several rounds, the machine's read bandwidth. */
#include "cli/bench.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/team.h"
#include "kernel/kernel.h"

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

Spread cli_bench_spread(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return (Spread){v[0], v[n / 2], v[n - 1]};
}

double cli_bench_round(double v) {
    if (!isfinite(v) || fabs(v) < 1e-300) return 0;
    double unit = pow(10, floor(log10(fabs(v))) - 3);
    return unit >= 1 ? round(v / unit) * unit : round(v / unit) / round(1 / unit);
}

void cli_bench_put(JsonW *w, const char *key, Spread s) {
    jw_arr(w, key);
    jw_num(w, NULL, cli_bench_round(s.min));
    jw_num(w, NULL, cli_bench_round(s.median));
    jw_num(w, NULL, cli_bench_round(s.max));
    jw_end_arr(w);
}

/* ---- read bandwidth ---- */

enum { READ_BYTES = 256 << 20, READ_TILE = 2 << 20, READ_ROUNDS = 8 };

typedef struct ReadJob {
    const Kern *kern;
    char *p;
    int64_t n_tiles;
    _Atomic uint64_t sum; /* keeps the loads; relaxed, any worker */
} ReadJob;

static void touch_tile(void *ctx, int64_t tile, int worker) {
    const ReadJob *j = ctx;
    (void)worker;
    memset(j->p + tile * READ_TILE, 1, READ_TILE);
}

static void read_tile(void *ctx, int64_t tile, int worker) {
    ReadJob *j = ctx;
    (void)worker;
    uint64_t x = j->kern->read(j->p + tile * READ_TILE, READ_TILE);
    atomic_fetch_xor_explicit(&j->sum, x, memory_order_relaxed);
}

static double read_rounds(Team *t, ReadJob *j) {
    double best = 0;
    team_run(t, j->n_tiles, touch_tile, j);
    for (int i = 0; i < READ_ROUNDS; i++) {
        double t0 = clock_now_s();
        team_run(t, j->n_tiles, read_tile, j);
        best = fmax(best, (double)(j->n_tiles * READ_TILE) / (clock_now_s() - t0));
    }
    return best;
}

Status cli_bench_read(double *bytes_s, size_t most, const char *cpu, int n_threads, Err *e) {
    Kern kern;
    Team *team;
    TRY(kern_init(&kern, cpu, e));
    TRY(team_new(&team, n_threads, e));
    int64_t n_tiles = (int64_t)(MIN(most, (size_t)READ_BYTES) / READ_TILE);
    ReadJob j = {.kern = &kern, .n_tiles = MAX(1, n_tiles)};
    size_t bytes = (size_t)j.n_tiles * READ_TILE;
    j.p = mem_map_alloc(bytes);
    Status st = j.p ? OK : err_set(e, ERR_NOMEM, "bench: %zu bytes: out of memory", bytes);
    if (st == OK) *bytes_s = read_rounds(team, &j);
    if (j.p) mem_map_free(j.p, bytes);
    team_free(team);
    return st;
}
