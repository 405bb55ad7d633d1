/* SPDX-License-Identifier: Apache-2.0
 * The library through its header: what it gives, what it refuses, several threads on one model. */
#include "ingot.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "support/tiny_model.h"
#include "test.h"
#include "token/token.h"

/* ---- a model in a file: bytes and an end of text ---- */

static void with_tokenizer(void *ctx, GgufW *w) { tok_save(ctx, w); }

static const char *model_file(void) {
    static char path[512];
    TokTrainOpts o = {.n_vocab = 257};
    TokTrainer *tr;
    Tokenizer *tok;
    OK_(tok_train_new(&tr, &o, TERR));
    OK_(tok_train_finish(tr, &tok, TERR));
    tok_train_free(tr);
    TinyModel t = tiny_model_new("llama", 257, 512, NULL, 3);
    snprintf(path, sizeof path, "%s/tiny.gguf", test_tmpdir());
    OK_(model_save(t.m, path, with_tokenizer, tok, TERR));
    tiny_model_free(&t);
    tok_free(tok);
    return path;
}

static IngotError err;

/* INGOT_OK, or the test fails with the library's words. */
static void fine(int status) {
    if (status != INGOT_OK) FAIL("%d: %s", status, err.text);
}

static void refused(int want, const char *says, int status) {
    EQ(status, want);
    EQ(err.code, want);
    if (!strstr(err.text, says)) FAIL("\"%s\" does not say \"%s\"", err.text, says);
}

static IngotModel *load(int parallel) {
    IngotModel *m = NULL;
    IngotOptions o = {.size = sizeof o, .threads = 2, .parallel = parallel};
    fine(ingot_load(&m, model_file(), &o, &err));
    return m;
}

/* What a generation told its callback. */
typedef struct Heard {
    char text[2048];
    size_t n, n_sure; /* bytes; before the part that ended it */
    int n_tokens, leave_at;
    double logprob;
    bool terminated;
} Heard;

static int hear(void *ctx, const IngotPart *p) {
    Heard *h = ctx;
    h->terminated = p->text[p->n_text] == '\0';
    for (size_t i = 0; i < p->n_text && h->n + 1 < sizeof h->text; i++)
        h->text[h->n++] = p->text[i];
    h->text[h->n] = '\0';
    if (p->token >= 0) h->n_sure = h->n;
    h->n_tokens += p->token >= 0;
    h->logprob += p->logprob;
    return h->leave_at > 0 && h->n_tokens >= h->leave_at;
}

static IngotRequest request(const char *prompt, int max_tokens, Heard *h) {
    return (IngotRequest){.size = sizeof(IngotRequest),
                          .prompt = prompt,
                          .max_tokens = max_tokens,
                          .on_part = hear,
                          .ctx = h};
}

/* ---- one thread ---- */

TEST(text_becomes_tokens_and_text_again) {
    IngotModel *m = load(1);
    int ids[8];
    size_t n = 0, n_text = 0;
    char text[8];
    EQ(ingot_vocab_size(m), 257);
    EQ(ingot_context(m), 512);
    EQ_STR(ingot_version(), INGOT_VERSION);
    fine(ingot_tokenize(m, "hello", -1, 0, ids, 8, &n, &err));
    EQ(n, 5);
    fine(ingot_detokenize(m, ids, n, text, sizeof text, &n_text, &err));
    EQ(n_text, 5);
    EQ_STR(text, "hello");
    memset(text, 'x', sizeof text);
    fine(
        ingot_detokenize(m, ids, n, text, 3, &n_text, &err)); /* what fits, and how much there is */
    EQ(n_text, 5);
    EQ_MEM(text, "helxx", 5);
    fine(ingot_detokenize(m, ids, n, NULL, 0, &n_text, NULL));
    EQ(n_text, 5);
    fine(ingot_tokenize(m, "hello world", 7, 0, ids, 2, &n, &err));
    EQ(n, 7);
    fine(ingot_tokenize(m, "<|endoftext|>", -1, INGOT_SPECIAL, NULL, 0, &n, &err));
    EQ(n, 1);
    fine(ingot_tokenize(m, "<|endoftext|>", -1, 0, NULL, 0, &n, &err));
    EQ(n, 13);
    fine(ingot_tokenize(m, "", -1, INGOT_BEGIN, NULL, 0, &n, &err));
    EQ(n, 0);
    ids[0] = 257;
    refused(INGOT_ARG, "257", ingot_detokenize(m, ids, 1, text, 8, &n_text, &err));
    ingot_free(m);
}

