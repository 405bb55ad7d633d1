/* SPDX-License-Identifier: Apache-2.0
 * One file being made. Its bytes are in PATH.part, in any order; PATH.part.json says which of them can be trusted:
 *
 *   {"format":"ingot part 1","size":N,"piece":N,"etag":"...","modified":"...","sha256":"...","done":[[0,N],...]}
 *
 * `done` are byte ranges [from, to). The state is written only after the bytes it speaks of are on the disk, so that
 * neither a kill nor a power cut leaves a state that promises too much. A state that cannot be read, or that the
 * .part does not bear out, counts as none. The lock lies on the .part itself and goes with the process. */
#include "hub/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "text/json.h"

#define PART_FORMAT "ingot part 1"
enum { PART_MAX_STATE = 32 << 20, PART_MAX_PIECES = 1 << 20 };

static bool faulty(void) {
    if (!fault_hit(FAULT_IO)) return false;
    errno = EIO;
    return true;
}

static Status fail(const HubPart *p, Err *e) {
    int cause = errno;
    return err_set(e, cause == ENOSPC || cause == EFBIG || cause == EDQUOT ? ERR_FULL : ERR_IO,
                   "%.150s: %s", p->part, strerror(cause));
}

/* ---- open ---- */

static char *join(const char *path, const char *tail) {
    StrBuf b = {0};
    sb_printf(&b, "%s%s", path, tail);
    return sb_take(&b);
}

/* Whether the locked file is still the one of that name: another process may have finished it meanwhile. */
static bool is_current(const HubPart *p) {
    struct stat a, b;
    return fstat(p->fd, &a) == 0 && stat(p->part, &b) == 0 && a.st_ino == b.st_ino &&
           a.st_dev == b.st_dev;
}

static Status open_locked(HubPart *p, Err *e) {
    for (int i = 0; i < 16; i++) {
        p->fd = faulty() ? -1 : open(p->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (p->fd < 0) return fail(p, e);
        if (faulty() || flock(p->fd, LOCK_EX | LOCK_NB) < 0) {
            if (errno != EWOULDBLOCK) return fail(p, e);
            return err_set(e, ERR_FULL, "%.150s: another process is at work here", p->part);
        }
        if (is_current(p)) return OK;
        close(p->fd);
        p->fd = -1;
    }
    return err_set(e, ERR_IO, "%.150s: changes all the time", p->part);
}

static bool get_int(uint64_t *out, const Json *j, uint64_t max) {
    int64_t v = json_kind(j) == JSON_KIND_INT ? json_int(j) : -1;
    *out = (uint64_t)v;
    return v >= 0 && (uint64_t)v <= max;
}

static bool get_text(char *out, size_t cap, const Json *obj, const char *key) {
    Slice s = json_str(json_get(obj, key));
    if (s.n >= cap || memchr(s.p ? s.p : "", 0, s.n)) return false;
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20) return false;
    if (s.n > 0) memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return true;
}

static bool set_sizes(HubPart *p, uint64_t size, uint64_t piece) {
    if (piece == 0 || size > HUB_MAX_SIZE || size / piece >= PART_MAX_PIECES) return false;
    size_t n = (size_t)((size + piece - 1) / piece);
    uint64_t *done = mem_new_n(uint64_t, n);
    if (!done) return false;
    mem_free(p->done);
    p->done = done;
    p->n_pieces = n;
    p->size = size;
    p->piece = piece;
    p->n_done = 0;
    return true;
}

/* The part of a range that fills pieces from their start. */
static void mark(HubPart *p, uint64_t from, uint64_t to) {
    for (uint64_t i = from / p->piece; i < p->n_pieces && i * p->piece < to; i++) {
        uint64_t begin = i * p->piece, end = begin + hub__part_piece_len(p, (size_t)i);
        uint64_t upto = MIN(to, end);
        if (begin + p->done[i] < from || begin + p->done[i] >= upto) continue;
        p->n_done += upto - begin - p->done[i];
        p->done[i] = upto - begin;
    }
}

