/* SPDX-License-Identifier: Apache-2.0
 * From file to file. A plan fixes order and type of every tensor and is declared to the writer; then each
 * tensor passes through a slab of SLAB elements: the team's tiles expand their part to f32, look for values
 * that are none, and quantize it into the slab, which is written. Blocks never cross a tile (TILE is a
 * multiple of every block and blocks divide rows), so a tensor is one flat run of elements here.
 * The calling thread writes; tiles only touch their own part of the slab. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/team.h"
#include "kernel/kernel.h"
#include "quant/quant.h"

enum { TILE = 1 << 14, SLAB = 1 << 20, COPY_BYTES = 4 << 20 };

typedef struct Item {
    const GgufTensor *t; /* borrowed from the input */
    DType type;          /* in the output */
    uint64_t n_bytes;    /* in the output */
} Item;

typedef struct Job {
    const QuantOpts *o;
    Kern kern;
    Team *team;
    Gguf *g;
    GgufW *w;
    Item *items; /* owned; in output order */
    size_t n_items;
    uint8_t *slab;        /* owned; SLAB elements of the widest output, f16 */
    float *scratch;       /* owned; [team size][TILE] */
    uint64_t done, total; /* bytes of input */
} Job;

/* One slab of one tensor. */
typedef struct Slab {
    Job *j;
    const Item *item;
    uint64_t first; /* element */
    size_t n;
    float limit; /* greatest magnitude the type can hold */
    _Atomic uint64_t
        bad; /* [atomic] lowest element that is not finite or too large; UINT64_MAX: none */
} Slab;

/* ---- tiles ---- */

/* Scales are f16, with at most 65504. */
static float greatest(DType type) {
    switch (type) {
    case DT_F16: return 0x1.ffdffep15f; /* the last that does not round to infinity */
    case DT_Q8_0: return 127 * 65504.0f;
    case DT_Q4_0: return 8 * 65504.0f;
    case DT_BF16: return 0x1.fefffep127f;
    default: return 31 * 127 * 65504.0f; /* q6_k: half scale times 8-bit scale times 6-bit number */
    }
}

/* Index of the first of x[n] that is no number up to limit; n if all are. */
static size_t find_bad(const float *x, size_t n, float limit) {
    int ok = 1;
    for (size_t i = 0; i < n; i++) ok &= fabsf(x[i]) <= limit;
    size_t i = 0;
    if (ok) return n;
    while (i < n && fabsf(x[i]) <= limit) i++;
    return i;
}

static void report_bad(Slab *s, uint64_t element) {
    uint64_t old = atomic_load_explicit(&s->bad, memory_order_relaxed);
    while (element < old &&
           !atomic_compare_exchange_weak_explicit(&s->bad, &old, element, memory_order_relaxed,
                                                  memory_order_relaxed)) {}
}

static void quantize_tile(void *ctx, int64_t tile, int worker) {
    Slab *s = ctx;
    const Job *j = s->j;
    size_t at = (size_t)tile * TILE, n = MIN(s->n - at, TILE);
    DType from = s->item->t->type, to = s->item->type;
    float *x = j->scratch + (size_t)worker * TILE;
    const uint8_t *src = (const uint8_t *)s->item->t->data + dtype_bytes(from, s->first + at);
    j->kern.to_f32[from](x, src, n);
    size_t bad = find_bad(x, n, s->limit);
    if (bad < n) report_bad(s, s->first + at + bad);
    else j->kern.from_f32[to](j->slab + dtype_bytes(to, at), x, n);
}

static Status bad_value(const Slab *s, Err *e) {
    const GgufTensor *t = s->item->t;
    uint64_t i = s->bad;
    float x;
    s->j->kern.to_f32[t->type](&x, (const uint8_t *)t->data + dtype_bytes(t->type, i), 1);
    return err_set(e, ERR_FORMAT, "tensor %.*s: element %llu is %g, the limit of %s is %g",
                   (int)t->name.n, t->name.p, (unsigned long long)i, (double)x,
                   dtype_name(s->item->type), (double)s->limit);
}

