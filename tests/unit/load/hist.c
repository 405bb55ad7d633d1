/* SPDX-License-Identifier: Apache-2.0
 * Quantiles of a histogram beside those of all values sorted. */
#include "load/hist.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "test.h"

enum { N = 20000 };

static uint64_t all[N];

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t exact(double q) {
    size_t rank = (size_t)ceil(q * N - 1e-9);
    return all[rank ? rank - 1 : 0];
}

TEST(quantiles_are_within_a_fifth_of_a_percent) {
    static const double q[] = {0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1};
    for (int kind = 0; kind < 3; kind++) {
        LoadHist h;
        OK_(load_hist_init(&h, TERR));
        double sum = 0;
        for (int i = 0; i < N; i++) {
            double u = rng_uniform(5, (uint64_t)kind, (uint64_t)i);
            double v = kind == 0 ? u * 1e9 : kind == 1 ? exp(25 * u) : -log(1 - u) * 3e7;
            all[i] = (uint64_t)v;
            sum += (double)all[i];
            load_hist_add(&h, all[i]);
        }
        qsort(all, N, sizeof all[0], by_value);
        for (size_t k = 0; k < COUNT_OF(q); k++) {
            double want = (double)exact(q[k]), got = (double)load_hist_at(&h, q[k]);
            if (fabs(got - want) > 0.002 * want + 1)
                FAIL("kind %d, quantile %g: %g, want %g", kind, q[k], got, want);
        }
        NEAR(load_hist_mean(&h) / (sum / N), 1, 1e-12);
        EQ(h.min, all[0]);
        EQ(h.max, all[N - 1]);
        load_hist_deinit(&h);
    }
}

TEST(small_and_large_values_have_a_place) {
    static const uint64_t v[] = {0,
                                 1,
                                 255,
                                 256,
                                 257,
                                 511,
                                 512,
                                 513,
                                 1023,
                                 1024,
                                 (uint64_t)1 << 47,
                                 ((uint64_t)1 << 48) - 1,
                                 (uint64_t)1 << 48,
                                 UINT64_MAX};
    for (size_t i = 0; i < COUNT_OF(v); i++) {
        LoadHist h;
        OK_(load_hist_init(&h, TERR));
        load_hist_add(&h, v[i]);
        load_hist_add(&h, v[i]);
        EQ(load_hist_at(&h, 0.5), v[i]); /* held to least and greatest */
        EQ(load_hist_below(&h, v[i]), 2);
        EQ(load_hist_below(&h, v[i] > 1 ? v[i] / 2 : 0), v[i] == 0 ? 2
                                                         : v[i] < (uint64_t)1 << 48
                                                             ? 0
                                                             : load_hist_below(&h, v[i] / 2));
        load_hist_deinit(&h);
    }
}

TEST(neighbours_are_told_apart_at_every_size) { /* buckets neither overlap nor leave holes */
    for (int shift = 0; shift < 39; shift++)
        for (uint64_t k = 256; k < 512; k++) {
            LoadHist h;
            OK_(load_hist_init(&h, TERR));
            uint64_t low = k << shift;
            load_hist_add(&h, low - 1);
            load_hist_add(&h, low);
            EQ(load_hist_below(&h, low - 1), 1);
            load_hist_deinit(&h);
        }
}

TEST(empty_says_zero) {
    LoadHist h;
    OK_(load_hist_init(&h, TERR));
    EQ(load_hist_at(&h, 0.5), 0);
    NEAR(load_hist_mean(&h), 0, 0);
    load_hist_deinit(&h);
}

TEST(bars_hold_everything_and_touch) {
    static const uint64_t most[] = {8, 20, 60};
    LoadHist h;
    LoadBar bar[60];
    OK_(load_hist_init(&h, TERR));
    EQ(load_hist_bars(&h, bar, 60), 0);
    for (uint64_t i = 0; i < 5000; i++) load_hist_add(&h, 1000000 + i * i * 40);
    for (uint64_t i = 0; i < 9; i++) load_hist_add(&h, 3000000000 + i * 800000000); /* a tail */
    for (size_t k = 0; k < COUNT_OF(most); k++) {
        int n = load_hist_bars(&h, bar, (int)most[k]);
        uint64_t sum = 0;
        TRUE_(n >= 1 && n <= (int)most[k] && n > (int)most[k] / 2);
        TRUE_(bar[0].from <= (double)h.min && bar[n - 1].to >= (double)h.max);
        for (int i = 0; i < n; i++) {
            sum += bar[i].n;
            TRUE_(bar[i].to > bar[i].from);
            if (i > 0) NEAR(bar[i].from, bar[i - 1].to, 0);
            if (bar[i].n == 0 && bar[i].to < 1e9) FAIL("bar %d of %d is empty", i, n);
        }
        EQ(sum, 5009);
    }
    load_hist_deinit(&h);
}

TEST(bars_of_one_value) {
    static const uint64_t v[] = {0, 5, 300, 123456789, UINT64_MAX};
    for (size_t i = 0; i < COUNT_OF(v); i++) {
        LoadHist h;
        LoadBar bar[60];
        OK_(load_hist_init(&h, TERR));
        load_hist_add(&h, v[i]);
        EQ(load_hist_bars(&h, bar, 60), 1);
        EQ(bar[0].n, 1);
        TRUE_(bar[0].to > bar[0].from);
        load_hist_deinit(&h);
    }
}
