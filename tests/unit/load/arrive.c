/* SPDX-License-Identifier: Apache-2.0
 * Arrivals have the distribution they are named after. */
#include "load/arrive.h"

#include <math.h>
#include <stdlib.h>

#include "test.h"

enum { N = 100000 };

static double gaps[N];

static void fill(LoadArrivals *a) {
    double before = 0;
    for (int i = 0; i < N; i++) {
        double t = load_arrive_next(a);
        if (t < before) FAIL("arrival %d at %g, before %g", i, t, before);
        gaps[i] = t - before;
        before = t;
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

TEST(poisson_gaps_are_exponential) {
    for (uint64_t seed = 1; seed <= 5; seed++) {
        LoadArrivals a = {.pattern = LOAD_POISSON, .rate = 20, .seed = seed};
        fill(&a);
        qsort(gaps, N, sizeof gaps[0], by_value);
        double worst = 0;
        for (int i = 0; i < N; i++)
            worst = fmax(worst, fabs((i + 0.5) / N - (1 - exp(-20 * gaps[i]))));
        /* Kolmogorov and Smirnov: 1.95 / sqrt(n) is passed in one of a thousand runs */
        if (worst > 1.95 / sqrt(N)) FAIL("seed %d: distance %g", (int)seed, worst);
    }
}

TEST(poisson_gaps_do_not_know_each_other) {
    LoadArrivals a = {.pattern = LOAD_POISSON, .rate = 1, .seed = 3};
    double sum = 0;
    fill(&a);
    for (int i = 1; i < N; i++) sum += (gaps[i] - 1) * (gaps[i - 1] - 1);
    NEAR(sum / N, 0, 4 / sqrt(N));
}

TEST(a_burst_has_its_time_though_it_is_cut_off) { /* goodput was 0: the arrivals had no length */
    LoadArrivals a = {.pattern = LOAD_BURST, .rate = 10, .burst = 50};
    double at = 0;
    for (int i = 0; i < 21; i++) at = load_arrive_next(&a);
    NEAR(at, 0, 0);
    NEAR(load_arrive_end(&a, at), 5, 1e-12);
    for (int i = 21; i < 51; i++) at = load_arrive_next(&a);
    NEAR(load_arrive_end(&a, at), 5, 1e-12); /* the first of the next burst: the burst was whole */
    LoadArrivals even = {.pattern = LOAD_CONSTANT, .rate = 10};
    for (int i = 0; i < 4; i++) at = load_arrive_next(&even);
    NEAR(load_arrive_end(&even, at), 0.3, 1e-12);
}

TEST(poisson_counts_vary_as_they_should) { /* in windows of 10 seconds: variance equals mean */
    LoadArrivals a = {.pattern = LOAD_POISSON, .rate = 20, .seed = 1};
    enum { WINDOWS = 1000 };
    static double count[WINDOWS];
    double mean = 0, var = 0;
    for (double t; (t = load_arrive_next(&a)) < WINDOWS * 10;) count[(int)(t / 10)]++;
    for (int i = 0; i < WINDOWS; i++) mean += count[i] / WINDOWS;
    for (int i = 0; i < WINDOWS; i++) var += (count[i] - mean) * (count[i] - mean) / WINDOWS;
    NEAR(mean, 200, 2);
    NEAR(var, 200, 40);
}

TEST(constant_is_even) {
    LoadArrivals a = {.pattern = LOAD_CONSTANT, .rate = 8};
    for (int i = 0; i < 100; i++) NEAR(load_arrive_next(&a), i / 8.0, 1e-12);
}

TEST(bursts_come_at_once_and_keep_the_rate) {
    LoadArrivals a = {.pattern = LOAD_BURST, .rate = 5, .burst = 10};
    for (int i = 0; i < 100; i++) NEAR(load_arrive_next(&a), i / 10 * 2.0, 1e-12);
}

TEST(ramp_follows_its_rate) {
    LoadArrivals a = {.pattern = LOAD_RAMP, .rate = 100, .rate_end = 1900, .ramp_s = 20, .seed = 7};
    static double count[40];
    for (double t; (t = load_arrive_next(&a)) < 40;) count[(int)t]++;
    for (int i = 0; i < 40; i++) {
        double want = i < 20 ? 100 + 90 * (i + 0.5) : 1900;
        NEAR(count[i], want, 4.5 * sqrt(want));
    }
    NEAR(load_arrive_rate(&a, 10), 1000, 1e-9);
}

TEST(ramp_may_fall_and_stand_still) {
    LoadArrivals down = {
        .pattern = LOAD_RAMP, .rate = 1000, .rate_end = 10, .ramp_s = 10, .seed = 2};
    LoadArrivals flat = {.pattern = LOAD_RAMP, .rate = 50, .rate_end = 50, .ramp_s = 10, .seed = 2};
    int n = 0, m = 0;
    while (load_arrive_next(&down) < 10) n++;
    while (load_arrive_next(&flat) < 100) m++;
    NEAR(n, 5050, 4.5 * sqrt(5050));
    NEAR(m, 5000, 4.5 * sqrt(5000));
}

TEST(same_seed_same_times) {
    LoadArrivals a = {.pattern = LOAD_POISSON, .rate = 3, .seed = 9}, b = a, c = a;
    c.seed = 10;
    bool differs = false;
    for (int i = 0; i < 100; i++) {
        double x = load_arrive_next(&a);
        NEAR(x, load_arrive_next(&b), 0);
        differs |= fabs(x - load_arrive_next(&c)) > 1e-9;
    }
    TRUE_(differs);
}
