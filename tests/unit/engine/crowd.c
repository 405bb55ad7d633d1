/* SPDX-License-Identifier: Apache-2.0
 * Answers of many prompts at once, as text: several samples each, with stop strings, min_tokens, grammars, adapters,
 * penalties and guesses, in engines of random options, some so small that hardly anything fits, on a device whose rows
 * do not depend on each other's number. What a reader sees of each is what it sees where nothing runs beside it. */
#include <stdio.h>

#include "base/rng.h"
#include "engine/answer.h"
#include "support/lora_build.h"
#include "support/tiny_model.h"
#include "test.h"

enum { V = 257, CTX = 192, N = 14, MOST = 4, LORAS = 2, KV_TYPES = 3 };

typedef struct Wish {
    int32_t prompt[CTX];
    EngineReq r;
    AnswerOpts o;
    Slice stop[2];
    const char *pattern;
    bool left; /* its reader goes after a few tokens */
} Wish;

/* What a sample came to. */
typedef struct Got {
    char text[1024];
    int32_t ids[CTX];
    size_t n_text, n_ids;
    FinishReason why;
    int stop;
    int32_t stop_id;
} Got;

typedef struct World {
    TinyModel t, draft;
    Tokenizer *tok;
    GrammarVocab *vocab;
} World;

static double u(uint64_t key, int i, int k) { return rng_uniform(key, (uint64_t)i, (uint64_t)k); }

static const char *file_of(int i) {
    static char path[LORAS][512];
    snprintf(path[i], sizeof path[i], "%s/%d.gguf", test_tmpdir(), i);
    return path[i];
}

static World world_new(const char *arch) {
    World w = {.tok = NULL};
    TokTrainOpts o = {.n_vocab = V};
    TokTrainer *tr;
    OK_(tok_train_new(&tr, &o, TERR));
    OK_(tok_train_finish(tr, &w.tok, TERR));
    tok_train_free(tr);
    OK_(grammar_vocab_new(&w.vocab, w.tok, TERR));
    w.t = tiny_model_invariant(arch, V, CTX, NULL, 3);
    w.draft = tiny_model_invariant("llama", V, CTX - 40, NULL, 3);
    for (int i = 0; i < LORAS; i++)
        lora_build_file(file_of(i), w.t.m,
                        &(LoraSpec){.seed = 70 + (uint64_t)i, .rank = 2 + i, .alpha = 4});
    return w;
}

static void world_free(World *w) {
    tiny_model_free(&w->draft);
    tiny_model_free(&w->t);
    grammar_vocab_free(w->vocab);
    tok_free(w->tok);
}

static void fill_sampling(SampleOpts *s, uint64_t key, int i) {
    *s = (SampleOpts){.top_p = 1, .seed = key + (uint64_t)i};
    if (u(key, i, 1) < 0.6) s->temp = 0.3 + 2 * u(key, i, 2);
    if (u(key, i, 3) < 0.3) s->repetition = 1.3, s->frequency = 0.3;
    if (u(key, i, 4) < 0.3) s->top_k = 5;
    if (u(key, i, 5) < 0.5) s->min_tokens = (int64_t)(u(key, i, 6) * 30);
}

static void fill(Wish *w, uint64_t key, int i, int max_ctx) {
    static const char *const patterns[] = {"[a-d]{1,30}", "(ab|cd)+[0-9]{2}", "\"[^\"]{3,40}\""};
    static const char *const names[] = {"zero", "one", NULL};
    *w = (Wish){.left = u(key, i, 7) < 0.15};
    for (int k = 0; k < CTX; k++)
        w->prompt[k] = (int32_t)(u(key + 1, i % 3 && k < 50 ? 3 : 100 + i, k) * (V - 1));
    w->r = (EngineReq){.prompt = w->prompt,
                       .n_prompt = 1 + (int)(u(key, i, 8) * MIN(90, max_ctx - 2)),
                       .max_new = 1 + (int)(u(key, i, 9) * 70),
                       .adapter = names[(int)(u(key, i, 10) * 3)],
                       .adapter_scale = u(key, i, 11) < 0.3 ? -0.5 : 0,
                       .priority = u(key, i, 12) < 0.1 ? -1 : 0};
    fill_sampling(&w->r.sample, key, i);
    if (u(key, i, 13) < 0.3) w->pattern = patterns[i % 3];
    w->o = (AnswerOpts){.n = 1 + (int)(u(key, i, 14) * MOST), .include_stop = i % 2};
    static const char *const stops[] = {"a", "e", "1", "\n", "ab", "\xff"};
    for (; w->o.n_stop < 2 && u(key, i, 15 + w->o.n_stop) < 0.5; w->o.n_stop++)
        w->stop[w->o.n_stop] = slice_of(stops[(int)(u(key, i, 17 + w->o.n_stop) * 6)]);
    w->o.stop = w->stop;
}

static Answer *ask(const World *w, const EngineDoor *door, const Wish *x) {
    Answer *a = NULL;
    AnswerOpts o = x->o;
    Grammar *g[MOST] = {0};
    for (int i = 0; x->pattern && i < o.n; i++)
        OK_(grammar_from_regex(&g[i], slice_of(x->pattern), NULL, TERR));
    if (x->pattern) o.grammars = g;
    OK_(answer_new(&a, door, w->tok, &x->r, &o, TERR));
    return a;
}

