/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sample.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "sampler.h"
#include "test.h"

enum { MAX_V = 4096 };

static Sampler *sampler(void) {
    static Sampler *s;
    if (!s) s = sampler_for(MAX_V);
    return s;
}

static SampleOpts opts(double temp, int64_t top_k, double top_p) {
    return (SampleOpts){.temp = temp, .top_k = top_k, .top_p = top_p, .seed = 7};
}

static int32_t next(const float *x, int n, SampleOpts o, uint64_t pos) {
    int32_t id = -1;
    TRUE_(n <= MAX_V);
    OK_(sample_next(&id, x, n, &o, pos, sampler(), TERR));
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
    FAILS(ERR_INTERNAL, sample_next(&id, nan_row, 4, &o, 0, sampler(), TERR));
    FAILS(ERR_INTERNAL, sample_next(&id, nan_row, 4, &greedy, 0, sampler(), TERR));
    FAILS(ERR_INTERNAL, sample_next(&id, inf_row, 3, &greedy, 0, sampler(), TERR));
    FAILS(ERR_INTERNAL, sample_next(&id, none, 2, &o, 0, sampler(), TERR));
    FAILS(ERR_INTERNAL, sample_next(&id, none, 2, &greedy, 0, sampler(), TERR));
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

/* The message names field, value and limit. */
static void refused(SampleOpts o, int n_vocab, const char *msg) {
    FAILS(ERR_ARG, sample_check_vocab(&o, n_vocab, TERR));
    EQ_STR(test_err.msg, msg);
}

#define WARM(...) ((SampleOpts){.top_p = 1, .temp = __VA_ARGS__})
#define OPTS(...) WARM(1, __VA_ARGS__)
#define GREEDY(...) ((SampleOpts){.top_p = 1, __VA_ARGS__})
#define NAN_ ((double)NAN)

TEST(values_that_are_refused) {
    refused(OPTS(.min_p = -0.1), 0, "min_p -0.1 is out of range: 0 to 1");
    refused(OPTS(.min_p = 1.5), 0, "min_p 1.5 is out of range: 0 to 1");
    refused(OPTS(.min_p = NAN_), 0, "min_p nan is out of range: 0 to 1");
    refused(OPTS(.typical = 1.01), 0, "typical_p 1.01 is out of range: 0 to 1");
    refused(OPTS(.typical = NAN_), 0, "typical_p nan is out of range: 0 to 1");
    refused(OPTS(.repetition = -1), 0,
            "repetition_penalty -1 is out of range: 0 (off) or 0.01 to 100");
    refused(OPTS(.repetition = 1e-3), 0,
            "repetition_penalty 0.001 is out of range: 0 (off) or 0.01 to 100");
    refused(OPTS(.repetition = HUGE_VAL), 0,
            "repetition_penalty inf is out of range: 0 (off) or 0.01 to 100");
    refused(OPTS(.repetition = NAN_), 0,
            "repetition_penalty nan is out of range: 0 (off) or 0.01 to 100");
    refused(OPTS(.repeat_last_n = -1), 0, "repeat_last_n -1 is out of range: 0 to 2147483647");
    refused(OPTS(.presence = 2.1), 0, "presence_penalty 2.1 is out of range: -2 to 2");
    refused(OPTS(.presence = NAN_), 0, "presence_penalty nan is out of range: -2 to 2");
    refused(OPTS(.frequency = -3), 0, "frequency_penalty -3 is out of range: -2 to 2");
    refused(OPTS(.frequency = NAN_), 0, "frequency_penalty nan is out of range: -2 to 2");
    refused(OPTS(.min_tokens = -1), 0, "min_tokens -1 is out of range: 0 to 2147483647");
    refused(OPTS(.top_logprobs = 21, .logprobs = true), 0,
            "top_logprobs 21 is out of range: 0 to 20");
    refused(OPTS(.top_logprobs = -1, .logprobs = true), 0,
            "top_logprobs -1 is out of range: 0 to 20");
    refused(OPTS(.top_logprobs = 2), 0, "top_logprobs 2 needs logprobs");
    SampleOpts all =
        OPTS(.min_p = 1, .typical = 1, .repetition = 100, .repeat_last_n = INT32_MAX,
             .presence = -2, .frequency = 2, .min_tokens = 9, .logprobs = true, .top_logprobs = 20);
    OK_(sample_check(&all, TERR));
}

TEST(lists_that_are_refused) {
    static SampleBias b[SAMPLE_MAX_BIAS + 1];
    static int32_t ids[SAMPLE_MAX_STOP_IDS + 1];
    for (int i = 0; i <= SAMPLE_MAX_BIAS; i++) b[i] = (SampleBias){i, 1};
    SampleOpts o = OPTS(.bias = b, .n_bias = SAMPLE_MAX_BIAS, .stop_ids = ids,
                        .n_stop_ids = SAMPLE_MAX_STOP_IDS);
    OK_(sample_check_vocab(&o, SAMPLE_MAX_BIAS, TERR));
    refused(o, SAMPLE_MAX_BIAS - 1, "logit_bias: token 299 is out of range: 0 to 298");
    o.n_bias++;
    refused(o, 0, "logit_bias entries 301 is out of range: 0 to 300");
    o.n_bias = 3;
    b[2].bias = 100.5f;
    refused(o, 0, "logit_bias of token 2, 100.5, is out of range: -100 to 100");
    b[2].bias = NAN;
    refused(o, 0, "logit_bias of token 2, nan, is out of range: -100 to 100");
    b[2] = (SampleBias){-1, 0};
    refused(o, 0, "logit_bias: token -1 is out of range: 0 to 2147483647");
    b[2].id = 1;
    refused(o, 0, "logit_bias: token 1 is there twice");
    o.n_bias = -1;
    refused(o, 0, "logit_bias entries -1 is out of range: 0 to 300");
    o.n_bias = 0;
    o.n_stop_ids++;
    refused(o, 0, "stop_token_ids entries 129 is out of range: 0 to 128");
    o.n_stop_ids = 2;
    ids[1] = 7;
    OK_(sample_check_vocab(&o, 8, TERR));
    refused(o, 7, "stop_token_ids: token 7 is out of range: 0 to 6");
    ids[1] = -2;
    refused(o, 0, "stop_token_ids: token -2 is out of range: 0 to 2147483647");
}

/* ---- mask, bans, bias ---- */

static int32_t pick(SampleIn in, const float *x, int n, const SampleOpts *o) {
    SampleOut out = {.id = -1};
    in.logits = x;
    in.n_vocab = n;
    in.o = o;
    OK_(sample_pick(&out, &in, sampler(), TERR));
    return out.id;
}

TEST(mask_with_one_token) {
    static float x[1000];
    for (int i = 0; i < 1000; i++) x[i] = sinf((float)i);
    SampleOpts ways[] = {GREEDY(),
                         WARM(100),
                         OPTS(.top_k = 5),
                         OPTS(.min_p = 0.5),
                         OPTS(.typical = 0.5),
                         {.temp = 1, .top_p = 0.5}};
    for (int id = 0; id < 1000; id += 37) {
        uint32_t mask[32] = {0};
        mask[id / 32] = UINT32_C(1) << (id % 32);
        for (size_t w = 0; w < COUNT_OF(ways); w++)
            EQ(pick((SampleIn){.mask = mask}, x, 1000, &ways[w]), id);
    }
}

TEST(nothing_left_has_its_own_words) {
    float x[40] = {[3] = -INFINITY, [4] = -INFINITY};
    uint32_t mask[2] = {0, 0xffffff00}; /* bits of tokens that are not there */
    SampleOpts o = GREEDY();
    SampleOut out = {.id = 77};
    SampleIn in = {.logits = x, .n_vocab = 40, .o = &o, .mask = mask};
    FAILS(ERR_ARG, sample_pick(&out, &in, sampler(), TERR));
    EQ_STR(test_err.msg, "the token mask allows none of 40 tokens");
    mask[0] = 0x18;
    FAILS(ERR_ARG, sample_pick(&out, &in, sampler(), TERR));
    EQ_STR(test_err.msg, "no token is left: mask, bans and logits of -inf exclude all 40");
    static const int32_t both[] = {0, 1};
    in = (SampleIn){.logits = x, .n_vocab = 2, .o = &o, .ban = both, .n_ban = 2};
    FAILS(ERR_ARG, sample_pick(&out, &in, sampler(), TERR));
    x[7] = NAN; /* found although the mask excludes it */
    in = (SampleIn){.logits = x, .n_vocab = 40, .o = &o, .mask = (uint32_t[]){1, 0}};
    FAILS(ERR_INTERNAL, sample_pick(&out, &in, sampler(), TERR));
    EQ(out.id, 77);
}

TEST(end_tokens_wait_for_min_tokens) {
    float x[4] = {1, 4, 3, 2};
    static const int32_t end[] = {1}, stop[] = {2, 99, -1};
    SampleOpts o = GREEDY(.min_tokens = 3, .stop_ids = stop, .n_stop_ids = 3);
    SampleIn in = {.end_ids = end, .n_end_ids = 1};
    for (in.n_out = 0; in.n_out < 6; in.n_out++) EQ(pick(in, x, 4, &o), in.n_out < 3 ? 3 : 1);
    o.min_tokens = 0;
    in.n_out = 0;
    EQ(pick(in, x, 4, &o), 1);
    in.ban = end;
    in.n_ban = 1;
    EQ(pick(in, x, 4, &o), 2);
}

TEST(bias_moves_a_token) {
    float x[3] = {0, 1, -INFINITY};
    SampleBias b[] = {{0, 1}, {2, 100}};
    SampleOpts o = GREEDY(.bias = b, .n_bias = 2);
    EQ(pick((SampleIn){0}, x, 3, &o), 0); /* a tie; -inf stays what it is */
    b[0].bias = 0.5f;
    EQ(pick((SampleIn){0}, x, 3, &o), 1);
    float y[2] = {3.4e38f, 3.3e38f};
    SampleOpts warm = OPTS(.bias = b, .n_bias = 1);
    EQ(pick((SampleIn){0}, y, 2, &warm), 0);
}

/* ---- min-p and typical by hand ---- */

TEST(min_p_is_a_share_of_the_best) {
    float x[4] = {logf(0.4f), logf(0.3f), logf(0.2f), logf(0.1f)};
    static const struct {
        double min_p;
        int kept;
    } rows[] = {{0, 4}, {0.24, 4}, {0.26, 3}, {0.49, 3}, {0.51, 2}, {0.76, 1}, {1, 1}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int hits[4];
        count(hits, x, 4, OPTS(.min_p = rows[i].min_p), 400);
        for (int t = 0; t < 4; t++) EQ(hits[t] > 0, t < rows[i].kept);
    }
    float flat[3] = {1, 1, 1};
    int all[3];
    count(all, flat, 3, OPTS(.min_p = 1), 200);
    for (int t = 0; t < 3; t++) TRUE_(all[t] > 0);
}

/* Entropy 1.0297; -log p = 0.693, 1.204, 1.609: the second is the most typical, then the first. */
TEST(typical_starts_at_the_entropy) {
    float x[3] = {logf(0.5f), logf(0.3f), logf(0.2f)};
    int hits[3];
    count(hits, x, 3, OPTS(.typical = 0.29), 300);
    EQ(hits[1], 300);
    count(hits, x, 3, OPTS(.typical = 0.79), 300);
    TRUE_(hits[0] > 0 && hits[1] > 0 && hits[2] == 0);
    count(hits, x, 3, OPTS(.typical = 0.81), 300);
    TRUE_(hits[2] > 0);
    for (int off = 0; off < 2; off++) {
        count(hits, x, 3, OPTS(.typical = off), 300);
        TRUE_(hits[0] > 100 && hits[2] > 20);
    }
}

/* Min-p measures by the best that typical left. */
TEST(min_p_comes_after_typical) {
    float x[3] = {logf(0.5f), logf(0.3f), logf(0.2f)};
    int hits[3];
    count(hits, x, 3, OPTS(.typical = 0.29, .min_p = 1), 100);
    EQ(hits[1], 100);
}

TEST(a_choice_of_every_kind_of_two_tokens) {
    float x[2] = {0, 0};
    SampleOpts o = {.temp = 0.5, .top_k = 2, .top_p = 0.99, .min_p = 0.3, .typical = 0.9};
    int hits[2];
    count(hits, x, 2, o, 1000);
    TRUE_(hits[0] > 400 && hits[1] > 400);
    o.top_k = 1;
    count(hits, x, 2, o, 100);
    EQ(hits[0], 100);
}

/* 1e5 draws: every option but the cuts, against probabilities worked out here. */
TEST(distribution_after_bias_and_temperature) {
    enum { V = 8, DRAWS = 100000 };
    float x[V] = {0, 1, 2, 3, 2, 1, 0, -1};
    double p[V], sum = 0;
    int hits[V] = {0};
    uint32_t mask = 0xdf; /* not 5 */
    SampleBias b[] = {{3, -1}, {7, 2}};
    SampleOpts o = WARM(1.25, .bias = b, .n_bias = 2, .seed = 11);
    for (int i = 0; i < V; i++) {
        double y = (double)x[i] + (i == 3 ? -1 : i == 7 ? 2 : 0);
        sum += p[i] = i == 5 ? 0 : exp(y / 1.25);
    }
    for (int i = 0; i < V; i++) p[i] /= sum;
    for (int i = 0; i < DRAWS; i++)
        hits[pick((SampleIn){.mask = &mask, .pos = (uint64_t)i}, x, V, &o)]++;
    TRUE_(chi_square(hits, p, V, DRAWS) < 27.9); /* 6 degrees of freedom: p = 1e-4 */
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
            FAILS(ERR_INTERNAL, sample_next(&id, x, n, &o, 0, sampler(), TERR));
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

/* ---- speed ---- */

static int by_time(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* One JSON line: least, median and most of a choice's time over a row like a language model's. */
static void measure(const char *name, SampleOpts o, bool with_hist, const uint32_t *mask) {
    enum { V = 151936, ROUNDS = 101, N_HIST = 4000 };
    double us[ROUNDS];
    float *x = mem_new_n(float, V);
    Sampler *own = sampler_for(V);
    void *hist_mem = mem_alloc_n(1, sample_hist_bytes(N_HIST));
    SampleHist *h = sample_hist_init(hist_mem, N_HIST, 0);
    rng_normal_fill(x, V, 2, 1, 0);
    for (int i = 0; i < 40; i++) x[i * 3701] = 6 + 0.2f * (float)i;
    for (int i = 0; i < N_HIST; i++) sample_hist_push(h, (i * 7919) % 1000, i > 2000);
    for (int r = -5; r < ROUNDS; r++) {
        SampleIn in = {.logits = x, .n_vocab = V, .o = &o, .pos = (uint64_t)(r + 5), .mask = mask};
        SampleOut out;
        if (with_hist) in.hist = h;
        double start = clock_now_s();
        OK_(sample_pick(&out, &in, own, TERR));
        if (r >= 0) us[r] = (clock_now_s() - start) * 1e6;
    }
    qsort(us, ROUNDS, sizeof *us, by_time);
    printf("{\"bench\":\"sample\",\"case\":\"%s\",\"V\":%d,\"n\":%d,\"us\":[%.1f,%.1f,%.1f]}\n",
           name, V, ROUNDS, us[0], us[ROUNDS / 2], us[ROUNDS - 1]);
    mem_free(x);
    mem_free(own);
    mem_free(hist_mem);
}

BENCH(choices) {
    static uint32_t mask[151936 / 32];
    memset(mask, 0xf7, sizeof mask);
    measure("greedy", GREEDY(), false, NULL);
    measure("greedy, penalties", GREEDY(.repetition = 1.1, .presence = 0.5), true, NULL);
    measure("greedy, mask", GREEDY(), false, mask);
    measure("greedy, 20 logprobs", GREEDY(.logprobs = true, .top_logprobs = 20), false, NULL);
    measure("temp 0.8, top-k 40, top-p 0.9", (SampleOpts){.temp = 0.8, .top_k = 40, .top_p = 0.9},
            false, NULL);
    measure("temp 0.8, top-k 40, top-p 0.9, min-p 0.05, penalties",
            (SampleOpts){.temp = 0.8, .top_k = 40, .top_p = 0.9, .min_p = 0.05, .repetition = 1.1},
            true, NULL);
    measure("temp 0.8, top-p 0.9", (SampleOpts){.temp = 0.8, .top_p = 0.9}, false, NULL);
    measure("temp 0.8, min-p 0.05", WARM(0.8, .min_p = 0.05), false, NULL);
    measure("temp 0.8, typical 0.9", WARM(0.8, .typical = 0.9), false, NULL);
    measure("temp 1", WARM(1), false, NULL);
    measure("temp 5, top-k 50000, top-p 0.9", (SampleOpts){.temp = 5, .top_k = 50000, .top_p = 0.9},
            false, NULL);
}
