/* SPDX-License-Identifier: Apache-2.0
 * The model tells of each product before it is made (model.h: ModelObserver). Its rows are brought to the
 * host, and each column's squares are added in f64, rows in order: a tile of the team has columns of its
 * own, so the sums do not depend on threads. One window at a time, in steps of at most STEP_ROWS rows. */
#include "quant/collect.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/team.h"
#include "quant/imatrix.h"

enum { STEP_ROWS = 512, LOGIT_BYTES = 64 << 20, BLOCK = 32, MIN_CTX = 16, TILE_COLS = 64 };

typedef struct Sums {
    const GgufTensor *t; /* borrowed from the model's file */
    size_t at;           /* where it begins in the file */
    double *sum2;        /* owned; [cols] */
    uint64_t n_rows;
} Sums;

typedef struct Collect {
    Model *m;
    const ImatOpts *o;
    const int32_t *ids;
    int ctx, n_chunks, max_rows;
    Team *team;
    KvStore *kv;
    int32_t *ints; /* owned: tok, pos, seq, out, table */
    int32_t *tok, *pos, *seq, *out, *table;
    const int32_t *blocks[1];
    float *rows; /* owned; the rows of a product, on the host */
    Sums *sums;  /* owned; by place in the file */
    size_t n_sums;
    const Sums *bad; /* saw a value that is not finite; NULL: none */
} Collect;

/* ---- what is collected ---- */

static bool is_wanted(const Collect *c, const GgufTensor *t) {
    if (t->n_dims < 2) return false;
    if (t->name.n > 4 && memcmp(t->name.p, "blk.", 4) == 0) return true;
    return c->o->process_output && slice_eq_str(t->name, "output.weight");
}

static int by_place(const void *a, const void *b) {
    size_t x = ((const Sums *)a)->at, y = ((const Sums *)b)->at;
    return (x > y) - (x < y);
}

static Status list_tensors(Collect *c, Err *e) {
    const Gguf *g = c->m->file;
    size_t n = gguf_n_tensors(g);
    c->sums = mem_new_n(Sums, n);
    if (!c->sums) return err_set(e, ERR_NOMEM, "sums of %zu tensors", n);
    for (size_t i = 0; i < n; i++) {
        const GgufTensor *t = gguf_tensor_at(g, i);
        if (!is_wanted(c, t)) continue;
        Sums *s = &c->sums[c->n_sums];
        s->t = t;
        s->at = (size_t)((const uint8_t *)t->data - gguf_map(g).p);
        s->sum2 = mem_new_n(double, t->ne[0]);
        if (!s->sum2) return err_set(e, ERR_NOMEM, "sums of %zu columns", (size_t)t->ne[0]);
        c->n_sums++;
    }
    qsort(c->sums, c->n_sums, sizeof *c->sums, by_place);
    return OK;
}

/* Tensors that lie in the bytes of w: several where they stand side by side and are multiplied as one. */
static Sums *find_sums(Collect *c, const Weight *w, size_t *n) {
    size_t end = w->off_bytes + dtype_bytes(w->type, (size_t)w->rows * (size_t)w->cols), i = 0;
    *n = 0;
    if (w->buf != c->m->map) return NULL;
    while (i < c->n_sums && c->sums[i].at < w->off_bytes) i++;
    while (i + *n < c->n_sums && c->sums[i + *n].at < end &&
           c->sums[i + *n].t->ne[0] == (uint64_t)w->cols)
        ++*n;
    return &c->sums[i];
}

/* ---- adding up ---- */

typedef struct Adding {
    Sums *s;
    const float *x; /* [T][cols] */
    int T;
    atomic_int bad; /* [atomic] a sum is not finite */
} Adding;

static void add_columns(void *ctx, int64_t tile, int worker) {
    Adding *a = ctx;
    size_t cols = (size_t)a->s->t->ne[0], from = (size_t)tile * TILE_COLS;
    size_t to = MIN(cols, from + TILE_COLS);
    double *sum = a->s->sum2;
    (void)worker;
    for (int r = 0; r < a->T; r++) {
        const float *x = a->x + (size_t)r * cols;
        for (size_t i = from; i < to; i++) sum[i] += (double)x[i] * (double)x[i];
    }
    for (size_t i = from; i < to; i++)
        if (!isfinite((float)sum[i])) atomic_store_explicit(&a->bad, 1, memory_order_relaxed);
}

