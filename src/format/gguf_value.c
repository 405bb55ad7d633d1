/* SPDX-License-Identifier: Apache-2.0
 * Metadata values: checking them while the file is opened, decoding scalars, walking arrays, and
 * text. An array is checked element by element and never copied, so the walkers need no checks
 * of their own. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/gguf_internal.h"

typedef unsigned long long Ull; /* what %llu takes */

enum { STR_HEAD_BYTES = 8, ARR_HEAD_BYTES = 4 + 8 };

static const struct {
    const char *name;
    size_t bytes; /* 0: not a scalar */
} type_table[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = {"u8", 1},   [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2}, [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4}, [GGUF_BOOL] = {"bool", 1}, [GGUF_STR] = {"str", 0},
    [GGUF_ARR] = {"arr", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

size_t gguf__type_size(uint32_t type) {
    return type < GGUF_TYPE_COUNT ? type_table[type].bytes : 0;
}

const char *gguf__type_name(GgufType type) { return type_table[type].name; }

/* ---- scalars ---- */

static int64_t sign_extend(uint64_t u, size_t n_bytes) {
    uint64_t top = UINT64_C(1) << (8 * n_bytes - 1);
    u = (u ^ top) - top;
    int64_t i;
    memcpy(&i, &u, sizeof i);
    return i;
}

static double decode_float(GgufType type, uint64_t bits) {
    if (type == GGUF_F64) {
        double d;
        memcpy(&d, &bits, sizeof d);
        return d;
    }
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

void gguf__decode_scalar(GgufKv *kv, GgufType type, const uint8_t *p) {
    uint64_t u = 0;
    memcpy(&u, p, type_table[type].bytes);
    switch (type) {
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: kv->v.i = sign_extend(u, type_table[type].bytes); break;
    case GGUF_F32:
    case GGUF_F64: kv->v.f = decode_float(type, u); break;
    default: kv->v.u = u; break;
    }
}

/* ---- checking ---- */

static Status check_type(GgufCursor *c, uint32_t type, const char *what) {
    if (type < GGUF_TYPE_COUNT) return OK;
    return gguf__bad(c, "%s %u is not known, limit %d", what, type, GGUF_TYPE_COUNT - 1);
}

static Status check_bools(GgufCursor *c, const uint8_t *p, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        if (p[i] > 1) return gguf__bad(c, "bool with value %u, must be 0 or 1", p[i]);
    }
    return OK;
}

static Status take_str(Slice *out, GgufCursor *c) {
    uint64_t n = 0;
    TRY(gguf__take_u64(&n, c, "string length"));
    if (n > c->n - c->at) {
        return gguf__bad(c, "string of %llu bytes at offset %zu, %zu are left", (Ull)n, c->at,
                         c->n - c->at);
    }
    *out = (Slice){(const char *)c->p + c->at, (size_t)n};
    c->at += (size_t)n;
    return OK;
}

/* Smallest encoding of an element. */
static size_t min_bytes(GgufType type) {
    if (type == GGUF_STR) return STR_HEAD_BYTES;
    if (type == GGUF_ARR) return ARR_HEAD_BYTES;
    return type_table[type].bytes;
}

static Status take_elems(GgufCursor *c, GgufType type, uint64_t n, int depth);

/* Head and elements of an array at nesting `depth` (1 is not nested). Recursion ends at the
 * limit. */
static Status take_arr(GgufKv *kv, GgufCursor *c, int depth) {
    uint32_t type = 0;
    uint64_t n = 0;
    if (depth > GGUF_MAX_ARRAY_DEPTH) {
        return gguf__bad(c, "arrays nested deeper than the limit of %d", GGUF_MAX_ARRAY_DEPTH);
    }
    TRY(gguf__take_u32(&type, c, "array type"));
    TRY(check_type(c, type, "array type"));
    TRY(gguf__take_u64(&n, c, "array length"));
    if (n > (c->n - c->at) / min_bytes((GgufType)type)) {
        return gguf__bad(c, "array of %llu %s at offset %zu, %zu bytes are left", (Ull)n,
                         type_table[type].name, c->at, c->n - c->at);
    }
    const char *start = (const char *)c->p + c->at;
    size_t at = c->at;
    TRY(take_elems(c, (GgufType)type, n, depth));
    kv->v.arr.type = (GgufType)type;
    kv->v.arr.n = n;
    kv->v.arr.bytes = (Slice){start, c->at - at};
    return OK;
}

/* n elements; n * min_bytes(type) is known to be there. */
static Status take_elems(GgufCursor *c, GgufType type, uint64_t n, int depth) {
    if (type == GGUF_STR) {
        Slice s;
        for (uint64_t i = 0; i < n; i++) TRY(take_str(&s, c));
        return OK;
    }
    if (type == GGUF_ARR) {
        GgufKv inner;
        for (uint64_t i = 0; i < n; i++) TRY(take_arr(&inner, c, depth + 1));
        return OK;
    }
    if (type == GGUF_BOOL) TRY(check_bools(c, c->p + c->at, n));
    c->at += (size_t)n * type_table[type].bytes;
    return OK;
}

static Status take_scalar(GgufKv *kv, GgufCursor *c) {
    size_t n = type_table[kv->type].bytes;
    if (n > c->n - c->at) {
        return gguf__bad(c,
                         "the file ends in the value: %zu bytes wanted at offset %zu, %zu are left",
                         n, c->at, c->n - c->at);
    }
    if (kv->type == GGUF_BOOL) TRY(check_bools(c, c->p + c->at, 1));
    gguf__decode_scalar(kv, kv->type, c->p + c->at);
    c->at += n;
    return OK;
}

Status gguf__take_value(GgufKv *kv, GgufCursor *c) {
    uint32_t type = 0;
    TRY(gguf__take_u32(&type, c, "value type"));
    TRY(check_type(c, type, "value type"));
    kv->type = (GgufType)type;
    if (kv->type == GGUF_STR) return take_str(&kv->v.s, c);
    if (kv->type == GGUF_ARR) return take_arr(kv, c, 1);
    return take_scalar(kv, c);
}

/* ---- arrays of an opened file ---- */

bool gguf_arr_next_str(const GgufKv *kv, size_t *pos, Slice *out) {
    if (kv->type != GGUF_ARR || kv->v.arr.type != GGUF_STR) return false;
    if (*pos >= kv->v.arr.bytes.n) return false;
    uint64_t n;
    memcpy(&n, kv->v.arr.bytes.p + *pos, sizeof n);
    *out = (Slice){kv->v.arr.bytes.p + *pos + sizeof n, (size_t)n};
    *pos += sizeof n + (size_t)n;
    return true;
}

static double scalar_num(const GgufKv *kv, GgufType type) {
    switch (type) {
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: return (double)kv->v.i;
    case GGUF_F32:
    case GGUF_F64: return kv->v.f;
    default: return (double)kv->v.u;
    }
}

double gguf_arr_num(const GgufKv *kv, uint64_t i) {
    if (kv->type != GGUF_ARR || i >= kv->v.arr.n) return (double)NAN;
    GgufType type = kv->v.arr.type;
    size_t bytes = type_table[type].bytes;
    if (!bytes) return (double)NAN;
    GgufKv elem = {0};
    gguf__decode_scalar(&elem, type, (const uint8_t *)kv->v.arr.bytes.p + (size_t)i * bytes);
    return scalar_num(&elem, type);
}

/* ---- text ---- */

/* The fewest digits that read back as the same value of its type. */
static void put_float(StrBuf *b, double v, bool is_f32) {
    char text[40];
    int max = is_f32 ? 9 : 17;
    for (int digits = 1; digits <= max; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        double back = is_f32 ? (double)strtof(text, NULL) : strtod(text, NULL);
        if (back == v) break;
    }
    sb_puts(b, text);
}

void gguf_format_value(const GgufKv *kv, StrBuf *b) {
    switch (kv->type) {
    case GGUF_STR: sb_put_quoted(b, kv->v.s, 80); break;
    case GGUF_ARR:
        sb_printf(b, "[%s x %llu]", type_table[kv->v.arr.type].name, (Ull)kv->v.arr.n);
        break;
    case GGUF_BOOL: sb_puts(b, kv->v.u ? "true" : "false"); break;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: sb_printf(b, "%lld", (long long)kv->v.i); break;
    case GGUF_F32:
    case GGUF_F64: put_float(b, kv->v.f, kv->type == GGUF_F32); break;
    default: sb_printf(b, "%llu", (Ull)kv->v.u); break;
    }
}
