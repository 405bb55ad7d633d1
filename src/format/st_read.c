/* SPDX-License-Identifier: Apache-2.0
 * One safetensors file: its JSON, its tensors, and that they cover its data exactly. The file is foreign:
 * the JSON's length is held against the file before it is parsed, and every product and sum is checked, so
 * that afterwards each data pointer with its n_bytes lies inside the map and belongs to one tensor. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/st_internal.h"
#include "text/json.h"

typedef unsigned long long Ull; /* what %llu takes */

enum { HEAD_BYTES = 8, METADATA_NAME = sizeof "__metadata__" - 1 };

static const struct {
    const char *name;
    size_t bytes;
} type_table[ST_TYPE_COUNT] = {
    [ST_BOOL] = {"BOOL", 1},       [ST_U8] = {"U8", 1},           [ST_I8] = {"I8", 1},
    [ST_F8_E5M2] = {"F8_E5M2", 1}, [ST_F8_E4M3] = {"F8_E4M3", 1}, [ST_I16] = {"I16", 2},
    [ST_U16] = {"U16", 2},         [ST_F16] = {"F16", 2},         [ST_BF16] = {"BF16", 2},
    [ST_I32] = {"I32", 4},         [ST_U32] = {"U32", 4},         [ST_F32] = {"F32", 4},
    [ST_F64] = {"F64", 8},         [ST_I64] = {"I64", 8},         [ST_U64] = {"U64", 8},
};

const char *st_type_name(StType t) { return type_table[t].name; }
size_t st_type_bytes(StType t) { return type_table[t].bytes; }

StType st__type_find(Slice name) {
    for (int i = 0; i < ST_TYPE_COUNT; i++)
        if (slice_eq_str(name, type_table[i].name)) return (StType)i;
    return ST_TYPE_COUNT;
}

