/* SPDX-License-Identifier: Apache-2.0
 * Row-wise and element-wise operations: the work is cut into tiles of fixed size, so that sums come out the
 * same for any number of threads. */
#include <math.h>

#include "device/internal.h"

/* ---- flat arrays ---- */

typedef struct Flat {
    CpuDevice *d;
    float *y;
    const float *x;
    size_t n;
    float v;
    const DropSpec *drop;
    double *sums;
    const AdamwStep *adamw;
    AdamwArgs step;
} Flat;

/* Range of tile i of a flat array. */
static size_t flat_range(const Flat *f, int64_t tile, size_t *n) {
    size_t from = (size_t)tile * CPU_ELEM_CHUNK;
    *n = MIN((size_t)CPU_ELEM_CHUNK, f->n - from);
    return from;
}

static void fill_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    Flat *f = ctx;
    size_t n, at = flat_range(f, tile, &n);
    if (f->v == 0.0f) memset(f->y + at, 0, n * sizeof(float));
    else
        for (size_t i = 0; i < n; i++) f->y[at + i] = f->v;
}

void cpu__fill(Device *d, BufAt dst, float v, size_t n) {
    Flat f = {.d = cpu_of(d), .y = cpu_ptr(dst), .n = n, .v = v};
    cpu__for(f.d, n, CPU_ELEM_CHUNK, fill_task, &f);
}

static void add_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    Flat *f = ctx;
    size_t n, at = flat_range(f, tile, &n);
    f->d->kern.add(f->y + at, f->x + at, n);
}

void cpu__add(Device *d, BufAt y, BufAt x, size_t n) {
    Flat f = {.d = cpu_of(d), .y = cpu_ptr(y), .x = cpu_ptr(x), .n = n};
    cpu__for(f.d, n, CPU_ELEM_CHUNK, add_task, &f);
}

static void scale_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    Flat *f = ctx;
    size_t n, at = flat_range(f, tile, &n);
    f->d->kern.scale(f->y + at, f->v, n);
}

void cpu__scale(Device *d, BufAt y, float s, size_t n) {
    Flat f = {.d = cpu_of(d), .y = cpu_ptr(y), .n = n, .v = s};
    cpu__for(f.d, n, CPU_ELEM_CHUNK, scale_task, &f);
}

static void dropout_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    Flat *f = ctx;
    size_t n, at = flat_range(f, tile, &n);
    f->d->kern.dropout(f->y + at, n, (uint32_t)((double)f->drop->p * 4294967296.0),
                       1.0f / (1.0f - f->drop->p), f->drop->key, f->drop->site, at);
}

void cpu__dropout(Device *d, BufAt x, size_t n, const DropSpec *s) {
    if (s->p <= 0.0f) return;
    Flat f = {.d = cpu_of(d), .y = cpu_ptr(x), .n = n, .drop = s};
    cpu__for(f.d, n, CPU_ELEM_CHUNK, dropout_task, &f);
}

static void sum_sq_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    Flat *f = ctx;
    size_t n, at = flat_range(f, tile, &n);
    f->sums[tile] = f->d->kern.sum_sq(f->x + at, n);
}

double cpu__sum_sq(Device *d, BufAt x, size_t n) {
    CpuDevice *c = cpu_of(d);
    const size_t most = CPU_SHARED_BYTES / sizeof(double) * CPU_ELEM_CHUNK;
    double total = 0.0;
    for (size_t from = 0; from < n; from += most) {
        size_t part = MIN(most, n - from), n_tiles = (part + CPU_ELEM_CHUNK - 1) / CPU_ELEM_CHUNK;
        Flat f = {.d = c, .x = cpu_ptr(x) + from, .n = part, .sums = (double *)(void *)c->shared};
        cpu__for(c, part, CPU_ELEM_CHUNK, sum_sq_task, &f);
        for (size_t i = 0; i < n_tiles; i++) total += f.sums[i];
    }
    return total;
}

