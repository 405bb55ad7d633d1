/* SPDX-License-Identifier: Apache-2.0
 * Time is made up here: nothing depends on how fast the machine is. */
#include "api/rate.h"

#include <stdio.h>

#include "test.h"

static const uint64_t S = 1000000000;

static ApiRateAsk ask_of(const char *key, const char *peer, double requests, double tokens) {
    return (ApiRateAsk){.key = key,
                        .peer = peer,
                        .requests = {requests, 60},
                        .tokens = {tokens, 60},
                        .now_ns = 1000 * S};
}

TEST(rates_as_text) {
    static const struct {
        const char *text;
        double limit, window_s;
    } good[] = {{"10/minute", 10, 60},   {"10/m", 10, 60}, {"10", 10, 60},
                {"2/second", 2, 1},      {"2/s", 2, 1},    {"7/hour", 7, 3600},
                {"1e6/day", 1e6, 86400}, {"0", 0, 60}};
    static const char *const bad[] = {"",       "/minute", "ten",       "10/", "10/fortnight",
                                      "-1",     "1.5/s",   "1e13",      "nan", "10/minute ",
                                      "10/m/m", "inf",     "10 /minute"};
    ApiRate r;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        OK_(api_rate_parse(&r, "--x", good[i].text, TERR));
        TRUE_(r.limit == good[i].limit && r.window_s == good[i].window_s);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Err e = {0};
        FAILS(ERR_ARG, api_rate_parse(&r, "--x", bad[i], &e));
        TRUE_(strstr(e.msg, "--x") != NULL);
    }
}

TEST(ten_requests_a_minute) {
    ApiRates *r = NULL;
    ApiRateAsk a = ask_of("key1", "10.0.0.1:5", 10, 0);
    Err e = {0};
    double wait = -1;
    OK_(api_rates_new(&r, TERR));
    for (int i = 0; i < 10; i++) OK_(api_rate_request(&wait, r, &a, TERR));
    FAILS(ERR_FULL, api_rate_request(&wait, r, &a, &e));
    NEAR(wait, 6.0, 1e-6);
    TRUE_(strstr(e.msg, "10 requests in 60 s") != NULL);
    a.now_ns += 5 * S;
    FAILS(ERR_FULL, api_rate_request(&wait, r, &a, NULL));
    NEAR(wait, 1.0, 1e-6); /* refusals cost nothing */
    a.now_ns += 1 * S + 1000;
    OK_(api_rate_request(&wait, r, &a, TERR));
    FAILS(ERR_FULL, api_rate_request(&wait, r, &a, NULL));
    ApiRateAsk other = ask_of("key2", "10.0.0.1:5", 10, 0);
    OK_(api_rate_request(&wait, r, &other, TERR)); /* keys are apart */
    a.now_ns += 3600 * S;
    for (int i = 0; i < 10; i++) OK_(api_rate_request(&wait, r, &a, TERR));
    FAILS(ERR_FULL,
          api_rate_request(&wait, r, &a, NULL)); /* no more than a full bucket comes back */
    api_rates_free(r);
    api_rates_free(NULL);
}

TEST(without_keys_addresses_count) {
    ApiRates *r = NULL;
    double wait;
    ApiRateAsk a = ask_of("", "10.0.0.1:5", 1, 0), b = ask_of(NULL, "10.0.0.1:6", 1, 0);
    ApiRateAsk c = ask_of("", "10.0.0.2:5", 1, 0), none = ask_of("", "10.0.0.1:5", 0, 0);
    OK_(api_rates_new(&r, TERR));
    OK_(api_rate_request(&wait, r, &a, TERR));
    FAILS(ERR_FULL, api_rate_request(&wait, r, &b, NULL)); /* another port is the same client */
    OK_(api_rate_request(&wait, r, &c, TERR));
    for (int i = 0; i < 100; i++) OK_(api_rate_request(&wait, r, &none, TERR)); /* no limit */
    api_rates_free(r);
}

