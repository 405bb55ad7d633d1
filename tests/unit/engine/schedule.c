/* SPDX-License-Identifier: Apache-2.0
 * Random schedules over a stand-in for the model. Its "K and V" of a token are one number made of the token, its
 * position and the number of the token before it, read through the block table; two tokens may follow it, at equal
 * odds. So a wrong block, a block shared too early or reused too soon, a copy not made: each changes the tokens that come
 * out, which are known beforehand. */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "base/clock.h"
#include "base/rng.h"
#include "engine/internal.h"
#include "test.h"

enum { V = 50, CTX = 400, BLOCKS_MOST = 64 };

typedef struct Fake {
    uint64_t kv[BLOCKS_MOST * KV_BLOCK_TOK];
    float logits[64 * V];
    int order[4096];
    uint64_t fail_at, n_calls; /* this call fails; 0: none */
    int us, fixed_us;          /* a row takes so long, and a step */
} Fake;

static uint64_t mix(uint64_t before, int32_t tok, int pos) {
    uint64_t z = before ^ ((uint64_t)(uint32_t)tok << 32 | (uint32_t)pos);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t *cell(Fake *f, const Batch *b, int seq, int pos) {
    return &f->kv[b->blocks[seq][pos / KV_BLOCK_TOK] * KV_BLOCK_TOK + pos % KV_BLOCK_TOK];
}

static const Batch *sorted;
static int by_pos(const void *a, const void *b) {
    return sorted->pos[*(const int *)a] - sorted->pos[*(const int *)b];
}

/* Rows by position: as in a real pass, what a row reads of this batch is there, wherever its writer stands. */
static Status forward(void *ctx, const Batch *b, const float **logits, Err *e) {
    Fake *f = ctx;
    if (++f->n_calls == f->fail_at) return err_set(e, ERR_IO, "the device is lost");
    for (int i = 0; i < b->T; i++) f->order[i] = i;
    sorted = b;
    qsort(f->order, (size_t)b->T, sizeof f->order[0], by_pos);
    for (int i = 0; i < b->T; i++) {
        int r = f->order[i], pos = b->pos[r];
        uint64_t before = pos ? *cell(f, b, b->seq[r], pos - 1) : 0;
        *cell(f, b, b->seq[r], pos) = mix(before, b->tok[r], pos);
    }
    for (int i = 0; i < b->n_out; i++) {
        int r = b->out[i];
        uint64_t at = *cell(f, b, b->seq[r], b->pos[r]);
        for (int v = 0; v < V; v++) f->logits[i * V + v] = -1e30f;
        f->logits[i * V + (int)(at % V)] = f->logits[i * V + (int)(at / V % V)] = 1.0f;
    }
    if (f->us) nanosleep(&(struct timespec){.tv_nsec = 1000L * (f->fixed_us + f->us * b->T)}, NULL);
    *logits = f->logits;
    return OK;
}

static void kv_copy(void *ctx, int32_t dst, int32_t src) {
    Fake *f = ctx;
    memcpy(&f->kv[dst * KV_BLOCK_TOK], &f->kv[src * KV_BLOCK_TOK], KV_BLOCK_TOK * sizeof f->kv[0]);
}

/* ---- requests that check what they get ---- */

typedef struct Client {
    int32_t prompt[CTX];
    int n_prompt, max_new, n, wrong, n_done;
    uint64_t chain; /* number of the last token */
    FinishReason why;
    Err err;
} Client;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int n_over;

static void on_token(void *ctx, const SampleOut *t) {
    Client *c = ctx;
    int32_t id = t->id;
    c->wrong += id != (int32_t)(c->chain % V) && id != (int32_t)(c->chain / V % V);
    c->chain = mix(c->chain, id, c->n_prompt + c->n++);
}

static void on_done(void *ctx, FinishReason why, const Err *e) {
    Client *c = ctx;
    pthread_mutex_lock(&mu);
    c->n_done++;
    c->why = why;
    if (e) c->err = *e;
    n_over++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mu);
}