static void adamw_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    Flat *f = ctx;
    const AdamwStep *a = f->adamw;
    size_t n, at = flat_range(f, tile, &n);
    f->d->kern.adamw(cpu_ptr(a->p) + at, cpu_ptr(a->m) + at, cpu_ptr(a->v) + at, cpu_ptr(a->g) + at,
                     n, &f->step);
}

void cpu__adamw(Device *d, const AdamwStep *a) {
    Flat f = {.d = cpu_of(d), .n = a->n, .adamw = a};
    f.step = (AdamwArgs){.lr = a->lr,
                         .beta1 = a->beta1,
                         .beta2 = a->beta2,
                         .eps = a->eps,
                         .weight_decay = a->weight_decay,
                         .grad_scale = a->grad_scale,
                         .c1 = (float)(1.0 / (1.0 - pow((double)a->beta1, (double)a->t))),
                         .c2 = (float)(1.0 / (1.0 - pow((double)a->beta2, (double)a->t)))};
    cpu__for(f.d, a->n, CPU_ELEM_CHUNK, adamw_task, &f);
}

/* ---- embedding rows ---- */

typedef struct RowsJob {
    CpuDevice *d;
    const RowsArgs *a;
    const RowsBwdArgs *b;
} RowsJob;

static void row_of(const Kern *k, float *y, const Weight *w, int32_t id) {
    const char *p = w->buf->p + w->off_bytes + (size_t)id * dtype_bytes(w->type, (size_t)w->cols);
    k->to_f32[w->type](y, p, (size_t)w->cols);
}

static void rows_task(void *ctx, int64_t tile, int worker) {
    RowsJob *j = ctx;
    const RowsArgs *a = j->a;
    const Kern *k = &j->d->kern;
    int t0 = (int)tile * CPU_ROW_CHUNK, t1 = MIN(a->T, t0 + CPU_ROW_CHUNK);
    float *pos = (float *)(void *)j->d->scratch[worker].p;
    for (int t = t0; t < t1; t++) {
        float *y = cpu_ptr(a->y) + (size_t)t * (size_t)a->w.cols;
        row_of(k, y, &a->w, a->ids[t]);
        if (!a->pos_w.buf) continue;
        row_of(k, pos, &a->pos_w, a->pos[t]);
        k->add(y, pos, (size_t)a->w.cols);
    }
}

void cpu__rows(Device *d, const RowsArgs *a) {
    RowsJob j = {.d = cpu_of(d), .a = a};
    if (!cpu__reserve(j.d, (size_t)a->w.cols * sizeof(float))) return;
    cpu__for(j.d, (size_t)a->T, CPU_ROW_CHUNK, rows_task, &j);
}

/* A tile is a range of columns over all rows: several rows may add to one embedding. */
static void rows_bwd_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    RowsJob *j = ctx;
    const RowsBwdArgs *b = j->b;
    size_t C = (size_t)b->C, c0 = (size_t)tile * 64, n = MIN((size_t)64, C - c0);
    const float *dy = cpu_ptr(b->dy) + c0;
    for (int t = 0; t < b->T; t++) {
        j->d->kern.add(cpu_ptr(b->dw) + (size_t)b->ids[t] * C + c0, dy + (size_t)t * C, n);
        if (b->dpos.buf)
            j->d->kern.add(cpu_ptr(b->dpos) + (size_t)b->pos[t] * C + c0, dy + (size_t)t * C, n);
    }
}

void cpu__rows_bwd(Device *d, const RowsBwdArgs *b) {
    RowsJob j = {.d = cpu_of(d), .b = b};
    cpu__for(j.d, (size_t)b->C, 64, rows_bwd_task, &j);
}

/* ---- normalisation ---- */

typedef struct NormJob {
    CpuDevice *d;
    const NormArgs *a;
    const NormBwdArgs *b;
    int rows; /* of a tile of the backward */
    int n_tiles;
    size_t partial; /* floats of a tile's dw and db */
} NormJob;

