/* SPDX-License-Identifier: Apache-2.0
 * Softmax and the loss against float64. */
#include "common.h"

static double log_sum(const float *x, size_t n, double scale, double *max) {
    double sum = 0;
    *max = -HUGE_VAL;
    for (size_t i = 0; i < n; i++) *max = fmax(*max, scale * (double)x[i]);
    for (size_t i = 0; i < n; i++) sum += exp(scale * (double)x[i] - *max);
    return log(sum);
}

static void check_softmax(float *x, size_t n, float scale) {
    float *p = kt_copy(x, n);
    double max, ls = log_sum(x, n, (double)scale, &max), sum = 0;
    float lse = kt.softmax(p, (int)n, scale);
    kt_near("softmax", n, lse, max + ls, fabs(max) + fabs(ls));
    for (size_t i = 0; i < n; i++) {
        double want = exp((double)scale * (double)x[i] - max - ls);
        kt_near("softmax", i, p[i], want, want);
        sum += (double)p[i];
    }
    NEAR(sum, 1, 1e-5);
    float *again = kt_copy(x, n);
    kt.exp_shift(again, (int)n, scale, lse);
    for (size_t i = 0; i < n; i++) {
        double want = exp((double)scale * (double)x[i] - (double)lse);
        kt_near("exp_shift", i, again[i], want, want);
    }
}

static void softmax(size_t n) {
    if (n == 0) return;
    check_softmax(kt_normals(n, 1), n, 1);
    check_softmax(kt_normals(n, 30), n, 0.125f);
    check_softmax(kt_normals(n, 1), n, -2);
    float *x = kt_normals(n, 5);
    for (size_t i = 0; i < n; i++) x[i] += 1000; /* exp would overflow */
    check_softmax(x, n, 1);
    check_softmax(x, n, 0.3f); /* scale * x rounded before max is taken away would be 1e-5 off */
}

TEST(softmax_matches_float64) {
    kt_each_size(softmax);
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        kt_start(2);
        check_softmax(kt_normals(151936, 3), 151936, 1);
        kt_free();
    }
}

/* Masked scores are -inf: exactly zero weight. */
TEST(softmax_of_minus_infinity_is_zero) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        float x[37], y[37];
        for (int i = 0; i < 37; i++) x[i] = i % 3 ? -INFINITY : 0.0f;
        memcpy(y, x, sizeof y);
        NEAR(kt.softmax(x, 37, 1), log(13), 1e-6);
        kt.exp_shift(y, 37, 1, logf(13));
        for (int i = 0; i < 37; i++) {
            TRUE_(i % 3 ? x[i] == 0.0f : fabs((double)x[i] - 1.0 / 13) < 1e-7);
            TRUE_(i % 3 ? y[i] == 0.0f : fabs((double)y[i] - 1.0 / 13) < 1e-7);
        }
        float far[3] = {0, -200, -3e38f};
        kt.softmax(far, 3, 1);
        TRUE_(far[0] == 1.0f && far[1] == 0.0f && far[2] == 0.0f);
        float bad[20] = {0};
        bad[18] = NAN;
        kt.exp_shift(bad, 20, 1, 0);
        for (int i = 0; i < 20; i++) TRUE_(i == 18 ? isnan(bad[i]) : bad[i] == 1.0f);
    }
}

/* The exponential itself, over the range where results are normal numbers. */
TEST(exp_within_2_ulp) {
    enum { N = 20000 };
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (uint64_t seed = 1; seed <= 20; seed++) {
            kt_start(seed);
            float *x = kt_floats(N), *y = kt_floats(N);
            float range = seed % 2 ? 87.3f : 1.0f;
            for (int i = 0; i < N; i++) x[i] = y[i] = kt_uniform(-range, range);
            kt.exp_shift(y, N, 1, 0);
            for (int i = 0; i < N; i++) {
                double want = exp((double)x[i]);
                double ulp = ldexp(1, ilogb(want) - 23);
                if (fabs((double)y[i] - want) > 2 * ulp) {
                    FAIL("level %s seed %d: exp(%.9g) = %.9g", kern_level_name(kt.level), (int)seed,
                         (double)x[i], (double)y[i]);
                }
            }
            kt_free();
        }
    }
}

