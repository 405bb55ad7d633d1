/* SPDX-License-Identifier: Apache-2.0
 * Costs against sums done by hand. */
#include "eval/cost.h"

#include <math.h>

#include "test.h"

static const CostUse plain = {.req_s = 10,
                              .tok_req = 100,
                              .hours = 730,
                              .busy_hours = 24,
                              .utilization = 1,
                              .spot_price = 0.3,
                              .region_price = 1};

TEST(a_price_is_dollars_over_tokens) {
    NEAR(cost_tok_s_for(1, 0.01), 27.777777777777779, 1e-12);
    NEAR(cost_1k_tok(1, 100), 0.0027777777777777779, 1e-12);
    NEAR(cost_1k_tok(1, cost_tok_s_for(1, 0.01)), 0.01, 1e-12);
}

TEST(three_machines_for_ten_requests_a_second) {
    CostMachine m = {.name = "x", .usd_hour = 1};
    CostUse use = plain;
    CostPlan p;
    use.machines = 3;
    OK_(cost_plan(&p, &m, &use, TERR));
    NEAR(p.month_usd, 2190, 1e-9);
    NEAR(p.req_month, 26.28e6, 1e-3);
    NEAR(p.usd_1k_req, 2190 / 26.28e3, 1e-9);
    TRUE_(isnan(p.load));
}

TEST(four_large_ones_around_the_clock) {
    CostMachine m = {.name = "a100", .usd_hour = 3.67};
    CostUse use = plain;
    CostPlan p;
    use.machines = 4;
    use.hours = 720;
    OK_(cost_plan(&p, &m, &use, TERR));
    NEAR(p.month_usd, 10569.6, 1e-6);
}

/* 10 requests of 100 tokens are 1,000 tokens a second: at 60% of 300 each that takes 6. */
TEST(machines_follow_the_load) {
    CostMachine m = {.name = "x", .usd_hour = 0.5, .usd_month = 10, .tok_s = 300};
    CostUse use = plain;
    CostPlan p;
    use.utilization = 0.6;
    OK_(cost_plan(&p, &m, &use, TERR));
    EQ(p.machines, 6);
    NEAR(p.load, 1000.0 / 1800, 1e-12);
    NEAR(p.month_usd, 6 * (365 + 10), 1e-9);
    NEAR(p.usd_1k_tok, 2250 / 2.628e6, 1e-12);
    use.machines = 2;
    OK_(cost_plan(&p, &m, &use, TERR));
    TRUE_(p.load > 1);
}

/* Savings act on what they act on: a cache on machines, hours and spot on the rent, none on fixed costs. */
TEST(savings_depend_on_one_another) {
    CostMachine m = {.name = "x", .usd_hour = 1, .usd_month = 20, .tok_s = 100};
    CostUse use = plain;
    CostPlan all, none;
    use.busy_hours = 12;
    OK_(cost_plan(&none, &m, &use, TERR));
    EQ(none.machines, 10);
    NEAR(none.month_usd, 7500, 1e-9);
    use.cache_hit = 0.3;
    use.scale_to_zero = true;
    use.spot_share = 0.5;
    OK_(cost_plan(&all, &m, &use, TERR));
    EQ(all.machines, 7);
    NEAR(all.month_usd, 7 * (365 * 0.65 + 20), 1e-9);
    NEAR(all.req_month, none.req_month, 1e-9);
}

TEST(a_quiet_half_of_the_day_saves_only_when_machines_go) {
    CostMachine m = {.name = "x", .usd_hour = 1, .tok_s = 1000};
    CostUse use = plain;
    CostPlan p;
    use.busy_hours = 6;
    OK_(cost_plan(&p, &m, &use, TERR));
    NEAR(p.month_usd, 730, 1e-9);
    use.scale_to_zero = true;
    OK_(cost_plan(&p, &m, &use, TERR));
    NEAR(p.month_usd, 182.5, 1e-9);
}

TEST(bought_machines_pay_after_two_to_three_years) {
    NEAR(cost_break_even(2500, 100, 215), 21.739, 1e-3);
    NEAR(cost_break_even(3500, 100, 195), 36.842, 1e-3);
    TRUE_(cost_break_even(3500, 100, 90) < 0);
}

