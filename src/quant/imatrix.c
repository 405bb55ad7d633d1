/* SPDX-License-Identifier: Apache-2.0
 * Reading importance matrices, both kinds of file. The values of all entries are divided by their counts on
 * loading, so that what is kept is one table: names in order, each with its mean squares. */
#include "quant/imatrix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/gguf.h"

enum {
    MAX_ENTRIES = 1 << 18,
    MAX_DAT_BYTES = 1 << 30,
    MAX_DATASET = 4096,
    QUOTED = 60 /* bytes of a name in a message */
};

typedef struct Entry {
    Slice name;    /* p owned */
    float *values; /* owned; [n] */
    size_t n;
} Entry;

struct Imat {
    char *path, *dataset; /* owned */
    Entry *entries;       /* owned; by name */
    size_t n_entries, cap;
    uint32_t n_chunks;
};

void imat_free(Imat *m) {
    if (!m) return;
    for (size_t i = 0; i < m->n_entries; i++) {
        mem_free((void *)(uintptr_t)m->entries[i].name.p);
        mem_free(m->entries[i].values);
    }
    mem_free(m->entries);
    mem_free(m->path);
    mem_free(m->dataset);
    mem_free(m);
}

/* Take `values` over with its name; on failure it is freed. */
static Status add(Imat *m, Slice name, float *values, size_t n, Err *e) {
    char *copy = mem_dup(name.p, name.n);
    if (!copy || m->n_entries == m->cap) {
        mem_free(copy);
        mem_free(values);
        return err_set(e, ERR_NOMEM, "importance matrix: out of memory");
    }
    m->entries[m->n_entries++] = (Entry){.name = {copy, name.n}, .values = values, .n = n};
    return OK;
}

static int compare_slices(Slice a, Slice b) {
    int c = memcmp(a.p, b.p, MIN(a.n, b.n));
    return c != 0 ? c : (a.n > b.n) - (a.n < b.n);
}

static int by_name(const void *a, const void *b) {
    return compare_slices(((const Entry *)a)->name, ((const Entry *)b)->name);
}

static Status bad_entry(Slice name, const char *what, Err *e) {
    return err_set(e, ERR_FORMAT, "importance of %.*s: %s", (int)MIN(name.n, (size_t)QUOTED),
                   name.p, what);
}

/* In order, each name once, every value a mean square. */
static Status finish(Imat *m, Err *e) {
    if (m->n_entries == 0) return err_set(e, ERR_FORMAT, "holds no importance data");
    qsort(m->entries, m->n_entries, sizeof *m->entries, by_name);
    for (size_t i = 0; i < m->n_entries; i++) {
        const Entry *t = &m->entries[i];
        if (i > 0 && slice_eq(t->name, t[-1].name)) return bad_entry(t->name, "is there twice", e);
        for (size_t k = 0; k < t->n; k++)
            if (!(t->values[k] >= 0 && t->values[k] <= 3.4e38f))
                return err_set(e, ERR_FORMAT,
                               "importance of %.*s: value %zu is %g, want a finite number >= 0",
                               (int)MIN(t->name.n, (size_t)QUOTED), t->name.p, k,
                               (double)t->values[k]);
    }
    return OK;
}

/* ---- GGUF ---- */

static Status load_sums(Imat *m, const Gguf *g, const GgufTensor *t, Slice name, Err *e) {
    char key[GGUF_MAX_NAME + 16];
    snprintf(key, sizeof key, "%.*s.counts", (int)name.n, name.p);
    const GgufTensor *counts = gguf_find_tensor(g, key);
    if (!counts) return bad_entry(name, "there are sums but no counts", e);
    if (t->type != DT_F32 || counts->type != DT_F32) return bad_entry(name, "is not f32", e);
    if (t->n_elem % counts->n_elem != 0 || counts->n_elem != t->n_elem / t->ne[0])
        return bad_entry(name, "sums and counts do not fit together", e);
    float *v = mem_new_n(float, t->n_elem);
    if (!v) return err_set(e, ERR_NOMEM, "importance of %zu columns", (size_t)t->n_elem);
    const float *sum = t->data, *count = counts->data;
    for (size_t i = 0; i < counts->n_elem; i++) {
        if (count[i] >= 0.0f && isfinite(count[i])) continue;
        mem_free(v);
        return bad_entry(name, "a count is negative or no number", e);
    }
    for (size_t i = 0; i < t->n_elem; i++) {
        float c = count[i / t->ne[0]];
        v[i] = c > 0.0f ? sum[i] / c : 1.0f;
    }
    return add(m, name, v, t->n_elem, e);
}

static Status load_gguf_facts(Imat *m, const Gguf *g, Err *e) {
    int64_t chunks = 0;
    const GgufKv *sets = NULL;
    Slice first = {0};
    size_t at = 0;
    TRY(gguf_get_int(&chunks, g, "imatrix.chunk_count", 0, UINT32_MAX, e));
    TRY(gguf_get_arr(&sets, g, "imatrix.datasets", GGUF_STR, e));
    m->n_chunks = (uint32_t)chunks;
    if (!gguf_arr_next_str(sets, &at, &first)) return OK;
    m->dataset = mem_dup(first.p, MIN(first.n, (size_t)MAX_DATASET));
    return m->dataset ? OK : err_set(e, ERR_NOMEM, "importance matrix: out of memory");
}

