/* SPDX-License-Identifier: Apache-2.0
 * From file to file. A plan (plan.c) fixes order and type of every tensor and is declared to the writer;
 * then each tensor passes through slabs: the team's tiles expand their part to f32, look for values that
 * are none, and quantize it into the slab, which is written. Tiles are whole blocks, so without importance
 * a tensor is one flat run of elements; with importance they are whole rows.
 * The calling thread writes; tiles only touch their own part of the slab. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "quant/internal.h"
#include "tensor/half.h"

enum { COPY_BYTES = 4 << 20 };

/* One slab of one tensor. */
typedef struct Slab {
    QuantJob *j;
    const QuantItem *item;
    size_t tile;    /* elements */
    uint64_t first; /* element */
    size_t n;
    const float *w; /* importance of the columns, or NULL */
    float limit;    /* greatest magnitude the type can hold */
    _Atomic uint64_t
        bad; /* [atomic] lowest element that is not finite or too large; UINT64_MAX: none */
} Slab;

/* ---- tiles ---- */

/* Scales are f16, with at most 65504, times the greatest integers of the type. */
float quant__limit(DType type) {
    switch (type) {
    case DT_F16: return 0x1.ffdffep15f; /* the last that does not round to infinity */
    case DT_Q8_0: return 127 * 65504.0f;
    case DT_Q4_0: return 8 * 65504.0f;
    case DT_Q4_1: return 15 * 65504.0f;
    case DT_Q5_0: return 16 * 65504.0f;
    case DT_Q5_1: return 31 * 65504.0f;
    case DT_Q4_K: return 15 * 63 * 65504.0f;
    case DT_Q5_K: return 31 * 63 * 65504.0f;
    case DT_Q6_K: return 32 * 128 * 65504.0f;
    default: return 0x1.fefffep127f; /* bf16 */
    }
}

size_t quant__find_bad(const float *x, size_t n, float limit) {
    int ok = 1;
    for (size_t i = 0; i < n; i++) ok &= fabsf(x[i]) <= limit;
    size_t i = 0;
    if (ok) return n;
    while (i < n && fabsf(x[i]) <= limit) i++;
    return i;
}

static bool is_finite_f16(const void *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return (h & 0x7c00) != 0x7c00;
}

/* Where the f16 numbers of a block stand: one or two in a row. */
static size_t scales_at(DType type, int *n) {
    *n = type == DT_Q4_1 || type == DT_Q5_1 || type == DT_Q4_K || type == DT_Q5_K ? 2 : 1;
    return type == DT_Q6_K ? 208 : 0;
}

size_t quant__find_bad_scale(DType type, const uint8_t *y, size_t n) {
    const DTypeInfo *info = dtype_info(type);
    int n_scales;
    size_t at = scales_at(type, &n_scales), block = (size_t)info->block;
    if (!info->is_quantized) return n;
    for (size_t i = 0; i < n; i += block, y += info->block_bytes)
        for (int k = 0; k < n_scales; k++)
            if (!is_finite_f16(y + at + 2 * (size_t)k)) return i;
    return n;
}

static void report_bad(Slab *s, uint64_t element) {
    uint64_t old = atomic_load_explicit(&s->bad, memory_order_relaxed);
    while (element < old &&
           !atomic_compare_exchange_weak_explicit(&s->bad, &old, element, memory_order_relaxed,
                                                  memory_order_relaxed)) {}
}

static void quantize_tile(void *ctx, int64_t tile, int worker) {
    Slab *s = ctx;
    const QuantJob *j = s->j;
    size_t at = (size_t)tile * s->tile, n = MIN(s->n - at, s->tile);
    DType from = s->item->t->type, to = s->item->type;
    float *x = j->scratch + (size_t)worker * j->tile_max;
    uint8_t *y = j->slab + dtype_bytes(to, at);
    const uint8_t *src = (const uint8_t *)s->item->t->data + dtype_bytes(from, s->first + at);
    j->kern.to_f32[from](x, src, n);
    size_t bad = quant__find_bad(x, n, s->limit), cols = (size_t)s->item->t->ne[0];
    if (bad == n && s->w) j->kern.quant[to](y, x, s->w, n / cols, cols);
    else if (bad == n) j->kern.from_f32[to](y, x, n);
    if (bad == n) bad = quant__find_bad_scale(to, y, n);
    if (bad == n && j->o->best && dtype_info(to)->is_quantized) {
        j->errors[tile] = (QuantError){0};
        quant__improve(&j->kern, to, y, j->tile + (size_t)worker * j->tile_bytes, x, s->w,
                       s->w ? n / cols : 1, s->w ? cols : n, &j->errors[tile]);
    }
    if (bad < n) report_bad(s, s->first + at + bad);
}