static bool take_ranges(HubPart *p, const Json *done, uint64_t on_disk) {
    uint64_t last = 0, from, to;
    if (!json_is_array(done)) return false;
    for (size_t i = 0; i < json_len(done); i++) {
        const Json *r = json_at(done, i);
        if (json_len(r) != 2 || !get_int(&from, json_at(r, 0), p->size) ||
            !get_int(&to, json_at(r, 1), p->size) || from < last || to <= from || to > on_disk)
            return false;
        mark(p, from, to);
        last = to;
    }
    return true;
}

static bool take_state(HubPart *p, const Json *j) {
    uint64_t size, piece;
    struct stat s;
    return slice_eq_str(json_str(json_get(j, "format")), PART_FORMAT) &&
           get_int(&size, json_get(j, "size"), HUB_MAX_SIZE) &&
           get_int(&piece, json_get(j, "piece"), HUB_MAX_SIZE) && set_sizes(p, size, piece) &&
           get_text(p->etag, sizeof p->etag, j, "etag") &&
           get_text(p->modified, sizeof p->modified, j, "modified") &&
           get_text(p->sha256, sizeof p->sha256, j, "sha256") && fstat(p->fd, &s) == 0 &&
           take_ranges(p, json_get(j, "done"), (uint64_t)s.st_size);
}

static void forget(HubPart *p) {
    mem_free(p->done);
    p->done = NULL;
    p->n_pieces = 0;
    p->n_done = 0;
    p->size = HUB_UNKNOWN;
    p->piece = 0;
    p->etag[0] = p->modified[0] = p->sha256[0] = '\0';
    p->dirty = false;
}

static bool load_state(HubPart *p) {
    StrBuf b = {0};
    Json *j = NULL;
    Err e = {0};
    bool ok = io_read_file(&b, p->state, PART_MAX_STATE, &e) == OK &&
              json_parse(&j, (Slice){b.p, b.n}, &e) == OK && take_state(p, j);
    json_free(j);
    sb_deinit(&b);
    return ok;
}

Status hub__part_open(HubPart *p, const char *path, Err *e) {
    *p = (HubPart){.fd = -1, .size = HUB_UNKNOWN};
    p->path = mem_dup(path, strlen(path));
    p->part = join(path, ".part");
    p->state = join(path, ".part.json");
    Status st = p->path && p->part && p->state ? open_locked(p, e)
                                               : err_set(e, ERR_NOMEM, "out of memory for a file");
    if (st == OK && !load_state(p)) st = hub__part_reset(p, e);
    if (st != OK) hub__part_close(p);
    return st;
}

Status hub__part_reset(HubPart *p, Err *e) {
    forget(p);
    if (unlink(p->state) < 0 && errno != ENOENT) return fail(p, e);
    return faulty() || ftruncate(p->fd, 0) < 0 ? fail(p, e) : OK;
}

Status hub__part_layout(HubPart *p, uint64_t size, uint64_t piece, Err *e) {
    if (!set_sizes(p, size, piece))
        return err_set(e, ERR_NOMEM, "%.120s: no room for the pieces of %llu bytes", p->part,
                       (unsigned long long)size);
    if (size == 0) return OK;
    int rc = faulty() ? -1 : fallocate(p->fd, 0, 0, (off_t)size);
    if (rc < 0 && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) return fail(p, e);
    return OK;
}

/* ---- bytes ---- */

Status hub__part_write(HubPart *p, uint64_t at, const void *b, size_t n, Err *e) {
    uint64_t from = at;
    const char *s = b;
    for (size_t left = n; left > 0;) {
        ssize_t put = faulty() ? -1 : pwrite(p->fd, s, left, (off_t)at);
        if (put < 0 && errno == EINTR) continue;
        if (put == 0) errno = ENOSPC;
        if (put <= 0) return fail(p, e);
        s += put;
        at += (uint64_t)put;
        left -= (size_t)put;
    }
    if (p->done) mark(p, from, at);
    p->dirty = true;
    return OK;
}