static void wait_for(int n) {
    pthread_mutex_lock(&mu);
    while (n_over < n) pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
}

/* Prompts begin alike up to `same` tokens within a family. */
static EngineReq request(Client *c, int n_prompt, int max_new, int family, int same, uint64_t key) {
    *c = (Client){.n_prompt = n_prompt, .max_new = max_new};
    for (int i = 0; i < n_prompt; i++) {
        double u = i < same ? rng_uniform(77, (uint64_t)family, (uint64_t)i)
                            : rng_uniform(78, key, (uint64_t)i);
        c->prompt[i] = (int32_t)(u * V);
        c->chain = mix(c->chain, c->prompt[i], i);
    }
    return (EngineReq){.prompt = c->prompt,
                       .n_prompt = n_prompt,
                       .max_new = max_new,
                       .sample = {.temp = 1, .top_p = 1, .seed = key},
                       .on_token = on_token,
                       .on_done = on_done,
                       .ctx = c};
}

static Engine *engine_up(Fake *f, EngineOpts o) {
    Engine *en = NULL;
    ModelConfig c = {.n_layer = 1, .C = 8, .nh = 1, .nkv = 1, .hd = 8, .ff = 8, .V = V, .ctx = CTX};
    EngineBack back = {.forward = forward, .kv_copy = kv_copy, .ctx = f};
    c.arch = model_arch_find(slice_of("llama"));
    o.check = true;
    n_over = 0;
    OK_(engine__new_over(&en, &c, &back, &o, TERR));
    return en;
}

static void expect_whole(const Client *c) {
    if (c->why == FINISH_ERROR) FAIL("a request ended with: %s", c->err.msg);
    EQ(c->n_done, 1);
    EQ(c->wrong, 0);
    if (c->why == FINISH_LENGTH) EQ(c->n, c->max_new);
}

/* What was counted has to add up. */
static void expect_counts(const Engine *en, const Client *c, int n) {
    const Metrics *m = engine_metrics(en);
    uint64_t ended = 0, whole = 0, began = 0, tok = 0;
    for (int i = 0; i < METRICS_FINISH; i++) ended += metrics_get(&m->finished[i]);
    for (int i = 0; i < n; i++) {
        whole += c[i].why == FINISH_LENGTH || c[i].why == FINISH_STOP;
        began += c[i].n > 0;
        tok += (uint64_t)c[i].n;
    }
    EQ(ended, n);
    EQ(metrics_get(&m->new_tok), tok);
    EQ(metrics_hist(&m->e2e_s).count, whole);
    EQ(metrics_hist(&m->ttft_s).count, began);
    EQ(metrics_hist(&m->iteration_tok).count, metrics_get(&m->steps));
    EQ(metrics_get(&m->prompt_tok),
       metrics_get(&m->prompt_tok_computed) + metrics_get(&m->prompt_tok_cached));
    TRUE_(metrics_get(&m->prefix_hits) <= metrics_get(&m->prefix_queries));
    EQ(metrics_gauge(&m->waiting_deferred), 0);
}

