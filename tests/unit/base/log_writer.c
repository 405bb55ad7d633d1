/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/log.h"
#include "test.h"

enum { PIPE_BYTES = 4096, QUEUE = 4096 };

static int saved_fd, reader;

/* Standard error is a pipe of one page that nobody reads yet. */
static void pipe_start(void) {
    int fd[2];
    EQ(pipe(fd), 0);
    fcntl(fd[1], F_SETPIPE_SZ, PIPE_BYTES);
    saved_fd = dup(STDERR_FILENO);
    dup2(fd[1], STDERR_FILENO);
    close(fd[1]);
    reader = fd[0];
}

static void pipe_end(void) {
    dup2(saved_fd, STDERR_FILENO);
    close(saved_fd);
    close(reader);
}

/* Everything up to the end of the pipe's writers. */
static void *read_all(void *ctx) {
    char buf[1000];
    for (ssize_t n; (n = read(reader, buf, sizeof buf)) > 0;) sb_put(ctx, buf, (size_t)n);
    return NULL;
}

/* The server stood still while its terminal did. */
TEST(a_pipe_nobody_reads_holds_no_one_up) {
    enum { LINES = 5000 };
    uint64_t lost = log_lost();
    pipe_start();
    OK_(log_writer_start(NULL, QUEUE, TERR));
    double t0 = clock_now_s();
    for (int i = 0; i < LINES; i++) {
        char line[32];
        snprintf(line, sizeof line, "line %d", i);
        log_raw(line);
    }
    double took = clock_now_s() - t0;
    uint64_t missing = log_lost() - lost;
    pthread_t t;
    StrBuf got = {0};
    EQ(pthread_create(&t, NULL, read_all, &got), 0);
    log_writer_stop(5000);
    dup2(saved_fd, STDERR_FILENO);
    pthread_join(t, NULL);
    pipe_end();
    TRUE_(took < 2);
    TRUE_(missing > LINES / 2 && missing < LINES);
    int next = 0, n = 0;
    unsigned long long said = 0;
    for (char *at = got.p, *end; at && (end = strchr(at, '\n')); at = end + 1) {
        int i;
        *end = '\0';
        if (sscanf(at, "line %d", &i) == 1) {
            TRUE_(i >= next);
            next = i + 1;
            n++;
        } else {
            const char *w = strstr(at, "WARN  ");
            TRUE_(w && sscanf(w, "WARN  %llu log lines are missing", &said) == 1);
        }
    }
    EQ((uint64_t)n + missing, LINES);
    sb_deinit(&got);
}

/* At the end too: what cannot be written within the time is given up. */
TEST(the_end_does_not_wait_for_a_reader) {
    uint64_t lost = log_lost();
    pipe_start();
    OK_(log_writer_start(NULL, 1 << 16, TERR));
    for (int i = 0; i < 1000; i++) log_raw("0123456789012345678901234567890123456789");
    double t0 = clock_now_s();
    log_writer_stop(100);
    double took = clock_now_s() - t0;
    pipe_end();
    TRUE_(took < 3);
    TRUE_(log_lost() - lost > 500);
}

TEST(a_reader_that_left_is_no_signal) {
    pipe_start();
    OK_(log_writer_start(NULL, QUEUE, TERR));
    close(reader);
    uint64_t lost = log_lost();
    log_raw("nobody reads this");
    log_writer_stop(1000);
    TRUE_(log_lost() > lost);
    reader = dup(saved_fd);
    pipe_end();
}

typedef struct Source {
    int id;
} Source;

static void *say(void *ctx) {
    const Source *s = ctx;
    for (int i = 0; i < 500; i++) {
        char line[40];
        snprintf(line, sizeof line, "source %d line %d", s->id, i);
        log_raw(line);
    }
    return NULL;
}

/* A file, lines of several threads whole and each thread's in order, reopened after a rename. */
TEST(a_file_renamed_meanwhile) {
    char path[512], old[520];
    Source src[4];
    pthread_t t[4];
    snprintf(path, sizeof path, "%s/log", test_tmpdir());
    snprintf(old, sizeof old, "%s.1", path);
    OK_(log_writer_start(path, 1 << 20, TERR));
    FAILS(ERR_FULL, log_writer_start(path, 1 << 20, TERR));
    log_raw("before\nthe rename");
    uint64_t size = 0;
    for (int i = 0; i < 400 && size == 0; i++) {
        usleep(5000);
        OK_(io_file_size(&size, path, TERR));
    }
    EQ(rename(path, old), 0);
    OK_(log_writer_reopen(TERR));
    for (int i = 0; i < 4; i++) {
        src[i].id = i;
        EQ(pthread_create(&t[i], NULL, say, &src[i]), 0);
    }
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    log_set_level(LOG_INFO);
    log_info("the last one");
    log_set_level(LOG_WARN);
    log_writer_stop(5000);
    StrBuf b = {0};
    OK_(io_read_file(&b, old, 1 << 20, TERR));
    EQ_STR(sb_str(&b), "before the rename\n");
    sb_clear(&b);
    OK_(io_read_file(&b, path, 1 << 20, TERR));
    int next[4] = {0}, id, line;
    for (char *at = b.p, *end; at && (end = strchr(at, '\n')); at = end + 1) {
        if (strncmp(at, "source ", 7) != 0) {
            TRUE_(strstr(at, " INFO  the last one\n") != NULL);
            continue;
        }
        EQ(sscanf(at, "source %d line %d\n", &id, &line), 2);
        EQ(line, next[id]++);
    }
    for (int i = 0; i < 4; i++) EQ(next[i], 500);
    sb_deinit(&b);
}

TEST(a_file_that_cannot_be_opened) {
    Err e = {0};
    FAILS(ERR_IO, log_writer_start("/nonexistent/folder/log", QUEUE, &e));
    TRUE_(strstr(e.msg, "/nonexistent/folder/log") != NULL);
    OK_(log_writer_reopen(TERR)); /* there is none */
    log_writer_stop(0);
}
