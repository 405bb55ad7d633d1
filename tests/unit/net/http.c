/* SPDX-License-Identifier: Apache-2.0
 * The server over real sockets: its loop runs on a thread of its own, clients are plain sockets. */
#include "net/http.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "support/http_client.h"
#include "test.h"

enum { MAX_SLOW = 256, BIG = 16 << 20 };

/* One server and its loop. Handlers run on the loop's thread; the case reads the atomics. */
typedef struct Fix {
    HttpServer *http;
    pthread_t thread;
    int port, grace_ms;
    HttpReq *slow[MAX_SLOW]; /* [loop] requests to /slow and /stream that wait */
    _Atomic int n_slow;      /* ever put there */
    _Atomic int n_gone, n_wakes, n_served;
    _Atomic bool answer_slow, failed;
    char *big;
} Fix;

typedef struct SlowRef {
    Fix *f;
    int i;
} SlowRef;

static SlowRef refs[MAX_SLOW];

static void on_gone(void *ctx) {
    SlowRef *s = ctx;
    s->f->slow[s->i] = NULL;
    atomic_fetch_add(&s->f->n_gone, 1);
}

static void keep_waiting(Fix *f, HttpReq *r) {
    int i = atomic_load(&f->n_slow);
    f->slow[i] = r;
    refs[i] = (SlowRef){f, i};
    http_on_gone(r, on_gone, &refs[i]);
    atomic_store(&f->n_slow, i + 1);
}

static void on_request(void *ctx, HttpReq *r) {
    Fix *f = ctx;
    Slice path = http_path(r);
    atomic_fetch_add(&f->n_served, 1);
    if (slice_eq_str(path, "/slow")) {
        keep_waiting(f, r);
    } else if (slice_eq_str(path, "/stream")) {
        http_stream_begin(r, 200, "text/plain", "X-Extra: 1\r\n");
        http_stream_write(r, slice_of("first"));
        keep_waiting(f, r);
    } else if (slice_eq_str(path, "/flood")) {
        http_stream_begin(r, 200, "text/plain", NULL);
        http_stream_write(r, (Slice){f->big, BIG});
        keep_waiting(f, r);
    } else if (slice_eq_str(path, "/big")) {
        http_reply(r, 200, "text/plain", NULL, (Slice){f->big, BIG});
    } else if (slice_eq_str(path, "/none")) {
        http_reply(r, 204, NULL, NULL, (Slice){"", 0});
    } else if (slice_eq_str(path, "/echo")) {
        http_reply(r, 200, "text/plain", NULL, http_body(r));
    } else {
        http_reply(r, 404, "text/plain", NULL, path);
    }
}

static void answer_slow(Fix *f) {
    for (int i = 0; i < MAX_SLOW; i++) {
        HttpReq *r = f->slow[i];
        f->slow[i] = NULL;
        if (!r) continue;
        if (slice_eq_str(http_path(r), "/stream")) {
            http_stream_write(r, slice_of(" and last"));
            http_stream_end(r);
        } else {
            http_reply(r, 200, "text/plain", NULL, slice_of("slow"));
        }
    }
}

static void on_wake(void *ctx) {
    Fix *f = ctx;
    atomic_fetch_add(&f->n_wakes, 1);
    if (atomic_exchange(&f->answer_slow, false)) answer_slow(f);
}

static void *loop(void *ctx) {
    Fix *f = ctx;
    Err e = {0};
    if (http_run(f->http, f->grace_ms, &e) != OK) atomic_store(&f->failed, true);
    return NULL;
}

static Fix fix;

static Fix *start(HttpLimits limits, int grace_ms) {
    Fix *f = &fix;
    char *big = f->big ? f->big : mem_alloc_n(1, BIG);
    memset(f, 0, sizeof *f);
    f->big = big;
    f->grace_ms = grace_ms;
    HttpConfig c = {.host = "127.0.0.1",
                    .limits = limits,
                    .on_request = on_request,
                    .on_wake = on_wake,
                    .ctx = f};
    OK_(http_new(&f->http, &c, TERR));
    f->port = http_port(f->http);
    EQ(pthread_create(&f->thread, NULL, loop, f), 0);
    return f;
}

