/* SPDX-License-Identifier: Apache-2.0
 * From a folder to a GGUF file: the architecture's keys, then the tensors through slabs of a few megabytes.
 *
 * A slab is a run of tiles, a tile some rows of a tensor of the output: taken from the map as they lie,
 * gathered, or unpacked; then their type changes, a strip at a time that fits into the first cache, and what
 * that lost is added up. What keeps its type is copied bit for bit. The team makes the tiles of one slab while
 * one of its members writes the slab before, and the kernel reads the files for the one after:
 *
 *   fill -> ask for its pages | make | write -> release its pages
 *
 * Sums of a tensor are added tile after tile, so nothing depends on the number of threads. */
#include <math.h>
#include <stdio.h>

#include "format/hf_internal.h"
#include "tensor/half.h"

enum {
    SLAB_BYTES = 8 << 20,
    SLAB_TILES = 128,
    TILE = 1 << 17,        /* elements, about */
    TILE_PACKED = 1 << 20, /* of matrices whose outputs lie in columns of words */
    LANES = 128            /* outputs of such a tile: what lines of their words hold */
};

typedef struct Tile {
    const HfItem *it;
    uint64_t first; /* row */
    size_t rows;
    const uint8_t *direct; /* borrowed: the bytes as they lie in the map; NULL: at out */
    uint8_t *out;          /* in the slab */
    size_t n_bytes;        /* of the output */
    HfLoss loss;
    uint64_t bad; /* element that cannot be held; UINT64_MAX: none */
    float bad_value;
} Tile;

typedef struct Slab {
    Tile tile[SLAB_TILES];
    int n;
    size_t used;
    uint8_t *buf; /* owned [Job.cap] */
} Slab;

/* One thread's. */
typedef struct Scratch {
    uint8_t *raw;  /* owned: gathered rows in their own type, or unpacked ones */
    float *work;   /* owned: tables of hf__unpack */
    uint32_t *row; /* owned: the folder's rows of a tile */
    float x[HF_STRIP], work_strip[HF_STRIP];
} Scratch;

typedef struct Job {
    const HfModel *m;
    const HfWrite *o;
    const HfCodec *codec;
    GgufW *w;
    Slab slab[3];
    size_t cap;
    Scratch **scratch; /* owned [n_threads], and each owned */
    int n_threads;
    size_t i_item; /* the next tile */
    uint64_t row;
    uint64_t done, total;
    Status written; /* of the slab that is written while another is made */
    Err write_err;
    Err *e;
} Job;

/* ---- plain C ---- */

static void plain_widen(void *ctx, DType from, float *y, const void *x, size_t n) {
    (void)ctx;
    if (!dtype_widen(y, from, x, n)) memcpy(y, x, n * sizeof *y);
}

static size_t plain_narrow(void *ctx, DType to, void *y, const float *x, size_t n) {
    uint16_t *h = y;
    (void)ctx;
    if (to == DT_F32) memcpy(y, x, n * sizeof *x);
    for (size_t i = 0; to == DT_BF16 && i < n; i++) h[i] = half_f32_to_bf16(x[i]);
    for (size_t i = 0; to == DT_F16 && i < n; i++) {
        h[i] = half_f32_to_f16(x[i]);
        if ((h[i] & 0x7fff) == 0x7c00 && isfinite(x[i])) return i;
    }
    return n;
}

static float plain_limit(DType to) { return to == DT_F16 ? 65504.0f : 0x1.fffffep127f; }

static void plain_add_loss(void *ctx, HfLoss *l, DType to, const void *y, const float *x,
                           float *work, size_t n) {
    plain_widen(ctx, to, work, y, n);
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i], d = (double)work[i] - v;
        l->error += d * d;
        l->square += v * v;
    }
}

static const HfCodec plain_codec = {.widen = plain_widen,
                                    .narrow = plain_narrow,
                                    .add_loss = plain_add_loss,
                                    .limit = plain_limit};

/* ---- rows ---- */

static size_t row_bytes(const HfItem *it) { return (size_t)it->cols * dtype_bytes(it->from, 1); }

