/* SPDX-License-Identifier: Apache-2.0
 * The ring of samples: rates, quantiles, groups. */
#include "server/history.h"

#include <math.h>

#include "base/mem.h"
#include "test.h"

static History *h;
static Metrics m;
static HistoryNow now;

static void start(void) {
    memset(&m, 0, sizeof m);
    metrics_init(&m, 10, 32, 4096);
    now = (HistoryNow){.t = 1000, .m = &m, .n_cpu = 2};
    OK_(server__history_new(&h, TERR));
    server__history_add(h, &now); /* the first has nothing to compare with */
}

static void second(double dt) {
    now.t += dt;
    server__history_add(h, &now);
}

/* The newest sample. */
static HistoryRow newest(void) {
    uint64_t from, to;
    server__history_range(&from, &to, h, 1);
    TRUE_(to > from);
    return server__history_group(h, to - 1, 1);
}

static uint64_t n_rows(int step) {
    uint64_t from, to;
    server__history_range(&from, &to, h, step);
    return to - from;
}

TEST(counters_become_rates_of_the_time_that_went_by) {
    start();
    EQ(n_rows(1), 0);
    metrics_add(&m.new_tok, 30);
    metrics_add(&m.prompt_tok, 12);
    metrics_add(&m.steps, 4);
    metrics_observe(&m.iteration_tok, 6);
    metrics_observe(&m.iteration_tok, 2);
    metrics_set(&m.running, 3);
    metrics_set(&m.blocks_used, 5);
    now.n_requests = 4;
    now.cpu_s = 1;
    now.cpu_percent = 61;
    now.rss_bytes = 1 << 20;
    second(2);
    HistoryRow r = newest();
    NEAR(r.t, 1002, 1e-9);
    NEAR(r.v[HISTORY_NEW_TOK], 15, 1e-6);
    NEAR(r.v[HISTORY_PROMPT_TOK], 6, 1e-6);
    NEAR(r.v[HISTORY_REQUESTS], 2, 1e-6);
    NEAR(r.v[HISTORY_BATCH], 2, 1e-6);
    NEAR(r.v[HISTORY_RUNNING], 3, 0);
    NEAR(r.v[HISTORY_KV], 0.5, 1e-6);
    NEAR(r.v[HISTORY_CPU_SELF], 25, 1e-4); /* one second of two processors' four */
    NEAR(r.v[HISTORY_CPU], 61, 0);
    NEAR(r.v[HISTORY_MEMORY], 1 << 20, 0);
    TRUE_(isnan(r.v[HISTORY_PREFIX_HIT]));
    TRUE_(isnan(r.v[HISTORY_TTFT_P50]));
    metrics_add(&m.prefix_queries, 100);
    metrics_add(&m.prefix_hits, 25);
    second(1);
    NEAR(newest().v[HISTORY_PREFIX_HIT], 0.25, 1e-6);
    NEAR(newest().v[HISTORY_NEW_TOK], 0, 0);
    server__history_free(h);
}

TEST(time_that_stands_still_gives_no_sample) {
    start();
    second(1);
    second(0);
    second(-5);
    EQ(n_rows(1), 1);
    server__history_free(h);
}

TEST(a_server_without_a_model_has_samples_too) {
    start();
    now.m = NULL;
    second(1);
    TRUE_(isnan(newest().v[HISTORY_TTFT_P99]));
    NEAR(newest().v[HISTORY_RUNNING], 0, 0);
    now.m = &m;
    second(1);
    NEAR(newest().v[HISTORY_NEW_TOK], 0, 0);
    server__history_free(h);
}