static void join(Fix *f) {
    pthread_join(f->thread, NULL);
    FALSE_(atomic_load(&f->failed));
    http_free(f->http);
    mem_free(f->big);
    f->big = NULL;
}

static void stop(Fix *f) {
    http_stop(f->http);
    join(f);
}

static void release_slow(Fix *f) {
    atomic_store(&f->answer_slow, true);
    http_wake(f->http);
}

/* Wait until *n reaches want; false after 5 s. */
static bool wait_for(_Atomic int *n, int want) {
    for (int i = 0; i < 5000; i++) {
        if (atomic_load(n) >= want) return true;
        usleep(1000);
    }
    return false;
}

static double seconds_since(uint64_t t0_ns) { return (double)(clock_now_ns() - t0_ns) * 1e-9; }

/* Processor seconds the loop's thread has used. */
static double loop_cpu_s(const Fix *f) {
    clockid_t id;
    struct timespec t = {0};
    if (pthread_getcpuclockid(f->thread, &id) == 0) clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static HcReply rep;

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

TEST(keep_alive_answers_many_requests_on_one_connection) {
    Fix *f = start((HttpLimits){0}, 1000);
    int fd = hc_connect(f->port);
    for (int i = 0; i < 50; i++) {
        hc_ask(fd, &rep, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        EQ(rep.status, 200);
        EQ_STR(rep.body, "hello");
    }
    hc_ask(fd, &rep,
           "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
    EQ_STR(rep.body, "hi");
    char v[32];
    TRUE_(hc_header(&rep, "Connection", v, sizeof v));
    EQ_STR(v, "close");
    TRUE_(hc_closed(fd, 2000));
    close(fd);
    stop(f);
}

TEST(http_1_0_closes_unless_asked_to_keep) {
    Fix *f = start((HttpLimits){0}, 1000);
    char v[32];
    int fd = hc_connect(f->port);
    hc_ask(fd, &rep, "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EQ(rep.status, 200);
    TRUE_(hc_header(&rep, "Connection", v, sizeof v));
    EQ_STR(v, "keep-alive");
    hc_ask(fd, &rep, "GET /echo HTTP/1.0\r\n\r\n");
    EQ(rep.status, 200);
    TRUE_(hc_closed(fd, 2000));
    close(fd);
    stop(f);
}

TEST(pipelined_requests_are_answered_in_order) {
    Fix *f = start((HttpLimits){0}, 1000);
    int fd = hc_connect(f->port);
    TRUE_(hc_send(
        fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na" GET(
                "/slow") "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nb" GET("/none")
                GET("/echo")));
    hc_read(fd, &rep, false);
    EQ_STR(rep.body, "a");
    TRUE_(wait_for(&f->n_slow, 1));
    usleep(20000);
    EQ(atomic_load(&f->n_served), 2); /* one at a time */
    release_slow(f);
    hc_read(fd, &rep, false);
    EQ_STR(rep.body, "slow");
    hc_read(fd, &rep, false);
    EQ_STR(rep.body, "b");
    hc_read(fd, &rep, false);
    EQ(rep.status, 204);
    hc_read(fd, &rep, false);
    EQ(rep.status, 200);
    close(fd);
    stop(f);
}

TEST(pipelined_bodies_larger_than_the_read_ahead) {
    Fix *f = start((HttpLimits){0}, 1000);
    enum { N = 60000 };
    static char req[N + 200];
    int n = snprintf(req, sizeof req,
                     "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", N);
    memset(req + n, 'z', N);
    int fd = hc_connect(f->port);
    TRUE_(hc_send(fd, GET("/slow")));
    for (int i = 0; i < 3; i++) TRUE_(hc_send_n(fd, req, (size_t)n + N));
    TRUE_(wait_for(&f->n_slow, 1));
    usleep(20000);
    release_slow(f);
    hc_read(fd, &rep, false);
    EQ_STR(rep.body, "slow");
    for (int i = 0; i < 3; i++) {
        hc_read(fd, &rep, false);
        EQ(rep.n_body, N);
        EQ_MEM(rep.body, req + n, N);
    }
    close(fd);
    stop(f);
}

TEST(request_in_single_bytes) {
    Fix *f = start((HttpLimits){0}, 1000);
    const char *text = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
                       "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    int fd = hc_connect(f->port);
    for (const char *p = text; *p; p++) {
        TRUE_(hc_send_n(fd, p, 1));
        if ((p - text) % 8 == 0) usleep(500);
    }
    hc_read(fd, &rep, false);
    EQ_STR(rep.body, "abcde");
    close(fd);
    stop(f);
}

TEST(many_connections_at_once) {
    enum { N = 128 };
    Fix *f = start((HttpLimits){0}, 1000);
    int fd[N];
    for (int i = 0; i < N; i++) {
        fd[i] = hc_connect(f->port);
        TRUE_(fd[i] >= 0);
        TRUE_(hc_send(fd[i], GET("/slow")));
    }
    TRUE_(wait_for(&f->n_slow, N));
    release_slow(f);
    for (int i = 0; i < N; i++) {
        hc_read(fd[i], &rep, false);
        EQ_STR(rep.body, "slow");
        hc_ask(fd[i], &rep, GET("/nowhere"));
        EQ(rep.status, 404);
        close(fd[i]);
    }
    EQ(atomic_load(&f->n_gone), 0);
    stop(f);
}

TEST(client_that_leaves_is_noticed_once) {
    Fix *f = start((HttpLimits){0}, 1000);
    for (int how = 0; how < 4; how++) {
        int fd = hc_connect(f->port);
        TRUE_(hc_send(fd, how == 3 ? GET("/stream") : GET("/slow")));
        TRUE_(wait_for(&f->n_slow, how + 1));
        if (how == 0 || how == 3) close(fd);
        if (how == 1) hc_reset(fd);
        if (how == 2) shutdown(fd, SHUT_WR);
        TRUE_(wait_for(&f->n_gone, how + 1));
        if (how == 2) {
            TRUE_(hc_closed(fd, 2000));
            close(fd);
        }
    }
    release_slow(f); /* nobody is left to be answered */
    usleep(20000);
    EQ(atomic_load(&f->n_gone), 4);
    stop(f);
    EQ(f->n_gone, 4);
}

TEST(client_that_leaves_behind_unread_bytes_is_noticed) {
    Fix *f = start((HttpLimits){0}, 1000);
    static char junk[40000]; /* more than is read ahead, less than the kernel takes */
    memset(junk, 'j', sizeof junk);
    for (int how = 0; how < 2; how++) {
        int fd = hc_connect(f->port);
        TRUE_(hc_send(fd, GET("/slow")));
        TRUE_(wait_for(&f->n_slow, how + 1));
        TRUE_(hc_send_n(fd, junk, sizeof junk));
        usleep(50000);
        double cpu = loop_cpu_s(f);
        usleep(100000);
        TRUE_(loop_cpu_s(f) - cpu < 0.05); /* the loop sleeps over them */
        EQ(atomic_load(&f->n_gone), how);
        if (how == 0) {
            close(fd);
        } else {
            hc_reset(fd);
        }
        TRUE_(wait_for(&f->n_gone, how + 1));
    }
    stop(f);
}

TEST(oversized_requests_are_answered_then_closed) {
    Fix *f = start((HttpLimits){.max_header_bytes = 1000, .max_body_bytes = 1000}, 1000);
    static char text[200000];
    int fd = hc_connect(f->port);
    memset(text, 'h', sizeof text);
    memcpy(text, "GET / HTTP/1.1\r\nHost: ", 22);
    hc_send_n(fd, text, sizeof text);
    hc_read(fd, &rep, false);
    EQ(rep.status, 431);
    TRUE_(strstr(rep.body, "\"error\":\"request headers too large\"") != NULL);
    TRUE_(hc_closed(fd, 4000));
    close(fd);
    fd = hc_connect(f->port);
    hc_ask(fd, &rep, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
    EQ(rep.status, 413);
    close(fd);
    fd = hc_connect(f->port);
    hc_send(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n");
    hc_send_n(fd, text, 100000); /* the answer must not be lost to a reset */
    hc_read(fd, &rep, false);
    EQ(rep.status, 413);
    close(fd);
    EQ(atomic_load(&f->n_served), 0);
    stop(f);
}

TEST(bad_request_is_answered_once_and_closed) {
    Fix *f = start((HttpLimits){0}, 1000);
    int fd = hc_connect(f->port);
    hc_ask(fd, &rep, "GET / HTTP/1.1\r\n\r\n" GET("/echo"));
    EQ(rep.status, 400);
    hc_read(fd, &rep, false);
    EQ(rep.status, 0);
    TRUE_(rep.closed);
    EQ(atomic_load(&f->n_served), 0);
    close(fd);
    stop(f);
}

TEST(slow_request_is_answered_408_and_idle_connection_closed) {
    Fix *f = start((HttpLimits){.header_timeout_ms = 200, .idle_timeout_ms = 300}, 1000);
    int slow = hc_connect(f->port), silent = hc_connect(f->port), idle = hc_connect(f->port);
    hc_ask(idle, &rep, GET("/echo"));
    EQ(rep.status, 200);
    uint64_t t0 = clock_now_ns();
    const char *drip =
        "GET / HTTP/1.1\r\nHost: x\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    struct pollfd p = {.fd = slow, .events = POLLIN};
    for (int i = 0; drip[i] && poll(&p, 1, 15) == 0; i++) hc_send_n(slow, drip + i, 1);
    hc_read(slow, &rep, false);
    EQ(rep.status, 408);
    TRUE_(seconds_since(t0) > 0.15 && seconds_since(t0) < 2);
    hc_read(silent, &rep, false);
    EQ(rep.status, 0); /* nothing was asked, nothing is said */
    TRUE_(rep.closed);
    TRUE_(hc_closed(idle, 2000));
    close(slow);
    close(silent);
    close(idle);
    stop(f);
}

TEST(slow_body_is_answered_408) {
    Fix *f = start((HttpLimits){.body_timeout_ms = 150}, 1000);
    uint64_t t0 = clock_now_ns();
    int fd = hc_connect(f->port);
    hc_ask(fd, &rep, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    EQ(rep.status, 408);
    TRUE_(seconds_since(t0) > 0.1 && seconds_since(t0) < 3);
    close(fd);
    stop(f);
}

TEST(slow_reader_is_dropped_and_a_steady_one_is_not) {
    Fix *f = start((HttpLimits){.write_timeout_ms = 400}, 1000);
    static char buf[1 << 20];
    int stuck = hc_connect(f->port), steady = hc_connect(f->port);
    TRUE_(hc_send(stuck, GET("/flood")));
    TRUE_(hc_send(steady, GET("/big")));
    size_t got = 0;
    for (ssize_t k; got < BIG && (k = recv(steady, buf, sizeof buf, 0)) > 0; got += (size_t)k)
        usleep(5000);
    TRUE_(got >= BIG);
    TRUE_(wait_for(&f->n_gone, 1));
    got = 0;
    for (ssize_t k; (k = recv(stuck, buf, sizeof buf, 0)) > 0;) got += (size_t)k;
    TRUE_(got < BIG); /* cut in the middle */
    close(stuck);
    close(steady);
    stop(f);
}

TEST(client_that_asks_and_never_reads_does_not_fill_memory) {
    Fix *f = start((HttpLimits){.write_timeout_ms = 500}, 1000);
    int fd = hc_connect(f->port);
    struct timeval limit = {0, 200000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    StrBuf b = {0};
    for (int i = 0; i < 1000; i++) sb_puts(&b, GET("/some/long/path/that/is/echoed/in/the/answer"));
    for (int i = 0; i < 500 && hc_send_n(fd, b.p, b.n); i++) {}
    sb_deinit(&b);
    TRUE_(atomic_load(&f->n_served) < 200000); /* reading stopped long before all were answered */
    static char buf[1 << 16];
    usleep(1200000);
    ssize_t k;
    while ((k = recv(fd, buf, sizeof buf, 0)) > 0) {}
    close(fd);
    stop(f);
}

TEST(reset_while_streaming_leaves_the_process_alive) {
    Fix *f = start((HttpLimits){0}, 1000);
    for (int i = 0; i < 20; i++) {
        int fd = hc_connect(f->port);
        TRUE_(hc_send(fd, i % 2 ? GET("/big") : GET("/stream")));
        usleep(1000);
        if (i % 4 < 2) {
            hc_reset(fd);
        } else {
            close(fd);
        }
        release_slow(f); /* a write that may meet a closed socket */
    }
    hc_once(f->port, &rep, GET("/echo"));
    EQ(rep.status, 200);
    stop(f);
}

TEST(too_many_connections_get_503) {
    Fix *f = start((HttpLimits){.max_connections = 4}, 1000);
    int fd[4];
    for (int i = 0; i < 4; i++) {
        fd[i] = hc_connect(f->port);
        hc_ask(fd[i], &rep, GET("/echo"));
        EQ(rep.status, 200);
    }
    for (int i = 0; i < 100; i++) {
        int over = hc_connect(f->port);
        hc_ask(over, &rep, GET("/echo"));
        if (i < 10) EQ(rep.status, 503);
        close(over);
    }
    EQ(atomic_load(&f->n_served), 4);
    for (int i = 0; i < 4; i++) close(fd[i]);
    usleep(50000);
    hc_once(f->port, &rep, GET("/echo"));
    EQ(rep.status, 200);
    stop(f);
}

TEST(continue_is_sent_before_the_body) {
    Fix *f = start((HttpLimits){.max_body_bytes = 100}, 1000);
    int fd = hc_connect(f->port);
    hc_ask(fd, &rep,
           "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    EQ(rep.status, 100);
    hc_ask(fd, &rep, "abc");
    EQ(rep.status, 200);
    EQ_STR(rep.body, "abc");
    hc_ask(
        fd, &rep,
        "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nxyz");
    EQ_STR(rep.body, "xyz"); /* the body was there: no interim answer */
    hc_ask(fd, &rep,
           "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 101\r\n\r\n");
    EQ(rep.status, 413);
    close(fd);
    stop(f);
}

TEST(head_and_no_content_have_no_body) {
    Fix *f = start((HttpLimits){0}, 1000);
    char v[32];
    int fd = hc_connect(f->port);
    hc_ask(fd, &rep, "HEAD /abc HTTP/1.1\r\nHost: x\r\n\r\n");
    EQ(rep.status, 404);
    TRUE_(hc_header(&rep, "Content-Length", v, sizeof v));
    EQ_STR(v, "4");
    hc_ask(fd, &rep, GET("/none"));
    EQ(rep.status, 204);
    FALSE_(hc_header(&rep, "Content-Length", v, sizeof v));
    hc_ask(fd, &rep, GET("/abc"));
    EQ_STR(rep.body, "/abc");
    close(fd);
    stop(f);
}

TEST(streams_are_chunked_or_end_with_the_connection) {
    Fix *f = start((HttpLimits){0}, 1000);
    char v[32];
    int fd = hc_connect(f->port);
    TRUE_(hc_send(fd, "GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    TRUE_(wait_for(&f->n_slow, 1));
    release_slow(f);
    hc_read(fd, &rep, false);
    EQ_STR(rep.body, "5\r\nfirst\r\n9\r\n and last\r\n0\r\n\r\n");
    TRUE_(hc_header(&rep, "Transfer-Encoding", v, sizeof v));
    EQ_STR(v, "chunked");
    TRUE_(hc_header(&rep, "X-Extra", v, sizeof v));
    close(fd);
    fd = hc_connect(f->port);
    TRUE_(hc_send(fd, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    TRUE_(wait_for(&f->n_slow, 2));
    release_slow(f);
    hc_read(fd, &rep, false);
    EQ_STR(rep.body, "first and last");
    FALSE_(hc_header(&rep, "Transfer-Encoding", v, sizeof v));
    close(fd);
    stop(f);
}

TEST(stop_lets_a_running_answer_finish) {
    Fix *f = start((HttpLimits){0}, 5000);
    int fd = hc_connect(f->port), idle = hc_connect(f->port), partial = hc_connect(f->port);
    hc_ask(idle, &rep, GET("/echo"));
    TRUE_(hc_send(partial, "GET / HT"));
    TRUE_(hc_send(fd, GET("/slow")));
    TRUE_(wait_for(&f->n_slow, 1));
    http_stop(f->http);
    TRUE_(hc_closed(idle, 2000));
    TRUE_(hc_closed(partial, 2000));
    char v[32];
    hc_once(f->port, &rep, GET("/echo")); /* whoever comes is still answered, once */
    EQ(rep.status, 200);
    TRUE_(hc_header(&rep, "Connection", v, sizeof v));
    EQ_STR(v, "close");
    int late = hc_connect(f->port); /* and who says nothing keeps nobody waiting */
    TRUE_(late >= 0);
    release_slow(f);
    hc_read(fd, &rep, false);
    EQ(rep.status, 200);
    EQ_STR(rep.body, "slow");
    TRUE_(hc_header(&rep, "Connection", v, sizeof v));
    uint64_t t0 = clock_now_ns();
    join(f);
    TRUE_(seconds_since(t0) < 2);
    EQ(f->n_gone, 0);
    close(late);
    close(fd);
    close(idle);
    close(partial);
}

TEST(stop_cuts_what_outlasts_the_grace) {
    Fix *f = start((HttpLimits){0}, 100);
    int fd = hc_connect(f->port);
    TRUE_(hc_send(fd, GET("/slow")));
    TRUE_(wait_for(&f->n_slow, 1));
    stop(f);
    EQ(f->n_gone, 1);
    TRUE_(hc_closed(fd, 1000));
    close(fd);
}

TEST(stop_before_run_and_wakes_from_anywhere) {
    HttpServer *s;
    HttpConfig c = {.host = "localhost", .on_request = on_request, .ctx = &fix};
    OK_(http_new(&s, &c, TERR));
    http_wake(s);
    http_stop(s);
    OK_(http_run(s, 1000, TERR));
    http_free(s);
    http_free(NULL);
}

static void *knocker(void *ctx) {
    for (int i = 0; i < 2000; i++) http_wake(((Fix *)ctx)->http);
    return NULL;
}

TEST(wakes_of_many_threads_are_not_lost) {
    Fix *f = start((HttpLimits){0}, 1000);
    pthread_t t[4];
    for (int i = 0; i < 4; i++) EQ(pthread_create(&t[i], NULL, knocker, f), 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    TRUE_(wait_for(&f->n_wakes, 1));
    int fd = hc_connect(f->port);
    TRUE_(hc_send(fd, GET("/slow")));
    TRUE_(wait_for(&f->n_slow, 1));
    release_slow(f); /* the last wake arrives, whatever came before */
    hc_read(fd, &rep, false);
    EQ(rep.status, 200);
    close(fd);
    stop(f);
}

TEST(listening_fails_with_words) {
    HttpServer *a, *b;
    HttpConfig c = {.host = "127.0.0.1", .on_request = on_request};
    OK_(http_new(&a, &c, TERR));
    c.port = http_port(a);
    FAILS(ERR_IO, http_new(&b, &c, TERR));
    TRUE_(strstr(test_err.msg, "127.0.0.1 port") != NULL);
    TRUE_(strstr(test_err.msg, "in use") != NULL);
    http_free(a);
    c.host = "no such host";
    FAILS(ERR_IO, http_new(&b, &c, TERR));
    c.host = "203.0.113.1"; /* of no interface */
    FAILS(ERR_IO, http_new(&b, &c, TERR));
    c.host = "127.0.0.1";
    c.port = 65536;
    FAILS(ERR_ARG, http_new(&b, &c, TERR));
    c.port = 0;
    c.limits.max_header_bytes = 1 << 20;
    FAILS(ERR_ARG, http_new(&b, &c, TERR));
    c.limits = (HttpLimits){.max_connections = -1};
    FAILS(ERR_ARG, http_new(&b, &c, TERR));
}
