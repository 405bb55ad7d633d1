/* SPDX-License-Identifier: Apache-2.0
 * Random schedules of requests that ask about their prompts, beside some that do not, over a stand-in for the
 * model. As in schedule.c a token's "K and V" are a number made of it and of all before it, read through the block
 * table, and logits and hidden states are made of that number: what has to be told is known beforehand, and a row
 * told twice, left out, told of another's, or read from a wrong block is seen. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/rng.h"
#include "engine/internal.h"
#include "test.h"

enum { V = 50, C = 8, CTX = 300, BLOCKS_MOST = 64, SEQS_MOST = 64, CHOICES = 3, CHOICE_LEN = 70 };

typedef struct Fake {
    uint64_t kv[BLOCKS_MOST * KV_BLOCK_TOK];
    float out[SEQS_MOST * V];
    int order[4096];
    uint64_t fail_at, n_calls;  /* this call of forward fails; 0: none */
    uint64_t fail_late, n_late; /* the same for logits and hidden */
} Fake;

static uint64_t mix(uint64_t before, int32_t tok, int pos) {
    uint64_t z = before ^ ((uint64_t)(uint32_t)tok << 32 | (uint32_t)pos);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t *cell(Fake *f, const Batch *b, int row, int pos) {
    return &f->kv[b->blocks[b->seq[row]][pos / KV_BLOCK_TOK] * KV_BLOCK_TOK + pos % KV_BLOCK_TOK];
}

/* Two tokens may follow, and each of the others has a log-probability of its own far below. */
static float logit(uint64_t at, int v) {
    if (v == (int)(at % V) || v == (int)(at / V % V)) return 1.0f;
    return -60.0f - (float)(mix(at, v, 1) % 1000) / 16.0f;
}

static float hidden(uint64_t at, int i) { return (float)(at >> 8 * i & 255) / 256.0f - 0.5f; }

static const Batch *sorted;
static int by_pos(const void *a, const void *b) {
    return sorted->pos[*(const int *)a] - sorted->pos[*(const int *)b];
}

static Status rows_of(Fake *f, const Batch *b, const float **out, bool is_hidden) {
    for (int i = 0; i < b->n_out; i++) {
        uint64_t at = *cell(f, b, b->out[i], b->pos[b->out[i]]);
        for (int v = 0; v < (is_hidden ? C : V); v++)
            f->out[i * (is_hidden ? C : V) + v] = is_hidden ? hidden(at, v) : logit(at, v);
    }
    *out = f->out;
    return OK;
}

static Status forward(void *ctx, const Batch *b, const float **out, Err *e) {
    Fake *f = ctx;
    if (++f->n_calls == f->fail_at) return err_set(e, ERR_IO, "the device is lost");
    for (int i = 0; i < b->T; i++) f->order[i] = i;
    sorted = b;
    qsort(f->order, (size_t)b->T, sizeof f->order[0], by_pos);
    for (int i = 0; i < b->T; i++) {
        int r = f->order[i], pos = b->pos[r];
        *cell(f, b, r, pos) = mix(pos ? *cell(f, b, r, pos - 1) : 0, b->tok[r], pos);
    }
    return rows_of(f, b, out, false);
}

static Status late(void *ctx, const Batch *b, const float **out, bool is_hidden, Err *e) {
    Fake *f = ctx;
    if (++f->n_late == f->fail_late) return err_set(e, ERR_IO, "the device is lost");
    if (b->n_out < 1 || b->n_out > SEQS_MOST) return err_set(e, ERR_ARG, "%d rows", b->n_out);
    return rows_of(f, b, out, is_hidden);
}

static Status late_logits(void *ctx, const Batch *b, const float **out, Err *e) {
    return late(ctx, b, out, false, e);
}

static Status late_hidden(void *ctx, const Batch *b, const float **out, Err *e) {
    return late(ctx, b, out, true, e);
}

static void kv_copy(void *ctx, int32_t dst, int32_t src) {
    Fake *f = ctx;
    memcpy(&f->kv[dst * KV_BLOCK_TOK], &f->kv[src * KV_BLOCK_TOK], KV_BLOCK_TOK * sizeof f->kv[0]);
}

/* ---- requests that check what they get ---- */

typedef struct Client {
    int32_t prompt[CTX], choice[CHOICES][CHOICE_LEN];
    int n_prompt, max_new, n_choice[CHOICES];
    EngineAsk ask;
    int n_told, n_pooled, n_scored, n, wrong, n_done;
    uint64_t at; /* number of the newest token */
    FinishReason why;
    Err err;
} Client;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int n_over;

static uint64_t number_of(const Client *c, int n) {
    uint64_t at = 0;
    for (int i = 0; i < n; i++) at = mix(at, c->prompt[i], i);
    return at;
}

static double logprob(uint64_t at, int32_t id) {
    double sum = 0;
    for (int v = 0; v < V; v++) sum += exp((double)logit(at, v) - 1.0);
    return (double)logit(at, id) - 1.0 - log(sum);
}

static void on_prompt(void *ctx, int at, const SampleOut *t) {
    Client *c = ctx;
    if (at == 1) c->at = 0;
    c->at = mix(c->at, c->prompt[at - 1], at - 1);
    c->wrong += at != ++c->n_told || t->id != c->prompt[at] || c->n > 0 || c->n_done > 0;
    c->wrong += !(fabs(t->logprob - logprob(c->at, t->id)) < 1e-9);
}

static void on_pooled(void *ctx, const float *x, int n) {
    Client *c = ctx;
    double sum[C] = {0};
    uint64_t at = 0;
    int from = c->ask.pool == ASK_POOL_LAST ? c->n_prompt - 1 : 0;
    int to = c->ask.pool == ASK_POOL_FIRST ? 1 : c->n_prompt;
    for (int p = 0; p < to; p++) {
        at = mix(at, c->prompt[p], p);
        for (int i = 0; i < C && p >= from; i++) sum[i] += (double)hidden(at, i);
    }
    for (int i = 0; i < C; i++) c->wrong += x[i] != (float)(sum[i] / (to - from));
    c->wrong += n != C || c->n_pooled++ > 0 || c->n_done > 0;
}

static void on_choices(void *ctx, const AskScore *s, int n) {
    Client *c = ctx;
    double total = 0;
    for (int i = 0; i < n; i++) {
        uint64_t at = number_of(c, c->n_prompt);
        double sum = 0;
        for (int k = 0; k < c->n_choice[i]; k++) {
            double lp = logprob(at, c->choice[i][k]);
            c->wrong += !(fabs(s[i].tok_logprob[k] - lp) < 1e-9);
            at = mix(at, c->choice[i][k], c->n_prompt + k);
            sum += lp;
        }
        c->wrong += !(fabs(s[i].logprob - sum) < 1e-6);
        total += s[i].prob;
    }
    c->wrong += n != CHOICES || c->n_scored++ > 0 || c->n_done > 0 || !(fabs(total - 1) < 1e-12);
}

static void on_token(void *ctx, const SampleOut *t) {
    Client *c = ctx;
    if (c->n == 0) c->at = number_of(c, c->n_prompt);
    c->wrong += t->id != (int32_t)(c->at % V) && t->id != (int32_t)(c->at / V % V);
    c->at = mix(c->at, t->id, c->n_prompt + c->n++);
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

/* What client i asks: anything that fits together. */
static void fill(Client *c, uint64_t seed, int i, int longest) {
    double u[8];
    for (uint64_t k = 0; k < COUNT_OF(u); k++) u[k] = rng_uniform(seed, (uint64_t)i, k);
    *c = (Client){.n_prompt = 1 + (int)(u[0] * longest)};
    for (int p = 0; p < c->n_prompt; p++) {
        uint64_t key = p < (int)(u[1] * 120) ? (uint64_t)(u[2] * 3) : 1000 + (uint64_t)i;
        c->prompt[p] = (int32_t)(rng_uniform(seed + 1, key, (uint64_t)p) * V);
    }
    c->ask = (EngineAsk){.on_prompt = on_prompt, .on_pooled = on_pooled, .on_choices = on_choices};
    c->ask.prompt_logprobs = u[3] < 0.4;
    c->ask.prompt_top = (int)(u[4] * 5);
    if (u[5] < 0.5) c->ask.pool = (AskPool)(u[5] * 8);
    if (u[6] < 0.4) c->ask.n_choices = CHOICES;
    else c->max_new = (int)(u[7] * u[7] * 90);
    if (!c->ask.prompt_logprobs && !c->ask.pool && !c->ask.n_choices) c->max_new++;
    for (int k = 0; k < CHOICES; k++) {
        c->n_choice[k] =
            1 + (int)(rng_uniform(seed + 2, (uint64_t)i, (uint64_t)k) * (CHOICE_LEN - 1));
        if (u[7] < 0.3) c->n_choice[k] = 1 + k % 2;
        for (int p = 0; p < c->n_choice[k]; p++)
            c->choice[k][p] =
                (int32_t)(rng_uniform(seed + 3, (uint64_t)i, (uint64_t)(100 * k + p)) * V);
    }
}

static Status submit(Engine *en, Client *c, uint64_t sibling, int i, uint64_t *id) {
    AskChoice choices[CHOICES];
    for (int k = 0; k < CHOICES; k++) choices[k] = (AskChoice){c->choice[k], c->n_choice[k]};
    if (c->ask.n_choices) c->ask.choices = choices;
    EngineReq r = {.prompt = c->prompt,
                   .n_prompt = c->n_prompt,
                   .max_new = c->max_new,
                   .ask = &c->ask,
                   .sample = {.temp = 1, .top_p = 1, .seed = (uint64_t)i},
                   .priority = i % 11 == 0 ? -1 : 0,
                   .sibling = sibling,
                   .on_token = on_token,
                   .on_done = on_done,
                   .ctx = c};
    return engine_submit(en, &r, id, TERR);
}

static Engine *engine_up(Fake *f, EngineOpts o) {
    Engine *en = NULL;
    ModelConfig c = {.n_layer = 1, .C = C, .nh = 1, .nkv = 1, .hd = 8, .ff = 8, .V = V, .ctx = CTX};
    EngineBack back = {.forward = forward,
                       .kv_copy = kv_copy,
                       .ctx = f,
                       .logits = late_logits,
                       .hidden = late_hidden};
    c.arch = model_arch_find(slice_of("llama"));
    o.check = true;
    n_over = 0;
    OK_(engine__new_over(&en, &c, &back, &o, TERR));
    return en;
}

/* Complete ones got everything once, others no more than there was. */
static void expect_whole(const Client *c) {
    bool whole = c->why == FINISH_LENGTH;
    if (c->why == FINISH_ERROR) FAIL("a request ended with: %s", c->err.msg);
    EQ(c->n_done, 1);
    EQ(c->wrong, 0);
    if (!whole) return;
    EQ(c->n_told, c->ask.prompt_logprobs ? c->n_prompt - 1 : 0);
    EQ(c->n_pooled, c->ask.pool ? 1 : 0);
    EQ(c->n_scored, c->ask.n_choices ? 1 : 0);
    EQ(c->n, c->max_new);
}

/* A prompt that goes on as another's choice does: blocks behind its prompt would be found. */
static void add_choice(Client *c, const int32_t *tok, int n, int longest) {
    if (c->n_prompt + n > longest) return;
    memcpy(c->prompt + c->n_prompt, tok, (size_t)n * sizeof *tok);
    c->n_prompt += n;
}

static void storm(EngineOpts o, int n, uint64_t seed, int longest, int least_preempted) {
    static Fake f;
    Client *c = calloc((size_t)n, sizeof *c);
    uint64_t last = 0, ids[8] = {0};
    f = (Fake){.fail_at = 0};
    Engine *en = engine_up(&f, o);
    for (int i = 0; i < n; i++) {
        double u = rng_uniform(seed, (uint64_t)i, 99);
        fill(&c[i], seed, i, longest);
        bool twin = i > 0 && u > 0.8; /* the prompt of the one before, */
        if (twin) {
            memcpy(c[i].prompt, c[i - 1].prompt, sizeof c[i].prompt);
            memcpy(c[i].choice, c[i - 1].choice, sizeof c[i].choice);
            memcpy(c[i].n_choice, c[i - 1].n_choice, sizeof c[i].n_choice);
            c[i].n_prompt = c[i - 1].n_prompt;
        }
        if (twin && u > 0.9)
            add_choice(&c[i], c[i].choice[0], c[i].n_choice[0], longest); /* and more */
        Status st;
        if (c[i].max_new > 0) c[i].max_new = MIN(c[i].max_new, engine_max_ctx(en) - c[i].n_prompt);
        while ((st = submit(en, &c[i], twin ? last : 0, i, &last)) == ERR_FULL)
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
        OK_(st);
        ids[i % 8] = last;
        if (u < 0.1) engine_cancel(en, ids[(int)(u * 80)]);
    }
    wait_for(n);
    EngineStats s = engine_stats(en);
    EQ(s.n_running + s.n_waiting, 0);
    EQ(s.n_blocks_used, 0);
    if ((int)s.n_preempted < least_preempted) FAIL("%d preemptions", (int)s.n_preempted);
    engine_free(en);
    int n_whole = 0;
    for (int i = 0; i < n; i++) {
        expect_whole(&c[i]);
        n_whole += c[i].why == FINISH_LENGTH;
    }
    TRUE_(n_whole > n * 3 / 4);
    free(c);
}

TEST(five_thousand_questions_in_a_small_pool) {
    storm((EngineOpts){.max_seqs = 8, .n_blocks = 8, .prefill_chunk = 50, .max_queue = 40}, 5000, 1,
          100, 50);
}

TEST(a_pool_of_one_sequence) {
    storm((EngineOpts){.max_seqs = 4, .n_blocks = 5, .prefill_chunk = 7, .max_queue = 20}, 1000, 2,
          80, 10);
}

TEST(one_row_of_logits_at_a_time) {
    storm((EngineOpts){.max_seqs = 1, .n_blocks = 20, .prefill_chunk = 64}, 500, 3, 150, 0);
}

TEST(without_prefixes) {
    storm((EngineOpts){.max_seqs = 16, .n_blocks = 20, .no_prefix = true}, 1500, 4, 180, 1);
}

/* No guess may stand where a choice does. */
TEST(beside_guesses) {
    EngineOpts o = {.max_seqs = 8, .n_blocks = 12, .prefill_chunk = 50, .max_queue = 40};
    o.spec_k = 4;
    o.spec_ngram = 2;
    o.spec_ngram_min = 1;
    storm(o, 2000, 5, 120, 10);
}

/* A device lost in between ends all that run, and what comes after is whole. */
TEST(a_late_failure_ends_those_that_run) {
    static Fake f;
    static Client c[6];
    uint64_t id;
    f = (Fake){.fail_late = 3};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 2, .prefill_chunk = 32});
    for (int i = 0; i < 6; i++) {
        fill(&c[i], 9, 100 + i, 100);
        c[i].ask.prompt_logprobs = true;
        OK_(submit(en, &c[i], 0, i, &id));
        if (i == 2) wait_for(3);
    }
    wait_for(6);
    int n_failed = 0;
    for (int i = 0; i < 6; i++) {
        n_failed += c[i].why == FINISH_ERROR;
        if (i >= 3) expect_whole(&c[i]);
        else if (c[i].why == FINISH_ERROR) EQ(c[i].err.code, ERR_IO);
    }
    TRUE_(n_failed >= 1 && n_failed <= 2);
    EQ(engine_stats(en).n_blocks_used, 0);
    engine_free(en);
}