Status st__err(Err *e, Status code, Slice name, const char *fmt, ...) {
    char msg[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return gguf__err(e, code, "tensor", name, "%s", msg);
}

bool st__count(StTensor *t) {
    size_t n = 1;
    for (int d = 0; d < t->n_dims; d++)
        if (!mem_mul(&n, n, (size_t)t->shape[d])) return false;
    t->n_elem = n;
    if (!mem_mul(&n, n, type_table[t->type].bytes)) return false;
    t->n_bytes = n;
    return n <= INT64_MAX;
}

/* ---- one tensor ---- */

static Status read_shape(StTensor *t, const Json *shape, Err *e) {
    size_t n = json_len(shape);
    if (!json_is_array(shape) || n > ST_MAX_DIMS)
        return st__err(e, ERR_FORMAT, t->name, "shape is no list of 0 to %d numbers", ST_MAX_DIMS);
    t->n_dims = (int)n;
    for (int d = 0; d < ST_MAX_DIMS; d++) t->shape[d] = 1;
    for (size_t d = 0; d < n; d++) {
        int64_t v =
            json_kind(json_at(shape, d)) == JSON_KIND_INT ? json_int(json_at(shape, d)) : -1;
        if (v < 0) return st__err(e, ERR_FORMAT, t->name, "dim %zu is no whole number from 0", d);
        t->shape[d] = (uint64_t)v;
    }
    return st__count(t)
               ? OK
               : st__err(e, ERR_FORMAT, t->name, "its shape of %s takes more than 2^63 bytes",
                         st_type_name(t->type));
}

/* data_offsets as begin; the end is held against type and shape. */
static Status read_offsets(uint64_t *begin, const StTensor *t, const Json *list, uint64_t n_data,
                           Err *e) {
    const Json *b = json_at(list, 0), *f = json_at(list, 1);
    bool ints = json_kind(b) == JSON_KIND_INT && json_kind(f) == JSON_KIND_INT;
    if (!json_is_array(list) || json_len(list) != 2 || !ints || json_int(b) < 0 || json_int(f) < 0)
        return st__err(e, ERR_FORMAT, t->name, "data_offsets are not two whole numbers from 0");
    uint64_t from = (uint64_t)json_int(b), to = (uint64_t)json_int(f);
    if (from > to || to > n_data)
        return st__err(e, ERR_FORMAT, t->name, "data_offsets %llu to %llu, the data has %llu bytes",
                       (Ull)from, (Ull)to, (Ull)n_data);
    if (to - from != t->n_bytes)
        return st__err(e, ERR_FORMAT, t->name,
                       "data_offsets %llu to %llu, but its shape of %s takes %llu bytes", (Ull)from,
                       (Ull)to, st_type_name(t->type), (Ull)t->n_bytes);
    *begin = from;
    return OK;
}

static Status read_tensor(StTensor *t, const Json *j, IoMap data, Err *e) {
    uint64_t begin = 0;
    Slice type = json_str(json_get(j, "dtype"));
    StrBuf shown = {0};
    if (t->name.n < 1 || t->name.n > ST_MAX_NAME)
        return err_set(e, ERR_FORMAT, "a tensor's name has %zu bytes, limit 1 to %d", t->name.n,
                       ST_MAX_NAME);
    if (!json_is_object(j)) return st__err(e, ERR_FORMAT, t->name, "its entry is no object");
    t->type = st__type_find(type);
    if (t->type == ST_TYPE_COUNT) {
        sb_put_quoted(&shown, type, 40);
        st__err(e, ERR_FORMAT, t->name, "dtype \"%s\" is not known", sb_str(&shown));
        sb_deinit(&shown);
        return ERR_FORMAT;
    }
    TRY(read_shape(t, json_get(j, "shape"), e));
    TRY(read_offsets(&begin, t, json_get(j, "data_offsets"), data.n, e));
    t->data = data.p + begin;
    return OK;
}

/* ---- one file ---- */

St *st__new(void) {
    St *s = mem_new(St);
    if (s) arena_init(&s->mem, 16 << 10);
    return s;
}

/* Room for n more tensors. */
static Status reserve(St *s, size_t n, Err *e) {
    if (n > ST_MAX_TENSORS - s->n)
        return err_set(e, ERR_FORMAT, "%zu tensors, limit %d", s->n + n, ST_MAX_TENSORS);
    StTensor *t = mem_realloc_n(s->tensor, MAX(s->n + n, (size_t)1), sizeof *t);
    if (t) s->tensor = t;
    if (!t || !gguf__index_reserve(&s->index, st__names(s), s->n, s->n + n))
        return err_set(e, ERR_NOMEM, "no memory for %zu tensors", s->n + n);
    return OK;
}

static Status add_tensor(St *s, Slice key, const Json *v, IoMap data, Err *e) {
    StTensor t = {.name = key, .i_file = s->n_files};
    TRY(read_tensor(&t, v, data, e));
    if (gguf__index_find(&s->index, st__names(s), key) != SIZE_MAX)
        return st__err(e, ERR_FORMAT, key, "is there twice");
    t.name.p = arena_dup(&s->mem, key.p, key.n);
    if (!t.name.p) return err_set(e, ERR_NOMEM, "no memory for the names of tensors");
    s->tensor[s->n] = t;
    if (!gguf__index_add(&s->index, st__names(s), s->n))
        return st__err(e, ERR_FORMAT, key, "collides with too many other names");
    s->n++;
    return OK;
}

static int by_data(const void *pa, const void *pb) {
    const StTensor *a = *(StTensor *const *)pa, *b = *(StTensor *const *)pb;
    if (a->data != b->data) return (uintptr_t)a->data < (uintptr_t)b->data ? -1 : 1;
    if (a->n_bytes != b->n_bytes) return a->n_bytes < b->n_bytes ? -1 : 1; /* empty ones first */
    return a < b ? -1 : a > b;
}

/* Each byte of the data belongs to one tensor. */
static Status check_cover(const StTensor *const *order, size_t n, IoMap data, Err *e) {
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t begin = (uint64_t)((const uint8_t *)order[i]->data - data.p);
        if (begin != at)
            return st__err(e, ERR_FORMAT, order[i]->name, "its data begins at %llu, %s at %llu",
                           (Ull)begin, begin < at ? "another tensor's ends" : "a hole begins",
                           (Ull)at);
        at += order[i]->n_bytes;
    }
    if (at == data.n) return OK;
    return err_set(e, ERR_FORMAT, "%llu bytes of data belong to no tensor", (Ull)(data.n - at));
}

