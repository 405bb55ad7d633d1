/* SPDX-License-Identifier: Apache-2.0
 * Adapters in the engine: a request gets the tokens it gets alone, whichever adapters stand beside it; what was
 * computed with one content is never found under another; loading and unloading while others generate. */
#include <pthread.h>
#include <stdio.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "support/lora_build.h"
#include "support/tiny_model.h"
#include "test.h"

enum { V = 101, CTX = 256, N = 40, NEW = 72, LORAS = 3 };

typedef struct Client {
    int32_t prompt[CTX], ids[NEW];
    int n_prompt, n, max_new;
    const char *adapter;
    double scale;
    FinishReason why;
} Client;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int n_over;
static bool hold; /* the engine waits in on_token */

static void on_token(void *ctx, const SampleOut *t) {
    Client *c = ctx;
    c->ids[c->n++] = t->id;
    pthread_mutex_lock(&mu);
    pthread_cond_broadcast(&changed);
    while (hold) pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
}

static void on_done(void *ctx, FinishReason why, const Err *e) {
    (void)e;
    pthread_mutex_lock(&mu);
    ((Client *)ctx)->why = why;
    n_over++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mu);
}

static void set_hold(bool on) {
    pthread_mutex_lock(&mu);
    hold = on;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mu);
}

static void wait_over(int n) {
    pthread_mutex_lock(&mu);
    while (n_over < n) pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
}

static Status submit(Engine *en, Client *c, Err *e) {
    EngineReq r = {.prompt = c->prompt,
                   .n_prompt = c->n_prompt,
                   .max_new = c->max_new ? c->max_new : NEW,
                   .sample = {.top_p = 1},
                   .adapter = c->adapter,
                   .adapter_scale = c->scale,
                   .on_token = on_token,
                   .on_done = on_done,
                   .ctx = c};
    return engine_submit(en, &r, NULL, e);
}

static void generate(Engine *en, Client *c) {
    c->n = 0;
    n_over = 0;
    OK_(submit(en, c, TERR));
    wait_over(1);
}

static const char *const names[LORAS] = {"one", "two", "three"};

static const char *file_of(int i) {
    static char path[8][512];
    snprintf(path[i], sizeof path[i], "%s/%d.gguf", test_tmpdir(), i);
    return path[i];
}

static void make_files(const Model *m) {
    for (int i = 0; i < LORAS; i++) {
        LoraSpec s = {.seed = 40 + (uint64_t)i, .rank = 1 + 3 * i, .alpha = 6, .no_output = i > 0};
        lora_build_file(file_of(i), m, &s);
    }
}

static Engine *engine_up(TinyModel *t, EngineOpts o) {
    Engine *en = NULL;
    o.check = true;
    o.max_loras = LORAS;
    o.max_lora_rank = 9;
    o.lora_bytes = 1 << 20;
    OK_(engine_new(&en, t->m, &o, TERR));
    for (int i = 0; i < LORAS; i++)
        OK_(engine_adapter_load(en, names[i], file_of(i), i ? 1 : 0.5, TERR));
    return en;
}

/* ---- alone and among others ---- */

/* Most prompts begin alike, also those of different adapters; a third goes without one. */
static void clients(Client *c) {
    for (int i = 0; i < N; i++) {
        uint64_t u = (uint64_t)i;
        int pick = (int)(rng_uniform(3, 1, u) * 4.5);
        c[i] = (Client){.n_prompt = 1 + (int)(rng_uniform(3, 2, u) * 150),
                        .adapter = pick < LORAS ? names[pick] : NULL,
                        .scale = i % 4 == 0 ? -0.75 : 0};
        for (int k = 0; k < c[i].n_prompt; k++)
            c[i].prompt[k] =
                (int32_t)(rng_uniform(5, i % 3 && k < 70 ? 7 : 100 + u, (uint64_t)k) * V);
    }
}

static EngineStats run(TinyModel *t, Client *c, EngineOpts o, int at_once) {
    Engine *en = engine_up(t, o);
    clients(c);
    n_over = 0;
    for (int i = 0; i < N; i++) {
        OK_(submit(en, &c[i], TERR));
        if ((i + 1) % at_once == 0) wait_over(i + 1);
    }
    wait_over(N);
    EngineAdapter list[LORAS];
    EQ(engine_adapter_list(en, list, LORAS), LORAS);
    EngineStats s = engine_stats(en);
    engine_free(en);
    for (int i = 0; i < LORAS; i++) EQ(list[i].n_requests, 0);
    return s;
}

