/* SPDX-License-Identifier: Apache-2.0
 * Everything at once, on a device whose rows do not depend on each other's number: requests that generate or ask,
 * with adapters, grammars, penalties, salts, siblings, priorities, some of them cancelled or with a deadline, in a
 * pool so small that they lose their blocks, with and without guesses. Whatever a request is told has the bits that
 * it has alone. */
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "base/rng.h"
#include "engine/engine.h"
#include "support/lora_build.h"
#include "support/tiny_model.h"
#include "test.h"

enum { V = 101, CTX = 256, C = 32, N = 96, NEW = 120, CHOICES = 3, LONGEST = 50, LORAS = 2 };

/* All that a request is told. */
typedef struct Told {
    int32_t ids[NEW];
    double logprob[NEW], prompt[CTX], sum[CHOICES];
    float pooled[C];
    int n_new, n_prompt, n_pooled, n_scored;
} Told;

typedef struct Client {
    int32_t tok[CTX], choice[CHOICES][LONGEST];
    AskChoice choices[CHOICES];
    EngineReq r;
    EngineAsk ask;
    Sha256 salt;
    const char *pattern;
    bool twin, hurried; /* the prompt of the one before; may be cut short */
    Told told;
    FinishReason why;
    int n_done;
    Err err;
} Client;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int n_over;

static void on_token(void *ctx, const SampleOut *t) {
    Told *g = &((Client *)ctx)->told;
    g->logprob[g->n_new] = t->logprob;
    g->ids[g->n_new++] = t->id;
}

static void on_prompt(void *ctx, int at, const SampleOut *t) {
    Told *g = &((Client *)ctx)->told;
    g->prompt[at] = t->logprob;
    g->n_prompt++;
}

static void on_pooled(void *ctx, const float *x, int n) {
    Told *g = &((Client *)ctx)->told;
    memcpy(g->pooled, x, (size_t)n * sizeof *x);
    g->n_pooled++;
}

static void on_choices(void *ctx, const AskScore *s, int n) {
    Told *g = &((Client *)ctx)->told;
    for (int i = 0; i < n; i++) g->sum[i] = s[i].logprob;
    g->n_scored++;
}

