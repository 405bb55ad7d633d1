/* SPDX-License-Identifier: Apache-2.0 */
#include "base/team.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "test.h"

static void nap_ms(int ms) { nanosleep(&(struct timespec){0, ms * 1000000L}, NULL); }

static double cpu_s(void) {
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

typedef struct Marks {
    int *tile; /* plain on purpose: a race shows under the thread sanitizer */
    int worker[64];
    _Atomic int bad_worker;
    int size;
} Marks;

static void mark(void *ctx, int64_t tile, int worker) {
    Marks *m = ctx;
    m->tile[tile]++;
    if (worker < 0 || worker >= m->size) atomic_store(&m->bad_worker, 1);
    else m->worker[worker]++;
}

static void check_loop(Team *t, Marks *m, int64_t n) {
    memset(m->tile, 0, (size_t)n * sizeof(int));
    team_run(t, n, mark, m);
    for (int64_t i = 0; i < n; i++) EQ(m->tile[i], 1);
    EQ(m->bad_worker, 0);
}

/* Every tile exactly once, for counts below, at and above the number of threads and processors. */
TEST(every_tile_once) {
    static const int64_t TILES[] = {0, 1, 2, 3, 7, 8, 9, 100, 1000};
    for (int size = 1; size <= 8; size++) {
        Team *t = NULL;
        Marks m = {.tile = mem_new_n(int, 1000), .size = size};
        OK_(team_new(&t, size, TERR));
        EQ(team_size(t), size);
        for (int round = 0; round < 50; round++)
            for (size_t i = 0; i < COUNT_OF(TILES); i++) check_loop(t, &m, TILES[i]);
        team_free(t);
        mem_free(m.tile);
    }
}

/* A worker that sleeps in between is woken and helps. */
TEST(sleepers_wake_up) {
    Team *t = NULL;
    Marks m = {.tile = mem_new_n(int, 64), .size = 2};
    OK_(team_new(&t, 2, TERR));
    for (int round = 0; round < 20; round++) {
        nap_ms(2);
        check_loop(t, &m, 64);
    }
    team_free(t);
    mem_free(m.tile);
}

static void nap_tile(void *ctx, int64_t tile, int worker) {
    (void)tile;
    ((_Atomic int *)ctx)[worker]++;
    nap_ms(3);
}

/* Tiles longer than the spinning time: both work, and the one who ends first waits asleep. On a busy
 * machine the worker may miss a loop, but not fifty. */
TEST(long_tiles_are_shared) {
    Team *t = NULL;
    _Atomic int per_worker[2] = {0, 0};
    int n_loops = 0;
    OK_(team_new(&t, 2, TERR));
    while (n_loops++ < 50 && (per_worker[0] == 0 || per_worker[1] == 0)) {
        per_worker[0] = per_worker[1] = 0;
        team_run(t, 9, nap_tile, per_worker);
        EQ(per_worker[0] + per_worker[1], 9);
    }
    TRUE_(per_worker[0] > 0 && per_worker[1] > 0);
    team_free(t);
}

typedef struct Uneven {
    _Atomic int slow[2]; /* tiles of the first half, by worker */
} Uneven;

static void uneven_tile(void *ctx, int64_t tile, int worker) {
    Uneven *u = ctx;
    if (tile >= 8) return;
    u->slow[worker]++;
    nap_ms(2);
}

/* Whoever is done with its own share takes from the others': the slow tiles are all in one. */
TEST(the_quick_help_the_slow) {
    Team *t = NULL;
    Uneven u = {{0, 0}};
    OK_(team_new(&t, 2, TERR));
    for (int i = 0; i < 50 && (u.slow[0] == 0 || u.slow[1] == 0); i++) {
        u.slow[0] = u.slow[1] = 0;
        team_run(t, 16, uneven_tile, &u);
        EQ(u.slow[0] + u.slow[1], 8);
    }
    TRUE_(u.slow[0] > 0 && u.slow[1] > 0);
    team_free(t);
}

/* A hint may name memory that is not there, and any size. */
TEST(hints_do_no_harm) {
    static const size_t BYTES[] = {0, 1, 4096, (size_t)1 << 30, SIZE_MAX};
    for (int size = 1; size <= 4; size++) {
        Team *t = NULL;
        Marks m = {.tile = mem_new_n(int, 64), .size = size};
        char *gone = mem_map_alloc(1 << 20);
        OK_(team_new(&t, size, TERR));
        mem_map_free(gone, 1 << 20);
        for (int round = 0; round < 100; round++) {
            team_soon(t, round % 2 ? gone : NULL, BYTES[round % 5]);
            check_loop(t, &m, 64);
        }
        team_free(t);
        mem_free(m.tile);
    }
}

static void add_prefix(void *ctx, int64_t tile, int worker) {
    (void)worker;
    double *row = (double *)ctx + tile * 16;
    for (int i = 0; i < 15; i++) row[i + 1] += row[i] * 0.7 + 1.0 / (double)(tile + i + 1);
}

TEST(same_bits_for_any_size) {
    enum { TILES = 500 };
    double *want = mem_new_n(double, TILES * 16), *x = mem_new_n(double, TILES * 16);
    for (int size = 1; size <= 7; size++) {
        Team *t = NULL;
        double *out = size == 1 ? want : x;
        memset(out, 0, TILES * 16 * sizeof *out);
        OK_(team_new(&t, size, TERR));
        for (int round = 0; round < 10; round++) team_run(t, TILES, add_prefix, out);
        if (size > 1) EQ_MEM(want, x, TILES * 16 * sizeof *x);
        team_free(t);
    }
    mem_free(want);
    mem_free(x);
}

/* What a tile wrote is seen by the caller, and what the caller writes by the next loop's tiles. */
static void double_it(void *ctx, int64_t tile, int worker) {
    (void)worker;
    int *x = ctx;
    x[tile] = x[tile] * 2 + 1;
}

TEST(results_cross_loops) {
    enum { LOOPS = 3000, TILES = 5 };
    for (int size = 2; size <= 6; size += 2) {
        Team *t = NULL;
        int x[TILES] = {0};
        OK_(team_new(&t, size, TERR));
        for (int i = 0; i < LOOPS; i++) {
            team_run(t, TILES, double_it, x);
            for (int j = 0; j < TILES; j++) {
                EQ(x[j], i % 10 * 2 + 1);
                x[j] = (i + 1) % 10;
            }
        }
        team_free(t);
    }
}

/* Between loops a team costs nothing, also one with more threads than processors. */
TEST(idle_team_does_not_burn) {
    for (int size = 2; size <= 16; size *= 8) {
        Team *t = NULL;
        Marks m = {.tile = mem_new_n(int, 64), .size = size};
        OK_(team_new(&t, size, TERR));
        check_loop(t, &m, 64);
        nap_ms(20);
        double least = 1;
        for (int i = 0; i < 5 && least >= 0.05;
             i++) { /* a busy machine may count others' work once */
            double before = cpu_s();
            nap_ms(200);
            least = fmin(least, cpu_s() - before);
        }
        TRUE_(least < 0.05);
        team_free(t);
        mem_free(m.tile);
    }
}

/* A waiting caller sleeps too: one worker naps in its tile while nobody computes. */
TEST(waiting_caller_does_not_burn) {
    Team *t = NULL;
    _Atomic int per_worker[4] = {0};
    OK_(team_new(&t, 4, TERR));
    double least = 1;
    for (int k = 0; k < 5 && least >= 0.05; k++) {
        double before = cpu_s();
        for (int i = 0; i < 20; i++) team_run(t, 4, nap_tile, per_worker);
        least = fmin(least, cpu_s() - before);
    }
    TRUE_(least < 0.05);
    team_free(t);
}

TEST(start_and_stop_many) {
    size_t live = mem_live_bytes();
    for (int i = 0; i < 100; i++) {
        Team *t = NULL;
        OK_(team_new(&t, 1 + i % 5, TERR));
        team_free(t);
    }
    team_free(NULL);
    EQ(mem_live_bytes(), live);
}

TEST(bad_sizes) {
    Team *t = NULL;
    FAILS(ERR_ARG, team_new(&t, 0, TERR));
    FAILS(ERR_ARG, team_new(&t, 1000000, TERR));
    TRUE_(t == NULL);
}

/* The third thread cannot be created: the two that run are stopped again. */
TEST(thread_creation_fails) {
    size_t live = mem_live_bytes();
    for (uint64_t n = 1; n <= 4; n++) {
        Team *t = NULL;
        fault_arm(FAULT_IO, n);
        Status st = team_new(&t, 4, TERR);
        fault_arm(FAULT_IO, 0);
        EQ(st, n <= 3 ? ERR_IO : OK);
        if (st != OK) TRUE_(strstr(test_err.msg, "of 4") != NULL);
        team_free(t);
    }
    EQ(mem_live_bytes(), live);
}

TEST(default_size) { TRUE_(team_default_size() >= 1 && team_default_size() <= 4096); }

static void tiny(void *ctx, int64_t tile, int worker) {
    (void)worker;
    ((int *)ctx)[tile * 16]++;
}

BENCH(loop_latency) {
    for (int size = 1; size <= 2 * team_default_size(); size *= 2) {
        Team *t = NULL;
        int x[64 * 16] = {0};
        enum { LOOPS = 100000 };
        OK_(team_new(&t, size, TERR));
        double start = clock_now_s();
        for (int i = 0; i < LOOPS; i++) team_run(t, 8, tiny, x);
        double us = (clock_now_s() - start) / LOOPS * 1e6;
        printf("{\"bench\":\"team_run\",\"threads\":%d,\"tiles\":8,\"us\":%.3f}\n", size, us);
        team_free(t);
    }
}

static void nothing(void *ctx, int64_t tile, int worker) {
    (void)ctx;
    (void)tile;
    (void)worker;
}

/* A worker that woke for a loop and found the team stopped instead slept on for ever, and team_free with it. */
TEST(team_freed_while_workers_wake) {
    for (int i = 0; i < 5000; i++) {
        Team *t;
        OK_(team_new(&t, 2 + i % 5, TERR));
        for (int k = 0; k < i % 3 + 1; k++) team_run(t, 2, nothing, NULL);
        team_free(t);
    }
}
