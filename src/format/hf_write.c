/* SPDX-License-Identifier: Apache-2.0
 * From a folder to a GGUF file: the architecture's keys, then each tensor through slabs of a few megabytes.
 * A slab is a run of the output's rows: taken from the map as they lie, or gathered, then converted where
 * the type changes. What keeps its type is copied bit for bit. One thread. */
#include <math.h>
#include <stdio.h>

#include "format/hf_internal.h"
#include "tensor/half.h"

enum { SLAB_BYTES = 4 << 20 };

typedef struct Job {
    const HfModel *m;
    const HfWrite *o;
    GgufW *w;
    uint8_t *raw;  /* owned: gathered rows in their own type */
    float *wide;   /* owned: the slab as f32 */
    uint16_t *out; /* owned: the slab in the output's type */
    uint64_t done, total;
    Err *e;
} Job;

/* ---- rows ---- */

static size_t row_bytes(const HfItem *it) { return (size_t)it->cols * dtype_bytes(it->from, 1); }

/* Where row r of the output is in the folder: pairs (2i, 2i + 1) of a head were rows i and i + hd/2. */
static uint64_t pair_source(const HfConfig *c, uint64_t r) {
    uint64_t hd = (uint64_t)c->hd, k = r % hd;
    return r - k + k % 2 * (hd / 2) + k / 2;
}

static void gather_pairs(Job *j, const HfItem *it, uint64_t first, size_t n) {
    size_t bytes = row_bytes(it);
    const uint8_t *src = it->src->data;
    for (size_t i = 0; i < n; i++)
        memcpy(j->raw + i * bytes, src + pair_source(&j->m->cfg, first + i) * bytes, bytes);
}

/* Rows of the output are columns of the folder's matrix; its rows are read in order. */
static void gather_turned(Job *j, const HfItem *it, uint64_t first, size_t n) {
    size_t size = dtype_bytes(it->from, 1), step = (size_t)it->rows * size, cols = (size_t)it->cols;
    for (size_t k = 0; k < cols; k++) {
        const uint8_t *src = (const uint8_t *)it->src->data + k * step + (size_t)first * size;
        uint8_t *to = j->raw + k * size;
        if (size == 2)
            for (size_t i = 0; i < n; i++) memcpy(to + i * cols * 2, src + i * 2, 2);
        else
            for (size_t i = 0; i < n; i++) memcpy(to + i * cols * 4, src + i * 4, 4);
    }
}

static void gather_freqs(Job *j) {
    for (int i = 0; i < j->m->cfg.hd / 2; i++) {
        float f = hf__llama3_divisor(&j->m->cfg, i);
        memcpy(j->raw + (size_t)i * sizeof f, &f, sizeof f);
    }
}

/* n rows from `first` of the output, in the type they have in the folder. */
static const uint8_t *rows_at(Job *j, const HfItem *it, uint64_t first, size_t n) {
    switch (it->how) {
    case HF_COPY: return (const uint8_t *)it->src->data + first * row_bytes(it);
    case HF_PAIRS: gather_pairs(j, it, first, n); break;
    case HF_TRANSPOSE: gather_turned(j, it, first, n); break;
    case HF_FREQS: gather_freqs(j); break;
    }
    return j->raw;
}

/* ---- types ---- */

static Status too_large(const Job *j, const HfItem *it, float x) {
    return err_set(j->e, ERR_FORMAT, "tensor %s: %g, the limit of f16 is 65504: take bf16 or f32",
                   it->name, (double)x);
}

/* f32 at j->wide into j->out. Infinities and NaN stay what they are. */
static Status narrow(Job *j, const HfItem *it, size_t n) {
    if (it->to == DT_BF16) {
        for (size_t i = 0; i < n; i++) j->out[i] = half_f32_to_bf16(j->wide[i]);
        return OK;
    }
    for (size_t i = 0; i < n; i++) {
        j->out[i] = half_f32_to_f16(j->wide[i]);
        if ((j->out[i] & 0x7fff) == 0x7c00 && isfinite(j->wide[i]))
            return too_large(j, it, j->wide[i]);
    }
    return OK;
}

static Status put(Job *j, const HfItem *it, const uint8_t *raw, size_t n) {
    if (it->from == it->to) return gguf_w_data(j->w, raw, dtype_bytes(it->to, n), j->e);
    if (!dtype_widen(j->wide, it->from, raw, n)) memcpy(j->wide, raw, n * sizeof(float));
    if (it->to == DT_F32) return gguf_w_data(j->w, j->wide, n * sizeof(float), j->e);
    TRY(narrow(j, it, n));
    return gguf_w_data(j->w, j->out, dtype_bytes(it->to, n), j->e);
}

/* ---- tensors ---- */

static size_t rows_of_slab(const HfItem *it) {
    uint64_t n = SLAB_BYTES / (it->cols * sizeof(float));
    return (size_t)MIN(MAX(n, 1), it->rows);
}

