/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "kernel/kernel.h"
#include "sampler.h"
#include "test.h"
#include "support/tiny_model.h"

enum { V = 101, CTX = 256, MAX_NEW = 256 };

/* ---- what a submitter sees ---- */

typedef struct Sink {
    pthread_mutex_t mu;
    pthread_cond_t changed;
    int32_t ids[MAX_NEW];
    int n, n_done, order; /* order: how many requests ended before */
    FinishReason why;
    bool has_err;
    Err err;
    bool hold;          /* the engine waits inside on_token */
    Engine *cancel_on;  /* cancel from within the callback, */
    uint64_t cancel_id; /* this request, */
    int cancel_at;      /* at this token */
    uint64_t alloc_at[MAX_NEW];
} Sink;

#define SINK \
    { .mu = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER }

static void on_token(void *ctx, const SampleOut *t) {
    int32_t id = t->id;
    Sink *s = ctx;
    pthread_mutex_lock(&s->mu);
    s->alloc_at[s->n] = mem_n_alloc();
    s->ids[s->n++] = id;
    pthread_cond_broadcast(&s->changed);
    while (s->hold) pthread_cond_wait(&s->changed, &s->mu);
    pthread_mutex_unlock(&s->mu);
    if (s->cancel_on && s->n == s->cancel_at) engine_cancel(s->cancel_on, s->cancel_id);
}

static atomic_int n_ended;

static void on_done(void *ctx, FinishReason why, const Err *e) {
    Sink *s = ctx;
    pthread_mutex_lock(&s->mu);
    s->n_done++;
    s->order = atomic_fetch_add(&n_ended, 1);
    s->why = why;
    s->has_err = e != NULL;
    if (e) s->err = *e;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mu);
}

static void wait_done(Sink *s) {
    pthread_mutex_lock(&s->mu);
    while (s->n_done == 0) pthread_cond_wait(&s->changed, &s->mu);
    pthread_mutex_unlock(&s->mu);
}

static void wait_tokens(Sink *s, int n) {
    pthread_mutex_lock(&s->mu);
    while (s->n < n && s->n_done == 0) pthread_cond_wait(&s->changed, &s->mu);
    pthread_mutex_unlock(&s->mu);
}

static void set_hold(Sink *s, bool hold) {
    pthread_mutex_lock(&s->mu);
    s->hold = hold;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mu);
}

static void fill_prompt(int32_t *ids, int n, uint64_t seed) {
    for (int i = 0; i < n; i++) ids[i] = (int32_t)(rng_uniform(seed, 9, (uint64_t)i) * V);
}

static EngineReq request(Sink *s, const int32_t *ids, int n, int max_new) {
    return (EngineReq){.prompt = ids,
                       .n_prompt = n,
                       .max_new = max_new,
                       .sample = {.top_p = 1},
                       .on_token = on_token,
                       .on_done = on_done,
                       .ctx = s};
}

static Engine *engine_up(TinyModel *t, EngineOpts o) {
    Engine *en = NULL;
    o.check = true;
    OK_(engine_new(&en, t->m, &o, TERR));
    return en;
}

static void generate(Engine *en, Sink *s, const int32_t *ids, int n, int max_new) {
    EngineReq r = request(s, ids, n, max_new);
    OK_(engine_submit(en, &r, NULL, TERR));
    wait_done(s);
}

static void expect_same(const Sink *a, const Sink *b) {
    EQ(a->n, b->n);
    EQ(a->why, b->why);
    EQ(a->has_err, a->why == FINISH_ERROR);
    for (int i = 0; i < a->n; i++) EQ(a->ids[i], b->ids[i]);
}

static void expect_idle(const Engine *en) {
    EngineStats s = engine_stats(en);
    EQ(s.n_running, 0);
    EQ(s.n_waiting, 0);
    EQ(s.n_blocks_used, 0);
}

/* ---- what is generated ---- */

