/* SPDX-License-Identifier: Apache-2.0
 * Writing a GGUF file, version 3. Declarations are kept encoded in memory (metadata is small
 * next to the weights), so that the header is exact before the first byte of data goes out; data
 * is streamed.
 *
 * DECLARE -[gguf_w_begin]-> DATA -[gguf_w_end]-> DONE
 * any -[set_failed]-> FAILED, which keeps the first Err
 *
 * One thread. What is written here opens with gguf_open: the same limits hold on both sides. */
#include "format/gguf_internal.h"

typedef unsigned long long Ull; /* what %llu takes */

typedef enum WState { W_DECLARE, W_DATA, W_DONE, W_FAILED } WState;

typedef struct WKv {
    Slice key;    /* owned */
    StrBuf value; /* owned: u32 type and the value, as in the file */
} WKv;
_Static_assert(offsetof(WKv, key) == 0, "the index wants the name first");

struct GgufW {
    WState state;
    Err err;    /* first failure */
    char *path; /* owned */
    bool atomic;
    uint32_t alignment;
    WKv *kv; /* owned */
    size_t n_kv, cap_kv;
    GgufTensor *tensor; /* owned, names too; data is not used */
    size_t n_tensors, cap_tensors;
    GgufIndex kv_index, tensor_index;
    uint64_t data_end; /* offset of the next tensor to be declared */
    IoWriter io;
    size_t i_tensor;  /* the one being written */
    uint64_t n_given; /* bytes of it that came */
};

static GgufNames kv_names(const GgufW *w) { return (GgufNames){w->kv, sizeof *w->kv}; }
static GgufNames tensor_names(const GgufW *w) { return (GgufNames){w->tensor, sizeof *w->tensor}; }

/* ---- failure ---- */

/* w->err holds the cause, set by the caller. */
static void set_failed(GgufW *w) {
    w->state = W_FAILED;
    err_in(&w->err, w->path);
    io_writer_abort(&w->io);
}

static Status report(const GgufW *w, Err *e) {
    if (e && e->code == OK) *e = w->err;
    return w->err.code;
}

static Status end_step(GgufW *w, Status st, Err *e) {
    if (st == OK) return OK;
    set_failed(w);
    return report(w, e);
}

static Status wrong_state(GgufW *w, const char *what, Err *e) {
    if (w->state == W_FAILED) return report(w, e);
    static const char *const when[] = {"before gguf_w_begin", "after gguf_w_begin",
                                       "after gguf_w_end"};
    return end_step(w, err_set(&w->err, ERR_ARG, "%s %s", what, when[w->state]), e);
}

static void fail_nomem(GgufW *w) {
    err_set(&w->err, ERR_NOMEM, "no memory for entry %zu", w->n_kv + w->n_tensors);
    set_failed(w);
}

/* ---- opening and freeing ---- */

Status gguf_w_new(GgufW **out, const char *path, uint32_t alignment, bool atomic, Err *e) {
    if (!gguf__alignment_ok(alignment)) {
        return err_set(e, ERR_ARG, "%s: alignment %u is not a power of two in %d to %d", path,
                       alignment, GGUF_MIN_ALIGNMENT, GGUF_MAX_ALIGNMENT);
    }
    GgufW *w = mem_new(GgufW);
    if (w) w->path = mem_dup(path, strlen(path));
    if (!w || !w->path) {
        gguf_w_free(w);
        return err_set(e, ERR_NOMEM, "%s: no memory for a gguf writer", path);
    }
    w->alignment = alignment;
    w->atomic = atomic;
    *out = w;
    return OK;
}

static void free_slice(Slice s) { mem_free((char *)(uintptr_t)s.p); }

void gguf_w_free(GgufW *w) {
    if (!w) return;
    io_writer_abort(&w->io);
    for (size_t i = 0; i < w->n_kv; i++) {
        free_slice(w->kv[i].key);
        sb_deinit(&w->kv[i].value);
    }
    for (size_t i = 0; i < w->n_tensors; i++) free_slice(w->tensor[i].name);
    gguf__index_deinit(&w->kv_index);
    gguf__index_deinit(&w->tensor_index);
    mem_free(w->kv);
    mem_free(w->tensor);
    mem_free(w->path);
    mem_free(w);
}

/* ---- declaring ---- */

static bool may_declare(GgufW *w, const char *what) {
    if (w->state == W_DECLARE) return true;
    wrong_state(w, what, NULL);
    return false;
}