/* Quantiles are of the window and forget what is older. */
TEST(quantiles_of_the_last_seconds) {
    start();
    second(1);
    for (int i = 0; i < 90; i++) metrics_observe(&m.ttft_s, 0.001); /* (0, 0.001] */
    for (int i = 0; i < 10; i++) metrics_observe(&m.ttft_s, 1e9);   /* above all bounds */
    second(1);
    HistoryRow r = newest();
    NEAR(r.v[HISTORY_TTFT_P50], 0.001 * 50 / 90, 1e-6);
    double most = m.ttft_s.bound[m.ttft_s.n - 1];
    NEAR(r.v[HISTORY_TTFT_P95], most, 1e-3 * most);
    NEAR(r.v[HISTORY_TTFT_P99], most, 1e-3 * most);
    for (int i = 0; i < HISTORY_WINDOW - 1; i++) second(1);
    FALSE_(isnan(newest().v[HISTORY_TTFT_P50]));
    second(1);
    TRUE_(isnan(newest().v[HISTORY_TTFT_P50]));
    server__history_free(h);
}

TEST(errors_by_kind) {
    static const struct {
        int status;
        HistorySeries kind;
    } t[] = {{400, HISTORY_ERR_CLIENT}, {404, HISTORY_ERR_CLIENT},  {422, HISTORY_ERR_CLIENT},
             {401, HISTORY_ERR_DENIED}, {403, HISTORY_ERR_DENIED},  {429, HISTORY_ERR_BUSY},
             {503, HISTORY_ERR_BUSY},   {408, HISTORY_ERR_TIMEOUT}, {504, HISTORY_ERR_TIMEOUT},
             {499, HISTORY_ERR_LEFT},   {500, HISTORY_ERR_SERVER},  {502, HISTORY_ERR_SERVER}};
    start();
    server__history_note(h, 200);
    server__history_note(h, 304);
    EQ(server__history_errors(h), 0);
    for (size_t i = 0; i < COUNT_OF(t); i++) {
        server__history_note(h, t[i].status);
        second(1);
        for (int k = HISTORY_ERR_CLIENT; k <= HISTORY_ERR_SERVER; k++)
            NEAR(newest().v[k], k == (int)t[i].kind ? 1 : 0, 1e-6);
    }
    EQ(server__history_errors(h), COUNT_OF(t));
    server__history_free(h);
}

TEST(several_samples_as_one) {
    start();
    for (int i = 0; i < 7; i++) {
        metrics_add(&m.new_tok, (uint64_t)i);
        now.rss_bytes = i;
        second(1);
    }
    EQ(n_rows(3), 2); /* the third is not whole yet */
    HistoryRow r = server__history_group(h, 1, 3);
    NEAR(r.t, 1006, 1e-9);
    NEAR(r.v[HISTORY_NEW_TOK], 4, 1e-6); /* mean of 3, 4, 5 */
    NEAR(r.v[HISTORY_MEMORY], 5, 0);     /* the newest */
    TRUE_(isnan(r.v[HISTORY_PREFIX_HIT]));
    server__history_free(h);
}

/* The ring holds an hour; groups that have lost a sample are gone, the others stay what they were. */
TEST(an_hour_is_kept) {
    start();
    for (int i = 0; i < HISTORY_LEN + 10; i++) {
        metrics_add(&m.new_tok, (uint64_t)i);
        second(1);
    }
    EQ(n_rows(1), HISTORY_LEN);
    NEAR(newest().v[HISTORY_NEW_TOK], HISTORY_LEN + 9, 0.5);
    uint64_t from, to;
    server__history_range(&from, &to, h, 7);
    EQ(from, 2); /* of sample 14; 10 is the oldest */
    EQ(to, (HISTORY_LEN + 10) / 7);
    NEAR(server__history_group(h, from, 7).v[HISTORY_NEW_TOK], 17, 1e-3);
    for (int step = 1; step <= HISTORY_MAX_STEP; step++) {
        server__history_range(&from, &to, h, step);
        TRUE_(from * (uint64_t)step >= 10 && to * (uint64_t)step <= HISTORY_LEN + 10);
    }
    server__history_free(h);
}

TEST(names_are_there_once) {
    for (int i = 0; i < HISTORY_N; i++) {
        const HistoryName *a = &server__history_series[i];
        TRUE_(a->name && a->help);
        for (int k = 0; k < i; k++) TRUE_(strcmp(a->name, server__history_series[k].name) != 0);
    }
}
