/* SPDX-License-Identifier: Apache-2.0
 * Weights into safetensors files. A tensor passes through slabs of its rows: as they lie, or gathered, expanded and
 * narrowed where the type changes; gpt2's matrices, which have to be turned, pass as a whole in their new type.
 * Norms, biases and positions are f32 in the file; they go out in the type of the matrices where every one of their
 * values fits it, as they then came from it, else in f32. Files are filled in the order of the model, wide types
 * first in each, so that every element is aligned. */
#include <math.h>
#include <stdio.h>

#include "format/safetensors.h"
#include "quant/export_internal.h"
#include "tensor/half.h"
#include "text/json.h"

enum { SLAB_BYTES = 4 << 20, TURN = 16, MOST_FILES = 4096 };

/* ---- types ---- */

static bool is_small(const HfOutTensor *t) {
    return t->n_dims == 1 || slice_eq_str(t->src->name, "position_embd.weight");
}

static DType plain_of(DType t) { return dtype_info(t)->is_quantized ? DT_F16 : t; }

/* Every one of n numbers is the same again after a way through type t. */
static bool survive(const float *x, size_t n, DType t) {
    for (size_t i = 0; i < n; i++) {
        float back = t == DT_BF16 ? half_bf16_to_f32(half_f32_to_bf16(x[i]))
                                  : half_f16_to_f32(half_f32_to_f16(x[i]));
        if (memcmp(&back, &x[i], sizeof back) != 0) return false;
    }
    return true;
}

static size_t n_of(const HfOutTensor *t) { return (size_t)(t->rows * t->cols); }

/* Type of the small tensors: `most`, or f32. */
static Status small_type(DType *out, Export *x, DType most, Err *e) {
    bool ok = true;
    *out = DT_F32;
    if (most == DT_F32) return OK;
    for (size_t i = 0; ok && i < hf_out_n_tensors(x->out); i++) {
        const HfOutTensor *t = hf_out_tensor_at(x->out, i);
        if (!is_small(t)) continue;
        float *v = mem_alloc_n(n_of(t), sizeof *v);
        if (!v) return err_set(e, ERR_NOMEM, "no memory for %zu numbers", n_of(t));
        x->kern.to_f32[t->src->type](v, t->src->data, n_of(t));
        ok = survive(v, n_of(t), most);
        mem_free(v);
    }
    if (ok) *out = most;
    return OK;
}

Status quant__export_types(Export *x, Err *e) {
    size_t n = hf_out_n_tensors(x->out);
    uint64_t of[DT_COUNT] = {0};
    DType most = DT_F32, small;
    x->to = mem_new_n(uint8_t, n);
    x->file = mem_new_n(int, n);
    if (!x->to || !x->file) return err_set(e, ERR_NOMEM, "no memory for %zu tensors", n);
    for (size_t i = 0; i < n; i++) {
        const HfOutTensor *t = hf_out_tensor_at(x->out, i);
        x->to[i] =
            (uint8_t)(x->o->type == QUANT_AS_STORED ? plain_of(t->src->type) : (DType)x->o->type);
        if (!is_small(t)) of[x->to[i]] += n_of(t);
    }
    for (uint32_t t = 0; t < DT_COUNT; t++)
        if (of[t] > of[most]) most = (DType)t;
    TRY(small_type(&small, x, most, e));
    for (size_t i = 0; i < n; i++) {
        const HfOutTensor *t = hf_out_tensor_at(x->out, i);
        if (is_small(t)) x->to[i] = (uint8_t)small;
        x->total += dtype_bytes((DType)x->to[i], n_of(t));
    }
    return OK;
}

/* ---- values ---- */

static Status too_large(const HfOutTensor *t, float v, Err *e) {
    return err_set(e, ERR_FORMAT, "tensor %.*s: %g, the limit of f16 is 65504: take bf16 or f32",
                   (int)t->src->name.n, t->src->name.p, (double)v);
}

/* n numbers of x in type `to`, f16 or bf16. Infinities and NaN stay what they are. */
static Status narrow(const Export *x, void *y, const float *v, size_t n, DType to,
                     const HfOutTensor *t, Err *e) {
    bool plain = true;
    for (size_t i = 0; i < n; i++) plain &= fabsf(v[i]) <= 65504.0f;
    if (plain) {
        x->kern.from_f32[to](y, v, n);
        return OK;
    }
    uint16_t *h = y;
    for (size_t i = 0; i < n; i++) {
        h[i] = to == DT_BF16 ? half_f32_to_bf16(v[i]) : half_f32_to_f16(v[i]);
        if (to == DT_F16 && (h[i] & 0x7fff) == 0x7c00 && isfinite(v[i]))
            return too_large(t, v[i], e);
    }
    return OK;
}

static Status tick(Export *x, size_t n_bytes, Err *e) {
    x->done += n_bytes;
    if (x->o->progress) x->o->progress(x->o->progress_ctx, x->done, x->total);
    if (x->o->stop && atomic_load_explicit(x->o->stop, memory_order_relaxed))
        return err_set(e, ERR_CANCELLED, "stopped: nothing was written");
    return OK;
}

