/* SPDX-License-Identifier: Apache-2.0
 * Log-probabilities against long double sums. */
#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/sample_internal.h"
#include "sampler.h"
#include "test.h"

enum { BIG_V = 151936 };

static long double naive_norm(const float *x, int n) {
    long double top = -HUGE_VALL, sum = 0;
    for (int i = 0; i < n; i++) top = fmaxl(top, (long double)x[i]);
    for (int i = 0; i < n; i++) sum += expl((long double)x[i] - top);
    return top + logl(sum);
}

static float *row_of(int n, uint64_t seed, float spread) {
    float *x = mem_new_n(float, (size_t)n);
    TRUE_(x != NULL);
    rng_normal_fill(x, (size_t)n, spread, seed, 0);
    return x;
}

static Status logprob(double *out, const float *x, int n, int id, Err *e) {
    Sampler *s = sampler_for(n);
    SampleOut got = {0};
    Status st = sample_score(&got, x, n, id, 0, s, e);
    *out = got.logprob;
    mem_free(s);
    return st;
}

TEST(logprob_is_exact_to_the_last_digits) {
    static const int sizes[] = {1, 2, 127, 128, 129, 1000, BIG_V};
    for (size_t k = 0; k < COUNT_OF(sizes); k++) {
        for (int spread = 1; spread < 100; spread *= 7) {
            int n = sizes[k];
            float *x = row_of(n, k, (float)spread);
            double norm = (double)naive_norm(x, n), got = 0;
            for (int id = 0; id < n; id += 1 + n / 5) {
                OK_(logprob(&got, x, n, id, TERR));
                NEAR(got, (double)x[id] - norm, 1e-13 * fmax(1, fabs(norm)));
            }
            mem_free(x);
        }
    }
}

TEST(logprobs_of_odd_rows) {
    float two[2] = {-INFINITY, 5}, far[3] = {1e38f, -1e38f, 1e38f}, flat[300] = {0};
    double got = 0;
    OK_(logprob(&got, two, 2, 1, TERR));
    NEAR(got, 0, 0);
    OK_(logprob(&got, two, 2, 0, TERR));
    NEAR(got, -HUGE_VAL, 0);
    OK_(logprob(&got, far, 3, 2, TERR));
    TRUE_(isfinite(got));
    OK_(logprob(&got, flat, 300, 7, TERR));
    NEAR(got, -log(300), 1e-14);
    two[1] = NAN;
    FAILS(ERR_INTERNAL, logprob(&got, two, 2, 0, TERR));
    two[1] = -INFINITY;
    FAILS(ERR_INTERNAL, logprob(&got, two, 2, 0, TERR));
    EQ_STR(test_err.msg, "all 2 logits are -inf");
    flat[299] = INFINITY;
    FAILS(ERR_INTERNAL, logprob(&got, flat, 300, 0, TERR));
    TRUE_(strstr(test_err.msg, "token 299 is inf") != NULL);
}

/* Place of id in the order: better logit first, then lower id. */
static int naive_rank(const float *x, int n, int id) {
    int rank = 1;
    for (int i = 0; i < n; i++) rank += x[i] > x[id] || (x[i] == x[id] && i < id);
    return rank;
}

TEST(the_best_come_in_order) {
    static const int sizes[] = {1, 2, 19, 20, 21, 127, 129, 2000, 5000};
    for (size_t k = 0; k < COUNT_OF(sizes); k++) {
        for (int ties = 0; ties < 4; ties++) {
            int n = sizes[k];
            float *x = row_of(n, k, 3);
            for (int i = 0; i < n; i++) {
                if (ties == 1) x[i] = roundf(x[i]);
                if (ties == 2) x[i] = 1;
                if (ties == 3 && i % 3) x[i] = -INFINITY;
            }
            Sampler *sampler = sampler_for(n);
            double norm = (double)naive_norm(x, n);
            for (int n_top = 0; n_top <= SAMPLE_MAX_TOP; n_top++) {
                SampleOut out;
                int id = (n_top * 37) % n;
                OK_(sample_score(&out, x, n, id, n_top, sampler, TERR));
                EQ(out.id, id);
                EQ(out.rank, naive_rank(x, n, id));
                NEAR(out.logprob, (double)x[id] - norm, 1e-12);
                EQ(out.n_top, MIN(n_top, n));
                for (int i = 0; i < out.n_top; i++) {
                    EQ(naive_rank(x, n, out.top[i].id), i + 1);
                    NEAR(out.top[i].logprob, (double)x[out.top[i].id] - norm, 1e-12);
                }
            }
            mem_free(x);
            mem_free(sampler);
        }
    }
}

TEST(the_best_of_a_row_without_a_token) {
    float x[4] = {0, 2, 1, 2};
    Sampler *sampler = sampler_for(4);
    SampleOut out;
    OK_(sample_score(&out, x, 4, -1, 3, sampler, TERR));
    EQ(out.rank, 0);
    EQ(out.n_top, 3);
    EQ(out.top[0].id, 1);
    EQ(out.top[1].id, 3);
    EQ(out.top[2].id, 2);
    OK_(sample_score(&out, x, 4, 0, 1000, sampler, TERR));
    EQ(out.n_top, 4);
    mem_free(sampler);
}

/* Of the row as the model gave it, whatever mask, bias, penalties and temperature make of it. */
TEST(chosen_tokens_have_raw_logprobs) {
    enum { V = 200 };
    float *x = row_of(V, 1, 2);
    Sampler *sampler = sampler_for(V);
    uint64_t hist_mem[50];
    SampleHist *h = sample_hist_init(hist_mem, 4, 0);
    SampleBias bias[] = {{3, 100}, {8, 99.5f}};
    SampleOpts o = {.temp = 3,
                    .top_p = 0.9,
                    .top_k = 5,
                    .bias = bias,
                    .n_bias = 2,
                    .presence = 1,
                    .logprobs = true,
                    .top_logprobs = 4};
    uint32_t mask[V / 32 + 1] = {0x108};
    sample_hist_push(h, 3, true);
    SampleIn in = {.logits = x, .n_vocab = V, .o = &o, .mask = mask, .hist = h};
    double norm = (double)naive_norm(x, V);
    int n_three = 0;
    for (in.pos = 0; in.pos < 50; in.pos++) {
        SampleOut out;
        OK_(sample_pick(&out, &in, sampler, TERR));
        TRUE_(out.id == 3 || out.id == 8);
        n_three += out.id == 3;
        NEAR(out.logprob, (double)x[out.id] - norm, 1e-12);
        EQ(out.rank, naive_rank(x, V, out.id));
        EQ(out.n_top, 4);
        for (int i = 0; i < 4; i++) {
            EQ(naive_rank(x, V, out.top[i].id), i + 1);
            NEAR(out.top[i].logprob, (double)x[out.top[i].id] - norm, 1e-12);
        }
    }
    TRUE_(n_three > 0 && n_three < 50);
    mem_free(x);
    mem_free(sampler);
}

TEST(exp_stays_within_its_error) {
    double worst = 0;
    Row r = {.n = 2, .top = 0};
    Sampler *s = sampler_for(2);
    Law l = sample__law(s->kern, &r, 1);
    for (int i = 0; i < 40000; i++) {
        float x = -(float)i * 1e-3f;
        uint64_t w;
        sample__weigh(&w, &x, 1, &l);
        double want = (double)expl((long double)x) * l.one;
        worst = fmax(worst, (fabs((double)w - want) - 0.5) / (want * (5e-7 - 1e-7 * (double)x)));
    }
    TRUE_(worst < 1);
    mem_free(s);
}