/* The engine's greedy tokens are the best ones of one forward pass over everything before each. */
TEST(greedy_is_the_argmax_of_the_whole_context) {
    static const char *const archs[] = {"llama", "gpt2"};
    for (int a = 0; a < 2; a++) {
        TinyModel t = tiny_model_new(archs[a], V, CTX, NULL, 11);
        Engine *en = engine_up(&t, (EngineOpts){.prefill_chunk = 5, .kv_type = KV_F32});
        int32_t ids[CTX];
        Sink s = SINK;
        fill_prompt(ids, 21, 1);
        generate(en, &s, ids, 21, 60);
        EQ(s.n, 60);
        EQ(s.why, FINISH_LENGTH);
        engine_free(en);
        memcpy(ids + 21, s.ids, 60 * sizeof *ids);
        int n_distinct = 0;
        for (int i = 0; i < 60; i++) {
            float x[V];
            tiny_model_logits(&t, x, ids, 21 + i);
            for (int v = 0; v < V; v++) TRUE_(x[v] <= x[s.ids[i]]);
            n_distinct += i > 0 && s.ids[i] != s.ids[i - 1];
        }
        TRUE_(n_distinct > 5); /* else this says little */
        tiny_model_free(&t);
    }
}

static void alone_or_together(const char *cpu) {
    enum { N = 8, NEW = 40 };
    TinyModel t = tiny_model_new("llama", V, CTX, cpu, 3);
    Sink alone[N], together[N];
    int32_t ids[N][100];
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = N, .prefill_chunk = 16});
    for (int i = 0; i < N; i++) {
        alone[i] = together[i] = (Sink)SINK;
        fill_prompt(ids[i], 3 + 12 * i, (uint64_t)i);
        generate(en, &alone[i], ids[i], 3 + 12 * i, NEW);
    }
    for (int i = 0; i < N; i++) {
        EngineReq r = request(&together[i], ids[i], 3 + 12 * i, NEW);
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    for (int i = 0; i < N; i++) wait_done(&together[i]);
    for (int i = 0; i < N; i++) expect_same(&alone[i], &together[i]);
    expect_idle(en);
    engine_free(en);
    tiny_model_free(&t);
}

static void at_every_level(void (*fn)(const char *cpu)) {
    for (int l = 0; l <= (int)kern_best_level(kern_caps()); l++) fn(kern_level_name((CpuLevel)l));
}

TEST(alone_or_in_a_full_batch) { at_every_level(alone_or_together); }

TEST(sampling_does_not_depend_on_the_batch) {
    enum { N = 6, NEW = 30 };
    TinyModel t = tiny_model_new("gpt2", V, CTX, NULL, 4);
    Sink alone[N], together[N];
    int32_t ids[10];
    fill_prompt(ids, 10, 5);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 4});
    for (int pass = 0; pass < 2; pass++) {
        Sink *s = pass ? together : alone;
        for (int i = 0; i < N; i++) {
            s[i] = (Sink)SINK;
            EngineReq r = request(&s[i], ids, 10, NEW);
            r.sample = (SampleOpts){.temp = 1, .top_k = 20, .top_p = 0.9, .seed = (uint64_t)i};
            OK_(engine_submit(en, &r, NULL, TERR));
            if (pass == 0) wait_done(&s[i]);
        }
        for (int i = 0; i < N; i++) wait_done(&s[i]);
    }
    for (int i = 0; i < N; i++) expect_same(&alone[i], &together[i]);
    int n_equal = 0;
    for (int k = 0; k < NEW; k++) n_equal += alone[0].ids[k] == alone[1].ids[k];
    TRUE_(n_equal < NEW); /* other seeds, other text */
    engine_free(en);
    tiny_model_free(&t);
}

/* Random numbers belong to places in the text: a text cut short and given again goes on as it would have. */
TEST(a_seed_means_the_same_after_a_restart) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 4);
    Engine *en = engine_up(&t, (EngineOpts){.kv_type = KV_F32});
    int32_t ids[40];
    Sink whole = SINK, rest = SINK;
    SampleOpts so = {.temp = 1, .top_p = 1, .seed = 3};
    fill_prompt(ids, 10, 5);
    EngineReq r = request(&whole, ids, 10, 30);
    r.sample = so;
    OK_(engine_submit(en, &r, NULL, TERR));
    wait_done(&whole);
    memcpy(ids + 10, whole.ids, 12 * sizeof *ids);
    r = request(&rest, ids, 22, 18);
    r.sample = so;
    OK_(engine_submit(en, &r, NULL, TERR));
    wait_done(&rest);
    for (int i = 0; i < 18; i++) EQ(rest.ids[i], whole.ids[12 + i]);
    engine_free(en);
    tiny_model_free(&t);
}

