/* SPDX-License-Identifier: Apache-2.0
 * Opening a GGUF file: the header, the metadata entries and their index. The file is mapped and
 * foreign: one cursor walks it once, every length is held against the bytes that are left before
 * it is used, and nothing is copied but the entry tables. After opening nothing is written, so
 * any thread may read.
 *
 * Not here: values (gguf_value.c), tensor entries (gguf_tensor.c), typed reads (gguf_get.c). */
#include <stdio.h>

#include "format/gguf_internal.h"

/* The most that opening allocates: entries, their hash tables (4 bytes x 4 slots at worst) and
 * the order of the tensors while they are checked for overlap. */
_Static_assert((size_t)GGUF_MAX_ENTRIES *(sizeof(GgufKv) + sizeof(GgufTensor) +
                                          2 * 4 * sizeof(uint32_t) + 16) < (64u << 20) - 4096,
               "opening takes less than 64 MB");

/* ---- messages ---- */

static Status err_entry(Err *e, Status code, const char *kind, Slice name, const char *fmt,
                        va_list ap) {
    char text[sizeof e->msg];
    StrBuf quoted = {0};
    vsnprintf(text, sizeof text, fmt, ap);
    sb_put_quoted(&quoted, name, GGUF_SHOWN_NAME);
    err_set(e, code, "%s \"%s\": %s", kind, sb_str(&quoted), text);
    sb_deinit(&quoted);
    return code;
}

Status gguf__err(Err *e, Status code, const char *kind, Slice name, const char *fmt, ...) {
    va_list ap;
    if (!e) return code;
    va_start(ap, fmt);
    err_entry(e, code, kind, name, fmt, ap);
    va_end(ap);
    return code;
}

Status gguf__bad(GgufCursor *c, const char *fmt, ...) {
    va_list ap;
    if (!c->e) return ERR_FORMAT;
    va_start(ap, fmt);
    if (c->kind && c->name.p) {
        err_entry(c->e, ERR_FORMAT, c->kind, c->name, fmt, ap);
    } else {
        char text[sizeof c->e->msg], where[64] = "";
        vsnprintf(text, sizeof text, fmt, ap);
        if (c->kind) {
            snprintf(where, sizeof where, "%s %llu of %llu: ", c->kind,
                     (unsigned long long)c->i + 1, (unsigned long long)c->of);
        }
        err_set(c->e, ERR_FORMAT, "%s%s", where, text);
    }
    va_end(ap);
    return ERR_FORMAT;
}

/* ---- the cursor ---- */

static Status take(void *out, GgufCursor *c, size_t n, const char *what) {
    size_t left = c->n - c->at;
    if (n > left) {
        return gguf__bad(c, "the file ends in the %s: %zu bytes wanted at offset %zu, %zu are left",
                         what, n, c->at, left);
    }
    memcpy(out, c->p + c->at, n);
    c->at += n;
    return OK;
}

Status gguf__take_u32(uint32_t *out, GgufCursor *c, const char *what) {
    return take(out, c, sizeof *out, what);
}

Status gguf__take_u64(uint64_t *out, GgufCursor *c, const char *what) {
    return take(out, c, sizeof *out, what);
}

Status gguf__take_name(Slice *out, GgufCursor *c, uint64_t max) {
    uint64_t n = 0;
    TRY(gguf__take_u64(&n, c, "name length"));
    if (n < 1 || n > max) {
        return gguf__bad(c, "name of %llu bytes, limit 1 to %llu", (unsigned long long)n,
                         (unsigned long long)max);
    }
    if (n > c->n - c->at) {
        return gguf__bad(c,
                         "the file ends in the name: %llu bytes wanted at offset %zu, %zu are left",
                         (unsigned long long)n, c->at, c->n - c->at);
    }
    *out = (Slice){(const char *)c->p + c->at, (size_t)n};
    c->name = *out;
    c->at += (size_t)n;
    return gguf__check_name(c->kind, *out, (size_t)max, ERR_FORMAT, c->e);
}

Status gguf__check_name(const char *kind, Slice name, size_t max, Status code, Err *e) {
    if (name.n < 1 || name.n > max) {
        return gguf__err(e, code, kind, name, "name of %zu bytes, limit 1 to %zu", name.n, max);
    }
    if (memchr(name.p, 0, name.n))
        return gguf__err(e, code, kind, name, "the name has a zero byte");
    return OK;
}

/* ---- header ---- */

static Status check_version(GgufCursor *c, uint32_t v) {
    if (v == 2 || v == 3) return OK;
    if (v == 1) return gguf__bad(c, "gguf version 1 is too old; versions 2 and 3 are read");
    if (v && !(v & 0xffff)) {
        return gguf__bad(
            c, "big-endian gguf (version field 0x%08x); only little-endian files are read", v);
    }
    return gguf__bad(c, "gguf version %u is not known; versions 2 and 3 are read", v);
}

static Status check_count(GgufCursor *c, const char *what, uint64_t n, size_t min_bytes) {
    size_t left = c->n - c->at;
    if (n > GGUF_MAX_ENTRIES) {
        return gguf__bad(c, "%llu %s, limit %d", (unsigned long long)n, what, GGUF_MAX_ENTRIES);
    }
    if (n > left / min_bytes) {
        return gguf__bad(c, "%llu %s do not fit: each takes at least %zu bytes, %zu are left",
                         (unsigned long long)n, what, min_bytes, left);
    }
    return OK;
}

