/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sample.h"

#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "test.h"

enum { MAX_V = 4096 };

static uint64_t scratch[MAX_V * 5];

static SampleOpts opts(double temp, int64_t top_k, double top_p) {
    return (SampleOpts){.temp = temp, .top_k = top_k, .top_p = top_p, .seed = 7};
}

static int32_t next(const float *x, int n, SampleOpts o, uint64_t pos) {
    int32_t id = -1;
    TRUE_(sample_scratch_bytes(n) <= sizeof scratch);
    OK_(sample_next(&id, x, n, &o, pos, scratch, TERR));
    TRUE_(id >= 0 && id < n);
    return id;
}

/* How often each token comes in n draws. */
static void count(int *hits, const float *x, int n_vocab, SampleOpts o, int n) {
    memset(hits, 0, sizeof *hits * (size_t)n_vocab);
    for (int i = 0; i < n; i++) hits[next(x, n_vocab, o, (uint64_t)i)]++;
}

/* Chi-square against probabilities p (0: must never come). */
static double chi_square(const int *hits, const double *p, int n_vocab, int n) {
    double chi = 0;
    for (int i = 0; i < n_vocab; i++) {
        if (p[i] == 0) EQ(hits[i], 0);
        else chi += pow(hits[i] - p[i] * n, 2) / (p[i] * n);
    }
    return chi;
}

TEST(greedy_takes_the_best_and_ties_go_low) {
    float x[5] = {1, 3, -2, 3, 2};
    EQ(next(x, 5, opts(0, 0, 1), 0), 1);
    x[3] = 3.5f;
    EQ(next(x, 5, opts(0, 2, 0.1), 9), 3);
    float minus[3] = {-INFINITY, -5, -INFINITY};
    EQ(next(minus, 3, opts(0, 0, 1), 0), 1);
    float far_apart[300] = {0};
    far_apart[70] = far_apart[200] = 1;
    EQ(next(far_apart, 300, opts(0, 0, 1), 0), 70);
}

TEST(one_token_vocabulary) {
    float x[1] = {-4};
    EQ(next(x, 1, opts(0, 0, 1), 0), 0);
    EQ(next(x, 1, opts(1, 1, 0.5), 0), 0);
    EQ(next(x, 1, opts(100, 0, 1), 0), 0);
}

TEST(distribution_at_temperatures) {
    static const float x[6] = {0, 1, 2, -1, 0.5f, -30};
    static const double temps[] = {0.3, 1, 5};
    for (int t = 0; t < 3; t++) {
        double p[6], sum = 0;
        int hits[6];
        for (int i = 0; i < 6; i++) sum += p[i] = exp((double)x[i] / temps[t]);
        for (int i = 0; i < 6; i++) p[i] /= sum;
        if (p[5] < 1e-9) p[5] = 0;
        count(hits, x, 6, opts(temps[t], 0, 1), 20000);
        double chi = chi_square(hits, p, 6, 20000);
        TRUE_(chi < 25); /* 5 degrees of freedom: p = 1e-4 */
        TRUE_(chi > 0.05);
    }
}

/* All three ways of choosing candidates give the same distribution where the limits cut nothing. */
TEST(limits_that_cut_nothing_change_nothing) {
    static const float x[5] = {0, 1, 2, -1, 0.5f};
    double p[5], sum = 0;
    int hits[5];
    for (int i = 0; i < 5; i++) sum += p[i] = exp((double)x[i]);
    for (int i = 0; i < 5; i++) p[i] /= sum;
    SampleOpts ways[] = {opts(1, 5, 1), opts(1, 4, 1), opts(1, 0, 0.9999), opts(1, 4, 0.9999),
                         opts(1, 999, 1)};
    for (size_t w = 0; w < COUNT_OF(ways); w++) {
        double q[5];
        memcpy(q, p, sizeof q);
        if (ways[w].top_k == 4) { /* token 3 is the fifth */
            for (int i = 0; i < 5; i++) q[i] = i == 3 ? 0 : p[i] / (1 - p[3]);
        }
        count(hits, x, 5, ways[w], 20000);
        TRUE_(chi_square(hits, q, 5, 20000) < 24);
    }
}

TEST(top_k_keeps_exactly_the_k_best) {
    float x[100];
    int hits[100], kept = 0;
    for (int i = 0; i < 100; i++) x[i] = (float)((i * 37) % 100) * 0.01f;
    count(hits, x, 100, opts(100, 7, 1), 5000);
    for (int i = 0; i < 100; i++) {
        EQ(hits[i] > 0, x[i] > 0.925f); /* 0.93 to 0.99 */
        kept += hits[i] > 0;
    }
    EQ(kept, 7);
    float flat[10] = {0};
    int few[10];
    count(few, flat, 10, opts(1, 3, 1), 1000);
    for (int i = 0; i < 10; i++) EQ(few[i] > 0, i < 3); /* ties: lower ids first */
    EQ(next(x, 100, opts(50, 1, 1), 3), next(x, 100, opts(0, 0, 1), 3));
}