static Status load_gguf(Imat *m, const Gguf *g, Err *e) {
    static const char tail[] = ".in_sum2";
    size_t n = gguf_n_tensors(g), tail_n = sizeof tail - 1;
    TRY(load_gguf_facts(m, g, e));
    m->cap = n;
    m->entries = mem_new_n(Entry, n);
    if (!m->entries) return err_set(e, ERR_NOMEM, "importance of %zu tensors", n);
    for (size_t i = 0; i < n; i++) {
        const GgufTensor *t = gguf_tensor_at(g, i);
        size_t k = t->name.n;
        if (k <= tail_n || memcmp(t->name.p + k - tail_n, tail, tail_n) != 0) continue;
        TRY(load_sums(m, g, t, (Slice){t->name.p, k - tail_n}, e));
    }
    return finish(m, e);
}

/* ---- the older form ---- */

typedef struct Bytes {
    const char *p;
    size_t left;
} Bytes;

static bool take_i32(Bytes *b, int32_t *v) {
    if (b->left < sizeof *v) return false;
    memcpy(v, b->p, sizeof *v);
    b->p += sizeof *v;
    b->left -= sizeof *v;
    return true;
}

static bool take_slice(Bytes *b, Slice *s, size_t max) {
    int32_t n;
    if (!take_i32(b, &n) || n < 0 || (size_t)n > max || (size_t)n > b->left) return false;
    *s = (Slice){b->p, (size_t)n};
    b->p += n;
    b->left -= (size_t)n;
    return true;
}

static Status load_dat_entry(Imat *m, Bytes *b, Err *e) {
    Slice name;
    int32_t calls, n;
    if (!take_slice(b, &name, GGUF_MAX_NAME) || !take_i32(b, &calls) || !take_i32(b, &n) || n < 1 ||
        (size_t)n > b->left / sizeof(float))
        return err_set(e, ERR_FORMAT, "entry %zu of the importance matrix is cut off or damaged",
                       m->n_entries);
    float *v = mem_new_n(float, (size_t)n);
    if (!v) return err_set(e, ERR_NOMEM, "importance of %d columns", n);
    memcpy(v, b->p, (size_t)n * sizeof *v);
    b->p += (size_t)n * sizeof *v;
    b->left -= (size_t)n * sizeof *v;
    for (int32_t i = 0; calls > 0 && i < n; i++) v[i] /= (float)calls;
    return add(m, name, v, (size_t)n, e);
}

static Status load_dat(Imat *m, Slice bytes, Err *e) {
    Bytes b = {bytes.p, bytes.n};
    int32_t n, chunks;
    Slice set;
    if (!take_i32(&b, &n) || n < 1 || n > MAX_ENTRIES)
        return err_set(e, ERR_FORMAT, "is no importance matrix");
    m->cap = (size_t)n;
    m->entries = mem_new_n(Entry, m->cap);
    if (!m->entries) return err_set(e, ERR_NOMEM, "importance of %d tensors", n);
    for (int32_t i = 0; i < n; i++) TRY(load_dat_entry(m, &b, e));
    if (take_i32(&b, &chunks) && take_slice(&b, &set, MAX_DATASET)) {
        m->n_chunks = chunks > 0 ? (uint32_t)chunks : 0;
        m->dataset = mem_dup(set.p, set.n);
        if (!m->dataset) return err_set(e, ERR_NOMEM, "importance matrix: out of memory");
    }
    return finish(m, e);
}

/* ---- either ---- */

static Status load_file(Imat *m, const char *path, Err *e) {
    IoMap map = {0};
    Gguf *g = NULL;
    TRY(io_map(&map, path, e));
    bool is_gguf = map.n >= 4 && memcmp(map.p, "GGUF", 4) == 0;
    Status st = OK;
    if (!is_gguf && map.n > MAX_DAT_BYTES) st = err_set(e, ERR_FORMAT, "is no importance matrix");
    else if (!is_gguf) st = load_dat(m, (Slice){(const char *)map.p, map.n}, e);
    io_unmap(&map);
    if (is_gguf) st = gguf_open(&g, path, e);
    if (is_gguf && st == OK) st = load_gguf(m, g, e);
    gguf_close(g);
    return st;
}

Status imat_load(Imat **out, const char *path, Err *e) {
    Imat *m = mem_new(Imat);
    if (!m) return err_set(e, ERR_NOMEM, "importance matrix: out of memory");
    m->path = mem_dup(path, strlen(path));
    Status st =
        m->path ? load_file(m, path, e) : err_set(e, ERR_NOMEM, "importance matrix: out of memory");
    if (st != OK) {
        err_in(e, path);
        imat_free(m);
        return st;
    }
    *out = m;
    return OK;
}

const float *imat_find(const Imat *m, Slice name, size_t *n) {
    size_t lo = 0, hi = m->n_entries;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = compare_slices(m->entries[mid].name, name);
        if (c == 0) {
            *n = m->entries[mid].n;
            return m->entries[mid].values;
        }
        if (c < 0) lo = mid + 1;
        else hi = mid;
    }
    return NULL;
}

size_t imat_n_entries(const Imat *m) { return m->n_entries; }
uint32_t imat_n_chunks(const Imat *m) { return m->n_chunks; }
Slice imat_dataset(const Imat *m) { return slice_of(m->dataset ? m->dataset : ""); }
const char *imat_path(const Imat *m) { return m->path; }
