/* SPDX-License-Identifier: Apache-2.0
 * Which matrices of a folder are packed, and in what: quantization_config, then the tensors that take the
 * place of NAME.weight. A matrix that lies there unpacked is read as it is, whatever the list of modules that
 * were not converted says.
 *
 *   awq           NAME.qweight, .qzeros, .scales; version gemm only
 *   gptq          NAME.qweight, .qzeros, .scales, .g_idx; 2, 3, 4 or 8 bits
 *   bitsandbytes  NAME.weight, .weight.absmax, .weight.quant_map, .weight.quant_state.bitsandbytes__nf4 (or
 *                 fp4) with JSON in it, and .weight.nested_absmax, .weight.nested_quant_map
 *
 * Every table's type and shape is held to the matrix's and every index to its table, so that hf_dequant.c
 * needs no checks. */
#include <math.h>
#include <stdio.h>
#include <strings.h>

#include "format/hf_internal.h"

typedef unsigned long long Ull; /* what %llu takes */

enum { STATE_MAX = 64 << 10, MAX_GROUP = 1 << 24, MAX_BLOCK = 1 << 20 };

/* ---- quantization_config ---- */

static Status refuse(const char *key, Slice value, const char *known, Err *e) {
    StrBuf shown = {0};
    sb_put_quoted(&shown, value, 60);
    Status st = err_set(e, ERR_UNSUPPORTED, "quantization_config: %s \"%s\" is not read, only %s",
                        key, sb_str(&shown), known);
    sb_deinit(&shown);
    return st;
}

static bool same_word(Slice s, const char *word) {
    return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

/* A word that is one of the known ones, or absent. */
static Status check_word(const Json *j, const char *key, const char *const *known, size_t n,
                         Err *e) {
    const Json *v = json_get(j, key);
    StrBuf all = {0};
    bool good = !v;
    for (size_t i = 0; i < n; i++) {
        good |= json_kind(v) == JSON_KIND_STR && same_word(json_str(v), known[i]);
        sb_printf(&all, i ? ", %s" : "%s", known[i]);
    }
    Status st = good ? OK : refuse(key, json_str(v), sb_str(&all), e);
    sb_deinit(&all);
    return st;
}

static Status check_off(const Json *j, const char *key, Err *e) {
    const Json *v = json_get(j, key);
    bool off = !v || (json_kind(v) == JSON_KIND_BOOL && !json_bool(v)) ||
               ((json_is_object(v) || json_is_array(v)) && json_len(v) == 0);
    return off ? OK
               : err_set(e, ERR_UNSUPPORTED, "quantization_config: %s is set, which is not read",
                         key);
}

/* The first of the two names that is there. */
static Status read_int(int *out, const Json *j, const char *key, const char *old, int64_t min,
                       int64_t max, Err *e) {
    return hf__int(out, j, json_get(j, key) ? key : old, min, max, false, e);
}

static Status read_group(HfQuant *q, const Json *j, Err *e) {
    TRY(read_int(&q->group, j, "group_size", "q_group_size", -1, MAX_GROUP, e));
    if (q->group != 0) return OK;
    return err_set(e, ERR_FORMAT, "quantization_config: group_size 0, want -1 or at least 1");
}

static Status read_awq(HfQuant *q, const Json *j, Err *e) {
    static const char *const versions[] = {"gemm"}, *const backends[] = {"autoawq"};
    *q = (HfQuant){.scheme = HF_AWQ, .bits = 4, .group = 128, .zero_point = true};
    TRY(check_word(j, "version", versions, COUNT_OF(versions), e));
    TRY(check_word(j, "backend", backends, COUNT_OF(backends), e));
    TRY(read_int(&q->bits, j, "bits", "w_bit", 1, 32, e));
    if (q->bits != 4)
        return err_set(e, ERR_UNSUPPORTED,
                       "quantization_config: awq of %d bits is not read, only 4", q->bits);
    TRY(hf__bool(&q->zero_point, j, "zero_point", e));
    return read_group(q, j, e);
}

static Status read_gptq(HfQuant *q, const Json *j, Err *e) {
    static const char *const formats[] = {"gptq", "gptq_v2"}, *const words[] = {"int32"};
    static const char *const keys[] = {"checkpoint_format", "format"};
    *q = (HfQuant){.scheme = HF_GPTQ, .bits = 4, .group = 128};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        TRY(check_word(j, keys[i], formats, COUNT_OF(formats), e));
        q->zeros_as_is |= same_word(json_str(json_get(j, keys[i])), "gptq_v2");
    }
    TRY(check_word(j, "pack_dtype", words, COUNT_OF(words), e));
    TRY(check_off(j, "is_marlin_format", e));
    TRY(check_off(j, "dynamic", e));
    TRY(hf__int(&q->bits, j, "bits", 1, 32, true, e));
    if (q->bits != 2 && q->bits != 3 && q->bits != 4 && q->bits != 8)
        return err_set(e, ERR_UNSUPPORTED,
                       "quantization_config: gptq of %d bits is not read, only 2, 3, 4 and 8",
                       q->bits);
    return read_group(q, j, e);
}