TEST(a_generation_says_what_it_took) {
    IngotModel *m = load(1);
    Heard h = {0}, again = {0};
    IngotRequest r = request("hello world", 30, &h);
    IngotResult res = {.size = sizeof res};
    r.ignore_end = 1;
    r.logprobs = 1;
    fine(ingot_generate(m, &r, &res, &err));
    EQ(res.finish, INGOT_FINISH_LENGTH);
    EQ(res.prompt_tokens, 11);
    EQ(res.tokens, 30);
    EQ(res.stop_text, -1);
    EQ(res.stop_token, -1);
    EQ(res.cached_tokens, 0);
    EQ(h.n_tokens, 30);
    TRUE_(h.terminated);
    TRUE_(h.logprob < 0);
    int ids[16];
    size_t n;
    fine(ingot_tokenize(m, "hello world", -1, 0, ids, 16, &n, &err));
    r.prompt = NULL;
    r.ids = ids;
    r.n_ids = n;
    r.ctx = &again;
    fine(ingot_generate(m, &r, NULL, NULL));
    EQ_STR(again.text, h.text);
    r.on_part = NULL;
    r.max_tokens = 0; /* to the end of the context */
    fine(ingot_generate(m, &r, &res, &err));
    EQ(res.tokens, 512 - 11);
    EQ(res.finish, INGOT_FINISH_LENGTH);
    ingot_free(m);
}

TEST(forms_and_stop_texts_hold) {
    IngotModel *m = load(1);
    Heard h = {0};
    IngotRequest r = request("x", 60, &h);
    IngotResult res = {.size = sizeof res};
    const char *stop[] = {"never", "b"};
    r.regex = "aab[0-9]{3}";
    r.temperature = 1;
    fine(ingot_generate(m, &r, &res, &err));
    EQ(h.n, 6);
    EQ_MEM(h.text, "aab", 3);
    EQ(res.finish, INGOT_FINISH_STOP);
    h = (Heard){0};
    r.stop = stop;
    r.n_stop = 2;
    fine(ingot_generate(m, &r, &res, &err));
    EQ_STR(h.text, "aa");
    EQ(res.stop_text, 1);
    EQ(res.finish, INGOT_FINISH_STOP);
    h = (Heard){0};
    r.include_stop = 1;
    fine(ingot_generate(m, &r, &res, &err));
    EQ_STR(h.text, "aab");
    h = (Heard){0};
    r.n_stop = 0;
    r.regex = NULL;
    r.schema = "{\"enum\": [\"only\"]}";
    fine(ingot_generate(m, &r, &res, &err));
    EQ_STR(h.text, "\"only\"");
    r.schema = NULL;
    r.grammar = "root ::= \"yes\"";
    h = (Heard){0};
    fine(ingot_generate(m, &r, &res, &err));
    EQ_STR(h.text, "yes");
    ingot_free(m);
}

/* Answers of one prompt, part by part. */
typedef struct Several {
    char text[4][256];
    size_t n[4];
    int n_parts, leave_at;
} Several;

static int hear_several(void *ctx, const IngotPart *p) {
    Several *s = ctx;
    if (p->sample < 0 || p->sample > 3 || s->n[p->sample] + p->n_text >= 256) return 1;
    memcpy(s->text[p->sample] + s->n[p->sample], p->text, p->n_text);
    s->n[p->sample] += p->n_text;
    return ++s->n_parts == s->leave_at;
}