static void on_done(void *ctx, FinishReason why, const Err *e) {
    Client *c = ctx;
    pthread_mutex_lock(&mu);
    c->why = why;
    c->n_done++;
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

/* ---- what is asked ---- */

static double draw(uint64_t key, int i, int k) {
    return rng_uniform(key, (uint64_t)i, (uint64_t)k);
}

static void fill_asking(Client *c, uint64_t key, int i) {
    double what = draw(key, i, 20);
    c->ask = (EngineAsk){.on_prompt = on_prompt, .on_pooled = on_pooled, .on_choices = on_choices};
    c->ask.prompt_logprobs = what < 0.5;
    c->ask.pool = what > 0.3 ? (AskPool)(draw(key, i, 21) * 4) : ASK_POOL_NONE;
    if (what > 0.6) {
        c->ask.choices = c->choices;
        c->ask.n_choices = CHOICES;
        c->r.max_new = 0;
    }
    for (int k = 0; k < CHOICES; k++) {
        int n = 1 + (int)(draw(key, i, 30 + k) * (LONGEST - 1));
        for (int p = 0; p < n; p++) c->choice[k][p] = (int32_t)(draw(key + 2, 10 * i + k, p) * V);
        c->choices[k] = (AskChoice){c->choice[k], n};
    }
    if (c->ask.prompt_logprobs && draw(key, i, 22) < 0.5) c->r.max_new = 0;
    c->r.ask = &c->ask;
}

static void fill_sampling(Client *c, uint64_t key, int i) {
    SampleOpts *s = &c->r.sample;
    *s = (SampleOpts){.top_p = 1, .seed = (uint64_t)i, .logprobs = true};
    if (i % 2) s->temp = 0.5 + draw(key, i, 10);
    if (draw(key, i, 11) < 0.3) s->repetition = 1.2, s->presence = 0.4;
    if (draw(key, i, 12) < 0.3) s->top_k = 7;
}

static void fill(Client *all, uint64_t key, int i) {
    static const char *const patterns[] = {"([0-9][a-f]x){2,30}", "[a-c]+[0-9]{9}", "(ab|c){4,20}"};
    static const char *const names[] = {"one", "two", NULL, NULL};
    Client *c = &all[i];
    memset(c, 0, sizeof *c);
    c->r = (EngineReq){.n_prompt = 1 + (int)(draw(key, i, 0) * (i % 5 ? 60 : 130)),
                       .max_new = 1 + (int)(draw(key, i, 1) * (NEW - 1)),
                       .adapter = names[(int)(draw(key, i, 2) * 4)],
                       .adapter_scale = draw(key, i, 3) < 0.3 ? 0.5 : 0,
                       .priority = draw(key, i, 4) < 0.1 ? -1 : 0};
    c->twin = i > 0 && draw(key, i, 5) < 0.25;
    for (int k = 0; k < CTX; k++)
        c->tok[k] = (int32_t)(draw(key + 1, i % 4 && k < 80 ? 7 : 100 + i, k) * V);
    if (c->twin) {
        memcpy(c->tok, all[i - 1].tok, sizeof c->tok);
        c->r.n_prompt = all[i - 1].r.n_prompt;
    }
    if (c->twin && i % 3) c->r.adapter = all[i - 1].r.adapter;
    fill_sampling(c, key, i);
    if (draw(key, i, 6) < 0.35) fill_asking(c, key, i);
    if (c->r.max_new > 0 && draw(key, i, 7) < 0.3) c->pattern = patterns[i % 3];
    c->hurried = draw(key, i, 8) < 0.15;
    memset(&c->salt, 7, sizeof c->salt);
    if (draw(key, i, 9) < 0.2) c->r.salt = &c->salt;
    c->r.prompt = c->tok;
    c->r.on_token = on_token;
    c->r.on_done = on_done;
    c->r.ctx = c;
}

/* ---- running ---- */

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

static const char *file_of(int i) {
    static char path[LORAS][512];
    snprintf(path[i], sizeof path[i], "%s/%d.gguf", test_tmpdir(), i);
    return path[i];
}

/* The hurried ones are hurried only where they are not alone. */
static void submit(Engine *en, Client *c, uint64_t sibling, uint64_t *id, bool alone, int i) {
    EngineReq r = c->r;
    Status st;
    if (c->twin && !alone) r.sibling = sibling;
    if (c->hurried && !alone && i % 2) r.timeout_s = 1e-4 * (1 + i % 400);
    if (c->pattern) OK_(grammar_from_regex(&r.grammar, slice_of(c->pattern), NULL, TERR));
    while ((st = engine_submit(en, &r, id, TERR)) == ERR_FULL)
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    OK_(st);
}

static EngineStats run(TinyModel *t, Client *c, EngineOpts o, uint64_t key, bool alone) {
    static const char *const names[LORAS] = {"one", "two"};
    Engine *en = NULL;
    uint64_t last = 0, ids[N];
    GrammarVocab *v = letters();
    o.vocab = v;
    o.check = true;
    o.max_loras = LORAS;
    o.max_lora_rank = 9;
    o.lora_bytes = 1 << 20;
    o.max_queue = 40;
    OK_(engine_new(&en, t->m, &o, TERR));
    for (int i = 0; i < LORAS; i++) OK_(engine_adapter_load(en, names[i], file_of(i), 1, TERR));
    n_over = 0;
    for (int i = 0; i < N; i++) {
        fill(c, key, i);
        submit(en, &c[i], last, &ids[i], alone, i);
        last = ids[i];
        if (alone) wait_for(i + 1);
        else if (i >= 5 && c[i - 5].hurried) engine_cancel(en, ids[i - 5]);
    }
    wait_for(N);
    for (int i = 0; i < LORAS; i++) OK_(engine_adapter_unload(en, names[i], TERR));
    EngineStats s = engine_stats(en);
    EQ(s.n_blocks_used, 0);
    EQ(s.n_running + s.n_waiting, 0);
    engine_free(en);
    grammar_vocab_free(v);
    return s;
}

/* Whole ones are told the same, others a beginning of it. */
static void expect_same(const Client *got, const Client *want, int i) {
    const Told *g = &got->told, *w = &want->told;
    bool whole = got->why == FINISH_STOP || got->why == FINISH_LENGTH;
    EQ(got->n_done, 1);
    if (got->why == FINISH_ERROR) FAIL("request %d ended with: %s", i, got->err.msg);
    if (!whole) TRUE_(got->hurried);
    if (whole) {
        EQ(got->why, want->why);
        if (memcmp(g, w, sizeof *g) == 0) return;
        FAIL("request %d: %d tokens of %d, %d of the prompt of %d", i, g->n_new, w->n_new,
             g->n_prompt, w->n_prompt);
    }
    TRUE_(g->n_new <= w->n_new && g->n_prompt <= w->n_prompt && g->n_scored <= w->n_scored);
    EQ_MEM(g->ids, w->ids, (size_t)g->n_new * sizeof g->ids[0]);
    EQ_MEM(g->logprob, w->logprob, (size_t)g->n_new * sizeof g->logprob[0]);
    EQ_MEM(g->prompt, w->prompt, (size_t)(g->n_prompt + 1) * sizeof g->prompt[0]);
}

static void everything(const char *arch, uint64_t key) {
    static Client want[N], got[N];
    TinyModel t = tiny_model_invariant(arch, V, CTX, NULL, 3);
    TinyModel draft = tiny_model_invariant("llama", V, CTX, NULL, 3);
    for (int i = 0; i < LORAS; i++)
        lora_build_file(file_of(i), t.m,
                        &(LoraSpec){.seed = 40 + (uint64_t)i, .rank = 1 + 3 * i, .alpha = 6});
    run(&t, want, (EngineOpts){.max_seqs = 1, .no_prefix = true}, key, true);
    uint64_t n_preempted = 0, n_hit = 0, n_right = 0;
    for (int k = 0; k < 4; k++) {
        EngineOpts o = {.max_seqs = 6,
                        .n_blocks = k % 2 ? 9 : 14,
                        .prefill_chunk = k % 2 ? 33 : 90};
        if (k == 1) o.spec_ngram = 3, o.spec_ngram_min = 1;
        if (k >= 2) o.draft = draft.m, o.spec_k = 5;
        EngineStats s = run(&t, got, o, key, false);
        for (int i = 0; i < N; i++) expect_same(&got[i], &want[i], i);
        n_preempted += s.n_preempted;
        n_hit += s.n_hit_tok;
        n_right += s.n_draft_ok;
    }
    TRUE_(n_preempted > 10 && n_hit > 500 && n_right > 50);
    tiny_model_free(&draft);
    tiny_model_free(&t);
}

TEST(everything_at_once_llama) { everything("llama", 1); }
TEST(everything_at_once_gpt2) { everything("gpt2", 2); }