static void prompt_chunks(const char *cpu) {
    static const int chunks[] = {1, 7, 32, 33, 256};
    TinyModel t = tiny_model_new("llama", V, CTX, cpu, 8);
    int32_t ids[130];
    Sink first = SINK;
    fill_prompt(ids, 130, 2);
    for (size_t i = 0; i < COUNT_OF(chunks); i++) {
        Sink s = SINK;
        Engine *en = engine_up(&t, (EngineOpts){.prefill_chunk = chunks[i]});
        generate(en, &s, ids, 130, 40);
        EQ(engine_stats(en).n_prompt_tok, 130);
        EQ(engine_stats(en).n_new_tok, 40);
        EQ(engine_stats(en).n_steps, (130 + chunks[i] - 1) / chunks[i] + 39);
        if (i == 0) first = s;
        expect_same(&first, &s);
        engine_free(en);
    }
    tiny_model_free(&t);
}

TEST(prompt_chunks_do_not_matter) { at_every_level(prompt_chunks); }

/* ---- ends ---- */

TEST(full_context_ends_a_request) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    Engine *en = engine_up(&t, (EngineOpts){.max_ctx = 50});
    int32_t ids[50];
    fill_prompt(ids, 50, 1);
    EQ(engine_max_ctx(en), 50);
    Sink s = SINK, one = SINK;
    generate(en, &s, ids, 20, 1000000);
    EQ(s.n, 30);
    EQ(s.why, FINISH_LENGTH);
    generate(en, &one, ids, 49, 7);
    EQ(one.n, 1);
    EQ(one.why, FINISH_LENGTH);
    engine_free(en);
    tiny_model_free(&t);
}

/* 256 bytes and the end-of-text token, which a high temperature brings up by chance. */
TEST(end_token_stops_and_is_not_given_out) {
    TokTrainer *tr = NULL;
    Tokenizer *tok = NULL;
    OK_(tok_train_new(&tr, &(TokTrainOpts){.n_vocab = 257}, TERR));
    OK_(tok_train_finish(tr, &tok, TERR));
    tok_train_free(tr);
    TinyModel t = tiny_model_new("llama", 300, 2048, NULL, 1);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 2, .tok = tok});
    int32_t id = 65, n_stop = 0;
    for (uint64_t seed = 0; seed < 10; seed++) {
        Sink s = SINK, on = SINK;
        EngineReq r = request(&s, &id, 1, MAX_NEW);
        r.sample = (SampleOpts){.temp = 100, .top_p = 1, .seed = seed};
        OK_(engine_submit(en, &r, NULL, TERR));
        wait_done(&s);
        for (int i = 0; i < s.n; i++) TRUE_(s.ids[i] < 256); /* tokens without a text never come */
        if (s.why == FINISH_LENGTH) continue;
        EQ(s.why, FINISH_STOP);
        n_stop++;
        r.ctx = &on;
        r.ignore_end = true;
        OK_(engine_submit(en, &r, NULL, TERR));
        wait_done(&on);
        EQ(on.why, FINISH_LENGTH);
        EQ(on.n, MAX_NEW);
        EQ(on.ids[s.n], tok_eot(tok));
        for (int i = 0; i < s.n; i++) EQ(on.ids[i], s.ids[i]);
    }
    TRUE_(n_stop > 0);
    engine_free(en);
    tiny_model_free(&t);
    tok_free(tok);
}

