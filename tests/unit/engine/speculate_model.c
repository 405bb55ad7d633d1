/* SPDX-License-Identifier: Apache-2.0
 * Speculation with a real forward pass, on a device whose rows do not depend on each other's number: whatever is
 * guessed, by whom, the tokens and the bits of their log-probabilities are those without guesses. */
#include <pthread.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "support/tiny_model.h"
#include "support/vocab_build.h"
#include "test.h"

enum { V = 101, CTX = 256, N = 9, MOST = 120 };

typedef struct Sink {
    int32_t ids[MOST];
    double logprob[MOST];
    SampleTop top[MOST][3];
    uint64_t alloc_at[MOST];
    int n;
    FinishReason why;
} Sink;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int n_over;

static void on_token(void *ctx, const SampleOut *t) {
    Sink *s = ctx;
    s->alloc_at[s->n] = mem_n_alloc();
    s->logprob[s->n] = t->logprob;
    if (t->n_top == 3) memcpy(s->top[s->n], t->top, sizeof s->top[0]);
    s->ids[s->n++] = t->id;
}

static void on_done(void *ctx, FinishReason why, const Err *e) {
    (void)e;
    pthread_mutex_lock(&mu);
    ((Sink *)ctx)->why = why;
    n_over++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mu);
}

static void wait_for(int n) {
    pthread_mutex_lock(&mu);
    while (n_over < n) pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
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

static const int32_t stops[] = {3, 44, 71};

/* Every kind of request: greedy, sampled, penalties, log-probabilities, grammars, stop tokens. */
static EngineReq kind(int i, Sink *s, const int32_t *prompt) {
    EngineReq r = {.prompt = prompt,
                   .n_prompt = 20 + 9 * i,
                   .max_new = MOST,
                   .sample = {.top_p = 1, .seed = (uint64_t)i, .temp = i % 2 ? 0.7 : 0},
                   .on_token = on_token,
                   .on_done = on_done,
                   .ctx = s};
    if (i == 2 || i == 3) r.sample.repetition = 1.3, r.sample.frequency = 0.2;
    if (i == 3) r.sample.repeat_last_n = 10;
    if (i == 4 || i == 5) r.sample.logprobs = true, r.sample.top_logprobs = 3;
    if (i == 5) r.sample.top_k = 9, r.sample.top_p = 0.9;
    if (i == 6 || i == 7)
        OK_(grammar_from_regex(&r.grammar,
                               slice_of(i == 6 ? "([0-9][a-f]x){4,30}" : "[a-c]+[0-9]{9}"), NULL,
                               TERR));
    if (i == 7 || i == 8)
        r.sample.stop_ids = stops, r.sample.n_stop_ids = 3, r.sample.min_tokens = 12;
    return r;
}

static EngineStats run(TinyModel *t, Sink *s, EngineOpts o) {
    Engine *en = NULL;
    static int32_t prompt[CTX];
    GrammarVocab *v = letters();
    o.vocab = v;
    o.check = true;
    OK_(engine_new(&en, t->m, &o, TERR));
    for (int i = 0; i < CTX; i++) prompt[i] = (int32_t)(rng_uniform(3, 9, (uint64_t)(i % 40)) * V);
    n_over = 0;
    for (int i = 0; i < N; i++) {
        s[i] = (Sink){0};
        EngineReq r = kind(i, &s[i], prompt + i);
        OK_(engine_submit(en, &r, NULL, TERR));
    }
    wait_for(N);
    EngineStats st = engine_stats(en);
    EQ(st.n_blocks_used, 0);
    engine_free(en);
    grammar_vocab_free(v);
    return st;
}

static void expect_same(const Sink *a, const Sink *b) {
    for (int i = 0; i < N; i++) {
        EQ(a[i].n, b[i].n);
        EQ(a[i].why, b[i].why);
        TRUE_(a[i].why <= FINISH_LENGTH && a[i].n > 5);
        EQ_MEM(a[i].ids, b[i].ids, sizeof a[i].ids);
        EQ_MEM(a[i].logprob, b[i].logprob, sizeof a[i].logprob);
        EQ_MEM(a[i].top, b[i].top, sizeof a[i].top);
    }
}

static void same_bits(const char *arch) {
    static Sink want[N], got[N];
    TinyModel t = tiny_model_invariant(arch, V, CTX, NULL, 1);
    TinyModel same = tiny_model_invariant(arch, V, CTX, NULL, 1);
    TinyModel other = tiny_model_invariant("llama", V, 100, NULL, 2);
    EngineOpts base = {.max_seqs = 4, .prefill_chunk = 40};
    EQ(run(&t, want, base).n_drafts, 0);
    for (int small = 0; small < 2; small++) {
        EngineOpts o = base;
        if (small) o.n_blocks = 8, o.prefill_chunk = 9;
        o.spec_ngram = 3;
        o.spec_ngram_min = 1;
        EngineStats s = run(&t, got, o);
        expect_same(want, got);
        TRUE_(s.n_draft_ok > 20 && s.n_draft_ok < s.n_draft_tok);
        o.spec_ngram = o.spec_ngram_min = 0;
        o.draft = same.m;
        s = run(&t, got, o);
        expect_same(want, got);
        TRUE_(s.n_draft_ok > 400);
        if (small) TRUE_(s.n_preempted > 0);
        EQ(s.n_draft_ok, s.n_draft_tok);
        o.draft = other.m; /* and of a shorter context */
        s = run(&t, got, o);
        expect_same(want, got);
        TRUE_(s.n_drafts > 20 && s.n_draft_ok < s.n_draft_tok / 2);
    }
    tiny_model_free(&other);
    tiny_model_free(&same);
    tiny_model_free(&t);
}

TEST(guesses_do_not_change_a_bit_of_llama) { same_bits("llama"); }
TEST(guesses_do_not_change_a_bit_of_gpt2) { same_bits("gpt2"); }

/* Beyond its context it is not asked; others go on. */
TEST(a_draft_model_with_a_short_context) {
    static Sink s[2];
    static int32_t prompt[60];
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1),
              d = tiny_model_new("llama", V, 70, NULL, 1);
    Engine *en = NULL;
    EngineOpts o = {.max_seqs = 2, .draft = d.m};
    OK_(engine_new(&en, t.m, &o, TERR));
    n_over = 0;
    uint64_t n_before = 0;
    for (int i = 0; i < 2; i++) {
        s[i] = (Sink){0};
        EngineReq r = kind(0, &s[i], prompt);
        r.n_prompt = 60;
        n_before = engine_stats(en).n_drafts;
        OK_(engine_submit(en, &r, NULL, TERR));
        wait_for(i + 1);
        EQ(s[i].n, MOST);
        TRUE_(engine_stats(en).n_drafts > n_before);
    }
    EQ_MEM(s[0].ids, s[1].ids, sizeof s[0].ids);
    engine_free(en);
    tiny_model_free(&d);
    tiny_model_free(&t);
}

