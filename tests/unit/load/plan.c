/* SPDX-License-Identifier: Apache-2.0
 * What goes into a plan: mixtures of lengths, limits, sweeps, prompts, bodies. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "load/prompt.h"
#include "load/slo.h"
#include "load/sweep.h"
#include "test.h"
#include "text/json.h"

/* ---- mixtures ---- */

TEST(mixtures_draw_what_they_say) {
    LoadMix m;
    int n64 = 0, n1024 = 0;
    OK_(load_mix_parse(&m, "x", "64:0.7,1024:0.3", 1, TERR));
    for (uint64_t i = 0; i < 10000; i++) {
        int v = load_mix_draw(&m, 4, i);
        n64 += v == 64;
        n1024 += v == 1024;
    }
    EQ(n64 + n1024, 10000);
    NEAR(n64, 7000, 4.5 * sqrt(2100));
}

TEST(ranges_are_even_and_reach_both_ends) {
    LoadMix m;
    int count[5] = {0};
    OK_(load_mix_parse(&m, "x", "3-7", 1, TERR));
    for (uint64_t i = 0; i < 10000; i++) count[load_mix_draw(&m, 4, i) - 3]++;
    for (int i = 0; i < 5; i++) NEAR(count[i], 2000, 200);
}

static int by_value(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

TEST(log_normal_has_its_median_and_width) {
    LoadMix m;
    static int v[20000];
    OK_(load_mix_parse(&m, "x", "300~0.8", 1, TERR));
    for (uint64_t i = 0; i < COUNT_OF(v); i++) v[i] = load_mix_draw(&m, 4, i);
    qsort(v, COUNT_OF(v), sizeof v[0], by_value);
    NEAR(v[COUNT_OF(v) / 2], 300, 8);
    NEAR(log(v[COUNT_OF(v) * 84134 / 100000] / 300.0), 0.8, 0.03); /* one deviation above */
    NEAR(log(v[COUNT_OF(v) * 15866 / 100000] / 300.0), -0.8, 0.03);
}

TEST(bad_mixtures_are_named) {
    static const char *const bad[] = {"",      "a",     "0",
                                      "-5",    "5-3",   "1.5",
                                      "10:",   "10:0",  "10,",
                                      "10 20", "1-",    "10~",
                                      "10~0",  "10~9",  "2000000",
                                      "1e400", "10:-1", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        LoadMix m;
        Status st = load_mix_parse(&m, "max-tokens", bad[i], 1, TERR);
        if (st != ERR_ARG || !strstr(test_err.msg, "max-tokens"))
            FAIL("\"%s\": %s", bad[i], test_err.msg);
    }
}

/* ---- limits ---- */

TEST(limits_read_and_hold) {
    LoadSlo s = {.share = 0.9};
    OK_(load_slo_parse(&s, "ttft=500ms,tpot=50us,itl=.2s,e2e=10s", TERR));
    EQ(s.ttft, 500000000);
    EQ(s.tpot, 50000);
    EQ(s.itl, 200000000);
    EQ(s.e2e, 10000000000);
    NEAR(s.share, 0.9, 0);
    static const char *const bad[] = {"",     "ttft",     "ttft=5",  "ttft=5m",        "ttft=-1s",
                                      "x=1s", "ttft=1s,", "ttft=0s", "ttft=1s tpot=1s"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) FAILS(ERR_ARG, load_slo_parse(&s, bad[i], TERR));
}

TEST(every_limit_counts) {
    LoadSlo s = {.ttft = 100, .tpot = 10, .itl = 30, .e2e = 500};
    LoadOne o = {
        .plan = 1000, .first = 1100, .last = 1200, .stop = 1500, .n_out = 11, .gap_max = 30};
    TRUE_(load_slo_met(&s, &o));
    LoadOne x = o;
    x.first = 1101;
    FALSE_(load_slo_met(&s, &x));
    x = o, x.n_out = 10;
    FALSE_(load_slo_met(&s, &x));
    x = o, x.gap_max = 31;
    FALSE_(load_slo_met(&s, &x));
    x = o, x.stop = 1501;
    FALSE_(load_slo_met(&s, &x));
    x = o, x.end = LOAD_CUT;
    FALSE_(load_slo_met(&s, &x));
    x = o, x.first = 0;
    FALSE_(load_slo_met(&s, &x));
}

TEST(share_has_an_interval) {
    uint64_t good[LOAD_BLOCKS], all[LOAD_BLOCKS];
    for (int i = 0; i < LOAD_BLOCKS; i++) good[i] = all[i] = 10;
    LoadShare s = load_share_of(good, all);
    NEAR(s.share, 1, 0);
    NEAR(s.lo, 160 / (160 + 1.96 * 1.96), 1e-9); /* Wilson, all good */
    NEAR(s.hi, 1, 1e-9);
    for (int i = 0; i < LOAD_BLOCKS; i++)
        good[i] = i < 4 ? 0 : 10; /* a bad stretch: less is known */
    s = load_share_of(good, all);
    NEAR(s.share, 0.75, 1e-12);
    TRUE_(s.hi - s.lo > 0.4);
    for (int i = 0; i < LOAD_BLOCKS; i++) good[i] = i % 2 ? 7 : 8; /* the same all the time */
    LoadShare even = load_share_of(good, all);
    TRUE_(even.hi - even.lo < s.hi - s.lo);
    memset(all, 0, sizeof all);
    s = load_share_of(all, all);
    NEAR(s.hi - s.lo, 1, 0);
}

/* ---- sweeps ---- */

static double search(const char *text, double limit, int *n) {
    LoadSweep s;
    OK_(load_sweep_parse(&s, text, TERR));
    *n = 0;
    for (double x; (x = load_sweep_next(&s)) > 0; ++*n) {
        if (*n > 40) FAIL("%s goes on for ever", text);
        load_sweep_told(&s, x, x <= limit);
    }
    return s.held;
}

TEST(search_finds_the_limit) {
    static const double limits[] = {1, 1.3, 7, 10.1, 31, 63.9};
    int n;
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        double got = search("rate=1..64", limits[i], &n);
        if (got > limits[i] || got < limits[i] / 1.1) FAIL("limit %g: %g", limits[i], got);
        TRUE_(n < 14);
    }
    NEAR(search("rate=1..64", 1000, &n), 64, 0);
    EQ(n, 7);
    NEAR(search("rate=2..64", 1, &n), 0, 0);
    EQ(n, 1);
    NEAR(search("concurrency=1..256", 37, &n), 37, 3);
}

