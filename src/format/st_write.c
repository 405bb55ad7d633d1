/* SPDX-License-Identifier: Apache-2.0
 * Writing a safetensors file. The JSON is built as tensors are declared and padded with spaces, so that the
 * data begins at a multiple of ST_ALIGNMENT; data is streamed. One thread. */
#include "format/st_internal.h"
#include "text/json.h"

struct StW {
    Err err; /* first failure */
    char *path;
    StrBuf meta, json; /* members of __metadata__, and the tensors */
    St *names;         /* owned: the tensors' names, each once */
    uint64_t n_data, n_given;
    IoWriter io;
    bool begun, done;
};

static bool failed(const StW *w) { return w->err.code != OK; }

static Status report(StW *w, Err *e) {
    io_writer_abort(&w->io);
    if (e && e->code == OK) *e = w->err;
    return w->err.code;
}

Status st_w_new(StW **out, const char *path, Err *e) {
    StW *w = mem_new(StW);
    if (w) w->path = mem_dup(path, strlen(path));
    if (w) w->names = st__new();
    if (!w || !w->path || !w->names) {
        st_w_free(w);
        return err_set(e, ERR_NOMEM, "%s: no memory for a safetensors writer", path);
    }
    *out = w;
    return OK;
}

void st_w_free(StW *w) {
    if (!w) return;
    io_writer_abort(&w->io);
    st_close(w->names);
    sb_deinit(&w->meta);
    sb_deinit(&w->json);
    mem_free(w->path);
    mem_free(w);
}

/* One string, quoted and escaped. */
static void put_string(StrBuf *b, Slice s) {
    JsonW j;
    jw_init(&j, b);
    jw_str(&j, NULL, s);
}

void st_w_meta(StW *w, const char *key, const char *text) {
    if (w->meta.n) sb_putc(&w->meta, ',');
    put_string(&w->meta, slice_of(key));
    sb_putc(&w->meta, ':');
    put_string(&w->meta, slice_of(text));
}

/* The name among those declared. */
static Status add_name(StW *w, Slice name) {
    St *s = w->names;
    if (s->n == ST_MAX_TENSORS) return err_set(&w->err, ERR_ARG, "over %d tensors", ST_MAX_TENSORS);
    if (gguf__index_find(&s->index, st__names(s), name) != SIZE_MAX)
        return st__err(&w->err, ERR_ARG, name, "declared twice");
    if (s->n == s->cap) {
        size_t cap = MAX(2 * s->cap, (size_t)64);
        StTensor *t = mem_realloc_n(s->tensor, cap, sizeof *t);
        if (!t) return err_set(&w->err, ERR_NOMEM, "no memory for %zu tensors", cap);
        s->tensor = t;
        s->cap = cap;
    }
    s->tensor[s->n] = (StTensor){.name = {arena_dup(&s->mem, name.p, name.n), name.n}};
    if (!s->tensor[s->n].name.p || !gguf__index_reserve(&s->index, st__names(s), s->n, s->n + 1) ||
        !gguf__index_add(&s->index, st__names(s), s->n))
        return err_set(&w->err, ERR_NOMEM, "no memory for %zu tensors", s->n);
    s->n++;
    return OK;
}

static void put_entry(StW *w, const StTensor *t) {
    StrBuf *b = &w->json;
    sb_putc(b, ',');
    put_string(b, t->name);
    sb_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", st_type_name(t->type));
    for (int d = 0; d < t->n_dims; d++)
        sb_printf(b, d ? ",%llu" : "%llu", (unsigned long long)t->shape[d]);
    sb_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)w->n_data,
              (unsigned long long)(w->n_data + t->n_bytes));
}

void st_w_tensor(StW *w, Slice name, StType type, int n_dims, const uint64_t *shape) {
    StTensor t = {.name = name, .type = type, .n_dims = n_dims};
    if (failed(w)) return;
    if (w->begun || name.n < 1 || name.n > ST_MAX_NAME || n_dims < 0 || n_dims > ST_MAX_DIMS) {
        st__err(&w->err, ERR_ARG, name, "declared late, or its name or %d dims are over the limits",
                n_dims);
        return;
    }
    for (int d = 0; d < n_dims; d++) t.shape[d] = shape[d];
    if (!st__count(&t) || t.n_bytes > INT64_MAX - w->n_data) {
        st__err(&w->err, ERR_ARG, name, "takes more than 2^63 bytes");
        return;
    }
    if (add_name(w, name) != OK) return;
    put_entry(w, &t);
    w->n_data += t.n_bytes;
}

static Status begin(StW *w) {
    StrBuf *b = &w->json, head = {0};
    sb_puts(&head, "{\"__metadata__\":{");
    sb_put(&head, w->meta.p, w->meta.n);
    sb_putc(&head, '}');
    sb_putc(b, '}');
    uint64_t n = ROUND_UP(8 + head.n + b->n, (uint64_t)ST_ALIGNMENT) - 8;
    while (!b->failed && head.n + b->n < n) sb_putc(b, ' ');
    Status st = sb_check(&head, &w->err);
    if (st == OK) st = sb_check(&w->meta, &w->err);
    if (st == OK) st = sb_check(b, &w->err);
    if (st == OK && n > ST_MAX_HEADER)
        st = err_set(&w->err, ERR_ARG, "a header of %llu bytes, limit %d", (unsigned long long)n,
                     (int)ST_MAX_HEADER);
    if (st == OK) st = io_writer_open(&w->io, w->path, true, &w->err);
    if (st == OK) st = io_write(&w->io, &n, sizeof n, &w->err);
    if (st == OK) st = io_write(&w->io, head.p, head.n, &w->err);
    if (st == OK) st = io_write(&w->io, b->p, b->n, &w->err);
    sb_deinit(&head);
    return st;
}

Status st_w_begin(StW *w, Err *e) {
    if (w->begun) err_set(&w->err, ERR_ARG, "%s: begun twice", w->path);
    w->begun = true;
    return failed(w) || begin(w) != OK ? report(w, e) : OK;
}

Status st_w_data(StW *w, const void *p, size_t n, Err *e) {
    if (!w->begun || w->done || n > w->n_data - w->n_given)
        err_set(&w->err, ERR_ARG, "%s: %zu bytes of data that no tensor waits for", w->path, n);
    if (failed(w) || io_write(&w->io, p, n, &w->err) != OK) return report(w, e);
    w->n_given += n;
    return OK;
}

Status st_w_end(StW *w, Err *e) {
    if (!w->begun || w->done || w->n_given != w->n_data)
        err_set(&w->err, ERR_ARG, "%s: %llu of %llu bytes of data came", w->path,
                (unsigned long long)w->n_given, (unsigned long long)w->n_data);
    if (failed(w) || io_writer_close(&w->io, &w->err) != OK) return report(w, e);
    w->done = true;
    return OK;
}
