/* SPDX-License-Identifier: Apache-2.0 */
#include "eval/perplexity.h"

#include <math.h>

#include "base/rng.h"
#include "support/tiny_model.h"
#include "test.h"

enum { V = 97, CTX = 128, N = 500 };

static int32_t ids[N];

static void fill_ids(void) {
    for (int i = 0; i < N; i++) ids[i] = (int32_t)(rng_uniform(5, 0, (uint64_t)i) * V);
}

/* The same by definition: one forward pass from an empty cache for every scored token. */
static double nll_by_definition(TinyModel *t, int ctx, int n_win, int first, int32_t bos) {
    double nll = 0;
    for (int w = 0; w < n_win; w++) {
        int32_t win[CTX];
        memcpy(win, ids + w * ctx, (size_t)ctx * sizeof *win);
        if (bos >= 0) win[0] = bos;
        for (int p = first; p < ctx; p++) {
            float x[V];
            double sum = 0;
            tiny_model_logits(t, x, win, p);
            for (int v = 0; v < V; v++) sum += exp((double)x[v]);
            nll -= (double)x[win[p]] - log(sum);
        }
    }
    return nll;
}

static EvalPpl run(TinyModel *t, int n, EvalPplOpts o) {
    EvalPpl r = {0};
    o.kv_type = KV_F32;
    OK_(eval_perplexity(&r, t->m, ids, (size_t)n, &o, TERR));
    NEAR(r.perplexity, exp(r.nll / (double)r.n_tok), 1e-12 * r.perplexity);
    return r;
}

TEST(second_half_of_each_window_counts) {
    static const int ctxs[] = {4, 5, 16, 33, 100};
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 3);
    fill_ids();
    for (size_t i = 0; i < COUNT_OF(ctxs); i++) {
        int ctx = ctxs[i], n_win = ctx < 16 ? 7 : 3;
        EvalPpl r = run(&t, n_win * ctx + ctx - 1,
                        (EvalPplOpts){.ctx = ctx}); /* a part of a window is left out */
        EQ(r.n_chunks, n_win);
        EQ(r.ctx, ctx);
        EQ(r.n_tok, n_win * (ctx - 1 - ctx / 2));
        double want = nll_by_definition(&t, ctx, n_win, ctx / 2 + 1, -1);
        NEAR(r.nll, want, 1e-4 * want);
    }
    tiny_model_free(&t);
}

TEST(all_counts_from_the_second_token) {
    TinyModel t = tiny_model_new("gpt2", V, CTX, NULL, 3);
    fill_ids();
    EvalPpl r = run(&t, 4 * 20, (EvalPplOpts){.ctx = 20, .all = true});
    EQ(r.n_tok, 4 * 19);
    double want = nll_by_definition(&t, 20, 4, 1, -1);
    NEAR(r.nll, want, 1e-4 * want);
    tiny_model_free(&t);
}

TEST(begin_of_text_stands_in_for_the_first_token) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 3);
    fill_ids();
    EvalPpl r = run(&t, 60, (EvalPplOpts){.ctx = 20, .has_bos = true, .bos = 7});
    double want = nll_by_definition(&t, 20, 3, 11, 7),
           without = nll_by_definition(&t, 20, 3, 11, -1);
    NEAR(r.nll, want, 1e-4 * want);
    TRUE_(fabs(want - without) > 1e-3 * want);
    tiny_model_free(&t);
}

TEST(number_of_windows) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 3);
    fill_ids();
    EQ(run(&t, 100, (EvalPplOpts){.ctx = 10, .max_chunks = 3}).n_chunks, 3);
    EQ(run(&t, 100, (EvalPplOpts){.ctx = 10, .max_chunks = 30}).n_chunks, 10);
    EQ(run(&t, 130, (EvalPplOpts){0}).ctx, CTX); /* 512, or what the model has */
    EQ(eval_n_chunks(1000, 100, 0), 10);
    EQ(eval_n_chunks(999, 100, 0), 9);
    EQ(eval_n_chunks(99, 100, 5), 0);
    tiny_model_free(&t);
}