/* n requests of random lengths, prefixes, priorities; some cancelled, some with a twin, some with a deadline. */
static EngineStats storm(EngineOpts o, int n, uint64_t seed, int longest) {
    static Fake f;
    Client *c = calloc((size_t)n, sizeof *c);
    f = (Fake){.fail_at = 0};
    Engine *en = engine_up(&f, o);
    uint64_t last = 0, ids[8] = {0};
    int most = engine_max_ctx(en);
    for (int i = 0; i < n; i++) {
        double u[6];
        for (uint64_t k = 0; k < COUNT_OF(u); k++) u[k] = rng_uniform(seed, (uint64_t)i, k);
        int n_prompt = 1 + (int)(u[0] * MIN(longest, most - 1));
        int max_new = 1 + (int)(u[1] * u[1] * MIN(60, most - n_prompt - 1));
        EngineReq r = request(&c[i], n_prompt, max_new, (int)(u[2] * 3), (int)(u[3] * 160),
                              seed + (uint64_t)i);
        r.priority = u[4] < 0.1 ? -1 : 0;
        if (u[4] > 0.97) r.timeout_s = 1e-3 * u[5];
        if (i > 0 && u[4] > 0.3 && u[4] < 0.45 && c[i - 1].n_prompt + 1 < most) {
            r = request(&c[i], c[i - 1].n_prompt, 1 + (int)(u[1] * (most - c[i - 1].n_prompt - 1)),
                        0, 0, (uint64_t)i);
            memcpy(c[i].prompt, c[i - 1].prompt, sizeof c[i].prompt);
            c[i].chain = 0;
            for (int k = 0; k < r.n_prompt; k++) c[i].chain = mix(c[i].chain, c[i].prompt[k], k);
            r.sibling = last;
        }
        while (engine_submit(en, &r, &last, TERR) == ERR_FULL)
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
        ids[i % 8] = last;
        if (u[5] < 0.1) engine_cancel(en, ids[(int)(u[2] * 8)]);
    }
    wait_for(n);
    EngineStats s = engine_stats(en);
    EQ(s.n_running + s.n_waiting, 0);
    EQ(s.n_blocks_used, 0);
    EQ(s.n_waiting_tok, 0);
    expect_counts(en, c, n);
    engine_free(en);
    for (int i = 0; i < n; i++) expect_whole(&c[i]);
    free(c);
    return s;
}

TEST(ten_thousand_requests_in_a_small_pool) {
    EngineStats s =
        storm((EngineOpts){.max_seqs = 8, .n_blocks = 14, .prefill_chunk = 50, .max_queue = 40},
              10000, 1, 300);
    TRUE_(s.n_preempted > 100);
    TRUE_(s.n_hit_tok > 10000);
}

TEST(a_pool_of_one_sequence) {
    EngineStats s =
        storm((EngineOpts){.max_seqs = 4, .n_blocks = 3, .prefill_chunk = 7, .max_queue = 20}, 1500,
              2, 90);
    TRUE_(s.n_preempted > 10);
}

TEST(plenty_of_blocks) {
    EngineStats s =
        storm((EngineOpts){.max_seqs = 16, .n_blocks = 64, .prefill_chunk = 256}, 3000, 3, 100);
    TRUE_(s.n_hit_tok > 1000);
}

TEST(without_prefixes) {
    EngineStats s =
        storm((EngineOpts){.max_seqs = 8, .n_blocks = 20, .no_prefix = true}, 2000, 4, 200);
    EQ(s.n_blocks_cached, 0);
}

/* ---- one property each ---- */

TEST(a_shared_prefix_is_computed_once) {
    enum { N = 12, SAME = 200 };
    static Fake f;
    static Client c[N];
    f = (Fake){.us = 20};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = N, .n_blocks = 60, .prefill_chunk = 64});
    for (int i = 0; i < N; i++) { /* all at once: the others wait for the first one's blocks */
        EngineReq r = request(&c[i], SAME + 10, 4, 0, SAME, (uint64_t)i);
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    wait_for(N);
    EngineStats s = engine_stats(en);
    EQ(s.n_hit_tok, (N - 1) * (SAME / 32 * 32));
    EQ(s.n_prompt_tok, N * (SAME + 10) - s.n_hit_tok);
    engine_free(en);
    for (int i = 0; i < N; i++) expect_whole(&c[i]);
}

TEST(tenants_do_not_share) {
    static const Sha256 salt = {{9}};
    static Fake f;
    static Client c[2];
    f = (Fake){.us = 0};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 2});
    for (int i = 0; i < 2; i++) {
        EngineReq r = request(&c[i], 100, 2, 0, 100, 0);
        r.salt = i ? &salt : NULL;
        OK_(engine_submit(en, &r, NULL, TERR));
        wait_for(i + 1);
    }
    EQ(engine_stats(en).n_hit_tok, 0);
    engine_free(en);
}

