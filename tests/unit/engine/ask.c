/* SPDX-License-Identifier: Apache-2.0
 * What requests ask of their prompt, with a real model: log-probabilities against the evaluation's own windows,
 * pooled states against a pass over one token at a time, choices against texts of their own; and the same bits
 * whatever runs beside. */
#include "engine/ask.h"

#include <math.h>
#include <pthread.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "eval/perplexity.h"
#include "kernel/kernel.h"
#include "support/tiny_model.h"
#include "test.h"

enum { V = 101, CTX = 640, C = 32, LONGEST = 120, N_CHOICES = 4, NEW = 40 };

typedef struct Got {
    int32_t prompt[CTX], choice[N_CHOICES][LONGEST], ids[NEW];
    int n_prompt, n_choice[N_CHOICES];
    double lp[CTX];
    SampleOut last; /* of on_prompt */
    int n_told, n_wrong, n_new;
    float pooled[C];
    int n_pooled, n_scored;
    double sum[N_CHOICES], prob[N_CHOICES], tok_lp[N_CHOICES][LONGEST];
    FinishReason why;
    Err err;
    int n_done;
    Engine *cancel_on; /* cancel from on_prompt, */
    uint64_t id;
    int cancel_at; /* at this token */
} Got;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int n_over;

static void on_prompt(void *ctx, int at, const SampleOut *t) {
    Got *g = ctx;
    g->n_wrong += at != ++g->n_told || t->id != g->prompt[at] || g->n_new > 0 || g->n_done > 0;
    g->lp[at] = t->logprob;
    g->last = *t;
    if (g->cancel_on && at == g->cancel_at) engine_cancel(g->cancel_on, g->id);
}

static void on_pooled(void *ctx, const float *x, int n) {
    Got *g = ctx;
    g->n_wrong += n != C || g->n_new > 0 || g->n_done > 0;
    memcpy(g->pooled, x, sizeof g->pooled);
    g->n_pooled++;
}

static void on_choices(void *ctx, const AskScore *s, int n) {
    Got *g = ctx;
    g->n_wrong += g->n_done > 0;
    for (int i = 0; i < n; i++) {
        g->sum[i] = s[i].logprob;
        g->prob[i] = s[i].prob;
        g->n_wrong += s[i].n != g->n_choice[i];
        memcpy(g->tok_lp[i], s[i].tok_logprob, (size_t)s[i].n * sizeof(double));
    }
    g->n_scored++;
}

static void on_token(void *ctx, const SampleOut *t) {
    Got *g = ctx;
    g->ids[g->n_new++] = t->id;
}

static void on_done(void *ctx, FinishReason why, const Err *e) {
    Got *g = ctx;
    pthread_mutex_lock(&mu);
    g->why = why;
    if (e) g->err = *e;
    g->n_done++;
    n_over++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mu);
}

static void wait_over(int n) {
    pthread_mutex_lock(&mu);
    while (n_over < n) pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
}

static Engine *engine_up(TinyModel *t, EngineOpts o) {
    Engine *en = NULL;
    o.check = true;
    n_over = 0;
    OK_(engine_new(&en, t->m, &o, TERR));
    return en;
}

static void fill(int32_t *ids, int n, uint64_t key) {
    for (int i = 0; i < n; i++) ids[i] = (int32_t)(rng_uniform(31, key, (uint64_t)i) * V);
}

/* A prompt of n random tokens; the choices come from the same numbers. */
static Got got_of(int n, uint64_t key) {
    Got g = {.n_prompt = n};
    fill(g.prompt, n, key);
    for (int i = 0; i < N_CHOICES; i++) {
        g.n_choice[i] = 1 + (int)(rng_uniform(32, key, (uint64_t)i) * (LONGEST - 1));
        fill(g.choice[i], g.n_choice[i], key * 10 + (uint64_t)i);
    }
    return g;
}

