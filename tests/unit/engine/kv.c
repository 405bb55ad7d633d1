/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/kv.h"

#include "base/mem.h"
#include "base/rng.h"
#include "test.h"

#include "engine/kv.c" /* its inside, to break it */

static const Sha256 root_a = {{1}}, root_b = {{2}};

static KvPool *pool_new(int n_blocks, int n_seqs, int max_tok) {
    KvPool *p = NULL;
    OK_(kv_pool_new(&p, n_blocks, n_seqs, max_tok, TERR));
    OK_(kv_check(p, TERR));
    return p;
}

/* Token i of text number `which`; texts differ from token `same` on. */
static void text(int32_t *tok, int n, int which, int same) {
    for (int i = 0; i < n; i++) tok[i] = i < same ? i : 1000 * which + i;
}

/* A sequence with these tokens, computed from where the cache ends; how many that were not in *hit. */
static int sequence(KvPool *p, const Sha256 *root, const int32_t *tok, int n, int *hit) {
    int idle, s = kv_seq_open(p, root);
    TRUE_(s >= 0);
    *hit = kv_seq_find(p, s, tok, n, &idle);
    kv_seq_attach(p, s, *hit);
    OK_(kv_seq_grow(p, s, n, TERR));
    kv_seq_commit(p, s, tok, n);
    OK_(kv_check(p, TERR));
    return s;
}

TEST(blocks_are_counted_in_32s) {
    EQ(kv_blocks_for(1), 1);
    EQ(kv_blocks_for(32), 1);
    EQ(kv_blocks_for(33), 2);
}

TEST(grow_and_release) {
    KvPool *p = pool_new(8, 3, 200);
    int a = kv_seq_open(p, NULL), b = kv_seq_open(p, NULL);
    OK_(kv_seq_grow(p, a, 65, TERR));
    OK_(kv_seq_grow(p, b, 160, TERR));
    OK_(kv_seq_grow(p, a, 20, TERR)); /* has them */
    EQ(kv_seq_n_blocks(p, a), 3);
    EQ(kv_n_free(p), 0);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 5; k++) NE(kv_seq_blocks(p, a)[i], kv_seq_blocks(p, b)[k]);
    FAILS(ERR_FULL, kv_seq_grow(p, a, 97, TERR));
    FAILS(ERR_ARG, kv_seq_grow(p, a, 225, TERR));
    EQ(kv_seq_n_blocks(p, a), 3);
    OK_(kv_check(p, TERR));
    kv_seq_release(p, a);
    EQ(kv_n_free(p), 3);
    kv_seq_release(p, b);
    EQ(kv_n_free(p), 8);
    OK_(kv_check(p, TERR));
    kv_pool_free(p);
}

TEST(sequences_run_out_too) {
    KvPool *p = pool_new(100, 2, 64);
    int a = kv_seq_open(p, NULL), b = kv_seq_open(p, &root_a);
    TRUE_(a >= 0 && b >= 0 && a != b);
    EQ(kv_seq_open(p, NULL), -1);
    kv_seq_release(p, a);
    EQ(kv_seq_open(p, NULL), a);
    kv_pool_free(p);
}

TEST(a_prefix_is_found_again) {
    KvPool *p = pool_new(16, 4, 256);
    int32_t x[200], y[200];
    int hit;
    text(x, 200, 1, 0);
    text(y, 200, 2, 0);
    memcpy(y, x, 100 * sizeof *x);
    int a = sequence(p, &root_a, x, 130, &hit);
    EQ(hit, 0);
    EQ(kv_n_findable(p), 4);
    int b = sequence(p, &root_a, y, 130, &hit); /* while it runs */
    EQ(hit, 96);
    for (int i = 0; i < 3; i++) EQ(kv_seq_blocks(p, a)[i], kv_seq_blocks(p, b)[i]);
    NE(kv_seq_blocks(p, a)[3], kv_seq_blocks(p, b)[3]);
    EQ(kv_n_free(p), 16 - 5 - 2);
    kv_seq_release(p, a);
    kv_seq_release(p, b);
    EQ(kv_n_free(p), 16);
    a = sequence(p, &root_a, x, 128,
                 &hit); /* and after its end; the last block is computed again */
    EQ(hit, 96);
    kv_seq_release(p, a);
    a = sequence(p, &root_b, x, 130, &hit); /* another tenant */
    EQ(hit, 0);
    kv_seq_release(p, a);
    a = sequence(p, NULL, x, 130, &hit);
    EQ(hit, 0);
    kv_seq_release(p, a);
    kv_forget(p);
    EQ(kv_n_findable(p), 0);
    a = sequence(p, &root_a, x, 130, &hit);
    EQ(hit, 0);
    kv_pool_free(p);
}

