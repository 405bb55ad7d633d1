/* SPDX-License-Identifier: Apache-2.0
 * Every allocation of a point and of its page fails once: a request fails with words or the point does, and nothing
 * leaks. */
#include <stdio.h>

#include "base/fault.h"
#include "load/out.h"
#include "load/run.h"
#include "support/net_server.h"
#include "test.h"

static NetServer srv;
static char url[100];

/* One point of a few requests, and its page. */
static Status once(Err *e) {
    static const char *const settings[] = {"name", "value", NULL};
    NetClient *net = NULL;
    LoadPrompts prompts = {.seed = 1, .tokens = {.part = {{10, 10, 0, 1}}, .n = 1}};
    LoadPlan plan = {.url = url,
                     .ask = {.route = load_route("inference"),
                             .temperature = -1,
                             .extra = slice_of("\"response\":\"x\",\"tokens_generated\":3")},
                     .prompts = &prompts,
                     .max_tokens = prompts.tokens,
                     .arrivals = {.pattern = LOAD_BURST, .rate = 1000, .burst = 4},
                     .n_request = 4,
                     .max_flight = 50,
                     .timeout_s = 20,
                     .slo = {.share = 0.9}};
    LoadStats *s = NULL;
    StrBuf b = {0};
    Status st = net_client_new(&net, &(NetConfig){.many = 10, .stall_timeout_ms = -1}, e);
    if (st == OK) st = load_run(&s, net, &plan, e);
    if (st == OK) {
        LoadPoint p = {.url = url, .route = "inference", .pattern = "burst", .rate = 1, .stats = s};
        if (load_stats_failed(s) > 0) /* one request had no memory, and said so */
            st = err_set(e, ERR_NOMEM, "%s", s->fail[LOAD_OTHER].example);
        else st = load_put_report(&b, &p, 1, 0, slice_of(url), settings, e);
        if (st == OK) load_put_point(&b, &p);
        if (st == OK) st = sb_check(&b, e);
    }
    sb_deinit(&b);
    load_stats_free(s);
    net_client_free(net);
    return st;
}

TEST(allocations) {
    TRUE_(net_server_start(&srv));
    snprintf(url, sizeof url, "http://127.0.0.1:%d/echo", srv.port);
    OK_(once(TERR));
    size_t live = mem_live_bytes();
    for (uint64_t n = 1;; n++) {
        Err e = {0};
        fault_arm(FAULT_ALLOC, n);
        Status st = once(&e);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        EQ(mem_live_bytes(), live);
        if (!fired) {
            EQ(st, OK);
            TRUE_(n > 30);
            break;
        }
        if (st == OK) FAIL("fault %llu went off and nobody said so", (unsigned long long)n);
        TRUE_(e.msg[0] != 0);
    }
    net_server_stop(&srv);
}