TEST(lists_are_tried_in_order) {
    LoadSweep s;
    OK_(load_sweep_parse(&s, "concurrency=1,4,16", TERR));
    TRUE_(s.users && !s.search);
    NEAR(load_sweep_next(&s), 1, 0);
    load_sweep_told(&s, 1, true);
    load_sweep_told(&s, 4, true);
    NEAR(load_sweep_next(&s), 16, 0);
    load_sweep_told(&s, 16, false);
    NEAR(load_sweep_next(&s), 0, 0);
    NEAR(s.held, 4, 0);
}

TEST(bad_sweeps_are_refused) {
    static const char *const bad[] = {"",
                                      "rate",
                                      "rate=",
                                      "rate=0..4",
                                      "rate=4..1",
                                      "speed=1..2",
                                      "rate=1..",
                                      "rate=1,",
                                      "rate=1...4",
                                      "rate=a",
                                      "concurrency=1.5",
                                      "concurrency=0,1",
                                      "rate=1..2..3"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        LoadSweep s;
        if (load_sweep_parse(&s, bad[i], TERR) != ERR_ARG) FAIL("\"%s\" is taken", bad[i]);
    }
}

/* ---- prompts and bodies ---- */

static int count_words(Slice s) {
    int n = 1;
    for (size_t i = 0; i < s.n; i++) n += s.p[i] == ' ';
    return n;
}