TEST(top_p_keeps_the_smallest_set_that_reaches_it) {
    static const float flat[5] = {2, 2, 2, 2, -INFINITY}; /* five, so that a top-k of 4 is one */
    static const struct {
        double p;
        int kept;
    } rows[] = {{1e-9, 1}, {0.25, 1},   {0.2501, 2}, {0.5, 2},
                {0.75, 3}, {0.7501, 4}, {0.9999, 4}, {1, 4}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (int k = 0; k <= 4; k += 4) {
            int hits[5];
            count(hits, flat, 5, opts(1, k, rows[i].p), 400);
            for (int t = 0; t < 5; t++) EQ(hits[t] > 0, t < rows[i].kept);
        }
    }
}

/* Top-p looks at the probabilities after the temperature and within what top-k kept. */
TEST(order_is_top_k_temperature_top_p) {
    float x[3] = {logf(0.5f), logf(0.3f), logf(0.2f)};
    int hits[3];
    count(hits, x, 3, opts(1, 2, 0.6), 500); /* of 0.625, 0.375 the first reaches 0.6 */
    EQ(hits[0], 500);
    count(hits, x, 3, opts(1, 0, 0.6), 500); /* of 0.5, 0.3 both are needed */
    TRUE_(hits[0] > 0 && hits[1] > 0 && hits[2] == 0);
    count(hits, x, 3, opts(0.25, 0, 0.8), 500); /* 0.5^4 has 0.87 of the mass */
    EQ(hits[0], 500);
}

TEST(seed_and_position_decide_alone) {
    static float x[MAX_V];
    int same_seed = 0, same_pos = 0;
    for (int i = 0; i < MAX_V; i++) x[i] = (float)(i % 17) * 0.1f;
    for (uint64_t pos = 0; pos < 200; pos++) {
        SampleOpts a = opts(1, 0, 1), b = a;
        int32_t first = next(x, MAX_V, a, pos);
        EQ(next(x, MAX_V, a, pos), first);
        b.seed++;
        same_seed += next(x, MAX_V, b, pos) == first;
        same_pos += next(x, MAX_V, a, pos + 1) == first;
    }
    TRUE_(same_seed < 5);
    TRUE_(same_pos < 5);
}

TEST(logits_stay_as_they_are) {
    float x[64], y[64];
    for (int i = 0; i < 64; i++) x[i] = sinf((float)i);
    memcpy(y, x, sizeof x);
    next(x, 64, opts(1, 5, 0.9), 1);
    next(x, 64, opts(1, 0, 0.9), 1);
    EQ_MEM(x, y, sizeof x);
}

TEST(tokens_without_mass_never_come) {
    float x[8] = {-INFINITY, 0, -INFINITY, -INFINITY, 0, -INFINITY, -1e38f, -INFINITY};
    int hits[8];
    SampleOpts ways[] = {opts(1, 0, 1), opts(1, 6, 1), opts(1, 0, 0.9999), opts(1e-320, 0, 1),
                         opts(100, 8, 0.99)};
    for (size_t w = 0; w < COUNT_OF(ways); w++) {
        count(hits, x, 8, ways[w], 300);
        EQ(hits[1] + hits[4], 300);
        TRUE_(hits[1] > 0 && hits[4] > 0);
    }
}

TEST(broken_logits_are_refused) {
    int32_t id = 77;
    SampleOpts o = opts(1, 0, 1), greedy = opts(0, 0, 1);
    float nan_row[4] = {0, 1, NAN, 2}, inf_row[3] = {0, INFINITY, 1},
          none[2] = {-INFINITY, -INFINITY};
    FAILS(ERR_INTERNAL, sample_next(&id, nan_row, 4, &o, 0, scratch, TERR));
    FAILS(ERR_INTERNAL, sample_next(&id, nan_row, 4, &greedy, 0, scratch, TERR));
    FAILS(ERR_INTERNAL, sample_next(&id, inf_row, 3, &greedy, 0, scratch, TERR));
    FAILS(ERR_INTERNAL, sample_next(&id, none, 2, &o, 0, scratch, TERR));
    FAILS(ERR_INTERNAL, sample_next(&id, none, 2, &greedy, 0, scratch, TERR));
    EQ(id, 77);
}

