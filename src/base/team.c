/* SPDX-License-Identifier: Apache-2.0
 * The team. One atomic word `state` holds the number of the loop, whether it is open for joining,
 * and how many workers are in it:
 *
 *   63          17   16     15      0
 *   [ loop number ][ open ][ joined  ]
 *
 * team_run writes the loop's fields, then stores state = (loop + 1, open, 0). A worker that sees a
 * loop it does not know joins by compare-and-swap, which fails if the loop was closed in the
 * meantime, takes tiles with one fetch_add each, and leaves. Each has a share of the tiles, side by
 * side, since memory is read fastest in order, and takes from the others' when its own is done. When
 * no tile is left the caller closes the loop and waits only for those who joined: a worker that is
 * still waking up costs nothing, and it cannot see the fields of a loop it is not in. Joining
 * acquires what team_run released; leaving releases the tiles' results to the caller.
 *
 * Whoever waits spins first and then sleeps on a condition variable. Going to sleep is "announce,
 * then look again", waking is "change, then look for sleepers", both sequentially consistent, so
 * one of the two always sees the other. With more threads than processors spinning takes time away
 * from the one who works, so it is left out. */
#include "base/team.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/internal.h"

#define TEAM_JOINED ((uint64_t)0xFFFF)
#define TEAM_OPEN ((uint64_t)1 << 16)
#define TEAM_LOOP_SHIFT 17
#define TEAM_MAX 4096
#define TEAM_SPIN_NS 50000u
#define TEAM_SPIN_BATCH 32

enum {
    SOON_BYTES = 256 << 10, /* asked for ahead by a worker, which its second cache has room for, */
    SOON_STEP = 512         /* and so many between two looks for the next loop */
};

/* A worker's tiles. */
typedef struct Share {
    ALIGNED(64) _Atomic int64_t next; /* [atomic] relaxed: next tile; its own cache line */
} Share;

typedef struct Worker {
    Team *team;
    pthread_t thread;
    int index; /* 1 .. size - 1 */
} Worker;

struct Team {
    ALIGNED(64) _Atomic uint64_t state; /* [atomic] see above */
    _Atomic int n_asleep;               /* [atomic] workers in cond_wait or on the way */
    _Atomic bool caller_asleep;         /* [atomic] */
    _Atomic bool stopping;              /* [atomic] stored before the last change of state */

    ALIGNED(64) _Atomic uintptr_t soon; /* [atomic] relaxed, as the next: see team_soon */
    _Atomic size_t soon_bytes;          /* [atomic] */

    ALIGNED(64) TeamFn fn; /* [caller writes while nobody is joined, joined workers read] */
    void *ctx;             /* the same */
    int64_t n_tiles;       /* the same */

    int size;           /* [const] */
    int n_started;      /* [caller] threads to join on free */
    uint64_t spin_ns;   /* [const] */
    Worker *workers;    /* [const] owned; size - 1 of them */
    Share *shares;      /* [const] owned; [size] */
    bool running;       /* [caller] */
    pthread_mutex_t mu; /* rank 10; guards only sleeping and waking */
    pthread_cond_t work, done;
};

/* First tile of share i. */
static int64_t share_begin(const Team *t, int i) { return t->n_tiles * i / t->size; }

/* A look before each step: a share that is done stays in everybody's cache. */
static void work_share(Team *t, int share, int worker) {
    _Atomic int64_t *next = &t->shares[share].next;
    int64_t end = share_begin(t, share + 1);
    while (atomic_load_explicit(next, memory_order_relaxed) < end) {
        int64_t i = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
        if (i < end) t->fn(t->ctx, i, worker);
    }
}

static void work_tiles(Team *t, int worker) {
    for (int i = 0; i < t->size; i++) work_share(t, (worker + i) % t->size, worker);
}

/* ---- waiting ---- */

static bool loop_changed(Team *t, uint64_t seen) {
    return atomic_load(&t->state) >> TEAM_LOOP_SHIFT != seen;
}

static bool all_left(Team *t, uint64_t unused) {
    (void)unused;
    return (atomic_load(&t->state) & TEAM_JOINED) == 0;
}

