/* SPDX-License-Identifier: Apache-2.0
 * The engine's numbers on a scripted run: the model is a stand-in whose steps take as long as a clock of ours
 * says and begin when the script lets them, so that every interval and count is known beforehand. */
#include "engine/metrics.h"

#include <math.h>
#include <pthread.h>

#include "engine/internal.h"
#include "test.h"

enum { V = 16, CTX = 200 };

/* A step takes 0.5 s and 0.25 s a row. */
typedef struct Stage {
    pthread_mutex_t mu;
    pthread_cond_t changed;
    double clock;                      /* [mu] */
    int permits, entered, n_over, tok; /* [mu] */
    bool fail;                         /* [mu] the next step does */
    FinishReason why[16];              /* [mu] of requests in the order of their end */
    float logits[8 * V];
} Stage;

static Stage st = {.mu = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static double now(void *ctx) {
    (void)ctx;
    pthread_mutex_lock(&st.mu);
    double t = st.clock;
    pthread_mutex_unlock(&st.mu);
    return t;
}

static Status forward(void *ctx, const Batch *b, const float **logits, Err *e) {
    (void)ctx;
    pthread_mutex_lock(&st.mu);
    st.entered++;
    pthread_cond_broadcast(&st.changed);
    while (st.permits == 0) pthread_cond_wait(&st.changed, &st.mu);
    st.permits--;
    st.clock += 0.5 + 0.25 * b->T;
    bool fail = st.fail;
    pthread_mutex_unlock(&st.mu);
    *logits = st.logits;
    return fail ? err_set(e, ERR_IO, "the device is lost") : OK;
}

static void kv_copy(void *ctx, int32_t dst, int32_t src) {
    (void)ctx;
    (void)dst;
    (void)src;
}

static void on_done(void *ctx, FinishReason why, const Err *e) {
    (void)ctx;
    (void)e;
    pthread_mutex_lock(&st.mu);
    st.why[st.n_over++] = why;
    pthread_cond_broadcast(&st.changed);
    pthread_mutex_unlock(&st.mu);
}

/* The engine stands inside its step number n (from 1), as long as it has no permit. */
static void wait_entered(int n) {
    pthread_mutex_lock(&st.mu);
    while (st.entered < n) pthread_cond_wait(&st.changed, &st.mu);
    pthread_mutex_unlock(&st.mu);
}

static void permit(int n) {
    pthread_mutex_lock(&st.mu);
    st.permits += n;
    pthread_cond_broadcast(&st.changed);
    pthread_mutex_unlock(&st.mu);
}

static void wait_over(int n) {
    pthread_mutex_lock(&st.mu);
    while (st.n_over < n) pthread_cond_wait(&st.changed, &st.mu);
    pthread_mutex_unlock(&st.mu);
}

static Engine *engine_up(EngineOpts o) {
    Engine *en = NULL;
    ModelConfig c = {.n_layer = 1, .C = 8, .nh = 1, .nkv = 1, .hd = 8, .ff = 8, .V = V, .ctx = CTX};
    EngineBack back = {.forward = forward, .kv_copy = kv_copy, .now = now};
    c.arch = model_arch_find(slice_of("llama"));
    o.check = true;
    o.itl_target_ms = 3600000; /* prompts are never cut for the sake of others here */
    st.clock = 100;
    st.permits = st.entered = st.n_over = 0;
    st.fail = false;
    for (int i = 0; i < 8 * V; i++) st.logits[i] = i % V == 3 ? 1.0f : 0.0f;
    OK_(engine__new_over(&en, &c, &back, &o, TERR));
    return en;
}

static const int32_t prompt[CTX] = {1, 2, 3, 4, 5, 6, 7, 8, 9};

static EngineReq request(int n_prompt, int max_new) {
    return (EngineReq){.prompt = prompt,
                       .n_prompt = n_prompt,
                       .max_new = max_new,
                       .sample = {.top_p = 1},
                       .on_done = on_done};
}

/* Count and sum of a histogram. */
#define HIST(h, n_values, total)             \
    do {                                     \
        HistView view = metrics_hist(&m->h); \
        EQ(view.count, n_values);            \
        NEAR(view.sum, total, 1e-9);         \
        EQ(view.upto[view.n - 1], n_values); \
    } while (0)
#define COUNT(c, n) EQ(metrics_get(&m->c), n)

/* A of 40 tokens runs; B, whose first 32 are A's, comes while A's second step is under way. */
TEST(a_run_of_two_by_the_clock) {
    Engine *en = engine_up((EngineOpts){.max_seqs = 2, .n_blocks = 10, .prefill_chunk = 64});
    const Metrics *m = engine_metrics(en);
    EngineReq a = request(40, 3), b = request(33, 2);
    a.n = 2;
    OK_(engine_submit(en, &a, NULL, TERR));
    wait_entered(1);
    EQ(metrics_gauge(&m->running), 1);
    EQ(metrics_gauge(&m->blocks_used), 2);
    NEAR(metrics_kv_usage(m), 0.2, 1e-12);
    permit(1); /* 100 to 110.5: 40 rows */
    wait_entered(2);
    OK_(engine_submit(en, &b, NULL, TERR));
    EQ(metrics_gauge(&m->waiting), 1);
    EQ(atomic_load(&m->waiting_tok), 33);
    COUNT(prompt_tok, 40);
    HIST(ttft_s, 1, 10.5);
    permit(1); /* to 111.25: A alone */
    wait_entered(3);
    EQ(metrics_gauge(&m->running), 2);
    EQ(metrics_gauge(&m->waiting), 0);
    permit(1); /* to 112.25: A's last token, B's prompt but for what A computed */
    wait_over(1);
    permit(1); /* to 113: B's second */
    wait_over(2);
    COUNT(steps, 4);
    COUNT(prefix_queries, 40 + 33);
    COUNT(prefix_hits, 32);
    COUNT(prompt_tok, 40 + 33);
    COUNT(prompt_tok_computed, 40 + 1);
    COUNT(prompt_tok_cached, 32);
    COUNT(prompt_rows, 41);
    COUNT(new_tok, 5);
    COUNT(finished[FINISH_LENGTH], 2);
    COUNT(finished[FINISH_STOP], 0);
    COUNT(preemptions, 0);
    HIST(iteration_tok, 4, 40 + 1 + 2 + 1);
    HIST(ttft_s, 2, 10.5 + 1.75);
    HIST(itl_s, 3, 0.75 + 1.0 + 0.75);
    HIST(e2e_s, 2, 12.25 + 2.5);
    HIST(queue_s, 2, 0.0 + 0.75);
    HIST(prefill_s, 2, 10.5 + 1.0);
    HIST(decode_s, 2, 1.75 + 0.75);
    HIST(inference_s, 2, 12.25 + 1.75);
    HIST(tpot_s, 2, 0.875 + 0.75);
    HIST(prompt_len, 2, 73);
    HIST(new_len, 2, 5);
    HIST(prefill_computed, 2, 41);
    HIST(params_n, 2, 3);
    HIST(params_max_tok, 2, 5);
    EQ(metrics_gauge(&m->running) + metrics_gauge(&m->waiting), 0);
    EQ(metrics_gauge(&m->blocks_used), 0);
    EQ(metrics_gauge(&m->blocks_cached), 1);
    engine_free(en);
}

/* Neither a cancelled request nor a failed one says anything of how long requests take. */
TEST(requests_cut_short_are_counted_by_reason_alone) {
    Engine *en = engine_up((EngineOpts){.max_seqs = 1, .n_blocks = 10, .max_queue = 2});
    const Metrics *m = engine_metrics(en);
    uint64_t id = 0;
    EngineReq r = request(4, 50), late = request(4, 2);
    late.timeout_s = 1;
    OK_(engine_submit(en, &r, &id, TERR));
    wait_entered(1);
    OK_(engine_submit(en, &late, NULL, TERR));
    OK_(engine_submit(en, &r, NULL, TERR));
    FAILS(ERR_FULL, engine_submit(en, &r, NULL, TERR));
    COUNT(refused, 1);
    EQ(metrics_gauge(&m->waiting), 2);
    engine_cancel(en, id);
    permit(1); /* 1.5 s: the one with the deadline never runs */
    wait_over(2);
    wait_entered(2);
    pthread_mutex_lock(&st.mu);
    st.fail = true;
    pthread_mutex_unlock(&st.mu);
    permit(1);
    wait_over(3);
    COUNT(finished[FINISH_CANCELLED], 1);
    COUNT(finished[FINISH_DEADLINE], 1);
    COUNT(finished[FINISH_ERROR], 1);
    HIST(ttft_s, 0, 0.0);
    HIST(e2e_s, 0, 0.0);
    HIST(prompt_len, 0, 0.0);
    engine_free(en);
}

/* Two sequences that outgrow a pool of three blocks: the later one makes room and comes back. */
TEST(a_preemption_is_seen) {
    Engine *en = engine_up((EngineOpts){.max_seqs = 2, .n_blocks = 4, .max_ctx = 120});
    const Metrics *m = engine_metrics(en);
    EngineReq a = request(33, 70), b = request(1, 40);
    b.prompt = prompt + 1;
    OK_(engine_submit(en, &a, NULL, TERR));
    OK_(engine_submit(en, &b, NULL, TERR));
    permit(1000);
    wait_over(2);
    COUNT(preemptions, 1);
    TRUE_(metrics_get(&m->resumed_queries) > 1);
    COUNT(prefix_queries, 34);
    COUNT(new_tok, 110);
    COUNT(prompt_tok, 34); /* each prompt once, however often it was computed */
    HIST(ttft_s, 2, metrics_hist(&m->ttft_s).sum);
    HIST(itl_s, 108, metrics_hist(&m->itl_s).sum);
    engine_free(en);
}

TEST(values_on_a_bound_are_below_it) {
    static Metrics m;
    metrics_init(&m, 1, 32, 4096);
    static const double v[] = {0, 1, 2, 2.5, 20, 21, 1e9};
    for (size_t i = 0; i < COUNT_OF(v); i++) metrics_observe(&m.params_n, v[i]);
    HistView h = metrics_hist(&m.params_n);
    static const uint64_t upto[] = {2, 3, 4, 4, 5};
    EQ(h.n, 5);
    for (int i = 0; i < 5; i++) EQ(h.upto[i], upto[i]);
    EQ(h.count, 7);
    NEAR(h.sum, 1e9 + 46.5, 1e-3);
    EQ(m.prompt_len.n, 11); /* 1 2 5 10 .. 2000: none above the context */
    NEAR(m.prompt_len.bound[10], 2000, 0);
    metrics_init(&m, 1, 32, 1);
    EQ(m.prompt_len.n, 1);
    metrics_init(&m, 1, 32, 1 << 24);
    NEAR(m.prompt_len.bound[m.prompt_len.n - 1], 1e7, 0);
}

TEST(tokens_of_one_step_have_no_gap) {
    static Metrics m;
    ReqTimes t = {.arrival = 1};
    metrics_init(&m, 1, 32, 100);
    metrics_tokens(&m, &t, 3, 2.5);
    metrics_tokens(&m, &t, 1, 2.5);
    metrics_tokens(&m, &t, 2, 3);
    EQ(metrics_get(&m.new_tok), 6);
    EQ(metrics_hist(&m.ttft_s).count, 1);
    EQ(metrics_hist(&m.itl_s).count, 1);
    NEAR(metrics_hist(&m.itl_s).sum, 0.5, 1e-12);
}
