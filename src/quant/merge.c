/* SPDX-License-Identifier: Apache-2.0
 * Merging, tensor by tensor in the order of the base: a slab of rows is expanded by the team, the device adds the
 * product of the adapter's rows, the team narrows it, and it is written. Tiles are a few rows, and sums are in
 * float, so the result does not depend on the number of threads. */
#include "quant/merge.h"

#include <math.h>
#include <stdio.h>

#include "base/team.h"
#include "device/backend.h"
#include "kernel/kernel.h"
#include "model/lora.h"
#include "model/model.h"

enum { SLAB_BYTES = 8 << 20, TILE_ROWS = 16 };

typedef struct Merge {
    const QuantMergeOpts *o;
    Gguf *g, *ga; /* owned: base, adapter */
    ModelConfig cfg;
    Param *params;  /* owned */
    LoraPair *pair; /* owned */
    int n_params, n_pairs;
    float alpha;
    Kern kern;
    Device *dev;  /* owned */
    Team *team;   /* owned */
    GgufW *w;     /* owned */
    Buf *y, *x;   /* owned: a slab of weights, of the adapter's rows; f32 */
    Buf *other;   /* owned: the half of the adapter that all rows use; f32 */
    float *wide;  /* owned: the slab here */
    float *half;  /* owned: rows or a half of the adapter here */
    uint8_t *out; /* owned: the slab in its type */
    uint64_t done, total;
    int n_blocks;
    Err *e;
} Merge;

/* A slab at work. */
typedef struct Slab {
    Merge *m;
    const GgufTensor *t;
    DType to;
    uint64_t first; /* row */
    size_t rows, cols;
    _Atomic uint64_t bad; /* [atomic] first element that cannot be stored; UINT64_MAX: none */
} Slab;

/* ---- tiles ---- */

static float *slab_at(const Slab *s, size_t row) { return s->m->wide + row * s->cols; }

static void widen_tile(void *ctx, int64_t tile, int worker) {
    const Slab *s = ctx;
    size_t at = (size_t)tile * TILE_ROWS, n = MIN(s->rows - at, (size_t)TILE_ROWS);
    const uint8_t *src = s->t->data;
    (void)worker;
    s->m->kern.to_f32[s->t->type](slab_at(s, at),
                                  src + dtype_bytes(s->t->type, (s->first + at) * s->cols),
                                  n * s->cols);
}

static void narrow_tile(void *ctx, int64_t tile, int worker) {
    Slab *s = ctx;
    size_t at = (size_t)tile * TILE_ROWS, n = MIN(s->rows - at, (size_t)TILE_ROWS) * s->cols;
    const float *x = slab_at(s, at);
    float limit = s->to == DT_F32 || s->to == DT_BF16 ? 3.3e38f : 65504.0f;
    (void)worker;
    for (size_t i = 0; i < n; i++) {
        if (fabsf(x[i]) <= limit) continue;
        uint64_t where = (s->first + at) * s->cols + i, old = atomic_load(&s->bad);
        while (where < old && !atomic_compare_exchange_weak(&s->bad, &old, where)) {}
        return;
    }
    if (s->to == DT_F32) memcpy(s->m->out + at * s->cols * sizeof *x, x, n * sizeof *x);
    else s->m->kern.from_f32[s->to](s->m->out + dtype_bytes(s->to, at * s->cols), x, n);
}

/* ---- the adapter's part ---- */

/* Elements [at, at + n) of a half as f32 into buf. */
static void widen_half(Merge *m, Buf *buf, const LoraPair *p, int which, size_t at, size_t n) {
    const uint8_t *src = which ? p->b : p->a;
    m->kern.to_f32[p->type[which]](m->half, src + dtype_bytes(p->type[which], at), n);
    m->dev->ops->upload(m->dev, buf_at(buf, 0), m->half, n * sizeof(float));
}

static float scale_of(const Merge *m, const LoraPair *p) {
    double s = m->alpha != 0.0f ? (double)m->alpha / p->rank : 1.0;
    return (float)(s * m->o->scale);
}