static Status check_data(const St *s, size_t first, IoMap data, Err *e) {
    size_t n = s->n - first;
    const StTensor **order = mem_new_n(const StTensor *, n);
    if (!order) return err_set(e, ERR_NOMEM, "no memory to order %zu tensors", n);
    for (size_t i = 0; i < n; i++) order[i] = &s->tensor[first + i];
    qsort(order, n, sizeof *order, by_data);
    Status st = check_cover(order, n, data, e);
    mem_free(order);
    return st;
}

static Status add_tensors(St *s, const Json *root, IoMap data, Err *e) {
    size_t first = s->n;
    Slice key;
    const Json *v;
    if (!json_is_object(root)) return err_set(e, ERR_FORMAT, "the header is no JSON object");
    TRY(reserve(s, json_len(root), e));
    for (void *it = NULL; (it = json_next(root, it, &key, &v));)
        if (key.n != METADATA_NAME || memcmp(key.p, "__metadata__", METADATA_NAME) != 0)
            TRY(add_tensor(s, key, v, data, e));
    return check_data(s, first, data, e);
}

Status st__add_file(St *s, IoMap part, Err *e) {
    uint64_t n = 0;
    Json *root = NULL;
    if (part.n < HEAD_BYTES + 2)
        return err_set(e, ERR_FORMAT, "not a safetensors file: %zu bytes, at least %d", part.n,
                       HEAD_BYTES + 2);
    memcpy(&n, part.p, HEAD_BYTES);
    if (n > ST_MAX_HEADER || n > part.n - HEAD_BYTES || part.p[HEAD_BYTES] != '{')
        return err_set(
            e, ERR_FORMAT,
            "not a safetensors file: a header of %llu bytes, limit %zu, which begins with "
            "byte 0x%02x, not {",
            (Ull)n, MIN(part.n - HEAD_BYTES, (size_t)ST_MAX_HEADER), part.p[HEAD_BYTES]);
    TRY(json_parse(&root, (Slice){(const char *)part.p + HEAD_BYTES, (size_t)n}, e));
    IoMap data = {part.p + HEAD_BYTES + n, part.n - HEAD_BYTES - (size_t)n};
    Status st = add_tensors(s, root, data, e);
    json_free(root);
    s->n_files++;
    s->n_bytes += part.n;
    return st;
}

Status st_open_bytes(St **out, const void *p, size_t n, Err *e) {
    St *s = st__new();
    if (!s) return err_set(e, ERR_NOMEM, "no memory to open a safetensors file");
    Status st = st__add_file(s, (IoMap){p, n}, e);
    if (st != OK) {
        st_close(s);
        return st;
    }
    *out = s;
    return OK;
}

Status st_open(St **out, const char *path, Err *e) {
    IoMap map = {0};
    St *s = NULL;
    TRY(io_map(&map, path, e));
    Status st = st_open_bytes(&s, map.p, map.n, e);
    if (st != OK) {
        io_unmap(&map);
        err_in(e, path);
        return st;
    }
    s->map = map;
    s->owns_map = true;
    *out = s;
    return OK;
}

void st_close(St *s) {
    if (!s) return;
    gguf__index_deinit(&s->index);
    mem_free(s->tensor);
    arena_deinit(&s->mem);
    if (s->owns_map) io_unmap(&s->map);
    mem_free(s);
}

size_t st_n_tensors(const St *s) { return s->n; }
const StTensor *st_tensor_at(const St *s, size_t i) { return &s->tensor[i]; }
size_t st_n_files(const St *s) { return s->n_files; }
uint64_t st_file_bytes(const St *s) { return s->n_bytes; }

const StTensor *st_find(const St *s, Slice name) {
    size_t i = gguf__index_find(&s->index, st__names(s), name);
    return i == SIZE_MAX ? NULL : &s->tensor[i];
}