/* A token that is neither in ids[n] nor in what came out. */
static int32_t unused_token(const int32_t *ids, int n, const Sink *s) {
    bool used[V] = {0};
    int32_t id = 0;
    for (int i = 0; i < n; i++) used[ids[i]] = true;
    for (int i = 0; i < s->n; i++) used[s->ids[i]] = true;
    while (id < V - 1 && used[id]) id++;
    return id;
}

/* A model whose numbers break for one request: the others, and whoever gets its blocks, see nothing. */
static void broken_request(const char *cpu, KvType kv_type) {
    EngineOpts o = {.max_seqs = 2, .max_ctx = 64, .n_blocks = 4, .kv_type = kv_type};
    TinyModel t = tiny_model_new("llama", V, CTX, cpu, 6);
    int32_t ids[40], bad[40];
    fill_prompt(ids, 40, 3);
    Engine *en = engine_up(&t, o);
    Sink before = SINK, sick = SINK, beside = SINK, after[2] = {SINK, SINK};
    generate(en, &before, ids, 20, 40);
    engine_free(en);
    memcpy(bad, ids, sizeof bad);
    bad[30] = unused_token(ids, 40, &before);
    tiny_model_poison(&t, bad[30]);
    en = engine_up(&t, o);
    EngineReq a = request(&sick, bad, 40, 20), b = request(&beside, ids, 20, 40);
    OK_(engine_submit(en, &a, NULL, TERR));
    OK_(engine_submit(en, &b, NULL, TERR));
    wait_done(&sick);
    wait_done(&beside);
    EQ(sick.why, FINISH_ERROR);
    EQ(sick.err.code, ERR_INTERNAL);
    TRUE_(sick.err.msg[0] != 0);
    expect_same(&before, &beside);
    for (int i = 0; i < 2; i++) {
        EngineReq r = request(&after[i], ids, 20, 40);
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    for (int i = 0; i < 2; i++) wait_done(&after[i]);
    for (int i = 0; i < 2; i++) expect_same(&before, &after[i]);
    engine_free(en);
    tiny_model_free(&t);
}

static void broken_request_at(const char *cpu) {
    broken_request(cpu, KV_F32);
    broken_request(cpu, KV_F16);
    broken_request(cpu, KV_Q8_0);
}

TEST(broken_request_harms_no_other) { at_every_level(broken_request_at); }

/* ---- cancel ---- */

TEST(cancel_while_it_runs) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 2});
    int32_t ids[4];
    uint64_t id = 0;
    Sink s = SINK, other = SINK;
    fill_prompt(ids, 4, 1);
    EngineReq r = request(&s, ids, 4, 200), r2 = request(&other, ids, 4, 100);
    s.hold = true;
    OK_(engine_submit(en, &r, &id, TERR));
    OK_(engine_submit(en, &r2, NULL, TERR));
    wait_tokens(&s, 1);
    engine_cancel(en, id);
    set_hold(&s, false);
    wait_done(&s);
    wait_done(&other);
    EQ(s.why, FINISH_CANCELLED);
    EQ(s.n, 1); /* within one step */
    EQ(other.n, 100);
    engine_cancel(en, id); /* finished: ignored */
    engine_cancel(en, 12345);
    expect_idle(en);
    engine_free(en);
    EQ(s.n_done, 1);
    tiny_model_free(&t);
}

TEST(cancel_from_the_callback) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 1});
    int32_t ids[4] = {1, 2, 3, 4};
    Sink s = SINK;
    s.cancel_on = en;
    s.cancel_id = 1; /* the first id an engine gives */
    s.cancel_at = 5;
    generate(en, &s, ids, 4, 200);
    EQ(s.why, FINISH_CANCELLED);
    EQ(s.n, 5);
    expect_idle(en);
    engine_free(en);
    tiny_model_free(&t);
}

