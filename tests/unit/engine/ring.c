/* SPDX-License-Identifier: Apache-2.0
 * The ring alone and between two threads, with a reader that is faster and one that is slower than the writer. */
#include "engine/ring.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "test.h"

typedef struct Rec {
    uint64_t i, twice;
    char tail[8];
} Rec;

static Rec rec_of(uint64_t i) { return (Rec){i, 2 * i, "abcdefg"}; }

TEST(records_come_in_order_and_a_full_ring_refuses) {
    Ring r;
    OK_(ring_init(&r, 3, sizeof(Rec), TERR));
    TRUE_(ring_peek(&r) == NULL);
    uint64_t in = 0, out = 0;
    for (int round = 0; round < 7; round++) { /* the places are used again and again */
        Rec x;
        for (int k = 0; k < 3; k++) {
            x = rec_of(in++);
            TRUE_(ring_push(&r, &x, sizeof x));
        }
        x = rec_of(999);
        FALSE_(ring_push(&r, &x, sizeof x));
        for (int k = 0; k < 3; k++) {
            const Rec *got = ring_peek(&r);
            TRUE_(got != NULL);
            EQ(got->i, out);
            EQ(got->twice, 2 * out);
            EQ_STR(got->tail, "abcdefg");
            EQ((uintptr_t)got % 8, 0);
            ring_drop(&r);
            out++;
        }
        TRUE_(ring_peek(&r) == NULL);
    }
    ring_deinit(&r);
}

TEST(short_records_leave_their_neighbours_alone) {
    Ring r;
    uint64_t a = 1;
    OK_(ring_init(&r, 2, 12, TERR)); /* places of 16 bytes */
    TRUE_(ring_push(&r, &a, sizeof a));
    TRUE_(ring_push(&r, "0123456789a", 12));
    EQ(*(const uint64_t *)ring_peek(&r), 1);
    ring_drop(&r);
    EQ_STR((const char *)ring_peek(&r), "0123456789a");
    ring_deinit(&r);
}

TEST(waiting_ends_in_time) {
    Ring r;
    OK_(ring_init(&r, 2, 8, TERR));
    double t0 = clock_now_s();
    FALSE_(ring_wait(&r, 30));
    double took = clock_now_s() - t0;
    TRUE_(took > 0.025 && took < 5);
    FALSE_(ring_wait(&r, 0));
    TRUE_(ring_push(&r, &t0, 8));
    TRUE_(ring_wait(&r, -1));
    ring_deinit(&r);
}

/* ---- two threads ---- */

enum { N = 200000 };

typedef struct Pair {
    Ring r;
    int write_every_us, read_every_us; /* 0: as fast as it goes */
    uint64_t n_full;                   /* times the writer found no room */
    uint64_t n_wrong, n_read;
} Pair;

static void *writer(void *ctx) {
    Pair *p = ctx;
    for (uint64_t i = 0; i < N; i++) {
        Rec x = rec_of(i);
        while (!ring_push(&p->r, &x, sizeof x)) {
            p->n_full++;
            sched_yield();
        }
        if (p->write_every_us && i % 512 == 0) usleep((unsigned)p->write_every_us);
    }
    return NULL;
}

static void *reader(void *ctx) {
    Pair *p = ctx;
    while (p->n_read < N) {
        const Rec *x = ring_peek(&p->r);
        if (!x) {
            ring_wait(&p->r, -1); /* a lost wake-up would hang here */
            continue;
        }
        p->n_wrong += x->i != p->n_read || x->twice != 2 * x->i || x->tail[6] != 'g';
        ring_drop(&p->r);
        p->n_read++;
        if (p->read_every_us && p->n_read % 512 == 0) usleep((unsigned)p->read_every_us);
    }
    return NULL;
}

static Pair run_pair(size_t cap, int write_every_us, int read_every_us) {
    static Pair p;
    pthread_t w, rd;
    p = (Pair){.write_every_us = write_every_us, .read_every_us = read_every_us};
    OK_(ring_init(&p.r, cap, sizeof(Rec), TERR));
    EQ(pthread_create(&rd, NULL, reader, &p), 0);
    EQ(pthread_create(&w, NULL, writer, &p), 0);
    pthread_join(w, NULL);
    pthread_join(rd, NULL);
    TRUE_(ring_peek(&p.r) == NULL);
    ring_deinit(&p.r);
    EQ(p.n_wrong, 0);
    EQ(p.n_read, N);
    return p;
}

TEST(a_fast_reader_sleeps_and_is_woken) { run_pair(64, 100, 0); }

TEST(a_slow_reader_of_a_large_ring_never_holds_the_writer_up) {
    Pair p = run_pair(N, 0, 100);
    EQ(p.n_full, 0);
}

TEST(a_slow_reader_of_a_small_ring_loses_nothing) {
    Pair p = run_pair(16, 0, 50);
    TRUE_(p.n_full > 0);
}

TEST(a_ring_of_one_place) { run_pair(1, 0, 0); }

TEST(no_memory_is_said) {
    Ring r;
    size_t before = mem_live_bytes();
    fault_arm(FAULT_ALLOC, 1);
    FAILS(ERR_NOMEM, ring_init(&r, 4, 8, TERR));
    fault_arm(FAULT_ALLOC, 0);
    ring_deinit(&r);
    FAILS(ERR_NOMEM, ring_init(&r, SIZE_MAX / 8, 64, TERR));
    ring_deinit(&r);
    EQ(mem_live_bytes(), before);
}
