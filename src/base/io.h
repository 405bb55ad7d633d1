/* SPDX-License-Identifier: Apache-2.0
 * Files: read-only maps, whole-file reads, buffered writers and atomic replacement. Every operating
 * system call passes a fault point (FAULT_IO). Messages name the path and the cause. */
#ifndef INGOT_BASE_IO_H
#define INGOT_BASE_IO_H

#include "base/str.h"

/* A read-only memory-mapped file. */
typedef struct IoMap {
    const uint8_t *p; /* borrowed from the kernel until io_unmap; NULL for an empty file */
    size_t n;
} IoMap;

/* Map a regular file. ERR_NOT_FOUND, ERR_IO. */
MUST_CHECK Status io_map(IoMap *out, const char *path, Err *e);
/* Map n regular files behind one another, so that all lie within *whole: part[i] is file i, each begins at a
 * page. One io_unmap of *whole ends them all. A file that changes its size meanwhile is ERR_IO. */
MUST_CHECK Status io_map_all(IoMap *whole, IoMap *part, const char *const *paths, size_t n, Err *e);
void io_unmap(IoMap *m);
/* Have the kernel begin to read these mapped pages. */
void io_map_prefetch(const void *p, size_t n);
/* Tell the kernel that these mapped pages are not needed any more. */
void io_map_release(const void *p, size_t n);

/* Whole file into b (appended). ERR_FULL if larger than max bytes. "-" reads standard input. On failure
 * b holds what it held before. */
MUST_CHECK Status io_read_file(StrBuf *b, const char *path, size_t max, Err *e);

/* Buffered writer. With `atomic` the bytes go to "path.tmp" and io_writer_close puts them in place by
 * write, fsync, rename, fsync of the folder: a reader sees the old file or the new one, never a part. */
typedef struct IoWriter {
    int fd;
    bool atomic;
    char *path, *tmp_path; /* owned */
    uint8_t *buf;          /* owned */
    size_t n_buf;
    uint64_t offset; /* bytes written so far, buffered ones included */
    Status failed;   /* sticky */
} IoWriter;

/* Create or replace path. An atomic writer takes over the mode of a file it replaces and refuses a
 * target that is not a regular file. On failure *w is zeroed. */
MUST_CHECK Status io_writer_open(IoWriter *w, const char *path, bool atomic, Err *e);
/* Append to an existing file after cutting it to `keep` bytes (a resumed log). ERR_FORMAT if it is
 * shorter. On failure *w is zeroed. */
MUST_CHECK Status io_writer_open_at(IoWriter *w, const char *path, uint64_t keep, Err *e);
MUST_CHECK Status io_write(IoWriter *w, const void *p, size_t n, Err *e);
MUST_CHECK Status io_write_zeros(IoWriter *w, size_t n, Err *e);
/* Hand buffered bytes to the kernel; with sync also to the disk. */
MUST_CHECK Status io_writer_flush(IoWriter *w, bool sync, Err *e);
/* Flush, put in place, release. After any failure the temporary file is gone and an atomic target
 * untouched (a failed fsync of the folder alone comes after the rename: the new file is there). */
MUST_CHECK Status io_writer_close(IoWriter *w, Err *e);
/* Release without putting anything in place. Legal on a zeroed or closed writer. */
void io_writer_abort(IoWriter *w);

/* Take the lock of a file (made if absent) without waiting: ERR_FULL while another process has it. The lock goes
 * with io_unlock or with the process, however it ends. */
MUST_CHECK Status io_lock(int *fd, const char *path, Err *e);
void io_unlock(int fd); /* < 0 is fine */

/* Rename a file over another one and fsync their folder: at any moment `to` is the old file or the new one. */
MUST_CHECK Status io_replace(const char *from, const char *to, Err *e);
/* Make a folder and the ones above it; one that exists is fine. */
MUST_CHECK Status io_mkdirs(const char *path, Err *e);
/* Remove a file or an empty folder. ERR_NOT_FOUND is a failure too. */
MUST_CHECK Status io_remove(const char *path, Err *e);
/* Whether anything is there; passes no fault point. */
bool io_exists(const char *path);
/* Whether both are there and are one file, by whatever names; passes no fault point. */
bool io_same_file(const char *a, const char *b);
/* Bytes of a regular file; ERR_NOT_FOUND, ERR_IO. */
MUST_CHECK Status io_file_size(uint64_t *out, const char *path, Err *e);
/* Bytes free for this user on the file system that holds path (or its folder, if there is no path). */
MUST_CHECK Status io_disk_free(uint64_t *out, const char *path, Err *e);

#endif