/* Everything that `a` says about g, with max_new tokens after it. */
static EngineReq request(Got *g, EngineAsk *a, AskChoice choices[N_CHOICES], int max_new) {
    for (int i = 0; i < N_CHOICES; i++) choices[i] = (AskChoice){g->choice[i], g->n_choice[i]};
    if (a->n_choices) a->choices = choices;
    a->on_prompt = on_prompt;
    a->on_pooled = on_pooled;
    a->on_choices = on_choices;
    return (EngineReq){.prompt = g->prompt,
                       .n_prompt = g->n_prompt,
                       .max_new = max_new,
                       .ask = a,
                       .sample = {.top_p = 1},
                       .on_token = on_token,
                       .on_done = on_done,
                       .ctx = g};
}

static void submit(Engine *en, Got *g, EngineAsk a, int max_new) {
    AskChoice choices[N_CHOICES];
    EngineReq r = request(g, &a, choices, max_new);
    OK_(engine_submit(en, &r, &g->id, TERR));
}

static void ask(Engine *en, Got *g, EngineAsk a, int max_new) {
    int n = n_over;
    submit(en, g, a, max_new);
    wait_over(n + 1);
    if (g->why == FINISH_ERROR) FAIL("%s", g->err.msg);
    EQ(g->n_done, 1);
    EQ(g->n_wrong, 0);
}

/* ---- against other ways to the same numbers ---- */

typedef struct Evaluated {
    double lp[CTX];
    int n;
} Evaluated;

static void on_evaluated(void *ctx, int32_t id, double logprob) {
    Evaluated *v = ctx;
    (void)id;
    v->lp[++v->n] = logprob;
}

/* Log-probability of each token of ids[n] but the first, by the evaluation. */
static void evaluate(Evaluated *v, TinyModel *t, const int32_t *ids, int n) {
    EvalPpl r;
    EvalPplOpts o = {
        .ctx = n, .all = true, .kv_type = KV_F32, .on_token = on_evaluated, .cb_ctx = v};
    v->n = 0;
    OK_(eval_perplexity(&r, t->m, ids, (size_t)n, &o, TERR));
    EQ(v->n, n - 1);
}

TEST(prompt_logprobs_are_those_of_the_evaluation) {
    static const int lengths[] = {4, 32, 33, 65, 200}, chunks[] = {1, 7, 64, 256};
    static const char *const archs[] = {"llama", "gpt2"};
    static Evaluated v;
    for (size_t a = 0; a < COUNT_OF(archs); a++) {
        TinyModel t = tiny_model_new(archs[a], V, CTX, NULL, 5);
        for (size_t i = 0; i < COUNT_OF(lengths) * COUNT_OF(chunks); i++) {
            Got g = got_of(lengths[i % COUNT_OF(lengths)], i);
            EngineOpts o = {.max_seqs = 3,
                            .kv_type = KV_F32,
                            .prefill_chunk = chunks[i / COUNT_OF(lengths)]};
            evaluate(&v, &t, g.prompt, g.n_prompt);
            Engine *en = engine_up(&t, o);
            ask(en, &g, (EngineAsk){.prompt_logprobs = true, .prompt_top = 20}, 0);
            engine_free(en);
            EQ(g.why, FINISH_LENGTH);
            EQ(g.n_told, g.n_prompt - 1);
            for (int p = 1; p < g.n_prompt; p++) NEAR(g.lp[p], v.lp[p], 2e-4);
            EQ(g.last.n_top, 20);
            TRUE_(g.last.rank >= 1 && g.last.top[0].logprob >= g.last.top[19].logprob);
            if (g.last.rank <= 20) EQ(g.last.top[g.last.rank - 1].id, g.last.id);
        }
        tiny_model_free(&t);
    }
}