/* A caller may be wrong about who its sibling is. */
TEST(a_sibling_with_another_prompt_or_salt_shares_nothing) {
    static const Sha256 salt = {{9}};
    static Fake f;
    static Client c[3];
    uint64_t id = 0;
    f = (Fake){.us = 0};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 3});
    EngineReq r = request(&c[0], 40, 200, 0, 0, 1);
    OK_(engine_submit(en, &r, &id, TERR));
    r = request(&c[1], 40, 20, 0, 0, 2);
    r.sibling = id;
    OK_(engine_submit(en, &r, NULL, TERR));
    r = request(&c[2], 40, 20, 0, 0, 1);
    r.sibling = id;
    r.salt = &salt;
    OK_(engine_submit(en, &r, NULL, TERR));
    wait_for(3);
    EQ(engine_stats(en).n_hit_tok, 0);
    for (int i = 0; i < 3; i++) expect_whole(&c[i]);
    engine_free(en);
}

/* A first prompt so short that the step's fixed cost looks like the cost of a row. */
TEST(the_pace_recovers_from_a_bad_first_guess) {
    static Fake f;
    static Client c[3];
    f = (Fake){.us = 20, .fixed_us = 12000};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 3, .n_blocks = 40, .itl_target_ms = 4});
    EngineReq r = request(&c[0], 2, 1, 0, 0, 1);
    OK_(engine_submit(en, &r, NULL, TERR));
    wait_for(1);
    r = request(&c[1], 2, 300, 0, 0, 2);
    OK_(engine_submit(en, &r, NULL, TERR));
    r = request(&c[2], 390, 1, 0, 0, 3);
    OK_(engine_submit(en, &r, NULL, TERR));
    wait_for(2);
    EQ(c[2].n_done, 1); /* long before 300 tokens */
    TRUE_(engine_stats(en).n_steps < 150);
    engine_free(en);
}

TEST(a_failure_forgets_the_cache) {
    static Fake f;
    static Client c[3];
    f = (Fake){.fail_at = 2};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 2});
    for (int i = 0; i < 3; i++) {
        EngineReq r = request(&c[i], 100, 5, 0, 100, 0);
        OK_(engine_submit(en, &r, NULL, TERR));
        wait_for(i + 1);
        EQ(c[i].why, i == 0 ? FINISH_ERROR : FINISH_LENGTH);
    }
    EQ(engine_stats(en).n_hit_tok, 96);
    expect_whole(&c[1]);
    expect_whole(&c[2]);
    engine_free(en);
}

TEST(deadlines_end_requests) {
    static Fake f;
    static Client c[3];
    f = (Fake){.us = 2000};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 1, .n_blocks = 12});
    for (int i = 0; i < 3; i++) { /* one runs, one waits, one has no deadline */
        EngineReq r = request(&c[i], 5, i < 2 ? 300 : 3, 0, 0, (uint64_t)i);
        if (i < 2) r.timeout_s = 0.05;
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    wait_for(3);
    EQ(c[0].why, FINISH_DEADLINE);
    EQ(c[1].why, FINISH_DEADLINE);
    EQ(c[2].why, FINISH_LENGTH);
    TRUE_(c[0].n > 1 && c[1].n == 0);
    EngineReq r = request(&c[0], 5, 5, 0, 0, 0);
    static const double bad[] = {-1, 1e10, (double)NAN, HUGE_VAL};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        r.timeout_s = bad[i];
        FAILS(ERR_ARG, engine_submit(en, &r, NULL, TERR));
    }
    engine_free(en);
}