/* Room for one more in an array of entries; the tables double. */
static bool grow(void **p, size_t *cap, size_t n, size_t size) {
    if (n < *cap) return true;
    size_t want = *cap ? 2 * *cap : 32;
    void *q = mem_realloc_n(*p, want, size);
    if (!q) return false;
    *p = q;
    *cap = want;
    return true;
}

static bool below_limit(GgufW *w, const char *kind, Slice name, size_t n) {
    if (n < GGUF_MAX_ENTRIES) return true;
    gguf__err(&w->err, ERR_ARG, kind, name, "entry %zu, limit %d", n + 1, GGUF_MAX_ENTRIES);
    set_failed(w);
    return false;
}

static bool check_name(GgufW *w, const char *kind, Slice name, size_t max) {
    if (gguf__check_name(kind, name, max, ERR_ARG, &w->err) == OK) return true;
    set_failed(w);
    return false;
}

/* Append an empty entry; NULL on failure. */
static WKv *add_kv(GgufW *w, Slice key) {
    void *p = w->kv;
    if (!below_limit(w, "key", key, w->n_kv)) return NULL;
    bool ok = grow(&p, &w->cap_kv, w->n_kv, sizeof *w->kv);
    w->kv = p;
    char *name = ok ? mem_dup(key.p, key.n) : NULL;
    if (name) {
        w->kv[w->n_kv++] = (WKv){.key = {name, key.n}};
        ok = gguf__index_reserve(&w->kv_index, kv_names(w), w->n_kv - 1, w->n_kv) &&
             gguf__index_add(&w->kv_index, kv_names(w), w->n_kv - 1);
    }
    if (name && ok) return &w->kv[w->n_kv - 1];
    fail_nomem(w);
    return NULL;
}

/* Where the value of a key goes, its type already put; NULL: ignore the value. */
static StrBuf *open_value(GgufW *w, Slice key, GgufType type) {
    if (!may_declare(w, "metadata was declared")) return NULL;
    if (!check_name(w, "key", key, GGUF_MAX_KEY)) return NULL;
    size_t i = gguf__index_find(&w->kv_index, kv_names(w), key);
    WKv *kv = i != SIZE_MAX ? &w->kv[i] : add_kv(w, key);
    uint32_t code = (uint32_t)type;
    if (kv && kv->value.failed) fail_nomem(w); /* clearing would forget it */
    if (!kv || kv->value.failed) return NULL;
    sb_clear(&kv->value);
    sb_put(&kv->value, &code, sizeof code);
    return &kv->value;
}

static StrBuf *open_declared(GgufW *w, Slice key, GgufType type) {
    return slice_eq_str(key, "general.alignment") ? NULL : open_value(w, key, type);
}

static void put_scalar(GgufW *w, const char *key, GgufType type, const void *v) {
    StrBuf *b = open_declared(w, slice_of(key), type);
    if (b) sb_put(b, v, gguf__type_size(type));
}

static void put_str(StrBuf *b, Slice s) {
    uint64_t n = s.n;
    sb_put(b, &n, sizeof n);
    sb_put(b, s.p, s.n);
}

static StrBuf *open_arr(GgufW *w, Slice key, GgufType elem, uint64_t n) {
    StrBuf *b = open_declared(w, key, GGUF_ARR);
    uint32_t code = (uint32_t)elem;
    if (!b) return NULL;
    sb_put(b, &code, sizeof code);
    sb_put(b, &n, sizeof n);
    return b;
}

void gguf_w_u32(GgufW *w, const char *key, uint32_t v) { put_scalar(w, key, GGUF_U32, &v); }
void gguf_w_i32(GgufW *w, const char *key, int32_t v) { put_scalar(w, key, GGUF_I32, &v); }
void gguf_w_u64(GgufW *w, const char *key, uint64_t v) { put_scalar(w, key, GGUF_U64, &v); }
void gguf_w_f32(GgufW *w, const char *key, float v) { put_scalar(w, key, GGUF_F32, &v); }
void gguf_w_f64(GgufW *w, const char *key, double v) { put_scalar(w, key, GGUF_F64, &v); }

void gguf_w_bool(GgufW *w, const char *key, bool v) {
    uint8_t byte = v;
    put_scalar(w, key, GGUF_BOOL, &byte);
}