/* And new tokens follow as if nothing had been asked. */
TEST(tokens_after_the_prompts_are_the_same) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 5);
    Engine *en = engine_up(&t, (EngineOpts){.prefill_chunk = 16, .kv_type = KV_F32});
    Got plain = got_of(70, 1), asked = got_of(70, 1), one = got_of(1, 2);
    ask(en, &plain, (EngineAsk){0}, NEW);
    ask(en, &asked, (EngineAsk){.prompt_logprobs = true, .pool = ASK_POOL_MEAN}, NEW);
    EQ(plain.n_new, NEW);
    EQ(asked.n_new, NEW);
    EQ(asked.n_told, 69);
    EQ(asked.n_pooled, 1);
    EQ_MEM(plain.ids, asked.ids, sizeof plain.ids);
    EQ(metrics_get(&engine_metrics(en)->prefix_hits), 0); /* every row is wanted */
    ask(en, &one, (EngineAsk){.prompt_logprobs = true}, 0);
    EQ(one.n_told, 0);
    EQ(one.why, FINISH_LENGTH);
    engine_free(en);
    tiny_model_free(&t);
}

/* Hidden states of g's prompt, one token at a time from an empty cache; that they are those of the head is
 * seen from the logits. */
static void hidden_alone(TinyModel *t, float (*x)[C], const Got *g) {
    int32_t table[CTX / 32], seq = 0, row = 0;
    const int32_t *blocks = table;
    const float *logits = NULL, *h = NULL;
    Model *m = t->m;
    float want[V];
    for (int i = 0; i < CTX / 32; i++) table[i] = i;
    KvStore *kv =
        t->dev->ops->kv_new(t->dev, DT_F32, m->cfg.n_layer, CTX / 32, m->cfg.nkv, m->cfg.hd);
    OK_(model_reserve(m, 1, 1, TERR));
    for (int32_t p = 0; p < g->n_prompt; p++) {
        Batch b = {.T = 1,
                   .tok = &g->prompt[p],
                   .pos = &p,
                   .seq = &seq,
                   .n_seq = 1,
                   .blocks = &blocks,
                   .n_out = 1,
                   .out = &row};
        OK_(model_forward(m, kv, &b, &logits, TERR));
        memcpy(want, logits, sizeof want);
        OK_(model_hidden(m, &b, &h, TERR));
        memcpy(x[p], h, sizeof x[p]);
        OK_(model_logits(m, &b, &logits, TERR));
        EQ_MEM(logits, want, sizeof want);
    }
    float w[C];
    for (int v = 0; v < V; v++) {
        double dot = 0;
        BufAt at = {m->output.buf, m->output.off_bytes / sizeof(float) + (size_t)v * C};
        t->dev->ops->download(t->dev, w, at, sizeof w);
        for (int i = 0; i < C; i++) dot += (double)w[i] * (double)x[g->n_prompt - 1][i];
        NEAR(dot, want[v], 1e-3);
    }
    t->dev->ops->kv_free(t->dev, kv);
}

TEST(pooled_states_are_those_of_a_pass_alone) {
    static const AskPool pools[] = {ASK_POOL_LAST, ASK_POOL_MEAN, ASK_POOL_FIRST};
    static float x[CTX][C];
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 6);
    Got g = got_of(90, 3);
    hidden_alone(&t, x, &g);
    for (int k = 0; k < 12; k++) {
        AskPool pool = pools[k % 3];
        double want[C], sq = 0, got_sq = 0;
        for (int i = 0; i < C; i++) {
            want[i] = (double)x[pool == ASK_POOL_FIRST ? 0 : 89][i];
            if (pool == ASK_POOL_MEAN) want[i] = 0;
            for (int p = 0; p < 90 && pool == ASK_POOL_MEAN; p++) want[i] += (double)x[p][i] / 90;
            sq += want[i] * want[i];
        }
        Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 2,
                                                .kv_type = KV_F32,
                                                .prefill_chunk = k % 2 ? 13 : 256});
        g = got_of(90, 3);
        ask(en, &g, (EngineAsk){.pool = pool, .normalize = k >= 6}, 0);
        engine_free(en);
        EQ(g.n_pooled, 1);
        for (int i = 0; i < C; i++) {
            NEAR(g.pooled[i], k >= 6 ? want[i] / sqrt(sq) : want[i], 1e-4);
            got_sq += (double)g.pooled[i] * (double)g.pooled[i];
        }
        if (k >= 6) NEAR(got_sq, 1, 1e-6);
    }
    tiny_model_free(&t);
}