/* How windows are grouped, and who does the logarithms, is nobody's business: the same sum, bit for bit. */
TEST(threads_and_later_windows_do_not_matter) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 3);
    fill_ids();
    double one = run(&t, 480, (EvalPplOpts){.ctx = 32}).nll;
    double four = run(&t, 480, (EvalPplOpts){.ctx = 32, .n_threads = 4}).nll;
    TRUE_(one == four);
    tiny_model_free(&t);
}

typedef struct Seen {
    int n, n_progress, n_chunks;
    double sum;
} Seen;

static void on_token(void *ctx, int32_t id, double logprob) {
    Seen *s = ctx;
    int at = s->n / 9 * 20 + 11 + s->n % 9; /* windows of 20: places 11 .. 19 */
    EQ(id, ids[at]);
    TRUE_(logprob < 0);
    s->sum -= logprob;
    s->n++;
}

static void on_progress(void *ctx, const EvalPpl *so_far, int n_chunks) {
    Seen *s = ctx;
    s->n_progress++;
    s->n_chunks = so_far->n_chunks;
    EQ(n_chunks, 25);
}

TEST(tokens_come_in_order) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 3);
    Seen s = {0};
    fill_ids();
    EvalPpl r =
        run(&t, 500,
            (EvalPplOpts){.ctx = 20, .on_token = on_token, .progress = on_progress, .cb_ctx = &s});
    EQ(s.n, 225);
    EQ(s.n, r.n_tok);
    EQ(s.n_chunks, 25);
    TRUE_(s.n_progress >= 1);
    NEAR(s.sum, r.nll, 1e-12 * r.nll);
    tiny_model_free(&t);
}

TEST(log_prob) {
    float x[4] = {0, 1, 2, 3}, big[2] = {3e38f, -3e38f}, bad[2] = {NAN, 0};
    double sum = 1 + exp(1) + exp(2) + exp(3);
    NEAR(eval_log_prob(x, 4, 2), 2 - log(sum), 1e-14);
    NEAR(eval_log_prob(big, 2, 0), 0, 0);
    TRUE_(isnan(eval_log_prob(bad, 2, 1)));
}

TEST(refused) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 3);
    EvalPpl r = {.n_tok = 7};
    EvalPplOpts o = {.ctx = 100}, long_ctx = {.ctx = CTX + 1}, short_ctx = {.ctx = 3},
                small = {.ctx = 10};
    fill_ids();
    FAILS(ERR_ARG, eval_perplexity(&r, t.m, ids, 99, &o, TERR));
    TRUE_(strstr(test_err.msg, "99") && strstr(test_err.msg, "100"));
    FAILS(ERR_ARG, eval_perplexity(&r, t.m, ids, N, &long_ctx, TERR));
    FAILS(ERR_ARG, eval_perplexity(&r, t.m, ids, N, &short_ctx, TERR));
    FAILS(ERR_ARG, eval_perplexity(&r, t.m, ids, 0, &small, TERR));
    ids[42] = V;
    FAILS(ERR_ARG, eval_perplexity(&r, t.m, ids, N, &small, TERR));
    fill_ids();
    tiny_model_poison(&t, ids[3]);
    FAILS(ERR_INTERNAL, eval_perplexity(&r, t.m, ids, N, &small, TERR));
    EQ(r.n_tok, 7);
    tiny_model_free(&t);
}

TEST(stop) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 3);
    atomic_int flag = 1;
    EvalPpl r;
    EvalPplOpts o = {.ctx = 10, .stop = &flag};
    fill_ids();
    FAILS(ERR_CANCELLED, eval_perplexity(&r, t.m, ids, N, &o, TERR));
    tiny_model_free(&t);
}
