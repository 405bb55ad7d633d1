/* SPDX-License-Identifier: Apache-2.0
 * Speculation over a stand-in for the model, whose next token depends on every token before it through the blocks
 * (support/fake_model.h), but mostly goes on counting, so that the text repeats itself. The same random schedule runs with and
 * without guesses: each request has to get the same tokens. The stand-in for the draft model keeps cells of its own
 * under the same block numbers and, asked honestly, says what the model says: it is right only as long as its cells
 * keep up with all that happens to the sequences. */
#include <stdlib.h>
#include <time.h>

#include "base/rng.h"
#include "support/fake_model.h"
#include "test.h"

enum { V = FAKE_V, CTX = 400, NEW_MOST = 60 };

/* Three times in four the number after tok, else either of two that the cell says. */
static void count_on(const FakeModel *f, float *row, uint64_t at, int32_t tok) {
    for (int v = 0; v < V; v++) row[v] = -1e30f;
    if (at % 16 < f->lies) row[(tok + 7) % V] = 1.0f;
    else if (at / 16 % 4) row[(tok + 1) % V] = 1.0f;
    else row[at / 64 % V] = row[at / 64 / V % V] = 1.0f;
}

/* ---- requests ---- */

typedef struct Client {
    FakeEnd end;
    int32_t prompt[CTX], ids[CTX];
    int n_prompt, max_new, n;
} Client;

static void on_token(void *ctx, const SampleOut *t) {
    Client *c = ctx;
    c->ids[c->n++] = t->id;
}

static const int32_t stop_id = 17;

/* Prompts count up, too, with jumps; those of a family begin alike. */
static void fill_prompt(Client *c, int n, int same, uint64_t family, uint64_t key) {
    int32_t at = 0;
    for (int i = 0; i < n; i++) {
        double u = rng_uniform(i < same ? 70 + family : 90 + key, 3, (uint64_t)i);
        at = u < 0.7 ? (at + 1) % V : (int32_t)((u - 0.7) / 0.3 * V);
        c->prompt[i] = at;
    }
    c->n_prompt = n;
}

/* Request i of a schedule; the one before it may be its twin. */
static EngineReq draw(Client *c, int i, uint64_t seed, int longest, int most) {
    double u[8];
    for (uint64_t k = 0; k < COUNT_OF(u); k++) u[k] = rng_uniform(seed, (uint64_t)i, k);
    bool twin = i > 0 && u[4] > 0.3 && u[4] < 0.45;
    c[i] = (Client){0};
    if (twin) {
        memcpy(c[i].prompt, c[i - 1].prompt, sizeof c[i].prompt);
        c[i].n_prompt = c[i - 1].n_prompt;
    } else {
        fill_prompt(&c[i], 1 + (int)(u[0] * MIN(longest, most - 2)), (int)(u[3] * 160),
                    (uint64_t)(u[2] * 3), seed + (uint64_t)i);
    }
    c[i].max_new = 1 + (int)(u[1] * u[1] * MIN(NEW_MOST, most - c[i].n_prompt - 1));
    EngineReq r = {.prompt = c[i].prompt,
                   .n_prompt = c[i].n_prompt,
                   .max_new = c[i].max_new,
                   .sample = {.temp = u[6] < 0.5 ? 1 : 0, .top_p = 1, .seed = seed + (uint64_t)i},
                   .priority = u[4] < 0.1 ? -1 : 0,
                   .timeout_s = u[4] > 0.97 ? 1e-3 * u[5] : 0,
                   .on_token = on_token,
                   .on_done = fake_on_done,
                   .ctx = &c[i]};
    if (u[7] < 0.2) r.sample.repetition = 1.5, r.sample.repeat_last_n = 20;
    if (u[7] > 0.1 && u[7] < 0.4) r.sample.frequency = 0.4;
    if (u[7] > 0.7) r.sample.stop_ids = &stop_id, r.sample.n_stop_ids = 1;
    if (u[7] > 0.85) r.sample.min_tokens = 9;
    return r;
}

typedef struct Storm {
    EngineOpts o;
    int n, longest;
    uint64_t seed;
    const FakeModel *draft; /* NULL: none */
} Storm;

static Engine *engine_up(EngineOpts o, FakeModel *f, FakeModel *draft) {
    Engine *en = NULL;
    ModelConfig c = fake_config(CTX);
    EngineBack back = fake_back(f), guess = fake_back(draft);
    o.check = true;
    f->row = count_on;
    if (draft) draft->row = count_on;
    fake_reset();
    OK_(engine__new_over_two(&en, &c, &back, draft ? &guess : NULL, &o, TERR));
    return en;
}

