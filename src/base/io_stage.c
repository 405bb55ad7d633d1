/* SPDX-License-Identifier: Apache-2.0
 * Folders put in place whole. Every call that can fail asks the fault point first; clearing up after a failure has
 * none, as nothing could be done about it. */
#include "base/io_stage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/internal.h"

enum { SHOWN = 160 };

static bool faulty(void) {
    if (!fault_hit(FAULT_IO)) return false;
    errno = EIO;
    return true;
}

static Status fail(Err *e, const char *path) {
    int cause = errno;
    Status st = cause == ENOENT || cause == ENOTDIR ? ERR_NOT_FOUND
                : cause == ENOMEM                   ? ERR_NOMEM
                                                    : ERR_IO;
    return err_set(e, st, "%s: %s", str__tail(path, SHOWN), strerror(cause));
}

/* ---- what is in a folder ---- */

static bool is_dot(const char *name) { return !strcmp(name, ".") || !strcmp(name, ".."); }

/* The writer's own files, and what its writers of files had not put in place yet. */
static bool is_own(const IoStage *s, int fd, const char *name) {
    struct stat st;
    char base[256];
    size_t n = strlen(name);
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode)) return false;
    if (s->is_own(name)) return true;
    if (n < 5 || n >= sizeof base || strcmp(name + n - 4, ".tmp") != 0) return false;
    snprintf(base, sizeof base, "%.*s", (int)(n - 4), name);
    return s->is_own(base);
}

static DIR *open_list(const char *path) {
    int fd = faulty() ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (fd >= 0 && !d) close(fd);
    return d;
}

/* Every entry is a plain file of the writer's. */
static Status check_own(const IoStage *s, const char *path, Err *e) {
    DIR *d = open_list(path);
    Status st = OK;
    if (!d) return fail(e, path);
    for (struct dirent *f; st == OK && (f = readdir(d));) {
        if (is_dot(f->d_name) || is_own(s, dirfd(d), f->d_name)) continue;
        StrBuf name = {0};
        sb_put_quoted(&name, slice_of(f->d_name), 80);
        st = err_set(e, ERR_IO, "%s: \"%s\" in it is none of the files that would replace it",
                     str__tail(path, SHOWN), sb_str(&name));
        sb_deinit(&name);
    }
    closedir(d);
    return st;
}

/* Remove the writer's files and then the folder, as far as it goes. */
static void clear(const IoStage *s, const char *path, bool with_folder) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (fd >= 0 && !d) close(fd);
    if (!d) return;
    for (struct dirent *f; (f = readdir(d));)
        if (!is_dot(f->d_name) && is_own(s, dirfd(d), f->d_name)) unlinkat(dirfd(d), f->d_name, 0);
    closedir(d);
    if (with_folder) rmdir(path);
}

/* ---- opening ---- */

static Status set_paths(IoStage *s, const char *path, Err *e) {
    size_t n = strlen(path);
    StrBuf tmp = {0};
    while (n > 1 && path[n - 1] == '/') n--;
    sb_put(&tmp, path, n);
    sb_puts(&tmp, ".tmp");
    s->path = mem_dup(path, n);
    s->tmp = sb_take(&tmp);
    if (s->path && s->tmp) return OK;
    return err_set(e, ERR_NOMEM, "%s: out of memory", str__tail(path, SHOWN));
}

static Status check_target(const IoStage *s, bool replace, Err *e) {
    struct stat st;
    if (faulty()) return fail(e, s->path);
    if (lstat(s->path, &st) < 0) return errno == ENOENT ? OK : fail(e, s->path);
    if (!replace) return err_set(e, ERR_IO, "%s: is there already", str__tail(s->path, SHOWN));
    return check_own(s, s->path, e);
}

static Status make_tmp(IoStage *s, Err *e) {
    bool there = false;
    if (faulty() || mkdir(s->tmp, 0777) < 0) {
        if (errno != EEXIST) return fail(e, s->tmp);
        there = true;
    }
    int fd = faulty() ? -1 : open(s->tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        Status st = fail(e, s->tmp);
        if (!there) rmdir(s->tmp);
        return st;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        close(fd);
        return err_set(e, ERR_FULL, "%s: another process is writing it", str__tail(s->path, SHOWN));
    }
    s->fd = fd;
    Status st = there ? check_own(s, s->tmp, e) : OK;
    if (st == OK && there) clear(s, s->tmp, false);
    return st;
}

static void release(IoStage *s) {
    if (s->fd >= 0) close(s->fd);
    mem_free(s->path);
    mem_free(s->tmp);
    *s = (IoStage){0};
}

Status io_stage_open(IoStage *s, const char *path, bool replace, bool (*own)(const char *name),
                     Err *e) {
    *s = (IoStage){.is_own = own, .fd = -1};
    Status st = set_paths(s, path, e);
    if (st == OK) st = check_target(s, replace, e);
    if (st == OK) st = make_tmp(s, e);
    if (st != OK) release(s);
    return st;
}

void io_stage_put(StrBuf *b, const IoStage *s, const char *name) {
    sb_printf(b, "%s/%s", s->tmp, name);
}

void io_stage_abort(IoStage *s) {
    if (!s->path) return;
    clear(s, s->tmp, true);
    release(s);
}

/* ---- putting in place ---- */

/* Both folders change places in one step, so that path is never absent. */
static Status exchange(IoStage *s, Err *e) {
    TRY(check_own(s, s->path, e)); /* again: time has passed */
    if (faulty() || renameat2(AT_FDCWD, s->tmp, AT_FDCWD, s->path, RENAME_EXCHANGE) < 0)
        return fail(e, s->path);
    clear(s, s->tmp, true);
    return OK;
}

static Status sync_parent(const char *path, Err *e) {
    StrBuf dir = {0};
    const char *slash = strrchr(path, '/');
    if (!slash) sb_puts(&dir, ".");
    else sb_put(&dir, path, MAX((size_t)(slash - path), (size_t)1));
    Status st = sb_check(&dir, e);
    int fd = st != OK || faulty() ? -1 : open(dir.p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (st == OK && (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))) st = fail(e, dir.p);
    if (fd >= 0) close(fd);
    sb_deinit(&dir);
    return st;
}

Status io_stage_commit(IoStage *s, Err *e) {
    struct stat st;
    Status status = OK;
    if (faulty() || (fsync(s->fd) < 0 && errno != EINVAL)) status = fail(e, s->tmp);
    else if (lstat(s->path, &st) == 0) status = exchange(s, e);
    else if (faulty() || renameat2(AT_FDCWD, s->tmp, AT_FDCWD, s->path, RENAME_NOREPLACE) < 0)
        status = fail(e, s->path);
    if (status != OK) {
        io_stage_abort(s);
        return status;
    }
    status = sync_parent(s->path, e);
    release(s);
    return status;
}
