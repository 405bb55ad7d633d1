/* SPDX-License-Identifier: Apache-2.0
 * Keys and feedback whose memory or disk fails at each point in turn, or whose process dies there: every failure says why,
 * keys that were in force stay so, what was acknowledged is kept, nothing leaks. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/feedback.h"
#include "api/keys.h"
#include "base/fault.h"
#include "base/log.h"
#include "test.h"

static char path[256];

static void fresh(int i) { snprintf(path, sizeof path, "%s/f%d.db", test_tmpdir(), i); }

static Status create(char text[KEYS_MAX_TEXT], const char *name, Err *e) {
    KeyNew n = {.name = name, .now_s = 1000};
    return keys_create(text, path, &n, e);
}

static bool accepted(Keys *k, const char *text) {
    KeyUser u;
    KeyAsk a = {.authorization = {"", 0},
                .api_key = slice_of(text),
                .model = {"", 0},
                .now_s = 2000};
    return keys_check(&u, k, &a, NULL) == OK;
}

/* Open, use, reload, flush. */
static Status serve(const char *key, Err *e) {
    Keys *k = NULL;
    const char *plain[] = {"abc,def"};
    KeysConfig c = {.path = path, .plain = plain, .n_plain = 1};
    TRY(keys_open(&k, &c, e));
    bool knew = accepted(k, key);
    Status st = keys_reload(k, NULL, e);
    if (st == OK) st = keys_flush(k, e);
    bool knows = accepted(k, key);
    keys_free(k);
    if (!knew || !knows) return err_set(e, ERR_INTERNAL, "a key was lost");
    return st;
}

static void sweep_serve(FaultKind kind) {
    char text[KEYS_MAX_TEXT];
    fresh(0);
    OK_(create(text, "a", TERR));
    size_t before = mem_live_bytes();
    int n_failed = 0;
    for (uint64_t n = 1;; n++) {
        Err e = {0};
        fault_arm(kind, n);
        Status st = serve(text, &e);
        bool fired = fault_fired(kind);
        fault_arm(kind, 0);
        NE(st, ERR_INTERNAL); /* a key that is there is never unknown */
        if (st != OK) TRUE_(e.msg[0] != 0);
        n_failed += st != OK;
        EQ(mem_live_bytes(), before);
        if (fired) continue;
        OK_(st);
        break;
    }
    TRUE_(n_failed > 5);
}

TEST(keys_of_a_server_and_allocations) { sweep_serve(FAULT_ALLOC); }

TEST(keys_of_a_server_and_io) { sweep_serve(FAULT_IO); }

static int n_rows;

static void count_row(void *ctx, const KeyRow *r) {
    (void)ctx;
    (void)r;
    n_rows++;
}

TEST(making_keys) {
    for (int kind = FAULT_ALLOC; kind <= FAULT_IO; kind++) {
        size_t before = mem_live_bytes();
        for (uint64_t n = 1;; n++) {
            Err e = {0};
            char first[KEYS_MAX_TEXT], second[KEYS_MAX_TEXT] = "";
            fresh(1000 * kind + (int)n);
            fault_arm((FaultKind)kind, n);
            Status st = create(first, "a", &e);
            if (st == OK) st = create(second, "b", &e);
            bool fired = fault_fired((FaultKind)kind);
            fault_arm((FaultKind)kind, 0);
            if (st != OK) TRUE_(e.msg[0] != 0);
            n_rows = 0;
            OK_(keys_list(path, count_row, NULL, TERR));
            if (st == OK) EQ(n_rows, 2);
            EQ(mem_live_bytes(), before);
            if (!fired) break;
        }
    }
}

/* A key that was shown is there after the kill. */
TEST(making_keys_and_dying) {
    int n_killed = 0;
    for (uint64_t n = 1;; n++) {
        int fd[2], status = 0;
        char text[KEYS_MAX_TEXT];
        fresh((int)n);
        EQ(pipe(fd), 0);
        pid_t pid = fork();
        TRUE_(pid >= 0);
        if (pid == 0) {
            fault_arm(FAULT_KILL, n);
            for (int i = 0; i < 2; i++) {
                if (create(text, "a", NULL) != OK || write(fd[1], text, sizeof text) < 1) _exit(1);
            }
            _exit(0);
        }
        close(fd[1]);
        char shown[2][KEYS_MAX_TEXT];
        int n_shown = 0;
        while (n_shown < 2 && read(fd[0], shown[n_shown], sizeof text) == sizeof text) n_shown++;
        close(fd[0]);
        EQ(waitpid(pid, &status, 0), pid);
        Keys *k = NULL;
        KeysConfig c = {.path = path};
        n_rows = 0;
        OK_(keys_open(&k, &c, TERR));
        for (int i = 0; i < n_shown; i++) TRUE_(accepted(k, shown[i]));
        keys_free(k);
        if (WIFEXITED(status)) {
            EQ(WEXITSTATUS(status), 0);
            EQ(n_shown, 2);
            break;
        }
        n_killed++;
    }
    TRUE_(n_killed > 10);
}

/* ---- feedback ---- */

static FeedbackDone got;
static int n_got;

static void on_done(void *ctx, const FeedbackDone *d) {
    (void)ctx;
    got = *d;
    n_got++;
}

/* One note, one rating, the end; the faults may meet either thread. */
static Status rate(Err *e) {
    Feedback *f = NULL;
    FeedbackTicket *t = NULL;
    FeedbackConfig c = {.path = path, .max_notes = 16};
    n_got = 0;
    TRY(feedback_new(&f, &c, e));
    FeedbackNote n = {slice_of("r"), slice_of("m"), slice_of("v"), {{0}}, 1};
    FeedbackRating r = {slice_of("r"), {"", 0}, slice_of("c"), 4, 1};
    feedback_note(f, &n);
    Status st = feedback_put(&t, f, &r, on_done, NULL, e);
    feedback_free(f);
    if (st != OK) return st;
    EQ(n_got, 1); /* told, whatever became of it */
    if (got.st != OK) {
        TRUE_(got.err.msg[0] != 0);
        return err_set(e, got.st, "%s", got.err.msg);
    }
    TRUE_(got.known);
    return OK;
}

static void sweep_rate(FaultKind kind) {
    size_t before = mem_live_bytes();
    int n_failed = 0;
    log_set_level(LOG_ERROR - 1);
    for (uint64_t n = 1;; n++) {
        Err e = {0};
        fresh((int)n);
        fault_arm(kind, n);
        Status st = rate(&e);
        bool fired = fault_fired(kind);
        fault_arm(kind, 0);
        if (st != OK) TRUE_(e.msg[0] != 0);
        n_failed += st != OK;
        EQ(mem_live_bytes(), before);
        if (!fired) {
            OK_(st);
            break;
        }
        if (n % 4 == 0) OK_(rate(TERR)); /* and the next process is well */
    }
    log_set_level(LOG_WARN);
    TRUE_(n_failed > 5);
}

TEST(feedback_and_allocations) { sweep_rate(FAULT_ALLOC); }

TEST(feedback_and_io) { sweep_rate(FAULT_IO); }
