/* SPDX-License-Identifier: Apache-2.0
 * Files. Every call that can fail asks the fault point first (most in a sys_* wrapper), and
 * every message is "path: cause". Calls that clean up after a failure (unlink of the temporary
 * file, close of a file that was only read) have no fault point: nothing could be done about them.
 * A file that somebody cuts while it is mapped kills the process with SIGBUS; files in use are
 * replaced, not rewritten. Any thread, one per object. */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/internal.h"

#define IO_BUF ((size_t)1 << 20)
#define IO_READ ((size_t)64 << 10)
#define IO_PAGE ((uintptr_t)64 << 10) /* the largest page of the machines in question */
#define IO_SHOWN 160                  /* bytes of a path in a message */

static bool faulty(void) {
    if (!fault_hit(FAULT_IO)) return false;
    errno = EIO;
    return true;
}

/* A path as it stands in a message. */
static const char *shown(const char *path) { return str__tail(path, IO_SHOWN); }

static Status io_fail(Err *e, const char *path) {
    int cause = errno;
    Status st = cause == ENOENT || cause == ENOTDIR ? ERR_NOT_FOUND
                : cause == ENOMEM                   ? ERR_NOMEM
                                                    : ERR_IO;
    return err_set(e, st, "%s: %s", shown(path), strerror(cause));
}

static int sys_open(const char *path, int flags) {
    int fd;
    if (faulty()) return -1;
    do fd = open(path, flags | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static int sys_fstat(int fd, struct stat *s) { return faulty() ? -1 : fstat(fd, s); }
static int sys_stat(const char *path, struct stat *s) { return faulty() ? -1 : stat(path, s); }

static ssize_t sys_read(int fd, void *p, size_t n) {
    ssize_t got;
    if (faulty()) return -1;
    do got = read(fd, p, n);
    while (got < 0 && errno == EINTR);
    return got;
}

/* All n bytes or -1. A write of nothing would loop for ever, so it counts as a full disk. */
static int sys_write_all(int fd, const uint8_t *p, size_t n) {
    if (faulty()) return -1;
    while (n > 0) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR) continue;
        if (put == 0) errno = ENOSPC;
        if (put <= 0) return -1;
        p += put;
        n -= (size_t)put;
    }
    return 0;
}

/* Pipes and some devices cannot be synced and say EINVAL: their bytes are where they can be. */
static int sys_fsync(int fd) {
    int rc;
    if (faulty()) return -1;
    do rc = fsync(fd);
    while (rc < 0 && errno == EINTR);
    return rc < 0 && errno == EINVAL ? 0 : rc;
}

/* The descriptor is gone even when close fails; some file systems report a full disk only here. */
static int sys_close(int fd) {
    bool fail = faulty();
    int rc = close(fd);
    if (fail) errno = EIO;
    return fail ? -1 : rc;
}

/* The folder part of path into dir, "." if there is none. */
static bool put_parent(StrBuf *dir, const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) sb_puts(dir, ".");
    else if (slash == path) sb_puts(dir, "/");
    else sb_put(dir, path, (size_t)(slash - path));
    return !dir->failed;
}

/* ---- reading ---- */

static Status check_regular(const struct stat *s, const char *path, Err *e) {
    if (S_ISREG(s->st_mode)) return OK;
    const char *what = S_ISDIR(s->st_mode) ? "is a folder, not a file" : "is not a regular file";
    return err_set(e, ERR_IO, "%s: %s", shown(path), what);
}

/* At `at`, over what is reserved there, or anywhere where at is NULL. */
static Status map_fd(IoMap *out, int fd, uint8_t *at, const char *path, Err *e) {
    struct stat s;
    if (sys_fstat(fd, &s) < 0) return io_fail(e, path);
    TRY(check_regular(&s, path, e));
    IoMap m = {NULL, (size_t)s.st_size};
    if (at && m.n != out->n)
        return err_set(e, ERR_IO, "%s: has %zu bytes, had %zu a moment ago", shown(path), m.n,
                       out->n);
    if (m.n > 0) {
        int flags = MAP_SHARED | (at ? MAP_FIXED : 0);
        void *p = faulty() ? MAP_FAILED : mmap(at, m.n, PROT_READ, flags, fd, 0);
        if (p == MAP_FAILED) return io_fail(e, path);
        m.p = p;
    }
    *out = m;
    return OK;
}

static Status map_path(IoMap *out, uint8_t *at, const char *path, Err *e) {
    int fd = sys_open(path, O_RDONLY | O_NONBLOCK); /* a named pipe must not block the check */
    if (fd < 0) return io_fail(e, path);
    Status st = map_fd(out, fd, at, path, e);
    close(fd);
    return st;
}