TEST(priority_goes_first) {
    enum { N = 9 };
    static Fake f;
    static Client c[N];
    static int order[N];
    f = (Fake){.us = 500};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 1});
    for (int i = 0; i < N; i++) {
        EngineReq r = request(&c[i], 4, 3, 0, 0, (uint64_t)i);
        r.priority = i == 0 ? -100 : i % 3;
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    for (int k = 0; k < N; k++) {
        wait_for(k + 1);
        for (int i = 0; i < N; i++)
            if (c[i].n_done && !order[i]) order[i] = k + 1;
    }
    for (int i = 1; i < N; i++)
        for (int j = 1; j < N; j++)
            if (i % 3 < j % 3 || (i % 3 == j % 3 && i < j)) TRUE_(order[i] <= order[j]);
    engine_free(en);
}

TEST(the_queue_is_bounded_by_tokens) {
    static Fake f;
    static Client c[6];
    f = (Fake){.us = 300};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 1, .max_queue_tok = 500});
    int n = 0;
    for (int i = 0; i < 6; i++) {
        EngineReq r = request(&c[i], 200, 20, 0, 0, (uint64_t)i);
        Status st = engine_submit(en, &r, NULL, TERR);
        if (st == OK) n++;
        else EQ(st, ERR_FULL);
    }
    TRUE_(n == 2 || n == 3);
    TRUE_(strstr(test_err.msg, "prompt tokens wait") && strstr(test_err.msg, "try again in"));
    TRUE_(engine_stats(en).retry_after_s >= 1.0);
    wait_for(n);
    engine_free(en);
}