/* Rows of the slab += s B A; for an embedding, whose A has a row for each token: += s A B^T. */
static void add_product(Merge *m, const Slab *s, const LoraPair *p) {
    const DeviceOps *ops = m->dev->ops;
    size_t rank = (size_t)p->rank;
    size_t bytes = s->rows * s->cols * sizeof(float);
    ops->upload(m->dev, buf_at(m->y, 0), m->wide, bytes);
    widen_half(m, m->x, p, p->is_embd ? 0 : 1, s->first * rank, s->rows * rank);
    ops->scale(m->dev, buf_at(m->x, 0), scale_of(m, p), s->rows * rank);
    Weight w = {.type = DT_F32,
                .rows = p->is_embd ? (int)s->cols : p->rank,
                .cols = p->is_embd ? p->rank : (int)s->cols,
                .buf = m->other};
    if (p->is_embd)
        ops->linear(m->dev, &(LinearArgs){.y = buf_at(m->y, 0),
                                          .ldy = s->cols,
                                          .x = buf_at(m->x, 0),
                                          .ldx = rank,
                                          .w = w,
                                          .T = (int)s->rows,
                                          .add = true});
    else
        ops->linear_t(m->dev, &(LinearTArgs){.dx = buf_at(m->y, 0),
                                             .ldx = s->cols,
                                             .dy = buf_at(m->x, 0),
                                             .ldy = rank,
                                             .w = w,
                                             .T = (int)s->rows,
                                             .add = true});
    ops->download(m->dev, m->wide, buf_at(m->y, 0), bytes);
}

/* ---- tensors ---- */

static DType target(const Merge *m, const GgufTensor *t) {
    bool matrix = t->n_dims == 2 && !slice_eq_str(t->name, "position_embd.weight");
    return m->o->type == QUANT_AS_STORED || !matrix ? t->type : (DType)m->o->type;
}

static const LoraPair *pair_of(const Merge *m, const GgufTensor *t) {
    for (int i = 0; i < m->n_pairs; i++)
        if (slice_eq_str(t->name, m->pair[i].base->name)) return &m->pair[i];
    return NULL;
}

static Status tick(Merge *m, size_t n) {
    m->done += n;
    if (m->o->progress) m->o->progress(m->o->progress_ctx, m->done, m->total);
    if (m->o->stop && atomic_load_explicit(m->o->stop, memory_order_relaxed))
        return err_set(m->e, ERR_CANCELLED, "stopped: nothing was written");
    return OK;
}

static Status bad_value(const Slab *s) {
    uint64_t i = s->bad;
    float v = slab_at(s, 0)[i - s->first * s->cols];
    return err_set(s->m->e, ERR_FORMAT, "tensor %.*s: element %llu is %g, %s cannot hold it",
                   (int)s->t->name.n, s->t->name.p, (unsigned long long)i, (double)v,
                   dtype_name(s->to));
}

static size_t rows_of_slab(const GgufTensor *t) {
    uint64_t n = SLAB_BYTES / (t->ne[0] * sizeof(float));
    return (size_t)MIN(MAX(n, 1), t->ne[1]);
}

static Status write_slab(Merge *m, Slab *s, const LoraPair *p) {
    int64_t tiles = (int64_t)((s->rows + TILE_ROWS - 1) / TILE_ROWS);
    team_run(m->team, tiles, widen_tile, s);
    if (p) add_product(m, s, p);
    TRY(m->dev->ops->sync(m->dev, m->e));
    team_run(m->team, tiles, narrow_tile, s);
    if (s->bad != UINT64_MAX) return bad_value(s);
    TRY(gguf_w_data(m->w, m->out, dtype_bytes(s->to, s->rows * s->cols), m->e));
    return tick(m, dtype_bytes(s->t->type, s->rows * s->cols));
}