/* Spin until ready(t, arg); false when the time is over. */
static bool spin_until(Team *t, bool (*ready)(Team *, uint64_t), uint64_t arg) {
    if (ready(t, arg)) return true;
    if (t->spin_ns == 0) {
        sched_yield();
        return ready(t, arg);
    }
    uint64_t end = clock_now_ns() + t->spin_ns;
    do {
        for (int i = 0; i < TEAM_SPIN_BATCH; i++) {
            if (ready(t, arg)) return true;
            CPU_RELAX();
        }
    } while (clock_now_ns() < end);
    return false;
}

/* Ask for the beginning of this worker's share of what is read soon. What is not there any more does no harm. */
static void ask_ahead(Team *t, int worker, uint64_t seen) {
    size_t share = atomic_load_explicit(&t->soon_bytes, memory_order_relaxed) / (size_t)t->size,
           n = MIN(share, (size_t)SOON_BYTES);
    uintptr_t from = atomic_load_explicit(&t->soon, memory_order_relaxed) + share * (size_t)worker;
    for (size_t i = 0; i < n && !loop_changed(t, seen); i += SOON_STEP) {
        for (size_t j = i; j < i + SOON_STEP; j += 64) PREFETCH((const void *)(from + j));
    }
}

static void wait_for_loop(Team *t, uint64_t seen, int worker) {
    if (t->spin_ns > 0) ask_ahead(t, worker, seen);
    if (spin_until(t, loop_changed, seen)) return;
    pthread_mutex_lock(&t->mu);
    atomic_fetch_add(&t->n_asleep, 1);
    while (!loop_changed(t, seen)) pthread_cond_wait(&t->work, &t->mu);
    atomic_fetch_sub(&t->n_asleep, 1);
    pthread_mutex_unlock(&t->mu);
}

static void wait_for_workers(Team *t) {
    if (spin_until(t, all_left, 0)) return;
    pthread_mutex_lock(&t->mu);
    atomic_store(&t->caller_asleep, true);
    while (!all_left(t, 0)) pthread_cond_wait(&t->done, &t->mu);
    atomic_store(&t->caller_asleep, false);
    pthread_mutex_unlock(&t->mu);
}

/* Publish a loop number and wake who sleeps. Nobody is joined. */
static void next_loop(Team *t, uint64_t open) {
    uint64_t loop = atomic_load_explicit(&t->state, memory_order_relaxed) >> TEAM_LOOP_SHIFT;
    atomic_store(&t->state, (loop + 1) << TEAM_LOOP_SHIFT | open);
    if (atomic_load(&t->n_asleep) == 0) return;
    pthread_mutex_lock(&t->mu);
    pthread_cond_broadcast(&t->work);
    pthread_mutex_unlock(&t->mu);
}

/* ---- workers ---- */

/* Join the loop now open; *loop is its number, or of the closed one that was seen instead. */
static bool join_loop(Team *t, uint64_t *loop) {
    uint64_t s = atomic_load(&t->state);
    do {
        *loop = s >> TEAM_LOOP_SHIFT;
        if (!(s & TEAM_OPEN)) return false;
    } while (!atomic_compare_exchange_weak(&t->state, &s, s + 1));
    return true;
}

/* The last one out of a closed loop wakes the caller, who still works while it is open. */
static void leave_loop(Team *t) {
    uint64_t left = atomic_fetch_sub(&t->state, 1) - 1;
    if ((left & (TEAM_OPEN | TEAM_JOINED)) != 0 || !atomic_load(&t->caller_asleep)) return;
    pthread_mutex_lock(&t->mu);
    pthread_cond_signal(&t->done);
    pthread_mutex_unlock(&t->mu);
}

static void *worker_main(void *arg) {
    Worker *w = arg;
    Team *t = w->team;
    char name[16];
    snprintf(name, sizeof name, "ingot-w%d", w->index);
    pthread_setname_np(pthread_self(), name);
    for (uint64_t seen = 0;;) {
        wait_for_loop(t, seen, w->index);
        if (!join_loop(t, &seen)) { /* closed, which the last one always is */
            if (atomic_load(&t->stopping)) return NULL;
            continue;
        }
        work_tiles(t, w->index);
        leave_loop(t);
    }
}

/* ---- the caller ---- */

