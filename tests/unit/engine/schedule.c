/* SPDX-License-Identifier: Apache-2.0
 * Random schedules over a stand-in for the model (support/fake_model.h): what comes out is known beforehand, and
 * changes with any block that is not the right one. */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/rng.h"
#include "support/fake_model.h"
#include "test.h"

enum { CTX = 400 };

/* ---- requests that check what they get ---- */

typedef struct Client {
    FakeEnd end;
    int32_t prompt[CTX];
    int n_prompt, max_new, n, wrong;
    uint64_t chain; /* number of the last token */
} Client;

static void on_token(void *ctx, const SampleOut *t) {
    Client *c = ctx;
    int32_t id = t->id;
    c->wrong += !fake_may_follow(c->chain, id);
    c->chain = fake_mix(c->chain, id, c->n_prompt + c->n++);
}

/* Prompts begin alike up to `same` tokens within a family. */
static EngineReq request(Client *c, int n_prompt, int max_new, int family, int same, uint64_t key) {
    *c = (Client){.n_prompt = n_prompt, .max_new = max_new};
    for (int i = 0; i < n_prompt; i++) {
        double u = i < same ? rng_uniform(77, (uint64_t)family, (uint64_t)i)
                            : rng_uniform(78, key, (uint64_t)i);
        c->prompt[i] = (int32_t)(u * FAKE_V);
        c->chain = fake_mix(c->chain, c->prompt[i], i);
    }
    return (EngineReq){.prompt = c->prompt,
                       .n_prompt = n_prompt,
                       .max_new = max_new,
                       .sample = {.temp = 1, .top_p = 1, .seed = key},
                       .on_token = on_token,
                       .on_done = fake_on_done,
                       .ctx = c};
}

static Engine *engine_over(EngineBack back, EngineOpts o) {
    Engine *en = NULL;
    ModelConfig c = fake_config(CTX);
    o.check = true;
    fake_reset();
    OK_(engine__new_over(&en, &c, &back, &o, TERR));
    return en;
}

static Engine *engine_up(FakeModel *f, EngineOpts o) { return engine_over(fake_back(f), o); }

static void expect_whole(const Client *c) {
    if (c->end.why == FINISH_ERROR) FAIL("a request ended with: %s", c->end.err.msg);
    EQ(c->end.n_done, 1);
    EQ(c->wrong, 0);
    if (c->end.why == FINISH_LENGTH) EQ(c->n, c->max_new);
}

/* What was counted has to add up. */
static void expect_counts(const Engine *en, const Client *c, int n) {
    const Metrics *m = engine_metrics(en);
    uint64_t ended = 0, whole = 0, began = 0, tok = 0;
    for (int i = 0; i < METRICS_FINISH; i++) ended += metrics_get(&m->finished[i]);
    for (int i = 0; i < n; i++) {
        whole += c[i].end.why == FINISH_LENGTH || c[i].end.why == FINISH_STOP;
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
    static FakeModel f;
    Client *c = calloc((size_t)n, sizeof *c);
    f = (FakeModel){.fail_at = 0};
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
        r.priority = u[4] < 0.1 ? -1 : u[4] > 0.6 && u[4] < 0.8 ? ENGINE_IDLE : 0;
        if (u[4] > 0.97) r.timeout_s = 1e-3 * u[5];
        if (i > 0 && u[4] > 0.3 && u[4] < 0.45 && c[i - 1].n_prompt + 1 < most) {
            r = request(&c[i], c[i - 1].n_prompt, 1 + (int)(u[1] * (most - c[i - 1].n_prompt - 1)),
                        0, 0, (uint64_t)i);
            memcpy(c[i].prompt, c[i - 1].prompt, sizeof c[i].prompt);
            c[i].chain = 0;
            for (int k = 0; k < r.n_prompt; k++)
                c[i].chain = fake_mix(c[i].chain, c[i].prompt[k], k);
            r.sibling = last;
        }
        while (engine_submit(en, &r, &last, TERR) == ERR_FULL)
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
        ids[i % 8] = last;
        if (u[5] < 0.1) engine_cancel(en, ids[(int)(u[2] * 8)]);
    }
    fake_wait(n);
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
    static FakeModel f;
    static Client c[N];
    f = (FakeModel){.us = 20};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = N, .n_blocks = 60, .prefill_chunk = 64});
    for (int i = 0; i < N; i++) { /* all at once: the others wait for the first one's blocks */
        EngineReq r = request(&c[i], SAME + 10, 4, 0, SAME, (uint64_t)i);
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    fake_wait(N);
    EngineStats s = engine_stats(en);
    EQ(s.n_hit_tok, (N - 1) * (SAME / 32 * 32));
    EQ(s.n_prompt_tok, N * (SAME + 10) - s.n_hit_tok);
    engine_free(en);
    for (int i = 0; i < N; i++) expect_whole(&c[i]);
}