static void alone_or_among_others(const char *arch) {
    static Client alone[N], other[N], base[N];
    static const int chunks[] = {1, 33, 256};
    uint64_t n_hit = 0, n_preempted = 0;
    int n_moved = 0;
    TinyModel t = tiny_model_invariant(arch, V, CTX, NULL, 3);
    make_files(t.m);
    run(&t, alone, (EngineOpts){.max_seqs = 1, .no_prefix = true}, 1);
    for (size_t k = 0; k < COUNT_OF(chunks); k++) {
        EngineOpts o = {.max_seqs = 7, .n_blocks = 12, .prefill_chunk = chunks[k]};
        EngineStats s = run(&t, other, o, N);
        n_hit += s.n_hit_tok;
        n_preempted += s.n_preempted;
        for (int i = 0; i < N; i++) {
            EQ(other[i].why, FINISH_LENGTH);
            EQ_MEM(other[i].ids, alone[i].ids, sizeof alone[i].ids);
        }
    }
    if (n_hit < 100 || n_preempted < 3)
        FAIL("%d tokens found, %d requests preempted", (int)n_hit, (int)n_preempted);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 1});
    clients(base);
    for (int i = 0; i < N; i++) {
        base[i].adapter = NULL;
        generate(en, &base[i]);
        bool moved = memcmp(base[i].ids, alone[i].ids, sizeof base[i].ids) != 0;
        if (!alone[i].adapter) FALSE_(moved);
        n_moved += moved;
    }
    TRUE_(n_moved > N / 2); /* adapters do change what is written */
    engine_free(en);
    tiny_model_free(&t);
}

/* A draft model guesses without the adapter, the model with it says what is right: the text is that without guesses.
 * Here the two agree where the adapter changes little, and no more than that. */
TEST(guesses_without_the_adapter_change_nothing) {
    static Client want, got;
    TinyModel t = tiny_model_invariant("llama", V, CTX, NULL, 3),
              d = tiny_model_invariant("llama", V, CTX, NULL, 3);
    make_files(t.m);
    uint64_t right[2] = {0};
    for (int strong = 0; strong < 2; strong++) {
        want = (Client){.n_prompt = 30, .adapter = "two", .scale = strong ? 1 : 0.05};
        for (int k = 0; k < want.n_prompt; k++) want.prompt[k] = 7 * k % V;
        got = want;
        Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 1});
        generate(en, &want);
        engine_free(en);
        for (int k = 0; k < 2; k++) { /* a draft model, then the text itself */
            EngineOpts o = {.max_seqs = 1, .spec_k = 4};
            if (k == 0) o.draft = d.m;
            else o.spec_ngram = 2, o.spec_ngram_min = 1;
            en = engine_up(&t, o);
            generate(en, &got);
            EngineStats s = engine_stats(en);
            engine_free(en);
            EQ(got.n, want.n);
            EQ_MEM(got.ids, want.ids, sizeof got.ids);
            TRUE_(s.n_draft_tok > 0);
            if (k == 0) right[strong] = s.n_draft_ok;
        }
    }
    TRUE_(right[0] > right[1]);
    tiny_model_free(&d);
    tiny_model_free(&t);
}

TEST(every_adapter_as_alone_llama) { alone_or_among_others("llama"); }
TEST(every_adapter_as_alone_gpt2) { alone_or_among_others("gpt2"); }

/* ---- the prefix cache ---- */

static uint64_t hits(const Engine *en) { return engine_stats(en).n_hit_tok; }

/* users saw text of the adapter that had the name before */
TEST(reloading_a_name_finds_nothing_of_the_old_content) {
    TinyModel t = tiny_model_invariant("llama", V, CTX, NULL, 3);
    make_files(t.m);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 2});
    Client c = {.n_prompt = 100, .adapter = "one"}, first, other;
    for (int i = 0; i < c.n_prompt; i++) c.prompt[i] = (i * 7) % V;
    generate(en, &c);
    first = c;
    EQ(hits(en), 0);
    generate(en, &c);
    EQ(hits(en), 96); /* found under the same version */
    OK_(engine_adapter_unload(en, "one", TERR));
    OK_(engine_adapter_load(en, "one", file_of(1), 0.5, TERR));
    generate(en, &c);
    other = c;
    EQ(hits(en), 96); /* the name is the same, the content is not */
    TRUE_(memcmp(first.ids, other.ids, sizeof first.ids) != 0);
    OK_(engine_adapter_unload(en, "three", TERR));
    OK_(engine_adapter_load(en, "uno", file_of(0), 0.5, TERR));
    c.adapter = "uno";
    generate(en, &c);
    EQ(hits(en), 192); /* the content is the same, the name is not */
    EQ_MEM(c.ids, first.ids, sizeof first.ids);
    c.scale = 2;
    generate(en, &c);
    c.adapter = NULL;
    generate(en, &c);
    EQ(hits(en), 192); /* another scale, no adapter: nothing shared */
    engine_free(en);
    tiny_model_free(&t);
}