Status io_map(IoMap *out, const char *path, Err *e) { return map_path(out, NULL, path, e); }

/* Address space for all of them is taken first; then each file is mapped over its part of it. */
Status io_map_all(IoMap *whole, IoMap *part, const char *const *paths, size_t n, Err *e) {
    uint64_t total = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        TRY(io_file_size(&size, paths[i], e));
        part[i] = (IoMap){NULL, (size_t)size};
        total += ROUND_UP(size, IO_PAGE);
        if (total > SIZE_MAX / 4) return err_set(e, ERR_IO, "%s: too large", shown(paths[i]));
    }
    if (total == 0) return err_set(e, ERR_IO, "%s: empty", shown(paths[0]));
    void *room = faulty() ? MAP_FAILED
                          : mmap(NULL, (size_t)total, PROT_NONE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) return io_fail(e, paths[0]);
    IoMap m = {room, (size_t)total};
    uint8_t *at = room;
    for (size_t i = 0; i < n; i++) {
        size_t step = ROUND_UP(part[i].n, (size_t)IO_PAGE);
        Status st = map_path(&part[i], at, paths[i], e);
        if (st != OK) {
            io_unmap(&m);
            return st;
        }
        at += step;
    }
    *whole = m;
    return OK;
}

void io_unmap(IoMap *m) {
    if (m->p) munmap((void *)(uintptr_t)m->p, m->n);
    *m = (IoMap){0};
}

void io_map_prefetch(const void *p, size_t n) {
    uintptr_t from = (uintptr_t)p / IO_PAGE * IO_PAGE;
    madvise((void *)from, (uintptr_t)p + n - from, MADV_WILLNEED);
}

/* Whole pages inside the range only: its first and last bytes may share a page with a neighbour. */
void io_map_release(const void *p, size_t n) {
    uintptr_t from = ROUND_UP((uintptr_t)p, IO_PAGE), to = ((uintptr_t)p + n) / IO_PAGE * IO_PAGE;
    if (from < to) madvise((void *)from, to - from, MADV_DONTNEED);
}

static Status fail_too_large(const char *path, size_t max, Err *e) {
    return err_set(e, ERR_FULL, "%s: larger than the limit of %zu bytes", shown(path), max);
}

/* Pipes have no size, so the limit is also checked while reading. */
static Status read_fd(StrBuf *b, int fd, const char *path, size_t max, Err *e) {
    struct stat s;
    size_t total = 0;
    if (sys_fstat(fd, &s) < 0) return io_fail(e, path);
    if (S_ISDIR(s.st_mode)) return check_regular(&s, path, e);
    if (S_ISREG(s.st_mode) && (uint64_t)s.st_size > max) return fail_too_large(path, max, e);
    for (;;) {
        if (!sb__reserve(b, IO_READ))
            return err_set(e, ERR_NOMEM, "%s: out of memory", shown(path));
        ssize_t got = sys_read(fd, b->p + b->n, IO_READ);
        if (got < 0) return io_fail(e, path);
        b->n += (size_t)got;
        b->p[b->n] = '\0';
        if (got == 0) return OK;
        total += (size_t)got;
        if (total > max) return fail_too_large(path, max, e);
    }
}

Status io_read_file(StrBuf *b, const char *path, size_t max, Err *e) {
    if (b->failed) return sb_check(b, e);
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : sys_open(path, O_RDONLY);
    if (fd < 0) return io_fail(e, path);
    size_t n_before = b->n;
    Status st = read_fd(b, fd, is_stdin ? "standard input" : path, max, e);
    if (st != OK) {
        b->failed = false; /* reported here; the bytes before stay valid */
        b->n = n_before;
        if (b->p) b->p[b->n] = '\0';
    }
    if (!is_stdin) close(fd);
    return st;
}

/* ---- writing ---- */

/* A replaced file keeps its mode. Only a regular file may be replaced: rename would put a plain
 * file in the place of /dev/null. */
static Status check_target(mode_t *mode, const char *path, Err *e) {
    struct stat s;
    *mode = 0;
    if (sys_stat(path, &s) < 0) return errno == ENOENT ? OK : io_fail(e, path);
    *mode = s.st_mode & 07777;
    return check_regular(&s, path, e);
}

static Status writer_alloc(IoWriter *w, const char *path, bool atomic, Err *e) {
    StrBuf tmp = {0};
    *w = (IoWriter){.fd = -1, .atomic = atomic};
    w->buf = mem_new_n(uint8_t, IO_BUF);
    w->path = mem_dup(path, strlen(path));
    if (atomic) {
        sb_printf(&tmp, "%s.tmp", path);
        w->tmp_path = sb_take(&tmp);
    }
    if (w->buf && w->path && (!atomic || w->tmp_path)) return OK;
    return err_set(e, ERR_NOMEM, "%s: out of memory for a writer of %zu bytes", shown(path),
                   IO_BUF);
}

