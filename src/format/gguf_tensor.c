/* SPDX-License-Identifier: Apache-2.0
 * Tensor entries: names, shapes, types, and where the data lies. After this every data pointer
 * with its n_bytes is inside the file, aligned, and shared with no other tensor. */
#include <stdio.h>
#include <stdlib.h>

#include "format/gguf_internal.h"

typedef unsigned long long Ull; /* what %llu takes */

static bool mul_u64(uint64_t *out, uint64_t a, uint64_t b) {
    if (a && b > UINT64_MAX / a) return false;
    *out = a * b;
    return true;
}

/* ---- one tensor ---- */

static bool count_elems(GgufTensor *t) {
    t->n_elem = 1;
    for (int d = 0; d < t->n_dims; d++) {
        if (!mul_u64(&t->n_elem, t->n_elem, t->ne[d])) return false;
    }
    return true;
}

static Status check_dims(const GgufTensor *t, Status code, Err *e) {
    if (t->n_dims < 1 || t->n_dims > GGUF_MAX_DIMS) {
        return gguf__err(e, code, "tensor", t->name, "%d dims, limit 1 to %d", t->n_dims,
                         GGUF_MAX_DIMS);
    }
    for (int d = 0; d < t->n_dims; d++) {
        if (!t->ne[d])
            return gguf__err(e, code, "tensor", t->name, "dim %d of %d is 0", d, t->n_dims);
    }
    return OK;
}

static Status unknown_type(const GgufTensor *t, uint32_t type, Status code, Err *e) {
    const char *name = dtype_foreign_name(type);
    if (!name) return gguf__err(e, code, "tensor", t->name, "type %u is not known", type);
    return gguf__err(
        e, code, "tensor", t->name,
        "type %u (%s) is not supported: convert the model to f16, q8_0, q4_0, q4_K, ...", type,
        name);
}

Status gguf__check_shape(GgufTensor *t, uint32_t type, Status code, Err *e) {
    TRY(check_dims(t, code, e));
    const DTypeInfo *info = dtype_info(type);
    if (!info) return unknown_type(t, type, code, e);
    t->type = (DType)type;
    if (t->ne[0] % (uint64_t)info->block) {
        return gguf__err(e, code, "tensor", t->name, "rows of %llu are not whole blocks of %d (%s)",
                         (Ull)t->ne[0], info->block, info->name);
    }
    if (!count_elems(t) ||
        !mul_u64(&t->n_bytes, t->n_elem / (uint64_t)info->block, (uint64_t)info->block_bytes)) {
        return gguf__err(e, code, "tensor", t->name,
                         "shape [%llu, %llu, %llu, %llu] of %s takes more than 2^64 bytes",
                         (Ull)t->ne[0], (Ull)t->ne[1], (Ull)t->ne[2], (Ull)t->ne[3], info->name);
    }
    return OK;
}

static Status take_tensor(Gguf *g, size_t i, GgufCursor *c) {
    GgufTensor *t = &g->tensor[i];
    uint32_t n_dims = 0, type = 0;
    TRY(gguf__take_name(&t->name, c, GGUF_MAX_NAME));
    if (gguf__index_find(&g->tensor_index, gguf__tensor_names(g), t->name) != SIZE_MAX) {
        return gguf__bad(c, "is there twice");
    }
    TRY(gguf__take_u32(&n_dims, c, "number of dims"));
    if (n_dims < 1 || n_dims > GGUF_MAX_DIMS) {
        return gguf__bad(c, "%u dims, limit 1 to %d", n_dims, GGUF_MAX_DIMS);
    }
    t->n_dims = (int)n_dims;
    for (int d = 0; d < GGUF_MAX_DIMS; d++) t->ne[d] = 1;
    for (int d = 0; d < t->n_dims; d++) TRY(gguf__take_u64(&t->ne[d], c, "dims"));
    TRY(gguf__take_u32(&type, c, "type"));
    TRY(gguf__take_u64(&t->offset, c, "offset"));
    TRY(gguf__check_shape(t, type, ERR_FORMAT, c->e));
    if (!gguf__index_add(&g->tensor_index, gguf__tensor_names(g), i)) {
        return gguf__bad(c, "collides with too many other names");
    }
    return OK;
}