static Status bad_value(const Slab *s, Err *e) {
    const GgufTensor *t = s->item->t;
    DType from = t->type, to = s->item->type;
    uint64_t i = s->bad, start = i - i % (uint64_t)dtype_info(from)->block;
    float x[256], v;
    s->j->kern.to_f32[from](x, (const uint8_t *)t->data + dtype_bytes(from, start),
                            (size_t)dtype_info(from)->block);
    v = x[i - start];
    if (fabsf(v) <= s->limit)
        return err_set(
            e, ERR_FORMAT,
            "tensor %.*s: the block at element %llu spans more than the scales of %s hold",
            (int)t->name.n, t->name.p, (unsigned long long)i, dtype_name(to));
    return err_set(e, ERR_FORMAT, "tensor %.*s: element %llu is %g, the limit of %s is %g",
                   (int)t->name.n, t->name.p, (unsigned long long)i, (double)v, dtype_name(to),
                   (double)s->limit);
}

/* ---- tensors ---- */

/* n_bytes of input at src are done and not needed any more. */
static Status tick(QuantJob *j, const uint8_t *src, size_t n_bytes, Err *e) {
    io_map_release(src, n_bytes);
    j->done += n_bytes;
    if (j->o->progress) j->o->progress(j->o->progress_ctx, j->done, j->total);
    if (j->o->stop && atomic_load_explicit(j->o->stop, memory_order_relaxed))
        return err_set(e, ERR_CANCELLED, "stopped: nothing was written");
    return OK;
}

/* Tile by tile, so that the sums do not depend on threads. */
static void add_errors(QuantJob *j, DType type, size_t n_tiles, size_t n_elem) {
    QuantStats *st = &j->st;
    if (!j->o->best || !dtype_info(type)->is_quantized) return;
    st->n_elem[type] += n_elem;
    for (size_t i = 0; i < n_tiles; i++) {
        st->square[type] += j->errors[i].square;
        st->error_ref[type] += j->errors[i].ref;
        st->error_best[type] += j->errors[i].best;
    }
}

static Status convert_slab(Slab *s, Err *e) {
    const GgufTensor *t = s->item->t;
    QuantJob *j = s->j;
    size_t n_tiles = (s->n + s->tile - 1) / s->tile;
    team_run(j->team, (int64_t)n_tiles, quantize_tile, s);
    if (s->bad != UINT64_MAX) return bad_value(s, e);
    add_errors(j, s->item->type, n_tiles, s->n);
    TRY(gguf_w_data(j->w, j->slab, dtype_bytes(s->item->type, s->n), e));
    return tick(j, (const uint8_t *)t->data + dtype_bytes(t->type, s->first),
                dtype_bytes(t->type, s->n), e);
}

static Status convert(QuantJob *j, const QuantItem *it, Err *e) {
    QuantCut cut = quant__cut(it);
    for (uint64_t at = 0, n; at < it->t->n_elem; at += n) {
        uint64_t matrix = at / cut.matrix, end = (matrix + 1) * cut.matrix;
        n = MIN(end - at, cut.slab);
        Slab s = {.j = j,
                  .item = it,
                  .tile = cut.tile,
                  .first = at,
                  .n = (size_t)n,
                  .w = it->w ? it->w + matrix * it->t->ne[0] : NULL,
                  .limit = quant__limit(it->type),
                  .bad = UINT64_MAX};
        TRY(convert_slab(&s, e));
    }
    return OK;
}

static Status copy(QuantJob *j, const GgufTensor *t, Err *e) {
    const uint8_t *p = t->data;
    for (uint64_t at = 0, n; at < t->n_bytes; at += n) {
        n = MIN(t->n_bytes - at, COPY_BYTES);
        TRY(gguf_w_data(j->w, p + at, n, e));
        TRY(tick(j, p + at, n, e));
    }
    return OK;
}

static Status write_tensors(QuantJob *j, Err *e) {
    for (size_t i = 0; i < j->n_items; i++) {
        const QuantItem *it = &j->items[i];
        if (!quant__converts(it)) TRY(copy(j, it->t, e));
        else TRY(convert(j, it, e));
        io_map_release(it->t->data, it->t->n_bytes); /* pages that slabs share */
    }
    return OK;
}

/* ---- the file ---- */

