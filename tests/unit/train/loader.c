/* SPDX-License-Identifier: Apache-2.0
 * Batches: every row once an epoch, a cut that moves, the same rows for the same numbers, documents. */
#include "fixture.h"

/* A shard in memory whose token i is i % n_vocab. */
static uint16_t tokens[4000];

static Shard shard_of(uint64_t n, int n_vocab, int eot) {
    for (size_t i = 0; i < COUNT_OF(tokens); i++) tokens[i] = (uint16_t)(i % (size_t)n_vocab);
    return (Shard){.map = {(const uint8_t *)tokens, n * 2},
                   .id_bytes = 2,
                   .n_tok = n,
                   .n_vocab = n_vocab,
                   .eot = eot};
}

/* Where row r of a batch begins: ids count up, so the first one says it. */
static uint64_t start_of(const GraphBatch *b, int r, int T) { return (uint64_t)b->ids[r * T]; }

/* 3,999 tokens in rows of 10: 399 whole rows, 398 of them in an epoch whose cut is moved by up to 10. */
TEST(an_epoch_visits_every_row_once) {
    enum { T = 10, B = 2, ROWS = 398, EPOCHS = 5 };
    Shard s = shard_of(3999, 4000, 3999);
    Loader l;
    GraphBatch b;
    uint64_t shift[EPOCHS];
    OK_(loader_init(&l, &s, B, T, 7, true, TERR));
    EQ(loader_n_rows(&l), 399);
    for (int e = 0; e < EPOCHS; e++) {
        int seen[ROWS] = {0};
        for (int i = 0; i < ROWS / B; i++) {
            OK_(loader_get(&l, (uint64_t)(e * ROWS / B + i), false, &b, TERR));
            for (int r = 0; r < B; r++) {
                uint64_t at = start_of(&b, r, T);
                if (i == 0 && r == 0) shift[e] = at % T;
                EQ(at % T, shift[e]);
                seen[(at - shift[e]) / T % ROWS]++;
                for (int t = 0; t < T; t++) {
                    EQ(b.ids[r * T + t], at + (uint64_t)t);
                    EQ(b.targets[r * T + t], at + (uint64_t)t + 1);
                }
            }
            EQ(b.index, e * ROWS / B + i);
        }
        for (int r = 0; r < ROWS; r++) EQ(seen[r], 1);
    }
    bool moved = false;
    for (int e = 1; e < EPOCHS; e++) moved |= shift[e] != shift[0];
    TRUE_(moved);
    loader_deinit(&l);
}

TEST(rows_are_a_function_of_key_and_number) {
    enum { T = 8, B = 4 };
    Shard s = shard_of(3000, 4000, 3999);
    Loader a, b, other;
    GraphBatch x, y, z;
    int same = 0;
    OK_(loader_init(&a, &s, B, T, 42, true, TERR));
    OK_(loader_init(&b, &s, B, T, 42, true, TERR));
    OK_(loader_init(&other, &s, B, T, 43, true, TERR));
    for (uint64_t i = 200; i-- > 0;) { /* one forwards, the other backwards */
        OK_(loader_get(&a, 199 - i, false, &x, TERR));
        OK_(loader_get(&a, i, false, &x, TERR));
        OK_(loader_get(&b, i, false, &y, TERR));
        EQ_MEM(x.ids, y.ids, B * T * sizeof(int32_t));
        EQ_MEM(x.targets, y.targets, B * T * sizeof(int32_t));
        OK_(loader_get(&other, i, false, &z, TERR));
        same += memcmp(x.ids, z.ids, B * T * sizeof(int32_t)) == 0;
    }
    EQ(same, 0);
    /* the micro-batch's size does not change which rows come in which order */
    Loader one;
    OK_(loader_init(&one, &s, 1, T, 42, true, TERR));
    for (uint64_t i = 0; i < 100; i++) {
        OK_(loader_get(&a, i / B, false, &x, TERR));
        OK_(loader_get(&one, i, false, &y, TERR));
        EQ_MEM(x.ids + i % B * T, y.ids, T * sizeof(int32_t));
    }
    Loader *all[] = {&a, &b, &other, &one};
    for (size_t i = 0; i < COUNT_OF(all); i++) loader_deinit(all[i]);
}

TEST(in_order_walks_from_the_start) {
    enum { T = 16, B = 3 };
    Shard s = shard_of(100, 4000, 3999); /* 6 whole rows */
    Loader l;
    GraphBatch b;
    OK_(loader_init(&l, &s, B, T, 9, true, TERR));
    EQ(loader_n_rows(&l), 6);
    for (uint64_t i = 0; i < 4; i++) {
        OK_(loader_get(&l, i, true, &b, TERR));
        for (uint64_t r = 0; r < B; r++) EQ(start_of(&b, (int)r, T), (i * B + r) % 6 * T);
    }
    loader_deinit(&l);
}

/* The shortest shard that has a row; one token less is refused; no token past the end is ever read. */
TEST(shortest_shards) {
    enum { T = 16 };
    for (uint64_t n = T + 1; n < 4 * T; n++) {
        Shard s = shard_of(n, 4000, 3999);
        Loader l;
        GraphBatch b;
        OK_(loader_init(&l, &s, 2, T, n, true, TERR));
        for (uint64_t i = 0; i < 40; i++) OK_(loader_get(&l, i, i % 2, &b, TERR));
        loader_deinit(&l);
    }
    Shard s = shard_of(T, 4000, 3999);
    Loader l;
    FAILS(ERR_ARG, loader_init(&l, &s, 2, T, 1, true, TERR));
    TRUE_(strstr(test_err.msg, "16 tokens") && strstr(test_err.msg, "needs 17"));
}

TEST(an_id_outside_the_vocabulary_is_refused) {
    Shard s = shard_of(1000, 4000, 3999);
    Loader l;
    GraphBatch b;
    Status st = OK;
    s.n_vocab = 500;
    OK_(loader_init(&l, &s, 1, 10, 1, true, TERR));
    for (uint64_t i = 0; i < 99 && st == OK; i++) st = loader_get(&l, i, true, &b, TERR);
    EQ(st, ERR_FORMAT);
    TRUE_(strstr(test_err.msg, "500"));
    loader_deinit(&l);
}

/* ---- documents ---- */

TEST(segments) {
    static const int32_t ids[] = {5, 9, 1, 9, 9, 2, 3, 9}, seg[] = {0, 0, 2, 2, 4, 5, 5, 5},
                         pos[] = {0, 1, 0, 1, 0, 0, 1, 2};
    int32_t s[8], p[8];
    graph_segments(ids, 8, 9, s, p);
    EQ_MEM(s, seg, sizeof s);
    EQ_MEM(p, pos, sizeof p);
    graph_segments(ids, 8, -1, s, p);
    for (int i = 0; i < 8; i++) {
        EQ(s[i], 0);
        EQ(p[i], i);
    }
}

TEST(doc_mask_cuts_at_the_end_of_text) {
    enum { T = 20 };
    for (int mask = 0; mask < 2; mask++) {
        Shard s = shard_of(1000, 7, 3); /* an end of text every 7 tokens */
        Loader l;
        GraphBatch b;
        OK_(loader_init(&l, &s, 1, T, 1, mask, TERR));
        for (uint64_t i = 0; i < 30; i++) {
            int start = 0;
            OK_(loader_get(&l, i, false, &b, TERR));
            for (int t = 0; t < T; t++) {
                EQ(b.seg[t], start);
                EQ(b.pos[t], t - start);
                if (mask && b.ids[t] == 3) start = t + 1;
            }
        }
        loader_deinit(&l);
    }
}