/* Bytes of the folder behind n rows of the output. */
static uint64_t source_bytes(const HfItem *it, uint64_t n) {
    return it->packed ? n * it->cols * (uint64_t)it->packed->bits / 8 : n * row_bytes(it);
}

/* Pairs (2i, 2i + 1) of a head were rows i and i + hd/2. */
uint64_t hf_source_row(const HfModel *m, uint64_t row) {
    uint64_t hd = (uint64_t)m->cfg.hd, k = row % hd;
    return row - k + k % 2 * (hd / 2) + k / 2;
}

static void gather_pairs(const Job *j, const HfItem *it, uint8_t *to, uint64_t first, size_t n) {
    size_t bytes = row_bytes(it);
    const uint8_t *src = it->src->data;
    for (size_t i = 0; i < n; i++)
        memcpy(to + i * bytes, src + hf_source_row(j->m, first + i) * bytes, bytes);
}

/* Rows of the output are columns of the folder's matrix; its rows are read in order. */
static void gather_turned(const HfItem *it, uint8_t *out, uint64_t first, size_t n) {
    size_t size = dtype_bytes(it->from, 1), step = (size_t)it->rows * size, cols = (size_t)it->cols;
    for (size_t k = 0; k < cols; k++) {
        const uint8_t *src = (const uint8_t *)it->src->data + k * step + (size_t)first * size;
        uint8_t *to = out + k * size;
        if (size == 2)
            for (size_t i = 0; i < n; i++) memcpy(to + i * cols * 2, src + i * 2, 2);
        else
            for (size_t i = 0; i < n; i++) memcpy(to + i * cols * 4, src + i * 4, 4);
    }
}

static void gather_freqs(const Job *j, uint8_t *to) {
    for (int i = 0; i < j->m->cfg.hd / 2; i++) {
        float f = hf__llama3_divisor(&j->m->cfg, i);
        memcpy(to + (size_t)i * sizeof f, &f, sizeof f);
    }
}

static void unpack(const Job *j, const HfItem *it, Scratch *s, uint64_t first, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint64_t row = first + i;
        s->row[i] = (uint32_t)(it->how == HF_PAIRS ? hf_source_row(j->m, row) : row);
    }
    hf__unpack(it->packed, (float *)(void *)s->raw, s->row, n, s->work);
}

/* n rows from `first` of the output, in the type they have in the folder: where they lie, or in `room`. */
static const uint8_t *rows_at(const Job *j, const HfItem *it, uint8_t *room, uint64_t first,
                              size_t n) {
    switch (it->how) {
    case HF_COPY: return (const uint8_t *)it->src->data + first * row_bytes(it);
    case HF_PAIRS: gather_pairs(j, it, room, first, n); break;
    case HF_TRANSPOSE: gather_turned(it, room, first, n); break;
    case HF_FREQS: gather_freqs(j, room); break;
    }
    return room;
}

/* ---- one tile ---- */

static bool is_exact(const HfItem *it) { return it->from == it->to || it->to == DT_F32; }

static void set_bad(Tile *t, size_t element, float value) {
    t->bad = t->first * t->it->cols + element;
    t->bad_value = value;
}

/* Numbers before the first that is none. A sum tells of all at once. */
static size_t n_finite(const float *x, size_t n) {
    float sum[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) sum[k] += x[i + k] * 0.0f;
    for (int k = 1; k < 8; k++) sum[0] += sum[k];
    if (!isnan(sum[0]) && i == n) return n;
    for (i = 0; i < n && isfinite(x[i]);) i++;
    return i;
}

/* Elements at..at + n of the tile; false where one cannot be held. */
static bool convert_strip(const Job *j, Tile *t, Scratch *s, const uint8_t *raw, size_t at,
                          size_t n) {
    const HfItem *it = t->it;
    const HfCodec *c = j->codec;
    uint8_t *y = t->out + dtype_bytes(it->to, at);
    c->widen(c->ctx, it->from, s->x, raw + dtype_bytes(it->from, at), n);
    size_t ok = it->packed ? n_finite(s->x, n) : n;
    if (ok == n) ok = c->narrow(c->ctx, it->to, y, s->x, n);
    if (ok < n) {
        set_bad(t, at + ok, s->x[ok]);
        return false;
    }
    if (j->o->loss && !is_exact(it))
        c->add_loss(c->ctx, &t->loss, it->to, y, s->x, s->work_strip, n);
    return true;
}

