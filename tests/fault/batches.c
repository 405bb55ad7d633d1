/* SPDX-License-Identifier: Apache-2.0
 * Batches whose memory or disk fails at each point in turn, or whose process dies there: a run that goes on afterwards has
 * each line once, files of clients are there whole or not at all, nothing leaks. */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/batches.h"
#include "base/fault.h"
#include "base/log.h"
#include "test.h"

enum { N_LINES = 6 };

static char in[300], out[300], err[300];

static void fresh(int i) {
    IoWriter w;
    snprintf(in, sizeof in, "%s/in%d", test_tmpdir(), i);
    snprintf(out, sizeof out, "%s/out%d", test_tmpdir(), i);
    snprintf(err, sizeof err, "%s/err%d", test_tmpdir(), i);
    OK_(io_writer_open(&w, in, false, TERR));
    for (int k = 0; k < N_LINES; k++) {
        char line[200];
        int n =
            snprintf(line, sizeof line,
                     "{\"custom_id\":\"c%d\",\"method\":\"%s\",\"url\":\"/v1/x\",\"body\":{}}\n", k,
                     k == 2 ? "GET" : "POST");
        OK_(io_write(&w, line, (size_t)n, TERR));
    }
    OK_(io_writer_close(&w, TERR));
}

static void clear(void) {
    unlink(out);
    unlink(err);
    unlink(in);
}

/* Open, answer what is left, synced after each line. */
static Status work(Err *e) {
    BatchRun *r = NULL;
    bool any = true;
    BatchRunConfig c = {.in = in, .out = out, .errors = err, .locked = true};
    TRY(batches_run_open(&r, &c, e));
    Status st = OK;
    for (int i = 0; st == OK && any; i++) {
        BatchTask t = {0};
        st = batches_run_next(&any, &t, r, e);
        BatchAnswer a = {.status = i % 2 ? 400 : 200,
                         .request_id = "r",
                         .body = slice_of("{\"x\":[1,2,3]}")};
        if (st == OK && any) st = batches_run_put(r, &t, &a, e);
        if (st == OK) st = batches_run_sync(r, e);
        batches_task_deinit(&t);
    }
    batches_run_close(r);
    return st;
}

/* Without faults: all lines, each once (a second answer would be refused). */
static void expect_whole(void) {
    BatchRun *r = NULL;
    OK_(work(TERR));
    BatchRunConfig c = {.in = in, .out = out, .errors = err};
    OK_(batches_run_open(&r, &c, TERR));
    BatchCounts n = batches_run_counts(r);
    batches_run_close(r);
    EQ(n.n_lines, N_LINES);
    EQ(n.n_found, N_LINES);
}

static void sweep_run(FaultKind kind) {
    int n_failed = 0;
    bool fired = true;
    for (uint64_t n = 1; fired; n++) {
        Err e = {0};
        fresh((int)n);
        size_t before = mem_live_bytes();
        fault_arm(kind, n);
        Status st = work(&e);
        fired = fault_fired(kind);
        fault_arm(kind, 0);
        EQ(mem_live_bytes(), before);
        if (st != OK) TRUE_(e.msg[0] != 0);
        if (!fired) OK_(st);
        n_failed += st != OK;
        expect_whole();
        clear();
    }
    TRUE_(n_failed > 10);
}

TEST(a_run_and_allocations) { sweep_run(FAULT_ALLOC); }

TEST(a_run_and_io) { sweep_run(FAULT_IO); }

TEST(a_run_killed_at_each_io_call) {
    bool killed = true;
    int n_killed = 0;
    for (uint64_t n = 1; killed; n++) {
        fresh((int)n);
        pid_t pid = fork();
        if (pid == 0) {
            fault_arm(FAULT_KILL, n);
            _exit(work(NULL) == OK ? 0 : 1);
        }
        int status;
        EQ(waitpid(pid, &status, 0), pid);
        killed = WIFSIGNALED(status);
        n_killed += killed;
        expect_whole();
        clear();
    }
    TRUE_(n_killed > 20);
}

/* ---- the server's side ---- */

static Status last;

static void on_done(void *ctx, const BatchesReply *r) {
    *(int *)ctx += 1;
    last = r->st;
    if (r->st == OK) io_unmap(&(IoMap){r->content.p, r->content.n});
}

static void wait_for(Batches *b, const int *n) {
    for (int i = 0; i < 5000 && *n == 0; i++) {
        batches_poll(b);
        if (*n == 0) usleep(200);
    }
    EQ(*n, 1);
}

static Status upload(Batches *b) {
    BatchesTicket *t;
    int n = 0;
    BatchesAsk a = {.op = BATCHES_FILE_PUT,
                    .content_type = slice_of("multipart/form-data; boundary=q")};
    sb_puts(&a.body, "--q\r\nContent-Disposition: form-data; name=purpose\r\n\r\nbatch\r\n--q\r\n"
                     "Content-Disposition: form-data; name=file\r\n\r\nhello\r\n--q--");
    if (a.body.failed) {
        sb_deinit(&a.body);
        return ERR_NOMEM;
    }
    TRY(batches_ask(&t, b, &a, on_done, &n, NULL));
    wait_for(b, &n);
    return last;
}

/* Uploads that fail leave no file behind, and those that were acknowledged are there. */
static void sweep_uploads(FaultKind kind) {
    Batches *b = NULL;
    char dir[300];
    BatchesConfig c = {.dir = dir, .reserve = 1};
    int n_failed = 0, n_ok = 0;
    bool fired = true;
    log_set_level(LOG_ERROR);
    for (uint64_t n = 1; fired; n++) {
        Err e = {0};
        size_t before = mem_live_bytes();
        snprintf(dir, sizeof dir, "%s/%d", test_tmpdir(), (int)n);
        fault_arm(kind, n);
        Status st = batches_open(&b, &c, &e);
        if (st != OK) TRUE_(e.msg[0] != 0);
        if (st == OK) {
            st = upload(b);
            n_ok += st == OK;
            fired = fault_fired(kind);
            fault_arm(kind, 0);
            batches_free(b);
        }
        fault_arm(kind, 0);
        n_failed += st != OK;
        EQ(mem_live_bytes(), before);
    }
    TRUE_(n_failed > 5 && n_ok > 0);
}

TEST(uploads_and_allocations) { sweep_uploads(FAULT_ALLOC); }

TEST(uploads_and_io) { sweep_uploads(FAULT_IO); }