TEST(texts_have_their_length_and_their_beginnings) {
    LoadPrompts p = {.n_prefix = 20, .n_kinds = 3, .per_word = 1.25, .overhead = 10, .seed = 5};
    char beginnings[8][64];
    int n_kinds = 0;
    OK_(load_mix_parse(&p.tokens, "x", "110", 1, TERR));
    StrBuf before = {0};
    for (uint64_t i = 0; i < 50; i++) {
        LoadAsk a = {.max_tokens = 5};
        StrBuf b = {0};
        load_prompt_fill(&a, &b, &p, i);
        EQ(count_words(a.prompt), 80); /* (110 - 10) / 1.25 */
        TRUE_(before.n != b.n || memcmp(before.p, b.p, b.n) != 0);
        int k = 0;
        while (k < n_kinds && strncmp(beginnings[k], b.p, 60) != 0) k++;
        if (k == n_kinds) snprintf(beginnings[n_kinds++], 61, "%s", b.p);
        if (n_kinds > 3) FAIL("a fourth beginning");
        sb_deinit(&before);
        before = b;
    }
    EQ(n_kinds, 3);
    sb_deinit(&before);
}

static const char *file_of(const char *text) {
    static char path[300];
    IoWriter w;
    snprintf(path, sizeof path, "%s/prompts.jsonl", test_tmpdir());
    OK_(io_writer_open(&w, path, true, TERR));
    OK_(io_write(&w, text, strlen(text), TERR));
    OK_(io_writer_close(&w, TERR));
    return path;
}

TEST(files_of_prompts) {
    LoadPrompts p = {.seed = 1};
    OK_(load_prompts_open(
        &p,
        file_of("{\"prompt\":\"one\"}\n\n"
                "{\"messages\":[{\"role\":\"user\",\"content\":\"two\"}],\"max_tokens\":9}\n"
                "{\"conversations\":[{\"from\":\"system\",\"value\":\"s\"},{\"from\":\"human\","
                "\"value\":\"three\"}]}"),
        TERR));
    EQ(p.n_line, 3);
    LoadAsk a = {.max_tokens = 5};
    load_prompt_fill(&a, NULL, &p, 4);
    EQ(a.max_tokens, 9);
    TRUE_(slice_eq_str(a.messages, "[{\"role\":\"user\",\"content\":\"two\"}]"));
    load_prompt_fill(&a, NULL, &p, 2);
    TRUE_(slice_eq_str(a.prompt, "three"));
    load_prompts_deinit(&p);
}

TEST(bad_files_are_named_by_line) {
    static const char *const bad[] = {"{\"prompt\":\"a\"}\n{\"text\":1}", "{\"prompt\":\"a\"}\n[]",
                                      "{\"prompt\":\"a\"}\n{\"prompt\":",
                                      "{\"prompt\":\"a\"}\n{\"prompt\":\"a\",\"max_tokens\":0}"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        LoadPrompts p = {.seed = 1};
        FAILS(ERR_FORMAT, load_prompts_open(&p, file_of(bad[i]), TERR));
        if (!strstr(test_err.msg, "prompts.jsonl:2: ")) FAIL("%s", test_err.msg);
        load_prompts_deinit(&p);
    }
    LoadPrompts p = {.seed = 1};
    FAILS(ERR_FORMAT, load_prompts_open(&p, file_of("\n \n"), TERR));
    load_prompts_deinit(&p);
}

static void body_is(const char *route, const char *want) {
    LoadAsk a = {.route = load_route(route),
                 .model = "m",
                 .prompt = {"hi \"x\"", 6},
                 .max_tokens = 3,
                 .stream = true,
                 .temperature = -1};
    StrBuf b = {0};
    load_put_body(&b, &a);
    EQ_STR(sb_str(&b), want);
    sb_deinit(&b);
}

TEST(bodies_of_routes) {
    body_is("chat", "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi "
                    "\\\"x\\\"\"}],\"max_tokens\":3,"
                    "\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    body_is("completions",
            "{\"model\":\"m\",\"prompt\":\"hi \\\"x\\\"\",\"max_tokens\":3,\"stream\":true,"
            "\"stream_options\":{\"include_usage\":true}}");
    body_is("complete",
            "{\"model\":\"m\",\"code\":\"hi \\\"x\\\"\",\"max_tokens\":3,\"stream\":true}");
    body_is("inference",
            "{\"model\":\"m\",\"prompt\":\"hi \\\"x\\\"\",\"max_tokens\":3,\"stream\":true}");
}