/* A request with an adapter may name a sibling that has another one: nothing is shared. */
TEST(siblings_of_another_adapter_share_nothing) {
    TinyModel t = tiny_model_invariant("llama", V, CTX, NULL, 3);
    make_files(t.m);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 2});
    Client a = {.n_prompt = 40, .adapter = "one"}, b = a, want;
    b.adapter = want.adapter = "two";
    uint64_t id = 0;
    want = b;
    generate(en, &want);
    EngineReq r = {.prompt = a.prompt, .n_prompt = 40, .max_new = NEW, .sample = {.top_p = 1}};
    r.on_token = on_token;
    r.on_done = on_done;
    n_over = 0;
    r.adapter = "one";
    r.ctx = &a;
    OK_(engine_submit(en, &r, &id, TERR));
    r.adapter = "two";
    r.ctx = &b;
    r.sibling = id;
    OK_(engine_submit(en, &r, NULL, TERR));
    wait_over(2);
    EQ_MEM(b.ids, want.ids, sizeof b.ids);
    engine_free(en);
    tiny_model_free(&t);
}

/* ---- loading, unloading ---- */

TEST(refusals) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 3);
    TinyModel g = tiny_model_new("gpt2", V, CTX, NULL, 3);
    make_files(t.m);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 1}), *none = NULL;
    char name[ENGINE_ADAPTER_NAME + 1];
    Client c = {.n_prompt = 3, .adapter = "four"};
    memset(name, 'x', sizeof name);
    name[ENGINE_ADAPTER_NAME] = 0;
    FAILS(ERR_NOT_FOUND, submit(en, &c, TERR));
    c.adapter = "one";
    c.scale = 1e7;
    FAILS(ERR_ARG, submit(en, &c, TERR));
    FAILS(ERR_ARG, engine_adapter_load(en, "one", file_of(0), 1, TERR));
    FAILS(ERR_FULL, engine_adapter_load(en, "four", file_of(0), 1, TERR));
    FAILS(ERR_ARG, engine_adapter_load(en, "", file_of(0), 1, TERR));
    FAILS(ERR_ARG, engine_adapter_load(en, name, file_of(0), 1, TERR));
    FAILS(ERR_NOT_FOUND, engine_adapter_load(en, "four", "/no/such/file", 1, TERR));
    FAILS(ERR_NOT_FOUND, engine_adapter_unload(en, "four", TERR));
    OK_(engine_adapter_unload(en, "two", TERR));
    FAILS(ERR_ARG, engine_adapter_load(en, "four", file_of(0), 0.0 / 0.0, TERR));
    lora_build_file(file_of(3), g.m, &(LoraSpec){.seed = 1, .rank = 2});
    FAILS(ERR_FORMAT, engine_adapter_load(en, "four", file_of(3), 1, TERR));
    lora_build_file(file_of(3), t.m, &(LoraSpec){.seed = 1, .rank = 8}); /* 8, 9, 10 */
    FAILS(ERR_ARG, engine_adapter_load(en, "four", file_of(3), 1, TERR));
    lora_build_file(file_of(3), t.m, &(LoraSpec){.seed = 1, .rank = 7});
    OK_(engine_adapter_load(en, "four", file_of(3), 1, TERR));
    engine_free(en);
    EngineOpts o = {.max_seqs = 1, .max_loras = 2, .lora_bytes = 64 << 10};
    OK_(engine_new(&en, t.m, &o, TERR));
    OK_(engine_adapter_load(en, "four", file_of(3), 1, TERR));
    FAILS(ERR_FULL, engine_adapter_load(en, "five", file_of(3), 1, TERR));
    engine_free(en);
    OK_(engine_new(&none, t.m, &(EngineOpts){.max_seqs = 1}, TERR));
    FAILS(ERR_FULL, engine_adapter_load(none, "one", file_of(0), 1, TERR));
    c.scale = 0;
    FAILS(ERR_NOT_FOUND, submit(none, &c, TERR));
    EQ(engine_adapter_list(none, NULL, 0), 0);
    engine_free(none);
    FAILS(ERR_ARG, engine_new(&none, t.m, &(EngineOpts){.max_loras = -1}, TERR));
    FAILS(ERR_ARG,
          engine_new(&none, t.m, &(EngineOpts){.max_loras = 1, .max_lora_rank = 5000}, TERR));
    tiny_model_free(&t);
    tiny_model_free(&g);
}