void gguf_w_str(GgufW *w, const char *key, Slice v) {
    StrBuf *b = open_declared(w, slice_of(key), GGUF_STR);
    if (b) put_str(b, v);
}

void gguf_w_arr_str(GgufW *w, const char *key, const Slice *v, size_t n) {
    StrBuf *b = open_arr(w, slice_of(key), GGUF_STR, n);
    for (size_t i = 0; b && i < n; i++) put_str(b, v[i]);
}

void gguf_w_arr_i32(GgufW *w, const char *key, const int32_t *v, size_t n) {
    StrBuf *b = open_arr(w, slice_of(key), GGUF_I32, n);
    if (b) sb_put(b, v, n * sizeof *v);
}

void gguf_w_arr_f32(GgufW *w, const char *key, const float *v, size_t n) {
    StrBuf *b = open_arr(w, slice_of(key), GGUF_F32, n);
    if (b) sb_put(b, v, n * sizeof *v);
}

static void copy_scalar(GgufW *w, const GgufKv *kv) {
    StrBuf *b = open_declared(w, kv->key, kv->type);
    float f = kv->type == GGUF_F32 ? (float)kv->v.f : 0;
    const void *v = kv->type == GGUF_F32 ? (const void *)&f : (const void *)&kv->v;
    if (b) sb_put(b, v, gguf__type_size(kv->type)); /* the low bytes of the widened value */
}

void gguf_w_kv(GgufW *w, const GgufKv *kv) {
    StrBuf *b = NULL;
    switch (kv->type) {
    case GGUF_STR:
        b = open_declared(w, kv->key, GGUF_STR);
        if (b) put_str(b, kv->v.s);
        break;
    case GGUF_ARR:
        b = open_arr(w, kv->key, kv->v.arr.type, kv->v.arr.n);
        if (b) sb_put(b, kv->v.arr.bytes.p, kv->v.arr.bytes.n);
        break;
    default: copy_scalar(w, kv); break;
    }
}

/* Fill in the checked shape and the offset of t, whose name is the caller's. */
static bool plan_tensor(GgufW *w, GgufTensor *t, DType type, int n_dims, const uint64_t *ne) {
    t->n_dims = n_dims;
    for (int d = 0; d < GGUF_MAX_DIMS; d++)
        t->ne[d] = n_dims <= GGUF_MAX_DIMS && d < n_dims ? ne[d] : 1;
    Status st = gguf__check_shape(t, (uint32_t)type, ERR_ARG, &w->err);
    size_t end = 0;
    if (st == OK && (!mem_add(&end, w->data_end, t->n_bytes) || end > INT64_MAX)) {
        st = gguf__err(&w->err, ERR_ARG, "tensor", t->name, "offset %llu + %llu bytes, limit 2^63",
                       (Ull)w->data_end, (Ull)t->n_bytes);
    }
    if (st != OK) {
        set_failed(w);
        return false;
    }
    t->offset = w->data_end;
    w->data_end = ROUND_UP(end, (size_t)w->alignment);
    return true;
}

static void add_tensor(GgufW *w, GgufTensor t) {
    void *p = w->tensor;
    bool ok = grow(&p, &w->cap_tensors, w->n_tensors, sizeof *w->tensor);
    w->tensor = p;
    char *name = ok ? mem_dup(t.name.p, t.name.n) : NULL;
    if (name) {
        t.name.p = name;
        w->tensor[w->n_tensors++] = t;
        ok = gguf__index_reserve(&w->tensor_index, tensor_names(w), w->n_tensors - 1,
                                 w->n_tensors) &&
             gguf__index_add(&w->tensor_index, tensor_names(w), w->n_tensors - 1);
    }
    if (!name || !ok) fail_nomem(w);
}

void gguf_w_tensor(GgufW *w, Slice name, DType type, int n_dims, const uint64_t *ne) {
    GgufTensor t = {.name = name};
    if (!may_declare(w, "a tensor was declared")) return;
    if (!check_name(w, "tensor", name, GGUF_MAX_NAME)) return;
    if (gguf__index_find(&w->tensor_index, tensor_names(w), name) != SIZE_MAX) {
        gguf__err(&w->err, ERR_ARG, "tensor", name, "declared twice");
        set_failed(w);
        return;
    }
    if (!below_limit(w, "tensor", name, w->n_tensors)) return;
    if (plan_tensor(w, &t, type, n_dims, ne)) add_tensor(w, t);
}

/* ---- the header ---- */