TEST(tenants_do_not_share) {
    static const Sha256 salt = {{9}};
    static FakeModel f;
    static Client c[2];
    f = (FakeModel){.us = 0};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 2});
    for (int i = 0; i < 2; i++) {
        EngineReq r = request(&c[i], 100, 2, 0, 100, 0);
        r.salt = i ? &salt : NULL;
        OK_(engine_submit(en, &r, NULL, TERR));
        fake_wait(i + 1);
    }
    EQ(engine_stats(en).n_hit_tok, 0);
    engine_free(en);
}

/* A caller may be wrong about who its sibling is. */
TEST(a_sibling_with_another_prompt_or_salt_shares_nothing) {
    static const Sha256 salt = {{9}};
    static FakeModel f;
    static Client c[3];
    uint64_t id = 0;
    f = (FakeModel){.us = 0};
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
    fake_wait(3);
    EQ(engine_stats(en).n_hit_tok, 0);
    for (int i = 0; i < 3; i++) expect_whole(&c[i]);
    engine_free(en);
}

TEST(a_failure_forgets_the_cache) {
    static FakeModel f;
    static Client c[3];
    f = (FakeModel){.fail_at = 2};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 2});
    for (int i = 0; i < 3; i++) {
        EngineReq r = request(&c[i], 100, 5, 0, 100, 0);
        OK_(engine_submit(en, &r, NULL, TERR));
        fake_wait(i + 1);
        EQ(c[i].end.why, i == 0 ? FINISH_ERROR : FINISH_LENGTH);
    }
    EQ(engine_stats(en).n_hit_tok, 96);
    expect_whole(&c[1]);
    expect_whole(&c[2]);
    engine_free(en);
}

TEST(deadlines_end_requests) {
    static FakeModel f;
    static Client c[3];
    f = (FakeModel){.us = 2000};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 1, .n_blocks = 12});
    for (int i = 0; i < 3; i++) { /* one runs, one waits, one has no deadline */
        EngineReq r = request(&c[i], 5, i < 2 ? 300 : 3, 0, 0, (uint64_t)i);
        if (i < 2) r.timeout_s = 0.05;
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    fake_wait(3);
    EQ(c[0].end.why, FINISH_DEADLINE);
    EQ(c[1].end.why, FINISH_DEADLINE);
    EQ(c[2].end.why, FINISH_LENGTH);
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
    static FakeModel f;
    static Client c[N];
    static int order[N];
    f = (FakeModel){.us = 500};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 1});
    for (int i = 0; i < N; i++) {
        EngineReq r = request(&c[i], 4, 3, 0, 0, (uint64_t)i);
        r.priority = i == 0 ? -100 : i % 3;
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    for (int k = 0; k < N; k++) {
        fake_wait(k + 1);
        for (int i = 0; i < N; i++)
            if (c[i].end.n_done && !order[i]) order[i] = k + 1;
    }
    for (int i = 1; i < N; i++)
        for (int j = 1; j < N; j++)
            if (i % 3 < j % 3 || (i % 3 == j % 3 && i < j)) TRUE_(order[i] <= order[j]);
    engine_free(en);
}