static void norm_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    NormJob *j = ctx;
    const NormArgs *a = j->a;
    const Kern *k = &j->d->kern;
    int t0 = (int)tile * CPU_ROW_CHUNK, t1 = MIN(a->T, t0 + CPU_ROW_CHUNK),
        n_stat = a->kind == NORM_RMS ? 1 : 2;
    for (int t = t0; t < t1; t++) {
        float own[2], *stat = a->stat.buf ? cpu_ptr(a->stat) + t * n_stat : own;
        size_t at = (size_t)t * (size_t)a->C;
        if (a->kind == NORM_RMS)
            k->rmsnorm(cpu_ptr(a->y) + at, stat, cpu_ptr(a->x) + at, cpu_ptr(a->w), a->C, a->eps);
        else
            k->layernorm(cpu_ptr(a->y) + at, stat, cpu_ptr(a->x) + at, cpu_ptr(a->w), cpu_ptr(a->b),
                         a->C, a->eps);
    }
}

void cpu__norm(Device *d, const NormArgs *a) {
    NormJob j = {.d = cpu_of(d), .a = a};
    cpu__for(j.d, (size_t)a->T, CPU_ROW_CHUNK, norm_task, &j);
}

/* A tile adds up the weight gradients of its rows on the side; norm_sum_task joins them in order. */
static void norm_bwd_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    NormJob *j = ctx;
    const NormBwdArgs *b = j->b;
    const Kern *k = &j->d->kern;
    float *dw = (float *)(void *)j->d->shared + (size_t)tile * j->partial,
          *db = b->db.buf ? dw + b->C : NULL;
    memset(dw, 0, j->partial * sizeof *dw);
    int t0 = (int)tile * j->rows, t1 = MIN(b->T, t0 + j->rows);
    for (int t = t0; t < t1; t++) {
        size_t at = (size_t)t * (size_t)b->C;
        const float *dy = cpu_ptr(b->dy) + at, *x = cpu_ptr(b->x) + at, *w = cpu_ptr(b->w);
        if (b->kind == NORM_RMS)
            k->rmsnorm_bwd(cpu_ptr(b->dx) + at, dw, dy, x, w, cpu_ptr(b->stat)[t], b->C);
        else
            k->layernorm_bwd(cpu_ptr(b->dx) + at, dw, db, dy, x, w, cpu_ptr(b->stat) + 2 * t, b->C);
    }
}

static void norm_sum_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    NormJob *j = ctx;
    const NormBwdArgs *b = j->b;
    size_t c0 = (size_t)tile * 256, n = MIN((size_t)256, (size_t)b->C - c0);
    const float *part = (const float *)(const void *)j->d->shared + c0;
    for (int i = 0; i < j->n_tiles; i++, part += j->partial) {
        j->d->kern.add(cpu_ptr(b->dw) + c0, part, n);
        if (b->db.buf) j->d->kern.add(cpu_ptr(b->db) + c0, part + b->C, n);
    }
}

void cpu__norm_bwd(Device *d, const NormBwdArgs *b) {
    NormJob j = {.d = cpu_of(d), .b = b, .partial = (size_t)b->C * (b->db.buf ? 2 : 1)};
    int most = (int)MIN((size_t)256, CPU_SHARED_BYTES / sizeof(float) / j.partial);
    j.rows = MAX(16, (b->T + most - 1) / most);
    j.n_tiles = (b->T + j.rows - 1) / j.rows;
    cpu__for(j.d, (size_t)b->T, (size_t)j.rows, norm_bwd_task, &j);
    cpu__for(j.d, (size_t)b->C, 256, norm_sum_task, &j);
}

/* ---- activations and loss ---- */

typedef struct ActJob {
    CpuDevice *d;
    const ActArgs *a;
    size_t rows; /* of a tile */
} ActJob;