/* A last token is enough to have the rest from the cache; a mean is not. */
TEST(rows_that_are_not_wanted_come_from_the_cache) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 6);
    Engine *en = engine_up(&t, (EngineOpts){.kv_type = KV_F32});
    const Metrics *m = engine_metrics(en);
    Got first = got_of(100, 3), again = got_of(100, 3);
    ask(en, &first, (EngineAsk){.pool = ASK_POOL_LAST}, 0);
    ask(en, &again, (EngineAsk){.pool = ASK_POOL_LAST}, 0);
    EQ(metrics_get(&m->prefix_hits), 96);
    for (int i = 0; i < C; i++) NEAR(first.pooled[i], again.pooled[i], 1e-4);
    again = got_of(100, 3);
    ask(en, &again, (EngineAsk){.pool = ASK_POOL_MEAN}, 0);
    EQ(metrics_get(&m->prefix_hits), 96);
    again = got_of(100, 3);
    ask(en, &again, (EngineAsk){.n_choices = N_CHOICES}, 0);
    EQ(metrics_get(&m->prefix_hits), 192);
    engine_free(en);
    tiny_model_free(&t);
}

/* Each choice as the end of a text of its own. */
TEST(choices_score_as_texts_do) {
    static Evaluated v;
    static int32_t text[CTX];
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 7);
    for (int k = 0; k < 12; k++) {
        int n = (int[]){1, 31, 32, 33, 64, 150}[k % 6];
        Got g = got_of(n, 40 + (uint64_t)k);
        Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 2,
                                                .kv_type = KV_F32,
                                                .n_blocks = 9,
                                                .prefill_chunk = k < 6 ? 9 : 256});
        if (k % 2) g.n_choice[0] = g.n_choice[2] = 1;
        ask(en, &g, (EngineAsk){.n_choices = N_CHOICES}, 0);
        double total = 0, odds = exp(g.sum[1] - g.sum[0]);
        EQ(g.n_scored, 1);
        EQ(metrics_get(&engine_metrics(en)->prompt_rows), n); /* once for all */
        EQ(engine_stats(en).n_blocks_used, 0);
        engine_free(en);
        for (int i = 0; i < N_CHOICES; i++) {
            double sum = 0;
            memcpy(text, g.prompt, sizeof text);
            memcpy(text + n, g.choice[i], (size_t)g.n_choice[i] * sizeof *text);
            int n_text = MAX(n + g.n_choice[i], 4); /* a window is no shorter */
            evaluate(&v, &t, text, n_text);
            for (int j = 0; j < g.n_choice[i]; j++) {
                NEAR(g.tok_lp[i][j], v.lp[n + j], 2e-4);
                sum += g.tok_lp[i][j];
            }
            NEAR(g.sum[i], sum, 1e-9);
            total += g.prob[i];
        }
        NEAR(total, 1, 1e-12);
        NEAR(g.prob[1] / g.prob[0], odds, 1e-9 * odds);
    }
    tiny_model_free(&t);
}

/* ---- whatever runs beside ---- */

static EngineAsk mixed(int i) {
    switch (i % 4) {
    case 0: return (EngineAsk){.prompt_logprobs = true, .prompt_top = 3};
    case 1: return (EngineAsk){.pool = ASK_POOL_MEAN, .normalize = true};
    case 2: return (EngineAsk){.n_choices = N_CHOICES};
    default: return (EngineAsk){.prompt_logprobs = true, .pool = ASK_POOL_LAST};
    }
}

