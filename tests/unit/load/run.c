/* SPDX-License-Identifier: Apache-2.0
 * A point against a server in a process of its own, which echoes requests: what is sent is counted, and what goes
 * wrong ends. Times are held against a server with known delays in tests/e2e/load.sh. */
#include "load/run.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/net_server.h"
#include "test.h"

static NetServer srv;
static NetClient *net;
static LoadPrompts prompts;
static LoadPlan plan;
static LoadStats *s;
static char url[200];
static const char *const header[] = {"Content-Type: application/json"};

/* Requests that are their own answers. */
static void begin(const char *path) {
    TRUE_(net_server_start(&srv));
    OK_(net_client_new(&net,
                       &(NetConfig){.many = 100, .stall_timeout_ms = -1, .buffer_bytes = 16 << 10},
                       TERR));
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", srv.port, path);
    prompts = (LoadPrompts){.seed = 1};
    OK_(load_mix_parse(&prompts.tokens, "x", "10", 1, TERR));
    plan = (LoadPlan){.url = url,
                      .header = header,
                      .n_header = 1,
                      .ask = {.route = load_route("inference"),
                              .temperature = -1,
                              .extra = slice_of("\"response\":\"x\",\"tokens_generated\":3")},
                      .prompts = &prompts,
                      .arrivals = {.pattern = LOAD_POISSON, .rate = 400},
                      .n_request = 100,
                      .seed = 1,
                      .max_flight = 50,
                      .timeout_s = 20,
                      .slo = {.share = 0.9}};
    OK_(load_mix_parse(&plan.max_tokens, "x", "5", 1, TERR));
}
static void run(void) { OK_(load_run(&s, net, &plan, TERR)); }
static void end(void) {
    load_stats_free(s);
    net_client_free(net);
    net_server_stop(&srv);
    s = NULL;
}

TEST(so_many_are_sent_and_warm_up_is_left_out) {
    begin("/echo");
    plan.n_warmup = 7;
    plan.slo.e2e = 10000000000;
    run();
    EQ(s->n_sent, 100);
    EQ(s->n_ok, 100);
    EQ(s->n_ended, 100);
    EQ(s->n_good, 100);
    EQ(s->n_warmup, 7);
    EQ(s->n_out, 300);
    EQ(s->time[LOAD_E2E].n, 100);
    EQ(s->time[LOAD_TTFT].n, 0); /* answers were whole */
    TRUE_(s->window_s > 0.15 && s->window_s < 0.4);
    uint64_t n = 0, planned = 0;
    for (int i = 0; i < LOAD_BLOCKS; i++) {
        n += s->all[i];
        TRUE_(s->all[i] == 6 || s->all[i] == 7);
    }
    for (int i = 0; i < LOAD_BINS; i++) planned += s->bin[i].n_plan;
    EQ(n, 100);
    EQ(planned, 107);
    NEAR(s->bin_s, 0.1, 1e-12); /* the timeline began with the run: users saw one dot in it */
    end();
}

TEST(so_long_is_sent) {
    begin("/echo");
    plan.n_request = 0;
    plan.duration_s = 0.5;
    plan.arrivals.pattern = LOAD_CONSTANT;
    plan.arrivals.rate = 100;
    run();
    EQ(s->n_sent, 50);
    EQ(s->n_ok, 50);
    NEAR(s->window_s, 0.5, 1e-9);
    end();
}

TEST(part_of_a_burst_has_its_window) {
    begin("/echo");
    plan.arrivals = (LoadArrivals){.pattern = LOAD_BURST, .rate = 100, .burst = 50};
    plan.n_request = 20;
    run();
    EQ(s->n_ok, 20);
    NEAR(s->window_s, 0.5, 1e-9);
    end();
}

TEST(users_ask_one_at_a_time) {
    begin("/echo");
    plan.users = 3;
    plan.n_request = 200;
    run();
    EQ(s->n_ok, 200);
    EQ(s->flight_max, 3);
    TRUE_(s->full_s > 0 && s->full_s <= load_stats_elapsed(s));
    /* all but the last ones, which came when the last one was asked for */
    TRUE_(s->n_out_full >= 3 * 197 && s->n_out_full <= 3 * 199);
    NEAR(load_stats_full_tok_s(s), (double)s->n_out_full / s->full_s, 1e-6);
    end();
}

