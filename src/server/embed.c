/* SPDX-License-Identifier: Apache-2.0
 * Embeddings: from texts to pooled states, and the answer with them. */
#include "server/embed.h"

#include <math.h>
#include <stdatomic.h>

#include "base/clock.h"

#include "server/prepare.h"

enum { SIDE_BY_SIDE = 16 };

/* One text. */
typedef struct Text {
    Pooled *p;
    TokBuf ids;
    uint64_t id; /* of its request */
    bool submitted;
    _Atomic bool over;
    Err err; /* before over */
    float *x;
} Text;

struct Pooled {
    PooledOpts o;        /* [const] */
    double t_start;      /* [const] */
    _Atomic int n_refs;  /* [atomic] the job and requests that run */
    _Atomic int n_over;  /* [atomic] texts that ended, with a state or an error */
    _Atomic bool failed; /* [atomic] one of them with an error */
    int n_sent;          /* [net] after preparing; texts submitted, in order */
    float *x;            /* owned; [n][width] */
    Text text[];
};

static void unref(Pooled *p) {
    if (atomic_fetch_sub(&p->n_refs, 1) != 1) return;
    for (int i = 0; i < p->o.n; i++) tokbuf_deinit(&p->text[i].ids);
    mem_free(p->x);
    mem_free(p);
}

Status pooled_new(Pooled **out, const PooledOpts *o, Err *e) {
    size_t floats, bytes;
    Pooled *p = NULL;
    if (mem_mul(&floats, (size_t)o->n, (size_t)o->width) &&
        mem_mul(&bytes, (size_t)o->n, sizeof(Text)) && mem_add(&bytes, bytes, sizeof *p))
        p = mem_alloc_n(1, bytes);
    if (p) p->x = mem_new_n(float, floats);
    if (!p || !p->x) {
        mem_free(p);
        return err_set(e, ERR_NOMEM, "embeddings of %d texts", o->n);
    }
    p->o = *o;
    p->t_start = clock_now_s();
    atomic_init(&p->n_refs, 1);
    for (int i = 0; i < o->n; i++) {
        p->text[i].p = p;
        p->text[i].x = p->x + (size_t)i * (size_t)o->width;
    }
    *out = p;
    return OK;
}

void pooled_set(Pooled *p, int i, TokBuf *ids) {
    p->text[i].ids = *ids;
    *ids = (TokBuf){0};
}

/* ---- engine's thread ---- */

static void on_pooled(void *ctx, const float *x, int n) {
    Text *t = ctx;
    memcpy(t->x, x, (size_t)MIN(n, t->p->o.width) * sizeof *x);
}

static void text_over(Text *t) {
    Pooled *p = t->p;
    if (t->err.code != OK) atomic_store(&p->failed, true);
    atomic_store(&t->over, true);
    atomic_fetch_add(&p->n_over, 1);
}

static void on_done(void *ctx, FinishReason why, const Err *e) {
    Text *t = ctx;
    Pooled *p = t->p;
    if (why == FINISH_ERROR) t->err = e ? *e : (Err){.code = ERR_INTERNAL};
    if (why == FINISH_CANCELLED) t->err = (Err){.code = ERR_CANCELLED, .msg = "cancelled"};
    if (why == FINISH_DEADLINE) t->err = (Err){.code = ERR_TIMEOUT, .msg = "inference timeout"};
    text_over(t);
    p->o.wake(p->o.wake_ctx);
    unref(p);
}

/* ---- the job's side ---- */

/* Of the time of all texts; a moment where it is over, which then says so. */
static double time_left(const Pooled *p) {
    if (p->o.timeout_s <= 0) return 0;
    return MAX(p->o.timeout_s - (clock_now_s() - p->t_start), 1e-3);
}

static void submit(Pooled *p, Text *t) {
    EngineAsk want = {.pool = p->o.pool, .normalize = p->o.normalize, .on_pooled = on_pooled};
    EngineReq r = {.prompt = t->ids.v,
                   .n_prompt = (int)t->ids.n,
                   .ask = &want,
                   .sample = {.top_p = 1},
                   .adapter = p->o.adapter,
                   .priority = p->o.priority,
                   .timeout_s = time_left(p),
                   .salt = p->o.salted ? &p->o.salt : NULL,
                   .on_done = on_done,
                   .ctx = t};
    atomic_fetch_add(&p->n_refs, 1);
    t->submitted = true;
    if (p->o.door.submit(p->o.door.self, &r, &t->id, &t->err) == OK) return;
    t->submitted = false;
    text_over(t);
    unref(p);
}

void pooled_step(Pooled *p) {
    while (p->n_sent < p->o.n && p->n_sent - atomic_load(&p->n_over) < SIDE_BY_SIDE &&
           !atomic_load(&p->failed))
        submit(p, &p->text[p->n_sent++]);
}

bool pooled_done(const Pooled *p) {
    return atomic_load(&p->failed) || atomic_load(&p->n_over) == p->o.n;
}

void pooled_free(Pooled *p) {
    if (!p) return;
    for (int i = 0; i < p->n_sent; i++) {
        Text *t = &p->text[i];
        if (t->submitted && !atomic_load(&t->over)) p->o.door.cancel(p->o.door.self, t->id);
    }
    unref(p);
}

Err pooled_error(const Pooled *p) {
    for (int i = 0; i < p->n_sent; i++) {
        if (atomic_load(&p->text[i].over) && p->text[i].err.code != OK) return p->text[i].err;
    }
    return (Err){0};
}