/* n elements at raw, of the file's type, to the writer. */
static Status put(Export *x, StW *w, const HfOutTensor *t, DType to, const uint8_t *raw, size_t n,
                  Err *e) {
    DType from = t->src->type;
    size_t bytes = dtype_bytes(to, n);
    const void *p = raw;
    if (from != to) {
        x->kern.to_f32[from](x->wide, raw, n);
        p = x->wide;
        if (to != DT_F32) {
            TRY(narrow(x, x->narrow, x->wide, n, to, t, e));
            p = x->narrow;
        }
    }
    TRY(st_w_data(w, p, bytes, e));
    return tick(x, bytes, e);
}

/* ---- tensors ---- */

static size_t rows_of_slab(const HfOutTensor *t) {
    uint64_t n = SLAB_BYTES / (t->cols * sizeof(float));
    return (size_t)MIN(MAX(n, 1), t->rows);
}

static Status write_rows(Export *x, StW *w, const HfOutTensor *t, DType to, Err *e) {
    size_t step = rows_of_slab(t), bytes = dtype_bytes(t->src->type, (size_t)t->cols);
    const uint8_t *src = t->src->data;
    for (uint64_t at = 0, n; at < t->rows; at += n) {
        const uint8_t *raw = src + at * bytes;
        n = MIN(t->rows - at, step);
        if (t->how == HF_OUT_UNPAIR) {
            for (uint64_t i = 0; i < n; i++)
                memcpy(x->raw + i * bytes, src + hf_out_row(x->out, at + i) * bytes, bytes);
            raw = x->raw;
        }
        TRY(put(x, w, t, to, raw, (size_t)(n * t->cols), e));
        if (t->how == HF_OUT_COPY) io_map_release(raw, (size_t)n * bytes);
    }
    return OK;
}

/* m rows of `cols` numbers become columns at `first` of a matrix whose rows have `ld` numbers. */
static void turn(uint8_t *y, size_t ld, size_t first, const uint8_t *rows, size_t m, size_t cols,
                 size_t size) {
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < m; r++)
            memcpy(y + (c * ld + first + r) * size, rows + (r * cols + c) * size, size);
}

static Status write_turned(Export *x, StW *w, const HfOutTensor *t, DType to, Err *e) {
    size_t rows = (size_t)t->rows, cols = (size_t)t->cols, size = dtype_bytes(to, 1);
    DType from = t->src->type;
    uint8_t *y = mem_alloc_n(rows * cols, size);
    uint16_t *half = mem_new_n(uint16_t, TURN * cols);
    float *wide = mem_new_n(float, TURN *cols);
    Status st = y && half && wide
                    ? OK
                    : err_set(e, ERR_NOMEM, "no memory for a matrix of %zu x %zu", rows, cols);
    for (size_t at = 0, m; st == OK && at < rows; at += m) {
        m = MIN(rows - at, (size_t)TURN);
        const uint8_t *raw = (const uint8_t *)t->src->data + dtype_bytes(from, at * cols);
        const void *p = raw;
        if (from != to) {
            x->kern.to_f32[from](wide, raw, m * cols);
            p = wide;
            if (to != DT_F32) {
                st = narrow(x, half, wide, m * cols, to, t, e);
                p = half;
            }
        }
        turn(y, rows, at, p, m, cols, size);
    }
    if (st == OK) st = st_w_data(w, y, rows * cols * size, e);
    mem_free(wide);
    mem_free(half);
    mem_free(y);
    return st == OK ? tick(x, rows * cols * size, e) : st;
}

/* ---- files ---- */

static void shard_name(char buf[64], const Export *x, int file) {
    if (x->n_files == 1) snprintf(buf, 64, "model.safetensors");
    else snprintf(buf, 64, "model-%05d-of-%05d.safetensors", file + 1, x->n_files);
}

static Status cut_files(Export *x, Err *e) {
    uint64_t limit = x->o->shard_bytes ? x->o->shard_bytes : QUANT_SHARD_BYTES, have = 0;
    int file = 0;
    for (size_t i = 0; i < hf_out_n_tensors(x->out); i++) {
        uint64_t n = dtype_bytes((DType)x->to[i], n_of(hf_out_tensor_at(x->out, i)));
        if (have > 0 && have + n > limit) {
            file++;
            have = 0;
        }
        have += n;
        x->file[i] = file;
    }
    x->n_files = file + 1;
    if (x->n_files <= MOST_FILES) return OK;
    return err_set(e, ERR_ARG, "%d files of weights, limit %d: take larger ones", x->n_files,
                   (int)MOST_FILES);
}

static StType st_type(uint8_t t) { return t == DT_F16 ? ST_F16 : t == DT_BF16 ? ST_BF16 : ST_F32; }

