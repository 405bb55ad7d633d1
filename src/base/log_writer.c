/* SPDX-License-Identifier: Apache-2.0
 * The log's writer: a ring of bytes that whole lines are put into under a short lock, and a thread that writes what is at
 * its front. Bytes being written stay where they are until they are written, so nothing is copied twice and nothing is
 * held while the system call runs.
 *
 * The thread asks poll() first and writes at most PIPE_BUF bytes at a time, which a pipe or terminal that is ready takes
 * without waiting. One that waits nevertheless (another process filled the pipe in between) is left behind at
 * the end: what it uses is static.
 *
 * Lines are lost, newest first, from the first one that finds no room until half of the ring is free; the line that says
 * how many goes in front of the next one that fits. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/internal.h"

enum { NOTE_BYTES = 160, POLL_MS = 50, LEAVE_MS = 250, LOG_MODE = 0640 };

/* One for the process; a second log_writer_start fails while it runs. */
static struct {
    pthread_mutex_t mu;
    pthread_cond_t changed; /* lines came, all were written, the thread ends */
    char *ring;             /* [mu] owned; what is at the front is the thread's while it writes */
    size_t cap, front, n;   /* [mu] */
    bool losing;            /* [mu] */
    uint64_t n_unsaid;      /* [mu] lines lost and not spoken of */
    bool over, ended;       /* [mu] */
    uint64_t end_ns;        /* [mu] when `over`: give up then */
    _Atomic bool running;   /* [atomic] a hint: looked at again under the lock */
    int fd;                 /* [const] while running; what it stands for changes by dup3 */
    char path[PATH_MAX];    /* [const] while running; "": standard error */
    pthread_t thread;
} w = {.mu = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .fd = -1};

static _Atomic uint64_t n_lost; /* [atomic] relaxed */

uint64_t log_lost(void) { return atomic_load_explicit(&n_lost, memory_order_relaxed); }

static void lose(uint64_t n) { atomic_fetch_add_explicit(&n_lost, n, memory_order_relaxed); }

/* ---- putting lines in, under the lock ---- */

static void put(const char *p, size_t n) {
    size_t at = (w.front + w.n) % w.cap, first = MIN(n, w.cap - at);
    memcpy(w.ring + at, p, first);
    memcpy(w.ring, p + first, n - first);
    w.n += n;
}

static void put_note(void) {
    char line[NOTE_BYTES];
    size_t n = log__put_head(line, sizeof line, LOG_WARN);
    n += (size_t)snprintf(line + n, sizeof line - n,
                          "%llu log lines are missing here: they were not read fast enough\n",
                          (unsigned long long)w.n_unsaid);
    put(line, n);
    w.n_unsaid = 0;
}

static bool has_room(size_t n) {
    size_t room = w.cap - w.n;
    if (w.losing && room < w.cap / 2) return false;
    return n + (w.n_unsaid > 0 ? NOTE_BYTES : 0) <= room;
}

static void put_line(const char *line, size_t n) {
    w.losing = !has_room(n);
    if (w.losing) {
        w.n_unsaid++;
        lose(1);
        return;
    }
    if (w.n_unsaid > 0) put_note();
    put(line, n);
    pthread_cond_broadcast(&w.changed);
}

bool log__queue(const char *line, size_t n) {
    if (!atomic_load(&w.running)) return false;
    pthread_mutex_lock(&w.mu);
    bool taken = w.ring && !w.over;
    if (taken) put_line(line, n);
    pthread_mutex_unlock(&w.mu);
    return taken;
}

/* ---- writing ---- */

static bool is_late(void) {
    pthread_mutex_lock(&w.mu);
    bool late = w.over && clock_now_ns() >= w.end_ns;
    pthread_mutex_unlock(&w.mu);
    return late;
}

/* Bytes written, more than none; 0: it cannot be written, or the end came first. */
static size_t write_some(const char *p, size_t n) {
    for (;;) {
        struct pollfd ready = {.fd = w.fd, .events = POLLOUT};
        int rc = poll(&ready, 1, POLL_MS);
        if (rc > 0) {
            ssize_t k = write(w.fd, p, MIN(n, (size_t)PIPE_BUF));
            if (k > 0) return (size_t)k;
            if (k < 0 && errno != EINTR && errno != EAGAIN) return 0;
        } else if (rc < 0 && errno != EINTR) {
            return 0;
        }
        if (is_late()) return 0;
    }
}