TEST(several_answers_of_one_prompt) {
    IngotModel *m = load(2); /* two of them wait */
    Several s = {.n_parts = 0}, alone = {.n_parts = 0};
    IngotRequest r = request("hello world", 20, NULL);
    IngotResult res[4] = {{.size = sizeof res[0]}}, one = {.size = sizeof one};
    r.on_part = hear_several;
    r.ctx = &s;
    r.temperature = 1.5;
    r.seed = 5;
    r.samples = 4;
    r.regex = "[a-z]{20}";
    fine(ingot_generate(m, &r, res, &err));
    for (int i = 0; i < 4; i++) {
        EQ(res[i].size, sizeof res[i]);
        EQ(res[i].finish, res[0].finish);
        EQ(res[i].tokens, 20);
        EQ(s.n[i], 20);
        for (int k = 0; k < i; k++) TRUE_(memcmp(s.text[i], s.text[k], 20) != 0);
    }
    r.samples =
        0; /* the first is what one alone is; a program of the first version says no number */
    r.size = offsetof(IngotRequest, samples);
    r.ctx = &alone;
    fine(ingot_generate(m, &r, &one, &err));
    EQ_MEM(alone.text[0], s.text[0], 20);
    r.size = sizeof r;
    r.samples = 4;
    s = (Several){.leave_at = 30};
    r.ctx = &s;
    fine(ingot_generate(m, &r, res, &err));
    EQ(s.n_parts, 30);
    int n_left = 0;
    for (int i = 0; i < 4; i++) n_left += res[i].finish == INGOT_FINISH_CANCELLED;
    TRUE_(n_left >= 3);
    r.samples = 129;
    refused(INGOT_ARG, "129", ingot_generate(m, &r, res, &err));
    r.samples = -1;
    refused(INGOT_ARG, "-1", ingot_generate(m, &r, res, &err));
    ingot_free(m);
}

TEST(what_is_wrong_is_said) {
    IngotModel *m = NULL, *none = NULL;
    IngotOptions o = {0};
    refused(INGOT_NOT_FOUND, "nowhere.gguf", ingot_load(&m, "/nowhere.gguf", NULL, &err));
    refused(INGOT_ARG, "sizeof(IngotOptions)", ingot_load(&m, model_file(), &o, &err));
    o.size = sizeof o;
    o.cpu = "z80";
    EQ(ingot_load(&m, model_file(), &o, &err) == INGOT_OK, 0);
    o.cpu = NULL;
    o.context = 100000;
    refused(INGOT_ARG, "100000", ingot_load(&m, model_file(), &o, &err));
    o.context = 0;
    o.threads = -1;
    refused(INGOT_ARG, "threads -1", ingot_load(&m, model_file(), &o, &err));
    o.threads = 1;
    o.kv_type = 3;
    refused(INGOT_ARG, "kv_type 3", ingot_load(&m, model_file(), &o, &err));
    o.kv_type = INGOT_KV_Q8_0;
    o.no_grammars = 1;
    TRUE_(m == NULL);
    fine(ingot_load(&m, model_file(), &o, &err));
    Heard h = {0};
    IngotRequest r = request("x", 5, &h);
    IngotResult res = {0};
    const char *stops[17] = {"a", ""};
    refused(INGOT_ARG, "sizeof(IngotResult)", ingot_generate(m, &r, &res, &err));
    r.regex = "a";
    refused(INGOT_ARG, "no_grammars", ingot_generate(m, &r, NULL, &err));
    r.schema = "{}";
    refused(INGOT_ARG, "give one", ingot_generate(m, &r, NULL, &err));
    r.schema = r.regex = NULL;
    r.stop = stops;
    r.n_stop = 2;
    refused(INGOT_ARG, "stop string 1 is empty", ingot_generate(m, &r, NULL, &err));
    r.n_stop = 17;
    refused(INGOT_ARG, "17", ingot_generate(m, &r, NULL, &err));
    r.n_stop = 2;
    stops[1] = NULL;
    refused(INGOT_ARG, "stop 1 is NULL", ingot_generate(m, &r, NULL, &err));
    r.stop = NULL;
    refused(INGOT_ARG, "stop is NULL", ingot_generate(m, &r, NULL, &err));
    r.n_stop = 0;
    refused(INGOT_ARG, "IngotRequest: it is NULL", ingot_generate(m, NULL, NULL, &err));
    refused(INGOT_ARG, "path is NULL", ingot_load(&none, NULL, NULL, &err));
    r.temperature = -1;
    refused(INGOT_ARG, "temperature", ingot_generate(m, &r, NULL, &err));
    r.temperature = 0;
    r.max_tokens = -3;
    refused(INGOT_ARG, "-3", ingot_generate(m, &r, NULL, &err));
    r.max_tokens = 5;
    r.prompt = "";
    refused(INGOT_ARG, "empty", ingot_generate(m, &r, NULL, &err));
    r.prompt = NULL;
    refused(INGOT_ARG, "prompt or ids", ingot_generate(m, &r, NULL, &err));
    r.ids = (const int[]){5, 99999};
    r.n_ids = 2;
    refused(INGOT_ARG, "99999", ingot_generate(m, &r, NULL, &err));
    r.size = 8;
    refused(INGOT_ARG, "sizeof(IngotRequest)", ingot_generate(m, &r, NULL, &err));
    EQ(h.n_tokens, 0);
    ingot_free(m);
    ingot_free(NULL);
    ingot_cancel_free(NULL);
}