/* Idle requests (batches) hold all places, the queue and the blocks; whoever comes is served before any of them ends. */
TEST(idle_requests_give_way) {
    enum { N_IDLE = 8, N = 12 };
    static FakeModel f;
    static Client c[N];
    f = (FakeModel){.us = 200};
    Engine *en = engine_up(
        &f, (EngineOpts){.max_seqs = 4, .n_blocks = 14, .max_queue = 4, .max_queue_tok = 400});
    for (int i = 0; i < N_IDLE; i++) {
        EngineReq r = request(&c[i], 50, 300, 0, 0, (uint64_t)i);
        r.priority = ENGINE_IDLE + i % 2;
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    EngineReq more = request(&c[N_IDLE], 50, 300, 0, 0, 1);
    more.priority = ENGINE_IDLE;
    FAILS(ERR_FULL, engine_submit(en, &more, NULL, TERR)); /* for them the queue is full */
    while (engine_stats(en).n_running < 2) sched_yield();
    for (int i = N_IDLE; i < N; i++) {
        EngineReq r = request(&c[i], 60, 20, 0, 0, (uint64_t)i);
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    fake_wait(N - N_IDLE);
    for (int i = 0; i < N; i++) EQ(c[i].end.n_done, i >= N_IDLE);
    TRUE_(engine_stats(en).n_preempted >= 2);
    fake_wait(N);
    engine_free(en);
    for (int i = 0; i < N; i++) expect_whole(&c[i]);
}

TEST(the_queue_is_bounded_by_tokens) {
    static FakeModel f;
    static Client c[6];
    f = (FakeModel){.us = 300};
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
    fake_wait(n);
    engine_free(en);
}

/* Streams that talk while a long prompt comes: rows of 100 us each, 8 streams, a target of 10 ms. */
TEST(a_long_prompt_does_not_silence_the_others) {
    enum { N = 9 };
    static FakeModel f;
    static Client c[N];
    f = (FakeModel){.us = 100};
    Engine *en = engine_up(
        &f, (EngineOpts){.max_seqs = N, .n_blocks = 64, .itl_target_ms = 10, .prefill_chunk = 256});
    for (int i = 0; i < N; i++) {
        bool is_long = i == N - 1;
        EngineReq r = request(&c[i], is_long ? 390 : 10, is_long ? 2 : 150, 0, 0, (uint64_t)i);
        OK_(engine_submit(en, &r, NULL, TERR));
        if (i == N - 2) nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    fake_wait(1); /* the long one is over first: 390 rows among 8 streams' 150 */
    TRUE_(c[N - 1].end.n_done == 1);
    EngineStats s = engine_stats(en);
    TRUE_(s.n_steps > 5); /* not in one chunk or two */
    fake_wait(N);
    engine_free(en);
    for (int i = 0; i < N; i++) expect_whole(&c[i]);
}

/* users saw a request go on that was cancelled while it lost its blocks: it stood neither among those that run nor
 * among those that wait. Nothing is submitted meanwhile, so their number can only fall. */
TEST(a_preempted_request_is_always_found) {
    enum { N = 8, ROUNDS = 60 };
    static FakeModel f;
    static Client c[N];
    uint64_t n_preempted = 0;
    double end_s = clock_now_s() + 3.0; /* looking slows it down, a lot where threads are watched */
    for (int round = 0; round < ROUNDS && clock_now_s() < end_s; round++) {
        f = (FakeModel){.fail_at = 0};
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
        fake_wait(N);
        n_preempted += engine_stats(en).n_preempted;
        engine_free(en);
    }
    TRUE_(n_preempted > 0);
}

/* ---- sharing at admission ---- */

static Engine *watched;
static _Atomic int n_copies, n_locked;

static void watch_copy(void *ctx, int32_t dst, int32_t src) {
    fake_kv_copy(ctx, dst, src);
    n_copies++;
    if (pthread_mutex_trylock(&watched->mu) != 0) n_locked++;
    else pthread_mutex_unlock(&watched->mu);
}

/* Copying a block of a large model takes long: whoever submits or cancels does not wait for it. */
TEST(blocks_are_copied_without_the_lock) {
    static FakeModel f;
    static Client c[3];
    uint64_t id = 0;
    f = (FakeModel){.us = 1000};
    watched = engine_up(&f, (EngineOpts){.max_seqs = 3, .n_blocks = 40});
    watched->back.kv_copy = watch_copy; /* it sleeps */
    for (int i = 0; i < 3; i++) {
        EngineReq r = request(&c[i], 45, i ? 3 : 200, 1, 45, (uint64_t)i);
        r.sibling = id;
        OK_(engine_submit(watched, &r, i ? NULL : &id, TERR));
    }
    fake_wait(3);
    EQ(n_copies, 2);
    EQ(n_locked, 0);
    engine_free(watched);
    for (int i = 0; i < 3; i++) expect_whole(&c[i]);
}

/* ---- a clock of its own ---- */

static _Atomic double fake_s, slowest_s;
static _Atomic int n_timed, n_at_token; /* steps so far; at the newest on_timed_token */
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool hold; /* [mu] */

static double now_of(void *ctx) { return (void)ctx, fake_s; }

/* A row takes 0.1 ms, and as much again for each 40 tokens before it; a step with a fixed cost takes that as well, and
 * its rows a fifth. */
static Status timed(void *ctx, const Batch *b, const float **logits, Err *e) {
    const FakeModel *f = ctx;
    double ms = f->fixed_us ? 1e-3 * (f->fixed_us + 20.0 * b->T) : 0.0;
    for (int i = 0; i < b->T && !f->fixed_us; i++) ms += 0.1 * (1.0 + b->pos[i] / 40.0);
    n_timed++;
    fake_s = fake_s + 1e-3 * ms;
    slowest_s = MAX(slowest_s, 1e-3 * ms);
    return fake_forward(ctx, b, logits, e);
}

static Engine *timed_up(FakeModel *f, EngineOpts o) {
    EngineBack back = fake_back(f);
    back.forward = timed;
    back.now = now_of;
    n_timed = 0;
    return engine_over(back, o);
}

static void on_timed_token(void *ctx, const SampleOut *t) {
    n_at_token = n_timed;
    on_token(ctx, t);
}

static void set_hold(bool on) {
    pthread_mutex_lock(&mu);
    hold = on;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mu);
}

/* Its stream stands still while it is held. */
static void on_held_token(void *ctx, const SampleOut *t) {
    pthread_mutex_lock(&mu);
    on_token(ctx, t);
    pthread_cond_broadcast(&changed);
    while (hold) pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
}

static void wait_for_first(const Client *c) {
    pthread_mutex_lock(&mu);
    while (c->n == 0) pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
}

/* A first prompt so short that the step's fixed cost looks like the cost of a row. */
TEST(the_pace_recovers_from_a_bad_first_guess) {
    static FakeModel f;
    static Client c[3];
    f = (FakeModel){.fixed_us = 12000};
    Engine *en = timed_up(&f, (EngineOpts){.max_seqs = 3, .n_blocks = 40, .itl_target_ms = 4});
    EngineReq r = request(&c[0], 2, 1, 0, 0, 1);
    OK_(engine_submit(en, &r, NULL, TERR));
    fake_wait(1);
    set_hold(true);
    r = request(&c[1], 2, 300, 0, 0, 2);
    r.on_token = on_held_token;
    OK_(engine_submit(en, &r, NULL, TERR));
    wait_for_first(&c[1]);
    r = request(&c[2], 390, 1, 0, 0, 3);
    r.on_token = on_timed_token;
    OK_(engine_submit(en, &r, NULL, TERR));
    set_hold(false);
    fake_wait(3);
    if (n_at_token >= 100) FAIL("the prompt took %d steps", n_at_token);
    engine_free(en);
    for (int i = 0; i < 3; i++) expect_whole(&c[i]);
}

/* Streams stood still while a newcomer whose beginning was in the cache read the rest of its prompt: its rows were
 * planned as if nothing were before them. */
TEST(a_newcomer_deep_in_its_prompt_does_not_silence_the_others) {
    static FakeModel f;
    static Client c[3];
    f = (FakeModel){.fail_at = 0};
    Engine *en = timed_up(&f, (EngineOpts){.max_seqs = 2, .n_blocks = 40, .itl_target_ms = 10});
    EngineReq r = request(&c[0], 330, 1, 1, 320, 1);
    OK_(engine_submit(en, &r, NULL, TERR));
    fake_wait(1);
    set_hold(true);
    r = request(&c[1], 5, 120, 0, 0, 2); /* talks */
    r.on_token = on_held_token;
    OK_(engine_submit(en, &r, NULL, TERR));
    wait_for_first(&c[1]);
    slowest_s = 0.0;
    r = request(&c[2], 390, 2, 1, 320, 3);
    OK_(engine_submit(en, &r, NULL, TERR));
    set_hold(false);
    fake_wait(3);
    EQ(engine_stats(en).n_hit_tok, 320);
    if (slowest_s > 0.015) FAIL("a step took %.1f ms", 1e3 * slowest_s);
    engine_free(en);
    for (int i = 0; i < 3; i++) expect_whole(&c[i]);
}