static uint64_t count_lines(const char *p, size_t n) {
    uint64_t lines = 0;
    for (size_t i = 0; i < n; i++) lines += p[i] == '\n';
    return lines;
}

/* The thread: from the lock to the lock. */
static void write_front(void) {
    const char *p = w.ring + w.front;
    size_t n = MIN(w.n, w.cap - w.front);
    pthread_mutex_unlock(&w.mu);
    size_t k = write_some(p, n);
    if (k == 0) lose(count_lines(p, n));
    pthread_mutex_lock(&w.mu);
    if (k == 0) k = n;
    w.front = (w.front + k) % w.cap;
    w.n -= k;
}

static void *write_lines(void *ctx) {
    (void)ctx;
    pthread_mutex_lock(&w.mu);
    for (;;) {
        while (w.n == 0 && !w.over) pthread_cond_wait(&w.changed, &w.mu);
        if (w.n == 0) break;
        write_front();
    }
    w.ended = true;
    pthread_cond_broadcast(&w.changed);
    pthread_mutex_unlock(&w.mu);
    return NULL;
}

/* ---- life ---- */

static Status open_log(int *fd, const char *path, Err *e) {
    errno = EIO;
    if (path[0] == '\0') *fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    else if (!fault_hit(FAULT_IO))
        *fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, LOG_MODE);
    if (*fd >= 0) return OK;
    return err_set(e, ERR_IO, "%s: %s", path[0] ? path : "standard error", strerror(errno));
}

/* No signal is handled on the writer's thread: a handler may log. */
static int start_thread(void) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = pthread_create(&w.thread, NULL, write_lines, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

static void forget(void) {
    mem_free(w.ring);
    w.ring = NULL;
    if (w.fd >= 0) close(w.fd);
    w.fd = -1;
}

Status log_writer_start(const char *path, size_t queue_bytes, Err *e) {
    if (w.ring) return err_set(e, ERR_FULL, "the log has a writer already");
    if (path && strlen(path) >= sizeof w.path)
        return err_set(e, ERR_ARG, "name of a log file: %zu bytes, at most %zu", strlen(path),
                       sizeof w.path - 1);
    snprintf(w.path, sizeof w.path, "%s", path ? path : "");
    w.cap = MAX(queue_bytes, (size_t)NOTE_BYTES * 2);
    TRY(open_log(&w.fd, w.path, e));
    w.ring = mem_new_n(char, w.cap);
    w.front = w.n = 0;
    w.losing = w.over = w.ended = false;
    Status st = w.ring ? OK : err_set(e, ERR_NOMEM, "a queue of %zu bytes for the log", w.cap);
    if (st == OK && start_thread() != 0)
        st = err_set(e, ERR_IO, "the thread that writes the log cannot be started");
    if (st != OK) forget();
    else atomic_store(&w.running, true);
    return st;
}

Status log_writer_reopen(Err *e) {
    int fd = -1;
    if (!atomic_load(&w.running) || w.path[0] == '\0') return OK;
    TRY(open_log(&fd, w.path, e));
    int rc = dup3(fd, w.fd, O_CLOEXEC);
    int why = errno;
    close(fd);
    return rc >= 0 ? OK : err_set(e, ERR_IO, "%s: %s", w.path, strerror(why));
}

/* Under the lock: the thread has ended within this time? */
static bool wait_for_end(uint64_t ns) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    ns += (uint64_t)t.tv_nsec;
    t.tv_sec += (time_t)(ns / 1000000000u);
    t.tv_nsec = (long)(ns % 1000000000u);
    while (!w.ended) {
        if (pthread_cond_timedwait(&w.changed, &w.mu, &t) != 0) break;
    }
    return w.ended;
}

void log_writer_stop(int wait_ms) {
    if (!atomic_exchange(&w.running, false)) return;
    uint64_t wait_ns = (uint64_t)MAX(wait_ms, 0) * 1000000u;
    pthread_mutex_lock(&w.mu);
    if (w.n_unsaid > 0 && w.cap - w.n >= NOTE_BYTES) put_note();
    w.over = true;
    w.end_ns = clock_now_ns() + wait_ns;
    pthread_cond_broadcast(&w.changed);
    bool ended = wait_for_end(wait_ns + (uint64_t)LEAVE_MS * 1000000u);
    pthread_mutex_unlock(&w.mu);
    if (!ended) {
        pthread_detach(w.thread); /* stuck in a write: it and its ring stay as they are */
        return;
    }
    pthread_join(w.thread, NULL);
    forget();
}