/* What is copied as it lies is only touched, so that its pages are there when it is written. */
static void touch(const Tile *t) {
    const volatile uint8_t *p = t->direct;
    for (size_t i = 0; i < t->n_bytes; i += 4096) (void)p[i];
}

static void make_tile(const Job *j, Tile *t, Scratch *s) {
    const HfItem *it = t->it;
    const uint8_t *raw = s->raw;
    size_t n = t->rows * (size_t)it->cols;
    if (t->direct) {
        touch(t);
        return;
    }
    if (it->packed) unpack(j, it, s, t->first, t->rows);
    else if (it->from == it->to) {
        rows_at(j, it, t->out, t->first, t->rows);
        return;
    } else raw = rows_at(j, it, s->raw, t->first, t->rows);
    for (size_t at = 0; at < n; at += HF_STRIP)
        if (!convert_strip(j, t, s, raw, at, MIN(n - at, (size_t)HF_STRIP))) return;
}

/* ---- slabs ---- */

static size_t rows_of_tile(const HfItem *it) {
    uint64_t cols = it->cols, n = TILE / cols;
    if (it->packed && it->packed->scheme != HF_BNB)
        n = MIN(MAX(n, (uint64_t)LANES), MAX((uint64_t)(4 * TILE_PACKED) / cols, (uint64_t)8));
    return (size_t)MIN(MAX(n, (uint64_t)1), it->rows);
}

static bool is_direct(const HfItem *it) {
    return it->how == HF_COPY && !it->packed && it->from == it->to;
}

/* The next tile behind what the slab has; false where it does not fit, or there is none. */
static bool add_tile(Job *j, Slab *s) {
    if (j->i_item == j->m->n_items || s->n == SLAB_TILES) return false;
    const HfItem *it = &j->m->item[j->i_item];
    size_t rows = (size_t)MIN(rows_of_tile(it), it->rows - j->row);
    size_t bytes = dtype_bytes(it->to, rows * (size_t)it->cols);
    if (s->n > 0 && s->used + bytes > SLAB_BYTES) return false;
    Tile *t = &s->tile[s->n++];
    *t = (Tile){.it = it, .first = j->row, .rows = rows, .n_bytes = bytes, .bad = UINT64_MAX};
    if (is_direct(it)) t->direct = (const uint8_t *)it->src->data + j->row * row_bytes(it);
    t->out = s->buf + s->used;
    s->used += ROUND_UP(bytes, (size_t)64);
    j->row += rows;
    if (j->row < it->rows) return true;
    j->row = 0;
    j->i_item++;
    return true;
}

static const uint8_t *lies_at(const Tile *t) {
    bool copied = t->it->how == HF_COPY && !t->it->packed;
    return copied ? (const uint8_t *)t->it->src->data + t->first * row_bytes(t->it) : NULL;
}

static void fill(Job *j, Slab *s) {
    s->n = 0;
    s->used = 0;
    while (add_tile(j, s)) {}
    for (int i = 0; i < s->n; i++)
        if (lies_at(&s->tile[i]))
            io_map_prefetch(lies_at(&s->tile[i]), s->tile[i].rows * row_bytes(s->tile[i].it));
}

/* Tiles that stand one behind the other go out together. */
static Status write_slab(Job *j, const Slab *s, Err *e) {
    for (int i = 0, k; i < s->n; i = k) {
        const Tile *t = &s->tile[i];
        const uint8_t *p = t->direct ? t->direct : t->out;
        size_t n = t->n_bytes;
        for (k = i + 1; k < s->n && s->tile[k].it == t->it; k++) {
            const Tile *u = &s->tile[k];
            if ((u->direct ? u->direct : u->out) != p + n) break;
            n += u->n_bytes;
        }
        TRY(gguf_w_data(j->w, p, n, e));
    }
    return OK;
}