TEST(members_are_added_as_json) {
    LoadAsk a = {.route = load_route("generate"),
                 .prompt = {"p", 1},
                 .temperature = 0.5,
                 .ignore_eos = true,
                 .extra = {"\"seed\":7", 8}};
    StrBuf b = {0};
    Json *j = NULL;
    load_put_body(&b, &a);
    OK_(json_parse(&j, (Slice){b.p, b.n}, TERR));
    EQ(json_int(json_get(j, "seed")), 7);
    NEAR(json_num(json_get(j, "temperature")), 0.5, 0);
    TRUE_(json_bool(json_get(j, "ignore_eos")));
    EQ(json_get(j, "max_tokens") == NULL, 1);
    json_free(j);
    sb_deinit(&b);
}

/* users got status 400: the member was there twice, once as made here */
TEST(members_of_ones_own_come_instead) {
    LoadAsk a = {.route = load_route("chat"),
                 .model = "m",
                 .prompt = {"p", 1},
                 .max_tokens = 5,
                 .ignore_eos = true,
                 .stream = true,
                 .temperature = 0.5};
    StrBuf b = {0}, keep = {0};
    Json *j = NULL;
    OK_(load_ask_extra(&a, &keep,
                       "{\"max_tokens\": 9, \"mo\\u0064el\": \"x\", \"temperature\": null, "
                       "\"ignore_eos\": false, \"stream_options\": {}, \"seed\": 7}",
                       TERR));
    load_put_body(&b, &a);
    OK_(json_parse(&j, (Slice){b.p, b.n}, TERR)); /* which refuses duplicates */
    EQ(json_int(json_get(j, "max_tokens")), 9);
    EQ(json_int(json_get(j, "seed")), 7);
    TRUE_(slice_eq_str(json_str(json_get(j, "model")), "x"));
    TRUE_(!json_get(j, "temperature") && !json_bool(json_get(j, "ignore_eos")));
    json_free(j);
    sb_deinit(&b);
    sb_deinit(&keep);
}

TEST(members_that_are_made_for_each_request_are_refused) {
    static const char *const bad[] = {"{\"prompt\":\"x\"}",
                                      "{\"messages\":[]}",
                                      "{\"code\":1}",
                                      "{\"a\":1,\"stream\":false}",
                                      "[]",
                                      "{",
                                      "{\"a\":1,\"a\":2}"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        LoadAsk a = {.route = load_route("chat")};
        StrBuf keep = {0};
        FAILS(ERR_ARG, load_ask_extra(&a, &keep, bad[i], TERR));
        TRUE_(strstr(test_err.msg, "body: "));
        sb_deinit(&keep);
    }
    LoadAsk a = {.route = load_route("chat")};
    StrBuf keep = {0};
    OK_(load_ask_extra(&a, &keep, "{}", TERR));
    EQ(a.extra.n, 0);
    sb_deinit(&keep);
}

static void url_is(const char *route, const char *base, const char *want, const char *name) {
    StrBuf b = {0};
    const LoadRoute *r = load_route(route);
    load_route_url(&b, &r, base);
    EQ_STR(sb_str(&b), want);
    EQ_STR(r->name, name);
    sb_deinit(&b);
}

TEST(urls_of_routes) {
    url_is("chat", "http://h:1", "http://h:1/v1/chat/completions", "chat");
    url_is("chat", "http://h:1//", "http://h:1/v1/chat/completions", "chat");
    url_is("chat", "http://h:1/v1/", "http://h:1/v1/chat/completions", "chat");
    url_is("chat", "http://h:1/v1/completions", "http://h:1/v1/completions", "completions");
    url_is("chat", "http://h:1/api/inference", "http://h:1/api/inference", "api-inference");
    url_is("chat", "http://h:1/inference", "http://h:1/inference", "inference");
    url_is("chat", "http://h:1/v1/generate", "http://h:1/v1/generate", "v1-generate");
    url_is("generate", "http://h:1/sub", "http://h:1/sub/generate", "generate");
}