/* ---- where the data lies ---- */

static Status place(Gguf *g, GgufTensor *t, size_t start, Err *e) {
    uint64_t n_data = start < g->map.n ? g->map.n - start : 0;
    if (t->offset % g->alignment) {
        return gguf__err(e, ERR_FORMAT, "tensor", t->name, "offset %llu is not a multiple of %u",
                         (Ull)t->offset, g->alignment);
    }
    if (t->offset > n_data || t->n_bytes > n_data - t->offset) {
        return gguf__err(e, ERR_FORMAT, "tensor", t->name,
                         "offset %llu + %llu bytes goes past the end of the data (%llu bytes)",
                         (Ull)t->offset, (Ull)t->n_bytes, (Ull)n_data);
    }
    t->data = g->map.p + start + t->offset;
    return OK;
}

static Status overlap_error(const GgufTensor *a, const GgufTensor *b, Err *e) {
    StrBuf first = {0};
    sb_put_quoted(&first, a->name, 60);
    gguf__err(e, ERR_FORMAT, "tensor", b->name,
              "bytes %llu to %llu overlap tensor \"%s\" (%llu to %llu)", (Ull)b->offset,
              (Ull)(b->offset + b->n_bytes), sb_str(&first), (Ull)a->offset,
              (Ull)(a->offset + a->n_bytes));
    sb_deinit(&first);
    return ERR_FORMAT;
}

static bool overlap(const GgufTensor *a, const GgufTensor *b) {
    return b->offset < a->offset + a->n_bytes; /* a starts first; both end inside the file */
}

static int by_offset(const void *pa, const void *pb) {
    const GgufTensor *a = *(GgufTensor *const *)pa, *b = *(GgufTensor *const *)pb;
    if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
    return a < b ? -1 : a > b;
}

static bool offsets_rise(const Gguf *g) {
    for (size_t i = 1; i < g->n_tensors; i++) {
        if (overlap(&g->tensor[i - 1], &g->tensor[i])) return false;
    }
    return true;
}

/* Data in the order of the entries, as nearly all files have it, needs no sorting. */
static Status check_overlap(const Gguf *g, Err *e) {
    Status st = OK;
    if (offsets_rise(g)) return OK;
    const GgufTensor **order = mem_new_n(const GgufTensor *, g->n_tensors);
    if (!order) return err_set(e, ERR_NOMEM, "no memory to order %zu tensors", g->n_tensors);
    for (size_t i = 0; i < g->n_tensors; i++) order[i] = &g->tensor[i];
    qsort(order, g->n_tensors, sizeof *order, by_offset);
    for (size_t i = 1; st == OK && i < g->n_tensors; i++) {
        if (overlap(order[i - 1], order[i])) st = overlap_error(order[i - 1], order[i], e);
    }
    mem_free(order);
    return st;
}

Status gguf__take_tensors(Gguf *g, GgufCursor *c) {
    if (g->n_tensors > (c->n - c->at) / GGUF_MIN_TENSOR_BYTES) {
        return gguf__bad(c, "%zu tensors do not fit: each takes at least %d bytes, %zu are left",
                         g->n_tensors, GGUF_MIN_TENSOR_BYTES, c->n - c->at);
    }
    g->tensor = mem_new_n(GgufTensor, g->n_tensors);
    if (!g->tensor ||
        !gguf__index_reserve(&g->tensor_index, gguf__tensor_names(g), 0, g->n_tensors)) {
        return err_set(c->e, ERR_NOMEM, "no memory for %zu tensor entries", g->n_tensors);
    }
    c->kind = "tensor";
    c->of = g->n_tensors;
    for (c->i = 0; c->i < c->of; c->i++) {
        c->name = (Slice){0};
        TRY(take_tensor(g, (size_t)c->i, c));
    }
    size_t start = ROUND_UP(c->at, (size_t)g->alignment);
    for (size_t i = 0; i < g->n_tensors; i++) TRY(place(g, &g->tensor[i], start, c->e));
    return check_overlap(g, c->e);
}