TEST(the_longest_unused_goes_first) {
    KvPool *p = pool_new(6, 4, 256);
    int32_t x[64], y[64], z[64];
    int hit, idle;
    text(x, 64, 1, 0);
    text(y, 64, 2, 0);
    text(z, 64, 3, 0);
    kv_seq_release(p, sequence(p, &root_a, x, 64, &hit));
    kv_seq_release(p, sequence(p, &root_a, y, 64, &hit));
    kv_seq_release(p, sequence(p, &root_a, x, 64, &hit)); /* x was used last */
    EQ(hit, 32);
    int s = kv_seq_open(p, NULL);
    OK_(kv_seq_grow(p, s, 5 * 32, TERR)); /* two without a hash, the end of x, then y */
    int a = kv_seq_open(p, &root_a), b = kv_seq_open(p, &root_a);
    EQ(kv_seq_find(p, b, y, 64, &idle), 0);
    EQ(kv_seq_find(p, a, x, 64, &idle), 32);
    EQ(idle, 1);
    OK_(kv_check(p, TERR));
    kv_pool_free(p);
}

TEST(a_shared_block_is_copied_before_it_is_written) {
    KvPool *p = pool_new(8, 4, 256);
    int32_t x[64], src, dst;
    int hit;
    text(x, 64, 1, 0);
    int a = sequence(p, &root_a, x, 40, &hit), b = kv_seq_open(p, &root_a),
        c = kv_seq_open(p, NULL);
    kv_seq_share(p, b, a, 40);
    kv_seq_share(p, c, a, 40);
    EQ(kv_n_free(p), 6);
    int32_t was = kv_seq_blocks(p, a)[1];
    OK_(kv_seq_own(p, b, 39, &src, &dst, TERR));
    EQ(src, was);
    EQ(dst, kv_seq_blocks(p, b)[1]);
    NE(src, dst);
    OK_(kv_seq_own(p, b, 40, &src, &dst, TERR)); /* its own now */
    EQ(src, -1);
    OK_(kv_seq_own(p, a, 40, &src, &dst, TERR)); /* c still holds it */
    EQ(src, was);
    OK_(kv_seq_own(p, c, 40, &src, &dst, TERR));
    EQ(src, -1);
    OK_(kv_check(p, TERR));
    int d = kv_seq_open(p, NULL);
    kv_seq_share(p, d, a, 40);
    OK_(kv_seq_grow(p, c, 32 * 6, TERR)); /* all that is left */
    EQ(kv_n_free(p), 0);
    FAILS(ERR_FULL, kv_seq_own(p, d, 40, &src, &dst, TERR));
    OK_(kv_check(p, TERR));
    kv_pool_free(p);
}

TEST(nothing_is_allocated_after_the_start) {
    KvPool *p = pool_new(64, 8, 256);
    int32_t x[256];
    uint64_t n = mem_n_alloc();
    int hit;
    for (int i = 0; i < 100; i++) {
        text(x, 256, i, 64);
        kv_seq_release(p, sequence(p, &root_a, x, 100 + i, &hit));
    }
    EQ(mem_n_alloc(), n);
    kv_pool_free(p);
}