static Status write_name(GgufW *w, Slice name) {
    uint64_t n = name.n;
    TRY(io_write(&w->io, &n, sizeof n, &w->err));
    return io_write(&w->io, name.p, name.n, &w->err);
}

static Status write_tensor_entry(GgufW *w, const GgufTensor *t) {
    uint32_t n_dims = (uint32_t)t->n_dims, type = (uint32_t)t->type;
    TRY(write_name(w, t->name));
    TRY(io_write(&w->io, &n_dims, sizeof n_dims, &w->err));
    TRY(io_write(&w->io, t->ne, n_dims * sizeof t->ne[0], &w->err));
    TRY(io_write(&w->io, &type, sizeof type, &w->err));
    return io_write(&w->io, &t->offset, sizeof t->offset, &w->err);
}

/* Zeros up to a multiple of the alignment after n bytes. */
static Status pad(GgufW *w, uint64_t n) {
    uint64_t to = ROUND_UP(n, (uint64_t)w->alignment);
    return io_write_zeros(&w->io, (size_t)(to - n), &w->err);
}

static Status write_header(GgufW *w) {
    uint32_t version = 3;
    uint64_t counts[2] = {w->n_tensors, w->n_kv};
    TRY(io_write(&w->io, "GGUF", 4, &w->err));
    TRY(io_write(&w->io, &version, sizeof version, &w->err));
    TRY(io_write(&w->io, counts, sizeof counts, &w->err));
    for (size_t i = 0; i < w->n_kv; i++) {
        TRY(write_name(w, w->kv[i].key));
        TRY(io_write(&w->io, w->kv[i].value.p, w->kv[i].value.n, &w->err));
    }
    for (size_t i = 0; i < w->n_tensors; i++) TRY(write_tensor_entry(w, &w->tensor[i]));
    return pad(w, w->io.offset);
}

static Status begin(GgufW *w) {
    for (size_t i = 0; i < w->n_kv; i++) TRY(sb_check(&w->kv[i].value, &w->err));
    TRY(io_writer_open(&w->io, w->path, w->atomic, &w->err));
    return write_header(w);
}

Status gguf_w_begin(GgufW *w, Err *e) {
    if (w->state != W_DECLARE) return wrong_state(w, "gguf_w_begin was called", e);
    if (w->alignment != GGUF_DEFAULT_ALIGNMENT) {
        StrBuf *b = open_value(w, slice_of("general.alignment"), GGUF_U32);
        if (!b) return report(w, e);
        sb_put(b, &w->alignment, sizeof w->alignment);
    }
    TRY(end_step(w, begin(w), e));
    w->state = W_DATA;
    return OK;
}

/* ---- data ---- */

static Status write_data(GgufW *w, const void *p, size_t n) {
    if (w->i_tensor == w->n_tensors) {
        return err_set(&w->err, ERR_ARG, "%zu bytes after the last of %zu tensors", n,
                       w->n_tensors);
    }
    const GgufTensor *t = &w->tensor[w->i_tensor];
    if (n > t->n_bytes - w->n_given) {
        return gguf__err(&w->err, ERR_ARG, "tensor", t->name, "%llu + %zu bytes, limit %llu",
                         (Ull)w->n_given, n, (Ull)t->n_bytes);
    }
    TRY(io_write(&w->io, p, n, &w->err));
    w->n_given += n;
    if (w->n_given < t->n_bytes) return OK;
    w->i_tensor++;
    w->n_given = 0;
    return pad(w, t->n_bytes);
}

Status gguf_w_data(GgufW *w, const void *p, size_t n, Err *e) {
    if (w->state != W_DATA) return wrong_state(w, "data came", e);
    return n ? end_step(w, write_data(w, p, n), e) : OK;
}

static Status finish(GgufW *w) {
    if (w->i_tensor < w->n_tensors) {
        const GgufTensor *t = &w->tensor[w->i_tensor];
        return gguf__err(&w->err, ERR_ARG, "tensor", t->name, "only %llu of %llu bytes came",
                         (Ull)w->n_given, (Ull)t->n_bytes);
    }
    return io_writer_close(&w->io, &w->err);
}

Status gguf_w_end(GgufW *w, Err *e) {
    if (w->state != W_DATA) return wrong_state(w, "gguf_w_end was called", e);
    TRY(end_step(w, finish(w), e));
    w->state = W_DONE;
    return OK;
}
