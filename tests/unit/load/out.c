/* SPDX-License-Identifier: Apache-2.0
 * What is told of points: as JSON, as a page. */
#include "load/out.h"

#include <stdio.h>

#include "test.h"
#include "text/json.h"

enum { MS = 1000000 };

static LoadOne one(int i, LoadEnd end) {
    uint64_t plan = (uint64_t)(1000 + i * 10) * MS;
    LoadOne o = {.id = (uint64_t)i,
                 .plan = plan,
                 .send = plan + MS / 10,
                 .first = plan + (uint64_t)(20 + i % 50) * MS,
                 .last = plan + (uint64_t)(120 + i % 50) * MS,
                 .stop = plan + (uint64_t)(121 + i % 50) * MS,
                 .n_event = 11,
                 .n_out = 11,
                 .n_prompt = 5,
                 .status = 200,
                 .end = end};
    if (end != LOAD_OK) snprintf(o.why, sizeof o.why, "why <b>&\"%d\"", i);
    return o;
}

static LoadPoint point(int n, double rate) {
    LoadPoint p = {.url = "http://h/<x>",
                   .route = "chat",
                   .model = "m",
                   .pattern = "poisson",
                   .rate = rate,
                   .slo_text = "ttft=45ms"};
    p.slo = (LoadSlo){.ttft = 45 * MS, .share = 0.9};
    OK_(load_stats_new(&p.stats, TERR));
    for (int i = 0; i < n; i++) {
        LoadOne o = one(i, i % 20 == 7 ? LOAD_REFUSED : LOAD_OK);
        load_stats_plan(p.stats, o.plan);
        load_stats_flight(p.stats, o.plan, 3);
        p.stats->n_sent++;
        load_stats_end(p.stats, &o, &p.slo, i * LOAD_BLOCKS / n);
    }
    p.stats->window_s = n * 0.01;
    return p;
}

TEST(a_point_as_json) {
    LoadPoint p = point(200, 100);
    StrBuf b = {0};
    Json *j = NULL;
    load_put_point(&b, &p);
    OK_(json_parse(&j, (Slice){sb_str(&b), b.n}, TERR));
    EQ(json_int(json_get(j, "sent")), 200);
    EQ(json_int(json_get(j, "answered")), 190);
    EQ(json_int(json_get(j, "failed")), 10);
    EQ(json_int(json_get(j, "tokens_out")), 190 * 11);
    NEAR(json_num(json_get(json_get(j, "ttft_ms"), "p50")), 44, 1);
    NEAR(json_num(json_get(json_get(j, "tpot_ms"), "p99")), 10, 0.03);
    TRUE_(!json_get(j, "itl_ms")); /* no gap was told */
    const Json *e = json_at(json_get(j, "errors"), 0);
    TRUE_(slice_eq_str(json_str(json_get(e, "kind")), "refused"));
    EQ(json_int(json_get(e, "n")), 10);
    const Json *slo = json_get(j, "slo");
    NEAR(json_num(json_get(slo, "share")), 100 / 200.0, 0.02);
    TRUE_(!json_bool(json_get(slo, "within")) && json_bool(json_get(slo, "sure")));
    json_free(j);
    sb_deinit(&b);
    load_stats_free(p.stats);
}

TEST(
    time_that_failures_waited_is_not_in_the_throughput) { /* users saw a tenth of the tokens a second */
    LoadPoint p = point(200, 100);
    double before = load_stats_elapsed(p.stats);
    LoadOne o = one(0, LOAD_TIMEOUT);
    o.stop = o.plan + (uint64_t)300 * 1000 * MS;
    load_stats_end(p.stats, &o, &p.slo, 0);
    NEAR(load_stats_elapsed(p.stats), before, 0);
    NEAR(before, 2.16, 0.1);
    p.stats->window_s = 5; /* arrivals that nobody answered any more count */
    NEAR(load_stats_elapsed(p.stats), 5, 0);
    load_stats_free(p.stats);
}