/* Random use; every invariant after each call, and every block that is found holds what was put there. */
TEST(random_use_keeps_the_invariants) {
    enum { SEQS = 6, BLOCKS = 30, MAX = 400 };
    KvPool *p = pool_new(BLOCKS, SEQS, MAX);
    static int32_t held_in[BLOCKS][KV_BLOCK_TOK], tok[SEQS][MAX];
    int id[SEQS], n_tok[SEQS], n = 0, n_full = 0, n_hit = 0, n_own = 0;
    for (uint64_t i = 0; i < 6000; i++) {
        double u = rng_uniform(1, i, 0), v = rng_uniform(1, i, 1), w = rng_uniform(1, i, 2);
        if ((u < 0.4 || n == SEQS) && n > 0) {
            int k = (int)(v * n);
            kv_seq_release(p, id[k]);
            id[k] = id[--n];
            n_tok[k] = n_tok[n];
            memcpy(tok[k], tok[n], sizeof tok[0]);
        } else if (u < 0.5 && n > 0) { /* fork, and both go on */
            int32_t src, dst;
            int k = (int)(v * n), s = kv_seq_open(p, &root_a);
            kv_seq_share(p, s, id[k], n_tok[k]);
            memcpy(tok[n], tok[k], sizeof tok[0]);
            if (kv_seq_own(p, s, n_tok[k] - 1, &src, &dst, TERR) == OK) {
                if (src >= 0) memcpy(held_in[dst], held_in[src], sizeof held_in[0]);
                n_own += src >= 0;
            }
            id[n] = s;
            n_tok[n] = n_tok[k];
            n++;
        } else {
            int32_t *t = tok[n];
            int idle, len = 1 + (int)(v * (MAX - 1)), s = kv_seq_open(p, &root_a);
            text(t, len, (int)(w * 5), 32 * (int)(w * 9));
            int hit = kv_seq_find(p, s, t, len, &idle);
            kv_seq_attach(p, s, hit);
            n_hit += hit > 0;
            const int32_t *blocks = kv_seq_blocks(p, s);
            for (int at = 0; at < hit; at += KV_BLOCK_TOK)
                EQ_MEM(held_in[blocks[at / KV_BLOCK_TOK]], t + at, sizeof held_in[0]);
            if (kv_seq_grow(p, s, len, TERR) == OK) {
                for (int at = hit; at < len; at++)
                    held_in[blocks[at / KV_BLOCK_TOK]][at % KV_BLOCK_TOK] = t[at];
                kv_seq_commit(p, s, t, len);
                id[n] = s;
                n_tok[n++] = len;
            } else {
                n_full++;
                kv_seq_release(p, s);
            }
        }
        OK_(kv_check(p, TERR));
    }
    if (n_full <= 50 || n_hit <= 100 || n_own <= 20)
        FAIL("%d full, %d hits, %d copies: nothing was tested", n_full, n_hit, n_own);
    while (n > 0) kv_seq_release(p, id[--n]);
    EQ(kv_n_free(p), BLOCKS);
    OK_(kv_check(p, TERR));
    kv_pool_free(p);
}

TEST(check_finds_damage) {
    for (int damage = 0; damage < 9; damage++) {
        KvPool *p = pool_new(8, 2, 128);
        int32_t x[100];
        int hit;
        text(x, 100, 1, 0);
        int s = sequence(p, &root_a, x, 100, &hit);
        int32_t *table = p->seq[s].table;
        switch (damage) {
        case 0: p->n_free++; break;
        case 1: table[1] = table[0]; break;
        case 2: table[2] = 99; break;
        case 3: p->block[table[0]].ref = 2; break;
        case 4: p->block[p->block[8].next].ref = 1; break;
        case 5: p->seq[s].used = false; break;
        case 6: p->hash_of[table[1]].b[0] ^= 1; break;
        case 7: p->block[table[3]].findable = true; break;
        case 8: p->block[p->block[8].next].next = 8; break;
        default: break;
        }
        FAILS(ERR_INTERNAL, kv_check(p, TERR));
        kv_pool_free(p);
    }
}