/* A tile is worth handing out from about 8,192 numbers on; a chunk of rows at most. */
static ActJob act_job(Device *d, const ActArgs *a) {
    size_t rows = MAX((size_t)8192 / (size_t)a->ff, (size_t)1);
    return (ActJob){cpu_of(d), a, MIN(rows, (size_t)CPU_ROW_CHUNK)};
}

static void act_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    ActJob *j = ctx;
    const ActArgs *a = j->a;
    const Kern *k = &j->d->kern;
    size_t ff = (size_t)a->ff, t0 = (size_t)tile * j->rows, t1 = MIN((size_t)a->T, t0 + j->rows);
    for (size_t t = t0; t < t1; t++) {
        float *y = cpu_ptr(a->y) + t * ff;
        if (a->kind == ACT_GELU) k->gelu(y, cpu_ptr(a->x) + t * ff, ff);
        else k->swiglu(y, cpu_ptr(a->x) + t * 2 * ff, cpu_ptr(a->x) + t * 2 * ff + ff, ff);
    }
}

void cpu__act(Device *d, const ActArgs *a) {
    ActJob j = act_job(d, a);
    cpu__for(j.d, (size_t)a->T, j.rows, act_task, &j);
}

void cpu__act_part(const CpuDevice *c, const LinearArgs *a, int t, size_t from, size_t n) {
    float *y = cpu_ptr(a->y) + (size_t)t * a->ldy + from;
    if (a->act == ACT_GELU) c->kern.gelu(y, y, n);
    else c->kern.swiglu(y, cpu_ptr(a->gate) + (size_t)t * a->ldg + from, y, n);
}

typedef struct ActAll {
    CpuDevice *d;
    const LinearArgs *a;
} ActAll;

static void act_all_task(void *ctx, int64_t t, int worker) {
    (void)worker;
    const ActAll *j = ctx;
    cpu__act_part(j->d, j->a, (int)t, 0, (size_t)j->a->w.rows);
}

void cpu__act_all(CpuDevice *c, const LinearArgs *a) {
    cpu__for(c, (size_t)a->T, 1, act_all_task, &(ActAll){c, a});
}

static void act_bwd_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    ActJob *j = ctx;
    const ActArgs *a = j->a;
    const Kern *k = &j->d->kern;
    size_t ff = (size_t)a->ff, t0 = (size_t)tile * j->rows, t1 = MIN((size_t)a->T, t0 + j->rows);
    for (size_t t = t0; t < t1; t++) {
        const float *dy = cpu_ptr(a->dy) + t * ff;
        if (a->kind == ACT_GELU) {
            k->gelu_bwd(cpu_ptr(a->dx) + t * ff, dy, cpu_ptr(a->x) + t * ff, ff);
            continue;
        }
        const float *x = cpu_ptr(a->x) + t * 2 * ff;
        float *dx = cpu_ptr(a->dx) + t * 2 * ff;
        k->swiglu_bwd(dx, dx + ff, dy, x, x + ff, ff);
    }
}

void cpu__act_bwd(Device *d, const ActArgs *a) {
    ActJob j = act_job(d, a);
    cpu__for(j.d, (size_t)a->T, j.rows, act_bwd_task, &j);
}

typedef struct XentJob {
    CpuDevice *d;
    const XentArgs *a;
} XentJob;

static void xent_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    XentJob *j = ctx;
    const XentArgs *a = j->a;
    float *x = cpu_ptr(a->logits) + (size_t)tile * (size_t)a->V;
    if (a->target[tile] >= 0) {
        a->loss[tile] = j->d->kern.xent(x, a->V, a->target[tile], a->scale);
        return;
    }
    a->loss[tile] = 0.0f;
    memset(x, 0, (size_t)a->V * sizeof *x);
}

void cpu__xent(Device *d, const XentArgs *a) {
    XentJob j = {cpu_of(d), a};
    cpu__for(j.d, (size_t)a->T, 1, xent_task, &j);
}