/* The tokens of two vocabularies are compared where both are given; rows of logits may be padded. */
TEST(a_draft_model_has_the_same_tokens) {
    VocabSpec x = vocab_small, y = vocab_small;
    Tokenizer *a = NULL, *b = NULL;
    int n = 0;
    while (n < 16 && y.tokens[n]) n++;
    y.tokens[n - 1] = "zebra";
    OK_(vocab_build_load(&a, &x, TERR));
    OK_(vocab_build_load(&b, &y, TERR));
    int n_vocab = tok_n_vocab(a);
    TinyModel t = tiny_model_new("llama", n_vocab, CTX, NULL, 1);
    TinyModel d = tiny_model_new("llama", n_vocab + 5, CTX, NULL, 2);
    Engine *en = NULL;
    EngineOpts o = {.draft = d.m, .tok = a, .draft_tok = b};
    FAILS(ERR_ARG, engine_new(&en, t.m, &o, TERR));
    TRUE_(strstr(test_err.msg, "zebra") != NULL);
    o.draft_tok = a;
    OK_(engine_new(&en, t.m, &o, TERR));
    engine_free(en);
    en = NULL;
    y.tokens[n - 1] = NULL;
    tok_free(b);
    OK_(vocab_build_load(&b, &y, TERR));
    o.draft_tok = b;
    FAILS(ERR_ARG, engine_new(&en, t.m, &o, TERR));
    tok_free(a);
    tok_free(b);
    tiny_model_free(&d);
    tiny_model_free(&t);
}