TEST(unknown_speed_is_said) {
    CostMachine m = {.name = "x", .usd_hour = 1};
    CostPlan p;
    FAILS(ERR_ARG, cost_plan(&p, &m, &plain, TERR));
    EQ_STR(test_err.msg, "x: its tokens a second are not known");
}

static void refuse(const char *text, const char *words) {
    CostMachine m[2];
    Json *j = NULL;
    int n = 0;
    OK_(json_parse(&j, slice_of(text), TERR));
    FAILS(ERR_FORMAT, cost_read(m, 2, &n, j, TERR));
    if (!strstr(test_err.msg, words)) FAIL("%s: \"%s\", not \"%s\"", text, test_err.msg, words);
    json_free(j);
}

TEST(tables_are_checked) {
    CostMachine m[2];
    Json *j = NULL;
    int n = 0;
    OK_(json_parse(&j,
                   slice_of("[{\"name\":\"a\",\"usd_per_hour\":0.5,\"tok_s\":7},"
                            "{\"name\":\"b\",\"usd_per_hour\":0,\"usd_per_month\":3}]"),
                   TERR));
    OK_(cost_read(m, 2, &n, j, TERR));
    json_free(j);
    EQ(n, 2);
    NEAR(m[0].tok_s, 7, 0);
    NEAR(m[1].usd_month, 3, 0);
    refuse("[]", "a list of machines is needed");
    refuse("{}", "a list of machines is needed");
    refuse("[1]", "machine 0: a name");
    refuse("[{\"name\":\"a\"}]", "machine 0: usd_per_hour is missing");
    refuse("[{\"name\":\"a\",\"usd_per_hour\":-1}]", "machine 0: usd_per_hour");
    refuse("[{\"name\":\"a\",\"usd_per_hour\":\"1\"}]", "machine 0: usd_per_hour");
    refuse("[1,2,3]", "3 machines, the limit is 2");
}

static double speed_of(const char *text) {
    double v = 0;
    Status st = cost_read_load(&v, slice_of(text), TERR);
    if (st == ERR_FORMAT) return -1;
    OK_(st);
    return v;
}

#define LOOK(x, tok, within) \
    "{\"rate\":" #x ",\"tokens_out_per_s\":" #tok ",\"slo\":{\"within\":" #within "}}\n"

TEST(a_speed_is_that_of_the_highest_rate_that_held) {
    NEAR(speed_of(LOOK(1, 10, true) LOOK(2, 20, true) LOOK(4, 40, false)), 20, 0);
    /* a longer look overturned it; users were told the speed of a rate that does not hold */
    NEAR(speed_of(LOOK(1, 10, true) LOOK(2, 20, true) LOOK(2, 21, false)), 10, 0);
    NEAR(speed_of(LOOK(1, 10, true) LOOK(2, 20, false) LOOK(2, 21, true)), 21, 0);
    NEAR(speed_of(LOOK(1, 10, true) LOOK(4, 40, true) LOOK(2, 20, false)), 10, 0); /* by chance */
    NEAR(speed_of("{\"users\":8,\"tokens_out_per_s\":80}\n" LOOK(4, 40, false)), 80, 0);
    NEAR(speed_of(LOOK(1, 10, false)), -1, 0);
    NEAR(speed_of(""), -1, 0);
    NEAR(speed_of("{"), -1, 0);
}

TEST(what_a_sweep_says_counts) {
    NEAR(speed_of(LOOK(8, 80, true) "{\"sweep\":\"rate\",\"highest\":4,\"tok_s\":44}"), 44, 0);
    NEAR(speed_of(LOOK(8, 80, true) "{\"sweep\":\"rate\",\"highest\":null}"), -1, 0);
}

TEST(a_point_that_mostly_failed_has_no_speed) {
    NEAR(speed_of("{\"rate\":1,\"answered\":1,\"failed\":9,\"tokens_out_per_s\":50}"), -1, 0);
    NEAR(speed_of("{\"rate\":1,\"answered\":9,\"failed\":1,\"tokens_out_per_s\":50}"), 50, 0);
}