/* Free everything and leave a zeroed writer; unlinks the temporary file if it was created. */
static void writer_release(IoWriter *w) {
    if (w->fd >= 0) {
        close(w->fd);
        if (w->atomic) unlink(w->tmp_path);
    }
    mem_free(w->buf);
    mem_free(w->path);
    mem_free(w->tmp_path);
    *w = (IoWriter){0};
}

/* What a symbolic link leads to, in `real`, so that the file behind it is replaced and not the link; any
 * other path as it is. */
static const char *behind_link(const char *path, char *real) {
    struct stat s;
    if (lstat(path, &s) < 0 || !S_ISLNK(s.st_mode) || !realpath(path, real)) return path;
    return real;
}

Status io_writer_open(IoWriter *w, const char *path, bool atomic, Err *e) {
    mode_t mode = 0;
    char *real = mem_new_n(char, PATH_MAX);
    if (!real) return err_set(e, ERR_NOMEM, "%s: out of memory", shown(path));
    if (atomic) path = behind_link(path, real);
    Status st = writer_alloc(w, path, atomic, e);
    if (st == OK && atomic) st = check_target(&mode, path, e);
    if (st != OK) goto done;
    w->fd = sys_open(atomic ? w->tmp_path : w->path, O_WRONLY | O_CREAT | O_TRUNC);
    if (w->fd < 0) st = io_fail(e, atomic ? w->tmp_path : path);
    else if (mode != 0 && (faulty() || fchmod(w->fd, mode) < 0)) st = io_fail(e, w->tmp_path);
done:
    if (st != OK) writer_release(w);
    mem_free(real);
    return st;
}

static Status cut_at(IoWriter *w, uint64_t keep, Err *e) {
    struct stat s;
    if (sys_fstat(w->fd, &s) < 0) return io_fail(e, w->path);
    TRY(check_regular(&s, w->path, e));
    if ((uint64_t)s.st_size < keep)
        return err_set(e, ERR_FORMAT, "%s: has %llu bytes, fewer than the %llu to keep",
                       shown(w->path), (unsigned long long)s.st_size, (unsigned long long)keep);
    if (faulty() || ftruncate(w->fd, (off_t)keep) < 0) return io_fail(e, w->path);
    if (faulty() || lseek(w->fd, (off_t)keep, SEEK_SET) < 0) return io_fail(e, w->path);
    w->offset = keep;
    return OK;
}

Status io_writer_open_at(IoWriter *w, const char *path, uint64_t keep, Err *e) {
    Status st = writer_alloc(w, path, false, e);
    if (st != OK) goto done;
    w->fd = sys_open(path, O_WRONLY);
    st = w->fd < 0 ? io_fail(e, path) : cut_at(w, keep, e);
done:
    if (st != OK) writer_release(w);
    return st;
}

/* A writer that failed once stays failed: the file would have a hole. */
static Status check_writer(const IoWriter *w, Err *e) {
    if (w->failed == OK) return OK;
    return err_set(e, w->failed, "%s: an earlier write failed", shown(w->path));
}

static Status writer_fail(IoWriter *w, Err *e) {
    w->failed = io_fail(e, w->path);
    return w->failed;
}

static Status put_buffered(IoWriter *w, Err *e) {
    if (w->n_buf > 0 && sys_write_all(w->fd, w->buf, w->n_buf) < 0) return writer_fail(w, e);
    w->n_buf = 0;
    return OK;
}

Status io_write(IoWriter *w, const void *p, size_t n, Err *e) {
    TRY(check_writer(w, e));
    if (n > IO_BUF - w->n_buf) TRY(put_buffered(w, e));
    if (n >= IO_BUF) {
        if (sys_write_all(w->fd, p, n) < 0) return writer_fail(w, e);
        /* the disk begins at once, where the end would wait for all of it */
        if (w->atomic) sync_file_range(w->fd, (off_t)w->offset, (off_t)n, SYNC_FILE_RANGE_WRITE);
    } else if (n > 0) {
        memcpy(w->buf + w->n_buf, p, n);
        w->n_buf += n;
    }
    w->offset += n;
    return OK;
}

Status io_write_zeros(IoWriter *w, size_t n, Err *e) {
    static const uint8_t ZEROS[4096];
    for (size_t part; n > 0; n -= part) {
        part = MIN(n, sizeof ZEROS);
        TRY(io_write(w, ZEROS, part, e));
    }
    return OK;
}