TEST(a_step_with_guesses_allocates_nothing) {
    static Sink s[2];
    static int32_t prompt[40];
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1),
              d = tiny_model_new("llama", V, CTX, NULL, 2);
    for (int k = 0; k < 2; k++) {
        EngineOpts o = {.max_seqs = 2};
        Engine *en = NULL;
        if (k) o.draft = d.m;
        else o.spec_ngram = 3, o.spec_ngram_min = 1;
        OK_(engine_new(&en, t.m, &o, TERR));
        n_over = 0;
        for (int i = 0; i < 2; i++) {
            s[i] = (Sink){0};
            EngineReq r = kind(i, &s[i], prompt);
            r.n_prompt = 40;
            OK_(engine_submit(en, &r, NULL, TERR));
        }
        wait_for(2);
        TRUE_(engine_stats(en).n_draft_tok > 20);
        for (int i = 0; i < 2; i++) EQ(s[i].alloc_at[MOST - 1] - s[i].alloc_at[40], 0);
        engine_free(en);
    }
    tiny_model_free(&d);
    tiny_model_free(&t);
}

TEST(plan_counts_the_draft_model) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1),
              d = tiny_model_new("gpt2", V, CTX, NULL, 2);
    EngineOpts o = {.max_seqs = 4, .prefill_chunk = 64, .draft = d.m};
    Engine *en = NULL;
    size_t plan = 0, before = mem_live_bytes();
    OK_(engine_plan_bytes(&plan, &t.m->cfg, &o, TERR));
    OK_(engine_new(&en, t.m, &o, TERR));
    size_t taken = mem_live_bytes() - before;
    TRUE_(taken <= plan + plan / 20 + 8192 && taken + 8192 >= plan - plan / 20);
    engine_free(en);
    o.kv_bytes = 10 * engine_block_bytes(&t.m->cfg, &o);
    EQ(engine_block_bytes(&t.m->cfg, &o), 2 * model_kv_bytes(&t.m->cfg, DT_F16, 1));
    OK_(engine_new(&en, t.m, &o, TERR));
    EQ(engine_stats(en).n_blocks, 10);
    engine_free(en);
    tiny_model_free(&d);
    tiny_model_free(&t);
}

TEST(options_that_contradict_each_other) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1),
              d = tiny_model_new("llama", V + 1, CTX, NULL, 2);
    static const EngineOpts bad[] = {{.spec_k = 3},
                                     {.spec_ngram_min = 1},
                                     {.spec_ngram = -1},
                                     {.spec_ngram = ENGINE_MAX_NGRAM + 1},
                                     {.spec_ngram = 2, .spec_ngram_min = 3},
                                     {.spec_ngram = 2, .spec_k = -1},
                                     {.spec_ngram = 2, .spec_k = ENGINE_MAX_DRAFT + 1}};
    Engine *en = NULL;
    size_t n;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        FAILS(ERR_ARG, engine_new(&en, t.m, &bad[i], TERR));
        FAILS(ERR_ARG, engine_plan_bytes(&n, &t.m->cfg, &bad[i], TERR));
    }
    EngineOpts o = {.draft = d.m};
    FAILS(ERR_ARG, engine_new(&en, t.m, &o, TERR));
    TRUE_(strstr(test_err.msg, "102") && strstr(test_err.msg, "101"));
    o.spec_ngram = 3;
    FAILS(ERR_ARG, engine_new(&en, t.m, &o, TERR));
    TRUE_(en == NULL);
    tiny_model_free(&d);
    tiny_model_free(&t);
}
