/* SPDX-License-Identifier: Apache-2.0
 * Times ops->attn alone: a cache of many layers, so that no layer is in the processor's caches when its turn
 * comes again, and in turns with it the two limits, reading memory and multiplying in registers, on the same
 * threads. Machines are shared: what counts is the least time of each over the same minute. */
#include "device/attn_bench.h"

#include <math.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/rng.h"
#include "device/internal.h"

enum {
    POOL_BYTES = 192 << 20, /* of the cache, about */
    READ_BYTES = 96 << 20,
    READ_TILE = 1 << 20,
    READ_PART = 12 << 20, /* of one turn */
    PEAK_ROUNDS = 1024,
    TURNS = 24, /* of a round */
    MAX_LAYERS = 512
};

#define TURN_S 0.003 /* the calls of a turn take so long, or one does */

typedef struct Rig {
    const AttnBenchCase *c;
    CpuDevice *d;
    KvStore *kv;
    Buf *qkv, *o;
    int n_layer, n_blocks; /* blocks of each sequence */
    int32_t *ids, *pos, *seq;
    const int32_t **tables;
    char *mem; /* the read probe's */
    size_t read_at;
    int layer; /* whose turn it is */
    _Atomic uint64_t sink;
    Batch b;
} Rig;

static size_t row_width(const AttnBenchCase *c) {
    return (size_t)(c->nh + 2 * c->nkv) * (size_t)c->hd;
}

/* ---- setting up ---- */

static void rig_deinit(Rig *r) {
    Device *d = r->d ? &r->d->base : NULL;
    if (d && r->kv) d->ops->kv_free(d, r->kv);
    if (d && r->qkv) d->ops->buf_free(d, r->qkv);
    if (d && r->o) d->ops->buf_free(d, r->o);
    if (r->mem) mem_map_free(r->mem, READ_BYTES);
    mem_free(r->ids);
    mem_free(r->pos);
    mem_free(r->seq);
    mem_free(r->tables);
    device_free(d);
}

/* Block 0 gets tokens of all layers, and every other block a copy. */
static void fill_cache(Rig *r) {
    const AttnBenchCase *c = r->c;
    Device *d = &r->d->base;
    int32_t pos[KV_BLOCK], seq[KV_BLOCK] = {0}, block = 0;
    const int32_t *table = &block;
    Batch b = {.T = KV_BLOCK, .pos = pos, .seq = seq, .n_seq = 1, .blocks = &table};
    for (int i = 0; i < KV_BLOCK; i++) pos[i] = i;
    for (int l = 0; l < r->n_layer; l++)
        d->ops->rope_kv(d, &(RopeKvArgs){.qkv = buf_at(r->qkv, 0),
                                         .pos = pos,
                                         .T = KV_BLOCK,
                                         .nh = c->nh,
                                         .nkv = c->nkv,
                                         .hd = c->hd,
                                         .kv = r->kv,
                                         .layer = l,
                                         .batch = &b});
    for (int i = 1; i < r->n_blocks * c->n_seq; i++) d->ops->kv_copy(d, r->kv, i, 0);
}

/* Sequence s has every n_seq-th block, so that its blocks are apart as in a pool that was used for a while. */
static void lay_out(Rig *r) {
    const AttnBenchCase *c = r->c;
    for (int s = 0; s < c->n_seq; s++) {
        r->tables[s] = r->ids + (size_t)s * (size_t)r->n_blocks;
        for (int i = 0; i < r->n_blocks; i++) r->ids[s * r->n_blocks + i] = i * c->n_seq + s;
        for (int i = 0; i < c->n_rows; i++) {
            r->pos[s * c->n_rows + i] = c->ctx - c->n_rows + i;
            r->seq[s * c->n_rows + i] = s;
        }
    }
    r->b = (Batch){.T = c->n_seq * c->n_rows,
                   .pos = r->pos,
                   .seq = r->seq,
                   .n_seq = c->n_seq,
                   .blocks = r->tables};
}

static bool rig_alloc(Rig *r) {
    const AttnBenchCase *c = r->c;
    Device *d = &r->d->base;
    size_t T = (size_t)(c->n_seq * c->n_rows), rows = MAX(T, KV_BLOCK);
    r->n_blocks = (c->ctx + KV_BLOCK - 1) / KV_BLOCK;
    size_t layer =
        device_kv_head_bytes(c->kv, c->hd) * 2 * (size_t)c->nkv * (size_t)(r->n_blocks * c->n_seq);
    r->n_layer = (int)MAX((size_t)1, MIN((size_t)MAX_LAYERS, POOL_BYTES / layer));
    r->kv = d->ops->kv_new(d, c->kv, r->n_layer, r->n_blocks * c->n_seq, c->nkv, c->hd);
    r->qkv = d->ops->buf_new(d, rows * row_width(c) * sizeof(float));
    r->o = d->ops->buf_new(d, T * (size_t)(c->nh * c->hd) * sizeof(float));
    r->ids = mem_new_n(int32_t, (size_t)(r->n_blocks * c->n_seq));
    r->pos = mem_new_n(int32_t, T);
    r->seq = mem_new_n(int32_t, T);
    r->tables = mem_new_n(const int32_t *, (size_t)c->n_seq);
    r->mem = mem_map_alloc(READ_BYTES);
    return r->kv && r->qkv && r->o && r->ids && r->pos && r->seq && r->tables && r->mem;
}