/* ---- tensors ---- */

/* n_bytes of input at src are done and not needed any more. */
static Status tick(Job *j, const uint8_t *src, size_t n_bytes, Err *e) {
    io_map_release(src, n_bytes);
    j->done += n_bytes;
    if (j->o->progress) j->o->progress(j->o->progress_ctx, j->done, j->total);
    if (j->o->stop && atomic_load_explicit(j->o->stop, memory_order_relaxed))
        return err_set(e, ERR_CANCELLED, "stopped: nothing was written");
    return OK;
}

static Status convert(Job *j, const Item *item, Err *e) {
    const GgufTensor *t = item->t;
    for (uint64_t at = 0; at < t->n_elem; at += SLAB) {
        Slab s = {.j = j,
                  .item = item,
                  .first = at,
                  .n = (size_t)MIN(t->n_elem - at, SLAB),
                  .limit = greatest(item->type),
                  .bad = UINT64_MAX};
        team_run(j->team, (int64_t)((s.n + TILE - 1) / TILE), quantize_tile, &s);
        if (s.bad != UINT64_MAX) return bad_value(&s, e);
        TRY(gguf_w_data(j->w, j->slab, dtype_bytes(item->type, s.n), e));
        TRY(tick(j, (const uint8_t *)t->data + dtype_bytes(t->type, at), dtype_bytes(t->type, s.n),
                 e));
    }
    return OK;
}

static Status copy(Job *j, const GgufTensor *t, Err *e) {
    const uint8_t *p = t->data;
    for (uint64_t at = 0, n; at < t->n_bytes; at += n) {
        n = MIN(t->n_bytes - at, COPY_BYTES);
        TRY(gguf_w_data(j->w, p + at, n, e));
        TRY(tick(j, p + at, n, e));
    }
    return OK;
}

static Status write_tensors(Job *j, Err *e) {
    for (size_t i = 0; i < j->n_items; i++) {
        const Item *it = &j->items[i];
        if (it->type == it->t->type) TRY(copy(j, it->t, e));
        else TRY(convert(j, it, e));
        io_map_release(it->t->data, it->t->n_bytes); /* pages that slabs share */
    }
    return OK;
}

/* ---- plan ---- */

static int by_name(const void *a, const void *b) {
    return quant_compare_names(((const Item *)a)->t->name, ((const Item *)b)->t->name);
}

static Status check_source(const Job *j, const Item *it, Err *e) {
    const GgufTensor *t = it->t;
    if (it->type == t->type) return OK;
    if (dtype_info(t->type)->is_quantized)
        return err_set(e, ERR_UNSUPPORTED,
                       "tensor %.*s is %s already: start from the f32, f16 or bf16 file",
                       (int)t->name.n, t->name.p, dtype_name(t->type));
    if (!j->kern.to_f32[t->type] || !j->kern.from_f32[it->type])
        return err_set(e, ERR_UNSUPPORTED, "tensor %.*s: no conversion from %s to %s",
                       (int)t->name.n, t->name.p, dtype_name(t->type), dtype_name(it->type));
    return OK;
}

static Status plan(Job *j, Err *e) {
    QuantRules r = {.type = j->o->type,
                    .pure = j->o->pure,
                    .has_output = gguf_find_tensor(j->g, "output.weight") != NULL,
                    .has_q6_k = dtype_info(14) && j->kern.from_f32[14] && j->kern.gemv[14]};
    j->n_items = gguf_n_tensors(j->g);
    j->items = mem_new_n(Item, j->n_items);
    if (!j->items) return err_set(e, ERR_NOMEM, "plan of %zu tensors", j->n_items);
    for (size_t i = 0; i < j->n_items; i++) {
        Item *it = &j->items[i];
        it->t = gguf_tensor_at(j->g, i);
        it->type = quant_type_for(&r, it->t);
        it->n_bytes =
            it->type == it->t->type ? it->t->n_bytes : dtype_bytes(it->type, it->t->n_elem);
        j->total += it->t->n_bytes;
        TRY(check_source(j, it, e));
    }
    qsort(j->items, j->n_items, sizeof *j->items, by_name);
    return OK;
}

