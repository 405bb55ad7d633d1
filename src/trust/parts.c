/* SPDX-License-Identifier: Apache-2.0
 * The files of a target and their digests. A tile of the team is a file; the calling thread alone shows progress. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/digest.h"
#include "base/fault.h"
#include "base/team.h"
#include "trust/internal.h"

enum { MAX_DEPTH = 4, STEP = 4 << 20 };

void trust__parts_deinit(TrustParts *p) {
    for (size_t i = 0; i < p->n; i++) mem_free(p->v[i].path);
    mem_free(p->v);
    *p = (TrustParts){0};
}

Status trust__parts_add(TrustParts *p, const char *path, size_t name_at, Err *e) {
    if (p->n == TRUST_MAX_FILES)
        return err_set(e, ERR_FULL, "%s: over %d files", path, (int)TRUST_MAX_FILES);
    if (p->n == p->cap) {
        size_t cap = MAX(2 * p->cap, (size_t)16);
        TrustPart *v = mem_realloc_n(p->v, cap, sizeof *v);
        if (!v) return err_set(e, ERR_NOMEM, "no memory for %zu files", cap);
        p->v = v;
        p->cap = cap;
    }
    TrustPart *f = &p->v[p->n];
    *f = (TrustPart){.path = mem_dup(path, strlen(path))};
    if (!f->path) return err_set(e, ERR_NOMEM, "%s: out of memory", path);
    f->name = f->path + name_at;
    p->n++;
    return OK;
}

/* ---- folders ---- */

bool trust__is_folder(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static bool is_ours(const char *name) {
    return !strcmp(name, "manifest.json") || !strcmp(name, "manifest.sig");
}

static Status walk(TrustParts *p, StrBuf *path, size_t root, int depth, Err *e);

static Status visit(TrustParts *p, StrBuf *path, size_t root, int depth, Err *e) {
    struct stat s;
    TRY(sb_check(path, e));
    if (stat(path->p, &s) < 0) return err_set(e, ERR_IO, "%s: %s", path->p, strerror(errno));
    if (S_ISDIR(s.st_mode)) return walk(p, path, root, depth + 1, e);
    if (!S_ISREG(s.st_mode)) return err_set(e, ERR_IO, "%s: is not a regular file", path->p);
    return depth == 0 && is_ours(path->p + root) ? OK : trust__parts_add(p, path->p, root, e);
}

static Status walk(TrustParts *p, StrBuf *path, size_t root, int depth, Err *e) {
    bool fault = fault_hit(FAULT_IO);
    DIR *d = fault ? NULL : opendir(path->p);
    size_t n = path->n;
    Status st = OK;
    if (depth > MAX_DEPTH)
        st = err_set(e, ERR_FULL, "%s: over %d folders deep", path->p, (int)MAX_DEPTH);
    else if (!d) st = err_set(e, ERR_IO, "%s: %s", path->p, fault ? "i/o error" : strerror(errno));
    for (struct dirent *f; st == OK && (f = readdir(d));) {
        if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, "..")) continue;
        sb_printf(path, "/%s", f->d_name);
        st = visit(p, path, root, depth, e);
        path->n = n;
        if (path->p) path->p[n] = 0;
    }
    if (d) closedir(d);
    return st;
}

static int by_name(const void *pa, const void *pb) {
    const TrustPart *a = pa, *b = pb;
    return strcmp(a->name, b->name);
}

Status trust__list(TrustParts *p, const char *folder, Err *e) {
    StrBuf path = {0};
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/') n--;
    sb_put(&path, folder, n);
    Status st = sb_check(&path, e);
    if (st == OK) st = walk(p, &path, n + 1, 0, e);
    sb_deinit(&path);
    if (st == OK && p->n == 0) st = err_set(e, ERR_NOT_FOUND, "%s: no files to sign", folder);
    if (st == OK) qsort(p->v, p->n, sizeof *p->v, by_name);
    return st;
}

/* ---- digests ---- */

typedef struct Hashing {
    TrustPart *part;
    Err *err; /* owned [n] */
    const TrustOpts *o;
    _Atomic uint64_t done; /* [atomic] bytes; only for show */
    uint64_t total;
} Hashing;

static Status hash_map(Hashing *j, TrustPart *f, int worker, Err *e) {
    Digest *d = NULL;
    char hex[DIGEST_HEX];
    Status st = digest_new(&d, DIGEST_SHA256, e);
    for (size_t at = 0, n; st == OK && at < f->map.n; at += n) {
        n = MIN(f->map.n - at, (size_t)STEP);
        digest_add(d, f->map.p + at, n);
        if (!f->is_mapped) io_map_release(f->map.p + at, n);
        uint64_t done = atomic_fetch_add_explicit(&j->done, n, memory_order_relaxed) + n;
        if (worker == 0 && j->o->progress) j->o->progress(j->o->progress_ctx, done, j->total);
        if (st == OK && j->o->stop && atomic_load_explicit(j->o->stop, memory_order_relaxed))
            st = err_set(e, ERR_CANCELLED, "stopped");
    }
    if (st == OK) st = digest_finish(hex, d, e);
    digest_free(d);
    if (st == OK && !sha_parse(&f->digest, hex, strlen(hex)))
        st = err_set(e, ERR_INTERNAL, "a digest is not what it should be");
    return st;
}

static void hash_part(void *ctx, int64_t tile, int worker) {
    Hashing *j = ctx;
    TrustPart *f = &j->part[tile];
    Err *e = &j->err[tile];
    IoMap own = {0};
    if (!f->is_mapped) {
        if (io_map(&own, f->path, e) != OK) return;
        f->map = own;
    }
    f->size = f->map.n;
    if (hash_map(j, f, worker, e) != OK && e->code == OK) e->code = ERR_INTERNAL;
    if (f->is_mapped) return;
    io_unmap(&own);
    f->map = (IoMap){0};
}

Status trust__digest(TrustParts *p, const TrustOpts *o, Err *e) {
    Hashing j = {.part = p->v, .o = o};
    Team *team = NULL;
    for (size_t i = 0; i < p->n; i++) {
        uint64_t size = p->v[i].map.n;
        if (!p->v[i].is_mapped) TRY(io_file_size(&size, p->v[i].path, e));
        j.total += size;
    }
    j.err = mem_new_n(Err, p->n + 1);
    if (!j.err) return err_set(e, ERR_NOMEM, "no memory for digests of %zu files", p->n);
    Status st = team_new(&team, (int)MIN((size_t)MAX(o->n_threads, 1), MAX(p->n, (size_t)1)), e);
    if (st == OK) team_run(team, (int64_t)p->n, hash_part, &j);
    for (size_t i = 0; st == OK && i < p->n; i++)
        if (j.err[i].code != OK) st = err_set(e, j.err[i].code, "%s", j.err[i].msg);
    team_free(team);
    mem_free(j.err);
    return st;
}