static void on_product(void *ctx, const Weight *w, BufAt x, size_t ldx, int T) {
    Collect *c = ctx;
    size_t n, cols = (size_t)w->cols;
    Sums *s = find_sums(c, w, &n);
    if (n == 0 || ldx != cols) return;
    c->m->dev->ops->download(c->m->dev, c->rows, x, (size_t)T * ldx * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        Adding a = {.s = &s[i], .x = c->rows, .T = T};
        team_run(c->team, (int64_t)((cols + TILE_COLS - 1) / TILE_COLS), add_columns, &a);
        s[i].n_rows += (uint64_t)T;
        if (a.bad && !c->bad) c->bad = &s[i];
    }
}

/* ---- running the text ---- */

static Status plan(Collect *c, size_t n, Err *e) {
    const ModelConfig *m = &c->m->cfg;
    c->ctx = c->o->ctx ? c->o->ctx : MIN(512, m->ctx);
    if (c->ctx < MIN_CTX || c->ctx > m->ctx)
        return err_set(e, ERR_ARG,
                       "window of %d tokens is out of range: %d to %d, the model's context length",
                       c->ctx, MIN_CTX, m->ctx);
    size_t limit = c->o->max_chunks > 0 ? (size_t)c->o->max_chunks : INT32_MAX;
    c->n_chunks = (int)MIN(n / (size_t)c->ctx, limit);
    if (c->n_chunks == 0)
        return err_set(
            e, ERR_ARG,
            "the text has %zu tokens, a window takes %d: give more text or a smaller window", n,
            c->ctx);
    c->max_rows = MIN(c->ctx, STEP_ROWS);
    if (c->o->process_output) c->max_rows = MIN(c->max_rows, MAX(16, LOGIT_BYTES / 4 / m->V));
    return OK;
}

static Status prepare(Collect *c, Err *e) {
    const ModelConfig *m = &c->m->cfg;
    size_t rows = (size_t)c->max_rows, blocks = ((size_t)c->ctx + BLOCK - 1) / BLOCK;
    size_t widest = (size_t)MAX(MAX(m->C, m->ff), m->nh * m->hd);
    c->ints = mem_new_n(int32_t, 4 * rows + blocks);
    c->rows = mem_new_n(float, rows *widest);
    if (!c->ints || !c->rows) return err_set(e, ERR_NOMEM, "activations of %zu rows", rows);
    c->tok = c->ints;
    c->pos = c->tok + rows;
    c->seq = c->pos + rows;
    c->out = c->seq + rows;
    c->table = c->out + rows;
    for (size_t i = 0; i < blocks; i++) c->table[i] = (int32_t)i;
    c->blocks[0] = c->table;
    TRY(team_new(&c->team, MAX(c->o->n_threads, 1), e));
    TRY(list_tensors(c, e));
    TRY(model_reserve(c->m, c->max_rows, c->o->process_output ? c->max_rows : 1, e));
    c->kv = c->m->dev->ops->kv_new(c->m->dev, DT_F16, m->n_layer, (int)blocks, m->nkv, m->hd);
    return c->kv ? OK : err_set(e, ERR_NOMEM, "KV cache of %d tokens", c->ctx);
}

/* Positions p .. p + n - 1 of window w. */
static Status step(Collect *c, int w, int p, int n, Err *e) {
    const int32_t *ids = c->ids + (size_t)w * (size_t)c->ctx;
    const float *logits;
    for (int i = 0; i < n; i++) {
        c->tok[i] = p + i == 0 && c->o->has_bos ? c->o->bos : ids[p + i];
        c->pos[i] = p + i;
        c->out[i] = i;
    }
    Batch b = {.T = n,
               .tok = c->tok,
               .pos = c->pos,
               .seq = c->seq,
               .n_seq = 1,
               .blocks = c->blocks,
               .n_out = c->o->process_output ? n : 0,
               .out = c->out};
    TRY(model_forward(c->m, c->kv, &b, &logits, e));
    if (c->bad)
        return err_set(e, ERR_INTERNAL, "window %d: what goes into %.*s is not finite", w,
                       (int)MIN(c->bad->t->name.n, (size_t)90), c->bad->t->name.p);
    if (c->o->stop && atomic_load_explicit(c->o->stop, memory_order_relaxed))
        return err_set(e, ERR_CANCELLED, "stopped: nothing was written");
    return OK;
}