static Status convert(Merge *m, const GgufTensor *t, const LoraPair *p) {
    size_t step = rows_of_slab(t);
    DType to = target(m, t);
    if (p) {
        int half = p->is_embd ? 1 : 0;
        widen_half(m, m->other, p, half, 0, lora_pair_n(p, half));
        m->n_blocks += dtype_info(to)->is_quantized;
    }
    for (uint64_t at = 0, n; at < t->ne[1]; at += n) {
        n = MIN(t->ne[1] - at, step);
        Slab s = {.m = m,
                  .t = t,
                  .to = to,
                  .first = at,
                  .rows = (size_t)n,
                  .cols = (size_t)t->ne[0],
                  .bad = UINT64_MAX};
        TRY(write_slab(m, &s, p));
    }
    return OK;
}

static Status copy(Merge *m, const GgufTensor *t) {
    const uint8_t *p = t->data;
    for (uint64_t at = 0, n; at < t->n_bytes; at += n) {
        n = MIN(t->n_bytes - at, SLAB_BYTES);
        TRY(gguf_w_data(m->w, p + at, (size_t)n, m->e));
        TRY(tick(m, (size_t)n));
    }
    return OK;
}

static Status write_tensors(Merge *m) {
    for (size_t i = 0; i < gguf_n_tensors(m->g); i++) {
        const GgufTensor *t = gguf_tensor_at(m->g, i);
        const LoraPair *p = pair_of(m, t);
        TRY(p || target(m, t) != t->type ? convert(m, t, p) : copy(m, t));
        io_map_release(t->data, (size_t)t->n_bytes);
    }
    return OK;
}

/* ---- the file ---- */

static void declare(Merge *m, const char *adapter) {
    const char *slash = strrchr(adapter, '/');
    for (size_t i = 0; i < gguf_n_kv(m->g); i++) gguf_w_kv(m->w, gguf_kv_at(m->g, i));
    if (m->o->type != QUANT_AS_STORED)
        gguf_w_u32(m->w, "general.file_type",
                   m->o->type == DT_F16    ? 1
                   : m->o->type == DT_BF16 ? 32
                                           : 0);
    gguf_w_str(m->w, "ingot.lora.merged", slice_of(slash ? slash + 1 : adapter));
    for (size_t i = 0; i < gguf_n_tensors(m->g); i++) {
        const GgufTensor *t = gguf_tensor_at(m->g, i);
        gguf_w_tensor(m->w, t->name, target(m, t), t->n_dims, t->ne);
    }
}

static Status alloc(Merge *m) {
    size_t y = 1, x = 1, other = 1;
    for (size_t i = 0; i < gguf_n_tensors(m->g); i++) {
        const GgufTensor *t = gguf_tensor_at(m->g, i);
        const LoraPair *p = pair_of(m, t);
        size_t rows = t->n_dims == 2 ? rows_of_slab(t) : 1;
        m->total += t->n_bytes;
        if (t->n_dims == 2) y = MAX(y, rows * (size_t)t->ne[0]);
        if (p) x = MAX(x, rows * (size_t)p->rank);
        if (p) other = MAX(other, lora_pair_n(p, p->is_embd ? 1 : 0));
    }
    const DeviceOps *ops = m->dev->ops;
    m->y = ops->buf_new(m->dev, y * sizeof(float));
    m->x = ops->buf_new(m->dev, x * sizeof(float));
    m->other = ops->buf_new(m->dev, other * sizeof(float));
    m->wide = mem_new_n(float, y);
    m->half = mem_new_n(float, MAX(x, other));
    m->out = mem_alloc_n(y, sizeof(float));
    if (m->y && m->x && m->other && m->wide && m->half && m->out) return OK;
    return err_set(m->e, ERR_NOMEM, "slabs of %zu numbers", y);
}

static Status check_pairs(const Merge *m) {
    for (int i = 0; i < m->n_pairs; i++) {
        const LoraPair *p = &m->pair[i];
        if (p->is_embd && m->cfg.tied)
            return err_set(m->e, ERR_UNSUPPORTED,
                           "tensor \"%s\" is the head, too, which its adapter does not change: it "
                           "cannot be merged",
                           p->base->name);
        for (int k = 0; k < 2; k++) TRY(lora_check_values(p, k, k ? p->b : p->a, m->e));
    }
    return OK;
}