static EngineStats run(const Storm *s, Client *c, EngineOpts o) {
    static FakeModel f, d;
    f = (FakeModel){.lies = 0};
    if (s->draft) d = *s->draft;
    Engine *en = engine_up(o, &f, s->draft && o.spec_ngram ? &d : NULL);
    uint64_t last = 0, ids[8] = {0};
    for (int i = 0; i < s->n; i++) {
        EngineReq r = draw(c, i, s->seed, s->longest, engine_max_ctx(en));
        r.sibling = last;
        while (engine_submit(en, &r, &last, TERR) == ERR_FULL)
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
        ids[i % 8] = last;
        if (rng_uniform(s->seed, (uint64_t)i, 50) < 0.1) engine_cancel(en, ids[i % 7]);
    }
    fake_wait(s->n);
    EngineStats st = engine_stats(en);
    EQ(st.n_running + st.n_waiting, 0);
    EQ(st.n_blocks_used, 0);
    engine_free(en);
    TRUE_(o.spec_ngram ? f.n_wide > 100 : f.n_wide == 0);
    return st;
}

/* Where one of the two was cancelled, what both have. */
static void expect_same(const Client *a, const Client *b) {
    EQ(a->end.n_done, 1);
    EQ(b->end.n_done, 1);
    NE(a->end.why, FINISH_ERROR);
    NE(b->end.why, FINISH_ERROR);
    EQ_MEM(a->ids, b->ids, (size_t)MIN(a->n, b->n) * sizeof a->ids[0]);
    if (a->end.why > FINISH_LENGTH || b->end.why > FINISH_LENGTH) return;
    EQ(a->n, b->n);
    EQ(a->end.why, b->end.why);
}

/* Statistics of the run with speculation. */
static EngineStats compare(Storm s) {
    Client *a = calloc((size_t)s.n, sizeof *a), *b = calloc((size_t)s.n, sizeof *b);
    EngineOpts plain = s.o;
    plain.spec_k = plain.spec_ngram = plain.spec_ngram_min = 0;
    EngineStats before = run(&s, a, plain), st = run(&s, b, s.o);
    int n_whole = 0;
    for (int i = 0; i < s.n; i++) {
        expect_same(&a[i], &b[i]);
        n_whole += a[i].end.why <= FINISH_LENGTH && b[i].end.why <= FINISH_LENGTH;
    }
    TRUE_(n_whole > s.n / 2);
    EQ(before.n_drafts, 0);
    TRUE_(st.n_draft_ok <= st.n_draft_tok);
    uint64_t sum = 0;
    for (int i = 0; i < ENGINE_MAX_DRAFT; i++) {
        sum += st.n_draft_ok_at[i];
        if (i > 0) TRUE_(st.n_draft_ok_at[i] <= st.n_draft_ok_at[i - 1]);
        if (i >= MAX(s.o.spec_k, 8)) EQ(st.n_draft_ok_at[i], 0);
    }
    EQ(sum, st.n_draft_ok);
    free(a);
    free(b);
    return st;
}

TEST(ten_thousand_requests_guess_from_their_text) {
    EngineStats s = compare((Storm){.o = {.max_seqs = 8,
                                          .n_blocks = 14,
                                          .prefill_chunk = 50,
                                          .max_queue = 40,
                                          .spec_ngram = 3,
                                          .spec_ngram_min = 1},
                                    .n = 10000,
                                    .longest = 300,
                                    .seed = 1});
    TRUE_(s.n_preempted > 100 && s.n_hit_tok > 5000);
    TRUE_(s.n_draft_ok > 10000 && s.n_draft_ok < s.n_draft_tok);
}

TEST(many_requests_and_a_draft_model_that_errs) {
    static const FakeModel errs = {.lies = 5};
    EngineStats s = compare((Storm){.o = {.max_seqs = 8,
                                          .n_blocks = 14,
                                          .prefill_chunk = 50,
                                          .max_queue = 40,
                                          .spec_ngram = 1,
                                          .spec_k = 4},
                                    .n = 3000,
                                    .longest = 300,
                                    .seed = 2,
                                    .draft = &errs});
    TRUE_(s.n_preempted > 30 && s.n_hit_tok > 3000);
    TRUE_(s.n_draft_ok > 3000 && s.n_draft_ok < s.n_draft_tok);
}

/* Prefix hits, twins, preemption, chunks: wherever its cells fell behind, it would be wrong. */
TEST(a_draft_model_that_knows_keeps_up_with_everything) {
    static const FakeModel knows = {.lies = 0};
    static const EngineOpts o[] = {
        {.max_seqs = 8, .n_blocks = 14, .prefill_chunk = 50, .spec_ngram = 1, .spec_k = 8},
        {.max_seqs = 4, .n_blocks = 13, .prefill_chunk = 7, .spec_ngram = 1, .spec_k = 3},
        {.max_seqs = 16, .n_blocks = 64, .prefill_chunk = 256, .spec_ngram = 1, .spec_k = 32}};
    for (size_t i = 0; i < COUNT_OF(o); i++) {
        EngineStats s =
            compare((Storm){.o = o[i], .n = 800, .longest = 300, .seed = 3 + i, .draft = &knows});
        TRUE_(s.n_hit_tok > 500);
        TRUE_(s.n_draft_tok > 2000);
        TRUE_((double)s.n_draft_ok > 0.999 * (double)s.n_draft_tok);
    }
}