static Status check_disk(const Job *j, const char *path, Err *e) {
    uint64_t want = 0, have = 0;
    for (size_t i = 0; i < j->n_items; i++) want += j->items[i].n_bytes;
    TRY(io_disk_free(&have, path, e));
    if (want <= have) return OK;
    return err_set(e, ERR_IO, "%s: %llu MB to write, the disk has %llu MB free", path,
                   (unsigned long long)(want >> 20), (unsigned long long)(have >> 20));
}

/* Metadata in its order, what is known better here at its end; tensors in theirs. */
static void declare(Job *j) {
    static const char version[] = "general.quantization_version", file_type[] = "general.file_type";
    for (size_t i = 0; i < gguf_n_kv(j->g); i++) {
        const GgufKv *kv = gguf_kv_at(j->g, i);
        if (!slice_eq_str(kv->key, version) && !slice_eq_str(kv->key, file_type))
            gguf_w_kv(j->w, kv);
    }
    gguf_w_u32(j->w, version, 2);
    gguf_w_u32(j->w, file_type, (uint32_t)quant_file_type(j->o->type));
    for (size_t i = 0; i < j->n_items; i++) {
        const Item *it = &j->items[i];
        gguf_w_tensor(j->w, it->t->name, it->type, it->t->n_dims, it->t->ne);
    }
}

/* ---- the file ---- */

static Status open_job(Job *j, const char *in, Err *e) {
    TRY(gguf_open(&j->g, in, e));
    TRY(kern_init(&j->kern, j->o->cpu, e));
    TRY(plan(j, e));
    TRY(team_new(&j->team, MAX(j->o->n_threads, 1), e));
    j->slab = mem_alloc_n(SLAB, sizeof(uint16_t));
    j->scratch = mem_new_n(float, (size_t)team_size(j->team) * TILE);
    if (!j->slab || !j->scratch) return err_set(e, ERR_NOMEM, "quantizer buffers");
    return OK;
}

static Status write_file(Job *j, const char *out, Err *e) {
    TRY(check_disk(j, out, e));
    TRY(gguf_w_new(&j->w, out, GGUF_DEFAULT_ALIGNMENT, true, e));
    declare(j);
    TRY(gguf_w_begin(j->w, e));
    TRY(write_tensors(j, e));
    return gguf_w_end(j->w, e);
}

static void close_job(Job *j) {
    gguf_w_free(j->w);
    mem_free(j->slab);
    mem_free(j->scratch);
    mem_free(j->items);
    team_free(j->team);
    gguf_close(j->g);
}

static void count(QuantStats *st, const Job *j) {
    *st = (QuantStats){.n_tensors = j->n_items, .bytes_in = j->total};
    for (size_t i = 0; i < j->n_items; i++) {
        st->n_params += j->items[i].t->n_elem;
        st->bytes_out += j->items[i].n_bytes;
        st->n_of_type[j->items[i].type]++;
    }
}

Status quant_file(QuantStats *st, const char *in, const char *out, const QuantOpts *o, Err *e) {
    Job j = {.o = o};
    QuantStats s = {0};
    if (quant_file_type(o->type) < 0 || o->type == DT_F32)
        return err_set(e, ERR_ARG, "type %s: choose f16, bf16, q8_0 or q4_0", dtype_name(o->type));
    Status status = open_job(&j, in, e);
    if (status == OK) status = write_file(&j, out, e);
    if (status == OK) count(&s, &j);
    close_job(&j);
    if (status == OK) status = io_file_size(&s.file_in, in, e);
    if (status == OK) status = io_file_size(&s.file_out, out, e);
    if (status == OK) *st = s;
    return status;
}
