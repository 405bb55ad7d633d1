/* SPDX-License-Identifier: Apache-2.0
 * Tables whose disk or memory fails at each point in turn, or whose process dies there: every failure says why, a
 * transaction is there whole or not at all, and what was said to be committed is there. SQLite's own allocations are swept
 * too, through its allocator. */
#include "store/store.h"

#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "test.h"

static const char *const steps[] = {"CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT NOT NULL)",
                                    "CREATE INDEX by_text ON t (text)"};
static const StoreSchema schema = {"things", 0x54455354, steps, 2};

static char path[256];

static void fresh(int i) { snprintf(path, sizeof path, "%s/s%d.db", test_tmpdir(), i); }

/* ---- SQLite's allocations ---- */

static sqlite3_mem_methods real;
static uint64_t fail_at, n_calls; /* 0: none fails */

static bool must_fail(void) {
    return fail_at != 0 && ++n_calls >= fail_at && n_calls < fail_at + 3;
}

static void *our_malloc(int n) { return must_fail() ? NULL : real.xMalloc(n); }

static void *our_realloc(void *p, int n) { return must_fail() ? NULL : real.xRealloc(p, n); }

static void take_allocator(void) {
    static bool done;
    if (done) return;
    done = true;
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real);
    sqlite3_mem_methods m = real;
    m.xMalloc = our_malloc;
    m.xRealloc = our_realloc;
    EQ(sqlite3_config(SQLITE_CONFIG_MALLOC, &m), SQLITE_OK);
    sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0); /* every allocation passes here */
}

/* ---- the work ---- */

/* Three rows in one transaction. */
static Status add_three(Store *s, int64_t first, Err *e) {
    StoreStmt *q = NULL;
    TRY(store_begin(s, e));
    Status st = store_prepare(&q, s, "INSERT INTO t VALUES (?1, ?2)", e);
    for (int64_t i = 0; st == OK && i < 3; i++) {
        store_bind_int(q, 1, first + i);
        store_bind_text(q, 2, slice_of("some text that is long enough to matter"));
        st = store_run(q, e);
    }
    store_stmt_free(q);
    if (st == OK) return store_commit(s, e);
    store_rollback(s);
    return st;
}

/* Open, add, add, close; *n_done rows were committed. */
static Status work(int64_t *n_done, Err *e) {
    Store *s = NULL;
    *n_done = 0;
    TRY(store_open(&s, path, &schema, e));
    Status st = OK;
    for (int i = 0; i < 2 && st == OK; i++) {
        st = add_three(s, 3 * i, e);
        if (st == OK) *n_done += 3;
    }
    store_close(s);
    return st;
}

/* Without faults: whole, and how many rows. */
static int64_t count_rows(void) {
    Store *s = NULL;
    StoreStmt *q = NULL;
    bool row = false;
    OK_(store_open(&s, path, &schema, TERR));
    OK_(store_prepare(&q, s, "SELECT count(*) FROM t", TERR));
    OK_(store_step(&row, q, TERR));
    int64_t n = store_int(q, 0);
    store_stmt_free(q);
    OK_(store_prepare(&q, s, "PRAGMA integrity_check", TERR));
    OK_(store_step(&row, q, TERR));
    TRUE_(slice_eq_str(store_text(q, 0), "ok"));
    store_stmt_free(q);
    store_close(s);
    return n;
}

static void check_after(Status st, const Err *e, int64_t n_done) {
    if (st != OK) TRUE_(e->msg[0] != 0);
    int64_t n = count_rows();
    /* a transaction whose commit failed may be there, whole: the failure came after the log was written */
    TRUE_(n == n_done || (st != OK && n == n_done + 3));
}

TEST(each_io_call_fails) {
    take_allocator();
    size_t before = mem_live_bytes();
    int n_failed = 0;
    for (uint64_t n = 1;; n++) {
        Err e = {0};
        int64_t n_done;
        fresh((int)n);
        fault_arm(FAULT_IO, n);
        Status st = work(&n_done, &e);
        bool fired = fault_fired(FAULT_IO);
        fault_arm(FAULT_IO, 0);
        check_after(st, &e, n_done);
        EQ(mem_live_bytes(), before);
        n_failed += st != OK;
        if (!fired) {
            OK_(st);
            break;
        }
    }
    TRUE_(n_failed > 10);
}

TEST(each_allocation_of_ours_fails) {
    take_allocator();
    size_t before = mem_live_bytes();
    for (uint64_t n = 1;; n++) {
        Err e = {0};
        int64_t n_done;
        fresh((int)n);
        fault_arm(FAULT_ALLOC, n);
        Status st = work(&n_done, &e);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        if (fired) NE(st, OK);
        check_after(st, &e, n_done);
        EQ(mem_live_bytes(), before);
        if (!fired) break;
    }
}

/* Not every one of them: each is a whole file. */
TEST(allocations_of_sqlite_fail) {
    take_allocator();
    size_t before = mem_live_bytes();
    int n_failed = 0;
    for (uint64_t n = 1;; n += 1 + n / 8) {
        Err e = {0};
        int64_t n_done;
        fresh((int)n);
        n_calls = 0;
        fail_at = n;
        Status st = work(&n_done, &e);
        bool fired = n_calls >= fail_at;
        fail_at = 0;
        n_failed += st != OK;
        check_after(st, &e, n_done);
        EQ(mem_live_bytes(), before);
        if (!fired) break;
    }
    TRUE_(n_failed > 10);
}

/* The child says through a pipe how much was committed, and dies at its n-th I/O call. */
TEST(killed_at_each_io_call) {
    int n_killed = 0;
    for (uint64_t n = 1;; n++) {
        int fd[2], status = 0;
        char done = 0;
        fresh((int)n);
        EQ(pipe(fd), 0);
        pid_t pid = fork();
        TRUE_(pid >= 0);
        if (pid == 0) {
            Store *s = NULL;
            fault_arm(FAULT_KILL, n);
            if (store_open(&s, path, &schema, NULL) != OK) _exit(1);
            for (int i = 0; i < 2; i++) {
                if (add_three(s, 3 * i, NULL) != OK || write(fd[1], "x", 1) != 1) _exit(1);
            }
            store_close(s);
            _exit(0);
        }
        close(fd[1]);
        int64_t n_done = 0;
        while (read(fd[0], &done, 1) == 1) n_done += 3;
        close(fd[0]);
        EQ(waitpid(pid, &status, 0), pid);
        int64_t rows = count_rows();
        TRUE_(rows >= n_done && rows % 3 == 0);
        if (WIFEXITED(status)) {
            EQ(WEXITSTATUS(status), 0);
            break;
        }
        n_killed++;
    }
    TRUE_(n_killed > 20);
}
