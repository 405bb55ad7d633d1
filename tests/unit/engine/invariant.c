/* SPDX-License-Identifier: Apache-2.0
 * --batch-invariant: whatever runs beside a request, however its prompt is cut, whether its beginning came from the
 * prefix cache, whether it was preempted: every row of logits has the same bits. A tap between engine and model keeps
 * a hash of each row with its token and position; the set of them has to be the one of all requests alone. */
#include <pthread.h>
#include <stdlib.h>

#include "base/rng.h"
#include "base/sha.h"
#include "engine/internal.h"
#include "kernel/kernel.h"
#include "support/tiny_model.h"
#include "test.h"

enum { V = 101, CTX = 640, N = 24, NEW = 24 };

typedef struct Client {
    int32_t prompt[CTX], ids[NEW];
    int n_prompt, n;
    FinishReason why;
} Client;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int n_over;
static bool held; /* no step is made before all that belong together are there */

static void on_token(void *ctx, const SampleOut *t) {
    Client *c = ctx;
    int32_t id = t->id;
    c->ids[c->n++] = id;
}

static void on_done(void *ctx, FinishReason why, const Err *e) {
    (void)e;
    pthread_mutex_lock(&mu);
    ((Client *)ctx)->why = why;
    n_over++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mu);
}

/* ---- the tap ---- */

enum { ROWS_MOST = 1 << 14 };

typedef struct Tap {
    Model *m;
    KvStore *kv;
    uint64_t row[ROWS_MOST]; /* of token, position and logits */
    int n;
} Tap;

static Status tap_forward(void *ctx, const Batch *b, const float **logits, Err *e) {
    Tap *t = ctx;
    pthread_mutex_lock(&mu);
    while (held) pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
    TRY(model_forward(t->m, t->kv, b, logits, e));
    for (int i = 0; i < b->n_out && t->n < ROWS_MOST; i++) {
        uint64_t place = (uint64_t)(uint32_t)b->tok[b->out[i]] << 32 | (uint32_t)b->pos[b->out[i]];
        t->row[t->n++] = sha_hash64(*logits + (size_t)i * V, V * sizeof(float), place);
    }
    return OK;
}

static void tap_copy(void *ctx, int32_t dst, int32_t src) {
    Tap *t = ctx;
    t->m->dev->ops->kv_copy(t->m->dev, t->kv, dst, src);
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* In order, each once: a preempted request may compute a row again. */
static void tap_sort(Tap *t) {
    int n = 0;
    qsort(t->row, (size_t)t->n, sizeof t->row[0], by_value);
    for (int i = 0; i < t->n; i++)
        if (i == 0 || t->row[i] != t->row[i - 1]) t->row[n++] = t->row[i];
    t->n = n;
}

/* ---- requests ---- */

/* Half of the prompts begin alike. */
static void clients(Client *c) {
    for (int i = 0; i < N; i++) {
        c[i] = (Client){.n_prompt =
                            1 + (int)(rng_uniform(4, 1, (uint64_t)i) * (i % 5 == 0 ? 520 : 150))};
        for (int k = 0; k < c[i].n_prompt; k++) {
            uint64_t key = i % 2 && k < 90 ? 7 : 100 + (uint64_t)i;
            c[i].prompt[k] = (int32_t)(rng_uniform(5, key, (uint64_t)k) * V);
        }
    }
}

static void hold(bool on) {
    pthread_mutex_lock(&mu);
    held = on;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mu);
}

/* All requests in one engine, at_once of them submitted together. */
static EngineStats run(TinyModel *t, Tap *tap, Client *c, EngineOpts o, int at_once) {
    Engine *en = NULL;
    const ModelConfig *mc = &t->m->cfg;
    EngineBack back = {.forward = tap_forward, .kv_copy = tap_copy, .ctx = tap};
    o.check = true;
    o.max_ctx = CTX;
    if (o.n_blocks == 0) o.n_blocks = CTX / KV_BLOCK_TOK;
    tap->m = t->m;
    tap->n = 0;
    tap->kv =
        t->dev->ops->kv_new(t->dev, kv_dtype(o.kv_type), mc->n_layer, o.n_blocks, mc->nkv, mc->hd);
    OK_(model_reserve(t->m, 600, 8, TERR));
    OK_(engine__new_over(&en, mc, &back, &o, TERR));
    clients(c);
    n_over = 0;
    hold(true);
    for (int i = 0; i < N; i++) {
        EngineReq r = {.prompt = c[i].prompt,
                       .n_prompt = c[i].n_prompt,
                       .max_new = NEW,
                       .sample = {.temp = 3, .top_p = 1, .seed = (uint64_t)i},
                       .on_token = on_token,
                       .on_done = on_done,
                       .ctx = &c[i]};
        OK_(engine_submit(en, &r, NULL, TERR));
        if ((i + 1) % at_once != 0) continue;
        hold(false);
        pthread_mutex_lock(&mu);
        while (n_over <= i) pthread_cond_wait(&changed, &mu);
        held = i + 1 < N;
        pthread_mutex_unlock(&mu);
    }
    EngineStats s = engine_stats(en);
    engine_free(en);
    t->dev->ops->kv_free(t->dev, tap->kv);
    tap_sort(tap);
    return s;
}

/* How many rows of logits come out that no request alone has. */
static int strangers(TinyModel *t, KvType kv) {
    static const int chunks[] = {1, 7, 32, 33, 512};
    static Client alone[N], other[N];
    static Tap want, got;
    uint64_t n_hit = 0, n_preempted = 0;
    int n = 0;
    run(t, &want, alone, (EngineOpts){.max_seqs = 1, .no_prefix = true, .kv_type = kv}, 1);
    for (size_t k = 0; k < COUNT_OF(chunks); k++) {
        EngineOpts o = {.max_seqs = 8,
                        .n_blocks = 22,
                        .prefill_chunk = chunks[k],
                        .itl_target_ms = 60000, /* however slow: whole chunks */
                        .kv_type = kv};
        EngineStats s = run(t, &got, other, o, N);
        n_hit += s.n_hit_tok;
        n_preempted += s.n_preempted;
        for (int i = 0; i < got.n; i++)
            n += !bsearch(&got.row[i], want.row, (size_t)want.n, sizeof want.row[0], by_value);
        for (int i = 0; n == 0 && i < N; i++) {
            EQ(other[i].why, alone[i].why);
            EQ_MEM(other[i].ids, alone[i].ids, sizeof alone[i].ids);
        }
    }
    EQ(want.n, N * NEW);
    TRUE_(n_hit > 100 && n_preempted > 0); /* what could have changed bits did happen */
    return n;
}

TEST(alone_or_among_others_to_the_bit) {
    static const char *const levels[] = {"avx2", "avx512", "amx"};
    for (size_t i = 0; i < COUNT_OF(levels); i++) {
        Kern k;
        Err e = {0};
        if (kern_init(&k, levels[i], &e) != OK) continue;
        const char *arch = i ? "gpt2" : "llama";
        TinyModel t = tiny_model_invariant(arch, V, CTX, levels[i], 3);
        EQ(strangers(&t, KV_F16), 0);
        EQ(strangers(&t, KV_Q8_0), 0);
        tiny_model_free(&t);
        t = tiny_model_new(arch, V, CTX, levels[i], 3); /* and this would be seen */
        TRUE_(strangers(&t, KV_F16) > 0);
        tiny_model_free(&t);
    }
}