static Status write_item(Job *j, const HfItem *it) {
    size_t step = rows_of_slab(it);
    for (uint64_t at = 0, n; at < it->rows; at += n) {
        n = MIN(it->rows - at, step);
        const uint8_t *raw = rows_at(j, it, at, (size_t)n);
        TRY(put(j, it, raw, (size_t)(n * it->cols)));
        j->done += n * row_bytes(it);
        if (it->how == HF_COPY) io_map_release(raw, (size_t)n * row_bytes(it));
        if (j->o->progress) j->o->progress(j->o->progress_ctx, j->done, j->total);
        if (j->o->stop && atomic_load_explicit(j->o->stop, memory_order_relaxed))
            return err_set(j->e, ERR_CANCELLED, "stopped: nothing was written");
    }
    return OK;
}

static Status alloc_slabs(Job *j) {
    size_t n = 1;
    for (size_t i = 0; i < j->m->n_items; i++) {
        const HfItem *it = &j->m->item[i];
        n = MAX(n, rows_of_slab(it) * (size_t)it->cols);
        j->total += it->rows * row_bytes(it);
    }
    j->raw = mem_alloc_n(n, sizeof(float));
    j->wide = mem_new_n(float, n);
    j->out = mem_new_n(uint16_t, n);
    return j->raw && j->wide && j->out ? OK : err_set(j->e, ERR_NOMEM, "slabs of %zu numbers", n);
}

/* ---- the head ---- */

static const char *key_of(char buf[96], const HfConfig *c, const char *tail) {
    snprintf(buf, 96, "%s.%s", c->arch->gguf, tail);
    return buf;
}

static void put_rope(const HfConfig *c, GgufW *w) {
    char key[96];
    const HfRope *r = &c->rope;
    gguf_w_f32(w, key_of(key, c, "rope.freq_base"), (float)r->base);
    gguf_w_u32(w, key_of(key, c, "rope.dimension_count"), (uint32_t)c->hd);
    if (r->kind != HF_ROPE_LINEAR && r->kind != HF_ROPE_YARN) return;
    gguf_w_str(w, key_of(key, c, "rope.scaling.type"),
               slice_of(r->kind == HF_ROPE_YARN ? "yarn" : "linear"));
    gguf_w_f32(w, key_of(key, c, "rope.scaling.factor"), (float)r->factor);
    if (r->kind != HF_ROPE_YARN) return;
    gguf_w_u32(w, key_of(key, c, "rope.scaling.original_context_length"), (uint32_t)r->ctx);
    if (fabs(r->attn - 1.0) > 1e-9)
        gguf_w_f32(w, key_of(key, c, "rope.scaling.attn_factor"), (float)r->attn);
}

void hf__put_keys(const HfModel *m, GgufW *w) {
    const HfConfig *c = &m->cfg;
    char key[96];
    bool rms = c->arch->family == HF_LLAMA;
    gguf_w_str(w, "general.architecture", slice_of(c->arch->gguf));
    gguf_w_str(w, "general.type", slice_of("model"));
    gguf_w_str(w, "general.name", slice_of(sb_str(&m->name)));
    gguf_w_u32(w, key_of(key, c, "block_count"), (uint32_t)c->n_layer);
    gguf_w_u32(w, key_of(key, c, "context_length"), (uint32_t)c->ctx);
    gguf_w_u32(w, key_of(key, c, "embedding_length"), (uint32_t)c->C);
    gguf_w_u32(w, key_of(key, c, "feed_forward_length"), (uint32_t)c->ff);
    gguf_w_u32(w, key_of(key, c, "attention.head_count"), (uint32_t)c->nh);
    gguf_w_u32(w, key_of(key, c, "attention.head_count_kv"), (uint32_t)c->nkv);
    if (c->hd * c->nh != c->C) {
        gguf_w_u32(w, key_of(key, c, "attention.key_length"), (uint32_t)c->hd);
        gguf_w_u32(w, key_of(key, c, "attention.value_length"), (uint32_t)c->hd);
    }
    gguf_w_f32(w,
               key_of(key, c,
                      rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"),
               (float)c->eps);
    gguf_w_u32(w, key_of(key, c, "vocab_size"), (uint32_t)c->V);
    if (rms) put_rope(c, w);
    DType t = hf_type(m);
    gguf_w_u32(w, "general.file_type", t == DT_F16 ? 1 : t == DT_BF16 ? 32 : 0);
    gguf_w_u32(w, "general.quantization_version", 2);
    /* where the architecture leaves the class open, for the way back */
    if (strcmp(c->arch->name, "MistralForCausalLM") == 0)
        gguf_w_str(w, "ingot.hf.class", slice_of(c->arch->name));
    if (c->bos >= 0) gguf_w_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)c->bos);
}

static void declare(Job *j) {
    hf__put_keys(j->m, j->w);
    if (j->o->extra) j->o->extra(j->o->extra_ctx, j->w);
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
    TRY(alloc_slabs(j));
    TRY(gguf_w_new(&j->w, path, GGUF_DEFAULT_ALIGNMENT, true, j->e));
    declare(j);
    TRY(gguf_w_begin(j->w, j->e));
    for (size_t i = 0; i < j->m->n_items; i++) TRY(write_item(j, &j->m->item[i]));
    return gguf_w_end(j->w, j->e);
}

Status hf_write(const HfModel *m, const char *path, const HfWrite *o, Err *e) {
    Job j = {.m = m, .o = o, .e = e};
    Status st = run(&j, path);
    gguf_w_free(j.w);
    mem_free(j.raw);
    mem_free(j.wide);
    mem_free(j.out);
    return st;
}