static Status take_header(Gguf *g, GgufCursor *c) {
    char magic[4] = {0};
    uint64_t n_tensors = 0, n_kv = 0;
    TRY(take(magic, c, sizeof magic, "magic"));
    if (memcmp(magic, "GGUF", 4) != 0) {
        return gguf__bad(c,
                         "not a gguf file: it starts with bytes %02x %02x %02x %02x, not \"GGUF\"",
                         (unsigned char)magic[0], (unsigned char)magic[1], (unsigned char)magic[2],
                         (unsigned char)magic[3]);
    }
    TRY(gguf__take_u32(&g->version, c, "version"));
    TRY(check_version(c, g->version));
    TRY(gguf__take_u64(&n_tensors, c, "tensor count"));
    TRY(gguf__take_u64(&n_kv, c, "metadata count"));
    TRY(check_count(c, "metadata entries", n_kv, GGUF_MIN_KV_BYTES));
    TRY(check_count(c, "tensors", n_tensors, GGUF_MIN_TENSOR_BYTES));
    g->n_kv = (size_t)n_kv;
    g->n_tensors = (size_t)n_tensors;
    return OK;
}

/* ---- metadata ---- */

static Status take_kv(Gguf *g, size_t i, GgufCursor *c) {
    GgufKv *kv = &g->kv[i];
    TRY(gguf__take_name(&kv->key, c, GGUF_MAX_KEY));
    if (gguf__index_find(&g->kv_index, gguf__kv_names(g), kv->key) != SIZE_MAX) {
        return gguf__bad(c, "is there twice");
    }
    TRY(gguf__take_value(kv, c));
    if (!gguf__index_add(&g->kv_index, gguf__kv_names(g), i)) {
        return gguf__bad(c, "collides with too many other names");
    }
    return OK;
}

static Status take_kvs(Gguf *g, GgufCursor *c) {
    g->kv = mem_new_n(GgufKv, g->n_kv);
    if (!g->kv || !gguf__index_reserve(&g->kv_index, gguf__kv_names(g), 0, g->n_kv)) {
        return err_set(c->e, ERR_NOMEM, "no memory for %zu metadata entries", g->n_kv);
    }
    c->kind = "key";
    c->of = g->n_kv;
    for (c->i = 0; c->i < c->of; c->i++) {
        c->name = (Slice){0};
        TRY(take_kv(g, (size_t)c->i, c));
    }
    c->kind = NULL;
    return OK;
}

bool gguf__alignment_ok(uint64_t a) {
    return a >= GGUF_MIN_ALIGNMENT && a <= GGUF_MAX_ALIGNMENT && (a & (a - 1)) == 0;
}

static Status read_alignment(Gguf *g, Err *e) {
    const GgufKv *kv = gguf_find(g, "general.alignment");
    g->alignment = GGUF_DEFAULT_ALIGNMENT;
    if (!kv) return OK;
    if (kv->type != GGUF_U32) {
        return gguf__err(e, ERR_FORMAT, "key", kv->key, "type %s, must be u32",
                         gguf__type_name(kv->type));
    }
    if (!gguf__alignment_ok(kv->v.u)) {
        return gguf__err(e, ERR_FORMAT, "key", kv->key, "%llu is not a power of two in %d to %d",
                         (unsigned long long)kv->v.u, GGUF_MIN_ALIGNMENT, GGUF_MAX_ALIGNMENT);
    }
    g->alignment = (uint32_t)kv->v.u;
    return OK;
}

/* ---- opening ---- */

size_t gguf_n_files(const Gguf *g) { return g->n_files; }
const char *gguf_file_at(const Gguf *g, size_t i) { return g->paths ? g->paths[i] : NULL; }
uint64_t gguf_file_bytes(const Gguf *g) { return g->n_bytes; }
IoMap gguf_file_map(const Gguf *g, size_t i) { return g->part ? g->part[i] : g->map; }

static Status parse(Gguf *g, Err *e) {
    GgufCursor c = {.p = g->map.p, .n = g->map.n, .e = e};
    if (!g->map.n) return gguf__bad(&c, "not a gguf file: it is empty");
    TRY(take_header(g, &c));
    TRY(take_kvs(g, &c));
    TRY(read_alignment(g, e));
    return gguf__take_tensors(g, &c);
}

Status gguf_open_bytes(Gguf **out, const void *p, size_t n, Err *e) {
    Gguf *g = mem_new(Gguf);
    if (!g) return err_set(e, ERR_NOMEM, "no memory to open a gguf file");
    g->map = (IoMap){p, n};
    g->n_files = 1;
    g->n_bytes = n;
    Status st = parse(g, e);
    if (st != OK) {
        gguf_close(g);
        return st;
    }
    *out = g;
    return OK;
}

Status gguf_open(Gguf **out, const char *path, Err *e) {
    IoMap map = {0};
    Gguf *g = NULL;
    int64_t n_files = 1;
    TRY(io_map(&map, path, e));
    Status st = gguf_open_bytes(&g, map.p, map.n, e);
    if (st == OK) st = gguf_opt_int(&n_files, g, "split.count", 0, GGUF_MAX_FILES, e);
    if (st != OK || n_files > 1) {
        gguf_close(g);
        io_unmap(&map);
        if (st == OK) return gguf__open_split(out, path, (size_t)n_files, e);
        err_in(e, path);
        return st;
    }
    g->owns_map = true;
    *out = g;
    return OK;
}

void gguf_close(Gguf *g) {
    if (!g) return;
    gguf__index_deinit(&g->kv_index);
    gguf__index_deinit(&g->tensor_index);
    mem_free(g->kv);
    mem_free(g->tensor);
    for (size_t i = 0; g->paths && i < g->n_files; i++) mem_free(g->paths[i]);
    mem_free(g->paths);
    mem_free(g->part);
    if (g->owns_map) io_unmap(&g->map);
    mem_free(g);
}