TEST(cancel_while_it_waits) {
    enum { N = 4 };
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 1});
    int32_t ids[4] = {1, 2, 3, 4};
    Sink first = SINK, rest[N];
    uint64_t id[N];
    first.hold = true;
    EngineReq r = request(&first, ids, 4, 200);
    OK_(engine_submit(en, &r, NULL, TERR));
    wait_tokens(&first, 1);
    for (int i = 0; i < N; i++) {
        rest[i] = (Sink)SINK;
        r = request(&rest[i], ids, 4, 10);
        OK_(engine_submit(en, &r, &id[i], TERR));
    }
    EQ(engine_stats(en).n_waiting, N);
    engine_cancel(en, id[0]);
    engine_cancel(en, id[2]);
    set_hold(&first, false);
    for (int i = 0; i < N; i++) wait_done(&rest[i]);
    for (int i = 0; i < N; i++) {
        EQ(rest[i].why, i % 2 ? FINISH_LENGTH : FINISH_CANCELLED);
        EQ(rest[i].n, i % 2 ? 10 : 0);
        EQ(rest[i].n_done, 1);
        EQ(rest[i].order < first.order, i % 2 == 0); /* at once, not when its turn came */
        FALSE_(rest[i].has_err);
    }
    engine_free(en);
    tiny_model_free(&t);
}

TEST(free_cancels_everything_once) {
    enum { N = 10 };
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 3});
    int32_t ids[4] = {1, 2, 3, 4};
    Sink s[N];
    for (int i = 0; i < N; i++) {
        s[i] = (Sink)SINK;
        EngineReq r = request(&s[i], ids, 4, 250);
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    wait_tokens(&s[0], 2);
    engine_free(en);
    for (int i = 0; i < N; i++) EQ(s[i].n_done, 1);
    EQ(s[N - 1].why, FINISH_CANCELLED);
    engine_free(NULL);
    tiny_model_free(&t);
}

/* ---- limits ---- */

TEST(queue_full) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 1, .max_queue = 2});
    int32_t ids[4] = {1, 2, 3, 4};
    Sink s[4] = {SINK, SINK, SINK, SINK};
    s[0].hold = true;
    for (int i = 0; i < 3; i++) {
        EngineReq r = request(&s[i], ids, 4, 5);
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    EngineReq r = request(&s[3], ids, 4, 5);
    FAILS(ERR_FULL, engine_submit(en, &r, NULL, TERR));
    set_hold(&s[0], false);
    for (int i = 0; i < 3; i++) wait_done(&s[i]);
    generate(en, &s[3], ids, 4, 5);
    EQ(s[3].n, 5);
    engine_free(en);
    tiny_model_free(&t);
}

TEST(what_can_never_run_is_refused) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    Engine *en = engine_up(&t, (EngineOpts){.max_ctx = 64});
    int32_t ids[100] = {0};
    Sink s = SINK;
    EngineReq good = request(&s, ids, 10, 5), r = good;
    r.n_prompt = 0;
    FAILS(ERR_ARG, engine_submit(en, &r, NULL, TERR));
    r.n_prompt = 64;
    FAILS(ERR_ARG, engine_submit(en, &r, NULL, TERR));
    TRUE_(strstr(test_err.msg, "64") && strstr(test_err.msg, "63"));
    r = good;
    r.max_new = 0;
    FAILS(ERR_ARG, engine_submit(en, &r, NULL, TERR));
    r = good;
    r.sample.temp = -1;
    FAILS(ERR_ARG, engine_submit(en, &r, NULL, TERR));
    r = good;
    ids[7] = V;
    FAILS(ERR_ARG, engine_submit(en, &r, NULL, TERR));
    ids[7] = -1;
    FAILS(ERR_ARG, engine_submit(en, &r, NULL, TERR));
    EQ(s.n_done, 0);
    expect_idle(en);
    engine_free(en);
    tiny_model_free(&t);
}

TEST(options_out_of_range) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    Engine *en = NULL;
    size_t bytes = 0;
    EngineOpts bad[] = {{.max_seqs = -1}, {.max_seqs = 1 << 20}, {.max_ctx = CTX + 1},
                        {.max_ctx = 1},   {.prefill_chunk = -3}, {.max_queue = -1},
                        {.n_blocks = -1}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        FAILS(ERR_ARG, engine_new(&en, t.m, &bad[i], TERR));
        FAILS(ERR_ARG, engine_plan_bytes(&bytes, &t.m->cfg, &bad[i], TERR));
    }
    EQ(en == NULL, 1);
    tiny_model_free(&t);
}