static Status rig_init(Rig *r, const DeviceOpts *o, Err *e) {
    Device *d = NULL;
    TRY(device_cpu_new(&d, o, e));
    r->d = cpu_of(d);
    if (!rig_alloc(r)) return err_set(e, ERR_NOMEM, "attention bench: out of memory");
    rng_normal_fill((float *)(void *)r->qkv->p, r->qkv->n_bytes / sizeof(float), 1.0f, 1, 1);
    memset(r->mem, 1, READ_BYTES);
    lay_out(r);
    fill_cache(r);
    return d->ops->sync(d, e);
}

/* ---- measuring ---- */

static void attn_layer(Rig *r, int layer) {
    const AttnBenchCase *c = r->c;
    Device *d = &r->d->base;
    d->ops->attn(d, &(AttnArgsDev){.o = buf_at(r->o, 0),
                                   .qkv = buf_at(r->qkv, 0),
                                   .nh = c->nh,
                                   .nkv = c->nkv,
                                   .hd = c->hd,
                                   .layer = layer,
                                   .scale = 1.0f / sqrtf((float)c->hd),
                                   .kv = r->kv,
                                   .batch = &r->b});
}

static void read_task(void *ctx, int64_t tile, int worker) {
    Rig *r = ctx;
    (void)worker;
    uint64_t x = r->d->kern.read(r->mem + r->read_at + (size_t)tile * READ_TILE, READ_TILE);
    atomic_fetch_xor_explicit(&r->sink, x, memory_order_relaxed);
}

static void peak_task(void *ctx, int64_t tile, int worker) {
    Rig *r = ctx;
    (void)tile;
    (void)worker;
    atomic_fetch_add_explicit(&r->sink, r->d->kern.fma_peak(PEAK_ROUNDS), memory_order_relaxed);
}

static void measure_limits(Rig *r, AttnBenchRow *row) {
    int64_t n = 4 * team_size(r->d->team);
    double t0 = clock_now_s();
    team_run(r->d->team, READ_PART / READ_TILE, read_task, r);
    double t1 = clock_now_s();
    r->read_at = (r->read_at + READ_PART) % READ_BYTES;
    atomic_store(&r->sink, 0);
    team_run(r->d->team, n, peak_task, r);
    double t2 = clock_now_s();
    row->read_bytes = MAX(row->read_bytes, READ_PART / (t1 - t0));
    row->peak_flops = MAX(row->peak_flops, (double)atomic_load(&r->sink) / (t2 - t1));
}

/* Tokens that all rows together see. */
static double seen_tokens(const AttnBenchCase *c) {
    return (double)c->n_seq * c->n_rows * (c->ctx - 0.5 * (c->n_rows - 1));
}

static void measure(Rig *r, int rounds, AttnBenchRow *row) {
    const AttnBenchCase *c = r->c;
    *row = (AttnBenchRow){.c = c, .seconds = HUGE_VAL};
    row->kv_bytes =
        (double)device_kv_head_bytes(c->kv, c->hd) / KV_BLOCK * 2 * c->nkv * c->ctx * c->n_seq;
    row->flops = 4.0 * c->hd * c->nh * seen_tokens(c);
    for (int i = 0; i < rounds * TURNS; i++) {
        int calls = 0;
        double start = clock_now_s(), t = start;
        for (; t - start < TURN_S; calls++) {
            attn_layer(r, r->layer);
            r->layer = (r->layer + 1) % r->n_layer;
            t = clock_now_s();
        }
        row->seconds = fmin(row->seconds, (t - start) / calls);
        measure_limits(r, row);
    }
}

Status device_attn_bench(const DeviceOpts *o, const AttnBenchCase *cases, int n, int rounds,
                         void (*on_row)(void *ctx, const AttnBenchRow *row), void *ctx, Err *e) {
    for (int i = 0; i < n; i++) {
        Rig r = {.c = &cases[i]};
        AttnBenchRow row;
        Status st = rig_init(&r, o, e);
        if (st == OK) measure(&r, rounds, &row);
        if (st == OK) st = r.d->base.ops->sync(&r.d->base, e);
        rig_deinit(&r);
        TRY(st);
        on_row(ctx, &row);
    }
    return OK;
}