/* ---- leaving ---- */

TEST(a_callback_may_leave_and_time_runs_out) {
    IngotModel *m = load(1);
    Heard h = {.leave_at = 5};
    IngotRequest r = request("hello", 400, &h);
    IngotResult res = {.size = sizeof res};
    r.ignore_end = 1;
    fine(ingot_generate(m, &r, &res, &err));
    EQ(res.finish, INGOT_FINISH_CANCELLED);
    EQ(h.n_tokens, 5);
    TRUE_(res.tokens >= 5); /* more than were heard are made before the engine hears of it */
    r.on_part = NULL;
    r.timeout_s = 1e-6;
    fine(ingot_generate(m, &r, &res, &err));
    EQ(res.finish, INGOT_FINISH_TIMEOUT);
    ingot_free(m);
}

static _Atomic int n_begun;

static int begin(void *ctx, const IngotPart *p) {
    (void)p;
    atomic_fetch_add((_Atomic int *)ctx, 1);
    return 0;
}

static void *cancel_when_begun(void *ctx) {
    for (int i = 0; i < 20000 && atomic_load(&n_begun) < 3; i++) usleep(100);
    ingot_cancel(ctx);
    return NULL;
}

TEST(another_thread_cancels_all_that_run_with_its_handle) {
    IngotModel *m = load(1);
    IngotCancel *c = ingot_cancel_new();
    Heard h = {0};
    pthread_t t;
    IngotRequest r = request("hello", 0, &h);
    IngotResult res = {.size = sizeof res};
    atomic_store(&n_begun, 0);
    r.on_part = begin;
    r.ctx = (void *)&n_begun;
    r.ignore_end = 1;
    r.cancel = c;
    EQ(pthread_create(&t, NULL, cancel_when_begun, c), 0);
    int status = ingot_generate(m, &r, &res, &err);
    pthread_join(t, NULL);
    fine(status);
    TRUE_(res.finish == INGOT_FINISH_CANCELLED || res.tokens == 507);
    fine(ingot_generate(m, &r, &res, &err)); /* a handle stays cancelled */
    EQ(res.finish, INGOT_FINISH_CANCELLED);
    TRUE_(res.tokens < 100);
    r.cancel = NULL;
    r.max_tokens = 3;
    fine(ingot_generate(m, &r, &res, &err));
    EQ(res.finish, INGOT_FINISH_LENGTH);
    ingot_cancel_free(c);
    ingot_free(m);
}