/* Towards the ends: gradually to 0, and to infinity only past the largest f32. */
TEST(exp_at_the_ends) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        float x[] = {-103.0f, -100.0f, -88.0f, -103.98f, -104.0f, -1e30f, 88.7f, 88.73f, 1e30f};
        enum { N = (int)COUNT_OF(x) };
        float y[N];
        memcpy(y, x, sizeof y);
        kt.exp_shift(y, N, 1, 0);
        for (int i = 0; i < 4; i++)
            NEAR(y[i], exp((double)x[i]), 1.5e-45 + 4e-7 * exp((double)x[i]));
        TRUE_(y[4] == 0.0f && y[5] == 0.0f);
        NEAR(y[6] / expf(88.7f), 1, 4e-7);
        TRUE_(isinf(y[7]) && isinf(y[8]));
    }
}

static void softmax_bwd(size_t n) {
    float *p = kt_normals(n, 1), *dp = kt_normals(n, 1), *dp0 = kt_copy(dp, n);
    float d = 0.2f, scale = 0.088f;
    kt.softmax_bwd(dp, p, d, scale, (int)n);
    for (size_t i = 0; i < n; i++) {
        double c = (double)p[i] * (double)scale;
        kt_near("softmax_bwd", i, dp[i], c * ((double)dp0[i] - (double)d),
                fabs(c) * (fabs((double)dp0[i]) + (double)d));
    }
}

TEST(softmax_bwd_matches_float64) { kt_each_size(softmax_bwd); }

static void check_xent(float *x, size_t n, int target, float scale) {
    float *g = kt_copy(x, n);
    double max, ls = log_sum(x, n, 1, &max), at = (double)x[target], s = (double)scale;
    float loss = kt.xent(g, (int)n, target, scale);
    kt_near("xent", n, loss, ls - (at - max), fabs(ls) + fabs(at) + fabs(max));
    for (size_t i = 0; i < n; i++) {
        double p = exp((double)x[i] - max - ls), one = (int)i == target;
        kt_near("xent", i, g[i], (p - one) * s, (p + one) * s);
    }
}

static void xent(size_t n) {
    if (n == 0) return;
    check_xent(kt_normals(n, 2), n, kt_int(0, (int)n - 1), 1);
    check_xent(kt_normals(n, 2), n, 0, 0.001f);
    check_xent(kt_normals(n, 9), n, (int)n - 1, 0.3f);
}

TEST(xent_matches_float64) {
    kt_each_size(xent);
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        kt_start(2);
        check_xent(kt_normals(50257, 3), 50257, 50000, 0.25f);
        kt_free();
    }
}

/* Weights for sampling: the same bits at every level, next to what long double says, and in their sum. */
TEST(logits_are_weighed_exactly) {
    enum { N = KERN_LOGITS };
    static const double temps[] = {1, 0.25, 40, 1e300};
    Kern ref = kt_ref();
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        kt_start(3);
        for (size_t t = 0; t < COUNT_OF(temps); t++) {
            float *x = kt_normals(N, 6), top = 30;
            double y[N], y_ref[N];
            uint64_t w[N], w_ref[N], total = 0;
            x[3] = top;
            x[5] = -INFINITY;
            x[7] = -3e38f;
            kt.exp_below(y, x, (double)top, temps[t]);
            ref.exp_below(y_ref, x, (double)top, temps[t]);
            EQ_MEM(y, y_ref, sizeof y);
            float per_temp = (float)fmin(temps[t], 1e38);
            uint64_t sum = kt.weigh(w, x, top, per_temp, 0x1p44);
            EQ(ref.weigh(w_ref, x, top, per_temp, 0x1p44), sum);
            EQ_MEM(w, w_ref, sizeof w);
            for (int i = 0; i < N; i++) {
                double d = fmin(((double)top - (double)x[i]) * temps[t], 708);
                double want = (double)expl(-(long double)d);
                NEAR(y[i], want, 2e-15 * want);
                NEAR((double)w[i], want * 0x1p44, 0.5 + want * 0x1p44 * (5e-7 + 1e-7 * d));
                total += w[i];
            }
            EQ(sum, total);
            EQ(w[3], UINT64_C(1) << 44);
        }
        kt_free();
    }
}