TEST(a_request_as_json) {
    LoadOne o = one(3, LOAD_CUT);
    StrBuf b = {0};
    Json *j = NULL;
    load_put_one(&b, &o, 9, 12.25);
    OK_(json_parse(&j, (Slice){sb_str(&b), b.n}, TERR));
    TRUE_(slice_eq_str(json_str(json_get(j, "request_id")), "load-9-3"));
    NEAR(json_num(json_get(j, "at")), 12.25, 0);
    NEAR(json_num(json_get(j, "ttft_ms")), 23, 1e-9);
    NEAR(json_num(json_get(j, "tpot_ms")), 10, 1e-9);
    TRUE_(slice_eq_str(json_str(json_get(j, "end")), "cut"));
    TRUE_(slice_eq_str(json_str(json_get(j, "why")), "why <b>&\"3\""));
    json_free(j);
    sb_deinit(&b);
}

/* a rate was called the highest although the queue grew all the time: a longer run would have broken the limits */
TEST(a_point_that_piles_up_is_not_within) {
    LoadPoint p = point(0, 100);
    LoadStats *s = p.stats;
    LoadShare sh;
    for (int i = 0; i < 800; i++) {
        LoadOne o = one(i, LOAD_OK);
        o.first = o.plan + 20 * MS;
        load_stats_plan(s, o.plan);
        load_stats_end(s, &o, &p.slo, i * LOAD_BLOCKS / 800);
    }
    s->window_s = 8;
    EQ(load_verdict(&p, &sh), LOAD_WITHIN);
    for (int i = 0; i < 80; i++) load_stats_flight(s, s->t_zero + (uint64_t)i * 100 * MS, 10 + i);
    EQ(load_verdict(&p, &sh), LOAD_WITHIN_UNSURE);
    p.last_look = true;
    EQ(load_verdict(&p, &sh), LOAD_PILES_UP);
    FALSE_(load_is_within(LOAD_PILES_UP));
    TRUE_(strstr(load_verdict_words(LOAD_PILES_UP), "pile up"));
    p.pattern = "ramp"; /* is meant to */
    EQ(load_verdict(&p, &sh), LOAD_WITHIN);
    p.pattern = "closed";
    p.users = 90;
    EQ(load_verdict(&p, &sh), LOAD_WITHIN);
    load_stats_free(s);
}

static Json *sweep_of(const LoadPoint *best, bool cut_short) {
    StrBuf b = {0};
    Json *j = NULL;
    load_put_sweep(&b, best, false, cut_short);
    OK_(json_parse(&j, (Slice){sb_str(&b), b.n}, TERR));
    sb_deinit(&b);
    return j;
}

TEST(a_sweep_says_what_it_found) {
    LoadPoint p = point(200, 8);
    Json *j = sweep_of(&p, false);
    TRUE_(slice_eq_str(json_str(json_get(j, "sweep")), "rate"));
    NEAR(json_num(json_get(j, "highest")), 8, 0);
    FALSE_(json_bool(json_get(j, "sure")));
    NEAR(json_num(json_get(j, "tok_s")), 190 * 11 / 2.16, 1);
    TRUE_(!json_get(j, "stopped_early"));
    json_free(j);
    j = sweep_of(NULL, true);
    TRUE_(!json_get(j, "highest") && json_bool(json_get(j, "stopped_early")));
    json_free(j);
    load_stats_free(p.stats);
}

static bool has(const StrBuf *b, const char *text) { return strstr(sb_str(b), text) != NULL; }