typedef struct Step {
    Job *j;
    Slab *make, *write; /* write may be NULL */
} Step;

static void run_step(void *ctx, int64_t i, int worker) {
    Step *s = ctx;
    if (i > 0) make_tile(s->j, &s->make->tile[i - 1], s->j->scratch[worker]);
    else if (s->write) s->j->written = write_slab(s->j, s->write, &s->j->write_err);
}

static Status bad_tile(const Job *j, const Tile *t) {
    const char *name = t->it->name, *type = dtype_name(t->it->to);
    double v = (double)t->bad_value, limit = (double)j->codec->limit(t->it->to);
    unsigned long long at = (unsigned long long)t->bad;
    if (!isfinite(v))
        return err_set(j->e, ERR_FORMAT, "tensor %s: element %llu is %g", name, at, v);
    if (fabs(v) <= limit)
        return err_set(j->e, ERR_FORMAT,
                       "tensor %s: the block at element %llu spans more than the scales of %s hold",
                       name, at, type);
    return err_set(j->e, ERR_FORMAT, "tensor %s: %g, the limit of %s is %g: take bf16 or f32", name,
                   v, type, limit);
}

/* What was made is good; what was written is done with. */
static Status end_step(Job *j, const Slab *made, const Slab *written) {
    for (int i = 0; i < made->n; i++) {
        const Tile *t = &made->tile[i];
        if (t->bad != UINT64_MAX) return bad_tile(j, t);
        if (!j->o->loss) continue;
        HfLoss *loss = &j->o->loss[t->it - j->m->item];
        loss->error += t->loss.error;
        loss->square += t->loss.square;
    }
    for (int i = 0; written && i < written->n; i++) {
        const Tile *t = &written->tile[i];
        if (lies_at(t)) io_map_release(lies_at(t), t->rows * row_bytes(t->it));
        j->done += source_bytes(t->it, t->rows);
    }
    if (j->o->progress) j->o->progress(j->o->progress_ctx, j->done, j->total);
    if (j->o->stop && atomic_load_explicit(j->o->stop, memory_order_relaxed))
        return err_set(j->e, ERR_CANCELLED, "stopped: nothing was written");
    return OK;
}

static Status write_tensors(Job *j) {
    Slab *write = NULL;
    fill(j, &j->slab[0]);
    for (int k = 0;; k++) {
        Slab *make = &j->slab[k % 3];
        Step s = {.j = j, .make = make, .write = write};
        fill(j, &j->slab[(k + 1) % 3]);
        if (j->o->team) team_run(j->o->team, make->n + 1, run_step, &s);
        else
            for (int i = 0; i <= make->n; i++) run_step(&s, i, 0);
        if (j->written != OK) {
            if (j->e) *j->e = j->write_err;
            return j->written;
        }
        TRY(end_step(j, make, write));
        if (make->n == 0) return OK;
        write = make;
    }
}

/* ---- memory ---- */

static void scratch_free(Scratch *s) {
    if (!s) return;
    mem_free(s->raw);
    mem_free(s->work);
    mem_free(s->row);
    mem_free(s);
}

static Scratch *scratch_new(size_t raw, size_t work, size_t rows) {
    Scratch *s = mem_new(Scratch);
    if (!s) return NULL;
    s->raw = mem_alloc_n(raw, 1);
    s->work = mem_new_n(float, work);
    s->row = mem_new_n(uint32_t, rows);
    if (s->raw && s->work && s->row) return s;
    scratch_free(s);
    return NULL;
}

