/* SPDX-License-Identifier: Apache-2.0
 * Each limit of a connection and a request, by what a client sees of it. What the parser alone decides is in http_parse.c. */
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "unit/net/echo.h"

static double seconds_since(uint64_t t0_ns) { return (double)(clock_now_ns() - t0_ns) * 1e-9; }

/* The status that a request with a target or header line of n bytes gets. */
static int status_of(Echo *e, const char *before, size_t n, const char *after) {
    StrBuf b = {0};
    sb_puts(&b, before);
    for (size_t i = 0; i < n; i++) sb_putc(&b, 'a');
    sb_puts(&b, after);
    hc_once(e->port, &rep, sb_str(&b));
    sb_deinit(&b);
    return rep.status;
}

TEST(a_target_of_4_kb_is_the_longest) {
    Echo *e = echo_start((HttpConfig){0});
    EQ(status_of(e, "GET /", 4095, " HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
    EQ(status_of(e, "GET /", 4096, " HTTP/1.1\r\nHost: x\r\n\r\n"), 414);
    EQ(status_of(e, "GET /", 12000, ""), 414); /* without an end in sight */
    echo_stop(e);
}

TEST(a_header_line_of_8_kb_is_the_longest) {
    Echo *e = echo_start((HttpConfig){0});
    EQ(status_of(e, "GET / HTTP/1.1\r\nHost: x\r\nX: ", 8192 - 3, "\r\n\r\n"), 200);
    EQ(status_of(e, "GET / HTTP/1.1\r\nHost: x\r\nX: ", 8192 - 2, "\r\n\r\n"), 431);
    TRUE_(strstr(rep.body, "header line too long") != NULL);
    EQ(status_of(e, "GET / HTTP/1.1\r\nHost: x\r\nX: ", 12000, ""), 431);
    echo_stop(e);
}

TEST(a_head_of_16_kb_is_the_largest) {
    Echo *e = echo_start((HttpConfig){0});
    static const char rest[] = "\r\nY: 1\r\n\r\n";
    StrBuf b = {0};
    sb_puts(&b, "GET / HTTP/1.1\r\nHost: x\r\nX: ");
    for (int i = 0; i < 8000; i++) sb_putc(&b, 'a');
    sb_puts(&b, "\r\nV: ");
    for (int i = 0; i < 4000; i++) sb_putc(&b, 'a');
    sb_puts(&b, "\r\nZ: ");
    size_t most = (16 << 10) - b.n - (sizeof rest - 1);
    EQ(status_of(e, sb_str(&b), most, rest), 200);
    EQ(status_of(e, sb_str(&b), most + 1, rest), 431);
    TRUE_(strstr(rep.body, "request headers too large") != NULL);
    sb_deinit(&b);
    echo_stop(e);
}

TEST(a_hundred_headers_are_the_most) {
    Echo *e = echo_start((HttpConfig){0});
    for (int n = 99; n <= 100; n++) { /* and Host */
        StrBuf b = {0};
        sb_puts(&b, "GET / HTTP/1.1\r\nHost: x\r\n");
        for (int i = 0; i < n; i++) sb_printf(&b, "X%d: 1\r\n", i);
        sb_puts(&b, "\r\n");
        hc_once(e->port, &rep, sb_str(&b));
        EQ(rep.status, n == 99 ? 200 : 431);
        sb_deinit(&b);
    }
    echo_stop(e);
}

TEST(a_body_over_its_limit_is_413_by_length_and_by_chunks) {
    Echo *e = echo_start((HttpConfig){.limits = {.max_body_bytes = 10}});
    hc_once(e->port, &rep, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789");
    EQ(rep.status, 200);
    hc_once(e->port, &rep, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n");
    EQ(rep.status, 413);
    hc_once(e->port, &rep,
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
            "chunked\r\n\r\n6\r\n012345\r\n5\r\n67890\r\n0\r\n\r\n");
    EQ(rep.status, 413);
    EQ(atomic_load(&e->n_served), 1);
    echo_stop(e);
}

/* What two parsers could read differently, each with its status; nothing of it reaches a handler. */
TEST(smuggling_is_refused) {
    static const struct {
        int status;
        const char *text;
    } rows[] = {
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: "
              "chunked\r\n\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: "
              "3\r\n\r\n0\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\nabc"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n"},  /* folded */
        {400, "GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n\tb\r\n\r\n"}, /* folded */
        {400, "GET / HTTP/1.1\nHost: x\n\n"},                      /* bare line feeds */
        {400, "GET / HTTP/1.1\r\nHost: x\nX: 1\r\n\r\n"},          /* one of them */
        {400, "GET / HTTP/1.1\r\nHost: x\rX: 1\r\n\r\n"},          /* bare carriage return */
        {400, "GET / HTTP/1.1\r\nHost : x\r\n\r\n"},               /* blank before the colon */
        {400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nX\x01: 1\r\n\r\n"},
        {400, "G(T / HTTP/1.1\r\nHost: x\r\n\r\n"}, /* no token */
        {501, "FETCH / HTTP/1.1\r\nHost: x\r\n\r\n"},
        {501, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n"},
        {501, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"},
        {501, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
              "identity\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"}, /* two hosts */
        {400, "GET / HTTP/1.1\r\n\r\n"},                       /* none */
        {400, "GET / HTTP/1.1\r\nHost: x y\r\n\r\n"},
        {505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"},
        {400, "PRI * HTTP/2.0\r\n"}, /* until its end comes, see below */
        {400, "GET  / HTTP/1.1\r\nHost: x\r\n\r\n"},
        {400, "GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n"},
        {400, "GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n"},
        {400, "GET /%2 HTTP/1.1\r\nHost: x\r\n\r\n"},
    };
    Echo *e = echo_start((HttpConfig){.limits = {.header_timeout_ms = 500}});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        hc_once(e->port, &rep, rows[i].text);
        bool pri = strncmp(rows[i].text, "PRI", 3) == 0; /* a head without end: the deadline's */
        if (rep.status != (pri ? 408 : rows[i].status))
            FAIL("row %zu: status %d, want %d", i, rep.status, rows[i].status);
        TRUE_(rep.closed || rep.n_body > 0);
    }
    int fd = hc_connect(e->port);
    static const char nul[] = "GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n";
    TRUE_(hc_send_n(fd, nul, sizeof nul - 1));
    hc_read(fd, &rep, false);
    EQ(rep.status, 400);
    close(fd);
    EQ(atomic_load(&e->n_served), 0);
    echo_stop(e);
}

TEST(a_body_that_trickles_is_408_and_one_that_flows_is_not) {
    Echo *e = echo_start((HttpConfig){
        .limits = {.body_timeout_ms = 200, .min_body_rate = 1000}}); /* 200 in 200 ms */
    static char part[300];
    memset(part, 'p', sizeof part);
    int slow = hc_connect(e->port), steady = hc_connect(e->port);
    static const char head[] = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n";
    TRUE_(hc_send(slow, head) && hc_send(steady, head));
    uint64_t t0 = clock_now_ns();
    struct pollfd p = {.fd = slow, .events = POLLIN};
    for (int i = 0; i < 10; i++) { /* over a second in all, longer than one window */
        TRUE_(hc_send_n(steady, part, sizeof part));
        if (poll(&p, 1, 0) == 0) hc_send_n(slow, part, 1);
        usleep(110000);
    }
    hc_read(steady, &rep, false);
    EQ(rep.status, 200);
    EQ(rep.n_body, 3000);
    hc_read(slow, &rep, false);
    EQ(rep.status, 408);
    TRUE_(hc_closed(slow, 3000));
    TRUE_(seconds_since(t0) < 8);
    close(slow);
    close(steady);
    echo_stop(e);
}

TEST(connections_of_one_address_are_limited) {
    Echo *e = echo_start((HttpConfig){.limits = {.max_per_address = 3, .max_connections = 100}});
    int fd[3];
    char v[32];
    for (int i = 0; i < 3; i++) {
        fd[i] = hc_connect(e->port);
        hc_ask(fd[i], &rep, GET("/"));
        EQ(rep.status, 200);
    }
    hc_once(e->port, &rep, GET("/"));
    EQ(rep.status, 429);
    TRUE_(hc_header(&rep, "Retry-After", v, sizeof v));
    TRUE_(strstr(rep.body, "your address") != NULL);
    close(fd[0]);
    for (int i = 0; i < 200; i++) { /* until the server has noticed */
        hc_once(e->port, &rep, GET("/"));
        if (rep.status == 200) break;
        usleep(10000);
    }
    EQ(rep.status, 200);
    for (int i = 1; i < 3; i++) close(fd[i]);
    echo_stop(e);
}

TEST(requests_on_one_connection_are_limited) {
    Echo *e = echo_start((HttpConfig){.limits = {.max_requests = 3}});
    char v[32];
    int fd = hc_connect(e->port);
    for (int i = 0; i < 3; i++) {
        hc_ask(fd, &rep, GET("/"));
        EQ(rep.status, 200);
        EQ(hc_header(&rep, "Connection", v, sizeof v), i == 2);
    }
    TRUE_(hc_closed(fd, 3000));
    close(fd);
    echo_stop(e);
}

static _Atomic int set_status;

static Status last_step(void *ctx, Err *e) {
    int *n = ctx;
    return ++*n > 0 ? OK : err_set(e, ERR_NOT_FOUND, "the last step");
}

static void set_limits(Echo *e) {
    HttpLimits l = {.max_body_bytes = 5, .max_connections = -1};
    int n = 0;
    int bad = (int)http_reload(e->http, &l, last_step, &n, NULL);
    l.max_connections = 0;
    n -= 10;
    int refused =
        (int)http_reload(e->http, &(HttpLimits){.max_body_bytes = 1}, last_step, &n, NULL);
    n += 10;
    int good = (int)http_reload(e->http, &l, last_step, &n, NULL);
    bool right = bad == ERR_ARG && refused == ERR_NOT_FOUND && good == OK && n == 2;
    atomic_store(&set_status, right ? 1 : -1);
}

TEST(limits_can_be_changed_while_it_runs) {
    Echo *e = echo_start((HttpConfig){0});
    static const char post[] = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabcdef";
    int fd = hc_connect(e->port);
    hc_ask(fd, &rep, post);
    EQ(rep.status, 200);
    e->on_wake = set_limits;
    http_wake(e->http);
    for (int i = 0; i < 2000 && atomic_load(&set_status) == 0; i++) usleep(1000);
    EQ(atomic_load(&set_status), 1);
    hc_ask(fd, &rep, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde");
    EQ(rep.status, 200);
    hc_ask(fd, &rep, post);
    EQ(rep.status, 413);
    close(fd);
    echo_stop(e);
}

static void refuse(void *ctx, StrBuf *b, int status, const char *why) {
    (void)ctx;
    sb_printf(b, "{\"error\":{\"message\":\"%s\",\"type\":\"t\",\"param\":null,\"code\":%d}}", why,
              status);
}

TEST(refusals_have_the_body_the_server_gives) {
    Echo *e = echo_start((HttpConfig){.on_refuse = refuse, .limits = {.header_timeout_ms = 200}});
    char v[64];
    hc_once(e->port, &rep, "GET / HTTP/1.1\r\n\r\n");
    EQ_STR(rep.body, "{\"error\":{\"message\":\"no Host header\",\"type\":\"t\",\"param\":null,"
                     "\"code\":400}}");
    TRUE_(hc_header(&rep, "Content-Type", v, sizeof v));
    EQ_STR(v, "application/json");
    hc_once(e->port, &rep, "GET / HT");
    EQ(rep.status, 408);
    TRUE_(strstr(rep.body, "\"code\":408") != NULL);
    echo_stop(e);
}

/* ---- what all bodies together may take ---- */

enum { PART = 200 << 10 };

static int send_part(const Echo *e, const char *framing, size_t n) {
    StrBuf b = {0};
    int fd = hc_connect(e->port);
    sb_printf(&b, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", framing);
    for (size_t i = 0; i < n; i++) sb_putc(&b, 'x');
    hc_send_n(fd, sb_str(&b), b.n);
    sb_deinit(&b);
    return fd;
}

static _Atomic size_t held;

static void look_at_held(Echo *e) { atomic_store(&held, http_held_bytes(e->http)); }

static size_t held_now(Echo *e) {
    atomic_store(&held, SIZE_MAX);
    e->on_wake = look_at_held;
    http_wake(e->http);
    for (int i = 0; i < 2000 && atomic_load(&held) == SIZE_MAX; i++) usleep(1000);
    return atomic_load(&held);
}

/* Many clients with long bodies took as much memory as they liked, each of them within its own limit. */
TEST(bodies_share_a_limit) {
    Echo *e =
        echo_start((HttpConfig){.limits = {.max_held_bytes = 1500000, .max_body_bytes = 1 << 20}});
    int fd[8];
    for (int i = 0; i < 4; i++) fd[i] = send_part(e, "Content-Length: 300000", PART);
    for (int i = 0; i < 1000 && held_now(e) < 4 * PART; i++) usleep(1000);
    TRUE_(held_now(e) >= 4 * PART);
    hc_once(e->port, &rep, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n");
    EQ(rep.status, 503); /* by what is announced, before a byte of it */
    char v[32];
    EQ(hc_header(&rep, "Retry-After", v, sizeof v), 1);
    hc_once(e->port, &rep, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nshort");
    EQ(rep.status, 200); /* short ones go through */
    fd[4] = send_part(e, "Transfer-Encoding: chunked", 0);
    StrBuf b = {0};
    sb_puts(&b, "e0000\r\n");
    for (int i = 0; i < 0xe0000; i++) sb_putc(&b, 'x');
    hc_send_n(fd[4], sb_str(&b), b.n);
    sb_deinit(&b);
    hc_read(fd[4], &rep, false);
    EQ(rep.status, 503); /* by what came */
    for (int i = 0; i < 5; i++) close(fd[i]);
    for (int i = 0; i < 2000 && held_now(e) > 0; i++) usleep(1000);
    EQ(held_now(e), 0);
    hc_once(e->port, &rep, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nshort");
    EQ(rep.status, 200);
    echo_stop(e);
}