static Status read_bnb(HfQuant *q, const Json *j, Err *e) {
    bool four = false;
    *q = (HfQuant){.scheme = HF_BNB, .bits = 4};
    TRY(check_off(j, "load_in_8bit", e));
    TRY(hf__bool(&four, j, "load_in_4bit", e));
    if (!four)
        return err_set(e, ERR_UNSUPPORTED,
                       "quantization_config: bitsandbytes without load_in_4bit is not read");
    return OK;
}

Status hf__read_quant(HfQuant *q, const Json *j, Err *e) {
    const Json *method = json_get(j, "quant_method");
    if (!json_is_object(j)) return err_set(e, ERR_FORMAT, "quantization_config is no object");
    if (!method && json_get(j, "load_in_4bit")) return read_bnb(q, j, e);
    if (!method && json_get(j, "w_bit")) return read_awq(q, j, e);
    if (!method && json_get(j, "desc_act")) return read_gptq(q, j, e);
    if (same_word(json_str(method), "awq")) return read_awq(q, j, e);
    if (same_word(json_str(method), "gptq")) return read_gptq(q, j, e);
    if (same_word(json_str(method), "bitsandbytes")) return read_bnb(q, j, e);
    return refuse("quant_method", json_str(method), "awq, gptq, bitsandbytes", e);
}

/* ---- parts ---- */

typedef struct Parts {
    const HfModel *m;
    HfItem *it;
    const char *name; /* of the matrix, with .weight */
    size_t n_base;    /* of it without */
    bool *used;
    Err *e;
} Parts;

/* The tensor BASE + tail; NULL if there is none. */
static const StTensor *part(const Parts *p, size_t n_base, const char *tail) {
    char name[160];
    snprintf(name, sizeof name, "%.*s%s", (int)n_base, p->name, tail);
    const StTensor *t = st_find(p->m->st, slice_of(name));
    if (t) p->used[t - st_tensor_at(p->m->st, 0)] = true;
    return t;
}

static Status missing(const Parts *p, size_t n_base, const char *tail) {
    return err_set(p->e, ERR_FORMAT, "tensor \"%.*s%s\" is missing", (int)n_base, p->name, tail);
}

static bool is_one_of(StType t, unsigned types) { return (1u << t & types) != 0; }

enum {
    INTS = 1u << ST_I32 | 1u << ST_U32,
    FLOATS = 1u << ST_F16 | 1u << ST_BF16 | 1u << ST_F32,
    BYTES = 1u << ST_U8,
    F32 = 1u << ST_F32
};