/* ---- two threads on one model ---- */

enum { ROUNDS = 12 };

typedef struct Worker {
    IngotModel *m;
    const char *prompt;
    Heard alone; /* what it is to hear each time */
    int n_wrong, n_failed;
} Worker;

static void *work(void *ctx) {
    Worker *w = ctx;
    for (int i = 0; i < ROUNDS; i++) {
        Heard h = {0};
        int ids[64];
        size_t n = 0;
        IngotRequest r = request(w->prompt, 40, &h);
        w->n_failed += ingot_generate(w->m, &r, NULL, NULL) != INGOT_OK;
        w->n_wrong += strcmp(h.text, w->alone.text) != 0;
        w->n_failed += ingot_tokenize(w->m, w->prompt, -1, 0, ids, 64, &n, NULL) != INGOT_OK;
        w->n_wrong += n != strlen(w->prompt);
    }
    return NULL;
}

TEST(two_threads_generate_on_one_model) {
    size_t before = mem_live_bytes();
    IngotModel *m = NULL;
    IngotOptions o = {.size = sizeof o, .threads = 2, .parallel = 4, .batch_invariant = 1};
    fine(ingot_load(&m, model_file(), &o, &err));
    static Worker w[2];
    pthread_t t[2];
    for (int i = 0; i < 2; i++) {
        w[i] = (Worker){.m = m, .prompt = i ? "the second one" : "first"};
        IngotRequest r = request(w[i].prompt, 40, &w[i].alone);
        fine(ingot_generate(m, &r, NULL, &err));
        EQ(w[i].alone.n_tokens > 0, 1);
    }
    for (int i = 0; i < 2; i++) EQ(pthread_create(&t[i], NULL, work, &w[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < 2; i++) {
        EQ(w[i].n_failed, 0);
        EQ(w[i].n_wrong, 0);
    }
    ingot_free(m);
    EQ(mem_live_bytes(), before);
}

/* A callback that asks for a text itself. */
static int ask_again(void *ctx, const IngotPart *p) {
    Worker *w = ctx;
    Heard h = {0};
    IngotRequest r = request("inner", 3, &h);
    (void)p;
    w->n_failed += ingot_generate(w->m, &r, NULL, NULL) != INGOT_OK;
    return ++w->n_wrong >= 3;
}

TEST(a_callback_may_generate) { /* with one place, too: nothing holds the outer one up */
    IngotModel *m = load(1);
    Worker w = {.m = m};
    IngotRequest r = request("outer", 20, NULL);
    r.on_part = ask_again;
    r.ctx = &w;
    fine(ingot_generate(m, &r, NULL, &err));
    EQ(w.n_failed, 0);
    EQ(w.n_wrong, 3);
    ingot_free(m);
}

/* ---- many threads ---- */

enum { CROWD = 6, KINDS = 8 };

typedef struct Member {
    IngotModel *m;
    IngotCancel *cancel[2]; /* one for all, one for each */
    int i, n_failed, n_cut, n_wrong;
    const Heard *want; /* [KINDS] */
} Member;

static IngotRequest of_kind(int kind, Heard *h) {
    static const char *const stop[] = {"zz", "q"};
    IngotRequest r = request(kind % 2 ? "a longer beginning that is shared, then" : "short", 30, h);
    r.seed = (unsigned long)kind;
    r.temperature = kind % 3 ? 0.9 : 0;
    if (kind == 2) r.regex = "[a-f]{3,20}";
    if (kind == 3) r.schema = "{\"type\": \"boolean\"}";
    if (kind == 4) r.repetition = 1.3;
    if (kind == 5) r.logprobs = 1;
    if (kind == 6) r.stop = stop, r.n_stop = 2;
    if (kind == 7) r.ignore_end = 1;
    return r;
}

static void *crowd(void *ctx) {
    Member *w = ctx;
    for (int i = 0; i < 3 * KINDS; i++) {
        Heard h = {0};
        IngotRequest r = of_kind((i + w->i) % KINDS, &h);
        IngotResult res = {.size = sizeof res};
        if (i % 5 == 1) h.leave_at = 1 + i;
        if (i % 7 == 3) r.timeout_s = 1e-4 * (i + 1);
        if (i % 4 == 2) r.cancel = w->cancel[i > 2 * KINDS];
        if (i == KINDS * w->i / 2) ingot_cancel(w->cancel[0]);
        if (i == 2 * KINDS + 5) ingot_cancel(w->cancel[1]);
        if (ingot_generate(w->m, &r, &res, NULL) != INGOT_OK) w->n_failed++;
        bool whole = res.finish == INGOT_FINISH_STOP || res.finish == INGOT_FINISH_LENGTH;
        w->n_cut += !whole;
        const Heard *want = &w->want[(i + w->i) % KINDS];
        w->n_wrong += memcmp(h.text, want->text, whole ? h.n : h.n_sure) != 0;
        w->n_wrong += whole && h.n != want->n;
    }
    return NULL;
}

/* All kinds of requests from many threads, some of which leave, are cancelled or run out of time. */
TEST(a_crowd_hears_what_each_hears_alone) {
    static Heard want[KINDS];
    IngotModel *m = NULL;
    IngotOptions o = {.size = sizeof o, .threads = 2, .parallel = 3, .batch_invariant = 1};
    pthread_t t[CROWD];
    Member w[CROWD];
    fine(ingot_load(&m, model_file(), &o, &err));
    for (int i = 0; i < KINDS; i++) {
        want[i] = (Heard){0};
        IngotRequest r = of_kind(i, &want[i]);
        fine(ingot_generate(m, &r, NULL, &err));
    }
    IngotCancel *all = ingot_cancel_new();
    for (int i = 0; i < CROWD; i++) {
        w[i] = (Member){.m = m, .cancel = {all, ingot_cancel_new()}, .i = i, .want = want};
        EQ(pthread_create(&t[i], NULL, crowd, &w[i]), 0);
    }
    for (int i = 0; i < CROWD; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < CROWD; i++) {
        ingot_cancel_free(w[i].cancel[1]);
        EQ(w[i].n_failed, 0);
        EQ(w[i].n_wrong, 0);
        TRUE_(w[i].n_cut > 0);
    }
    ingot_cancel_free(all);
    ingot_free(m);
}

/* ---- memory ---- */

TEST(any_failed_allocation_is_said_and_leaks_nothing) {
    const char *path = model_file();
    size_t before = mem_live_bytes();
    int n_load = 0, n_generate = 0;
    IngotOptions o = {.size = sizeof o, .threads = 1};
    for (uint64_t n = 1;; n++) {
        IngotModel *m = NULL;
        Heard h = {0};
        IngotRequest r = request("hello", 4, &h);
        const char *stop[] = {"never there"};
        r.stop = stop;
        r.n_stop = 1;
        fault_arm(FAULT_ALLOC, n);
        int loaded = ingot_load(&m, path, &o, &err);
        int made = loaded == INGOT_OK ? ingot_generate(m, &r, NULL, &err) : INGOT_OK;
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        n_load += loaded != INGOT_OK;
        n_generate += made != INGOT_OK;
        if (loaded != INGOT_OK) TRUE_(m == NULL && err.text[0]);
        if (made != INGOT_OK) EQ(made, INGOT_NOMEM);
        ingot_free(m);
        EQ(mem_live_bytes(), before);
        if (!fired) break;
        TRUE_(n < 5000);
    }
    TRUE_(n_load > 20 && n_generate > 4);
}
