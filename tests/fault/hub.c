/* SPDX-License-Identifier: Apache-2.0
 * Every allocation and every file operation of a request, a pull and the outbox fails once: each failure has its
 * words, leaks nothing, leaves no file under its name that is not whole; and the next pull goes on and ends well. */
#include <stdio.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "hub/hub.h"
#include "net/outbox.h"
#include "support/net_server.h"
#include "test.h"

enum { SIZE = 300000 };

static NetServer srv;
static char url[128], target[256], part[300];

static Status ask(NetAnswer *a, Err *e) {
    NetClient *net = NULL;
    const char *const h[] = {"X-A: b"};
    NetRequest rq = {.url = url, .headers = h, .n_headers = 1, .secrets = h, .n_secrets = 1};
    TRY(net_client_new(&net, &(NetConfig){0}, e));
    Status st = net_ask(a, net, &rq, e);
    net_client_free(net);
    return st;
}

TEST(a_request_without_memory) {
    size_t before = mem_live_bytes();
    TRUE_(net_server_start(&srv));
    snprintf(url, sizeof url, "http://127.0.0.1:%d/to/%%2Fbytes%%2F5000", srv.port);
    for (uint64_t n = 1;; n++) {
        NetAnswer a = {0};
        Err e = {0};
        fault_arm(FAULT_ALLOC, n);
        Status st = ask(&a, &e);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        EQ(st == OK, !fired);
        EQ(e.msg[0] != 0, fired);
        if (!fired) EQ(a.body.n, 5000);
        net_answer_deinit(&a);
        EQ(mem_live_bytes(), before);
        if (!fired) {
            TRUE_(n > 8);
            break;
        }
    }
    net_server_stop(&srv);
}

static bool is_whole(void) {
    StrBuf b = {0};
    bool ok = io_read_file(&b, target, SIZE, NULL) == OK && b.n == SIZE;
    for (uint64_t i = 0; ok && i < SIZE; i++) ok = (uint8_t)b.p[i] == net_server_byte(i);
    sb_deinit(&b);
    return ok;
}

static Status pull(Err *e) {
    HubPulled out;
    ConfigNet env = {0};
    HubPullOpts o = {.hub = {.env = &env, .piece_bytes = 64 << 10, .connections = 2},
                     .output = target,
                     .force = true};
    return hub_pull(&out, url, &o, e);
}

static void sweep(FaultKind kind, uint64_t at_least) {
    size_t before = mem_live_bytes();
    TRUE_(net_server_start(&srv));
    snprintf(url, sizeof url, "http://127.0.0.1:%d/bytes/%d", srv.port, (int)SIZE);
    snprintf(target, sizeof target, "%s/f", test_tmpdir());
    snprintf(part, sizeof part, "%s.part", target);
    for (uint64_t n = 1;; n++) {
        Err e = {0};
        fault_arm(kind, n);
        Status st = pull(&e);
        bool fired = fault_fired(kind);
        fault_arm(kind, 0);
        EQ(mem_live_bytes(), before);
        if (st != OK && !(fired && e.msg[0])) FAIL("call %d: \"%s\"", (int)n, e.msg);
        if (io_exists(target)) TRUE_(is_whole());
        if (st == OK) TRUE_(is_whole() && !io_exists(part));
        OK_(pull(TERR)); /* whatever is left does not stand in the way */
        TRUE_(is_whole() && !io_exists(part));
        unlink(target);
        if (!fired) {
            TRUE_(n > at_least);
            break;
        }
    }
    net_server_stop(&srv);
}

TEST(a_pull_without_memory) { sweep(FAULT_ALLOC, 40); }
TEST(a_pull_with_a_failing_disk) { sweep(FAULT_IO, 15); }

TEST(an_outbox_without_memory) {
    size_t before = mem_live_bytes();
    const char *const h[] = {"X-A: b"};
    for (uint64_t n = 1;; n++) {
        NetOutbox *o = NULL;
        Err e = {0};
        fault_arm(FAULT_ALLOC, n);
        Status st = net_outbox_new(&o, &(NetOutboxConfig){.attempts = 1}, &e);
        if (st == OK) st = net_outbox_post(o, "http://127.0.0.1:1/", h, 1, slice_of("x"), &e);
        net_outbox_free(o, 5000);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        EQ(mem_live_bytes(), before);
        if (st != OK) TRUE_(e.msg[0]);
        if (!fired) {
            TRUE_(n > 3);
            return;
        }
    }
}