/* rows 0: one dim, or any whose product is cols. */
static Status check_part(const StTensor *t, unsigned types, uint64_t rows, uint64_t cols, Err *e) {
    StrBuf name = {0}, got = {0};
    bool fits =
        rows ? t->n_dims == 2 && t->shape[0] == rows && t->shape[1] == cols : t->n_elem == cols;
    if (fits && is_one_of(t->type, types)) return OK;
    sb_put_quoted(&name, t->name, 100);
    for (int d = 0; d < t->n_dims; d++) sb_printf(&got, d ? " x %llu" : "%llu", (Ull)t->shape[d]);
    if (!fits && rows)
        err_set(e, ERR_FORMAT, "tensor \"%s\": %s, its bits and groups want %llu x %llu",
                sb_str(&name), sb_str(&got), (Ull)rows, (Ull)cols);
    else if (!fits)
        err_set(e, ERR_FORMAT, "tensor \"%s\": %s, its matrix wants %llu numbers", sb_str(&name),
                sb_str(&got), (Ull)cols);
    else
        err_set(e, ERR_UNSUPPORTED, "tensor \"%s\": %s is not what the packing has there",
                sb_str(&name), st_type_name(t->type));
    sb_deinit(&name);
    sb_deinit(&got);
    return fits ? ERR_UNSUPPORTED : ERR_FORMAT;
}

/* A part that has to be there; its data into *out. */
static Status take(const Parts *p, const uint8_t **out, size_t n_base, const char *tail,
                   unsigned types, uint64_t rows, uint64_t cols, const StTensor **tensor) {
    const StTensor *t = part(p, n_base, tail);
    if (!t) return missing(p, n_base, tail);
    TRY(check_part(t, types, rows, cols, p->e));
    *out = t->data;
    if (tensor) *tensor = t;
    return OK;
}

/* ---- awq, gptq ---- */

static Status check_sizes(const Parts *p, const HfPacked *q) {
    uint64_t n = q->scheme == HF_AWQ ? 8 : 32;
    bool words = q->scheme == HF_AWQ || q->cols * (uint64_t)q->bits % n == 0;
    bool zeros = q->rows * (uint64_t)(q->scheme == HF_AWQ ? 1 : q->bits) % n == 0;
    if (!words || !zeros)
        return err_set(p->e, ERR_FORMAT,
                       "tensor \"%.*s.qweight\": %llu outputs of %llu inputs are no whole words of "
                       "%d bits",
                       (int)p->n_base, p->name, (Ull)q->rows, (Ull)q->cols, q->bits);
    if (q->scheme == HF_AWQ && q->cols % q->group != 0)
        return err_set(p->e, ERR_FORMAT,
                       "tensor \"%.*s.qweight\": %llu inputs are no whole groups of %llu",
                       (int)p->n_base, p->name, (Ull)q->cols, (Ull)q->group);
    return OK;
}

static Status check_index(const Parts *p, const HfPacked *q) {
    for (uint64_t i = 0; i < q->cols; i++) {
        uint32_t g;
        memcpy(&g, q->index + 4 * i, sizeof g);
        if (g >= q->n_groups)
            return err_set(p->e, ERR_FORMAT,
                           "tensor \"%.*s.g_idx\": input %llu is in group %lld of %llu",
                           (int)p->n_base, p->name, (Ull)i, (long long)(int32_t)g,
                           (Ull)q->n_groups);
    }
    return OK;
}

static Status find_zeros(const Parts *p, HfPacked *q, const HfQuant *c) {
    uint64_t words = q->rows * (uint64_t)q->bits / 32;
    bool needed = q->scheme == HF_GPTQ || c->zero_point;
    q->zero_add = q->scheme == HF_GPTQ && !c->zeros_as_is ? 1 : 0;
    if (!needed && !part(p, p->n_base, ".qzeros")) {
        q->zero_add = 1 << (q->bits - 1); /* signed numbers */
        return OK;
    }
    return take(p, &q->zeros, p->n_base, ".qzeros", INTS, q->n_groups, words, NULL);
}