TEST(plan_is_what_the_engine_takes) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    EngineOpts o = {.max_seqs = 4, .prefill_chunk = 64};
    Engine *en = NULL;
    size_t plan = 0, before = mem_live_bytes();
    OK_(engine_plan_bytes(&plan, &t.m->cfg, &o, TERR));
    OK_(engine_new(&en, t.m, &o, TERR));
    size_t taken = mem_live_bytes() - before;
    TRUE_(taken <= plan + plan / 20 + 8192 && taken + 8192 >= plan - plan / 20);
    engine_free(en);
    tiny_model_free(&t);
}

/* Fewer blocks than sequences want: they take turns, in order. */
TEST(scarce_blocks_make_requests_wait_in_order) {
    enum { N = 6 };
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = N, .max_ctx = 96, .n_blocks = 5});
    int32_t ids[90];
    Sink s[N];
    fill_prompt(ids, 90, 1);
    for (int i = 0; i < N; i++) {
        s[i] = (Sink)SINK;
        EngineReq r = request(&s[i], ids, i % 2 ? 10 : 80, 10);
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    for (int i = 0; i < N; i++) wait_done(&s[i]);
    for (int i = 0; i < N; i++) EQ(s[i].n, 10);
    expect_same(&s[0], &s[2]);
    expect_same(&s[1], &s[5]);
    engine_free(en);
    tiny_model_free(&t);
}

TEST(fewer_blocks_than_the_context_shorten_it) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    Engine *en = engine_up(&t, (EngineOpts){.max_ctx = 200, .n_blocks = 2});
    int32_t id = 1;
    Sink s = SINK;
    EQ(engine_max_ctx(en), 64);
    generate(en, &s, &id, 1, 500);
    EQ(s.n, 63);
    engine_free(en);
    tiny_model_free(&t);
}

TEST(step_allocates_nothing) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 2, .prefill_chunk = 8});
    int32_t ids[60];
    Sink a = SINK, b = SINK;
    fill_prompt(ids, 60, 1);
    EngineReq ra = request(&a, ids, 3, 100), rb = request(&b, ids, 60, 100);
    rb.sample = (SampleOpts){.temp = 1, .top_k = 9, .top_p = 0.8, .seed = 1};
    a.hold = true;
    OK_(engine_submit(en, &ra, NULL, TERR));
    OK_(engine_submit(en, &rb, NULL, TERR));
    set_hold(&a, false);
    wait_done(&a);
    wait_done(&b);
    EQ(a.alloc_at[99] - a.alloc_at[3], 0);
    EQ(b.alloc_at[99] - b.alloc_at[0], 0);
    engine_free(en);
    tiny_model_free(&t);
}

/* ---- many at once ---- */

typedef struct Storm {
    Engine *en;
    uint64_t seed;
    int n_refused, n_done[5], n_wrong;
} Storm;

/* Submits, cancels some after a while, and checks that each request ends once and in a lawful way. */
static void *storm_main(void *arg) {
    enum { ROUNDS = 40, AT_ONCE = 6 };
    Storm *st = arg;
    Sink *s = mem_new_n(Sink, AT_ONCE);
    for (uint64_t i = 0; s && i < ROUNDS; i++) {
        uint64_t id[AT_ONCE];
        bool in[AT_ONCE];
        int32_t ids[80];
        fill_prompt(ids, 80, i);
        for (uint64_t k = 0; k < AT_ONCE; k++) {
            double u = rng_uniform(st->seed, i, k), v = rng_uniform(st->seed, i, 100 + k);
            s[k] = (Sink)SINK;
            EngineReq r = request(&s[k], ids, 1 + (int)(u * 79), 1 + (int)(v * 30));
            in[k] = engine_submit(st->en, &r, &id[k], NULL) == OK;
            st->n_refused += !in[k];
        }
        for (uint64_t k = 0; k < AT_ONCE; k++) {
            if (!in[k]) continue;
            if (rng_uniform(st->seed, i, 200 + k) < 0.4) engine_cancel(st->en, id[k]);
            if (engine_stats(st->en).n_blocks_used > 12) st->n_wrong++;
            wait_done(&s[k]);
            st->n_done[s[k].why]++;
            st->n_wrong += s[k].n_done != 1;
        }
    }
    mem_free(s);
    return NULL;
}

