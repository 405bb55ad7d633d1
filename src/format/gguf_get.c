/* SPDX-License-Identifier: Apache-2.0
 * Reading an opened file: entries by place and by name, and typed reads that hold a value
 * against the range its caller can live with. A file is foreign: no number leaves here without a
 * limit. */
#include <math.h>
#include <stdio.h>

#include "format/gguf_internal.h"

uint32_t gguf_version(const Gguf *g) { return g->version; }
uint32_t gguf_alignment(const Gguf *g) { return g->alignment; }
size_t gguf_n_kv(const Gguf *g) { return g->n_kv; }
const GgufKv *gguf_kv_at(const Gguf *g, size_t i) { return &g->kv[i]; }
size_t gguf_n_tensors(const Gguf *g) { return g->n_tensors; }
const GgufTensor *gguf_tensor_at(const Gguf *g, size_t i) { return &g->tensor[i]; }
IoMap gguf_map(const Gguf *g) { return g->map; }

const GgufKv *gguf_find(const Gguf *g, const char *key) {
    size_t i = gguf__index_find(&g->kv_index, gguf__kv_names(g), slice_of(key));
    return i == SIZE_MAX ? NULL : &g->kv[i];
}

const GgufTensor *gguf_find_tensor(const Gguf *g, const char *name) {
    size_t i = gguf__index_find(&g->tensor_index, gguf__tensor_names(g), slice_of(name));
    return i == SIZE_MAX ? NULL : &g->tensor[i];
}

/* ---- typed reads ---- */

static Status find(const GgufKv **out, const Gguf *g, const char *key, Err *e) {
    *out = gguf_find(g, key);
    if (*out) return OK;
    return gguf__err(e, ERR_NOT_FOUND, "key", slice_of(key), "is missing");
}

static Status wrong_type(const GgufKv *kv, const char *want, Err *e) {
    if (kv->type == GGUF_ARR) {
        return gguf__err(e, ERR_FORMAT, "key", kv->key, "array of %s, must be %s",
                         gguf__type_name(kv->v.arr.type), want);
    }
    return gguf__err(e, ERR_FORMAT, "key", kv->key, "type %s, must be %s",
                     gguf__type_name(kv->type), want);
}

static bool is_signed(GgufType t) {
    return t == GGUF_I8 || t == GGUF_I16 || t == GGUF_I32 || t == GGUF_I64;
}

static bool is_unsigned(GgufType t) {
    return t == GGUF_U8 || t == GGUF_U16 || t == GGUF_U32 || t == GGUF_U64;
}

static Status int_of(int64_t *out, const GgufKv *kv, int64_t min, int64_t max, Err *e) {
    if (!is_signed(kv->type) && !is_unsigned(kv->type)) return wrong_type(kv, "an integer", e);
    bool too_big = is_unsigned(kv->type) && kv->v.u > INT64_MAX;
    int64_t v = is_signed(kv->type) ? kv->v.i : (int64_t)(kv->v.u & INT64_MAX);
    if (!too_big && v >= min && v <= max) {
        *out = v;
        return OK;
    }
    StrBuf text = {0};
    gguf_format_value(kv, &text);
    gguf__err(e, ERR_FORMAT, "key", kv->key, "%s is out of range, limit %lld to %lld",
              sb_str(&text), (long long)min, (long long)max);
    sb_deinit(&text);
    return ERR_FORMAT;
}

static Status float_of(double *out, const GgufKv *kv, double min, double max, Err *e) {
    if (kv->type != GGUF_F32 && kv->type != GGUF_F64) return wrong_type(kv, "a float", e);
    double v = kv->v.f;
    if (!isfinite(v) || v < min || v > max) {
        return gguf__err(e, ERR_FORMAT, "key", kv->key, "%g is %s, limit %g to %g", v,
                         isfinite(v) ? "out of range" : "not finite", min, max);
    }
    *out = v;
    return OK;
}

static Status bool_of(bool *out, const GgufKv *kv, Err *e) {
    if (kv->type != GGUF_BOOL) return wrong_type(kv, "bool", e);
    *out = kv->v.u != 0;
    return OK;
}

static Status str_of(Slice *out, const GgufKv *kv, Err *e) {
    if (kv->type != GGUF_STR) return wrong_type(kv, "str", e);
    *out = kv->v.s;
    return OK;
}

Status gguf_get_int(int64_t *out, const Gguf *g, const char *key, int64_t min, int64_t max,
                    Err *e) {
    const GgufKv *kv;
    TRY(find(&kv, g, key, e));
    return int_of(out, kv, min, max, e);
}

Status gguf_get_float(double *out, const Gguf *g, const char *key, double min, double max, Err *e) {
    const GgufKv *kv;
    TRY(find(&kv, g, key, e));
    return float_of(out, kv, min, max, e);
}

Status gguf_get_bool(bool *out, const Gguf *g, const char *key, Err *e) {
    const GgufKv *kv;
    TRY(find(&kv, g, key, e));
    return bool_of(out, kv, e);
}

Status gguf_get_str(Slice *out, const Gguf *g, const char *key, Err *e) {
    const GgufKv *kv;
    TRY(find(&kv, g, key, e));
    return str_of(out, kv, e);
}

Status gguf_opt_int(int64_t *out, const Gguf *g, const char *key, int64_t min, int64_t max,
                    Err *e) {
    const GgufKv *kv = gguf_find(g, key);
    return kv ? int_of(out, kv, min, max, e) : OK;
}

Status gguf_opt_float(double *out, const Gguf *g, const char *key, double min, double max, Err *e) {
    const GgufKv *kv = gguf_find(g, key);
    return kv ? float_of(out, kv, min, max, e) : OK;
}

Status gguf_opt_bool(bool *out, const Gguf *g, const char *key, Err *e) {
    const GgufKv *kv = gguf_find(g, key);
    return kv ? bool_of(out, kv, e) : OK;
}

Status gguf_opt_str(Slice *out, const Gguf *g, const char *key, Err *e) {
    const GgufKv *kv = gguf_find(g, key);
    return kv ? str_of(out, kv, e) : OK;
}

Status gguf_get_arr(const GgufKv **out, const Gguf *g, const char *key, GgufType elem, Err *e) {
    const GgufKv *kv;
    char want[32];
    TRY(find(&kv, g, key, e));
    if (kv->type == GGUF_ARR && kv->v.arr.type == elem) {
        *out = kv;
        return OK;
    }
    snprintf(want, sizeof want, "an array of %s", gguf__type_name(elem));
    return wrong_type(kv, want, e);
}