static Status find_groups(const Parts *p, HfPacked *q) {
    const HfQuant *c = &p->m->cfg.quant;
    const StTensor *scale = NULL;
    bool awq = q->scheme == HF_AWQ;
    q->bits = c->bits;
    q->group = c->group < 0 ? q->cols : (uint64_t)c->group;
    q->n_groups = (q->cols + q->group - 1) / q->group;
    TRY(check_sizes(p, q));
    uint64_t rows = awq ? q->cols : q->cols * (uint64_t)q->bits / 32;
    TRY(take(p, &q->w, p->n_base, ".qweight", INTS, rows, awq ? q->rows / 8 : q->rows, NULL));
    TRY(take(p, &q->scale, p->n_base, ".scales", FLOATS, q->n_groups, q->rows, &scale));
    q->scale_type = scale->type == ST_F32 ? DT_F32 : scale->type == ST_F16 ? DT_F16 : DT_BF16;
    TRY(find_zeros(p, q, c));
    if (awq || !part(p, p->n_base, ".g_idx")) return OK;
    TRY(take(p, &q->index, p->n_base, ".g_idx", INTS, 0, q->cols, NULL));
    return check_index(p, q);
}

/* ---- bitsandbytes ---- */

/* What codes mean, as the format has it; a file's own map is held to it. */
static const float nf4_map[16] = {-1.0f,        -0.69619280f, -0.52507305f, -0.39491749f,
                                  -0.28444138f, -0.18477343f, -0.09105004f, 0.0f,
                                  0.07958030f,  0.16093020f,  0.24611230f,  0.33791524f,
                                  0.44070983f,  0.56261700f,  0.72295684f,  1.0f};
static const float fp4_map[16] = {0.0f,         0.00520833f,  0.66666667f,  1.0f,
                                  0.33333333f,  0.5f,         0.16666667f,  0.25f,
                                  -0.0f,        -0.00520833f, -0.66666667f, -1.0f,
                                  -0.33333333f, -0.5f,        -0.16666667f, -0.25f};

static Status read_map(const Parts *p, HfPacked *q, bool nf4) {
    const float *want = nf4 ? nf4_map : fp4_map;
    const uint8_t *map = NULL;
    TRY(take(p, &map, strlen(p->name), ".quant_map", F32, 0, 16, NULL));
    memcpy(q->map, map, sizeof q->map);
    for (int i = 0; i < 16; i++)
        if (!(fabsf(q->map[i] - want[i]) < 1e-5f))
            return err_set(p->e, ERR_UNSUPPORTED,
                           "tensor \"%s.quant_map\": code %d means %g, in %s it is %g", p->name, i,
                           (double)q->map[i], nf4 ? "nf4" : "fp4", (double)want[i]);
    return OK;
}

static Status check_state_shape(const Parts *p, const HfPacked *q, const Json *j) {
    const Json *s = json_get(j, "shape");
    int64_t rows = json_int_or(json_at(s, 0), 0, INT64_MAX);
    int64_t cols = json_int_or(json_at(s, 1), 0, INT64_MAX);
    if (json_len(s) == 2 && rows == (int64_t)q->rows && cols == (int64_t)q->cols) return OK;
    return err_set(p->e, ERR_FORMAT,
                   "tensor \"%s\": packed from %lld x %lld, config.json wants "
                   "%llu x %llu",
                   p->name, (long long)rows, (long long)cols, (Ull)q->rows, (Ull)q->cols);
}

static Status read_nested(const Parts *p, HfPacked *q, const Json *j) {
    int block = 256;
    double offset = 0;
    TRY(hf__int(&block, j, "nested_blocksize", 1, MAX_BLOCK, false, p->e));
    TRY(hf__num(&offset, j, "nested_offset", -1e30, 1e30, true, p->e));
    q->nested_block = (uint64_t)block;
    q->offset = (float)offset;
    return OK;
}