static Status run_windows(Collect *c, Err *e) {
    for (int w = 0; w < c->n_chunks; w++) {
        for (int p = 0; p < c->ctx; p += c->max_rows)
            TRY(step(c, w, p, MIN(c->max_rows, c->ctx - p), e));
        if (c->o->progress)
            c->o->progress(c->o->progress_ctx, (uint64_t)w + 1, (uint64_t)c->n_chunks);
    }
    return OK;
}

/* ---- the file ---- */

static int by_name(const void *a, const void *b) {
    Slice x = ((const Sums *)a)->t->name, y = ((const Sums *)b)->t->name;
    int d = memcmp(x.p, y.p, MIN(x.n, y.n));
    return d != 0 ? d : (x.n > y.n) - (x.n < y.n);
}

static void declare(GgufW *w, const Collect *c) {
    Slice set = slice_of(c->o->dataset ? c->o->dataset : "");
    gguf_w_str(w, "general.type", slice_of("imatrix"));
    gguf_w_arr_str(w, "imatrix.datasets", &set, c->o->dataset ? 1 : 0);
    gguf_w_u32(w, "imatrix.chunk_count", (uint32_t)c->n_chunks);
    gguf_w_u32(w, "imatrix.chunk_size", (uint32_t)c->ctx);
    for (size_t i = 0; i < c->n_sums; i++) {
        char name[GGUF_MAX_NAME + 16];
        const GgufTensor *t = c->sums[i].t;
        uint64_t ne[2] = {t->ne[0], 1}, ne1[2] = {1, 1};
        if (c->sums[i].n_rows == 0) continue;
        snprintf(name, sizeof name, "%.*s.in_sum2", (int)t->name.n, t->name.p);
        gguf_w_tensor(w, slice_of(name), DT_F32, 2, ne);
        snprintf(name, sizeof name, "%.*s.counts", (int)t->name.n, t->name.p);
        gguf_w_tensor(w, slice_of(name), DT_F32, 2, ne1);
    }
}

static Status write_sums(GgufW *w, const Sums *s, Err *e) {
    float count = (float)s->n_rows;
    for (uint64_t i = 0; i < s->t->ne[0]; i++) {
        float v = (float)s->sum2[i];
        TRY(gguf_w_data(w, &v, sizeof v, e));
    }
    return gguf_w_data(w, &count, sizeof count, e);
}

static Status write_file(Collect *c, const char *path, ImatStats *st, Err *e) {
    GgufW *w = NULL;
    qsort(c->sums, c->n_sums, sizeof *c->sums, by_name);
    TRY(gguf_w_new(&w, path, GGUF_DEFAULT_ALIGNMENT, true, e));
    declare(w, c);
    Status status = gguf_w_begin(w, e);
    for (size_t i = 0; status == OK && i < c->n_sums; i++) {
        if (c->sums[i].n_rows == 0) continue;
        status = write_sums(w, &c->sums[i], e);
        st->n_entries++;
    }
    if (status == OK) status = gguf_w_end(w, e);
    gguf_w_free(w);
    return status;
}

static void cleanup(Collect *c) {
    c->m->observer = NULL;
    if (c->kv) c->m->dev->ops->kv_free(c->m->dev, c->kv);
    for (size_t i = 0; i < c->n_sums; i++) mem_free(c->sums[i].sum2);
    mem_free(c->sums);
    mem_free(c->rows);
    mem_free(c->ints);
    team_free(c->team);
}

Status imat_collect(ImatStats *st, const char *out, Model *m, const int32_t *ids, size_t n,
                    const ImatOpts *o, Err *e) {
    Collect c = {.m = m, .o = o, .ids = ids};
    TRY(plan(&c, n, e));
    ImatStats s = {.n_chunks = c.n_chunks, .ctx = c.ctx};
    Status status = prepare(&c, e);
    m->observer = on_product;
    m->observer_ctx = &c;
    if (status == OK) status = run_windows(&c, e);
    if (status == OK) status = write_file(&c, out, &s, e);
    cleanup(&c);
    if (status == OK) *st = s;
    return status;
}