Status io_writer_flush(IoWriter *w, bool sync, Err *e) {
    TRY(check_writer(w, e));
    TRY(put_buffered(w, e));
    if (sync && sys_fsync(w->fd) < 0) return writer_fail(w, e);
    return OK;
}

/* A rename is on the disk only when the folder is. */
static Status sync_parent(const char *path, Err *e) {
    StrBuf dir = {0};
    Status st = OK;
    if (!put_parent(&dir, path)) {
        st = sb_check(&dir, e);
        goto done;
    }
    int fd = sys_open(dir.p, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        st = io_fail(e, dir.p);
        goto done;
    }
    if (sys_fsync(fd) < 0) st = io_fail(e, dir.p);
    close(fd);
done:
    sb_deinit(&dir);
    return st;
}

static Status put_in_place(IoWriter *w, Err *e) {
    if (faulty() || rename(w->tmp_path, w->path) < 0) {
        Status st = io_fail(e, w->path);
        unlink(w->tmp_path);
        return st;
    }
    return sync_parent(w->path, e);
}

Status io_writer_close(IoWriter *w, Err *e) {
    Status st = io_writer_flush(w, w->atomic, e);
    if (st != OK) goto done;
    int fd = w->fd;
    w->fd = -1;
    if (sys_close(fd) < 0) {
        st = io_fail(e, w->path);
        if (w->atomic) unlink(w->tmp_path);
    } else if (w->atomic) st = put_in_place(w, e);
done:
    writer_release(w);
    return st;
}

void io_writer_abort(IoWriter *w) {
    if (w->buf) writer_release(w); /* a zeroed writer has fd 0 and no buffer */
}

/* ---- names and space ---- */

static Status make_dir(const char *path, Err *e) {
    struct stat s;
    if (!faulty() && mkdir(path, 0777) == 0) return OK;
    if (errno != EEXIST) return io_fail(e, path);
    if (sys_stat(path, &s) < 0) return io_fail(e, path);
    if (!S_ISDIR(s.st_mode))
        return err_set(e, ERR_IO, "%s: exists and is not a folder", shown(path));
    return OK;
}

Status io_mkdirs(const char *path, Err *e) {
    char *part = mem_dup(path, strlen(path));
    if (!part) return err_set(e, ERR_NOMEM, "%s: out of memory", shown(path));
    Status st = OK;
    for (char *p = part + 1; st == OK && part[0] && *p; p++) {
        if (*p != '/' || p[-1] == '/') continue;
        *p = '\0';
        st = make_dir(part, e);
        *p = '/';
    }
    if (st == OK) st = make_dir(part, e);
    mem_free(part);
    return st;
}

Status io_replace(const char *from, const char *to, Err *e) {
    if (faulty() || rename(from, to) < 0) return io_fail(e, to);
    return sync_parent(to, e);
}

Status io_remove(const char *path, Err *e) {
    return faulty() || remove(path) < 0 ? io_fail(e, path) : OK;
}

bool io_exists(const char *path) {
    struct stat s;
    return stat(path, &s) == 0;
}

bool io_same_file(const char *a, const char *b) {
    struct stat sa, sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

Status io_file_size(uint64_t *out, const char *path, Err *e) {
    struct stat s;
    if (sys_stat(path, &s) < 0) return io_fail(e, path);
    TRY(check_regular(&s, path, e));
    *out = (uint64_t)s.st_size;
    return OK;
}

static Status disk_free_at(uint64_t *out, const char *path, Err *e) {
    struct statvfs v;
    if (faulty() || statvfs(path, &v) < 0) return io_fail(e, path);
    *out = (uint64_t)v.f_bavail * v.f_frsize;
    return OK;
}

Status io_disk_free(uint64_t *out, const char *path, Err *e) {
    if (io_exists(path)) return disk_free_at(out, path, e);
    StrBuf dir = {0};
    Status st = put_parent(&dir, path) ? disk_free_at(out, dir.p, e) : sb_check(&dir, e);
    sb_deinit(&dir);
    return st;
}

Status io_lock(int *out, const char *path, Err *e) {
    int fd = sys_open(path, O_RDWR | O_CREAT);
    if (fd < 0) return io_fail(e, path);
    if (faulty() || flock(fd, LOCK_EX | LOCK_NB) < 0) {
        bool taken = errno == EWOULDBLOCK;
        Status st = taken ? err_set(e, ERR_FULL, "%s: another process is at work here", shown(path))
                          : io_fail(e, path);
        close(fd);
        return st;
    }
    *out = fd;
    return OK;
}

void io_unlock(int fd) {
    if (fd >= 0) close(fd);
}