TEST(options_out_of_range) {
    SampleOpts good[] = {opts(0, 0, 1), opts(100, INT32_MAX, 1e-12), opts(1e-300, 1, 0.5)};
    SampleOpts bad[] = {opts((double)NAN, 0, 1), opts(-0.1, 0, 1),     opts(100.1, 0, 1),
                        opts(HUGE_VAL, 0, 1),    opts(1, -1, 1),       opts(1, 0, 0),
                        opts(1, 0, -0.5),        opts(1, 0, 1.0001),   opts(1, 0, HUGE_VAL),
                        opts(1, 0, (double)NAN), opts(1, INT64_MAX, 1)};
    for (size_t i = 0; i < COUNT_OF(good); i++) OK_(sample_check(&good[i], TERR));
    for (size_t i = 0; i < COUNT_OF(bad); i++) FAILS(ERR_ARG, sample_check(&bad[i], TERR));
}

/* Against sorting: the kept set of random rows is what a full sort gives. */
TEST(kept_sets_match_a_full_sort) {
    enum { V = 57, DRAWS = 3000 };
    for (int round = 0; round < 20; round++) {
        float x[V], spread = round % 2 ? 0.1f : 0.25f;
        int rank[V], hits[V];
        for (int i = 0; i < V; i++) x[i] = (float)((i * 7919 + round * 104729) % 31) * spread;
        for (int i = 0; i < V; i++) {
            rank[i] = 0;
            for (int j = 0; j < V; j++) rank[i] += x[j] > x[i] || (x[j] == x[i] && j < i);
        }
        double total = 0, above[V];
        for (int i = 0; i < V; i++) total += exp((double)x[i]);
        for (int i = 0; i < V; i++) {
            above[i] = 0;
            for (int j = 0; j < V; j++) above[i] += rank[j] < rank[i] ? exp((double)x[j]) : 0;
        }
        count(hits, x, V, opts(8, 1 + round, 1), DRAWS);
        for (int i = 0; i < V; i++) EQ(hits[i] > 0, rank[i] <= round);
        double p = 0.031 + 0.045 * round; /* up to 0.886: what is kept last has 1 % and more */
        count(hits, x, V, opts(1, 0, p), DRAWS);
        for (int i = 0; i < V; i++) {
            if (above[i] >= p * total) EQ(hits[i], 0);
            else if (exp((double)x[i]) > 0.004 * total) TRUE_(hits[i] > 0);
        }
    }
}

/* Large vocabularies go by blocks: the same laws, at sizes around the block's, with the best anywhere. */
TEST(sizes_around_a_block) {
    static const int sizes[] = {1, 2, 7, 8, 9, 63, 64, 65, 127, 128, 129, 1000, MAX_V};
    static float x[MAX_V];
    for (size_t k = 0; k < COUNT_OF(sizes); k++) {
        int n = sizes[k];
        for (int at = 0; at < n; at += 1 + n / 50) {
            for (int i = 0; i < n; i++) x[i] = (float)((i * 31) % 50) * 0.1f;
            x[at] = 60;
            EQ(next(x, n, opts(0, 0, 1), 0), at);
            EQ(next(x, n, opts(1, 0, 1), 0), at);
            EQ(next(x, n, opts(1, 0, 0.9), 0), at);
            EQ(next(x, n, opts(1, 1, 1), 0), at);
            EQ(next(x, n, opts(1, 5, 1), 0), at);
            int32_t id;
            SampleOpts o = opts(1, 3, 1);
            x[at] = NAN;
            FAILS(ERR_INTERNAL, sample_next(&id, x, n, &o, 0, scratch, TERR));
            char want[32];
            snprintf(want, sizeof want, "token %d is", at);
            TRUE_(strstr(test_err.msg, want) != NULL);
        }
    }
}

TEST(all_tokens_of_many_blocks_come) {
    enum { V = 1024 };
    static float x[V];
    static int hits[V];
    int n_missing = 0, most = 0;
    for (int i = 0; i < V; i++) x[i] = i % 2 ? -INFINITY : 1.0f;
    count(hits, x, V, opts(1, 0, 1), 10000);
    for (int i = 0; i < V; i++) {
        if (i % 2) EQ(hits[i], 0);
        else n_missing += hits[i] == 0;
        most = MAX(most, hits[i]);
    }
    EQ(n_missing, 0); /* 512 tokens, 19.5 hits each */
    TRUE_(most < 50);
    count(hits, x, V, opts(1, 0, 0.25), 5000);
    for (int i = 0; i < V; i++)
        if (i % 2 || i >= V / 4) EQ(hits[i], 0);
}