static Status check_disk(const QuantJob *j, const char *path, Err *e) {
    uint64_t want = 0, have = 0;
    for (size_t i = 0; i < j->n_items; i++) want += j->items[i].n_bytes;
    TRY(io_disk_free(&have, path, e));
    if (want <= have) return OK;
    return err_set(e, ERR_IO, "%s: %llu MB to write, the disk has %llu MB free", path,
                   (unsigned long long)(want >> 20), (unsigned long long)(have >> 20));
}

/* Buffers for the largest tile and slab there are. */
static Status alloc_best(QuantJob *j, size_t tiles, Err *e) {
    if (!j->o->best) return OK;
    j->tile_bytes = dtype_bytes(DT_Q8_0, ROUND_UP(j->tile_max, (size_t)32)); /* the widest blocks */
    j->errors = mem_new_n(QuantError, tiles);
    j->tile = mem_alloc_n((size_t)team_size(j->team), MAX(j->tile_bytes, 1));
    return j->errors && j->tile ? OK : err_set(e, ERR_NOMEM, "buffers of the harder search");
}

static Status alloc_buffers(QuantJob *j, Err *e) {
    size_t slab = 0, n = 0, tiles = 1;
    for (size_t i = 0; i < j->n_items; i++) {
        const QuantItem *it = &j->items[i];
        QuantCut cut = quant__cut(it);
        if (!quant__converts(it)) continue;
        j->tile_max = MAX(j->tile_max, (size_t)MIN(cut.tile, it->t->n_elem));
        tiles = MAX(tiles, cut.slab / cut.tile);
        slab = MAX(slab, dtype_bytes(it->type, (size_t)MIN(cut.slab, it->t->n_elem)));
    }
    if (mem_mul(&n, (size_t)team_size(j->team), MAX(j->tile_max, 1)))
        j->scratch = mem_alloc_n(n, sizeof(float));
    j->slab = mem_alloc_n(MAX(slab, 1), 1);
    if (!j->slab || !j->scratch)
        return err_set(e, ERR_NOMEM, "quantizer buffers for tiles of %zu elements", j->tile_max);
    return alloc_best(j, tiles, e);
}

/* One of the files a model is in must not become the copy. */
static Status check_name(const QuantJob *j, const char *out, Err *e) {
    for (size_t i = 0; i < gguf_n_files(j->g); i++) {
        const char *part = gguf_file_at(j->g, i);
        if (part && io_same_file(part, out))
            return err_set(e, ERR_ARG, "%s is input and output: choose another name for the copy",
                           out);
    }
    return OK;
}

static Status write_file(QuantJob *j, const char *out, Err *e) {
    TRY(check_name(j, out, e));
    TRY(check_disk(j, out, e));
    TRY(team_new(&j->team, MAX(j->o->n_threads, 1), e));
    TRY(alloc_buffers(j, e));
    TRY(gguf_w_new(&j->w, out, GGUF_DEFAULT_ALIGNMENT, true, e));
    quant__declare(j);
    TRY(gguf_w_begin(j->w, e));
    TRY(write_tensors(j, e));
    TRY(gguf_w_end(j->w, e));
    return io_file_size(&j->st.file_out, out, e);
}

static Status run_job(QuantJob *j, const char *in, const char *out, Err *e) {
    TRY(gguf_open(&j->g, in, e));
    TRY(kern_init(&j->kern, j->o->cpu, e));
    TRY(quant__plan(j, e));
    TRY(io_file_size(&j->st.file_in, in, e));
    return j->o->dry_run ? OK : write_file(j, out, e);
}

static void close_job(QuantJob *j) {
    gguf_w_free(j->w);
    mem_free(j->slab);
    mem_free(j->scratch);
    mem_free(j->tile);
    mem_free(j->errors);
    mem_free(j->items);
    team_free(j->team);
    gguf_close(j->g);
}

static void count(QuantJob *j) {
    QuantStats *st = &j->st;
    st->n_tensors = j->n_items;
    st->bytes_in = j->total;
    for (size_t i = 0; i < j->n_items; i++) {
        const QuantItem *it = &j->items[i];
        st->n_params += it->t->n_elem;
        st->bytes_out += it->n_bytes;
        st->n_of_type[it->type]++;
        st->n_fallback += it->is_fallback;
        st->n_weighted += it->w != NULL;
    }
}

Status quant_file(QuantStats *st, const char *in, const char *out, const QuantOpts *o, Err *e) {
    QuantJob j = {.o = o};
    if (!o->mix) return err_set(e, ERR_ARG, "no type: choose %s", quant_mix_names());
    Status status = run_job(&j, in, out, e);
    if (status == OK) {
        count(&j);
        *st = j.st;
    }
    close_job(&j);
    return status;
}
