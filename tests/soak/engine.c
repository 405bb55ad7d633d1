/* SPDX-License-Identifier: Apache-2.0
 * For a long time (SOAK_S seconds, 60 without it), random requests at an engine with a tiny model and a pool that is
 * too small for them: what routes do not offer, so that server.py cannot ask for it. Grammars of three kinds,
 * priorities, deadlines, siblings, tenants, penalties, questions about the prompt, cancels from anywhere.
 *
 * Passed is a run where every request ends once and as it may; grammars are kept to; the engine is idle in the end,
 * holds no block, and every byte that was allocated since it stood there is given back. Resident memory is sampled
 * each second; after a third of the run (two minutes at most) the median of the last tenth of the samples lies at
 * most 2 MiB above the median of the tenth after that. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "support/tiny_model.h"
#include "test.h"

enum { V = 101, CTX = 384, END = V - 1, SLOTS = 40, MAX_S = 1 << 17, TOLERANCE = 2 << 20 };

typedef struct Slot {
    int32_t prompt[CTX], choice[3][20];
    int n_prompt, n_new, max_new, n_told, n_pooled, n_scored;
    bool busy, digits; /* busy: [mu] */
    int wrong;         /* [mu] once it is not busy, and so are all below */
    FinishReason why;
    Err err;
    uint64_t id;
} Slot;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static Slot slots[SLOTS];
static uint64_t n_drawn;
static double resident[MAX_S]; /* MiB */

static double draw(void) { return rng_uniform(5, 1, n_drawn++); }
static int below(int n) { return (int)(draw() * n); }

/* ---- what comes back ---- */

static void on_token(void *ctx, const SampleOut *t) {
    Slot *s = ctx;
    s->n_new++;
    bool digit = t->id >= 15 && t->id <= 24;
    s->wrong += !s->busy || t->id < 0 || t->id >= V || (s->digits && !digit && t->id != END);
}

static void on_prompt(void *ctx, int at, const SampleOut *t) {
    Slot *s = ctx;
    s->wrong += at != ++s->n_told || t->id != s->prompt[at] || !(t->logprob <= 0);
}

static void on_pooled(void *ctx, const float *x, int n) {
    Slot *s = ctx;
    s->n_pooled++;
    for (int i = 0; i < n; i++) s->wrong += !isfinite(x[i]);
}

static void on_choices(void *ctx, const AskScore *x, int n) {
    Slot *s = ctx;
    double total = 0;
    for (int i = 0; i < n; i++) total += x[i].prob;
    s->wrong += ++s->n_scored != 1 || !(fabs(total - 1) < 1e-9);
}

static void on_done(void *ctx, FinishReason why, const Err *e) {
    Slot *s = ctx;
    pthread_mutex_lock(&mu);
    s->wrong += !s->busy;
    s->why = why;
    if (e) s->err = *e;
    s->busy = false;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mu);
}

/* ---- what is asked ---- */

static Grammar *random_grammar(Slot *s) {
    static const char *const schema =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"enum\":[\"x\","
        "\"y\"]}},\"required\":[\"a\",\"b\"],\"additionalProperties\":false}";
    Grammar *g = NULL;
    char text[80];
    switch (below(3)) {
    case 0: OK_(grammar_from_schema(&g, slice_of(schema), NULL, TERR)); break;
    case 1:
        snprintf(text, sizeof text, "[0-9]{%d,%d}", 1 + below(5), 6 + below(30));
        s->digits = true;
        OK_(grammar_from_regex(&g, slice_of(text), NULL, TERR));
        break;
    default:
        snprintf(text, sizeof text, "root ::= \"(\" (root | [a-z]{1,%d})* \")\"", 1 + below(9));
        OK_(grammar_from_gbnf(&g, slice_of(text), NULL, TERR));
    }
    return g;
}

static void random_sampling(SampleOpts *o) {
    static const int32_t stop[2] = {7, 9};
    *o = (SampleOpts){.temp = below(3) ? 1.5 : 0, .top_p = 1, .seed = n_drawn};
    if (below(4) == 0) o->top_k = 1 + below(50);
    if (below(4) == 0) o->top_p = 0.5;
    if (below(6) == 0) o->repetition = 1.3;
    if (below(6) == 0) o->presence = 0.5;
    if (below(6) == 0) {
        o->stop_ids = stop;
        o->n_stop_ids = 2;
        o->min_tokens = 3;
    }
    o->logprobs = below(4) == 0;
    o->top_logprobs = o->logprobs ? below(5) : 0;
}

static void random_ask(Slot *s, EngineReq *r, EngineAsk *a, AskChoice choices[3]) {
    *a = (EngineAsk){.on_prompt = on_prompt, .on_pooled = on_pooled, .on_choices = on_choices};
    a->prompt_logprobs = below(2);
    a->prompt_top = below(4);
    a->pool = (AskPool)below(4);
    a->normalize = below(2);
    r->ask = a;
    if (below(2)) return;
    for (int i = 0; i < 3; i++) {
        choices[i] = (AskChoice){s->choice[i], 1 + below(19)};
        for (int k = 0; k < choices[i].n; k++) s->choice[i][k] = below(V);
    }
    a->choices = choices;
    a->n_choices = 3;
    r->max_new = 0;
}

