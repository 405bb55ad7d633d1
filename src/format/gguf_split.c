/* SPDX-License-Identifier: Apache-2.0
 * A model in several files, NAME-00001-of-00003.gguf and so on, opened as one. Any of them may be named.
 *
 *   split.no  u16, from 0      split.count  u16      split.tensors.count  i32, of all files together
 *
 * The files are mapped behind one another, so that one range of addresses holds every tensor. Each is read
 * and checked as a file of its own; then its tensor entries move to the end of the first one's. Metadata are
 * the first file's; the three keys above, which speak of files, not of the model, are left out. */
#include <stdio.h>

#include "format/gguf_internal.h"

enum { SUFFIX = sizeof "-00001-of-00003.gguf" - 1 };

typedef struct Shards {
    const char *path; /* the one that was asked for */
    size_t n;
    char **paths;  /* owned, and each owned */
    IoMap *part;   /* owned [n] */
    size_t n_room; /* tensor entries there is room for */
} Shards;

static void shards_deinit(Shards *s) {
    for (size_t i = 0; s->paths && i < s->n; i++) mem_free(s->paths[i]);
    mem_free(s->paths);
    mem_free(s->part);
}

/* The names of all files from the name of one. */
static Status name_all(Shards *s, Err *e) {
    size_t len = strlen(s->path), stem = len - MIN(len, (size_t)SUFFIX);
    int no = 0, count = 0, end = 0;
    if (len < SUFFIX || sscanf(s->path + stem, "-%5d-of-%5d.gguf%n", &no, &count, &end) != 2 ||
        end != SUFFIX || (size_t)count != s->n)
        return err_set(
            e, ERR_FORMAT,
            "%s: key \"split.count\": %zu, but the name does not end in -00001-of-%05zu.gguf: "
            "the other files cannot be found",
            s->path, s->n, s->n);
    s->paths = mem_new_n(char *, s->n);
    s->part = mem_new_n(IoMap, s->n);
    if (!s->paths || !s->part) return err_set(e, ERR_NOMEM, "names of %zu files", s->n);
    for (size_t i = 0; i < s->n; i++) {
        StrBuf b = {0};
        sb_put(&b, s->path, stem);
        sb_printf(&b, "-%05zu-of-%05zu.gguf", i + 1, s->n);
        s->paths[i] = sb_take(&b);
        if (!s->paths[i]) return err_set(e, ERR_NOMEM, "names of %zu files", s->n);
    }
    if (no < 1 || (size_t)no > s->n || strcmp(s->paths[no - 1], s->path) != 0)
        return err_set(e, ERR_FORMAT, "%s: a name of none of the %zu files", s->path, s->n);
    return OK;
}

static Status check_place(const Gguf *g, size_t i, size_t n, Err *e) {
    int64_t v = 0;
    TRY(gguf_get_int(&v, g, "split.count", (int64_t)n, (int64_t)n, e));
    return gguf_get_int(&v, g, "split.no", (int64_t)i, (int64_t)i, e);
}

/* Make room in g for all that split.tensors.count promises, before the entries come. */
static Status make_room(Shards *s, Gguf *g, Err *e) {
    int64_t total = 0;
    TRY(gguf_get_int(&total, g, "split.tensors.count", (int64_t)g->n_tensors,
                     GGUF_MAX_SPLIT_TENSORS, e));
    s->n_room = (size_t)total;
    GgufTensor *t = mem_realloc_n(g->tensor, MAX(s->n_room, (size_t)1), sizeof *t);
    if (!t) return err_set(e, ERR_NOMEM, "no memory for %zu tensor entries", s->n_room);
    g->tensor = t;
    if (!gguf__index_reserve(&g->tensor_index, gguf__tensor_names(g), g->n_tensors, s->n_room))
        return err_set(e, ERR_NOMEM, "no memory for %zu tensor entries", s->n_room);
    return OK;
}

static Status append_tensors(const Shards *s, Gguf *g, const Gguf *from, Err *e) {
    if (from->n_tensors > s->n_room - g->n_tensors)
        return err_set(e, ERR_FORMAT, "key \"split.tensors.count\": %zu, the files have more",
                       s->n_room);
    for (size_t i = 0; i < from->n_tensors; i++) {
        Slice name = from->tensor[i].name;
        if (gguf__index_find(&g->tensor_index, gguf__tensor_names(g), name) != SIZE_MAX)
            return gguf__err(e, ERR_FORMAT, "tensor", name, "is in two files");
        g->tensor[g->n_tensors] = from->tensor[i];
        if (!gguf__index_add(&g->tensor_index, gguf__tensor_names(g), g->n_tensors))
            return gguf__err(e, ERR_FORMAT, "tensor", name, "collides with too many other names");
        g->n_tensors++;
    }
    return OK;
}

/* The keys that speak of the files go; the others close up. */
static Status drop_split_keys(Gguf *g, Err *e) {
    size_t n = 0;
    for (size_t i = 0; i < g->n_kv; i++)
        if (g->kv[i].key.n < 6 || memcmp(g->kv[i].key.p, "split.", 6) != 0) g->kv[n++] = g->kv[i];
    g->n_kv = n;
    gguf__index_deinit(&g->kv_index);
    g->kv_index = (GgufIndex){0};
    if (!gguf__index_reserve(&g->kv_index, gguf__kv_names(g), 0, n))
        return err_set(e, ERR_NOMEM, "no memory for %zu metadata entries", n);
    for (size_t i = 0; i < n; i++)
        if (!gguf__index_add(&g->kv_index, gguf__kv_names(g), i))
            return gguf__err(e, ERR_FORMAT, "key", g->kv[i].key,
                             "collides with too many other names");
    return OK;
}

/* File i into g; the first one becomes *g. */
static Status join(Shards *s, Gguf **g, size_t i, Err *e) {
    Gguf *one = NULL;
    Status st = gguf_open_bytes(&one, s->part[i].p, s->part[i].n, e);
    if (st == OK) st = check_place(one, i, s->n, e);
    if (st == OK && i == 0) st = make_room(s, one, e);
    if (st == OK && i > 0) st = append_tensors(s, *g, one, e);
    if (st == OK && i == 0) *g = one;
    else gguf_close(one);
    if (st != OK) err_in(e, s->paths[i]);
    return st;
}

static Status join_all(Shards *s, Gguf **g, Err *e) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < s->n; i++) {
        TRY(join(s, g, i, e));
        bytes += s->part[i].n;
    }
    if ((*g)->n_tensors < s->n_room)
        return err_set(e, ERR_FORMAT, "%s: key \"split.tensors.count\": %zu, the files have %zu",
                       s->paths[0], s->n_room, (*g)->n_tensors);
    (*g)->n_files = s->n;
    (*g)->n_bytes = bytes;
    return drop_split_keys(*g, e);
}

Status gguf__open_split(Gguf **out, const char *path, size_t n, Err *e) {
    Shards s = {.path = path, .n = n};
    IoMap whole = {0};
    Gguf *g = NULL;
    Status st = name_all(&s, e);
    if (st == OK) st = io_map_all(&whole, s.part, (const char *const *)s.paths, n, e);
    if (st == OK) st = join_all(&s, &g, e);
    if (st != OK) {
        shards_deinit(&s);
        gguf_close(g);
        io_unmap(&whole);
        return st;
    }
    g->paths = s.paths;
    g->part = s.part;
    s.paths = NULL;
    s.part = NULL;
    shards_deinit(&s);
    g->map = whole;
    g->owns_map = true;
    *out = g;
    return OK;
}