/* Tensor i is the pass-th kind of a file: 0: wide, 1: narrow. */
static bool is_turn_of(const Export *x, size_t i, int file, int pass) {
    return x->file[i] == file && (x->to[i] == DT_F32) == (pass == 0);
}

static void declare(const Export *x, StW *w, int file, int pass) {
    for (size_t i = 0; i < hf_out_n_tensors(x->out); i++) {
        const HfOutTensor *t = hf_out_tensor_at(x->out, i);
        bool turned = t->how == HF_OUT_TURN;
        uint64_t shape[2] = {turned ? t->cols : t->rows, turned ? t->rows : t->cols};
        if (!is_turn_of(x, i, file, pass)) continue;
        if (t->n_dims == 1) shape[0] = t->rows * t->cols;
        st_w_tensor(w, slice_of(t->name), st_type(x->to[i]), t->n_dims, shape);
    }
}

static Status write_data(Export *x, StW *w, int file, Err *e) {
    TRY(st_w_begin(w, e));
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < hf_out_n_tensors(x->out); i++) {
            const HfOutTensor *t = hf_out_tensor_at(x->out, i);
            if (!is_turn_of(x, i, file, pass)) continue;
            TRY((t->how == HF_OUT_TURN ? write_turned : write_rows)(x, w, t, (DType)x->to[i], e));
        }
    return st_w_end(w, e);
}

static Status write_file(Export *x, int file, Err *e) {
    char name[64];
    StrBuf path = {0};
    StW *w = NULL;
    shard_name(name, x, file);
    io_stage_put(&path, &x->stage, name);
    Status st = sb_check(&path, e);
    if (st == OK) st = st_w_new(&w, path.p, e);
    if (st == OK) {
        st_w_meta(w, "format", "pt"); /* Transformers asks for it */
        for (int pass = 0; pass < 2; pass++) declare(x, w, file, pass);
        st = write_data(x, w, file, e);
    }
    st_w_free(w);
    sb_deinit(&path);
    return st;
}

static Status write_index(Export *x, Err *e) {
    StrBuf line = {0}, text = {0};
    JsonW w;
    char name[64];
    jw_init(&w, &line);
    jw_obj(&w, NULL);
    jw_obj(&w, "metadata");
    jw_int(&w, "total_size", (int64_t)x->total);
    jw_end_obj(&w);
    jw_obj(&w, "weight_map");
    for (size_t i = 0; i < hf_out_n_tensors(x->out); i++) {
        shard_name(name, x, x->file[i]);
        jw_cstr(&w, hf_out_tensor_at(x->out, i)->name, name);
    }
    jw_end_obj(&w);
    jw_end_obj(&w);
    Status st = sb_check(&line, e);
    if (st == OK) {
        hf_out_put_pretty(&text, (Slice){line.p, line.n});
        st = quant__export_text(x, "model.safetensors.index.json", &text, e);
    }
    sb_deinit(&line);
    sb_deinit(&text);
    return st;
}

static Status alloc_slabs(Export *x, Err *e) {
    size_t n = 1;
    for (size_t i = 0; i < hf_out_n_tensors(x->out); i++) {
        const HfOutTensor *t = hf_out_tensor_at(x->out, i);
        if (t->how != HF_OUT_TURN) n = MAX(n, rows_of_slab(t) * (size_t)t->cols);
    }
    x->raw = mem_alloc_n(n, sizeof(float));
    x->wide = mem_new_n(float, n);
    x->narrow = mem_alloc_n(n, sizeof(uint16_t));
    return x->raw && x->wide && x->narrow ? OK : err_set(e, ERR_NOMEM, "slabs of %zu numbers", n);
}

static Status check_disk(const Export *x, Err *e) {
    uint64_t have = 0;
    TRY(io_disk_free(&have, x->stage.tmp, e));
    if (x->total <= have) return OK;
    return err_set(e, ERR_IO, "%s: %llu MB to write, the disk has %llu MB free", x->stage.path,
                   (unsigned long long)(x->total >> 20), (unsigned long long)(have >> 20));
}

Status quant__export_weights(Export *x, Err *e) {
    TRY(cut_files(x, e));
    TRY(check_disk(x, e));
    TRY(alloc_slabs(x, e));
    for (int i = 0; i < x->n_files; i++) TRY(write_file(x, i, e));
    return x->n_files > 1 ? write_index(x, e) : OK;
}

Status quant__export_text(Export *x, const char *name, const StrBuf *text, Err *e) {
    StrBuf path = {0};
    IoWriter w = {0};
    io_stage_put(&path, &x->stage, name);
    Status st = sb_check(text, e);
    if (st == OK) st = sb_check(&path, e);
    if (st == OK) st = io_writer_open(&w, path.p, true, e);
    if (st == OK) st = io_write(&w, text->p, text->n, e);
    if (st == OK) st = io_writer_close(&w, e);
    io_writer_abort(&w);
    sb_deinit(&path);
    return st;
}