static void expect_same_bits(const Got *a, const Got *b) {
    EQ(a->n_wrong + b->n_wrong, 0);
    EQ(a->why, b->why);
    EQ(a->n_told, b->n_told);
    EQ_MEM(a->lp, b->lp, sizeof a->lp);
    EQ_MEM(a->pooled, b->pooled, sizeof a->pooled);
    EQ_MEM(a->tok_lp, b->tok_lp, sizeof a->tok_lp);
    EQ_MEM(a->prob, b->prob, sizeof a->prob);
    EQ_MEM(a->ids, b->ids, sizeof a->ids);
    EQ(a->n_pooled, b->n_pooled);
    EQ(a->n_scored, b->n_scored);
}

static Got one_of_many(int i) { return got_of(1 + (i * 53) % 170, (uint64_t)(i % 8)); }

static int tokens_of(int i) { return i % 4 == 3 || i % 8 == 1 ? NEW : 0; }

static void alone_or_among_others(const char *level) {
    enum { N = 24 };
    static const int chunks[] = {1, 7, 32, 33, 512};
    static Got alone[N], other[N];
    uint64_t n_preempted = 0;
    TinyModel t = tiny_model_invariant("llama", V, CTX, level, 3);
    for (int k = -1; k < (int)COUNT_OF(chunks); k++) {
        EngineOpts o = {.max_seqs = 8, .n_blocks = 9, .prefill_chunk = k < 0 ? 0 : chunks[k]};
        if (k < 0) o = (EngineOpts){.max_seqs = 1, .no_prefix = true};
        Engine *en = engine_up(&t, o);
        for (int i = 0; i < N; i++) {
            Got *g = k < 0 ? &alone[i] : &other[i];
            *g = one_of_many(i);
            submit(en, g, mixed(i), tokens_of(i));
            if (k < 0) wait_over(i + 1);
        }
        wait_over(N);
        n_preempted += engine_stats(en).n_preempted;
        engine_free(en);
        for (int i = 0; k >= 0 && i < N; i++) expect_same_bits(&alone[i], &other[i]);
    }
    TRUE_(n_preempted > 0);
    tiny_model_free(&t);
}

TEST(alone_or_among_others_to_the_bit) {
    static const char *const levels[] = {"avx2", "avx512"};
    for (size_t i = 0; i < COUNT_OF(levels); i++) {
        Kern k;
        Err e = {0};
        if (kern_init(&k, levels[i], &e) == OK) alone_or_among_others(levels[i]);
    }
}

/* ---- ends ---- */

TEST(cancel_from_the_prompts_callback) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 5);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 1});
    Got g = got_of(120, 1);
    g.cancel_on = en;
    g.cancel_at = 5;
    g.id = 1;
    ask(en, &g, (EngineAsk){.prompt_logprobs = true, .pool = ASK_POOL_MEAN, .n_choices = 2}, 0);
    EQ(g.why, FINISH_CANCELLED);
    EQ(g.n_told, 5);
    EQ(g.n_pooled + g.n_scored, 0);
    EQ(engine_stats(en).n_blocks_used, 0);
    engine_free(en);
    tiny_model_free(&t);
}

/* A prompt whose numbers break harms no other, whatever it asks for. */
TEST(broken_prompts_end_alone) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 6);
    Got sick[4], well = got_of(60, 9);
    for (int i = 0; i < 60; i++) well.prompt[i] = i;
    for (int i = 0; i < N_CHOICES; i++) well.n_choice[i] = 1;
    tiny_model_poison(&t, 77);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 8});
    for (int i = 0; i < 4; i++) {
        sick[i] = got_of(50, (uint64_t)i);
        sick[i].prompt[20] = 77;
        submit(en, &sick[i], mixed(i), 0);
    }
    submit(en, &well, (EngineAsk){.prompt_logprobs = true, .n_choices = 1}, 0);
    wait_over(5);
    for (int i = 0; i < 4; i++) {
        EQ(sick[i].why, FINISH_ERROR);
        EQ(sick[i].err.code, ERR_INTERNAL);
        TRUE_(sick[i].err.msg[0] != 0);
    }
    EQ(well.why, FINISH_LENGTH);
    EQ(well.n_told, 59);
    EQ(engine_stats(en).n_blocks_used, 0);
    engine_free(en);
    tiny_model_free(&t);
}