TEST(storm_of_submits_and_cancels) {
    enum { N = 4 };
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 5,
                                            .max_ctx = 128,
                                            .n_blocks = 12,
                                            .prefill_chunk = 20,
                                            .max_queue = 12});
    pthread_t th[N];
    Storm st[N] = {0};
    int total[5] = {0};
    for (int i = 0; i < N; i++) {
        st[i] = (Storm){.en = en, .seed = (uint64_t)i};
        EQ(pthread_create(&th[i], NULL, storm_main, &st[i]), 0);
    }
    for (int i = 0; i < N; i++) pthread_join(th[i], NULL);
    for (int i = 0; i < N; i++) {
        EQ(st[i].n_wrong, 0);
        for (int k = 0; k < 5; k++) total[k] += st[i].n_done[k];
    }
    TRUE_(total[FINISH_LENGTH] > 100);
    TRUE_(total[FINISH_CANCELLED] > 10);
    EQ(total[FINISH_ERROR] + total[FINISH_STOP], 0);
    expect_idle(en);
    engine_free(en);
    tiny_model_free(&t);
}

/* ---- options of the sampler, through the engine ---- */

typedef struct Seen {
    int32_t id[8];
    double logprob[8];
    int n, n_top, rank;
} Seen;

static void see(void *ctx, const SampleOut *t) {
    Seen *s = ctx;
    s->logprob[s->n] = t->logprob;
    s->n_top = t->n_top;
    s->rank = t->rank;
    s->id[s->n++] = t->id;
}

typedef struct Both {
    Sink sink; /* first: on_done sees it */
    Seen seen;
} Both;

static void both_token(void *ctx, const SampleOut *t) { see(&((Both *)ctx)->seen, t); }

/* Six tokens after a fixed prompt; the lists in o are gone before the engine looks at them. */
static Both six_tokens(Engine *en, SampleOpts o) {
    static const int32_t prompt[] = {5, 9, 3, 70, 12};
    Both b = {.sink = SINK};
    SampleBias bias[1];
    int32_t stop[1];
    if (o.n_bias) bias[0] = o.bias[0];
    if (o.n_stop_ids) stop[0] = o.stop_ids[0];
    o.bias = o.n_bias ? bias : NULL;
    o.stop_ids = o.n_stop_ids ? stop : NULL;
    o.top_p = 1;
    EngineReq r = {.prompt = prompt,
                   .n_prompt = 5,
                   .max_new = 6,
                   .sample = o,
                   .on_token = both_token,
                   .on_done = on_done,
                   .ctx = &b};
    OK_(engine_submit(en, &r, NULL, TERR));
    bias[0] = (SampleBias){0, 0};
    stop[0] = 0;
    wait_done(&b.sink);
    return b;
}

