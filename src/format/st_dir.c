/* SPDX-License-Identifier: Apache-2.0
 * The weights of a folder: one safetensors file, or several with an index. The files of an index are mapped
 * behind one another and read each as a file of its own; the index then has to name the file each of its
 * tensors is in. File names come from the index, so they are held to plain names inside the folder.
 *
 * Pickled weights are programs that run when they are opened: they are refused, not read. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/st_internal.h"
#include "text/json.h"

#define INDEX_NAME "model.safetensors.index.json"

enum { INDEX_MAX = 64 << 20 };

typedef struct Shards {
    const char *dir;
    const Json *map; /* weight_map */
    Slice *name;     /* owned [n]: of the files, sorted, each once; borrowed from the index */
    size_t n;
    char **path; /* owned [n], and each owned */
    IoMap *part; /* owned [n] */
} Shards;

static void shards_deinit(Shards *h) {
    for (size_t i = 0; h->path && i < h->n; i++) mem_free(h->path[i]);
    mem_free(h->path);
    mem_free(h->part);
    mem_free(h->name);
}

/* ---- the index ---- */

static int by_bytes(const void *pa, const void *pb) {
    const Slice *a = pa, *b = pb;
    int c = memcmp(a->p, b->p, MIN(a->n, b->n));
    return c ? c : (a->n > b->n) - (a->n < b->n);
}

/* NAME.safetensors in the folder itself. */
static bool is_plain(Slice s) {
    static const char tail[] = ".safetensors";
    size_t n = sizeof tail - 1;
    return s.n > n && s.n <= 255 && memcmp(s.p + s.n - n, tail, n) == 0 && s.p[0] != '.' &&
           !memchr(s.p, '/', s.n) && !memchr(s.p, 0, s.n);
}

static Status name_files(Shards *h, Err *e) {
    size_t n = json_len(h->map), i = 0;
    Slice key;
    const Json *v;
    if (!json_is_object(h->map) || n == 0)
        return err_set(e, ERR_FORMAT, "weight_map is no object with tensors");
    if (n > ST_MAX_TENSORS)
        return err_set(e, ERR_FORMAT, "weight_map: %zu tensors, limit %d", n, ST_MAX_TENSORS);
    h->name = mem_new_n(Slice, n);
    if (!h->name) return err_set(e, ERR_NOMEM, "no memory for an index of %zu tensors", n);
    for (void *it = NULL; (it = json_next(h->map, it, &key, &v));) {
        h->name[i] = json_str(v);
        if (!is_plain(h->name[i++]))
            return st__err(e, ERR_FORMAT, key,
                           "its file is not named NAME.safetensors in the same folder");
    }
    qsort(h->name, n, sizeof *h->name, by_bytes);
    for (i = 0; i < n; i++)
        if (i == 0 || !slice_eq(h->name[i], h->name[h->n - 1])) h->name[h->n++] = h->name[i];
    return h->n <= ST_MAX_FILES
               ? OK
               : err_set(e, ERR_FORMAT, "weight_map: %zu files, limit %d", h->n, ST_MAX_FILES);
}

static Status name_paths(Shards *h, Err *e) {
    h->path = mem_new_n(char *, h->n);
    h->part = mem_new_n(IoMap, h->n);
    if (!h->path || !h->part) return err_set(e, ERR_NOMEM, "names of %zu files", h->n);
    for (size_t i = 0; i < h->n; i++) {
        StrBuf b = {0};
        sb_printf(&b, "%s/", h->dir);
        sb_put(&b, h->name[i].p, h->name[i].n);
        h->path[i] = sb_take(&b);
        if (!h->path[i]) return err_set(e, ERR_NOMEM, "names of %zu files", h->n);
    }
    return OK;
}

/* Each tensor of the index is in the file it names. */
static Status check_index(const Shards *h, const St *s, Err *e) {
    Slice key;
    const Json *v;
    for (void *it = NULL; (it = json_next(h->map, it, &key, &v));) {
        const StTensor *t = st_find(s, key);
        if (!t || !slice_eq(h->name[t->i_file], json_str(v)))
            return st__err(e, ERR_FORMAT, key, "%s the file that weight_map names",
                           t ? "is in another file than" : "is not in");
    }
    return OK;
}

static Status read_files(Shards *h, St *s, Err *e) {
    for (size_t i = 0; i < h->n; i++) {
        Status st = st__add_file(s, h->part[i], e);
        if (st != OK) {
            err_in(e, h->path[i]);
            return st;
        }
    }
    return OK;
}

static Status open_shards(St *s, Shards *h, Err *e) {
    TRY(name_files(h, e));
    TRY(name_paths(h, e));
    TRY(io_map_all(&s->map, h->part, (const char *const *)h->path, h->n, e));
    s->owns_map = true;
    TRY(read_files(h, s, e));
    return check_index(h, s, e);
}

static Status open_index(St **out, const char *dir, const char *path, Err *e) {
    StrBuf text = {0};
    Json *root = NULL;
    St *s = st__new();
    Shards h = {.dir = dir};
    uint64_t size; /* and that it is a regular file */
    Status st = s ? OK : err_set(e, ERR_NOMEM, "no memory to open safetensors files");
    if (st == OK) st = io_file_size(&size, path, e);
    if (st == OK) st = io_read_file(&text, path, INDEX_MAX, e);
    if (st == OK) {
        st = json_parse(&root, (Slice){sb_str(&text), text.n}, e);
        if (st != OK) err_in(e, path);
    }
    h.map = json_get(root, "weight_map");
    if (st == OK) st = open_shards(s, &h, e);
    shards_deinit(&h);
    json_free(root);
    sb_deinit(&text);
    if (st == OK) *out = s;
    else st_close(s);
    return st;
}

/* ---- the folder ---- */

static bool is_pickle(const char *name) {
    static const char *const tails[] = {".bin", ".pt", ".pth", ".pkl", ".ckpt"};
    for (size_t i = 0; i < COUNT_OF(tails); i++)
        if (str_ends_with(name, tails[i])) return true;
    return false;
}

/* Why there is nothing to open. */
static Status nothing(const char *dir, Err *e) {
    char found[128] = "";
    DIR *d = opendir(dir);
    for (struct dirent *f; d && (f = readdir(d));)
        if (is_pickle(f->d_name)) snprintf(found, sizeof found, "%.100s", f->d_name);
    if (d) closedir(d);
    if (found[0])
        return err_set(
            e, ERR_UNSUPPORTED,
            "%s: pickled weights run code when they are opened and are not read: save them "
            "as safetensors first",
            found);
    return err_set(e, ERR_NOT_FOUND, "%s: no model.safetensors and no " INDEX_NAME, dir);
}

Status st_open_dir(St **out, const char *dir, Err *e) {
    StrBuf one = {0}, index = {0};
    sb_printf(&one, "%s/model.safetensors", dir);
    sb_printf(&index, "%s/" INDEX_NAME, dir);
    Status st = sb_check(&one, e);
    if (st == OK) st = sb_check(&index, e);
    if (st == OK && io_exists(one.p)) st = st_open(out, one.p, e);
    else if (st == OK && io_exists(index.p)) st = open_index(out, dir, index.p, e);
    else if (st == OK) st = nothing(dir, e);
    sb_deinit(&one);
    sb_deinit(&index);
    return st;
}