static void refused(Engine *en, EngineAsk a, int n_prompt, int max_new, const char *words) {
    Got g = got_of(n_prompt, 1);
    AskChoice choices[N_CHOICES];
    EngineReq r = request(&g, &a, choices, max_new);
    FAILS(ERR_ARG, engine_submit(en, &r, NULL, TERR));
    if (!strstr(test_err.msg, words)) FAIL("\"%s\" is not in \"%s\"", words, test_err.msg);
}

TEST(what_can_never_be_told_is_refused) {
    static const int32_t odd[2] = {5, V};
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 6);
    Engine *en = engine_up(&t, (EngineOpts){.max_ctx = 96});
    AskChoice c = {odd, 2}, empty = {odd, 0}, whole = {odd, 1};
    refused(en, (EngineAsk){0}, 5, 0, "nothing else");
    refused(en, (EngineAsk){.prompt_logprobs = true}, 5, -1, "max_new -1");
    refused(en, (EngineAsk){.prompt_logprobs = true}, 97, 0, "97 tokens, the limit is 96");
    refused(en, (EngineAsk){.prompt_logprobs = true}, 96, 1, "96 tokens, the limit is 95");
    refused(en, (EngineAsk){.prompt_logprobs = true, .prompt_top = 21}, 5, 0, "prompt_top 21");
    refused(en, (EngineAsk){.prompt_logprobs = true, .prompt_top = -1}, 5, 0, "prompt_top -1");
    refused(en, (EngineAsk){.pool = (AskPool)4}, 5, 0, "pool 4");
    refused(en, (EngineAsk){.n_choices = -1}, 5, 0, "-1 choices");
    refused(en, (EngineAsk){.n_choices = ASK_MAX_CHOICES + 1}, 5, 0, "1025 choices");
    refused(en, (EngineAsk){.n_choices = 1}, 5, 3, "max_new 3");
    EngineReq r = {.prompt = odd, .n_prompt = 1};
    EngineAsk a = {.n_choices = 1, .choices = &c};
    r.ask = &a;
    FAILS(ERR_ARG, engine_submit(en, &r, NULL, TERR));
    EQ_STR(test_err.msg, "choice 0, token 1 is 101, the vocabulary has 101");
    a.choices = &empty;
    FAILS(ERR_ARG, engine_submit(en, &r, NULL, TERR));
    EQ_STR(test_err.msg, "choice 0 has 0 tokens, 1 to 96 fit");
    a.choices = &whole; /* a full context, and a token that is never read */
    Got g = got_of(96, 1);
    g.n_choice[0] = g.n_choice[1] = 1;
    ask(en, &g, (EngineAsk){.n_choices = 2}, 0);
    EQ(g.n_scored, 1);
    engine_free(en);
    tiny_model_free(&t);
}

/* Nothing is lost when memory runs out on the way in, and nothing allocates once it is there. */
TEST(submitting_without_memory) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 6);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 2});
    EngineAsk a = {.prompt_logprobs = true, .pool = ASK_POOL_MEAN, .n_choices = N_CHOICES};
    for (uint64_t n = 1;; n++) {
        Got g = got_of(20, 1);
        AskChoice choices[N_CHOICES];
        EngineReq r = request(&g, &a, choices, 0);
        size_t live = mem_live_bytes();
        fault_arm(FAULT_ALLOC, n);
        Status st = engine_submit(en, &r, NULL, TERR);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        if (!fired) {
            OK_(st);
            wait_over(1);
            TRUE_(n >= 3);
            break;
        }
        EQ(st, ERR_NOMEM);
        EQ(mem_live_bytes(), live);
    }
    engine_free(en);
    tiny_model_free(&t);
}
