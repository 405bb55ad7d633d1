/* SPDX-License-Identifier: Apache-2.0
 * Penalties and the history they look at. */
#include <float.h>
#include <math.h>

#include "base/mem.h"
#include "engine/sample_internal.h"
#include "sampler.h"
#include "test.h"

enum { V = 64 };

static uint64_t memory[1000];

static SampleHist *hist_of(int max_tok, int64_t last_n) {
    TRUE_(sample_hist_bytes(max_tok) <= sizeof memory);
    return sample_hist_init(memory, max_tok, last_n);
}

/* The row after penalties. */
static void penalized(float *row, const float *x, const SampleHist *h, SampleOpts o) {
    memcpy(row, x, V * sizeof *row);
    sample__penalize(row, V, h, &o);
}

TEST(repetition_divides_what_is_positive_and_multiplies_the_rest) {
    float x[V] = {2, -2, 0, 2, -INFINITY, -0.0f}, y[V];
    SampleHist *h = hist_of(10, 0);
    for (int32_t id = 0; id < 6; id++)
        if (id != 3) sample_hist_push(h, id, id > 2);
    sample_hist_push(h, 0, true); /* how often does not matter */
    penalized(y, x, h, (SampleOpts){.repetition = 4});
    NEAR(y[0], 0.5, 0);
    NEAR(y[1], -8, 0);
    NEAR(y[2], 0, 0);
    NEAR(y[3], 2, 0);
    TRUE_(y[4] < -FLT_MAX);
    NEAR(y[5], 0, 0);
    penalized(y, x, h, (SampleOpts){.repetition = 0});
    EQ_MEM(y, x, sizeof x);
    penalized(y, x, h, (SampleOpts){.repetition = 1});
    EQ_MEM(y, x, sizeof x);
}

TEST(presence_and_frequency_look_at_the_output_alone) {
    float x[V] = {0}, y[V];
    SampleHist *h = hist_of(10, 2);
    static const int32_t ids[] = {1, 2, 2, 1, 3, 3, 3};
    for (int i = 0; i < 7; i++) sample_hist_push(h, ids[i], i >= 3);
    EQ(sample_hist_n(h), 7);
    EQ(sample_hist_n_output(h), 4);
    penalized(y, x, h, (SampleOpts){.presence = 0.5, .frequency = 0.25});
    NEAR(y[1], -0.75, 0);
    NEAR(y[2], 0, 0); /* in the prompt only */
    NEAR(y[3], -1.25, 0);
    penalized(y, x, h, (SampleOpts){.presence = -2, .frequency = -2});
    NEAR(y[1], 4, 0);
    NEAR(y[3], 8, 0);
}

TEST(repetition_comes_before_the_subtractions) {
    float x[V] = {[5] = 3}, y[V];
    SampleHist *h = hist_of(4, 0);
    sample_hist_push(h, 5, true);
    penalized(y, x, h, (SampleOpts){.repetition = 2, .presence = 1, .frequency = 0.5});
    NEAR(y[5], 0, 0); /* 3 / 2 - 1.5 */
}

TEST(repetition_forgets_what_leaves_the_window) {
    float x[V], y[V];
    for (int i = 0; i < V; i++) x[i] = 1;
    SampleHist *h = hist_of(20, 3);
    for (int32_t id = 0; id < 10; id++) {
        sample_hist_push(h, id, false);
        penalized(y, x, h, (SampleOpts){.repetition = 2});
        for (int k = 0; k < V; k++) NEAR(y[k], k <= id && k > id - 3 ? 0.5 : 1, 0);
    }
}

TEST(extremes_stay_finite) {
    float x[V] = {FLT_MAX, -FLT_MAX, FLT_MAX, -FLT_MAX}, y[V];
    SampleHist *h = hist_of(100, 0);
    for (int i = 0; i < 100; i++) sample_hist_push(h, i % 4, true);
    penalized(y, x, h, (SampleOpts){.repetition = 0.01, .frequency = -2});
    NEAR(y[0], FLT_MAX, 0);
    penalized(y, x, h, (SampleOpts){.repetition = 100, .frequency = 2, .presence = 2});
    NEAR(y[1], -FLT_MAX, 0);
    SampleIn in = {.logits = x, .n_vocab = 4, .hist = h};
    SampleOpts o = {.temp = 1, .top_p = 1, .repetition = 100, .presence = 2, .frequency = 2};
    SampleOut out;
    in.o = &o;
    Sampler *sampler = sampler_for(4);
    OK_(sample_pick(&out, &in, sampler, TERR));
    mem_free(sampler);
    TRUE_(out.id == 0 || out.id == 2);
}

