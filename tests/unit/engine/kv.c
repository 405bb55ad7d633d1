/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/kv.h"

#include "base/mem.h"
#include "base/rng.h"
#include "test.h"

#include "engine/kv.c" /* its inside, to break it */

static KvPool *pool_new(int n_blocks, int n_seqs, int max_tok) {
    KvPool *p = NULL;
    OK_(kv_pool_new(&p, n_blocks, n_seqs, max_tok, TERR));
    OK_(kv_check(p, TERR));
    return p;
}

TEST(blocks_are_counted_in_32s) {
    EQ(kv_blocks_for(1), 1);
    EQ(kv_blocks_for(32), 1);
    EQ(kv_blocks_for(33), 2);
}

TEST(take_and_release) {
    KvPool *p = pool_new(8, 3, 200);
    int a, b;
    OK_(kv_seq_take(&a, p, 65, TERR));
    OK_(kv_seq_take(&b, p, 160, TERR));
    EQ(kv_n_free(p), 0);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 5; k++) NE(kv_seq_blocks(p, a)[i], kv_seq_blocks(p, b)[k]);
    OK_(kv_check(p, TERR));
    kv_seq_release(p, a);
    EQ(kv_n_free(p), 3);
    OK_(kv_check(p, TERR));
    kv_seq_release(p, b);
    EQ(kv_n_free(p), 8);
    OK_(kv_check(p, TERR));
    kv_pool_free(p);
}

TEST(full_pool_changes_nothing) {
    KvPool *p = pool_new(4, 8, 128);
    int a, b = -5;
    OK_(kv_seq_take(&a, p, 97, TERR));
    FAILS(ERR_FULL, kv_seq_take(&b, p, 1, TERR));
    EQ(b, -5);
    kv_seq_release(p, a);
    FAILS(ERR_ARG, kv_seq_take(&b, p, 129, TERR));
    FAILS(ERR_ARG, kv_seq_take(&b, p, 0, TERR));
    EQ(kv_n_free(p), 4);
    OK_(kv_check(p, TERR));
    kv_pool_free(p);
}

TEST(sequences_run_out_too) {
    KvPool *p = pool_new(100, 2, 64);
    int a, b, c;
    OK_(kv_seq_take(&a, p, 1, TERR));
    OK_(kv_seq_take(&b, p, 1, TERR));
    FAILS(ERR_FULL, kv_seq_take(&c, p, 1, TERR));
    kv_seq_release(p, a);
    OK_(kv_seq_take(&c, p, 64, TERR));
    OK_(kv_check(p, TERR));
    kv_pool_free(p);
}

TEST(nothing_is_allocated_after_the_start) {
    KvPool *p = pool_new(64, 8, 256);
    uint64_t n = mem_n_alloc();
    int s;
    for (int i = 0; i < 100; i++) {
        OK_(kv_seq_take(&s, p, 1 + i, TERR));
        kv_seq_release(p, s);
    }
    EQ(mem_n_alloc(), n);
    kv_pool_free(p);
}

/* Many takes and releases in random order; the invariants after each. */
TEST(random_use_keeps_the_invariants) {
    enum { SEQS = 6 };
    KvPool *p = pool_new(40, SEQS, 500);
    int held[SEQS], n_held = 0, n_full = 0;
    for (uint64_t i = 0; i < 5000; i++) {
        double u = rng_uniform(1, i, 0), v = rng_uniform(1, i, 1);
        if (u < 0.5 && n_held > 0) {
            int k = (int)(v * n_held);
            kv_seq_release(p, held[k]);
            held[k] = held[--n_held];
        } else {
            int s;
            Status st = kv_seq_take(&s, p, 1 + (int)(v * 499), TERR);
            if (st == OK) held[n_held++] = s;
            else n_full++;
            TRUE_(st == OK || st == ERR_FULL);
        }
        OK_(kv_check(p, TERR));
    }
    TRUE_(n_full > 10);
    while (n_held > 0) kv_seq_release(p, held[--n_held]);
    EQ(kv_n_free(p), 40);
    kv_pool_free(p);
}

TEST(check_finds_damage) {
    for (int damage = 0; damage < 6; damage++) {
        KvPool *p = pool_new(8, 2, 128);
        int s;
        OK_(kv_seq_take(&s, p, 100, TERR));
        switch (damage) {
        case 0: p->n_free++; break;
        case 1: p->seq[s].table[1] = p->seq[s].table[0]; break;
        case 2: p->seq[s].table[2] = 99; break;
        case 3: p->free_ids[0] = p->seq[s].table[0]; break;
        case 4: p->owner[p->free_ids[1]] = s; break;
        case 5: p->seq[s].used = false; break;
        default: break;
        }
        FAILS(ERR_INTERNAL, kv_check(p, TERR));
        kv_pool_free(p);
    }
}
