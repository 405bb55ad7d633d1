/* SPDX-License-Identifier: Apache-2.0
 * Digests of files that are there already. */
#include "hub/internal.h"

#include <stdio.h>

#include "base/io.h"

#define CHECK_STEP ((size_t)4 << 20)

/* Git's name of a file's content is the SHA-1 of a small head and the content. */
static void add_git_head(Digest *d, uint64_t size) {
    char head[40];
    int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)size);
    digest_add(d, head, (size_t)n + 1);
}

static Status digest_map(Digest *d, const IoMap *m, const HubOpts *o, const char *step, Err *e) {
    for (size_t at = 0, n; at < m->n; at += n) {
        n = MIN(m->n - at, CHECK_STEP);
        if (hub__stopped(o)) return hub__fail_stopped(e);
        digest_add(d, m->p + at, n);
        io_map_release(m->p + at, n);
        if (o->progress && step) o->progress(o->ctx, step, at + n, m->n);
    }
    return OK;
}

Status hub__file_digest(char hex[DIGEST_HEX], const char *path, bool git, const HubOpts *o,
                        const char *step, Err *e) {
    IoMap m = {0};
    Digest *d = NULL;
    TRY(io_map(&m, path, e));
    Status st = digest_new(&d, git ? DIGEST_SHA1 : DIGEST_SHA256, e);
    if (st == OK && git) add_git_head(d, m.n);
    if (st == OK) st = digest_map(d, &m, o, step, e);
    if (st == OK) st = digest_finish(hex, d, e);
    digest_free(d);
    io_unmap(&m);
    return st;
}

Status hub__disk_free(uint64_t *out, const char *path, Err *e) {
    char *dir = mem_dup(path, strlen(path));
    if (!dir) return err_set(e, ERR_NOMEM, "out of memory for a path");
    char *slash;
    while (!io_exists(dir) && (slash = strrchr(dir, '/')) != NULL) *slash = '\0';
    Status st = io_disk_free(out, *dir && io_exists(dir) ? dir : path[0] == '/' ? "/" : ".", e);
    mem_free(dir);
    return st;
}
