/* SPDX-License-Identifier: Apache-2.0
 * Random schedules of requests that ask about their prompts, beside some that do not, over a stand-in for the model
 * (support/fake_model.h): what has to be told is known beforehand, and a row told twice, left out, told of another's,
 * or read from a wrong block is seen. */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "base/rng.h"
#include "support/fake_model.h"
#include "test.h"

enum { V = FAKE_V, C = FAKE_C, CTX = 300, CHOICES = 7, CHOICE_LEN = 70 };

/* Two tokens may follow, and each of the others has a log-probability of its own far below. */
static float logit(uint64_t at, int v) {
    if (fake_may_follow(at, v)) return 1.0f;
    return -60.0f - (float)(fake_mix(at, v, 1) % 1000) / 16.0f;
}

static void put_row(const FakeModel *f, float *row, uint64_t at, int32_t tok) {
    (void)f, (void)tok;
    for (int v = 0; v < V; v++) row[v] = logit(at, v);
}

/* ---- requests that check what they get ---- */

typedef struct Client {
    FakeEnd end;
    int32_t prompt[CTX], choice[CHOICES][CHOICE_LEN];
    int n_prompt, max_new, n_choice[CHOICES];
    EngineAsk ask;
    int n_told, n_pooled, n_scored, n, wrong;
    uint64_t at; /* number of the newest token */
} Client;

static uint64_t number_of(const Client *c, int n) {
    uint64_t at = 0;
    for (int i = 0; i < n; i++) at = fake_mix(at, c->prompt[i], i);
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
    c->at = fake_mix(c->at, c->prompt[at - 1], at - 1);
    c->wrong += at != ++c->n_told || t->id != c->prompt[at] || c->n > 0 || c->end.n_done > 0;
    c->wrong += !(fabs(t->logprob - logprob(c->at, t->id)) < 1e-9);
}

static void on_pooled(void *ctx, const float *x, int n) {
    Client *c = ctx;
    double sum[C] = {0};
    uint64_t at = 0;
    int from = c->ask.pool == ASK_POOL_LAST ? c->n_prompt - 1 : 0;
    int to = c->ask.pool == ASK_POOL_FIRST ? 1 : c->n_prompt;
    for (int p = 0; p < to; p++) {
        at = fake_mix(at, c->prompt[p], p);
        for (int i = 0; i < C && p >= from; i++) sum[i] += (double)fake_hidden(at, i);
    }
    for (int i = 0; i < C; i++) c->wrong += x[i] != (float)(sum[i] / (to - from));
    c->wrong += n != C || c->n_pooled++ > 0 || c->end.n_done > 0;
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
            at = fake_mix(at, c->choice[i][k], c->n_prompt + k);
            sum += lp;
        }
        c->wrong += !(fabs(s[i].logprob - sum) < 1e-6);
        total += s[i].prob;
    }
    c->wrong +=
        n != CHOICES || c->n_scored++ > 0 || c->end.n_done > 0 || !(fabs(total - 1) < 1e-12);
}

static void on_token(void *ctx, const SampleOut *t) {
    Client *c = ctx;
    if (c->n == 0) c->at = number_of(c, c->n_prompt);
    c->wrong += !fake_may_follow(c->at, t->id);
    c->at = fake_mix(c->at, t->id, c->n_prompt + c->n++);
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
                   .on_done = fake_on_done,
                   .ctx = c};
    return engine_submit(en, &r, id, TERR);
}

static Engine *engine_up(FakeModel *f, EngineOpts o) {
    Engine *en = NULL;
    ModelConfig c = fake_config(CTX);
    EngineBack back = fake_back(f);
    o.check = true;
    f->row = put_row;
    fake_reset();
    OK_(engine__new_over(&en, &c, &back, &o, TERR));
    return en;
}

/* Complete ones got everything once, others no more than there was. */
static void expect_whole(const Client *c) {
    bool whole = c->end.why == FINISH_LENGTH;
    if (c->end.why == FINISH_ERROR) FAIL("a request ended with: %s", c->end.err.msg);
    EQ(c->end.n_done, 1);
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
    static FakeModel f;
    Client *c = calloc((size_t)n, sizeof *c);
    uint64_t last = 0, ids[8] = {0};
    f = (FakeModel){.fail_at = 0};
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
    fake_wait(n);
    EngineStats s = engine_stats(en);
    EQ(s.n_running + s.n_waiting, 0);
    EQ(s.n_blocks_used, 0);
    if ((int)s.n_preempted < least_preempted) FAIL("%d preemptions", (int)s.n_preempted);
    engine_free(en);
    int n_whole = 0;
    for (int i = 0; i < n; i++) {
        expect_whole(&c[i]);
        n_whole += c[i].end.why == FINISH_LENGTH;
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
    static FakeModel f;
    static Client c[6];
    uint64_t id;
    f = (FakeModel){.fail_late = 3};
    Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 2, .prefill_chunk = 32});
    for (int i = 0; i < 6; i++) {
        fill(&c[i], 9, 100 + i, 100);
        c[i].ask.prompt_logprobs = true;
        OK_(submit(en, &c[i], 0, i, &id));
        if (i == 2) fake_wait(3);
    }
    fake_wait(6);
    int n_failed = 0;
    for (int i = 0; i < 6; i++) {
        n_failed += c[i].end.why == FINISH_ERROR;
        if (i >= 3) expect_whole(&c[i]);
        else if (c[i].end.why == FINISH_ERROR) EQ(c[i].end.err.code, ERR_IO);
    }
    TRUE_(n_failed >= 1 && n_failed <= 2);
    EQ(engine_stats(en).n_blocks_used, 0);
    engine_free(en);
}

/* One pass for the prompt and the first choice, one for all others; one at a time where there is no room. */
TEST(choices_are_read_together) {
    static FakeModel f;
    static Client c;
    for (int n_blocks = 3; n_blocks <= 40; n_blocks += 37) {
        f = (FakeModel){.fail_at = 0};
        Engine *en = engine_up(&f, (EngineOpts){.max_seqs = 8, .n_blocks = n_blocks});
        fill(&c, 11, 0, 1);
        c.n_prompt = 45;
        c.max_new = 0;
        c.ask = (EngineAsk){.on_choices = on_choices, .n_choices = CHOICES};
        for (int i = 0; i < CHOICES; i++) c.n_choice[i] = 3 + i;
        c.n_choice[4] = 1; /* costs nothing */
        OK_(submit(en, &c, 0, 0, NULL));
        fake_wait(1);
        EQ(f.n_calls, n_blocks == 3 ? CHOICES - 1 : 2);
        engine_free(en);
        expect_whole(&c);
    }
}