TEST(what_is_in_use_stays) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 3);
    make_files(t.m);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 1});
    Client runs = {.n_prompt = 5, .adapter = "one"}, waits = {.n_prompt = 5, .adapter = "two"};
    EngineAdapter list[2];
    n_over = 0;
    set_hold(true);
    OK_(submit(en, &runs, TERR));
    OK_(submit(en, &waits, TERR));
    FAILS(ERR_FULL, engine_adapter_unload(en, "one", TERR));
    FAILS(ERR_FULL, engine_adapter_unload(en, "two", TERR));
    OK_(engine_adapter_unload(en, "three", TERR));
    EQ(engine_adapter_list(en, list, 1), 2);
    EQ(list[0].n_requests, 1);
    EQ(engine_adapter_max(en), LORAS);
    do engine_adapter_list(en, list, 2); /* until the first is seen to run */
    while (list[0].n_running == 0 && list[0].n_waiting == 1);
    EQ(list[0].n_running, 1);
    EQ(list[0].n_waiting, 0);
    EQ(list[1].n_running, 0);
    EQ(list[1].n_waiting, 1);
    TRUE_(strcmp(list[0].name, "one") == 0 && list[0].info.rank == 3 && list[0].scale < 0.6);
    set_hold(false);
    wait_over(2);
    OK_(engine_adapter_unload(en, "one", TERR));
    OK_(engine_adapter_unload(en, "two", TERR));
    EQ(engine_adapter_list(en, list, 2), 0);
    engine_free(en);
    tiny_model_free(&t);
}

static bool hold_end; /* the engine waits in on_end */

static void set_hold_end(bool on) {
    pthread_mutex_lock(&mu);
    hold_end = on;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mu);
}

static void on_end(void *ctx, FinishReason why, const Err *e) {
    on_done(ctx, why, e);
    pthread_mutex_lock(&mu);
    while (hold_end) pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
}

static void note(void *ctx, int at, const SampleOut *t) { (void)ctx, (void)at, (void)t; }

/* an adapter that was unloaded when its last request had ended was looked at once more in the same step */
TEST(unloading_in_the_step_that_ended_its_last_request) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 3);
    make_files(t.m);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 3});
    Client first = {.n_prompt = 5, .max_new = 1};
    Client ends = {.n_prompt = 5, .max_new = 1, .adapter = "one"}, asks = {.n_prompt = 9};
    EngineAsk ask = {.prompt_logprobs = true, .on_prompt = note};
    EngineReq r = {.sample = {.top_p = 1}, .on_token = on_token, .on_done = on_end};
    n_over = 0;
    set_hold(true);
    OK_(submit(en, &first, TERR)); /* holds the engine until both others wait: they share a step */
    r.prompt = ends.prompt;
    r.n_prompt = ends.n_prompt;
    r.max_new = 1;
    r.adapter = "one";
    r.ctx = &ends;
    OK_(engine_submit(en, &r, NULL, TERR));
    r = (EngineReq){.prompt = asks.prompt, .n_prompt = 9, .ask = &ask, .on_done = on_done};
    r.ctx = &asks;
    OK_(engine_submit(en, &r, NULL, TERR));
    set_hold_end(true);
    set_hold(false);
    wait_over(2);
    OK_(engine_adapter_unload(en, "one", TERR));
    set_hold_end(false);
    wait_over(3);
    EQ(ends.why, FINISH_LENGTH);
    EQ(asks.why, FINISH_LENGTH);
    engine_free(en);
    tiny_model_free(&t);
}

typedef struct Loader {
    Engine *en;
    _Atomic bool stop;
    int n_loads, n_busy;
} Loader;

static void *load_and_unload(void *ctx) {
    Loader *l = ctx;
    while (!l->stop || l->n_loads < 3) {
        Status st = engine_adapter_unload(l->en, "two", NULL);
        if (st == OK) st = engine_adapter_load(l->en, "two", file_of(1), 1, NULL);
        if (st == OK) l->n_loads++;
        else l->n_busy++;
    }
    return NULL;
}

