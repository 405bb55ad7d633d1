/* SPDX-License-Identifier: Apache-2.0
 * SQLite's system calls pass our fault points (base/fault.h), so that sweeps can fail each of them or kill the process
 * there. SQLite lets any of its calls be replaced by name for just that. */
#include <errno.h>
#include <pthread.h>
#include <sys/types.h>

#include "base/fault.h"
#include "store/internal.h"

typedef int (*OpenFn)(const char *, int, int);
typedef ssize_t (*ReadFn)(int, void *, size_t);
typedef ssize_t (*PreadFn)(int, void *, size_t, off_t);
typedef ssize_t (*WriteFn)(int, const void *, size_t);
typedef ssize_t (*PwriteFn)(int, const void *, size_t, off_t);
typedef int (*TruncateFn)(int, off_t);
typedef int (*UnlinkFn)(const char *);

/* Which of the reading and writing calls SQLite uses is a matter of how it was built. */
enum {
    C_OPEN,
    C_READ,
    C_PREAD,
    C_PREAD64,
    C_WRITE,
    C_PWRITE,
    C_PWRITE64,
    C_TRUNCATE,
    C_UNLINK,
    N_CALLS
};

static sqlite3_syscall_ptr real[N_CALLS]; /* [const] after init: SQLite's own */

static bool fails(void) {
    if (!fault_hit(FAULT_IO)) return false;
    errno = EIO;
    return true;
}

static int our_open(const char *path, int flags, int mode) {
    return fails() ? -1 : ((OpenFn)real[C_OPEN])(path, flags, mode);
}

static ssize_t our_read(int fd, void *p, size_t n) {
    return fails() ? -1 : ((ReadFn)real[C_READ])(fd, p, n);
}

static ssize_t our_pread(int fd, void *p, size_t n, off_t at) {
    return fails() ? -1 : ((PreadFn)real[C_PREAD])(fd, p, n, at);
}

static ssize_t our_pread64(int fd, void *p, size_t n, off_t at) {
    return fails() ? -1 : ((PreadFn)real[C_PREAD64])(fd, p, n, at);
}

static ssize_t our_write(int fd, const void *p, size_t n) {
    return fails() ? -1 : ((WriteFn)real[C_WRITE])(fd, p, n);
}

static ssize_t our_pwrite(int fd, const void *p, size_t n, off_t at) {
    return fails() ? -1 : ((PwriteFn)real[C_PWRITE])(fd, p, n, at);
}

static ssize_t our_pwrite64(int fd, const void *p, size_t n, off_t at) {
    return fails() ? -1 : ((PwriteFn)real[C_PWRITE64])(fd, p, n, at);
}

static int our_truncate(int fd, off_t n) {
    return fails() ? -1 : ((TruncateFn)real[C_TRUNCATE])(fd, n);
}

static int our_unlink(const char *path) { return fails() ? -1 : ((UnlinkFn)real[C_UNLINK])(path); }

static const struct {
    const char *name;
    sqlite3_syscall_ptr ours;
} calls[N_CALLS] = {
    [C_OPEN] = {"open", (sqlite3_syscall_ptr)our_open},
    [C_READ] = {"read", (sqlite3_syscall_ptr)our_read},
    [C_PREAD] = {"pread", (sqlite3_syscall_ptr)our_pread},
    [C_PREAD64] = {"pread64", (sqlite3_syscall_ptr)our_pread64},
    [C_WRITE] = {"write", (sqlite3_syscall_ptr)our_write},
    [C_PWRITE] = {"pwrite", (sqlite3_syscall_ptr)our_pwrite},
    [C_PWRITE64] = {"pwrite64", (sqlite3_syscall_ptr)our_pwrite64},
    [C_TRUNCATE] = {"ftruncate", (sqlite3_syscall_ptr)our_truncate},
    [C_UNLINK] = {"unlink", (sqlite3_syscall_ptr)our_unlink},
};

static int init_rc; /* of init_once */

static void init_once(void) {
    init_rc = sqlite3_initialize();
    sqlite3_vfs *v = init_rc == SQLITE_OK ? sqlite3_vfs_find(NULL) : NULL;
    if (!v || v->iVersion < 3 || !v->xSetSystemCall) return;
    for (int i = 0; i < N_CALLS; i++) {
        real[i] = v->xGetSystemCall(v, calls[i].name);
        if (real[i]) v->xSetSystemCall(v, calls[i].name, calls[i].ours);
    }
}

Status store__init(Err *e) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
    if (init_rc == SQLITE_OK) return OK;
    return err_set(e, ERR_NOMEM, "sqlite: %s", sqlite3_errstr(init_rc));
}
