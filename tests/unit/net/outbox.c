/* SPDX-License-Identifier: Apache-2.0
 * Posts that nobody waits for. */
#include "net/outbox.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "support/net_server.h"
#include "test.h"

static char url[128];

static const char *at(const NetServer *s, const char *path) {
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", s->port, path);
    return url;
}

static NetOutboxStats settle(NetOutbox *o) {
    NetOutboxStats st;
    for (int i = 0; i < 600; i++) {
        net_outbox_stats(o, &st);
        if (st.waiting == 0) break;
        usleep(50000);
    }
    EQ(st.waiting, 0);
    return st;
}

TEST(posts_arrive_and_are_counted) {
    NetServer s;
    NetOutbox *o = NULL;
    TRUE_(net_server_start(&s));
    OK_(net_outbox_new(&o, &(NetOutboxConfig){0}, TERR));
    const char *const h[] = {"Content-Type: application/json"};
    for (int i = 0; i < 50; i++)
        OK_(net_outbox_post(o, at(&s, "/echo"), h, 1, slice_of("{}"), TERR));
    OK_(net_outbox_post(o, at(&s, "/status/400"), h, 1, slice_of("{}"), TERR));
    FAILS(ERR_ARG, net_outbox_post(o, "ftp://x/", h, 1, slice_of("{}"), TERR));
    NetOutboxStats st = settle(o);
    EQ(st.sent, 50);
    EQ(st.failed, 1);
    EQ(st.retried, 0);
    net_outbox_free(o, 1000);
    net_server_stop(&s);
}

TEST(refused_when_full_never_waiting) {
    NetOutbox *o = NULL;
    NetOutboxStats st;
    /* nobody answers there: what is posted stays until it is given up */
    OK_(net_outbox_new(&o, &(NetOutboxConfig){.max_posts = 4, .max_bytes = 1000, .attempts = 100},
                       TERR));
    double t0 = clock_now_s();
    char body[600] = {0};
    OK_(net_outbox_post(o, "http://127.0.0.1:1/", NULL, 0, (Slice){body, 600}, TERR));
    FAILS(ERR_FULL, net_outbox_post(o, "http://127.0.0.1:1/", NULL, 0, (Slice){body, 600}, TERR));
    for (int i = 0; i < 3; i++)
        OK_(net_outbox_post(o, "http://127.0.0.1:1/", NULL, 0, (Slice){body, 10}, TERR));
    FAILS(ERR_FULL, net_outbox_post(o, "http://127.0.0.1:1/", NULL, 0, (Slice){body, 10}, TERR));
    TRUE_(clock_now_s() - t0 < 5);
    net_outbox_stats(o, &st);
    EQ(st.waiting, 4);
    EQ(st.refused, 2);
    for (int i = 0; i < 200 && st.retried == 0; i++) {
        usleep(20000);
        net_outbox_stats(o, &st);
    }
    TRUE_(st.retried > 0);
    t0 = clock_now_s();
    net_outbox_free(o, 200);
    TRUE_(clock_now_s() - t0 < 10);
}

TEST(what_is_there_is_sent_before_the_end) {
    NetServer s;
    NetOutbox *o = NULL;
    NetClient *net = NULL;
    NetAnswer a = {0};
    TRUE_(net_server_start(&s));
    OK_(net_outbox_new(&o, &(NetOutboxConfig){.max_running = 1}, TERR));
    for (int i = 0; i < 30; i++)
        OK_(net_outbox_post(o, at(&s, "/echo"), NULL, 0, slice_of("x"), TERR));
    net_outbox_free(o, 20000);
    OK_(net_client_new(&net, &(NetConfig){0}, TERR));
    OK_(net_ask(&a, net, &(NetRequest){.url = at(&s, "/count")}, TERR));
    EQ_STR(sb_str(&a.body), "30");
    net_answer_deinit(&a);
    net_client_free(net);
    net_server_stop(&s);
}