TEST(tokens_are_reserved_and_settled) {
    ApiRates *r = NULL;
    double wait;
    ApiRateAsk a = ask_of("k", "", 0, 600);
    OK_(api_rates_new(&r, TERR));
    OK_(api_rate_reserve(&wait, r, &a, 500, TERR));
    FAILS(ERR_FULL, api_rate_reserve(&wait, r, &a, 200, NULL));
    NEAR(wait, 10.0, 1e-6);
    api_rate_settle(r, &a, 450); /* 50 were used */
    OK_(api_rate_reserve(&wait, r, &a, 200, TERR));
    /* more than a bucket: when it is full, and then in debt */
    FAILS(ERR_FULL, api_rate_reserve(&wait, r, &a, 5000, NULL));
    NEAR(wait, 25.0, 1e-6);
    a.now_ns += 26 * S;
    OK_(api_rate_reserve(&wait, r, &a, 5000, TERR));
    FAILS(ERR_FULL, api_rate_reserve(&wait, r, &a, 1, NULL));
    NEAR(wait, 440.1, 1e-6);
    api_rate_settle(r, &a, 4400);
    FAILS(ERR_FULL, api_rate_reserve(&wait, r, &a, 1, NULL)); /* the bucket is empty */
    api_rate_settle(r, &a, 10);
    OK_(api_rate_reserve(&wait, r, &a, 10, TERR));
    api_rate_settle(r, &a, -60); /* more than was reserved */
    FAILS(ERR_FULL, api_rate_reserve(&wait, r, &a, 1, NULL));
    NEAR(wait, 6.1, 1e-6);
    api_rates_free(r);
}

TEST(a_clock_that_goes_back_gives_nothing) {
    ApiRates *r = NULL;
    double wait;
    ApiRateAsk a = ask_of("k", "", 1, 0);
    OK_(api_rates_new(&r, TERR));
    OK_(api_rate_request(&wait, r, &a, TERR));
    a.now_ns -= 500 * S;
    FAILS(ERR_FULL, api_rate_request(&wait, r, &a, NULL));
    NEAR(wait, 60.0, 1e-6);
    api_rates_free(r);
}

TEST(headers_say_what_is_left) {
    ApiRates *r = NULL;
    double wait;
    StrBuf b = {0};
    ApiRateAsk a = ask_of("k", "", 10, 1000);
    OK_(api_rates_new(&r, TERR));
    api_rate_headers(&b, r, &a);
    EQ_STR(sb_str(&b), "x-ratelimit-limit-requests: 10\r\nx-ratelimit-remaining-requests: 10\r\n"
                       "x-ratelimit-reset-requests: 0s\r\n"
                       "x-ratelimit-limit-tokens: 1000\r\nx-ratelimit-remaining-tokens: 1000\r\n"
                       "x-ratelimit-reset-tokens: 0s\r\n");
    OK_(api_rate_request(&wait, r, &a, TERR));
    OK_(api_rate_reserve(&wait, r, &a, 25, TERR));
    sb_clear(&b);
    api_rate_headers(&b, r, &a);
    EQ_STR(sb_str(&b), "x-ratelimit-limit-requests: 10\r\nx-ratelimit-remaining-requests: 9\r\n"
                       "x-ratelimit-reset-requests: 6s\r\n"
                       "x-ratelimit-limit-tokens: 1000\r\nx-ratelimit-remaining-tokens: 975\r\n"
                       "x-ratelimit-reset-tokens: 1.5s\r\n");
    sb_clear(&b);
    a.tokens.window_s = 86400;
    a.requests.limit = 0;
    OK_(api_rate_reserve(&wait, r, &a, 275, TERR));
    api_rate_headers(&b, r, &a);
    EQ_STR(sb_str(&b), "x-ratelimit-limit-tokens: 1000\r\nx-ratelimit-remaining-tokens: 700\r\n"
                       "x-ratelimit-reset-tokens: 7h12m0s\r\n");
    sb_clear(&b);
    ApiRateAsk none = ask_of("k", "", 0, 0);
    api_rate_headers(&b, r, &none);
    EQ(b.n, 0);
    sb_deinit(&b);
    api_rates_free(r);
}

/* A hundred thousand addresses: the table stays as large as it is, and who has taken much is not forgotten for them. */
TEST(many_addresses) {
    ApiRates *r = NULL;
    double wait;
    char peer[64];
    OK_(api_rates_new(&r, TERR));
    size_t live = mem_live_bytes();
    ApiRateAsk heavy = ask_of("", "192.168.0.1:1", 100, 0);
    for (int i = 0; i < 100; i++) OK_(api_rate_request(&wait, r, &heavy, TERR));
    for (int i = 0; i < 100000; i++) {
        snprintf(peer, sizeof peer, "10.%d.%d.%d:80", i >> 16 & 255, i >> 8 & 255, i & 255);
        ApiRateAsk a = ask_of("", peer, 100, 0);
        OK_(api_rate_request(&wait, r, &a, TERR));
    }
    FAILS(ERR_FULL, api_rate_request(&wait, r, &heavy, NULL));
    EQ(mem_live_bytes(), live);
    api_rates_free(r);
}