/* Streams that talk while a long prompt comes: rows of 100 us each, 8 streams, a target of 10 ms. */
TEST(a_long_prompt_does_not_silence_the_others) {
    enum { N = 9 };
    static Fake f;
    static Client c[N];
    f = (Fake){.us = 100};
    Engine *en = engine_up(
        &f, (EngineOpts){.max_seqs = N, .n_blocks = 64, .itl_target_ms = 10, .prefill_chunk = 256});
    for (int i = 0; i < N; i++) {
        bool is_long = i == N - 1;
        EngineReq r = request(&c[i], is_long ? 390 : 10, is_long ? 2 : 150, 0, 0, (uint64_t)i);
        OK_(engine_submit(en, &r, NULL, TERR));
        if (i == N - 2) nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    wait_for(1); /* the long one is over first: 390 rows among 8 streams' 150 */
    TRUE_(c[N - 1].n_done == 1);
    EngineStats s = engine_stats(en);
    TRUE_(s.n_steps > 5); /* not in one chunk or two */
    wait_for(N);
    engine_free(en);
    for (int i = 0; i < N; i++) expect_whole(&c[i]);
}

/* users saw a request go on that was cancelled while it lost its blocks: it stood neither among those that run nor
 * among those that wait. Nothing is submitted meanwhile, so their number can only fall. */
TEST(a_preempted_request_is_always_found) {
    enum { N = 8, ROUNDS = 60 };
    static Fake f;
    static Client c[N];
    uint64_t n_preempted = 0;
    double end_s = clock_now_s() + 3.0; /* looking slows it down, a lot where threads are watched */
    for (int round = 0; round < ROUNDS && clock_now_s() < end_s; round++) {
        f = (Fake){.fail_at = 0};
        Engine *en = engine_up(&f, (EngineOpts){.max_seqs = N, .n_blocks = 13});
        for (int i = 0; i < N; i++) {
            EngineReq r = request(&c[i], 20, 200, 0, 0, (uint64_t)(N * round + i));
            OK_(engine_submit(en, &r, NULL, TERR));
        }
        for (int n = N, was = N; n > 0 && clock_now_s() < end_s; was = n) {
            pthread_mutex_lock(&en->mu);
            n = en->n_run + en->waiting.n;
            pthread_mutex_unlock(&en->mu);
            if (n > was) FAIL("%d requests, then %d", was, n);
            sched_yield();
        }
        wait_for(N);
        n_preempted += engine_stats(en).n_preempted;
        engine_free(en);
    }
    TRUE_(n_preempted > 0);
}

/* ---- sharing at admission ---- */

static Engine *watched;
static _Atomic int n_copies, n_locked;

static void watch_copy(void *ctx, int32_t dst, int32_t src) {
    kv_copy(ctx, dst, src);
    n_copies++;
    if (pthread_mutex_trylock(&watched->mu) != 0) n_locked++;
    else pthread_mutex_unlock(&watched->mu);
}

/* Copying a block of a large model takes long: whoever submits or cancels does not wait for it. */
TEST(blocks_are_copied_without_the_lock) {
    static Fake f;
    static Client c[3];
    uint64_t id = 0;
    f = (Fake){.us = 1000};
    watched = engine_up(&f, (EngineOpts){.max_seqs = 3, .n_blocks = 40});
    watched->back.kv_copy = watch_copy; /* it sleeps */
    for (int i = 0; i < 3; i++) {
        EngineReq r = request(&c[i], 45, i ? 3 : 200, 1, 45, (uint64_t)i);
        r.sibling = id;
        OK_(engine_submit(watched, &r, i ? NULL : &id, TERR));
    }
    wait_for(3);
    EQ(n_copies, 2);
    EQ(n_locked, 0);
    engine_free(watched);
    for (int i = 0; i < 3; i++) expect_whole(&c[i]);
}

/* ---- a clock of its own ---- */

static _Atomic double fake_s, slowest_s;
static bool hold;

static double now_of(void *ctx) { return (void)ctx, fake_s; }

/* A row takes 0.1 ms, and as much again for each 40 tokens before it. */
static Status timed(void *ctx, const Batch *b, const float **logits, Err *e) {
    double ms = 0.0;
    for (int i = 0; i < b->T; i++) ms += 0.1 * (1.0 + b->pos[i] / 40.0);
    fake_s = fake_s + 1e-3 * ms;
    slowest_s = MAX(slowest_s, 1e-3 * ms);
    return forward(ctx, b, logits, e);
}

static void on_held_token(void *ctx, const SampleOut *t) {
    on_token(ctx, t);
    pthread_mutex_lock(&mu);
    pthread_cond_broadcast(&changed);
    while (hold) pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
}

/* Streams stood still while a newcomer whose beginning was in the cache read the rest of its prompt: its rows were
 * planned as if nothing were before them. */
TEST(a_newcomer_deep_in_its_prompt_does_not_silence_the_others) {
    static Fake f;
    static Client c[3];
    f = (Fake){.fail_at = 0};
    EngineOpts o = {.max_seqs = 2, .n_blocks = 40, .itl_target_ms = 10};
    ModelConfig m = {.n_layer = 1, .C = 8, .nh = 1, .nkv = 1, .hd = 8, .ff = 8, .V = V, .ctx = CTX};
    EngineBack back = {.forward = timed, .kv_copy = kv_copy, .ctx = &f, .now = now_of};
    Engine *en = NULL;
    m.arch = model_arch_find(slice_of("llama"));
    n_over = 0;
    OK_(engine__new_over(&en, &m, &back, &o, TERR));
    EngineReq r = request(&c[0], 330, 1, 1, 320, 1);
    OK_(engine_submit(en, &r, NULL, TERR));
    wait_for(1);
    hold = true;
    r = request(&c[1], 5, 120, 0, 0, 2); /* talks */
    r.on_token = on_held_token;
    OK_(engine_submit(en, &r, NULL, TERR));
    pthread_mutex_lock(&mu);
    while (c[1].n == 0) pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
    slowest_s = 0.0;
    r = request(&c[2], 390, 2, 1, 320, 3);
    OK_(engine_submit(en, &r, NULL, TERR));
    pthread_mutex_lock(&mu);
    hold = false;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mu);
    wait_for(3);
    EQ(engine_stats(en).n_hit_tok, 320);
    if (slowest_s > 0.015) FAIL("a step took %.1f ms", 1e3 * slowest_s);
    engine_free(en);
    for (int i = 0; i < 3; i++) expect_whole(&c[i]);
}
