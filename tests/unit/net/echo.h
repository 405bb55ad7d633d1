/* SPDX-License-Identifier: Apache-2.0
 * A server that answers with the body it got, on a thread of its own, for the tests of this folder. /slow is answered by the
 * next wake. */
#ifndef INGOT_TEST_ECHO_H
#define INGOT_TEST_ECHO_H

#include <pthread.h>
#include <stdatomic.h>

#include "net/http.h"
#include "support/http_client.h"
#include "test.h"

typedef struct Echo {
    HttpServer *http;
    pthread_t thread;
    int port;
    _Atomic int n_served;
    _Atomic bool failed;
    void (*on_wake)(struct Echo *e); /* loop's thread */
} Echo;

static Echo echo;
static HcReply rep;

static void echo_request(void *ctx, HttpReq *r) {
    Echo *e = ctx;
    Slice path = http_path(r);
    atomic_fetch_add(&e->n_served, 1);
    if (slice_eq_str(path, "/page")) {
        http_reply(r, 200, "text/html",
                   "content-security-policy: default-src 'self'\r\nX-Own: 1\r\n", slice_of("page"));
    } else if (slice_eq_str(path, "/stream")) {
        http_stream_begin(r, 200, "text/event-stream", NULL);
        http_stream_write(r, slice_of("data: 1\n\n"));
        http_stream_end(r);
    } else if (slice_eq_str(path, "/secure")) {
        http_reply(r, 200, "text/plain", NULL, slice_of(http_is_secure(r) ? "yes" : "no"));
    } else {
        http_reply(r, 200, "text/plain", NULL, http_body(r));
    }
}

static void echo_wake(void *ctx) {
    Echo *e = ctx;
    if (e->on_wake) e->on_wake(e);
}

static void *echo_loop(void *ctx) {
    Echo *e = ctx;
    if (http_run(e->http, 1000, NULL) != OK) atomic_store(&e->failed, true);
    return NULL;
}

static Echo *echo_start(HttpConfig c) {
    memset(&echo, 0, sizeof echo);
    c.host = "127.0.0.1";
    c.on_request = echo_request;
    c.on_wake = echo_wake;
    c.ctx = &echo;
    OK_(http_new(&echo.http, &c, TERR));
    echo.port = http_port(echo.http);
    EQ(pthread_create(&echo.thread, NULL, echo_loop, &echo), 0);
    return &echo;
}

static void echo_stop(Echo *e) {
    http_stop(e->http);
    pthread_join(e->thread, NULL);
    FALSE_(atomic_load(&e->failed));
    http_free(e->http);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

#endif