static Status read_base(Merge *m, const char *path) {
    TRY(gguf_open(&m->g, path, m->e));
    Status st = model_read_config(&m->cfg, m->g, m->e);
    if (st == OK) st = model_params(&m->params, &m->n_params, &m->cfg, m->e);
    for (int i = 0; st == OK && i < m->n_params; i++) {
        const Param *p = &m->params[i];
        const GgufTensor *t = gguf_find_tensor(m->g, p->name);
        if (!t || t->ne[0] != (uint64_t)p->cols || t->ne[1] != (uint64_t)p->rows)
            st = err_set(m->e, ERR_FORMAT, "tensor %s is missing or of another shape", p->name);
    }
    if (st != OK) err_in(m->e, path);
    return st;
}

static Status read_adapter(Merge *m, const char *path) {
    TRY(gguf_open(&m->ga, path, m->e));
    Status st = lora_read_pairs(&m->pair, &m->n_pairs, &m->alpha, &m->cfg, m->params, m->n_params,
                                m->ga, m->e);
    if (st == OK) st = check_pairs(m);
    if (st != OK) err_in(m->e, path);
    return st;
}

static Status check_out(const Merge *m, const char *base, const char *adapter, const char *out) {
    bool same = io_same_file(base, out) || io_same_file(adapter, out);
    for (size_t i = 0; i < gguf_n_files(m->g); i++)
        same |= gguf_file_at(m->g, i) && io_same_file(gguf_file_at(m->g, i), out);
    if (!same) return OK;
    return err_set(m->e, ERR_ARG, "%s is input and output: choose another name", out);
}

static Status run(Merge *m, const char *base, const char *adapter, const char *out) {
    int threads = MAX(m->o->n_threads, 1);
    TRY(read_base(m, base));
    TRY(read_adapter(m, adapter));
    TRY(check_out(m, base, adapter, out));
    TRY(kern_init(&m->kern, m->o->cpu, m->e));
    TRY(device_cpu_new(&m->dev, &(DeviceOpts){.cpu = m->o->cpu, .n_threads = threads}, m->e));
    TRY(team_new(&m->team, threads, m->e));
    TRY(alloc(m));
    TRY(gguf_w_new(&m->w, out, GGUF_DEFAULT_ALIGNMENT, true, m->e));
    declare(m, adapter);
    TRY(gguf_w_begin(m->w, m->e));
    TRY(write_tensors(m));
    return gguf_w_end(m->w, m->e);
}

static void deinit(Merge *m) {
    gguf_w_free(m->w);
    if (m->dev) {
        m->dev->ops->buf_free(m->dev, m->y);
        m->dev->ops->buf_free(m->dev, m->x);
        m->dev->ops->buf_free(m->dev, m->other);
    }
    mem_free(m->wide);
    mem_free(m->half);
    mem_free(m->out);
    team_free(m->team);
    device_free(m->dev);
    mem_free(m->pair);
    mem_free(m->params);
    gguf_close(m->ga);
    gguf_close(m->g);
}

Status quant_merge(QuantMerged *st, const char *base, const char *adapter, const char *out,
                   const QuantMergeOpts *o, Err *e) {
    Err own = {0};
    Merge m = {.o = o, .e = e ? e : &own};
    if (!isfinite(o->scale)) return err_set(e, ERR_ARG, "a scale that is not finite");
    Status s = run(&m, base, adapter, out);
    QuantMerged r = {.n_pairs = m.n_pairs,
                     .n_blocks = m.n_blocks,
                     .alpha = (double)m.alpha,
                     .n_tensors = m.g ? gguf_n_tensors(m.g) : 0};
    for (int i = 0; i < m.n_pairs && m.pair; i++) r.rank = MAX(r.rank, m.pair[i].rank);
    deinit(&m);
    if (s == OK) s = io_file_size(&r.file_out, out, e);
    if (s == OK) *st = r;
    return s;
}