TEST(sampler_options_reach_the_sampler) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    float row[V];
    double want;
    OK_(model_reserve(t.m, 300, 2, TERR)); /* the model's room, which it keeps */
    size_t live = mem_live_bytes();
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 2});
    Both plain = six_tokens(en, (SampleOpts){.logprobs = true, .top_logprobs = 3});
    int32_t first = plain.seen.id[0];
    EQ(plain.seen.n, 6);
    EQ(plain.seen.n_top, 3);
    EQ(plain.seen.rank, 1);
    Both b = six_tokens(en, (SampleOpts){.n_stop_ids = 1, .stop_ids = &first});
    EQ(b.seen.n, 0);
    EQ(b.sink.why, FINISH_STOP);
    b = six_tokens(en, (SampleOpts){.n_stop_ids = 1, .stop_ids = &first, .min_tokens = 6});
    EQ(b.seen.n, 6);
    for (int i = 0; i < 6; i++) NE(b.seen.id[i], first);
    b = six_tokens(en, (SampleOpts){.n_bias = 1, .bias = &(SampleBias){42, 100}});
    for (int i = 0; i < 6; i++) EQ(b.seen.id[i], 42);
    b = six_tokens(en,
                   (SampleOpts){.n_bias = 1, .bias = &(SampleBias){42, 100}, .repetition = 100});
    EQ(b.seen.id[0], 42);
    NE(b.seen.id[1], 42);
    FAILS(ERR_ARG, engine_submit(en,
                                 &(EngineReq){.prompt = &first,
                                              .n_prompt = 1,
                                              .max_new = 1,
                                              .sample = {.top_p = 1,
                                                         .n_bias = 1,
                                                         .bias = &(SampleBias){V, 1}}},
                                 NULL, TERR));
    engine_free(en);
    EQ(mem_live_bytes(), live);
    tiny_model_logits(&t, row, (const int32_t[]){5, 9, 3, 70, 12}, 5);
    Sampler *s = sampler_for(V);
    SampleOut scored;
    OK_(sample_score(&scored, row, V, first, 0, s, TERR));
    want = scored.logprob;
    mem_free(s);
    NEAR(plain.seen.logprob[0], want, 1e-3);
    tiny_model_free(&t);
}

/* Ids 0 to 9 are digits, the others letters; the last one ends the text. */
static GrammarVocab *letters(void) {
    static char text[V];
    Slice piece[V];
    bool is_end[V] = {0};
    GrammarVocab *v = NULL;
    for (int i = 0; i < V; i++) {
        text[i] = (char)(i < 10 ? '0' + i : 'a' + i % 26);
        piece[i] = (Slice){&text[i], 1};
    }
    is_end[V - 1] = true;
    OK_(grammar_vocab_from_pieces(&v, piece, is_end, V, TERR));
    return v;
}

TEST(answers_keep_to_their_grammar) {
    enum { N = 6 };
    static const char *const pattern[N] = {"[0-9]{2}[a-d]{3}", "[x-z]{4}", NULL, "7+",
                                           "(ab|cd){2}",       "[0-9]{5}"};
    static const int want[N] = {5, 4, 20, 0, 4, 5};
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    GrammarVocab *v = letters();
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 4, .vocab = v, .n_blocks = 9});
    int32_t ids[30];
    Sink s[N];
    fill_prompt(ids, 30, 3);
    for (int i = 0; i < N; i++) {
        s[i] = (Sink)SINK;
        EngineReq r = request(&s[i], ids, 30, 20);
        r.sample.temp = 1;
        r.sample.seed = (uint64_t)i;
        if (pattern[i]) OK_(grammar_from_regex(&r.grammar, slice_of(pattern[i]), NULL, TERR));
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    for (int i = 0; i < N; i++) wait_done(&s[i]);
    for (int i = 0; i < N; i++) {
        if (i == 3) continue; /* as long as it likes */
        EQ(s[i].n, want[i]);
        EQ(s[i].why, want[i] == 20 ? FINISH_LENGTH : FINISH_STOP);
    }
    for (int k = 0; k < 5; k++) TRUE_(k < 2 ? s[0].ids[k] < 10 : s[0].ids[k] % 26 < 4);
    for (int k = 0; k < 4; k++) TRUE_(s[1].ids[k] >= 10 && s[1].ids[k] % 26 >= 23);
    TRUE_(s[3].n > 1);
    for (int k = 0; k < s[3].n; k++) TRUE_(s[3].ids[k] == 7 || (k > 0 && s[3].ids[k] == V - 1));
    engine_free(en);
    grammar_vocab_free(v);
    en = engine_up(&t, (EngineOpts){
                           .max_seqs = 1}); /* no vocabulary: refused, and the grammar stays ours */
    EngineReq r = request(&s[0], ids, 30, 20);
    OK_(grammar_from_regex(&r.grammar, slice_of("a"), NULL, TERR));
    FAILS(ERR_ARG, engine_submit(en, &r, NULL, TERR));
    grammar_free(r.grammar);
    engine_free(en);
    tiny_model_free(&t);
}
