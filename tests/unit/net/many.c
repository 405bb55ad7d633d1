/* SPDX-License-Identifier: Apache-2.0
 * The client with `many`: hundreds of calls at a time, waits that are cut fine, knocks. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/client.h"
#include "support/net_server.h"
#include "test.h"

static NetServer srv;
static NetClient *net;
static char url[200];

static void begin(NetConfig c) {
    c.many = 400;
    c.stall_timeout_ms = -1;
    c.buffer_bytes = 16 << 10;
    TRUE_(net_server_start(&srv));
    OK_(net_client_new(&net, &c, TERR));
}
static void end(void) {
    net_client_free(net);
    net_server_stop(&srv);
}
static const char *at(const char *path) {
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", srv.port, path);
    return url;
}

typedef struct Seen {
    int n_done, n_ok, os_error;
    uint64_t n_bytes;
    NetFault fault;
} Seen;

static Status on_body(void *ctx, NetCall *c, Slice part, Err *e) {
    (void)c, (void)e;
    ((Seen *)ctx)->n_bytes += part.n;
    return OK;
}
static void on_done(void *ctx, NetCall *c, Status st, const Err *err) {
    Seen *s = ctx;
    (void)err;
    s->n_done++;
    s->n_ok += st == OK && net_status(c) == 200;
    s->os_error = net_os_error(c);
    s->fault = net_fault(c);
}

static void drive(const Seen *s, int n) {
    for (int i = 0; i < 20000 && s->n_done < n; i++) OK_(net_poll_ns(net, 100000000, TERR));
    EQ(s->n_done, n);
}

TEST(hundreds_at_a_time_and_again) {
    Seen s = {0};
    begin((NetConfig){0});
    for (int round = 1; round <= 3; round++) {
        for (int i = 0; i < 200; i++) {
            NetRequest rq = {.url = at("/bytes/20000"),
                             .on_body = on_body,
                             .on_done = on_done,
                             .ctx = &s};
            OK_(net_start(NULL, net, &rq, TERR));
        }
        drive(&s, 200 * round);
    }
    EQ(s.n_ok, 600);
    EQ(s.n_bytes, 600 * 20000);
    end();
}

TEST(an_answer_waited_for) {
    NetAnswer a = {0};
    begin((NetConfig){0});
    OK_(net_ask(&a, net,
                &(NetRequest){.method = "POST", .url = at("/echo"), .body = slice_of("hello")},
                TERR));
    EQ_STR(sb_str(&a.body), "hello");
    OK_(net_ask(&a, net, &(NetRequest){.url = at("/to/%2Fecho")},
                TERR)); /* a hop is a call of its own */
    EQ(a.status, 200);
    net_answer_deinit(&a);
    end();
}

TEST(nobody_listens_is_told_from_other_failures) {
    Seen s = {0};
    begin((NetConfig){0});
    NetRequest rq = {.url = at("/echo"), .on_done = on_done, .ctx = &s};
    net_server_stop(&srv);
    OK_(net_start(NULL, net, &rq, TERR));
    drive(&s, 1);
    EQ(s.fault, NET_CONNECT);
    EQ(s.os_error, ECONNREFUSED);
    end();
}

TEST(waits_are_cut_fine) { /* and none is cut short by rounding to milliseconds */
    begin((NetConfig){0});
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 50; i++) {
        uint64_t t = clock_now_ns();
        OK_(net_poll_ns(net, 300000, TERR));
        uint64_t took = clock_now_ns() - t;
        TRUE_(took >= 300000);
        best = MIN(best, took);
    }
    if (best > 800000) FAIL("a wait of 0.3 ms takes %.3f ms at best", (double)best * 1e-6);
    end();
}

static void *knock(void *ctx) {
    (void)ctx;
    usleep(50000);
    net_wake(net);
    return NULL;
}

TEST(a_knock_ends_the_wait) {
    pthread_t t;
    begin((NetConfig){0});
    uint64_t from = clock_now_ns();
    EQ(pthread_create(&t, NULL, knock, NULL), 0);
    OK_(net_poll(net, 60000, TERR));
    pthread_join(t, NULL);
    double s = (double)(clock_now_ns() - from) * 1e-9;
    TRUE_(s > 0.04 && s < 30);
    end();
}

TEST(calls_left_are_freed_with_the_client) {
    Seen s = {0};
    begin((NetConfig){0});
    NetCall *one = NULL;
    for (int i = 0; i < 20; i++) {
        NetRequest rq = {.url = at("/bytes/1000000"),
                         .on_body = on_body,
                         .on_done = on_done,
                         .ctx = &s};
        OK_(net_start(i == 3 ? &one : NULL, net, &rq, TERR));
    }
    OK_(net_poll_ns(net, 1000000, TERR));
    net_cancel(one);
    net_client_end(net);
    EQ(s.n_done, 19);
    EQ(net_n_running(net), 0);
    end();
}