static void submit(Engine *en, Slot *s, const Slot *other) {
    static const Sha256 salt = {{7}};
    AskChoice choices[3];
    EngineAsk a;
    *s = (Slot){.n_prompt = 1 + below(below(5) ? 90 : 300), .max_new = 1 + below(60), .busy = true};
    int same = below(120), family = below(3);
    for (int i = 0; i < s->n_prompt; i++)
        s->prompt[i] =
            i < same ? (int32_t)(rng_uniform(6, (uint64_t)family, (uint64_t)i) * V) : below(V);
    EngineReq r = {.prompt = s->prompt,
                   .n_prompt = s->n_prompt,
                   .max_new = s->max_new,
                   .priority = below(5) - 2,
                   .timeout_s = below(20) ? 0 : 0.05,
                   .salt = below(5) ? NULL : &salt,
                   .ignore_end = below(2),
                   .on_token = on_token,
                   .on_done = on_done,
                   .ctx = s};
    random_sampling(&r.sample);
    if (other->id && below(5) == 0) {
        memcpy(s->prompt, other->prompt, sizeof s->prompt);
        r.n_prompt = s->n_prompt = other->n_prompt;
        r.sibling = other->id;
    }
    if (below(3) == 0) random_ask(s, &r, &a, choices);
    else if (below(3) == 0) {
        r.grammar = random_grammar(s);
        r.sample.n_stop_ids =
            0; /* a stop token that is the only one allowed is an error, and rightly so */
        r.sample.min_tokens = 0;
    }
    s->max_new = r.max_new;
    Status st = engine_submit(en, &r, &s->id, TERR);
    if (st == OK) return;
    EQ(st, ERR_FULL);
    grammar_free(r.grammar);
    s->busy = false;
    s->why = FINISH_CANCELLED;
}

/* ---- the run ---- */

/* A slot whose request is over, looked through. */
static Slot *free_slot(void) {
    Slot *s = NULL;
    pthread_mutex_lock(&mu);
    for (;;) {
        int at = below(SLOTS);
        for (int i = 0; i < SLOTS && !s; i++)
            if (!slots[(at + i) % SLOTS].busy) s = &slots[(at + i) % SLOTS];
        if (s) break;
        pthread_cond_wait(&changed, &mu);
    }
    pthread_mutex_unlock(&mu);
    if (s->why == FINISH_ERROR) FAIL("a request ended with: %s", s->err.msg);
    EQ(s->wrong, 0);
    TRUE_(s->n_new <= s->max_new);
    return s;
}

static void wait_idle(Engine *en) {
    pthread_mutex_lock(&mu);
    for (int i = 0; i < SLOTS; i++)
        while (slots[i].busy) pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
    EngineStats s = engine_stats(en);
    EQ(s.n_running + s.n_waiting, 0);
    EQ(s.n_blocks_used, 0);
}

static double resident_mib(void) {
    long size = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    TRUE_(f && fscanf(f, "%ld %ld", &size, &pages) == 2);
    fclose(f);
    return (double)(pages * sysconf(_SC_PAGESIZE)) / (1 << 20);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

static void expect_flat(int n) {
    int warm = MIN(n / 3, 120), tenth = MAX(n / 10, 1);
    double first = median(resident + warm, tenth), last = median(resident + n - tenth, tenth);
    printf("resident: %.2f MiB after the warm-up of %d s, %.2f at the end\n", first, warm, last);
    TRUE_((last - first) * (1 << 20) <= TOLERANCE);
}

static GrammarVocab *vocab_of_chars(void) {
    GrammarVocab *v = NULL;
    static char text[V][2];
    Slice piece[V];
    bool is_end[V] = {false};
    for (int i = 0; i < V; i++) { /* 33 + i: the digits are 15 .. 24 */
        text[i][0] = (char)(i < 94 ? 33 + i : ' ');
        piece[i] = (Slice){text[i], i == END ? 0 : 1};
    }
    is_end[END] = true;
    OK_(grammar_vocab_from_pieces(&v, piece, is_end, V, TERR));
    return v;
}

TEST(random_requests_for_a_long_time) {
    const char *text = getenv("SOAK_S");
    double seconds = text ? atof(text) : 60;
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 1);
    GrammarVocab *v = vocab_of_chars();
    Engine *en = NULL;
    EngineOpts o = {.max_seqs = 6,
                    .n_blocks = 16,
                    .max_queue = 30,
                    .prefill_chunk = 64,
                    .vocab = v,
                    .check = true};
    OK_(engine_new(&en, t.m, &o, TERR));
    for (int i = 0; i < SLOTS; i++) slots[i].why = FINISH_CANCELLED;
    size_t live = mem_live_bytes();
    double t0 = clock_now_s();
    int n = 0;
    uint64_t n_req = 0;
    while (clock_now_s() < t0 + seconds) {
        Slot *s = free_slot();
        submit(en, s, &slots[below(SLOTS)]);
        n_req++;
        if (below(10) == 0) engine_cancel(en, slots[below(SLOTS)].id);
        if (below(4) == 0) nanosleep(&(struct timespec){.tv_nsec = below(2000000)}, NULL);
        if (n < MAX_S && clock_now_s() >= t0 + n) resident[n++] = resident_mib();
    }
    wait_idle(en);
    for (int i = 0; i < 200 && mem_live_bytes() != live; i++) /* a request is freed after its end */
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    EQ(mem_live_bytes(), live);
    const Metrics *m = engine_metrics(en);
    printf("soak of the engine: %.0f s, %llu requests, %llu preemptions, %llu prefix tokens found, "
           "%llu refused, %llu cancelled, %llu too late\n",
           seconds, (unsigned long long)n_req, (unsigned long long)metrics_get(&m->preemptions),
           (unsigned long long)metrics_get(&m->prefix_hits),
           (unsigned long long)metrics_get(&m->refused),
           (unsigned long long)metrics_get(&m->finished[FINISH_CANCELLED]),
           (unsigned long long)metrics_get(&m->finished[FINISH_DEADLINE]));
    expect_flat(n);
    TRUE_(metrics_get(&m->preemptions) > 0);
    engine_free(en);
    grammar_vocab_free(v);
    tiny_model_free(&t);
}