const float *pooled_at(const Pooled *p, int i) { return p->text[i].x; }

/* ---- preparing ---- */

static AskPool pool_of(Slice word) {
    if (slice_eq_str(word, "mean")) return ASK_POOL_MEAN;
    return slice_eq_str(word, "first") ? ASK_POOL_FIRST : ASK_POOL_LAST;
}

static Status read_text(Job *j, int i, Err *e) {
    const ServerConfig *c = &j->server->cfg;
    TokBuf ids = {0};
    Status st = server__prompt_at(&ids, c->tok, j->q.input, i, "input", e);
    if (st == OK &&
        (ids.n == 0 || (tok_bos(c->tok) >= 0 && ids.n == 1 && ids.v[0] == tok_bos(c->tok))))
        st = err_set(e, ERR_ARG, "input: element %d is empty", i);
    if (st == OK && ids.n > (size_t)c->engine.max_ctx)
        st = server__no_room(j, "input", (int64_t)ids.n, 0, e);
    j->n_prompt_tok += (int64_t)ids.n;
    if (st == OK) pooled_set(j->pooled, i, &ids);
    tokbuf_deinit(&ids);
    return st;
}

Status server__prepare_embeddings(Job *j, Err *e) {
    const ServerConfig *c = &j->server->cfg;
    int n = server__n_prompts(j->q.input);
    if (c->n_embd <= 0) return err_set(e, ERR_UNSUPPORTED, "embeddings: this server makes none");
    if (n < 1) return err_set(e, ERR_ARG, "input: is empty");
    if (n > API_MAX_INPUTS)
        return err_set(e, ERR_ARG, "input: %d texts, the limit is %d", n, API_MAX_INPUTS);
    if (j->q.dimensions > c->n_embd)
        return err_set(e, ERR_ARG, "dimensions: %lld, the model has %d", (long long)j->q.dimensions,
                       c->n_embd);
    PooledOpts o = {.door = c->engine,
                    .pool = pool_of(j->q.pooling),
                    .normalize = j->q.normalize,
                    .adapter = j->adapter,
                    .priority = server__priority(j),
                    .n = n,
                    .width = c->n_embd,
                    .wake = server__knock,
                    .wake_ctx = j->server};
    TRY(server__time_left(&o.timeout_s, j, e));
    o.salted = j->user.id[0] != '\0';
    if (o.salted) TRY(server__salt(&o.salt, j, e));
    TRY(pooled_new(&j->pooled, &o, e));
    for (int i = 0; i < n; i++) TRY(read_text(j, i, e));
    TRY(server__reserve(j, j->n_prompt_tok, e));
    pooled_step(j->pooled);
    return OK;
}

/* ---- the answer ---- */

/* The first n numbers, of length 1 again if the whole was to be. */
static float scale_of(const Job *j, const float *x, int n) {
    double sum = 0;
    if (!j->q.normalize || n == j->server->cfg.n_embd) return 1;
    for (int i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum > 0 ? (float)(1 / sqrt(sum)) : 1;
}

static void put_base64(StrBuf *b, const unsigned char *p, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16;
        if (i + 1 < n) v |= (unsigned)p[i + 1] << 8;
        if (i + 2 < n) v |= p[i + 2];
        sb_putc(b, digits[v >> 18]);
        sb_putc(b, digits[v >> 12 & 63]);
        sb_putc(b, i + 1 < n ? digits[v >> 6 & 63] : '=');
        sb_putc(b, i + 2 < n ? digits[v & 63] : '=');
    }
}

static void put_packed(JsonW *w, const float *x, int n, float k) {
    StrBuf raw = {0}, text = {0};
    for (int i = 0; i < n; i++) {
        float v = x[i] * k;
        sb_put(&raw, &v, sizeof v);
    }
    put_base64(&text, (const unsigned char *)sb_str(&raw), raw.n);
    if (raw.failed || text.failed) w->b->failed = true;
    jw_str(w, "embedding", (Slice){sb_str(&text), text.n});
    sb_deinit(&raw);
    sb_deinit(&text);
}

static void put_vector(JsonW *w, const Job *j, const float *x) {
    int n = j->q.dimensions ? (int)j->q.dimensions : j->server->cfg.n_embd;
    float k = scale_of(j, x, n);
    if (slice_eq_str(j->q.encoding_format, "base64")) {
        put_packed(w, x, n, k);
        return;
    }
    jw_arr(w, "embedding");
    for (int i = 0; i < n; i++) jw_f32(w, NULL, x[i] * k);
    jw_end_arr(w);
}

static void end_embeddings(Job *j) {
    Usage u = {.prompt = j->n_prompt_tok};
    JsonW w;
    jw_init(&w, &j->out);
    jw_obj(&w, NULL);
    jw_cstr(&w, "object", "list");
    jw_arr(&w, "data");
    for (int i = 0; i < server__n_prompts(j->q.input); i++) {
        jw_obj(&w, NULL);
        jw_cstr(&w, "object", "embedding");
        jw_int(&w, "index", i);
        put_vector(&w, j, pooled_at(j->pooled, i));
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    jw_cstr(&w, "model", j->server->cfg.model);
    server__put_usage(&w, "usage", &u);
    jw_end_obj(&w);
}

const JobWriter server__write_embeddings = {.end = end_embeddings, .slow = true};