static Status read_state(const Parts *p, HfPacked *q, const Json *j, const char *kind) {
    int block = 64;
    Slice type = json_str(json_get(j, "quant_type"));
    bool nested = part(p, strlen(p->name), ".nested_absmax") != NULL;
    if (!json_is_object(j)) return err_set(p->e, ERR_FORMAT, "no JSON object");
    if (type.n && !slice_eq_str(type, kind)) return refuse("quant_type", type, kind, p->e);
    TRY(hf__int(&block, j, "blocksize", 1, MAX_BLOCK, true, p->e));
    q->block = (uint64_t)block;
    TRY(check_state_shape(p, q, j));
    return nested ? read_nested(p, q, j) : OK;
}

static Status parse_state(const Parts *p, HfPacked *q, const StTensor *t, const char *kind) {
    Json *j = NULL;
    if (t->n_bytes > STATE_MAX)
        return err_set(p->e, ERR_FORMAT, "tensor \"%s\": a state of %llu bytes, limit %d", p->name,
                       (Ull)t->n_bytes, STATE_MAX);
    Status st = json_parse(&j, (Slice){t->data, (size_t)t->n_bytes}, p->e);
    if (st == OK) st = read_state(p, q, j, kind);
    if (st != OK && st != ERR_NOMEM) err_in(p->e, p->name);
    json_free(j);
    return st;
}

static Status find_blocks(const Parts *p, HfPacked *q, const StTensor *state, const char *kind) {
    size_t n = strlen(p->name);
    uint64_t total = q->rows * q->cols;
    const StTensor *w = part(p, n, "");
    if (!w) return missing(p, n, "");
    TRY(parse_state(p, q, state, kind));
    uint64_t blocks = (total + q->block - 1) / q->block, nested = q->nested_block;
    if (w->n_bytes != (total + 1) / 2)
        return err_set(p->e, ERR_FORMAT,
                       "tensor \"%s\": %llu bytes, %llu x %llu of 4 bits want %llu", p->name,
                       (Ull)w->n_bytes, (Ull)q->rows, (Ull)q->cols, (Ull)((total + 1) / 2));
    q->w = w->data;
    TRY(read_map(p, q, strcmp(kind, "nf4") == 0));
    TRY(take(p, &q->absmax, n, ".absmax", nested ? BYTES : F32, 0, blocks, NULL));
    if (!nested) return OK;
    uint64_t above = (blocks + nested - 1) / nested;
    TRY(take(p, &q->nested, n, ".nested_absmax", F32, 0, above, NULL));
    return take(p, &q->nested_map, n, ".nested_quant_map", F32, 0, 256, NULL);
}

/* ---- one matrix ---- */

static Status find_parts(const Parts *p, HfPacked *q, bool *found) {
    static const char *const kinds[] = {"nf4", "fp4"};
    char tail[48];
    *found = true;
    if (q->scheme != HF_BNB) {
        bool plain = st_find(p->m->st, slice_of(p->name)) != NULL;
        if (!plain && part(p, p->n_base, ".qweight")) return find_groups(p, q);
    }
    for (size_t i = 0; q->scheme == HF_BNB && i < COUNT_OF(kinds); i++) {
        snprintf(tail, sizeof tail, ".quant_state.bitsandbytes__%s", kinds[i]);
        const StTensor *state = part(p, strlen(p->name), tail);
        if (state) return find_blocks(p, q, state, kinds[i]);
    }
    *found = false;
    return OK;
}

Status hf__find_packed(HfModel *m, HfItem *it, const char *name, bool *used, Err *e) {
    Parts p = {.m = m, .it = it, .name = name, .used = used, .e = e};
    HfScheme scheme = m->cfg.quant.scheme;
    bool found = false;
    if (scheme == HF_UNPACKED || it->n_dims != 2 || !str_ends_with(name, ".weight")) return OK;
    p.n_base = strlen(name) - (sizeof ".weight" - 1);
    HfPacked *q = mem_new(HfPacked);
    if (!q) return err_set(e, ERR_NOMEM, "no memory to unpack %s", name);
    *q = (HfPacked){.scheme = scheme, .bits = 4, .rows = it->rows, .cols = it->cols};
    Status st = find_parts(&p, q, &found);
    if (st == OK && found) it->packed = q;
    else mem_free(q);
    return st;
}