static Status alloc_scratch(Job *j) {
    size_t raw = 1, work = 1, rows = 1;
    for (size_t i = 0; i < j->m->n_items; i++) {
        const HfItem *it = &j->m->item[i];
        size_t n = rows_of_tile(it);
        bool own = is_direct(it) || it->from == it->to;
        j->cap = MAX(j->cap, dtype_bytes(it->to, n * (size_t)it->cols) + 64);
        j->total += source_bytes(it, it->rows);
        if (!own || it->packed) raw = MAX(raw, n * row_bytes(it));
        if (!it->packed) continue;
        work = MAX(work, hf__unpack_work(it->packed, n));
        rows = MAX(rows, n);
    }
    j->n_threads = j->o->team ? team_size(j->o->team) : 1;
    j->scratch = mem_new_n(Scratch *, (size_t)j->n_threads);
    for (int i = 0; j->scratch && i < j->n_threads; i++) {
        j->scratch[i] = scratch_new(raw, work, rows);
        if (!j->scratch[i])
            return err_set(j->e, ERR_NOMEM, "no memory for tiles of %zu bytes", raw);
    }
    return j->scratch ? OK : err_set(j->e, ERR_NOMEM, "no memory for %d threads", j->n_threads);
}

static Status alloc(Job *j) {
    TRY(alloc_scratch(j));
    j->cap = MAX(j->cap, (size_t)SLAB_BYTES + 64 * SLAB_TILES);
    for (size_t i = 0; i < COUNT_OF(j->slab); i++) {
        j->slab[i].buf = mem_alloc_n(j->cap, 1);
        if (!j->slab[i].buf) return err_set(j->e, ERR_NOMEM, "slabs of %zu bytes", j->cap);
    }
    return OK;
}

static void release(Job *j) {
    for (int i = 0; j->scratch && i < j->n_threads; i++) scratch_free(j->scratch[i]);
    mem_free(j->scratch);
    for (size_t i = 0; i < COUNT_OF(j->slab); i++) mem_free(j->slab[i].buf);
    gguf_w_free(j->w);
}

/* ---- the head ---- */

/* Where quantizers put them: behind all others. */
static void put_type(const Job *j) {
    DType t = hf_type(j->m);
    int type = j->o->file_type;
    if (type < 0) type = t == DT_F16 ? 1 : t == DT_BF16 ? 32 : 0;
    gguf_w_u32(j->w, "general.quantization_version", 2);
    gguf_w_u32(j->w, "general.file_type", (uint32_t)type);
}

static void declare(Job *j) {
    hf__put_keys(j->m, j->w);
    if (j->o->extra) j->o->extra(j->o->extra_ctx, j->w);
    put_type(j);
    for (size_t i = 0; i < j->m->n_items; i++) {
        const HfItem *it = &j->m->item[i];
        uint64_t ne[2] = {it->cols, it->rows};
        if (it->n_dims == 1) ne[0] = it->cols * it->rows;
        gguf_w_tensor(j->w, slice_of(it->name), it->to, it->n_dims, ne);
    }
}

static Status check_disk(const Job *j, const char *path) {
    uint64_t want = 0, have = 0;
    for (size_t i = 0; i < j->m->n_items; i++)
        want += dtype_bytes(j->m->item[i].to, (size_t)(j->m->item[i].rows * j->m->item[i].cols));
    TRY(io_disk_free(&have, path, j->e));
    if (want <= have) return OK;
    return err_set(j->e, ERR_IO, "%s: %llu MB to write, the disk has %llu MB free", path,
                   (unsigned long long)(want >> 20), (unsigned long long)(have >> 20));
}

static Status run(Job *j, const char *path) {
    TRY(check_disk(j, path));
    TRY(alloc(j));
    TRY(gguf_w_new(&j->w, path, GGUF_DEFAULT_ALIGNMENT, true, j->e));
    declare(j);
    TRY(gguf_w_begin(j->w, j->e));
    TRY(write_tensors(j));
    return gguf_w_end(j->w, j->e);
}

Status hf_write(const HfModel *m, const char *path, const HfWrite *o, Err *e) {
    Job *j = mem_new(Job);
    if (!j) return err_set(e, ERR_NOMEM, "no memory to write %s", path);
    *j = (Job){.m = m, .o = o, .e = e, .codec = o->codec ? o->codec : &plain_codec};
    for (size_t i = 0; o->loss && i < m->n_items; i++) o->loss[i] = (HfLoss){0};
    Status st = run(j, path);
    release(j);
    mem_free(j);
    return st;
}