static Got copy(const AnswerSample *s) {
    Got g = {.n_text = MIN(s->text.n, sizeof g.text),
             .n_ids = MIN(s->ids.n, (size_t)CTX),
             .why = s->why,
             .stop = s->stop,
             .stop_id = s->stop_id};
    if (s->why == FINISH_ERROR) FAIL("a sample ended with: %s", s->err.msg);
    if (g.n_text) memcpy(g.text, s->text.p, g.n_text);
    if (g.n_ids) memcpy(g.ids, s->ids.v, g.n_ids * sizeof g.ids[0]);
    return g;
}

static Engine *engine_up(const World *w, EngineOpts o) {
    static const char *const names[LORAS] = {"zero", "one"};
    Engine *en = NULL;
    o.check = true;
    o.tok = w->tok;
    o.vocab = w->vocab;
    o.max_loras = LORAS;
    o.max_lora_rank = 9;
    OK_(engine_new(&en, w->t.m, &o, TERR));
    for (int i = 0; i < LORAS; i++) OK_(engine_adapter_load(en, names[i], file_of(i), 1, TERR));
    return en;
}

/* All at once or one after another; got: [N][MOST]. */
static EngineStats run(const World *w, EngineOpts o, uint64_t key, bool alone, Got *got) {
    static Wish wish[N];
    Answer *a[N] = {0};
    AnswerPart part;
    Engine *en = engine_up(w, o);
    EngineDoor door = engine_door(en);
    for (int i = 0; i < N; i++) {
        fill(&wish[i], key, i, engine_max_ctx(en));
        a[i] = ask(w, &door, &wish[i]);
        while (alone && !answer_done(a[i]))
            if (!answer_next(a[i], &part)) answer_wait(a[i], 100);
    }
    for (int left = N, n = 0; left > 0; left = n, n = 0) {
        for (int i = 0; i < N; i++) {
            for (int k = 0; k < 3 && answer_next(a[i], &part); k++)
                if (!alone && wish[i].left && answer_sample(a[i], part.sample)->ids.n > 3)
                    answer_cancel(a[i]);
            n += !answer_done(a[i]);
        }
        if (n > 0) answer_wait(a[(int)(u(key, left, 90) * N)], 1);
    }
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < wish[i].o.n; k++) got[i * MOST + k] = copy(answer_sample(a[i], k));
        answer_free(a[i]);
    }
    EngineStats s = engine_stats(en);
    engine_free(en);
    return s;
}

/* Whole ones are the same, others a beginning. */
static void expect_same(const Got *got, const Got *want, int i) {
    size_t n_text = got->n_text;
    if (got->why == FINISH_CANCELLED) { /* at the end, a part of a character became U+FFFD */
        n_text -= MIN(n_text, 3);
        TRUE_(got->n_ids <= want->n_ids && n_text <= want->n_text);
    } else {
        if (got->n_ids != want->n_ids || got->why != want->why)
            FAIL("sample %d of %d: %zu tokens, %s; alone %zu, %s", i % MOST, i / MOST, got->n_ids,
                 answer_finish_name(got->why), want->n_ids, answer_finish_name(want->why));
        EQ(got->n_text, want->n_text);
        EQ(got->stop, want->stop);
        EQ(got->stop_id, want->stop_id);
    }
    EQ_MEM(got->ids, want->ids, got->n_ids * sizeof got->ids[0]);
    EQ_MEM(got->text, want->text, n_text);
}

static EngineOpts draw_options(const World *w, uint64_t key, int round, int n_blocks, KvType kv) {
    static const int chunks[] = {1, 7, 32, 33, 90};
    EngineOpts o = {.max_seqs = 1 + (int)(u(key, round, 40) * 7),
                    .n_blocks = n_blocks,
                    .kv_type = kv,
                    .prefill_chunk = chunks[(int)(u(key, round, 41) * 5)],
                    .itl_target_ms = 1 + (int)(u(key, round, 42) * 100),
                    .no_prefix = u(key, round, 43) < 0.2,
                    .max_queue = 100};
    double how = u(key, round, 44);
    if (how < 0.35) o.spec_ngram = 1 + (int)(u(key, round, 45) * 3), o.spec_ngram_min = 1;
    else if (how < 0.8) o.draft = w->draft.m;
    if (how < 0.8) o.spec_k = 1 + (int)(u(key, round, 46) * 31);
    return o;
}

static void crowds(const char *arch, uint64_t key) {
    enum { ROUNDS = 10 };
    static Got want[N * MOST], got[N * MOST];
    World w = world_new(arch);
    uint64_t n_right = 0, n_preempted = 0;
    int n_stop = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t k = key + 1000 * (uint64_t)round;
        int n_blocks = 2 + (int)(u(k, 0, 50) * 12);
        KvType kv = (KvType)(round % KV_TYPES);
        memset(want, 0, sizeof want);
        memset(got, 0, sizeof got);
        run(&w,
            (EngineOpts){.max_seqs = 1,
                         .n_blocks = n_blocks,
                         .kv_type = kv,
                         .no_prefix = true,
                         .max_queue = 9},
            k, true, want);
        EngineStats s = run(&w, draw_options(&w, k, round, n_blocks, kv), k, false, got);
        for (int i = 0; i < N * MOST; i++) {
            expect_same(&got[i], &want[i], i);
            n_stop += got[i].stop > 0;
        }
        n_right += s.n_draft_ok;
        n_preempted += s.n_preempted;
    }
    if (n_right < 50 || n_preempted < 1 || n_stop < 5)
        FAIL("%d right guesses, %d preemptions, %d stop strings", (int)n_right, (int)n_preempted,
             n_stop);
    world_free(&w);
}

TEST(crowds_of_llama) { crowds("llama", 5); }
TEST(crowds_of_gpt2) { crowds("gpt2", 6); }