static int n_ones;
static void on_one(void *ctx, const LoadOne *o) {
    (void)ctx;
    n_ones++;
    TRUE_(o->send >= o->plan && o->stop >= o->send);
    TRUE_(o->end == LOAD_429 ? strstr(o->why, "429") != NULL : o->why[0] == 0);
}

TEST(refusals_are_counted) {
    n_ones = 0;
    begin("/status/429");
    plan.on_one = on_one;
    run();
    EQ(n_ones, 100);
    EQ(s->fail[LOAD_429].n, 100);
    EQ(load_stats_failed(s), 100);
    EQ(s->n_good, 0);
    end();
}

TEST(nobody_there_ends_early) {
    begin("/echo");
    net_server_stop(&srv);
    plan.n_request = 0;
    plan.duration_s = 60;
    plan.give_up_s = 0.3;
    run();
    TRUE_(s->gave_up && !s->stopped);
    TRUE_(s->fail[LOAD_REFUSED].n > 50);
    EQ(s->fail[LOAD_REFUSED].n, s->n_ended);
    TRUE_(s->window_s > 0.25 && s->window_s < 20);
    end();
}

TEST(users_of_a_dead_server_do_not_hammer_it) {
    begin("/echo");
    net_server_stop(&srv);
    plan.n_request = 0;
    plan.duration_s = 60;
    plan.give_up_s = 0.5;
    plan.users = 2;
    run();
    TRUE_(s->gave_up);
    TRUE_(s->n_ended >= 2 && s->n_ended <= 20); /* each waits a tenth of a second */
    end();
}

static int late_fd;
static void listen_late(void *ctx, const LoadOne *o) {
    (void)ctx;
    if (o->end == LOAD_REFUSED && listen(late_fd, 100) != 0) FAIL("no listener");
}

/* users saw a run ended while the server, which had refused one connection, was at work on long prompts */
TEST(one_refusal_and_a_slow_server_are_not_dead) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof a;
    begin("/echo");
    late_fd = socket(AF_INET, SOCK_STREAM,
                     0); /* bound: it refuses until it listens, and then says nothing */
    TRUE_(late_fd >= 0 && bind(late_fd, (struct sockaddr *)&a, n) == 0 &&
          getsockname(late_fd, (struct sockaddr *)&a, &n) == 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/echo", ntohs(a.sin_port));
    plan.arrivals.pattern = LOAD_CONSTANT;
    plan.arrivals.rate = 10;
    plan.n_request = 8;
    plan.timeout_s = 0.9;
    plan.give_up_s = 0.3;
    plan.on_one = listen_late;
    run();
    FALSE_(s->gave_up);
    EQ(s->n_ended, 8);
    TRUE_(s->fail[LOAD_REFUSED].n >= 1 && s->fail[LOAD_TIMEOUT].n >= 5);
    close(late_fd);
    end();
}

static atomic_int stop;
static void stop_soon(void *ctx, const LoadNow *n) {
    (void)ctx;
    if (n->n_ended > 5) atomic_store(&stop, 1);
}

TEST(a_stop_keeps_what_there_is) {
    begin("/echo");
    plan.n_request = 0;
    plan.duration_s = 60;
    plan.stop = &stop;
    plan.on_now = stop_soon;
    run();
    TRUE_(s->stopped && !s->gave_up);
    TRUE_(s->n_ok > 5 && s->window_s < 50);
    EQ(s->n_ended, s->n_ok + s->fail[LOAD_STOPPED].n);
    end();
}

TEST(a_bad_header_is_an_error_at_once) {
    static const char *const bad[] = {"no colon"};
    begin("/echo");
    plan.header = bad;
    FAILS(ERR_ARG, load_run(&s, net, &plan, TERR));
    end();
}

TEST(places_are_kept_to) {
    begin("/echo");
    plan.max_flight = 2;
    plan.arrivals.rate = 100000;
    run();
    EQ(s->n_ok, 100);
    EQ(s->flight_max, 2);
    TRUE_(s->n_held > 40); /* when both end at once, one of the next two has not waited */
    end();
}

TEST(connections_that_may_be_opened) { TRUE_(load_most_connections() > 100); }