Status hub__part_read(const HubPart *p, uint64_t at, void *b, size_t n, Err *e) {
    char *s = b;
    while (n > 0) {
        ssize_t got = faulty() ? -1 : pread(p->fd, s, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) return err_set(e, ERR_IO, "%.150s: cut by somebody else", p->part);
        if (got < 0) return fail(p, e);
        s += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return OK;
}

uint64_t hub__part_piece_len(const HubPart *p, size_t i) {
    return MIN(p->piece, p->size - (uint64_t)i * p->piece);
}

uint64_t hub__part_prefix(const HubPart *p) {
    uint64_t n = 0;
    for (size_t i = 0; i < p->n_pieces; i++) {
        n += p->done[i];
        if (p->done[i] < hub__part_piece_len(p, i)) break;
    }
    return n;
}

/* ---- state ---- */

/* Ranges that touch are one. */
static void put_ranges(JsonW *w, const HubPart *p) {
    uint64_t from = 0, to = 0;
    jw_arr(w, "done");
    for (size_t i = 0; i <= p->n_pieces; i++) {
        uint64_t begin = (uint64_t)i * p->piece;
        uint64_t n = i < p->n_pieces ? p->done[i] : 0;
        if (to > from && (begin != to || n == 0)) {
            jw_arr(w, NULL);
            jw_int(w, NULL, (int64_t)from);
            jw_int(w, NULL, (int64_t)to);
            jw_end_arr(w);
            from = to = 0;
        }
        if (n == 0) continue;
        if (to == from) from = begin;
        to = begin + n;
    }
    jw_end_arr(w);
}

static void put_state(StrBuf *b, const HubPart *p) {
    JsonW w;
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "format", PART_FORMAT);
    jw_int(&w, "size", (int64_t)p->size);
    jw_int(&w, "piece", (int64_t)p->piece);
    jw_cstr(&w, "etag", p->etag);
    jw_cstr(&w, "modified", p->modified);
    jw_cstr(&w, "sha256", p->sha256);
    put_ranges(&w, p);
    jw_end_obj(&w);
}

static Status write_state(const HubPart *p, Err *e) {
    StrBuf b = {0};
    IoWriter w = {0};
    put_state(&b, p);
    Status st = sb_check(&b, e);
    if (st == OK) st = io_writer_open(&w, p->state, true, e);
    if (st == OK) st = io_write(&w, b.p, b.n, e);
    if (st == OK) st = io_writer_close(&w, e);
    io_writer_abort(&w);
    sb_deinit(&b);
    return st;
}

Status hub__part_save(HubPart *p, Err *e) {
    if (!p->dirty || !p->done) return OK;
    if (faulty() || fdatasync(p->fd) < 0) return fail(p, e);
    TRY(write_state(p, e));
    p->dirty = false;
    return OK;
}

/* ---- end ---- */

static void release(HubPart *p) {
    if (p->fd >= 0) close(p->fd);
    p->fd = -1;
    forget(p);
    mem_free(p->path);
    mem_free(p->part);
    mem_free(p->state);
    p->path = p->part = p->state = NULL;
}

Status hub__part_finish(HubPart *p, uint64_t n, int64_t modified, Err *e) {
    struct timespec when[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = (time_t)modified}};
    if (faulty() || ftruncate(p->fd, (off_t)n) < 0) return fail(p, e);
    if (modified > 0 && futimens(p->fd, when) < 0) return fail(p, e);
    if (faulty() || fsync(p->fd) < 0) return fail(p, e);
    TRY(io_replace(p->part, p->path, e));
    unlink(p->state); /* without its .part it says nothing */
    release(p);
    return OK;
}

void hub__part_close(HubPart *p) {
    if (p->part) release(p);
}

void hub__part_discard(HubPart *p) {
    if (!p->part) return;
    unlink(p->part);
    unlink(p->state);
    release(p);
}