TEST(ids_outside_the_vocabulary_and_a_full_history) {
    float x[V] = {1, 1}, y[V];
    SampleHist *h = hist_of(3, 0);
    sample_hist_push(h, -1, false);
    EQ(sample_hist_n(h), 0);
    sample_hist_push(h, V, false);
    sample_hist_push(h, INT32_MAX, false);
    sample_hist_push(h, 1, true);
    sample_hist_push(h, 0, true); /* no room */
    EQ(sample_hist_n(h), 3);
    penalized(y, x, h, (SampleOpts){.repetition = 2, .presence = 1});
    NEAR(y[0], 1, 0);
    NEAR(y[1], -0.5, 0);
}

TEST(needs_a_history) {
    FALSE_(sample_needs_hist(&(SampleOpts){.top_p = 1, .repetition = 1}));
    TRUE_(sample_needs_hist(&(SampleOpts){.repetition = 1.1}));
    TRUE_(sample_needs_hist(&(SampleOpts){.presence = -0.1}));
    TRUE_(sample_needs_hist(&(SampleOpts){.frequency = 0.1}));
}

/* Pushes and truncations in any order leave what the tokens that remain would give alone. */
TEST(truncating_leaves_no_trace) {
    enum { MAX_TOK = 40 };
    static uint64_t fresh_mem[1000];
    static const int windows[] = {0, 1, 5, 39, 40, 1000};
    int32_t tok[MAX_TOK];
    float x[V], y[V], z[V];
    SampleOpts o = {.repetition = 1.5, .presence = 0.25, .frequency = 0.125};
    uint32_t seed = 1;
    for (int i = 0; i < V; i++) x[i] = (float)(i % 7) - 3;
    for (size_t w = 0; w < COUNT_OF(windows); w++) {
        SampleHist *h = hist_of(MAX_TOK, windows[w]);
        int n = 0, n_prompt = 0;
        for (int step = 0; step < 2000; step++) {
            seed = seed * 1664525u + 1013904223u;
            int to = (int)(seed >> 16) % (MAX_TOK + 1);
            for (; n < to; n++) {
                seed = seed * 1664525u + 1013904223u;
                tok[n] = (int32_t)(seed >> 20) % (step % 3 ? V : 5);
                bool output = n > 9 || n > n_prompt;
                sample_hist_push(h, tok[n], output);
                if (!output) n_prompt = n + 1;
            }
            sample_hist_truncate(h, to);
            n = to;
            n_prompt = MIN(n_prompt, n);
            EQ(sample_hist_n(h), n);
            EQ(sample_hist_n_output(h), n - n_prompt);
            SampleHist *f = sample_hist_init(fresh_mem, MAX_TOK, windows[w]);
            for (int i = 0; i < n; i++) sample_hist_push(f, tok[i], i >= n_prompt);
            penalized(y, x, h, o);
            penalized(z, x, f, o);
            EQ_MEM(y, z, sizeof y);
        }
    }
    SampleHist *h = hist_of(MAX_TOK, 0);
    sample_hist_truncate(h, -5);
    EQ(sample_hist_n(h), 0);
}

/* Many different tokens: ids that meet in the table are told apart. */
TEST(large_histories) {
    enum { N = 200000 };
    void *mem = mem_alloc_n(1, sample_hist_bytes(N));
    float *row = mem_new_n(float, 2 * N);
    TRUE_(mem && row);
    SampleHist *h = sample_hist_init(mem, N, 0);
    for (int32_t i = 0; i < N; i++) sample_hist_push(h, 2 * i, true);
    for (int i = 0; i < 2 * N; i++) row[i] = 0;
    sample__penalize(row, 2 * N, h, &(SampleOpts){.frequency = 1});
    for (int i = 0; i < 2 * N; i++) NEAR(row[i], i % 2 ? 0 : -1, 0);
    mem_free(mem);
    mem_free(row);
}
