/* SPDX-License-Identifier: Apache-2.0
 * Folder walk in sorted order. A folder's names are read and the folder closed before the first
 * of them is entered, so depth costs no file descriptors; a path beyond the system's limit is
 * reported as a folder that cannot be read. Folders that hold no source of their own are named
 * in one list here. One thread. Not here: what is done with a file (collect.c). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/fault.h"
#include "data/internal.h"

static const char *const skip_folders[] = {".git", ".venv", "__pycache__", "node_modules"};

typedef struct Walk {
    StrBuf path;
    size_t n_root; /* bytes of the root, its slash included */
    WalkFn fn;
    void *ctx;
} Walk;

typedef struct Name {
    const char *s;      /* borrowed from the folder's arena */
    unsigned char type; /* DT_* */
} Name;

typedef struct Names {
    Arena arena;
    Name *v; /* owned */
    size_t n, cap;
} Names;

static void names_deinit(Names *l) {
    mem_free(l->v);
    arena_deinit(&l->arena);
}

static Status names_push(Names *l, const struct dirent *d, Err *e) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        Name *v = mem_realloc_n(l->v, cap, sizeof *v);
        if (!v) return err_set(e, ERR_NOMEM, "%zu folder entries", cap);
        l->v = v;
        l->cap = cap;
    }
    char *s = arena_dup(&l->arena, d->d_name, strlen(d->d_name));
    if (!s) return err_set(e, ERR_NOMEM, "%zu folder entries", l->n);
    l->v[l->n++] = (Name){s, d->d_type};
    return OK;
}

static int name_cmp(const void *a, const void *b) {
    return strcmp(((const Name *)a)->s, ((const Name *)b)->s);
}

/* The root may be a link; below it a link put in a folder's place after we looked is refused. */
static DIR *folder_open(const char *path, bool is_root) {
    if (fault_hit(FAULT_IO)) {
        errno = EIO;
        return NULL;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (is_root ? 0 : O_NOFOLLOW));
    if (fd < 0) return NULL;
    DIR *d = fdopendir(fd);
    if (!d) close(fd);
    return d;
}

/* ERR_IO: the folder cannot be read (errno says why); ERR_NOMEM. */
static Status names_read(Names *l, const char *path, bool is_root, Err *e) {
    Status st = OK;
    DIR *d = folder_open(path, is_root);
    if (!d) return ERR_IO;
    for (;;) {
        errno = 0;
        struct dirent *ent = readdir(d);
        if (!ent) {
            if (errno) st = ERR_IO;
            break;
        }
        if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, "..")) continue;
        st = names_push(l, ent, e);
        if (st != OK) break;
    }
    int cause = errno;
    closedir(d);
    errno = cause;
    if (st == OK && l->n) qsort(l->v, l->n, sizeof *l->v, name_cmp);
    return st;
}

static unsigned char kind_of(const char *path, unsigned char type) {
    struct stat s;
    if (type != DT_UNKNOWN) return type;
    if (lstat(path, &s) != 0) return DT_UNKNOWN;
    return S_ISDIR(s.st_mode) ? DT_DIR : S_ISREG(s.st_mode) ? DT_REG : DT_LNK;
}

static bool is_skip_folder(const char *name) {
    for (size_t i = 0; i < COUNT_OF(skip_folders); i++) {
        if (!strcmp(name, skip_folders[i])) return true;
    }
    return false;
}

static Status walk_folder(Walk *w, Err *e);

static Status walk_tell(Walk *w, WalkKind kind, Err *e) {
    const char *path = sb_str(&w->path);
    return w->fn(w->ctx, path, path + w->n_root, kind, e);
}

/* w->path is the entry's. */
static Status walk_entry(Walk *w, const Name *n, Err *e) {
    switch (kind_of(sb_str(&w->path), n->type)) {
    case DT_DIR:
        return is_skip_folder(n->s) ? walk_tell(w, WALK_SKIP_FOLDER, e) : walk_folder(w, e);
    case DT_REG: return walk_tell(w, WALK_FILE, e);
    case DT_UNKNOWN: return walk_tell(w, WALK_BAD_FOLDER, e);
    default: return walk_tell(w, WALK_SPECIAL, e);
    }
}

/* w->path is the folder's; it is the same afterwards. */
static Status walk_names(Walk *w, const Names *l, Err *e) {
    size_t n_path = w->path.n;
    Status st = OK;
    for (size_t i = 0; i < l->n && st == OK; i++) {
        if (w->path.p[n_path - 1] != '/') sb_putc(&w->path, '/');
        sb_puts(&w->path, l->v[i].s);
        st = sb_check(&w->path, e);
        if (st == OK) st = walk_entry(w, &l->v[i], e);
        w->path.n = n_path;
        w->path.p[n_path] = 0;
    }
    return st;
}

static Status walk_folder(Walk *w, Err *e) {
    Names l = {0};
    arena_init(&l.arena, 4096);
    Status st = names_read(&l, sb_str(&w->path), false, e);
    st = st == ERR_IO ? walk_tell(w, WALK_BAD_FOLDER, e) : st == OK ? walk_names(w, &l, e) : st;
    names_deinit(&l);
    return st;
}

Status data__walk(const char *dir, WalkFn fn, void *ctx, Err *e) {
    Walk w = {.fn = fn, .ctx = ctx};
    Names l = {0};
    arena_init(&l.arena, 4096);
    sb_puts(&w.path, dir);
    Status st = sb_check(&w.path, e);
    if (st == OK) st = names_read(&l, dir, true, e);
    if (st == ERR_IO) {
        st = err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", dir, strerror(errno));
    }
    if (st == OK) {
        w.n_root = w.path.n + (w.path.p[w.path.n - 1] != '/');
        st = walk_names(&w, &l, e);
    }
    names_deinit(&l);
    sb_deinit(&w.path);
    return st;
}