/* Workers take no signals: the main thread handles them. */
static Status start_workers(Team *t, Err *e) {
    sigset_t all, old;
    int rc = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 0; rc == 0 && i < t->size - 1; i++) {
        Worker *w = &t->workers[i];
        *w = (Worker){.team = t, .index = i + 1};
        rc = fault_hit(FAULT_IO) ? EAGAIN : pthread_create(&w->thread, NULL, worker_main, w);
        t->n_started += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0) return OK;
    return err_set(e, ERR_IO, "thread %d of %d: %s", t->n_started + 2, t->size, strerror(rc));
}

Status team_new(Team **out, int n_threads, Err *e) {
    if (n_threads < 1 || n_threads > TEAM_MAX)
        return err_set(e, ERR_ARG, "%d threads: must be 1 to %d", n_threads, TEAM_MAX);
    Team *t = mem_map_alloc(sizeof *t); /* aligned to cache lines */
    if (!t) return err_set(e, ERR_NOMEM, "out of memory for a team of %d threads", n_threads);
    t->size = n_threads;
    t->spin_ns = n_threads <= team_default_size() ? TEAM_SPIN_NS : 0;
    pthread_mutex_init(&t->mu, NULL);
    pthread_cond_init(&t->work, NULL);
    pthread_cond_init(&t->done, NULL);
    t->workers = mem_new_n(Worker, (size_t)n_threads);
    t->shares = mem_map_alloc(sizeof *t->shares * (size_t)n_threads);
    Status st = t->workers && t->shares
                    ? start_workers(t, e)
                    : err_set(e, ERR_NOMEM, "out of memory for %d threads", n_threads);
    if (st == OK) *out = t;
    else team_free(t);
    return st;
}

void team_free(Team *t) {
    if (!t) return;
    atomic_store(&t->stopping, true);
    next_loop(t, 0);
    for (int i = 0; i < t->n_started; i++) pthread_join(t->workers[i].thread, NULL);
    pthread_cond_destroy(&t->done);
    pthread_cond_destroy(&t->work);
    pthread_mutex_destroy(&t->mu);
    mem_free(t->workers);
    if (t->shares) mem_map_free(t->shares, sizeof *t->shares * (size_t)t->size);
    mem_map_free(t, sizeof *t);
}

int team_size(const Team *t) { return t->size; }

void team_soon(Team *t, const void *p, size_t n_bytes) {
    atomic_store_explicit(&t->soon, (uintptr_t)p, memory_order_relaxed);
    atomic_store_explicit(&t->soon_bytes, n_bytes, memory_order_relaxed);
}

void team_run(Team *t, int64_t n_tiles, TeamFn fn, void *ctx) {
    if (t->size == 1 || n_tiles <= 1) {
        for (int64_t i = 0; i < n_tiles; i++) fn(ctx, i, 0);
        return;
    }
    assert(!t->running);
    t->running = true;
    t->fn = fn;
    t->ctx = ctx;
    t->n_tiles = n_tiles;
    for (int i = 0; i < t->size; i++) /* published by the store of state */
        atomic_store_explicit(&t->shares[i].next, share_begin(t, i), memory_order_relaxed);
    next_loop(t, TEAM_OPEN);
    work_tiles(t, 0);
    atomic_fetch_and(&t->state, ~TEAM_OPEN);
    wait_for_workers(t);
    t->running = false;
}

/* ---- how many ---- */

/* Processors' worth of time that dir allows, rounded up. Version 2 writes "max 100000" or "quota
 * period" into cpu.max, version 1 has one file for each. */
static void lower_to_quota(void *ctx, const char *dir) {
    int *n = ctx;
    char text[64], period_text[64];
    long long quota = -1, period = 0;
    if (cgroup__read(text, sizeof text, dir, "cpu.max")) {
        if (sscanf(text, "%lld %lld", &quota, &period) != 2) return;
    } else if (cgroup__read(text, sizeof text, dir, "cpu.cfs_quota_us") &&
               cgroup__read(period_text, sizeof period_text, dir, "cpu.cfs_period_us")) {
        if (sscanf(text, "%lld", &quota) != 1 || sscanf(period_text, "%lld", &period) != 1) return;
    }
    if (quota <= 0 || period <= 0) return;
    long long whole = (quota + period - 1) / period;
    if (whole < *n) *n = (int)whole;
}

int team_default_size(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                        : (int)sysconf(_SC_NPROCESSORS_ONLN);
    cgroup__visit("cpu", lower_to_quota, &n);
    return MAX(n, 1);
}