/* Requests come and go with an adapter that another thread takes away and brings back. */
TEST(loading_beside_generation) {
    TinyModel t = tiny_model_invariant("llama", V, CTX, NULL, 3);
    make_files(t.m);
    static Client c[N];
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 4, .no_prefix = true});
    Loader l = {.en = en};
    pthread_t thread;
    Client alone = {.n_prompt = 9, .adapter = "two"};
    generate(en, &alone);
    n_over = 0;
    EQ(pthread_create(&thread, NULL, load_and_unload, &l), 0);
    for (int i = 0; i < N; i++) {
        c[i] = (Client){.n_prompt = 9, .adapter = i % 2 ? "two" : "one"};
        while (submit(en, &c[i], NULL) != OK) {}
        if (i % 8 == 7) wait_over(i + 1);
    }
    wait_over(N);
    l.stop = true;
    EQ(pthread_join(thread, NULL), 0);
    for (int i = 1; i < N; i += 2) EQ_MEM(c[i].ids, alone.ids, sizeof alone.ids);
    TRUE_(l.n_loads >= 3);
    engine_free(en);
    tiny_model_free(&t);
}

/* ---- memory ---- */

TEST(plan_covers_the_engine_with_its_adapters) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 3);
    make_files(t.m);
    EngineOpts o = {.max_seqs = 4, .max_loras = LORAS, .max_lora_rank = 9, .lora_bytes = 1 << 20};
    size_t plan = 0, without = 0, live = mem_live_bytes();
    OK_(engine_plan_bytes(&plan, &t.m->cfg, &o, TERR));
    Engine *en = engine_up(&t, o);
    Client c = {.n_prompt = 30, .adapter = "one"};
    generate(en, &c);
    TRUE_(mem_live_bytes() - live <= plan + (64 << 10));
    engine_free(en);
    o.max_loras = 0;
    OK_(engine_plan_bytes(&without, &t.m->cfg, &o, TERR));
    TRUE_(plan > without + (1 << 20));
    o = (EngineOpts){.max_seqs = 4, .max_loras = 2};
    OK_(engine_plan_bytes(&plan, &t.m->cfg, &o, TERR));
    TRUE_(plan > without + 2 * lora_bytes(&t.m->cfg, 64));
    tiny_model_free(&t);
}

TEST(a_step_with_adapters_allocates_nothing) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 3);
    make_files(t.m);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 4});
    Client c[4];
    uint64_t n = 0;
    for (int round = 0; round < 2; round++) {
        n_over = 0;
        set_hold(true);
        for (int i = 0; i < 4; i++) {
            c[i] = (Client){.n_prompt = 20, .adapter = i < LORAS ? names[i] : NULL};
            OK_(submit(en, &c[i], TERR));
        }
        n = mem_n_alloc();
        set_hold(false);
        wait_over(4);
    }
    EQ(mem_n_alloc(), n);
    engine_free(en);
    tiny_model_free(&t);
}

TEST(loading_with_failing_allocations) {
    TinyModel t = tiny_model_new("llama", V, CTX, NULL, 3);
    make_files(t.m);
    Engine *en = engine_up(&t, (EngineOpts){.max_seqs = 1});
    OK_(engine_adapter_unload(en, "one", TERR));
    int n_failed = 0;
    size_t live = mem_live_bytes();
    for (int kind = 0; kind < 2; kind++) {
        FaultKind k = kind ? FAULT_IO : FAULT_ALLOC;
        for (uint64_t n = 1;; n++, n_failed++) {
            Err e = {0};
            fault_arm(k, n);
            Status st = engine_adapter_load(en, "one", file_of(0), 1, &e);
            bool fired = fault_fired(k);
            fault_arm(k, 0);
            if (!fired) {
                EQ(st, OK);
                break;
            }
            EQ(st, k == FAULT_IO ? ERR_IO : ERR_NOMEM);
            TRUE_(e.msg[0] != 0);
            EQ(mem_live_bytes(), live);
        }
        OK_(engine_adapter_unload(en, "one", TERR));
    }
    TRUE_(n_failed > 8);
    Client c = {.n_prompt = 3, .adapter = "two"};
    for (uint64_t n = 1;; n++) {
        fault_arm(FAULT_ALLOC, n);
        Status st = submit(en, &c, TERR);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        if (!fired) break;
        EQ(st, ERR_NOMEM);
    }
    engine_free(en);
    tiny_model_free(&t);
}