TEST(a_page_of_points) {
    static const char *const settings[] = {"model", "<script>x</script>", NULL};
    LoadPoint p[3] = {point(200, 8), point(100, 2), point(300, 4)}; /* in any order */
    StrBuf b = {0};
    OK_(load_put_report(&b, p, 3, 1, slice_of("http://h/<x>"), settings, TERR));
    TRUE_(has(&b, "</html>") && has(&b, "&lt;script&gt;x") && !has(&b, "<script>x"));
    TRUE_(has(&b, "http://h/&lt;x&gt;") && has(&b, "why &lt;b&gt;&amp;&quot;7&quot;"));
    TRUE_(!has(&b, "src=") && !has(&b, "href=") && !has(&b, "nan") &&
          has(&b, "default-src 'none'"));
    TRUE_(has(&b, "Time to the first token, ms"));
    const char *two = strstr(b.p, "<tr class=\"best\"><td>2</td>"),
               *eight = strstr(b.p, "<tr><td>8</td>");
    TRUE_(two && eight && two < eight);
    TRUE_(has(&b, "<details open><summary>2 requests a second"));
    TRUE_(has(&b, "Histogram: first tokens, % a millisecond"));
    TRUE_(!has(&b, "Histogram: gaps"));              /* none was told */
    TRUE_(has(&b, "Milliseconds, of 190 answered")); /* times are of these alone */
    TRUE_(!has(&b, "points stand in the table alone"));
    sb_deinit(&b);
    for (int i = 0; i < 3; i++) load_stats_free(p[i].stats);
}

static int count_of(const StrBuf *b, const char *text) {
    int n = 0;
    for (const char *s = sb_str(b); (s = strstr(s, text)) != NULL; s++) n++;
    return n;
}

TEST(many_points_say_what_is_left_out) { /* those behind the 16th were missing without a word */
    static const char *const settings[] = {NULL};
    LoadPoint p[20];
    StrBuf b = {0};
    for (int i = 0; i < 20; i++) p[i] = point(20, i < 4 ? 1 : i + 1); /* four looks at rate 1 */
    OK_(load_put_report(&b, p, 20, 19, slice_of("u"), settings, TERR));
    EQ(count_of(&b, "<details"), 17); /* 16, and the best one */
    EQ(count_of(&b, "<summary>1 requests"), 1);
    EQ(count_of(&b, "<details open><summary>20 requests"), 1);
    TRUE_(has(&b, "3 of 20 points stand in the table alone"));
    sb_deinit(&b);
    for (int i = 0; i < 20; i++) load_stats_free(p[i].stats);
}

TEST(a_page_of_nothing) { /* every request failed */
    static const char *const settings[] = {NULL};
    LoadPoint p = point(0, 5);
    StrBuf b = {0};
    OK_(load_put_report(&b, &p, 1, 0, slice_of("u"), settings, TERR));
    TRUE_(has(&b, "</html>") && !has(&b, "nan") && !has(&b, "inf"));
    LoadShare sh;
    EQ(load_verdict(&p, &sh), LOAD_NO_DATA);
    sb_deinit(&b);
    load_stats_free(p.stats);
}

TEST(long_runs_have_a_timeline_of_the_same_size) {
    LoadPoint p = point(10, 5);
    LoadSlo slo = {.share = 1};
    for (int i = 0; i < 5000; i++) {
        LoadOne o = one(i * 100, LOAD_OK); /* over an hour */
        load_stats_plan(p.stats, o.plan);
        load_stats_end(p.stats, &o, &slo, 0);
    }
    uint64_t n = 0;
    for (int i = 0; i < LOAD_BINS; i++) n += p.stats->bin[i].n_plan;
    EQ(n, 5010);
    TRUE_(p.stats->bin_s * LOAD_BINS >= 5000 && p.stats->bin_s * LOAD_BINS < 11000);
    load_stats_free(p.stats);
}

TEST(requests_that_pile_up_are_seen) {
    LoadPoint p = point(0, 5);
    LoadStats *s = p.stats;
    s->t_zero = s->t_from = (uint64_t)1000 * MS;
    s->window_s = 10;
    for (int i = 0; i < 100; i++)
        load_stats_flight(s, s->t_zero + (uint64_t)i * 100 * MS, 10 + i % 3);
    FALSE_(load_is_growing(s));
    for (int i = 0; i < 100; i++) load_stats_flight(s, s->t_zero + (uint64_t)i * 100 * MS, 10 + i);
    TRUE_(load_is_growing(s));
    load_stats_free(s);
}