TEST(a_pool_of_one_sequence) {
    EngineStats s = compare((Storm){
        .o = {.max_seqs = 4, .n_blocks = 3, .prefill_chunk = 7, .spec_ngram = 2, .spec_k = 32},
        .n = 1500,
        .longest = 90,
        .seed = 7});
    TRUE_(s.n_preempted > 10);
}

TEST(without_prefixes) {
    EngineStats s =
        compare((Storm){.o = {.max_seqs = 8, .n_blocks = 20, .no_prefix = true, .spec_ngram = 4},
                        .n = 1000,
                        .longest = 200,
                        .seed = 8});
    EQ(s.n_blocks_cached, 0);
}

/* ---- one property each ---- */

/* One request alone; its prompt counts up to `to` twice. */
static EngineStats alone(EngineOpts o, FakeModel *f, FakeModel *draft, Client *c, int max_new) {
    Engine *en = engine_up(o, f, draft);
    *c = (Client){.n_prompt = 90};
    for (int i = 0; i < c->n_prompt; i++) c->prompt[i] = i % 45;
    EngineReq r = {.prompt = c->prompt,
                   .n_prompt = c->n_prompt,
                   .max_new = max_new,
                   .sample = {.top_p = 1},
                   .on_token = on_token,
                   .on_done = fake_on_done,
                   .ctx = c};
    OK_(engine_submit(en, &r, NULL, TERR));
    fake_wait(1);
    EngineStats s = engine_stats(en);
    engine_free(en);
    EQ(c->n, max_new);
    return s;
}

TEST(guesses_that_never_come_true_are_soon_rare) {
    static const FakeModel wrong = {.lies = 16};
    static FakeModel f, d;
    static Client a, b;
    f = (FakeModel){.lies = 0};
    d = wrong;
    alone((EngineOpts){.max_seqs = 1}, &f, NULL, &a, 300);
    EngineStats s = alone((EngineOpts){.max_seqs = 1, .spec_ngram = 1}, &f, &d, &b, 300);
    EQ_MEM(a.ids, b.ids, sizeof a.ids);
    EQ(s.n_draft_ok, 0);
    TRUE_(s.n_drafts < 15);
}

TEST(a_draft_model_that_fails_is_asked_no_more) {
    static FakeModel f, d;
    static Client a, b;
    f = d = (FakeModel){.lies = 0};
    d.fail_at = 30;
    alone((EngineOpts){.max_seqs = 1}, &f, NULL, &a, 300);
    EngineStats s = alone((EngineOpts){.max_seqs = 1, .spec_ngram = 1}, &f, &d, &b, 300);
    EQ_MEM(a.ids, b.ids, sizeof a.ids);
    EQ(d.n_calls, 30);
    TRUE_(s.n_drafts > 0 && s.n_drafts < 30);
}

TEST(right_guesses_save_steps) {
    static FakeModel f, d;
    static Client a, b;
    f = d = (FakeModel){.lies = 0};
    EngineStats s = alone((EngineOpts){.max_seqs = 1}, &f, NULL, &a, 300);
    EQ(s.n_steps, 300);
    s = alone((EngineOpts){.max_seqs = 1, .spec_ngram = 1, .spec_k = 9}, &f, &d, &b, 300);
    EQ_MEM(a.ids, b.ids, sizeof a.ids);
    EQ(s.n_draft_ok, s.n_draft_tok);
    TRUE_(s.n_steps >= 30 && s.n_steps <= 36);
    EQ(s.n_new_tok, 300);
}

/* A's wrong guesses fill its first block, and B begins with them: it must not find A's block, which has other tokens
 * by then. */
TEST(wrong_guesses_are_never_found) {
    enum { N_A = 30, N_B = 40 };
    static const FakeModel wrong = {.lies = 16};
    static FakeModel f, d;
    static Client a, b, fresh;
    f = (FakeModel){.lies = 0};
    d = wrong;
    a = b = (Client){.n_prompt = N_A};
    for (int i = 0; i < N_B; i++) {
        b.prompt[i] = i < N_A ? i : (N_A - 1 + 7 * (i - N_A + 1)) % V;
        a.prompt[i] = b.prompt[i];
    }
    fresh = b;
    EngineReq r = {.sample = {.top_p = 1},
                   .max_new = 60,
                   .on_token = on_token,
                   .on_done = fake_on_done};
    Engine *en = engine_up((EngineOpts){.max_seqs = 1, .spec_ngram = 1}, &f, &d);
    r.ctx = &a, r.prompt = a.prompt, r.n_prompt = N_A;
    OK_(engine_submit(en, &r, NULL, TERR));
    fake_wait(1);
    r.ctx = &b, r.prompt = b.prompt, r.n_prompt = N_B;
    OK_(engine_submit(en, &r, NULL, TERR));
    fake_wait(2);
    EQ(engine_stats(en).n_hit_tok, 0);
    TRUE_(engine_stats(en).n_draft_tok > 8);
    engine_free(en);
    en = engine_up((EngineOpts){.max_seqs = 1}, &f, NULL);
    r.ctx = &fresh;
    OK_(engine_submit(en, &r, NULL, TERR));
    fake_wait(1);
    engine_free(en);
    EQ_MEM(b.ids, fresh.ids, sizeof b.ids);
}
